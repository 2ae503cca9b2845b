package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

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
	file := filepath.Join(o.Dir, "backup.db")
	go func() { copied <- backup(ctx, first, file) }()
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
	first.Kill()
	db := filepath.Join(first.Dir, "data", "comity.db")
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(db + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	if err := os.Rename(file, db); err != nil {
		return nil, err
	}
	if err := first.Restart(ctx); err != nil {
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
	}
	r := &Report{Seed: o.Seed, Took: time.Since(start), Counts: w.counts, Findings: w.findings}
	for _, m := range w.members {
		m.seenMu.Lock()
		r.Odd = append(r.Odd, m.odd...)
		m.seenMu.Unlock()
	}
	return r, nil
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
	body, err := json.Marshal(serve.Backup{File: file})
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.Admin+"/admin/v1/backup", bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("backup: %s", resp.Status)
	}
	return nil
}
