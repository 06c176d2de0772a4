// Package subject starts what is compared: real ZooKeeper servers, and members of coord
// that serve ZooKeeper's clients.
package subject

import (
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/zkserver"

	"coord/conformance/differ"
	"coord/conformance/zookeeper"
)

// ZooKeeper starts servers that end with the test. Config is keys and values of zoo.cfg.
func ZooKeeper(tb testing.TB, servers int, config ...string) differ.Subject {
	tb.Helper()
	lines := map[string]string{}
	for i := 0; i+1 < len(config); i += 2 {
		lines[config[i]] = config[i+1]
	}
	e := StartZooKeeper(tb, zookeeper.Options{Servers: servers, Config: lines})
	return differ.Subject{Name: "ZooKeeper", Addrs: e.Addrs()}
}

// StartZooKeeper starts servers as the options say, but for Dir and Quick, that end with
// the test.
func StartZooKeeper(tb testing.TB, o zookeeper.Options) *zookeeper.Ensemble {
	tb.Helper()
	o.Dir, o.Quick = tb.TempDir(), true
	e, err := zookeeper.Start(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		e.Stop()
		if tb.Failed() {
			tb.Log(e.Log())
		}
	})
	return e
}

// Coord starts an ensemble in this process, set up as [ZooKeeper] sets its servers up,
// that ends with the test. Options change how.
func Coord(tb testing.TB, members int, opts ...coordtest.Option) differ.Subject {
	tb.Helper()
	return differ.Subject{Name: "coord", Addrs: StartCoord(tb, members, opts...).ServeZooKeeper()}
}

// StartCoord returns the ensemble that [Coord] starts, and that does not serve yet.
func StartCoord(tb testing.TB, members int, opts ...coordtest.Option) *coordtest.Ensemble {
	tb.Helper()
	return coordtest.NewEnsemble(tb, members, append([]coordtest.Option{
		coordtest.WithConfig(func(c *coord.Config) { c.SuperDigest = zookeeper.SuperDigest }),
		coordtest.WithZooKeeper(func(o *zkserver.Options) {
			o.MinSessionTimeout, o.MaxSessionTimeout = 2*time.Second, time.Minute
			o.FourLetterWords = []string{"*"}
		}),
	}, opts...)...)
}
