// Comity is a provider of MIMI, the IETF's protocols for messaging across
// services, with a client and the tools that make the protocol visible.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/alecthomas/kong"

	"github.com/comity-im/comity/internal/cli"
	"github.com/comity-im/comity/internal/cli/clientcmd"
)

type commands struct {
	Demo    cli.Demo          `cmd:"" help:"Play the story of the MIMI draft with three providers on this machine."`
	Serve   cli.Serve         `cmd:"" help:"Run one provider."`
	Init    cli.Init          `cmd:"" help:"Write a config file and a test certificate for a first provider."`
	Admin   cli.Admin         `cmd:"" help:"Ask a running provider how it is."`
	Client  clientcmd.Cmd     `cmd:"" help:"Chat, as a person at one device."`
	Inspect cli.Inspect       `cmd:"" help:"Show the bytes of an MLS or MIMI object, field by field."`
	Check   cli.Check         `cmd:"" help:"Try somebody's provider from outside: does it answer, and refuse, as the drafts say?"`
	Bench   cli.Bench         `cmd:"" help:"Load providers on this machine and measure them."`
	Worker  cli.BenchWorker   `cmd:"" name:"bench-worker" hidden:""`
	Chaos   cli.Chaos         `cmd:"" help:"Break providers on this machine on purpose, and see that nothing is lost."`
	Broken  cli.ChaosProvider `cmd:"" name:"chaos-provider" hidden:""`
	Version versionCmd        `cmd:"" help:"Print the version."`
}

type versionCmd struct{}

func (versionCmd) Run(out io.Writer) error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return fmt.Errorf("this binary carries no version")
	}
	_, err := fmt.Fprintf(out, "comity %s, %s\n", info.Main.Version, info.GoVersion)
	return err
}

func main() {
	var c commands
	k := kong.Parse(&c, kong.Name("comity"), kong.Description("MIMI: people on different messaging services, in one end-to-end encrypted room."), kong.UsageOnError(),
		kong.Vars(clientcmd.Vars()),
		kong.BindTo(context.Background(), (*context.Context)(nil)), kong.BindTo(os.Stdout, (*io.Writer)(nil)))
	if err := k.Run(&c.Admin); err != nil {
		fmt.Fprintf(os.Stderr, "comity: %v\n", err)
		os.Exit(1)
	}
}
