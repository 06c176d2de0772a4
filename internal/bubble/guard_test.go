package bubble_test

import (
	"flag"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"coord/internal/bubble"
)

var hangFlag = flag.String("bubble.hang", "", "hang in this way; for TestHangsAreFound")

// TestHang hangs, if it is asked to.
func TestHang(t *testing.T) {
	hang := hangs[*hangFlag]
	if hang == nil {
		t.Skip("-bubble.hang is not set")
	}
	outside := make(chan struct{})
	limits := bubble.Limits{Virtual: 24 * time.Hour, Real: time.Second, About: func() string { return "all there is to say" }}
	bubble.RunWithin(t, limits, func(*testing.T) { hang(outside) })
}

var hangs = map[string]func(outside chan struct{}){
	"virtual": func(chan struct{}) { waitBesideATicker() },
	"real":    func(outside chan struct{}) { <-outside },
	"mutex": func(chan struct{}) {
		var mu sync.Mutex
		mu.Lock()
		mu.Lock()
	},
	"running": func(chan struct{}) { runOn() },
	"none":    func(chan struct{}) { time.Sleep(23 * time.Hour) },
}

func waitBesideATicker() {
	go func() {
		for range time.NewTicker(time.Minute).C {
		}
	}()
	select {}
}

func runOn() {
	for n := 0; ; n++ {
		if n < 0 {
			return
		}
	}
}

// TestHangsAreFound has other processes hang, and wants them to say where.
func TestHangsAreFound(t *testing.T) {
	for _, c := range []struct {
		hang string
		want []string
	}{
		{"virtual", []string{"the test hangs: it is not over after 24h0m0s of virtual time", "all there is to say", "waitBesideATicker"}},
		{"real", []string{"the test hangs: it is not over after 1s of real time", "all there is to say", "TestHang"}},
		{"mutex", []string{"the test hangs: it is not over after 1s of real time", "sync.(*Mutex).Lock"}},
		{"running", []string{"SIGQUIT", "runOn"}}, // which nobody preempts here
		{"none", nil},
	} {
		if c.hang == "running" && runtime.GOOS != "linux" {
			continue
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestHang$", "-bubble.hang", c.hang)
		if c.hang == "running" {
			cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1", "GOMAXPROCS=1")
		}
		out, err := cmd.CombinedOutput()
		if (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v\n%s", c.hang, err, out)
		}
		for _, want := range c.want {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s: it does not say %q:\n%s", c.hang, want, out)
			}
		}
	}
}
