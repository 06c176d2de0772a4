package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"coord/internal/zoocfg"
)

// serveFlags are what the command line of serve says.
type serveFlags struct {
	dev         bool
	clientAddrs []string
	dir         string
	properties  []string
	logFormat   string
	logLevel    slog.Level
}

func serveCommand() *cobra.Command {
	var f serveFlags
	level := "info"
	cmd := &cobra.Command{
		Use:   "serve {zoo.cfg | --dev}",
		Short: "run a member for the clients of ZooKeeper, until SIGTERM",
		Long: `Run the member that a configuration file of ZooKeeper describes, or, with --dev, a
small ensemble for development in one process, without a file.

SIGTERM and SIGINT stop it in good order: requests under way are answered, sessions stay
for their clients to go on elsewhere, leadership is handed on. A second one stops it at once.`,
		Example: "  coord serve /etc/zookeeper/conf/zoo.cfg\n  coord serve --dev --client-addrs 127.0.0.1:2181",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.logLevel.UnmarshalText([]byte(level)); err != nil {
				return fmt.Errorf("--log-level %q is none of debug, info, warn and error", level)
			}
			log, err := newLogger(cmd.ErrOrStderr(), f.logFormat, f.logLevel)
			if err != nil {
				return err
			}
			ctx, stop := untilSignal(cmd.Context(), log)
			defer stop()
			return serve(ctx, log, f, args)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.dev, "dev", false, "run an ensemble for development in this process; anybody who reaches it may do everything")
	flags.StringSliceVar(&f.clientAddrs, "client-addrs", nil, "with --dev: where clients connect, one member for each (default 127.0.0.1:2181,127.0.0.1:2182,127.0.0.1:2183)")
	flags.StringVar(&f.dir, "dir", "", "with --dev: keep the data here (default: a temporary directory, removed at the end)")
	flags.StringArrayVarP(&f.properties, "define", "D", nil, "a `key=value` as if it were in the file, which counts more; as Java's -Dzookeeper.key=value")
	flags.StringVar(&f.logFormat, "log-format", "text", "text or json")
	flags.StringVar(&level, "log-level", level, "debug, info, warn or error")
	return cmd
}

// newLogger returns a logger that writes in one of the formats.
func newLogger(w io.Writer, format string, level slog.Level) (*slog.Logger, error) {
	o := &slog.HandlerOptions{Level: level}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return nil, fmt.Errorf("--log-format %q is neither text nor json", format)
}

// serve runs what the flags and the file say until ctx ends.
func serve(ctx context.Context, log *slog.Logger, f serveFlags, args []string) error {
	switch {
	case f.dev && len(args) > 0:
		return fmt.Errorf("--dev has no file, and %s is one", args[0])
	case !f.dev && len(args) == 0:
		return errors.New("serve needs a zoo.cfg, or --dev")
	case f.dev:
		return serveDev(ctx, log, f)
	}
	switch {
	case f.dir != "":
		return errors.New("--dir is of --dev: dataDir says it in a file")
	case len(f.clientAddrs) > 0:
		return errors.New("--client-addrs is of --dev: clientPort and clientPortAddress say it in a file")
	}
	cfg, err := zoocfg.Load(args[0], f.properties...)
	if err != nil {
		return err
	}
	for _, n := range cfg.Notes {
		log.Info("setting means nothing here", slog.String("file", n.File), slog.Int("line", n.Line), slog.String("key", n.Key), slog.String("reason", n.Reason))
	}
	m, err := memberOf(cfg, log)
	if err != nil {
		return fmt.Errorf("%s: %w", cfg.File, err)
	}
	if err := claimDir(cfg, m.config.Dir); err != nil {
		return err
	}
	return m.run(ctx)
}

// claimDir makes the directory of the member. It refuses to begin with an empty state
// where ZooKeeper has kept one.
func claimDir(cfg *zoocfg.Config, dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	for _, theirs := range zooKeeperDirs(cfg) {
		if entries, err := os.ReadDir(theirs); err == nil && len(entries) > 0 {
			return fmt.Errorf("%s holds the data of a ZooKeeper server, which coord does not read: name another dataDir, or move it away", theirs)
		}
	}
	if !cfg.AutoCreate {
		return fmt.Errorf("%s does not exist, and datadir.autocreate is false", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("the member's directory, in dataLogDir or dataDir: %w", err)
	}
	return nil
}
