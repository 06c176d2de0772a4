package peernet

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"coord/internal/replica"
)

// Target returns the name by which the raft library dials a member:
// "<id>@host:port". It says who has to be there as well as where.
func Target(id replica.MemberID, addr string) string {
	return strconv.FormatUint(uint64(id), 10) + "@" + addr
}

// parseTarget undoes Target.
func parseTarget(target string) (id replica.MemberID, addr string, err error) {
	number, addr, ok := strings.Cut(target, "@")
	n, numErr := strconv.ParseUint(number, 10, 64)
	if !ok || numErr != nil || n == 0 {
		return 0, "", fmt.Errorf("target %q is not of the form <member id>@host:port", target)
	}
	if err := ValidAddress(addr); err != nil {
		return 0, "", err
	}
	return replica.MemberID(n), addr, nil
}

// ValidAddress reports whether addr can be dialled: host:port, where host is a
// DNS name, an IPv4 address or an IPv6 address in brackets, and port is a
// number from 1 to 65535. The error names what is wrong.
func ValidAddress(addr string) error {
	host, err := splitAddress(addr)
	if err != nil {
		return err
	}
	if host == "" {
		return fmt.Errorf("address %q has no host", addr)
	}
	return nil
}

// ValidListen reports whether addr can be listened on: as ValidAddress, and
// the host may be empty, which means all interfaces.
func ValidListen(addr string) error {
	_, err := splitAddress(addr)
	return err
}

// splitAddress returns the host of addr, which may be empty, without brackets.
func splitAddress(addr string) (host string, err error) {
	if len(addr) > maxAddrBytes {
		return "", fmt.Errorf("address of %d bytes is longer than %d", len(addr), maxAddrBytes)
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("address %q is not host:port", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port != strconv.FormatUint(n, 10) {
		return "", fmt.Errorf("address %q: port %q is not a number from 1 to 65535", addr, port)
	}
	bracketed := strings.HasPrefix(addr, "[")
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "" && !bracketed:
	case err == nil && ip.Is6() == bracketed:
	case !bracketed && validName(host):
	default:
		return "", fmt.Errorf("address %q: host %q is no DNS name, IPv4 address or IPv6 address in brackets", addr, host)
	}
	return host, nil
}

// validName reports whether name can be looked up: labels of letters, digits,
// '-' and '_', of 63 bytes at most, 253 in all (RFC 1035 section 2.3.4), of
// which the last one does not look like a number: "1.2.3" and "300.1.1.1" are
// mistyped addresses.
func validName(name string) bool {
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > 253 {
		return false
	}
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !isAlnum(c) && c != '-' && c != '_' {
				return false
			}
		}
		last = label
	}
	_, err := strconv.ParseUint(last, 10, 64)
	return err != nil
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
