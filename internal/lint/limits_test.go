package lint_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"iter"
	"slices"
	"strings"
	"testing"
)

// TestLimitsAreDocumented keeps docs/LIMITS.md complete. A limit is every number in
// Config, Settings, Limits and Quota, every field of these types that is named after
// limits or quotas, and every constant of the root package whose name begins with max.
func TestLimitsAreDocumented(t *testing.T) {
	if !exists("docs/LIMITS.md") {
		t.Fatal("docs/LIMITS.md does not exist")
	}
	page := string(read(t, "docs/LIMITS.md"))
	mentioned := func(name string) bool { return strings.Contains(page, "`"+name+"`") }
	found := 0
	for _, name := range productFilesIn(t, ".") {
		f := parse(t, name, parser.SkipObjectResolution)
		for limit, at := range limitsIn(f.File) {
			found++
			if !mentioned(limit) {
				t.Errorf("%s: docs/LIMITS.md does not name `%s`: say what it is by default, where it is set and what one gets at it", f.at(at), limit)
			}
		}
	}
	if found < 40 {
		t.Errorf("only %d limits were found: does this test still look where they are?", found)
	}
}

// noLimits are numbers in Config that bound nothing.
var noLimits = []string{"Config.ID"}

// limitsIn yields the limits that a file declares, as the page names them.
func limitsIn(f *ast.File) iter.Seq2[string, ast.Node] {
	return func(yield func(string, ast.Node) bool) {
		for _, decl := range f.Decls {
			general, ok := decl.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range general.Specs {
				for name, at := range limitsOf(general.Tok, spec) {
					if !slices.Contains(noLimits, name) && !yield(name, at) {
						return
					}
				}
			}
		}
	}
}

func limitsOf(tok token.Token, spec ast.Spec) map[string]ast.Node {
	limits := map[string]ast.Node{}
	switch s := spec.(type) {
	case *ast.ValueSpec:
		for _, name := range s.Names {
			if tok == token.CONST && strings.HasPrefix(name.Name, "max") {
				limits[name.Name] = name
			}
		}
	case *ast.TypeSpec:
		of, ok := s.Type.(*ast.StructType)
		if !ok || !slices.Contains([]string{"Config", "Settings", "Limits", "Quota"}, s.Name.Name) {
			break
		}
		for _, field := range of.Fields.List {
			for _, name := range field.Names {
				named := strings.Contains(name.Name, "Limit") || strings.Contains(name.Name, "Quota")
				if name.IsExported() && (named || isNumber(field.Type)) {
					limits[s.Name.Name+"."+name.Name] = name
				}
			}
		}
	}
	return limits
}

// isNumber reports whether a type is a number by its name.
func isNumber(typ ast.Expr) bool {
	switch x := typ.(type) {
	case *ast.Ident:
		return strings.HasPrefix(x.Name, "int") || strings.HasPrefix(x.Name, "uint") || strings.HasPrefix(x.Name, "float") || x.Name == "MemberID"
	case *ast.SelectorExpr:
		return x.Sel.Name == "Duration"
	}
	return false
}
