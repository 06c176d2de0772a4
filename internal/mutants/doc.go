// Package mutants has planted bugs, to prove that what checks coord can fail. Each is a
// patch of coord's sources (package overlay) and costs them nothing: it is applied to copies
// when a binary is built with it.
//
//	# What it breaks, in words.
//	caught by: internal/sim TestSimulation, . TestWatch
//	with: -some.flag=1
//	says: (G4|G12)
//
//	--- history.go
//	@@
//	…
//
// "caught by" names tests, as a package's directory and a pattern for -run; the first one is
// run by "make mutants", with the flags that "with" lists, if any. It is wanted to fail,
// and to say something that the regular expression "says" matches. A mutant that is not
// caught is a hole in the machinery.
//
// To add one, add a file. TestMutantsFit fails if it does not fit the sources.
package mutants
