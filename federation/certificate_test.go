package federation

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/federation/devpki"
	"github.com/comity-im/comity/mimi"
)

func newCA(t testing.TB) *devpki.CA {
	t.Helper()
	ca, err := devpki.NewCA("test CA")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func issue(t testing.TB, ca *devpki.CA, l devpki.Leaf) devpki.Pair {
	t.Helper()
	p, err := ca.Issue(l)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func writePair(t testing.TB, p devpki.Pair, dir, name string) (certFile, keyFile string) {
	t.Helper()
	certFile, keyFile, err := p.WriteFiles(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile
}

func writeFile(t testing.TB, name string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// loadCertificate returns a's certificate out of fresh files.
func loadCertificate(t testing.TB, p devpki.Pair, domain mimi.ProviderDomain, host string) *Certificate {
	t.Helper()
	certFile, keyFile := writePair(t, p, t.TempDir(), "own")
	c, err := LoadCertificate(CertificateConfig{Domain: domain, Host: host, CertFile: certFile, KeyFile: keyFile})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOwnCertificate(t *testing.T) {
	ca, dir := newCA(t), t.TempDir()
	now := time.Now()
	write := func(name string, l devpki.Leaf) (string, string) { return writePair(t, issue(t, ca, l), dir, name) }
	goodCert, goodKey := write("good", devpki.Leaf{Names: []string{"a.example", "mimi.a.example"}})
	serverCert, serverKey := write("server", devpki.Leaf{Names: []string{"a.example"}, Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	mailCert, mailKey := write("mail", devpki.Leaf{Names: []string{"a.example"}, Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}})
	oldCert, oldKey := write("old", devpki.Leaf{Names: []string{"a.example"}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(0, 0, -1)})
	newCert, newKey := write("new", devpki.Leaf{Names: []string{"a.example"}, NotBefore: now.AddDate(0, 0, 1), NotAfter: now.AddDate(1, 0, 0)})
	wildCert, wildKey := write("wild", devpki.Leaf{Names: []string{"*.example"}})
	broken := writeFile(t, filepath.Join(dir, "broken.pem"), []byte("not PEM"))
	for _, tc := range []struct {
		name, host, cert, key string
		problem               Problem // "" for a good one
		text                  string
	}{
		{"good", "", goodCert, goodKey, "", ""},
		{"endpoint host", "mimi.a.example", goodCert, goodKey, "", ""},
		{"serverAuth only", "", serverCert, serverKey, "", ""},
		{"missing certificate", "", filepath.Join(dir, "none.pem"), goodKey, ProblemUnreadable, "the certificate file can't be read"},
		{"missing key", "", goodCert, filepath.Join(dir, "none.pem"), ProblemUnreadable, "the private key file can't be read"},
		{"broken", "", broken, goodKey, ProblemUnreadable, "are not a PEM certificate and its private key"},
		{"another's key", "", goodCert, oldKey, ProblemKeyMismatch, "does not belong to the certificate"},
		{"expired", "", oldCert, oldKey, ProblemExpired, "expired on"},
		{"future", "", newCert, newKey, ProblemNotYetValid, "is not valid before"},
		{"wildcard", "", wildCert, wildKey, ProblemWrongName, "is not for the domain a.example: it names *.example"},
		{"wrong host", "mimi.b.example", goodCert, goodKey, ProblemWrongName, "is not for the endpoint host mimi.b.example"},
		{"wrong usage", "", mailCert, mailKey, ProblemWrongUsage, "for neither servers nor clients"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := LoadCertificate(CertificateConfig{Domain: "a.example", Host: tc.host, CertFile: tc.cert, KeyFile: tc.key})
			if tc.problem == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var ce *CertificateError
			if !errors.As(err, &ce) || ce.Problem != tc.problem || !strings.Contains(err.Error(), tc.text) {
				t.Fatalf("got %v, want problem %s with %q", err, tc.problem, tc.text)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("not one line: %q", err)
			}
		})
	}
}

func TestCertificateRotates(t *testing.T) {
	ca, dir := newCA(t), t.TempDir()
	first := issue(t, ca, devpki.Leaf{Names: []string{"a.example"}})
	second := issue(t, ca, devpki.Leaf{Names: []string{"a.example"}})
	foreign := issue(t, ca, devpki.Leaf{Names: []string{"b.example"}})
	certFile, keyFile := writePair(t, first, dir, "own")
	c, err := LoadCertificate(CertificateConfig{Domain: "a.example", CertFile: certFile, KeyFile: keyFile})
	if err != nil {
		t.Fatal(err)
	}
	clock := time.Now()
	c.now = func() time.Time { return clock }
	uses := func(p devpki.Pair) {
		t.Helper()
		clock = clock.Add(2 * watchInterval)
		if got, _ := c.get(); !got.Leaf.Equal(p.Certificate.Leaf) {
			t.Fatalf("uses another certificate than expected: it names %s", certNames(got.Leaf))
		}
	}
	uses(first)
	writePair(t, foreign, dir, "own") // not ours: the old one stays
	uses(first)
	if c.Reload() == nil {
		t.Error("Reload took another provider's certificate")
	}
	writePair(t, second, dir, "own")
	uses(second)
	_, before := c.get()
	uses(second)
	if _, after := c.get(); after != before {
		t.Error("a rotation was counted where there was none")
	}
}

func issueFor(t testing.TB, ca *devpki.CA, name string) devpki.Pair {
	return issue(t, ca, devpki.Leaf{Names: []string{name}})
}
