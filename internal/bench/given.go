package bench

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/comity-im/comity/internal/cluster"
)

// Given are providers that run already, on this machine or others, and what is
// needed to load them.
type Given struct {
	Hub       string   // its client address, such as https://a.example:8443
	Followers []string // the client addresses of others
	// Admin are the admin listeners of the hub and of the followers, in their
	// order, such as http://127.0.0.1:9090; where there are fewer, or one is
	// empty, CPU time and memory of those providers are not known.
	Admin  []string
	CA     string // file with the authority of their certificates; empty: the system's
	Invite string // for registering users, where a provider wants one
}

// ours are the scenarios that only providers started here can be put to.
var ours = map[string]string{
	"federate": "the load generator is a follower in it, with an issuer that the hub must know beforehand",
	"commits":  "the users that fill its rooms are those of a provider that the load generator plays, whose issuer the hub must know beforehand",
	"backlog":  "a follower is stopped in it and started again",
	"cold":     "the hub is stopped in it and its database filled with rooms",
}

// GivenScenarios are the others.
var GivenScenarios = []string{"hot", "latency", "fanout", "quiet", "idle"}

// Check says what can't be measured, and why.
func (o *Options) Check() error {
	for _, name := range o.Scenarios {
		if !slices.Contains(Scenarios, name) {
			return fmt.Errorf("there is no scenario %q; there are %s", name, strings.Join(Scenarios, ", "))
		}
		if why := ours[name]; why != "" && o.Given.Hub != "" {
			return fmt.Errorf("%s can't be measured at a provider that runs already (--hub): %s", name, why)
		}
	}
	switch {
	case len(o.Scenarios) == 0:
		return fmt.Errorf("no scenario is asked for; there are %s", strings.Join(Scenarios, ", "))
	case o.Seconds <= 0:
		return fmt.Errorf("--seconds is %v: it must be above 0", o.Seconds)
	case o.Repeat < 1:
		return fmt.Errorf("--repeat is %d: it must be 1 at least", o.Repeat)
	case o.Size < 1 || o.Size > 256<<10:
		return fmt.Errorf("--size is %d: it must be from 1 to %d octets", o.Size, 256<<10)
	case o.Rooms < 1:
		return fmt.Errorf("--rooms is %d: it must be 1 at least", o.Rooms)
	case o.Idle < 1:
		return fmt.Errorf("--connections is %d: it must be 1 at least", o.Idle)
	case o.Nodes < 1 || o.Nodes > 6:
		return fmt.Errorf("--nodes is %d: it must be from 1 to 6, for which the PostgreSQL that is started has connections", o.Nodes)
	case o.Nodes > 1 && o.Given.Hub != "":
		return errors.New("--nodes is of a hub that is started here: name the address of one node, or of the load balancer, with --hub alone")
	case o.Cold < 1:
		return fmt.Errorf("--cold is %d: it must be 1 at least", o.Cold)
	case o.Backlog < 1:
		return fmt.Errorf("--backlog is %d: it must be 1 at least", o.Backlog)
	}
	for _, n := range o.Fanout {
		if slices.Contains(o.Scenarios, "fanout") && (n < 1 || n > 200) {
			return fmt.Errorf("--followers has %d: it must be from 1 to 200, since each is a process", n)
		}
	}
	for _, n := range o.Members {
		if n < 2 || n > 100_000 {
			return fmt.Errorf("--members has %d: it must be from 2 to 100000", n)
		}
	}
	g := o.Given
	if g.Hub == "" {
		for flag, set := range map[string]bool{"--follower": len(g.Followers) > 0, "--admin": len(g.Admin) > 0, "--ca": g.CA != "", "--invite": g.Invite != ""} {
			if set {
				return fmt.Errorf("%s is for providers that run already: name the hub with --hub https://host:port, too", flag)
			}
		}
		return nil
	}
	for i, a := range append([]string{g.Hub}, g.Followers...) {
		if u, err := url.Parse(a); err != nil || u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("%s %q is not a client address of the form https://host:port", []string{"--hub", "--follower"}[min(i, 1)], a)
		}
	}
	for _, a := range g.Admin {
		if u, err := url.Parse(a); a != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
			return fmt.Errorf("--admin %q is not an admin listener's address of the form http://host:port", a)
		}
	}
	if len(g.Admin) > 1+len(g.Followers) {
		return fmt.Errorf("--admin names %d listeners of %d providers", len(g.Admin), 1+len(g.Followers))
	}
	for _, name := range o.Scenarios {
		if len(g.Followers) == 0 && (name == "hot" || name == "latency" || name == "fanout") {
			return fmt.Errorf("%s needs a follower: name its client address with --follower", name)
		}
		if n := slices.Max(append([]int{0}, o.Fanout...)); name == "fanout" && n > len(g.Followers) {
			return fmt.Errorf("fanout to %d followers needs as many --follower; %d are given", n, len(g.Followers))
		}
	}
	return nil
}

// A target is a provider that is loaded.
type target struct {
	*cluster.Provider // nil: it runs elsewhere
	domain            string
	admin             string // URL of its admin listener; empty: not known
	data              string // folder of its data; empty: not known
}

// usage is what it has used so far; zero if that is not known.
func (t *target) usage(ctx context.Context) usage {
	if t.Provider != nil {
		return usageOf(t.PID())
	}
	m, err := scrape(ctx, t.admin)
	if err != nil {
		return usage{}
	}
	return usage{time.Duration(m["process_cpu_seconds_total"] * float64(time.Second)), int64(m["process_resident_memory_bytes"])}
}

// attach makes the given providers those that are loaded.
func (r *run) attach(followers int) error {
	g := r.Given
	for i, address := range append([]string{g.Hub}, g.Followers[:followers]...) {
		t := &target{}
		if i < len(g.Admin) {
			t.admin = strings.TrimSuffix(g.Admin[i], "/")
		}
		p, err := startWorker(address, []string{r.Program, "bench-worker"})
		if err != nil {
			return err
		}
		r.workers = append(r.workers, p)
		a, err := p.do(command{Op: "open", URL: address, CA: g.CA, Invite: g.Invite})
		if err != nil {
			return err
		}
		p.name, t.domain = a.Domain, a.Domain
		if r.byName[a.Domain] != nil {
			return fmt.Errorf("%s is the same provider as one named before: %s", address, a.Domain)
		}
		r.byName[a.Domain] = p
		r.targets = append(r.targets, t)
	}
	r.hub = r.targets[0]
	return nil
}

// pair is how many followers a room has that is to have two.
func (r *run) pair() int {
	if r.Given.Hub != "" {
		return min(2, len(r.Given.Followers))
	}
	return 2
}

// follower is the domain of the follower i, from 1.
func (r *run) follower(i int) string { return r.targets[i].domain }

func (r *run) readers(n int) (list []string) {
	for i := range n {
		list = append(list, r.follower(i+1))
	}
	return list
}

// reader is the name of the client that reads at each follower.
func (r *run) reader() string { return "reader" + r.suffix }
