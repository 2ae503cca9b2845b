package mls

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"regexp"
	"testing"

	"github.com/comity-im/comity/mls/suite"
)

// proposeAnyway signs a proposal without asking the rules.
func proposeAnyway(t testing.TB, by *client, w WireFormat, p Proposal) *MLSMessage {
	t.Helper()
	a, err := by.group.sign(rand.Reader, w, FramedContent{ContentType: ContentProposal, Proposal: &p})
	if err != nil {
		t.Fatal(err)
	}
	m, err := by.group.protect(rand.Reader, a)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// commitAnyway signs a commit without asking the rules. Its confirmation_tag is
// wrong, which is the last that anybody verifies.
func commitAnyway(t testing.TB, by *client, aad []byte, commit Commit) *MLSMessage {
	t.Helper()
	a, err := by.group.sign(rand.Reader, WireFormatPublicMessage, FramedContent{AuthenticatedData: aad, ContentType: ContentCommit, Commit: &commit})
	if err != nil {
		t.Fatal(err)
	}
	a.Auth.ConfirmationTag = make([]byte, 32)
	m, err := by.group.protect(rand.Reader, a)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// externalAnyway signs an external commit without asking the rules.
func externalAnyway(t testing.TB, r *room, by *client, list []ProposalOrRef, change func(*LeafNode)) *MLSMessage {
	t.Helper()
	st := r.hub.state
	tree := st.tree.Fork()
	for _, p := range list {
		if p.Proposal != nil && p.Proposal.Type == ProposalRemove {
			if err := tree.Remove(p.Proposal.Remove.Removed); err != nil {
				t.Fatal(err)
			}
		}
	}
	leaf := by.leaf.leaf()
	if change != nil {
		change(&leaf)
	}
	path, err := tree.NewPath(rand.Reader, tree.NextLeaf(), leaf, st.context.GroupID, func(tbs []byte) ([]byte, error) {
		return by.leaf.Signer.SignWithLabel(rand.Reader, "LeafNodeTBS", tbs)
	})
	if err != nil {
		t.Fatal(err)
	}
	update, err := path.Encrypt(tree, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := signContent(rand.Reader, by.leaf.Signer, WireFormatPublicMessage, FramedContent{
		GroupID: st.context.GroupID, Epoch: st.context.Epoch, Sender: Sender{Type: SenderNewMemberCommit},
		ContentType: ContentCommit, Commit: &Commit{Proposals: list, Path: update},
	}, st.encoded)
	if err != nil {
		t.Fatal(err)
	}
	a.Auth.ConfirmationTag = make([]byte, 32)
	m := Message(&PublicMessage{Content: a.Content, Auth: a.Auth})
	return &m
}

// ruleOf returns the rule that an error is about.
func ruleOf(err error) Rule {
	var rule *RuleError
	if errors.As(err, &rule) {
		return rule.Rule
	}
	return ""
}

// A ruleCase is a commit of alice, the first of four, that breaks a rule.
type ruleCase struct {
	rule      Rule
	name      string
	aad       []byte
	proposals func(r *room) []Proposal // by value
	pending   func(r *room)            // what is proposed before, and committed by reference
}

func (r *room) client(name string) *client {
	for _, c := range r.clients {
		if c.name == name {
			return c
		}
	}
	r.t.Fatalf("no client %s", name)
	return nil
}

func (r *room) leafOf(name string) LeafIndex { return r.client(name).group.OwnLeaf() }

func pskProposal(id PreSharedKeyID) Proposal {
	return Proposal{Type: ProposalPSK, PreSharedKey: &PreSharedKey{id}}
}

func appData(id ComponentID, op AppDataUpdateOperation, update string) Proposal {
	return Proposal{Type: ProposalAppDataUpdate, AppDataUpdate: &AppDataUpdate{id, op, []byte(update)}}
}

func groupExtensions(e ...Extension) Proposal {
	return Proposal{Type: ProposalGroupContextExtensions, GroupContextExtensions: &GroupContextExtensions{e}}
}

// sealed signs a KeyPackage again after a change.
func sealed(t testing.TB, c *client, change func(*KeyPackage)) KeyPackage {
	t.Helper()
	k := c.keyPackage(t)
	change(&k)
	if err := k.LeafNode.sign(rand.Reader, c.leaf.Signer, nil, 0); err != nil {
		t.Fatal(err)
	}
	k.tbs, k.raw = nil, nil
	tbs, err := k.tbsBytes()
	if err != nil {
		t.Fatal(err)
	}
	if k.Signature, err = c.leaf.Signer.SignWithLabel(rand.Reader, "KeyPackageTBS", tbs); err != nil {
		t.Fatal(err)
	}
	return k
}

func list(p ...Proposal) func(*room) []Proposal { return func(*room) []Proposal { return p } }

var longNonce = bytes.Repeat([]byte{1}, 32)

var ruleCases = []ruleCase{
	{rule: RuleProposalUnknown, proposals: list(Proposal{Type: 0xf002, Custom: []byte("x")})},
	{rule: RuleProposalSender, name: "ExternalInit from a member", pending: func(r *room) {
		r.refused(RuleProposalSender, r.client("bob"), Proposal{Type: ProposalExternalInit, ExternalInit: &ExternalInit{[]byte("x")}})
	}},
	{rule: RuleAdd, name: "signature", proposals: func(r *room) []Proposal {
		k := newClient(r.t, "x").keyPackage(r.t)
		k.Signature[0] ^= 1
		return []Proposal{add(k)}
	}},
	{rule: RuleAdd, name: "leaf signature", proposals: func(r *room) []Proposal {
		k := newClient(r.t, "x").keyPackage(r.t)
		k.LeafNode.Signature[0] ^= 1
		return []Proposal{add(k)}
	}},
	{rule: RuleAdd, name: "cipher suite", proposals: func(r *room) []Proposal {
		return []Proposal{add(sealed(r.t, newClient(r.t, "x"), func(k *KeyPackage) { k.CipherSuite = suite.P256AES128GCMSHA256P256 }))}
	}},
	{rule: RuleAdd, name: "init_key is encryption_key", proposals: func(r *room) []Proposal {
		return []Proposal{add(sealed(r.t, newClient(r.t, "x"), func(k *KeyPackage) { k.InitKey = k.LeafNode.EncryptionKey }))}
	}},
	{rule: RuleAdd, name: "source", proposals: func(r *room) []Proposal {
		return []Proposal{add(sealed(r.t, newClient(r.t, "x"), func(k *KeyPackage) { k.LeafNode.Source = SourceUpdate }))}
	}},
	{rule: RuleAdd, name: "required capability", proposals: func(r *room) []Proposal {
		k := sealed(r.t, newClient(r.t, "x"), func(k *KeyPackage) { k.LeafNode.Capabilities.Proposals = nil })
		return []Proposal{
			groupExtensions(Extension{ExtensionRequiredCapabilities, marshal(&RequiredCapabilities{ProposalTypes: []ProposalType{ProposalSelfRemove}})}),
			add(k),
		}
	}},
	{rule: RuleAdd, name: "credential type not listed", proposals: func(r *room) []Proposal {
		return []Proposal{add(sealed(r.t, newClient(r.t, "x"), func(k *KeyPackage) { k.LeafNode.Capabilities.Credentials = []CredentialType{CredentialX509} }))}
	}},
	{rule: RuleCredentialInvalid, name: "credential type of others not supported", proposals: func(r *room) []Proposal {
		return []Proposal{add(sealed(r.t, newClient(r.t, "x"), func(k *KeyPackage) {
			k.LeafNode.Credential = X509Credential([]byte("der"))
			k.LeafNode.Capabilities.Credentials = []CredentialType{CredentialX509}
		}))}
	}},
	{rule: RuleCredentialInvalid, name: "application", proposals: func(r *room) []Proposal {
		return []Proposal{add(newClient(r.t, "impostor").keyPackage(r.t))}
	}},
	{rule: RuleAddClient, name: "member", proposals: func(r *room) []Proposal {
		return []Proposal{add(r.client("bob").keyPackage(r.t))}
	}},
	{rule: RuleAddClient, name: "twice", proposals: func(r *room) []Proposal {
		x := newClient(r.t, "x")
		return []Proposal{add(x.keyPackage(r.t)), add(x.keyPackage(r.t))}
	}},
	{rule: RuleRemove, proposals: list(remove(77))},
	{rule: RuleCommitterRemove, proposals: list(remove(0))},
	{rule: RuleCommitterRemove, name: "own SelfRemove", pending: func(r *room) {
		r.propose(r.client("alice"), proposeAnyway(r.t, r.client("alice"), WireFormatPublicMessage, Proposal{Type: ProposalSelfRemove}), nil)
		r.cache("alice", Proposal{Type: ProposalSelfRemove})
	}},
	{rule: RuleCommitterUpdate, proposals: func(r *room) []Proposal {
		leaf, signer := r.client("alice").group.nextLeaf(nil)
		key, _ := r.hub.Suite().GenerateKeyPair(rand.Reader)
		leaf.EncryptionKey, leaf.Source = key.Public(), SourceUpdate
		if err := leaf.sign(rand.Reader, signer, r.hub.GroupID(), 0); err != nil {
			r.t.Fatal(err)
		}
		return []Proposal{{Type: ProposalUpdate, Update: &Update{leaf}}}
	}},
	{rule: RuleUpdate, name: "old key", pending: func(r *room) {
		bob := r.client("bob")
		leaf, signer := bob.group.nextLeaf(nil)
		leaf.EncryptionKey, leaf.Source = bob.group.Tree().Leaf(1).EncryptionKey, SourceUpdate
		if err := leaf.sign(rand.Reader, signer, r.hub.GroupID(), 1); err != nil {
			r.t.Fatal(err)
		}
		r.refused(RuleUpdate, bob, Proposal{Type: ProposalUpdate, Update: &Update{leaf}})
	}},
	{rule: RuleUpdate, name: "signature", pending: func(r *room) {
		bob := r.client("bob")
		leaf, signer := bob.group.nextLeaf(nil)
		key, _ := r.hub.Suite().GenerateKeyPair(rand.Reader)
		leaf.EncryptionKey, leaf.Source = key.Public(), SourceUpdate
		if err := leaf.sign(rand.Reader, signer, r.hub.GroupID(), 2); err != nil { // another leaf
			r.t.Fatal(err)
		}
		r.refused(RuleUpdate, bob, Proposal{Type: ProposalUpdate, Update: &Update{leaf}})
	}},
	{rule: RuleUpdate, name: "another client", pending: func(r *room) {
		bob := r.client("bob")
		leaf, signer := bob.group.nextLeaf(nil)
		key, _ := r.hub.Suite().GenerateKeyPair(rand.Reader)
		leaf.EncryptionKey, leaf.Source, leaf.Credential = key.Public(), SourceUpdate, BasicCredential([]byte("mallory"))
		if err := leaf.sign(rand.Reader, signer, r.hub.GroupID(), 1); err != nil {
			r.t.Fatal(err)
		}
		r.refused(RuleUpdate, bob, Proposal{Type: ProposalUpdate, Update: &Update{leaf}})
	}},
	{rule: RuleSameLeaf, name: "two Removes", proposals: list(remove(1), remove(1))},
	{rule: RuleSameLeaf, name: "SelfRemove and Remove", pending: func(r *room) {
		r.propose(r.client("carol"), proposeAnyway(r.t, r.client("carol"), WireFormatPublicMessage, Proposal{Type: ProposalSelfRemove}), nil)
	}, proposals: list(remove(2))},
	{rule: RulePSK, name: "nonce", proposals: list(pskProposal(PreSharedKeyID{Type: PSKExternal, PSKID: []byte("x"), PSKNonce: []byte("short")}))},
	{rule: RulePSK, name: "branch", proposals: list(pskProposal(PreSharedKeyID{Type: PSKResumption, Usage: UsageBranch, PSKGroupID: []byte("x"), PSKNonce: longNonce}))},
	{rule: RuleSamePSK, proposals: list(
		pskProposal(PreSharedKeyID{Type: PSKExternal, PSKID: []byte("x"), PSKNonce: longNonce}),
		pskProposal(PreSharedKeyID{Type: PSKExternal, PSKID: []byte("x"), PSKNonce: longNonce}))},
	{rule: RuleReInit, name: "version", proposals: list(Proposal{Type: ProposalReInit, ReInit: &ReInit{GroupID: []byte("x"), CipherSuite: testSuite}})},
	{rule: RuleReInit, name: "cipher suite", proposals: list(Proposal{Type: ProposalReInit, ReInit: &ReInit{GroupID: []byte("x"), Version: MLS10, CipherSuite: 0x0a0a}})},
	{rule: RuleReInitAlone, proposals: list(
		Proposal{Type: ProposalReInit, ReInit: &ReInit{GroupID: []byte("x"), Version: MLS10, CipherSuite: testSuite}}, remove(1))},
	{rule: RuleExternalInit, name: "in a member's commit", proposals: list(Proposal{Type: ProposalExternalInit, ExternalInit: &ExternalInit{[]byte("x")}})},
	{rule: RuleExtensions, name: "not supported", proposals: list(groupExtensions(Extension{0xf123, nil}))},
	{rule: RuleExtensions, name: "malformed", proposals: list(groupExtensions(Extension{ExtensionRequiredCapabilities, []byte{1}}))},
	{rule: RuleExtensions, name: "required and not supported", proposals: list(groupExtensions(Extension{ExtensionRequiredCapabilities,
		marshal(&RequiredCapabilities{ProposalTypes: []ProposalType{0xf009}})}))},
	{rule: RuleSameExtensions, proposals: list(groupExtensions(), groupExtensions())},
	{rule: RuleSelfRemove, name: "by value", proposals: list(Proposal{Type: ProposalSelfRemove})},
	{rule: RuleSelfRemove, name: "encrypted", pending: func(r *room) {
		m := proposeAnyway(r.t, r.client("bob"), WireFormatPrivateMessage, Proposal{Type: ProposalSelfRemove})
		if _, err := r.client("carol").group.ReceiveProposal(m); ruleOf(err) != RuleSelfRemove {
			r.t.Errorf("received: %v", err)
		}
	}},
	{rule: RuleProposalCapability, pending: func(r *room) {}, proposals: func(r *room) []Proposal {
		x := newClient(r.t, "plain")
		x.leaf.Capabilities.Proposals = nil
		r.commit(r.client("alice"), CommitOptions{Proposals: []Proposal{add(x.keyPackage(r.t))}}, x)
		return []Proposal{{Type: 0xf001, Custom: []byte("x")}}
	}},
	{rule: RuleAppData, name: "unknown component", proposals: list(appData(0x99, AppDataOpUpdate, "x"))},
	{rule: RuleAppData, name: "nothing to remove", proposals: list(appData(0xf000, AppDataOpRemove, ""))},
	{rule: RuleAppData, name: "refused", proposals: list(appData(0xf000, AppDataOpUpdate, "refuse"))},
	{rule: RuleAppData, name: "built-in component removed", proposals: list(appData(ComponentAppComponents, AppDataOpRemove, ""))},
	{rule: RuleAppDataMix, name: "update and remove", proposals: list(appData(0xf000, AppDataOpUpdate, "x"), appData(0xf000, AppDataOpRemove, ""))},
	{rule: RuleAppDataMix, name: "two removes", proposals: list(appData(0xf000, AppDataOpRemove, ""), appData(0xf000, AppDataOpRemove, ""))},
	{rule: RuleAppEphemeral, proposals: list(Proposal{Type: ProposalAppEphemeral, AppEphemeral: &AppEphemeral{0x99, nil}})},
	{rule: RuleDictionary, proposals: func(r *room) []Proposal {
		required := Extension{ExtensionRequiredCapabilities, marshal(&RequiredCapabilities{ProposalTypes: []ProposalType{ProposalAppDataUpdate}})}
		r.commit(r.client("alice"), CommitOptions{Proposals: []Proposal{groupExtensions(required)}})
		return []Proposal{groupExtensions(required, Extension{ExtensionAppDataDictionary, marshal(&AppDataDictionary{{0xf000, []byte("x")}})})}
	}},
	{rule: RuleComponent, name: "not a list", proposals: list(appData(ComponentAppComponents, AppDataOpUpdate, "\x01"))},
	{rule: RuleComponent, name: "not increasing", proposals: list(appData(ComponentAppComponents, AppDataOpUpdate, "\x04\xf0\x00\xf0\x00"))},
	{rule: RuleComponent, name: "a member lacks it", proposals: list(appData(ComponentAppComponents, AppDataOpUpdate, "\x02\xf0\x00"))},
	{rule: RuleComponent, name: "data and not required", proposals: list(appData(ComponentAppComponents, AppDataOpUpdate, "\x00"), appData(0xf000, AppDataOpUpdate, "x"))},
	{rule: RuleMediaType, proposals: list(appData(ComponentContentMediaTypes, AppDataOpUpdate, string(marshal(&MediaTypeList{[]MediaType{{Type: []byte("text/plain")}}}))))},
	{rule: RuleWireFormat, proposals: list(groupExtensions(Extension{ExtensionRequiredWireFormats, marshal(&WireFormats{[]WireFormat{WireFormatSemiPrivateMessage}})}))},
	{rule: RuleSafeAAD, aad: []byte{2, 0}, proposals: func(r *room) []Proposal {
		r.commit(r.client("alice"), CommitOptions{Proposals: []Proposal{appData(ComponentSafeAAD, AppDataOpUpdate, "\x00")}})
		return nil
	}},
	{rule: RuleApplication, proposals: list(Proposal{Type: ProposalAppEphemeral, AppEphemeral: &AppEphemeral{0xf666, []byte("refuse")}})},
	{rule: RulePSKUnknown, proposals: list(pskProposal(PreSharedKeyID{Type: PSKExternal, PSKID: []byte("unknown"), PSKNonce: longNonce}))},
}

// cache puts a proposal of a client into its own cache.
func (r *room) cache(name string, p Proposal) {
	r.t.Helper()
	c := r.client(name)
	a, err := c.group.sign(rand.Reader, WireFormatPublicMessage, FramedContent{ContentType: ContentProposal, Proposal: &p})
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := c.group.public.cacheProposal(a, nil); err != nil {
		r.t.Fatal(err)
	}
}

// refused verifies that nobody receives a proposal.
func (r *room) refused(rule Rule, by *client, p Proposal) {
	r.t.Helper()
	m := proposeAnyway(r.t, by, WireFormatPublicMessage, p)
	if _, err := r.hub.ReceiveProposal(wire(r.t, m)); ruleOf(err) != rule {
		r.t.Errorf("hub receives: %v, want rule %s", err, rule)
	}
	for _, c := range r.clients {
		if c == by {
			continue
		}
		if _, err := c.group.ReceiveProposal(wire(r.t, m)); ruleOf(err) != rule {
			r.t.Errorf("%s receives: %v, want rule %s", c.name, err, rule)
		}
	}
}

// TestRules breaks each rule. The sender of the commit, a receiver and the hub
// must all name it, and none may have changed.
func TestRules(t *testing.T) {
	for _, test := range ruleCases {
		name := string(test.rule)
		if test.name != "" {
			name += "/" + test.name
		}
		t.Run(name, func(t *testing.T) {
			r := newRoom(t, nil, "alice", "bob", "carol", "dave")
			if test.pending != nil {
				test.pending(r)
			}
			if test.proposals == nil && len(r.hub.Pending()) == 0 {
				return // refused before it was pending
			}
			var proposals []Proposal
			if test.proposals != nil {
				proposals = test.proposals(r)
			}
			alice, bob := r.client("alice"), r.client("bob")
			var refs []ProposalRef
			var commit Commit
			for _, p := range alice.group.Pending() {
				refs = append(refs, p.Ref)
				commit.Proposals = append(commit.Proposals, ProposalOrRef{Reference: p.Ref})
			}
			for i := range proposals {
				commit.Proposals = append(commit.Proposals, ProposalOrRef{Proposal: &proposals[i]})
			}
			before := bytes.Clone(alice.group.public.state.encoded)
			authenticator := alice.group.EpochAuthenticator()
			_, err := alice.group.Stage(rand.Reader, CommitOptions{Proposals: proposals, References: refs, AuthenticatedData: test.aad})
			if ruleOf(err) != test.rule {
				t.Errorf("sender: %v, want rule %s", err, test.rule)
			}
			if test.rule == RulePSKUnknown {
				return // the hub has no PSKs, and a receiver asks after the path
			}
			commit.Path = alice.emptyPath(t)
			if test.rule == RuleApplication || test.rule == RuleCredentialInvalid || test.rule == RuleExtensions ||
				test.rule == RuleComponent || test.rule == RuleMediaType || test.rule == RuleWireFormat {
				commit.Path = alice.pathOver(t, proposals)
			}
			m := commitAnyway(t, alice, test.aad, commit)
			if _, err := bob.group.StageReceived(wire(t, m)); ruleOf(err) != test.rule {
				t.Errorf("receiver: %v, want rule %s", err, test.rule)
			}
			if _, err := r.hub.Stage(wire(t, m)); ruleOf(err) != test.rule {
				t.Errorf("hub: %v, want rule %s", err, test.rule)
			}
			if !bytes.Equal(alice.group.public.state.encoded, before) || !bytes.Equal(alice.group.EpochAuthenticator(), authenticator) ||
				!bytes.Equal(bob.group.EpochAuthenticator(), authenticator) || !bytes.Equal(r.hub.state.encoded, before) {
				t.Error("a refused commit changed the group")
			}
		})
	}
}

// emptyPath returns a path that fits the tree as it is.
func (c *client) emptyPath(t testing.TB) *UpdatePath {
	t.Helper()
	return c.pathOver(t, nil)
}

// pathOver returns a path that fits the tree after the Adds and Removes among
// the proposals.
func (c *client) pathOver(t testing.TB, proposals []Proposal) *UpdatePath {
	t.Helper()
	g := c.group
	tree := g.Tree().Fork()
	var added []LeafIndex
	for _, p := range proposals {
		if p.Type == ProposalAdd {
			i, err := tree.Add(&p.Add.KeyPackage.LeafNode)
			if err != nil {
				t.Fatal(err)
			}
			added = append(added, i)
		}
	}
	leaf, signer := g.nextLeaf(nil)
	path, err := tree.NewPath(rand.Reader, g.OwnLeaf(), leaf, g.GroupID(), func(tbs []byte) ([]byte, error) {
		return signer.SignWithLabel(rand.Reader, "LeafNodeTBS", tbs)
	})
	if err != nil {
		t.Fatal(err)
	}
	update, err := path.Encrypt(tree, nil, added)
	if err != nil {
		t.Fatal(err)
	}
	return update
}

// TestCommitRules breaks the rules for paths, tags and external commits.
func TestCommitRules(t *testing.T) {
	r := newRoom(t, nil, "alice", "bob", "carol")
	alice, bob := r.client("alice"), r.client("bob")
	check := func(name string, rule Rule, m *MLSMessage) {
		t.Helper()
		if _, err := bob.group.StageReceived(wire(t, m)); ruleOf(err) != rule {
			t.Errorf("%s, receiver: %v, want rule %s", name, err, rule)
		}
		if _, err := r.hub.Stage(wire(t, m)); ruleOf(err) != rule && rule != RuleConfirmationTag {
			t.Errorf("%s, hub: %v, want rule %s", name, err, rule)
		}
	}
	check("no path", RulePathRequired, commitAnyway(t, alice, nil, Commit{}))
	p := remove(r.leafOf("carol"))
	check("no path for a Remove", RulePathRequired, commitAnyway(t, alice, nil, Commit{Proposals: []ProposalOrRef{{Proposal: &p}}}))
	check("unknown reference", RuleProposalReference, commitAnyway(t, alice, nil, Commit{Proposals: []ProposalOrRef{{Reference: ProposalRef("x")}}}))

	path := alice.emptyPath(t)
	path.LeafNode.Signature[0] ^= 1
	check("leaf signature", RulePath, commitAnyway(t, alice, nil, Commit{Path: path}))
	path = alice.emptyPath(t)
	path.Nodes = path.Nodes[1:]
	check("short path", RulePath, commitAnyway(t, alice, nil, Commit{Path: path}))
	path = alice.emptyPath(t)
	path.Nodes[0].EncryptedPathSecret = nil
	check("no ciphertext", RulePath, commitAnyway(t, alice, nil, Commit{Path: path}))
	path = alice.emptyPath(t)
	path.Nodes[0].EncryptionKey = alice.group.Tree().Leaf(1).EncryptionKey
	check("known key", RulePath, commitAnyway(t, alice, nil, Commit{Path: path}))

	// A path that opens, with a wrong confirmation_tag.
	staged, err := alice.group.Stage(rand.Reader, CommitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	check("confirmation_tag", RuleConfirmationTag, commitAnyway(t, alice, nil, *staged.Message().PublicMessage.Content.Commit))

	// External commits.
	dave := newClient(t, "dave")
	_, pub, err := sendExternalInit(r.hub.Suite(), mustKey(t, alice).Public())
	if err != nil {
		t.Fatal(err)
	}
	init := Proposal{Type: ProposalExternalInit, ExternalInit: &ExternalInit{pub}}
	value := func(p ...Proposal) (out []ProposalOrRef) {
		for i := range p {
			out = append(out, ProposalOrRef{Proposal: &p[i]})
		}
		return out
	}
	check("no ExternalInit", RuleExternalInit, externalAnyway(t, r, dave, nil, nil))
	check("two ExternalInits", RuleExternalInit, externalAnyway(t, r, dave, value(init, init), nil))
	check("Add", RuleExternalProposal, externalAnyway(t, r, dave, value(init, add(newClient(t, "x").keyPackage(t))), nil))
	check("two Removes", RuleExternalProposal, externalAnyway(t, r, dave, value(init, remove(1), remove(2)), nil))
	check("Remove of another", RuleExternalRemove, externalAnyway(t, r, dave, value(init, remove(2)), nil))
	check("SelfRemove by value", RuleExternalProposal, externalAnyway(t, r, dave, value(init, Proposal{Type: ProposalSelfRemove}), nil))
	check("reused signature key", RulePath, func() *MLSMessage {
		impostor := newClient(t, "dave")
		m := externalAnyway(t, r, impostor, value(init), nil)
		path := m.PublicMessage.Content.Commit.Path
		path.LeafNode.Source = SourceUpdate
		a, err := signContent(rand.Reader, impostor.leaf.Signer, WireFormatPublicMessage, FramedContent{
			GroupID: r.hub.GroupID(), Epoch: r.hub.Epoch(), Sender: Sender{Type: SenderNewMemberCommit},
			ContentType: ContentCommit, Commit: &Commit{Proposals: value(init), Path: path},
		}, r.hub.state.encoded)
		if err != nil {
			t.Fatal(err)
		}
		a.Auth.ConfirmationTag = make([]byte, 32)
		out := Message(&PublicMessage{Content: a.Content, Auth: a.Auth})
		return &out
	}())
	check("by reference", RuleExternalProposal, func() *MLSMessage {
		m, err := bob.group.ProposeUpdate(rand.Reader, nil, SendOptions{})
		ref := r.propose(bob, m, err)
		return externalAnyway(t, r, dave, append(value(init), ProposalOrRef{Reference: ref}), nil)
	}())
}

func mustKey(t testing.TB, c *client) *suite.PrivateKey {
	t.Helper()
	key, err := c.group.secrets.externalKey(c.group.Suite())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestRulesCovered fails when a rule has no test that breaks it.
func TestRulesCovered(t *testing.T) {
	source, err := os.ReadFile("errors.go")
	if err != nil {
		t.Fatal(err)
	}
	var tests []byte
	for _, name := range []string{"rules_test.go", "lifecycle_test.go", "join_test.go"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		tests = append(tests, b...)
	}
	docs, err := os.ReadFile("../docs/mls-rules.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`(?m)^\t(Rule\w+)\s+Rule = "([\w-]+)"`).FindAllSubmatch(source, -1)
	if len(names) < 40 {
		t.Fatalf("found %d rules", len(names))
	}
	for _, name := range names {
		if !regexp.MustCompile(`\b` + string(name[1]) + `\b`).Match(tests) {
			t.Errorf("no test breaks %s", name[1])
		}
		if !bytes.Contains(docs, append(append([]byte("| `"), name[2]...), "` |"...)) {
			t.Errorf("docs/mls-rules.md does not have %s", name[2])
		}
	}
}
