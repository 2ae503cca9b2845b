package mls

import (
	"bytes"
	"log/slog"
	"slices"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// A PrivateTree is what one member knows of the private keys in the tree: its leaf's, and those of ancestors that it is
// merged into (RFC 9420 §4.2).
type PrivateTree struct {
	suite   suite.Suite
	leaf    LeafIndex
	leafKey privateKey
	path    []privateKey // of the ancestor at level k+1, empty where it is not known
}

// A privateKey is parsed when it is first used, since most of those that a group is loaded with are not.
type privateKey struct {
	public []byte
	secret []byte // as stored, if it came from there
	parsed *suite.PrivateKey
}

func (k *privateKey) known() bool { return k.public != nil }

func (k *privateKey) key(s suite.Suite) (*suite.PrivateKey, error) {
	if k.parsed == nil {
		p, err := s.ParsePrivateKey(k.secret)
		if err != nil {
			return nil, err
		}
		k.parsed = p
	}
	return k.parsed, nil
}

// NewPrivateTree returns the state of a member that knows the key of its leaf only.
func NewPrivateTree(s suite.Suite, leaf LeafIndex, key *suite.PrivateKey) *PrivateTree {
	return &PrivateTree{suite: s, leaf: leaf, leafKey: privateKey{public: key.Public(), parsed: key}}
}

// Fork returns a copy that changes independently.
func (p *PrivateTree) Fork() *PrivateTree {
	f := *p
	f.path = slices.Clone(p.path)
	return &f
}

// LeafIndex returns the member's own leaf.
func (p *PrivateTree) LeafIndex() LeafIndex { return p.leaf }

// LeafKey returns the private key of the own leaf.
func (p *PrivateTree) LeafKey() (*suite.PrivateKey, error) { return p.leafKey.key(p.suite) }

// ReplaceLeafKey sets the key of the own leaf, when an Update of this member was committed.
func (p *PrivateTree) ReplaceLeafKey(key *suite.PrivateKey) {
	p.leafKey = privateKey{public: key.Public(), parsed: key}
}

func (p *PrivateTree) set(level int, key *suite.PrivateKey) {
	for len(p.path) < level {
		p.path = append(p.path, privateKey{})
	}
	p.path[level-1] = privateKey{public: key.Public(), parsed: key}
}

// Sync forgets the keys of nodes that are blank by now or have another key (RFC 9420 §7.5).
func (p *PrivateTree) Sync(t *RatchetTree) {
	for k := range p.path {
		n := t.find(p.leaf.ancestor(k + 1))
		if n == nil || n.parent == nil || !bytes.Equal(n.parent.EncryptionKey, p.path[k].public) {
			p.path[k] = privateKey{}
		}
	}
	if len(p.path) > t.depth {
		p.path = p.path[:t.depth]
	}
}

// OpenPath decrypts the path secret that an UpdatePath has for this member, derives the keys of the nodes above, and returns
// the commit secret (RFC 9420 §7.5, §12.4.2). t has the path merged; groupContext is the encoded provisional GroupContext;
// added are the leaves that the commit added, in increasing order. Keys that the path replaced are forgotten.
//
// After an error p is half changed and must be dropped. The error is a *TreeError or [suite.ErrOpen].
func (p *PrivateTree) OpenPath(t *RatchetTree, sender LeafIndex, path *UpdatePath, groupContext []byte, added []LeafIndex) ([]byte, error) {
	steps := t.filteredPath(sender)
	if len(steps) != len(path.Nodes) {
		return nil, &TreeError{Rule: RulePathLength, Node: sender.Node()}
	}
	from := slices.IndexFunc(steps, func(s pathStep) bool { return s.copath.covers(p.leaf) })
	if from < 0 {
		return nil, &TreeError{Rule: RuleNoMember, Node: p.leaf.Node()}
	}
	p.Sync(t)
	step := steps[from]
	to := receivers(step, added)
	ciphertexts := path.Nodes[from].EncryptedPathSecret
	if len(ciphertexts) != len(to) {
		return nil, &TreeError{Rule: RulePathLength, Node: step.node}
	}
	x, key := p.receiver(step)
	at := slices.Index(to, x)
	if at < 0 || !key.known() {
		return nil, &TreeError{Rule: RuleNoKey, Node: step.copath}
	}
	priv, err := key.key(p.suite)
	if err != nil {
		return nil, err
	}
	secret, err := priv.OpenWithLabel(updatePathLabel, groupContext, ciphertexts[at].KEMOutput, ciphertexts[at].Ciphertext)
	if err != nil {
		return nil, err
	}
	nodes := make([]NodeIndex, 0, len(steps)-from)
	for _, s := range steps[from:] {
		nodes = append(nodes, s.node)
	}
	return p.derive(t, nodes, secret)
}

// receiver returns the node below a step of somebody's path to which path secrets for this member are encrypted, and its key.
func (p *PrivateTree) receiver(step pathStep) (NodeIndex, *privateKey) {
	n, x := step.sibling, step.copath
	for n != nil && !x.IsLeaf() {
		if n.parent != nil {
			if _, unmerged := slices.BinarySearch(n.parent.UnmergedLeaves, p.leaf); unmerged {
				break
			}
			if level := x.Level(); level <= len(p.path) {
				return x, &p.path[level-1]
			}
			return x, &privateKey{}
		}
		if left := x.Left(); left.covers(p.leaf) {
			n, x = n.left, left
		} else {
			n, x = n.right, x.Right()
		}
	}
	return p.leaf.Node(), &p.leafKey
}

// derive sets the keys of the nodes, which ascend, from the path secret of the first; the public keys must be those of the
// tree. It returns the path secret that follows the last and overwrites the others.
func (p *PrivateTree) derive(t *RatchetTree, nodes []NodeIndex, secret []byte) ([]byte, error) {
	if len(secret) != p.suite.Nh() {
		return nil, &TreeError{Rule: RulePathSecret, Node: nodes[0]}
	}
	for _, x := range nodes {
		key, err := nodeKey(p.suite, secret)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(key.Public(), t.encryptionKey(x)) {
			return nil, &TreeError{Rule: RulePathSecret, Node: x}
		}
		p.set(x.Level(), key)
		next := p.suite.DeriveSecret(secret, "path")
		clear(secret)
		secret = next
	}
	return secret, nil
}

// Join sets the keys that a new member learns from the path secret in its Welcome, which is overwritten
// (RFC 9420 §12.4.3.1). signer is the committer. The error is a *TreeError.
func (p *PrivateTree) Join(t *RatchetTree, signer LeafIndex, pathSecret []byte) error {
	lowest := commonAncestor(p.leaf, signer)
	var nodes []NodeIndex
	for level := lowest.Level(); level <= t.depth; level++ {
		x := p.leaf.ancestor(level)
		if t.Parent(x) != nil {
			nodes = append(nodes, x)
		}
	}
	if signer == p.leaf || len(nodes) == 0 || nodes[0] != lowest {
		return &TreeError{Rule: RulePathSecret, Node: lowest}
	}
	secret, err := p.derive(t, nodes, pathSecret)
	clear(secret)
	return err
}

// Check verifies that every key that p has is the private key of the public one in the tree. The error is a *TreeError.
func (p *PrivateTree) Check(t *RatchetTree) error {
	if leaf := t.Leaf(p.leaf); leaf == nil || !bytes.Equal(leaf.EncryptionKey, p.leafKey.public) {
		return &TreeError{Rule: RuleNoKey, Node: p.leaf.Node()}
	}
	for k := range p.path {
		if !p.path[k].known() {
			continue
		}
		x := p.leaf.ancestor(k + 1)
		if n := t.Parent(x); n == nil || !bytes.Equal(n.EncryptionKey, p.path[k].public) {
			return &TreeError{Rule: RuleNoKey, Node: x}
		}
	}
	return nil
}

// Clear overwrites what can be overwritten and forgets the rest: parsed keys are not accessible, only dropped.
func (p *PrivateTree) Clear() {
	clear(p.leafKey.secret)
	for k := range p.path {
		clear(p.path[k].secret)
	}
	p.leafKey, p.path = privateKey{}, nil
}

// String hides the keys.
func (p *PrivateTree) String() string { return "[private tree]" }

// GoString hides the keys.
func (p *PrivateTree) GoString() string { return p.String() }

// LogValue hides the keys.
func (p *PrivateTree) LogValue() slog.Value { return slog.StringValue(p.String()) }

// storedKey is how a private key is stored; level is 0 for the leaf.
type storedKey struct {
	level          uint8
	public, secret []byte
}

func (k *storedKey) Code(c *tlspl.Codec) {
	tlspl.Uint8(c, &k.level)
	tlspl.Opaque(c, &k.public)
	tlspl.Opaque(c, &k.secret)
}

type storedPrivateTree struct {
	leaf LeafIndex
	keys []storedKey
}

func (p *storedPrivateTree) Code(c *tlspl.Codec) {
	tlspl.Uint32(c, &p.leaf)
	tlspl.Vector(c, &p.keys)
}

// Marshal encodes the state, with its secrets, for [LoadPrivateTree]. It grows with the depth of the tree.
func (p *PrivateTree) Marshal() ([]byte, error) {
	stored := storedPrivateTree{leaf: p.leaf}
	for level := range len(p.path) + 1 {
		k := &p.leafKey
		if level > 0 {
			k = &p.path[level-1]
		}
		if !k.known() {
			continue
		}
		secret := k.secret
		if secret == nil {
			var err error
			if secret, err = k.parsed.Bytes(); err != nil {
				return nil, err
			}
		}
		stored.keys = append(stored.keys, storedKey{uint8(level), k.public, secret})
	}
	return tlspl.Marshal(&stored)
}

// LoadPrivateTree decodes what [PrivateTree.Marshal] gave. Keys are parsed when they are first used.
func LoadPrivateTree(s suite.Suite, b []byte) (*PrivateTree, error) {
	var stored storedPrivateTree
	if err := tlspl.Unmarshal(b, &stored); err != nil {
		return nil, err
	}
	p := &PrivateTree{suite: s, leaf: stored.leaf}
	for _, k := range stored.keys {
		if k.level > maxTreeDepth {
			return nil, &tlspl.SyntaxError{Field: "level", Err: tlspl.ErrValue}
		}
		key := privateKey{public: k.public, secret: k.secret}
		if k.level == 0 {
			p.leafKey = key
			continue
		}
		for len(p.path) < int(k.level) {
			p.path = append(p.path, privateKey{})
		}
		p.path[k.level-1] = key
	}
	if !p.leafKey.known() {
		return nil, &tlspl.SyntaxError{Field: "keys", Err: tlspl.ErrValue}
	}
	return p, nil
}
