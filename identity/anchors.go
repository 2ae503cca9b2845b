package identity

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/comity-im/comity/mimi"
)

// A Fingerprint is the SHA-256 of a certificate, by which an operator pins the
// trust anchors of a peer.
type Fingerprint [sha256.Size]byte

// FingerprintOf returns the fingerprint of a certificate.
func FingerprintOf(cert *x509.Certificate) Fingerprint { return sha256.Sum256(cert.Raw) }

// String returns the fingerprint in hexadecimal.
func (f Fingerprint) String() string { return hex.EncodeToString(f[:]) }

// ParseFingerprint is the inverse of String.
func ParseFingerprint(s string) (Fingerprint, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != sha256.Size {
		return Fingerprint{}, fmt.Errorf("identity: fingerprint %q is not 64 hexadecimal digits", s)
	}
	return Fingerprint(b), nil
}

const (
	// MaxIssuersSize is the length in octets of the longest issuers document.
	MaxIssuersSize = 1 << 16
	maxIssuers     = 16
)

// ErrIssuers is the error of an issuers document that can't be used.
var ErrIssuers = errors.New("identity: issuers document")

// issuersDocument is what a provider publishes at the comityIssuers URL of its
// directory (docs/design/identity.md).
type issuersDocument struct {
	Provider mimi.ProviderDomain `json:"provider"`
	Issuers  [][]byte            `json:"issuers"` // DER certificates
}

// MarshalIssuers returns the document in which a provider publishes its trust
// anchors. While a root is being replaced it lists the old and the new.
func MarshalIssuers(domain mimi.ProviderDomain, roots []*x509.Certificate) ([]byte, error) {
	d := issuersDocument{Provider: domain, Issuers: [][]byte{}}
	for _, c := range roots {
		d.Issuers = append(d.Issuers, c.Raw)
	}
	return json.MarshalIndent(d, "", "  ")
}

// ParseIssuers returns the trust anchors in the document of a provider. The
// caller fetched it over TLS from that provider's own host. An error wraps
// ErrIssuers.
func ParseIssuers(b []byte, domain mimi.ProviderDomain) ([]*x509.Certificate, error) {
	if len(b) > MaxIssuersSize {
		return nil, fmt.Errorf("%w of %s: longer than %d octets", ErrIssuers, domain, MaxIssuersSize)
	}
	var d issuersDocument
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, fmt.Errorf("%w of %s: %v", ErrIssuers, domain, err)
	}
	if d.Provider != domain {
		return nil, fmt.Errorf("%w of %s is for %q", ErrIssuers, domain, d.Provider)
	}
	if len(d.Issuers) > maxIssuers {
		return nil, fmt.Errorf("%w of %s: %d issuers", ErrIssuers, domain, len(d.Issuers))
	}
	var certs []*x509.Certificate
	for i, der := range d.Issuers {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%w of %s: issuer %d: %v", ErrIssuers, domain, i, err)
		}
		if !cert.IsCA {
			return nil, fmt.Errorf("%w of %s: issuer %d is no authority", ErrIssuers, domain, i)
		}
		certs = append(certs, cert)
	}
	return certs, nil
}

// Pinned returns those certificates whose fingerprint is pinned.
func Pinned(certs []*x509.Certificate, pins []Fingerprint) []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range certs {
		f := FingerprintOf(c)
		for _, p := range pins {
			if bytes.Equal(f[:], p[:]) {
				out = append(out, c)
				break
			}
		}
	}
	return out
}

// ParseAnchorsPEM returns the certificates in PEM, such as an operator
// configures as the trust anchors of a peer. There is at least one.
func ParseAnchorsPEM(b []byte) ([]*x509.Certificate, error) {
	certs, err := parsePEM(b)
	if err == nil && len(certs) == 0 {
		err = errors.New("identity: no certificate in PEM")
	}
	return certs, err
}

func parsePEM(b []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return certs, nil
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("identity: certificate %d in PEM: %w", len(certs), err)
		}
		certs = append(certs, cert)
	}
}

func marshalPEM(certs []*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return b.Bytes()
}
