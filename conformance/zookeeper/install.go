package zookeeper

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Jars is where Debian's packages put their jars. The variable ZOOKEEPER_JARS names
// another directory, with the jars of another release and all that it needs.
const Jars = "/usr/share/java"

// A Tool is a program or file that comparisons need, and the Debian package it is in.
type Tool struct {
	Path    string // a file, or the name of a program
	Package string
}

// What the package needs, and what the everyday programs of clients need.
var (
	Java     = Tool{"java", "default-jre-headless"}
	Server   = Tool{Jars + "/zookeeper.jar", "libzookeeper-java"}
	Kazoo    = Tool{"/usr/lib/python3/dist-packages/kazoo", "python3-kazoo"}
	CShell   = Tool{"/usr/lib/zookeeper/bin/cli_mt", "zookeeper-bin"}
	Compiler = Tool{"javac", "default-jdk-headless"}
	Curator  = Tool{Jars + "/curator-recipes.jar", "libcurator-recipes-java"}
)

// Tools has all of them.
var Tools = []Tool{Java, Server, Kazoo, CShell, Compiler, Curator}

// Install has this machine have the tools named, and those that servers need. As root on
// Debian it installs what is missing, unless ZOOKEEPER_NO_INSTALL is set; otherwise its
// error says what is missing.
func Install(ctx context.Context, tools ...Tool) error {
	missing := missing(append([]Tool{Java, Server}, tools...))
	if len(missing) == 0 {
		return nil
	}
	command := "apt-get install --no-install-recommends " + strings.Join(missing, " ")
	if os.Geteuid() != 0 || os.Getenv("ZOOKEEPER_NO_INSTALL") != "" {
		return fmt.Errorf("zookeeper: this machine lacks Debian packages: %s", command)
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("zookeeper: this machine lacks Debian packages and apt-get: %s", command)
	}
	for _, args := range [][]string{
		{"-qq", "update"},
		append([]string{"-qq", "install", "--yes", "--no-install-recommends"}, missing...),
	} {
		// The tests of several packages, which go test runs at the same time, may each
		// come here. The lock is that of nobody else.
		cmd := exec.CommandContext(ctx, "flock", append([]string{"--no-fork", "/var/lib/apt", "apt-get"}, args...)...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("zookeeper: %s: %w\n%s", command, err, out)
		}
	}
	return nil
}

func missing(tools []Tool) []string {
	var packages []string
	for _, t := range tools {
		if t == Server && os.Getenv("ZOOKEEPER_JARS") != "" {
			continue
		}
		if filepath.IsAbs(t.Path) {
			if _, err := os.Stat(t.Path); err == nil {
				continue
			}
		} else if _, err := exec.LookPath(t.Path); err == nil {
			continue
		}
		packages = append(packages, t.Package)
	}
	return packages
}

// Classpath returns what to hand to java to run the server or its shell.
func Classpath() string {
	if dir := os.Getenv("ZOOKEEPER_JARS"); dir != "" {
		return filepath.Join(dir, "*")
	}
	// The jar names most of the jars it needs; these it does not. Netty's are for TLS.
	jars := []string{Server.Path}
	for _, name := range []string{"slf4j-log4j12", "log4j-1.2", "netty-codec", "netty-resolver", "netty-transport-native-unix-common"} {
		jars = append(jars, Jars+"/"+name+".jar")
	}
	return strings.Join(jars, ":")
}
