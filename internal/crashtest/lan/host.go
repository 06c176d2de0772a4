//go:build linux

package lan

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// mtu is that of the hosts' devices; a packet is never longer.
const mtu = 1500

// A Host is one end of a [LAN]: a network namespace with an address of its own.
type Host struct {
	lan       *LAN
	namespace string
	device    string
	addr      netip.Addr
	tun       *os.File
	gone      chan struct{} // closed when the switch no longer listens to it
}

// Addr returns the address of the host, which the others reach it at.
func (h *Host) Addr() netip.Addr { return h.addr }

// Command returns a command that runs a program on the host, as that of os/exec does
// on this machine. Nothing but the network is different there.
func (h *Host) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", h.namespace, program}, args...)...)
}

// open makes the namespace and the device.
func (h *Host) open(prefix netip.Prefix) error {
	if err := ip("netns", "add", h.namespace); err != nil {
		return err
	}
	tun, err := openTUN(h.device)
	if err != nil {
		return err
	}
	h.tun = tun
	for _, args := range [][]string{
		{"link", "set", h.device, "netns", h.namespace},
		{"-n", h.namespace, "addr", "add", netip.PrefixFrom(h.addr, prefix.Bits()).String(), "dev", h.device},
		{"-n", h.namespace, "link", "set", h.device, "mtu", fmt.Sprint(mtu), "up"},
		{"-n", h.namespace, "link", "set", "lo", "up"},
	} {
		if err := ip(args...); err != nil {
			return err
		}
	}
	return nil
}

// openTUN makes a TUN device and returns its end of this process. The file is not
// blocking, so that closing it ends a read.
func openTUN(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("lan: open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("lan: make the device %s: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// send forwards what the host sends until it is closed.
func (h *Host) send() {
	defer close(h.gone)
	buffer := make(packet, mtu)
	for {
		n, err := h.tun.Read(buffer)
		if err != nil {
			return
		}
		if p := buffer[:n]; p.valid() {
			h.lan.forward(h, p)
		}
	}
}

// receive hands the host a packet, and reports whether it took it: a host that is
// gone, or whose queue is full, does not.
func (h *Host) receive(p packet) bool {
	_, err := h.tun.Write(p)
	return err == nil
}

// close ends the switch's hold on the host and removes the namespace. Programs that
// still run there are cut off.
func (h *Host) close(listening bool) error {
	if h.tun != nil {
		_ = h.tun.Close()
		if listening {
			<-h.gone
		}
	}
	return ip("netns", "delete", h.namespace)
}

// ip runs the program of that name.
func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("lan: ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
