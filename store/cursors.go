package store

// A Follower is the cursor of a provider into the log of a room hosted here.
type Follower struct {
	RoomID   int64
	Domain   string
	FirstSeq int64 // the first event for it
	UntilSeq int64 // the last one; 0: still following
	AckedSeq int64 // everything up to here was acknowledged
}

// FollowRoom starts a provider's cursor: it gets the events from firstSeq on.
// It does nothing if the provider follows the room already.
func (tx *Tx) FollowRoom(id int64, domain string, firstSeq int64) error {
	var n int64
	if err := tx.row("SELECT COUNT(*) FROM followers WHERE room_id = ? AND domain = ? AND until_seq = 0", id, domain).Scan(&n); err != nil || n > 0 {
		return err
	}
	_, err := tx.exec("INSERT INTO followers (room_id, domain, first_seq, until_seq, acked_seq) VALUES (?, ?, ?, 0, ?) ON CONFLICT (room_id, domain, first_seq) DO UPDATE SET until_seq = 0", id, domain, firstSeq, firstSeq-1)
	return err
}

// UnfollowRoom ends a provider's cursor: untilSeq is the last event it gets.
func (tx *Tx) UnfollowRoom(id int64, domain string, untilSeq int64) error {
	_, err := tx.exec("UPDATE followers SET until_seq = ? WHERE room_id = ? AND domain = ? AND until_seq = 0", untilSeq, id, domain)
	return err
}

const followerColumns = "f.room_id, f.domain, f.first_seq, f.until_seq, f.acked_seq"

func scanFollower(r scanner, f *Follower) error {
	return r.Scan(&f.RoomID, &f.Domain, &f.FirstSeq, &f.UntilSeq, &f.AckedSeq)
}

// Followers returns all cursors into a room's log.
func (tx *Tx) Followers(id int64) ([]Follower, error) {
	return collect(tx, scanFollower, "SELECT "+followerColumns+" FROM followers f WHERE f.room_id = ? ORDER BY f.domain, f.first_seq", id)
}

// Backlog returns up to limit cursors of a provider that are behind the logs
// they read, those after the given room.
func (tx *Tx) Backlog(domain string, afterRoom int64, limit int) ([]Follower, error) {
	return collect(tx, scanFollower, "SELECT "+followerColumns+` FROM followers f JOIN rooms r ON r.room_id = f.room_id
		WHERE f.domain = ? AND f.room_id > ? AND f.acked_seq < CASE WHEN f.until_seq > 0 THEN f.until_seq ELSE r.last_seq END
		ORDER BY f.room_id, f.first_seq LIMIT ?`, domain, afterRoom, int64(limit))
}

// A Waiting is a cursor that is behind its room's log.
type Waiting struct {
	Follower
	RoomURI string
	LastSeq int64 // the newest event of the room
}

// Behind returns the cursors of a provider into one room that are behind its
// log, oldest first.
func (tx *Tx) Behind(domain string, id int64) ([]Waiting, error) {
	return collect(tx, func(r scanner, w *Waiting) error {
		return r.Scan(&w.RoomID, &w.Domain, &w.FirstSeq, &w.UntilSeq, &w.AckedSeq, &w.RoomURI, &w.LastSeq)
	}, "SELECT "+followerColumns+`, r.room_uri, r.last_seq FROM followers f JOIN rooms r ON r.room_id = f.room_id
		WHERE f.room_id = ? AND f.domain = ? AND f.acked_seq < CASE WHEN f.until_seq > 0 THEN f.until_seq ELSE r.last_seq END
		ORDER BY f.first_seq`, id, domain)
}

// FollowerDomains returns every provider with a cursor.
func (tx *Tx) FollowerDomains() ([]string, error) {
	return collect(tx, func(r scanner, s *string) error { return r.Scan(s) }, "SELECT DISTINCT domain FROM followers ORDER BY domain")
}

// FollowersBehind returns the providers with a cursor into a room that is behind
// its log.
func (tx *Tx) FollowersBehind(id int64) ([]string, error) {
	return collect(tx, func(r scanner, s *string) error { return r.Scan(s) }, `SELECT DISTINCT f.domain FROM followers f JOIN rooms r ON r.room_id = f.room_id
		WHERE f.room_id = ? AND f.acked_seq < CASE WHEN f.until_seq > 0 THEN f.until_seq ELSE r.last_seq END ORDER BY f.domain`, id)
}

// Ack moves a provider's cursor; one that has read all it may is removed.
func (tx *Tx) Ack(f Follower) error {
	if f.UntilSeq > 0 && f.AckedSeq >= f.UntilSeq {
		_, err := tx.exec("DELETE FROM followers WHERE room_id = ? AND domain = ? AND first_seq = ? AND until_seq = ?", f.RoomID, f.Domain, f.FirstSeq, f.UntilSeq)
		return err
	}
	if _, err := tx.exec("UPDATE followers SET acked_seq = ? WHERE room_id = ? AND domain = ? AND first_seq = ? AND acked_seq < ?", f.AckedSeq, f.RoomID, f.Domain, f.FirstSeq, f.AckedSeq); err != nil {
		return err
	}
	// It may have been ended since f was read.
	_, err := tx.exec("DELETE FROM followers WHERE room_id = ? AND domain = ? AND first_seq = ? AND until_seq > 0 AND acked_seq >= until_seq", f.RoomID, f.Domain, f.FirstSeq)
	return err
}

// DropBacklog gives up what a provider has not acknowledged: its cursors jump
// to the ends of the logs. It returns how many cursors moved.
func (tx *Tx) DropBacklog(domain string) (int64, error) {
	if _, err := tx.exec("DELETE FROM followers WHERE domain = ? AND until_seq > 0", domain); err != nil {
		return 0, err
	}
	return tx.exec("UPDATE followers SET acked_seq = (SELECT last_seq FROM rooms r WHERE r.room_id = followers.room_id) WHERE domain = ? AND acked_seq < (SELECT last_seq FROM rooms r WHERE r.room_id = followers.room_id)", domain)
}

// A Queue sums up what waits for a provider.
type Queue struct {
	Domain       string
	Rooms        int64 // rooms with events that wait
	Events       int64
	OldestMillis int64 // acceptance time of the oldest event that waits; 0: none
}

// Queues returns what waits for each provider, those with nothing left out.
func (tx *Tx) Queues() ([]Queue, error) {
	return collect(tx, func(r scanner, q *Queue) error { return r.Scan(&q.Domain, &q.Rooms, &q.Events, &q.OldestMillis) },
		`SELECT w.domain, COUNT(*), SUM((w.upto - w.acked_seq)`+lessGaps+`), COALESCE(MIN((SELECT MIN(l.accepted_ms) FROM room_log l WHERE l.room_id = w.room_id AND l.seq = w.acked_seq + 1)), 0)
		FROM (SELECT f.domain, f.room_id, f.acked_seq, CASE WHEN f.until_seq > 0 THEN f.until_seq ELSE r.last_seq END AS upto
			FROM followers f JOIN rooms r ON r.room_id = f.room_id) w
		WHERE w.upto > w.acked_seq GROUP BY w.domain ORDER BY w.domain`)
}

// A Membership is the cursor of a local client into the log of a room.
type Membership struct {
	Client    string
	RoomID    int64
	RoomURI   string
	Hub       string
	FirstSeq  int64 // the first event for it
	CursorSeq int64 // everything up to here was read and stored by the client
	LastSeq   int64 // the newest event of the room
}

// JoinRoom starts a client's cursor: it reads events from firstSeq on. One that
// was there before starts anew.
func (tx *Tx) JoinRoom(client string, id, firstSeq int64) error {
	_, err := tx.exec("INSERT INTO memberships (client_uri, room_id, first_seq, cursor_seq) VALUES (?, ?, ?, ?) ON CONFLICT (client_uri, room_id) DO UPDATE SET first_seq = excluded.first_seq, cursor_seq = excluded.cursor_seq",
		client, id, firstSeq, firstSeq-1)
	return err
}

// ReadAnew notes that a client which reads a room, and may not have come to its
// removal yet, is brought in again by the event at a position: it reads on from
// where it is, and what it says of having left, as of before that, ends nothing.
func (tx *Tx) ReadAnew(client string, id, firstSeq int64) error {
	_, err := tx.exec("UPDATE memberships SET first_seq = ? WHERE client_uri = ? AND room_id = ? AND first_seq < ?", firstSeq, client, id, firstSeq)
	return err
}

// LeaveRoom ends a client's cursor, if that began at or before read.
func (tx *Tx) LeaveRoom(client string, id, read int64) error {
	_, err := tx.exec("DELETE FROM memberships WHERE client_uri = ? AND room_id = ? AND first_seq <= ?", client, id, read)
	return err
}

// Memberships returns all cursors of a client.
func (tx *Tx) Memberships(client string) ([]Membership, error) {
	return collect(tx, func(r scanner, m *Membership) error {
		return r.Scan(&m.Client, &m.RoomID, &m.RoomURI, &m.Hub, &m.FirstSeq, &m.CursorSeq, &m.LastSeq)
	}, "SELECT m.client_uri, m.room_id, r.room_uri, r.hub, m.first_seq, m.cursor_seq, r.last_seq FROM memberships m JOIN rooms r ON r.room_id = m.room_id WHERE m.client_uri = ? ORDER BY m.room_id", client)
}

// Members returns the local clients with a cursor into a room's log.
func (tx *Tx) Members(id int64) ([]string, error) {
	return collect(tx, func(r scanner, s *string) error { return r.Scan(s) }, "SELECT client_uri FROM memberships WHERE room_id = ? ORDER BY client_uri", id)
}

// IsMember says whether a client has a cursor into a room's log.
func (tx *Tx) IsMember(client string, id int64) (bool, error) {
	var one int
	return found(tx.row("SELECT 1 FROM memberships WHERE client_uri = ? AND room_id = ?", client, id).Scan(&one))
}

// HasMembers says whether any local client has a cursor into a room's log.
func (tx *Tx) HasMembers(id int64) (bool, error) {
	var one int
	return found(tx.row("SELECT 1 FROM memberships WHERE room_id = ? LIMIT 1", id).Scan(&one))
}

// MoveCursor records what a client has read; it never moves back.
func (tx *Tx) MoveCursor(client string, id, seq int64) error {
	_, err := tx.exec("UPDATE memberships SET cursor_seq = ? WHERE client_uri = ? AND room_id = ? AND cursor_seq < ?", seq, client, id, seq)
	return err
}

// Invite notes that a user is listed in a room that none of its clients has
// joined.
func (tx *Tx) Invite(user, room string, nowMillis int64) error {
	_, err := tx.exec("INSERT INTO invitations (user_uri, room_uri, added_ms) VALUES (?, ?, ?) ON CONFLICT (user_uri, room_uri) DO NOTHING", user, room, nowMillis)
	return err
}

// Invitations returns the rooms that a user is listed in and has not joined.
func (tx *Tx) Invitations(user string) ([]string, error) {
	return collect(tx, func(r scanner, s *string) error { return r.Scan(s) }, "SELECT room_uri FROM invitations WHERE user_uri = ? ORDER BY added_ms, room_uri", user)
}

// Uninvite removes such a note.
func (tx *Tx) Uninvite(user, room string) error {
	_, err := tx.exec("DELETE FROM invitations WHERE user_uri = ? AND room_uri = ?", user, room)
	return err
}

// DropIdleRooms removes up to limit rooms that are hosted elsewhere than at hub,
// that nobody here reads, and whose log is empty and older than beforeMillis.
func (tx *Tx) DropIdleRooms(hub string, beforeMillis int64, limit int) (int, error) {
	ids, err := collect(tx, func(r scanner, id *int64) error { return r.Scan(id) },
		`SELECT room_id FROM rooms r WHERE hub <> ? AND created_ms < ? AND last_ms < ?
			AND NOT EXISTS (SELECT 1 FROM memberships m WHERE m.room_id = r.room_id)
			AND NOT EXISTS (SELECT 1 FROM room_log l WHERE l.room_id = r.room_id) LIMIT ?`, hub, beforeMillis, beforeMillis, int64(limit))
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		if err := tx.DropRoom(id); err != nil {
			return 0, err
		}
	}
	return len(ids), nil
}

// QuietRooms returns up to limit rooms hosted at hub, by ID, those after the given
// one, whose log is empty and in which nothing was accepted since beforeMillis.
func (tx *Tx) QuietRooms(hub string, afterRoom, beforeMillis int64, limit int) ([]Room, error) {
	return collect(tx, scanRoom, "SELECT "+roomColumns+` FROM rooms r WHERE hub = ? AND room_id > ? AND last_ms < ?
		AND NOT EXISTS (SELECT 1 FROM room_log l WHERE l.room_id = r.room_id) ORDER BY room_id LIMIT ?`, hub, afterRoom, beforeMillis, int64(limit))
}

// RoomsToTrim returns the IDs of up to limit rooms after the given one that
// have events accepted before beforeMillis.
func (tx *Tx) RoomsToTrim(afterRoom, beforeMillis int64, limit int) ([]int64, error) {
	return collect(tx, func(r scanner, id *int64) error { return r.Scan(id) },
		"SELECT r.room_id FROM rooms r JOIN room_log l ON l.room_id = r.room_id AND l.seq = r.first_seq WHERE r.room_id > ? AND l.accepted_ms < ? ORDER BY r.room_id LIMIT ?",
		afterRoom, beforeMillis, int64(limit))
}

// A Lag sums up how far local clients are behind the logs of their rooms.
type Lag struct {
	Cursors int64 // of clients that are behind
	Events  int64 // that the one furthest behind has not read
}

// Lag returns how far the local clients are behind.
func (tx *Tx) Lag() (l Lag, err error) {
	err = tx.row("SELECT COUNT(*), COALESCE(MAX((r.last_seq - m.cursor_seq)"+lessGaps+"), 0) FROM memberships m JOIN rooms r ON r.room_id = m.room_id WHERE m.cursor_seq < r.last_seq").Scan(&l.Cursors, &l.Events)
	return l, err
}

// A Laggard is a local client that has not read everything.
type Laggard struct {
	Client string
	Events int64 // that it has not read, in all its rooms
}

// Laggards returns up to limit local clients that are behind, those furthest
// behind first.
func (tx *Tx) Laggards(limit int) ([]Laggard, error) {
	return collect(tx, func(r scanner, l *Laggard) error { return r.Scan(&l.Client, &l.Events) },
		`SELECT m.client_uri, CAST(SUM((r.last_seq - m.cursor_seq)`+lessGaps+`) AS BIGINT) AS behind FROM memberships m JOIN rooms r ON r.room_id = m.room_id
		WHERE m.cursor_seq < r.last_seq GROUP BY m.client_uri ORDER BY behind DESC, m.client_uri LIMIT ?`, int64(limit))
}
