package mls

import (
	"io"

	"github.com/comity-im/comity/mls/suite"
)

// SafeSign signs content as a component with this member's signature key (MLS extensions §4.3).
func (g *Group) SafeSign(rand io.Reader, component ComponentID, label string, content []byte) ([]byte, error) {
	if !g.Active() {
		return nil, ErrGroupClosed
	}
	return SafeSignWithLabel(rand, g.signer, component, label, content)
}

// SafeVerify verifies what the member at a leaf of the current epoch signed as a component (MLS extensions §4.3). The
// error is [ErrNotMember] or [suite.ErrSignature].
func (g *PublicGroup) SafeVerify(member LeafIndex, component ComponentID, label string, content, signature []byte) error {
	leaf := g.Tree().Leaf(member)
	if leaf == nil {
		return ErrNotMember
	}
	return SafeVerifyWithLabel(g.Suite(), leaf.SignatureKey, component, label, content, signature)
}

// SafeEncrypt encrypts to one member of the current epoch, for one component (MLS extensions §4.2). The member can
// decrypt it until it changes its leaf's key. The error is [ErrNotMember] if the leaf is blank.
func (g *PublicGroup) SafeEncrypt(member LeafIndex, component ComponentID, label string, context, plaintext []byte) (HPKECiphertext, error) {
	leaf := g.Tree().Leaf(member)
	if leaf == nil {
		return HPKECiphertext{}, ErrNotMember
	}
	return SafeEncryptWithLabel(g.Suite(), leaf.EncryptionKey, component, label, context, plaintext)
}

// SafeDecrypt decrypts what was encrypted to this member's leaf for a component (MLS extensions §4.2). The error is
// [suite.ErrOpen].
func (g *Group) SafeDecrypt(component ComponentID, label string, context []byte, c HPKECiphertext) ([]byte, error) {
	if !g.Active() {
		return nil, ErrGroupClosed
	}
	key, err := g.private.LeafKey()
	if err != nil {
		return nil, err
	}
	return SafeDecryptWithLabel(key, component, label, context, c)
}

// SafeDecryptExternal decrypts what somebody encrypted with [SafeEncryptWithLabel] to the external_pub of the current
// epoch, which every member can (MLS extensions §4.2). The error is [suite.ErrOpen].
func (g *Group) SafeDecryptExternal(component ComponentID, label string, context []byte, c HPKECiphertext) ([]byte, error) {
	if !g.Active() {
		return nil, ErrGroupClosed
	}
	key, err := g.secrets.externalKey(g.Suite())
	if err != nil {
		return nil, err
	}
	return SafeDecryptWithLabel(key, component, label, context, c)
}

// A Receiver is an external receiver with its private key: who follows the group from outside and is to read its
// SemiPrivateMessages (SemiPrivateMessage §3).
type Receiver struct {
	ExternalReceiver
	Key *suite.PrivateKey
}

// Read returns what a proposal or commit of the current epoch says, once its signature is verified, without judging it.
// A SemiPrivateMessage needs [Config.Receiver].
func (g *PublicGroup) Read(m *MLSMessage) (*FramedContent, error) {
	a, err := g.openHandshake(m)
	if err != nil {
		return nil, err
	}
	return &a.Content, nil
}

// ReadFirst returns what the commit says that led to epoch 1 of the group, in
// which the PublicGroup is, once its signature is verified, without judging it.
// The commit must be without a path, by the member that was alone in epoch 0:
// then epoch 0 is known from epoch 1. A SemiPrivateMessage needs [Config.Receiver].
func (g *PublicGroup) ReadFirst(m *MLSMessage) (*FramedContent, error) {
	leaf := g.state.tree.Leaf(0)
	if g.state.context.Epoch != 1 || leaf == nil {
		return nil, ErrUnexpected
	}
	tree := NewRatchetTree(g.state.suite)
	if _, err := tree.Add(leaf); err != nil {
		return nil, err
	}
	context := g.state.context
	context.Epoch, context.TreeHash, context.ConfirmedTranscriptHash = 0, tree.TreeHash(), nil
	st, err := newState(g.state.suite, context, g.state.params, tree, nil)
	if err != nil {
		return nil, err
	}
	first := PublicGroup{cfg: g.cfg, state: st}
	return first.Read(m)
}

// openHandshake takes the protection off a proposal or commit of the current epoch and verifies all that can be from
// outside. A SemiPrivateMessage needs [Config.Receiver] (SemiPrivateMessage §3.3, Decision 120).
func (g *PublicGroup) openHandshake(m *MLSMessage) (*AuthenticatedContent, error) {
	s, context := g.state, &g.state.context
	var v *verifiableContent
	var err error
	switch {
	case m.WireFormat == WireFormatPublicMessage:
		v, err = openPublicAsFollower(s.suite, context.GroupID, context.Epoch, s.encoded, m.PublicMessage)
	case m.WireFormat == WireFormatSemiPrivateMessage && g.cfg.Receiver != nil:
		r := g.cfg.Receiver
		v, err = openSemiPrivateAsReceiver(s.suite, context.GroupID, context.Epoch, s.encoded, &r.ExternalReceiver, r.Key, m.SemiPrivateMessage)
	default:
		err = ErrUnexpected
	}
	if err != nil {
		return nil, err
	}
	return s.verifyContent(v)
}
