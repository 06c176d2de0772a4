package lint_test

import (
	"go/ast"
	"go/parser"
	"path"
	"strings"
	"testing"

	"coord/internal/failpoint"
)

// TestFailpoints keeps the list of points and the places that hit them together: a
// point that nothing hits tests nothing, and one that is not in the list is never
// tried by the tests that try them all.
func TestFailpoints(t *testing.T) {
	names := map[string]string{} // of the constants, with their values
	f := parse(t, "internal/failpoint/points.go", parser.ParseComments)
	ast.Inspect(f.File, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if ok && len(spec.Names) == 1 && len(spec.Values) == 1 {
			if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
				names[spec.Names[0].Name] = strings.Trim(lit.Value, `"`)
				if spec.Comment == nil {
					t.Errorf("%s: say what happens at the point %s", f.at(n), spec.Names[0].Name)
				}
			}
		}
		return true
	})
	listed := map[string]bool{}
	for _, p := range failpoint.Points {
		listed[string(p)] = true
	}
	hit := map[string]bool{}
	for name := range goFiles(t) {
		if strings.HasSuffix(name, "_test.go") || path.Dir(name) == "internal/failpoint" {
			continue
		}
		for p := range pointsHit(parse(t, name, parser.SkipObjectResolution)) {
			hit[p] = true
		}
	}
	for name, value := range names {
		if !listed[value] {
			t.Errorf("the point %s is not in failpoint.Points", name)
		}
		if !hit[name] {
			t.Errorf("the point %s is hit nowhere: remove it, or put it where its step is", name)
		}
	}
	if len(listed) != len(names) || len(listed) != len(failpoint.Points) {
		t.Errorf("%d points, of which %d are listed, %d of them different", len(names), len(failpoint.Points), len(listed))
	}
}

// pointsHit returns the points that a file gives to a call.
func pointsHit(f source) map[string]bool {
	pkg := importName(f, module+"/internal/failpoint")
	hit := map[string]bool{}
	ast.Inspect(f.File, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || pkg == "" {
			return true
		}
		// Hit and Fail take one point; a step of the log takes two.
		for _, arg := range call.Args {
			if sel, ok := arg.(*ast.SelectorExpr); ok {
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == pkg {
					hit[sel.Sel.Name] = true
				}
			}
		}
		return true
	})
	return hit
}
