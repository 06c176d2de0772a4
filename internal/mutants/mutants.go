package mutants

import (
	"embed"
	"fmt"
	"path"
	"strings"

	"coord/internal/overlay"
)

//go:embed *.patch
var files embed.FS

// A Mutant is one planted bug.
type Mutant struct {
	Name     string
	CaughtBy []string // which test has to notice it, as "package Test"; the first one is the cheapest
	With     []string // flags for that test
	Says     string   // what is found in what it says
	Patch    overlay.Patch
}

// All returns all mutants, in the order of their names.
func All() ([]Mutant, error) {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil, err
	}
	var all []Mutant
	for _, e := range entries {
		m, err := Get(strings.TrimSuffix(e.Name(), ".patch"))
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// Get returns the mutant with a name, or an error if there is none.
func Get(name string) (Mutant, error) {
	text, err := files.ReadFile(path.Clean(name) + ".patch")
	if err != nil {
		return Mutant{}, fmt.Errorf("there is no mutant %q", name)
	}
	p, err := overlay.Parse(name, text)
	if err != nil {
		return Mutant{}, err
	}
	m := Mutant{Name: name, With: strings.Fields(p.Fields["with"]), Says: p.Fields["says"], Patch: p}
	for test := range strings.SplitSeq(p.Fields["caught by"], ",") {
		if test = strings.TrimSpace(test); test != "" {
			m.CaughtBy = append(m.CaughtBy, test)
		}
	}
	if p.About == "" || len(m.CaughtBy) == 0 || m.Says == "" {
		return Mutant{}, fmt.Errorf("mutant %s does not say what it breaks, which test has to catch it, and what that says", name)
	}
	return m, nil
}
