package lint_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"strings"
	"testing"
)

const (
	proofs       = "docs/PROOFS.md"
	recipesPage  = "docs/RECIPES.md"
	securityPage = "docs/SECURITY.md"
)

// testFunctions returns the names of all tests and fuzz targets of the repository.
func testFunctions(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	for name := range goFiles(t) {
		if !strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, m := range declared.FindAllSubmatch(read(t, name), -1) {
			names[string(m[1])] = true
		}
	}
	return names
}

// namedTests returns the tests that a page names in backquotes, and reports those that
// do not exist, and scripts that do not.
func namedTests(t *testing.T, page string, least int) map[string]bool {
	t.Helper()
	have := testFunctions(t)
	quoted := regexp.MustCompile("`([^`]+)`")
	named := map[string]bool{}
	for i, line := range strings.Split(string(read(t, page)), "\n") {
		for _, m := range quoted.FindAllStringSubmatch(line, -1) {
			name := m[1]
			switch {
			case strings.HasPrefix(name, "Test"), strings.HasPrefix(name, "Fuzz"):
				named[name] = true
				if !have[name] {
					t.Errorf("%s:%d: no test is called %s: was it renamed? Then the page must follow, or its sentence has no proof", page, i+1, name)
				}
			case path.Ext(name) == ".txt":
				named[name] = true
				if !exists("testdata/core/" + name) {
					t.Errorf("%s:%d: there is no script testdata/core/%s", page, i+1, name)
				}
			}
		}
	}
	if len(named) < least {
		t.Errorf("%s names %d tests: was its form changed? Then this test must follow it", page, len(named))
	}
	return named
}

// TestProofsExist keeps the page of proofs from naming tests that are gone.
func TestProofsExist(t *testing.T) {
	namedTests(t, proofs, 50)
	for i, line := range strings.Split(string(read(t, proofs)), "\n") {
		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| Claim") && !strings.Contains(line, "`") {
			t.Errorf("%s:%d: a claim without a proof; if it has none, say so under Gaps", proofs, i+1)
		}
	}
}

// TestSecurityProofsExist keeps the page on security from naming tests that are gone, and
// has it list every fuzz target.
func TestSecurityProofsExist(t *testing.T) {
	named := namedTests(t, securityPage, 40)
	for name := range testFunctions(t) {
		if strings.HasPrefix(name, "Fuzz") && !named[name] {
			t.Errorf("%s does not name %s", securityPage, name)
		}
	}
}

// TestTrapsHaveTests keeps the page of recipes and the tests of what went wrong in other
// libraries in step: such a test is called as what it shows, and behind an underscore as
// the issues that it is about.
func TestTrapsHaveTests(t *testing.T) {
	named := namedTests(t, recipesPage, 50)
	for name := range testFunctions(t) {
		if _, ids, ok := strings.Cut(name, "_"); ok && !named[name] {
			t.Errorf("%s does not name %s, the test of %s", recipesPage, name, strings.ReplaceAll(ids, "_", ", "))
		}
	}
}

// TestGuaranteesHaveProofs checks that each numbered guarantee of the package
// documentation has a test that bears its number, and is on the page of proofs.
func TestGuaranteesHaveProofs(t *testing.T) {
	numbers := regexp.MustCompile(`(?m)^//\tG(\d+)\s`).FindAllSubmatch(read(t, "doc.go"), -1)
	if len(numbers) == 0 {
		t.Fatal("doc.go has no numbered guarantees: were they moved? Then this test must follow them")
	}
	page := string(read(t, proofs))
	have := testFunctions(t)
	for _, m := range numbers {
		prefix := fmt.Sprintf("TestG%02s", m[1])
		found := false
		for name := range have {
			found = found || strings.HasPrefix(name, prefix)
		}
		if !found {
			t.Errorf("guarantee G%s has no test called %s…", m[1], prefix)
		}
		if !strings.Contains(page, "`"+prefix) {
			t.Errorf("%s does not name the test of guarantee G%s", proofs, m[1])
		}
	}
}

// TestPasswordsAreComparedInConstantTime looks for comparisons of the secrets of
// sessions that end at the first byte that differs: how long they take would tell
// how much of a guess is right.
func TestPasswordsAreComparedInConstantTime(t *testing.T) {
	secret := func(n ast.Node) (found bool) {
		ast.Inspect(n, func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.SelectorExpr:
				found = found || x.Sel.Name == "password"
			case *ast.Ident:
				found = found || x.Name == "password"
			}
			return !found
		})
		return found
	}
	compared := 0
	for _, name := range productFilesIn(t, ".") {
		f := parse(t, name, parser.SkipObjectResolution)
		ast.Inspect(f.File, func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.BinaryExpr:
				if (x.Op == token.EQL || x.Op == token.NEQ) && (secret(x.X) || secret(x.Y)) && !constantTime(x.X) {
					t.Errorf("%s: a password is compared with %v: use crypto/subtle, or the time it takes tells how much of a guess is right", f.at(n), x.Op)
				}
			case *ast.CallExpr:
				fun, ok := x.Fun.(*ast.SelectorExpr)
				if !ok || !secret(x) {
					break
				}
				switch fun.Sel.Name {
				case "Equal", "Compare", "DeepEqual":
					t.Errorf("%s: a password is compared by %s: use crypto/subtle", f.at(n), fun.Sel.Name)
				case "ConstantTimeCompare":
					compared++
				}
			}
			return true
		})
	}
	if compared == 0 {
		t.Error("no password is compared by crypto/subtle: was the comparison moved? Then this test must follow it")
	}
}

// constantTime reports whether e is a call of crypto/subtle.
func constantTime(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	fun, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := fun.X.(*ast.Ident)
	return ok && pkg.Name == "subtle"
}
