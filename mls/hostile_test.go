package mls

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// What a peer may send to hurt, and what it costs.

// allocated returns how many octets f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// Every vector of every wire struct may claim a gigabyte. The claim is believed only when the octets are there.
func TestClaimedLengthsCostNothing(t *testing.T) {
	p := newPair(t, 1)
	public, err := p.sender.protectPublic(p.sign(t, WireFormatPublicMessage, p.content(ContentCommit)))
	if err != nil {
		t.Fatal(err)
	}
	private := p.private(t, p.content(ContentApplication))
	claim := []byte{0xBF, 0xFF, 0xFF, 0xFF}
	for _, m := range []MLSMessage{
		Message(public),
		Message(private),
		Message(&Welcome{CipherSuite: 1, Secrets: []EncryptedGroupSecrets{{NewMember: []byte("ref")}}, EncryptedGroupInfo: make([]byte, 99)}),
		Message(&GroupInfo{GroupContext: GroupContext{CipherSuite: 1, GroupID: []byte("group")}}),
		Message(&SemiPrivateMessage{ContentType: ContentCommit, KeysForExternalReceivers: make([]KeyForExternalReceiver, 2)}),
	} {
		wire := marshal(&m)
		for i := range wire {
			bad := slices.Concat(wire[:i], claim, wire[i:])
			var err error
			n := allocated(func() {
				var out MLSMessage
				err = tlspl.Unmarshal(bad, &out)
				if err == nil {
					// The claim fell into an opaque field whose length still fits: then it must come back as it was.
					if !bytes.Equal(marshal(&out), bad) {
						t.Errorf("%v, octet %d: accepted and written differently", m.WireFormat, i)
					}
				}
			})
			if n > 64*uint64(len(bad))+16<<10 {
				t.Fatalf("%v: %d octets cost %d octets of memory (%v)", m.WireFormat, len(bad), n, err)
			}
		}
	}
}

// A generation of 2^32-1 at the start of an epoch would be four billion derivations (RFC 9420 §15.3).
func TestHugeGenerationIsRefusedAtOnce(t *testing.T) {
	p := newPair(t, 1)
	id := ratchetID{0, applicationRatchet}
	for _, next := range []uint64{uint64(DefaultRatchetLimits.MaxForward) + 1, math.MaxUint32} {
		r, err := p.sender.tree.get(id)
		if err != nil {
			t.Fatal(err)
		}
		r.next = next
		m := p.private(t, p.content(ContentApplication))
		start := time.Now()
		_, err = p.receiver.openPrivate(m, anyMember)
		var refused *GenerationError
		if !errors.As(err, &refused) || uint64(refused.Generation) != next || refused.Next != 0 {
			t.Errorf("generation %d: %v", next, err)
		}
		if d := time.Since(start); d > time.Second {
			t.Errorf("generation %d: refused after %v", next, d)
		}
	}
	// The furthest generation that is allowed works, and leaves no more keys than the limit says.
	p = newPair(t, 1)
	for range DefaultRatchetLimits.MaxForward {
		if _, _, err := p.sender.tree.send(id); err != nil {
			t.Fatal(err)
		}
	}
	v, err := p.receiver.openPrivate(p.private(t, p.content(ContentApplication)), anyMember)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.verifyBytes(p.signer.Public()); err != nil {
		t.Fatal(err)
	}
	if n := len(p.receiver.tree.ratchets[id].skipped); n != DefaultRatchetLimits.MaxSkipped {
		t.Errorf("%d keys kept, want %d", n, DefaultRatchetLimits.MaxSkipped)
	}
}

// A member that skips ahead in every message keeps no more than the limits on its receivers' disks.
func TestSkippedKeysAreBounded(t *testing.T) {
	limits := RatchetLimits{MaxForward: 50, MaxSkipped: 20}
	tree := testTree(t, 2, limits)
	id := ratchetID{1, applicationRatchet}
	stored := map[string]bool{}
	for g := uint32(50); g < 2000; g += 50 {
		f, err := tree.find(id, g)
		if err != nil {
			t.Fatal(err)
		}
		if err := tree.consume(&f); err != nil {
			t.Fatal(err)
		}
		tree.flush(func(key, value []byte) {
			if value == nil {
				delete(stored, string(key))
			} else {
				stored[string(key)] = true
			}
		})
		skipped := 0
		for key := range stored {
			if key[0] == recordSkipped {
				skipped++
			}
		}
		if skipped > limits.MaxSkipped {
			t.Fatalf("after generation %d: %d skipped keys are stored", g, skipped)
		}
	}
}

// Sender data names any leaf. Neither a leaf outside the tree nor a blank one may reach the ratchets.
func TestSenderDataNamesNoMember(t *testing.T) {
	for _, leaf := range []LeafIndex{2, 1 << 20, math.MaxUint32} {
		p := newPair(t, 1)
		p.sender.tree = testTree(t, 4, DefaultRatchetLimits)
		f := p.content(ContentApplication)
		a := p.sign(t, WireFormatPrivateMessage, f)
		c, err := p.sender.newKey(rand.Reader, a)
		if err != nil {
			t.Fatal(err)
		}
		c.data.LeafIndex = leaf
		head := appendMessageHead(nil, f.GroupID, f.Epoch, f.ContentType)
		if err := p.sender.seal(&c, a, head, appendOpaque(bytes.Clone(head), f.AuthenticatedData), 0); err != nil {
			t.Fatal(err)
		}
		m := &PrivateMessage{f.GroupID, f.Epoch, f.ContentType, f.AuthenticatedData, c.encryptedSenderData, c.ciphertext}
		asked := false
		_, err = p.receiver.openPrivate(m, func(i LeafIndex) bool { asked = i == leaf; return false })
		if err != ErrNotMember || !asked {
			t.Errorf("leaf %d: %v", leaf, err)
		}
		if len(p.receiver.tree.ratchets) != 0 {
			t.Errorf("leaf %d made a ratchet", leaf)
		}
		// Even a caller that lets everyone in has no ratchet for a leaf outside the tree.
		if _, err := p.receiver.openPrivate(m, anyMember); err != ErrNoRatchet {
			t.Errorf("leaf %d: %v", leaf, err)
		}
	}
}

// What an external receiver decrypts was written by a member, who may lie about its lengths.
func TestHostileKeysForReceivers(t *testing.T) {
	p := newPair(t, 1)
	s := p.suite
	hubKey, err := s.GenerateKeyPair(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	hub := ExternalReceiver{PublicKey: hubKey.Public(), Credential: BasicCredential([]byte("hub"))}
	good, err := p.sender.protectSemiPrivate(rand.Reader, p.sign(t, WireFormatSemiPrivateMessage, p.content(ContentCommit)), []ExternalReceiver{hub}, 0)
	if err != nil {
		t.Fatal(err)
	}
	context, err := good.receiverContext()
	if err != nil {
		t.Fatal(err)
	}
	for name, inner := range map[string][]byte{
		"nothing":     {},
		"no key":      marshal(&perMessageKeyAndNonces{Nonce: make([]byte, s.Nn())}),
		"long key":    marshal(&perMessageKeyAndNonces{Key: make([]byte, 100), Nonce: make([]byte, s.Nn())}),
		"no nonce":    marshal(&perMessageKeyAndNonces{Key: make([]byte, s.Nk())}),
		"long nonce":  marshal(&perMessageKeyAndNonces{Key: make([]byte, s.Nk()), Nonce: make([]byte, 200)}),
		"other key":   marshal(&perMessageKeyAndNonces{Key: make([]byte, s.Nk()), Nonce: make([]byte, s.Nn())}),
		"trailing":    append(marshal(&perMessageKeyAndNonces{Key: make([]byte, s.Nk()), Nonce: make([]byte, s.Nn())}), 0),
		"huge length": {0xBF, 0xFF, 0xFF, 0xFF},
	} {
		m := *good
		kemOutput, ciphertext, err := s.SealWithLabel(hub.PublicKey, semiPrivateLabel, context, inner)
		if err != nil {
			t.Fatal(err)
		}
		m.KeysForExternalReceivers = []KeyForExternalReceiver{{good.KeysForExternalReceivers[0].ExternalReceiverRef, HPKECiphertext{kemOutput, ciphertext}}}
		if _, err := openSemiPrivateAsReceiver(s, []byte("group"), 5, p.context, &hub, hubKey, &m); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Ciphertexts, keys and signatures of no length at all.
func TestEmptyInputs(t *testing.T) {
	for _, id := range suite.IDs() {
		p := newPair(t, id)
		if _, err := p.receiver.openPrivate(&PrivateMessage{GroupID: []byte("group"), Epoch: 5, ContentType: ContentApplication}, anyMember); err != ErrDecrypt {
			t.Errorf("%v: empty PrivateMessage: %v", id, err)
		}
		if _, err := p.receiver.openSemiPrivate(&SemiPrivateMessage{GroupID: []byte("group"), Epoch: 5, ContentType: ContentCommit}, anyMember); err != ErrDecrypt {
			t.Errorf("%v: empty SemiPrivateMessage: %v", id, err)
		}
		if _, err := openWelcome(p.suite, nil, nil, nil); err != ErrWelcomeDecrypt {
			t.Errorf("%v: empty Welcome: %v", id, err)
		}
		if _, _, err := sendExternalInit(p.suite, nil); err != suite.ErrKey {
			t.Errorf("%v: empty external_pub: %v", id, err)
		}
		f := p.content(ContentProposal)
		f.Sender = Sender{Type: SenderExternal}
		v, err := openPublicAsFollower(p.suite, []byte("group"), 5, nil, &PublicMessage{Content: f})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.verifyBytes(nil); err != suite.ErrKey {
			t.Errorf("%v: empty key: %v", id, err)
		}
		if _, err := v.verifyBytes(p.signer.Public()); err != suite.ErrSignature {
			t.Errorf("%v: empty signature: %v", id, err)
		}
	}
}

// FuzzOpenPrivate feeds a member what the network may deliver. Nothing that was not sent may open, and nothing may be
// consumed by what does not verify.
func FuzzOpenPrivate(f *testing.F) {
	p := newPair(f, 1)
	other, err := p.suite.GenerateSigner(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range []ContentType{ContentApplication, ContentProposal, ContentCommit} {
		msg := Message(p.private(f, p.content(c)))
		f.Add(marshal(&msg))
	}
	hubKey, err := p.suite.GenerateKeyPair(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	hub := ExternalReceiver{PublicKey: hubKey.Public(), Credential: BasicCredential([]byte("hub"))}
	semi, err := p.sender.protectSemiPrivate(rand.Reader, p.sign(f, WireFormatSemiPrivateMessage, p.content(ContentCommit)), []ExternalReceiver{hub}, 0)
	if err != nil {
		f.Fatal(err)
	}
	msg := Message(semi)
	f.Add(marshal(&msg))
	public, err := p.sender.protectPublic(p.sign(f, WireFormatPublicMessage, p.content(ContentCommit)))
	if err != nil {
		f.Fatal(err)
	}
	msg = Message(public)
	f.Add(marshal(&msg))
	f.Fuzz(func(t *testing.T, wire []byte) {
		var m MLSMessage
		if tlspl.Unmarshal(wire, &m) != nil {
			return
		}
		var v *verifiableContent
		var err error
		switch {
		case m.PrivateMessage != nil:
			v, err = p.receiver.openPrivate(m.PrivateMessage, anyMember)
		case m.SemiPrivateMessage != nil:
			if _, err := openSemiPrivateAsReceiver(p.suite, []byte("group"), 5, p.context, &hub, hubKey, m.SemiPrivateMessage); err == nil && !bytes.Equal(m.SemiPrivateMessage.FramedContentTBSHash, semi.FramedContentTBSHash) {
				t.Error("the hub read what nobody sent")
			}
			v, err = p.receiver.openSemiPrivate(m.SemiPrivateMessage, anyMember)
		case m.PublicMessage != nil:
			v, err = p.receiver.openPublic(m.PublicMessage)
		default:
			return
		}
		if err != nil {
			return
		}
		if _, err := v.verifyBytes(other.Public()); err == nil {
			t.Error("verified with another member's key")
		}
	})
}

// FuzzPrivateContent reads plaintexts that a member may have written.
func FuzzPrivateContent(f *testing.F) {
	p := newPair(f, 1)
	for _, c := range []ContentType{ContentApplication, ContentProposal, ContentCommit} {
		a := p.sign(f, WireFormatPrivateMessage, p.content(c))
		b, err := appendPrivateContent(nil, a, 50)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(c), b)
	}
	f.Fuzz(func(t *testing.T, c byte, plaintext []byte) {
		content := FramedContent{ContentType: ContentType(c)}
		var auth FramedContentAuthData
		in := privateMessageContent{Content: &content, Auth: &auth}
		if tlspl.Unmarshal(plaintext, &in) != nil {
			return
		}
		// What was read is written the same, and its parts lie where open looks for them.
		out := marshal(&in)
		if !bytes.Equal(out, plaintext) {
			t.Fatalf("%x re-encodes as %x", plaintext, out)
		}
		if end := len(plaintext) - in.Padding - authSize(content.ContentType, &auth); end < 0 {
			t.Fatalf("%x: negative body", plaintext)
		}
	})
}

// A member sends commits with ten thousand proposals. Each gets its answer, a named error where a rule is broken, in time and
// memory in proportion to its length: nothing compares all with all.
func TestTenThousandProposals(t *testing.T) {
	const n = 10000
	r := newRoom(t, nil, "alice", "bob", "mallory")
	alice, mallory := r.clients[0], r.clients[2]
	keyPackage := newClient(t, "eve").keyPackage(t)
	many := func(f func(i int) Proposal) (list []ProposalOrRef) {
		for i := range n {
			p := f(i)
			list = append(list, ProposalOrRef{Proposal: &p})
		}
		return list
	}
	psk := func(id string) Proposal {
		return Proposal{Type: ProposalPSK, PreSharedKey: &PreSharedKey{PreSharedKeyID{Type: PSKExternal, PSKID: []byte(id), PSKNonce: make([]byte, 32)}}}
	}
	refs := make([]ProposalOrRef, n)
	for i := range refs {
		refs[i].Reference = binary.BigEndian.AppendUint32(make([]byte, 28), uint32(i))
	}
	for name, c := range map[string]struct {
		proposals []ProposalOrRef
		rule      Rule
	}{
		"unknown references": {refs, RuleProposalReference},
		"different PSKs":     {many(func(i int) Proposal { return psk(fmt.Sprint(i)) }), RulePSKUnknown},
		"the same PSK":       {many(func(int) Proposal { return psk("x") }), RuleSamePSK},
		"Removes of one":     {many(func(int) Proposal { return remove(1) }), RuleSameLeaf},
		"Removes of nobody":  {many(func(i int) Proposal { return remove(LeafIndex(1000 + i)) }), RuleRemove},
		"Adds of one":        {many(func(int) Proposal { return add(keyPackage) }), RuleAddClient},
		"data of one":        {many(func(int) Proposal { return appData(0xf000, AppDataOpUpdate, "x") }), RuleConfirmationTag},
		"data of many":       {many(func(i int) Proposal { return appData(0xf000+ComponentID(i%0x1000), AppDataOpUpdate, "x") }), RuleConfirmationTag},
		"ephemeral data": {many(func(int) Proposal {
			return Proposal{Type: ProposalAppEphemeral, AppEphemeral: &AppEphemeral{ComponentID: 0xf000}}
		}), RuleConfirmationTag},
		"a type of our own": {many(func(int) Proposal { return Proposal{Type: 0xf001, Custom: []byte("x")} }), RuleConfirmationTag},
		"context replaced": {many(func(int) Proposal {
			return Proposal{Type: ProposalGroupContextExtensions, GroupContextExtensions: &GroupContextExtensions{}}
		}), RuleSameExtensions},
		"ReInits": {many(func(int) Proposal {
			return Proposal{Type: ProposalReInit, ReInit: &ReInit{Version: MLS10, CipherSuite: testSuite}}
		}), RuleReInitAlone},
		"ExternalInits inside": {many(func(int) Proposal { return Proposal{Type: ProposalExternalInit, ExternalInit: &ExternalInit{}} }), RuleExternalInit},
	} {
		a, err := mallory.group.sign(rand.Reader, WireFormatPublicMessage, FramedContent{ContentType: ContentCommit, Commit: &Commit{Proposals: c.proposals}})
		if err != nil {
			t.Fatal(err)
		}
		a.Auth.ConfirmationTag = make([]byte, 32)
		m, err := mallory.group.protect(rand.Reader, a)
		if err != nil {
			t.Fatal(err)
		}
		octets := marshal(m)
		start := cpuTime()
		var received, followed error
		memory := allocated(func() {
			var m MLSMessage
			if received = tlspl.Unmarshal(octets, &m); received != nil {
				return
			}
			_, received = alice.group.StageReceived(&m)
			_, followed = r.hub.Stage(&m)
		})
		if ruleOf(received) != c.rule {
			t.Errorf("%s: %v, want rule %s", name, received, c.rule)
		}
		// A follower knows neither PSKs nor the confirmation key.
		if want := c.rule; want != RulePSKUnknown && want != RuleConfirmationTag && ruleOf(followed) != want {
			t.Errorf("%s: hub: %v, want rule %s", name, followed, want)
		}
		took := cpuTime() - start
		t.Logf("%-20s %7d octets: %v, %d octets of memory", name, len(octets), took, memory)
		if took > 5*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
		if memory > 20<<20+200*uint64(len(octets)) {
			t.Errorf("%s: %d octets cost %d octets of memory", name, len(octets), memory)
		}
	}
	r.check()
}
