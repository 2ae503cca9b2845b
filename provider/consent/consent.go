// Package consent keeps who may add whom (MIMI protocol §5.7, §8).
//
// A requester never learns from the answers whether a target exists, saw the
// request or refused it: requests to anybody are taken alike, and what is
// stored for users that don't exist is nothing.
package consent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/tlspl"
)

// MaxWaiting is how many requests may wait for one user's answer; further ones
// are dropped without a word.
const MaxWaiting = 500

// MaxKeyPackages bounds the KeyPackages that come with a grant.
const MaxKeyPackages = 64

// A Config configures Consents.
type Config struct {
	Domain mimi.ProviderDomain
	Store  *store.Store
	Now    func() time.Time
	// Open providers let anybody add their users unless the user revoked it;
	// others (connection-oriented) need a grant first.
	Open bool
}

// Consents are those of one provider's users. Safe for concurrent use.
type Consents struct{ cfg Config }

// New returns the consents of a provider.
func New(cfg Config) *Consents { return &Consents{cfg} }

// Allowed says whether requester may have target's key material for a room
// (empty: for none in particular); if not, with which code that is said. The
// entry for the room goes before the one for any room, which goes before the
// provider's default. Decision 68
func (c *Consents) Allowed(tx *store.Tx, requester, target mimi.UserURI, room mimi.RoomURI) (bool, mimi.KeyMaterialUserCode, error) {
	if requester == target {
		return true, mimi.KeyMaterialSuccess, nil
	}
	refusal := mimi.KeyMaterialNoConsent
	for _, scope := range []string{string(room), ""} {
		entry, err := tx.Consent(string(requester), string(target), scope)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return false, 0, err
		}
		switch entry.Decided {
		case store.Granted:
			return true, mimi.KeyMaterialSuccess, nil
		case store.Revoked:
			if scope != "" {
				// Somebody who may not be told more hears that it is for this
				// room only if there is a grant for any.
				general, err := tx.Consent(string(requester), string(target), "")
				if err == nil && general.Decided == store.Granted {
					refusal = mimi.KeyMaterialNoConsentForThisRoom
				} else if err != nil && !errors.Is(err, store.ErrNotFound) {
					return false, 0, err
				}
			}
			return false, refusal, nil
		}
	}
	return c.cfg.Open, refusal, nil
}

// MayInvite says whether a user of ours may be told that it was put into a room
// without one of its clients. Who did that can't be seen from here. So where
// somebody is not to be added by everybody, it takes that somebody with consent
// asked for the user's key material for this room before.
func (c *Consents) MayInvite(tx *store.Tx, user mimi.UserURI, room mimi.RoomURI) (bool, error) {
	free := c.cfg.Open
	if free {
		entries, err := tx.ConsentsOf(string(user))
		if err != nil {
			return false, err
		}
		free = !slices.ContainsFunc(entries, func(e store.Consent) bool { return e.Target == string(user) && e.Decided == store.Revoked })
	}
	if free {
		return true, nil
	}
	_, _, err := tx.Answer(askedFor(user, room))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// AskedFor notes that somebody with consent asked for a user's key material for
// a room, for MayInvite.
func (c *Consents) AskedFor(tx *store.Tx, user mimi.UserURI, room mimi.RoomURI) error {
	if room == "" {
		return nil
	}
	digest := askedFor(user, room)
	if _, _, err := tx.Answer(digest); !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return tx.PutAnswer(digest, nil, c.cfg.Now().UnixMilli())
}

func askedFor(user mimi.UserURI, room mimi.RoomURI) [sha256.Size]byte {
	return sha256.Sum256([]byte("asked for " + string(user) + " in " + string(room)))
}

// maxExhausted bounds how many users are remembered for one room by Exhausted.
const maxExhausted = 256

// Exhausted notes that a user was asked for key material for a room by somebody
// with consent, and that some of its devices had none.
func (c *Consents) Exhausted(tx *store.Tx, user mimi.UserURI, room mimi.RoomURI) error {
	if room == "" {
		return nil
	}
	users, err := c.ExhaustedIn(tx, room)
	if err != nil {
		return err
	}
	users = append(slices.DeleteFunc(users, func(u mimi.UserURI) bool { return u == user }), user)
	b, err := tlspl.Marshal(&userList{users[max(0, len(users)-maxExhausted):]})
	if err != nil {
		return err
	}
	return tx.SetAnswer(exhaustedIn(room), b, c.cfg.Now().UnixMilli())
}

// ExhaustedIn returns the users that Exhausted noted for a room in the last day:
// those who may have been listed in it without all of their devices. A follower
// needs them where it can't read who is listed (Decision 59).
func (c *Consents) ExhaustedIn(tx *store.Tx, room mimi.RoomURI) ([]mimi.UserURI, error) {
	b, _, err := tx.Answer(exhaustedIn(room))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list userList
	return list.users, tlspl.Unmarshal(b, &list)
}

func exhaustedIn(room mimi.RoomURI) [sha256.Size]byte {
	return sha256.Sum256([]byte("exhausted in " + string(room)))
}

type userList struct{ users []mimi.UserURI }

// Code describes the list as it is stored.
func (l *userList) Code(c *tlspl.Codec) { tlspl.Vector(c, &l.users) }

// Requested takes a requester's entry from its provider: a request or its
// cancellation.
func (c *Consents) Requested(ctx context.Context, from mimi.ProviderDomain, e *mimi.ConsentEntry) error {
	s := e.ConsentScope
	if !e.ConsentOperation.IsRequest() {
		return &mimi.MalformedError{Err: errors.New("requestConsent takes request and cancel")}
	}
	if s.RequesterURI.Host() != from {
		return &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: "the requester is not a user of " + string(from)}
	}
	if s.TargetURI.Host() != c.cfg.Domain {
		return &mimi.RefusedError{Refusal: mimi.RefusedNotFound, Reason: "the target is not a user of " + string(c.cfg.Domain)}
	}
	return c.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		u, err := tx.User(string(s.TargetURI))
		if errors.Is(err, store.ErrNotFound) || err == nil && u.State != store.StateActive {
			return nil
		}
		if err != nil {
			return err
		}
		entry, err := tx.Consent(string(s.RequesterURI), string(s.TargetURI), string(s.RoomID))
		switch {
		case errors.Is(err, store.ErrNotFound):
			if e.ConsentOperation == mimi.ConsentCancel {
				return nil
			}
			if n, err := tx.CountConsentRequests(string(s.TargetURI)); err != nil || n >= MaxWaiting {
				return err
			}
			entry = store.Consent{Requester: string(s.RequesterURI), Target: string(s.TargetURI), Room: string(s.RoomID)}
		case err != nil:
			return err
		}
		entry.Asked = e.ConsentOperation == mimi.ConsentRequest
		return c.put(tx, entry)
	})
}

// Decided takes a target's entry from its provider: a grant or a revocation.
func (c *Consents) Decided(ctx context.Context, from mimi.ProviderDomain, e *mimi.ConsentEntry) error {
	s := e.ConsentScope
	if e.ConsentOperation.IsRequest() {
		return &mimi.MalformedError{Err: errors.New("updateConsent takes grant and revoke")}
	}
	if s.TargetURI.Host() != from {
		return &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: "the target is not a user of " + string(from)}
	}
	if s.RequesterURI.Host() != c.cfg.Domain {
		return &mimi.RefusedError{Refusal: mimi.RefusedNotFound, Reason: "the requester is not a user of " + string(c.cfg.Domain)}
	}
	return c.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		if _, err := tx.User(string(s.RequesterURI)); errors.Is(err, store.ErrNotFound) {
			return nil
		} else if err != nil {
			return err
		}
		if len(e.ClientKeyPackages) > MaxKeyPackages {
			return &mimi.RefusedError{Refusal: mimi.RefusedTooLarge, Reason: fmt.Sprintf("%d KeyPackages with a grant; at most %d are taken", len(e.ClientKeyPackages), MaxKeyPackages)}
		}
		return c.decide(tx, s, e.ConsentOperation, e.ClientKeyPackages)
	})
}

// keyPackages are those that came with a grant, as they are stored.
type keyPackages struct{ list []mls.KeyPackage }

func (k *keyPackages) Code(c *tlspl.Codec) { tlspl.Vector(c, &k.list) }

func (c *Consents) decide(tx *store.Tx, s mimi.ConsentScope, op mimi.ConsentOperation, given []mls.KeyPackage) error {
	entry, err := tx.Consent(string(s.RequesterURI), string(s.TargetURI), string(s.RoomID))
	if errors.Is(err, store.ErrNotFound) {
		entry = store.Consent{Requester: string(s.RequesterURI), Target: string(s.TargetURI), Room: string(s.RoomID)}
	} else if err != nil {
		return err
	}
	entry.Asked = false
	entry.Decided, entry.KeyPackages = store.Revoked, nil
	if len(given) > 0 && op == mimi.ConsentGrant {
		if entry.KeyPackages, err = tlspl.Marshal(&keyPackages{given}); err != nil {
			return err
		}
	}
	if op == mimi.ConsentGrant {
		entry.Decided = store.Granted
	}
	return c.put(tx, entry)
}

// put stores an entry, or drops one that says nothing any more.
func (c *Consents) put(tx *store.Tx, e store.Consent) error {
	if !e.Asked && e.Decided == store.Undecided {
		return tx.DropConsent(e.Requester, e.Target, e.Room)
	}
	e.UpdatedMillis = c.cfg.Now().UnixMilli()
	return tx.PutConsent(e)
}

// Change does what a user of ours says and returns the entry that the peer's
// provider is to hear.
func (c *Consents) Change(ctx context.Context, user mimi.UserURI, change clientapi.ConsentChange) (*mimi.ConsentEntry, error) {
	if change.Peer == user || change.Peer == "" {
		return nil, clientapi.Errorf(clientapi.CodeBadRequest, "name the person whom this is about")
	}
	e := &mimi.ConsentEntry{ConsentScope: mimi.ConsentScope{RequesterURI: user, TargetURI: change.Peer, RoomID: change.Room}}
	switch change.Operation {
	case "request":
		e.ConsentOperation = mimi.ConsentRequest
	case "cancel":
		e.ConsentOperation = mimi.ConsentCancel
	case "grant":
		e.ConsentOperation = mimi.ConsentGrant
	case "revoke":
		e.ConsentOperation = mimi.ConsentRevoke
	default:
		return nil, clientapi.Errorf(clientapi.CodeBadRequest, "%q is not request, cancel, grant or revoke", change.Operation)
	}
	if !e.ConsentOperation.IsRequest() {
		e.ConsentScope.RequesterURI, e.ConsentScope.TargetURI = change.Peer, user
	}
	return e, c.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		if !e.ConsentOperation.IsRequest() {
			return c.decide(tx, e.ConsentScope, e.ConsentOperation, nil)
		}
		entry, err := tx.Consent(string(user), string(change.Peer), string(change.Room))
		if errors.Is(err, store.ErrNotFound) {
			entry = store.Consent{Requester: string(user), Target: string(change.Peer), Room: string(change.Room)}
		} else if err != nil {
			return err
		}
		entry.Asked = e.ConsentOperation == mimi.ConsentRequest
		return c.put(tx, entry)
	})
}

// List returns where a user stands with others.
func (c *Consents) List(ctx context.Context, user mimi.UserURI) (list []clientapi.Consent, err error) {
	err = c.cfg.Store.View(ctx, func(tx *store.Tx) error {
		list = nil
		entries, err := tx.ConsentsOf(string(user))
		for _, e := range entries {
			var given keyPackages
			if len(e.KeyPackages) > 0 && e.Requester == string(user) {
				if err := tlspl.Unmarshal(e.KeyPackages, &given); err != nil {
					return err
				}
			}
			one := clientapi.Consent{
				Requester: mimi.UserURI(e.Requester), Target: mimi.UserURI(e.Target), Room: mimi.RoomURI(e.Room),
				Asked: e.Asked, Decision: map[int64]string{store.Granted: "granted", store.Revoked: "revoked"}[e.Decided], UpdatedMillis: e.UpdatedMillis,
			}
			for i := range given.list {
				b, err := tlspl.Marshal(&given.list[i])
				if err != nil {
					return err
				}
				one.KeyPackages = append(one.KeyPackages, b)
			}
			list = append(list, one)
		}
		return err
	})
	return list, err
}

// Open says whether anybody may add users who said nothing.
func (c *Consents) Open() bool { return c.cfg.Open }
