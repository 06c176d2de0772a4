// Package lint_test holds the house rules that a reader of a diff would miss.
// Each failure names the reason, not just the line. A rule about a directory
// that does not exist yet is skipped.
package lint_test

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "coord"
	root   = "../.." // of the module, seen from this directory
)

// coreFiles make up the deterministic core. .golangci.yml repeats the list.
var coreFiles = []string{
	"path.go", "tree.go", "ordered.go", "acl.go", "state.go", "command.go", "codec.go", "encoding.go", "apply.go",
	"operation.go", "multi.go", "snapshot.go", "digest.go", "event.go", "ids.go", "sessionapply.go", "sessiontable.go", "membertable.go", "settings.go", "formatversion.go",
	"usertable.go", "templatetable.go", "secret.go", "distinguishedname.go", "quotatable.go",
	"mounttable.go", "mountapply.go", "mountcodec.go", "decree.go", "memberdecree.go", "sessionenter.go",
}

func TestCoreIsPure(t *testing.T) {
	const (
		clock  = "a command carries its time"
		dice   = "a command carries its random bits"
		noIO   = "the core does no I/O"
		single = "the core runs on one goroutine"
		report = "the core reports by return value"
		member = "nothing of this member's binary or machine may reach the state"
	)
	forbidden := map[string]string{ // and everything below
		"time": clock, "math/rand": dice, "crypto/rand": dice,
		"hash/maphash": "its seed differs from member to member",
		"os":           noIO, "io/fs": noIO, "net": noIO, "syscall": noIO,
		"context": "apply cannot be cancelled", "sync": single,
		"log": report, "runtime": member, "expvar": member,
	}
	allowed := []string{
		"net/netip",                         // pure parsing and comparing, for ACLs of the ip scheme
		"github.com/google/btree",           // the persistent structures of the state
		"github.com/vmihailenco/msgpack/v5", // the format of commands and snapshots
		module + "/internal/invariants",     // assertions
	}
	if len(goFilesIn(t, ".")) == 0 {
		t.Skip("the root package has no files yet")
	}
	if !exists("tree.go") {
		t.Error("tree.go does not exist: was the core moved? Then this test must follow it.")
	}
	for _, name := range coreFiles {
		if !exists(name) {
			continue
		}
		for imp := range imports(t, name) {
			if withinAny(imp, allowed) {
				continue
			}
			for p, why := range forbidden {
				if within(imp, p) {
					t.Errorf("%s imports %q: %s", name, imp, why)
				}
			}
			if !standard(imp) {
				t.Errorf("%s imports %q: the core is a pure function of what it is given; it knows neither mechanisms nor other layers", name, imp)
			}
		}
	}
}

// TestCoreListsAgree keeps the two lists of core files from drifting apart.
func TestCoreListsAgree(t *testing.T) {
	config := read(t, ".golangci.yml")
	var listed []string
	for _, m := range regexp.MustCompile(`"\$\{config-path\}/([a-z]+\.go)"`).FindAllSubmatch(config, -1) {
		listed = append(listed, string(m[1]))
	}
	if !slices.Equal(listed, coreFiles) {
		t.Errorf("core files of .golangci.yml:\n%v\nand of internal/lint:\n%v\nThey must be equal, in the same order.", listed, coreFiles)
	}
}

func TestOnlyRaftnodeKnowsDragonboat(t *testing.T) {
	knows := []string{"internal/raftnode", "bench", "chaos"}
	for name := range goFiles(t) {
		if withinAny(name, knows) {
			continue
		}
		for imp := range imports(t, name) {
			if within(imp, "github.com/lni/dragonboat") {
				t.Errorf("%s imports %q: only internal/raftnode knows dragonboat, so that its panics, pins and traps are answered in one place", name, imp)
			}
		}
	}
}

func TestReplicaSeamIsStdlibOnly(t *testing.T) {
	for _, name := range productFilesIn(t, "internal/replica") {
		for imp := range imports(t, name) {
			if !standard(imp) {
				t.Errorf("%s imports %q: replica is the seam; whatever it imports, every implementation and every user of consensus must import too", name, imp)
			}
		}
	}
}

// TestRootDependencies guards what a service links when it imports coord.
func TestRootDependencies(t *testing.T) {
	allowed := []string{
		"github.com/google/btree",           // the state is cloned in O(1)
		"github.com/vmihailenco/msgpack/v5", // the format of the log, of results and of snapshots
		"golang.org/x/sync",                 // errgroup and singleflight, by the authors of Go
		"golang.org/x/crypto/bcrypt",        // the slow hash of users' passwords, by the authors of Go
	}
	for _, name := range productFilesIn(t, ".") {
		for imp := range imports(t, name) {
			if !standard(imp) && !within(imp, module) && !withinAny(imp, allowed) {
				t.Errorf("%s imports %q: every user of coord links it. If it is worth that, list it in this test with the reason; if it is a mechanism, it belongs into internal/raftnode or another leaf.", name, imp)
			}
		}
	}
}

func TestNoFileOver800Lines(t *testing.T) {
	const limit = 800
	for name := range goFiles(t) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		src := read(t, name)
		if n := bytes.Count(src, []byte("\n")); n > limit && !ast.IsGenerated(parse(t, name, parser.ParseComments|parser.PackageClauseOnly).File) {
			t.Errorf("%s has %d lines, more than %d: one file per noun or per stage; a reader must be able to hold it in mind", name, n, limit)
		}
	}
}

func TestNoSleepInTests(t *testing.T) {
	for name := range goFiles(t) {
		if !strings.HasSuffix(name, "_test.go") || !bytes.Contains(read(t, name), []byte("Sleep")) {
			continue
		}
		f := parse(t, name, parser.SkipObjectResolution)
		// In a bubble a sleep takes no time and is exact. A file that uses the helper
		// of its package for that does not import the package.
		if importName(f, module+"/internal/bubble") != "" || bytes.Contains(read(t, name), []byte("\tinBubble(t, func(t *testing.T")) ||
			bytes.Contains(read(t, name), []byte("VirtualTime(t, func(t *testing.T")) {
			continue
		}
		clock := importName(f, "time")
		ast.Inspect(f.File, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Sleep" {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == clock {
				t.Errorf("%s: time.Sleep in a test: too short on a busy machine, too long on all others. Wait for the condition, or use internal/bubble.", f.at(n))
			}
			return true
		})
	}
}

func TestBubblesAreRunByOnePackage(t *testing.T) {
	for name := range goFiles(t) {
		if path.Dir(name) == "internal/bubble" {
			continue
		}
		f := parse(t, name, parser.SkipObjectResolution)
		pkg := importName(f, "testing/synctest")
		if pkg == "" {
			continue
		}
		ast.Inspect(f.File, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Test" {
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == pkg {
					t.Errorf("%s: synctest.Test: use internal/bubble, or the race detector crashes now and then", f.at(n))
				}
			}
			return true
		})
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	for _, dir := range []string{".", "admin", "coordtest", "recipes", "recipes/discovery", "recipes/discovery/discoverytest", "zkserver"} {
		for _, name := range productFilesIn(t, dir) {
			f := parse(t, name, parser.ParseComments|parser.SkipObjectResolution)
			for ident := range undocumented(f.File) {
				t.Errorf("%s: %s has no comment: godoc is the manual; say what it is, its units, its errors and what ends it", f.at(ident), ident.Name)
			}
		}
	}
}

// TestNoMachinePaths keeps paths of the machines that coord is developed on out
// of the repository: a reader has no such directories.
func TestNoMachinePaths(t *testing.T) {
	tops := []string{"work", "farm", "root", "home", "Users"}
	pattern := regexp.MustCompile(`(^|[^\w./~$})-])/(` + strings.Join(tops, "|") + `)/[\w.]`)

	// Files that are not ignored, tracked or not yet.
	cmd := exec.CommandContext(t.Context(), "git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("not a git work tree: %v", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		if path.Base(name) == "go.sum" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(root, name))
		if errors.Is(err, fs.ErrNotExist) { // deleted, not committed yet
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(data, 0) >= 0 { // binary
			continue
		}
		line := 0
		for text := range bytes.Lines(data) {
			line++
			if pattern.Match(text) {
				t.Errorf("%s:%d: absolute path of some machine: %s", name, line, bytes.TrimSpace(text))
			}
		}
	}
}

// goFiles yields every Go file of the repository, also those of nested modules,
// as a slash-separated path from the root.
func goFiles(t *testing.T) iter.Seq[string] {
	t.Helper()
	return func(yield func(string) bool) {
		err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() {
				if name := d.Name(); file != root && (name == "testdata" || name == "bin" || strings.HasPrefix(name, ".")) {
					return fs.SkipDir
				}
				return nil
			}
			rel, err := filepath.Rel(root, file)
			if err == nil && strings.HasSuffix(rel, ".go") && !yield(filepath.ToSlash(rel)) {
				return fs.SkipAll
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// goFilesIn returns the Go files of dir, without its subdirectories.
func goFilesIn(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() && strings.HasSuffix(e.Name(), ".go") {
			names = append(names, path.Join(dir, e.Name()))
		}
	}
	return names
}

// productFilesIn is goFilesIn without tests.
func productFilesIn(t *testing.T, dir string) []string {
	t.Helper()
	return slices.DeleteFunc(goFilesIn(t, dir), func(name string) bool { return strings.HasSuffix(name, "_test.go") })
}

func exists(name string) bool {
	_, err := os.Stat(filepath.Join(root, name))
	return err == nil
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// within reports whether p is dir or below it.
func within(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

func withinAny(p string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return within(p, dir) })
}

// standard reports whether imp belongs to the standard library.
func standard(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return first != module && !strings.Contains(first, ".")
}

// A source is one parsed file.
type source struct {
	*ast.File
	fset *token.FileSet
}

func parse(t *testing.T, name string, mode parser.Mode) source {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, filepath.Join(root, name), read(t, name), mode)
	if err != nil {
		t.Fatal(err)
	}
	return source{f, fset}
}

// at returns the place of n as "dir/file.go:line".
func (s source) at(n ast.Node) string {
	p := s.fset.Position(n.Pos())
	rel, err := filepath.Rel(root, p.Filename)
	if err != nil {
		rel = p.Filename
	}
	return filepath.ToSlash(rel) + ":" + strconv.Itoa(p.Line)
}

// imports yields the import paths of a file.
func imports(t *testing.T, name string) iter.Seq[string] {
	t.Helper()
	f := parse(t, name, parser.ImportsOnly)
	return func(yield func(string) bool) {
		for _, spec := range f.Imports {
			if !yield(importPath(spec)) {
				return
			}
		}
	}
}

func importPath(spec *ast.ImportSpec) string {
	p, _ := strconv.Unquote(spec.Path.Value) // the parser has checked it
	return p
}

// importName returns the name under which f knows the package imp, or "".
func importName(f source, imp string) string {
	for _, spec := range f.Imports {
		if importPath(spec) != imp {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return path.Base(imp)
	}
	return ""
}

// undocumented yields the exported names of f that need a comment and have none.
// In a group of constants or variables the comment of the group will do.
func undocumented(f *ast.File) iter.Seq[*ast.Ident] {
	return func(yield func(*ast.Ident) bool) {
		for _, decl := range f.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Doc == nil && d.Name.IsExported() && ast.IsExported(receiver(d)) && !yield(d.Name) {
					return
				}
			case *ast.GenDecl:
				for _, name := range undocumentedSpecs(d) {
					if !yield(name) {
						return
					}
				}
			}
		}
	}
}

func undocumentedSpecs(d *ast.GenDecl) []*ast.Ident {
	var names []*ast.Ident
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Doc == nil && (d.Doc == nil || d.Lparen.IsValid()) {
				names = append(names, s.Name)
			}
		case *ast.ValueSpec:
			if s.Doc == nil && s.Comment == nil && d.Doc == nil {
				names = append(names, s.Names...)
			}
		}
	}
	return slices.DeleteFunc(names, func(n *ast.Ident) bool { return !n.IsExported() })
}

// receiver returns the name of the type that d is a method of; for a function it
// returns d's own name.
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return d.Name.Name
	}
	expr := d.Recv.List[0].Type
	for {
		switch e := expr.(type) {
		case *ast.StarExpr:
			expr = e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.IndexListExpr:
			expr = e.X
		case *ast.Ident:
			return e.Name
		default:
			return ""
		}
	}
}
