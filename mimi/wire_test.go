package mimi_test

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/comity-im/comity/internal/inspect"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

var update = flag.Bool("update", false, "write the golden files")

func goldenPath(name, ext string) string { return filepath.Join("testdata", "wire", name+ext) }

func writeGolden(t *testing.T, name, ext string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(goldenPath(name, ext)), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(goldenPath(name, ext), b, 0o666); err != nil {
		t.Fatal(err)
	}
}

func readGolden(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(goldenPath(name, ".hex"))
	if err != nil {
		t.Fatal(err)
	}
	return must(hex.DecodeString(strings.Join(strings.Fields(string(text)), "")))
}

// hexLines writes octets as the golden files have them.
func hexLines(b []byte) []byte {
	var s bytes.Buffer
	for ; len(b) > 32; b = b[32:] {
		fmt.Fprintf(&s, "%x\n", b[:32])
	}
	fmt.Fprintf(&s, "%x\n", b)
	return s.Bytes()
}

// TestGolden holds every request, response and component to the octets in
// testdata/wire, and the octets to what inspect shows of them.
func TestGolden(t *testing.T) {
	for _, s := range all(t) {
		t.Run(s.name, func(t *testing.T) {
			b := must(tlspl.Marshal(s.value))
			tree, err := inspect.Inspect(s.as, b)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				writeGolden(t, s.name, ".hex", hexLines(b))
				writeGolden(t, s.name, ".txt", []byte(tree.String()))
			}
			if want := readGolden(t, s.name); !bytes.Equal(b, want) {
				t.Errorf("encoded\n%x\nwant\n%x", b, want)
			}
			if want := must(os.ReadFile(goldenPath(s.name, ".txt"))); tree.String() != string(want) {
				t.Errorf("shown as\n%s\nwant\n%s", tree, want)
			}
		})
	}
}

// A response to a GroupInfoRequest holds an HPKE ciphertext, which never comes
// out the same twice: the golden one is opened instead.
func TestGoldenGroupInfoResponse(t *testing.T) {
	const name = "group_info_response"
	key := hpkeKey(0x61)
	if *update {
		r := must(mimi.NewGroupInfoResponse(rand.Reader, groupInfoRequest(nil), room, groupInfoTBE(), signer(0xA0), basic("mimi://a.example")))
		b := must(tlspl.Marshal(r))
		writeGolden(t, name, ".hex", hexLines(b))
		writeGolden(t, name, ".txt", []byte(must(inspect.Inspect("GroupInfoResponse", b)).String()))
	}
	b := readGolden(t, name)
	var r mimi.GroupInfoResponse
	if err := tlspl.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if again := must(tlspl.Marshal(&r)); !bytes.Equal(again, b) {
		t.Errorf("encoded again as\n%x\nwant\n%x", again, b)
	}
	tbe, err := r.Open(room, key, suite.X25519AES128GCMSHA256Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	if got := must(tlspl.Marshal(tbe)); !bytes.Equal(got, readGolden(t, "group_info_ratchet_tree_tbe")) {
		t.Errorf("holds\n%x", got)
	}
	if want := must(os.ReadFile(goldenPath(name, ".txt"))); must(inspect.Inspect("GroupInfoResponse", b)).String() != string(want) {
		t.Error("shown otherwise than in the golden file")
	}
}

// What is written is read back as the same value and the same octets.
func TestRoundTrip(t *testing.T) {
	for _, s := range all(t) {
		t.Run(s.name, func(t *testing.T) {
			b := must(tlspl.Marshal(s.value))
			v := s.fresh()
			if err := tlspl.Unmarshal(b, v); err != nil {
				t.Fatal(err)
			}
			if again := must(tlspl.Marshal(v)); !bytes.Equal(again, b) {
				t.Errorf("encoded again as\n%x\nwant\n%x", again, b)
			}
			if again := must(tlspl.Marshal(v)); !bytes.Equal(again, b) {
				t.Error("encoding changes the value")
			}
		})
	}
	// Components hold nothing but what is on the wire, so they compare as values.
	for _, k := range componentSamples() {
		v := mimi.NewComponentData(k.id)
		if k.update {
			v = mimi.NewComponentUpdate(k.id)
		}
		if err := tlspl.Unmarshal(must(tlspl.Marshal(k.value)), v); err != nil || !reflect.DeepEqual(v, k.value) {
			t.Errorf("%s: read as %+v, %v\nwant %+v", mimi.ComponentName(k.id), v, err, k.value)
		}
	}
}

// No part of a struct can be left out, and nothing can be put behind it.
func TestPrefixesAndTrailing(t *testing.T) {
	for _, s := range all(t) {
		t.Run(s.name, func(t *testing.T) {
			b := must(tlspl.Marshal(s.value))
			ends := make(map[int]bool) // where a FanoutMessage ends, the rest may be missing
			if n, ok := s.value.(*mimi.NotifyRequest); ok {
				at := 0
				for i := range n.Messages {
					at += len(must(tlspl.Marshal(&n.Messages[i])))
					ends[at] = true
				}
			}
			for n := range b {
				err := tlspl.Unmarshal(b[:n], s.fresh())
				var se *tlspl.SyntaxError
				if ends[n] {
					if err != nil {
						t.Errorf("%d of %d octets: %v", n, len(b), err)
					}
				} else if !errors.As(err, &se) {
					t.Fatalf("%d of %d octets: error %v", n, len(b), err)
				} else if se.Offset > n {
					t.Fatalf("%d octets: error at offset %d", n, se.Offset)
				}
			}
			if err := tlspl.Unmarshal(append(bytes.Clone(b), 0), s.fresh()); err == nil {
				t.Error("a trailing octet is accepted")
			}
		})
	}
}

// Whatever single octet is changed, what is accepted is encoded as it came.
func TestFlips(t *testing.T) {
	for _, s := range all(t) {
		b := must(tlspl.Marshal(s.value))
		step := 1 + len(b)/400
		for i := 0; i < len(b); i += step {
			for _, x := range []byte{1, 0x40, 0x80, 0xFF} {
				c := bytes.Clone(b)
				c[i] ^= x
				v := s.fresh()
				if tlspl.Unmarshal(c, v) != nil {
					continue
				}
				if again, err := tlspl.Marshal(v); err != nil || !bytes.Equal(again, c) {
					t.Fatalf("%s, octet %d: encoded again as\n%x, %v\nwant\n%x", s.name, i, again, err, c)
				}
			}
		}
	}
}

func TestKeyMaterialRequestSignature(t *testing.T) {
	r := keyMaterialRequest()
	if err := r.Verify(); err != nil {
		t.Fatal(err)
	}
	b := must(tlspl.Marshal(r))
	var got mimi.KeyMaterialRequest
	if err := tlspl.Unmarshal(b, &got); err != nil || got.Verify() != nil {
		t.Fatalf("after the wire: %v, %v", err, got.Verify())
	}
	if must(r.Digest()) != must(got.Digest()) {
		t.Error("digest changes on the wire")
	}
	// The signature covers every octet before it.
	refused := 0
	for i := range len(b) - 65 {
		c := bytes.Clone(b)
		c[i] ^= 1
		var m mimi.KeyMaterialRequest
		if tlspl.Unmarshal(c, &m) == nil {
			if m.Verify() == nil {
				t.Errorf("octet %d is not covered", i)
			}
			refused++
		}
	}
	if refused < 50 {
		t.Errorf("only %d changed requests could be read", refused)
	}

	// One suite that is not known at the first place can't be verified.
	r = keyMaterialRequest()
	r.AcceptableCiphersuites = []suite.ID{0x0a0a, 1}
	if err := r.Sign(nil, signer(0x11)); err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(); err != mimi.ErrUnknownCiphersuite {
		t.Errorf("GREASE first: %v", err)
	}
	r.AcceptableCiphersuites = nil
	if _, err := tlspl.Marshal(r); !errors.Is(err, mimi.ErrNoCiphersuite) {
		t.Errorf("no suites: %v", err)
	}

	// A request for another protocol can be read as far as it must be answered.
	other := append(bytes.Clone(b[:1]), b[1:]...)
	other[0] = 2
	var m mimi.KeyMaterialRequest
	if err := tlspl.Unmarshal(other, &m); err != nil || m.TargetUser != cathy || m.RoomID != room {
		t.Errorf("protocol 2: %v, %s", err, m.TargetUser)
	}
	if again := must(tlspl.Marshal(&m)); !bytes.Equal(again, other) {
		t.Error("protocol 2 is encoded otherwise")
	}
	if err := m.Verify(); !errors.Is(err, mimi.ErrProtocol) {
		t.Errorf("protocol 2 verifies: %v", err)
	}
}

func TestGroupInfoExchange(t *testing.T) {
	for _, id := range []suite.ID{suite.X25519AES128GCMSHA256Ed25519, suite.P256AES128GCMSHA256P256} {
		s, _ := suite.Lookup(id)
		joiner, hubKey := must(s.GenerateSigner(rand.Reader)), must(s.GenerateSigner(rand.Reader))
		key := must(s.GenerateKeyPair(rand.Reader))
		req := &mimi.GroupInfoRequest{RequestingCredential: basic("mimi://c.example/d/cathy/2"), GroupInfoPublicKey: key.Public(), JoiningCode: []byte{}}
		if err := req.Sign(rand.Reader, joiner); err != nil {
			t.Fatal(err)
		}
		var got mimi.GroupInfoRequest
		b := must(tlspl.Marshal(req))
		if err := tlspl.Unmarshal(b, &got); err != nil || got.Verify() != nil || got.JoiningCode == nil {
			t.Fatalf("%v, %v, code %v", err, got.Verify(), got.JoiningCode)
		}
		for i := range len(b) - 65 {
			c := bytes.Clone(b)
			c[i] ^= 1
			var m mimi.GroupInfoRequest
			if tlspl.Unmarshal(c, &m) == nil && m.Verify() == nil {
				t.Errorf("octet %d of the request is not covered", i)
			}
		}

		resp, err := mimi.NewGroupInfoResponse(rand.Reader, &got, room, groupInfoTBE(), hubKey, basic("mimi://a.example"))
		if err != nil {
			t.Fatal(err)
		}
		b = must(tlspl.Marshal(resp))
		open := func(b []byte, room mimi.RoomURI, key *suite.PrivateKey) (*mimi.GroupInfoRatchetTreeTBE, error) {
			var r mimi.GroupInfoResponse
			if err := tlspl.Unmarshal(b, &r); err != nil {
				return nil, err
			}
			return r.Open(room, key, id)
		}
		tbe, err := open(b, room, key)
		if err != nil {
			t.Fatal(err)
		}
		if len(tbe.PendingProposals) != 1 || tbe.GroupInfo.GroupContext.Epoch != 7 {
			t.Errorf("opened as %+v", tbe)
		}
		if _, err := open(b, room+"x", key); !errors.Is(err, mimi.ErrGroupInfoMismatch) {
			t.Errorf("another room: %v", err)
		}
		if _, err := open(b, room, must(s.GenerateKeyPair(rand.Reader))); err == nil {
			t.Error("opens with another key")
		}
		for i := 0; i < len(b); i += 7 {
			c := bytes.Clone(b)
			c[i] ^= 1
			if _, err := open(c, room, key); err == nil {
				t.Errorf("octet %d of the response can be changed", i)
			}
		}
		other, _ := suite.Lookup(suite.P384AES256GCMSHA384P384)
		if _, err := mimi.NewGroupInfoResponse(rand.Reader, &got, room, groupInfoTBE(), must(other.GenerateSigner(rand.Reader)), basic("mimi://a.example")); err == nil {
			t.Error("answered under another cipher suite")
		}
	}
	denied := mimi.GroupInfoResponse{RoomID: room, Status: mimi.GroupInfoNotAuthorized}
	if _, err := denied.Open(room, hpkeKey(1), 1); err == nil {
		t.Error("opened a refusal")
	}
}

// A message keeps the octets it came as, and what goes on is those.
func TestMessageKeepsItsOctets(t *testing.T) {
	m := commit()
	b := must(m.Bytes())
	got := must(mimi.ParseMessage(b))
	if !bytes.Equal(must(got.Bytes()), b) || must(got.Digest()) != must(m.Digest()) {
		t.Error("octets or digest change")
	}
	in := must(tlspl.Marshal(&mimi.UpdateRequest{Bundle: mimi.HandshakeBundle{ProposalOrCommit: got, GroupInfoOption: mimi.FullGroupInfo(groupInfo()), RatchetTreeOption: ratchetTree()}}))
	var req mimi.UpdateRequest
	if err := tlspl.Unmarshal(in, &req); err != nil {
		t.Fatal(err)
	}
	if must(req.Digest()) != must(m.Digest()) {
		t.Error("the request's digest is not the message's")
	}
	fan := mimi.FanoutMessage{Timestamp: 1, Message: req.Bundle.ProposalOrCommit}
	if !bytes.Contains(must(tlspl.Marshal(&fan)), b) {
		t.Error("the message is fanned out otherwise than it came")
	}
	for i := range in { // the caller may reuse its buffer
		in[i] = 0xEE
	}
	if !bytes.Equal(must(req.Bundle.ProposalOrCommit.Bytes()), b) {
		t.Error("the message aliases the caller's buffer")
	}
}

// Each place takes only the messages that belong there.
func TestMessageKinds(t *testing.T) {
	messages := map[string]mimi.Message{
		"application":          applicationMessage(),
		"proposal":             selfRemove(),
		"commit":               commit(),
		"welcome":              message(welcome()),
		"group info":           message(groupInfo()),
		"key package":          message(ptr(keyPackage(1, "mimi://a.example/d/a/1"))),
		"private proposal":     message(&mls.PrivateMessage{GroupID: []byte{1}, ContentType: mls.ContentProposal, EncryptedSenderData: fill(1, 28), Ciphertext: fill(2, 80)}),
		"private commit":       message(&mls.PrivateMessage{GroupID: []byte{1}, ContentType: mls.ContentCommit, EncryptedSenderData: fill(1, 28), Ciphertext: fill(2, 80)}),
		"semiprivate proposal": message(&mls.SemiPrivateMessage{GroupID: []byte{1}, ContentType: mls.ContentProposal}),
		"semiprivate commit":   message(&mls.SemiPrivateMessage{GroupID: []byte{1}, ContentType: mls.ContentCommit}),
	}
	option, tree := mimi.FullGroupInfo(groupInfo()), ratchetTree()
	places := map[string]struct {
		put   func(mimi.Message) tlspl.Coder
		takes string
	}{
		"bundle": {func(m mimi.Message) tlspl.Coder {
			return &mimi.UpdateRequest{Bundle: mimi.HandshakeBundle{ProposalOrCommit: m, GroupInfoOption: option, RatchetTreeOption: tree}}
		}, "proposal commit semiprivate proposal semiprivate commit"},
		"more proposals": {func(m mimi.Message) tlspl.Coder {
			return &mimi.UpdateRequest{Bundle: mimi.HandshakeBundle{ProposalOrCommit: selfRemove(), MoreProposals: []mimi.Message{m}}}
		}, "proposal semiprivate proposal"},
		"submit": {func(m mimi.Message) tlspl.Coder {
			return &mimi.SubmitMessageRequest{AppMessage: m, SendingURI: bob}
		}, "application"},
		"notify": {func(m mimi.Message) tlspl.Coder {
			return &mimi.NotifyRequest{Messages: []mimi.FanoutMessage{{Message: m, RatchetTreeOption: tree}}}
		}, "application proposal commit welcome semiprivate proposal semiprivate commit"},
		"stapled": {func(m mimi.Message) tlspl.Coder {
			return &mimi.NotifyRequest{Messages: []mimi.FanoutMessage{{Message: commit(), ExternalProposals: []mimi.Message{m}}}}
		}, "proposal semiprivate proposal"},
		"pending": {func(m mimi.Message) tlspl.Coder {
			return &mimi.PendingProposal{Proposal: m}
		}, "proposal semiprivate proposal"},
	}
	for place, p := range places {
		for kind, m := range messages {
			want := false
			switch kind {
			case "semiprivate proposal", "semiprivate commit":
				want = strings.Contains(p.takes, kind)
			default:
				for _, w := range strings.Fields(strings.NewReplacer("semiprivate proposal", "", "semiprivate commit", "").Replace(p.takes)) {
					want = want || w == kind
				}
			}
			_, err := tlspl.Marshal(p.put(m))
			if (err == nil) != want {
				t.Errorf("%s takes %s: %v", place, kind, err)
			}
			if err != nil && !errors.Is(err, mimi.ErrMessageKind) {
				t.Errorf("%s with %s: %v", place, kind, err)
			}
		}
	}
}

// Bytes that an encoder never writes.
func TestRefusedEncodings(t *testing.T) {
	uri := func(s string) string { return string(tlspl.AppendLength(nil, len(s))) + s }
	for name, tt := range map[string]struct {
		in   string
		into tlspl.Coder
		err  error
	}{
		"submit for protocol 2":          {"\x02", new(mimi.SubmitMessageRequest), mimi.ErrProtocol},
		"submit for protocol 0":          {"\x00", new(mimi.SubmitMessageRequest), mimi.ErrProtocol},
		"group info for protocol 2":      {"\x02", new(mimi.GroupInfoRequest), mimi.ErrProtocol},
		"unknown update response":        {"\x04\x00", new(mimi.UpdateRoomResponse), tlspl.ErrValue},
		"unknown submit response":        {"\x01\x03", new(mimi.SubmitMessageResponse), tlspl.ErrValue},
		"group info status 0":            {"\x01" + uri(string(room)) + "\x00", new(mimi.GroupInfoResponse), tlspl.ErrValue},
		"search type 0":                  {"\x02\x00\x00\x00", new(mimi.IdentifierRequest), tlspl.ErrValue},
		"search type 9":                  {"\x02\x09\x00\x00", new(mimi.IdentifierRequest), tlspl.ErrValue},
		"unknown consent operation":      {"\x04", new(mimi.ConsentEntry), tlspl.ErrValue},
		"consent for a client":           {"\x01" + uri("mimi://a.example/d/x"), new(mimi.ConsentEntry), mimi.ErrURIKind},
		"consent for an empty room":      {"\x01" + uri(string(alice)) + uri(string(bob)) + "\x01\x00\x00", new(mimi.ConsentEntry), mimi.ErrURIScheme},
		"abuser is not canonical":        {"\x00" + uri("mimi://A.example/u/x"), new(mimi.AbuseReport), mimi.ErrURIHost},
		"clients without consent":        {"\x01\x05" + uri(string(cathy)) + "\x18\x01" + uri("mimi://c.example/d/c/1"), new(mimi.KeyMaterialResponse), mimi.ErrUnexpectedClients},
		"matches without success":        {"\x01" + string(tlspl.AppendLength(nil, 1+len(alice))) + uri(string(alice)) + "\x00\x00", new(mimi.IdentifierResponse), mimi.ErrProfiles},
		"optionality 3":                  {"\x03\x00", new(mimi.StatusNotificationPolicy), tlspl.ErrValue},
		"bool 2":                         {"\x02", new(mimi.BaseRoomPolicy), tlspl.ErrValue},
		"two parent rooms":               {"\x00\x01" + string(tlspl.AppendLength(nil, 2+2*len(room))) + uri(string(room)) + uri(string(room)), new(mimi.BaseRoomPolicy), tlspl.ErrTrailing},
		"no link preview proxy":          {"\x00\x00\x00\x00\x00", new(mimi.LinkPreviewPolicy), tlspl.ErrTruncated},
		"forbidden logging with more":    {"\x02\x00", new(mimi.LoggingPolicy), tlspl.ErrTrailing},
		"forbidden history with more":    {"\x02\x00\x00\x00\x00\x00\x00", new(mimi.HistoryPolicy), tlspl.ErrTrailing},
		"forbidden expiration with more": {"\x02\x00", new(mimi.MessageExpiration), tlspl.ErrTrailing},
		"no frank tag":                   {"", new(mimi.FrankAAD), tlspl.ErrTruncated},
		"empty notify":                   {"", new(mimi.NotifyRequest), tlspl.ErrTruncated},
		"pending strategy 3":             {"\x03", new(mimi.PendingProposalPolicy), tlspl.ErrValue},
	} {
		if err := tlspl.Unmarshal([]byte(tt.in), tt.into); !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, want %v", name, err, tt.err)
		}
	}
	if _, err := tlspl.Marshal(&mimi.NotifyRequest{}); err == nil {
		t.Error("encoded a notify request without messages")
	}
	if _, err := tlspl.Marshal(&mimi.KeyMaterialResponse{UserStatus: mimi.KeyMaterialNoConsent, UserURI: cathy, Clients: []mimi.ClientKeyMaterial{{ClientStatus: mimi.ClientKeyMaterialExhausted, ClientURI: "mimi://c.example/d/c/1"}}}); !errors.Is(err, mimi.ErrUnexpectedClients) {
		t.Errorf("clients without consent: %v", err)
	}
	if _, err := tlspl.Marshal(&mimi.ClientKeyMaterial{ClientURI: "mimi://c.example/d/c/1"}); !errors.Is(err, mimi.ErrMissing) {
		t.Errorf("success without a KeyPackage: %v", err)
	}
	// Unknown values of pure status codes are read, as failures. Decision 10
	var r mimi.KeyMaterialResponse
	if err := tlspl.Unmarshal([]byte("\x01\x63"+uri(string(cathy))+"\x00"), &r); err != nil || r.Err() == nil {
		t.Errorf("unknown user code: %v, %v", err, r.Err())
	}
	var q mimi.IdentifierResponse
	if err := tlspl.Unmarshal([]byte("\x63\x00\x00\x00"), &q); err != nil || q.Err() == nil {
		t.Errorf("unknown query code: %v, %v", err, q.Err())
	}
}
