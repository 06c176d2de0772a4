package raftdir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// settingsFiles are read by the raft library from the working directory when
// the process starts, before anybody can object.
var settingsFiles = []string{"dragonboat-soft-settings.json", "dragonboat-hard-settings.json"}

// CheckWorkingDirectory returns [ErrWorkingDirectory] if the working directory
// holds a file with which the raft library has replaced its own constants: the
// hard ones change the format on disk, the soft ones the queue lengths that
// this member was built and tested with. It looks where the process is now;
// a process that changed its directory after its start may have read others.
func CheckWorkingDirectory() error {
	wd, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("working directory: %w", err)
	}
	var found []string
	for _, name := range settingsFiles {
		switch _, err := os.Lstat(filepath.Join(wd, name)); {
		case err == nil:
			found = append(found, name)
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("working directory: %w", err)
		}
	}
	if len(found) == 0 {
		return nil
	}
	return &Error{
		Kind: ErrWorkingDirectory, Path: wd, Offset: -1,
		Detail: "found " + strings.Join(found, " and "),
		Remedy: "remove the files, or start the process in another directory",
	}
}
