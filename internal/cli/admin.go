package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/comity-im/comity/federation"
	"github.com/comity-im/comity/provider"
	"github.com/comity-im/comity/serve"
)

// Admin asks a running provider, over its admin listener.
type Admin struct {
	At   string `help:"The provider's admin address." default:"127.0.0.1:8445" env:"COMITY_ADMIN"`
	JSON bool   `help:"Print JSON." name:"json"`

	Status   AdminStatus         `cmd:"" help:"Sizes, rooms, connections, queues."`
	Rooms    AdminRooms          `cmd:"" help:"Rooms, those with the longest logs first: events that are kept, and who reads them."`
	Peers    AdminPeers          `cmd:"" help:"All peers: how they are, when they were last well."`
	Peer     AdminPeer           `cmd:"" help:"One peer: which side is failing and how, and what waits for it; or change how we deal with it."`
	Policy   AdminPolicy         `cmd:"" help:"Whom we talk to: everybody who is not blocked (open), or those on the allow list."`
	Reports  AdminReports        `cmd:"" help:"Abuse reports, the newest first."`
	Rotate   AdminRotateFranking `cmd:"" name:"rotate-franking" help:"Replace the secret that messages are franked with; it also happens by itself (limits.franking_age)."`
	Backup   AdminBackup         `cmd:"" help:"Copy the SQLite database to a file while the provider runs."`
	Restored AdminRestored       `cmd:"" help:"Say that the PostgreSQL database was restored from a backup, once, before clients connect."`
	User     AdminUser           `cmd:"" help:"What the provider vouches for of a user, for rooms that preauthorize by it."`
}

// call asks the admin listener.
func (a *Admin) call(ctx context.Context, method, path string, in io.Reader, out any) error {
	r, err := http.NewRequestWithContext(ctx, method, "http://"+a.At+"/admin/v1/"+path, in)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("no provider answers at %s; name its admin address with --at (listen.admin in its config)", a.At)
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the provider says: %s", strings.TrimSpace(string(b)))
	}
	return json.Unmarshal(b, out)
}

// show prints v as JSON if that is asked for, else by f.
func (a *Admin) show(out io.Writer, v any, f func(w io.Writer)) error {
	if a.JSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	f(w)
	return w.Flush()
}

// AdminStatus is comity admin status.
type AdminStatus struct{}

// Run prints the provider's status.
func (AdminStatus) Run(ctx context.Context, a *Admin, out io.Writer) error {
	var s provider.Status
	if err := a.call(ctx, http.MethodGet, "status", nil, &s); err != nil {
		return err
	}
	return a.show(out, s, func(w io.Writer) {
		fmt.Fprintf(w, "domain\t%s\ndatabase\t%s, %.1f MiB\nusers\t%d\nrooms\t%d, of which hosted here %d, in memory %d\nclients connected\t%d\n",
			s.Domain, s.Engine, float64(s.DatabaseBytes)/(1<<20), s.Users, s.Rooms, s.HostedRooms, s.RoomsInMemory, s.Connected)
		if len(s.Queues) == 0 {
			fmt.Fprintf(w, "queues\tempty\n")
		}
		for _, q := range s.Queues {
			printQueue(w, q)
		}
	})
}

func printQueue(w io.Writer, q provider.Queue) {
	fmt.Fprintf(w, "waits for %s\t%d events in %d rooms", q.Follower, q.Events, q.Rooms)
	if !q.Oldest.IsZero() {
		fmt.Fprintf(w, ", the oldest since %s", q.Oldest.Format(time.DateTime))
	}
	if q.Paused {
		fmt.Fprint(w, ", paused")
	}
	if q.Failure != "" {
		fmt.Fprintf(w, "; failed %d times: %s; next try %s", q.Failures, q.Failure, q.RetryAt.Format(time.TimeOnly))
	}
	fmt.Fprintln(w)
}

// AdminRooms is comity admin rooms.
type AdminRooms struct {
	Limit int `help:"How many." default:"50"`
}

// Run lists rooms.
func (r *AdminRooms) Run(ctx context.Context, a *Admin, out io.Writer) error {
	var list []provider.Room
	if err := a.call(ctx, http.MethodGet, fmt.Sprintf("rooms?limit=%d", r.Limit), nil, &list); err != nil {
		return err
	}
	return a.show(out, list, func(w io.Writer) {
		fmt.Fprintln(w, "ROOM\tEVENTS KEPT\tNEWEST\tCLIENTS HERE\tBEHIND\tFOLLOWERS")
		for _, r := range list {
			newest := "-"
			if !r.Newest.IsZero() {
				newest = r.Newest.Format(time.DateTime)
			}
			fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%d\t%d\n", r.Room, r.Events, newest, r.Clients, r.Behind, r.Followers)
		}
	})
}

// AdminPeers is comity admin peers.
type AdminPeers struct{}

// Run lists the peers.
func (AdminPeers) Run(ctx context.Context, a *Admin, out io.Writer) error {
	var list []federation.PeerStatus
	if err := a.call(ctx, http.MethodGet, "peers", nil, &list); err != nil {
		return err
	}
	return a.show(out, list, func(w io.Writer) {
		for _, p := range list {
			state := "ok"
			switch {
			case p.Blocked:
				state = "blocked: " + p.Why
			case p.Failure != "" && p.LastFailure.After(p.LastReached):
				state = "failing: " + p.Failure
			}
			fmt.Fprintf(w, "%s\t%s\n", p.Domain, state)
		}
	})
}

// AdminPolicy is comity admin policy.
type AdminPolicy struct {
	Policy string `arg:"" optional:"" enum:"show,open,allowlist,config" default:"show" help:"open, allowlist, or config: as the config says."`
}

// Run shows or changes the policy.
func (p *AdminPolicy) Run(ctx context.Context, a *Admin, out io.Writer) error {
	v := serve.PeerPolicy{Policy: p.Policy}
	method, body := http.MethodGet, io.Reader(nil)
	if p.Policy != "show" {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		method, body = http.MethodPut, bytes.NewReader(b)
	}
	if err := a.call(ctx, method, "policy", body, &v); err != nil {
		return err
	}
	return a.show(out, v, func(w io.Writer) { fmt.Fprintln(w, v.Policy) })
}

// AdminPeer is comity admin peer.
type AdminPeer struct {
	Domain     string  `arg:"" help:"The peer's domain."`
	PerSecond  float64 `help:"For quota: requests a second; 0: as the config says."`
	Burst      int     `help:"For quota: requests at once."`
	Concurrent int     `help:"For quota: requests under way."`
	Action     string  `arg:"" optional:"" enum:"show,block,unblock,allow,disallow,quota,pause,resume,retry,drop" default:"show" help:"block: the kill switch; allow: put it on the allow list; quota: what it may ask; pause, resume: delivery; retry: deliver now; drop: give up what waits."`
}

// Run shows or changes one peer.
func (p *AdminPeer) Run(ctx context.Context, a *Admin, out io.Writer) error {
	if p.Action != "show" {
		var done map[string]string
		body, err := json.Marshal(provider.PeerSettings{PerSecond: p.PerSecond, Burst: p.Burst, Concurrent: p.Concurrent})
		if err != nil {
			return err
		}
		if err := a.call(ctx, http.MethodPost, "peers/"+p.Domain+"/"+p.Action, bytes.NewReader(body), &done); err != nil {
			return err
		}
		return a.show(out, done, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", p.Domain, p.Action) })
	}
	var v struct {
		Report federation.Report `json:"report"`
		Queue  provider.Queue    `json:"queue"`
	}
	if err := a.call(ctx, http.MethodGet, "peers/"+p.Domain, nil, &v); err != nil {
		return err
	}
	return a.show(out, v, func(w io.Writer) {
		fmt.Fprintln(w, v.Report.Text)
		for _, c := range v.Report.Checks {
			mark := "ok"
			if !c.OK {
				mark = "FAILS"
			}
			fmt.Fprintf(w, "  %s\t%s\t%v\t%s\n", c.Step, mark, c.Took.Round(time.Millisecond), c.Text)
		}
		if last := v.Report.Health.LastReached; !last.IsZero() {
			fmt.Fprintf(w, "last well\t%s\n", last.Format(time.DateTime))
		}
		printQueue(w, v.Queue)
	})
}

// AdminRotateFranking is comity admin rotate-franking.
type AdminRotateFranking struct{}

// Run replaces the franking secret.
func (AdminRotateFranking) Run(ctx context.Context, a *Admin, out io.Writer) error {
	var v struct {
		From time.Time `json:"from"`
	}
	if err := a.call(ctx, http.MethodPost, "rotate-franking", nil, &v); err != nil {
		return err
	}
	return a.show(out, v, func(w io.Writer) {
		fmt.Fprintf(w, "messages are franked with a new secret from %s on; reports of older ones are verified as before\n", v.From.Format(time.TimeOnly))
	})
}

// AdminReports is comity admin reports.
type AdminReports struct{}

// Run lists abuse reports.
func (AdminReports) Run(ctx context.Context, a *Admin, out io.Writer) error {
	var list []provider.Report
	if err := a.call(ctx, http.MethodGet, "reports", nil, &list); err != nil {
		return err
	}
	return a.show(out, list, func(w io.Writer) {
		if len(list) == 0 {
			fmt.Fprintln(w, "no reports")
		}
		for _, r := range list {
			fmt.Fprintf(w, "#%d\t%s\t%s about %s\n\tverdict\t%s\n", r.ID, r.Received.Format(time.DateTime), cmp.Or(string(r.Room), "any room"), r.Abuser, r.Verdict)
			if r.Note != "" {
				fmt.Fprintf(w, "\tnote\t%q\n", r.Note)
			}
			for _, m := range r.Messages {
				fmt.Fprintf(w, "\tmessage\t%s\n", m)
			}
		}
	})
}

// AdminBackup is comity admin backup.
type AdminBackup struct {
	File string `arg:"" help:"A file that does not exist yet, on the provider's machine." type:"path"`
}

// Run makes the provider copy its database.
func (b *AdminBackup) Run(ctx context.Context, a *Admin, out io.Writer) error {
	v := serve.Backup{File: b.File}
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := a.call(ctx, http.MethodPost, "backup", bytes.NewReader(body), &v); err != nil {
		return err
	}
	return a.show(out, v, func(w io.Writer) {
		fmt.Fprintf(w, "%s\t%d octets; uploaded files are in the folder assets and are copied with it\n", v.File, v.Bytes)
	})
}

// AdminRestored is comity admin restored.
type AdminRestored struct{}

// Run makes a restored database safe to go on from.
func (AdminRestored) Run(ctx context.Context, a *Admin, out io.Writer) error {
	var none struct{}
	if err := a.call(ctx, http.MethodPost, "restored", nil, &none); err != nil {
		return err
	}
	return a.show(out, none, func(w io.Writer) { fmt.Fprintln(w, "events go on with new numbers; clients upload new KeyPackages") })
}

// AdminUser is comity admin user.
type AdminUser struct {
	Name       string `arg:"" help:"The user's name."`
	Attributes string `arg:"" help:"JSON file with common_name, organization, organizational_unit, country, locality; - for standard input." type:"path"`
}

// Run replaces what is vouched for of a user.
func (u *AdminUser) Run(ctx context.Context, a *Admin, out io.Writer) error {
	in := io.Reader(os.Stdin)
	if u.Attributes != "-" {
		f, err := os.Open(u.Attributes)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	var at provider.Attributes
	if err := a.call(ctx, http.MethodPut, "users/"+u.Name+"/attributes", in, &at); err != nil {
		return err
	}
	return a.show(out, at, func(w io.Writer) { fmt.Fprintf(w, "noted; the next certificates of %s will say so\n", u.Name) })
}
