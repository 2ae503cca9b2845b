package mls

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"slices"
	"testing"
)

// What a network may do to messages: delay, reorder, repeat and drop them, across epochs and across restarts of the
// receivers. Each is read once or refused with the reason, as a model says (RFC 9420 §9.2, §15.3).
func TestDelivery(t *testing.T) {
	limits := RatchetLimits{MaxForward: 6, MaxSkipped: 3}
	const pastEpochs = 2
	r := newRoom(t, nil, "alice", "bob", "carol")
	for _, c := range r.clients {
		c.config.RatchetLimits, c.config.PastEpochs = limits, pastEpochs
	}
	r.restart()
	var begin []memoryStore
	for _, c := range r.clients {
		begin = append(begin, c.store)
	}
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			d := &delivery{t: t, rng: mrand.New(mrand.NewPCG(seed, 1)), limits: limits, past: pastEpochs}
			for i, c := range r.clients {
				m := &client{name: c.name, leaf: c.leaf, config: c.config, store: memoryStore{}}
				for k, v := range begin[i] {
					m.store[k] = bytes.Clone(v)
				}
				group, err := LoadGroup(m.config, m.store.all)
				if err != nil {
					t.Fatal(err)
				}
				m.group = group
				d.members = append(d.members, m)
				d.ratchets = append(d.ratchets, map[deliveryRatchet]*modelRatchet{})
			}
			d.commit() // into an epoch in which nobody has spoken
			for range 150 {
				switch n := d.rng.IntN(20); {
				case n < 7:
					d.send()
				case n < 17:
					d.receive()
				case n < 18:
					d.commit()
				default:
					d.members[d.rng.IntN(3)].restart(t)
				}
			}
		})
	}
}

type delivery struct {
	t        *testing.T
	rng      *mrand.Rand
	limits   RatchetLimits
	past     int
	members  []*client
	sent     []sentMessage
	ratchets []map[deliveryRatchet]*modelRatchet // by receiver
}

type sentMessage struct {
	wire       *MLSMessage
	text       string
	epoch      Epoch
	sender     LeafIndex
	generation uint32
}

type deliveryRatchet struct {
	epoch  Epoch
	sender LeafIndex
}

type modelRatchet struct {
	next    uint32
	skipped []uint32
}

func (d *delivery) send() {
	c := d.members[d.rng.IntN(len(d.members))]
	text := fmt.Sprint(c.name, " ", len(d.sent))
	generation := uint32(0)
	for _, m := range d.sent {
		if m.sender == c.group.OwnLeaf() && m.epoch == c.group.Epoch() {
			generation++
		}
	}
	m, err := c.group.Encrypt(rand.Reader, []byte(text), nil)
	if err != nil {
		d.t.Fatal(err)
	}
	d.sent = append(d.sent, sentMessage{wire(d.t, m), text, c.group.Epoch(), c.group.OwnLeaf(), generation})
}

func (d *delivery) commit() {
	by := d.members[d.rng.IntN(len(d.members))]
	staged, err := by.group.Stage(rand.Reader, CommitOptions{WireFormat: WireFormatPrivateMessage})
	if err != nil {
		d.t.Fatal(err)
	}
	for _, c := range d.members {
		next := staged
		if c != by {
			if next, err = c.group.StageReceived(wire(d.t, staged.Message())); err != nil {
				d.t.Fatal(err)
			}
		}
		if err := c.group.Merge(next); err != nil {
			d.t.Fatal(err)
		}
	}
}

func (d *delivery) receive() {
	if len(d.sent) == 0 {
		return
	}
	m := d.sent[d.rng.IntN(len(d.sent))]
	to := d.rng.IntN(len(d.members))
	g := d.members[to].group
	got, err := g.Decrypt(m.wire)
	if m.epoch+Epoch(d.past) < g.Epoch() {
		var refused *EpochError
		if !errors.As(err, &refused) || refused.Got != m.epoch || refused.Want != g.Epoch() {
			d.t.Fatalf("%q, epoch %d in epoch %d: %v", m.text, m.epoch, g.Epoch(), err)
		}
		return
	}
	if m.sender == g.OwnLeaf() {
		if err == nil {
			d.t.Fatalf("%q was read by its sender", m.text)
		}
		return
	}
	id := deliveryRatchet{m.epoch, m.sender}
	r := d.ratchets[to][id]
	if r == nil {
		r = new(modelRatchet)
		d.ratchets[to][id] = r
	}
	kept := slices.Index(r.skipped, m.generation)
	switch {
	case m.generation < r.next && kept < 0:
		if !errors.Is(err, ErrGenerationConsumed) {
			d.t.Fatalf("%q again: %v", m.text, err)
		}
		return
	case m.generation >= r.next && m.generation-r.next > d.limits.MaxForward:
		var refused *GenerationError
		if !errors.As(err, &refused) {
			d.t.Fatalf("%q, %d generations ahead: %v", m.text, m.generation-r.next, err)
		}
		return
	case err != nil:
		d.t.Fatalf("%q: %v", m.text, err)
	case string(got.Data) != m.text || got.Sender != m.sender || got.Epoch != m.epoch || got.Generation != m.generation:
		d.t.Fatalf("%q was read as %+v", m.text, got)
	}
	if m.generation < r.next {
		r.skipped = slices.Delete(r.skipped, kept, kept+1)
		return
	}
	for ; r.next < m.generation; r.next++ {
		r.skipped = append(r.skipped, r.next)
	}
	r.next++
	if n := len(r.skipped) - d.limits.MaxSkipped; n > 0 {
		r.skipped = r.skipped[n:]
	}
}

// With safe_aad in the GroupContext every message of every kind carries exactly one SafeAAD; members and hub refuse
// any other (Decision 117).
func TestSafeAADInEveryMessage(t *testing.T) {
	r := newRoom(t, nil, "alice", "bob")
	alice, bob := r.clients[0].group, r.clients[1].group
	r.commit(r.clients[0], CommitOptions{Proposals: []Proposal{appData(ComponentSafeAAD, AppDataOpUpdate, "\x00")}})

	good, err := EncodeSafeAAD(SafeAADItem{0xf000, []byte("frank")}, SafeAADItem{0x9999, []byte("unknown to everybody")})
	if err != nil {
		t.Fatal(err)
	}
	m, err := alice.Encrypt(rand.Reader, []byte("hello"), good)
	if err != nil {
		t.Fatal(err)
	}
	got, err := bob.Decrypt(wire(t, m))
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseSafeAAD(got.AuthenticatedData)
	if err != nil {
		t.Fatal(err)
	}
	if data, ok := s.Find(0xf000); !ok || string(data) != "frank" {
		t.Errorf("item: %q, %v", data, ok)
	}

	isSafeAAD := func(err error) bool {
		var rule *RuleError
		return errors.As(err, &rule) && rule.Rule == RuleSafeAAD
	}
	for name, bad := range map[string][]byte{
		"none": nil, "free text": []byte("free text"), "trailing": append(bytes.Clone(good), 0),
		"unsorted": {8, 0, 9, 1, 'b', 0, 2, 1, 'a'},
	} {
		if _, err := alice.Encrypt(rand.Reader, nil, bad); !isSafeAAD(err) {
			t.Errorf("%s: alice sends a message: %v", name, err)
		}
		if _, err := alice.Stage(rand.Reader, CommitOptions{AuthenticatedData: bad}); !isSafeAAD(err) {
			t.Errorf("%s: alice sends a commit: %v", name, err)
		}
		if _, err := alice.Propose(rand.Reader, remove(1), SendOptions{AuthenticatedData: bad}); !isSafeAAD(err) {
			t.Errorf("%s: alice sends a proposal: %v", name, err)
		}
		// A sender that doesn't care.
		sign := func(w WireFormat, f FramedContent) *MLSMessage {
			t.Helper()
			f.AuthenticatedData = bad
			a, err := alice.sign(rand.Reader, w, f)
			if err != nil {
				t.Fatal(err)
			}
			a.Auth.ConfirmationTag = nil
			if f.ContentType == ContentCommit {
				a.Auth.ConfirmationTag = make([]byte, 32)
			}
			m, err := alice.protect(rand.Reader, a)
			if err != nil {
				t.Fatal(err)
			}
			return wire(t, m)
		}
		proposal, commit := remove(1), new(Commit)
		if _, err := bob.Decrypt(sign(WireFormatPrivateMessage, FramedContent{ContentType: ContentApplication})); !isSafeAAD(err) {
			t.Errorf("%s: bob reads a message: %v", name, err)
		}
		for _, w := range []WireFormat{WireFormatPublicMessage, WireFormatPrivateMessage} {
			p := sign(w, FramedContent{ContentType: ContentProposal, Proposal: &proposal})
			c := sign(w, FramedContent{ContentType: ContentCommit, Commit: commit})
			if _, err := bob.ReceiveProposal(p); !isSafeAAD(err) {
				t.Errorf("%s: bob receives a proposal as %v: %v", name, w, err)
			}
			if _, err := bob.StageReceived(c); !isSafeAAD(err) {
				t.Errorf("%s: bob receives a commit as %v: %v", name, w, err)
			}
			if w == WireFormatPublicMessage {
				if _, err := r.hub.ReceiveProposal(p); !isSafeAAD(err) {
					t.Errorf("%s: the hub receives a proposal: %v", name, err)
				}
				if _, err := r.hub.Stage(c); !isSafeAAD(err) {
					t.Errorf("%s: the hub receives a commit: %v", name, err)
				}
			}
		}
	}
	if len(bob.Pending()) != 0 || len(r.hub.Pending()) != 0 {
		t.Error("a refused proposal is pending")
	}
}

// psks is a PSKStore of what a component knows.
type psks map[string][]byte

func (p psks) PSK(id *PreSharedKeyID) ([]byte, error) {
	if psk, ok := p[fmt.Sprint(id.Type, id.ComponentID, string(id.PSKID))]; ok {
		return psk, nil
	}
	return nil, ErrNoPSK
}

// A component's PSK makes members agree on what it holds, and is another than a PSK of the same ID of another component
// or of the application (MLS extensions §4.5).
func TestComponentPSK(t *testing.T) {
	key := func(typ PSKType, component ComponentID) string { return fmt.Sprint(typ, component, "password") }
	r := newRoom(t, nil, "alice", "bob", "carol")
	alice, bob, carol := r.clients[0].group, r.clients[1].group, r.clients[2].group
	alice.public.cfg.PSKs = psks{key(PSKApplication, 0xf000): []byte("secret")}
	bob.public.cfg.PSKs = psks{key(PSKApplication, 0xf000): []byte("secret")}
	carol.public.cfg.PSKs = psks{key(PSKApplication, 0xf000): []byte("wrong")}

	id, err := ComponentPSKID(rand.Reader, alice.Suite(), 0xf000, []byte("password"))
	if err != nil {
		t.Fatal(err)
	}
	staged, err := alice.Stage(rand.Reader, CommitOptions{Proposals: []Proposal{{Type: ProposalPSK, PreSharedKey: &PreSharedKey{id}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, store := range []psks{nil, {key(PSKExternal, 0): []byte("secret")}, {key(PSKApplication, 0xf001): []byte("secret")}} {
		bob.public.cfg.PSKs = store
		var rule *RuleError
		if _, err := bob.StageReceived(wire(t, staged.Message())); !errors.As(err, &rule) || rule.Rule != RulePSKUnknown {
			t.Errorf("with %v: %v", store, err)
		}
	}
	bob.public.cfg.PSKs = alice.public.cfg.PSKs
	if _, err := bob.StageReceived(wire(t, staged.Message())); err != nil {
		t.Errorf("bob: %v", err)
	}
	var rule *RuleError
	if _, err := carol.StageReceived(wire(t, staged.Message())); !errors.As(err, &rule) || rule.Rule != RuleConfirmationTag {
		t.Errorf("carol has another secret: %v", err)
	}
	if _, err := r.hub.Stage(wire(t, staged.Message())); err != nil {
		t.Errorf("hub: %v", err)
	}
}

// An AppAck travels as an AppEphemeral and shows a member what it never got (MLS extensions §6.1).
func TestAppAckFindsDroppedMessages(t *testing.T) {
	r := newRoom(t, nil, "alice", "bob", "carol")
	alice, bob, carol := r.clients[0].group, r.clients[1].group, r.clients[2].group
	var byBob, byCarol Received
	read := func(g *Group, into *Received, m *MLSMessage) {
		t.Helper()
		got, err := g.Decrypt(wire(t, m))
		if err != nil {
			t.Fatal(err)
		}
		into.Add(got.Sender, got.Generation)
	}
	first := uint32(0)
	for i := range 6 {
		m, err := alice.Encrypt(rand.Reader, []byte{byte(i)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		read(bob, &byBob, m)
		if i < 3 { // the rest is dropped on the way to carol
			read(carol, &byCarol, m)
		}
		if i == 0 {
			first = byBob.AppAck().ReceivedRanges[0].FirstGeneration
		}
	}
	ack := byBob.AppAck()
	if missing := byCarol.Missing(&ack); !slices.Contains(missing, MessageRange{alice.OwnLeaf(), first + 3, first + 5}) {
		t.Errorf("carol misses %v, want alice's last three", missing)
	}
	data := marshal(&ack)
	r.commit(r.clients[1], CommitOptions{Proposals: []Proposal{{Type: ProposalAppEphemeral, AppEphemeral: &AppEphemeral{0xf000, data}}}})
}
