package raftnode_test

import (
	"log" //nolint:depguard // it is looked at, not used
	"os"
	"testing"

	_ "coord/internal/raftnode"
)

// TestStandardLog has the logger of the embedding program be as if the library were not
// there.
func TestStandardLog(t *testing.T) {
	if w := log.Writer(); w != os.Stderr {
		t.Errorf("the standard logger writes to a %T", w)
	}
	if flags, prefix := log.Flags(), log.Prefix(); flags != log.LstdFlags || prefix != "" {
		t.Errorf("the standard logger has the flags %d and the prefix %q", flags, prefix)
	}
}
