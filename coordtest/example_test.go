package coordtest_test

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"coord"
	"coord/coordtest"
	"coord/zkserver"
)

// An ensemble of one is all that a test without faults needs.
func ExampleNew() {
	inTest(func(t testing.TB) {
		c := coordtest.New(t)
		path, _, err := c.Create(t.Context(), "/greeting", []byte("hello"))
		fmt.Println(path, err)
	})
	// Output: /greeting <nil>
}

// The leader crashes, another one takes over, and it comes back.
func ExampleNewEnsemble() {
	inTest(func(t testing.TB) {
		e := coordtest.NewEnsemble(t, 3)
		old := e.Leader(t.Context())
		_, _, err := old.Create(t.Context(), "/a", []byte("survives"))
		fmt.Println(err)

		e.Kill(old)
		data, _, err := e.Leader(t.Context()).Get(t.Context(), "/a")
		fmt.Println(string(data), err)

		again := e.Restart(old)
		fmt.Println(again.Ready(t.Context()))
	})
	// Output:
	// <nil>
	// survives <nil>
	// <nil>
}

// A session whose time runs out, without waiting for it.
func ExampleEnsemble_ExpireSession() {
	inTest(func(t testing.TB) {
		e := coordtest.NewEnsemble(t, 1)
		s, _ := e.Member(1).NewSession(t.Context(), coord.SessionOptions{Timeout: time.Hour})
		_, _, _ = s.Create(t.Context(), "/worker", nil, coord.Ephemeral)
		e.ExpireSession(t.Context(), s)
		_, there, _ := e.Member(1).Exists(t.Context(), "/worker")
		fmt.Println(s.State(), there)
	})
	// Output: expired false
}

// WaitFor in place of sleeping.
func ExampleEnsemble_WaitFor() {
	inTest(func(t testing.TB) {
		e := coordtest.NewEnsemble(t, 3)
		e.Isolate(e.Member(3))
		e.WaitFor(t.Context(), "member 3 to notice", func() error {
			if err := e.Member(3).Health(); !errors.Is(err, coord.ErrSuspended) {
				return fmt.Errorf("its health is %w", err)
			}
			return nil
		})
		_, _, err := e.Member(3).Get(t.Context(), "/")
		fmt.Println(errors.Is(err, coord.ErrSuspended))
	})
	// Output: true
}

// Everything goes wrong for a while, and nothing that was acknowledged is lost.
func ExampleEnsemble_StartFaults() {
	inTest(func(t testing.TB) {
		e := coordtest.NewEnsemble(t, 3, coordtest.WithSeed(1))
		faults := e.StartFaults(coordtest.Faults{
			Kinds: []coordtest.Fault{coordtest.Kills, coordtest.PowerCuts, coordtest.Isolations},
			Every: 20 * time.Millisecond, Lasting: 20 * time.Millisecond,
		})
		written := 0
		for range 100 {
			if _, _, err := e.Member(1).Create(t.Context(), "/n-", nil, coord.PersistentSequential); err == nil {
				written++
			}
		}
		faults.Stop()
		names, _, err := e.Leader(t.Context()).Children(t.Context(), "/", coord.Linearizable())
		fmt.Println(len(names) >= written, err)
	})
	// Output: true <nil>
}

// A client of ZooKeeper is given addresses, and loses its server.
func ExampleEnsemble_ServeZooKeeper() {
	inTest(func(t testing.TB) {
		e := coordtest.NewEnsemble(t, 3, coordtest.WithZooKeeper(func(o *zkserver.Options) {
			o.FourLetterWords = []string{"ruok"}
		}))
		addrs := e.ServeZooKeeper()
		old := e.Member(1)
		fmt.Println(fourLetters(addrs[0], "ruok")) // or any client of ZooKeeper

		e.Kill(old)
		_, err := net.Dial("tcp", addrs[0])
		fmt.Println(errors.Is(err, syscall.ECONNREFUSED), fourLetters(addrs[1], "ruok"))

		e.Restart(old)
		fmt.Println(fourLetters(addrs[0], "ruok"))
	})
	// Output:
	// imok
	// true imok
	// imok
}
