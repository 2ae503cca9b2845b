package mimi

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// The values that DECISIONS section 0 gives for the first example of MIMI
// content.
func TestFrankingVectors(t *testing.T) {
	dir := os.Getenv("COMITY_VECTORS")
	if dir == "" {
		dir = "../../shared/vectors"
	}
	content, err := os.ReadFile(filepath.Join(dir, "mimi-content", "original.cbor"))
	if err != nil {
		t.Skipf("no vectors: set COMITY_VECTORS (%v)", err)
	}
	frame := func(mediaType string) []byte {
		b, err := tlspl.Marshal(&mls.ApplicationFraming{MediaType: mls.MediaType{Type: []byte(mediaType)}, InnerApplicationContent: content})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	salt := unhex("5eed9406c2545547ab6f09f20a18b003")
	for _, tt := range []struct {
		data []byte
		n    int
		tag  string
	}{
		{frame("application/mimi-content"), 221, "cac50818a758d500a44109d35073e0ce59d35c81f68eaf911c5b930d014034d0"},
		{content, 193, "a9a69f1d2fe6f37984190c093ecb8a10d647093db735fb7ba926bfdccff4c2bf"},
		{frame(""), 197, "728037c40a60ea96a1d2b15c43fca2415728e15f9f9a8114c52660c287688813"},
	} {
		if len(tt.data) != tt.n {
			t.Errorf("application_data is %d octets, want %d", len(tt.data), tt.n)
		}
		if tag := NewFrankingTag(salt, tt.data); hex.EncodeToString(tag[:]) != tt.tag {
			t.Errorf("franking_tag of %d octets = %x, want %s", tt.n, tag, tt.tag)
		}
	}

	context := &ServerFrankingContext{"mimi://example.com/u/alice-smith", "mimi://example.com/r/engineering_team", 1644387225019}
	b, err := tlspl.Marshal(context)
	if want := "\x20mimi://example.com/u/alice-smith\x25mimi://example.com/r/engineering_team\x00\x00\x01\x7e\xdd\x1d\xcd\xbb"; err != nil || string(b) != want {
		t.Errorf("ServerFrankingContext = %x, %v, want %x", b, err, want)
	}
	hubKey := make([]byte, 32)
	for i := range hubKey {
		hubKey[i] = byte(i)
	}
	tag := NewFrankingTag(salt, frame("application/mimi-content"))
	frank, err := ServerFrank(hubKey, tag, context)
	if want := "be7478355d4b9b8077360e58123a7a8eecfa72c78abe5707aa64be06d9986bc2"; err != nil || hex.EncodeToString(frank[:]) != want {
		t.Errorf("server_frank = %x, %v, want %s", frank, err, want)
	}
	aad, err := tlspl.Marshal(&mls.SafeAAD{AADItems: []mls.SafeAADItem{tag.SafeAADItem()}})
	if want := "23002020" + hex.EncodeToString(tag[:]); err != nil || hex.EncodeToString(aad) != want {
		t.Errorf("SafeAAD = %x, %v, want %s", aad, err, want)
	}
	if got, err := FrankingTagOf(aad); err != nil || got == nil || *got != tag {
		t.Errorf("FrankingTagOf = %x, %v", got, err)
	}
}

func TestFrank(t *testing.T) {
	for _, id := range []suite.ID{suite.X25519AES128GCMSHA256Ed25519, suite.P256AES128GCMSHA256P256} {
		s, _ := suite.Lookup(id)
		agent, err := s.GenerateSigner(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		room := RoomURI("mimi://hub.example/r/x")
		hubKey, err := HubKey([]byte("master"), room)
		if err != nil {
			t.Fatal(err)
		}
		context := ServerFrankingContext{"mimi://a.example/u/alice", room, 7}
		tag := NewFrankingTag(make([]byte, 16), []byte("data"))
		f, err := NewFrank(rand.Reader, agent, hubKey, tag, &context)
		if err != nil {
			t.Fatal(err)
		}
		if f.FrankingSignatureCiphersuite != id {
			t.Errorf("suite %v, want %v", f.FrankingSignatureCiphersuite, id)
		}
		if err := f.Verify(agent.Public(), &context); err != nil {
			t.Error(err)
		}
		if !f.Matches(hubKey, tag, &context) {
			t.Error("the hub does not recognise its own frank")
		}

		// Every input counts.
		for name, change := range map[string]func(f *Frank, x *ServerFrankingContext){
			"server_frank": func(f *Frank, _ *ServerFrankingContext) { f.ServerFrank[31] ^= 1 },
			"sender":       func(_ *Frank, x *ServerFrankingContext) { x.SenderURI += "x" },
			"room":         func(_ *Frank, x *ServerFrankingContext) { x.RoomURI += "x" },
			"time":         func(_ *Frank, x *ServerFrankingContext) { x.AcceptedTimestamp++ },
		} {
			f, x := *f, context
			change(&f, &x)
			if err := f.Verify(agent.Public(), &x); err == nil {
				t.Errorf("signature verifies with another %s", name)
			}
			if f.Matches(hubKey, tag, &x) {
				t.Errorf("frank matches with another %s", name)
			}
		}
		other, g := tag, *f
		other[0] ^= 1
		if f.Matches(hubKey, other, &context) {
			t.Error("frank matches with another tag")
		}
		otherKey, _ := HubKey([]byte("master"), room+"y")
		if f.Matches(otherKey, tag, &context) {
			t.Error("two rooms share a hub key")
		}
		g.FrankingSignatureCiphersuite = suite.X25519ChaCha20Poly1305SHA256Ed25519
		if err := g.Verify(agent.Public(), &context); err == nil {
			t.Error("signature verifies under another cipher suite")
		}
		g.FrankingSignatureCiphersuite = 0x0a0a
		if err := g.Verify(agent.Public(), &context); err != ErrUnknownCiphersuite {
			t.Errorf("unknown suite: %v", err)
		}
	}
}

func TestFrankingTagOf(t *testing.T) {
	for _, tt := range []struct {
		aad  string
		tag  bool
		fail bool
	}{
		{"00", false, false},
		{"0500330201ff", false, false},
		{"", false, true},
		{"0400200101", false, true}, // one octet
		{"230020" + "20" + "0000000000000000000000000000000000000000000000000000000000000000", true, false},
		{"230020" + "20" + "000000000000000000000000000000000000000000000000000000000000000000", false, true},
	} {
		tag, err := FrankingTagOf(unhex(tt.aad))
		if (tag != nil) != tt.tag || (err != nil) != tt.fail {
			t.Errorf("%s: tag %v, error %v", tt.aad, tag, err)
		}
	}
}
