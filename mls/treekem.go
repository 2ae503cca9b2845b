package mls

import (
	"bytes"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/comity-im/comity/mls/suite"
)

// updatePathLabel is the label of path secrets that are encrypted to nodes (RFC 9420 §7.6).
const updatePathLabel = "UpdatePathNode"

// A PathSigner signs an encoded LeafNodeTBS (RFC 9420 §7.2) with the member's signature key, under the label "LeafNodeTBS".
type PathSigner func(leafNodeTBS []byte) (signature []byte, err error)

// PathSecrets are what a committer drew for a new path: the secrets still to be encrypted to the others.
type PathSecrets struct {
	sender       LeafIndex
	suite        suite.Suite
	leaf         LeafNode
	leafKey      *suite.PrivateKey
	steps        []secretStep
	commitSecret []byte
}

// A secretStep is a node of the filtered direct path with its secret.
type secretStep struct {
	pathStep
	secret []byte
	key    *suite.PrivateKey
}

// nodeKey derives the key pair of a node from its path secret (RFC 9420 §7.4).
func nodeKey(s suite.Suite, pathSecret []byte) (*suite.PrivateKey, error) {
	secret := s.DeriveSecret(pathSecret, "node")
	defer clear(secret)
	return s.DeriveKeyPair(secret)
}

// NewPath gives the member at sender a new leaf and new keys on its filtered direct path (RFC 9420 §7.5, steps 1 to 4).
// The proposals of the commit are in the tree already. The signature key, credential, capabilities and extensions are those
// of leaf; its other fields are set here. For an external commit sender is [RatchetTree.NextLeaf].
//
// After an error t is half changed and must be dropped.
func (t *RatchetTree) NewPath(rand io.Reader, sender LeafIndex, leaf LeafNode, groupID []byte, sign PathSigner) (*PathSecrets, error) {
	s := t.suite
	if sender >= 1<<maxTreeDepth {
		return nil, &TreeError{Rule: RuleSize, Node: sender.Node()}
	}
	leafKey, err := s.GenerateKeyPair(rand)
	if err != nil {
		return nil, err
	}
	secret, err := s.GenerateSecret(rand)
	if err != nil {
		return nil, err
	}
	leaf.EncryptionKey = leafKey.Public()
	if err := t.checkLeafKeys(sender, &leaf); err != nil {
		return nil, err
	}
	t.extend(sender)
	steps := t.filteredPath(sender)
	path := &PathSecrets{sender: sender, suite: s, leafKey: leafKey, steps: make([]secretStep, len(steps))}
	keys := make([][]byte, len(steps))
	for k, step := range steps {
		key, err := nodeKey(s, secret)
		if err != nil {
			return nil, err
		}
		path.steps[k] = secretStep{step, secret, key}
		keys[k] = key.Public()
		secret = s.DeriveSecret(secret, "path")
	}
	path.commitSecret = secret

	leaf.Source = SourceCommit
	leaf.Lifetime = Lifetime{}
	leaf.ParentHash = t.replacePath(sender, steps, keys)
	leaf.Signature, leaf.tbs = nil, nil
	tbs, err := leaf.tbsBytes(groupID, sender)
	if err != nil {
		return nil, err
	}
	if leaf.Signature, err = sign(tbs); err != nil {
		return nil, err
	}
	l, err := newLeaf(&leaf)
	if err != nil {
		return nil, err
	}
	t.setLeaf(sender, l)
	path.leaf = leaf
	return path, nil
}

// replacePath blanks the direct path of a leaf, sets the keys of its filtered direct path and their parent hashes, and
// returns the parent hash of the leaf (RFC 9420 §7.5, §7.9). It looks at the path and the hashes of the copath only: nodes
// with new keys have no unmerged leaves, so the original sibling tree hashes are those of the tree.
func (t *RatchetTree) replacePath(i LeafIndex, steps []pathStep, keys [][]byte) []byte {
	path := t.blankPath(i)
	h := treeHasher{suite: t.suite}
	e := t.writable()
	parentHash := []byte{}
	for k, step := range slices.Backward(steps) {
		p := &treeParent{owner: e}
		p.EncryptionKey = bytes.Clone(keys[k])
		p.ParentHash = parentHash
		parentHash = h.parentHash(p.EncryptionKey, parentHash, h.node(step.sibling, step.copath))
		path[step.node.Level()].parent = p
		t.keys().addParent(e, step.node, p)
	}
	return parentHash
}

// CommitSecret returns path_secret[n+1] (RFC 9420 §12.4.1). The caller must not change it.
func (p *PathSecrets) CommitSecret() []byte { return p.commitSecret }

// Leaf returns the committer's new LeafNode.
func (p *PathSecrets) Leaf() *LeafNode { return &p.leaf }

// Private returns the committer's private state of the new tree.
func (p *PathSecrets) Private() *PrivateTree {
	priv := &PrivateTree{suite: p.suite, leaf: p.sender, leafKey: privateKey{parsed: p.leafKey, public: p.leafKey.Public()}}
	for _, step := range p.steps {
		priv.set(step.node.Level(), step.key)
	}
	return priv
}

// For returns the path secret of the lowest common ancestor of the committer and the new member at i (RFC 9420 §12.4.1),
// nil if it has none. The caller must not change it.
func (p *PathSecrets) For(i LeafIndex) []byte {
	x := commonAncestor(p.sender, i)
	for _, step := range p.steps {
		if step.node == x {
			return step.secret
		}
	}
	return nil
}

// Clear overwrites the secrets. The private state that Private returned stays usable.
func (p *PathSecrets) Clear() {
	for k := range p.steps {
		clear(p.steps[k].secret)
	}
	clear(p.commitSecret)
}

// Encrypt encrypts the path secrets to the resolutions of the copath without the leaves that this commit added, in
// increasing order, and returns the UpdatePath (RFC 9420 §7.5, §7.6). groupContext is the encoded provisional GroupContext.
// Many encryptions are spread over the cores.
func (p *PathSecrets) Encrypt(t *RatchetTree, groupContext []byte, added []LeafIndex) (*UpdatePath, error) {
	path := &UpdatePath{LeafNode: p.leaf, Nodes: make([]UpdatePathNode, len(p.steps))}
	type seal struct {
		to     []byte
		secret []byte
		out    *HPKECiphertext
	}
	var seals []seal
	for k, step := range p.steps {
		to := receivers(step.pathStep, added)
		n := &path.Nodes[k]
		n.EncryptionKey = step.key.Public()
		n.EncryptedPathSecret = make([]HPKECiphertext, len(to))
		for j, x := range to {
			seals = append(seals, seal{t.encryptionKey(x), step.secret, &n.EncryptedPathSecret[j]})
		}
	}
	sealer := p.suite.NewSealer(updatePathLabel, groupContext)
	err := spread(len(seals), func(j int) (err error) {
		o := seals[j].out
		o.KEMOutput, o.Ciphertext, err = sealer.Seal(seals[j].to, seals[j].secret)
		return err
	})
	if err != nil {
		return nil, err
	}
	return path, nil
}

// spread calls f(0) … f(n-1) on all cores and returns the error of the least index.
func spread(n int, f func(i int) error) error {
	workers := min(runtime.GOMAXPROCS(0), n/2)
	if workers < 2 {
		for i := range n {
			if err := f(i); err != nil {
				return err
			}
		}
		return nil
	}
	var (
		wg    sync.WaitGroup
		next  atomic.Int64
		mu    sync.Mutex
		at    = n
		first error
	)
	for range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(i); err != nil {
					mu.Lock()
					if i < at {
						at, first = i, err
					}
					mu.Unlock()
					next.Store(int64(n)) // every lesser index is taken already
					return
				}
			}
		})
	}
	wg.Wait()
	return first
}

// encryptionKey returns the HPKE public key of a node that is not blank.
func (t *RatchetTree) encryptionKey(x NodeIndex) []byte {
	switch n := t.find(x); {
	case n.leaf != nil:
		v, _ := viewLeaf(n.leaf.raw)
		return v.encryptionKey
	default:
		return n.parent.EncryptionKey
	}
}

// receivers returns the resolution of the copath node of a step without the leaves in added, which ascend (RFC 9420 §7.6).
func receivers(step pathStep, added []LeafIndex) []NodeIndex {
	all := appendResolution(nil, step.sibling, step.copath)
	if len(leavesUnder(added, step.copath)) == 0 {
		return all
	}
	return slices.DeleteFunc(all, func(x NodeIndex) bool {
		if !x.IsLeaf() {
			return false
		}
		_, isNew := slices.BinarySearch(added, x.Leaf())
		return isNew
	})
}

// MergePath puts a received UpdatePath into the tree (RFC 9420 §7.5, §12.4.2): it verifies that the path has a node for each
// of the filtered direct path, that its keys are new, and that the leaf's parent hash is right. The proposals of the commit are
// in the tree already. The leaf itself is for [LeafRules.CheckLeaf], the ciphertexts for [RatchetTree.CheckCiphertexts] or
// [PrivateTree.OpenPath].
//
// After an error, a *TreeError, t is half changed and must be dropped.
func (t *RatchetTree) MergePath(sender LeafIndex, path *UpdatePath) error {
	if sender >= 1<<maxTreeDepth {
		return &TreeError{Rule: RuleSize, Node: sender.Node()}
	}
	if err := t.checkLeafKeys(sender, &path.LeafNode); err != nil {
		return err
	}
	if sender > t.NextLeaf() && t.leafAt(sender) == nil {
		return &TreeError{Rule: RuleNoMember, Node: sender.Node()}
	}
	t.extend(sender)
	steps := t.filteredPath(sender)
	if len(steps) != len(path.Nodes) {
		return &TreeError{Rule: RulePathLength, Node: sender.Node()}
	}
	keys := make([][]byte, len(steps))
	for k, step := range steps {
		keys[k] = path.Nodes[k].EncryptionKey
		if t.suite.CheckPublicKey(keys[k]) != nil {
			return &TreeError{Rule: RuleKey, Node: step.node}
		}
		if _, found := t.FindEncryptionKey(keys[k]); found || bytes.Equal(keys[k], path.LeafNode.EncryptionKey) {
			return &TreeError{Rule: RuleDuplicateKey, Node: step.node}
		}
		for _, other := range keys[:k] {
			if bytes.Equal(other, keys[k]) {
				return &TreeError{Rule: RuleDuplicateKey, Node: step.node}
			}
		}
	}
	l, err := newLeaf(&path.LeafNode)
	if err != nil {
		return err
	}
	parentHash := t.replacePath(sender, steps, keys)
	if !bytes.Equal(parentHash, path.LeafNode.ParentHash) {
		return &TreeError{Rule: RuleParentHash, Node: sender.Node()}
	}
	t.setLeaf(sender, l)
	return nil
}

// CheckCiphertexts verifies that a merged UpdatePath has one ciphertext for each receiver of each node (RFC 9420 §7.6), for
// who can't decrypt any. added are the leaves that the commit added, in increasing order.
func (t *RatchetTree) CheckCiphertexts(sender LeafIndex, path *UpdatePath, added []LeafIndex) error {
	steps := t.filteredPath(sender)
	if len(steps) != len(path.Nodes) {
		return &TreeError{Rule: RulePathLength, Node: sender.Node()}
	}
	for k, step := range steps {
		if len(path.Nodes[k].EncryptedPathSecret) != len(receivers(step, added)) {
			return &TreeError{Rule: RulePathLength, Node: step.node}
		}
	}
	return nil
}
