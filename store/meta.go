package store

// Meta returns a small value that exists once, or ErrNotFound.
func (tx *Tx) Meta(name string) (value []byte, err error) {
	err = tx.row("SELECT value FROM meta WHERE name = ?", name).Scan(&value)
	return value, err
}

// SetMeta stores a small value that exists once.
func (tx *Tx) SetMeta(name string, value []byte) error {
	_, err := tx.exec("INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", name, blob(value))
	return err
}

// CreateMeta stores a value unless there is one, and returns what stands there
// now: of several that create it, all get the same.
func (tx *Tx) CreateMeta(name string, value []byte) ([]byte, error) {
	if _, err := tx.exec("INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", name, blob(value)); err != nil {
		return nil, err
	}
	return tx.Meta(name)
}

// DropMeta removes the values whose names begin with a prefix and that are equal
// to one, and returns how many.
func (tx *Tx) DropMeta(prefix string, value []byte) (int64, error) {
	return tx.exec("DELETE FROM meta WHERE name LIKE ? AND value = ?", prefix+"%", value)
}

// Answer returns the stored answer to a request with this SHA-256, and when it
// was given, or ErrNotFound.
func (tx *Tx) Answer(digest [32]byte) (answer []byte, createdMillis int64, err error) {
	err = tx.row("SELECT answer, created_ms FROM answers WHERE digest = ?", digest[:]).Scan(&answer, &createdMillis)
	return answer, createdMillis, err
}

// PutAnswer stores the answer to a request; ErrConflict if there is one.
func (tx *Tx) PutAnswer(digest [32]byte, answer []byte, nowMillis int64) error {
	_, err := tx.exec("INSERT INTO answers (digest, answer, created_ms) VALUES (?, ?, ?)", digest[:], blob(answer), nowMillis)
	return err
}

// SetAnswer stores an answer in place of the one that there may be.
func (tx *Tx) SetAnswer(digest [32]byte, answer []byte, nowMillis int64) error {
	_, err := tx.exec("INSERT INTO answers (digest, answer, created_ms) VALUES (?, ?, ?) ON CONFLICT (digest) DO UPDATE SET answer = excluded.answer, created_ms = excluded.created_ms",
		digest[:], blob(answer), nowMillis)
	return err
}

// TrimAnswers forgets answers older than beforeMillis.
func (tx *Tx) TrimAnswers(beforeMillis int64) (int64, error) {
	return tx.exec("DELETE FROM answers WHERE created_ms < ?", beforeMillis)
}

// blob keeps an empty value from becoming NULL.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
