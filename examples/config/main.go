// Command config keeps the settings of a service in one znode: a replica changes them,
// and all replicas learn of it and hold the same.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"coord"
	"coord/examples/internal/ensemble"
	"coord/recipes"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Settings are what the service can be told while it runs.
type Settings struct {
	LogLevel string        `json:"logLevel"`
	Timeout  time.Duration `json:"timeout"` // nanoseconds
	Banned   []string      `json:"banned"`
}

func run(ctx context.Context, out io.Writer) (err error) {
	replicas, closeAll, err := ensemble.Open(ctx, 3)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll()) }()

	const path = "/service/settings"
	first := recipes.NewValue(replicas[0], path, coord.JSON[Settings]())
	if _, err := first.Set(ctx, Settings{LogLevel: "info", Timeout: time.Second}); err != nil {
		return err
	}

	// Two replicas ban somebody at the same time: neither change is lost.
	errs := make(chan error)
	for i, name := range []string{"mallory", "trudy"} {
		settings := recipes.NewValue(replicas[1+i], path, coord.JSON[Settings]())
		go func() {
			_, _, err := settings.Update(ctx, func(s Settings) (Settings, error) {
				s.Banned = append(s.Banned, name)
				return s, nil
			})
			errs <- err
		}()
	}
	if err := errors.Join(<-errs, <-errs); err != nil {
		return err
	}

	// The third one follows the settings. It is told the present ones first.
	last := recipes.NewValue(replicas[2], path, coord.JSON[Settings]())
	for version, err := range last.Watch(ctx) {
		if err != nil {
			return err
		}
		s := version.Value
		if len(s.Banned) < 2 {
			continue
		}
		fmt.Fprintf(out, "version %d: level %s, timeout %v, %d banned\n", version.Stat.Version, s.LogLevel, s.Timeout, len(s.Banned))
		if s.LogLevel == "debug" {
			break
		}
		s.LogLevel = "debug"
		if _, err := first.CompareAndSet(ctx, version.Stat, s); err != nil {
			return err
		}
	}

	// Whoever writes something else there is noticed, and does not stop the replicas.
	if _, err := replicas[0].SetData(ctx, path, []byte("level=trace")); err != nil {
		return err
	}
	_, _, err = last.Get(ctx, coord.Linearizable())
	wrong, ok := errors.AsType[*coord.DecodeError](err)
	if !ok {
		return fmt.Errorf("what is no JSON was read: %w", err)
	}
	_, err = fmt.Fprintf(out, "version %d is not settings\n", wrong.Stat.Version)
	return err
}
