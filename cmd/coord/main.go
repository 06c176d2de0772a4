// Command coord runs members of an ensemble as processes of their own, for the clients
// of ZooKeeper. docs/SERVE.md is its manual.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run executes the command line and returns the exit status: 0, or 1 with the reason on
// errs.
func run(args []string, out, errs io.Writer) int {
	root := &cobra.Command{
		Use:           "coord",
		Short:         "ZooKeeper's job, done by coord",
		SilenceUsage:  true, // an error is one line, and --help is there for the rest
		SilenceErrors: true,
	}
	root.AddCommand(serveCommand())
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errs)
	if err := root.Execute(); err != nil {
		_, _ = fmt.Fprintln(errs, "coord:", err)
		return 1
	}
	return 0
}
