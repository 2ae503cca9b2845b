package store

// The states of a user or client.
const (
	StateActive  = 1
	StateDeleted = 2
)

// A User is one account.
type User struct {
	URI           string
	State         int64 // StateActive or StateDeleted
	Password      []byte
	Settings      []byte
	CreatedMillis int64
}

// A Client is one device of a user.
type Client struct {
	URI           string
	User          string
	Token         [32]byte // SHA-256 of the bearer token
	State         int64    // StateActive or StateDeleted
	CreatedMillis int64
	SeenMillis    int64
}

// CreateUser adds a user; ErrConflict if there is one of that URI, even a
// deleted one: a URI is never given to somebody else.
func (tx *Tx) CreateUser(u User) error {
	_, err := tx.exec("INSERT INTO users (user_uri, state, password, settings, created_ms) VALUES (?, ?, ?, ?, ?)",
		u.URI, u.State, blob(u.Password), blob(u.Settings), u.CreatedMillis)
	return err
}

// User returns one user, or ErrNotFound.
func (tx *Tx) User(uri string) (u User, err error) {
	u.URI = uri
	err = tx.row("SELECT state, password, settings, created_ms FROM users WHERE user_uri = ?", uri).
		Scan(&u.State, &u.Password, &u.Settings, &u.CreatedMillis)
	return u, err
}

// UpdateUser stores a user's state, password and settings.
func (tx *Tx) UpdateUser(u User) error {
	return tx.execOne("UPDATE users SET state = ?, password = ?, settings = ? WHERE user_uri = ?", u.State, blob(u.Password), blob(u.Settings), u.URI)
}

const clientColumns = "client_uri, user_uri, token, state, created_ms, seen_ms"

func scanClient(r scanner, c *Client) error {
	var token []byte
	if err := r.Scan(&c.URI, &c.User, &token, &c.State, &c.CreatedMillis, &c.SeenMillis); err != nil {
		return err
	}
	copy(c.Token[:], token)
	return nil
}

// CreateClient adds a client; ErrConflict if there is one of that URI.
func (tx *Tx) CreateClient(c Client) error {
	_, err := tx.exec("INSERT INTO clients ("+clientColumns+") VALUES (?, ?, ?, ?, ?, ?)",
		c.URI, c.User, c.Token[:], c.State, c.CreatedMillis, c.SeenMillis)
	return err
}

// Client returns one client, or ErrNotFound.
func (tx *Tx) Client(uri string) (c Client, err error) {
	list, err := collect(tx, scanClient, "SELECT "+clientColumns+" FROM clients WHERE client_uri = ?", uri)
	return first(list, err)
}

// ClientByToken returns the client whose bearer token has this SHA-256, or
// ErrNotFound.
func (tx *Tx) ClientByToken(token [32]byte) (Client, error) {
	list, err := collect(tx, scanClient, "SELECT "+clientColumns+" FROM clients WHERE token = ?", token[:])
	return first(list, err)
}

// Clients returns all clients of a user, oldest first.
func (tx *Tx) Clients(user string) ([]Client, error) {
	return collect(tx, scanClient, "SELECT "+clientColumns+" FROM clients WHERE user_uri = ? ORDER BY created_ms, client_uri", user)
}

// UpdateClient stores a client's state, token and when it was seen.
func (tx *Tx) UpdateClient(c Client) error {
	return tx.execOne("UPDATE clients SET state = ?, token = ?, seen_ms = ? WHERE client_uri = ?", c.State, c.Token[:], c.SeenMillis, c.URI)
}

// CountUsers counts the active users.
func (tx *Tx) CountUsers() (n int64, err error) {
	err = tx.row("SELECT COUNT(*) FROM users WHERE state = ?", StateActive).Scan(&n)
	return n, err
}

func first[T any](list []T, err error) (T, error) {
	var zero T
	if err != nil {
		return zero, err
	}
	if len(list) == 0 {
		return zero, ErrNotFound
	}
	return list[0], nil
}
