package mls

import (
	"bytes"
	"crypto/rand"
	"errors"
	"slices"
	"testing"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

func TestTranscriptHashVectors(t *testing.T) {
	var vectors []struct {
		CipherSuite          suite.ID `json:"cipher_suite"`
		ConfirmationKey      hexBytes `json:"confirmation_key"`
		AuthenticatedContent hexBytes `json:"authenticated_content"`
		InterimBefore        hexBytes `json:"interim_transcript_hash_before"`
		ConfirmedAfter       hexBytes `json:"confirmed_transcript_hash_after"`
		InterimAfter         hexBytes `json:"interim_transcript_hash_after"`
	}
	readVectors(t, "transcript-hashes.json", &vectors)
	if len(vectors) != 7 {
		t.Fatalf("%d vectors, want 7", len(vectors))
	}
	for _, v := range vectors {
		s := lookup(t, v.CipherSuite)
		var a AuthenticatedContent
		if err := tlspl.Unmarshal(v.AuthenticatedContent, &a); err != nil {
			t.Fatal(err)
		}
		input, err := a.confirmedTranscriptHashInput()
		if err != nil {
			t.Fatal(err)
		}
		confirmed := confirmedTranscriptHash(s, v.InterimBefore, input)
		checkBytes(t, "confirmed_transcript_hash", confirmed, v.ConfirmedAfter)
		secrets := epochSecrets{confirmation: v.ConfirmationKey}
		if !secrets.verifyConfirmationTag(s, confirmed, a.Auth.ConfirmationTag) {
			t.Errorf("%v: confirmation_tag does not verify", v.CipherSuite)
		}
		checkBytes(t, "confirmation_tag", secrets.confirmationTag(s, confirmed), a.Auth.ConfirmationTag)
		checkBytes(t, "interim_transcript_hash", interimTranscriptHash(s, confirmed, a.Auth.ConfirmationTag), v.InterimAfter)
	}
}

func anyMember(LeafIndex) bool { return true }

func TestMessageProtectionVectors(t *testing.T) {
	var vectors []struct {
		CipherSuite             suite.ID `json:"cipher_suite"`
		GroupID                 hexBytes `json:"group_id"`
		Epoch                   Epoch
		TreeHash                hexBytes `json:"tree_hash"`
		ConfirmedTranscriptHash hexBytes `json:"confirmed_transcript_hash"`
		SignaturePriv           hexBytes `json:"signature_priv"`
		SignaturePub            hexBytes `json:"signature_pub"`
		EncryptionSecret        hexBytes `json:"encryption_secret"`
		SenderDataSecret        hexBytes `json:"sender_data_secret"`
		MembershipKey           hexBytes `json:"membership_key"`
		Proposal                hexBytes
		ProposalPriv            hexBytes `json:"proposal_priv"`
		ProposalPub             hexBytes `json:"proposal_pub"`
		Commit                  hexBytes
		CommitPriv              hexBytes `json:"commit_priv"`
		CommitPub               hexBytes `json:"commit_pub"`
		Application             hexBytes
		ApplicationPriv         hexBytes `json:"application_priv"`
	}
	readVectors(t, "message-protection.json", &vectors)
	if len(vectors) != 7 {
		t.Fatalf("%d vectors, want 7", len(vectors))
	}
	for _, v := range vectors {
		t.Run(v.CipherSuite.String(), func(t *testing.T) {
			s := lookup(t, v.CipherSuite)
			context := marshal(&GroupContext{
				Version:                 MLS10,
				CipherSuite:             v.CipherSuite,
				GroupID:                 v.GroupID,
				Epoch:                   v.Epoch,
				TreeHash:                v.TreeHash,
				ConfirmedTranscriptHash: v.ConfirmedTranscriptHash,
			})
			newKeys := func() *messageKeys {
				return &messageKeys{s, v.GroupID, v.Epoch, context, v.SenderDataSecret, v.MembershipKey,
					newSecretTree(s, 2, slices.Clone(v.EncryptionSecret), DefaultRatchetLimits)}
			}
			// open returns the content's body as it was encoded.
			open := func(message []byte) []byte {
				t.Helper()
				keys := newKeys() // both handshake messages are of generation 0
				var m MLSMessage
				if err := tlspl.Unmarshal(message, &m); err != nil {
					t.Fatal(err)
				}
				var v1 *verifiableContent
				var err error
				if m.WireFormat == WireFormatPublicMessage {
					v1, err = keys.openPublic(m.PublicMessage)
				} else {
					v1, err = keys.openPrivate(m.PrivateMessage, anyMember)
				}
				if err != nil {
					t.Fatal(err)
				}
				if v1.sender() != MemberSender(1) {
					t.Errorf("sender %v, want leaf 1", v1.sender())
				}
				got, err := v1.verifyBytes(v.SignaturePub)
				if err != nil {
					t.Fatal(err)
				}
				switch f := &got.Content; f.ContentType {
				case ContentProposal:
					return marshal(f.Proposal)
				case ContentCommit:
					return marshal(f.Commit)
				default:
					return f.ApplicationData
				}
			}
			checkBytes(t, "proposal_pub", open(v.ProposalPub), v.Proposal)
			checkBytes(t, "proposal_priv", open(v.ProposalPriv), v.Proposal)
			checkBytes(t, "commit_pub", open(v.CommitPub), v.Commit)
			checkBytes(t, "commit_priv", open(v.CommitPriv), v.Commit)
			checkBytes(t, "application_priv", open(v.ApplicationPriv), v.Application)

			signer, err := s.NewSigner(v.SignaturePriv)
			if err != nil {
				t.Fatal(err)
			}
			proposal, commit := new(Proposal), new(Commit)
			if err := tlspl.Unmarshal(v.Proposal, proposal); err != nil {
				t.Fatal(err)
			}
			if err := tlspl.Unmarshal(v.Commit, commit); err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct {
				body    []byte
				content FramedContent
			}{
				{v.Proposal, FramedContent{ContentType: ContentProposal, Proposal: proposal}},
				{v.Commit, FramedContent{ContentType: ContentCommit, Commit: commit}},
				{v.Application, FramedContent{ContentType: ContentApplication, ApplicationData: v.Application}},
			} {
				f := c.content
				f.GroupID, f.Epoch, f.Sender = v.GroupID, v.Epoch, MemberSender(1)
				for _, w := range []WireFormat{WireFormatPublicMessage, WireFormatPrivateMessage} {
					a, err := signContent(rand.Reader, signer, w, f, context)
					if err != nil {
						t.Fatal(err)
					}
					a.Auth.ConfirmationTag = []byte("tag")
					keys := newKeys()
					if w == WireFormatPublicMessage {
						m, err := keys.protectPublic(a)
						if f.ContentType == ContentApplication {
							if err != ErrContentType {
								t.Errorf("application data in the clear: %v", err)
							}
							continue
						}
						if err != nil {
							t.Fatal(err)
						}
						msg := Message(m)
						checkBytes(t, "own PublicMessage", open(marshal(&msg)), c.body)
						continue
					}
					m, err := keys.protectPrivate(rand.Reader, a, 256)
					if err != nil {
						t.Fatal(err)
					}
					if n := len(m.Ciphertext) - s.Nt(); n%256 != 0 {
						t.Errorf("plaintext of %d octets, want a multiple of 256", n)
					}
					msg := Message(m)
					checkBytes(t, "own PrivateMessage", open(marshal(&msg)), c.body)
				}
			}
		})
	}
}

// A pair is a sender at leaf 0 and a receiver at leaf 1 of the same epoch.
type pair struct {
	suite            suite.Suite
	signer           *suite.Signer
	sender, receiver *messageKeys
	context          []byte
}

func newPair(t testing.TB, id suite.ID) *pair {
	t.Helper()
	s := lookup(t, id)
	signer, err := s.GenerateSigner(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	start, err := startFirstEpoch(s, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	context := marshal(&GroupContext{Version: MLS10, CipherSuite: id, GroupID: []byte("group"), Epoch: 5, TreeHash: make([]byte, s.Nh())})
	keys := func() *messageKeys {
		return &messageKeys{s, []byte("group"), 5, context, start.secrets.senderData, start.secrets.membership,
			newSecretTree(s, 2, slices.Clone(start.encryption), DefaultRatchetLimits)}
	}
	return &pair{s, signer, keys(), keys(), context}
}

func (p *pair) content(t ContentType) FramedContent {
	f := FramedContent{GroupID: []byte("group"), Epoch: 5, Sender: MemberSender(0), AuthenticatedData: []byte("aad"), ContentType: t}
	switch t {
	case ContentApplication:
		f.ApplicationData = []byte("hello")
	case ContentProposal:
		f.Proposal = &Proposal{Type: ProposalRemove, Remove: &Remove{Removed: 1}}
	case ContentCommit:
		f.Commit = &Commit{}
	}
	return f
}

func (p *pair) sign(t testing.TB, w WireFormat, f FramedContent) *AuthenticatedContent {
	t.Helper()
	a, err := signContent(rand.Reader, p.signer, w, f, p.context)
	if err != nil {
		t.Fatal(err)
	}
	if f.ContentType == ContentCommit {
		a.Auth.ConfirmationTag = []byte("tag")
	}
	return a
}

func (p *pair) private(t testing.TB, f FramedContent) *PrivateMessage {
	t.Helper()
	m, err := p.sender.protectPrivate(rand.Reader, p.sign(t, WireFormatPrivateMessage, f), 0)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestPrivateMessageRefusals(t *testing.T) {
	p := newPair(t, 1)
	good := p.private(t, p.content(ContentApplication))
	for name, c := range map[string]struct {
		change func(m *PrivateMessage)
		want   error
	}{
		"group":             {func(m *PrivateMessage) { m.GroupID = []byte("other") }, ErrGroupID},
		"content type":      {func(m *PrivateMessage) { m.ContentType = ContentCommit }, ErrDecrypt},
		"aad":               {func(m *PrivateMessage) { m.AuthenticatedData = nil }, ErrDecrypt},
		"sender data":       {func(m *PrivateMessage) { m.EncryptedSenderData[3] ^= 1 }, ErrDecrypt},
		"no sender data":    {func(m *PrivateMessage) { m.EncryptedSenderData = nil }, ErrDecrypt},
		"long sender data":  {func(m *PrivateMessage) { m.EncryptedSenderData = append(m.EncryptedSenderData, 0) }, ErrDecrypt},
		"sample":            {func(m *PrivateMessage) { m.Ciphertext[0] ^= 1 }, ErrDecrypt},
		"ciphertext":        {func(m *PrivateMessage) { m.Ciphertext[len(m.Ciphertext)-1] ^= 1 }, ErrDecrypt},
		"no ciphertext":     {func(m *PrivateMessage) { m.Ciphertext = nil }, ErrDecrypt},
		"short ciphertext":  {func(m *PrivateMessage) { m.Ciphertext = m.Ciphertext[:40] }, ErrDecrypt},
		"longer ciphertext": {func(m *PrivateMessage) { m.Ciphertext = append(m.Ciphertext, 0) }, ErrDecrypt},
	} {
		m := *good
		m.EncryptedSenderData, m.Ciphertext = bytes.Clone(m.EncryptedSenderData), bytes.Clone(m.Ciphertext)
		c.change(&m)
		if _, err := p.receiver.openPrivate(&m, anyMember); err != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	m := *good
	m.Epoch = 4
	var e *EpochError
	if _, err := p.receiver.openPrivate(&m, anyMember); !errors.As(err, &e) || *e != (EpochError{4, 5}) {
		t.Errorf("epoch: %v", err)
	}
	if _, err := p.receiver.openPrivate(good, func(i LeafIndex) bool { return i != 0 }); err != ErrNotMember {
		t.Errorf("blank sender: %v", err)
	}

	// After all that the message itself still opens, once.
	v, err := p.receiver.openPrivate(good, anyMember)
	if err != nil {
		t.Fatal(err)
	}
	other, err := p.suite.GenerateSigner(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.verifyBytes(other.Public()); err != suite.ErrSignature {
		t.Errorf("other key: %v", err)
	}
	if _, err := v.verifyBytes([]byte("no key")); err != suite.ErrKey {
		t.Errorf("no key: %v", err)
	}
	got, err := v.verifyBytes(p.signer.Public())
	if err != nil || string(got.Content.ApplicationData) != "hello" || got.Generation != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := v.verifyBytes(p.signer.Public()); err != ErrGenerationConsumed {
		t.Errorf("second verify: %v", err)
	}
	if _, err := p.receiver.openPrivate(good, anyMember); err != ErrGenerationConsumed {
		t.Errorf("replay: %v", err)
	}
}

// An insider knows every key. It must not be able to speak as another member, nor to cost that member a message.
func TestForgeryCostsNoKey(t *testing.T) {
	p := newPair(t, 1)
	insider, err := p.suite.GenerateSigner(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := signContent(rand.Reader, insider, WireFormatPrivateMessage, p.content(ContentApplication), p.context)
	if err != nil {
		t.Fatal(err)
	}
	other := *p.sender
	other.tree = newSecretTree(p.suite, 2, slices.Clone(p.sender.tree.nodes.secrets[1]), DefaultRatchetLimits)
	bad, err := other.protectPrivate(rand.Reader, forged, 0)
	if err != nil {
		t.Fatal(err)
	}
	good := p.private(t, p.content(ContentApplication))
	v, err := p.receiver.openPrivate(bad, anyMember)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.verifyBytes(p.signer.Public()); err != suite.ErrSignature {
		t.Errorf("forged message: %v", err)
	}
	if v, err = p.receiver.openPrivate(good, anyMember); err != nil {
		t.Fatal(err)
	}
	if _, err := v.verifyBytes(p.signer.Public()); err != nil {
		t.Errorf("true message of the same generation: %v", err)
	}
}

// The hand-written encoding of an application message's content is that of its codec.
func TestApplicationContentEncoding(t *testing.T) {
	p := newPair(t, 1)
	for _, n := range []int{0, 1, 63, 64, 20000} {
		f := p.content(ContentApplication)
		f.ApplicationData, f.AuthenticatedData, f.Sender.LeafIndex = make([]byte, n), make([]byte, n), 0x01020304
		a := p.sign(t, WireFormatPrivateMessage, f)
		f.raw = nil
		checkBytes(t, "content", a.Content.raw, marshal(&f))
	}
}

func TestPadding(t *testing.T) {
	p := newPair(t, 1)
	s := p.suite
	f := p.content(ContentApplication)
	a := p.sign(t, WireFormatPrivateMessage, f)
	// A sender that fills the padding with something.
	c, err := p.sender.newKey(rand.Reader, a)
	if err != nil {
		t.Fatal(err)
	}
	head := appendMessageHead(nil, f.GroupID, f.Epoch, f.ContentType)
	aad := appendOpaque(bytes.Clone(head), f.AuthenticatedData)
	plaintext, err := appendPrivateContent(nil, a, 0)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := s.AEAD(c.key.key[:s.Nk()])
	if err != nil {
		t.Fatal(err)
	}
	nonce := guardedNonce(c.key.nonce, c.data.ReuseGuard)
	m := &PrivateMessage{GroupID: f.GroupID, Epoch: f.Epoch, ContentType: f.ContentType, AuthenticatedData: f.AuthenticatedData}
	m.Ciphertext = aead.Seal(nil, nonce[:], append(plaintext, 0, 0, 1), aad)
	key := senderDataKey(s, p.sender.senderData, m.Ciphertext)
	if aead, err = s.AEAD(key.key[:s.Nk()]); err != nil {
		t.Fatal(err)
	}
	m.EncryptedSenderData = aead.Seal(nil, key.nonce[:], c.data.append(nil), head)
	if _, err := p.receiver.openPrivate(m, anyMember); !errors.Is(err, ErrPadding) {
		t.Errorf("padding with content: %v", err)
	}

	for _, padTo := range []int{0, 1, 16, 1000} {
		m, err := p.sender.protectPrivate(rand.Reader, p.sign(t, WireFormatPrivateMessage, f), padTo)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(m.Ciphertext) - s.Nt(); padTo > 0 && n%padTo != 0 {
			t.Errorf("padTo %d: plaintext of %d octets", padTo, n)
		}
		v, err := p.receiver.openPrivate(m, anyMember)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.verifyBytes(p.signer.Public()); err != nil {
			t.Errorf("padTo %d: %v", padTo, err)
		}
	}
}

func TestPublicMessageRefusals(t *testing.T) {
	p := newPair(t, 1)
	a := p.sign(t, WireFormatPublicMessage, p.content(ContentProposal))
	good, err := p.sender.protectPublic(a)
	if err != nil {
		t.Fatal(err)
	}
	decode := func(m *PublicMessage) *PublicMessage {
		t.Helper()
		var out PublicMessage
		if err := tlspl.Unmarshal(marshal(m), &out); err != nil {
			t.Fatal(err)
		}
		return &out
	}
	if v, err := p.receiver.openPublic(decode(good)); err != nil {
		t.Error(err)
	} else if _, err := v.verifyBytes(p.signer.Public()); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		change func(m *PublicMessage)
		want   error
	}{
		"group":     {func(m *PublicMessage) { m.Content.GroupID = []byte("other") }, ErrGroupID},
		"tag":       {func(m *PublicMessage) { m.MembershipTag[0] ^= 1 }, ErrMembershipTag},
		"no tag":    {func(m *PublicMessage) { m.MembershipTag = nil }, ErrMembershipTag},
		"signature": {func(m *PublicMessage) { m.Auth.Signature[0] ^= 1 }, ErrMembershipTag},
		"leaf":      {func(m *PublicMessage) { m.Content.Sender.LeafIndex = 1 }, ErrMembershipTag},
		"aad":       {func(m *PublicMessage) { m.Content.AuthenticatedData = nil }, ErrMembershipTag},
	} {
		m := decode(good)
		m.Content.raw = nil
		c.change(m)
		if _, err := p.receiver.openPublic(decode(m)); err != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	// A message is bound to the wire format that it was signed for.
	m := p.sign(t, WireFormatPrivateMessage, p.content(ContentProposal))
	moved, err := p.sender.protectPublic(m)
	if err != nil {
		t.Fatal(err)
	}
	v, err := p.receiver.openPublic(moved)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.verifyBytes(p.signer.Public()); err != suite.ErrSignature {
		t.Errorf("signed as PrivateMessage: %v", err)
	}
}

func TestSenders(t *testing.T) {
	p := newPair(t, 1)
	add := &Proposal{Type: ProposalAdd, Add: &Add{}}
	for _, c := range []struct {
		sender  SenderType
		content ContentType
		change  func(f *FramedContent)
		ok      bool
	}{
		{SenderMember, ContentProposal, nil, true},
		{SenderMember, ContentCommit, nil, true},
		{SenderExternal, ContentProposal, nil, true},
		{SenderExternal, ContentCommit, nil, false},
		{SenderExternal, ContentApplication, nil, false},
		{SenderNewMemberCommit, ContentCommit, nil, true},
		{SenderNewMemberCommit, ContentProposal, nil, false},
		{SenderNewMemberProposal, ContentProposal, nil, false}, // a Remove
		{SenderNewMemberProposal, ContentProposal, func(f *FramedContent) { f.Proposal = add }, true},
		{SenderNewMemberProposal, ContentCommit, nil, false},
	} {
		f := p.content(c.content)
		f.Sender = Sender{Type: c.sender}
		if c.change != nil {
			c.change(&f)
		}
		var refused *SenderError
		err := checkSender(&f)
		if c.ok != (err == nil) || err != nil && !errors.As(err, &refused) {
			t.Errorf("%v sends %v: %v", c.sender, c.content, err)
		}
		if _, err := signContent(rand.Reader, p.signer, WireFormatPublicMessage, f, p.context); (err == nil) != c.ok && c.sender != SenderNewMemberProposal {
			t.Errorf("signing as %v a %v: %v", c.sender, c.content, err)
		}
	}
	// External senders sign no GroupContext: whoever knows it or not verifies alike.
	f := p.content(ContentProposal)
	f.Sender = Sender{Type: SenderExternal}
	m, err := p.sender.protectPublic(p.sign(t, WireFormatPublicMessage, f))
	if err != nil {
		t.Fatal(err)
	}
	if m.MembershipTag != nil {
		t.Error("an external sender has no membership_tag")
	}
	v, err := openPublicAsFollower(p.suite, []byte("group"), 5, nil, m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.verifyBytes(p.signer.Public()); err != nil {
		t.Error(err)
	}
	if _, err := p.sender.protectPrivate(rand.Reader, p.sign(t, WireFormatPrivateMessage, f), 0); err == nil {
		t.Error("an external sender encrypted a message")
	}
}

func TestSemiPrivateMessage(t *testing.T) {
	for _, id := range []suite.ID{1, 2, 4, suite.MLKEM768X25519AES128GCMSHA256Ed25519} {
		p := newPair(t, id)
		hubKey, err := p.suite.GenerateKeyPair(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		hub := ExternalReceiver{PublicKey: hubKey.Public(), Credential: BasicCredential([]byte("hub"))}
		asHub := func(m *SemiPrivateMessage) (*verifiableContent, error) {
			return openSemiPrivateAsReceiver(p.suite, []byte("group"), 5, p.context, &hub, hubKey, m)
		}
		for _, ct := range []ContentType{ContentProposal, ContentCommit} {
			a := p.sign(t, WireFormatSemiPrivateMessage, p.content(ct))
			m, err := p.sender.protectSemiPrivate(rand.Reader, a, []ExternalReceiver{hub}, 64)
			if err != nil {
				t.Fatal(err)
			}
			msg := Message(m)
			b := marshal(&msg)
			decode := func() *SemiPrivateMessage {
				var msg MLSMessage
				if err := tlspl.Unmarshal(b, &msg); err != nil {
					t.Fatal(err)
				}
				return msg.SemiPrivateMessage
			}
			for name, change := range map[string]func(m *SemiPrivateMessage){
				"aad":          func(m *SemiPrivateMessage) { m.AuthenticatedData = nil },
				"context hash": func(m *SemiPrivateMessage) { m.PartialContextHash[0] ^= 1 },
				"tbs hash":     func(m *SemiPrivateMessage) { m.FramedContentTBSHash[0] ^= 1 },
				"ciphertext":   func(m *SemiPrivateMessage) { m.Ciphertext[len(m.Ciphertext)-1] ^= 1 },
				"content type": func(m *SemiPrivateMessage) { m.ContentType ^= 1 },
				"one more receiver": func(m *SemiPrivateMessage) {
					m.KeysForExternalReceivers = append(m.KeysForExternalReceivers, m.KeysForExternalReceivers...)
				},
				"keys for the receiver": func(m *SemiPrivateMessage) {
					m.KeysForExternalReceivers[0].EncryptedKeysAndNonces.Ciphertext[0] ^= 1
				},
			} {
				m := decode()
				change(m)
				if _, err := p.receiver.openSemiPrivate(m, anyMember); err == nil {
					t.Errorf("member accepts a changed %s", name)
				}
				if _, err := asHub(m); err == nil {
					t.Errorf("receiver accepts a changed %s", name)
				}
			}
			for who, open := range map[string]func() (*verifiableContent, error){
				"member": func() (*verifiableContent, error) { return p.receiver.openSemiPrivate(decode(), anyMember) },
				"hub":    func() (*verifiableContent, error) { return asHub(decode()) },
			} {
				v, err := open()
				if err != nil {
					t.Fatalf("%s: %v", who, err)
				}
				got, err := v.verifyBytes(p.signer.Public())
				if err != nil {
					t.Fatalf("%s: %v", who, err)
				}
				if got.WireFormat != WireFormatSemiPrivateMessage || got.Content.Sender != MemberSender(0) {
					t.Errorf("%s: %v from %v", who, got.WireFormat, got.Content.Sender)
				}
				want := p.content(ct)
				checkBytes(t, who, marshal(&got.Content), marshal(&want))
			}
			if _, err := openSemiPrivateAsReceiver(p.suite, []byte("group"), 5, p.context, &ExternalReceiver{PublicKey: hubKey.Public(), Credential: BasicCredential(nil)}, hubKey, decode()); err != ErrNotReceiver {
				t.Errorf("other receiver: %v", err)
			}
		}
		if _, err := p.sender.protectSemiPrivate(rand.Reader, p.sign(t, WireFormatSemiPrivateMessage, p.content(ContentApplication)), []ExternalReceiver{hub}, 0); err != ErrContentType {
			t.Errorf("application data: %v", err)
		}
		if _, err := p.sender.protectSemiPrivate(rand.Reader, p.sign(t, WireFormatSemiPrivateMessage, p.content(ContentCommit)), nil, 0); err != ErrNotReceiver {
			t.Errorf("nobody to receive: %v", err)
		}
	}
}

// A sender that shows the hub another content than the members get must not go unnoticed.
func TestSemiPrivateContentsAreTheSame(t *testing.T) {
	p := newPair(t, 1)
	hubKey, err := p.suite.GenerateKeyPair(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	hub := ExternalReceiver{PublicKey: hubKey.Public(), Credential: BasicCredential([]byte("hub"))}
	// The hash covers a content signed for another wire format.
	a := p.sign(t, WireFormatPrivateMessage, p.content(ContentProposal))
	m, err := p.sender.protectSemiPrivate(rand.Reader, a, []ExternalReceiver{hub}, 0)
	if err != nil {
		t.Fatal(err)
	}
	v, err := openSemiPrivateAsReceiver(p.suite, []byte("group"), 5, p.context, &hub, hubKey, m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.verifyBytes(p.signer.Public()); err != suite.ErrSignature {
		t.Errorf("signed for another wire format: %v", err)
	}
	// The hub has another GroupContext.
	if _, err := openSemiPrivateAsReceiver(p.suite, []byte("group"), 5, []byte("other"), &hub, hubKey, m); err != ErrFramedContentTBSHash {
		t.Errorf("other context: %v", err)
	}
}

func TestMessageAllocations(t *testing.T) {
	p := newPair(t, 1)
	f := p.content(ContentApplication)
	f.ApplicationData = make([]byte, 100)
	out := make([]byte, 0, 512)
	encrypt := testing.AllocsPerRun(100, func() {
		a, err := signContent(rand.Reader, p.signer, WireFormatPrivateMessage, f, p.context)
		if err != nil {
			t.Fatal(err)
		}
		m, err := p.sender.protectPrivate(rand.Reader, a, 0)
		if err != nil {
			t.Fatal(err)
		}
		msg := Message(m)
		if _, err := tlspl.Append(out, &msg); err != nil {
			t.Fatal(err)
		}
	})
	if encrypt > 20 {
		t.Errorf("encrypting a message takes %v allocations, want at most 20", encrypt)
	}
	var messages [][]byte
	for range 102 {
		msg := Message(p.private(t, f))
		messages = append(messages, marshal(&msg))
	}
	key, err := p.suite.NewVerifier(p.signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	decrypt := testing.AllocsPerRun(100, func() {
		b := messages[0]
		messages = messages[1:]
		var msg MLSMessage
		if err := tlspl.Unmarshal(b, &msg); err != nil {
			t.Fatal(err)
		}
		v, err := p.receiver.openPrivate(msg.PrivateMessage, anyMember)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.verify(key); err != nil {
			t.Fatal(err)
		}
	})
	if decrypt > 20 {
		t.Errorf("decrypting a message takes %v allocations, want at most 20", decrypt)
	}
	t.Logf("allocations: encrypt %v, decrypt %v", encrypt, decrypt)
}

// verifyBytes verifies with a key that is not parsed.
func (v *verifiableContent) verifyBytes(signatureKey []byte) (verifiedContent, error) {
	key, err := v.suite.NewVerifier(signatureKey)
	if err != nil {
		return verifiedContent{}, err
	}
	return v.verify(key)
}
