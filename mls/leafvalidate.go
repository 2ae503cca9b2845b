package mls

import (
	"bytes"
	"encoding/binary"

	"github.com/comity-im/comity/mls/suite"
)

// LeafRules are what the group requires of a leaf (RFC 9420 §7.3). Whether a credential is true is for the application.
type LeafRules struct {
	GroupID     []byte
	Required    *RequiredCapabilities // of the GroupContext, nil if it has none
	Extensions  []ExtensionType       // the extensions of the GroupContext
	Now         uint64                // seconds since the Unix epoch; 0: lifetimes are not compared with the time
	MaxLifetime uint64                // the longest lifetime in seconds that is accepted; 0: any

	known *suite.Verifier // perhaps the leaf's signature key, parsed; nil: none is
}

// CheckKeyPackage verifies a KeyPackage for the group's cipher suite: all of RFC 9420 §10.1 that can be said without the tree.
// The error is a *TreeError.
func (r *LeafRules) CheckKeyPackage(s suite.Suite, kp *KeyPackage) error {
	if kp.Version != MLS10 {
		return &TreeError{Rule: RuleVersion, Type: uint16(kp.Version)}
	}
	if kp.CipherSuite != s.ID() {
		return &TreeError{Rule: RuleVersion, Type: uint16(kp.CipherSuite)}
	}
	key, err := s.NewVerifier(kp.LeafNode.SignatureKey)
	if err != nil {
		return &TreeError{Rule: RuleSignature, Err: err}
	}
	rules := *r
	rules.known = key
	if err := rules.CheckLeaf(s, &kp.LeafNode, 0, SourceKeyPackage); err != nil {
		return err
	}
	for _, e := range kp.Extensions {
		if !kp.LeafNode.Capabilities.SupportsExtension(e.Type) {
			return &TreeError{Rule: RuleExtension, Type: uint16(e.Type)}
		}
	}
	if s.CheckPublicKey(kp.InitKey) != nil {
		return &TreeError{Rule: RuleKey}
	}
	if bytes.Equal(kp.InitKey, kp.LeafNode.EncryptionKey) {
		return &TreeError{Rule: RuleInitKey}
	}
	tbs, err := kp.tbsBytes()
	if err != nil {
		return err
	}
	if err := key.VerifyWithLabel("KeyPackageTBS", tbs, kp.Signature); err != nil {
		return &TreeError{Rule: RuleSignature, Err: err}
	}
	return nil
}

// CheckLeaf verifies what RFC 9420 §7.3 says of a leaf itself: its source, capabilities, extensions, lifetime and signature.
// i is its place in the tree, which counts for leaves made in the group. What the other members have to do with it is for
// [RatchetTree.Add] and its like, and [RatchetTree.CheckCredentials]. The error is a *TreeError.
func (r *LeafRules) CheckLeaf(s suite.Suite, n *LeafNode, i LeafIndex, source LeafNodeSource) error {
	if n.Source != source {
		return &TreeError{Rule: RuleSource, Node: i.Node()}
	}
	if err := r.checkContent(s, n, i); err != nil {
		return err
	}
	return verifyLeaf(s, n, r.GroupID, i, r.known)
}

// checkContent is CheckLeaf without source and signature. That capabilities list the group's version and cipher suite is a duty
// of the sender only (RFC 9420 §7.2, not §7.3): the working group's own vectors have leaves that don't.
func (r *LeafRules) checkContent(s suite.Suite, n *LeafNode, i LeafIndex) error {
	caps := &n.Capabilities
	switch {
	case !caps.SupportsCredential(n.Credential.Type):
		return &TreeError{Rule: RuleCredential, Node: i.Node(), Type: uint16(n.Credential.Type)}
	case s.CheckPublicKey(n.EncryptionKey) != nil:
		return &TreeError{Rule: RuleKey, Node: i.Node()}
	}
	if r.Required != nil {
		for _, t := range r.Required.ExtensionTypes {
			if !caps.SupportsExtension(t) {
				return &TreeError{Rule: RuleRequired, Node: i.Node(), Type: uint16(t)}
			}
		}
		for _, t := range r.Required.ProposalTypes {
			if !caps.SupportsProposal(t) {
				return &TreeError{Rule: RuleRequired, Node: i.Node(), Type: uint16(t)}
			}
		}
		for _, t := range r.Required.CredentialTypes {
			if !caps.SupportsCredential(t) {
				return &TreeError{Rule: RuleRequired, Node: i.Node(), Type: uint16(t)}
			}
		}
	}
	for _, t := range r.Extensions {
		if !caps.SupportsExtension(t) {
			return &TreeError{Rule: RuleGroupFeature, Node: i.Node(), Type: uint16(t)}
		}
	}
	if n.Source == SourceKeyPackage {
		l := n.Lifetime
		if r.Now != 0 && (r.Now < l.NotBefore || r.Now > l.NotAfter) ||
			r.MaxLifetime != 0 && (l.NotAfter < l.NotBefore || l.NotAfter-l.NotBefore > r.MaxLifetime) {
			return &TreeError{Rule: RuleLifetime, Node: i.Node()}
		}
	}
	for _, e := range n.Extensions {
		if !caps.SupportsExtension(e.Type) {
			return &TreeError{Rule: RuleExtension, Node: i.Node(), Type: uint16(e.Type)}
		}
	}
	return nil
}

// verifyLeaf verifies the signature of a leaf. If known isn't its signature key, the key is parsed.
func verifyLeaf(s suite.Suite, n *LeafNode, groupID []byte, i LeafIndex, known *suite.Verifier) error {
	tbs, err := n.appendTBS(nil, groupID, i)
	if err != nil {
		return err
	}
	if known != nil && bytes.Equal(known.Public(), n.SignatureKey) {
		err = known.VerifyWithLabel("LeafNodeTBS", tbs, n.Signature)
	} else {
		err = s.VerifyWithLabel(n.SignatureKey, "LeafNodeTBS", tbs, n.Signature)
	}
	if err != nil {
		return &TreeError{Rule: RuleSignature, Node: i.Node(), Err: err}
	}
	return nil
}

// appendTBS appends the LeafNodeTBS of n to dst (RFC 9420 §7.2).
func (n *LeafNode) appendTBS(dst []byte, groupID []byte, i LeafIndex) ([]byte, error) {
	if n.tbs == nil {
		tbs, err := n.tbsBytes(groupID, i)
		return append(dst, tbs...), err
	}
	dst = append(dst, n.tbs...)
	if n.Source != SourceKeyPackage {
		dst = appendOpaque(dst, groupID)
		dst = binary.BigEndian.AppendUint32(dst, uint32(i))
	}
	return dst, nil
}
