// Package identity says who is behind an MLS credential.
//
// Every provider runs an [Issuer]: a certification authority that vouches, for
// each client, that a signature key belongs to a client URI of a user URI. The
// certificate is the MLS credential itself (X.509, RFC 9420 §5.3), so that any
// member of a group can check any other without asking anybody.
//
// A [Verifier] does the checking. It holds the trust anchors of each provider
// and uses them for that provider's URIs only: an anchor of b.example can never
// vouch for mimi://a.example/u/alice, whatever it signs. How anchors reach a
// verifier is in docs/design/identity.md.
//
// The package does no I/O and reads no clock: anchors, times and randomness are
// passed in.
package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// An Identity is whom a verified credential names. Decision 11
type Identity struct {
	User   mimi.UserURI
	Client mimi.ClientURI

	// NotBefore and NotAfter bound the time in which the credential holds, both
	// inclusive. They are zero for a basic credential, which has no end.
	NotBefore, NotAfter time.Time

	// Certificate is the client's; nil for a basic credential. It must not be
	// changed. What a room's preauthorization may ask of it, package mimi/policy
	// reads out of its Raw octets.
	Certificate *x509.Certificate
}

// Provider returns the domain of the provider that vouches for the identity.
func (i *Identity) Provider() mimi.ProviderDomain { return i.User.Host() }

// What can be wrong with a credential.
var (
	ErrCredentialType = errors.New("credential type is not supported")
	ErrBasic          = errors.New("basic credentials of this provider are not accepted")
	ErrCertificate    = errors.New("malformed certificate chain")
	ErrNames          = errors.New("certificate does not name exactly one user URI and one client URI")
	ErrHost           = errors.New("user and client URI are of different hosts")
	ErrPseudonymsOff  = errors.New("pseudonymous credentials, for minimal metadata rooms, are not accepted here (setting pseudonyms)")
	ErrHub            = errors.New("credential does not name the hub")
	ErrKey            = errors.New("credential is for another signature key")
	ErrNoAnchor       = errors.New("no trust anchor is known for the provider")
	ErrChain          = errors.New("certificate chain does not verify")
)

// A CredentialError says why a credential proves nothing.
type CredentialError struct {
	Provider mimi.ProviderDomain // whose URIs it names, if known
	Err      error               // one of the Err variables, or wrapping one
}

func (e *CredentialError) Error() string {
	if e.Provider != "" {
		return fmt.Sprintf("identity: credential of %s: %v", e.Provider, e.Err)
	}
	return "identity: " + e.Err.Error()
}

// Unwrap returns the reason.
func (e *CredentialError) Unwrap() error { return e.Err }

const (
	maxChain      = 8       // certificates in a credential
	maxChainBytes = 1 << 16 // octets of all of them
)

// parseChain parses the certificates of an x509 credential, leaf first.
func parseChain(cred *mls.Credential) ([]*x509.Certificate, error) {
	n, size := len(cred.Certificates), 0
	if n == 0 || n > maxChain {
		return nil, fmt.Errorf("%w: %d certificates", ErrCertificate, n)
	}
	for i := range cred.Certificates {
		size += len(cred.Certificates[i].CertData)
	}
	if size > maxChainBytes {
		return nil, fmt.Errorf("%w: %d octets", ErrCertificate, size)
	}
	chain := make([]*x509.Certificate, n)
	for i := range cred.Certificates {
		var err error
		if chain[i], err = x509.ParseCertificate(cred.Certificates[i].CertData); err != nil {
			return nil, fmt.Errorf("%w: %v", ErrCertificate, err)
		}
	}
	return chain, nil
}

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// Tags of GeneralName (RFC 5280 §4.2.1.6).
const (
	sanDNS = 2
	sanURI = 6
)

// altNames returns the certificate's subject alternative names as they are
// encoded: URIs are compared as octets, and x509 keeps them parsed. Decision 2
func altNames(cert *x509.Certificate) ([]asn1.RawValue, error) {
	for _, ext := range cert.Extensions {
		if ext.Id.Equal(oidSubjectAltName) {
			var names []asn1.RawValue
			if rest, err := asn1.Unmarshal(ext.Value, &names); err != nil || len(rest) > 0 {
				return nil, fmt.Errorf("%w: subject alternative names", ErrCertificate)
			}
			return names, nil
		}
	}
	return nil, nil
}

func isAltName(n *asn1.RawValue, tag int) bool {
	return n.Class == asn1.ClassContextSpecific && n.Tag == tag
}

// clientNames returns the user and client that a certificate names: exactly
// one SAN URI of each kind, on one host, and no other mimi URI. Decision 11
func clientNames(cert *x509.Certificate) (user mimi.UserURI, client mimi.ClientURI, err error) {
	names, err := altNames(cert)
	if err != nil {
		return "", "", err
	}
	for i := range names {
		if !isAltName(&names[i], sanURI) {
			continue
		}
		uri := string(names[i].Bytes)
		if u, err := mimi.ParseUserURI(uri); err == nil {
			if user != "" {
				return "", "", fmt.Errorf("%w: two user URIs", ErrNames)
			}
			user = u
		} else if c, err := mimi.ParseClientURI(uri); err == nil {
			if client != "" {
				return "", "", fmt.Errorf("%w: two client URIs", ErrNames)
			}
			client = c
		} else {
			return "", "", fmt.Errorf("%w: %q", ErrNames, uri)
		}
	}
	if user == "" || client == "" {
		return "", "", ErrNames
	}
	if user.Host() != client.Host() {
		return "", "", fmt.Errorf("%w: %s and %s", ErrHost, user, client)
	}
	return user, client, nil
}

// dnsNames returns the dNSName SANs of a certificate.
func dnsNames(cert *x509.Certificate) ([]string, error) {
	names, err := altNames(cert)
	if err != nil {
		return nil, err
	}
	var dns []string
	for i := range names {
		if isAltName(&names[i], sanDNS) {
			dns = append(dns, string(names[i].Bytes))
		}
	}
	return dns, nil
}

// signatureKeyOf is the SignaturePublicKey that the certificate of a credential is for.
func signatureKeyOf(cred *mls.Credential) ([]byte, error) {
	chain, err := parseChain(cred)
	if err != nil {
		return nil, err
	}
	switch k := chain[0].PublicKey.(type) {
	case ed25519.PublicKey:
		return k, nil
	case *ecdsa.PublicKey:
		return k.Bytes()
	}
	return nil, fmt.Errorf("%w: a key of type %T", ErrCertificate, chain[0].PublicKey)
}

// keyMatches reports whether the certificate is for the SignaturePublicKey
// (RFC 9420 §5.1.1: the octets of RFC 8032, or an uncompressed point).
func keyMatches(cert *x509.Certificate, signatureKey []byte) bool {
	switch k := cert.PublicKey.(type) {
	case ed25519.PublicKey:
		return bytes.Equal(k, signatureKey)
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		return err == nil && bytes.Equal(point, signatureKey)
	}
	return false
}

// basicIdentity returns whom a basic credential names: its identity is a client
// URI of two segments. Decision 11
func basicIdentity(cred *mls.Credential) (Identity, error) {
	client, err := mimi.ParseClientURI(string(cred.Identity))
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrNames, err)
	}
	user, ok := client.User()
	if !ok {
		return Identity{}, fmt.Errorf("%w: %s is not of the form mimi://host/d/user/client", ErrNames, client)
	}
	return Identity{User: user, Client: client}, nil
}

// Names returns the user and client that a credential claims to be, without
// verifying anything. It is for whoever relies on somebody else's check: a
// client that reads a tree its hub has verified must still verify it itself.
func Names(cred *mls.Credential) (mimi.UserURI, mimi.ClientURI, error) {
	switch cred.Type {
	case mls.CredentialBasic:
		id, err := basicIdentity(cred)
		if err != nil {
			return "", "", &CredentialError{Err: err}
		}
		return id.User, id.Client, nil
	case mls.CredentialX509:
		if len(cred.Certificates) == 0 || len(cred.Certificates[0].CertData) > maxChainBytes {
			return "", "", &CredentialError{Err: ErrCertificate}
		}
		cert, err := x509.ParseCertificate(cred.Certificates[0].CertData)
		if err != nil {
			return "", "", &CredentialError{Err: fmt.Errorf("%w: %v", ErrCertificate, err)}
		}
		user, client, err := clientNames(cert)
		if err != nil {
			return "", "", &CredentialError{Err: err}
		}
		return user, client, nil
	case mimi.CredentialPseudonymous:
		p, err := mimi.ParsePseudonymousCredential(cred)
		if err != nil {
			return "", "", &CredentialError{Err: err}
		}
		return p.UserPseudonym, p.ClientPseudonym, nil
	}
	return "", "", &CredentialError{Err: fmt.Errorf("%w: %v", ErrCredentialType, cred.Type)}
}
