package raftnode

// UseLibraryTransport has the library use its own TCP transport, to compare.
func UseLibraryTransport(c *Config) { c.libraryTransport = true }
