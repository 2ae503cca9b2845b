package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/provider"
)

const (
	// backlogRooms is in how many rooms messages wait for the follower that is away.
	backlogRooms = 20
	// sample is how often memory and queue are looked at meanwhile.
	sample = 100 * time.Millisecond
	// catchUpTime bounds how long a follower may take to catch up.
	catchUpTime = 10 * time.Minute
)

// backlog: a follower is away while very much is written for it, comes back, and
// catches up. Another follower's room is measured before and meanwhile: once
// for the time that messages take, and once, with another backlog, for how many
// there can be.
func (r *run) backlog() error {
	if err := r.start(2, 2); err != nil {
		return err
	}
	sender := r.senders[:1]
	if _, err := r.hubLoad().do(command{Op: "devices", Devices: r.senders, Count: 2}); err != nil {
		return err
	}
	away, live := r.targets[1], r.targets[2]
	room := func(users []mimi.UserURI, at *process, n int) (list []mimi.RoomURI, err error) {
		for range n {
			list = append(list, r.room())
		}
		if _, err := r.hubLoad().do(command{Op: "rooms", Devices: sender, Rooms: list}); err != nil {
			return nil, err
		}
		if _, err := r.hubLoad().do(command{Op: "add", Devices: sender, Rooms: list, Users: users}); err != nil {
			return nil, err
		}
		_, err = at.do(command{Op: "joined", Devices: []string{r.reader()}, Rooms: list})
		return list, err
	}
	awayLoad, liveLoad := r.byName[away.domain], r.byName[live.domain]
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
	away.Stop()
	write := func() error {
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
	var sent int64
	pace := func(seconds float64) error {
		a, err := r.hubLoad().do(command{Op: "paced", Devices: sender, Room: lively[0], Size: r.Size, Rate: rate, Seconds: seconds})
		if err == nil {
			sent += a.N
		}
		return err
	}
	arrived := func(when string) error {
		a, err := liveLoad.do(command{Op: "count", Count: int(sent)})
		if err != nil {
			return err
		}
		if int64(a.Times.Count) != sent {
			return fmt.Errorf("%d of %d messages were decrypted", a.Times.Count, sent)
		}
		what := fmt.Sprintf("from sending to decrypted at the other follower's client, at %.0f messages/s, %s, ", rate, when)
		r.add(Figure{Scenario: "backlog", What: what + "p50", Value: a.Times.P50, Unit: "ms", Floor: r.fsync.P50, FloorIs: "fsync p50"})
		r.add(Figure{Scenario: "backlog", What: what + "p99", Value: a.Times.P99, Unit: "ms", Floor: r.fsync.P99, FloorIs: "fsync p99"})
		return nil
	}
	if _, err := liveLoad.do(command{Op: "count", Decrypt: true}); err != nil {
		return err
	}
	if _, err := r.measured("backlog waits", func() error { return pace(r.Seconds) }); err != nil {
		return err
	}
	if err := arrived("while it waits"); err != nil {
		return err
	}
	sent = 0
	if _, err := liveLoad.do(command{Op: "count", Decrypt: true}); err != nil {
		return err
	}
	if _, err := r.measured("backlog caught up", func() error { return r.comeBack(away, waits, func() error { return pace(min(1, r.Seconds)) }) }); err != nil {
		return err
	}
	if err := arrived("while it is caught up with"); err != nil {
		return err
	}

	// How many there can be.
	away.Stop()
	if err := write(); err != nil {
		return err
	}
	// Messages are encrypted beforehand: that takes a core, too.
	c := command{Op: "prepare", Devices: sender, Room: lively[0], Size: r.Size, Count: int(prepared * r.Seconds), Window: 64, Seconds: r.Seconds}
	full := func() (float64, error) {
		start := time.Now()
		send := c
		send.Op = "send"
		a, err := r.hubLoad().do(send)
		if err != nil {
			return 0, err
		}
		total, err := r.delivered([]string{live.domain}, a.N)
		return float64(total) / time.Since(start).Seconds(), err
	}
	for i, when := range []string{"while it waits", "while it is caught up with"} {
		if _, err := r.hubLoad().do(c); err != nil {
			return err
		}
		if _, err := liveLoad.do(command{Op: "count"}); err != nil {
			return err
		}
		if i == 0 {
			rate, err = full()
		} else {
			rate = 0
			err = r.comeBack(away, waits, func() (err error) {
				if rate == 0 {
					rate, err = full()
				}
				time.Sleep(sample)
				return err
			})
		}
		if err != nil {
			return err
		}
		r.add(Figure{Scenario: "backlog", What: "accepted and delivered to the other follower's client, " + when, Value: rate, Unit: "messages/s", Floor: r.handle, FloorIs: "empty handler"})
	}
	return nil
}

// comeBack starts a follower that was away, does something again and again until
// the hub has nothing more for it, and says how long that took and what memory.
func (r *run) comeBack(away *target, waits float64, meanwhile func() error) error {
	if err := away.Restart(r.ctx); err != nil {
		return err
	}
	begun := time.Now()
	req, err := http.NewRequestWithContext(r.ctx, http.MethodPost, r.hub.admin+"/admin/v1/peers/"+away.domain+"/retry", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the hub does not try %s again: %s", away.domain, resp.Status)
	}
	ctx, stop := context.WithTimeout(r.ctx, catchUpTime)
	defer stop()
	var took time.Duration
	var hub, follower int64
	watched := make(chan error, 1)
	go func() {
		for {
			hub, follower = max(hub, r.hub.usage(ctx).rss), max(follower, away.usage(ctx).rss)
			left, err := r.queue(ctx, away.domain)
			if err != nil || left == 0 {
				took = time.Since(begun)
				watched <- err
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(sample):
			}
		}
	}()
	for done := false; !done; {
		if err := meanwhile(); err != nil {
			stop()
			return errors.Join(err, <-watched)
		}
		select {
		case err := <-watched:
			if err != nil {
				return err
			}
			done = true
		default:
		}
	}
	r.add(Figure{Scenario: "backlog", What: "caught up", Value: waits / took.Seconds(), Unit: "messages/s"})
	r.add(Figure{Scenario: "backlog", What: "the hub's highest memory meanwhile", Value: mib(hub), Unit: "MiB"})
	r.add(Figure{Scenario: "backlog", What: "the highest memory of the follower that catches up", Value: mib(follower), Unit: "MiB"})
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
