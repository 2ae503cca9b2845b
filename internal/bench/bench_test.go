package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/comity-im/comity/internal/cluster"
	"github.com/comity-im/comity/internal/pgserver"
	"github.com/comity-im/comity/serve"
)

// The test's own program is what comity is to bench: a provider, or a process of
// the load generator.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) == 4 && os.Args[1] == "serve":
		if err := provide(os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	case len(os.Args) == 2 && os.Args[1] == "bench-worker":
		if err := Worker(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func provide(file string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg, err := serve.Load(file)
	if err != nil {
		return err
	}
	s, err := serve.Open(ctx, cfg, serve.NewLogger(os.Stderr, cfg.Log))
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

func tiny(t *testing.T, scenarios ...string) Options {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Options{Dir: t.TempDir(), Program: program, Scenarios: scenarios, Seconds: 0.3, Repeat: 1, Size: 50, Fanout: []int{2}, Rooms: 20, Idle: 20, Nodes: 1, Members: []int{5}, Cold: 200, Backlog: 500, calm: time.Millisecond}
}

// Each scenario gives its figures, none of them nothing or nonsense, beside their
// floors, as text and as JSON.
func TestEveryScenario(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	o := tiny(t, Scenarios...)
	report, err := Run(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	checkReport(t, report)
	for _, want := range []string{
		"floor: fsync of a 4 KiB append, p99", "floor: empty HTTPS handler", "hot: accepted, durable, from the hub's clients, fanned out to 2 followers",
		"hot: delivered to the followers' clients until the last one", "hot: octets on disk at the hub", "hot: octets between hub and one follower",
		"federate: accepted, durable, from a follower, one request a message", "federate: delivered to another follower's client meanwhile",
		"latency: from sending to decrypted at a follower's client, at 100 messages/s, p50", "latency: from sending to decrypted at a follower's client, at 100 messages/s, p95",
		"latency: from sending to decrypted at a follower's client, at 100 messages/s, p99",
		"fanout: accepted with 2 followers", "fanout: delivered to 2 followers' clients until the last one", "quiet: 20 rooms founded, 16 at a time",
		"quiet: rooms that the hub holds in memory right after", "quiet: disk per room", "idle: connections opened, 20", "commits: commits, room of 5 clients, one committer, with its work",
		"commits: from claiming a KeyPackage to joined at a follower, room of 5 clients", "cold: from starting the process to ready, 200 rooms on disk",
		"backlog: messages that wait for a follower that is away, in 20 rooms", "backlog: caught up, beside 100 live messages/s", "backlog: caught up, beside as many live messages as may be",
		"backlog: from sending to decrypted at the other follower's client, at 100 messages/s, p99, while it catches up",
		"backlog: from sending to decrypted at the other follower's client, at 100 messages/s, p99, the latter of the former",
		"backlog: from sending to decrypted in a room of the follower's own, at 25 messages/s, p50, the latter of the former",
		"backlog: accepted and delivered to the other follower's client, as many as may be, the latter of the former",
		"backlog: the hub's highest memory meanwhile", "backlog: the highest memory of the follower that catches up",
	} {
		scenario, what, _ := strings.Cut(want, ": ")
		if !slices.ContainsFunc(report.Figures, func(f Figure) bool {
			return f.Scenario == scenario && similar(f.What, what) && f.Value > 0
		}) {
			t.Errorf("no figure %q", want)
		}
	}
	for _, name := range []string{"provider hub.example", "provider f1.example", "provider f2.example", "load of hub.example", "load of f1.example"} {
		if !slices.ContainsFunc(report.Uses, func(u Use) bool { return u.Scenario == "hot" && u.Process == name && u.MemoryMiB > 1 }) {
			t.Errorf("what %s used is missing", name)
		}
	}
	var text bytes.Buffer
	if err := report.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Figures {
		if !strings.Contains(text.String(), f.What) {
			t.Errorf("the text lacks %q", f.What)
		}
	}
	b, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var again Report
	if err := json.Unmarshal(b, &again); err != nil || !slices.Equal(again.Figures, report.Figures) || !slices.Equal(again.Uses, report.Uses) {
		t.Errorf("the JSON says something else: %v", err)
	}
}

// similar compares but for the rate, which depends on the machine.
func similar(a, b string) bool {
	rate := regexp.MustCompile(`\d+ (live )?messages/s`)
	return rate.ReplaceAllString(a, "") == rate.ReplaceAllString(b, "")
}

func checkReport(t *testing.T, report *Report) {
	t.Helper()
	for _, f := range report.Figures {
		// In little time a share of memory or of CPU time may be too small to see.
		small := f.Unit == "KiB" || f.Unit == "rooms" || strings.Contains(f.What, "CPU time")
		if math.IsNaN(f.Value) || math.IsInf(f.Value, 0) || f.Value < 0 || f.Value == 0 && !small || f.Value > 1e9 || math.IsInf(f.Floor, 0) || math.IsNaN(f.Floor) || f.Unit == "" {
			t.Errorf("%+v", f)
		}
	}
	for _, u := range report.Uses {
		if math.IsNaN(u.CPUPercent) || u.CPUPercent < 0 || u.CPUPercent > 10000 || u.MemoryMiB < 0 {
			t.Errorf("%+v", u)
		}
	}
}

// Connections are spread over several nodes of the hub.
func TestIdleAtNodes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	if pgserver.Binaries() == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("PostgreSQL is not installed")
		}
		t.Skip("skipped: no PostgreSQL (install its server binaries)")
	}
	o := tiny(t, "idle")
	o.Nodes = 3
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	checkReport(t, report)
	if !slices.ContainsFunc(report.Figures, func(f Figure) bool { return f.What == "connections opened, 20 at 3 nodes" }) {
		t.Errorf("%+v", report.Figures)
	}
	if !slices.ContainsFunc(report.Uses, func(u Use) bool { return u.Process == "provider hub.example node3" && u.MemoryMiB > 1 }) {
		t.Errorf("what the third node used is missing: %+v", report.Uses)
	}
}

// Providers that run already are loaded by their addresses.
func TestGivenProviders(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	o := tiny(t, GivenScenarios...)
	c, err := cluster.Start(ctx, cluster.Options{Dir: filepath.Join(o.Dir, "elsewhere"), Domains: []string{"a.example", "b.example"}, Command: []string{o.Program, "serve", "--config"}, LogLevel: "warn",
		Settings: "", Tables: "[accounts]\nregistration = \"invite\"\ninvites = [\"let me in\"]\n"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	a, b := c.Providers[0], c.Providers[1]
	o.Fanout = []int{1}
	o.Given = Given{Hub: a.ClientURL(), Followers: []string{b.ClientURL()}, Admin: []string{"http://" + a.Admin}, CA: c.CAFile}
	if _, err := Run(ctx, o); err == nil || !strings.Contains(err.Error(), "--invite") {
		t.Errorf("without an invitation: %v", err)
	}
	o.Given.Invite = "let me in"
	for range 2 { // its names don't collide with those of the run before
		report, err := Run(ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		checkReport(t, report)
		for _, s := range o.Scenarios {
			if !slices.ContainsFunc(report.Figures, func(f Figure) bool { return f.Scenario == s }) {
				t.Errorf("no figure of %s", s)
			}
		}
		if !slices.ContainsFunc(report.Uses, func(u Use) bool { return u.Process == "provider a.example" && u.MemoryMiB > 1 }) {
			t.Errorf("what the hub used is missing, though its admin listener is known")
		}
		o.Scenarios = []string{"hot"}
	}
	o.Given.Followers = []string{a.ClientURL()}
	if _, err := Run(ctx, o); err == nil || !strings.Contains(err.Error(), "same provider") {
		t.Errorf("the hub as its own follower: %v", err)
	}
}

// What can't be measured is said before anything starts.
func TestOptionsAreChecked(t *testing.T) {
	hub := Given{Hub: "https://a.example:8443", Followers: []string{"https://b.example:8443"}}
	for want, change := range map[string]func(*Options){
		"there is no scenario":                func(o *Options) { o.Scenarios = []string{"hott"} },
		"no scenario is asked for":            func(o *Options) { o.Scenarios = nil },
		"--seconds":                           func(o *Options) { o.Seconds = 0 },
		"--repeat":                            func(o *Options) { o.Repeat = 0 },
		"--size":                              func(o *Options) { o.Size = 1 << 30 },
		"--rooms":                             func(o *Options) { o.Rooms = -1 },
		"--connections":                       func(o *Options) { o.Idle = 0 },
		"--nodes is 7":                        func(o *Options) { o.Nodes = 7 },
		"name the address of one node":        func(o *Options) { o.Nodes, o.Given = 2, hub },
		"--cold":                              func(o *Options) { o.Cold = 0 },
		"--backlog":                           func(o *Options) { o.Backlog = 0 },
		"--followers has 0":                   func(o *Options) { o.Scenarios, o.Fanout = []string{"fanout"}, []int{0} },
		"--followers has 1000":                func(o *Options) { o.Scenarios, o.Fanout = []string{"fanout"}, []int{1000} },
		"--members":                           func(o *Options) { o.Members = []int{1} },
		"--follower is for":                   func(o *Options) { o.Given.Followers = hub.Followers },
		"--invite is for":                     func(o *Options) { o.Given.Invite = "x" },
		"--hub \"a.example\"":                 func(o *Options) { o.Given = Given{Hub: "a.example"} },
		"--follower \"http://b\"":             func(o *Options) { o.Given = Given{Hub: hub.Hub, Followers: []string{"http://b"}} },
		"--admin \"localhost:1\"":             func(o *Options) { o.Given = hub; o.Given.Admin = []string{"localhost:1"} },
		"--admin names 3":                     func(o *Options) { o.Given = hub; o.Given.Admin = []string{"", "", ""} },
		"hot needs a follower":                func(o *Options) { o.Given.Hub = hub.Hub },
		"cold can't be measured":              func(o *Options) { o.Given, o.Scenarios = hub, []string{"cold"} },
		"commits can't be measured":           func(o *Options) { o.Given, o.Scenarios = hub, []string{"commits"} },
		"fanout to 2 followers needs as many": func(o *Options) { o.Given, o.Scenarios = hub, []string{"fanout"} },
	} {
		o := Options{Program: "none", Scenarios: []string{"hot"}, Seconds: 1, Repeat: 1, Size: 1, Fanout: []int{2}, Rooms: 1, Idle: 1, Nodes: 1, Members: []int{2}, Cold: 1, Backlog: 1}
		if err := o.Check(); err != nil {
			t.Fatal(err)
		}
		change(&o)
		if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
