package mls

import (
	"fmt"
	"io"

	"github.com/comity-im/comity/mls/suite"
)

// SendOptions says how a proposal is sent.
type SendOptions struct {
	AuthenticatedData []byte
	WireFormat        WireFormat // PublicMessage (also 0), PrivateMessage or SemiPrivateMessage
}

// An ApplicationMessage is what [Group.Decrypt] gives.
type ApplicationMessage struct {
	Epoch             Epoch
	Sender            LeafIndex
	Generation        uint32
	Data              []byte
	AuthenticatedData []byte
}

// Encrypt encrypts application data for the group (RFC 9420 §15). Its key is
// used up whether the message is sent or not: what Flush returns must be stored
// before the message leaves. It gives ErrPending while proposals wait for a
// commit (RFC 9420 §12.4).
func (g *Group) Encrypt(rand io.Reader, applicationData, authenticatedData []byte) (*MLSMessage, error) {
	if !g.Active() {
		return nil, ErrGroupClosed
	}
	if len(g.public.pending.list) > 0 {
		return nil, ErrPending
	}
	if err := g.public.state.params.checkAAD(authenticatedData); err != nil {
		return nil, err
	}
	a, err := g.sign(rand, WireFormatPrivateMessage, FramedContent{
		AuthenticatedData: authenticatedData, ContentType: ContentApplication, ApplicationData: applicationData,
	})
	if err != nil {
		return nil, err
	}
	return g.protect(rand, a)
}

// sign signs a content of this member.
func (g *Group) sign(rand io.Reader, w WireFormat, f FramedContent) (*AuthenticatedContent, error) {
	f.GroupID, f.Epoch, f.Sender = g.GroupID(), g.Epoch(), MemberSender(g.OwnLeaf())
	return signContent(rand, g.signer, w, f, g.public.state.encoded)
}

// protect frames a signed content in its wire format.
func (g *Group) protect(rand io.Reader, a *AuthenticatedContent) (*MLSMessage, error) {
	var m MLSMessage
	switch a.WireFormat {
	case WireFormatPublicMessage:
		p, err := g.keys.protectPublic(a)
		if err != nil {
			return nil, err
		}
		m = Message(p)
	case WireFormatPrivateMessage:
		p, err := g.keys.protectPrivate(rand, a, g.public.cfg.Padding)
		if err != nil {
			return nil, err
		}
		m = Message(p)
	case WireFormatSemiPrivateMessage:
		p, err := g.keys.protectSemiPrivate(rand, a, g.public.state.params.receivers, g.public.cfg.Padding)
		if err != nil {
			return nil, err
		}
		m = Message(p)
	default:
		return nil, ErrWireFormat
	}
	return &m, nil
}

// wireFormat resolves the default and verifies that the group may use the
// format (SemiPrivateMessage §3, Decision 120).
func (g *Group) wireFormat(w WireFormat) (WireFormat, error) {
	switch w {
	case 0:
		return WireFormatPublicMessage, nil
	case WireFormatPublicMessage, WireFormatPrivateMessage:
		return w, nil
	case WireFormatSemiPrivateMessage:
		p := g.public.state.params
		if len(p.receivers) == 0 || !g.Tree().SupportsWireFormat(w) {
			return 0, ruleErrorf(RuleWireFormat, "the group does not use %s", w)
		}
		return w, nil
	}
	return 0, ErrWireFormat
}

// Decrypt reads an application message of the current epoch or of one of the
// past epochs that the group keeps. Its key is used up: what Flush returns is
// to be stored together with the message. After an error nothing has changed.
func (g *Group) Decrypt(m *MLSMessage) (*ApplicationMessage, error) {
	if m.WireFormat != WireFormatPrivateMessage || m.PrivateMessage.ContentType != ContentApplication {
		return nil, ErrUnexpected
	}
	v, signatureKey, err := g.openPrivate(m.PrivateMessage)
	if err != nil {
		return nil, err
	}
	c, err := v.verify(signatureKey)
	if err != nil {
		return nil, fmt.Errorf("mls: message signature: %w", err)
	}
	return &ApplicationMessage{
		Epoch: c.Content.Epoch, Sender: c.Content.Sender.LeafIndex, Generation: c.Generation,
		Data: c.Content.ApplicationData, AuthenticatedData: c.Content.AuthenticatedData,
	}, nil
}

// openPrivate decrypts a message of any epoch that the group has, and finds the
// key to verify it with.
func (g *Group) openPrivate(m *PrivateMessage) (*verifiableContent, *suite.Verifier, error) {
	if m.Epoch == g.Epoch() {
		if err := g.public.state.params.checkAAD(m.AuthenticatedData); err != nil {
			return nil, nil, err
		}
		own := false
		v, err := g.keys.openPrivate(m, g.otherMember(&own))
		if own {
			return nil, nil, ErrOwnMessage
		}
		if err != nil {
			return nil, nil, err
		}
		key, err := g.public.state.signatureKey(v.sender(), nil)
		return v, key, err
	}
	for n, p := range g.past {
		if p.keys.epoch != m.Epoch {
			continue
		}
		if err := p.state.params.checkAAD(m.AuthenticatedData); err != nil {
			return nil, nil, err
		}
		v, err := p.keys.openPrivate(m, func(i LeafIndex) bool { return i != g.OwnLeaf() && g.pastSignatureKey(n, i) != nil })
		if err != nil {
			return nil, nil, err
		}
		key, err := g.Suite().NewVerifier(g.pastSignatureKey(n, v.sender().LeafIndex))
		return v, key, err
	}
	return nil, nil, &EpochError{Got: m.Epoch, Want: g.Epoch()}
}

// otherMember says of a leaf whether it is occupied by another member, and notes
// whether it is this one's own.
func (g *Group) otherMember(own *bool) func(LeafIndex) bool {
	return func(i LeafIndex) bool {
		*own = i == g.OwnLeaf()
		return !*own && g.public.state.member(i)
	}
}

// pastSignatureKey returns the signature key that leaf i had in past epoch n,
// nil if it was blank.
func (g *Group) pastSignatureKey(n int, i LeafIndex) []byte {
	for ; n >= 0; n-- {
		if key, ok := g.past[n].members[i]; ok {
			return key
		}
	}
	if leaf := g.Tree().Leaf(i); leaf != nil {
		return leaf.SignatureKey
	}
	return nil
}

// Propose sends a proposal by this member, and keeps it for a commit
// (RFC 9420 §12.1). For an Update use [Group.ProposeUpdate].
func (g *Group) Propose(rand io.Reader, p Proposal, o SendOptions) (*MLSMessage, error) {
	return g.propose(rand, p, o, nil)
}

func (g *Group) propose(rand io.Reader, p Proposal, o SendOptions, own *ownUpdate) (*MLSMessage, error) {
	if !g.Active() {
		return nil, ErrGroupClosed
	}
	w, err := g.wireFormat(o.WireFormat)
	if err != nil {
		return nil, err
	}
	a, err := g.sign(rand, w, FramedContent{AuthenticatedData: o.AuthenticatedData, ContentType: ContentProposal, Proposal: &p})
	if err != nil {
		return nil, err
	}
	if _, err := g.public.cacheProposal(a, own); err != nil {
		return nil, err
	}
	return g.protect(rand, a)
}

// ProposeUpdate proposes new keys for this member's leaf, and what leaf says if
// it is not nil (RFC 9420 §12.1.2). A commit of another member takes it up.
func (g *Group) ProposeUpdate(rand io.Reader, leaf *LeafOptions, o SendOptions) (*MLSMessage, error) {
	key, err := g.Suite().GenerateKeyPair(rand)
	if err != nil {
		return nil, err
	}
	n, signer := g.nextLeaf(leaf)
	n.EncryptionKey, n.Source = key.Public(), SourceUpdate
	if err := n.sign(rand, signer, g.GroupID(), g.OwnLeaf()); err != nil {
		return nil, err
	}
	return g.propose(rand, Proposal{Type: ProposalUpdate, Update: &Update{n}}, o, &ownUpdate{key, signer})
}

// nextLeaf returns the leaf that follows this member's present one, without
// keys, and who signs it.
func (g *Group) nextLeaf(o *LeafOptions) (LeafNode, *suite.Signer) {
	if o != nil {
		return o.leaf(), o.Signer
	}
	old := g.Tree().Leaf(g.OwnLeaf())
	return LeafNode{
		SignatureKey: old.SignatureKey, Credential: old.Credential, Capabilities: old.Capabilities, Extensions: old.Extensions,
	}, g.signer
}

// ReceiveProposal verifies a proposal of the current epoch and keeps it for
// the commit that will refer to it. This member's own gives ErrOwnMessage. After
// an error nothing has changed.
func (g *Group) ReceiveProposal(m *MLSMessage) (*ResolvedProposal, error) {
	if t, ok := m.ContentType(); !ok || t != ContentProposal {
		return nil, ErrUnexpected
	}
	if !g.Active() {
		return nil, ErrGroupClosed
	}
	v, signatureKey, err := g.openHandshake(m)
	if err != nil {
		return nil, err
	}
	signed := *v
	signed.tree = nil // its key is used up once the proposal is accepted
	c, err := signed.verify(signatureKey)
	if err != nil {
		return nil, fmt.Errorf("mls: message signature: %w", err)
	}
	p, err := g.public.cacheProposal(c.AuthenticatedContent, nil)
	if err != nil {
		return nil, err
	}
	if v.tree != nil {
		if err := v.tree.consume(&v.key); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// openHandshake takes the protection off a proposal or commit of the current
// epoch and finds the key to verify it with.
func (g *Group) openHandshake(m *MLSMessage) (*verifiableContent, *suite.Verifier, error) {
	st := g.public.state
	own := false
	member := g.otherMember(&own)
	var v *verifiableContent
	var err error
	switch m.WireFormat {
	case WireFormatPublicMessage:
		v, err = g.keys.openPublic(m.PublicMessage)
	case WireFormatPrivateMessage:
		v, err = g.keys.openPrivate(m.PrivateMessage, member)
	case WireFormatSemiPrivateMessage:
		v, err = g.keys.openSemiPrivate(m.SemiPrivateMessage, member)
	default:
		err = ErrUnexpected
	}
	if own {
		return nil, nil, ErrOwnMessage
	}
	if err != nil {
		return nil, nil, err
	}
	if s := v.sender(); s.Type == SenderMember && s.LeafIndex == g.OwnLeaf() {
		return nil, nil, ErrOwnMessage
	}
	key, err := st.signatureKey(v.sender(), v.newMemberKey())
	return v, key, err
}
