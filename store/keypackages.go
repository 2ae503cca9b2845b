package store

// A KeyPackage is one KeyPackage of a local client.
type KeyPackage struct {
	Ref             []byte // KeyPackageRef (RFC 9420 §5.2)
	Client          string
	Suite           uint16
	NotAfterSeconds int64
	Body            []byte // empty once claimed
}

// AddKeyPackage puts a KeyPackage into its client's stock; ErrConflict if it
// was there before, claimed or not.
func (tx *Tx) AddKeyPackage(k KeyPackage) error {
	_, err := tx.exec("INSERT INTO key_packages (ref, client_uri, suite, not_after, claimed_ms, room_uri, body) VALUES (?, ?, ?, ?, 0, '', ?)",
		k.Ref, k.Client, int64(k.Suite), k.NotAfterSeconds, blob(k.Body))
	return err
}

// KeyPackages returns up to limit KeyPackages in a client's stock that are
// still valid after notBeforeSeconds, the soonest to expire first.
func (tx *Tx) KeyPackages(client string, notBeforeSeconds int64, limit int) ([]KeyPackage, error) {
	return collect(tx, func(r scanner, k *KeyPackage) error {
		var suite int64
		err := r.Scan(&k.Ref, &k.Client, &suite, &k.NotAfterSeconds, &k.Body)
		k.Suite = uint16(suite)
		return err
	}, "SELECT ref, client_uri, suite, not_after, body FROM key_packages WHERE client_uri = ? AND claimed_ms = 0 AND not_after > ? ORDER BY not_after, ref LIMIT ?"+tx.s.d.ForUpdate,
		client, notBeforeSeconds, int64(limit))
}

// KeyPackagesOf is KeyPackages for one cipher suite.
func (tx *Tx) KeyPackagesOf(client string, suite uint16, notBeforeSeconds int64, limit int) ([]KeyPackage, error) {
	return collect(tx, func(r scanner, k *KeyPackage) error {
		k.Suite = suite
		return r.Scan(&k.Ref, &k.Client, &k.NotAfterSeconds, &k.Body)
	}, "SELECT ref, client_uri, not_after, body FROM key_packages WHERE client_uri = ? AND suite = ? AND claimed_ms = 0 AND not_after > ? ORDER BY not_after, ref LIMIT ?"+tx.s.d.ForUpdate,
		client, int64(suite), notBeforeSeconds, int64(limit))
}

// CountKeyPackages counts a client's stock that is valid after
// notBeforeSeconds.
func (tx *Tx) CountKeyPackages(client string, notBeforeSeconds int64) (n int64, err error) {
	err = tx.row("SELECT COUNT(*) FROM key_packages WHERE client_uri = ? AND claimed_ms = 0 AND not_after > ?", client, notBeforeSeconds).Scan(&n)
	return n, err
}

// ClaimKeyPackage takes a KeyPackage out of the stock, once: ErrConflict if
// somebody else has.
func (tx *Tx) ClaimKeyPackage(ref []byte, room string, nowMillis int64) error {
	n, err := tx.exec("UPDATE key_packages SET claimed_ms = ?, room_uri = ?, body = ? WHERE ref = ? AND claimed_ms = 0", nowMillis, room, []byte{}, ref)
	if err == nil && n == 0 {
		return ErrConflict
	}
	return err
}

// ClaimedBy says which local client a KeyPackage belongs to and for which room
// it was claimed; ErrNotFound if it was never claimed or has expired.
func (tx *Tx) ClaimedBy(ref []byte) (client, room string, err error) {
	err = tx.row("SELECT client_uri, room_uri FROM key_packages WHERE ref = ? AND claimed_ms > 0", ref).Scan(&client, &room)
	return client, room, err
}

// DropKeyPackages removes a client's stock.
func (tx *Tx) DropKeyPackages(client string) error {
	_, err := tx.exec("DELETE FROM key_packages WHERE client_uri = ? AND claimed_ms = 0", client)
	return err
}

// TrimKeyPackages removes what expired before nowSeconds, and the hub's memory
// of such KeyPackages.
func (tx *Tx) TrimKeyPackages(nowSeconds int64) (int64, error) {
	n, err := tx.exec("DELETE FROM key_packages WHERE not_after < ?", nowSeconds)
	if err != nil {
		return n, err
	}
	m, err := tx.exec("DELETE FROM claims WHERE not_after < ?", nowSeconds)
	return n + m, err
}

// A Claim is what the hub remembers of a KeyPackage that went through it
// (MIMI protocol §5.2).
type Claim struct {
	Ref             []byte
	Provider        string // the domain that gave it out
	Claimant        string // the user that it was given to
	Room            string
	NotAfterSeconds int64
}

// PutClaim remembers a claim; a later one for the same KeyPackage replaces it.
func (tx *Tx) PutClaim(c Claim) error {
	_, err := tx.exec("INSERT INTO claims (ref, provider, claimant, room_uri, not_after) VALUES (?, ?, ?, ?, ?) ON CONFLICT (ref) DO UPDATE SET provider = excluded.provider, claimant = excluded.claimant, room_uri = excluded.room_uri",
		c.Ref, c.Provider, c.Claimant, c.Room, c.NotAfterSeconds)
	return err
}

// Claim returns what is remembered of a KeyPackage, or ErrNotFound.
func (tx *Tx) Claim(ref []byte) (c Claim, err error) {
	c.Ref = ref
	err = tx.row("SELECT provider, claimant, room_uri, not_after FROM claims WHERE ref = ?", ref).Scan(&c.Provider, &c.Claimant, &c.Room, &c.NotAfterSeconds)
	return c, err
}

// DropClaim forgets a claim, once its Welcome went out.
func (tx *Tx) DropClaim(ref []byte) error {
	_, err := tx.exec("DELETE FROM claims WHERE ref = ?", ref)
	return err
}

// LowStock counts the active clients that have fewer than floor KeyPackages that
// are good at a time in seconds, and those that have none.
func (tx *Tx) LowStock(floor int, nowSeconds int64) (low, none int64, err error) {
	err = tx.row(`SELECT COALESCE(SUM(CASE WHEN s.n < ? THEN 1 ELSE 0 END), 0), COALESCE(SUM(CASE WHEN s.n = 0 THEN 1 ELSE 0 END), 0)
		FROM (SELECT (SELECT COUNT(*) FROM key_packages k WHERE k.client_uri = c.client_uri AND k.claimed_ms = 0 AND k.not_after > ?) AS n
			FROM clients c WHERE c.state = ?) s`, int64(floor), nowSeconds, StateActive).Scan(&low, &none)
	return low, none, err
}
