package deterministic

import (
	"embed"
	"fmt"
	"strings"

	"coord/internal/overlay"
)

//go:embed go*.patch
var patches embed.FS

//go:embed coord.patch
var sources []byte

// Sources returns the patch to the sources of coord itself. Its root is that of the module.
func Sources() (overlay.Patch, error) { return overlay.Parse("coord.patch", sources) }

// Patch returns the patch to the sources of a Go version (as runtime.Version and "go env
// GOVERSION" tell it), and false if there is none for it. Its root is GOROOT/src.
func Patch(version string) (overlay.Patch, bool, error) {
	files, err := patches.ReadDir(".")
	if err != nil {
		return overlay.Patch{}, false, err
	}
	for _, f := range files {
		text, err := patches.ReadFile(f.Name())
		if err != nil {
			return overlay.Patch{}, false, err
		}
		p, err := overlay.Parse(f.Name(), text)
		if err != nil {
			return overlay.Patch{}, false, err
		}
		release := p.Fields["go"]
		if release == "" {
			return overlay.Patch{}, false, fmt.Errorf("deterministic: %s does not say which Go it is for", f.Name())
		}
		if version == release || strings.HasPrefix(version, release+".") {
			return p, true, nil
		}
	}
	return overlay.Patch{}, false, nil
}
