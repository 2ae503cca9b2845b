package provider_test

import (
	"errors"
	"testing"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/store"
)

// A hosted room that everybody left goes when its log may go; one that is only
// quiet stays.
func TestEndedRoomIsDropped(t *testing.T) {
	p := newPlay(t)
	alice, bob := p.As("alice@a.example"), p.As("bob@b.example")
	quiet := mimi.RoomURI("mimi://a.example/r/quiet")
	for _, uri := range []mimi.RoomURI{clubhouse, quiet} {
		alice.Creates(uri, policy.Cooperative)
		alice.Adds(uri, bob)
		bob.Enters(uri)
	}
	bob.Leaves(clubhouse)
	alice.Pending(clubhouse, 2)
	alice.Commits(clubhouse, func(r *room.Room) (*room.Staged, error) { return r.Commit(random{}, 0) })
	alice.Leaves(clubhouse)
	there := func(uri mimi.RoomURI) bool {
		err := p.stores[domA].View(p.ctx, func(tx *store.Tx) error {
			_, err := tx.Room(string(uri))
			return err
		})
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		return err == nil
	}
	trim := func() {
		t.Helper()
		if err := p.providers[domA].Trim(p.ctx); err != nil {
			t.Fatal(err)
		}
	}
	p.later(72 * time.Hour)
	trim()
	if !there(clubhouse) {
		t.Error("the room is gone while somebody may not have read all of it")
	}
	p.later(100 * 24 * time.Hour)
	trim() // its log
	trim()
	if there(clubhouse) {
		t.Error("the room that everybody left is still there")
	}
	if !there(quiet) {
		t.Fatal("the room that is only quiet is gone")
	}
	alice.Says(quiet, "still here")
	bob.Reads(quiet, "still here")
}
