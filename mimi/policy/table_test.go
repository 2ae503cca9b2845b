package policy

import (
	"os"
	"strings"
	"testing"
)

// The table of a preset as people see it.
func TestWriteTable(t *testing.T) {
	var b strings.Builder
	if err := WriteTable(&b, moderatedRoom(t).roles); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/moderated.txt")
	if os.Getenv("COMITY_UPDATE") != "" {
		if err := os.WriteFile("testdata/moderated.txt", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the table has changed (COMITY_UPDATE=1 rewrites it):\n%s", b.String())
	}
}

func TestCapabilityNames(t *testing.T) {
	for _, c := range Capabilities() {
		back, ok := ParseCapability(c.String())
		if !ok || back != c || Does(c) == "" {
			t.Errorf("%v: %v, %q", c, back, Does(c))
		}
	}
	if c, ok := ParseCapability("canUnban"); !ok || c.String() != "canUnBan" {
		t.Error("canUnban is not understood")
	}
	if _, ok := ParseCapability("canRevokeVoice"); ok || Does(0xf000) != "" {
		t.Error("an unregistered name is understood")
	}
}
