//go:build !unix

package raftnode

// checkFileLimit does nothing where there is no such limit to ask for.
func checkFileLimit() error { return nil }
