package store

// A Report is an abuse report that was received.
type Report struct {
	ID             int64
	Room           string
	Reporter       string // empty: anonymous
	Provider       string // domain that sent it
	Abuser         string
	Verdict        string
	ReceivedMillis int64
	Body           []byte
}

// PutReport keeps a report and returns its number.
func (tx *Tx) PutReport(r Report) (id int64, err error) {
	err = tx.row("INSERT INTO reports (room_uri, reporter, provider, abuser, verdict, received_ms, body) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING report_id",
		r.Room, r.Reporter, r.Provider, r.Abuser, r.Verdict, r.ReceivedMillis, blob(r.Body)).Scan(&id)
	return id, err
}

const reportColumns = "report_id, room_uri, reporter, provider, abuser, verdict, received_ms, body"

func scanReport(r scanner, p *Report) error {
	return r.Scan(&p.ID, &p.Room, &p.Reporter, &p.Provider, &p.Abuser, &p.Verdict, &p.ReceivedMillis, &p.Body)
}

// Reports returns up to limit reports with numbers below before (0: the
// newest), newest first.
func (tx *Tx) Reports(before int64, limit int) ([]Report, error) {
	return collect(tx, scanReport, "SELECT "+reportColumns+" FROM reports WHERE ? = 0 OR report_id < ? ORDER BY report_id DESC LIMIT ?", before, before, int64(limit))
}

// Report returns one report, or ErrNotFound.
func (tx *Tx) Report(id int64) (Report, error) {
	list, err := collect(tx, scanReport, "SELECT "+reportColumns+" FROM reports WHERE report_id = ?", id)
	return first(list, err)
}

// TrimReports removes reports received before beforeMillis.
func (tx *Tx) TrimReports(beforeMillis int64) (int64, error) {
	return tx.exec("DELETE FROM reports WHERE received_ms < ?", beforeMillis)
}

// An Asset describes a file that a user uploaded; its bytes are elsewhere.
type Asset struct {
	ID            string
	User          string
	MediaType     string
	Size          int64 // bytes
	CreatedMillis int64
}

// PutAsset describes an uploaded file.
func (tx *Tx) PutAsset(a Asset) error {
	_, err := tx.exec("INSERT INTO assets (asset_id, user_uri, media_type, size, created_ms) VALUES (?, ?, ?, ?, ?)", a.ID, a.User, a.MediaType, a.Size, a.CreatedMillis)
	return err
}

func scanAsset(r scanner, a *Asset) error {
	return r.Scan(&a.ID, &a.User, &a.MediaType, &a.Size, &a.CreatedMillis)
}

// Asset returns the description of a file, or ErrNotFound.
func (tx *Tx) Asset(id string) (Asset, error) {
	list, err := collect(tx, scanAsset, "SELECT asset_id, user_uri, media_type, size, created_ms FROM assets WHERE asset_id = ?", id)
	return first(list, err)
}

// AssetsBefore returns up to limit files uploaded before beforeMillis.
func (tx *Tx) AssetsBefore(beforeMillis int64, limit int) ([]Asset, error) {
	return collect(tx, scanAsset, "SELECT asset_id, user_uri, media_type, size, created_ms FROM assets WHERE created_ms < ? ORDER BY created_ms LIMIT ?", beforeMillis, int64(limit))
}

// AssetBytes sums up the sizes of a user's files.
func (tx *Tx) AssetBytes(user string) (n int64, err error) {
	err = tx.row("SELECT COALESCE(SUM(size), 0) FROM assets WHERE user_uri = ?", user).Scan(&n)
	return n, err
}

// DropAsset forgets a file.
func (tx *Tx) DropAsset(id string) error {
	_, err := tx.exec("DELETE FROM assets WHERE asset_id = ?", id)
	return err
}

// A Peer is what is known of another provider.
type Peer struct {
	Domain        string
	Mode          string // "", "allow", "deny" or "pause"
	ContactMillis int64  // when it last answered well or called us; 0: never
	FailureMillis int64  // when it last failed; 0: never
	Failure       string // how, in words
	Settings      string // what the operator said of it at run time, as JSON; empty: nothing
}

// Peers returns all providers of which something is known.
func (tx *Tx) Peers() ([]Peer, error) {
	return collect(tx, func(r scanner, p *Peer) error {
		return r.Scan(&p.Domain, &p.Mode, &p.ContactMillis, &p.FailureMillis, &p.Failure, &p.Settings)
	}, "SELECT domain, mode, contact_ms, failure_ms, failure, settings FROM peers ORDER BY domain")
}

// Peer returns what is known of one provider, or ErrNotFound.
func (tx *Tx) Peer(domain string) (p Peer, err error) {
	p.Domain = domain
	err = tx.row("SELECT mode, contact_ms, failure_ms, failure, settings FROM peers WHERE domain = ?", domain).
		Scan(&p.Mode, &p.ContactMillis, &p.FailureMillis, &p.Failure, &p.Settings)
	return p, err
}

// PutPeer stores what is known of a provider.
func (tx *Tx) PutPeer(p Peer) error {
	_, err := tx.exec("INSERT INTO peers (domain, mode, contact_ms, failure_ms, failure, settings) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (domain) DO UPDATE SET mode = excluded.mode, contact_ms = excluded.contact_ms, failure_ms = excluded.failure_ms, failure = excluded.failure, settings = excluded.settings",
		p.Domain, p.Mode, p.ContactMillis, p.FailureMillis, p.Failure, p.Settings)
	return err
}

// Clock is the time by which the nodes that share a database agree who holds a
// duty, in milliseconds: the database's own where there may be several, else
// nowMillis.
func (tx *Tx) Clock(nowMillis int64) (int64, error) {
	if tx.s.d.ClockQuery == "" {
		return nowMillis, nil
	}
	err := tx.row(tx.s.d.ClockQuery).Scan(&nowMillis)
	return nowMillis, err
}

// Lease gives a named duty to a node until untilMillis, if nobody else holds it
// at nowMillis; ok says whether the node holds it now. Both are by Clock. A lease
// that ends later than any that is given now is of a clock that was put back, and
// does not count.
func (tx *Tx) Lease(name, node string, nowMillis, untilMillis int64) (ok bool, err error) {
	n, err := tx.exec("INSERT INTO leases (name, node, expires_ms) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET node = excluded.node, expires_ms = excluded.expires_ms WHERE leases.node = excluded.node OR leases.expires_ms <= ? OR leases.expires_ms > ?",
		name, node, untilMillis, nowMillis, untilMillis+(untilMillis-nowMillis))
	return n > 0, err
}

// Release gives a duty back.
func (tx *Tx) Release(name, node string) error {
	_, err := tx.exec("DELETE FROM leases WHERE name = ? AND node = ?", name, node)
	return err
}
