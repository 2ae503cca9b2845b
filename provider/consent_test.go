package provider_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/provider"
	"github.com/comity-im/comity/tlspl"
)

func (m *member) consent(op string, peer mimi.UserURI, uri mimi.RoomURI) error {
	return m.svc.ChangeConsent(m.p.ctx, m.dev, clientapi.ConsentChange{Operation: op, Peer: peer, Room: uri})
}

// stands says where a requester stands with a target, in the target's or the
// requester's list.
func (m *member) stands(requester, target mimi.UserURI, uri mimi.RoomURI) *clientapi.Consent {
	m.Helper()
	list, err := m.svc.Consents(m.p.ctx, m.dev)
	m.must(err)
	for i := range list {
		if list[i].Requester == requester && list[i].Target == target && list[i].Room == uri {
			return &list[i]
		}
	}
	return nil
}

// At a connection-oriented provider: ask, see, take back, grant, withdraw, per
// room and for all, unasked too; key material obeys.
func TestConsentFirst(t *testing.T) {
	p := newPlay(t, func(c *provider.Config) { c.ConsentFirst = true })
	alice, bob := p.As("alice@a.example"), p.As("bob@b.example")
	bob.Stocks(10)
	alice.Creates(clubhouse, policy.Cooperative)
	is := func(what string, want mimi.KeyMaterialUserCode) {
		t.Helper()
		if got := alice.Claims(bob, clubhouse).UserStatus; got != want {
			t.Errorf("%s: %v, not %v", what, got, want)
		}
	}
	is("before anything", mimi.KeyMaterialNoConsent)
	alice.must(alice.consent("request", bob.dev.User, ""))
	if c := bob.stands(alice.dev.User, bob.dev.User, ""); c == nil || !c.Asked {
		t.Fatalf("bob doesn't see the request: %+v", c)
	}
	is("asked", mimi.KeyMaterialNoConsent)
	alice.must(alice.consent("cancel", bob.dev.User, ""))
	if c := bob.stands(alice.dev.User, bob.dev.User, ""); c != nil {
		t.Errorf("bob sees a cancelled request: %+v", c)
	}
	alice.must(alice.consent("request", bob.dev.User, clubhouse))
	bob.must(bob.consent("grant", alice.dev.User, clubhouse))
	if c := alice.stands(alice.dev.User, bob.dev.User, clubhouse); c == nil || c.Decision != "granted" || c.Asked {
		t.Errorf("alice doesn't see the grant: %+v", c)
	}
	is("granted for the room", mimi.KeyMaterialSuccess)
	bob.must(bob.consent("revoke", alice.dev.User, clubhouse))
	is("revoked for the room", mimi.KeyMaterialNoConsent)
	bob.must(bob.consent("grant", alice.dev.User, ""))
	is("granted for all, revoked for the room", mimi.KeyMaterialNoConsentForThisRoom)
	bob.must(bob.consent("grant", alice.dev.User, clubhouse))
	is("granted for both", mimi.KeyMaterialSuccess)

	// Nobody can be pulled in past that: a user who is listed without a client
	// hears of it only if it agreed.
	cathy := p.enter("cathy@c.example")
	alice.Adds(clubhouse, cathy)
	p.Eventually("an empty queue", func() bool { q, _ := p.providers[domA].Queue(p.ctx, domC); return q.Events == 0 })
	cathy.drain()
	if len(cathy.invited) > 0 {
		t.Error("cathy, who said nothing, was invited")
	}
}

// Unsolicited: bob grants what alice never asked for, with KeyPackages.
func TestGrantWithKeyPackages(t *testing.T) {
	p := newPlay(t, func(c *provider.Config) { c.ConsentFirst = true })
	alice, bob := p.As("alice@a.example"), p.As("bob@b.example")
	alice.Creates(clubhouse, policy.Cooperative)
	bob.must(bob.svc.ChangeConsent(p.ctx, bob.dev, clientapi.ConsentChange{Operation: "grant", Peer: alice.dev.User, Room: clubhouse, KeyPackages: true}))
	c := alice.stands(alice.dev.User, bob.dev.User, clubhouse)
	if c == nil || c.Decision != "granted" || len(c.KeyPackages) != 1 {
		t.Fatalf("the grant: %+v", c)
	}
	var kp mls.KeyPackage
	alice.must(tlspl.Unmarshal(c.KeyPackages[0], &kp))
	alice.AddsWith(clubhouse, bob, kp)
	bob.Enters(clubhouse)
	bob.Says(clubhouse, "by grant")
	alice.Reads(clubhouse, "by grant")
	if other := alice.Claims(bob, clubhouse); refOf(t, other) == refString(t, &kp) {
		t.Error("a KeyPackage that went with a grant was given again")
	}
}

// A requester can't tell a target that doesn't exist from one that said nothing,
// saw it, or refused.
func TestUniformAnswers(t *testing.T) {
	p := newPlay(t, func(c *provider.Config) { c.ConsentFirst = true })
	alice, silent, refusing := p.As("alice@a.example"), p.As("silent@b.example"), p.As("refusing@b.example")
	gone := p.As("gone@b.example")
	gone.must(gone.svc.DeleteAccount(p.ctx, gone.dev, password))
	nobody := mimi.UserURI("mimi://b.example/u/nobody")
	targets := []mimi.UserURI{silent.dev.User, refusing.dev.User, gone.dev.User, nobody}
	for _, u := range targets {
		if err := p.providers[domB].RequestConsent(p.ctx, domA, &mimi.ConsentEntry{ConsentOperation: mimi.ConsentRequest, ConsentScope: mimi.ConsentScope{RequesterURI: alice.dev.User, TargetURI: u}}); err != nil {
			t.Errorf("a request to %s: %v", u, err)
		}
	}
	refusing.must(refusing.consent("revoke", alice.dev.User, ""))
	for _, u := range targets {
		resp, err := alice.svc.KeyMaterial(p.ctx, alice.dev, u, alice.claim(u, ""))
		if err != nil || resp.UserStatus != mimi.KeyMaterialNoConsent || len(resp.Clients) != 0 {
			t.Errorf("a claim for %s: %+v, %v", u, resp, err)
		}
		q := &mimi.IdentifierRequest{QueryElements: []mimi.QueryElement{{SearchType: mimi.SearchNick, SearchValue: u.Name()}}}
		found, err := alice.svc.IdentifierQuery(p.ctx, alice.dev, domB, q)
		if err != nil || found.ResponseCode != mimi.QueryNotFound {
			t.Errorf("a query for %s: %+v, %v", u, found, err)
		}
	}
}

// Grants, revocations and requests come from the provider of who makes them.
func TestConsentOfOthers(t *testing.T) {
	p := newPlay(t)
	alice, bob := p.As("alice@a.example"), p.As("bob@b.example")
	scope := mimi.ConsentScope{RequesterURI: alice.dev.User, TargetURI: bob.dev.User}
	forbidden := func(what string, err error) {
		t.Helper()
		var r *mimi.RefusedError
		if !errors.As(err, &r) {
			t.Errorf("%s: %v", what, err)
		}
	}
	forbidden("c.example asks for alice", p.providers[domB].RequestConsent(p.ctx, domC, &mimi.ConsentEntry{ConsentOperation: mimi.ConsentRequest, ConsentScope: scope}))
	forbidden("c.example grants for bob", p.providers[domA].UpdateConsent(p.ctx, domC, &mimi.ConsentEntry{ConsentOperation: mimi.ConsentGrant, ConsentScope: scope}))
	var bad *mimi.MalformedError
	if err := p.providers[domB].RequestConsent(p.ctx, domA, &mimi.ConsentEntry{ConsentOperation: mimi.ConsentGrant, ConsentScope: scope}); !errors.As(err, &bad) {
		t.Errorf("a grant as a request: %v", err)
	}
	p.Refused(domB, "requestConsent", "forbidden")
	p.Refused(domA, "updateConsent", "forbidden")

	// An unwanted request is reported to one's own provider.
	alice.must(alice.consent("request", bob.dev.User, ""))
	if err := bob.svc.ReportConsent(p.ctx, bob.dev, clientapi.ConsentReport{Requester: "mimi://c.example/u/nobody"}); err == nil {
		t.Error("a request that there wasn't was reported")
	}
	bob.must(bob.svc.ReportConsent(p.ctx, bob.dev, clientapi.ConsentReport{Requester: alice.dev.User, Note: "spam"}))
	list, err := p.providers[domB].Reports(p.ctx)
	if err != nil || len(list) != 1 || list[0].Abuser != alice.dev.User || list[0].Note != "spam" || list[0].Verdict == "" {
		t.Errorf("reports: %+v, %v", list, err)
	}
}

// All search types, several elements, each user's consent for each field.
func TestIdentifierQuery(t *testing.T) {
	p := newPlay(t)
	alice, bob, bea := p.As("alice@a.example"), p.As("bob@b.example"), p.As("bea@b.example")
	set := func(m *member, source mimi.SearchIdentifierType, name, value string, findable, shown bool) {
		t.Helper()
		m.must(m.svc.SetProfileField(p.ctx, m.dev, clientapi.ProfileField{Source: uint8(source), Name: name, Value: value, Findable: findable, Shown: shown}))
	}
	find := func(elements ...mimi.QueryElement) (mimi.IdentifierQueryCode, []mimi.UserURI) {
		t.Helper()
		resp, err := alice.svc.IdentifierQuery(p.ctx, alice.dev, domB, &mimi.IdentifierRequest{QueryElements: elements})
		alice.must(err)
		return resp.ResponseCode, resp.URI
	}
	element := func(s mimi.SearchIdentifierType, value string) mimi.QueryElement {
		return mimi.QueryElement{SearchType: s, SearchValue: value}
	}
	oidc := func(name, value string) mimi.QueryElement {
		return mimi.QueryElement{SearchType: mimi.SearchOIDCStdClaim, ClaimName: name, SearchValue: value}
	}
	vcard := func(name, value string) mimi.QueryElement {
		return mimi.QueryElement{SearchType: mimi.SearchVCardField, PropertyName: name, SearchValue: value}
	}
	for _, m := range []*member{bob, bea} {
		set(m, mimi.SearchPartialName, "", m.dev.User.Name()+" Müller", true, false)
	}
	set(bob, mimi.SearchNick, "", "Bobby", true, false)
	set(bob, mimi.SearchEmail, "", "bob@Mail.example", true, false)
	set(bob, mimi.SearchPhone, "", "+1 (555) 0100", true, false)
	set(bob, mimi.SearchOIDCStdClaim, "given_name", "Robert", true, true)
	set(bob, mimi.SearchVCardField, "ORG", "Acme", true, false)
	set(bea, mimi.SearchVCardField, "ORG", "Acme", true, false)
	set(bea, mimi.SearchNick, "", "secret", false, false)
	just := []mimi.UserURI{bob.dev.User}
	both := []mimi.UserURI{bea.dev.User, bob.dev.User}
	for _, x := range []struct {
		name     string
		elements []mimi.QueryElement
		code     mimi.IdentifierQueryCode
		found    []mimi.UserURI
	}{
		{"handle", []mimi.QueryElement{element(mimi.SearchHandle, "mimi://b.example/u/bob")}, mimi.QuerySuccess, just},
		{"im handle", []mimi.QueryElement{element(mimi.SearchHandle, "im:bob@b.example")}, mimi.QuerySuccess, just},
		{"nick", []mimi.QueryElement{element(mimi.SearchNick, "bObBy")}, mimi.QuerySuccess, just},
		{"e-mail", []mimi.QueryElement{element(mimi.SearchEmail, "bob@MAIL.example")}, mimi.QuerySuccess, just},
		{"e-mail, local part exactly", []mimi.QueryElement{element(mimi.SearchEmail, "Bob@mail.example")}, mimi.QueryNotFound, nil},
		{"phone", []mimi.QueryElement{element(mimi.SearchPhone, "+1-555-0100")}, mimi.QuerySuccess, just},
		{"partial name", []mimi.QueryElement{element(mimi.SearchPartialName, "MÜLL")}, mimi.QuerySuccess, both},
		{"partial name too short", []mimi.QueryElement{element(mimi.SearchPartialName, "mü")}, mimi.QueryNotFound, nil},
		{"OIDC", []mimi.QueryElement{oidc("given_name", "Robert")}, mimi.QuerySuccess, just},
		{"OIDC, no such claim", []mimi.QueryElement{oidc("shoe_size", "46")}, mimi.QueryUnsupportedField, nil},
		{"vCard", []mimi.QueryElement{vcard("org", "Acme")}, mimi.QuerySuccess, both},
		{"vCard, no such property", []mimi.QueryElement{vcard("SHOES", "46")}, mimi.QueryUnsupportedField, nil},
		{"whole profile", []mimi.QueryElement{element(mimi.SearchWholeProfile, "Robert")}, mimi.QuerySuccess, just},
		{"and", []mimi.QueryElement{vcard("ORG", "Acme"), element(mimi.SearchNick, "bobby")}, mimi.QuerySuccess, just},
		{"and, nobody has both", []mimi.QueryElement{element(mimi.SearchHandle, "bea"), element(mimi.SearchNick, "bobby")}, mimi.QueryNotFound, nil},
		{"not findable by it", []mimi.QueryElement{element(mimi.SearchNick, "secret")}, mimi.QueryNotFound, nil},
		{"nothing asked", nil, mimi.QueryForbidden, nil},
	} {
		if code, found := find(x.elements...); code != x.code || !slices.Equal(found, x.found) {
			t.Errorf("%s: %v %v, not %v %v", x.name, code, found, x.code, x.found)
		}
	}
	resp, err := alice.svc.IdentifierQuery(p.ctx, alice.dev, domB, &mimi.IdentifierRequest{QueryElements: []mimi.QueryElement{element(mimi.SearchNick, "bobby")}})
	if err != nil || len(resp.FoundProfiles) != 1 || len(resp.FoundProfiles[0].Fields) != 1 || string(resp.FoundProfiles[0].Fields[0].FieldValue) != "Robert" {
		t.Errorf("what is shown: %+v, %v", resp, err)
	}
	bob.must(bob.svc.SetProfileField(p.ctx, bob.dev, clientapi.ProfileField{Source: uint8(mimi.SearchHandle), Findable: false}))
	if code, _ := find(element(mimi.SearchHandle, "bob")); code != mimi.QueryNotFound {
		t.Errorf("a hidden handle: %v", code)
	}
}

// Queries are limited for each user and peer.
func TestQueryLimit(t *testing.T) {
	p := newPlay(t, func(c *provider.Config) { c.QueriesPerSecond, c.QueryBurst = 0.001, 3 })
	alice := p.As("alice@a.example")
	q := &mimi.IdentifierRequest{QueryElements: []mimi.QueryElement{{SearchType: mimi.SearchHandle, SearchValue: "x"}}}
	for i := range 4 {
		_, err := alice.svc.IdentifierQuery(p.ctx, alice.dev, domA, q)
		var e *clientapi.Error
		if limited := errors.As(err, &e) && e.Code == clientapi.CodeTooMany && e.RetryAfter > 0; limited != (i == 3) {
			t.Errorf("query %d: %v", i, err)
		}
	}
	for i := range 4 {
		_, err := p.providers[domB].IdentifierQuery(p.ctx, domC, domB, q)
		var r *mimi.RefusedError
		if limited := errors.As(err, &r) && r.Refusal == mimi.RefusedTooMany; limited != (i == 3) {
			t.Errorf("query %d of a peer: %v", i, err)
		}
	}
	p.Refused(domB, "identifierQuery", "too many")
}
