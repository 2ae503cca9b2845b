package mls

import (
	"bytes"
	"hash/maphash"
	"slices"

	"github.com/comity-im/comity/tlspl"
)

// A treeIndex answers what validation asks about all nodes at once, without looking at them: where a public key is, and
// how many members support a feature. It follows every change of its tree, sharing what stays the same between versions.
// A tree that was decoded or loaded gets its index when it is first needed.
type treeIndex struct {
	seed       maphash.Seed
	built      bool
	stored     bool // the tree comes from storage and was validated before, so that nothing is there twice
	encryption trie // encryption key -> node
	signature  trie // signature key -> leaf
	support    trie // capability -> number of members that list it
	inUse      []credentialUse
	duplicate  *TreeError // first key that a decoded tree has twice
}

// A credentialUse counts the members whose credential is of a type.
type credentialUse struct {
	typ     CredentialType
	members int
}

// A capability is what a member lists in its Capabilities or extensions: which list, and the value in it.
type capability uint32

const (
	capVersion capability = iota << 16
	capCipherSuite
	capExtension
	capProposal
	capCredential
	capWireFormat   // supported_wire_formats
	capAppComponent // app_components
	capSafeAAD      // safe_aad
)

func newTreeIndex() *treeIndex { return &treeIndex{seed: maphash.MakeSeed(), built: true} }

func (x *treeIndex) fork() *treeIndex {
	f := *x
	f.inUse = slices.Clone(x.inUse)
	return &f
}

func (x *treeIndex) hash(key []byte) uint64 { return maphash.Bytes(x.seed, key) }

// keys returns the index, building it for a tree that has none yet.
func (t *RatchetTree) keys() *treeIndex {
	x := t.index
	if x.built {
		return x
	}
	x.built = true
	e := t.writable()
	seen := supportSets{make(map[string]int), make(map[string]int)}
	t.indexNode(e, t.root, t.Root(), seen)
	for set, members := range seen.capabilities {
		var c Capabilities
		if tlspl.UnmarshalAlias([]byte(set), &c) == nil {
			x.addCapabilities(e, &c, members)
		}
	}
	for set, members := range seen.extensions {
		var list Extensions
		if tlspl.UnmarshalAlias([]byte(set), &list) == nil {
			x.addExtensions(e, list, members)
		}
	}
	return x
}

// supportSets count members by the bytes of what they list, which are the same for most.
type supportSets struct{ capabilities, extensions map[string]int }

// indexNode adds the subtree at n.
func (t *RatchetTree) indexNode(e *edit, n *treeNode, at NodeIndex, seen supportSets) {
	x := t.index
	switch {
	case n == nil:
		return
	case n.leaf != nil:
		v, ok := viewLeaf(n.leaf.raw)
		if !ok {
			return // what was decoded or stored by this package always has the shape of a leaf
		}
		if !x.stored && x.duplicate == nil {
			if at, found := t.FindEncryptionKey(v.encryptionKey); found {
				x.duplicate = &TreeError{Rule: RuleDuplicateKey, Node: at}
			} else if i, found := t.FindSignatureKey(v.signatureKey); found {
				x.duplicate = &TreeError{Rule: RuleDuplicateKey, Node: i.Node()}
			}
		}
		x.encryption.insert(e, x.hash(v.encryptionKey), uint32(at))
		x.signature.insert(e, x.hash(v.signatureKey), uint32(at.Leaf()))
		x.use(v.credentialType, 1)
		seen.capabilities[string(v.capabilities)]++
		seen.extensions[string(v.extensions)]++
		return
	case n.parent != nil:
		if !x.stored && x.duplicate == nil {
			if at, found := t.FindEncryptionKey(n.parent.EncryptionKey); found {
				x.duplicate = &TreeError{Rule: RuleDuplicateKey, Node: at}
			}
		}
		x.addParent(e, at, n.parent)
	}
	t.indexNode(e, n.left, at.Left(), seen)
	t.indexNode(e, n.right, at.Right(), seen)
}

func (x *treeIndex) addParent(e *edit, at NodeIndex, p *treeParent) {
	x.encryption.insert(e, x.hash(p.EncryptionKey), uint32(at))
}

func (x *treeIndex) removeParent(e *edit, at NodeIndex, p *treeParent) {
	x.encryption.remove(e, x.hash(p.EncryptionKey), uint32(at))
}

func (x *treeIndex) addLeaf(e *edit, i LeafIndex, l *treeLeaf) {
	n := l.node()
	x.encryption.insert(e, x.hash(n.EncryptionKey), uint32(i.Node()))
	x.signature.insert(e, x.hash(n.SignatureKey), uint32(i))
	x.use(n.Credential.Type, 1)
	x.addCapabilities(e, &n.Capabilities, 1)
	x.addExtensions(e, n.Extensions, 1)
}

func (x *treeIndex) removeLeaf(e *edit, i LeafIndex, l *treeLeaf) {
	n := l.node()
	x.encryption.remove(e, x.hash(n.EncryptionKey), uint32(i.Node()))
	x.signature.remove(e, x.hash(n.SignatureKey), uint32(i))
	x.use(n.Credential.Type, -1)
	x.addCapabilities(e, &n.Capabilities, -1)
	x.addExtensions(e, n.Extensions, -1)
}

// use counts members up or down whose credential is of the type.
func (x *treeIndex) use(typ CredentialType, members int) {
	at, found := slices.BinarySearchFunc(x.inUse, typ, func(u credentialUse, typ CredentialType) int { return int(u.typ) - int(typ) })
	if !found {
		x.inUse = slices.Insert(x.inUse, at, credentialUse{typ: typ})
	}
	x.inUse[at].members += members
	if x.inUse[at].members == 0 {
		x.inUse = slices.Delete(x.inUse, at, at+1)
	}
}

// addCapabilities counts members up or down that have these Capabilities.
func (x *treeIndex) addCapabilities(e *edit, c *Capabilities, members int) {
	addList(x, e, capVersion, c.Versions, members)
	addList(x, e, capCipherSuite, c.CipherSuites, members)
	addList(x, e, capExtension, c.Extensions, members)
	addList(x, e, capProposal, c.Proposals, members)
	addList(x, e, capCredential, c.Credentials, members)
}

// addExtensions counts members up or down whose leaf extensions list what they support (MLS extensions §5). A list that
// doesn't decode lists nothing.
func (x *treeIndex) addExtensions(e *edit, list Extensions, members int) {
	if formats, err := list.wireFormats(ExtensionSupportedWireFormats); err == nil {
		addList(x, e, capWireFormat, formats, members)
	}
	dict, ok, err := list.AppDataDictionary()
	if !ok || err != nil {
		return
	}
	var components ComponentsList
	if data, ok := dict.Find(ComponentAppComponents); ok && tlspl.UnmarshalAlias(data, &components) == nil {
		addList(x, e, capAppComponent, components.ComponentIDs, members)
	}
	components = ComponentsList{}
	if data, ok := dict.Find(ComponentSafeAAD); ok && tlspl.UnmarshalAlias(data, &components) == nil {
		addList(x, e, capSafeAAD, components.ComponentIDs, members)
	}
	var media MediaTypeList
	if data, ok := dict.Find(ComponentContentMediaTypes); ok && tlspl.UnmarshalAlias(data, &media) == nil {
		seen := make(map[uint64]bool)
		for k := range media.MediaTypeList {
			if h := x.hash(marshal(&media.MediaTypeList[k])); !seen[h] {
				seen[h] = true
				x.support.addCount(e, h, members)
			}
		}
	}
}

func addList[T ~uint16](x *treeIndex, e *edit, kind capability, list []T, members int) {
	if !slices.IsSorted(list) {
		list = slices.Sorted(slices.Values(list))
	}
	for i, v := range list {
		if i == 0 || v != list[i-1] { // a value that is listed twice counts once
			x.support.addCount(e, scramble(uint64(kind|capability(v))), members)
		}
	}
}

// supporters returns how many members list the value.
func (t *RatchetTree) supporters(kind capability, v uint16) int {
	return int(t.keys().support.count(scramble(uint64(kind | capability(v)))))
}

// FindSignatureKey returns the member that has the signature key.
func (t *RatchetTree) FindSignatureKey(key []byte) (LeafIndex, bool) {
	x := t.keys()
	h := x.hash(key)
	for _, it := range x.signature.items(h) {
		if it.key != h {
			continue
		}
		if l := t.leafAt(LeafIndex(it.value)); l != nil {
			if v, ok := viewLeaf(l.raw); ok && bytes.Equal(v.signatureKey, key) {
				return LeafIndex(it.value), true
			}
		}
	}
	return 0, false
}

// FindEncryptionKey returns the node, leaf or parent, that has the HPKE public key.
func (t *RatchetTree) FindEncryptionKey(key []byte) (NodeIndex, bool) {
	x := t.keys()
	h := x.hash(key)
	for _, it := range x.encryption.items(h) {
		if it.key != h {
			continue
		}
		at := NodeIndex(it.value)
		switch n := t.find(at); {
		case n == nil:
		case n.leaf != nil:
			if v, ok := viewLeaf(n.leaf.raw); ok && bytes.Equal(v.encryptionKey, key) {
				return at, true
			}
		case n.parent != nil && bytes.Equal(n.parent.EncryptionKey, key):
			return at, true
		}
	}
	return 0, false
}

// checkLeafKeys verifies that the keys of n, which is to take leaf i, are unique in the tree (RFC 9420 §7.3).
// A new leaf may keep the signature key of the one it replaces, but not its encryption key.
func (t *RatchetTree) checkLeafKeys(i LeafIndex, n *LeafNode) error {
	if at, found := t.FindEncryptionKey(n.EncryptionKey); found {
		return &TreeError{Rule: RuleDuplicateKey, Node: at}
	}
	if at, found := t.FindSignatureKey(n.SignatureKey); found && at != i {
		return &TreeError{Rule: RuleDuplicateKey, Node: at.Node()}
	}
	return nil
}

// A leafView points at the parts of an encoded LeafNode that the index needs (RFC 9420 §7.2), undecoded.
type leafView struct {
	encryptionKey, signatureKey []byte
	credentialType              CredentialType
	capabilities, extensions    []byte
}

func viewLeaf(raw []byte) (v leafView, ok bool) {
	b := raw
	if v.encryptionKey, b, ok = cutOpaque(b); !ok {
		return v, false
	}
	if v.signatureKey, b, ok = cutOpaque(b); !ok || len(b) < 2 {
		return v, false
	}
	v.credentialType = CredentialType(b[0])<<8 | CredentialType(b[1])
	if _, b, ok = cutOpaque(b[2:]); !ok { // every credential is one vector
		return v, false
	}
	start := b
	for range 5 {
		if _, b, ok = cutOpaque(b); !ok {
			return v, false
		}
	}
	v.capabilities = start[:len(start)-len(b)]
	if len(b) == 0 {
		return v, false
	}
	source := LeafNodeSource(b[0])
	b = b[1:]
	switch source {
	case SourceKeyPackage:
		if len(b) < 16 {
			return v, false
		}
		b = b[16:]
	case SourceCommit:
		if _, b, ok = cutOpaque(b); !ok {
			return v, false
		}
	}
	start = b
	if _, b, ok = cutOpaque(b); !ok {
		return v, false
	}
	v.extensions = start[:len(start)-len(b)]
	return v, true
}

// cutOpaque splits b after a vector with its length (RFC 9420 §2.1.2).
func cutOpaque(b []byte) (content, rest []byte, ok bool) {
	if len(b) == 0 || b[0]>>6 == 3 {
		return nil, nil, false
	}
	size := 1 << (b[0] >> 6)
	if len(b) < size {
		return nil, nil, false
	}
	n := int(b[0] & 0x3f)
	for _, c := range b[1:size] {
		n = n<<8 | int(c)
	}
	if len(b)-size < n {
		return nil, nil, false
	}
	return b[size : size+n], b[size+n:], true
}
