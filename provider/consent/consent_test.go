package consent

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/store/sqlite"
)

const (
	alice = mimi.UserURI("mimi://a.example/u/alice")
	bob   = mimi.UserURI("mimi://b.example/u/bob")
	club  = mimi.RoomURI("mimi://b.example/r/club")
)

// newConsents are those of a.example, where Alice is, and Dora was.
func newConsents(t *testing.T, open bool) *Consents {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "a.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	c := New(Config{Domain: "a.example", Store: s, Now: time.Now, Open: open})
	c.update(t, func(tx *store.Tx) error {
		return errors.Join(tx.CreateUser(store.User{URI: string(alice), State: store.StateActive}),
			tx.CreateUser(store.User{URI: "mimi://a.example/u/dora", State: store.StateDeleted}))
	})
	return c
}

func (c *Consents) update(t *testing.T, f func(*store.Tx) error) {
	t.Helper()
	if err := c.cfg.Store.Update(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

func (c *Consents) allowed(t *testing.T, room mimi.RoomURI) (ok bool, code mimi.KeyMaterialUserCode) {
	t.Helper()
	c.update(t, func(tx *store.Tx) (err error) {
		ok, code, err = c.Allowed(tx, bob, alice, room)
		return err
	})
	return ok, code
}

func (c *Consents) entries(t *testing.T, user mimi.UserURI) (list []store.Consent) {
	t.Helper()
	c.update(t, func(tx *store.Tx) (err error) {
		list, err = tx.ConsentsOf(string(user))
		return err
	})
	return list
}

// The entry for the room goes before the one for any room, which goes before the
// provider's default; the latest word counts (Decision 68).
func TestAllowed(t *testing.T) {
	type word struct {
		op   string
		room mimi.RoomURI
	}
	const yes, no = "grant", "revoke"
	for _, x := range []struct {
		name  string
		words []word
		// what Bob hears at an open provider and at a connection-oriented one
		open, closed mimi.KeyMaterialUserCode
	}{
		{"nothing said", nil, mimi.KeyMaterialSuccess, mimi.KeyMaterialNoConsent},
		{"granted", []word{{yes, ""}}, mimi.KeyMaterialSuccess, mimi.KeyMaterialSuccess},
		{"revoked", []word{{no, ""}}, mimi.KeyMaterialNoConsent, mimi.KeyMaterialNoConsent},
		{"granted for the room", []word{{yes, club}}, mimi.KeyMaterialSuccess, mimi.KeyMaterialSuccess},
		{"granted for another room", []word{{yes, "mimi://b.example/r/x"}}, mimi.KeyMaterialSuccess, mimi.KeyMaterialNoConsent},
		{"revoked for the room", []word{{no, club}}, mimi.KeyMaterialNoConsent, mimi.KeyMaterialNoConsent},
		{"granted but for the room", []word{{yes, ""}, {no, club}}, mimi.KeyMaterialNoConsentForThisRoom, mimi.KeyMaterialNoConsentForThisRoom},
		{"granted for the room only", []word{{no, ""}, {yes, club}}, mimi.KeyMaterialSuccess, mimi.KeyMaterialSuccess},
		{"granted, then revoked", []word{{yes, ""}, {no, ""}}, mimi.KeyMaterialNoConsent, mimi.KeyMaterialNoConsent},
		{"revoked, then granted", []word{{no, ""}, {yes, ""}}, mimi.KeyMaterialSuccess, mimi.KeyMaterialSuccess},
	} {
		for _, open := range []bool{true, false} {
			c := newConsents(t, open)
			for _, w := range x.words {
				if _, err := c.Change(t.Context(), alice, clientapi.ConsentChange{Operation: w.op, Peer: bob, Room: w.room}); err != nil {
					t.Fatal(err)
				}
			}
			want := x.closed
			if open {
				want = x.open
			}
			if ok, code := c.allowed(t, club); ok != (want == mimi.KeyMaterialSuccess) || !ok && code != want {
				t.Errorf("%s, open %v: %v %v, not %v", x.name, open, ok, code, want)
			}
		}
	}
	c := newConsents(t, false)
	c.update(t, func(tx *store.Tx) error {
		if ok, _, err := c.Allowed(tx, alice, alice, club); err != nil || !ok {
			t.Errorf("herself: %v, %v", ok, err)
		}
		return nil
	})
}

// Requests and cancellations: who may send them, and that their answers tell
// nothing.
func TestRequested(t *testing.T) {
	c := newConsents(t, false)
	entry := func(op mimi.ConsentOperation, requester, target mimi.UserURI, room mimi.RoomURI) *mimi.ConsentEntry {
		return &mimi.ConsentEntry{ConsentOperation: op, ConsentScope: mimi.ConsentScope{RequesterURI: requester, TargetURI: target, RoomID: room}}
	}
	var refused *mimi.RefusedError
	var malformed *mimi.MalformedError
	if err := c.Requested(t.Context(), "c.example", entry(mimi.ConsentRequest, bob, alice, "")); !errors.As(err, &refused) || refused.Refusal != mimi.RefusedForbidden {
		t.Errorf("c.example asks for Bob: %v", err)
	}
	if err := c.Requested(t.Context(), "b.example", entry(mimi.ConsentRequest, bob, "mimi://c.example/u/cathy", "")); !errors.As(err, &refused) || refused.Refusal != mimi.RefusedNotFound {
		t.Errorf("of another's user: %v", err)
	}
	if err := c.Requested(t.Context(), "b.example", entry(mimi.ConsentGrant, bob, alice, "")); !errors.As(err, &malformed) {
		t.Errorf("a grant where a request belongs: %v", err)
	}
	for _, target := range []mimi.UserURI{alice, "mimi://a.example/u/nobody", "mimi://a.example/u/dora"} {
		if err := c.Requested(t.Context(), "b.example", entry(mimi.ConsentRequest, bob, target, "")); err != nil {
			t.Errorf("%s: %v", target, err)
		}
		if n := len(c.entries(t, target)); (n == 1) != (target == alice) {
			t.Errorf("%d entries are kept of %s", n, target)
		}
	}
	// A cancellation is of the identical scope; another one is taken without effect.
	if err := c.Requested(t.Context(), "b.example", entry(mimi.ConsentCancel, bob, alice, club)); err != nil {
		t.Error(err)
	}
	if list := c.entries(t, alice); len(list) != 1 || !list[0].Asked {
		t.Errorf("cancelled for one room: %+v", list)
	}
	if err := c.Requested(t.Context(), "b.example", entry(mimi.ConsentCancel, bob, alice, "")); err != nil {
		t.Error(err)
	}
	if list := c.entries(t, alice); len(list) != 0 {
		t.Errorf("cancelled: %+v", list)
	}
	// A cancellation does not take back what Alice decided.
	if _, err := c.Change(t.Context(), alice, clientapi.ConsentChange{Operation: "revoke", Peer: bob}); err != nil {
		t.Fatal(err)
	}
	for _, op := range []mimi.ConsentOperation{mimi.ConsentRequest, mimi.ConsentCancel} {
		if err := c.Requested(t.Context(), "b.example", entry(op, bob, alice, "")); err != nil {
			t.Fatal(err)
		}
	}
	if list := c.entries(t, alice); len(list) != 1 || list[0].Asked || list[0].Decided != store.Revoked {
		t.Errorf("after a cancelled request: %+v", list)
	}
	// What waits for Alice is bounded, and nobody is told.
	for i := range MaxWaiting + 5 {
		who := mimi.UserURI(fmt.Sprintf("mimi://b.example/u/x%d", i))
		if err := c.Requested(t.Context(), "b.example", entry(mimi.ConsentRequest, who, alice, "")); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(c.entries(t, alice)); n != MaxWaiting+1 {
		t.Errorf("%d entries", n)
	}
}

// Grants and revocations of others, unsolicited too.
func TestDecided(t *testing.T) {
	c := newConsents(t, true)
	entry := func(op mimi.ConsentOperation, requester, target mimi.UserURI) *mimi.ConsentEntry {
		return &mimi.ConsentEntry{ConsentOperation: op, ConsentScope: mimi.ConsentScope{RequesterURI: requester, TargetURI: target}}
	}
	var refused *mimi.RefusedError
	var malformed *mimi.MalformedError
	if err := c.Decided(t.Context(), "c.example", entry(mimi.ConsentGrant, alice, bob)); !errors.As(err, &refused) || refused.Refusal != mimi.RefusedForbidden {
		t.Errorf("c.example grants for Bob: %v", err)
	}
	if err := c.Decided(t.Context(), "b.example", entry(mimi.ConsentGrant, "mimi://c.example/u/cathy", bob)); !errors.As(err, &refused) || refused.Refusal != mimi.RefusedNotFound {
		t.Errorf("to another's user: %v", err)
	}
	if err := c.Decided(t.Context(), "b.example", entry(mimi.ConsentCancel, alice, bob)); !errors.As(err, &malformed) {
		t.Errorf("a cancellation where a grant belongs: %v", err)
	}
	big := entry(mimi.ConsentGrant, alice, bob)
	big.ClientKeyPackages = make([]mls.KeyPackage, MaxKeyPackages+1)
	if err := c.Decided(t.Context(), "b.example", big); !errors.As(err, &refused) || refused.Refusal != mimi.RefusedTooLarge {
		t.Errorf("too many KeyPackages: %v", err)
	}
	if err := c.Decided(t.Context(), "b.example", entry(mimi.ConsentGrant, "mimi://a.example/u/nobody", bob)); err != nil {
		t.Errorf("to nobody: %v", err)
	}
	if n := len(c.entries(t, bob)); n != 0 {
		t.Errorf("%d entries are kept", n)
	}
	for op, want := range map[mimi.ConsentOperation]string{mimi.ConsentGrant: "granted", mimi.ConsentRevoke: "revoked"} {
		if err := c.Decided(t.Context(), "b.example", entry(op, alice, bob)); err != nil {
			t.Fatal(err)
		}
		if list, err := c.List(t.Context(), alice); err != nil || len(list) != 1 || list[0].Decision != want || list[0].Requester != alice {
			t.Errorf("%v: %+v, %v", op, list, err)
		}
	}
}

// What a user may say.
func TestChange(t *testing.T) {
	c := newConsents(t, true)
	for _, bad := range []clientapi.ConsentChange{{Operation: "request", Peer: alice}, {Operation: "request"}, {Operation: "perhaps", Peer: bob}} {
		var e *clientapi.Error
		if _, err := c.Change(t.Context(), alice, bad); !errors.As(err, &e) || e.Code != clientapi.CodeBadRequest {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	for op, requester := range map[string]mimi.UserURI{"request": alice, "cancel": alice, "grant": bob, "revoke": bob} {
		e, err := c.Change(t.Context(), alice, clientapi.ConsentChange{Operation: op, Peer: bob, Room: club})
		if err != nil || e.ConsentOperation.String() != op || e.ConsentScope.RequesterURI != requester || e.ConsentScope.RoomID != club {
			t.Errorf("%s: %+v, %v", op, e, err)
		}
	}
}
