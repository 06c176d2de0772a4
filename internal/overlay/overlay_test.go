package overlay_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"coord/internal/overlay"
)

const patch = `# Has it count
# by two.
kind: example

--- dir/a.go

# a comment
@@
 	// one
-	n++
+	n += 2
@@
-	return
+	return n
`

func TestPatch(t *testing.T) {
	p, err := overlay.Parse("example", []byte(patch))
	if err != nil {
		t.Fatal(err)
	}
	if p.About != "Has it count\nby two.\n" || p.Fields["kind"] != "example" {
		t.Errorf("about %q, fields %v", p.About, p.Fields)
	}
	root, dir := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(root, "dir", "a.go")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("\tn++\n\t// one\n\tn++\n\treturn\n")
	o := overlay.New(dir)
	if err := o.Apply(root, p); err != nil {
		t.Fatal(err)
	}
	list, err := o.Write()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Replace map[string]string `json:"Replace"`
	}
	b, err := os.ReadFile(list)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(got.Replace[file])
	if want := "\tn++\n\t// one\n\tn += 2\n\treturn n\n"; err != nil || string(text) != want {
		t.Errorf("the copy is %q, %v; want %q", text, err, want)
	}

	for name, text := range map[string]string{
		"missing": "\treturn\n",
		"twice":   "\t// one\n\tn++\n\t// one\n\tn++\n\treturn\n",
		"in part": "\t// one\n\tn++ // more\n\treturn\n",
	} {
		write(text)
		err := overlay.New(dir).Apply(root, p)
		if err == nil || !strings.Contains(err.Error(), "example") || !strings.Contains(err.Error(), "dir/a.go") {
			t.Errorf("%s: %v; want an error that names the patch and the file", name, err)
		}
	}
}

// TestCopiesDoNotMeet changes two files whose copies would be one.
func TestCopiesDoNotMeet(t *testing.T) {
	root := t.TempDir()
	o := overlay.New(t.TempDir())
	for _, name := range []string{"x/dir/a.go", "y/dir/a.go"} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("a\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := overlay.Parse("p", []byte("--- "+name+"\n@@\n-a\n+b\n"))
		if err != nil {
			t.Fatal(err)
		}
		if err := o.Apply(root, p); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := o.Write(); err == nil || !strings.Contains(err.Error(), "same name") {
		t.Errorf("Write = %q, %v", list, err)
	}
}

func TestBadPatches(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":     "# only words\n",
		"no file":     "@@\n-a\n+b\n",
		"no place":    "--- a\n@@\n+b\n",
		"no change":   "--- a\n@@\n b\n",
		"no mark":     "--- a\n@@\nb\n",
		"not a field": "hello\n--- a\n@@\n-a\n+b\n",
		"no edit":     "--- a\n-a\n+b\n",
	} {
		if p, err := overlay.Parse(name, []byte(text)); err == nil {
			t.Errorf("%s was taken for a patch: %+v", name, p)
		}
	}
}
