package store

// A Removal is a user or client that is gone and still to be taken out of a
// room, which may be hosted elsewhere.
type Removal struct {
	Room          string
	User          string
	Client        string // empty: the user with all clients
	CreatedMillis int64
}

// PutRemoval notes that somebody is to be taken out of a room.
func (tx *Tx) PutRemoval(r Removal) error {
	_, err := tx.exec("INSERT INTO removals (room_uri, user_uri, client_uri, created_ms) VALUES (?, ?, ?, ?) ON CONFLICT (room_uri, user_uri, client_uri) DO NOTHING", r.Room, r.User, r.Client, r.CreatedMillis)
	return err
}

// Removals returns up to limit of those that wait after one, the oldest first;
// the zero Removal is before all.
func (tx *Tx) Removals(after Removal, limit int) ([]Removal, error) {
	return collect(tx, func(s scanner, r *Removal) error { return s.Scan(&r.Room, &r.User, &r.Client, &r.CreatedMillis) },
		"SELECT room_uri, user_uri, client_uri, created_ms FROM removals WHERE (created_ms, room_uri, user_uri, client_uri) > (?, ?, ?, ?) ORDER BY created_ms, room_uri, user_uri, client_uri LIMIT ?",
		after.CreatedMillis, after.Room, after.User, after.Client, int64(limit))
}

// DropRemoval says that a removal is done.
func (tx *Tx) DropRemoval(r Removal) error {
	_, err := tx.exec("DELETE FROM removals WHERE room_uri = ? AND user_uri = ? AND client_uri = ?", r.Room, r.User, r.Client)
	return err
}

// SetParent notes which room, hosted here too, a room depends on; empty: none.
func (tx *Tx) SetParent(id int64, parent string) error {
	_, err := tx.exec("UPDATE rooms SET parent = ? WHERE room_id = ? AND parent <> ?", parent, id, parent)
	return err
}

// Children returns the rooms that depend on a room.
func (tx *Tx) Children(parent string) ([]string, error) {
	if parent == "" {
		return nil, nil
	}
	return collect(tx, func(r scanner, s *string) error { return r.Scan(s) }, "SELECT room_uri FROM rooms WHERE parent = ? ORDER BY room_uri", parent)
}
