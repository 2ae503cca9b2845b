package mls

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// hexBytes is a byte string as the vectors write it.
type hexBytes []byte

func (b *hexBytes) UnmarshalJSON(text []byte) error {
	var s *string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	if s == nil {
		*b = nil
		return nil
	}
	var err error
	*b, err = hex.DecodeString(*s)
	return err
}

// readVectors decodes a file of the working group's vectors, or skips the test where they are not at hand.
func readVectors(t testing.TB, name string, v any) {
	t.Helper()
	dir := os.Getenv("COMITY_VECTORS")
	if dir == "" {
		dir = "../../shared/vectors"
	}
	b, err := os.ReadFile(filepath.Join(dir, "mls", name))
	if err != nil {
		t.Skipf("no vectors: set COMITY_VECTORS (%v)", err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}
