package hub

import (
	"testing"
	"time"

	"github.com/comity-im/comity/mimi"
)

// Rooms in which nothing happens leave memory; one that works stays, and so does
// one that was used just now.
func TestIdleRoomsLeaveMemory(t *testing.T) {
	now := time.UnixMilli(1)
	h := New(Config{Domain: "a.example", Now: func() time.Time { return now }})
	var rooms []*hosted
	for _, name := range []string{"quiet", "working", "recent"} {
		r, err := h.room(mimi.RoomURI("mimi://a.example/r/" + name))
		if err != nil {
			t.Fatal(err)
		}
		rooms = append(rooms, r)
	}
	rooms[1].busy = true
	now = now.Add(time.Minute)
	rooms[2].used = now
	h.dropIdle(now.Add(-keepIdle))
	if h.Loaded() != 2 {
		t.Errorf("%d rooms are in memory, not 2", h.Loaded())
	}
	rooms[1].busy = false
	h.dropIdle(now.Add(time.Second))
	if h.Loaded() != 0 {
		t.Errorf("%d rooms are in memory, not none", h.Loaded())
	}
	if again, err := h.room(rooms[0].uri); err != nil || again == rooms[0] {
		t.Errorf("a room that was dropped is not read anew: %v", err)
	}
}
