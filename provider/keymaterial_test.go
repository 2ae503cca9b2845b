package provider_test

import (
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/provider"
	"github.com/comity-im/comity/tlspl"
)

// Each code of MIMI protocol §5.2 occurs.
func TestKeyMaterialCodes(t *testing.T) {
	p := newPlay(t)
	alice, bob := p.As("alice@a.example"), p.As("bob@b.example")
	laptop := p.enter("bob@b.example/laptop")
	alice.Creates(clubhouse, policy.Cooperative)
	wants := func(name string, resp *mimi.KeyMaterialResponse, user mimi.KeyMaterialUserCode, clients ...mimi.KeyMaterialClientCode) {
		t.Helper()
		if resp.UserStatus != user || len(resp.Clients) != len(clients) {
			t.Errorf("%s: %v with %d clients, not %v with %d", name, resp.UserStatus, len(resp.Clients), user, len(clients))
			return
		}
		for i, want := range clients {
			got := resp.Clients[i]
			if got.ClientStatus != want || (got.KeyPackage != nil) != (want == mimi.ClientSuccess) {
				t.Errorf("%s: client %s: %v, not %v", name, got.ClientURI, got.ClientStatus, want)
			}
		}
	}
	wants("one device of two", alice.Claims(bob, clubhouse), mimi.KeyMaterialPartialSuccess, mimi.ClientSuccess, mimi.ClientKeyMaterialExhausted)
	laptop.Stocks(1)
	wants("both", alice.Claims(bob, clubhouse), mimi.KeyMaterialSuccess, mimi.ClientSuccess, mimi.ClientSuccess)
	wants("another suite", alice.Claims(bob, clubhouse, func(r *mimi.KeyMaterialRequest) { r.AcceptableCiphersuites = []suite.ID{3, grease()} }),
		mimi.KeyMaterialNoCompatible, mimi.ClientNothingCompatible, mimi.ClientKeyMaterialExhausted)
	resp := alice.Claims(bob, clubhouse, func(r *mimi.KeyMaterialRequest) {
		r.RequiredCapabilities.ExtensionTypes = append(r.RequiredCapabilities.ExtensionTypes, 0xF123)
	})
	wants("more capabilities", resp, mimi.KeyMaterialNoCompatible, mimi.ClientNothingCompatible, mimi.ClientKeyMaterialExhausted)
	if resp.Clients[0].ClientCapabilities == nil {
		t.Error("what the client can do was not told")
	}
	wants("another protocol", alice.Claims(bob, clubhouse, func(r *mimi.KeyMaterialRequest) { r.Protocol = 7 }), mimi.KeyMaterialIncompatibleProtocol)
	nobody := &member{T: t, dev: clientapi.Device{User: "mimi://b.example/u/nobody"}}
	wants("nobody", alice.Claims(nobody, clubhouse), mimi.KeyMaterialUserUnknown)
	gone := p.As("gone@b.example")
	gone.must(gone.svc.DeleteAccount(p.ctx, gone.dev, password))
	wants("deleted", alice.Claims(gone, clubhouse), mimi.KeyMaterialUserDeleted)
	bob.must(bob.svc.ChangeConsent(p.ctx, bob.dev, clientapi.ConsentChange{Operation: "grant", Peer: alice.dev.User}))
	bob.must(bob.svc.ChangeConsent(p.ctx, bob.dev, clientapi.ConsentChange{Operation: "revoke", Peer: alice.dev.User, Room: clubhouse}))
	wants("not for this room", alice.Claims(bob, clubhouse), mimi.KeyMaterialNoConsentForThisRoom)
	bob.must(bob.svc.ChangeConsent(p.ctx, bob.dev, clientapi.ConsentChange{Operation: "revoke", Peer: alice.dev.User}))
	wants("no consent", alice.Claims(bob, clubhouse), mimi.KeyMaterialNoConsent)
	p.Refused(domB, "keyMaterial", "noConsent", "from=a.example")
}

// A package is given once, an expired one never, a last-resort one never; the
// same request gets the same answer.
func TestEachKeyPackageOnce(t *testing.T) {
	p := newPlay(t)
	alice, bob := p.As("alice@a.example"), p.enter("bob@b.example")
	alice.Creates(clubhouse, policy.Cooperative)
	if _, err := bob.svc.AddKeyPackages(p.ctx, bob.dev, []mls.KeyPackage{bob.keyPackage(time.Hour, lastResort(t))}); err == nil {
		t.Error("a last-resort KeyPackage was taken")
	}
	kp := bob.keyPackage(2 * time.Hour)
	_, err := bob.svc.AddKeyPackages(p.ctx, bob.dev, []mls.KeyPackage{kp})
	bob.must(err)
	if _, err := bob.svc.AddKeyPackages(p.ctx, bob.dev, []mls.KeyPackage{kp}); err == nil {
		t.Error("a KeyPackage was taken twice")
	}
	p.later(90 * time.Minute) // half an hour is left of it
	if got := alice.Claims(bob, clubhouse).Clients[0].ClientStatus; got != mimi.ClientKeyMaterialExhausted {
		t.Errorf("a KeyPackage that is about to expire: %v", got)
	}
	bob.Stocks(3)
	req := alice.claim(bob.dev.User, clubhouse)
	first, err := alice.svc.KeyMaterial(p.ctx, alice.dev, bob.dev.User, req)
	alice.must(err)
	again, err := alice.svc.KeyMaterial(p.ctx, alice.dev, bob.dev.User, req)
	alice.must(err)
	if refOf(t, first) != refOf(t, again) {
		t.Error("the same request got another KeyPackage")
	}
	other := alice.Claims(bob, clubhouse)
	if refOf(t, first) == refOf(t, other) {
		t.Error("a KeyPackage was given twice")
	}
	p.later(11 * time.Minute)
	var e *clientapi.Error
	if _, err := alice.svc.KeyMaterial(p.ctx, alice.dev, bob.dev.User, req); !errors.As(err, &e) || e.Code != clientapi.CodeTooMany || e.RetryAfter <= 0 {
		t.Errorf("a request that is replayed later: %v", err)
	}
	p.later(23 * time.Hour)
	st, err := bob.svc.Stock(p.ctx, bob.dev)
	if err != nil || st.Left != 1 {
		t.Errorf("stock: %+v, %v", st, err)
	}
}

func lastResort(t *testing.T) mls.Extension {
	t.Helper()
	d := mls.AppDataDictionary{}.With(mls.ComponentLastResortKeyPackage, nil)
	data, err := tlspl.Marshal(&d)
	if err != nil {
		t.Fatal(err)
	}
	return mls.Extension{Type: mls.ExtensionAppDataDictionary, Data: data}
}

func refOf(t *testing.T, r *mimi.KeyMaterialResponse) string {
	t.Helper()
	for _, x := range r.Clients {
		if x.KeyPackage != nil {
			ref, err := x.KeyPackage.Ref()
			if err != nil {
				t.Fatal(err)
			}
			return string(ref)
		}
	}
	t.Fatalf("no KeyPackage: %v", r.UserStatus)
	return ""
}

// One requester, and one provider with many, can't drain somebody's stock.
func TestDrainLimits(t *testing.T) {
	p := newPlay(t, func(c *provider.Config) { c.KeysPerRequester, c.KeysPerProvider = 2, 3 })
	alice, eve, cathy, bob := p.As("alice@a.example"), p.As("eve@a.example"), p.As("cathy@c.example"), p.As("bob@b.example")
	bob.Stocks(5)
	take := func(m *member) error {
		_, err := m.svc.KeyMaterial(p.ctx, m.dev, bob.dev.User, m.claim(bob.dev.User, ""))
		return err
	}
	for i, x := range []struct {
		m  *member
		ok bool
	}{{alice, true}, {alice, true}, {alice, false}, {eve, true}, {eve, false}, {cathy, true}} {
		var e *clientapi.Error
		if err := take(x.m); x.ok && err != nil || !x.ok && (!errors.As(err, &e) || e.Code != clientapi.CodeTooMany || e.RetryAfter <= 0) {
			t.Errorf("claim %d: %v", i, err)
		}
	}
	p.Refused(domB, "keyMaterial", "too many")
	p.later(2 * time.Hour)
	if err := take(alice); err != nil {
		t.Error("two hours later:", err)
	}
}

// A package that was claimed through the hub is used in the room that it was
// claimed for, by who claimed it (Decision 21).
func TestClaimsAreForARoomAndAUser(t *testing.T) {
	p := newPlay(t)
	alice, bob, dave := p.As("alice@a.example"), p.As("bob@b.example"), p.As("dave@a.example")
	other := mimi.RoomURI("mimi://a.example/r/other")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Creates(other, policy.Cooperative)
	alice.Adds(clubhouse, dave)
	dave.Enters(clubhouse)
	kp := *alice.Claims(bob, other).Clients[0].KeyPackage
	add := func(m *member, kp mls.KeyPackage) *mimi.UpdateRoomResponse {
		resp, err := m.commit(clubhouse, func(r *room.Room) (*room.Staged, error) {
			return r.AddUsers(rand.Reader, 0, room.Addition{User: bob.dev.User, Role: memberRole(r), KeyPackages: []mls.KeyPackage{kp}})
		})
		m.must(err)
		return resp
	}
	if r := add(alice, kp); r.ResponseCode != mimi.UpdateNotAllowed {
		t.Errorf("a package for another room: %+v", r)
	}
	kp = *alice.Claims(bob, clubhouse).Clients[0].KeyPackage
	if r := add(dave, kp); r.ResponseCode != mimi.UpdateNotAllowed {
		t.Errorf("a package that another claimed: %+v", r)
	}
	if r := add(alice, kp); r.ResponseCode != mimi.UpdateSuccess {
		t.Errorf("a package for this room and user: %+v", r)
	}
	bob.Enters(clubhouse)

	// A hub relays for its rooms' participants only.
	cathy := p.As("cathy@c.example")
	var e *clientapi.Error
	if _, err := cathy.svc.KeyMaterial(p.ctx, cathy.dev, bob.dev.User, cathy.claim(bob.dev.User, clubhouse)); !errors.As(err, &e) || e.Code != clientapi.CodeForbidden {
		t.Errorf("a stranger claims for the room: %v", err)
	}
	if _, err := cathy.svc.KeyMaterial(p.ctx, cathy.dev, bob.dev.User, cathy.claim(bob.dev.User, "mimi://a.example/r/nowhere")); !errors.As(err, &e) || e.Code != clientapi.CodeNotFound {
		t.Errorf("a claim for a room that there isn't: %v", err)
	}
}
