package raftnode

import (
	"log" //nolint:depguard // it is given back, not used
	"os"
	"reflect"
	"strings"
)

// A package that the library imports takes the standard logger over when it is
// initialised: what the embedding program writes to it, or to the default slog.Logger,
// would come out in that package's form. It is given back as Go has it at first, unless
// somebody has set another output meanwhile.
func init() {
	if t := reflect.TypeOf(log.Writer()); t != nil && strings.HasPrefix(t.PkgPath(), "github.com/lni/") {
		log.SetOutput(os.Stderr)
		log.SetFlags(log.LstdFlags)
	}
}
