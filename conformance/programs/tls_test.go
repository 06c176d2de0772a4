package programs_test

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"testing"

	"coord/internal/pki"

	"coord/conformance/zookeeper"
)

// TestTLS has a client of Python talk by TLS to a server of ZooKeeper and to a member of
// coord, which have the same file.
func TestTLS(t *testing.T) {
	install(t, zookeeper.Kazoo)
	authority, err := pki.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	serverCert, serverKey := issue(t, authority, "server")
	clientCert, clientKey := issue(t, authority, "client")
	config := map[string]string{
		"client.portUnification":  "true",
		"ssl.keyStore.location":   store(t, serverCert, serverKey),
		"ssl.trustStore.location": store(t, authority.CA),
		"serverCnxnFactory":       "org.apache.zookeeper.server.NettyServerCnxnFactory",
		"authProvider.x509":       "org.apache.zookeeper.server.auth.X509AuthenticationProvider",
	}
	talk := func(command string) string {
		e, err := zookeeper.Start(t.Context(), zookeeper.Options{Dir: t.TempDir(), Quick: true, Command: command, Config: config})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Stop()
		return output(t, "", "/usr/bin/python3", "testdata/kazoo_tls.py", e.Addrs()[0], authority.CA, clientCert, clientKey)
	}
	want := talk("")
	t.Logf("%s", want)
	if got := talk(buildCoord(t)); got != want {
		t.Errorf("coord has it print\n%s\n%s", got, firstDifference(got, want))
	}
}

func issue(t *testing.T, a *pki.Authority, name string) (cert, key string) {
	t.Helper()
	cert, key, err := a.Issue(name, net.IPv4(127, 0, 0, 1))
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// store makes a store of ZooKeeper, which is one file whose name tells its form.
func store(t *testing.T, files ...string) string {
	t.Helper()
	var all bytes.Buffer
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(data)
	}
	name := filepath.Join(t.TempDir(), "store.pem")
	if err := os.WriteFile(name, all.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}
