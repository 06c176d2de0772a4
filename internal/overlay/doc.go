// Package overlay builds Go programs from changed sources without touching them: it
// applies patches to copies of files, and tells the go command by -overlay to compile
// the copies. The sources of Go itself can be changed so, too.
//
// A patch is a text that a person can read and write:
//
//	# What the patch is for.
//	name: value
//
//	--- runtime/select.go
//	@@
//	 		// an unchanged line, which says where
//	-		j := cheaprandn(uint32(norder + 1))
//	+		j := simulationRandn(uint32(norder + 1))
//
// Lines in front of the first file are comments and fields. A file is named by its path
// below the root that the patch is for. Each "@@" begins an edit: lines that begin with a
// space or "-" must be in the file just so, and exactly once; they are replaced by those
// that begin with a space or "+". An empty line ends the edit. There are no line numbers,
// so a patch fits as long as the lines that it is about are what they were, and fails,
// naming the file and the lines, when they are not.
package overlay
