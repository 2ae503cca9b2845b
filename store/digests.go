package store

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// An event that a room's log has already is not appended again. On an engine that
// several nodes share a unique index of digests sees to that. Digests are random,
// so with each event it writes a page of its own: two thirds of what an event
// costs, on SQLite. There (Dialect.Gather) the digests of the newest events are
// gathered in memory, and put many at a time, in the order of their keys, into the
// table log_digests. What holds at every moment:
//
//   - An event at a position up to floor, which is stored, is in log_digests; an
//     event after it is in memory. Either may have others too: of events that
//     were given up or trimmed, or whose digests begin with the same octets.
//   - So both only say where to look. Whether the log has an event is what its row
//     says, in the transaction that asks.
//
// A round moves what was gathered to log_digests, a slice with each commit that
// appends; floor moves with its last slice. A process that dies between has done
// some of the work, which the next does again.

// floorName is the Meta that says up to which position events are in log_digests.
const floorName = "log-digests"

// A digestKey is what log_digests is ordered by: a room and the first 8 octets of
// a digest.
type digestKey struct {
	room int64
	key  uint64
}

func keyOf(room int64, digest *[32]byte) digestKey {
	return digestKey{room, binary.BigEndian.Uint64(digest[:])}
}

// octets is the key as log_digests has it.
func octets(key uint64) []byte { return binary.BigEndian.AppendUint64(nil, key) }

// gathered says where in the log there may be events with a key.
type gathered struct {
	one  map[digestKey]int64
	more map[digestKey][]int64 // the others of keys that have several
	n    int
}

func newGathered() *gathered {
	return &gathered{one: map[digestKey]int64{}, more: map[digestKey][]int64{}}
}

func (g *gathered) add(k digestKey, seq int64) {
	was, ok := g.one[k]
	switch {
	case !ok:
		g.one[k] = seq
	case was == seq || slices.Contains(g.more[k], seq):
		return
	default:
		g.more[k] = append(g.more[k], seq)
	}
	g.n++
}

// remove undoes add.
func (g *gathered) remove(k digestKey, seq int64) {
	more := g.more[k]
	switch i := slices.Index(more, seq); {
	case i >= 0:
		more = slices.Delete(more, i, i+1)
	case g.one[k] != seq:
		return
	case len(more) > 0:
		g.one[k], more = more[0], more[1:]
	default:
		delete(g.one, k)
	}
	if len(more) > 0 {
		g.more[k] = more
	} else {
		delete(g.more, k)
	}
	g.n--
}

// find appends the positions of a key to list.
func (g *gathered) find(k digestKey, list []int64) []int64 {
	if seq, ok := g.one[k]; ok {
		list = append(append(list, seq), g.more[k]...)
	}
	return list
}

type digestEntry struct {
	digestKey
	seq int64
}

// sorted is everything, in the order of log_digests.
func (g *gathered) sorted() []digestEntry {
	list := make([]digestEntry, 0, g.n)
	for k, seq := range g.one {
		list = append(list, digestEntry{k, seq})
	}
	for k, seqs := range g.more {
		for _, seq := range seqs {
			list = append(list, digestEntry{k, seq})
		}
	}
	slices.SortFunc(list, func(a, b digestEntry) int {
		return cmp.Or(cmp.Compare(a.room, b.room), cmp.Compare(a.key, b.key), cmp.Compare(a.seq, b.seq))
	})
	return list
}

// digests recognises events that are repeated.
type digests struct {
	atOnce int // Dialect.Gather

	mu    sync.RWMutex // for readers; the writer alone changes what it covers
	floor int64
	young *gathered
	old   *gathered // of the round under way, or nil

	// The writer's alone.
	todo    []digestEntry // what of old is not in log_digests yet, in its order
	taken   int           // of todo, in the transaction under way
	last    int64         // where floor is after the round
	owed    int           // how many entries may be moved now
	version int64         // of the database, as others write to it
}

// load reads back the digests after the floor.
func (d *digests) load(tx *Tx) error {
	floor, young := int64(0), newGathered()
	switch text, err := tx.Meta(floorName); {
	case err == nil:
		if floor, err = strconv.ParseInt(string(text), 10, 64); err != nil {
			return err
		}
	case !errors.Is(err, ErrNotFound):
		return err
	}
	err := tx.query(func(r scanner) error {
		var room, seq int64
		var digest []byte
		if err := r.Scan(&room, &seq, &digest); err != nil {
			return err
		}
		young.add(keyOf(room, (*[32]byte)(digest)), seq)
		return nil
	}, "SELECT room_id, seq, digest FROM room_log WHERE position > ? ORDER BY position", floor)
	if err != nil {
		return err
	}
	d.todo, d.taken, d.owed = nil, 0, 0
	d.mu.Lock()
	defer d.mu.Unlock()
	d.floor, d.young, d.old = floor, young, nil
	return nil
}

// begin is called at the beginning of each writing transaction.
func (d *digests) begin(tx *Tx) error {
	var version int64
	if err := tx.row(tx.s.d.Others).Scan(&version); err != nil {
		return err
	}
	if version != d.version {
		if err := d.load(tx); err != nil {
			return err
		}
		d.version = version
	}
	if d.old != nil || d.young.n < d.atOnce {
		return nil
	}
	return d.round(tx)
}

// round begins to move what was gathered.
func (d *digests) round(tx *Tx) error {
	// The transaction has written nothing yet, so this is an event that stays.
	if err := tx.row("SELECT COALESCE(MAX(position), 0) FROM room_log").Scan(&d.last); err != nil {
		return err
	}
	d.last = max(d.last, d.floor)
	d.todo, d.owed = d.young.sorted(), 0
	d.mu.Lock()
	defer d.mu.Unlock()
	d.old, d.young = d.young, newGathered()
	return nil
}

// digestsAtOnce is how many entries one statement puts into log_digests.
const digestsAtOnce = 32

var insertDigests = "INSERT INTO log_digests (room_id, key, seq) VALUES (?, ?, ?)" + strings.Repeat(", (?, ?, ?)", digestsAtOnce-1) + " ON CONFLICT DO NOTHING"

// move puts the next slice into log_digests: two entries for each event that was
// appended since, so that a round ends before as many events are gathered again.
func (d *digests) move(tx *Tx) error {
	if d.old == nil || d.owed < digestsAtOnce && d.owed < len(d.todo) {
		return nil
	}
	d.taken = min(d.owed, len(d.todo))
	list := d.todo[:d.taken]
	args := make([]any, 0, 3*digestsAtOnce)
	insert := func() error {
		_, err := tx.exec(insertDigests, args...)
		args = args[:0]
		return err
	}
	room, first := int64(0), int64(0)
	for _, e := range list {
		if e.room != room {
			room = e.room
			// What was trimmed meanwhile, or dropped, has no place there: nobody would
			// look for it again.
			ok, err := found(tx.row("SELECT first_seq FROM rooms WHERE room_id = ?", room).Scan(&first))
			if err != nil {
				return err
			} else if !ok {
				first = 1<<63 - 1
			}
		}
		if e.seq < first {
			continue
		}
		if args = append(args, e.room, octets(e.key), e.seq); len(args) == cap(args) {
			if err := insert(); err != nil {
				return err
			}
		}
	}
	if n := len(args); n > 0 {
		for len(args) < cap(args) { // the last one again: the same statement
			args = append(args, args[n-3:n]...)
		}
		if err := insert(); err != nil {
			return err
		}
	}
	if d.taken < len(d.todo) {
		return nil
	}
	return tx.SetMeta(floorName, strconv.AppendInt(nil, d.last, 10))
}

// ended is called when the writing transaction was committed, or given up.
func (d *digests) ended(committed bool) {
	taken := d.taken
	d.taken = 0
	if !committed || d.old == nil || taken == 0 {
		return
	}
	d.todo, d.owed = d.todo[taken:], d.owed-taken
	if len(d.todo) > 0 {
		return
	}
	d.todo = nil
	d.mu.Lock()
	defer d.mu.Unlock()
	d.floor, d.old = d.last, nil
}

// reads returns the floor as it is before a reading transaction begins.
func (d *digests) reads() int64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.floor
}

// find returns where in memory a key is, and the floor.
func (d *digests) find(k digestKey) (seqs []int64, floor int64) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	seqs = d.young.find(k, nil)
	if d.old != nil {
		seqs = d.old.find(k, seqs)
	}
	return seqs, d.floor
}

// keysAtOnce is how many digests one statement looks for.
const keysAtOnce = 16

const selectDigest = "SELECT key, seq FROM log_digests WHERE room_id = ? AND key IN "

var selectDigests = selectDigest + "(?" + strings.Repeat(", ?", keysAtOnce-1) + ")"

// gather takes note of events that are about to be appended; their Seq is set. It
// returns ErrConflict if the log, or the list, has one of them already.
func (tx *Tx) gather(room int64, events []Event) error {
	d := tx.s.digests
	first := events[0].Seq
	// has says whether event i is in the log at seq, or was before it in the list.
	has := func(seq int64, i int) (bool, error) {
		if seq >= first {
			return seq < events[i].Seq && events[seq-first].Digest == events[i].Digest, nil
		}
		var one int
		return found(tx.row("SELECT 1 FROM room_log WHERE room_id = ? AND seq = ? AND digest = ?", room, seq, events[i].Digest[:]).Scan(&one))
	}
	type place struct {
		seq int64
		i   int
	}
	var places []place
	d.mu.Lock()
	for i := range events {
		k := keyOf(room, &events[i].Digest)
		for _, g := range []*gathered{d.young, d.old} {
			if g == nil {
				continue
			}
			if _, ok := g.one[k]; ok {
				for _, seq := range g.find(k, nil) {
					places = append(places, place{seq, i})
				}
			}
		}
		d.young.add(k, events[i].Seq)
	}
	d.mu.Unlock()
	d.owed += 2 * len(events)
	if d.floor > 0 || d.old != nil {
		for i := 0; i < len(events); {
			n := 1
			query := selectDigest + "(?)"
			if len(events)-i >= keysAtOnce {
				n, query = keysAtOnce, selectDigests
			}
			args := make([]any, 0, 1+keysAtOnce)
			args = append(args, room)
			for j := i; j < i+n; j++ {
				args = append(args, events[j].Digest[:8])
			}
			err := tx.query(func(r scanner) error {
				var key []byte
				var seq int64
				if err := r.Scan(&key, &seq); err != nil {
					return err
				}
				for j := i; j < i+n; j++ {
					if string(events[j].Digest[:8]) == string(key) {
						places = append(places, place{seq, j})
					}
				}
				return nil
			}, query, args...)
			if err != nil {
				return err
			}
			i += n
		}
	}
	for _, p := range places {
		if ok, err := has(p.seq, p.i); err != nil {
			return err
		} else if ok {
			// Who repeats a lot shall not fill the memory: none of these is stored.
			d.mu.Lock()
			defer d.mu.Unlock()
			for i := range events {
				d.young.remove(keyOf(room, &events[i].Digest), events[i].Seq)
			}
			return ErrConflict
		}
	}
	return nil
}

// seqsOf returns where in the log there may be an event with a digest.
func (tx *Tx) seqsOf(room int64, digest *[32]byte) ([]int64, error) {
	scan := func(r scanner, seq *int64) error { return r.Scan(seq) }
	k := keyOf(room, digest)
	list, err := collect(tx, scan, "SELECT seq FROM log_digests WHERE room_id = ? AND key = ?", room, octets(k.key))
	if err != nil {
		return nil, err
	}
	recent, floor := tx.s.digests.find(k)
	list = append(list, recent...)
	if floor != tx.floor {
		// A round ended since this transaction began, which does not see the end of it.
		more, err := collect(tx, scan, "SELECT seq FROM room_log WHERE position > ? AND +room_id = ? AND digest = ?", tx.floor, room, digest[:])
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	return list, nil
}

const (
	// sweepSpan is how many parts the keys of a room are swept by.
	sweepSpan = 1 << 32
	// sweepEvents bounds how many events are trimmed between two sweeps of a part.
	sweepEvents = 1 << 18
)

// sweep removes digests of the events up to a position, of which so many were
// trimmed now; live or fewer are still there. So that a page is written for many
// of them, it sweeps a part of the keys, larger the more were trimmed, and goes on
// from there the next time: once around while a quarter of the events is trimmed.
func (tx *Tx) sweep(room, upto, trimmed, live int64) error {
	const remove = "DELETE FROM log_digests WHERE room_id = ? AND seq <= ?"
	if live = min(live, 4*sweepEvents); 4*trimmed >= live {
		_, err := tx.exec(remove, room, upto)
		return err
	}
	var from int64
	if err := tx.row("SELECT swept FROM rooms WHERE room_id = ?", room).Scan(&from); err != nil {
		return err
	}
	to := from + max(4*trimmed*sweepSpan/live, 1)
	bound := func(part int64) []byte { return octets(uint64(part) << 32) }
	var err error
	if to < sweepSpan {
		_, err = tx.exec(remove+" AND key >= ? AND key < ?", room, upto, bound(from), bound(to))
	} else {
		to -= sweepSpan
		if _, err = tx.exec(remove+" AND key >= ?", room, upto, bound(from)); err == nil {
			_, err = tx.exec(remove+" AND key < ?", room, upto, bound(to))
		}
	}
	if err != nil {
		return err
	}
	_, err = tx.exec("UPDATE rooms SET swept = ? WHERE room_id = ?", to, room)
	return err
}

// openDigests reads back what the writer must know.
func (s *Store) openDigests(w *stmtConn) error {
	s.digests = &digests{atOnce: s.d.Gather}
	return s.digests.begin(&Tx{ctx: context.Background(), s: s, w: w})
}

// settle ends the round under way and moves the rest, so that the next process has
// nothing to read back. Should it fail, that one does.
func (s *Store) settle(w *stmtConn) {
	d, tx := s.digests, &Tx{ctx: context.Background(), s: s, w: w}
	for d.old != nil || d.young.n > 0 {
		if w.exec(tx.ctx, "BEGIN IMMEDIATE") != nil {
			return
		}
		err := d.begin(tx)
		if err == nil && d.old == nil && d.young.n > 0 {
			err = d.round(tx)
		}
		d.owed = len(d.todo)
		if err == nil {
			err = d.move(tx)
		}
		if err == nil {
			err = w.exec(tx.ctx, "COMMIT")
		}
		if d.ended(err == nil); err != nil {
			w.exec(tx.ctx, "ROLLBACK")
			return
		}
	}
}
