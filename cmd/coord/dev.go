package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"coord"
	"coord/internal/loopback"
	"coord/zkserver"
)

// devClientAddrs are where clients connect if nothing else is said.
var devClientAddrs = []string{"127.0.0.1:2181", "127.0.0.1:2182", "127.0.0.1:2183"}

// devElectionTimeout is short: nobody's network is between the members.
const devElectionTimeout = 500 * time.Millisecond

// serveDev runs one member for each of the clients' addresses until ctx ends. If one
// ends before, so do all.
func serveDev(ctx context.Context, log *slog.Logger, f serveFlags) (err error) {
	if len(f.properties) > 0 {
		return errors.New("-D is of a zoo.cfg, which --dev does not have")
	}
	if len(f.clientAddrs) == 0 {
		f.clientAddrs = devClientAddrs
	}
	for _, addr := range f.clientAddrs {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return fmt.Errorf("--client-addrs: %q is not host:port", addr)
		}
	}
	dir := f.dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "coord-dev-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	peers, err := devPeers(dir, len(f.clientAddrs))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, len(f.clientAddrs))
	for i, addr := range f.clientAddrs {
		m := devMember(i, addr, peers, dir, log)
		wg.Go(func() {
			errs[i] = m.run(ctx)
			cancel()
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// devPeers returns where the members talk to each other: on ports of the loopback
// interface that were free when dir was new, and are kept there since.
func devPeers(dir string, n int) ([]coord.Member, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "peers")
	kept, err := os.ReadFile(file)
	addrs := strings.Fields(string(kept))
	if errors.Is(err, fs.ErrNotExist) {
		if addrs, err = loopback.FreeAddrs(n); err == nil {
			err = os.WriteFile(file, []byte(strings.Join(addrs, "\n")+"\n"), 0o600)
		}
	}
	if err != nil {
		return nil, err
	}
	if len(addrs) != n {
		return nil, fmt.Errorf("%s has %d members, and --client-addrs has %d: give another --dir", dir, len(addrs), n)
	}
	var peers []coord.Member
	for i, addr := range addrs {
		peers = append(peers, coord.Member{ID: coord.MemberID(i + 1), Addr: addr})
	}
	return peers, nil
}

// devMember is the member behind one of the clients' addresses.
func devMember(i int, addr string, peers []coord.Member, dir string, log *slog.Logger) *member {
	m := &member{
		log: log,
		config: coord.Config{
			Name: "dev", ID: peers[i].ID, Dir: filepath.Join(dir, strconv.Itoa(i+1)), InitialMembers: peers,
			ElectionTimeout: devElectionTimeout, DefaultACL: coord.OpenACL(), Logger: log,
		},
		doors: []door{{addr, zkserver.Options{FourLetterWords: []string{"*"}, MaxConnsPerAddr: -1, Logger: log}}},
	}
	if len(peers) == 1 {
		m.config.InitialMembers = nil
	}
	return m
}
