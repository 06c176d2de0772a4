// Package exampletest runs examples in tests.
package exampletest

import (
	"context"
	"io"
	"regexp"
	"strings"
	"testing"
)

// Prints runs an example and fails the test unless all that it prints matches a regular
// expression. In short mode it skips the test: examples open members on the disk.
func Prints(t *testing.T, run func(ctx context.Context, out io.Writer) error, want string) {
	t.Helper()
	if testing.Short() {
		t.Skip("opens three members")
	}
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if !regexp.MustCompile(`\A(?:` + want + `)\z`).MatchString(out.String()) {
		t.Errorf("it prints\n%swant\n%s", out.String(), want)
	}
}
