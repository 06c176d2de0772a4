// Command install has this machine have all that the comparisons need, before the tests
// ask for it.
package main

import (
	"context"
	"fmt"
	"os"

	"coord/conformance/zookeeper"
)

func main() {
	if err := zookeeper.Install(context.Background(), zookeeper.Tools...); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
