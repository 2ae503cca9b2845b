package federation

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/comity-im/comity/mimi"
)

// A Problem is what is wrong with a certificate or with the trust in one.
type Problem string

// The problems of certificates, ours and our peers'.
const (
	ProblemUnreadable  Problem = "unreadable"   // a file is missing, or holds no PEM of the right kind
	ProblemKeyMismatch Problem = "key_mismatch" // the private key belongs to another certificate
	ProblemExpired     Problem = "expired"
	ProblemNotYetValid Problem = "not_yet_valid"
	ProblemWrongName   Problem = "wrong_name"  // does not name the domain or host that it must
	ProblemWrongUsage  Problem = "wrong_usage" // for neither servers nor clients
	ProblemUntrusted   Problem = "untrusted"   // no chain to an authority that is trusted here
	ProblemWrongKey    Problem = "wrong_key"   // not the pinned key
	ProblemMissing     Problem = "missing"     // the other side showed none
)

// A CertificateError says in one sentence what is wrong with a certificate.
type CertificateError struct {
	Problem Problem
	Text    string
	Err     error // the cause, or nil
}

func (e *CertificateError) Error() string { return "federation: " + e.Text }

// Unwrap returns the cause.
func (e *CertificateError) Unwrap() error { return e.Err }

// CertificateConfig names the files of a provider's own certificate.
type CertificateConfig struct {
	// Domain is the provider's domain. The certificate must carry it as a
	// dNSName of its own, not under a wildcard (Decision 6).
	Domain mimi.ProviderDomain
	// Host is the host of the endpoints' URLs, Domain if empty. The certificate
	// must be valid for it too.
	Host string
	// CertFile holds the certificate and its intermediates as PEM, KeyFile the
	// private key.
	CertFile, KeyFile string
	// Logger is told about rotations. Nil means slog.Default.
	Logger *slog.Logger
}

// A Certificate is a provider's own certificate, used both as server and as
// client, for a certificate with the usage serverAuth alone serves as client
// certificate too. It is read again when its files change; if they can't be
// used then, the old one stays in use and the log says why. It is safe for
// concurrent use.
type Certificate struct {
	cfg CertificateConfig
	now func() time.Time

	mu         sync.Mutex
	files      fileWatch // guarded by mu
	current    *tls.Certificate
	generation uint64
}

// LoadCertificate reads and checks a certificate. The error is a
// *CertificateError fit to be shown to whoever starts the program.
func LoadCertificate(cfg CertificateConfig) (*Certificate, error) {
	if _, err := mimi.ParseProviderDomain(string(cfg.Domain)); err != nil {
		return nil, fmt.Errorf("federation: our own domain: %w", err)
	}
	if cfg.Host == "" {
		cfg.Host = string(cfg.Domain)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	c := &Certificate{cfg: cfg, now: time.Now, files: fileWatch{paths: []string{cfg.CertFile, cfg.KeyFile}}}
	c.files.changed(c.now())
	if err := c.load(); err != nil {
		return nil, err
	}
	return c, nil
}

// Domain returns the provider's domain.
func (c *Certificate) Domain() mimi.ProviderDomain { return c.cfg.Domain }

// Host returns the host of the endpoints' URLs.
func (c *Certificate) Host() string { return c.cfg.Host }

// ServerTLS returns the configuration of a listener that shows the certificate
// and asks for none, such as the one for a provider's own clients.
func (c *Certificate) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			cert, _ := c.get()
			return cert, nil
		},
	}
}

// Reload reads the files now, whether they changed or not.
func (c *Certificate) Reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files.changed(c.now())
	return c.load()
}

// get returns the certificate in use and a number that grows with each rotation.
func (c *Certificate) get() (*tls.Certificate, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.files.due(c.now()) && c.files.changed(c.now()) {
		if err := c.load(); err != nil {
			c.cfg.Logger.Error("own certificate not rotated, the old one stays in use", "error", err)
		} else {
			c.cfg.Logger.Info("own certificate rotated", "file", c.cfg.CertFile, "not_after", c.current.Leaf.NotAfter)
		}
	}
	return c.current, c.generation
}

func (c *Certificate) load() error {
	pair, err := readKeyPair(c.cfg.CertFile, c.cfg.KeyFile)
	if err != nil {
		return err
	}
	if err := checkOwn(pair.Leaf, c.cfg, c.now()); err != nil {
		return err
	}
	c.current = pair
	c.generation++
	return nil
}

func readKeyPair(certFile, keyFile string) (*tls.Certificate, error) {
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		return nil, &CertificateError{ProblemUnreadable, fmt.Sprintf("the certificate file can't be read: %v", err), err}
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, &CertificateError{ProblemUnreadable, fmt.Sprintf("the private key file can't be read: %v", err), err}
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		// tls tells a foreign key from a broken file only by its text.
		if strings.Contains(err.Error(), "does not match") {
			return nil, &CertificateError{ProblemKeyMismatch,
				fmt.Sprintf("the private key in %s does not belong to the certificate in %s", keyFile, certFile), err}
		}
		return nil, &CertificateError{ProblemUnreadable,
			fmt.Sprintf("%s and %s are not a PEM certificate and its private key: %v", certFile, keyFile, err), err}
	}
	return &pair, nil
}

func checkOwn(leaf *x509.Certificate, cfg CertificateConfig, now time.Time) error {
	if err := checkDates(leaf, now, "the certificate in "+cfg.CertFile); err != nil {
		return err
	}
	if !namesDomain(leaf, cfg.Domain) {
		return &CertificateError{ProblemWrongName, fmt.Sprintf(
			"the certificate in %s is not for the domain %s: it names %s", cfg.CertFile, cfg.Domain, certNames(leaf)), nil}
	}
	if err := leaf.VerifyHostname(cfg.Host); err != nil {
		return &CertificateError{ProblemWrongName, fmt.Sprintf(
			"the certificate in %s is not for the endpoint host %s: it names %s", cfg.CertFile, cfg.Host, certNames(leaf)), err}
	}
	if !usable(leaf) {
		return &CertificateError{ProblemWrongUsage, fmt.Sprintf(
			"the certificate in %s is for neither servers nor clients", cfg.CertFile), nil}
	}
	return nil
}

func checkDates(leaf *x509.Certificate, now time.Time, what string) error {
	if now.After(leaf.NotAfter) {
		return &CertificateError{ProblemExpired, fmt.Sprintf(
			"%s expired on %s", what, leaf.NotAfter.UTC().Format(time.RFC3339)), nil}
	}
	if now.Before(leaf.NotBefore) {
		return &CertificateError{ProblemNotYetValid, fmt.Sprintf(
			"%s is not valid before %s", what, leaf.NotBefore.UTC().Format(time.RFC3339)), nil}
	}
	return nil
}

// namesDomain reports whether a dNSName of the certificate equals domain. A
// wildcard speaks for hosts, not for providers (Decision 6).
func namesDomain(leaf *x509.Certificate, domain mimi.ProviderDomain) bool {
	for _, name := range leaf.DNSNames {
		if strings.EqualFold(name, string(domain)) {
			return true
		}
	}
	return false
}

// usable reports whether the extended key usages allow TLS in either role.
// Public authorities no longer issue clientAuth, so serverAuth must do for clients.
func usable(leaf *x509.Certificate) bool {
	if len(leaf.ExtKeyUsage) == 0 && len(leaf.UnknownExtKeyUsage) == 0 {
		return true
	}
	for _, u := range leaf.ExtKeyUsage {
		switch u {
		case x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageAny:
			return true
		}
	}
	return false
}

func certNames(leaf *x509.Certificate) string {
	names := append([]string(nil), leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	switch {
	case len(names) == 0:
		return "no host at all"
	case len(names) > 5:
		return strings.Join(names[:5], ", ") + fmt.Sprintf(" and %d more", len(names)-5)
	}
	return strings.Join(names, ", ")
}

// watchInterval is how long a change of a file may go unseen.
const watchInterval = time.Second

// A fileWatch tells whether files changed, by looking at them now and then: no
// watcher of the operating system sees through the symbolic links by which
// certificates are commonly swapped.
type fileWatch struct {
	paths []string
	seen  []os.FileInfo // nil where the file is missing
	next  time.Time
}

func (w *fileWatch) due(now time.Time) bool { return !now.Before(w.next) }

// changed notes how the files look now and reports whether that is new.
func (w *fileWatch) changed(now time.Time) bool {
	w.next = now.Add(watchInterval)
	if w.seen == nil {
		w.seen = make([]os.FileInfo, len(w.paths))
	}
	changed := false
	for i, path := range w.paths {
		info, err := os.Stat(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			continue
		}
		old := w.seen[i]
		same := info == nil && old == nil ||
			info != nil && old != nil && os.SameFile(info, old) && info.ModTime().Equal(old.ModTime()) && info.Size() == old.Size()
		if !same {
			changed = true
			w.seen[i] = info
		}
	}
	return changed
}
