package mls

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// The working group has no vectors for the extensions. Those in testdata are Comity's own; testdata/README.md says what
// they hold. They were written once with -update and hold still since: a change of them breaks every peer and every
// stored group.
var update = flag.Bool("update", false, "write testdata anew")

func (b hexBytes) MarshalJSON() ([]byte, error) { return json.Marshal(hex.EncodeToString(b)) }

// vectorFile reads testdata/name into v, after writing it from what make gives if -update is set.
func vectorFile[T any](t *testing.T, name string, make func(t *testing.T) []T) []T {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		b, err := json.MarshalIndent(make(t), "", " ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var v []T
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if len(v) == 0 {
		t.Fatalf("%s is empty", path)
	}
	return v
}

type operationVector struct {
	CipherSuite    suite.ID    `json:"cipher_suite"`
	ComponentID    ComponentID `json:"component_id"`
	Label          string      `json:"label"`
	OperationLabel hexBytes    `json:"component_operation_label"`
	Sign           struct {
		Priv      hexBytes `json:"priv"`
		Pub       hexBytes `json:"pub"`
		Content   hexBytes `json:"content"`
		Signature hexBytes `json:"signature"`
	} `json:"safe_sign_with_label"`
	Encrypt struct {
		Priv       hexBytes `json:"priv"`
		Pub        hexBytes `json:"pub"`
		Context    hexBytes `json:"context"`
		Plaintext  hexBytes `json:"plaintext"`
		KEMOutput  hexBytes `json:"kem_output"`
		Ciphertext hexBytes `json:"ciphertext"`
	} `json:"safe_encrypt_with_label"`
}

func TestComponentOperationVectors(t *testing.T) {
	vectors := vectorFile(t, "component-operations.json", func(t *testing.T) (list []operationVector) {
		for id := suite.ID(1); id <= 7; id++ {
			s := lookup(t, id)
			v := operationVector{CipherSuite: id, ComponentID: 0x8000 + ComponentID(id), Label: "example"}
			v.OperationLabel = []byte(operationLabel(v.ComponentID, v.Label))
			signer, err := s.GenerateSigner(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			v.Sign.Priv, v.Sign.Pub, v.Sign.Content = signer.Bytes(), signer.Public(), random(t, 40)
			if v.Sign.Signature, err = SafeSignWithLabel(rand.Reader, signer, v.ComponentID, v.Label, v.Sign.Content); err != nil {
				t.Fatal(err)
			}
			key, err := s.GenerateKeyPair(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			if v.Encrypt.Priv, err = key.Bytes(); err != nil {
				t.Fatal(err)
			}
			v.Encrypt.Pub, v.Encrypt.Context, v.Encrypt.Plaintext = key.Public(), random(t, 20), random(t, 30)
			c, err := SafeEncryptWithLabel(s, key.Public(), v.ComponentID, v.Label, v.Encrypt.Context, v.Encrypt.Plaintext)
			if err != nil {
				t.Fatal(err)
			}
			v.Encrypt.KEMOutput, v.Encrypt.Ciphertext = c.KEMOutput, c.Ciphertext
			list = append(list, v)
		}
		return list
	})
	for _, v := range vectors {
		s := lookup(t, v.CipherSuite)
		checkBytes(t, "label", []byte(operationLabel(v.ComponentID, v.Label)), v.OperationLabel)
		if err := SafeVerifyWithLabel(s, v.Sign.Pub, v.ComponentID, v.Label, v.Sign.Content, v.Sign.Signature); err != nil {
			t.Errorf("%v: %v", v.CipherSuite, err)
		}
		key, err := s.ParsePrivateKey(v.Encrypt.Priv)
		if err != nil {
			t.Fatal(err)
		}
		got, err := SafeDecryptWithLabel(key, v.ComponentID, v.Label, v.Encrypt.Context, HPKECiphertext{v.Encrypt.KEMOutput, v.Encrypt.Ciphertext})
		if err != nil {
			t.Errorf("%v: %v", v.CipherSuite, err)
		}
		checkBytes(t, "plaintext", got, v.Encrypt.Plaintext)
	}
}

type exportVector struct {
	CipherSuite       suite.ID `json:"cipher_suite"`
	EpochSecret       hexBytes `json:"epoch_secret"`
	ApplicationExport hexBytes `json:"application_export_secret"`
	Exports           []struct {
		ComponentID ComponentID `json:"component_id"`
		Secret      hexBytes    `json:"secret"`
	} `json:"exports"`
}

func TestSafeExportVectors(t *testing.T) {
	vectors := vectorFile(t, "safe-export.json", func(t *testing.T) (list []exportVector) {
		for id := suite.ID(1); id <= 7; id++ {
			s := lookup(t, id)
			v := exportVector{CipherSuite: id, EpochSecret: random(t, s.Nh())}
			start := startEpochFromSecret(s, v.EpochSecret)
			v.ApplicationExport = bytes.Clone(start.applicationExport)
			tree := newExporterTree(s, start.applicationExport)
			for _, component := range []ComponentID{0x8000, 1, 0x7fff, 0xffff, 0} {
				secret, err := tree.export(component)
				if err != nil {
					t.Fatal(err)
				}
				v.Exports = append(v.Exports, struct {
					ComponentID ComponentID `json:"component_id"`
					Secret      hexBytes    `json:"secret"`
				}{component, secret})
			}
			list = append(list, v)
		}
		return list
	})
	for _, v := range vectors {
		s := lookup(t, v.CipherSuite)
		start := startEpochFromSecret(s, v.EpochSecret)
		checkBytes(t, "application_export_secret", start.applicationExport, v.ApplicationExport)
		tree := newExporterTree(s, start.applicationExport)
		for _, e := range v.Exports {
			got, err := tree.export(e.ComponentID)
			if err != nil {
				t.Fatal(err)
			}
			checkBytes(t, "secret", got, e.Secret)
		}
	}
}

type bindingVector struct {
	CipherSuite  suite.ID `json:"cipher_suite"`
	SignatureKey hexBytes `json:"signature_key"`
	TBS          hexBytes `json:"credential_binding_tbs"`
	Binding      hexBytes `json:"credential_binding"`
}

func TestCredentialBindingVectors(t *testing.T) {
	vectors := vectorFile(t, "credential-bindings.json", func(t *testing.T) (list []bindingVector) {
		for id := suite.ID(1); id <= 7; id++ {
			signer, err := lookup(t, id).GenerateSigner(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			v := bindingVector{CipherSuite: id, SignatureKey: random(t, 32)}
			b, err := NewCredentialBinding(rand.Reader, signer, BasicCredential([]byte("alice")), v.SignatureKey)
			if err != nil {
				t.Fatal(err)
			}
			if v.TBS, err = b.tbs(v.SignatureKey); err != nil {
				t.Fatal(err)
			}
			v.Binding = marshal(&b)
			list = append(list, v)
		}
		return list
	})
	for _, v := range vectors {
		var b CredentialBinding
		if err := tlspl.Unmarshal(v.Binding, &b); err != nil {
			t.Fatal(err)
		}
		tbs, err := b.tbs(v.SignatureKey)
		if err != nil {
			t.Fatal(err)
		}
		checkBytes(t, "CredentialBindingTBS", tbs, v.TBS)
		if err := b.Verify(v.SignatureKey); err != nil || b.CipherSuite != v.CipherSuite {
			t.Errorf("%v: %v", v.CipherSuite, err)
		}
	}
}

type semiPrivateVector struct {
	CipherSuite      suite.ID    `json:"cipher_suite"`
	GroupContext     hexBytes    `json:"group_context"`
	EncryptionSecret hexBytes    `json:"encryption_secret"`
	SenderDataSecret hexBytes    `json:"sender_data_secret"`
	TreeSize         uint32      `json:"tree_size"`
	SenderLeafIndex  LeafIndex   `json:"sender_leaf_index"`
	SignaturePriv    hexBytes    `json:"signature_priv"`
	SignaturePub     hexBytes    `json:"signature_pub"`
	Receiver         hexBytes    `json:"external_receiver"`
	ReceiverRef      hexBytes    `json:"external_receiver_ref"`
	ReceiverPriv     hexBytes    `json:"external_receiver_priv"`
	ContentType      ContentType `json:"content_type"`
	Content          hexBytes    `json:"framed_content"`
	Message          hexBytes    `json:"semiprivate_message"`
}

func (v *semiPrivateVector) keys(t *testing.T) *messageKeys {
	var context GroupContext
	if err := tlspl.Unmarshal(v.GroupContext, &context); err != nil {
		t.Fatal(err)
	}
	s := lookup(t, v.CipherSuite)
	return &messageKeys{s, context.GroupID, context.Epoch, v.GroupContext, v.SenderDataSecret, nil,
		newSecretTree(s, v.TreeSize, slices.Clone(v.EncryptionSecret), DefaultRatchetLimits)}
}

func TestSemiPrivateMessageVectors(t *testing.T) {
	vectors := vectorFile(t, "semiprivate-message.json", func(t *testing.T) (list []semiPrivateVector) {
		for id := suite.ID(1); id <= 7; id++ {
			for _, ct := range []ContentType{ContentProposal, ContentCommit} {
				list = append(list, newSemiPrivateVector(t, id, ct))
			}
		}
		return list
	})
	for _, v := range vectors {
		s := lookup(t, v.CipherSuite)
		var m MLSMessage
		if err := tlspl.Unmarshal(v.Message, &m); err != nil {
			t.Fatal(err)
		}
		var receiver ExternalReceiver
		if err := tlspl.Unmarshal(v.Receiver, &receiver); err != nil {
			t.Fatal(err)
		}
		ref, err := receiver.ref(s)
		if err != nil {
			t.Fatal(err)
		}
		checkBytes(t, "external_receiver_ref", ref, v.ReceiverRef)
		key, err := s.ParsePrivateKey(v.ReceiverPriv)
		if err != nil {
			t.Fatal(err)
		}
		k := v.keys(t)
		member, err := k.openSemiPrivate(m.SemiPrivateMessage, anyMember)
		if err != nil {
			t.Fatal(err)
		}
		outside, err := openSemiPrivateAsReceiver(s, k.groupID, k.epoch, k.groupContext, &receiver, key, m.SemiPrivateMessage)
		if err != nil {
			t.Fatal(err)
		}
		for who, opened := range map[string]*verifiableContent{"member": member, "receiver": outside} {
			got, err := opened.verifyBytes(v.SignaturePub)
			if err != nil {
				t.Fatalf("%s: %v", who, err)
			}
			if got.Content.Sender != MemberSender(v.SenderLeafIndex) || got.Content.ContentType != v.ContentType {
				t.Errorf("%s: %v from %v", who, got.Content.ContentType, got.Content.Sender)
			}
			checkBytes(t, who, marshal(&got.Content), v.Content)
		}
	}
}

func newSemiPrivateVector(t *testing.T, id suite.ID, ct ContentType) semiPrivateVector {
	s := lookup(t, id)
	signer, err := s.GenerateSigner(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := s.GenerateKeyPair(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	priv, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	receiver := ExternalReceiver{PublicKey: key.Public(), Credential: BasicCredential([]byte("hub"))}
	ref, err := receiver.ref(s)
	if err != nil {
		t.Fatal(err)
	}
	context := GroupContext{
		Version: MLS10, CipherSuite: id, GroupID: random(t, 16), Epoch: 7, TreeHash: random(t, s.Nh()), ConfirmedTranscriptHash: random(t, s.Nh()),
		Extensions: Extensions{{ExtensionExternalReceivers, marshal(&ExternalReceivers{receiver})}},
	}
	v := semiPrivateVector{
		CipherSuite: id, GroupContext: marshal(&context), EncryptionSecret: random(t, s.Nh()), SenderDataSecret: random(t, s.Nh()), TreeSize: 4,
		SenderLeafIndex: 2, SignaturePriv: signer.Bytes(), SignaturePub: signer.Public(), Receiver: marshal(&receiver), ReceiverRef: hexBytes(ref), ReceiverPriv: priv,
		ContentType: ct,
	}
	f := FramedContent{GroupID: context.GroupID, Epoch: context.Epoch, Sender: MemberSender(2), AuthenticatedData: []byte("aad"), ContentType: ct}
	if ct == ContentProposal {
		f.Proposal = &Proposal{Type: ProposalRemove, Remove: &Remove{Removed: 1}}
	} else {
		f.Commit = &Commit{Proposals: []ProposalOrRef{{Proposal: &Proposal{Type: ProposalRemove, Remove: &Remove{Removed: 1}}}}}
	}
	a, err := signContent(rand.Reader, signer, WireFormatSemiPrivateMessage, f, v.GroupContext)
	if err != nil {
		t.Fatal(err)
	}
	if ct == ContentCommit {
		a.Auth.ConfirmationTag = random(t, s.Nh())
	}
	v.Content = marshal(&f)
	m, err := v.keys(t).protectSemiPrivate(rand.Reader, a, []ExternalReceiver{receiver}, 32)
	if err != nil {
		t.Fatal(err)
	}
	msg := Message(m)
	v.Message = marshal(&msg)
	return v
}

func random(t *testing.T, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}
