package zoocfg

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// serverForm is what server lines look like.
const serverForm = "host:peerPort:electionPort[:participant|observer][;[clientAddress:]clientPort]"

// ParseServer reads what stands on both sides of the equals sign of server.N=…, without
// "server.". The error says what is wrong with it, in words.
func ParseServer(id, value string) (Server, error) {
	n, err := strconv.ParseUint(id, 10, 63)
	if err != nil || n == 0 {
		return Server{}, fmt.Errorf("the id %q is not a number from 1 to 9223372036854775807", id)
	}
	s := Server{ID: n, Line: value}
	if strings.Contains(value, "|") {
		return Server{}, errors.New("a server has one address: members find each other by one, so several joined by | are refused")
	}
	peer, client, hasClient := strings.Cut(value, ";")
	if strings.Contains(client, ";") {
		return Server{}, errors.New("a part for the secure port is of ZooKeeper 3.10: use secureClientPort; want " + serverForm)
	}
	parts, err := splitAddress(peer)
	if err != nil {
		return Server{}, err
	}
	if len(parts) < 3 || len(parts) > 4 {
		return Server{}, errors.New("want " + serverForm)
	}
	if s.Host, err = host(parts[0]); err != nil {
		return Server{}, err
	}
	var errs [2]error
	s.PeerPort, errs[0] = portOf("peer", parts[1])
	s.ElectionPort, errs[1] = portOf("election", parts[2])
	if err := cmp.Or(errs[0], errs[1]); err != nil {
		return Server{}, err
	}
	if s.PeerPort == s.ElectionPort {
		return Server{}, fmt.Errorf("the peer port and the election port are both %d", s.PeerPort)
	}
	if len(parts) == 4 {
		switch strings.ToLower(parts[3]) {
		case "participant":
		case "observer":
			s.Observer = true
		default:
			return Server{}, fmt.Errorf("the role %q is neither participant nor observer", parts[3])
		}
	}
	if hasClient {
		if s.ClientAddr, err = clientAddress(client); err != nil {
			return Server{}, err
		}
	}
	return s, nil
}

// clientAddress reads [address:]port.
func clientAddress(text string) (string, error) {
	parts, err := splitAddress(text)
	if err != nil {
		return "", err
	}
	if len(parts) > 2 {
		return "", errors.New("want " + serverForm)
	}
	at := "0.0.0.0"
	if len(parts) == 2 {
		if at, err = host(parts[0]); err != nil {
			return "", err
		}
	}
	port, err := portOf("client", parts[len(parts)-1])
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(at, strconv.Itoa(port)), nil
}

// splitAddress cuts text at its colons, but for those of an IPv6 address in brackets.
func splitAddress(text string) ([]string, error) {
	if !strings.HasPrefix(text, "[") {
		return strings.Split(text, ":"), nil
	}
	end := strings.Index(text, "]")
	if end < 0 {
		return nil, errors.New("the bracket of the address is not closed")
	}
	first, rest := text[:end+1], text[end+1:]
	if rest == "" {
		return []string{first}, nil
	}
	if rest[0] != ':' {
		return nil, fmt.Errorf("%q follows the bracket, want a colon", rest)
	}
	return append([]string{first}, strings.Split(rest[1:], ":")...), nil
}

// host returns a host without brackets.
func host(text string) (string, error) {
	if inner, ok := strings.CutPrefix(text, "["); ok {
		inner = strings.TrimSuffix(inner, "]")
		if ip, err := netip.ParseAddr(inner); err != nil || !ip.Is6() {
			return "", fmt.Errorf("%q is not an IPv6 address", text)
		}
		return inner, nil
	}
	if text == "" || len(text) > 253 || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("/\\[]%\"", r) }) {
		return "", fmt.Errorf("the host %s is no name of 1 to 253 bytes and no address", short(strconv.Quote(text)))
	}
	return text, nil
}

func portOf(what, text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("the %s port %s is not a number from 1 to 65535", what, short(strconv.Quote(text)))
	}
	return int(n), nil
}
