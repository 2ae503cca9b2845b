package mls

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/comity-im/comity/tlspl"
)

// wireTypes has one constructor for everything that is decoded from peers.
var wireTypes = map[string]func() tlspl.Coder{
	"MLSMessage":              func() tlspl.Coder { return new(MLSMessage) },
	"PublicMessage":           func() tlspl.Coder { return new(PublicMessage) },
	"PrivateMessage":          func() tlspl.Coder { return new(PrivateMessage) },
	"SemiPrivateMessage":      func() tlspl.Coder { return new(SemiPrivateMessage) },
	"AuthenticatedContent":    func() tlspl.Coder { return new(AuthenticatedContent) },
	"Welcome":                 func() tlspl.Coder { return new(Welcome) },
	"GroupInfo":               func() tlspl.Coder { return new(GroupInfo) },
	"GroupContext":            func() tlspl.Coder { return new(GroupContext) },
	"GroupSecrets":            func() tlspl.Coder { return new(GroupSecrets) },
	"KeyPackage":              func() tlspl.Coder { return new(KeyPackage) },
	"LeafNode":                func() tlspl.Coder { return new(LeafNode) },
	"Proposal":                func() tlspl.Coder { return new(Proposal) },
	"Commit":                  func() tlspl.Coder { return new(Commit) },
	"Credential":              func() tlspl.Coder { return new(Credential) },
	"PreSharedKeyID":          func() tlspl.Coder { return new(PreSharedKeyID) },
	"Node":                    func() tlspl.Coder { return new(Node) },
	"RatchetTreeExtension":    func() tlspl.Coder { return new(RatchetTreeExtension) },
	"RatchetTreeOption":       func() tlspl.Coder { return new(RatchetTreeOption) },
	"PartialGroupInfo":        func() tlspl.Coder { return new(PartialGroupInfo) },
	"RequiredCapabilities":    func() tlspl.Coder { return new(RequiredCapabilities) },
	"ExternalSenders":         func() tlspl.Coder { return new(ExternalSenders) },
	"ExternalReceivers":       func() tlspl.Coder { return new(ExternalReceivers) },
	"ExternalPub":             func() tlspl.Coder { return new(ExternalPub) },
	"WireFormats":             func() tlspl.Coder { return new(WireFormats) },
	"AppDataDictionary":       func() tlspl.Coder { return new(AppDataDictionary) },
	"SafeAAD":                 func() tlspl.Coder { return new(SafeAAD) },
	"ComponentsList":          func() tlspl.Coder { return new(ComponentsList) },
	"MediaTypeList":           func() tlspl.Coder { return new(MediaTypeList) },
	"ApplicationFraming":      func() tlspl.Coder { return new(ApplicationFraming) },
	"AppAck":                  func() tlspl.Coder { return new(AppAck) },
	"ComponentOperationLabel": func() tlspl.Coder { return new(ComponentOperationLabel) },
	"perMessageKeyAndNonces":  func() tlspl.Coder { return new(perMessageKeyAndNonces) },
}

func testLeaf(source LeafNodeSource) LeafNode {
	leaf := LeafNode{
		EncryptionKey: []byte("enc"), SignatureKey: []byte("sig"), Credential: BasicCredential([]byte("alice")),
		Capabilities: Capabilities{
			Versions: []ProtocolVersion{MLS10}, CipherSuites: []CipherSuite{1, 0x0a0a}, Extensions: []ExtensionType{6},
			Proposals: []ProposalType{8, 10}, Credentials: []CredentialType{1, 2},
		},
		Source:     source,
		Extensions: Extensions{{ExtensionApplicationID, []byte("id")}},
		Signature:  []byte("signature"),
	}
	switch source {
	case SourceKeyPackage:
		leaf.Lifetime = Lifetime{1, 2}
	case SourceCommit:
		leaf.ParentHash = []byte("parent")
	}
	return leaf
}

func testKeyPackage() KeyPackage {
	return KeyPackage{Version: MLS10, CipherSuite: 1, InitKey: []byte("init"), LeafNode: testLeaf(SourceKeyPackage), Signature: []byte("s")}
}

func testProposals() []Proposal {
	return []Proposal{
		{Type: ProposalAdd, Add: &Add{testKeyPackage()}},
		{Type: ProposalUpdate, Update: &Update{testLeaf(SourceUpdate)}},
		{Type: ProposalRemove, Remove: &Remove{7}},
		{Type: ProposalPSK, PreSharedKey: &PreSharedKey{PreSharedKeyID{Type: PSKExternal, PSKID: []byte("x"), PSKNonce: []byte("n")}}},
		{Type: ProposalPSK, PreSharedKey: &PreSharedKey{PreSharedKeyID{Type: PSKResumption, Usage: UsageBranch, PSKGroupID: []byte("g"), PSKEpoch: 9, PSKNonce: []byte("n")}}},
		{Type: ProposalPSK, PreSharedKey: &PreSharedKey{PreSharedKeyID{Type: PSKApplication, ComponentID: 5, PSKID: []byte("x"), PSKNonce: []byte("n")}}},
		{Type: ProposalReInit, ReInit: &ReInit{GroupID: []byte("g"), Version: MLS10, CipherSuite: 2}},
		{Type: ProposalExternalInit, ExternalInit: &ExternalInit{[]byte("kem")}},
		{Type: ProposalGroupContextExtensions, GroupContextExtensions: &GroupContextExtensions{Extensions{{3, []byte{0, 0, 0}}}}},
		{Type: ProposalAppDataUpdate, AppDataUpdate: &AppDataUpdate{ComponentID: 0x22, Op: AppDataOpUpdate, Update: []byte("u")}},
		{Type: ProposalAppDataUpdate, AppDataUpdate: &AppDataUpdate{ComponentID: 0x22, Op: AppDataOpRemove}},
		{Type: ProposalAppEphemeral, AppEphemeral: &AppEphemeral{5, []byte("e")}},
		{Type: ProposalSelfRemove},
		{Type: 0xf001, Custom: []byte("mine")},
	}
}

func testGroupContext() GroupContext {
	return GroupContext{
		Version: MLS10, CipherSuite: 1, GroupID: []byte("group"), Epoch: 3, TreeHash: []byte("tree"),
		ConfirmedTranscriptHash: []byte("transcript"), Extensions: Extensions{{6, []byte{0}}, {3, []byte{0, 0, 0}}},
	}
}

// samples returns values that between them take every case of every select.
func samples() map[string][]tlspl.Coder {
	all := map[string][]tlspl.Coder{}
	add := func(name string, v ...tlspl.Coder) { all[name] = append(all[name], v...) }

	commit := &Commit{Proposals: []ProposalOrRef{{Reference: ProposalRef("ref")}}}
	for _, p := range testProposals() {
		add("Proposal", &p)
		commit.Proposals = append(commit.Proposals, ProposalOrRef{Proposal: &p})
	}
	ciphertext := HPKECiphertext{[]byte("kem"), []byte("ct")}
	commit.Path = &UpdatePath{testLeaf(SourceCommit), []UpdatePathNode{{[]byte("key"), []HPKECiphertext{ciphertext}}}}
	add("Commit", commit, &Commit{})

	for _, s := range []LeafNodeSource{SourceKeyPackage, SourceUpdate, SourceCommit} {
		leaf := testLeaf(s)
		add("LeafNode", &leaf)
	}
	kp := testKeyPackage()
	add("KeyPackage", &kp)
	basic := BasicCredential([]byte("bob"))
	x509 := X509Credential([]byte("leaf"), []byte("ca"))
	add("Credential", &basic, &x509,
		&Credential{Type: CredentialMulti, Bindings: []CredentialBinding{{1, basic, []byte("key"), []byte("sig")}}},
		&Credential{Type: CredentialWeakMulti}, &Credential{Type: 0xf000, Custom: []byte("own")})
	for _, p := range testProposals() {
		if p.PreSharedKey != nil {
			add("PreSharedKeyID", &p.PreSharedKey.PSK)
		}
	}
	leaf := testLeaf(SourceUpdate)
	parent := &ParentNode{[]byte("key"), []byte("hash"), []LeafIndex{1, 2}}
	add("Node", &Node{}, &Node{Leaf: &leaf}, &Node{Parent: parent})
	tree := RatchetTreeExtension{{Leaf: &leaf}, {}, {Leaf: &leaf}, {Parent: parent}, {Leaf: &leaf}}
	add("RatchetTreeExtension", &tree)
	add("RatchetTreeOption",
		&RatchetTreeOption{Representation: RatchetTreeFull, RatchetTree: marshal(&tree)},
		&RatchetTreeOption{Representation: RatchetTreeHTTPSURI, RatchetTreeURL: []byte("https://x"), TreeSignature: []byte("s")},
		&RatchetTreeOption{Representation: RatchetTreeOutOfBand, TreeSignature: []byte("s")},
		&RatchetTreeOption{Representation: RatchetTreeDistributionService})
	add("PartialGroupInfo", &PartialGroupInfo{PresenceNoRatchetTree, Extensions{{4, []byte{0}}}, []byte("s")})

	gc := testGroupContext()
	info := &GroupInfo{GroupContext: gc, Extensions: Extensions{{4, []byte{0}}}, ConfirmationTag: []byte("tag"), Signer: 2, Signature: []byte("s")}
	add("GroupContext", &gc)
	add("GroupInfo", info)
	add("GroupSecrets", &GroupSecrets{[]byte("joiner"), &PathSecret{[]byte("path")}, []PreSharedKeyID{{Type: PSKExternal, PSKID: []byte("x"), PSKNonce: []byte("n")}}}, &GroupSecrets{})
	welcome := &Welcome{1, []EncryptedGroupSecrets{{KeyPackageRef("ref"), ciphertext}}, []byte("info")}
	add("Welcome", welcome)

	semi := &SemiPrivateMessage{
		GroupID: []byte("g"), Epoch: 1, ContentType: ContentCommit, AuthenticatedData: []byte("a"), PartialContextHash: []byte("p"),
		KeysForExternalReceivers: []KeyForExternalReceiver{{ExternalReceiverRef("r"), ciphertext}}, FramedContentTBSHash: []byte("h"),
		EncryptedSenderData: []byte("s"), Ciphertext: []byte("c"),
	}
	add("SemiPrivateMessage", semi)
	private := &PrivateMessage{[]byte("g"), 1, ContentApplication, []byte("a"), []byte("s"), []byte("c")}
	add("PrivateMessage", private)
	proposal := testProposals()[2]
	for _, sender := range []Sender{MemberSender(3), {Type: SenderExternal, SenderIndex: 1}, {Type: SenderNewMemberProposal}, {Type: SenderNewMemberCommit}} {
		public := &PublicMessage{
			Content: FramedContent{GroupID: []byte("g"), Epoch: 2, Sender: sender, ContentType: ContentProposal, Proposal: &proposal},
			Auth:    FramedContentAuthData{Signature: []byte("s")},
		}
		if sender.Type == SenderMember {
			public.MembershipTag = []byte("m")
		}
		add("PublicMessage", public)
	}
	public := &PublicMessage{
		Content: FramedContent{GroupID: []byte("g"), Sender: MemberSender(1), AuthenticatedData: []byte("a"), ContentType: ContentCommit, Commit: commit},
		Auth:    FramedContentAuthData{[]byte("s"), []byte("tag")}, MembershipTag: []byte("m"),
	}
	add("PublicMessage", public)
	add("AuthenticatedContent", &AuthenticatedContent{WireFormatPublicMessage, public.Content, public.Auth})
	for _, v := range []tlspl.Coder{semi, private, public, welcome, info, &kp} {
		m := Message(v)
		add("MLSMessage", &m)
	}

	add("RequiredCapabilities", &RequiredCapabilities{[]ExtensionType{6}, []ProposalType{8}, []CredentialType{1}})
	add("ExternalSenders", &ExternalSenders{{[]byte("key"), basic}})
	add("ExternalReceivers", &ExternalReceivers{{[]byte("key"), basic}})
	add("ExternalPub", &ExternalPub{[]byte("key")})
	add("WireFormats", &WireFormats{[]WireFormat{WireFormatSemiPrivateMessage}})
	add("AppDataDictionary", &AppDataDictionary{{1, []byte("one")}, {0x22, nil}})
	add("SafeAAD", &SafeAAD{[]SafeAADItem{{0x20, []byte("x")}, {0x21, nil}}})
	add("ComponentsList", &ComponentsList{[]ComponentID{1, 2}})
	media := MediaType{[]byte("text/plain"), []Parameter{{[]byte("charset"), []byte("UTF-8")}}}
	add("MediaTypeList", &MediaTypeList{[]MediaType{media}})
	add("ApplicationFraming", &ApplicationFraming{media, []byte("hi")}, &ApplicationFraming{InnerApplicationContent: []byte("hi")})
	add("AppAck", &AppAck{[]MessageRange{{1, 2, 3}}})
	add("ComponentOperationLabel", &ComponentOperationLabel{5, []byte("label")})
	add("perMessageKeyAndNonces", &perMessageKeyAndNonces{[]byte("k"), []byte("n"), [4]byte{1}, 2})
	return all
}

func TestWireRoundTrip(t *testing.T) {
	all := samples()
	for name, newValue := range wireTypes {
		if len(all[name]) == 0 {
			t.Errorf("%s has no sample", name)
		}
		for i, v := range all[name] {
			b, err := tlspl.Marshal(v)
			if err != nil {
				t.Errorf("%s %d: %v", name, i, err)
				continue
			}
			got := newValue()
			if err := tlspl.Unmarshal(b, got); err != nil {
				t.Errorf("%s %d: %v", name, i, err)
				continue
			}
			if again, _ := tlspl.Marshal(got); !bytes.Equal(again, b) {
				t.Errorf("%s %d: %x re-encodes as %x", name, i, b, again)
			}
			for n := range b {
				if tlspl.Unmarshal(b[:n], newValue()) == nil {
					t.Errorf("%s %d: prefix of %d of %d octets is accepted", name, i, n, len(b))
				}
			}
		}
	}
}

// The octets that a signature covers are kept and not made again.
func TestRawKept(t *testing.T) {
	leaf := testLeaf(SourceCommit)
	made, err := leaf.tbsBytes([]byte("g"), 3)
	if err != nil {
		t.Fatal(err)
	}
	var got LeafNode
	if err := tlspl.Unmarshal(marshal(&leaf), &got); err != nil {
		t.Fatal(err)
	}
	kept, err := got.tbsBytes([]byte("g"), 3)
	if err != nil || !bytes.Equal(made, kept) || got.tbs == nil {
		t.Errorf("LeafNodeTBS: %x, want %x (%v)", kept, made, err)
	}

	kp := testKeyPackage()
	made, _ = kp.tbsBytes()
	var gotKP KeyPackage
	if err := tlspl.Unmarshal(marshal(&kp), &gotKP); err != nil {
		t.Fatal(err)
	}
	if kept, _ = gotKP.tbsBytes(); !bytes.Equal(made, kept) || !bytes.Equal(gotKP.raw, marshal(&kp)) {
		t.Errorf("KeyPackageTBS: %x, want %x", kept, made)
	}
}

func TestWireRefused(t *testing.T) {
	twice := Extensions{{1, nil}, {1, nil}}
	many := make(Extensions, 20)
	for i := range many {
		many[i].Type = ExtensionType(i)
	}
	many[19].Type = 3
	for _, test := range []struct {
		name string
		v    tlspl.Coder
		want error
	}{
		{"extension twice", &twice, ErrDuplicateExtension},
		{"extension twice among many", &many, ErrDuplicateExtension},
		{"dictionary order", &AppDataDictionary{{2, nil}, {1, nil}}, tlspl.ErrOrder},
		{"dictionary duplicate", &AppDataDictionary{{2, nil}, {2, nil}}, tlspl.ErrOrder},
		{"SafeAAD order", &SafeAAD{[]SafeAADItem{{2, nil}, {1, nil}}}, tlspl.ErrOrder},
		{"empty media types", &MediaTypeList{}, ErrNoMediaType},
		{"parameters without type", &ApplicationFraming{MediaType: MediaType{Parameters: []Parameter{{}}}}, ErrMediaTypeParameters},
		{"version", &KeyPackage{Version: 2}, ErrVersion},
		{"wire format", &MLSMessage{WireFormat: 9}, ErrWireFormat},
		{"missing body", &MLSMessage{WireFormat: WireFormatWelcome}, tlspl.ErrValue},
		{"proposal type 0", &Proposal{}, tlspl.ErrValue},
		{"sender type", &Sender{Type: 5}, tlspl.ErrValue},
		{"content type", &PrivateMessage{ContentType: 4}, ErrContentType},
		{"semiprivate application", &SemiPrivateMessage{ContentType: ContentApplication}, ErrContentType},
		{"PSK type", &PreSharedKeyID{Type: 4}, tlspl.ErrValue},
		{"PSK usage", &PreSharedKeyID{Type: PSKResumption}, tlspl.ErrValue},
		{"tree representation", &RatchetTreeOption{}, tlspl.ErrValue},
		{"tree bytes", &RatchetTreeOption{Representation: RatchetTreeFull, RatchetTree: []byte{5}}, tlspl.ErrLength},
	} {
		if _, err := tlspl.Marshal(test.v); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
	var content privateMessageContent
	content.Content, content.Auth = &FramedContent{ContentType: ContentApplication}, &FramedContentAuthData{}
	if err := tlspl.Unmarshal([]byte{1, 'x', 1, 's', 0, 1}, &content); !errors.Is(err, ErrPadding) {
		t.Errorf("padding: %v", err)
	}
	// A struct that is refused names the field.
	b := marshal(&Commit{Proposals: []ProposalOrRef{{Proposal: &Proposal{Type: ProposalRemove, Remove: &Remove{1}}}}})
	b[3] = 0 // proposal type
	err := tlspl.Unmarshal(b, new(Commit))
	if err == nil || !strings.Contains(err.Error(), "proposals[0].proposal.proposal_type") {
		t.Errorf("field path: %v", err)
	}
}

func TestDictionary(t *testing.T) {
	var d AppDataDictionary
	for _, id := range []ComponentID{5, 1, 9} {
		d = d.With(id, []byte{byte(id)})
	}
	want := AppDataDictionary{{1, []byte{1}}, {5, []byte{5}}, {9, []byte{9}}}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("%v, want %v", d, want)
	}
	e := d.With(5, []byte("new")).Without(1)
	if v, ok := e.Find(5); !ok || string(v) != "new" || len(e) != 2 {
		t.Errorf("%v", e)
	}
	if v, _ := d.Find(5); v[0] != 5 || len(d) != 3 {
		t.Errorf("changed the original: %v", d)
	}
}

func TestVectorsMessages(t *testing.T) {
	var vectors []map[string]hexBytes
	readVectors(t, "messages.json", &vectors)
	message := func() tlspl.Coder { return new(MLSMessage) }
	types := map[string]func() tlspl.Coder{
		"mls_welcome":                       message,
		"mls_group_info":                    message,
		"mls_key_package":                   message,
		"public_message_application":        message,
		"public_message_proposal":           message,
		"public_message_commit":             message,
		"private_message":                   message,
		"ratchet_tree":                      wireTypes["RatchetTreeExtension"],
		"group_secrets":                     wireTypes["GroupSecrets"],
		"add_proposal":                      func() tlspl.Coder { return new(Add) },
		"update_proposal":                   func() tlspl.Coder { return new(Update) },
		"remove_proposal":                   func() tlspl.Coder { return new(Remove) },
		"pre_shared_key_proposal":           func() tlspl.Coder { return new(PreSharedKey) },
		"re_init_proposal":                  func() tlspl.Coder { return new(ReInit) },
		"external_init_proposal":            func() tlspl.Coder { return new(ExternalInit) },
		"group_context_extensions_proposal": func() tlspl.Coder { return new(GroupContextExtensions) },
		"commit":                            wireTypes["Commit"],
	}
	for i, vector := range vectors {
		if len(vector) != len(types) {
			t.Fatalf("vector %d has %d messages, want %d", i, len(vector), len(types))
		}
		for name, b := range vector {
			v := types[name]()
			if err := tlspl.Unmarshal(b, v); err != nil {
				t.Errorf("%d %s: %v", i, name, err)
				continue
			}
			if again, err := tlspl.Marshal(v); err != nil || !bytes.Equal(again, b) {
				t.Errorf("%d %s: re-encodes as %x, want %x (%v)", i, name, again, b, err)
			}
		}
	}
}

func TestVectorsDeserialization(t *testing.T) {
	var vectors []struct {
		Header hexBytes `json:"vlbytes_header"`
		Length int      `json:"length"`
	}
	readVectors(t, "deserialization.json", &vectors)
	for _, v := range vectors {
		if got := tlspl.AppendLength(nil, v.Length); !bytes.Equal(got, v.Header) {
			t.Errorf("%d: %x, want %x", v.Length, got, v.Header)
		}
		in := append(bytes.Clone(v.Header), make([]byte, v.Length)...)
		var got opaque
		if err := tlspl.UnmarshalAlias(in, &got); err != nil || len(got) != v.Length {
			t.Errorf("%x: %d octets, %v", v.Header, len(got), err)
		}
	}
}

// fuzzWire checks that what is accepted is written as the same bytes.
func fuzzWire(f *testing.F, name string) {
	for _, v := range samples()[name] {
		f.Add(marshal(v))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v := wireTypes[name]()
		if tlspl.Unmarshal(b, v) != nil {
			return
		}
		if again, err := tlspl.Marshal(v); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes as %x, %v", b, again, err)
		}
	})
}

func FuzzMLSMessage(f *testing.F)         { fuzzWire(f, "MLSMessage") }
func FuzzWelcome(f *testing.F)            { fuzzWire(f, "Welcome") }
func FuzzGroupInfo(f *testing.F)          { fuzzWire(f, "GroupInfo") }
func FuzzGroupSecrets(f *testing.F)       { fuzzWire(f, "GroupSecrets") }
func FuzzKeyPackage(f *testing.F)         { fuzzWire(f, "KeyPackage") }
func FuzzCommit(f *testing.F)             { fuzzWire(f, "Commit") }
func FuzzProposal(f *testing.F)           { fuzzWire(f, "Proposal") }
func FuzzRatchetTree(f *testing.F)        { fuzzWire(f, "RatchetTreeExtension") }
func FuzzRatchetTreeOption(f *testing.F)  { fuzzWire(f, "RatchetTreeOption") }
func FuzzPartialGroupInfo(f *testing.F)   { fuzzWire(f, "PartialGroupInfo") }
func FuzzAppDataDictionary(f *testing.F)  { fuzzWire(f, "AppDataDictionary") }
func FuzzSafeAAD(f *testing.F)            { fuzzWire(f, "SafeAAD") }
func FuzzMediaTypeList(f *testing.F)      { fuzzWire(f, "MediaTypeList") }
func FuzzApplicationFraming(f *testing.F) { fuzzWire(f, "ApplicationFraming") }
func FuzzAppAck(f *testing.F)             { fuzzWire(f, "AppAck") }

// What is encoded may be shared: encoding writes nothing to it, not even the version that it leaves out.
func TestEncodingChangesNothing(t *testing.T) {
	r := ReInit{GroupID: []byte("group"), CipherSuite: testSuite}
	g := GroupContext{CipherSuite: testSuite, GroupID: []byte("group")}
	for _, v := range []tlspl.Coder{&r, &g} {
		if b := marshal(v); len(b) == 0 {
			t.Error("nothing encoded")
		}
	}
	if r.Version != 0 || g.Version != 0 {
		t.Errorf("encoding set the versions %d and %d", r.Version, g.Version)
	}
}
