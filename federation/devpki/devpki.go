// Package devpki makes certificate authorities and certificates for tests, for
// the demo and for a first try on one machine. Its authorities live as long as
// the process or the folder they are written to; it is no PKI for production.
//
// All keys are ECDSA P-256. Randomness comes from crypto/rand.
package devpki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// A CA is a self-signed certificate authority with its key.
type CA struct {
	Certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewCA returns a fresh authority, valid from a day ago for ten years.
func NewCA(name string) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("devpki: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-24 * time.Hour),
		NotAfter:              now.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("devpki: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("devpki: %w", err)
	}
	return &CA{Certificate: cert, key: key}, nil
}

// LoadOrCreateCA reads ca.pem and ca-key.pem from dir, or makes an authority and
// writes them there if ca.pem does not exist.
func LoadOrCreateCA(dir, name string) (*CA, error) {
	certFile, keyFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem")
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err == nil {
		key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
		if !ok || !pair.Leaf.IsCA {
			return nil, fmt.Errorf("devpki: %s is not an authority made by this package", certFile)
		}
		return &CA{Certificate: pair.Leaf, key: key}, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("devpki: %w", err)
	}
	ca, err := NewCA(name)
	if err != nil {
		return nil, err
	}
	keyPEM, err := marshalKey(ca.key)
	if err != nil {
		return nil, err
	}
	p := Pair{CertPEM: ca.PEM(), KeyPEM: keyPEM}
	if err := p.write(certFile, keyFile); err != nil {
		return nil, err
	}
	return ca, nil
}

// PEM returns the authority's certificate.
func (ca *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate.Raw})
}

// Pool returns a pool that holds the authority alone.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.Certificate)
	return pool
}

// A Leaf says what a certificate is to hold.
type Leaf struct {
	// Names are the dNSName and, for those that are IP addresses, iPAddress
	// subject alternative names.
	Names []string
	// Usage are the extended key usages; empty means serverAuth and clientAuth.
	Usage []x509.ExtKeyUsage
	// NotBefore and NotAfter default to an hour ago and a year from now.
	NotBefore, NotAfter time.Time
}

// A Pair is a certificate with its private key, as PEM and ready for use.
type Pair struct {
	CertPEM, KeyPEM []byte
	Certificate     tls.Certificate
}

// Issue returns a certificate for a fresh key.
func (ca *CA) Issue(l Leaf) (Pair, error) { return issue(l, ca) }

// SelfSigned returns a certificate that nobody vouches for, for use with a
// pinned key.
func SelfSigned(l Leaf) (Pair, error) { return issue(l, nil) }

func issue(l Leaf, ca *CA) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("devpki: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return Pair{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		NotBefore:             l.NotBefore,
		NotAfter:              l.NotAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           l.Usage,
		BasicConstraintsValid: true,
	}
	if len(l.Names) > 0 {
		template.Subject = pkix.Name{CommonName: l.Names[0]}
	}
	if l.Usage == nil {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	now := time.Now()
	if l.NotBefore.IsZero() {
		template.NotBefore = now.Add(-time.Hour)
	}
	if l.NotAfter.IsZero() {
		template.NotAfter = now.AddDate(1, 0, 0)
	}
	for _, name := range l.Names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	parent, signer := template, key
	if ca != nil {
		parent, signer = ca.Certificate, ca.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return Pair{}, fmt.Errorf("devpki: %w", err)
	}
	p := Pair{CertPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
	if p.KeyPEM, err = marshalKey(key); err != nil {
		return Pair{}, err
	}
	if p.Certificate, err = tls.X509KeyPair(p.CertPEM, p.KeyPEM); err != nil {
		return Pair{}, fmt.Errorf("devpki: %w", err)
	}
	return p, nil
}

// SPKI returns the pin of the pair's key: the SHA-256 of its
// SubjectPublicKeyInfo as "sha256/" and base64.
func (p Pair) SPKI() string {
	sum := sha256.Sum256(p.Certificate.Leaf.RawSubjectPublicKeyInfo)
	return "sha256/" + base64.StdEncoding.EncodeToString(sum[:])
}

// WriteFiles writes <name>.pem and <name>-key.pem (mode 0600) into dir and
// returns their paths. Each file is replaced in one step.
func (p Pair) WriteFiles(dir, name string) (certFile, keyFile string, err error) {
	certFile, keyFile = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem")
	return certFile, keyFile, p.write(certFile, keyFile)
}

func (p Pair) write(certFile, keyFile string) error {
	if err := os.MkdirAll(filepath.Dir(certFile), 0o700); err != nil {
		return fmt.Errorf("devpki: %w", err)
	}
	for _, f := range []struct {
		name string
		data []byte
		mode os.FileMode
	}{{keyFile, p.KeyPEM, 0o600}, {certFile, p.CertPEM, 0o644}} {
		if err := os.WriteFile(f.name+".new", f.data, f.mode); err != nil {
			return fmt.Errorf("devpki: %w", err)
		}
		if err := os.Rename(f.name+".new", f.name); err != nil {
			return fmt.Errorf("devpki: %w", err)
		}
	}
	return nil
}

func marshalKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("devpki: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("devpki: %w", err)
	}
	return n, nil
}
