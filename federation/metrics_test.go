package federation

import (
	"fmt"
	"testing"

	"github.com/comity-im/comity/mimi"
)

// Peers have labels of their own, but not without end, and not if they were never
// reached.
func TestLabelsAreBounded(t *testing.T) {
	var l labels
	if got := l.of("made.up.example", false); got != "other" {
		t.Errorf("a peer that was never reached is called %q", got)
	}
	for i := range labelledPeers + 5 {
		peer, want := mimi.ProviderDomain(fmt.Sprintf("p%d.example", i)), fmt.Sprintf("p%d.example", i)
		if i >= labelledPeers {
			want = "other"
		}
		if got := l.of(peer, true); got != want {
			t.Errorf("peer %d is called %q", i, got)
		}
	}
	if got := l.of("p0.example", false); got != "p0.example" {
		t.Errorf("a known peer that can't be reached is called %q", got)
	}
}
