package lint_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReliabilityNamesTests keeps the page from naming tests that are gone.
func TestReliabilityNamesTests(t *testing.T) { namedTests(t, "docs/RELIABILITY.md", 6) }

// TestLinksLeadSomewhere checks that what a page links to is in the repository. In a
// fresh clone that tells also of files that git was told to ignore.
func TestLinksLeadSomewhere(t *testing.T) {
	// What has neither a dot nor a slash may be a call in a piece of code.
	link := regexp.MustCompile(`\]\(([^)#: ]*[./][^)#: ]*)(?:#[^)]*)?\)`)
	found := 0
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && strings.HasPrefix(d.Name(), "."):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".md":
			return nil
		}
		for _, m := range link.FindAllSubmatch(read(t, name), -1) {
			found++
			if target := path.Join(path.Dir(name), filepath.ToSlash(string(m[1]))); !exists(target) {
				t.Errorf("%s links to %s, which is not there", name, target)
			}
		}
		return nil
	})
	if err != nil || found < 30 {
		t.Errorf("%d links, %v", found, err)
	}
}
