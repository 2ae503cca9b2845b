package delivery

import "github.com/comity-im/comity/store"

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
