package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coord"
	"coord/internal/jute"
)

// fourthFile makes the file of a fourth server, whose own line says that it observes.
func fourthFile(t *testing.T, e *ensemble, client, line, more string) string {
	t.Helper()
	text, err := os.ReadFile(e.files[0])
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := strings.NewReplacer("dataDir="+filepath.Dir(e.files[0])+"\n", "dataDir="+dir+"\n", "clientPort="+port(e.clients[0])+"\n", "clientPort="+port(client)+"\n").Replace(string(text))
	if !strings.Contains(file, line) {
		file += line
	}
	for name, content := range map[string]string{"zoo.cfg": file + more, "myid": "4\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "zoo.cfg")
}

// TestReconfigGrowsAndShrinks starts a fourth server, which waits until a client of
// another adds it by reconfig, and then votes; then one of the three is removed.
func TestReconfigGrowsAndShrinks(t *testing.T) {
	e := startThree(t, "DigestAuthenticationProvider.superDigest="+coord.DigestID("super:secret").ID+"\n")
	addrs := freeAddrs(t, 3)
	spec := fmt.Sprintf("server.4=127.0.0.1:%s:%s", port(addrs[1]), port(addrs[2]))
	file := fourthFile(t, e, addrs[0], spec+":observer\n", "")
	fourth := start(t, "serve", file)
	eventually(t, "it waits", func() bool { return strings.Contains(fourth.said(), "there is no member 4: it has to be added first") })

	admin, ok := connect(t, e.clients[1], nil)
	if !ok {
		t.Fatal("no session")
	}
	reconfig := func(r jute.ReconfigRequest) {
		t.Helper()
		r.ConfigID = -1
		if h, ok := admin.ask(jute.OpReconfig, &r); !ok || h.Err != jute.OK {
			t.Fatalf("reconfig = %+v, %v", h, ok)
		}
	}
	if h, ok := admin.ask(jute.OpAuth, &jute.AuthRequest{Scheme: "digest", Auth: []byte("super:secret")}); !ok || h.Err != jute.OK {
		t.Fatalf("auth = %+v, %v", h, ok)
	}
	reconfig(jute.ReconfigRequest{Joining: new(spec + ";" + port(addrs[0]))})
	eventually(t, "the fourth votes", func() bool { return mode(addrs[0]) == "follower" })

	// The ensemble knows it by now, whatever the file says.
	fourth.stop(t)
	fourth = start(t, "serve", file)
	eventually(t, "the fourth votes again", func() bool { return mode(addrs[0]) == "follower" })

	reconfig(jute.ReconfigRequest{Leaving: new("1")})
	if err := <-e.processes[0].end; err == nil || !strings.Contains(e.processes[0].said(), "member 1 was removed") {
		t.Errorf("a server that was removed ends with %v", err)
	}
	e.clients[0] = addrs[0]
	eventually(t, "one leads and two follow", func() bool { return e.modes() == "1 2" })
	fourth.stop(t)
	e.processes[1].stop(t)
	e.processes[2].stop(t)
}

// TestObserverOfFile starts an ensemble whose files list an observer, which comes first
// and waits for the others.
func TestObserverOfFile(t *testing.T) {
	addrs := freeAddrs(t, 3)
	line := fmt.Sprintf("server.4=127.0.0.1:%s:%s:observer\n", port(addrs[1]), port(addrs[2]))
	e := startThree(t, line)
	observer := start(t, "serve", fourthFile(t, e, addrs[0], line, "peerType=observer\n"))
	eventually(t, "it observes", func() bool { return mode(addrs[0]) == "observer" })
	conf := word(addrs[0], "conf")
	if !strings.Contains(conf, "peerType=1\n") || !strings.Contains(conf, ":observer\n") {
		t.Errorf("conf is\n%s", conf)
	}
	observer.stop(t)
}
