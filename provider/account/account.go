// Package account keeps a provider's users, their devices and sessions.
package account

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/store"
)

// MaxDevices is how many devices a user may have at a time.
const MaxDevices = 32

// MinPassword is the shortest password, in octets.
const MinPassword = 8

// maxName is the longest name of a user or device, in octets.
const maxName = 64

// sessionCache is for how long a session is believed without asking the
// database; a removed device is cut off at once on this node and after this
// time on others.
const sessionCache = 15 * time.Second

// A Config configures Accounts.
type Config struct {
	Domain       mimi.ProviderDomain
	Store        *store.Store
	Registration string   // "open", "invite" or "closed"
	Invites      []string // what an invite must be
	Now          func() time.Time
}

// Accounts are the users of one provider. Safe for concurrent use.
type Accounts struct {
	cfg Config

	mu       sync.Mutex
	sessions map[[32]byte]session
}

type session struct {
	device clientapi.Device
	until  time.Time
}

// New returns the accounts of a provider.
func New(cfg Config) (*Accounts, error) {
	switch cfg.Registration {
	case "open", "closed":
	case "invite":
		if len(cfg.Invites) == 0 {
			return nil, errors.New("registration is by invite, but no invites are configured")
		}
	default:
		return nil, fmt.Errorf("registration is %q; it must be open, invite or closed", cfg.Registration)
	}
	return &Accounts{cfg: cfg, sessions: map[[32]byte]session{}}, nil
}

func checkName(what, s string) error {
	if len(s) == 0 || len(s) > maxName {
		return clientapi.Errorf(clientapi.CodeBadRequest, "the %s has %d characters; it must have 1 to %d", what, len(s), maxName)
	}
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-') {
			return clientapi.Errorf(clientapi.CodeBadRequest, "the %s %q has a %q; use a to z, 0 to 9, dot, underscore and hyphen", what, s, r)
		}
	}
	if strings.Trim(s, ".") == "" {
		return clientapi.Errorf(clientapi.CodeBadRequest, "the %s %q is only dots", what, s)
	}
	return nil
}

// Register creates a user with its first device.
func (a *Accounts) Register(ctx context.Context, l clientapi.Login) (clientapi.Session, error) {
	var none clientapi.Session
	switch a.cfg.Registration {
	case "closed":
		return none, clientapi.Errorf(clientapi.CodeForbidden, "%s does not take new users; ask its operator for an account", a.cfg.Domain)
	case "invite":
		if !slices.Contains(a.cfg.Invites, l.Invite) {
			return none, clientapi.Errorf(clientapi.CodeForbidden, "%s takes new users by invite only, and this invite is not one of its own", a.cfg.Domain)
		}
	}
	if err := errors.Join(checkName("user name", l.User), checkName("device name", l.Device)); err != nil {
		return none, err
	}
	if len(l.Password) < MinPassword {
		return none, clientapi.Errorf(clientapi.CodeBadRequest, "the password has %d characters; it must have %d at least", len(l.Password), MinPassword)
	}
	user, err := mimi.NewUserURI(a.cfg.Domain, l.User)
	if err != nil {
		return none, err
	}
	hash, err := hashPassword(l.Password)
	if err != nil {
		return none, err
	}
	return a.open(ctx, user, l, func(tx *store.Tx, nowMillis int64) error {
		err := tx.CreateUser(store.User{URI: string(user), State: store.StateActive, Password: hash, CreatedMillis: nowMillis})
		if errors.Is(err, store.ErrConflict) {
			return clientapi.Errorf(clientapi.CodeConflict, "%s is taken; choose another name, or log in if it is yours", user)
		}
		return err
	})
}

// Login adds a device to a user, or opens a new session of a device that was
// there: the old one ends.
func (a *Accounts) Login(ctx context.Context, l clientapi.Login) (clientapi.Session, error) {
	var none clientapi.Session
	if err := errors.Join(checkName("user name", l.User), checkName("device name", l.Device)); err != nil {
		return none, err
	}
	user, err := mimi.NewUserURI(a.cfg.Domain, l.User)
	if err != nil {
		return none, err
	}
	if err := a.CheckPassword(ctx, user, l.Password); err != nil {
		return none, err
	}
	return a.open(ctx, user, l, func(tx *store.Tx, _ int64) error {
		list, err := tx.Clients(string(user))
		if err != nil {
			return err
		}
		device, err := mimi.NewClientURI(a.cfg.Domain, l.User, l.Device)
		if err != nil {
			return err
		}
		active := 0 // of the others: one that logs in anew takes no new place
		for _, c := range list {
			if c.State == store.StateActive && c.URI != string(device) {
				active++
			}
		}
		if active >= MaxDevices {
			return clientapi.Errorf(clientapi.CodeForbidden, "%s has %d devices already; remove one first", user, active)
		}
		return nil
	})
}

// CheckPassword is a CodeUnauthorized error if it is not the password of an
// active user.
func (a *Accounts) CheckPassword(ctx context.Context, user mimi.UserURI, password string) error {
	var u store.User
	err := a.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
		u, err = tx.User(string(user))
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	// An unknown user costs the same time as a wrong password.
	if !passwordMatches(u.Password, password) || u.State != store.StateActive {
		return clientapi.Errorf(clientapi.CodeUnauthorized, "the user name or the password is wrong")
	}
	return nil
}

// open creates the device's session in one transaction with what check does.
func (a *Accounts) open(ctx context.Context, user mimi.UserURI, l clientapi.Login, check func(*store.Tx, int64) error) (clientapi.Session, error) {
	client, err := mimi.NewClientURI(a.cfg.Domain, l.User, l.Device)
	if err != nil {
		return clientapi.Session{}, err
	}
	token := make([]byte, 32)
	rand.Read(token)
	s := clientapi.Session{User: user, Client: client, Token: base64.RawURLEncoding.EncodeToString(token)}
	now := a.cfg.Now().UnixMilli()
	err = a.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		if err := check(tx, now); err != nil {
			return err
		}
		c := store.Client{URI: string(client), User: string(user), Token: sha256.Sum256([]byte(s.Token)), State: store.StateActive, CreatedMillis: now, SeenMillis: now}
		if _, err := tx.Client(string(client)); err == nil {
			// A device that lost its state logs in again: its KeyPackages have
			// private keys that are gone.
			if err := tx.DropKeyPackages(string(client)); err != nil {
				return err
			}
			return tx.UpdateClient(c)
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return tx.CreateClient(c)
	})
	if err != nil {
		return clientapi.Session{}, err
	}
	a.forget(client)
	return s, nil
}

// Authenticate returns the device that a token belongs to.
func (a *Accounts) Authenticate(ctx context.Context, token string) (clientapi.Device, error) {
	digest := sha256.Sum256([]byte(token))
	now := a.cfg.Now()
	a.mu.Lock()
	s, ok := a.sessions[digest]
	a.mu.Unlock()
	if ok && now.Before(s.until) {
		return s.device, nil
	}
	var c store.Client
	err := a.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
		c, err = tx.ClientByToken(digest)
		return err
	})
	if errors.Is(err, store.ErrNotFound) || err == nil && c.State != store.StateActive {
		return clientapi.Device{}, clientapi.Errorf(clientapi.CodeUnauthorized, "the session has ended: this device was removed or logged in anew; log in again")
	}
	if err != nil {
		return clientapi.Device{}, err
	}
	d := clientapi.Device{User: mimi.UserURI(c.User), Client: mimi.ClientURI(c.URI)}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.sessions) > 200000 {
		clear(a.sessions)
	}
	a.sessions[digest] = session{d, now.Add(sessionCache)}
	return d, nil
}

// forget drops what is cached of a client's sessions; empty: of all.
func (a *Accounts) forget(client mimi.ClientURI) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k, s := range a.sessions {
		if client == "" || s.device.Client == client {
			delete(a.sessions, k)
		}
	}
}

// Devices lists a user's active devices.
func (a *Accounts) Devices(ctx context.Context, user mimi.UserURI) (list []clientapi.DeviceInfo, err error) {
	now := a.cfg.Now().Unix()
	err = a.cfg.Store.View(ctx, func(tx *store.Tx) error {
		list = nil
		clients, err := tx.Clients(string(user))
		if err != nil {
			return err
		}
		for _, c := range clients {
			if c.State != store.StateActive {
				continue
			}
			n, err := tx.CountKeyPackages(c.URI, now)
			if err != nil {
				return err
			}
			list = append(list, clientapi.DeviceInfo{Client: mimi.ClientURI(c.URI), CreatedMillis: c.CreatedMillis, SeenMillis: c.SeenMillis, Stock: n})
		}
		return nil
	})
	return list, err
}

// RemoveDevice ends a device of a user: its session, KeyPackages and cursors. The
// same transaction notes that its client is to be taken out of its rooms.
func (a *Accounts) RemoveDevice(ctx context.Context, user mimi.UserURI, client mimi.ClientURI) error {
	err := a.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		c, err := tx.Client(string(client))
		if errors.Is(err, store.ErrNotFound) || err == nil && (c.User != string(user) || c.State != store.StateActive) {
			return clientapi.Errorf(clientapi.CodeNotFound, "%s has no device %s", user, client)
		}
		if err != nil {
			return err
		}
		rooms, err := endClient(tx, c)
		if err != nil {
			return err
		}
		for _, room := range rooms {
			if err := a.gone(tx, room, c.User, c.URI); err != nil {
				return err
			}
		}
		return a.keepPlace(tx, c.User, rooms)
	})
	a.forget(client)
	return err
}

// keepPlace notes that a user's next device may join rooms in which it has none
// any more: the user is a participant still.
func (a *Accounts) keepPlace(tx *store.Tx, user string, rooms []string) error {
	clients, err := tx.Clients(user)
	if err != nil {
		return err
	}
	elsewhere := map[string]bool{}
	for _, c := range clients {
		list, err := tx.Memberships(c.URI)
		if err != nil {
			return err
		}
		for _, m := range list {
			elsewhere[m.RoomURI] = true
		}
	}
	for _, room := range rooms {
		if elsewhere[room] {
			continue
		}
		if err := tx.Invite(user, room, a.cfg.Now().UnixMilli()); err != nil {
			return err
		}
	}
	return nil
}

// gone notes that a user (with an empty client) or client is to be taken out of
// a room.
func (a *Accounts) gone(tx *store.Tx, room, user, client string) error {
	return tx.PutRemoval(store.Removal{Room: room, User: user, Client: client, CreatedMillis: a.cfg.Now().UnixMilli()})
}

// endClient ends a client and returns the rooms that it read.
func endClient(tx *store.Tx, c store.Client) (rooms []string, err error) {
	list, err := tx.Memberships(c.URI)
	if err != nil {
		return nil, err
	}
	for _, m := range list {
		if err := tx.LeaveRoom(c.URI, m.RoomID, math.MaxInt64); err != nil {
			return nil, err
		}
		rooms = append(rooms, m.RoomURI)
	}
	if err := tx.DropKeyPackages(c.URI); err != nil {
		return nil, err
	}
	c.State = store.StateDeleted
	c.Token = sha256.Sum256([]byte("no session of " + c.URI))
	return rooms, tx.UpdateClient(c)
}

// Delete deletes a user, and notes that it is to be taken out of its rooms. It
// returns the clients that it had.
func (a *Accounts) Delete(ctx context.Context, user mimi.UserURI, password string) (ended []mimi.ClientURI, err error) {
	if err := a.CheckPassword(ctx, user, password); err != nil {
		return nil, err
	}
	err = a.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		u, err := tx.User(string(user))
		if err != nil {
			return err
		}
		u.State, u.Password, u.Settings = store.StateDeleted, nil, nil
		if err := tx.UpdateUser(u); err != nil {
			return err
		}
		clients, err := tx.Clients(string(user))
		if err != nil {
			return err
		}
		rooms, err := tx.Invitations(string(user))
		if err != nil {
			return err
		}
		for _, room := range rooms {
			if err := tx.Uninvite(string(user), room); err != nil {
				return err
			}
		}
		ended = nil
		for _, c := range clients {
			if c.State != store.StateActive {
				continue
			}
			list, err := endClient(tx, c)
			if err != nil {
				return err
			}
			rooms = append(rooms, list...)
			ended = append(ended, mimi.ClientURI(c.URI))
		}
		for _, room := range rooms {
			if err := a.gone(tx, room, string(user), ""); err != nil {
				return err
			}
		}
		return forgetUser(tx, string(user))
	})
	a.forget("")
	return ended, err
}

// forgetUser drops what a user said of itself and of others.
func forgetUser(tx *store.Tx, user string) error {
	fields, err := tx.Profile(user)
	if err != nil {
		return err
	}
	for _, f := range fields {
		if err := tx.DropProfileField(f.User, f.Source, f.Name); err != nil {
			return err
		}
	}
	consents, err := tx.ConsentsOf(user)
	if err != nil {
		return err
	}
	for _, c := range consents {
		if err := tx.DropConsent(c.Requester, c.Target, c.Room); err != nil {
			return err
		}
	}
	return nil
}
