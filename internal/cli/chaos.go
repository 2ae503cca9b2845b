package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/comity-im/comity/internal/chaos"
)

// Chaos breaks providers on purpose.
type Chaos struct {
	For    time.Duration `help:"How long to go on, in rounds; such as 3h." default:"3m"`
	Round  time.Duration `help:"How long things are broken in a round; then all must heal, and what everybody shows is compared." default:"2m"`
	Seed   uint64        `help:"Of the first round; the others count on. By default the time." placeholder:"N"`
	Dir    string        `help:"Folder for the rounds; those with findings stay. A temporary one by default." type:"path" placeholder:"DIR"`
	Report string        `help:"Write the report so far to this file after each round, as JSON." type:"path" placeholder:"FILE"`
	Quiet  bool          `help:"Print the report at the end alone."`
}

// Run breaks things and prints what came of it; a finding is an error.
func (c *Chaos) Run(ctx context.Context, out io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	program, err := os.Executable()
	if err != nil {
		return err
	}
	if c.Seed == 0 {
		c.Seed = uint64(time.Now().Unix())
	}
	if c.Dir == "" {
		if c.Dir, err = os.MkdirTemp("", "comity-chaos-"); err != nil {
			return err
		}
		defer os.Remove(c.Dir) // unless something was found
	}
	o := chaos.Options{Dir: c.Dir, Command: []string{program, "chaos-provider"}, Seed: c.Seed, Time: c.Round, Log: func(string, ...any) {}}
	progress := io.Writer(os.Stderr)
	if c.Quiet {
		progress = io.Discard
	} else {
		o.Log = func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	}
	total, err := chaos.Campaign(ctx, o, c.For, c.Report, progress)
	if total.Rounds > 0 {
		fmt.Fprint(out, total)
	}
	if n := len(total.Findings); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d findings; the folders of those rounds are in %s", n, c.Dir))
	}
	return err
}

// ChaosProvider is a process of chaos.
type ChaosProvider struct {
	Config string `arg:""`
}

// Run runs a provider that can be broken.
func (c *ChaosProvider) Run(ctx context.Context) error { return chaos.Provide(ctx, c.Config) }
