package zoocfg

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Load reads a zoo.cfg, the dynamic file that it names, and myid in its dataDir;
// see [Parse] about properties.
func Load(name string, properties ...string) (*Config, error) {
	data, err := read(name)
	if err != nil {
		return nil, err
	}
	c, err := Parse(name, data, properties...)
	if err != nil {
		return nil, err
	}
	if c.DynamicFile != "" {
		if data, err = read(c.DynamicFile); err != nil {
			return nil, err
		}
		if err := c.ParseDynamic(c.DynamicFile, data); err != nil {
			return nil, err
		}
	}
	id := filepath.Join(c.DataDir, "myid")
	data, err = read(id)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !c.Distributed():
		return c, nil // a server by itself needs no name
	case errors.Is(err, fs.ErrNotExist):
		return nil, &Error{File: id, Reason: "is missing: it holds the N of this server's server.N line"}
	case err != nil:
		return nil, err
	}
	return c, c.ParseMyID(id, data)
}

// read reads a file, if it is not absurdly long, which the parser says.
func read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxFileBytes+1))
}
