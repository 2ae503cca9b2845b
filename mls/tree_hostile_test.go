package mls

import (
	"bytes"
	"crypto/rand"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

func suite1(t testing.TB) suite.Suite {
	s, ok := suite.Lookup(suite.X25519AES128GCMSHA256Ed25519)
	if !ok {
		t.Fatal("no suite 1")
	}
	return s
}

// encodeNodes encodes a ratchet_tree as it is, whatever its shape.
func encodeNodes(nodes ...Node) []byte {
	ext := RatchetTreeExtension(nodes)
	return marshal(&ext)
}

func FuzzParseRatchetTree(f *testing.F) {
	s := suite1(f)
	leaf, _, _ := newTestLeaf(f, s, "a")
	key := leaf.EncryptionKey
	f.Add(encodeNodes(Node{Leaf: leaf}))
	f.Add(encodeNodes(Node{Leaf: leaf}, Node{Parent: &ParentNode{EncryptionKey: key, UnmergedLeaves: []LeafIndex{0, 1}}}, Node{Leaf: leaf}))
	f.Add(encodeNodes(Node{}, Node{}, Node{}, Node{Parent: &ParentNode{EncryptionKey: key}}))
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, err := ParseRatchetTree(s, b)
		if err != nil {
			var syntax *tlspl.SyntaxError
			if !errors.As(err, &syntax) {
				t.Fatalf("not a syntax error: %v", err)
			}
			return
		}
		if again := tree.Bytes(); !bytes.Equal(again, b) {
			t.Fatalf("%x re-encodes as %x", b, again)
		}
		hash := bytes.Clone(tree.TreeHash())
		// Nothing that is done with an accepted tree may panic, however it is shaped.
		err = tree.Validate(&LeafRules{GroupID: testGroupID}, hash)
		var refused *TreeError
		if err != nil && !errors.As(err, &refused) {
			t.Fatalf("not a tree error: %v", err)
		}
		old := tree.Fork()
		fork := tree.Fork()
		n, m, _ := newTestLeaf(t, s, "new")
		if _, err := fork.Add(n); err != nil {
			t.Fatal(err)
		}
		for i := range old.Leaves() {
			if err := fork.Remove(i); err != nil {
				t.Fatal(err)
			}
			break
		}
		if secrets, err := fork.NewPath(rand.Reader, fork.NextLeaf(), *n, testGroupID, m.sign); err == nil {
			t.Fatalf("a key that is used twice: %v", secrets)
		}
		n2, m2, _ := newTestLeaf(t, s, "newer")
		if _, err := fork.NewPath(rand.Reader, fork.NextLeaf(), *n2, testGroupID, m2.sign); err != nil {
			t.Fatal(err)
		}
		records := make(map[NodeIndex][]byte)
		put := func(x NodeIndex, v []byte) {
			if v == nil {
				delete(records, x)
			} else {
				records[x] = v
			}
		}
		tree.Delta(nil, put)
		fork.Delta(tree, put)
		loaded, err := LoadRatchetTree(s, func(yield func(NodeIndex, []byte) bool) {
			for x, v := range records {
				if !yield(x, v) {
					return
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(loaded.Bytes(), fork.Bytes()) {
			t.Fatal("stored as another tree")
		}
		if !bytes.Equal(tree.TreeHash(), hash) || !bytes.Equal(tree.Bytes(), b) {
			t.Fatal("the tree changed with its fork")
		}
	})
}

// FuzzMergePath merges what a member may have signed. Only the path that was made is accepted, with other ciphertexts at most,
// and whatever comes leaves the group's tree as it is.
func FuzzMergePath(f *testing.F) {
	good, members := committedTree(f, 11)
	want, hash := good.Bytes(), bytes.Clone(good.TreeHash())
	paths := make(map[LeafIndex]*UpdatePath)
	for _, i := range []LeafIndex{2, 10} {
		tree := good.Fork()
		secrets, err := tree.NewPath(rand.Reader, i, *good.Leaf(i), testGroupID, members[i].sign)
		if err != nil {
			f.Fatal(err)
		}
		path, err := secrets.Encrypt(tree, []byte("context"), nil)
		if err != nil {
			f.Fatal(err)
		}
		paths[i] = path
		f.Add(uint32(i), marshal(path))
		f.Add(uint32(5), marshal(path))
		f.Add(uint32(11), marshal(path))
		f.Add(uint32(1<<31), marshal(path))
	}
	f.Fuzz(func(t *testing.T, sender uint32, b []byte) {
		var path UpdatePath
		if tlspl.Unmarshal(b, &path) != nil {
			return
		}
		i := LeafIndex(sender)
		tree := good.Fork()
		err := tree.MergePath(i, &path)
		var refused *TreeError
		if err != nil && !errors.As(err, &refused) {
			t.Fatalf("not a tree error: %v", err)
		}
		if err == nil {
			for at, known := range paths {
				if bytes.Equal(known.LeafNode.ParentHash, path.LeafNode.ParentHash) && at != i {
					t.Fatalf("the path of leaf %d is accepted from leaf %d", at, i)
				}
			}
			tree.TreeHash()
			tree.CheckCiphertexts(i, &path, []LeafIndex{3, 4})
			for _, m := range []LeafIndex{0, 3, 9} {
				members[m].priv.Fork().OpenPath(tree, i, &path, []byte("context"), nil)
			}
		}
		if !bytes.Equal(good.Bytes(), want) || !bytes.Equal(good.TreeHash(), hash) {
			t.Fatal("the group's tree changed")
		}
	})
}

func TestRatchetTreeRefused(t *testing.T) {
	s := suite1(t)
	leaf, _, _ := newTestLeaf(t, s, "a")
	key := leaf.EncryptionKey
	parent := func(unmerged ...LeafIndex) Node {
		return Node{Parent: &ParentNode{EncryptionKey: key, UnmergedLeaves: unmerged}}
	}
	l := Node{Leaf: leaf}
	for _, test := range []struct {
		name string
		in   []byte
		want error
	}{
		{"no node", encodeNodes(), tlspl.ErrLength},
		{"blank nodes only", encodeNodes(Node{}, Node{}, Node{}), tlspl.ErrLength},
		{"blank node at the end", encodeNodes(l, Node{}), tlspl.ErrLength},
		{"leaf in the place of a parent", encodeNodes(l, l, l), tlspl.ErrValue},
		{"parent in the place of a leaf", encodeNodes(parent()), tlspl.ErrValue},
		{"unmerged leaves unsorted", encodeNodes(l, parent(1, 0), l), tlspl.ErrOrder},
		{"unmerged leaf twice", encodeNodes(l, parent(1, 1), l), tlspl.ErrOrder},
		{"unmerged leaf outside of the subtree", encodeNodes(l, parent(2), l, parent(), l), tlspl.ErrValue},
		{"unmerged leaf outside of the tree", encodeNodes(l, parent(1<<31), l), tlspl.ErrValue},
		{"presence octet", []byte{1, 2}, tlspl.ErrPresence},
		{"node type", []byte{2, 1, 3}, tlspl.ErrValue},
		{"length of what isn't there", []byte{0xbf, 0xff, 0xff, 0xff, 1}, tlspl.ErrTruncated},
	} {
		if _, err := ParseRatchetTree(s, test.in); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

// A tree of blanks costs its receiver memory and time in proportion to its bytes.
func TestManyBlanks(t *testing.T) {
	s := suite1(t)
	leaf, _, _ := newTestLeaf(t, s, "a")
	nodes := make([]Node, 1<<20+1)
	nodes[1<<20] = Node{Leaf: leaf}
	b := encodeNodes(nodes...)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	tree, err := ParseRatchetTree(s, b)
	if err != nil {
		t.Fatal(err)
	}
	fork := tree.Fork()
	fork.TreeHash()
	if i := fork.NextLeaf(); i != 0 {
		t.Errorf("next leaf %d", i)
	}
	if r := fork.Resolution(fork.Root()); len(r) != 1 {
		t.Errorf("resolution %d", r)
	}
	elapsed := time.Since(start)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 8*uint64(len(b)) {
		t.Errorf("%d octets allocated for %d", n, len(b))
	}
	if elapsed > 20*time.Second {
		t.Errorf("took %v", elapsed)
	}
	if !bytes.Equal(fork.Bytes(), b) {
		t.Error("re-encodes to other bytes")
	}
}

// committedTree returns a valid tree of n members, in which leaf 0 and the last have committed.
func committedTree(t testing.TB, n int) (*RatchetTree, []*treeMember) {
	s := suite1(t)
	tree := NewRatchetTree(s)
	members := make([]*treeMember, n)
	for i := range n {
		leaf, m, key := newTestLeaf(t, s, "member")
		at, err := tree.Add(leaf)
		if err != nil {
			t.Fatal(err)
		}
		m.priv = NewPrivateTree(s, at, key)
		members[i] = m
	}
	for _, i := range []int{0, n - 1} {
		if _, err := tree.NewPath(rand.Reader, LeafIndex(i), *tree.Leaf(LeafIndex(i)), testGroupID, members[i].sign); err != nil {
			t.Fatal(err)
		}
	}
	tree.TreeHash()
	return tree, members
}

// Every rule of a joiner's check refuses the tree that breaks it, and names it.
func TestValidateRefuses(t *testing.T) {
	s := suite1(t)
	good, members := committedTree(t, 8)
	for _, test := range []struct {
		name  string
		rule  TreeRule
		spoil func(nodes []Node, rules *LeafRules)
	}{
		{"signature", RuleSignature, func(n []Node, _ *LeafRules) { n[14].Leaf.Signature[3] ^= 1 }},
		{"group", RuleSignature, func(_ []Node, r *LeafRules) { r.GroupID = []byte("another") }},
		{"signature key twice", RuleDuplicateKey, func(n []Node, _ *LeafRules) {
			n[4].Leaf.SignatureKey = n[6].Leaf.SignatureKey
			resign(t, n[4].Leaf, members[3], 2)
		}},
		{"encryption key twice", RuleDuplicateKey, func(n []Node, _ *LeafRules) {
			n[4].Leaf.EncryptionKey = n[6].Leaf.EncryptionKey
			resign(t, n[4].Leaf, members[2], 2)
		}},
		{"encryption key of a parent", RuleDuplicateKey, func(n []Node, _ *LeafRules) {
			n[4].Leaf.EncryptionKey = n[7].Parent.EncryptionKey
			resign(t, n[4].Leaf, members[2], 2)
		}},
		{"encryption key not of the suite", RuleKey, func(n []Node, _ *LeafRules) { n[7].Parent.EncryptionKey = make([]byte, 5) }},
		{"parent hash of a leaf", RuleParentHash, func(n []Node, _ *LeafRules) {
			n[14].Leaf.ParentHash = make([]byte, 32)
			resign(t, n[14].Leaf, members[7], 7)
		}},
		{"parent hash of a parent", RuleParentHash, func(n []Node, _ *LeafRules) { n[11].Parent.ParentHash = make([]byte, 32) }},
		{"key of a parent", RuleParentHash, func(n []Node, _ *LeafRules) { n[7].Parent.EncryptionKey = make([]byte, 32) }},
		{"leaf exchanged below the path", RuleParentHash, func(n []Node, _ *LeafRules) { n[8].Leaf = nil }},
		{"leaf of the path exchanged", RuleParentHash, func(n []Node, _ *LeafRules) { n[14].Leaf, _, _ = newTestLeaf(t, s, "insider") }},
		{"unmerged leaf that is blank", RuleUnmerged, func(n []Node, _ *LeafRules) {
			n[4].Leaf = nil
			n[7].Parent.UnmergedLeaves = []LeafIndex{2}
		}},
		{"unmerged above only", RuleUnmerged, func(n []Node, _ *LeafRules) { n[7].Parent.UnmergedLeaves = []LeafIndex{6} }},
		{"unmerged that was merged", RuleParentHash, func(n []Node, _ *LeafRules) {
			n[7].Parent.UnmergedLeaves = []LeafIndex{6}
			n[11].Parent.UnmergedLeaves = []LeafIndex{6}
			n[13].Parent.UnmergedLeaves = []LeafIndex{6}
		}},
		{"required proposal", RuleRequired, func(_ []Node, r *LeafRules) { r.Required = &RequiredCapabilities{ProposalTypes: []ProposalType{99}} }},
		{"required extension", RuleRequired, func(_ []Node, r *LeafRules) { r.Required = &RequiredCapabilities{ExtensionTypes: []ExtensionType{99}} }},
		{"required credential", RuleRequired, func(_ []Node, r *LeafRules) {
			r.Required = &RequiredCapabilities{CredentialTypes: []CredentialType{99}}
		}},
		{"extension of the group", RuleGroupFeature, func(_ []Node, r *LeafRules) { r.Extensions = []ExtensionType{99} }},
		{"too early", RuleLifetime, func(_ []Node, r *LeafRules) { r.Now = 999 }},
		{"too late", RuleLifetime, func(_ []Node, r *LeafRules) { r.Now = 2001 }},
		{"too long", RuleLifetime, func(_ []Node, r *LeafRules) { r.MaxLifetime = 999 }},
		{"extension of a leaf", RuleExtension, func(n []Node, _ *LeafRules) {
			n[14].Leaf.Extensions = Extensions{{Type: 77}}
			resign(t, n[14].Leaf, members[7], 7)
		}},
		{"own credential type", RuleCredential, func(n []Node, _ *LeafRules) {
			n[14].Leaf.Credential = Credential{Type: 55, Custom: []byte("x")}
			resign(t, n[14].Leaf, members[7], 7)
		}},
		{"credential type of another", RuleCredential, func(n []Node, _ *LeafRules) {
			n[14].Leaf.Capabilities.Credentials = []CredentialType{CredentialX509}
			n[14].Leaf.Credential = X509Credential([]byte("x"))
			resign(t, n[14].Leaf, members[7], 7)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var ext RatchetTreeExtension
			if err := tlspl.Unmarshal(good.Bytes(), &ext); err != nil {
				t.Fatal(err)
			}
			rules := &LeafRules{GroupID: testGroupID, Now: 1500, MaxLifetime: 1000}
			tree, err := ParseRatchetTree(s, marshal(&ext))
			if err != nil {
				t.Fatal(err)
			}
			if err := tree.Validate(rules, good.TreeHash()); err != nil {
				t.Fatalf("unspoilt: %v", err)
			}
			test.spoil(ext, rules)
			if tree, err = ParseRatchetTree(s, marshal(&ext)); err != nil {
				t.Fatal(err)
			}
			if err := tree.Validate(rules, tree.TreeHash()); !isRule(err, test.rule) {
				t.Errorf("%v, want: %s", err, test.rule)
			}
		})
	}
	if err := good.Validate(&LeafRules{GroupID: testGroupID}, make([]byte, 32)); !isRule(err, RuleTreeHash) {
		t.Errorf("another tree hash: %v", err)
	}
}

// A received path that breaks a rule is refused, and the group's tree stays.
func TestMergePathRefuses(t *testing.T) {
	good, members := committedTree(t, 8)
	want := good.Bytes()
	for _, test := range []struct {
		name  string
		rule  TreeRule
		spoil func(path *UpdatePath)
	}{
		{"node missing", RulePathLength, func(p *UpdatePath) { p.Nodes = p.Nodes[1:] }},
		{"node too many", RulePathLength, func(p *UpdatePath) { p.Nodes = append(p.Nodes, p.Nodes[0]) }},
		{"key in the tree", RuleDuplicateKey, func(p *UpdatePath) { p.Nodes[1].EncryptionKey = good.Leaf(7).EncryptionKey }},
		{"key that is replaced", RuleDuplicateKey, func(p *UpdatePath) { p.Nodes[1].EncryptionKey = good.Parent(7).EncryptionKey }},
		{"key twice", RuleDuplicateKey, func(p *UpdatePath) { p.Nodes[1].EncryptionKey = p.Nodes[0].EncryptionKey }},
		{"leaf key in the path", RuleDuplicateKey, func(p *UpdatePath) { p.Nodes[1].EncryptionKey = p.LeafNode.EncryptionKey }},
		{"leaf key kept", RuleDuplicateKey, func(p *UpdatePath) { p.LeafNode.EncryptionKey = good.Leaf(2).EncryptionKey }},
		{"signature key of another", RuleDuplicateKey, func(p *UpdatePath) { p.LeafNode.SignatureKey = good.Leaf(3).SignatureKey }},
		{"key not of the suite", RuleKey, func(p *UpdatePath) { p.Nodes[0].EncryptionKey = []byte{1} }},
		{"parent hash", RuleParentHash, func(p *UpdatePath) { p.LeafNode.ParentHash = make([]byte, 32) }},
		{"other keys than signed", RuleParentHash, func(p *UpdatePath) { p.Nodes[2].EncryptionKey = make([]byte, 32) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			tree := good.Fork()
			secrets, err := tree.NewPath(rand.Reader, 2, *good.Leaf(2), testGroupID, members[2].sign)
			if err != nil {
				t.Fatal(err)
			}
			path, err := secrets.Encrypt(tree, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := good.Fork().MergePath(2, path); err != nil {
				t.Fatalf("unspoilt: %v", err)
			}
			test.spoil(path)
			if err := good.Fork().MergePath(2, path); !isRule(err, test.rule) {
				t.Errorf("%v, want: %s", err, test.rule)
			}
			if !bytes.Equal(good.Bytes(), want) {
				t.Error("the group's tree changed")
			}
		})
	}
}

// A path whose ciphertexts are not those of its keys is refused.
func TestOpenPathRefuses(t *testing.T) {
	good, members := committedTree(t, 8)
	s := good.Suite()
	tree := good.Fork()
	secrets, err := tree.NewPath(rand.Reader, 2, *good.Leaf(2), testGroupID, members[2].sign)
	if err != nil {
		t.Fatal(err)
	}
	me := members[3].priv
	open := func(change func(*UpdatePath), context string) error {
		path, err := secrets.Encrypt(tree, []byte("context"), nil)
		if err != nil {
			t.Fatal(err)
		}
		change(path)
		_, err = me.Fork().OpenPath(tree, 2, path, []byte(context), nil)
		return err
	}
	if err := open(func(*UpdatePath) {}, "context"); err != nil {
		t.Fatal(err)
	}
	if err := open(func(*UpdatePath) {}, "another"); !errors.Is(err, suite.ErrOpen) {
		t.Errorf("another context: %v", err)
	}
	if err := open(func(p *UpdatePath) { p.Nodes[0].EncryptedPathSecret = nil }, "context"); !isRule(err, RulePathLength) {
		t.Errorf("no ciphertext: %v", err)
	}
	if err := open(func(p *UpdatePath) { p.Nodes = p.Nodes[1:] }, "context"); !isRule(err, RulePathLength) {
		t.Errorf("no node: %v", err)
	}
	for name, secret := range map[string][]byte{"another secret": make([]byte, s.Nh()), "a short secret": {1}} {
		err := open(func(p *UpdatePath) {
			c := &p.Nodes[0].EncryptedPathSecret[0]
			c.KEMOutput, c.Ciphertext, err = s.SealWithLabel(good.Leaf(3).EncryptionKey, updatePathLabel, []byte("context"), secret)
		}, "context")
		if !isRule(err, RulePathSecret) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := members[4].priv.Fork().Join(tree, 2, make([]byte, s.Nh())); !isRule(err, RulePathSecret) {
		t.Errorf("joining with another secret: %v", err)
	}
}

func TestKeyPackageRefuses(t *testing.T) {
	s := suite1(t)
	for _, test := range []struct {
		name  string
		rule  TreeRule
		spoil func(*KeyPackage, *treeMember)
	}{
		{"", "", func(*KeyPackage, *treeMember) {}},
		{"cipher suite", RuleVersion, func(k *KeyPackage, _ *treeMember) { k.CipherSuite = 3 }},
		{"init key is the leaf's", RuleInitKey, func(k *KeyPackage, _ *treeMember) { k.InitKey = k.LeafNode.EncryptionKey }},
		{"init key not of the suite", RuleKey, func(k *KeyPackage, _ *treeMember) { k.InitKey = []byte{1} }},
		{"extension", RuleExtension, func(k *KeyPackage, _ *treeMember) { k.Extensions = Extensions{{Type: 77}} }},
		{"source", RuleSource, func(k *KeyPackage, m *treeMember) {
			k.LeafNode.Source = SourceUpdate
			resign(t, &k.LeafNode, m, 0)
		}},
		{"leaf signature", RuleSignature, func(k *KeyPackage, _ *treeMember) { k.LeafNode.Lifetime.NotAfter++ }},
	} {
		leaf, m, _ := newTestLeaf(t, s, "a")
		_, _, init := newTestLeaf(t, s, "b")
		k := &KeyPackage{Version: MLS10, CipherSuite: s.ID(), InitKey: init.Public(), LeafNode: *leaf}
		k.LeafNode.tbs = nil
		test.spoil(k, m)
		tbs, err := k.tbsBytes()
		if err != nil {
			t.Fatal(err)
		}
		if k.Signature, err = m.signer.SignWithLabel(rand.Reader, "KeyPackageTBS", tbs); err != nil {
			t.Fatal(err)
		}
		err = (&LeafRules{}).CheckKeyPackage(s, k)
		if test.rule == "" && err != nil || test.rule != "" && !isRule(err, test.rule) {
			t.Errorf("%s: %v", test.name, err)
		}
		if test.rule == "" {
			k.Signature[0] ^= 1
			if err := (&LeafRules{}).CheckKeyPackage(s, k); !isRule(err, RuleSignature) {
				t.Errorf("signature: %v", err)
			}
		}
	}
}
