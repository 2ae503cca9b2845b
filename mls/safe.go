package mls

import (
	"cmp"
	"errors"
	"io"
	"slices"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// operationLabel is the label under which a component uses keys of the group: the octets of ComponentOperationLabel
// (MLS extensions §4.1, Decision 113).
func operationLabel(component ComponentID, label string) string {
	return string(marshal(&ComponentOperationLabel{component, []byte(label)}))
}

// SafeEncryptWithLabel encrypts to an HPKE key of the group, such as the encryption_key of a leaf or an external_pub, so
// that only the same component decrypts it (MLS extensions §4.2). The error is [suite.ErrKey] if publicKey isn't one of
// the cipher suite.
func SafeEncryptWithLabel(s suite.Suite, publicKey []byte, component ComponentID, label string, context, plaintext []byte) (HPKECiphertext, error) {
	kemOutput, ciphertext, err := s.SealWithLabel(publicKey, operationLabel(component, label), context, plaintext)
	return HPKECiphertext{kemOutput, ciphertext}, err
}

// SafeDecryptWithLabel decrypts what [SafeEncryptWithLabel] gave. A component must pass its own ID (MLS extensions §4.2).
// The error is [suite.ErrOpen].
func SafeDecryptWithLabel(key *suite.PrivateKey, component ComponentID, label string, context []byte, c HPKECiphertext) ([]byte, error) {
	return key.OpenWithLabel(operationLabel(component, label), context, c.KEMOutput, c.Ciphertext)
}

// SafeSignWithLabel signs as a component with the key of a leaf (MLS extensions §4.3). A component must pass its own ID.
func SafeSignWithLabel(rand io.Reader, signer *suite.Signer, component ComponentID, label string, content []byte) ([]byte, error) {
	return signer.SignWithLabel(rand, operationLabel(component, label), content)
}

// SafeVerifyWithLabel verifies what [SafeSignWithLabel] gave with the signature_key of a leaf (MLS extensions §4.3). The
// error is [suite.ErrKey] or [suite.ErrSignature].
func SafeVerifyWithLabel(s suite.Suite, signatureKey []byte, component ComponentID, label string, content, signature []byte) error {
	return s.VerifyWithLabel(signatureKey, operationLabel(component, label), content, signature)
}

// NewPSKNonce returns a fresh psk_nonce, KDF.Nh octets of rand. Every injection of a PSK needs its own (RFC 9420 §8.4).
func NewPSKNonce(rand io.Reader, s suite.Suite) ([]byte, error) { return s.GenerateSecret(rand) }

// ExternalPSKID names a PSK of the application, to be injected once (RFC 9420 §8.4).
func ExternalPSKID(rand io.Reader, s suite.Suite, pskID []byte) (PreSharedKeyID, error) {
	nonce, err := NewPSKNonce(rand, s)
	return PreSharedKeyID{Type: PSKExternal, PSKID: pskID, PSKNonce: nonce}, err
}

// ResumptionPSKID names the resumption_psk of a group's epoch, to be injected once (RFC 9420 §8.4, §8.6).
func ResumptionPSKID(rand io.Reader, s suite.Suite, usage ResumptionPSKUsage, groupID []byte, epoch Epoch) (PreSharedKeyID, error) {
	nonce, err := NewPSKNonce(rand, s)
	return PreSharedKeyID{Type: PSKResumption, Usage: usage, PSKGroupID: groupID, PSKEpoch: epoch, PSKNonce: nonce}, err
}

// ComponentPSKID names a PSK of a component, to be injected once (MLS extensions §4.5).
func ComponentPSKID(rand io.Reader, s suite.Suite, component ComponentID, pskID []byte) (PreSharedKeyID, error) {
	nonce, err := NewPSKNonce(rand, s)
	return PreSharedKeyID{Type: PSKApplication, ComponentID: component, PSKID: pskID, PSKNonce: nonce}, err
}

// ErrDuplicateComponent: two items of one component where there can be one.
var ErrDuplicateComponent = errors.New("mls: two items of one component")

// EncodeSafeAAD returns the authenticated_data that holds these items, in any order, at most one of a component. Without
// items it is the single octet 0 (MLS extensions §4.9, Decision 117).
func EncodeSafeAAD(items ...SafeAADItem) ([]byte, error) {
	items = slices.Clone(items)
	slices.SortFunc(items, func(a, b SafeAADItem) int { return cmp.Compare(a.ComponentID, b.ComponentID) })
	for i := 1; i < len(items); i++ {
		if items[i-1].ComponentID == items[i].ComponentID {
			return nil, ErrDuplicateComponent
		}
	}
	return tlspl.Marshal(&SafeAAD{items})
}

// ParseSafeAAD reads an authenticated_data that is exactly one SafeAAD: items sorted, each component once, nothing left
// over (Decision 117).
func ParseSafeAAD(authenticatedData []byte) (SafeAAD, error) {
	var s SafeAAD
	err := tlspl.Unmarshal(authenticatedData, &s)
	return s, err
}
