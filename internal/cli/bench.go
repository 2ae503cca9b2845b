package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/comity-im/comity/internal/bench"
)

// Bench loads providers and measures them.
type Bench struct {
	Scenario    []string `help:"What to measure: hot, federate, latency, fanout, quiet, idle, commits, cold, backlog. All by default." placeholder:"NAME"`
	Seconds     float64  `help:"How long each measurement takes." default:"5"`
	Repeat      int      `help:"How often each rate is measured; the median counts." default:"3"`
	Size        int      `help:"Octets of application data in a message." default:"100"`
	Followers   []int    `help:"Numbers of followers for fanout; up to 50 is sensible." default:"1,4,10,50"`
	Rooms       int      `help:"Rooms for quiet." default:"10000"`
	Connections int      `help:"Connections for idle, or as many as the limit of open files and two minutes allow at each node." default:"100000"`
	Nodes       int      `help:"Nodes of the hub for idle, on a PostgreSQL of the bench's own: each process has a limit of open files of its own." default:"1"`
	Members     []int    `help:"Clients of the rooms for commits." default:"10,100,1000,10000"`
	Cold        int      `help:"Rooms on disk for cold." default:"100000"`
	Backlog     int      `help:"Messages that wait for the follower that comes back, for backlog." default:"100000"`
	Dir         string   `help:"Folder for the providers' data; a temporary one by default." type:"path" placeholder:"DIR"`
	Profile     string   `help:"Folder for CPU profiles of the hub, a follower and the senders." type:"path" placeholder:"DIR"`
	JSON        string   `help:"Write the report as JSON to this file, too." name:"json" type:"path" placeholder:"FILE"`
	Quiet       bool     `help:"Print the report alone."`

	Hub      string   `help:"Client address of a hub that runs already, which is loaded instead of providers that are started here. Its limits apply." placeholder:"URL" group:"Providers that run already:"`
	Follower []string `help:"Client addresses of its followers." placeholder:"URL" group:"Providers that run already:"`
	Admin    []string `help:"Admin listeners of the hub and its followers, in this order, for their CPU time and memory." placeholder:"URL" group:"Providers that run already:"`
	CA       string   `help:"File with the authority of their certificates; the system's by default." name:"ca" type:"existingfile" placeholder:"FILE" group:"Providers that run already:"`
	Invite   string   `help:"For registering users, where a provider wants it." placeholder:"TOKEN" group:"Providers that run already:"`
}

// Run measures and prints the report.
func (b *Bench) Run(ctx context.Context, out io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	program, err := os.Executable()
	if err != nil {
		return err
	}
	o := bench.Options{
		Dir: b.Dir, Program: program, Scenarios: b.Scenario, Seconds: b.Seconds, Repeat: b.Repeat, Size: b.Size, Fanout: b.Followers,
		Rooms: b.Rooms, Idle: b.Connections, Nodes: b.Nodes, Members: b.Members, Cold: b.Cold, Backlog: b.Backlog, Profile: b.Profile, Progress: os.Stderr,
		Given: bench.Given{Hub: b.Hub, Followers: b.Follower, Admin: b.Admin, CA: b.CA, Invite: b.Invite},
	}
	if len(o.Scenarios) == 0 {
		o.Scenarios = bench.Scenarios
		if b.Hub != "" {
			o.Scenarios = bench.GivenScenarios
			if len(b.Follower) == 0 {
				o.Scenarios = []string{"quiet", "idle"}
			}
		}
	}
	if b.Hub != "" && slices.Equal(b.Followers, []int{1, 4, 10, 50}) {
		o.Fanout = []int{len(b.Follower)} // not chosen
	}
	if b.Quiet {
		o.Progress = nil
	}
	for _, dir := range []string{b.Dir, b.Profile} {
		if dir != "" {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
		}
	}
	report, err := bench.Run(ctx, o)
	if report == nil {
		return err
	}
	err = errors.Join(err, report.WriteText(out))
	if b.JSON != "" {
		text, e := json.MarshalIndent(report, "", "  ")
		err = errors.Join(err, e, os.WriteFile(b.JSON, append(text, '\n'), 0o644))
	}
	return err
}

// BenchWorker is a process of bench.
type BenchWorker struct{}

// Run does what bench says on the standard input.
func (BenchWorker) Run(ctx context.Context, out io.Writer) error {
	return bench.Worker(ctx, os.Stdin, out)
}
