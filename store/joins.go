package store

// A Join is a GroupInfo that was given out: the external commit that follows
// must present the same user (MIMI protocol §5.6, Decision 66).
type Join struct {
	RoomID        int64
	PublicKey     []byte // groupInfoPublicKey of the request
	User          string
	Signer        []byte // signature key of the requester's credential
	Code          []byte // the joining code that was used, if any
	ExpiresMillis int64
}

// PutJoin remembers a GroupInfo that was given out; ErrConflict if its public
// key was used before.
func (tx *Tx) PutJoin(j Join) error {
	_, err := tx.exec("INSERT INTO joins (room_id, public_key, user_uri, signer, code, expires_ms) VALUES (?, ?, ?, ?, ?, ?)",
		j.RoomID, j.PublicKey, j.User, blob(j.Signer), blob(j.Code), j.ExpiresMillis)
	return err
}

// Joins returns what a user was given for a room and has not expired, newest
// first.
func (tx *Tx) Joins(id int64, user string, nowMillis int64) ([]Join, error) {
	return collect(tx, func(r scanner, j *Join) error {
		return r.Scan(&j.RoomID, &j.PublicKey, &j.User, &j.Signer, &j.Code, &j.ExpiresMillis)
	}, "SELECT room_id, public_key, user_uri, signer, code, expires_ms FROM joins WHERE room_id = ? AND user_uri = ? AND expires_ms > ? ORDER BY expires_ms DESC", id, user, nowMillis)
}

// TrimJoins forgets those that expired before nowMillis.
func (tx *Tx) TrimJoins(nowMillis int64) (int64, error) {
	return tx.exec("DELETE FROM joins WHERE expires_ms < ?", nowMillis)
}

// A JoinCode lets those who know it join a room.
type JoinCode struct {
	RoomID        int64
	Code          []byte
	CreatedBy     string
	CreatedMillis int64
	ExpiresMillis int64 // 0: never
	UsesLeft      int64 // -1: without limit
}

// PutJoinCode stores a code; ErrConflict if the room has it already.
func (tx *Tx) PutJoinCode(c JoinCode) error {
	_, err := tx.exec("INSERT INTO join_codes (room_id, code, created_by, created_ms, expires_ms, uses_left) VALUES (?, ?, ?, ?, ?, ?)",
		c.RoomID, c.Code, c.CreatedBy, c.CreatedMillis, c.ExpiresMillis, c.UsesLeft)
	return err
}

func scanJoinCode(r scanner, c *JoinCode) error {
	return r.Scan(&c.RoomID, &c.Code, &c.CreatedBy, &c.CreatedMillis, &c.ExpiresMillis, &c.UsesLeft)
}

// JoinCodes returns all codes of a room, oldest first.
func (tx *Tx) JoinCodes(id int64) ([]JoinCode, error) {
	return collect(tx, scanJoinCode, "SELECT room_id, code, created_by, created_ms, expires_ms, uses_left FROM join_codes WHERE room_id = ? ORDER BY created_ms, code", id)
}

// JoinCode returns one code of a room, or ErrNotFound.
func (tx *Tx) JoinCode(id int64, code []byte) (JoinCode, error) {
	list, err := collect(tx, scanJoinCode, "SELECT room_id, code, created_by, created_ms, expires_ms, uses_left FROM join_codes WHERE room_id = ? AND code = ?", id, code)
	return first(list, err)
}

// UseJoinCode counts one use; ErrConflict if none is left.
func (tx *Tx) UseJoinCode(id int64, code []byte) error {
	n, err := tx.exec("UPDATE join_codes SET uses_left = CASE WHEN uses_left > 0 THEN uses_left - 1 ELSE uses_left END WHERE room_id = ? AND code = ? AND uses_left <> 0", id, code)
	if err == nil && n == 0 {
		return ErrConflict
	}
	return err
}

// DropJoinCode revokes a code, or returns ErrNotFound.
func (tx *Tx) DropJoinCode(id int64, code []byte) error {
	return tx.execOne("DELETE FROM join_codes WHERE room_id = ? AND code = ?", id, code)
}
