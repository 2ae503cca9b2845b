package inspect

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/comity-im/comity/tlspl"
)

// golden returns the octets of mimi/testdata/wire by name.
func golden(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("../../mimi/testdata/wire/*.hex")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	m := make(map[string][]byte)
	for _, f := range files {
		// Components and credentials are parts of messages: what they are stands beside them.
		if name := filepath.Base(f); strings.HasPrefix(name, "component_") || strings.HasPrefix(name, "identity_link") || strings.HasPrefix(name, "pseudonymous") {
			continue
		}
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
		if err != nil {
			t.Fatal(err)
		}
		m[strings.TrimSuffix(filepath.Base(f), ".hex")] = b
	}
	return m
}

var prefixes = []struct{ file, as string }{
	{"key_material_request", "KeyMaterialRequest"},
	{"key_material_response", "KeyMaterialResponse"},
	{"update_request", "UpdateRequest"},
	{"update_response", "UpdateRoomResponse"},
	{"submit_message_request", "SubmitMessageRequest"},
	{"submit_message_response", "SubmitMessageResponse"},
	{"notify", "NotifyRequest"},
	{"group_info_request", "GroupInfoRequest"},
	{"group_info_response", "GroupInfoResponse"},
	{"group_info_ratchet_tree_tbe", "GroupInfoRatchetTreeTBE"},
	{"request_consent", "ConsentEntry"},
	{"update_consent", "ConsentEntry"},
	{"identifier_query_request", "IdentifierRequest"},
	{"identifier_query_response", "IdentifierResponse"},
	{"report_abuse", "AbuseReport"},
	{"gone", "GoneNotice"},
}

func typeOf(t *testing.T, file string) string {
	for _, p := range prefixes {
		if strings.HasPrefix(file, p.file) {
			return p.as
		}
	}
	t.Fatalf("golden file %s is of no known type", file)
	return ""
}

// Every message is recognised; what is long enough as just what it is.
func TestGuess(t *testing.T) {
	for name, b := range golden(t) {
		as := typeOf(t, name)
		names := Guess(b)
		if !slices.Contains(names, as) {
			t.Errorf("%s is guessed as %v, not as %s", name, names, as)
		}
		if len(b) > 100 && (len(names) != 1 || names[0] != as) {
			t.Errorf("%s is guessed as %v, want only %s", name, names, as)
		}
	}
	if names := Guess([]byte("no message at all")); len(names) != 0 {
		t.Errorf("guessed %v", names)
	}
}

// Both forms hold everything: the text names every field, the JSON is valid
// and has the same keys in the same order.
func TestForms(t *testing.T) {
	for name, b := range golden(t) {
		as := strings.ToLower(typeOf(t, name)) // case does not matter
		tree, err := Inspect(as, b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		j, err := json.Marshal(tree)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var keys []string
		for dec := json.NewDecoder(bytes.NewReader(j)); ; {
			tok, err := dec.Token()
			if err != nil {
				break
			}
			if s, ok := tok.(string); ok {
				keys = append(keys, s)
			}
		}
		text := tree.String()
		for _, line := range strings.Split(strings.TrimSpace(text), "\n")[1:] {
			field, _, _ := strings.Cut(strings.Fields(line)[1], ":")
			if strings.HasPrefix(field, "[") {
				continue
			}
			i := slices.Index(keys, field)
			if i < 0 {
				t.Errorf("%s: JSON lacks %s, or has it elsewhere", name, field)
				break
			}
			keys = keys[i+1:]
		}
		for _, r := range text {
			if r < ' ' && r != '\n' {
				t.Errorf("%s: control character %q in text", name, r)
			}
		}
	}
}

// What is hidden in opaque fields comes out, at its own offsets.
func TestDeepen(t *testing.T) {
	b := golden(t)["group_info_ratchet_tree_tbe"]
	tree, err := Inspect("GroupInfoRatchetTreeTBE", b)
	if err != nil {
		t.Fatal(err)
	}
	text := tree.String()
	for _, want := range []string{
		`room_name: "Clubhouse"`,              // a component in a dictionary in an extension
		`role_name: "admin"`,                  //
		"canSendMessage (0x0100)",             //
		"external_pub: ",                      // an extension of the GroupInfo
		`identity: "mimi://a.example"`,        // external_senders
		": blank",                             // the ratchet tree
		`"application/mimi-content"`,          // content_media_types
		"proposal_type: self_remove (0x000a)", // a pending proposal
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s does not come out of\n%s", want, text)
		}
	}
	var check func(n *tlspl.Node)
	check = func(n *tlspl.Node) {
		at := n.Offset
		for _, k := range n.Children {
			if k.Offset < at || k.Offset+k.Length > n.Offset+n.Length {
				t.Errorf("%s at %d+%d is not inside %s at %d+%d", k.Name, k.Offset, k.Length, n.Name, n.Offset, n.Length)
			}
			at = k.Offset
			check(k)
		}
		if v, ok := n.Value.([]byte); ok && !bytes.Contains(b[n.Offset:n.Offset+n.Length], v) {
			t.Errorf("%s at %d+%d does not hold its value", n.Name, n.Offset, n.Length)
		}
	}
	check(tree.(*tlsTree).root)
}

func TestErrors(t *testing.T) {
	b := golden(t)["submit_message_request"]
	tree, err := Inspect("SubmitMessageRequest", b[:120])
	var se *tlspl.SyntaxError
	if !errors.As(err, &se) || se.Field != "appMessage.private_message.ciphertext" || se.Offset != 104 {
		t.Errorf("error %v", err)
	}
	if tree == nil || !strings.Contains(tree.String(), "encrypted_sender_data: ") {
		t.Errorf("what was read is lost: %v", tree)
	}
	if _, err := Inspect("Nonsense", b); !errors.Is(err, ErrType) {
		t.Errorf("error %v", err)
	}
	for _, name := range Types() {
		if _, err := Inspect(name, nil); errors.Is(err, ErrType) {
			t.Errorf("%s is listed, but not known", name)
		}
	}
}

func FuzzInspect(f *testing.F) {
	for _, b := range golden(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, name := range append(Guess(b), "UpdateRequest", "NotifyRequest", "GroupContext") {
			tree, _ := Inspect(name, b)
			j, err := json.Marshal(tree)
			if err != nil || !json.Valid(j) {
				t.Fatalf("%s: %v", name, err)
			}
			for _, r := range tree.String() {
				if r < ' ' && r != '\n' {
					t.Fatalf("%s: control character %q in text", name, r)
				}
			}
		}
	})
}
