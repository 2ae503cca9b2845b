package federation

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/comity-im/comity/mimi"
)

// A TrustKind says what makes a peer's certificate genuine.
type TrustKind string

// The kinds of trust. Whatever the kind, the certificate must name the peer's
// domain and be within its dates.
const (
	TrustWeb TrustKind = "web" // the public web PKI: the system's authorities
	TrustCA  TrustKind = "ca"  // the authorities in a file
	TrustPin TrustKind = "pin" // the key itself, whoever signed the certificate
)

// A Pin is the SHA-256 of a certificate's SubjectPublicKeyInfo.
type Pin [sha256.Size]byte

// ParsePin reads a pin: hexadecimal (colons allowed) or base64, each with or
// without "sha256/" or "sha256:" before it.
func ParsePin(s string) (Pin, error) {
	var p Pin
	text := strings.TrimPrefix(strings.TrimPrefix(s, "sha256/"), "sha256:")
	if b, err := hex.DecodeString(strings.ReplaceAll(text, ":", "")); err == nil && copy(p[:], b) == len(p) && len(b) == len(p) {
		return p, nil
	}
	if b, err := base64.StdEncoding.DecodeString(text); err == nil && len(b) == len(p) {
		copy(p[:], b)
		return p, nil
	}
	return Pin{}, fmt.Errorf("federation: %q is not a pin: it takes the 32 octets of a SHA-256, as sha256/<base64> or hexadecimal", s)
}

// PinOf returns the pin of a certificate's key.
func PinOf(cert *x509.Certificate) Pin { return sha256.Sum256(cert.RawSubjectPublicKeyInfo) }

// String returns the pin as sha256/<base64>.
func (p Pin) String() string { return "sha256/" + base64.StdEncoding.EncodeToString(p[:]) }

// trust is how one peer, or every peer without a setting of its own, is known.
type trust struct {
	kind   TrustKind
	caFile string // for TrustCA; for TrustWeb, "" means the system's
	pins   map[Pin]bool
	logger *slog.Logger

	mu         sync.Mutex
	files      fileWatch
	roots      *x509.CertPool // nil means the system's
	generation uint64
}

func newTrust(kind TrustKind, caFile string, pins []string, logger *slog.Logger, now time.Time) (*trust, error) {
	t := &trust{kind: kind, logger: logger}
	switch kind {
	case TrustWeb, TrustCA:
		if len(pins) > 0 {
			return nil, fmt.Errorf("federation: pins need the trust %q", TrustPin)
		}
		if kind == TrustCA && caFile == "" {
			return nil, fmt.Errorf("federation: the trust %q needs a CA file", TrustCA)
		}
		t.caFile = caFile
	case TrustPin:
		if caFile != "" {
			return nil, fmt.Errorf("federation: a CA file needs the trust %q", TrustCA)
		}
		if len(pins) == 0 {
			return nil, fmt.Errorf("federation: the trust %q needs at least one pin", TrustPin)
		}
		t.pins = make(map[Pin]bool)
		for _, s := range pins {
			p, err := ParsePin(s)
			if err != nil {
				return nil, err
			}
			t.pins[p] = true
		}
	default:
		return nil, fmt.Errorf("federation: unknown trust %q: it is one of %q, %q, %q", kind, TrustWeb, TrustCA, TrustPin)
	}
	if t.caFile != "" {
		t.files.paths = []string{t.caFile}
		t.files.changed(now)
		if err := t.load(); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// load reads the CA file. The caller holds mu or is alone.
func (t *trust) load() error {
	pem, err := os.ReadFile(t.caFile)
	if err != nil {
		return &CertificateError{ProblemUnreadable, fmt.Sprintf("the CA file can't be read: %v", err), err}
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return &CertificateError{ProblemUnreadable, fmt.Sprintf("the CA file %s holds no PEM certificate", t.caFile), nil}
	}
	t.roots = pool
	t.generation++
	return nil
}

// get returns the authorities and a number that grows with each rotation.
func (t *trust) get(now time.Time) (*x509.CertPool, uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.caFile != "" && t.files.due(now) && t.files.changed(now) {
		t.reload()
	}
	return t.roots, t.generation
}

func (t *trust) reload() {
	if err := t.load(); err != nil {
		t.logger.Error("CA file not reloaded, the old one stays in use", "error", err)
	} else {
		t.logger.Info("CA file reloaded", "file", t.caFile)
	}
}

// verifyDomain judges a peer's client certificate: it must be trusted and carry
// domain as a dNSName of its own (Decision 6).
func (t *trust) verifyDomain(chain []*x509.Certificate, domain mimi.ProviderDomain, now time.Time) error {
	if len(chain) == 0 {
		return &CertificateError{ProblemMissing, "no client certificate was shown", nil}
	}
	if !namesDomain(chain[0], domain) {
		return &CertificateError{ProblemWrongName, fmt.Sprintf(
			"the certificate does not name %s: it names %s", domain, certNames(chain[0])), nil}
	}
	return t.verifyChain(chain, now)
}

// verifyHost judges the certificate of a server that serves host for the
// provider domain (RFC 9525, Decision 5). A host outside the domain must prove
// by its certificate that it is the provider's: else a peer's directory could
// make us send, with our authority, to a third provider.
func (t *trust) verifyHost(chain []*x509.Certificate, host string, domain mimi.ProviderDomain, now time.Time) error {
	if len(chain) > 0 && !within(host, domain) && !namesDomain(chain[0], domain) {
		return &CertificateError{ProblemWrongName, fmt.Sprintf(
			"the host %s is outside the domain %s and its certificate does not name that domain: it names %s",
			host, domain, certNames(chain[0])), nil}
	}
	return t.verifyServer(chain, host, now)
}

// verifyServer judges the certificate of a host that is known to be the peer's.
func (t *trust) verifyServer(chain []*x509.Certificate, host string, now time.Time) error {
	if len(chain) == 0 {
		return &CertificateError{ProblemMissing, "no server certificate was shown", nil}
	}
	if err := chain[0].VerifyHostname(host); err != nil {
		return &CertificateError{ProblemWrongName, fmt.Sprintf(
			"the certificate is not for the host %s: it names %s", host, certNames(chain[0])), err}
	}
	return t.verifyChain(chain, now)
}

// within reports whether host is the domain or below it.
func within(host string, domain mimi.ProviderDomain) bool {
	host, d := strings.ToLower(host), string(domain)
	return host == d || strings.HasSuffix(host, "."+d)
}

func (t *trust) verifyChain(chain []*x509.Certificate, now time.Time) error {
	leaf := chain[0]
	if err := checkDates(leaf, now, "the certificate"); err != nil {
		return err
	}
	if !usable(leaf) {
		return &CertificateError{ProblemWrongUsage, "the certificate is for neither servers nor clients", nil}
	}
	if t.kind == TrustPin {
		if pin := PinOf(leaf); !t.pins[pin] {
			return &CertificateError{ProblemWrongKey, fmt.Sprintf("the key %s is not the pinned one", pin), nil}
		}
		return nil
	}
	roots, _ := t.get(now)
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:         roots,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	if err == nil {
		return nil
	}
	problem := ProblemUntrusted
	if invalid := (x509.CertificateInvalidError{}); errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		problem = ProblemExpired
	}
	text := "the certificate leads to no authority that is trusted for this peer"
	if problem == ProblemExpired {
		text = "an authority in the certificate's chain expired"
	}
	return &CertificateError{problem, text + ": " + err.Error(), err}
}
