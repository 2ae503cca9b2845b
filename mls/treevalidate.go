package mls

import (
	"bytes"
	"runtime"
	"slices"
)

// Validate verifies the integrity of a tree that the member got to join with, in the order of RFC 9420 §12.4.3.1: unmerged leaves,
// unique keys, parent hashes, and every leaf according to §7.3, whose signatures are verified on all cores. treeHash is that
// of the GroupContext. The error is a *TreeError.
func (t *RatchetTree) Validate(r *LeafRules, treeHash []byte) error {
	if !bytes.Equal(t.TreeHash(), treeHash) {
		return &TreeError{Rule: RuleTreeHash, Node: t.Root()}
	}
	if err := t.checkParents(t.root, t.Root()); err != nil {
		return err
	}
	if d := t.keys().duplicate; d != nil {
		return d
	}
	if err := t.verifyParentHashes(); err != nil {
		return err
	}
	for i, n := range t.Leaves() {
		if err := r.checkContent(t.suite, n, i); err != nil {
			return err
		}
	}
	for _, u := range t.keys().inUse {
		if !t.SupportsCredential(u.typ) {
			return t.unsupported(RuleCredential, uint16(u.typ), func(c *Capabilities) bool { return c.SupportsCredential(u.typ) })
		}
	}
	return t.verifyLeaves(r.GroupID)
}

// checkParents verifies that the entries of unmerged_leaves below x are members, and that all non-blank nodes on the way to
// them have the entry too (RFC 9420 §12.4.3.1); decoding saw to it that they are descendants.
func (t *RatchetTree) checkParents(n *treeNode, x NodeIndex) error {
	if n == nil || n.leaf != nil {
		return nil
	}
	if n.parent != nil {
		if t.suite.CheckPublicKey(n.parent.EncryptionKey) != nil {
			return &TreeError{Rule: RuleKey, Node: x}
		}
		for _, i := range n.parent.UnmergedLeaves {
			if !unmergedBelow(n, x, i) {
				return &TreeError{Rule: RuleUnmerged, Node: x}
			}
		}
	}
	if err := t.checkParents(n.left, x.Left()); err != nil {
		return err
	}
	return t.checkParents(n.right, x.Right())
}

// unmergedBelow reports whether leaf i is a member and unmerged in the next non-blank node on the way from x to it. Applied to
// every parent, that covers the whole way.
func unmergedBelow(n *treeNode, x NodeIndex, i LeafIndex) bool {
	for !x.IsLeaf() {
		if left := x.Left(); left.covers(i) {
			n, x = n.left, left
		} else {
			n, x = n.right, x.Right()
		}
		if n == nil {
			return false
		}
		if n.parent != nil {
			_, ok := slices.BinarySearch(n.parent.UnmergedLeaves, i)
			return ok
		}
	}
	return n.leaf != nil
}

// verifyChunk is how many leaves a core verifies at a time, at most.
const verifyChunk = 256

// verifyLeaves verifies the signatures of all leaves, in batches where the cipher suite has them: every leaf was verified by the
// members before, one by one, when it came into the group. The error is that of the leftmost leaf which has one.
func (t *RatchetTree) verifyLeaves(groupID []byte) error {
	leaves := make([]LeafIndex, 0, t.Members())
	nodes := make([]*LeafNode, 0, t.Members())
	for i, n := range t.Leaves() {
		leaves = append(leaves, i)
		nodes = append(nodes, n)
	}
	size := max(min(len(leaves)/(2*runtime.GOMAXPROCS(0)), verifyChunk), 8)
	return spread((len(leaves)+size-1)/size, func(chunk int) error {
		from, to := chunk*size, min(len(leaves), (chunk+1)*size)
		var buf []byte
		if batch, ok := t.suite.NewBatch(to - from); ok {
			for k := from; k < to; k++ {
				n := nodes[k]
				tbs, err := n.appendTBS(buf[:0], groupID, leaves[k])
				if err != nil {
					return err
				}
				batch.AddWithLabel(n.SignatureKey, "LeafNodeTBS", tbs, n.Signature)
				buf = tbs
			}
			if batch.Verify() {
				return nil
			}
		}
		for k := from; k < to; k++ {
			if err := verifyLeaf(t.suite, nodes[k], groupID, leaves[k], nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// CheckCredentials verifies for a leaf that is in the tree that every member supports its credential type, and that it supports
// those of the others (RFC 9420 §7.3). The work does not grow with the group. The error is a *TreeError.
func (t *RatchetTree) CheckCredentials(i LeafIndex) error {
	n := t.Leaf(i)
	if n == nil {
		return &TreeError{Rule: RuleNoMember, Node: i.Node()}
	}
	if !t.SupportsCredential(n.Credential.Type) {
		return &TreeError{Rule: RuleCredential, Node: i.Node(), Type: uint16(n.Credential.Type)}
	}
	for _, u := range t.keys().inUse {
		if !n.Capabilities.SupportsCredential(u.typ) {
			return &TreeError{Rule: RuleCredential, Node: i.Node(), Type: uint16(u.typ)}
		}
	}
	return nil
}

// CheckRequired verifies that every member has the capabilities (RFC 9420 §11.1), without looking at every member. The error
// is a *TreeError with the first member that lacks one.
func (t *RatchetTree) CheckRequired(r *RequiredCapabilities) error {
	for _, e := range r.ExtensionTypes {
		if !t.SupportsExtension(e) {
			return t.unsupported(RuleRequired, uint16(e), func(c *Capabilities) bool { return c.SupportsExtension(e) })
		}
	}
	for _, p := range r.ProposalTypes {
		if !t.SupportsProposal(p) {
			return t.unsupported(RuleRequired, uint16(p), func(c *Capabilities) bool { return c.SupportsProposal(p) })
		}
	}
	for _, k := range r.CredentialTypes {
		if !t.SupportsCredential(k) {
			return t.unsupported(RuleRequired, uint16(k), func(c *Capabilities) bool { return c.SupportsCredential(k) })
		}
	}
	return nil
}

// unsupported names the first member that lacks a capability.
func (t *RatchetTree) unsupported(rule TreeRule, typ uint16, has func(*Capabilities) bool) error {
	e := &TreeError{Rule: rule, Type: typ}
	for i, n := range t.Leaves() {
		if !has(&n.Capabilities) {
			e.Node = i.Node()
			break
		}
	}
	return e
}

// SupportsExtension reports whether every member supports the extension type. Like its siblings it takes constant time.
func (t *RatchetTree) SupportsExtension(e ExtensionType) bool {
	return e.IsDefault() || t.supporters(capExtension, uint16(e)) == t.Members()
}

// SupportsProposal reports whether every member supports the proposal type.
func (t *RatchetTree) SupportsProposal(p ProposalType) bool {
	return p.IsDefault() || t.supporters(capProposal, uint16(p)) == t.Members()
}

// SupportsCredential reports whether every member supports the credential type.
func (t *RatchetTree) SupportsCredential(k CredentialType) bool {
	return t.supporters(capCredential, uint16(k)) == t.Members()
}

// SupportsWireFormat reports whether every member reads messages of the wire format (MLS extensions §5).
func (t *RatchetTree) SupportsWireFormat(w WireFormat) bool {
	return w.IsDefault() || t.supporters(capWireFormat, uint16(w)) == t.Members()
}

// SupportsComponent reports whether every member lists the component in the ComponentsList of the given component,
// app_components or safe_aad (MLS extensions §5).
func (t *RatchetTree) SupportsComponent(in, id ComponentID) bool {
	kind := capAppComponent
	if in == ComponentSafeAAD {
		kind = capSafeAAD
	}
	return t.supporters(kind, uint16(id)) == t.Members()
}

// SupportsMediaType reports whether every member lists the media type, with the same parameters, among its content_media_types
// (MLS extensions §6.2.2).
func (t *RatchetTree) SupportsMediaType(m *MediaType) bool {
	x := t.keys()
	return int(x.support.count(x.hash(marshal(m)))) == t.Members()
}
