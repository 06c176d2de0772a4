package programs_test

import (
	"path/filepath"
	"strings"
	"testing"

	"coord/conformance/differ"
	"coord/conformance/zookeeper"
)

// TestCurator runs the recipes of Curator, the Java client that most services use.
func TestCurator(t *testing.T) {
	install(t, zookeeper.Compiler, zookeeper.Curator)
	classes := t.TempDir()
	classpath := strings.Join([]string{zookeeper.Curator.Path, filepath.Join(zookeeper.Jars, "slf4j-nop.jar")}, ":")
	output(t, "", zookeeper.Compiler.Path, "-nowarn", "-d", classes, "-cp", classpath, "testdata/curator/Everyday.java")
	both(t, func(t *testing.T, s differ.Subject) string {
		return output(t, "", "java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", classes+":"+classpath, "Everyday", strings.Join(s.Addrs, ","))
	})
}
