package store

// What a target decided about a requester.
const (
	Undecided = 0
	Granted   = 1
	Revoked   = 2
)

// A Consent is where a requester and a target stand, for one room or for any.
type Consent struct {
	Requester, Target string
	Room              string // empty: any room
	Asked             bool   // the requester asks at present
	Decided           int64  // Undecided, Granted or Revoked
	UpdatedMillis     int64
	KeyPackages       []byte // that came with a grant, for the requester; empty: none
}

// PutConsent stores where two users stand.
func (tx *Tx) PutConsent(c Consent) error {
	_, err := tx.exec("INSERT INTO consents (requester, target, room_uri, asked, decided, updated_ms, key_packages) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (requester, target, room_uri) DO UPDATE SET asked = excluded.asked, decided = excluded.decided, updated_ms = excluded.updated_ms, key_packages = excluded.key_packages",
		c.Requester, c.Target, c.Room, flag(c.Asked), c.Decided, c.UpdatedMillis, blob(c.KeyPackages))
	return err
}

const consentColumns = "requester, target, room_uri, asked, decided, updated_ms, key_packages"

func scanConsent(r scanner, c *Consent) error {
	var asked int64
	err := r.Scan(&c.Requester, &c.Target, &c.Room, &asked, &c.Decided, &c.UpdatedMillis, &c.KeyPackages)
	c.Asked = asked != 0
	if len(c.KeyPackages) == 0 {
		c.KeyPackages = nil
	}
	return err
}

// Consent returns where two users stand for exactly this room (empty: for any),
// or ErrNotFound.
func (tx *Tx) Consent(requester, target, room string) (Consent, error) {
	list, err := collect(tx, scanConsent, "SELECT "+consentColumns+" FROM consents WHERE requester = ? AND target = ? AND room_uri = ?", requester, target, room)
	return first(list, err)
}

// ConsentsOf returns all entries in which the user is requester or target, the
// latest first.
func (tx *Tx) ConsentsOf(user string) ([]Consent, error) {
	return collect(tx, scanConsent, "SELECT "+consentColumns+" FROM consents WHERE requester = ? OR target = ? ORDER BY updated_ms DESC, requester, target, room_uri", user, user)
}

// CountConsentRequests counts the requests to a target that wait for an answer.
func (tx *Tx) CountConsentRequests(target string) (n int64, err error) {
	err = tx.row("SELECT COUNT(*) FROM consents WHERE target = ? AND asked = 1 AND decided = 0", target).Scan(&n)
	return n, err
}

// DropConsent forgets an entry.
func (tx *Tx) DropConsent(requester, target, room string) error {
	_, err := tx.exec("DELETE FROM consents WHERE requester = ? AND target = ? AND room_uri = ?", requester, target, room)
	return err
}

// A ProfileField is something a user filled in about themselves.
type ProfileField struct {
	User     string
	Source   uint8 // the search type that it answers
	Name     string
	Value    string
	Search   string // Value, folded for comparison
	Findable bool   // others may find the user by it
	Shown    bool   // it is shown to those who found them
}

// PutProfileField stores a field.
func (tx *Tx) PutProfileField(f ProfileField) error {
	_, err := tx.exec("INSERT INTO profile_fields (user_uri, source, name, value, search, findable, shown) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (user_uri, source, name) DO UPDATE SET value = excluded.value, search = excluded.search, findable = excluded.findable, shown = excluded.shown",
		f.User, int64(f.Source), f.Name, f.Value, f.Search, flag(f.Findable), flag(f.Shown))
	return err
}

// DropProfileField removes a field, or returns ErrNotFound.
func (tx *Tx) DropProfileField(user string, source uint8, name string) error {
	return tx.execOne("DELETE FROM profile_fields WHERE user_uri = ? AND source = ? AND name = ?", user, int64(source), name)
}

func scanProfileField(r scanner, f *ProfileField) error {
	var source, findable, shown int64
	err := r.Scan(&f.User, &source, &f.Name, &f.Value, &f.Search, &findable, &shown)
	f.Source, f.Findable, f.Shown = uint8(source), findable != 0, shown != 0
	return err
}

const profileColumns = "p.user_uri, p.source, p.name, p.value, p.search, p.findable, p.shown"

// Profile returns all fields of a user.
func (tx *Tx) Profile(user string) ([]ProfileField, error) {
	return collect(tx, scanProfileField, "SELECT "+profileColumns+" FROM profile_fields p WHERE p.user_uri = ? ORDER BY p.source, p.name", user)
}

// Findable returns up to limit fields of active users who let themselves be
// found by one of this source and name (an empty name: any) whose folded value
// is search.
func (tx *Tx) Findable(source uint8, name, search string, limit int) ([]ProfileField, error) {
	return collect(tx, scanProfileField, "SELECT "+profileColumns+" FROM profile_fields p JOIN users u ON u.user_uri = p.user_uri WHERE p.source = ? AND (p.name = ? OR ? = '') AND p.search = ? AND p.findable = 1 AND u.state = 1 ORDER BY p.user_uri LIMIT ?",
		int64(source), name, name, search, int64(limit))
}

// FindableContaining is Findable for values that contain search.
func (tx *Tx) FindableContaining(source uint8, search string, limit int) ([]ProfileField, error) {
	return collect(tx, scanProfileField, "SELECT "+profileColumns+" FROM profile_fields p JOIN users u ON u.user_uri = p.user_uri WHERE p.source = ? AND p.search LIKE ? ESCAPE '!' AND p.findable = 1 AND u.state = 1 ORDER BY p.user_uri LIMIT ?",
		int64(source), "%"+escapeLike(search)+"%", int64(limit))
}

func escapeLike(s string) string {
	out := make([]byte, 0, len(s))
	for i := range len(s) {
		if c := s[i]; c == '%' || c == '_' || c == '!' {
			out = append(out, '!')
		}
		out = append(out, s[i])
	}
	return string(out)
}
