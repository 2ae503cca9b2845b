package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func runInspect(t *testing.T, i Inspect, file []byte) (string, error) {
	t.Helper()
	if file != nil {
		i.File = filepath.Join(t.TempDir(), "in")
		if err := os.WriteFile(i.File, file, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if i.Form == "" {
		i.Form = "auto"
	}
	var out bytes.Buffer
	err := i.Run(&out)
	return out.String(), err
}

func TestInspect(t *testing.T) {
	const dir = "../../mimi/testdata/wire/"
	text, err := os.ReadFile(dir + "submit_message_request.hex")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(dir + "submit_message_request.txt")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string][]byte{
		"hex":        text,
		"raw":        raw,
		"base64":     []byte(base64.StdEncoding.EncodeToString(raw) + "\n"),
		"url base64": []byte(base64.RawURLEncoding.EncodeToString(raw)),
	} {
		got, err := runInspect(t, Inspect{}, file)
		if err != nil || got != string(want) {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
	if got, err := runInspect(t, Inspect{As: "submitmessagerequest", Form: "raw"}, raw); err != nil || got != string(want) {
		t.Errorf("by name: %v\n%s", err, got)
	}

	got, err := runInspect(t, Inspect{JSON: true}, raw)
	var v struct {
		Type  string
		Value struct {
			AppMessage struct {
				PrivateMessage struct{ Epoch int } `json:"private_message"`
			}
			SendingURI string `json:"sendingUri"`
		}
	}
	if e := json.Unmarshal([]byte(got), &v); err != nil || e != nil {
		t.Fatalf("%v, %v\n%s", err, e, got)
	}
	if v.Type != "SubmitMessageRequest" || v.Value.SendingURI != "mimi://b.example/u/bob" || v.Value.AppMessage.PrivateMessage.Epoch != 7 {
		t.Errorf("JSON reads %+v", v)
	}

	// Cut off: what could be read, then where it stopped.
	for _, as := range []string{"", "SubmitMessageRequest"} {
		got, err = runInspect(t, Inspect{As: as}, raw[:120])
		if err == nil || !strings.Contains(err.Error(), "offset 104 (appMessage.private_message.ciphertext)") {
			t.Errorf("as %q: %v", as, err)
		}
		if !strings.Contains(got, "encrypted_sender_data: e5e5") {
			t.Errorf("as %q: %s", as, got)
		}
	}
	got, err = runInspect(t, Inspect{JSON: true}, raw[:120])
	if err == nil || !json.Valid([]byte(got)) || !strings.Contains(got, `"error"`) {
		t.Errorf("JSON of what is cut off: %v\n%s", err, got)
	}

	if _, err := runInspect(t, Inspect{As: "Nonsense"}, raw); err == nil || !strings.Contains(err.Error(), "--list") {
		t.Errorf("unknown type: %v", err)
	}
	if _, err := runInspect(t, Inspect{Form: "hex"}, raw); err == nil {
		t.Error("raw octets taken for hexadecimal")
	}
	if _, err := runInspect(t, Inspect{}, []byte{}); err == nil {
		t.Error("an empty file is nothing")
	}
	if _, err := runInspect(t, Inspect{File: filepath.Join(t.TempDir(), "none")}, nil); err == nil {
		t.Error("no file")
	}
	if got, err := runInspect(t, Inspect{List: true}, nil); err != nil || !strings.Contains(got, "MimiContent\n") || !strings.Contains(got, "RoleData\n") {
		t.Errorf("list: %v\n%s", err, got)
	}

	// The examples of the content draft.
	vectors := os.Getenv("COMITY_VECTORS")
	if vectors == "" {
		vectors = "../../../shared/vectors"
	}
	files, _ := filepath.Glob(filepath.Join(vectors, "mimi-content", "*.cbor"))
	if len(files) == 0 {
		t.Skip("no vectors: set COMITY_VECTORS")
	}
	for _, f := range files {
		if filepath.Base(f) == "implied-original.cbor" { // what a message ID covers, not a message
			continue
		}
		i := Inspect{File: f, JSON: true, Form: "auto"}
		if got, err := runInspect(t, i, nil); err != nil || !strings.Contains(got, `"type": "MimiContent"`) {
			t.Errorf("%s: %v\n%s", f, err, got)
		}
	}
}
