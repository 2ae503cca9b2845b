package policy

import (
	"bytes"
	"encoding/asn1"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// A ClaimSet is the claims of one credential, each as a preauth_list would have to name it. It implements Claims.
type ClaimSet []mimi.Claim

// Has reports whether the set holds the claim.
func (s ClaimSet) Has(t mls.CredentialType, id, value []byte) bool {
	for i := range s {
		c := &s[i]
		if c.ClaimID.CredentialType == t && bytes.Equal(c.ClaimID.ID, id) && bytes.Equal(c.ClaimValue, value) {
			return true
		}
	}
	return false
}

func claim(t mls.CredentialType, id, value []byte) mimi.Claim {
	return mimi.Claim{ClaimID: mimi.ClaimID{CredentialType: t, ID: id}, ClaimValue: value}
}

// BasicClaims returns the claims of a basic credential: its whole identity under the empty ID. Decision 90
func BasicClaims(identity []byte) ClaimSet {
	return ClaimSet{claim(mls.CredentialBasic, nil, identity)}
}

// subjectAltName is the OID 2.5.29.17 in DER.
var subjectAltName = []byte{0x06, 0x03, 0x55, 0x1d, 0x11}

// A certificate as far as claims need it (RFC 5280 §4.1).
type certificate struct {
	TBS struct {
		Version    int `asn1:"optional,explicit,default:0,tag:0"`
		Serial     asn1.RawValue
		Algorithm  asn1.RawValue
		Issuer     asn1.RawValue
		Validity   asn1.RawValue
		Subject    asn1.RawValue
		PublicKey  asn1.RawValue
		IssuerID   asn1.BitString `asn1:"optional,tag:1"`
		SubjectID  asn1.BitString `asn1:"optional,tag:2"`
		Extensions []extension    `asn1:"omitempty,optional,explicit,tag:3"`
	}
	Algorithm asn1.RawValue
	Signature asn1.BitString
}

type extension struct {
	ID       asn1.ObjectIdentifier
	Critical bool `asn1:"optional"`
	Value    []byte
}

// X509Claims returns the claims of an X.509 certificate, which must have been verified (Decision 90):
//
//   - for each attribute of the subject, the DER of its OID as ID and the content octets of its value as value, whatever
//     string type it has: department HR is 06 03 55 04 0b and "HR";
//   - for each subjectAltName, the DER of the OID 2.5.29.17 as ID and the DER of the whole GeneralName as value, so that a
//     dNSName and a URI of the same text differ; for an otherName its type-id and the content octets of its value besides.
func X509Claims(der []byte) (ClaimSet, error) {
	var cert certificate
	if rest, err := asn1.Unmarshal(der, &cert); err != nil {
		return nil, fmt.Errorf("policy: certificate: %w", err)
	} else if len(rest) > 0 {
		return nil, errors.New("policy: certificate: trailing octets")
	}
	set, err := subjectClaims(cert.TBS.Subject.Bytes)
	if err != nil {
		return nil, fmt.Errorf("policy: certificate subject: %w", err)
	}
	for _, e := range cert.TBS.Extensions {
		if !e.ID.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			continue
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(e.Value, &names); err != nil || len(rest) > 0 {
			return nil, errors.New("policy: certificate subjectAltName: not a list of names")
		}
		for _, n := range names {
			set = append(set, claim(mls.CredentialX509, subjectAltName, n.FullBytes))
			if n.Class == asn1.ClassContextSpecific && n.Tag == 0 {
				set = append(set, otherName(n.Bytes)...)
			}
		}
	}
	return set, nil
}

// otherName reads the content of an otherName: SEQUENCE { type-id, value [0] EXPLICIT }.
func otherName(b []byte) ClaimSet {
	var id, value, inner asn1.RawValue
	rest, err := asn1.Unmarshal(b, &id)
	if err != nil || id.Tag != asn1.TagOID {
		return nil
	}
	if _, err := asn1.Unmarshal(rest, &value); err != nil || value.Class != asn1.ClassContextSpecific || value.Tag != 0 {
		return nil
	}
	if _, err := asn1.Unmarshal(value.Bytes, &inner); err != nil {
		return nil
	}
	return ClaimSet{claim(mls.CredentialX509, id.FullBytes, inner.Bytes)}
}

// subjectClaims walks the RDNSequence: SET OF SEQUENCE { type, value }.
func subjectClaims(rdns []byte) (ClaimSet, error) {
	var set ClaimSet
	for len(rdns) > 0 {
		var rdn asn1.RawValue
		rest, err := asn1.Unmarshal(rdns, &rdn)
		if err != nil {
			return nil, err
		}
		rdns = rest
		for attributes := rdn.Bytes; len(attributes) > 0; {
			var attribute struct{ Type, Value asn1.RawValue }
			if attributes, err = asn1.Unmarshal(attributes, &attribute); err != nil {
				return nil, err
			}
			set = append(set, claim(mls.CredentialX509, attribute.Type.FullBytes, attribute.Value.Bytes))
		}
	}
	return set, nil
}

// JWTClaims returns the claims of a verified JWT, of which payload is the decoded JSON claims set: the claim's name as ID,
// the JSON text of its value without insignificant space as value (Decision 90). t is the number that the room's
// credentials of this type have; the drafts register none.
func JWTClaims(t mls.CredentialType, payload []byte) (ClaimSet, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(payload, &object); err != nil {
		return nil, fmt.Errorf("policy: JWT claims: %w", err)
	}
	set := make(ClaimSet, 0, len(object))
	for name, value := range object {
		var text bytes.Buffer
		if err := json.Compact(&text, value); err != nil {
			return nil, fmt.Errorf("policy: JWT claim %q: %w", name, err)
		}
		set = append(set, claim(t, []byte(name), text.Bytes()))
	}
	return set, nil
}

// CWTClaims returns the claims of a verified CWT, of which payload is the CBOR claims set: the octets of the map key as ID,
// those of its value as value, as they are (Decision 90). t is as in JWTClaims.
func CWTClaims(t mls.CredentialType, payload []byte) (ClaimSet, error) {
	major, n, rest, ok := cborHead(payload)
	if !ok || major != 5 {
		return nil, errCBOR
	}
	var set ClaimSet
	for range n {
		key, after, ok := cborItem(rest, 16)
		if !ok {
			return nil, errCBOR
		}
		value, after, ok := cborItem(after, 16)
		if !ok {
			return nil, errCBOR
		}
		set = append(set, claim(t, key, value))
		rest = after
	}
	if len(rest) > 0 {
		return nil, errCBOR
	}
	return set, nil
}

var errCBOR = errors.New("policy: CWT claims: not a CBOR map of definite length")

// cborHead reads the head of a CBOR item (RFC 8949 §3): its major type, its argument, and what follows. Indefinite lengths
// are refused: claims are compared octet by octet.
func cborHead(b []byte) (major byte, n uint64, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, 0, nil, false
	}
	major, info, b := b[0]>>5, b[0]&31, b[1:]
	if info < 24 {
		return major, uint64(info), b, true
	}
	if info > 27 || len(b) < 1<<(info-24) {
		return 0, 0, nil, false
	}
	size := 1 << (info - 24)
	var wide [8]byte
	copy(wide[8-size:], b)
	return major, binary.BigEndian.Uint64(wide[:]), b[size:], true
}

// cborItem splits off one well-formed item, nested at most depth deep.
func cborItem(b []byte, depth int) (item, rest []byte, ok bool) {
	major, n, after, ok := cborHead(b)
	if !ok || depth == 0 {
		return nil, nil, false
	}
	children := uint64(0)
	switch major {
	case 2, 3:
		if uint64(len(after)) < n {
			return nil, nil, false
		}
		after = after[n:]
	case 4:
		children = n
	case 5:
		if n > uint64(len(after)) {
			return nil, nil, false
		}
		children = 2 * n
	case 6:
		children = 1
	}
	if children > uint64(len(after)) { // each takes an octet at least
		return nil, nil, false
	}
	for range children {
		if _, after, ok = cborItem(after, depth-1); !ok {
			return nil, nil, false
		}
	}
	return b[: len(b)-len(after) : len(b)-len(after)], after, true
}
