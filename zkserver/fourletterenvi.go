package zkserver

import (
	"cmp"
	"fmt"
	"os"
	"os/user"
	"runtime"
	"strings"
)

// wordEnvi tells of the process and its machine. Clients read the version; what is of
// Java has its name kept and says so.
func (s *Server) wordEnvi(*standing) string {
	const none = "<NA>" // as Java prints what it does not have
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	host, _ := os.Hostname()
	dir, _ := os.Getwd()
	me, err := user.Current()
	if err != nil {
		me = &user.User{}
	}
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	pairs := [][2]string{
		{"zookeeper.version", Version + ", built on " + built},
		{"host.name", cmp.Or(host, none)},
		{"java.version", none},
		{"java.vendor", none},
		{"java.home", none},
		{"java.class.path", none},
		{"java.library.path", none},
		{"java.io.tmpdir", os.TempDir()},
		{"java.compiler", none},
		{"os.name", strings.ToUpper(runtime.GOOS[:1]) + runtime.GOOS[1:]},
		{"os.arch", runtime.GOARCH},
		{"os.version", cmp.Or(strings.TrimSpace(string(release)), none)},
		{"user.name", cmp.Or(me.Username, none)},
		{"user.home", cmp.Or(me.HomeDir, none)},
		{"user.dir", cmp.Or(dir, none)},
		{"os.memory.free", megabytes(mem.HeapIdle - mem.HeapReleased)},
		{"os.memory.max", none},
		{"os.memory.total", megabytes(mem.Sys - mem.HeapReleased)},
		{"go.version", runtime.Version()},
	}
	var b strings.Builder
	b.WriteString("Environment:\n")
	for _, p := range pairs {
		b.WriteString(p[0] + "=" + p[1] + "\n")
	}
	return b.String()
}

func megabytes(n uint64) string { return fmt.Sprintf("%dMB", n>>20) }
