package delivery

import (
	"slices"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/store"
)

// freshEvents and freshBytes bound the events that wait in memory for one
// follower, in all rooms; past it they are read from the database. The followers
// of a room share the events.
const (
	freshEvents = 4096
	freshBytes  = 1 << 20
)

// fresh holds events that were appended just now, so that they need not be read
// back to be delivered. What it hands out is only a shortcut: the truth is in the
// logs. The lock of its peer covers it.
type fresh struct {
	rooms  map[int64][]store.Event // each without a gap
	events int
	bytes  int
}

// put adds events of a room at the end of those that wait. If there is a gap or
// no place, those before are forgotten.
func (f *fresh) put(room int64, events []store.Event) {
	if len(events) == 0 {
		return
	}
	size := 0
	for i := range events {
		size += len(events[i].Body)
	}
	have := f.rooms[room]
	if n := len(have); n > 0 && have[n-1].Seq+1 != events[0].Seq {
		f.drop(room)
		have = nil
	}
	if f.events+len(events) > freshEvents || f.bytes+size > freshBytes {
		f.drop(room)
		return
	}
	if f.rooms == nil {
		f.rooms = map[int64][]store.Event{}
	}
	f.rooms[room] = append(have, events...)
	f.events += len(events)
	f.bytes += size
}

// take returns a room's events after one position and up to another, at most n,
// or none if it has not all of them. Those before are forgotten.
func (f *fresh) take(room, after, upto int64, n int) []store.Event {
	f.forget(room, after)
	have := f.rooms[room]
	if len(have) == 0 || have[0].Seq != after+1 {
		return nil
	}
	return have[:min(int64(len(have)), int64(n), max(upto-after, 0))]
}

// last returns the position of the newest event of a room, 0 if there is none.
func (f *fresh) last(room int64) int64 {
	if have := f.rooms[room]; len(have) > 0 {
		return have[len(have)-1].Seq
	}
	return 0
}

// forget drops a room's events up to a position.
func (f *fresh) forget(room, upto int64) {
	have := f.rooms[room]
	i := 0
	for i < len(have) && have[i].Seq <= upto {
		f.bytes -= len(have[i].Body)
		i++
	}
	f.events -= i
	if i == len(have) {
		delete(f.rooms, room)
	} else if i > 0 {
		f.rooms[room] = have[i:]
	}
}

// drop drops all events of a room.
func (f *fresh) drop(room int64) {
	if have := f.rooms[room]; len(have) > 0 {
		f.forget(room, have[len(have)-1].Seq)
	}
}

// clear drops everything.
func (f *fresh) clear() { *f = fresh{} }

// keptCursors bounds the cursors that one follower's worker keeps in memory.
const keptCursors = 1024

// cursors are where a follower is in rooms that it was sent events of, so that
// they need not be read for each request. They hold as long as only application
// messages follow: who follows a room, and from where, changes by commits alone.
// The lock of its peer covers it.
type cursors struct {
	rooms   map[int64]store.Waiting
	dropped uint64 // counts drop and clear
}

// plain says whether events change nothing about who follows the room.
func plain(events []store.Event) bool {
	return len(events) > 0 && !slices.ContainsFunc(events, func(e store.Event) bool { return mimi.FanoutKind(e.Kind) != mimi.FanoutApplication })
}

// keep remembers a room's only cursor, unless one was dropped since dropped had
// this value.
func (c *cursors) keep(w store.Waiting, dropped uint64) {
	if c.dropped != dropped || w.UntilSeq > 0 {
		return
	}
	if c.rooms == nil || len(c.rooms) >= keptCursors {
		c.rooms = map[int64]store.Waiting{}
	}
	c.rooms[w.RoomID] = w
}

func (c *cursors) drop(room int64) {
	delete(c.rooms, room)
	c.dropped++
}

func (c *cursors) clear() {
	c.rooms = nil
	c.dropped++
}
