package store

import "strings"

// in returns a list of n placeholders, and keys as arguments.
func in[K any](keys []K) (string, []any) {
	args := make([]any, len(keys))
	for i := range keys {
		args[i] = keys[i]
	}
	return "(?" + strings.Repeat(", ?", len(keys)-1) + ")", args
}

// Newest returns the position of the newest event of each of the rooms; ids is
// not empty.
func (tx *Tx) Newest(ids []int64) (map[int64]int64, error) {
	out := make(map[int64]int64, len(ids))
	list, args := in(ids)
	err := tx.query(func(r scanner) error {
		var id, last int64
		if err := r.Scan(&id, &last); err != nil {
			return err
		}
		out[id] = last
		return nil
	}, "SELECT room_id, last_seq FROM rooms WHERE room_id IN "+list, args...)
	return out, err
}

// A RoomSize is how large a room's log is, and who reads it.
type RoomSize struct {
	URI, Hub        string
	Events          int64 // in the log
	LastMillis      int64 // when the newest was accepted
	Clients, Behind int64 // of this provider, and those of them that have not read all
	Followers       int64 // providers
}

// RoomSizes returns up to limit rooms, those with the longest logs first.
func (tx *Tx) RoomSizes(limit int) ([]RoomSize, error) {
	return collect(tx, func(r scanner, s *RoomSize) error {
		return r.Scan(&s.URI, &s.Hub, &s.Events, &s.LastMillis, &s.Clients, &s.Behind, &s.Followers)
	}, `SELECT r.room_uri, r.hub, (r.last_seq - r.first_seq + 1)`+lessGaps+` AS events, r.last_ms,
			(SELECT COUNT(*) FROM memberships m WHERE m.room_id = r.room_id),
			(SELECT COUNT(*) FROM memberships m WHERE m.room_id = r.room_id AND m.cursor_seq < r.last_seq),
			(SELECT COUNT(DISTINCT f.domain) FROM followers f WHERE f.room_id = r.room_id AND f.until_seq = 0)
		FROM rooms r ORDER BY events DESC, r.room_uri LIMIT ?`, int64(limit))
}

// A Footprint changes with the rooms that a client reads and with its session.
type Footprint struct {
	Rooms, RoomSum, FirstSum int64
	State                    int64
	Token                    string
	Invited, InvitedMillis   int64
}

// Footprints returns those of the clients; uris is not empty.
func (tx *Tx) Footprints(uris []string) (map[string]Footprint, error) {
	out := make(map[string]Footprint, len(uris))
	list, args := in(uris)
	users := map[string][]string{}
	err := tx.query(func(r scanner) error {
		var uri, user string
		var token []byte
		var f Footprint
		if err := r.Scan(&uri, &user, &f.State, &token, &f.Rooms, &f.RoomSum, &f.FirstSum); err != nil {
			return err
		}
		f.Token = string(token)
		out[uri] = f
		users[user] = append(users[user], uri)
		return nil
	}, `SELECT c.client_uri, c.user_uri, c.state, c.token, COUNT(m.room_id), CAST(COALESCE(SUM(m.room_id), 0) AS BIGINT), CAST(COALESCE(SUM(m.first_seq), 0) AS BIGINT)
		FROM clients c LEFT JOIN memberships m ON m.client_uri = c.client_uri
		WHERE c.client_uri IN `+list+` GROUP BY c.client_uri, c.user_uri, c.state, c.token`, args...)
	if err != nil || len(users) == 0 {
		return out, err
	}
	names := make([]string, 0, len(users))
	for u := range users {
		names = append(names, u)
	}
	list, args = in(names)
	err = tx.query(func(r scanner) error {
		var user string
		var n, newest int64
		if err := r.Scan(&user, &n, &newest); err != nil {
			return err
		}
		for _, uri := range users[user] {
			f := out[uri]
			f.Invited, f.InvitedMillis = n, newest
			out[uri] = f
		}
		return nil
	}, "SELECT user_uri, COUNT(*), MAX(added_ms) FROM invitations WHERE user_uri IN "+list+" GROUP BY user_uri", args...)
	return out, err
}
