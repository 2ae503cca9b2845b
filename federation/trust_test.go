package federation

import (
	"crypto/x509"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/federation/devpki"
	"github.com/comity-im/comity/mimi"
)

func TestParsePin(t *testing.T) {
	p := issue(t, newCA(t), devpki.Leaf{Names: []string{"a.example"}})
	want := PinOf(p.Certificate.Leaf)
	const digits = "0123456789abcdef"
	var plain, colons strings.Builder
	for i, b := range want {
		if i > 0 {
			colons.WriteByte(':')
		}
		for _, w := range []*strings.Builder{&plain, &colons} {
			w.WriteByte(digits[b>>4])
			w.WriteByte(digits[b&15])
		}
	}
	for _, s := range []string{p.SPKI(), want.String(), strings.TrimPrefix(p.SPKI(), "sha256/"), plain.String(), colons.String(),
		"sha256:" + strings.ToUpper(plain.String())} {
		if got, err := ParsePin(s); err != nil || got != want {
			t.Errorf("ParsePin(%q) = %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "sha256/", plain.String()[2:], plain.String() + "00", "sha256/AAAA", "md5/" + plain.String()} {
		if _, err := ParsePin(s); err == nil {
			t.Errorf("ParsePin(%q) was accepted", s)
		}
	}
}

// trusts makes one trust of each kind: in ca's authority, in pinned's key.
func trusts(t *testing.T, ca *devpki.CA, pinned devpki.Pair) (web, private, pin *trust) {
	t.Helper()
	file := writeFile(t, filepath.Join(t.TempDir(), "ca.pem"), ca.PEM())
	make := func(kind TrustKind, file string, pins []string) *trust {
		tr, err := newTrust(kind, file, pins, slog.Default(), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}
	return make(TrustWeb, "", nil), make(TrustCA, file, nil), make(TrustPin, "", []string{pinned.SPKI()})
}

func TestTrust(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	now := time.Now()
	names := func(n ...string) devpki.Leaf { return devpki.Leaf{Names: n} }
	good := issue(t, ca, names("b.example", "mimi.b.example"))
	self, err := devpki.SelfSigned(names("b.example"))
	if err != nil {
		t.Fatal(err)
	}
	serverOnly := issue(t, ca, devpki.Leaf{Names: []string{"b.example"}, Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	mail := issue(t, ca, devpki.Leaf{Names: []string{"b.example"}, Usage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}})
	expired := issue(t, ca, devpki.Leaf{Names: []string{"b.example"}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(0, 0, -1)})
	web, private, pin := trusts(t, ca, self)
	for _, tc := range []struct {
		name    string
		trust   *trust
		chain   devpki.Pair
		domain  mimi.ProviderDomain
		problem Problem
	}{
		{"private CA", private, good, "b.example", ""},
		{"serverAuth only", private, serverOnly, "b.example", ""},
		{"pinned key", pin, self, "b.example", ""},
		{"another's name", private, good, "c.example", ProblemWrongName},
		{"subdomain is not the domain", private, issue(t, ca, names("mimi.b.example")), "b.example", ProblemWrongName},
		{"wildcard", private, issue(t, ca, names("*.example")), "b.example", ProblemWrongName},
		{"another CA", private, issue(t, other, names("b.example")), "b.example", ProblemUntrusted},
		{"private CA on the web", web, good, "b.example", ProblemUntrusted},
		{"another key", pin, good, "b.example", ProblemWrongKey},
		{"pinned key, another's name", pin, self, "c.example", ProblemWrongName},
		{"wrong usage", private, mail, "b.example", ProblemWrongUsage},
		{"expired", private, expired, "b.example", ProblemExpired},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.trust.verifyDomain([]*x509.Certificate{tc.chain.Certificate.Leaf}, tc.domain, now)
			wantProblem(t, err, tc.problem)
		})
	}
	t.Run("none", func(t *testing.T) { wantProblem(t, private.verifyDomain(nil, "b.example", now), ProblemMissing) })
}

func wantProblem(t *testing.T, err error, want Problem) {
	t.Helper()
	var ce *CertificateError
	switch {
	case want == "" && err == nil:
	case !errors.As(err, &ce):
		t.Fatalf("got %v, want problem %q", err, want)
	case ce.Problem != want:
		t.Fatalf("got problem %q (%v), want %q", ce.Problem, err, want)
	}
}

// A directory may name hosts outside its domain only where the certificate there
// names the domain: else it could send our requests to a third provider.
func TestTrustOfHosts(t *testing.T) {
	ca := newCA(t)
	now := time.Now()
	_, private, _ := trusts(t, ca, issue(t, ca, devpki.Leaf{Names: []string{"x.example"}}))
	for _, tc := range []struct {
		host    string
		names   []string
		problem Problem
	}{
		{"b.example", []string{"b.example"}, ""},
		{"mimi.b.example", []string{"mimi.b.example"}, ""},
		{"mimi.b.example", []string{"*.b.example"}, ""},
		{"hoster.example", []string{"hoster.example", "b.example"}, ""},
		{"victim.example", []string{"victim.example"}, ProblemWrongName},
		{"xb.example", []string{"xb.example"}, ProblemWrongName},
		{"mimi.b.example", []string{"b.example"}, ProblemWrongName},
	} {
		p := issue(t, ca, devpki.Leaf{Names: tc.names})
		err := private.verifyHost([]*x509.Certificate{p.Certificate.Leaf}, tc.host, "b.example", now)
		t.Run(tc.host+" "+strings.Join(tc.names, "+"), func(t *testing.T) { wantProblem(t, err, tc.problem) })
	}
}

func TestTrustSettings(t *testing.T) {
	dir := t.TempDir()
	caFile := writeFile(t, filepath.Join(dir, "ca.pem"), newCA(t).PEM())
	empty := writeFile(t, filepath.Join(dir, "empty.pem"), nil)
	pin := "sha256/" + strings.Repeat("A", 43) + "="
	for _, tc := range []struct {
		cfg  PeerConfig
		text string // "" if good
	}{
		{PeerConfig{}, ""},
		{PeerConfig{Trust: TrustCA, CAFile: caFile}, ""},
		{PeerConfig{Trust: TrustPin, Pins: []string{pin}}, ""},
		{PeerConfig{Trust: TrustCA}, "needs a CA file"},
		{PeerConfig{Trust: TrustCA, CAFile: filepath.Join(dir, "none.pem")}, "can't be read"},
		{PeerConfig{Trust: TrustCA, CAFile: empty}, "holds no PEM certificate"},
		{PeerConfig{Trust: TrustPin}, "at least one pin"},
		{PeerConfig{Trust: TrustPin, Pins: []string{"x"}}, "is not a pin"},
		{PeerConfig{Pins: []string{pin}}, "pins need the trust"},
		{PeerConfig{CAFile: caFile}, "a CA file needs the trust"},
		{PeerConfig{Trust: TrustPin, Pins: []string{pin}, CAFile: caFile}, "a CA file needs the trust"},
		{PeerConfig{Trust: "blind"}, "unknown trust"},
		{PeerConfig{Address: "127.0.0.1"}, "is not host:port"},
		{PeerConfig{Address: "127.0.0.1:0"}, "no usable port"},
		{PeerConfig{AssetHosts: []string{"Assets.b.example"}}, "not a host name"},
		{PeerConfig{AssetHosts: []string{"127.0.0.1"}}, "not a host name"},
		{PeerConfig{AssetHosts: []string{"assets.b.example:443"}}, "443 is not written"},
		{PeerConfig{AssetHosts: []string{"assets.b.example", "assets.b.example:8443"}}, ""},
	} {
		_, err := NewPeers(PeersConfig{Peers: map[mimi.ProviderDomain]PeerConfig{"b.example": tc.cfg}})
		if tc.text == "" && err != nil || tc.text != "" && (err == nil || !strings.Contains(err.Error(), tc.text) || !strings.Contains(err.Error(), "b.example")) {
			t.Errorf("%+v: got %v, want %q", tc.cfg, err, tc.text)
		}
	}
}

func TestPublicAddresses(t *testing.T) {
	for s, want := range map[string]bool{
		"8.8.8.8": true, "2606:4700::1111": true, "192.0.1.1": true,
		"127.0.0.1": false, "::1": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false,
		"169.254.169.254": false, "fe80::1": false, "fd00::1": false, "100.64.0.1": false, "0.0.0.0": false,
		"::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "64:ff9b::a00:1": false, "2002:7f00:1::": false,
		"::127.0.0.1": false, "224.0.0.1": false, "255.255.255.255": false, "ff02::1": false, "::": false, "198.18.0.1": false,
		"fec0::1": false, "240.0.0.1": false,
	} {
		if got := public(netip.MustParseAddr(s)); got != want {
			t.Errorf("public(%s) = %v", s, got)
		}
	}
}
