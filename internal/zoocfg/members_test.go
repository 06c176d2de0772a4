package zoocfg_test

import (
	"fmt"
	"strings"
	"testing"

	"coord/internal/zoocfg"
)

func TestParseMembers(t *testing.T) {
	servers, err := zoocfg.ParseMembers("server.2=b:1:2:observer;9,server.1 = a:1:2\nversion=1f,\nserver.2=c:1:2")
	var got []string
	for _, s := range servers {
		got = append(got, fmt.Sprint(s.ID, " ", s.PeerAddr(), " ", s.Observer, " ", s.ClientAddr))
	}
	if want := "1 a:1 false ;2 c:1 false "; err != nil || strings.Join(got, ";") != want {
		t.Errorf("members %q, error %v, want %q", got, err, want)
	}
	for text, want := range map[string]string{
		"":                    "a list of members that has none",
		"version=0":           "a list of members that has none",
		"server.1=a:1:2,x=1":  "x is no server.N, and nothing else can be in a list of members",
		"group.1=1:2":         "group.1 is no server.N, and nothing else can be in a list of members",
		"server.0=a:1:2":      "server.0: the id \"0\" is not a number from 1 to 9223372036854775807",
		"server.1=a:1":        "server.1: want host:peerPort:electionPort[:participant|observer][;[clientAddress:]clientPort]",
		"server.1=a:1:2\xff,": "members:1: is not UTF-8",
	} {
		if _, err := zoocfg.ParseMembers(text); err == nil || err.Error() != want {
			t.Errorf("%q: error %v, want %s", text, err, want)
		}
	}
}

// FuzzParseMembers has no list end in anything but members in order, whose lines say
// the same again, or an error.
func FuzzParseMembers(f *testing.F) {
	f.Add("server.1=a:1:2,server.2=[::1]:1:2:observer;h:3\nversion=f")
	f.Add("server.1=a|b:1:2")
	f.Fuzz(func(t *testing.T, text string) {
		servers, err := zoocfg.ParseMembers(text)
		if err != nil {
			return
		}
		for i, s := range servers {
			if i > 0 && servers[i-1].ID >= s.ID {
				t.Errorf("%d is behind %d", s.ID, servers[i-1].ID)
			}
			again, err := zoocfg.ParseServer(fmt.Sprint(s.ID), s.Line)
			if err != nil || again != s {
				t.Errorf("%+v is %+v again, error %v", s, again, err)
			}
		}
		if len(servers) == 0 {
			t.Error("no members and no error")
		}
	})
}
