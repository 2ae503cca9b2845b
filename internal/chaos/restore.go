package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/internal/cluster"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/serve"
)

// Restore lets the members write, takes a backup of the first provider meanwhile,
// lets them go on, and puts the backup in the place of the provider's database:
// the epoch of the room that it hosts goes back, and so does its copy of the room
// that it follows. Afterwards everybody must be able to write to everybody again.
func Restore(ctx context.Context, o Options) (*Report, error) {
	logs, err := os.Create(filepath.Join(o.Dir, "devices.log"))
	if err != nil {
		return nil, err
	}
	defer logs.Close()
	w := newWorld(o, logs)
	start := time.Now()
	defer w.stop()
	if err := w.start(ctx); err != nil {
		return nil, err
	}
	first := w.cluster.Provider(domains[0])
	// While the backup is taken, messages are sent.
	w.everybodySends(ctx)
	copied := make(chan error, 1)
	file := filepath.Join(o.Dir, "backup")
	go func() {
		if o.Database != nil {
			copied <- tool(o.Database.Tool(ctx, "pg_dump", "-Fc", "-f", file, o.Store))
			return
		}
		copied <- backup(ctx, first, file)
	}()
	w.everybodySends(ctx)
	if err := <-copied; err != nil {
		return nil, err
	}
	w.everybodySends(ctx)
	for _, room := range w.rooms {
		for _, m := range w.core {
			w.did("key update", m, room, m.client.Commit(ctx, room))
		}
	}
	w.everybodySends(ctx)
	if err := w.heal(ctx); err != nil {
		return nil, err
	}
	w.Log("%v: restoring a backup of %s", time.Since(start).Round(time.Millisecond), first.Domain)
	restore := w.restoreSQLite
	if o.Database != nil {
		restore = w.restorePostgres
	}
	if err := restore(ctx, file); err != nil {
		return nil, err
	}
	// A device reads nothing of what was written before it came back in; all do
	// come back, and then everything reaches everybody.
	w.torn = true
	w.everybodySends(ctx)
	if err := w.heal(ctx); err != nil {
		return nil, err
	}
	after := w.everybodySends(ctx)
	if err := w.heal(ctx); err != nil {
		return nil, err
	}
	w.until(ctx, 10*time.Second, func() bool { return w.missing(ctx, after) == 0 })
	if n := w.missing(ctx, after); n != 0 {
		w.finding("%d messages written after everybody had come back are missing or shown twice", n)
	}
	for _, room := range w.rooms {
		w.checkStates(ctx, room)
		for _, m := range w.members {
			if r, err := m.client.Room(ctx, room); err != nil || r.Standing != client.Joined {
				w.finding("%s is out of %s: %s %s (%v)", m.name, room, r.Standing, r.Why, err)
			}
		}
	}
	return w.report(start), nil
}

// restoreSQLite puts a backup in the place of the first provider's database.
func (w *world) restoreSQLite(ctx context.Context, file string) error {
	first := w.cluster.Provider(domains[0])
	first.Kill()
	db := filepath.Join(first.Dir, "data", "comity.db")
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(db + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(file, db); err != nil {
		return err
	}
	return first.Restart(ctx)
}

// restorePostgres does it with a dump: all nodes are stopped, the database is made
// anew, and nobody gets to the first node before it was told.
func (w *world) restorePostgres(ctx context.Context, file string) error {
	var nodes []*cluster.Provider
	for _, p := range w.cluster.Providers {
		if p.Domain == domains[0] {
			nodes = append(nodes, p)
			p.Kill()
		}
	}
	u, err := url.Parse(w.Store)
	if err != nil {
		return err
	}
	name := strings.TrimPrefix(u.Path, "/")
	if err := w.Database.Drop(ctx, name); err != nil {
		return err
	}
	if _, err := w.Database.Create(ctx, name); err != nil {
		return err
	}
	if err := tool(w.Database.Tool(ctx, "pg_restore", "--exit-on-error", "-d", w.Store, file)); err != nil {
		return err
	}
	shut := []*proxy{w.doors[domains[0]]}
	for to, p := range w.links {
		if to[1] == domains[0] {
			shut = append(shut, p)
		}
	}
	for _, p := range shut {
		p.set(mood{refuse: true})
	}
	if err := nodes[0].Restart(ctx); err != nil {
		return err
	}
	if err := post(ctx, nodes[0], "restored", nil); err != nil {
		return err
	}
	for _, p := range shut {
		p.set(mood{})
	}
	for _, n := range nodes[1:] {
		if err := n.Restart(ctx); err != nil {
			return err
		}
	}
	return nil
}

// tool runs a program.
func tool(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd.Path, err, out)
	}
	return nil
}

// missing counts the messages that somebody does not show exactly once.
func (w *world) missing(ctx context.Context, sent map[mimi.RoomURI][]string) (missing int) {
	for _, room := range w.rooms {
		for _, m := range w.members {
			texts, err := m.texts(ctx, room)
			if err != nil {
				w.finding("%v", err)
			}
			n := map[string]int{}
			for _, text := range texts {
				n[text]++
			}
			for _, text := range sent[room] {
				if w.count("check: shown after the restoration"); n[text] != 1 {
					missing++
				}
			}
		}
	}
	return missing
}

// everybodySends makes each member write to each room once, and returns what.
func (w *world) everybodySends(ctx context.Context) map[mimi.RoomURI][]string {
	out := map[mimi.RoomURI][]string{}
	for _, room := range w.rooms {
		for _, m := range w.members {
			for range 3 {
				m.send(ctx, room)
				out[room] = append(out[room], fmt.Sprintf("%s-%d", m.name, m.n))
				time.Sleep(20 * time.Millisecond)
			}
		}
	}
	return out
}

// backup is comity admin backup.
func backup(ctx context.Context, p *cluster.Provider, file string) error {
	return post(ctx, p, "backup", serve.Backup{File: file})
}

// post asks the admin listener of a provider for something.
func post(ctx context.Context, p *cluster.Provider, what string, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.Admin+"/admin/v1/"+what, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", what, resp.Status)
	}
	return nil
}
