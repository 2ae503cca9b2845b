package client_test

import (
	"crypto/x509"
	"sync"
	"testing"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
)

// expiries are when the credentials of all leaves of a room expire, as a device sees it.
func (d *device) expiries(uri mimi.RoomURI) (list []time.Time) {
	d.w.t.Helper()
	err := d.Inspect(d.w.ctx, uri, func(r *room.Room) error {
		tree := r.Group().Tree()
		for i := range tree.Leaves() {
			cert, err := x509.ParseCertificate(tree.Leaf(i).Credential.Certificates[0].CertData)
			if err != nil {
				return err
			}
			list = append(list, cert.NotAfter)
		}
		return nil
	})
	if err != nil {
		d.w.t.Fatal(err)
	}
	return list
}

// TestRenewal: before a credential expires the device brings its new one into its rooms, so that rooms can still be joined
// when the old one has expired.
func TestRenewal(t *testing.T) {
	w, alice, bob, carol, uri := three(t, client.NewRoom{})
	old := alice.expiries(uri)
	w.ahead.Store(int64(320 * 24 * time.Hour)) // of 400 days
	devices := []*device{alice, bob, carol}
	for _, d := range devices {
		d.restart()
	}
	for _, d := range devices {
		d.waitRoom(uri, "new credentials", func(client.Room) bool {
			list := d.expiries(uri)
			for _, at := range list {
				if at.Sub(w.now()) < 300*24*time.Hour {
					return false
				}
			}
			return len(list) == len(old)
		})
	}
	inStep(t, uri, devices...)
	r, err := alice.Room(w.ctx, uri)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range devices { // nothing to do any more
		d.restart()
	}
	if now, err := alice.Room(w.ctx, uri); err != nil || now.Epoch != r.Epoch {
		t.Errorf("from epoch %d to %d without need (%v)", r.Epoch, now.Epoch, err)
	}
	w.ahead.Store(int64(410 * 24 * time.Hour))
	tablet := w.device("bob@b.example/tablet")
	tablet.waitKind(client.EventJoined)
	tablet.say(uri, "a year later")
	carol.waitText("a year later")
	inStep(t, uri, alice, bob, carol, tablet)
}

// TestPendingProposalPolicy: how long a device waits before it commits what others proposed is what the room says.
func TestPendingProposalPolicy(t *testing.T) {
	for name, test := range map[string]struct {
		policy       mimi.PendingProposalPolicy
		stopped      bool // Alice's clock stands still: what waits, however short, never comes
		least, below time.Duration
	}{
		"immediate": {mimi.PendingProposalPolicy{PendingProposalStrategy: mimi.PendingImmediateCommit}, true, 0, time.Minute},
		"random": {mimi.PendingProposalPolicy{PendingProposalStrategy: mimi.PendingRandomDelay, MinimumDelayMillis: 4000, MaximumDelayMillis: 4200},
			false, 4 * time.Second, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "a.example", "b.example")
			alice, bob := w.device("alice@a.example/phone"), w.device("bob@b.example/phone")
			alice.stop()
			alice.delay = nil
			alice.start()
			uri, err := alice.CreateRoom(w.ctx, client.NewRoom{Name: "clubhouse", Change: func(c *policy.Components) error {
				c.Operational.PendingProposalPolicy = test.policy
				return nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			if err := alice.Add(w.ctx, uri, bob.User(), ""); err != nil {
				t.Fatal(err)
			}
			bob.waitKind(client.EventJoined)
			if err := alice.Idle(w.ctx); err != nil {
				t.Fatal(err)
			}
			if test.stopped {
				now := w.now()
				alice.clock.Store(&now)
			}
			var mu sync.Mutex
			var proposed, committed mimi.Millis
			w.mu.Lock()
			w.tap = func(_ mimi.ProviderDomain, req *mimi.NotifyRequest) {
				mu.Lock()
				defer mu.Unlock()
				for i := range req.Messages {
					switch m := &req.Messages[i]; m.Kind() {
					case mimi.FanoutProposal:
						proposed = m.Timestamp
					case mimi.FanoutCommit:
						committed = m.Timestamp
					}
				}
			}
			w.mu.Unlock()
			if err := bob.Leave(w.ctx, uri); err != nil {
				t.Fatal(err)
			}
			bob.waitKind(client.EventOut)
			mu.Lock()
			defer mu.Unlock()
			if took := time.Duration(committed-proposed) * time.Millisecond; proposed == 0 || took < test.least || took >= test.below {
				t.Errorf("committed %v after the proposal", took)
			}
		})
	}
}
