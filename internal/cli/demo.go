package cli

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/comity-im/comity/internal/demo"
)

// Demo plays the story of the draft.
type Demo struct {
	Keep bool   `help:"Leave the providers running at the end, until Ctrl-C, and say how to go on from another terminal."`
	JSON bool   `help:"Print one JSON object a line." name:"json"`
	Dir  string `help:"Folder for everything; it stays. Without it, a new one that is removed at the end." type:"path" placeholder:"DIR"`
}

// Run plays it.
func (d *Demo) Run(ctx context.Context, out io.Writer) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return demo.Run(ctx, demo.Options{Out: out, JSON: d.JSON, Keep: d.Keep, Dir: d.Dir, Command: []string{exe, "serve", "--config"}})
}
