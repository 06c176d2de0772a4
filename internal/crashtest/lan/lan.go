//go:build linux

package lan

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// subnet is where the hosts' addresses are. It exists in their namespaces alone.
var subnet = netip.MustParsePrefix("10.77.0.0/24")

// maxHosts is how many addresses of the subnet there are for hosts.
const maxHosts = 254

// namespaces is where the program ip keeps those that have names.
const namespaces = "/run/netns"

// lans tells the networks of this process apart, by their devices' names.
var lans atomic.Uint32

// A direction is from one host to another.
type direction struct{ from, to *Host }

// A LAN is a network of hosts. Its methods may be called concurrently.
type LAN struct {
	label string
	seed  uint64

	mu     sync.RWMutex
	hosts  map[netip.Addr]*Host // guarded by mu
	links  map[direction]*link  // guarded by mu
	made   int                  // guarded by mu; hosts, ever
	closed bool                 // guarded by mu
}

// New returns a network without hosts. The seed decides what its weather does to
// which packet of a link; when packets are sent is up to the machine.
func New(seed uint64) *LAN {
	return &LAN{
		label: fmt.Sprintf("%x-%x", os.Getpid(), lans.Add(1)), seed: seed,
		hosts: map[netip.Addr]*Host{}, links: map[direction]*link{},
	}
}

// Available returns why this process cannot make networks, or nil.
func Available() error {
	if os.Geteuid() != 0 {
		return errors.New("lan: only root may make network namespaces")
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		return fmt.Errorf("lan: no TUN devices: %w", err)
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return fmt.Errorf("lan: no iproute2: %w", err)
	}
	return nil
}

// Join makes a host, in fine weather to and from all others. The error says what of
// the machine is missing: the right to make namespaces, a device, the program ip.
func (l *LAN) Join() (*Host, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errors.New("lan: closed")
	}
	if l.made == maxHosts {
		return nil, fmt.Errorf("lan: %d hosts were made, which is the limit", maxHosts)
	}
	if l.made == 0 {
		sweep()
	}
	l.made++
	h := &Host{
		lan: l, namespace: fmt.Sprintf("coord-%s-%d", l.label, l.made), device: fmt.Sprintf("cd%s-%d", l.label, l.made),
		addr: addrOf(l.made), gone: make(chan struct{}),
	}
	if err := h.open(subnet); err != nil {
		_ = h.close(false) // what there is of it; the error tells why that may be nothing
		return nil, err
	}
	for _, other := range l.hosts {
		l.links[direction{h, other}] = l.newLink(h, other)
		l.links[direction{other, h}] = l.newLink(other, h)
	}
	l.hosts[h.addr] = h
	go h.send()
	return h, nil
}

// sweep removes the namespaces of processes that ended without a Close: an empty one
// harms nobody, but it stays until the machine is restarted.
func sweep() {
	left, err := filepath.Glob(filepath.Join(namespaces, "coord-*-*-*"))
	if err != nil {
		return
	}
	for _, path := range left {
		name := filepath.Base(path)
		pid, err := strconv.ParseInt(strings.Split(name, "-")[1], 16, 32)
		if err == nil && errors.Is(unix.Kill(int(pid), 0), unix.ESRCH) {
			_ = ip("netns", "delete", name)
		}
	}
}

func addrOf(n int) netip.Addr {
	a := subnet.Addr().As4()
	a[3] = byte(n)
	return netip.AddrFrom4(a)
}

func (l *LAN) newLink(from, to *Host) *link {
	who := uint64(from.addr.As4()[3])<<8 | uint64(to.addr.As4()[3])
	return &link{to: to, dice: rand.New(rand.NewPCG(l.seed, who))}
}

// SetWeather changes what befalls packets from one host to another, from now on. It
// panics if w has a share that is none or a negative duration, or the hosts are not
// two of this network.
func (l *LAN) SetWeather(from, to *Host, w Weather) {
	if err := w.validate(); err != nil {
		panic(err)
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	link := l.links[direction{from, to}]
	if link == nil {
		panic("lan: no link between these hosts")
	}
	link.setWeather(w)
}

// Clear makes the weather fine everywhere.
func (l *LAN) Clear() {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, link := range l.links {
		link.setWeather(Weather{})
	}
}

// Stats returns what became of the packets of all links.
func (l *LAN) Stats() Stats {
	l.mu.RLock()
	defer l.mu.RUnlock()
	var all Stats
	for _, link := range l.links {
		all = all.Plus(link.count())
	}
	return all
}

// forward gives a packet to the link that it is for. What is for nobody is dropped.
func (l *LAN) forward(from *Host, p packet) {
	l.mu.RLock()
	link := l.links[direction{from, l.hosts[p.to()]}]
	l.mu.RUnlock()
	if link != nil {
		link.carry(p)
	}
}

// Close removes all hosts. Programs that run there go on without a network.
func (l *LAN) Close() error {
	l.mu.Lock()
	hosts := l.hosts
	l.hosts, l.closed = nil, true
	l.mu.Unlock()
	var errs []error
	for _, h := range hosts {
		errs = append(errs, h.close(true))
	}
	return errors.Join(errs...)
}
