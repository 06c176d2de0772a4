//go:build !race

package bubble

// RaceDetector says whether this binary looks for races.
const RaceDetector = false
