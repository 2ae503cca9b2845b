package mls

import (
	"encoding/binary"
	"errors"
	"io"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// epochSecrets are the secrets of one epoch that outlive its beginning (RFC 9420 §8, Table 4), each KDF.Nh octets.
// The encryption_secret and the application_export_secret aren't here: they become the roots of trees that are
// consumed from the first use on.
type epochSecrets struct {
	senderData    []byte // sender_data_secret
	exporter      []byte // exporter_secret
	external      []byte // external_secret
	confirmation  []byte // confirmation_key
	membership    []byte // membership_key
	resumption    []byte // resumption_psk
	authenticator []byte // epoch_authenticator
	init          []byte // init_secret of this epoch, for the next one
}

// Code describes the secrets as they are stored; nothing of this goes on the wire.
func (e *epochSecrets) Code(c *tlspl.Codec) {
	for _, p := range e.all() {
		tlspl.Opaque(c, p)
	}
}

func (e *epochSecrets) all() [8]*[]byte {
	return [...]*[]byte{&e.senderData, &e.exporter, &e.external, &e.confirmation, &e.membership, &e.resumption, &e.authenticator, &e.init}
}

// clear overwrites the secrets.
func (e *epochSecrets) clear() {
	for _, p := range e.all() {
		clear(*p)
	}
}

// An epochStart is everything that an epoch's beginning gives (RFC 9420 §8).
type epochStart struct {
	secrets           epochSecrets
	encryption        []byte // encryption_secret, the root of the secret tree
	applicationExport []byte // application_export_secret, the root of the exporter tree (MLS extensions §4.4)
}

// joinerSecret derives joiner_secret from the previous epoch's init_secret, or the one of an ExternalInit, from the
// commit_secret (nil: no path, the all-zero vector), and the new epoch's encoded GroupContext (RFC 9420 §8).
func joinerSecret(s suite.Suite, init, commit, groupContext []byte) []byte {
	extracted := s.Extract(init, orZero(s, commit))
	defer clear(extracted)
	return s.ExpandWithLabel(extracted, "joiner", groupContext, s.Nh())
}

// memberSecret combines joiner_secret and psk_secret (nil: the all-zero vector). welcome_secret and epoch_secret are
// derived from it.
func memberSecret(s suite.Suite, joiner, psk []byte) []byte {
	return s.Extract(joiner, orZero(s, psk))
}

// orZero stands in for the `0` of RFC 9420 §8.
func orZero(s suite.Suite, secret []byte) []byte {
	if secret == nil {
		return make([]byte, s.Nh())
	}
	return secret
}

// startEpoch derives an epoch's secrets from its joiner_secret, its psk_secret (nil: no PSK) and its encoded
// GroupContext.
func startEpoch(s suite.Suite, joiner, psk, groupContext []byte) epochStart {
	member := memberSecret(s, joiner, psk)
	defer clear(member)
	epoch := s.ExpandWithLabel(member, "epoch", groupContext, s.Nh())
	defer clear(epoch)
	return startEpochFromSecret(s, epoch)
}

// startFirstEpoch derives the secrets of a new group from a random epoch_secret (RFC 9420 §11).
func startFirstEpoch(s suite.Suite, rand io.Reader) (epochStart, error) {
	epoch, err := s.GenerateSecret(rand)
	if err != nil {
		return epochStart{}, err
	}
	defer clear(epoch)
	return startEpochFromSecret(s, epoch), nil
}

func startEpochFromSecret(s suite.Suite, epoch []byte) epochStart {
	return epochStart{
		secrets: epochSecrets{
			senderData:    s.DeriveSecret(epoch, "sender data"),
			exporter:      s.DeriveSecret(epoch, "exporter"),
			external:      s.DeriveSecret(epoch, "external"),
			confirmation:  s.DeriveSecret(epoch, "confirm"),
			membership:    s.DeriveSecret(epoch, "membership"),
			resumption:    s.DeriveSecret(epoch, "resumption"),
			authenticator: s.DeriveSecret(epoch, "authentication"),
			init:          s.DeriveSecret(epoch, "init"),
		},
		encryption:        s.DeriveSecret(epoch, "encryption"),
		applicationExport: s.DeriveSecret(epoch, "application_export"),
	}
}

// welcomeKey derives the key and nonce that encrypt a Welcome's GroupInfo (RFC 9420 §12.4.3.1).
func welcomeKey(s suite.Suite, joiner, psk []byte) (key, nonce []byte) {
	member := memberSecret(s, joiner, psk)
	defer clear(member)
	welcome := s.DeriveSecret(member, "welcome")
	defer clear(welcome)
	return s.ExpandWithLabel(welcome, "key", nil, s.Nk()), s.ExpandWithLabel(welcome, "nonce", nil, s.Nn())
}

// sealWelcome encrypts the encoded GroupInfo of a Welcome.
func sealWelcome(s suite.Suite, joiner, psk, groupInfo []byte) ([]byte, error) {
	key, nonce := welcomeKey(s, joiner, psk)
	defer clear(key)
	aead, err := s.AEAD(key)
	if err != nil {
		return nil, err
	}
	return aead.Seal(nil, nonce, groupInfo, nil), nil
}

// ErrWelcomeDecrypt: a Welcome's GroupInfo doesn't open under its joiner_secret and the PSKs.
var ErrWelcomeDecrypt = errors.New("mls: the Welcome's GroupInfo does not decrypt")

// openWelcome decrypts a Welcome's encrypted_group_info.
func openWelcome(s suite.Suite, joiner, psk, encrypted []byte) ([]byte, error) {
	key, nonce := welcomeKey(s, joiner, psk)
	defer clear(key)
	aead, err := s.AEAD(key)
	if err != nil {
		return nil, err
	}
	b, err := aead.Open(nil, nonce, encrypted, nil)
	if err != nil {
		return nil, ErrWelcomeDecrypt
	}
	return b, nil
}

// externalInitLabel is what ExternalInit exports from its HPKE context (RFC 9420 §8.3).
const externalInitLabel = "MLS 1.0 external init secret"

// externalKey derives the key pair that non-members encrypt to (RFC 9420 §8).
func (e *epochSecrets) externalKey(s suite.Suite) (*suite.PrivateKey, error) {
	return s.DeriveKeyPair(e.external)
}

// sendExternalInit makes the init_secret of an external Commit and the kem_output that carries it (RFC 9420 §8.3).
func sendExternalInit(s suite.Suite, externalPub []byte) (kemOutput, init []byte, err error) {
	return s.SendExport(externalPub, nil, externalInitLabel, s.Nh())
}

// receiveExternalInit gets the init_secret out of an ExternalInit proposal.
func (e *epochSecrets) receiveExternalInit(s suite.Suite, kemOutput []byte) ([]byte, error) {
	key, err := e.externalKey(s)
	if err != nil {
		return nil, err
	}
	return key.ReceiveExport(nil, kemOutput, externalInitLabel, s.Nh())
}

// confirmationTag is the MAC over the epoch's confirmed_transcript_hash (RFC 9420 §6.1).
func (e *epochSecrets) confirmationTag(s suite.Suite, confirmedTranscriptHash []byte) []byte {
	return s.MAC(e.confirmation, confirmedTranscriptHash)
}

// verifyConfirmationTag reports in constant time whether tag is the epoch's confirmation_tag.
func (e *epochSecrets) verifyConfirmationTag(s suite.Suite, confirmedTranscriptHash, tag []byte) bool {
	return s.VerifyMAC(e.confirmation, tag, confirmedTranscriptHash)
}

// ErrExportLength: an exporter was asked for a negative number of octets, or more than 255 hash lengths.
var ErrExportLength = errors.New("mls: exported length out of range")

// export is MLS-Exporter (RFC 9420 §8.5).
func (e *epochSecrets) export(s suite.Suite, label string, context []byte, length int) ([]byte, error) {
	if length < 0 || length > s.MaxExpand() {
		return nil, ErrExportLength
	}
	derived := s.DeriveSecret(e.exporter, label)
	defer clear(derived)
	return s.ExpandWithLabel(derived, "exported", s.Hash(context), length), nil
}

// A pskInput is one PSK for the key schedule: its encoded PreSharedKeyID and its secret.
type pskInput struct {
	id     []byte
	secret []byte
}

// ErrTooManyPSKs: more PSKs than the uint16 index of PSKLabel can count.
var ErrTooManyPSKs = errors.New("mls: more than 65535 PSKs")

// pskSecret chains PSKs in the order of the Commit or GroupSecrets that lists them (RFC 9420 §8.4). Without any it is
// the all-zero vector.
func pskSecret(s suite.Suite, psks []pskInput) ([]byte, error) {
	if len(psks) > 0xFFFF {
		return nil, ErrTooManyPSKs
	}
	zero := make([]byte, s.Nh())
	secret := make([]byte, s.Nh())
	for i, psk := range psks {
		label := append([]byte(nil), psk.id...)
		label = binary.BigEndian.AppendUint16(label, uint16(i))
		label = binary.BigEndian.AppendUint16(label, uint16(len(psks)))
		extracted := s.Extract(zero, psk.secret)
		input := s.ExpandWithLabel(extracted, "derived psk", label, s.Nh())
		next := s.Extract(input, secret)
		clear(extracted)
		clear(input)
		clear(secret)
		secret = next
	}
	return secret, nil
}
