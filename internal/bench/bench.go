// Package bench loads providers and measures them. The providers and those who
// load them are processes of their own, all on this machine; every figure stands
// beside the floor that was measured in the same run: what an empty HTTPS
// handler does with the same requests, and what an fsync takes.
//
// Messages are encrypted before the clock runs, so that the providers are
// measured and not the load generator; where the time from sending to decrypting
// is measured, they are encrypted as they are sent.
package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/comity-im/comity/federation/devpki"
	"github.com/comity-im/comity/internal/cluster"
	"github.com/comity-im/comity/mimi"
)

// Options say what to measure.
type Options struct {
	Dir       string   // for the providers' data; empty: a temporary one
	Program   string   // the comity binary
	Scenarios []string // in order; see Scenarios
	Seconds   float64  // that each measurement takes
	Repeat    int      // how often each rate is measured; the median counts
	Size      int      // octets of application data in a message
	Fanout    []int    // numbers of followers
	Rooms     int      // quiet rooms
	Idle      int      // idle connections
	Nodes     int      // of the hub for idle, on one PostgreSQL; 1: one process, on SQLite
	Members   []int    // clients of the rooms in which commits are measured
	Cold      int      // rooms on disk at a cold start
	Backlog   int      // messages that wait for a follower that is away
	Profile   string   // folder for CPU profiles of the hub, a follower and the senders, for each scenario; empty: none
	Given     Given    // providers that run already; zero: they are started here
	Progress  io.Writer

	calm time.Duration // how long quiet waits for memory; 0: as long as a hub takes
}

// Scenarios are the names of all scenarios.
var Scenarios = []string{"hot", "federate", "latency", "fanout", "quiet", "idle", "cold", "backlog", "commits"}

// A Figure is one result.
type Figure struct {
	Scenario string  `json:"scenario"`
	What     string  `json:"what"`
	Value    float64 `json:"value"`
	Unit     string  `json:"unit"`
	Floor    float64 `json:"floor,omitempty"` // in the same unit
	FloorIs  string  `json:"floor_is,omitempty"`
	Aim      string  `json:"aim,omitempty"`
}

// A Use is what one process used in a scenario.
type Use struct {
	Scenario   string  `json:"scenario"`
	Process    string  `json:"process"`
	CPUPercent float64 `json:"cpu_percent"` // of one core
	MemoryMiB  float64 `json:"memory_mib"`  // at the end
}

// A Report is everything that was measured.
type Report struct {
	Started time.Time `json:"started"`
	CPUs    int       `json:"cpus"`
	Figures []Figure  `json:"figures"`
	Uses    []Use     `json:"processes"`
}

// run is one run of the benchmark.
type run struct {
	Options
	ctx    context.Context
	report Report

	cluster *cluster.Cluster // nil: they run elsewhere
	targets []*target        // the hub first
	hub     *target
	workers []*process
	byName  map[string]*process
	store   string // of the hub; empty: SQLite
	rooms   int
	suffix  string   // of the names of this run's users and rooms
	senders []string // the hub's clients that send

	fsync  Quantiles
	handle float64 // posts a second of the empty handler
	// µs of CPU time a post
	handleCPU, handleClientCPU float64
	top                        float64 // messages a second in the hot room
}

func (r *run) say(format string, args ...any) {
	if r.Progress != nil {
		fmt.Fprintf(r.Progress, format+"\n", args...)
	}
}

func (r *run) add(f Figure) {
	r.report.Figures = append(r.report.Figures, f)
	r.say("  %s: %s %s", f.What, number(f.Value), f.Unit)
}

// Run measures. A scenario that fails is in the error, and the report has the
// others.
func Run(ctx context.Context, o Options) (*Report, error) {
	if o.Dir == "" {
		dir, err := os.MkdirTemp("", "comity-bench")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
		o.Dir = dir
	}
	if err := o.Check(); err != nil {
		return nil, err
	}
	r := &run{Options: o, ctx: ctx, byName: map[string]*process{}}
	r.report = Report{Started: time.Now(), CPUs: cpus()}
	scenarios := map[string]func() error{
		"hot": r.hot, "federate": r.federate, "latency": r.latency, "fanout": r.fanout, "quiet": r.quiet,
		"idle": r.idle, "commits": r.commits, "cold": r.cold, "backlog": r.backlog,
	}
	defer r.stop()
	// What other machines could do at most isn't known here.
	if o.Given.Hub == "" {
		if err := r.floors(); err != nil {
			return nil, err
		}
	}
	var errs []error
	for _, name := range o.Scenarios {
		r.say("%s", name)
		if err := scenarios[name](); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err)) // the others may work
			r.say("  %v", err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return &r.report, errors.Join(errs...)
}

func (r *run) worker(name string) (*process, error) {
	if p := r.byName[name]; p != nil {
		return p, nil
	}
	p, err := startWorker(name, []string{r.Program, "bench-worker"})
	if err == nil {
		r.byName[name] = p
		r.workers = append(r.workers, p)
	}
	return p, err
}

// stop ends all processes.
func (r *run) stop() {
	for _, p := range r.workers {
		p.stop()
	}
	r.workers, r.byName = nil, map[string]*process{}
	if r.cluster != nil {
		r.cluster.Stop()
		r.cluster = nil
	}
	r.targets, r.hub = nil, nil
}

// domain names the follower i, from 1.
func domain(i int) string { return fmt.Sprintf("f%d.example", i) }

// start starts a hub with so many followers, a load generator for the clients of
// each of the first providers, and one that is a provider itself.
func (r *run) start(followers, loaded int) error {
	r.stop()
	if r.Given.Hub != "" {
		r.suffix = "-" + strings.ToLower(rand.Text()[:8]) // others may have been here before
	}
	r.senders = nil
	for i := range 4 {
		r.senders = append(r.senders, fmt.Sprintf("s%d%s", i+1, r.suffix))
	}
	if r.Given.Hub != "" {
		return r.attach(followers)
	}
	dir, err := os.MkdirTemp(r.Dir, "run")
	if err != nil {
		return err
	}
	domains := []string{"hub.example"}
	for i := range followers {
		domains = append(domains, domain(i+1))
	}
	foreignDir := filepath.Join(dir, "load")
	if err := os.MkdirAll(foreignDir, 0o700); err != nil {
		return err
	}
	if err := makeIssuer(foreignDir); err != nil {
		return err
	}
	listen, err := freeAddress()
	if err != nil {
		return err
	}
	own := map[string]string{}
	if r.store != "" {
		own["hub.example"] = fmt.Sprintf("store = %q", r.store)
	}
	r.cluster, err = cluster.Start(r.ctx, cluster.Options{
		Own: own,
		Dir: dir, Domains: domains, Command: []string{r.Program, "serve", "--config"}, LogLevel: "warn",
		Tables: "[limits]\npeer_per_second = 1000000.0\npeer_burst = 1000000\npeer_concurrent = 1000\nkeys_per_requester = 1000000\nkeys_per_provider = 1000000\n" +
			"client_per_second = 1000000.0\nclient_burst = 1000000\nclient_concurrent = 100000\nclient_connections = 1000000\nsubmits_per_second = 1000000.0\nsubmit_burst = 1000000\n" +
			fmt.Sprintf("\n[peers.peer.%q]\naddress = %q\nissuers = %q\n", foreignDomain, listen, filepath.Join(foreignDir, "issuer.pem")),
	})
	if err != nil {
		return err
	}
	for _, p := range r.cluster.Providers {
		r.targets = append(r.targets, &target{Provider: p, domain: p.Domain, admin: "http://" + p.Admin, data: filepath.Join(p.Dir, "data")})
	}
	r.hub = r.targets[0]
	ca, err := devpki.LoadOrCreateCA(filepath.Join(dir, "ca"), "")
	if err != nil {
		return err
	}
	pair, err := ca.Issue(devpki.Leaf{Names: []string{string(foreignDomain)}})
	if err != nil {
		return err
	}
	if _, _, err := pair.WriteFiles(foreignDir, string(foreignDomain)); err != nil {
		return err
	}
	peers := map[string]string{}
	for i, p := range r.cluster.Providers {
		peers[p.Domain] = p.Federation
		if i > loaded {
			continue
		}
		w, err := r.worker(p.Domain)
		if err != nil {
			return err
		}
		if _, err := w.do(command{Op: "open", URL: p.ClientURL(), CA: r.cluster.CAFile}); err != nil {
			return err
		}
	}
	w, err := r.worker(string(foreignDomain))
	if err != nil {
		return err
	}
	if _, err := w.do(command{Op: "open", CA: r.cluster.CAFile}); err != nil {
		return err
	}
	_, err = w.do(command{Op: "foreign", Dir: foreignDir, CA: r.cluster.CAFile, Listen: listen, Peers: peers})
	return err
}

// room is a new room of the hub.
func (r *run) room() mimi.RoomURI {
	r.rooms++
	uri, _ := mimi.NewRoomURI(mimi.ProviderDomain(r.hub.domain), fmt.Sprintf("room%d%s", r.rooms, r.suffix))
	return uri
}

// hubLoad is the process with the hub's own clients, foreignLoad the one that is
// a provider.
func (r *run) hubLoad() *process     { return r.byName[r.hub.domain] }
func (r *run) foreignLoad() *process { return r.byName[string(foreignDomain)] }

// hotRoom makes a room of the hub's senders and one client of each loaded
// follower.
func (r *run) hotRoom(loaded int, foreign bool) (mimi.RoomURI, []mimi.UserURI, error) {
	a, err := r.hubLoad().do(command{Op: "devices", Devices: r.senders, Count: 4})
	if err != nil {
		return "", nil, err
	}
	users := a.Users[1:]
	for i := range loaded {
		a, err := r.byName[r.follower(i+1)].do(command{Op: "devices", Devices: []string{r.reader()}, Count: 4})
		if err != nil {
			return "", nil, err
		}
		users = append(users, a.Users...)
	}
	uri := r.room()
	if _, err := r.hubLoad().do(command{Op: "rooms", Devices: r.senders[:1], Rooms: []mimi.RoomURI{uri}}); err != nil {
		return "", nil, err
	}
	var others []mimi.UserURI
	if foreign {
		f, err := r.foreignLoad().do(command{Op: "users", Count: 1})
		if err != nil {
			return "", nil, err
		}
		others = f.Users
		if _, err := r.hubLoad().do(command{Op: "add", Devices: r.senders[:1], Room: uri, Users: append(slices.Clone(others), users...), Packages: f.Packages}); err != nil {
			return "", nil, err
		}
	} else if _, err := r.hubLoad().do(command{Op: "add", Devices: r.senders[:1], Room: uri, Users: users}); err != nil {
		return "", nil, err
	}
	if _, err := r.hubLoad().do(command{Op: "joined", Devices: r.senders, Room: uri}); err != nil {
		return "", nil, err
	}
	for i := range loaded {
		if _, err := r.byName[r.follower(i+1)].do(command{Op: "joined", Devices: []string{r.reader()}, Room: uri}); err != nil {
			return "", nil, err
		}
	}
	return uri, others, nil
}
