package delivery

import (
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/store"
)

// A cursor is kept only if nothing happened since it was read that may have
// changed it.
func TestCursorsAreDroppedByCommits(t *testing.T) {
	app, commit := store.Event{Kind: uint8(mimi.FanoutApplication)}, store.Event{Kind: uint8(mimi.FanoutCommit)}
	for _, c := range []struct {
		events []store.Event
		plain  bool
	}{
		{nil, false}, {[]store.Event{app, app}, true}, {[]store.Event{app, commit}, false}, {[]store.Event{commit}, false},
	} {
		if plain(c.events) != c.plain {
			t.Errorf("plain(%v) is %v", c.events, !c.plain)
		}
	}
	var list cursors
	at := func(room int64) store.Waiting {
		return store.Waiting{Follower: store.Follower{RoomID: room, AckedSeq: 7}, RoomURI: "r"}
	}
	mark := list.dropped
	list.keep(at(1), mark)
	if list.rooms[1].AckedSeq != 7 {
		t.Fatal("not kept")
	}
	list.drop(1) // a commit, while a request with room 1's events is under way
	list.keep(at(1), mark)
	if _, ok := list.rooms[1]; ok {
		t.Error("kept though a commit came in between")
	}
	ending := at(2)
	ending.UntilSeq = 9
	list.keep(ending, list.dropped)
	if _, ok := list.rooms[2]; ok {
		t.Error("a cursor that ends is kept")
	}
	for room := range int64(3 * keptCursors) {
		list.keep(at(room), list.dropped)
	}
	if len(list.rooms) > keptCursors {
		t.Errorf("%d cursors are kept", len(list.rooms))
	}
}
