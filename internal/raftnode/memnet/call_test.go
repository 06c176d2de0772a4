package memnet_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"coord/internal/bubble"
	"coord/internal/raftnode/memnet"
)

// A process that is no member is heard where somebody welcomes it, and is as far away as
// a member would be.
func TestIntroduce(t *testing.T) {
	bubble.Run(t, func(t *testing.T) {
		n := memnet.New()
		a := join(t, n, "a")
		defer a.Close()
		me := memnet.Stranger{Ensemble: "e", Directory: "d", Addr: "x"}
		ask := func(to string) (string, error) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			answer, err := n.Introduce(ctx, me, to, "join", []byte("me"))
			return string(answer), err
		}
		fails := func(to, want string) {
			t.Helper()
			if _, err := ask(to); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Introduce to %s = %v, want an error that says %q", to, err, want)
			}
		}
		fails("nobody", "nobody is there")
		fails("a", "answers no calls")
		n.Welcome("a", func(_ context.Context, from memnet.Stranger, method string, body []byte) ([]byte, error) {
			return []byte(from.Addr + " " + method + " " + string(body)), nil
		})
		if answer, err := ask("a"); err != nil || answer != "x join me" {
			t.Errorf("Introduce = %q, %v", answer, err)
		}
		n.Cut("x", "a")
		if _, err := ask("a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Introduce over a link that is cut = %v, want the end of its context", err)
		}
		n.Heal()
		n.Delay(time.Minute, time.Minute)
		if _, err := ask("a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Introduce over a slow link = %v, want the end of its context", err)
		}
		n.Clear()
		n.Welcome("a", nil)
		fails("a", "answers no calls")
	})
}
