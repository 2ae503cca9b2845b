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
	if dropped, left := h.dropIdle(now.Add(-keepIdle)); dropped != 1 || left != 2 || h.Loaded() != 2 {
		t.Errorf("%d rooms were dropped and %d are left, %d are in memory, not 1 and 2", dropped, left, h.Loaded())
	}
	rooms[1].busy = false
	if dropped, left := h.dropIdle(now.Add(time.Second)); dropped != 2 || left != 0 || h.Loaded() != 0 {
		t.Errorf("%d rooms were dropped and %d are left, %d are in memory, not 2 and none", dropped, left, h.Loaded())
	}
	if again, err := h.room(rooms[0].uri); err != nil || again == rooms[0] {
		t.Errorf("a room that was dropped is not read anew: %v", err)
	}
}
