package identity

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

var (
	start = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	year  = 365 * 24 * time.Hour
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newSigner(t testing.TB, id suite.ID) *suite.Signer {
	t.Helper()
	s, _ := suite.Lookup(id)
	return must(s.GenerateSigner(rand.Reader))
}

func newIssuer(t testing.TB, domain mimi.ProviderDomain) *Issuer {
	t.Helper()
	return must(NewIssuer(rand.Reader, domain, start, start.Add(10*year)))
}

func issue(t testing.TB, i *Issuer, s *suite.Signer, with Certified) mls.Credential {
	t.Helper()
	user := must(mimi.NewUserURI(i.Domain(), "al ice"))
	client := must(mimi.NewClientURI(i.Domain(), "al ice", "phone"))
	req := must(NewCertificateRequest(rand.Reader, s, user, client))
	if with.NotAfter.IsZero() {
		with.NotBefore, with.NotAfter = start, start.Add(year)
	}
	return must(i.IssueClient(rand.Reader, req, with))
}

func TestIssueAndVerify(t *testing.T) {
	issuer := newIssuer(t, "a.example")
	v := NewVerifier(Config{})
	v.SetAnchors("a.example", []*x509.Certificate{issuer.Root()})
	for _, id := range []suite.ID{suite.X25519AES128GCMSHA256Ed25519, suite.P256AES128GCMSHA256P256, suite.P384AES256GCMSHA384P384, suite.P521AES256GCMSHA512P521} {
		s := newSigner(t, id)
		cred := issue(t, issuer, s, Certified{})
		for range 2 { // the second time from the cache
			got, err := v.VerifyCredential(&cred, s.Public(), start.Add(time.Hour))
			if err != nil {
				t.Fatalf("%v: %v", id, err)
			}
			if got.User != "mimi://a.example/u/al%20ice" || got.Client != "mimi://a.example/d/al%20ice/phone" || got.Provider() != "a.example" {
				t.Errorf("%v: identity is %s, %s", id, got.User, got.Client)
			}
			if !got.NotAfter.Equal(start.Add(year)) || got.Certificate == nil {
				t.Errorf("%v: valid to %v", id, got.NotAfter)
			}
		}
		user, client, err := Names(&cred)
		if err != nil || user != "mimi://a.example/u/al%20ice" || client != "mimi://a.example/d/al%20ice/phone" {
			t.Errorf("Names = %s, %s, %v", user, client, err)
		}
	}
	if s := newSigner(t, suite.X448AES256GCMSHA512Ed448); true {
		req := must(NewCertificateRequest(rand.Reader, s, "mimi://a.example/u/a", "mimi://a.example/d/a"))
		if _, err := issuer.IssueClient(rand.Reader, req, Certified{NotBefore: start, NotAfter: start.Add(year)}); !errors.Is(err, ErrScheme) {
			t.Errorf("Ed448: %v, want ErrScheme", err)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	a, b := newIssuer(t, "a.example"), newIssuer(t, "b.example")
	s := newSigner(t, suite.X25519AES128GCMSHA256Ed25519)
	good := issue(t, a, s, Certified{})
	v := NewVerifier(Config{})
	v.SetAnchors("a.example", []*x509.Certificate{a.Root()})
	v.SetAnchors("b.example", []*x509.Certificate{b.Root()})
	now := start.Add(time.Hour)

	// b certifies a user of a: an authority without scruples or constraints.
	evil := *b
	evil.domain = "a.example"
	foreign := issue(t, &evil, s, Certified{})
	unknown := issue(t, newIssuer(t, "c.example"), s, Certified{})
	impostor := issue(t, newIssuer(t, "a.example"), s, Certified{})

	san := func(names ...string) mls.Credential {
		var list []asn1.RawValue
		for _, n := range names {
			list = append(list, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: sanURI, Bytes: []byte(n)})
		}
		return must(a.issue(rand.Reader, s.Suite().ID(), s.Public(), Certified{NotBefore: start, NotAfter: start.Add(year)}, list))
	}
	const user, client = "mimi://a.example/u/alice", "mimi://a.example/d/alice/1"
	other := newSigner(t, suite.X25519AES128GCMSHA256Ed25519)
	p256 := newSigner(t, suite.P256AES128GCMSHA256P256)

	for name, tt := range map[string]struct {
		cred mls.Credential
		key  []byte
		now  time.Time
		err  error
	}{
		"another key":             {good, other.Public(), now, ErrKey},
		"a key of another scheme": {good, p256.Public(), now, ErrKey},
		"no key":                  {good, nil, now, ErrKey},
		"too early":               {good, s.Public(), start.Add(-time.Second), ErrChain},
		"too late":                {good, s.Public(), start.Add(year + time.Second), ErrChain},
		"another's anchor":        {foreign, s.Public(), now, ErrChain},
		"same name, other key":    {impostor, s.Public(), now, ErrChain},
		"no anchor":               {unknown, s.Public(), now, ErrNoAnchor},
		"empty chain":             {mls.X509Credential(), s.Public(), now, ErrCertificate},
		"not a certificate":       {mls.X509Credential([]byte("x")), s.Public(), now, ErrCertificate},
		"long chain":              {mls.X509Credential(bytes.Split(make([]byte, maxChain+1), nil)...), s.Public(), now, ErrCertificate},
		"large chain":             {mls.X509Credential(make([]byte, maxChainBytes+1)), s.Public(), now, ErrCertificate},
		"root as leaf":            {mls.X509Credential(a.Root().Raw), s.Public(), now, ErrNames},
		"no names":                {san(), s.Public(), now, ErrNames},
		"no client":               {san(user), s.Public(), now, ErrNames},
		"no user":                 {san(client), s.Public(), now, ErrNames},
		"two users":               {san(user, client, "mimi://a.example/u/bob"), s.Public(), now, ErrNames},
		"two clients":             {san(user, client, "mimi://a.example/d/alice/2"), s.Public(), now, ErrNames},
		"another URI":             {san(user, client, "https://a.example/"), s.Public(), now, ErrNames},
		"not canonical":           {san("mimi://a.example/u/%61lice", client), s.Public(), now, ErrNames},
		"two hosts":               {san(user, "mimi://b.example/d/alice/1"), s.Public(), now, ErrHost},
		"subdomain":               {san("mimi://x.a.example/u/alice", "mimi://x.a.example/d/alice"), s.Public(), now, ErrNoAnchor},
		"unknown type":            {mls.Credential{Type: 0xf000}, s.Public(), now, ErrCredentialType},
		"multi-credential":        {mls.Credential{Type: mls.CredentialMulti}, s.Public(), now, ErrCredentialType},
		"basic":                   {mls.BasicCredential([]byte(client)), s.Public(), now, ErrBasic},
	} {
		id, err := v.VerifyCredential(&tt.cred, tt.key, tt.now)
		var ce *CredentialError
		if !errors.Is(err, tt.err) || !errors.As(err, &ce) {
			t.Errorf("%s: %v, want %v", name, err, tt.err)
		}
		if id.User != "" {
			t.Errorf("%s: still names %s", name, id.User)
		}
	}

	// A pseudonym is a user too.
	p := san("mimi://a.example/p/x9", client)
	if id, err := v.VerifyCredential(&p, s.Public(), now); err != nil || !id.User.Pseudonym() {
		t.Errorf("pseudonym: %v, %v", id.User, err)
	}
}

func TestAnchorChangesForgetTheCache(t *testing.T) {
	old, fresh := newIssuer(t, "a.example"), newIssuer(t, "a.example")
	s := newSigner(t, suite.X25519AES128GCMSHA256Ed25519)
	cred := issue(t, old, s, Certified{})
	v := NewVerifier(Config{CacheSize: 4})
	now := start.Add(time.Hour)
	check := func(when string, want error) {
		t.Helper()
		if _, err := v.VerifyCredential(&cred, s.Public(), now); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", when, err, want)
		}
	}
	check("no anchors", ErrNoAnchor)
	v.SetAnchors("a.example", []*x509.Certificate{old.Root()})
	check("old root", nil)
	v.SetAnchors("a.example", []*x509.Certificate{old.Root(), fresh.Root()})
	check("both roots", nil)
	v.SetAnchors("a.example", []*x509.Certificate{fresh.Root()})
	check("new root", ErrChain)
	v.SetAnchors("a.example", nil)
	check("trust withdrawn", ErrNoAnchor)
	v.SetAnchors("a.example", []*x509.Certificate{old.Root()})
	check("old root again", nil)
	// The cache knows the credential, but its time is over.
	now = start.Add(2 * year)
	check("expired", ErrChain)
	if d := v.Domains(); len(d) != 1 || d[0] != "a.example" || len(v.Anchors("a.example")) != 1 {
		t.Errorf("domains %v", d)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := cache{half: 8}
	for i := range 1000 {
		c.put([32]byte{byte(i), byte(i >> 8)}, cacheEntry{})
		if n := len(c.young) + len(c.old); n > 16 {
			t.Fatalf("%d entries", n)
		}
		if _, ok := c.get([32]byte{byte(i), byte(i >> 8)}); !ok {
			t.Fatal("the last entry is gone")
		}
	}
}

func TestIntermediate(t *testing.T) {
	root := newIssuer(t, "a.example")
	// An intermediate that the root signs, whose key is the issuing one.
	mid := newIssuer(t, "a.example")
	template := *mid.Root()
	template.SerialNumber = big.NewInt(7)
	template.Subject = pkix.Name{CommonName: "issuing"}
	template.MaxPathLen, template.MaxPathLenZero = 0, true
	der := must(x509.CreateCertificate(rand.Reader, &template, root.Root(), mid.key.Public(), root.key))
	mid.chain = []*x509.Certificate{must(x509.ParseCertificate(der)), root.Root()}

	certs, key, err := mid.MarshalPEM()
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := LoadIssuer("a.example", certs, key)
	if err != nil {
		t.Fatal(err)
	}
	s := newSigner(t, suite.X25519AES128GCMSHA256Ed25519)
	cred := issue(t, loaded, s, Certified{NotBefore: start.Add(-year), NotAfter: start.Add(20 * year)})
	if len(cred.Certificates) != 2 {
		t.Errorf("%d certificates, want leaf and intermediate", len(cred.Certificates))
	}
	v := NewVerifier(Config{})
	v.SetAnchors("a.example", []*x509.Certificate{root.Root()})
	id, err := v.VerifyCredential(&cred, s.Public(), start.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if !id.NotBefore.Equal(start) || !id.NotAfter.Equal(start.Add(10*year)) {
		t.Errorf("valid %v to %v, which the issuer is not", id.NotBefore, id.NotAfter)
	}
	for name, in := range map[string][2][]byte{
		"no certificate": {nil, key},
		"no key":         {certs, nil},
		"another key":    {certs, second(newIssuer(t, "a.example").MarshalPEM())},
		"wrong order":    {marshalPEM([]*x509.Certificate{root.Root(), mid.chain[0]}), second(root.MarshalPEM())},
		"broken":         {[]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), key},
	} {
		if _, err := LoadIssuer("a.example", in[0], in[1]); err == nil {
			t.Errorf("%s: loaded", name)
		} else if strings.Contains(err.Error(), "BEGIN") {
			t.Errorf("%s: error quotes its input: %v", name, err)
		}
	}
	if s := fmt.Sprintf("%v %+v %#v", loaded, loaded, loaded); strings.Contains(s, "0x") || len(s) > 100 {
		t.Errorf("issuer prints as %s", s)
	}
}

func second(_, b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

func TestCertificateRequest(t *testing.T) {
	issuer := newIssuer(t, "a.example")
	s := newSigner(t, suite.P256AES128GCMSHA256P256)
	req := must(NewCertificateRequest(rand.Reader, s, "mimi://a.example/u/a", "mimi://a.example/d/a/1"))
	b := must(tlspl.Marshal(req))
	var got CertificateRequest
	if err := tlspl.Unmarshal(b, &got); err != nil || got.Verify() != nil {
		t.Fatalf("round trip: %v, %v", err, got.Verify())
	}
	with := Certified{NotBefore: start, NotAfter: start.Add(year)}
	if _, err := issuer.IssueClient(rand.Reader, &got, with); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*CertificateRequest){
		"another user":   func(r *CertificateRequest) { r.User += "x" },
		"another client": func(r *CertificateRequest) { r.Client += "x" },
		"another key":    func(r *CertificateRequest) { r.SignatureKey = newSigner(t, suite.P256AES128GCMSHA256P256).Public() },
		"another suite":  func(r *CertificateRequest) { r.CipherSuite = suite.P384AES256GCMSHA384P384 },
		"unknown suite":  func(r *CertificateRequest) { r.CipherSuite = 0x7777 },
		"foreign user":   func(r *CertificateRequest) { r.User = "mimi://b.example/u/a" },
	} {
		r := *req
		change(&r)
		if _, err := issuer.IssueClient(rand.Reader, &r, with); err == nil {
			t.Errorf("%s: issued", name)
		}
	}
	with.NotAfter = start.Add(-time.Hour)
	if _, err := issuer.IssueClient(rand.Reader, req, with); !errors.Is(err, ErrIssuer) {
		t.Errorf("validity before it begins: %v", err)
	}
}

func TestHub(t *testing.T) {
	issuer := newIssuer(t, "hub.example")
	s := newSigner(t, suite.X25519AES128GCMSHA256Ed25519)
	with := Certified{NotBefore: start, NotAfter: start.Add(year)}
	cred := must(issuer.IssueHub(rand.Reader, s, with))
	client := issue(t, issuer, s, Certified{})
	basic := mls.BasicCredential([]byte("mimi://hub.example"))
	v := NewVerifier(Config{})
	v.SetAnchors("hub.example", []*x509.Certificate{issuer.Root()})
	v.SetAnchors("b.example", []*x509.Certificate{issuer.Root()})
	lax := NewVerifier(Config{AllowBasic: func(d mimi.ProviderDomain) bool { return d == "hub.example" }})
	now := start.Add(time.Hour)
	for name, tt := range map[string]struct {
		v    *Verifier
		cred mls.Credential
		key  []byte
		hub  mimi.ProviderDomain
		now  time.Time
		err  error
	}{
		"good":               {v, cred, s.Public(), "hub.example", now, nil},
		"another hub":        {v, cred, s.Public(), "b.example", now, ErrHub},
		"another key":        {v, cred, newSigner(t, suite.X25519AES128GCMSHA256Ed25519).Public(), "hub.example", now, ErrKey},
		"expired":            {v, cred, s.Public(), "hub.example", start.Add(2 * year), ErrChain},
		"a client":           {v, client, s.Public(), "hub.example", now, ErrHub},
		"no anchor":          {lax, cred, s.Public(), "hub.example", now, ErrNoAnchor},
		"basic, not allowed": {v, basic, s.Public(), "hub.example", now, ErrBasic},
		"basic":              {lax, basic, s.Public(), "hub.example", now, nil},
		"basic, another hub": {lax, basic, s.Public(), "b.example", now, ErrHub},
		"unknown type":       {v, mls.Credential{Type: 9}, s.Public(), "hub.example", now, ErrCredentialType},
	} {
		// Before it is remembered that the good one is good, and after.
		for range 2 {
			if err := tt.v.VerifyHub(&tt.cred, tt.key, tt.hub, tt.now); !errors.Is(err, tt.err) {
				t.Errorf("%s: %v, want %v", name, err, tt.err)
			}
			if err := v.VerifyHub(&cred, s.Public(), "hub.example", now); err != nil {
				t.Errorf("after %s: %v", name, err)
			}
		}
	}
	// A hub's certificate is nobody's client.
	if _, err := v.VerifyCredential(&cred, s.Public(), now); !errors.Is(err, ErrNames) {
		t.Errorf("hub as client: %v", err)
	}
	// What is remembered ends with the anchor that it was found by.
	moved := NewVerifier(Config{})
	moved.SetAnchors("hub.example", []*x509.Certificate{issuer.Root()})
	if err := moved.VerifyHub(&cred, s.Public(), "hub.example", now); err != nil {
		t.Error(err)
	}
	moved.SetAnchors("hub.example", []*x509.Certificate{newIssuer(t, "hub.example").Root()})
	if err := moved.VerifyHub(&cred, s.Public(), "hub.example", now); !errors.Is(err, ErrChain) {
		t.Errorf("after the anchor changed: %v", err)
	}
	for _, c := range []mls.Credential{cred, basic} {
		if hub, err := HubName(&c); err != nil || hub != "hub.example" {
			t.Errorf("HubName = %q, %v", hub, err)
		}
	}
	for _, c := range []mls.Credential{client, mls.BasicCredential([]byte("mimi://a.example/u/a")), mls.BasicCredential(nil)} {
		if hub, err := HubName(&c); !errors.Is(err, ErrHub) {
			t.Errorf("HubName = %q, %v", hub, err)
		}
	}
	if hub, err := HubName(&mls.Credential{Type: 9}); !errors.Is(err, ErrCredentialType) {
		t.Errorf("HubName = %q, %v", hub, err)
	}
}

func TestBasic(t *testing.T) {
	v := NewVerifier(Config{AllowBasic: func(d mimi.ProviderDomain) bool { return d == "a.example" }})
	for _, tt := range []struct {
		identity string
		user     mimi.UserURI
		err      error
	}{
		{"mimi://a.example/d/alice/phone", "mimi://a.example/u/alice", nil},
		{"mimi://b.example/d/alice/phone", "", ErrBasic},
		{"mimi://a.example/d/phone", "", ErrNames},
		{"mimi://a.example/d/alice/phone/2", "", ErrNames},
		{"mimi://a.example/u/alice", "", ErrNames},
		{"mimi://a.example", "", ErrNames},
		{"", "", ErrNames},
	} {
		cred := mls.BasicCredential([]byte(tt.identity))
		id, err := v.VerifyCredential(&cred, nil, start)
		if !errors.Is(err, tt.err) || id.User != tt.user {
			t.Errorf("%q: %q, %v, want %q, %v", tt.identity, id.User, err, tt.user, tt.err)
		}
	}
}

// What an issuer puts into a certificate can be asked for by a room's
// preauth_list.
func TestClaims(t *testing.T) {
	issuer := newIssuer(t, "a.example")
	v := NewVerifier(Config{})
	v.SetAnchors("a.example", []*x509.Certificate{issuer.Root()})
	s := newSigner(t, suite.X25519AES128GCMSHA256Ed25519)
	cred := issue(t, issuer, s, Certified{
		NotBefore: start, NotAfter: start.Add(year),
		Subject: pkix.Name{Organization: []string{"Acme"}, OrganizationalUnit: []string{"HR", "Legal"}},
	})
	id, err := v.VerifyCredential(&cred, s.Public(), start.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	claims, err := policy.X509Claims(id.Certificate.Raw)
	if err != nil {
		t.Fatal(err)
	}
	const o, ou, san = "\x06\x03\x55\x04\x0a", "\x06\x03\x55\x04\x0b", "\x06\x03\x55\x1d\x11"
	for _, tt := range []struct {
		oid, value string
		want       bool
	}{
		{o, "Acme", true},
		{ou, "HR", true},
		{ou, "Legal", true},
		{san, "\x86\x1bmimi://a.example/u/al%20ice", true},
		{ou, "IT", false},
		{o, "HR", false},
	} {
		if got := claims.Has(mls.CredentialX509, []byte(tt.oid), []byte(tt.value)); got != tt.want {
			t.Errorf("claim %x = %q: %v", tt.oid, tt.value, got)
		}
	}
}

func TestIssuersDocument(t *testing.T) {
	one, two := newIssuer(t, "a.example"), newIssuer(t, "a.example")
	b := must(MarshalIssuers("a.example", []*x509.Certificate{one.Root(), two.Root()}))
	certs, err := ParseIssuers(b, "a.example")
	if err != nil || len(certs) != 2 || !certs[0].Equal(one.Root()) || !certs[1].Equal(two.Root()) {
		t.Fatalf("%d certificates, %v", len(certs), err)
	}
	if none, err := ParseIssuers(must(MarshalIssuers("a.example", nil)), "a.example"); err != nil || len(none) != 0 {
		t.Errorf("no issuers: %v, %v", none, err)
	}
	pin, err := ParseFingerprint(FingerprintOf(two.Root()).String())
	if err != nil {
		t.Fatal(err)
	}
	if p := Pinned(certs, []Fingerprint{pin}); len(p) != 1 || !p[0].Equal(two.Root()) {
		t.Errorf("pinned %d", len(p))
	}
	if p := Pinned(certs, nil); len(p) != 0 {
		t.Errorf("pinned %d without pins", len(p))
	}
	s := newSigner(t, suite.X25519AES128GCMSHA256Ed25519)
	leaf := issue(t, one, s, Certified{})
	notCA := must(x509.ParseCertificate(leaf.Certificates[0].CertData))
	for name, in := range map[string][]byte{
		"another provider": must(MarshalIssuers("b.example", []*x509.Certificate{one.Root()})),
		"not JSON":         []byte("x"),
		"not a CA":         must(MarshalIssuers("a.example", []*x509.Certificate{notCA})),
		"not DER":          []byte(`{"provider":"a.example","issuers":["AAAA"]}`),
		"too many":         []byte(`{"provider":"a.example","issuers":["` + strings.Repeat(`","`, 20) + `"]}`),
		"too long":         bytes.Repeat([]byte(" "), MaxIssuersSize+1),
	} {
		if _, err := ParseIssuers(in, "a.example"); !errors.Is(err, ErrIssuers) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseFingerprint("00"); err == nil {
		t.Error("a short fingerprint parses")
	}
	if certs, err := ParseAnchorsPEM(marshalPEM([]*x509.Certificate{one.Root(), two.Root()})); err != nil || len(certs) != 2 {
		t.Errorf("PEM: %d, %v", len(certs), err)
	}
	if _, err := ParseAnchorsPEM([]byte("nothing")); err == nil {
		t.Error("anchors out of nothing")
	}
}

func FuzzVerifyCredential(f *testing.F) {
	issuer := newIssuer(f, "a.example")
	s := newSigner(f, suite.X25519AES128GCMSHA256Ed25519)
	cred := issue(f, issuer, s, Certified{Subject: pkix.Name{Organization: []string{"Acme"}}, NotBefore: start, NotAfter: start.Add(year)})
	v := NewVerifier(Config{})
	v.SetAnchors("a.example", []*x509.Certificate{issuer.Root()})
	f.Add(cred.Certificates[0].CertData)
	f.Add(issuer.Root().Raw)
	good := cred.Certificates[0].CertData
	f.Fuzz(func(t *testing.T, der []byte) {
		c := mls.X509Credential(der)
		_, err := v.VerifyCredential(&c, s.Public(), start.Add(time.Hour))
		if err == nil && !bytes.Equal(der, good) {
			// Anything may differ but what the issuer signed.
			a := must(x509.ParseCertificate(der))
			b := must(x509.ParseCertificate(good))
			if !bytes.Equal(a.RawTBSCertificate, b.RawTBSCertificate) {
				t.Fatalf("accepted %x", der)
			}
		}
		if cert, err := x509.ParseCertificate(der); err == nil {
			policy.X509Claims(cert.Raw)
		}
	})
}

func BenchmarkVerifyCredential(b *testing.B) {
	issuer := newIssuer(b, "a.example")
	s := newSigner(b, suite.X25519AES128GCMSHA256Ed25519)
	cred := issue(b, issuer, s, Certified{})
	for _, cached := range []bool{false, true} {
		b.Run(fmt.Sprintf("cached=%v", cached), func(b *testing.B) {
			v := NewVerifier(Config{})
			v.SetAnchors("a.example", []*x509.Certificate{issuer.Root()})
			b.ReportAllocs()
			for b.Loop() {
				if !cached {
					v.cache = cache{half: 1}
				}
				if _, err := v.VerifyCredential(&cred, s.Public(), start.Add(time.Hour)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkVerifyHub(b *testing.B) {
	issuer := newIssuer(b, "hub.example")
	s := newSigner(b, suite.X25519AES128GCMSHA256Ed25519)
	cred := must(issuer.IssueHub(rand.Reader, s, Certified{NotBefore: start, NotAfter: start.Add(year)}))
	for _, cached := range []bool{false, true} {
		b.Run(fmt.Sprintf("cached=%v", cached), func(b *testing.B) {
			v := NewVerifier(Config{})
			v.SetAnchors("hub.example", []*x509.Certificate{issuer.Root()})
			b.ReportAllocs()
			for b.Loop() {
				if !cached {
					v.cache = cache{half: 1}
				}
				if err := v.VerifyHub(&cred, s.Public(), "hub.example", start.Add(time.Hour)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
