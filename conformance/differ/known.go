package differ

import (
	"regexp"
	"strings"
)

// A Difference is one between ZooKeeper 3.8.0 and coord that is meant to be.
type Difference struct {
	Name   string
	Reason string // why a user would want it so
	// excuses says whether ZooKeeper's answer a and coord's answer b differ by this and
	// nothing else.
	excuses func(a, b Answer) bool
}

// Known has the differences that random scripts meet.
var Known = []Difference{
	{
		Name:   "results behind an error",
		Reason: "ZooKeeper sends the results that it has behind the error in the header, where no client reads them.",
		excuses: lines(func(a, b string) bool {
			return strings.HasSuffix(b, " marshalling error") && behind.MatchString(strings.TrimPrefix(a, b))
		}),
	},
	{
		Name:   "exists without permission",
		Reason: "Since 3.8.4 exists asks for the permission to read; without it, 3.8.0 tells the stat of a secret znode to everyone.",
		excuses: lines(func(a, b string) bool {
			return strings.Contains(a, " exists ok ") && strings.HasSuffix(b, " exists no auth")
		}),
	},
	{
		Name:   "an ACL for certificates without a subject",
		Reason: "ZooKeeper takes all certificates without a subject for one and the same client, coord for nobody.",
		excuses: func(a, b Answer) bool {
			return strings.HasSuffix(a.Step.Op.ACL, ":x509:") && strings.HasSuffix(b.String(), " create invalid ACL")
		},
	},
	{
		Name:   "who the members are",
		Reason: "The ZooKeeper is by itself, and has no members to tell of in /zookeeper/config; several members of coord have, as several of ZooKeeper do.",
		excuses: func(a, b Answer) bool {
			return a.Step.Op.Path == "/zookeeper/config" && lines(func(a, b string) bool {
				return strings.Contains(b, " ok ") && configured.ReplaceAllString(a, "$1") == configured.ReplaceAllString(b, "$1")
			})(a, b)
		},
	},
	{
		Name:   "ephemeral znodes of local sessions in a multi",
		Reason: "A follower of ZooKeeper says here that the session has expired, and has its client give up what still lives.",
		excuses: lines(func(a, b string) bool {
			return strings.ReplaceAll(a, "{error session expired}", "{error ephemeral on local session}") == b
		}),
	},
}

// configured is what depends on the data of the configuration in a line that shows it or
// its stat.
var configured = regexp.MustCompile(` v=-?\d+( cv=.*) length=\d+.*`)

var behind = regexp.MustCompile(`^ and \d+ bytes$`)

// lines makes an excuse of answers from one of their lines: those that are not equal
// must each be excused.
func lines(excused func(a, b string) bool) func(a, b Answer) bool {
	return func(a, b Answer) bool {
		if len(a.Lines) != len(b.Lines) {
			return false
		}
		for i := range a.Lines {
			if a.Lines[i] != b.Lines[i] && !excused(a.Lines[i], b.Lines[i]) {
				return false
			}
		}
		return true
	}
}
