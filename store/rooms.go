package store

import (
	"errors"
	"strings"
)

// A Room is a room that this provider hosts, or follows.
type Room struct {
	ID            int64 // assigned by CreateRoom
	URI           string
	Hub           string // domain of the hub
	Version       int64  // counts the changes of Head and of the records
	Head          []byte // the small part of the state
	FirstSeq      int64  // the oldest event still in the log
	LastSeq       int64  // the newest; 0: none yet
	LastMillis    int64  // its acceptance time
	CreatedMillis int64
}

// A Record is a named piece of a room's larger state. A nil Value deletes it.
type Record struct {
	Name, Value []byte
}

// An Event is one entry of a room's log.
type Event struct {
	Seq            int64 // assigned by AppendEvents
	Kind           uint8
	Epoch          uint64
	AcceptedMillis int64
	Digest         [32]byte // SHA-256 of the MLSMessage
	Source         string   // domain it came from
	Audience       []string // provider domains that it is for; empty: all
	Clients        []string // local clients that it is for; empty: all
	Body           []byte   // the FanoutMessage; empty once trimmed
}

const roomColumns = "room_id, room_uri, hub, version, head, first_seq, last_seq, last_ms, created_ms"

func scanRoom(r scanner, m *Room) error {
	return r.Scan(&m.ID, &m.URI, &m.Hub, &m.Version, &m.Head, &m.FirstSeq, &m.LastSeq, &m.LastMillis, &m.CreatedMillis)
}

// CreateRoom adds a room with an empty log and returns its ID; ErrConflict if
// there is one of that URI.
func (tx *Tx) CreateRoom(m Room) (id int64, err error) {
	err = tx.row("INSERT INTO rooms (room_uri, hub, version, head, first_seq, last_seq, last_ms, created_ms) VALUES (?, ?, 1, ?, 1, 0, ?, ?) RETURNING room_id",
		m.URI, m.Hub, blob(m.Head), m.LastMillis, m.CreatedMillis).Scan(&id)
	return id, err
}

// Room returns a room by its URI, or ErrNotFound.
func (tx *Tx) Room(uri string) (Room, error) {
	list, err := collect(tx, scanRoom, "SELECT "+roomColumns+" FROM rooms WHERE room_uri = ?", uri)
	return first(list, err)
}

// RoomByID returns a room by its ID, or ErrNotFound.
func (tx *Tx) RoomByID(id int64) (Room, error) {
	list, err := collect(tx, scanRoom, "SELECT "+roomColumns+" FROM rooms WHERE room_id = ?", id)
	return first(list, err)
}

// Rooms returns up to limit rooms whose hub is the given domain, by URI, those
// after the given one.
func (tx *Tx) Rooms(hub, after string, limit int) ([]Room, error) {
	return collect(tx, scanRoom, "SELECT "+roomColumns+" FROM rooms WHERE hub = ? AND room_uri > ? ORDER BY room_uri LIMIT ?", hub, after, int64(limit))
}

// CountRooms counts the rooms hosted at hub; with an empty hub, all rooms.
func (tx *Tx) CountRooms(hub string) (n int64, err error) {
	if hub == "" {
		err = tx.row("SELECT COUNT(*) FROM rooms").Scan(&n)
		return n, err
	}
	err = tx.row("SELECT COUNT(*) FROM rooms WHERE hub = ?", hub).Scan(&n)
	return n, err
}

// RoomRecords returns all records of a room, by name.
func (tx *Tx) RoomRecords(id int64) ([]Record, error) {
	return collect(tx, func(r scanner, rec *Record) error { return r.Scan(&rec.Name, &rec.Value) },
		"SELECT name, value FROM room_records WHERE room_id = ? ORDER BY name", id)
}

// SwapRoom replaces a room's head and the given records and counts its version
// up, if the version is still ifVersion; else ErrConflict.
func (tx *Tx) SwapRoom(id, ifVersion int64, head []byte, records []Record) error {
	n, err := tx.exec("UPDATE rooms SET version = version + 1, head = ? WHERE room_id = ? AND version = ?", blob(head), id, ifVersion)
	if err != nil {
		return err
	}
	if n == 0 {
		return ErrConflict
	}
	return tx.PutRecords(id, records)
}

// DropRecords deletes all records of a room.
func (tx *Tx) DropRecords(id int64) error {
	_, err := tx.exec("DELETE FROM room_records WHERE room_id = ?", id)
	return err
}

// PutRecords stores or deletes records of a room.
func (tx *Tx) PutRecords(id int64, records []Record) error {
	for _, r := range records {
		var err error
		if r.Value == nil {
			_, err = tx.exec("DELETE FROM room_records WHERE room_id = ? AND name = ?", id, blob(r.Name))
		} else {
			_, err = tx.exec("INSERT INTO room_records (room_id, name, value) VALUES (?, ?, ?) ON CONFLICT (room_id, name) DO UPDATE SET value = excluded.value", id, blob(r.Name), r.Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// AppendEvents adds events at the end of a room's log, if its version is still
// ifVersion and their acceptance times are after the last one; else
// ErrConflict. It sets their Seq. Events with a Digest that the log has already
// are ErrConflict too. After an error the transaction must be given up.
func (tx *Tx) AppendEvents(id, ifVersion int64, events []Event) error {
	if len(events) == 0 {
		return nil
	}
	return tx.append(id, events, "UPDATE rooms SET last_seq = last_seq + ?, last_ms = ? WHERE room_id = ? AND version = ? AND last_ms < ? RETURNING last_seq",
		int64(len(events)), events[len(events)-1].AcceptedMillis, id, ifVersion, events[0].AcceptedMillis)
}

// AppendFollowed adds events at the end of the log of a room that is hosted
// elsewhere, in the order they arrived. It sets their Seq. Events with a Digest
// that the log has already are ErrConflict. After an error the transaction must be
// given up.
func (tx *Tx) AppendFollowed(id int64, events []Event) error {
	if len(events) == 0 {
		return nil
	}
	last := events[len(events)-1].AcceptedMillis
	return tx.append(id, events, "UPDATE rooms SET last_seq = last_seq + ?, last_ms = CASE WHEN last_ms < ? THEN ? ELSE last_ms END WHERE room_id = ? RETURNING last_seq",
		int64(len(events)), last, last, id)
}

func (tx *Tx) append(id int64, events []Event, update string, args ...any) error {
	var last int64
	if ok, err := found(tx.row(update, args...).Scan(&last)); err != nil {
		return err
	} else if !ok {
		return ErrConflict
	}
	for i := range events {
		events[i].Seq = last - int64(len(events)) + 1 + int64(i)
	}
	if tx.s.digests != nil {
		if err := tx.gather(id, events); err != nil {
			return err
		}
	}
	for len(events) > 0 {
		n := 1
		if len(events) >= eventsAtOnce {
			n = eventsAtOnce
		}
		if err := tx.insertEvents(id, events[:n]); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

// eventsAtOnce is how many events one statement inserts, where there are as many:
// most of the cost of a small statement is around it.
const eventsAtOnce = 16

const (
	insertEvent     = " INTO room_log (room_id, seq, kind, epoch, accepted_ms, digest, source, audience, clients, body) VALUES " + eventValues
	eventValues     = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	eventParameters = 10
)

// insertEventsAtOnce inserts eventsAtOnce events.
var insertEventsAtOnce = insertEvent + strings.Repeat(", "+eventValues, eventsAtOnce-1)

// insertEvents inserts one event or eventsAtOnce.
func (tx *Tx) insertEvents(id int64, events []Event) error {
	query := tx.s.insertEvent
	if len(events) > 1 {
		query = tx.s.insertEvents
	}
	args := make([]any, 0, eventsAtOnce*eventParameters)
	for i := range events {
		e := &events[i]
		args = append(args, id, e.Seq, int64(e.Kind), int64(e.Epoch), e.AcceptedMillis, e.Digest[:], e.Source, lines(e.Audience), lines(e.Clients), blob(e.Body))
	}
	_, err := tx.exec(query, args...)
	return err
}

const eventColumns = "seq, kind, epoch, accepted_ms, digest, source, audience, clients, body"

func scanEvent(r scanner, e *Event) error {
	var kind, epoch int64
	var digest []byte
	var audience, clients string
	if err := r.Scan(&e.Seq, &kind, &epoch, &e.AcceptedMillis, &digest, &e.Source, &audience, &clients, &e.Body); err != nil {
		return err
	}
	e.Kind, e.Epoch = uint8(kind), uint64(epoch)
	copy(e.Digest[:], digest)
	e.Audience, e.Clients = unlines(audience), unlines(clients)
	return nil
}

// Events returns up to limit events of a room after the given position, in
// order.
func (tx *Tx) Events(id, afterSeq int64, limit int) ([]Event, error) {
	return collect(tx, scanEvent, "SELECT "+eventColumns+" FROM room_log WHERE room_id = ? AND seq > ? ORDER BY seq LIMIT ?", id, afterSeq, int64(limit))
}

// errEnough ends a query that has read what it wanted.
var errEnough = errors.New("store: enough was read")

// EventsWithin is Events with a bound on memory: it stops after the event that
// follows more than so many octets of bodies. more says that there may be others.
func (tx *Tx) EventsWithin(id, afterSeq int64, limit, octets int) (list []Event, more bool, err error) {
	size := 0
	err = tx.query(func(r scanner) error {
		var e Event
		if err := scanEvent(r, &e); err != nil {
			return err
		}
		list = append(list, e)
		if size > octets {
			return errEnough
		}
		size += len(e.Body)
		return nil
	}, "SELECT "+eventColumns+" FROM room_log WHERE room_id = ? AND seq > ? ORDER BY seq LIMIT ?", id, afterSeq, int64(limit))
	if errors.Is(err, errEnough) {
		return list, true, nil
	}
	return list, len(list) == limit, err
}

// EventByDigest returns the event with this SHA-256 of its MLSMessage, or
// ErrNotFound.
func (tx *Tx) EventByDigest(id int64, digest [32]byte) (Event, error) {
	const query = "SELECT " + eventColumns + " FROM room_log WHERE room_id = ? AND digest = ?"
	if tx.s.digests == nil {
		list, err := collect(tx, scanEvent, query, id, digest[:])
		return first(list, err)
	}
	seqs, err := tx.seqsOf(id, &digest)
	if err != nil {
		return Event{}, err
	}
	for _, seq := range seqs {
		if list, err := collect(tx, scanEvent, query+" AND seq = ?", id, digest[:], seq); err != nil || len(list) > 0 {
			return first(list, err)
		}
	}
	return Event{}, ErrNotFound
}

// TrimRoom drops up to limit of the room's oldest events: those accepted before
// beforeMillis that every follower and client which may read them has read, and
// those accepted before unreadMillis, read or not. It returns how many.
func (tx *Tx) TrimRoom(id, beforeMillis, unreadMillis int64, limit int) (int64, error) {
	var from, last, read int64
	if ok, err := found(tx.row("SELECT first_seq, last_seq FROM rooms WHERE room_id = ?", id).Scan(&from, &last)); err != nil || !ok {
		return 0, err
	}
	err := tx.row(`SELECT COALESCE(MIN(seq), 9223372036854775807) FROM (SELECT cursor_seq AS seq FROM memberships WHERE room_id = ?
		UNION ALL SELECT acked_seq AS seq FROM followers WHERE room_id = ?) AS cursors`, id, id).Scan(&read)
	if err != nil {
		return 0, err
	}
	upto, err := tx.lastBefore(id, beforeMillis, read, limit)
	if err != nil {
		return 0, err
	}
	unread, err := tx.lastBefore(id, min(beforeMillis, unreadMillis), last, limit)
	if err != nil {
		return 0, err
	}
	if upto = max(upto, unread); upto == 0 {
		return 0, nil
	}
	n, err := tx.exec("DELETE FROM room_log WHERE room_id = ? AND seq <= ?", id, upto)
	if err != nil {
		return 0, err
	}
	if _, err = tx.exec("UPDATE rooms SET first_seq = ? WHERE room_id = ? AND first_seq <= ?", upto+1, id, upto); err != nil {
		return 0, err
	}
	if tx.s.digests != nil {
		err = tx.sweep(id, upto, upto-from+1, last-upto)
	}
	return n, err
}

// lastBefore returns the position of the last of up to limit events at the
// beginning of a room's log, and up to uptoSeq, that were accepted before beforeMillis; 0: none.
func (tx *Tx) lastBefore(id, beforeMillis, uptoSeq int64, limit int) (upto int64, err error) {
	err = tx.query(func(r scanner) error {
		var seq, at int64
		if err := r.Scan(&seq, &at); err != nil {
			return err
		}
		if at >= beforeMillis {
			return errEnough
		}
		upto = seq
		return nil
	}, "SELECT seq, accepted_ms FROM room_log WHERE room_id = ? AND seq <= ? ORDER BY seq LIMIT ?", id, uptoSeq, int64(limit))
	if errors.Is(err, errEnough) {
		err = nil
	}
	return upto, err
}

// DropRoom removes a room with everything that belongs to it.
func (tx *Tx) DropRoom(id int64) error {
	if tx.s.digests != nil {
		if _, err := tx.exec("DELETE FROM log_digests WHERE room_id = ?", id); err != nil {
			return err
		}
	}
	for _, q := range []string{
		"DELETE FROM room_log WHERE room_id = ?", "DELETE FROM room_records WHERE room_id = ?",
		"DELETE FROM followers WHERE room_id = ?", "DELETE FROM memberships WHERE room_id = ?",
		"DELETE FROM joins WHERE room_id = ?", "DELETE FROM join_codes WHERE room_id = ?",
		"DELETE FROM rooms WHERE room_id = ?",
	} {
		if _, err := tx.exec(q, id); err != nil {
			return err
		}
	}
	return nil
}

func lines(list []string) string { return strings.Join(list, "\n") }

func unlines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}

// AddressEvent says which local clients an event is for.
func (tx *Tx) AddressEvent(id, seq int64, clients []string) error {
	return tx.execOne("UPDATE room_log SET clients = ? WHERE room_id = ? AND seq = ?", lines(clients), id, seq)
}

// Took reports whether an event in a room's log came from a provider.
func (tx *Tx) Took(id int64, source string) (bool, error) {
	var one int
	return found(tx.row("SELECT 1 FROM room_log WHERE room_id = ? AND source = ? LIMIT 1", id, source).Scan(&one))
}
