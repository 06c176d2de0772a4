package overlay

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// An Overlay collects patches that one build is made with.
type Overlay struct {
	dir     string
	changed map[string]string // texts by the path of the original
}

// New returns an overlay whose files go into a directory, which must exist.
func New(dir string) *Overlay { return &Overlay{dir: dir, changed: map[string]string{}} }

// Apply makes the edits of a patch to the files below a root, upon those of patches before
// it. If one of them does not fit it returns why, and the overlay is of no use any more.
func (o *Overlay) Apply(root string, p Patch) error {
	for _, e := range p.Edits {
		path, err := filepath.Abs(filepath.Join(root, filepath.FromSlash(e.File)))
		if err != nil {
			return err
		}
		text, ok := o.changed[path]
		if !ok {
			b, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("overlay: patch %s does not fit: there is no %s", p.Name, path)
			}
			if err != nil {
				return err
			}
			text = string(b)
		}
		if text, err = e.apply(text); err != nil {
			return fmt.Errorf("overlay: patch %s does not fit: %w", p.Name, err)
		}
		o.changed[path] = text
	}
	return nil
}

// Write writes the changed files and returns the file that go build -overlay wants.
func (o *Overlay) Write() (string, error) {
	replace, copies := map[string]string{}, map[string]string{}
	for path, text := range o.changed {
		// The compiler writes the name of the copy down: it must not depend on others.
		copied := filepath.Join(o.dir, filepath.Base(filepath.Dir(path))+"_"+filepath.Base(path))
		if other, taken := copies[copied]; taken {
			return "", fmt.Errorf("overlay: the copies of %s and %s would have the same name", other, path)
		}
		copies[copied] = path
		if err := os.WriteFile(copied, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[path] = copied
	}
	b, err := json.MarshalIndent(map[string]any{"Replace": replace}, "", "\t")
	if err != nil {
		return "", err
	}
	list := filepath.Join(o.dir, "overlay.json")
	return list, os.WriteFile(list, b, 0o600)
}
