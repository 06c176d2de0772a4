// Package zookeeper starts real ZooKeeper servers on this machine, from Debian's jars,
// to compare coord with them.
package zookeeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"coord/internal/loopback"
)

// Options say what ensemble is started. Zero values stand for what is named.
type Options struct {
	Servers int               // one, which is ZooKeeper's standalone mode
	Dir     string            // where data and logs go; must not be in use; required
	HeapMB  int               // 256
	Fsync   bool              // whether the transaction log is forced to the disk
	Quick   bool              // compile less of the code, to start sooner: for tests, not for measuring
	Config  map[string]string // lines for zoo.cfg, above those of this package
	System  map[string]string // properties of Java's, for settings that zoo.cfg cannot have
	Command string            // a program that is run as "Command serve zoo.cfg", in place of ZooKeeper
	_       struct{}
}

// startTimeout is how long an ensemble may take to serve: a JVM that shares two cores
// needs some seconds.
const startTimeout = 90 * time.Second

// An Ensemble is a set of servers that run as processes of their own.
type Ensemble struct {
	options Options
	servers []*process
	addrs   []string // of clients, and then of what else servers need
}

// Start starts servers and waits until each of them serves. The caller stops them.
func Start(ctx context.Context, o Options) (_ *Ensemble, err error) {
	if err := Install(ctx); err != nil {
		return nil, err
	}
	if o.Servers == 0 {
		o.Servers = 1
	}
	if o.HeapMB == 0 {
		o.HeapMB = 256
	}
	addrs, err := loopback.FreeAddrs(3 * o.Servers)
	if err != nil {
		return nil, err
	}
	e := &Ensemble{options: o, addrs: addrs}
	defer func() {
		if err != nil {
			e.Stop()
		}
	}()
	for i := range o.Servers {
		p, err := startServer(o, i, addrs)
		if err != nil {
			return nil, err
		}
		e.servers = append(e.servers, p)
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for i := range e.servers {
		if err := e.waitServing(ctx, i); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// Addrs returns the client addresses of the servers, in the order of their ids, which
// start at 1.
func (e *Ensemble) Addrs() []string { return slices.Clone(e.addrs[:e.options.Servers]) }

// Log returns the last lines that each server has logged.
func (e *Ensemble) Log() string {
	var b strings.Builder
	for i, p := range e.servers {
		fmt.Fprintf(&b, "server %d:\n%s\n", i+1, p.tail())
	}
	return b.String()
}

// Stop kills the servers and waits until they are gone.
func (e *Ensemble) Stop() {
	for _, p := range e.servers {
		p.kill()
	}
}

// Kill ends the server with this index, as a crash would.
func (e *Ensemble) Kill(i int) { e.servers[i].kill() }

// Restart starts the server with this index again, after [Ensemble.Kill], and waits until
// it serves.
func (e *Ensemble) Restart(ctx context.Context, i int) error {
	p, err := startServer(e.options, i, e.addrs)
	if err != nil {
		return err
	}
	e.servers[i] = p
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return e.waitServing(ctx, i)
}

// waitServing returns when a server says that it serves, or has ended.
func (e *Ensemble) waitServing(ctx context.Context, i int) error {
	p := e.servers[i]
	for {
		if mode, _ := fourLetters(ctx, e.addrs[i], "srvr"); strings.Contains(mode, "Mode: ") {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("zookeeper: server %d ended: %w\n%s", i+1, p.err, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("zookeeper: server %d does not serve: %w\n%s", i+1, context.Cause(ctx), p.tail())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// fourLetters sends one of ZooKeeper's four-letter words and returns the answer.
func fourLetters(ctx context.Context, addr, word string) (_ string, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, word); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(conn)
	return string(answer), err
}

// startServer writes the files of the server with index i and starts it.
func startServer(o Options, i int, addrs []string) (*process, error) {
	dir := filepath.Join(o.Dir, strconv.Itoa(i+1))
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		return nil, err
	}
	files := map[string]string{
		"zoo.cfg":          configuration(o, i, data, addrs),
		"data/myid":        strconv.Itoa(i+1) + "\n",
		"log4j.properties": logging,
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	if o.Command != "" {
		return startProcess(filepath.Join(dir, "log"), o.Command, "serve", filepath.Join(dir, "zoo.cfg"))
	}
	args := []string{
		fmt.Sprintf("-Xmx%dm", o.HeapMB), "-Xms64m", "-XX:+UseSerialGC",
		"-Dzookeeper.admin.enableServer=false",
		"-Dzookeeper.jmx.log4j.disable=true",
		"-Dzookeeper.DigestAuthenticationProvider.superDigest=" + SuperDigest,
	}
	if o.Quick {
		args = append(args, "-XX:TieredStopAtLevel=1", "-Xshare:auto")
	}
	if !o.Fsync {
		args = append(args, "-Dzookeeper.forceSync=no")
	}
	for _, key := range slices.Sorted(maps.Keys(o.System)) {
		args = append(args, "-D"+key+"="+o.System[key])
	}
	args = append(args, "-cp", dir+":"+Classpath(),
		"org.apache.zookeeper.server.quorum.QuorumPeerMain", filepath.Join(dir, "zoo.cfg"))
	return startProcess(filepath.Join(dir, "log"), "java", args...)
}

// SuperDigest is the identity, with the password "super", that no ACL binds.
const SuperDigest = "super:gG7s8t3oDEtIqF6DM9LlI/R+9Ss="

const logging = `log4j.rootLogger=WARN, console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d %-5p %c{1} %m%n
`

// configuration returns the zoo.cfg of the server with index i. Whatever may be switched
// on is, so that it is compared.
func configuration(o Options, i int, data string, addrs []string) string {
	lines := map[string]string{
		"tickTime":               "500",
		"initLimit":              "20",
		"syncLimit":              "20",
		"minSessionTimeout":      "2000",
		"maxSessionTimeout":      "60000",
		"maxClientCnxns":         "0",
		"extendedTypesEnabled":   "true",
		"enforceQuota":           "true",
		"reconfigEnabled":        "true",
		"4lw.commands.whitelist": "*",
		"preAllocSize":           "1024",
		"clientPortAddress":      "127.0.0.1",
		"dataDir":                data,
	}
	_, lines["clientPort"], _ = net.SplitHostPort(addrs[i])
	if n := o.Servers; n > 1 {
		for k := range n {
			_, election, _ := net.SplitHostPort(addrs[2*n+k])
			lines["server."+strconv.Itoa(k+1)] = addrs[n+k] + ":" + election
		}
	}
	maps.Copy(lines, o.Config)
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(lines)) {
		fmt.Fprintf(&b, "%s=%s\n", key, lines[key])
	}
	return b.String()
}
