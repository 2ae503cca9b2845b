// Package storetest is the behaviour that every engine of package store has.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/comity-im/comity/store"
)

// Run runs the suite. open returns a store on a fresh, empty database.
func Run(t *testing.T, open func(t *testing.T) *store.Store) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s *store.Store)
	}{
		{"meta", meta},
		{"accounts", accounts},
		{"key packages are claimed once", claims},
		{"rooms swap by version", rooms},
		{"a room's log has one order", logs},
		{"digests are unique in a room", digests},
		{"repeats", repeats},
		{"repeats of many at once", repeatsAtOnce},
		{"followers' cursors", followers},
		{"clients' cursors", memberships},
		{"trimming keeps what is unread", trimming},
		{"trimming what is unread for too long", trimmingUnread},
		{"rooms that have ended", endedRooms},
		{"a restored database", restored},
		{"clients that are behind", behind},
		{"many events at once", manyEvents},
		{"what other nodes changed", looks},
		{"consents", consents},
		{"join codes", joinCodes},
		{"profiles", profiles},
		{"reports and assets", reports},
		{"leases", leases},
		{"errors undo their own update alone", undo},
		{"panics are errors", panics},
		{"concurrent updates", concurrent},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			c.test(t, s)
		})
	}
}

var ctx = context.Background()

func update(t *testing.T, s *store.Store, f func(tx *store.Tx) error) {
	t.Helper()
	if err := s.Update(ctx, f); err != nil {
		t.Fatal(err)
	}
}

func view(t *testing.T, s *store.Store, f func(tx *store.Tx) error) {
	t.Helper()
	if err := s.View(ctx, f); err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error is %v, want %v", err, want)
	}
}

func meta(t *testing.T, s *store.Store) {
	update(t, s, func(tx *store.Tx) error {
		_, err := tx.Meta("x")
		wantErr(t, err, store.ErrNotFound)
		if b, err := tx.CreateMeta("x", []byte("1")); err != nil || string(b) != "1" {
			t.Errorf("CreateMeta = %q, %v", b, err)
		}
		if b, err := tx.CreateMeta("x", []byte("2")); err != nil || string(b) != "1" {
			t.Errorf("second CreateMeta = %q, %v; the first must stay", b, err)
		}
		if err := tx.SetMeta("x", nil); err != nil {
			return err
		}
		b, err := tx.Meta("x")
		if len(b) != 0 {
			t.Errorf("Meta = %q after it was set empty", b)
		}
		if err != nil {
			return err
		}
		d := [32]byte{1}
		if err := tx.PutAnswer(d, []byte("a"), 5); err != nil {
			return err
		}
		if a, at, err := tx.Answer(d); err != nil || string(a) != "a" || at != 5 {
			t.Errorf("Answer = %q, %d, %v", a, at, err)
		}
		if n, err := tx.TrimAnswers(6); err != nil || n != 1 {
			t.Errorf("TrimAnswers = %d, %v", n, err)
		}
		_, _, err = tx.Answer(d)
		wantErr(t, err, store.ErrNotFound)
		return nil
	})
	if n, err := s.Size(ctx); err != nil || n <= 0 {
		t.Errorf("Size = %d, %v", n, err)
	}
	if err := s.Ping(ctx); err != nil {
		t.Error(err)
	}
}

func accounts(t *testing.T, s *store.Store) {
	u := store.User{URI: "mimi://a.example/u/alice", State: store.StateActive, Password: []byte{1}, CreatedMillis: 7}
	c := store.Client{URI: "mimi://a.example/d/alice/1", User: u.URI, Token: [32]byte{9}, State: store.StateActive, CreatedMillis: 8, SeenMillis: 8}
	update(t, s, func(tx *store.Tx) error { return errors.Join(tx.CreateUser(u), tx.CreateClient(c)) })
	wantErr(t, s.Update(ctx, func(tx *store.Tx) error { return tx.CreateUser(u) }), store.ErrConflict)
	wantErr(t, s.Update(ctx, func(tx *store.Tx) error { return tx.UpdateUser(store.User{URI: "nobody"}) }), store.ErrNotFound)
	view(t, s, func(tx *store.Tx) error {
		if got, err := tx.User(u.URI); err != nil || got.CreatedMillis != 7 || !bytes.Equal(got.Password, u.Password) {
			t.Errorf("User = %+v, %v", got, err)
		}
		if got, err := tx.ClientByToken(c.Token); err != nil || got != c {
			t.Errorf("ClientByToken = %+v, %v", got, err)
		}
		_, err := tx.ClientByToken([32]byte{8})
		wantErr(t, err, store.ErrNotFound)
		if list, err := tx.Clients(u.URI); err != nil || !slices.Equal(list, []store.Client{c}) {
			t.Errorf("Clients = %+v, %v", list, err)
		}
		if n, err := tx.CountUsers(); err != nil || n != 1 {
			t.Errorf("CountUsers = %d, %v", n, err)
		}
		return nil
	})
}

func claims(t *testing.T, s *store.Store) {
	update(t, s, func(tx *store.Tx) error {
		for i := range byte(5) {
			if err := tx.AddKeyPackage(store.KeyPackage{Ref: []byte{i}, Client: "c", Suite: 1, NotAfterSeconds: int64(100 + i), Body: []byte{i}}); err != nil {
				return err
			}
		}
		return nil
	})
	wantErr(t, s.Update(ctx, func(tx *store.Tx) error {
		return tx.AddKeyPackage(store.KeyPackage{Ref: []byte{0}, Client: "c"})
	}), store.ErrConflict)
	// Many take at once; each package goes to one.
	var taken sync.Map
	var wg sync.WaitGroup
	var got atomic.Int64
	for range 16 {
		wg.Go(func() {
			var ref []byte // an engine may run the update more than once
			err := s.Update(ctx, func(tx *store.Tx) error {
				ref = nil
				list, err := tx.KeyPackages("c", 101, 10) // the first two have expired
				if err != nil || len(list) == 0 {
					return err
				}
				ref = list[0].Ref
				return tx.ClaimKeyPackage(ref, "room", 5)
			})
			switch {
			case err == nil && ref != nil:
				if _, again := taken.LoadOrStore(fmt.Sprintf("%x", ref), true); again {
					t.Errorf("%x was claimed twice", ref)
				}
				got.Add(1)
			case err != nil && !errors.Is(err, store.ErrConflict):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got.Load() > 3 || got.Load() == 0 {
		t.Errorf("%d packages were claimed of 3", got.Load())
	}
	update(t, s, func(tx *store.Tx) error {
		if n, err := tx.TrimKeyPackages(102); err != nil || n != 2 {
			t.Errorf("TrimKeyPackages = %d, %v", n, err)
		}
		return tx.PutClaim(store.Claim{Ref: []byte{7}, Provider: "b.example", Room: "r", NotAfterSeconds: 200})
	})
	view(t, s, func(tx *store.Tx) error {
		if c, err := tx.Claim([]byte{7}); err != nil || c.Provider != "b.example" {
			t.Errorf("Claim = %+v, %v", c, err)
		}
		return nil
	})
}

func newRoom(t *testing.T, s *store.Store, uri string) (id int64) {
	t.Helper()
	update(t, s, func(tx *store.Tx) (err error) {
		id, err = tx.CreateRoom(store.Room{URI: uri, Hub: "a.example", Head: []byte("0"), LastMillis: 100, CreatedMillis: 100})
		return err
	})
	return id
}

func rooms(t *testing.T, s *store.Store) {
	id := newRoom(t, s, "r1")
	wantErr(t, s.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.CreateRoom(store.Room{URI: "r1", Hub: "b.example"})
		return err
	}), store.ErrConflict)
	update(t, s, func(tx *store.Tx) error {
		return tx.SwapRoom(id, 1, []byte("1"), []store.Record{{Name: []byte("a"), Value: []byte("x")}, {Name: []byte("b"), Value: []byte("y")}})
	})
	wantErr(t, s.Update(ctx, func(tx *store.Tx) error { return tx.SwapRoom(id, 1, []byte("2"), nil) }), store.ErrConflict)
	update(t, s, func(tx *store.Tx) error {
		return tx.SwapRoom(id, 2, []byte("2"), []store.Record{{Name: []byte("a")}, {Name: []byte("b"), Value: []byte("z")}})
	})
	view(t, s, func(tx *store.Tx) error {
		r, err := tx.Room("r1")
		if err != nil || r.Version != 3 || string(r.Head) != "2" || r.FirstSeq != 1 || r.LastSeq != 0 {
			t.Errorf("Room = %+v, %v", r, err)
		}
		records, err := tx.RoomRecords(id)
		if err != nil || len(records) != 1 || string(records[0].Value) != "z" {
			t.Errorf("RoomRecords = %q, %v", records, err)
		}
		if n, err := tx.CountRooms("a.example"); err != nil || n != 1 {
			t.Errorf("CountRooms = %d, %v", n, err)
		}
		_, err = tx.Room("r2")
		wantErr(t, err, store.ErrNotFound)
		return nil
	})
}

func event(n byte, at int64) store.Event {
	return store.Event{Kind: 1, Epoch: uint64(n), AcceptedMillis: at, Digest: [32]byte{n, 1}, Source: "b.example", Body: []byte{n}}
}

func logs(t *testing.T, s *store.Store) {
	id := newRoom(t, s, "r1")
	wantErr(t, s.Update(ctx, func(tx *store.Tx) error { return tx.AppendEvents(id, 2, []store.Event{event(1, 200)}) }), store.ErrConflict)
	wantErr(t, s.Update(ctx, func(tx *store.Tx) error { return tx.AppendEvents(id, 1, []store.Event{event(1, 100)}) }), store.ErrConflict)
	list := []store.Event{event(1, 200), event(2, 200), event(3, 201)}
	list[1].Audience, list[1].Clients = []string{"b.example", "c.example"}, []string{"x"}
	update(t, s, func(tx *store.Tx) error { return tx.AppendEvents(id, 1, list) })
	view(t, s, func(tx *store.Tx) error {
		got, err := tx.Events(id, 1, 10)
		if err != nil || len(got) != 2 || got[0].Seq != 2 || !slices.Equal(got[0].Audience, list[1].Audience) || !slices.Equal(got[0].Clients, list[1].Clients) || got[1].Seq != 3 || got[1].Epoch != 3 {
			t.Errorf("Events = %+v, %v", got, err)
		}
		return nil
	})
	// Many writers, one order without gaps.
	var wg sync.WaitGroup
	for i := range byte(20) {
		wg.Go(func() {
			for {
				err := s.Update(ctx, func(tx *store.Tx) error {
					r, err := tx.RoomByID(id)
					if err != nil {
						return err
					}
					return tx.AppendEvents(id, 1, []store.Event{event(i+10, r.LastMillis+1)})
				})
				if err == nil {
					return
				}
				if !errors.Is(err, store.ErrConflict) {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	view(t, s, func(tx *store.Tx) error {
		got, err := tx.Events(id, 0, 100)
		if len(got) != 23 {
			t.Errorf("%d events, want 23", len(got))
		}
		for i, e := range got {
			if e.Seq != int64(i+1) || i > 2 && e.AcceptedMillis <= got[i-1].AcceptedMillis {
				t.Errorf("event %d has seq %d, time %d", i, e.Seq, e.AcceptedMillis)
			}
		}
		return err
	})
}

func digests(t *testing.T, s *store.Store) {
	id, other := newRoom(t, s, "r1"), newRoom(t, s, "r2")
	update(t, s, func(tx *store.Tx) error { return tx.AppendEvents(id, 1, []store.Event{event(1, 200)}) })
	wantErr(t, s.Update(ctx, func(tx *store.Tx) error { return tx.AppendEvents(id, 1, []store.Event{event(2, 300), event(1, 301)}) }), store.ErrConflict)
	update(t, s, func(tx *store.Tx) error { return tx.AppendFollowed(other, []store.Event{event(1, 50)}) })
	// Many that are inserted together, beside others that are taken: all or none.
	third := newRoom(t, s, "r3")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			var list []store.Event
			for j := range 40 {
				e := event(byte(j), int64(1000+j))
				e.Digest[2], e.Digest[3] = byte(i), 1
				list = append(list, e)
			}
			if i%2 == 1 {
				list[30].Digest = list[i].Digest
			}
			err := s.Update(ctx, func(tx *store.Tx) error { return tx.AppendFollowed(third, slices.Clone(list)) })
			if i%2 == 1 {
				wantErr(t, err, store.ErrConflict)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	view(t, s, func(tx *store.Tx) error {
		list, err := tx.Events(third, 0, 1000)
		if r, _ := tx.RoomByID(third); len(list) != 4*40 || r.LastSeq != 4*40 {
			t.Errorf("%d events are there, the last is %d, after four times 40 were taken and others refused", len(list), r.LastSeq)
		}
		return err
	})
	view(t, s, func(tx *store.Tx) error {
		r, err := tx.RoomByID(id)
		if r.LastSeq != 1 || r.LastMillis != 200 {
			t.Errorf("a refused append left %+v", r)
		}
		if e, err := tx.EventByDigest(id, event(1, 0).Digest); err != nil || e.Seq != 1 {
			t.Errorf("EventByDigest = %+v, %v", e, err)
		}
		if took, err := tx.Took(id, "b.example"); err != nil || !took {
			t.Errorf("Took = %v, %v", took, err)
		}
		return err
	})
}

func followers(t *testing.T, s *store.Store) {
	id := newRoom(t, s, "r1")
	update(t, s, func(tx *store.Tx) error {
		if err := tx.AppendEvents(id, 1, []store.Event{event(1, 200), event(2, 201), event(3, 202)}); err != nil {
			return err
		}
		return errors.Join(tx.FollowRoom(id, "b.example", 2), tx.FollowRoom(id, "b.example", 3))
	})
	view(t, s, func(tx *store.Tx) error {
		list, err := tx.Backlog("b.example", 0, 10)
		if err != nil || len(list) != 1 || list[0].FirstSeq != 2 || list[0].AckedSeq != 1 {
			t.Errorf("Backlog = %+v, %v", list, err)
		}
		q, err := tx.Queues()
		if err != nil || len(q) != 1 || q[0] != (store.Queue{Domain: "b.example", Rooms: 1, Events: 2, OldestMillis: 201}) {
			t.Errorf("Queues = %+v, %v", q, err)
		}
		return nil
	})
	update(t, s, func(tx *store.Tx) error {
		f := store.Follower{RoomID: id, Domain: "b.example", FirstSeq: 2, AckedSeq: 3}
		if err := tx.Ack(f); err != nil {
			return err
		}
		f.AckedSeq = 2 // an old answer never moves it back
		if err := tx.Ack(f); err != nil {
			return err
		}
		if list, err := tx.Backlog("b.example", 0, 10); err != nil || len(list) != 0 {
			t.Errorf("Backlog = %+v, %v after all was acknowledged", list, err)
		}
		if err := tx.AppendEvents(id, 1, []store.Event{event(4, 203), event(5, 204)}); err != nil {
			return err
		}
		if err := tx.UnfollowRoom(id, "b.example", 4); err != nil {
			return err
		}
		list, err := tx.Behind("b.example", id)
		if err != nil || len(list) != 1 || list[0].UntilSeq != 4 {
			t.Errorf("Behind = %+v, %v", list, err)
			return err
		}
		// It comes back before it has got the last one.
		if err := tx.FollowRoom(id, "b.example", 5); err != nil {
			return err
		}
		list[0].AckedSeq = 4
		if err := tx.Ack(list[0].Follower); err != nil {
			return err
		}
		all, err := tx.Followers(id)
		if err != nil || len(all) != 1 || all[0].FirstSeq != 5 {
			t.Errorf("Followers = %+v, %v", all, err)
		}
		if n, err := tx.DropBacklog("b.example"); err != nil || n != 1 {
			t.Errorf("DropBacklog = %d, %v", n, err)
		}
		d, err := tx.FollowerDomains()
		if err != nil || !slices.Equal(d, []string{"b.example"}) {
			t.Errorf("FollowerDomains = %v, %v", d, err)
		}
		return nil
	})
}

func memberships(t *testing.T, s *store.Store) {
	id := newRoom(t, s, "r1")
	update(t, s, func(tx *store.Tx) error {
		if err := tx.AppendEvents(id, 1, []store.Event{event(1, 200), event(2, 201)}); err != nil {
			return err
		}
		if err := errors.Join(tx.JoinRoom("c", id, 2), tx.MoveCursor("c", id, 2), tx.MoveCursor("c", id, 1)); err != nil {
			return err
		}
		return tx.AddressEvent(id, 2, []string{"c"})
	})
	view(t, s, func(tx *store.Tx) error {
		list, err := tx.Memberships("c")
		if err != nil || len(list) != 1 || list[0] != (store.Membership{Client: "c", RoomID: id, RoomURI: "r1", Hub: "a.example", FirstSeq: 2, CursorSeq: 2, LastSeq: 2}) {
			t.Errorf("Memberships = %+v, %v", list, err)
		}
		m, err := tx.Members(id)
		if err != nil || !slices.Equal(m, []string{"c"}) {
			t.Errorf("Members = %v, %v", m, err)
		}
		return nil
	})
	update(t, s, func(tx *store.Tx) error {
		if err := errors.Join(tx.Invite("u", "r1", 1), tx.Invite("u", "r1", 2), tx.Invite("u", "r2", 3), tx.Uninvite("u", "r2")); err != nil {
			return err
		}
		if list, err := tx.Invitations("u"); err != nil || !slices.Equal(list, []string{"r1"}) {
			t.Errorf("Invitations = %v, %v", list, err)
		}
		return tx.LeaveRoom("c", id, 1) // it came in again at 2
	})
	update(t, s, func(tx *store.Tx) error {
		if list, err := tx.Memberships("c"); err != nil || len(list) != 1 {
			t.Errorf("Memberships = %+v, %v after leaving as of before", list, err)
		}
		return tx.LeaveRoom("c", id, 2)
	})
	view(t, s, func(tx *store.Tx) error {
		if list, err := tx.Memberships("c"); err != nil || len(list) != 0 {
			t.Errorf("Memberships = %+v, %v after leaving", list, err)
		}
		return nil
	})
}

func trimming(t *testing.T, s *store.Store) {
	id := newRoom(t, s, "r1")
	update(t, s, func(tx *store.Tx) error {
		var list []store.Event
		for i := range byte(10) {
			list = append(list, event(i, int64(200+i)))
		}
		if err := tx.AppendEvents(id, 1, list); err != nil {
			return err
		}
		return errors.Join(tx.JoinRoom("c", id, 1), tx.MoveCursor("c", id, 6), tx.FollowRoom(id, "b.example", 1), tx.Ack(store.Follower{RoomID: id, Domain: "b.example", FirstSeq: 1, AckedSeq: 4}))
	})
	trim := func(before int64, limit int, want int64) {
		t.Helper()
		update(t, s, func(tx *store.Tx) error {
			if n, err := tx.TrimRoom(id, before, 0, limit); err != nil || n != want {
				t.Errorf("TrimRoom(%d, %d) = %d, %v, want %d", before, limit, n, err, want)
			}
			return nil
		})
	}
	trim(203, 1, 1)
	trim(203, 100, 2)
	trim(300, 100, 1) // the follower has read up to 4
	trim(300, 100, 0)
	view(t, s, func(tx *store.Tx) error {
		r, err := tx.RoomByID(id)
		if r.FirstSeq != 5 {
			t.Errorf("FirstSeq = %d, want 5", r.FirstSeq)
		}
		ids, err2 := tx.RoomsToTrim(0, 300, 10)
		if !slices.Equal(ids, []int64{id}) {
			t.Errorf("RoomsToTrim = %v, %v", ids, err2)
		}
		return err
	})
	update(t, s, func(tx *store.Tx) error { return tx.DropRoom(id) })
	view(t, s, func(tx *store.Tx) error {
		_, err := tx.RoomByID(id)
		wantErr(t, err, store.ErrNotFound)
		return nil
	})
}

// logOf makes a room with n events, accepted at 1, 2, …
func logOf(t *testing.T, s *store.Store, n int) (id int64) {
	t.Helper()
	update(t, s, func(tx *store.Tx) (err error) {
		if id, err = tx.CreateRoom(store.Room{URI: "mimi://a/r/log", Hub: "a"}); err != nil {
			return err
		}
		events := make([]store.Event, n)
		for i := range events {
			events[i] = store.Event{AcceptedMillis: int64(i + 1), Digest: [32]byte{byte(i)}, Body: []byte{1}}
		}
		return tx.AppendEvents(id, 1, events)
	})
	return id
}

func trimmingUnread(t *testing.T, s *store.Store) {
	id := logOf(t, s, 10)
	update(t, s, func(tx *store.Tx) error {
		if err := tx.FollowRoom(id, "away.example", 1); err != nil {
			return err
		}
		n, err := tx.TrimRoom(id, 9, 5, 100)
		if n != 4 {
			t.Errorf("%d events were dropped, not the 4 that are too old even for who is away", n)
		}
		return err
	})
	view(t, s, func(tx *store.Tx) error {
		events, err := tx.Events(id, 0, 100)
		if len(events) != 6 || events[0].Seq != 5 {
			t.Errorf("the log begins with %+v", events)
		}
		return err
	})
}

func restored(t *testing.T, s *store.Store) {
	id := logOf(t, s, 3)
	update(t, s, func(tx *store.Tx) error {
		for client, read := range map[string]int64{"done": 3, "behind": 1} {
			if err := tx.JoinRoom(client, id, 1); err != nil {
				return err
			}
			if err := tx.MoveCursor(client, id, read); err != nil {
				return err
			}
		}
		if err := tx.FollowRoom(id, "b.example", 1); err != nil {
			return err
		}
		if err := tx.Ack(store.Follower{RoomID: id, Domain: "b.example", FirstSeq: 1, AckedSeq: 3}); err != nil {
			return err
		}
		if err := tx.AddKeyPackage(store.KeyPackage{Ref: []byte{1}, Client: "done", Suite: 1, NotAfterSeconds: 1 << 40, Body: []byte{1}}); err != nil {
			return err
		}
		return tx.Restored(5)
	})
	update(t, s, func(tx *store.Tx) error {
		events := []store.Event{{AcceptedMillis: 10, Digest: [32]byte{99}}}
		if err := tx.AppendEvents(id, 1, events); err != nil {
			return err
		}
		if events[0].Seq < 1_000_000 {
			t.Errorf("the next event has number %d, which clients may have seen", events[0].Seq)
		}
		if behind, err := tx.FollowersBehind(id); err != nil || !slices.Equal(behind, []string{"b.example"}) {
			t.Errorf("FollowersBehind = %v, %v", behind, err)
		}
		// The gap does not count as events.
		if q, err := tx.Queues(); err != nil || len(q) != 1 || q[0].Events != 1 {
			t.Errorf("Queues = %+v, %v", q, err)
		}
		if l, err := tx.Lag(); err != nil || l.Events != 3 {
			t.Errorf("Lag = %+v, %v", l, err)
		}
		if l, err := tx.Laggards(5); err != nil || len(l) != 2 || l[0] != (store.Laggard{Client: "behind", Events: 3}) || l[1] != (store.Laggard{Client: "done", Events: 1}) {
			t.Errorf("Laggards = %+v, %v", l, err)
		}
		if l, err := tx.RoomSizes(5); err != nil || len(l) != 1 || l[0].Events != 4 || l[0].Clients != 2 || l[0].Behind != 2 || l[0].Followers != 1 || l[0].LastMillis != 10 {
			t.Errorf("RoomSizes = %+v, %v", l, err)
		}
		// Nor are cursors where their owners were not: what bridges it is to be read.
		for client, want := range map[string]int{"done": 2, "behind": 4} {
			list, err := tx.Memberships(client)
			if err != nil {
				return err
			}
			unread, err := tx.Events(id, list[0].CursorSeq, 10)
			if len(unread) != want {
				t.Errorf("%s has %d events to read, not %d", client, len(unread), want)
			}
			if err != nil {
				return err
			}
		}
		n, err := tx.CountKeyPackages("done", 0)
		if n != 0 {
			t.Error("KeyPackages that may have been given out are in stock")
		}
		return err
	})
}

func looks(t *testing.T, s *store.Store) {
	id := logOf(t, s, 3)
	var before, after map[string]store.Footprint
	look := func(to *map[string]store.Footprint) {
		t.Helper()
		view(t, s, func(tx *store.Tx) (err error) {
			newest, err := tx.Newest([]int64{id, id + 1000})
			if err != nil || len(newest) != 1 || newest[id] != 3 {
				t.Errorf("Newest = %v, %v", newest, err)
			}
			*to, err = tx.Footprints([]string{"c1", "c2", "c3", "none"})
			return err
		})
	}
	update(t, s, func(tx *store.Tx) error {
		for i, c := range []string{"c1", "c2", "c3"} {
			if err := tx.CreateClient(store.Client{URI: c, User: "u" + c, Token: [32]byte{byte(i)}, State: store.StateActive}); err != nil {
				return err
			}
		}
		return tx.JoinRoom("c3", id, 1)
	})
	look(&before)
	update(t, s, func(tx *store.Tx) error {
		return errors.Join(tx.JoinRoom("c1", id, 2), tx.Invite("uc2", "mimi://a/r/other", 5))
	})
	look(&after)
	for c, changed := range map[string]bool{"c1": true, "c2": true, "c3": false, "none": false} {
		if (before[c] != after[c]) != changed {
			t.Errorf("%s: footprints %+v and %+v", c, before[c], after[c])
		}
	}
}

func consents(t *testing.T, s *store.Store) {
	update(t, s, func(tx *store.Tx) error {
		c := store.Consent{Requester: "a", Target: "b", Asked: true, UpdatedMillis: 1}
		if err := tx.PutConsent(c); err != nil {
			return err
		}
		if n, err := tx.CountConsentRequests("b"); err != nil || n != 1 {
			t.Errorf("CountConsentRequests = %d, %v", n, err)
		}
		c.Asked, c.Decided = false, store.Granted
		if err := tx.PutConsent(c); err != nil {
			return err
		}
		if got, err := tx.Consent("a", "b", ""); err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("Consent = %+v, %v", got, err)
		}
		_, err := tx.Consent("a", "b", "room")
		wantErr(t, err, store.ErrNotFound)
		if list, err := tx.ConsentsOf("a"); err != nil || len(list) != 1 {
			t.Errorf("ConsentsOf = %+v, %v", list, err)
		}
		return tx.DropConsent("a", "b", "")
	})
}

func joinCodes(t *testing.T, s *store.Store) {
	id := newRoom(t, s, "r1")
	update(t, s, func(tx *store.Tx) error {
		if err := tx.PutJoinCode(store.JoinCode{RoomID: id, Code: []byte("x"), UsesLeft: 1}); err != nil {
			return err
		}
		if err := tx.PutJoinCode(store.JoinCode{RoomID: id, Code: []byte("y"), UsesLeft: -1}); err != nil {
			return err
		}
		if err := tx.UseJoinCode(id, []byte("x")); err != nil {
			return err
		}
		wantErr(t, tx.UseJoinCode(id, []byte("x")), store.ErrConflict)
		if err := errors.Join(tx.UseJoinCode(id, []byte("y")), tx.UseJoinCode(id, []byte("y")), tx.DropJoinCode(id, []byte("y"))); err != nil {
			return err
		}
		wantErr(t, tx.DropJoinCode(id, []byte("y")), store.ErrNotFound)
		if list, err := tx.JoinCodes(id); err != nil || len(list) != 1 || list[0].UsesLeft != 0 {
			t.Errorf("JoinCodes = %+v, %v", list, err)
		}
		j := store.Join{RoomID: id, PublicKey: []byte{1}, User: "u", Signer: []byte{2}, Code: []byte("x"), ExpiresMillis: 10}
		if err := tx.PutJoin(j); err != nil {
			return err
		}
		if list, err := tx.Joins(id, "u", 9); err != nil || len(list) != 1 || string(list[0].Code) != "x" {
			t.Errorf("Joins = %+v, %v", list, err)
		}
		if list, err := tx.Joins(id, "u", 10); err != nil || len(list) != 0 {
			t.Errorf("Joins = %+v, %v after they expired", list, err)
		}
		return nil
	})
	wantErr(t, s.Update(ctx, func(tx *store.Tx) error { return tx.PutJoin(store.Join{RoomID: id, PublicKey: []byte{1}}) }), store.ErrConflict)
}

func profiles(t *testing.T, s *store.Store) {
	update(t, s, func(tx *store.Tx) error {
		for _, u := range []string{"u1", "u2"} {
			if err := tx.CreateUser(store.User{URI: u, State: store.StateActive}); err != nil {
				return err
			}
			if err := tx.PutProfileField(store.ProfileField{User: u, Source: 5, Value: "100% X_" + u, Search: "100% x_" + u, Findable: u == "u1"}); err != nil {
				return err
			}
		}
		if err := tx.PutProfileField(store.ProfileField{User: "u1", Source: 7, Name: "email", Search: "x@y", Findable: true}); err != nil {
			return err
		}
		find := func(list []store.ProfileField, err error) []string {
			var users []string
			for _, f := range list {
				users = append(users, f.User)
			}
			if err != nil {
				t.Error(err)
			}
			return users
		}
		if got := find(tx.FindableContaining(5, "0% x_", 10)); !slices.Equal(got, []string{"u1"}) {
			t.Errorf("found %v, want the one who is findable", got)
		}
		if got := find(tx.FindableContaining(5, "0%x", 10)); got != nil {
			t.Errorf("found %v: a percent sign is not a wildcard", got)
		}
		if got := find(tx.Findable(7, "email", "x@y", 10)); !slices.Equal(got, []string{"u1"}) {
			t.Errorf("found %v", got)
		}
		if got := find(tx.Findable(7, "name", "x@y", 10)); got != nil {
			t.Errorf("found %v by another field", got)
		}
		wantErr(t, tx.DropProfileField("u1", 7, "name"), store.ErrNotFound)
		return tx.DropProfileField("u1", 7, "email")
	})
}

func reports(t *testing.T, s *store.Store) {
	update(t, s, func(tx *store.Tx) error {
		for i := range 3 {
			if _, err := tx.PutReport(store.Report{Room: "r", Verdict: fmt.Sprint(i), ReceivedMillis: int64(i)}); err != nil {
				return err
			}
		}
		list, err := tx.Reports(0, 2)
		if err != nil || len(list) != 2 || list[0].Verdict != "2" {
			t.Errorf("Reports = %+v, %v", list, err)
			return err
		}
		if list, err := tx.Reports(list[1].ID, 2); err != nil || len(list) != 1 || list[0].Verdict != "0" {
			t.Errorf("Reports = %+v, %v", list, err)
		}
		if n, err := tx.TrimReports(1); err != nil || n != 1 {
			t.Errorf("TrimReports = %d, %v", n, err)
		}
		if err := tx.PutAsset(store.Asset{ID: "x", User: "u", Size: 5, CreatedMillis: 1}); err != nil {
			return err
		}
		if n, err := tx.AssetBytes("u"); err != nil || n != 5 {
			t.Errorf("AssetBytes = %d, %v", n, err)
		}
		if n, err := tx.AssetBytes("v"); err != nil || n != 0 {
			t.Errorf("AssetBytes of nobody = %d, %v", n, err)
		}
		return errors.Join(tx.PutPeer(store.Peer{Domain: "b.example", Mode: "deny"}), tx.PutPeer(store.Peer{Domain: "b.example", Mode: "pause"}), tx.DropAsset("x"))
	})
	view(t, s, func(tx *store.Tx) error {
		if list, err := tx.Peers(); err != nil || len(list) != 1 || list[0].Mode != "pause" {
			t.Errorf("Peers = %+v, %v", list, err)
		}
		return nil
	})
}

func leases(t *testing.T, s *store.Store) {
	take := func(node string, now int64, want bool) {
		t.Helper()
		update(t, s, func(tx *store.Tx) error {
			ok, err := tx.Lease("x", node, now, now+10)
			if ok != want {
				t.Errorf("Lease to %s at %d = %v, want %v", node, now, ok, want)
			}
			return err
		})
	}
	take("n1", 0, true)
	take("n2", 5, false)
	take("n1", 8, true)
	take("n2", 15, false)
	take("n2", 18, true)
	update(t, s, func(tx *store.Tx) error { return errors.Join(tx.Release("x", "n1"), tx.Release("x", "n2")) })
	take("n1", 19, true)
	// n1 dies, and the clock was an hour ahead when it last said that it is there:
	// the lease doesn't last that hour.
	take("n1", 3_600_000, true)
	take("n2", 30, true)
	take("n1", 35, false)
}

func undo(t *testing.T, s *store.Store) {
	bad := errors.New("no")
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			err := s.Update(ctx, func(tx *store.Tx) error {
				if err := tx.SetMeta(fmt.Sprint(i), []byte{1}); err != nil {
					return err
				}
				if i%2 == 0 {
					return bad
				}
				return nil
			})
			if (i%2 == 0) != errors.Is(err, bad) {
				t.Errorf("update %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	view(t, s, func(tx *store.Tx) error {
		for i := range 50 {
			_, err := tx.Meta(fmt.Sprint(i))
			if (i%2 == 0) != errors.Is(err, store.ErrNotFound) {
				t.Errorf("after update %d: %v", i, err)
			}
		}
		return nil
	})
}

func panics(t *testing.T, s *store.Store) {
	defer func() {
		recover() // an engine without a writer of its own panics in the caller
		update(t, s, func(tx *store.Tx) error {
			_, err := tx.Meta("p")
			wantErr(t, err, store.ErrNotFound)
			return nil
		})
	}()
	err := s.Update(ctx, func(tx *store.Tx) error {
		if err := tx.SetMeta("p", nil); err != nil {
			return err
		}
		panic("x")
	})
	if err == nil {
		t.Error("no error")
	}
}

func concurrent(t *testing.T, s *store.Store) {
	id := newRoom(t, s, "r1")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for k := range 25 {
				if err := s.Update(ctx, func(tx *store.Tx) error {
					return tx.JoinRoom(fmt.Sprintf("c%d-%d", i, k), id, 1)
				}); err != nil {
					t.Error(err)
				}
				if err := s.View(ctx, func(tx *store.Tx) error {
					_, err := tx.Members(id)
					return err
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	view(t, s, func(tx *store.Tx) error {
		list, err := tx.Members(id)
		if len(list) != 200 {
			t.Errorf("%d members, want 200", len(list))
		}
		return err
	})
}

// endedRooms: hosted rooms with an empty log are found, and go with all that
// belongs to them.
func endedRooms(t *testing.T, s *store.Store) {
	ctx := t.Context()
	const hub = "a.example"
	var quiet, busy int64
	err := s.Update(ctx, func(tx *store.Tx) (err error) {
		if quiet, err = tx.CreateRoom(store.Room{URI: "mimi://a.example/r/quiet", Hub: hub, Head: []byte{0, 1}, LastMillis: 10, CreatedMillis: 10}); err != nil {
			return err
		}
		if busy, err = tx.CreateRoom(store.Room{URI: "mimi://a.example/r/busy", Hub: hub, Head: []byte{0, 1}, LastMillis: 10, CreatedMillis: 10}); err != nil {
			return err
		}
		if err := tx.AppendEvents(busy, 1, []store.Event{{Kind: 1, AcceptedMillis: 11, Digest: [32]byte{1}, Body: []byte("x")}}); err != nil {
			return err
		}
		return errors.Join(tx.PutRecords(quiet, []store.Record{{Name: []byte("n"), Value: []byte("v")}}), tx.JoinRoom("c", quiet, 1),
			tx.SetMeta("fixed/1", []byte("mimi://a.example/r/quiet")), tx.SetMeta("fixed/2", []byte("mimi://a.example/r/busy")), tx.SetMeta("other", []byte("mimi://a.example/r/quiet")))
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.View(ctx, func(tx *store.Tx) error {
		for _, x := range []struct {
			after, before int64
			want          int
		}{{0, 10, 0}, {0, 11, 1}, {quiet, 11, 0}} {
			if list, err := tx.QuietRooms(hub, x.after, x.before, 10); err != nil || len(list) != x.want || x.want == 1 && list[0].ID != quiet {
				t.Errorf("after %d, before %d: %+v, %v", x.after, x.before, list, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Update(ctx, func(tx *store.Tx) error {
		if n, err := tx.DropMeta("fixed/", []byte("mimi://a.example/r/quiet")); err != nil || n != 1 {
			t.Errorf("%d names of the room were dropped, %v", n, err)
		}
		return tx.DropRoom(quiet)
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.View(ctx, func(tx *store.Tx) error {
		if _, err := tx.Room("mimi://a.example/r/quiet"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("the room: %v", err)
		}
		if list, err := tx.Memberships("c"); err != nil || len(list) != 0 {
			t.Errorf("its readers: %v, %v", list, err)
		}
		for name, want := range map[string]error{"fixed/1": store.ErrNotFound, "fixed/2": nil, "other": nil} {
			if _, err := tx.Meta(name); !errors.Is(err, want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
