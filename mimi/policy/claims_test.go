package policy

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net/url"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

func testCertificate(t testing.TB) []byte {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	uri, _ := url.Parse("mimi://b.example/u/bob")
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "Bob", OrganizationalUnit: []string{"HR", "Benefits"}, Country: []string{"DE"}},
		URIs:         []*url.URL{uri}, DNSNames: []string{"b.example"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, priv)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestX509Claims(t *testing.T) {
	claims, err := X509Claims(testCertificate(t))
	if err != nil {
		t.Fatal(err)
	}
	ou := []byte{0x06, 0x03, 0x55, 0x04, 0x0b}
	san, _ := asn1.Marshal(asn1.ObjectIdentifier{2, 5, 29, 17})
	for _, test := range []struct {
		id, value []byte
		is        bool
	}{
		{ou, []byte("HR"), true},
		{ou, []byte("Benefits"), true},
		{ou, []byte("hr"), false},
		{[]byte{0x06, 0x03, 0x55, 0x04, 0x06}, []byte("DE"), true},
		{[]byte{0x06, 0x03, 0x55, 0x04, 0x03}, []byte("HR"), false},
		{san, append([]byte{0x86, 22}, "mimi://b.example/u/bob"...), true},
		{san, append([]byte{0x82, 9}, "b.example"...), true},
		{san, []byte("b.example"), false},
	} {
		if got := claims.Has(mls.CredentialX509, test.id, test.value); got != test.is {
			t.Errorf("%x = %q: %v", test.id, test.value, got)
		}
	}
	if claims.Has(mls.CredentialBasic, ou, []byte("HR")) {
		t.Error("the type of credential is not looked at")
	}
	if _, err := X509Claims([]byte{0x30, 0}); err == nil {
		t.Error("an empty sequence is a certificate")
	}
}

func TestTokenClaims(t *testing.T) {
	const jwt, cwt = mls.CredentialType(0xf0f0), mls.CredentialType(0xf0f1)
	j, err := JWTClaims(jwt, []byte(`{"department": "HR", "groups": [ "a", "b" ], "level":3}`))
	if err != nil {
		t.Fatal(err)
	}
	for id, value := range map[string]string{"department": `"HR"`, "groups": `["a","b"]`, "level": "3"} {
		if !j.Has(jwt, []byte(id), []byte(value)) {
			t.Errorf("JWT: no %s = %s", id, value)
		}
	}
	if j.Has(jwt, []byte("department"), []byte("HR")) {
		t.Error("JWT: the value is not the JSON text")
	}
	// {1: "issuer", "dept": ["HR"], -70000: h'00'}
	c, err := CWTClaims(cwt, []byte{0xa3, 0x01, 0x66, 'i', 's', 's', 'u', 'e', 'r', 0x64, 'd', 'e', 'p', 't', 0x81, 0x62, 'H', 'R', 0x3a, 0, 1, 0x11, 0x6f, 0x41, 0})
	if err != nil {
		t.Fatal(err)
	}
	if !c.Has(cwt, []byte{1}, []byte("\x66issuer")) || !c.Has(cwt, []byte("\x64dept"), []byte("\x81\x62HR")) || !c.Has(cwt, []byte{0x3a, 0, 1, 0x11, 0x6f}, []byte{0x41, 0}) {
		t.Errorf("CWT: %x", c)
	}
	for _, bad := range [][]byte{nil, {0xa1}, {0xa1, 1}, {0xbf, 0xff}, {0xa0, 0}, {0x80}, {0xbb, 255, 255, 255, 255, 255, 255, 255, 255}, {0xa1, 1, 0x9f, 0xff}} {
		if _, err := CWTClaims(cwt, bad); err == nil {
			t.Errorf("CWT: %x is accepted", bad)
		}
	}
}

// The first entry counts, all of its claims must be there, and its role must exist. Decisions 89, 90
func TestMatchPreauth(t *testing.T) {
	roles := moderatedRoom(t).roles
	entry := func(role RoleIndex, claims ...mimi.Claim) mimi.PreAuthRoleEntry {
		return mimi.PreAuthRoleEntry{Claimset: claims, TargetRole: mimi.Role{RoleIndex: role}}
	}
	de := claim(mls.CredentialX509, []byte{6, 3, 0x55, 4, 6}, []byte("DE"))
	for _, test := range []struct {
		name    string
		entries []mimi.PreAuthRoleEntry
		has     Claims
		want    RoleIndex
	}{
		{"no claims at all", []mimi.PreAuthRoleEntry{entry(3, hr)}, nil, NoRole},
		{"an empty claimset", []mimi.PreAuthRoleEntry{entry(3)}, ClaimSet{hr}, NoRole},
		{"one", []mimi.PreAuthRoleEntry{entry(3, hr)}, ClaimSet{hr, de}, 3},
		{"both", []mimi.PreAuthRoleEntry{entry(3, hr, de)}, ClaimSet{hr, de}, 3},
		{"one of two", []mimi.PreAuthRoleEntry{entry(3, hr, de)}, ClaimSet{hr}, NoRole},
		{"the first", []mimi.PreAuthRoleEntry{entry(4, de), entry(3, hr)}, ClaimSet{hr, de}, 4},
		{"a role that is not there", []mimi.PreAuthRoleEntry{entry(99, hr), entry(3, hr)}, ClaimSet{hr}, 3},
		{"role 0", []mimi.PreAuthRoleEntry{entry(0, hr), entry(3, hr)}, ClaimSet{hr}, 3},
		{"whole basic identity", []mimi.PreAuthRoleEntry{entry(2, claim(mls.CredentialBasic, nil, []byte("bob")))}, BasicClaims([]byte("bob")), 2},
	} {
		got, ok := MatchPreauth(&mimi.PreAuthData{PreauthorizedEntries: test.entries}, roles, test.has)
		if got != test.want || ok != (test.want != NoRole) {
			t.Errorf("%s: role %d, %v", test.name, got, ok)
		}
	}
}

// No certificate, token or map makes the parsers fail otherwise than by an error.
func FuzzClaims(f *testing.F) {
	f.Add(testCertificate(f))
	f.Add([]byte(`{"department":"HR"}`))
	f.Add([]byte{0xa1, 0x01, 0x61, 'x'})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, parse := range []func() (ClaimSet, error){
			func() (ClaimSet, error) { return X509Claims(b) },
			func() (ClaimSet, error) { return JWTClaims(9, b) },
			func() (ClaimSet, error) { return CWTClaims(9, b) },
		} {
			set, err := parse()
			if err != nil {
				continue
			}
			for i := range set {
				if !set.Has(set[i].ClaimID.CredentialType, set[i].ClaimID.ID, set[i].ClaimValue) {
					t.Fatalf("claim %d of %x is not in its own set", i, b)
				}
			}
		}
	})
}
