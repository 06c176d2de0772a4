package zoocfg

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ParseMembers reads a list of server.N=… with commas or newlines between, as a dynamic
// file has it and as reconfig does. A server that is there twice is what the last says; a
// version is passed. The result is in the order of the ids.
func ParseMembers(text string) ([]Server, error) {
	list, err := parseProperties("members", []byte(strings.ReplaceAll(text, ",", "\n")))
	if err != nil {
		return nil, err
	}
	servers := map[uint64]Server{}
	for _, p := range list {
		id, isServer := strings.CutPrefix(p.key, "server.")
		switch {
		case p.key == "version":
			continue // of the list from which this one was made
		case !isServer:
			return nil, fmt.Errorf("%s is no server.N, and nothing else can be in a list of members", short(p.key))
		}
		s, err := ParseServer(id, p.value)
		if err != nil {
			return nil, fmt.Errorf("server.%s: %w", short(id), err)
		}
		servers[s.ID] = s
	}
	if len(servers) == 0 {
		return nil, errors.New("a list of members that has none")
	}
	sorted := make([]Server, 0, len(servers))
	for _, s := range servers {
		sorted = append(sorted, s)
	}
	slices.SortFunc(sorted, func(a, b Server) int { return cmp.Compare(a.ID, b.ID) })
	return sorted, nil
}
