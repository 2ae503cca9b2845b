package delivery

import (
	"testing"

	"github.com/comity-im/comity/store"

	"pgregory.net/rapid"
)

func events(from, to int64) (list []store.Event) {
	for i := from; i <= to; i++ {
		list = append(list, store.Event{Seq: i, Body: make([]byte, 100)})
	}
	return list
}

// What is taken from memory is what the log has there, without a gap, and what
// is kept stays within its bounds, whatever comes.
func TestFreshIsAPieceOfTheLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var f fresh
		last, acked := map[int64]int64{}, map[int64]int64{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			room := rapid.Int64Range(1, 3).Draw(t, "room")
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0, 1: // appended here
				n := rapid.Int64Range(1, 1500).Draw(t, "n")
				f.put(room, events(last[room]+1, last[room]+n))
				last[room] += n
			case 2: // appended elsewhere
				last[room] += rapid.Int64Range(1, 3).Draw(t, "elsewhere")
			case 3: // a batch is delivered
				upto := rapid.Int64Range(0, last[room]).Draw(t, "upto")
				got := f.take(room, acked[room], upto, 257)
				if len(got) > 257 {
					t.Fatalf("%d events at once", len(got))
				}
				for i, e := range got {
					if e.Seq != acked[room]+1+int64(i) || e.Seq > upto {
						t.Fatalf("event %d at place %d after %d, up to %d", e.Seq, i, acked[room], upto)
					}
				}
				if len(got) > 0 {
					acked[room] = got[len(got)-1].Seq
				} else {
					acked[room] = max(acked[room], upto) // read from the database
				}
				f.forget(room, acked[room])
			case 4:
				f.drop(room)
			}
			events, bytes := 0, 0
			for _, list := range f.rooms {
				for i, e := range list {
					if e.Seq != list[0].Seq+int64(i) {
						t.Fatal("a gap")
					}
					events, bytes = events+1, bytes+len(e.Body)
				}
			}
			if events != f.events || bytes != f.bytes || events > freshEvents || bytes > freshBytes {
				t.Fatalf("%d events of %d octets are kept, it counts %d of %d", events, bytes, f.events, f.bytes)
			}
		}
	})
}

// Of events that were appended here none is read back.
func TestFreshHasWhatWasAppended(t *testing.T) {
	var f fresh
	f.put(1, events(1, 10))
	f.put(1, events(11, 300))
	if got := f.take(1, 0, 300, 257); len(got) != 257 || got[0].Seq != 1 {
		t.Errorf("%d events from %+v", len(got), got)
	}
	f.forget(1, 257)
	if got := f.take(1, 257, 290, 257); len(got) != 33 || got[32].Seq != 290 {
		t.Errorf("%d events up to 290", len(got))
	}
	if got := f.take(1, 256, 300, 257); got != nil {
		t.Error("events that were forgotten are handed out")
	}
}
