package mls

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// passiveVector is a client that only listens (vectors' README, "Passive Client
// Scenarios").
type passiveVector struct {
	CipherSuite  CipherSuite `json:"cipher_suite"`
	ExternalPSKs []struct {
		ID  hexBytes `json:"psk_id"`
		PSK hexBytes `json:"psk"`
	} `json:"external_psks"`
	KeyPackage    hexBytes `json:"key_package"`
	SignaturePriv hexBytes `json:"signature_priv"`
	EncryptPriv   hexBytes `json:"encryption_priv"`
	InitPriv      hexBytes `json:"init_priv"`
	Welcome       hexBytes `json:"welcome"`
	RatchetTree   hexBytes `json:"ratchet_tree"`
	Authenticator hexBytes `json:"initial_epoch_authenticator"`
	Epochs        []struct {
		Proposals     []hexBytes `json:"proposals"`
		Commit        hexBytes   `json:"commit"`
		Authenticator hexBytes   `json:"epoch_authenticator"`
	} `json:"epochs"`
}

// pskMap is a PSKStore.
type pskMap map[string][]byte

func (m pskMap) PSK(id *PreSharedKeyID) ([]byte, error) {
	if psk, ok := m[string(id.PSKID)]; ok && id.Type == PSKExternal {
		return psk, nil
	}
	return nil, ErrNoPSK
}

func TestVectorsPassiveClient(t *testing.T) {
	dir := os.Getenv("COMITY_VECTORS")
	if dir == "" {
		dir = "../../shared/vectors"
	}
	files, _ := filepath.Glob(filepath.Join(dir, "mls", "passive-client-*.json"))
	if len(files) == 0 {
		t.Skip("no vectors: set COMITY_VECTORS")
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(strings.TrimSuffix(name, ".json"), func(t *testing.T) {
			var vectors []passiveVector
			readVectors(t, name, &vectors)
			for i := range vectors {
				if err := vectors[i].run(); err != nil {
					t.Errorf("%d (suite %d): %v", i, vectors[i].CipherSuite, err)
				}
			}
		})
	}
}

func (v *passiveVector) run() error {
	psks := pskMap{}
	for _, p := range v.ExternalPSKs {
		psks[string(p.ID)] = p.PSK
	}
	var kp, welcome MLSMessage
	if err := tlspl.Unmarshal(v.KeyPackage, &kp); err != nil {
		return err
	}
	if err := tlspl.Unmarshal(v.Welcome, &welcome); err != nil {
		return err
	}
	secrets, err := NewKeyPackageSecrets(*kp.KeyPackage, v.InitPriv, v.EncryptPriv, v.SignaturePriv)
	if err != nil {
		return err
	}
	// The group keeps its own resumption PSKs for as long as its past epochs.
	g, err := JoinWelcome(Config{PSKs: psks, PastEpochs: 100}, welcome.Welcome, secrets, JoinOptions{RatchetTree: v.RatchetTree})
	if err != nil {
		return fmt.Errorf("welcome: %w", err)
	}
	if !bytes.Equal(g.EpochAuthenticator(), v.Authenticator) {
		return fmt.Errorf("epoch_authenticator %x, want %x", g.EpochAuthenticator(), v.Authenticator)
	}
	for i, epoch := range v.Epochs {
		for _, b := range epoch.Proposals {
			var m MLSMessage
			if err := tlspl.Unmarshal(b, &m); err != nil {
				return err
			}
			if _, err := g.ReceiveProposal(&m); err != nil {
				return fmt.Errorf("epoch %d, proposal: %w", i, err)
			}
		}
		var m MLSMessage
		if err := tlspl.Unmarshal(epoch.Commit, &m); err != nil {
			return err
		}
		staged, err := g.StageReceived(&m)
		if err != nil {
			return fmt.Errorf("epoch %d, commit: %w", i, err)
		}
		if err := g.Merge(staged); err != nil {
			return err
		}
		if !bytes.Equal(g.EpochAuthenticator(), epoch.Authenticator) {
			return fmt.Errorf("epoch %d: epoch_authenticator %x, want %x", i, g.EpochAuthenticator(), epoch.Authenticator)
		}
		if err := g.private.Check(g.Tree()); err != nil {
			return fmt.Errorf("epoch %d: %w", i, err)
		}
	}
	return nil
}

func TestVectorsWelcome(t *testing.T) {
	var vectors []struct {
		CipherSuite CipherSuite `json:"cipher_suite"`
		InitPriv    hexBytes    `json:"init_priv"`
		SignerPub   hexBytes    `json:"signer_pub"`
		KeyPackage  hexBytes    `json:"key_package"`
		Welcome     hexBytes    `json:"welcome"`
	}
	readVectors(t, "welcome.json", &vectors)
	t.Run("welcome", func(t *testing.T) {
		for i, v := range vectors {
			var kp, welcome MLSMessage
			if err := tlspl.Unmarshal(v.KeyPackage, &kp); err != nil {
				t.Fatal(err)
			}
			if err := tlspl.Unmarshal(v.Welcome, &welcome); err != nil {
				t.Fatal(err)
			}
			s, ok := suite.Lookup(v.CipherSuite)
			if !ok {
				t.Fatalf("cipher suite %d", v.CipherSuite)
			}
			ref, err := kp.KeyPackage.Ref()
			if err != nil {
				t.Fatal(err)
			}
			entry, ok := welcome.Welcome.Find(ref)
			if !ok {
				t.Fatalf("%d: no entry for the KeyPackage", i)
			}
			initKey, err := s.ParsePrivateKey(v.InitPriv)
			if err != nil {
				t.Fatal(err)
			}
			secrets, err := welcome.Welcome.openSecrets(initKey, entry)
			if err != nil {
				t.Fatalf("%d: %v", i, err)
			}
			info, err := welcome.Welcome.openGroupInfo(s, secrets, nil)
			if err != nil {
				t.Fatalf("%d: %v", i, err)
			}
			if err := info.verifySignature(s, v.SignerPub); err != nil {
				t.Errorf("%d: %v", i, err)
			}
			start := startEpoch(s, secrets.JoinerSecret, nil, marshal(&info.GroupContext))
			if !start.secrets.verifyConfirmationTag(s, info.GroupContext.ConfirmedTranscriptHash, info.ConfirmationTag) {
				t.Errorf("%d: confirmation_tag", i)
			}
		}
	})
}
