package mls

import (
	"bytes"
	"crypto/rand"
	"testing"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// lookup returns a suite of the vectors.
func lookup(t testing.TB, id suite.ID) suite.Suite {
	t.Helper()
	s, ok := suite.Lookup(id)
	if !ok {
		t.Fatalf("no suite %v", id)
	}
	return s
}

func checkBytes(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got %x, want %x", what, got, want)
	}
}

func TestKeyScheduleVectors(t *testing.T) {
	var vectors []struct {
		CipherSuite       suite.ID `json:"cipher_suite"`
		InitialInitSecret hexBytes `json:"initial_init_secret"`
		Epochs            []struct {
			CommitSecret       hexBytes `json:"commit_secret"`
			PSKSecret          hexBytes `json:"psk_secret"`
			GroupContext       hexBytes `json:"group_context"`
			JoinerSecret       hexBytes `json:"joiner_secret"`
			WelcomeSecret      hexBytes `json:"welcome_secret"`
			InitSecret         hexBytes `json:"init_secret"`
			SenderDataSecret   hexBytes `json:"sender_data_secret"`
			EncryptionSecret   hexBytes `json:"encryption_secret"`
			ExporterSecret     hexBytes `json:"exporter_secret"`
			EpochAuthenticator hexBytes `json:"epoch_authenticator"`
			ExternalSecret     hexBytes `json:"external_secret"`
			ConfirmationKey    hexBytes `json:"confirmation_key"`
			MembershipKey      hexBytes `json:"membership_key"`
			ResumptionPSK      hexBytes `json:"resumption_psk"`
			ExternalPub        hexBytes `json:"external_pub"`
			Exporter           struct {
				Label   string
				Context hexBytes
				Length  int
				Secret  hexBytes
			}
		}
	}
	readVectors(t, "key-schedule.json", &vectors)
	if len(vectors) != 7 {
		t.Fatalf("%d vectors, want 7", len(vectors))
	}
	for _, v := range vectors {
		t.Run(v.CipherSuite.String(), func(t *testing.T) {
			s := lookup(t, v.CipherSuite)
			init := []byte(v.InitialInitSecret)
			for _, e := range v.Epochs {
				joiner := joinerSecret(s, init, e.CommitSecret, e.GroupContext)
				checkBytes(t, "joiner_secret", joiner, e.JoinerSecret)
				got := startEpoch(s, joiner, e.PSKSecret, e.GroupContext)
				checkBytes(t, "sender_data_secret", got.secrets.senderData, e.SenderDataSecret)
				checkBytes(t, "encryption_secret", got.encryption, e.EncryptionSecret)
				checkBytes(t, "exporter_secret", got.secrets.exporter, e.ExporterSecret)
				checkBytes(t, "external_secret", got.secrets.external, e.ExternalSecret)
				checkBytes(t, "confirmation_key", got.secrets.confirmation, e.ConfirmationKey)
				checkBytes(t, "membership_key", got.secrets.membership, e.MembershipKey)
				checkBytes(t, "resumption_psk", got.secrets.resumption, e.ResumptionPSK)
				checkBytes(t, "epoch_authenticator", got.secrets.authenticator, e.EpochAuthenticator)
				checkBytes(t, "init_secret", got.secrets.init, e.InitSecret)

				key, nonce := welcomeKey(s, joiner, e.PSKSecret)
				checkBytes(t, "welcome key", key, s.ExpandWithLabel(e.WelcomeSecret, "key", nil, s.Nk()))
				checkBytes(t, "welcome nonce", nonce, s.ExpandWithLabel(e.WelcomeSecret, "nonce", nil, s.Nn()))
				external, err := got.secrets.externalKey(s)
				if err != nil {
					t.Fatal(err)
				}
				checkBytes(t, "external_pub", external.Public(), e.ExternalPub)
				out, err := got.secrets.export(s, e.Exporter.Label, e.Exporter.Context, e.Exporter.Length)
				if err != nil {
					t.Fatal(err)
				}
				checkBytes(t, "exported secret", out, e.Exporter.Secret)
				init = got.secrets.init
			}
		})
	}
}

func TestPSKSecretVectors(t *testing.T) {
	var vectors []struct {
		CipherSuite suite.ID `json:"cipher_suite"`
		PSKs        []struct {
			ID    hexBytes `json:"psk_id"`
			PSK   hexBytes `json:"psk"`
			Nonce hexBytes `json:"psk_nonce"`
		} `json:"psks"`
		PSKSecret hexBytes `json:"psk_secret"`
	}
	readVectors(t, "psk_secret.json", &vectors)
	var psks int
	for _, v := range vectors {
		s := lookup(t, v.CipherSuite)
		var in []pskInput
		for _, p := range v.PSKs {
			// PreSharedKeyID of an external PSK (RFC 9420 §8.4).
			id := append([]byte{1}, tlspl.AppendLength(nil, len(p.ID))...)
			id = append(id, p.ID...)
			id = tlspl.AppendLength(id, len(p.Nonce))
			in = append(in, pskInput{append(id, p.Nonce...), p.PSK})
			psks++
		}
		got, err := pskSecret(s, in)
		if err != nil {
			t.Fatal(err)
		}
		checkBytes(t, v.CipherSuite.String(), got, v.PSKSecret)
	}
	if psks == 0 {
		t.Fatal("the vectors hold no PSK")
	}
	if _, err := pskSecret(lookup(t, 1), make([]pskInput, 1<<16)); err != ErrTooManyPSKs {
		t.Errorf("65536 PSKs: %v", err)
	}
}

func TestWelcomeEncryption(t *testing.T) {
	s := lookup(t, 1)
	joiner := make([]byte, s.Nh())
	sealed, err := sealWelcome(s, joiner, nil, []byte("group info"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := openWelcome(s, joiner, make([]byte, s.Nh()), sealed); err != nil || string(got) != "group info" {
		t.Errorf("no PSK is the all-zero psk_secret: %q, %v", got, err)
	}
	if _, err := openWelcome(s, joiner, []byte("psk"), sealed); err != ErrWelcomeDecrypt {
		t.Errorf("other PSK: %v", err)
	}
	if _, err := openWelcome(s, joiner, nil, sealed[:3]); err != ErrWelcomeDecrypt {
		t.Errorf("short ciphertext: %v", err)
	}
}

func TestExternalInit(t *testing.T) {
	for _, id := range suite.IDs() {
		s := lookup(t, id)
		start, err := startFirstEpoch(s, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		key, err := start.secrets.externalKey(s)
		if err != nil {
			t.Fatal(err)
		}
		kemOutput, sent, err := sendExternalInit(s, key.Public())
		if err != nil {
			t.Fatal(err)
		}
		got, err := start.secrets.receiveExternalInit(s, kemOutput)
		if err != nil || len(got) != s.Nh() || !bytes.Equal(got, sent) {
			t.Errorf("%v: got %x, %v; sent %x", id, got, err, sent)
		}
		if _, err := start.secrets.receiveExternalInit(s, kemOutput[1:]); err != suite.ErrOpen {
			t.Errorf("%v: short kem_output: %v", id, err)
		}
	}
}

func TestEpochSecretsAreStoredWhole(t *testing.T) {
	start, err := startFirstEpoch(lookup(t, 1), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b, err := tlspl.Marshal(&start.secrets)
	if err != nil {
		t.Fatal(err)
	}
	var back epochSecrets
	if err := tlspl.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	again, err := tlspl.Marshal(&back)
	if err != nil || !bytes.Equal(again, b) || !bytes.Equal(back.init, start.secrets.init) {
		t.Errorf("stored secrets come back different: %v", err)
	}
	start.secrets.clear()
	for _, p := range start.secrets.all() {
		if !bytes.Equal(*p, make([]byte, 32)) {
			t.Error("a secret outlives clear")
		}
	}
}

func TestExportLength(t *testing.T) {
	s := lookup(t, 1)
	start, err := startFirstEpoch(s, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{-1, s.MaxExpand() + 1, 1 << 40} {
		if _, err := start.secrets.export(s, "label", nil, n); err != ErrExportLength {
			t.Errorf("length %d: %v", n, err)
		}
	}
	for _, n := range []int{0, s.MaxExpand()} {
		if b, err := start.secrets.export(s, "label", nil, n); err != nil || len(b) != n {
			t.Errorf("length %d: got %d octets, %v", n, len(b), err)
		}
	}
}
