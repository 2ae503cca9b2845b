package mls

import (
	"bytes"
	"crypto/rand"
	"testing"

	"github.com/comity-im/comity/tlspl"
)

// A liveGroup is a group in use: a member and a hub that are fed, another member that has gone bad, and what the honest
// ones sent in this epoch.
type liveGroup struct {
	member, attacker memoryStore
	config           Config
	hub              *PublicGroup
	commit, data     *MLSMessage
}

// newLiveGroup also returns messages of this epoch of all kinds, from the network's and from a member's point of view.
func newLiveGroup(f testing.TB) (live *liveGroup, messages []*MLSMessage, contents []*FramedContent) {
	r := newRoom(f, nil, "alice", "bob", "mallory", "dave")
	alice, bob, mallory, dave := r.clients[0], r.clients[1], r.clients[2], r.clients[3]
	// A proposal waits, so that there is something to refer to.
	m, err := dave.group.ProposeUpdate(rand.Reader, nil, SendOptions{})
	if err != nil {
		f.Fatal(err)
	}
	data, err := bob.group.Encrypt(rand.Reader, []byte("hello"), nil)
	if err != nil {
		f.Fatal(err)
	}
	messages = append(messages, data)
	r.propose(dave, m, nil)
	r.restart()
	live = &liveGroup{alice.store, mallory.store, alice.config, r.hub, nil, data}
	staged, err := bob.group.Stage(rand.Reader, CommitOptions{AllPending: true})
	if err != nil {
		f.Fatal(err)
	}
	live.commit = staged.Message()
	for _, w := range []WireFormat{WireFormatPublicMessage, WireFormatPrivateMessage} {
		for _, o := range []CommitOptions{
			{AllPending: true}, {Proposals: []Proposal{add(newClient(f, "eve").keyPackage(f)), appData(0xf000, AppDataOpUpdate, "x")}},
			{Proposals: []Proposal{remove(bob.group.OwnLeaf()), {Type: 0xf001, Custom: []byte("own")}}},
		} {
			o.WireFormat = w
			staged, err := live.load(f, live.attacker).Stage(rand.Reader, o)
			if err != nil {
				f.Fatal(err)
			}
			messages = append(messages, staged.Message())
			if m := staged.Message().PublicMessage; m != nil {
				contents = append(contents, &m.Content)
			}
		}
		for _, p := range []Proposal{
			add(newClient(f, "frank").keyPackage(f)), remove(dave.group.OwnLeaf()), appData(0xf000, AppDataOpRemove, ""),
			{Type: ProposalSelfRemove}, {Type: 0xf001, Custom: []byte("own")},
			{Type: ProposalReInit, ReInit: &ReInit{GroupID: []byte("next"), Version: MLS10, CipherSuite: testSuite}},
		} {
			if p.Type == ProposalSelfRemove && w == WireFormatPrivateMessage {
				continue
			}
			m, err := live.load(f, live.attacker).Propose(rand.Reader, p, SendOptions{WireFormat: w})
			if err != nil {
				f.Fatal(err)
			}
			messages = append(messages, m)
			if m.PublicMessage != nil {
				contents = append(contents, &m.PublicMessage.Content)
			}
		}
	}
	return live, messages, contents
}

func (l *liveGroup) load(t testing.TB, s memoryStore) *Group {
	g, err := LoadGroup(l.config, s.all)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// feed gives a message to a member and to a hub. What they refuse must leave no trace, and a commit only staged neither:
// both must afterwards still take what honest members sent.
func (l *liveGroup) feed(t *testing.T, m *MLSMessage) {
	member, hub := l.load(t, l.member), l.hub.Clone()
	if _, err := hub.Flush(); err != nil {
		t.Fatal(err)
	}
	state, pending := member.public.state, len(member.Pending())
	hubState, hubPending := hub.state, len(hub.Pending())
	authenticator := bytes.Clone(member.EpochAuthenticator())
	read := false
	kind, _ := m.ContentType()
	switch kind {
	case ContentApplication:
		if _, err := member.Decrypt(m); err == nil {
			read = true
		}
	case ContentProposal:
		if _, err := member.ReceiveProposal(m); err == nil {
			read = true
		}
		if _, err := hub.ReceiveProposal(m); err != nil && len(hub.Pending()) != hubPending {
			t.Error("the hub kept a proposal that it refused")
		}
	default:
		if c, err := member.StageReceived(m); err == nil {
			c.Drop()
		}
		hub.Stage(m)
	}
	if member.public.state != state || hub.state != hubState || !bytes.Equal(member.EpochAuthenticator(), authenticator) {
		t.Fatal("the epoch changed")
	}
	if !read {
		if len(member.Pending()) != pending {
			t.Fatal("a refused message changed what is pending")
		}
		if list, err := member.Flush(); err != nil || len(list) != 0 {
			t.Fatalf("a refused message changed %d records, %v", len(list), err)
		}
	}
	if kind != ContentApplication || !read {
		if got, err := member.Decrypt(l.data); err != nil || string(got.Data) != "hello" {
			t.Fatalf("an honest message: %v", err)
		}
	}
	if c, err := member.StageReceived(l.commit); err != nil {
		t.Fatalf("an honest commit: %v", err)
	} else {
		c.Drop()
	}
	if _, err := hub.Stage(l.commit); err != nil {
		t.Fatalf("an honest commit, hub: %v", err)
	}
}

// FuzzLiveGroup feeds a member and a hub of a live group with what the network may deliver.
func FuzzLiveGroup(f *testing.F) {
	live, messages, _ := newLiveGroup(f)
	for _, m := range messages {
		f.Add(marshal(m))
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		var m MLSMessage
		if tlspl.Unmarshal(wire, &m) != nil {
			return
		}
		if _, ok := m.ContentType(); !ok {
			return
		}
		live.feed(t, &m)
	})
}

// FuzzLiveGroupInsider has a member sign and protect any content whatever, so that what follows the signature is reached.
func FuzzLiveGroupInsider(f *testing.F) {
	live, _, contents := newLiveGroup(f)
	for _, c := range contents {
		b := marshal(c)
		f.Add(b, uint8(0), make([]byte, 32))
		f.Add(b, uint8(1), []byte{})
	}
	f.Fuzz(func(t *testing.T, content []byte, how uint8, tag []byte) {
		var c FramedContent
		if tlspl.Unmarshal(content, &c) != nil {
			return
		}
		w := WireFormatPublicMessage
		if how&1 != 0 || c.ContentType == ContentApplication {
			w = WireFormatPrivateMessage
		}
		mallory := live.load(t, live.attacker)
		a, err := mallory.sign(rand.Reader, w, c)
		if err != nil {
			return
		}
		a.Auth.ConfirmationTag = tag
		m, err := mallory.protect(rand.Reader, a)
		if err != nil {
			return
		}
		var out MLSMessage
		if err := tlspl.Unmarshal(marshal(m), &out); err != nil {
			t.Fatalf("what was protected does not decode: %v", err)
		}
		live.feed(t, &out)
	})
}
