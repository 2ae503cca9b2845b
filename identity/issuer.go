package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// A CertificateRequest asks a provider to certify the signature key of a
// client. It is signed with that key, so that nobody has another's key
// certified as its own.
type CertificateRequest struct {
	CipherSuite  suite.ID // fixes the signature scheme
	SignatureKey []byte
	User         mimi.UserURI
	Client       mimi.ClientURI
	Signature    []byte
}

// Code describes a CertificateRequest, a struct of Comity's own.
func (r *CertificateRequest) Code(c *tlspl.Codec) {
	r.codeTBS(c)
	c.Field("signature")
	tlspl.Opaque(c, &r.Signature)
}

func (r *CertificateRequest) codeTBS(c *tlspl.Codec) {
	c.Field("cipher_suite")
	tlspl.Uint16(c, &r.CipherSuite)
	c.Field("signature_key")
	tlspl.Opaque(c, &r.SignatureKey)
	c.Field("user")
	r.User.Code(c)
	c.Field("client")
	r.Client.Code(c)
}

type certificateRequestTBS CertificateRequest

// Code describes what the signature covers.
func (r *certificateRequestTBS) Code(c *tlspl.Codec) { (*CertificateRequest)(r).codeTBS(c) }

const certificateRequestLabel = "ComityCertificateRequest"

// NewCertificateRequest returns a signed request for the signer's key.
func NewCertificateRequest(rand io.Reader, signer *suite.Signer, user mimi.UserURI, client mimi.ClientURI) (*CertificateRequest, error) {
	r := &CertificateRequest{CipherSuite: signer.Suite().ID(), SignatureKey: signer.Public(), User: user, Client: client}
	tbs, err := tlspl.Marshal((*certificateRequestTBS)(r))
	if err != nil {
		return nil, err
	}
	if r.Signature, err = signer.SignWithLabel(rand, certificateRequestLabel, tbs); err != nil {
		return nil, err
	}
	return r, nil
}

// Verify checks that whoever made the request has the key.
func (r *CertificateRequest) Verify() error {
	s, ok := suite.Lookup(r.CipherSuite)
	if !ok {
		return mimi.ErrUnknownCiphersuite
	}
	tbs, err := tlspl.Marshal((*certificateRequestTBS)(r))
	if err != nil {
		return err
	}
	return s.VerifyWithLabel(r.SignatureKey, certificateRequestLabel, tbs, r.Signature)
}

// ErrScheme is the error of a cipher suite whose signature keys can't be put
// into a certificate: those with Ed448 or ML-DSA.
var ErrScheme = errors.New("identity: signature scheme has no X.509 form here")

// publicKey returns a SignaturePublicKey in the form that x509 takes.
func publicKey(id suite.ID, key []byte) (crypto.PublicKey, error) {
	s, ok := suite.Lookup(id)
	if !ok {
		return nil, mimi.ErrUnknownCiphersuite
	}
	if _, err := s.NewVerifier(key); err != nil {
		return nil, err
	}
	var curve elliptic.Curve
	switch {
	case len(key) == ed25519.PublicKeySize:
		return ed25519.PublicKey(bytes.Clone(key)), nil
	case len(key) == 65 && key[0] == 4:
		curve = elliptic.P256()
	case len(key) == 97 && key[0] == 4:
		curve = elliptic.P384()
	case len(key) == 133 && key[0] == 4:
		curve = elliptic.P521()
	default:
		return nil, ErrScheme
	}
	return ecdsa.ParseUncompressedPublicKey(curve, key)
}

// An Issuer is the certification authority of one provider. It is immutable and
// safe for concurrent use.
type Issuer struct {
	domain mimi.ProviderDomain
	chain  []*x509.Certificate // the issuer's own, then those above it
	key    crypto.Signer
}

// NewIssuer creates the root of a provider, valid from notBefore to notAfter:
// an ECDSA P-256 key with a self-signed certificate that is constrained to the
// provider's domain.
func NewIssuer(rand io.Reader, domain mimi.ProviderDomain, notBefore, notAfter time.Time) (*Issuer, error) {
	if _, err := mimi.ParseProviderDomain(string(domain)); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial(rand)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:                serial,
		Subject:                     pkix.Name{CommonName: string(domain) + " MIMI issuer"},
		NotBefore:                   notBefore,
		NotAfter:                    notAfter,
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLen:                  1,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         []string{string(domain)},
		PermittedURIDomains:         []string{string(domain)},
	}
	der, err := x509.CreateCertificate(rand, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &Issuer{domain, []*x509.Certificate{cert}, key}, nil
}

func newSerial(rand io.Reader) (*big.Int, error) {
	var b [16]byte
	if _, err := io.ReadFull(rand, b[:]); err != nil {
		return nil, err
	}
	b[0] = b[0]&0x7f | 0x40 // positive, and always of one length
	return new(big.Int).SetBytes(b[:]), nil
}

// ErrIssuer is the error of certificates or a key that make no issuer.
var ErrIssuer = errors.New("identity: not an issuer")

// LoadIssuer returns the issuer of a provider from PEM: its certificate,
// followed by those above it if it is not a root itself, and its PKCS #8 key.
func LoadIssuer(domain mimi.ProviderDomain, certsPEM, keyPEM []byte) (*Issuer, error) {
	chain, err := parsePEM(certsPEM)
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 || !chain[0].IsCA {
		return nil, fmt.Errorf("%w: the first certificate is missing or no authority's", ErrIssuer)
	}
	for i := 1; i < len(chain); i++ {
		if err := chain[i-1].CheckSignatureFrom(chain[i]); err != nil {
			return nil, fmt.Errorf("%w: certificate %d: %v", ErrIssuer, i, err)
		}
	}
	block, _ := pem.Decode(keyPEM)
	if block == nil {
		return nil, fmt.Errorf("%w: no PEM block with a key", ErrIssuer)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: key is not PKCS #8", ErrIssuer) // the error may quote the key
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%w: key can't sign", ErrIssuer)
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(chain[0].PublicKey) {
		return nil, fmt.Errorf("%w: key is not the certificate's", ErrIssuer)
	}
	return &Issuer{domain, chain, key}, nil
}

// MarshalPEM returns what LoadIssuer takes. The key is a secret.
func (i *Issuer) MarshalPEM() (certsPEM, keyPEM []byte, err error) {
	der, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		return nil, nil, err
	}
	return marshalPEM(i.chain), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// String hides the key.
func (i *Issuer) String() string { return "[issuer of " + string(i.domain) + "]" }

// GoString hides the key.
func (i *Issuer) GoString() string { return i.String() }

// Domain returns the provider's domain.
func (i *Issuer) Domain() mimi.ProviderDomain { return i.domain }

// Root returns the trust anchor for what the issuer signs.
func (i *Issuer) Root() *x509.Certificate { return i.chain[len(i.chain)-1] }

// A Certified says what goes into a certificate beyond the names and the key.
type Certified struct {
	NotBefore, NotAfter time.Time // cut to the issuer's own validity
	Subject             pkix.Name // attributes that rooms may preauthorize; may be empty
}

// IssueClient returns a credential for the key, user and client of a request,
// which it verifies. That the client is the user's is for the caller to know.
func (i *Issuer) IssueClient(rand io.Reader, req *CertificateRequest, with Certified) (mls.Credential, error) {
	if req.User.Host() != i.domain || req.Client.Host() != i.domain {
		return mls.Credential{}, fmt.Errorf("%w of %s: %s, %s", ErrIssuer, i.domain, req.User, req.Client)
	}
	if err := req.Verify(); err != nil {
		return mls.Credential{}, err
	}
	return i.issue(rand, req.CipherSuite, req.SignatureKey, with, []asn1.RawValue{
		{Class: asn1.ClassContextSpecific, Tag: sanURI, Bytes: []byte(req.User)},
		{Class: asn1.ClassContextSpecific, Tag: sanURI, Bytes: []byte(req.Client)},
	})
}

// IssueHub returns a credential for a key with which the provider signs as a
// hub: its dNSName is the provider's domain. Decision 32
func (i *Issuer) IssueHub(rand io.Reader, signer *suite.Signer, with Certified) (mls.Credential, error) {
	return i.issue(rand, signer.Suite().ID(), signer.Public(), with, []asn1.RawValue{
		{Class: asn1.ClassContextSpecific, Tag: sanDNS, Bytes: []byte(i.domain)},
	})
}

func (i *Issuer) issue(rand io.Reader, id suite.ID, signatureKey []byte, with Certified, names []asn1.RawValue) (mls.Credential, error) {
	key, err := publicKey(id, signatureKey)
	if err != nil {
		return mls.Credential{}, err
	}
	serial, err := newSerial(rand)
	if err != nil {
		return mls.Credential{}, err
	}
	// The names are encoded here, since x509 would write a URI anew.
	san, err := asn1.Marshal(names)
	if err != nil {
		return mls.Credential{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               with.Subject,
		NotBefore:             with.NotBefore,
		NotAfter:              with.NotAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		ExtraExtensions: []pkix.Extension{{
			Id:       oidSubjectAltName,
			Critical: len(with.Subject.ToRDNSequence()) == 0, // RFC 5280 §4.2.1.6
			Value:    san,
		}},
	}
	parent := i.chain[0]
	if template.NotBefore.Before(parent.NotBefore) {
		template.NotBefore = parent.NotBefore
	}
	if template.NotAfter.After(parent.NotAfter) {
		template.NotAfter = parent.NotAfter
	}
	if !template.NotAfter.After(template.NotBefore) {
		return mls.Credential{}, fmt.Errorf("%w: its certificate is not valid in that time", ErrIssuer)
	}
	der, err := x509.CreateCertificate(rand, template, parent, key, i.key)
	if err != nil {
		return mls.Credential{}, err
	}
	chain := [][]byte{der}
	for _, c := range i.chain[:len(i.chain)-1] { // all but the root, which verifiers have
		chain = append(chain, c.Raw)
	}
	return mls.X509Credential(chain...), nil
}
