package provider_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// A hub takes no room that it could not host, that another owns, or that is not its creator's alone; and says why.
func TestCreateRefusals(t *testing.T) {
	p := newPlay(t)
	alice, eve := p.As("alice@a.example"), p.As("eve@a.example")
	s, _ := suite.Lookup(testSuite)
	other, err := s.GenerateSigner(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := s.GenerateKeyPair(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	hub := mls.BasicCredential([]byte("mimi://a.example"))
	direct := func(c *policy.Components, list *[]mimi.UserRolePair) {
		*list = append(*list, mimi.UserRolePair{User: eve.dev.User.Identifier(), RoleIndex: 2})
	}
	for _, test := range []struct {
		name, why string
		preset    policy.Preset
		code      clientapi.Code
		params    func(*room.CreateParams)
		request   func(*clientapi.CreateRoomRequest)
		policy    func(*policy.Components, *[]mimi.UserRolePair)
		uri, at   mimi.RoomURI // of the room, and where it is created; empty: there
	}{
		{name: "another's key as the hub's", why: "external_senders", params: func(c *room.CreateParams) {
			c.HubSender = mls.ExternalSender{SignatureKey: other.Public(), Credential: hub}
		}},
		{name: "another franking agent", why: "franking_agent", params: func(c *room.CreateParams) {
			c.FrankingAgent = &mimi.FrankingAgentData{FrankingSignatureKey: other.Public(), Credential: hub}
		}},
		{name: "another's receiver", why: "SemiPrivateMessages of the room are not for the key of this hub", params: func(c *room.CreateParams) {
			c.HubReceiver = &mls.ExternalReceiver{PublicKey: pair.Public(), Credential: hub}
		}},
		{name: "no whole tree", why: "must be full", code: clientapi.CodeBadRequest, request: func(r *clientapi.CreateRoomRequest) {
			r.RatchetTree = mls.RatchetTreeOption{Representation: mls.RatchetTreeDistributionService}
		}},
		{name: "a bent GroupInfo", why: "group-info", request: func(r *clientapi.CreateRoomRequest) {
			r.GroupInfo.Signature = append([]byte{}, r.GroupInfo.Signature...)
			r.GroupInfo.Signature[5] ^= 1
		}},
		{name: "hosted elsewhere", why: "rooms of yours are hosted at a.example", code: clientapi.CodeBadRequest, at: "mimi://b.example/r/here"},
		{name: "somebody else's client", why: "which mimi://a.example/u/alice created", request: func(r *clientapi.CreateRoomRequest) {
			_, q := eve.founds("mimi://a.example/r/here", policy.Cooperative)
			*r = *q
		}},
		{name: "another room's name", why: "", uri: clubhouse, code: clientapi.CodeConflict},
		{name: "a second room of the same people", why: "have a room of their own already", preset: policy.Direct, policy: direct},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.code == clientapi.CodeConflict {
				eve.Creates(clubhouse, policy.Cooperative)
			}
			if test.preset == "" {
				test.preset = policy.Cooperative
			} else {
				alice.Creates("mimi://a.example/r/us", test.preset, test.policy)
			}
			if test.uri == "" {
				test.uri = "mimi://a.example/r/here"
			}
			var list []func(*policy.Components, *[]mimi.UserRolePair)
			if test.policy != nil {
				list = append(list, test.policy)
			}
			params := alice.params(test.uri, test.preset, list...)
			if test.params != nil {
				test.params(&params)
			}
			_, req := alice.make(params)
			if test.request != nil {
				test.request(req)
			}
			if test.at == "" {
				test.at = test.uri
			}
			_, err := alice.svc.CreateRoom(p.ctx, alice.dev, test.at, req)
			var e *clientapi.Error
			if !errors.As(err, &e) || !strings.Contains(e.Message, test.why) {
				t.Fatalf("want a refusal with %q, got %v", test.why, err)
			}
			if want := test.code; want != "" && e.Code != want || want == "" && e.Code != clientapi.CodeForbidden {
				t.Errorf("code %q: %v", e.Code, e)
			}
		})
	}
	alice.Creates("mimi://a.example/r/here", policy.Cooperative) // none of them took the name
}

// Who is given no GroupInfo, and what they hear (MIMI protocol §5.6): strangers, and those who ask for a room that there is
// not, can't tell one from the other.
func TestGroupInfoRefusals(t *testing.T) {
	p := newPlay(t)
	alice, bob, carol := p.As("alice@a.example"), p.As("bob@b.example"), p.As("carol@c.example")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob)
	bob.Enters(clubhouse)
	hub := p.providers[domA]
	ask := func(from mimi.ProviderDomain, uri mimi.RoomURI, req *mimi.GroupInfoRequest) (*mimi.GroupInfoResponse, error) {
		return hub.GroupInfo(p.ctx, from, uri, req)
	}
	wants := func(what string, want mimi.GroupInfoCode, from mimi.ProviderDomain, uri mimi.RoomURI, req *mimi.GroupInfoRequest) *mimi.GroupInfoResponse {
		t.Helper()
		resp, err := ask(from, uri, req)
		if err != nil || resp.Status != want {
			t.Errorf("%s: %+v, %v", what, resp, err)
		}
		return resp
	}
	good, _ := bob.groupInfo("")
	wants("a participant", mimi.GroupInfoSuccess, domB, clubhouse, good)
	wants("the same key twice", mimi.GroupInfoNotAuthorized, domB, clubhouse, good)

	bad, _ := bob.groupInfo("")
	bad.Signature[3] ^= 1
	wants("a bent signature", mimi.GroupInfoNotAuthorized, domB, clubhouse, bad)
	stolen, _ := bob.groupInfo("")
	stolen.RequestingSignatureKey = carol.signer.Public()
	bob.must(stolen.Sign(rand.Reader, carol.signer))
	wants("another's credential", mimi.GroupInfoNotAuthorized, domB, clubhouse, stolen)

	req, _ := carol.groupInfo("")
	here := wants("a stranger", mimi.GroupInfoNotAuthorized, domC, clubhouse, req)
	req, _ = carol.groupInfo("")
	nowhere := wants("a room that there is not", mimi.GroupInfoNotAuthorized, domC, "mimi://a.example/r/nowhere", req)
	here.RoomID, nowhere.RoomID = "", ""
	a, err := tlspl.Marshal(here)
	if err != nil {
		a = fmt.Append(nil, here)
	}
	b, err := tlspl.Marshal(nowhere)
	if err != nil {
		b = fmt.Append(nil, nowhere)
	}
	if string(a) != string(b) {
		t.Errorf("a stranger can tell rooms that there are: %x, %x", a, b)
	}
	req, _ = carol.groupInfo("guessed")
	wants("a guessed code", mimi.GroupInfoNotAuthorized, domC, clubhouse, req)

	var refused *mimi.RefusedError
	req, _ = carol.groupInfo("")
	if _, err := ask(domB, clubhouse, req); !errors.As(err, &refused) || refused.Refusal != mimi.RefusedForbidden {
		t.Errorf("b.example asks for Carol: %v", err)
	}
	if _, err := ask(domB, "mimi://c.example/r/clubhouse", good); !errors.As(err, &refused) || refused.Refusal != mimi.RefusedNotFound {
		t.Errorf("a room of c.example: %v", err)
	}
	p.Refused(domA, "endpoint=groupInfo", "from=c.example", "code=notAuthorized")
	p.Refused(domA, "endpoint=groupInfo", "from=b.example", "code=notAuthorized")
}

// What a hub says to who founds a room anew: the group must be the room, of who may found it, with this hub's keys and with
// KeyPackages that were claimed for it by the founder.
func TestRefoundAtTheHub(t *testing.T) {
	p := newPlay(t)
	alice, bob, carol := p.As("alice@a.example"), p.As("bob@b.example"), p.As("carol@c.example")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob, carol)
	bob.Enters(clubhouse)
	carol.Enters(clubhouse)
	alice.drain()
	s, _ := suite.Lookup(testSuite)
	other, err := s.GenerateSigner(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	lifetime := mls.Lifetime{NotAfter: uint64(p.now().Add(400 * 24 * time.Hour).Unix())}
	refused := func(m *member, why string, bundle *mimi.HandshakeBundle) {
		t.Helper()
		resp, err := m.Updates(clubhouse, bundle)
		if err != nil || resp.ResponseCode != mimi.UpdateNotAllowed || !strings.Contains(resp.ErrorDescription, why) {
			t.Errorf("want notAllowed with %q, got %+v, %v", why, resp, err)
		}
	}
	outside := func(m *member, adjust func(*room.RefoundParams)) *mimi.HandshakeBundle {
		t.Helper()
		req, key := m.groupInfo("")
		resp, err := m.svc.GroupInfo(p.ctx, m.dev, clubhouse, req)
		m.must(err)
		tbe, err := resp.Open(clubhouse, key, testSuite)
		m.must(err)
		params := room.RefoundParams{GroupID: []byte("mimi://a.example/g/outside"), CipherSuite: testSuite, Leaf: m.leaf(), Lifetime: lifetime}
		if adjust != nil {
			adjust(&params)
		}
		f, err := room.Refound(rand.Reader, roomConfig(), &tbe.GroupInfo, tbe.RatchetTreeOption, tbe.PendingProposals, params)
		m.must(err)
		return f.Bundle()
	}
	refused(bob, "canSendMLSReinitProposal", outside(bob, nil))
	refused(alice, "external_senders", outside(alice, func(c *room.RefoundParams) {
		c.HubSender = &mls.ExternalSender{SignatureKey: other.Public(), Credential: mls.BasicCredential([]byte("mimi://a.example"))}
	}))
	refused(alice, "franking_agent", outside(alice, func(c *room.RefoundParams) {
		c.FrankingAgent = &mimi.FrankingAgentData{FrankingSignatureKey: other.Public(), Credential: mls.BasicCredential([]byte("mimi://a.example"))}
	}))

	// After a ReInit any of them may found the group that it names, with what each has claimed for this room itself.
	alice.Commits(clubhouse, func(r *room.Room) (*room.Staged, error) {
		next, err := r.Successor(room.RefoundParams{GroupID: []byte("mimi://a.example/g/next"), CipherSuite: testSuite})
		if err != nil {
			return nil, err
		}
		return r.ReInit(rand.Reader, next)
	})
	bob.Reaches(clubhouse, alice.rooms[clubhouse].View().Epoch())
	carol.Stocks(3)
	found := func(m *member, packages ...mls.KeyPackage) *mimi.HandshakeBundle {
		t.Helper()
		f, err := m.rooms[clubhouse].Refound(rand.Reader, room.RefoundParams{Leaf: m.leaf(), Lifetime: lifetime, Members: packages})
		m.must(err)
		return f.Bundle()
	}
	of := func(m *member) mls.KeyPackage {
		t.Helper()
		resp := m.Claims(carol, clubhouse)
		for i := range resp.Clients {
			if k := resp.Clients[i].KeyPackage; k != nil {
				return *k
			}
		}
		t.Fatalf("no KeyPackage: %+v", resp)
		return mls.KeyPackage{}
	}
	refused(bob, "claimed by somebody else", found(bob, of(alice)))
	resp, err := bob.Updates(clubhouse, found(bob, of(bob)))
	if err != nil || resp.ResponseCode != mimi.UpdateSuccess {
		t.Fatalf("Bob founds it: %+v, %v", resp, err)
	}
	// Who is slower hears the epoch of the new group.
	resp, err = alice.Updates(clubhouse, found(alice))
	if err != nil || resp.ResponseCode != mimi.UpdateWrongEpoch || resp.CurrentEpoch != 1 {
		t.Errorf("Alice is slower: %+v, %v", resp, err)
	}
}
