package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/provider"
)

const (
	// backlogRooms is in how many rooms messages wait for the follower that is away.
	backlogRooms = 20
	// sample is how often memory and queue are looked at meanwhile.
	sample = 100 * time.Millisecond
	// cursors is how often a hub writes what followers have.
	cursors = 200 * time.Millisecond
	// catchUpTime bounds how long a follower may take to catch up.
	catchUpTime = 10 * time.Minute
)

// backlog: a follower is away while very much is written for it, comes back, and
// catches up. Meanwhile clients write in a room of another follower, and in one of
// its own: by turns it is held back and catches up, so that what that does to them
// is measured beside how it is without, whatever else the machine does. Once for
// the time that messages take, and once, with another backlog, for how many there
// can be.
func (r *run) backlog() error {
	if err := r.start(2, 2); err != nil {
		return err
	}
	sender := r.senders[:1]
	if _, err := r.hubLoad().do(command{Op: "devices", Devices: r.senders, Count: 2}); err != nil {
		return err
	}
	away, live := r.targets[1], r.targets[2]
	awayLoad, liveLoad := r.byName[away.domain], r.byName[live.domain]
	room := func(users []mimi.UserURI, at *process, n int) (list []mimi.RoomURI, err error) {
		for range n {
			list = append(list, r.room())
		}
		return list, r.found(r.hubLoad(), sender, list, users, at, r.reader())
	}
	a, err := awayLoad.do(command{Op: "devices", Devices: []string{r.reader()}, Count: backlogRooms + 1})
	if err != nil {
		return err
	}
	rooms, err := room(a.Users, awayLoad, backlogRooms)
	if err != nil {
		return err
	}
	if a, err = liveLoad.do(command{Op: "devices", Devices: []string{r.reader()}, Count: 2}); err != nil {
		return err
	}
	lively, err := room(a.Users, liveLoad, 1)
	if err != nil {
		return err
	}
	// What no backlog takes.
	collected(r.ctx, r.hub.admin)
	r.add(Figure{Scenario: "backlog", What: "the hub's memory with nothing waiting", Value: mib(r.hub.usage(r.ctx).rss), Unit: "MiB"})
	write := func() error {
		away.Stop()
		for left := r.Backlog; left > 0; left -= int(prepared) {
			c := command{Op: "send", Devices: sender, Rooms: rooms, Size: r.Size, Count: min(left, prepared), Window: 64, Seconds: catchUpTime.Seconds()}
			if _, err := r.send("writing the backlog", c, nil); err != nil {
				return err
			}
		}
		return nil
	}
	if err := write(); err != nil {
		return err
	}
	waits, err := r.queue(r.ctx, away.domain)
	if err != nil {
		return err
	}
	r.add(Figure{Scenario: "backlog", What: fmt.Sprintf("messages that wait for a follower that is away, in %d rooms", backlogRooms), Value: waits, Unit: "messages"})
	collected(r.ctx, r.hub.admin)
	r.add(Figure{Scenario: "backlog", What: "the hub's memory meanwhile, after garbage collection", Value: mib(r.hub.usage(r.ctx).rss), Unit: "MiB"})

	// The time that messages take.
	rate := max(r.top/10, 100)
	if err := r.comeBack(away); err != nil {
		return err
	}
	own, err := mimi.NewRoomURI(mimi.ProviderDomain(away.domain), "own"+r.suffix)
	if err != nil {
		return err
	}
	names := []string{"own1" + r.suffix, "own2" + r.suffix}
	if a, err = awayLoad.do(command{Op: "devices", Devices: names, Count: 2}); err != nil {
		return err
	}
	if err := r.found(awayLoad, names[:1], []mimi.RoomURI{own}, a.Users[1:], awayLoad, names[1]); err != nil {
		return err
	}
	others := []watch{
		{what: "from sending to decrypted at the other follower's client, at %.0f messages/s", rate: rate, room: lively[0], from: r.hubLoad(), sender: sender, to: liveLoad},
		{what: "from sending to decrypted in a room of the follower's own, at %.0f messages/s", rate: rate / 4, room: own, from: awayLoad, sender: names[:1], to: awayLoad},
	}
	err = r.byTurns("backlog", away, fmt.Sprintf("caught up, beside %.0f live messages/s", rate), func(catching bool) error {
		errs := make([]error, len(others))
		var wg sync.WaitGroup
		for i := range others {
			wg.Go(func() { errs[i] = r.paced(&others[i], catching) })
		}
		wg.Wait()
		return errors.Join(errs...)
	})
	if err != nil {
		return err
	}
	for i := range others {
		w := &others[i]
		without, with := quantiles(w.times[0]), quantiles(w.times[1])
		what := fmt.Sprintf(w.what, w.rate)
		r.beside(what+", p50", without.P50, with.P50, "ms")
		r.beside(what+", p99", without.P99, with.P99, "ms")
	}

	// How many there can be.
	if err := write(); err != nil {
		return err
	}
	if err := r.comeBack(away); err != nil {
		return err
	}
	var sent, seconds [2]float64
	err = r.byTurns("backlog at full load", away, "caught up, beside as many live messages as may be", func(catching bool) error {
		i := 0
		if catching {
			i = 1
		}
		start := time.Now()
		a, err := r.hubLoad().do(command{Op: "send", Devices: sender, Room: lively[0], Size: r.Size, Window: 64, Seconds: r.turn().Seconds()})
		if err != nil {
			return err
		}
		total, err := r.delivered([]string{live.domain}, a.N)
		sent[i] += float64(total)
		seconds[i] += time.Since(start).Seconds()
		return err
	}, func() error {
		// Messages are encrypted beforehand: that takes a core, too.
		if _, err := r.hubLoad().do(command{Op: "prepare", Devices: sender, Room: lively[0], Size: r.Size, Count: int(prepared * r.turn().Seconds())}); err != nil {
			return err
		}
		_, err := liveLoad.do(command{Op: "count"})
		return err
	})
	if err != nil {
		return err
	}
	r.beside("accepted and delivered to the other follower's client, as many as may be", sent[0]/seconds[0], sent[1]/seconds[1], "messages/s")
	return nil
}

// found makes rooms of a sender and other users, one of whom waits until it is in.
func (r *run) found(load *process, sender []string, rooms []mimi.RoomURI, users []mimi.UserURI, at *process, reader string) error {
	if _, err := load.do(command{Op: "rooms", Devices: sender, Rooms: rooms}); err != nil {
		return err
	}
	if _, err := load.do(command{Op: "add", Devices: sender, Rooms: rooms, Users: users}); err != nil {
		return err
	}
	_, err := at.do(command{Op: "joined", Devices: []string{reader}, Rooms: rooms})
	return err
}

// beside adds a figure without and with a follower that catches up, and what the
// second is of the first.
func (r *run) beside(what string, without, with float64, unit string) {
	r.add(Figure{Scenario: "backlog", What: what + ", while the follower is held back", Value: without, Unit: unit})
	r.add(Figure{Scenario: "backlog", What: what + ", while it catches up", Value: with, Unit: unit})
	r.add(Figure{Scenario: "backlog", What: what + ", the latter of the former", Value: with / without, Unit: "×"})
}

// A watch is a room in which the time that messages take is measured.
type watch struct {
	what     string
	rate     float64 // messages a second
	room     mimi.RoomURI
	from, to *process
	sender   []string
	times    [2][]time.Duration // while the follower is held back, and while it catches up
}

// paced sends to a room for one turn, and takes the times.
func (r *run) paced(w *watch, catching bool) error {
	if _, err := w.to.do(command{Op: "count", Decrypt: true}); err != nil {
		return err
	}
	sent, err := w.from.do(command{Op: "paced", Devices: w.sender, Room: w.room, Size: r.Size, Rate: w.rate, Seconds: r.turn().Seconds()})
	if err != nil {
		return err
	}
	a, err := w.to.do(command{Op: "count", Count: int(sent.N), Each: true})
	if err != nil {
		return err
	}
	if int64(len(a.Each)) != sent.N {
		return fmt.Errorf("%d of %d messages were decrypted", len(a.Each), sent.N)
	}
	i := 0
	if catching {
		i = 1
	}
	w.times[i] = append(w.times[i], a.Each...)
	return nil
}

// turn is how long a follower is held back, and then catches up.
func (r *run) turn() time.Duration {
	return time.Duration(min(r.Seconds, 1) * float64(time.Second))
}

// manyTurns is after how many turns it is known how it is.
const manyTurns = 8

// byTurns holds a follower back and lets it catch up, until it has or it was
// enough, and says how fast it did and what memory that took. Meanwhile it does
// something, in each turn, and prepares that while the follower is held back. What
// is left then the follower gets with nothing else to do.
func (r *run) byTurns(scenario string, away *target, what string, meanwhile func(catching bool) error, prepare ...func() error) error {
	var hub, follower int64
	ctx, stop := context.WithTimeout(r.ctx, catchUpTime)
	defer stop()
	watched, done := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for watched.Err() == nil {
			hub, follower = max(hub, r.hub.usage(watched).rss), max(follower, away.usage(watched).rss)
			select {
			case <-watched.Done():
			case <-time.After(sample):
			}
		}
	})
	defer wg.Wait()
	defer done()
	left, err := r.queue(ctx, away.domain)
	if err != nil {
		return err
	}
	caught, seconds := 0.0, 0.0
	for n := 0; n < 2*manyTurns && left > 0; n++ {
		for _, f := range prepare {
			if err := f(); err != nil {
				return err
			}
		}
		catching := n%2 == 1
		turn := func() error { return meanwhile(catching) }
		if catching {
			if err := r.peer(away.domain, "resume"); err != nil {
				return err
			}
		}
		begun := time.Now()
		if n < 2 {
			_, err = r.measured(scenario+[]string{" waits", " caught up"}[n], turn)
		} else {
			err = turn()
		}
		if err != nil {
			return err
		}
		if !catching {
			continue
		}
		if err := r.peer(away.domain, "pause"); err != nil {
			return err
		}
		took := time.Since(begun).Seconds()
		time.Sleep(2 * cursors)
		now, err := r.queue(ctx, away.domain)
		if err != nil {
			return err
		}
		// One that was done before the turn was tells little.
		if now > 0 || seconds == 0 {
			caught, seconds = caught+left-now, seconds+took
		}
		left = now
	}
	r.add(Figure{Scenario: "backlog", What: what, Value: caught / seconds, Unit: "messages/s"})
	if err := r.peer(away.domain, "resume"); err != nil {
		return err
	}
	begun, rest := time.Now(), left
	for left > 0 {
		time.Sleep(sample)
		if left, err = r.queue(ctx, away.domain); err != nil {
			return err
		}
	}
	if took := time.Since(begun); took > 10*sample {
		r.add(Figure{Scenario: "backlog", What: "caught up, with nothing else to do", Value: rest / took.Seconds(), Unit: "messages/s"})
	}
	done()
	wg.Wait()
	r.add(Figure{Scenario: "backlog", What: "the hub's highest memory meanwhile", Value: mib(hub), Unit: "MiB"})
	r.add(Figure{Scenario: "backlog", What: "the highest memory of the follower that catches up", Value: mib(follower), Unit: "MiB"})
	return nil
}

// comeBack starts a follower that was away; the hub holds what it has for it back.
func (r *run) comeBack(away *target) error {
	if err := r.peer(away.domain, "pause"); err != nil {
		return err
	}
	if err := away.Restart(r.ctx); err != nil {
		return err
	}
	return r.peer(away.domain, "retry")
}

// peer does something with the hub's queue for a follower.
func (r *run) peer(domain, action string) error {
	req, err := http.NewRequestWithContext(r.ctx, http.MethodPost, r.hub.admin+"/admin/v1/peers/"+domain+"/"+action, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the hub does not %s the queue of %s: %s", action, domain, resp.Status)
	}
	return nil
}

func mib(octets int64) float64 { return float64(octets) / (1 << 20) }

// queue is how many events wait at the hub for a follower.
func (r *run) queue(ctx context.Context, follower string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.hub.admin+"/admin/v1/status", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var status provider.Status
	if err := json.NewDecoder(resp.Body).Decode(&status); err != nil {
		return 0, fmt.Errorf("the hub's status can't be read: %w", err)
	}
	for _, q := range status.Queues {
		if string(q.Follower) == follower {
			return float64(q.Events), nil
		}
	}
	return 0, nil
}
