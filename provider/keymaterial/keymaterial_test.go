package keymaterial

import (
	"fmt"
	"testing"
	"time"

	"github.com/comity-im/comity/mls"
)

// Capabilities that are required beyond RFC 9420's own must be listed.
func TestCovers(t *testing.T) {
	have := &mls.Capabilities{Extensions: []mls.ExtensionType{6, 0xF001}, Proposals: []mls.ProposalType{8, 10}, Credentials: []mls.CredentialType{2}}
	for _, x := range []struct {
		name string
		want mls.RequiredCapabilities
		ok   bool
	}{
		{"nothing", mls.RequiredCapabilities{}, true},
		{"what it has", mls.RequiredCapabilities{ExtensionTypes: []mls.ExtensionType{0xF001, 6}, ProposalTypes: []mls.ProposalType{10}, CredentialTypes: []mls.CredentialType{2}}, true},
		{"the RFC's own extensions and proposals", mls.RequiredCapabilities{ExtensionTypes: []mls.ExtensionType{1, 2, 3, 4, 5}, ProposalTypes: []mls.ProposalType{1, 2, 3, 4, 5, 6, 7}}, true},
		{"another extension", mls.RequiredCapabilities{ExtensionTypes: []mls.ExtensionType{6, 7}}, false},
		{"another proposal", mls.RequiredCapabilities{ProposalTypes: []mls.ProposalType{8, 9}}, false},
		{"another credential", mls.RequiredCapabilities{CredentialTypes: []mls.CredentialType{1}}, false},
	} {
		if got := Covers(have, &x.want); got != x.ok {
			t.Errorf("%s: %v", x.name, got)
		}
	}
}

// A key has so much in a window; looking takes nothing; memory is bounded.
func TestLimiter(t *testing.T) {
	now := time.Now()
	l := newLimiter(3, time.Hour, func() time.Time { return now })
	for i, x := range []struct {
		take int
		want bool
	}{{0, true}, {2, true}, {0, true}, {2, true}, {0, false}, {1, false}} {
		if got := l.allow("bob", x.take); got != x.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
	if !l.allow("cathy", 1) {
		t.Error("Bob's use is counted for Cathy")
	}
	if w := l.wait("bob"); w != time.Hour {
		t.Errorf("wait %v", w)
	}
	now = now.Add(59 * time.Minute)
	if l.allow("bob", 0) || l.wait("bob") != time.Minute {
		t.Errorf("an hour is not over: wait %v", l.wait("bob"))
	}
	now = now.Add(time.Minute + time.Second)
	if !l.allow("bob", 0) {
		t.Error("an hour is over")
	}
	for i := range 250000 {
		l.allow(fmt.Sprint(i), 1)
	}
	if n := len(l.used); n > 100001 {
		t.Errorf("%d keys are remembered", n)
	}
	if free := newLimiter(0, time.Hour, time.Now); !free.allow("x", 1000) || !free.allow("x", 1) {
		t.Error("no limit is one")
	}
}
