package content

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

// vectorDir finds a folder of official vectors: COMITY_VECTORS, or ../shared/vectors
// beside the module.
func vectorDir(t testing.TB, name string) string {
	t.Helper()
	base := os.Getenv("COMITY_VECTORS")
	if base == "" {
		dir, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		for {
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
				break
			}
			if dir == filepath.Dir(dir) {
				t.Fatal("no go.mod above the test")
			}
			dir = filepath.Dir(dir)
		}
		base = filepath.Join(dir, "..", "shared", "vectors")
	}
	dir := filepath.Join(base, name)
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("vectors absent: %s (set COMITY_VECTORS)", dir)
	}
	return dir
}

func readVector(t testing.TB, dir, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(vectorDir(t, dir), file))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// examples are the 14 MIMI content examples of C, without implied-original.
func examples(t testing.TB) map[string][]byte {
	t.Helper()
	dir := vectorDir(t, "mimi-content")
	files, err := filepath.Glob(filepath.Join(dir, "*.cbor"))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]byte)
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".cbor")
		if name == "implied-original" {
			continue
		}
		all[name] = readVector(t, "mimi-content", name+".cbor")
	}
	if len(all) != 14 {
		t.Fatalf("%d examples, want 14", len(all))
	}
	return all
}

var printedID = regexp.MustCompile(`message ID = h'([0-9a-f]{32})\s*#\s*([0-9a-f]{32})'`)

// TestExamples: each example decodes, encodes to the same octets and has the ID
// that the draft prints.
func TestExamples(t *testing.T) {
	for name, b := range examples(t) {
		t.Run(name, func(t *testing.T) {
			c, err := Unmarshal(b)
			if err != nil {
				t.Fatal(err)
			}
			again, err := c.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again, b) {
				t.Fatalf("encodes to\n%x, want\n%x", again, b)
			}
			m := printedID.FindSubmatch(readVector(t, "mimi-content", name+".edn"))
			if m == nil {
				t.Fatal("no message ID in the .edn file")
			}
			want := string(m[1]) + string(m[2])
			id, err := NewMessageID(c.SenderURI(), c.RoomURI(), b, c.Salt)
			if err != nil {
				t.Fatal(err)
			}
			if id.String() != want {
				t.Errorf("message ID %v, want %s", id, want)
			}
			verified, err := Verify(b, Envelope{SenderURI: c.SenderURI(), RoomURI: c.RoomURI(), AcceptedMillis: 1644387225019})
			if err != nil {
				t.Fatal(err)
			}
			if verified.ID != id || !bytes.Equal(verified.Raw, b) {
				t.Errorf("Verify gives ID %v over %x", verified.ID, verified.Raw)
			}
		})
	}
}

// TestImpliedOriginal: the .edn file of the derived values names the ID of
// Original; the .cbor file still has the one of draft -07 (Decisions, section 0).
func TestImpliedOriginal(t *testing.T) {
	b := readVector(t, "mimi-content", "original.cbor")
	e := Envelope{
		SenderURI:      "mimi://example.com/u/alice-smith",
		RoomURI:        "mimi://example.com/r/engineering_team",
		AcceptedMillis: 1644387225019,
	}
	m, err := Verify(b, e)
	if err != nil {
		t.Fatal(err)
	}
	var implied []any
	if err := cbor.Unmarshal(readVector(t, "mimi-content", "implied-original.cbor"), &implied); err != nil {
		t.Fatal(err)
	}
	if implied[1] != e.AcceptedMillis || implied[5] != e.SenderURI || implied[6] != e.RoomURI {
		t.Errorf("derived values are %v", implied)
	}
	if got := hex.EncodeToString(implied[0].([]byte)); !strings.HasPrefix(got, "01b0084467") {
		t.Errorf("stale ID %s, expected the one of draft -07", got)
	}
	printed := strings.Join(strings.Fields(string(readVector(t, "mimi-content", "implied-original.edn"))), "")
	if !strings.Contains(printed, m.ID.String()) {
		t.Errorf("implied-original.edn does not print %v", m.ID)
	}
}

func TestStatusExample(t *testing.T) {
	b := readVector(t, "message-status", "status.cbor")
	s, err := UnmarshalStatus(b)
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		example string
		status  Status
	}{{"original", StatusRead}, {"reply", StatusRead}, {"mention", StatusUnread}, {"expiring", StatusExpired}}
	if len(s.Statuses) != len(want) {
		t.Fatalf("%d statuses, want %d", len(s.Statuses), len(want))
	}
	all := examples(t)
	for i, w := range want {
		c, err := Unmarshal(all[w.example])
		if err != nil {
			t.Fatal(err)
		}
		id, err := NewMessageID(c.SenderURI(), c.RoomURI(), all[w.example], c.Salt)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Statuses[i]; got.MessageID != id || got.Status != w.status {
			t.Errorf("status %d is %v, want %v of %s %v", i, got, w.status, w.example, id)
		}
	}
	again, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again, b) {
		t.Errorf("encodes to %x, want %x", again, b)
	}
}

// TestStrictPrefixes: no beginning of a message is a message, and the error
// points into what is there.
func TestStrictPrefixes(t *testing.T) {
	check := func(t *testing.T, b []byte, read func([]byte) error) {
		t.Helper()
		for n := range b {
			var syntax *SyntaxError
			err := read(b[:n])
			if !asError(err, &syntax) {
				t.Fatalf("prefix of %d octets: %v", n, err)
			}
			if syntax.Offset > n {
				t.Fatalf("prefix of %d octets: offset %d", n, syntax.Offset)
			}
		}
		if err := read(append(bytes.Clone(b), 0)); !isError(err, ErrTrailing) {
			t.Fatalf("one octet more: %v", err)
		}
	}
	for name, b := range examples(t) {
		t.Run(name, func(t *testing.T) {
			check(t, b, func(b []byte) error { _, err := Unmarshal(b); return err })
		})
	}
	t.Run("status", func(t *testing.T) {
		check(t, readVector(t, "message-status", "status.cbor"), func(b []byte) error { _, err := UnmarshalStatus(b); return err })
	})
}

func TestDumpExample(t *testing.T) {
	f, err := Dump(readVector(t, "mimi-content", "multipart-2.cbor"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"salt":"8528dc2d92e4f1944d62042907ab94d0","replaces":null,"topicId":"","expires":null,"inReplyTo":null,` +
		`"mimiExtensions":{"senderUri":"mimi://example.com/u/alice-smith","roomUri":"mimi://example.com/r/engineering_team"},` +
		`"nestedPart":{"disposition":2,"language":"","cardinality":3,"partSemantics":2,"parts":[` +
		`{"disposition":2,"language":"","cardinality":1,"contentType":"text/plain;charset=utf-8","content":"❤"},` +
		`{"disposition":2,"language":"","cardinality":1,"contentType":"text/plain;charset=utf-8","content":"🥳"},` +
		`{"disposition":2,"language":"","cardinality":1,"contentType":"text/plain;charset=utf-8","content":"🤞"}]}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	text := f.String()
	for _, line := range []string{"  disposition: 2 (reaction)\n", "partSemantics: 2 (processAll)\n", `content: "❤"`, "     1    salt: h'8528dc2d92e4f1944d62042907ab94d0'\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("no %q in\n%s", line, text)
		}
	}
}

// TestDumpBroken: the tree has what was read, the error says where it ended.
func TestDumpBroken(t *testing.T) {
	b := readVector(t, "mimi-content", "multipart-2.cbor")
	f, err := Dump(b[:len(b)-2])
	var syntax *SyntaxError
	if !asError(err, &syntax) {
		t.Fatal(err)
	}
	if syntax.Field != "nestedPart.parts[2].content" || syntax.Offset != len(b)-5 || !isError(err, ErrTruncated) {
		t.Errorf("error %v", err)
	}
	if s := f.String(); !strings.Contains(s, `"🥳"`) || strings.Contains(s, `"🤞"`) {
		t.Errorf("tree\n%s", s)
	}
	if _, err := json.Marshal(f); err != nil {
		t.Error(err)
	}
}
