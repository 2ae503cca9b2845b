package client_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/tlspl"
)

// TestFrank is what a receiver makes of franks that were tampered with on their
// way (MIMI protocol §5.4.1.3, Decisions 45, 48, 49).
func TestFrank(t *testing.T) {
	w, alice, bob, uri := pair(t)
	var mu sync.Mutex
	var tamper func(*mimi.FanoutMessage)
	var last mimi.FanoutMessage
	alice.link.mu.Lock()
	alice.link.tamper = func(e clientapi.Event) []clientapi.Event {
		var f mimi.FanoutMessage
		if e.Invited || len(e.Fanout) == 0 || tlspl.Unmarshal(e.Fanout, &f) != nil || f.Kind() != mimi.FanoutApplication {
			return []clientapi.Event{e}
		}
		mu.Lock()
		defer mu.Unlock()
		was := f
		tamper(&f)
		last = was
		var err error
		if e.Fanout, err = tlspl.Marshal(&f); err != nil {
			panic(err)
		}
		return []clientapi.Event{e}
	}
	alice.link.mu.Unlock()
	for _, c := range []struct {
		name   string
		tamper func(*mimi.FanoutMessage)
		marks  []string
	}{
		{"as it is", func(*mimi.FanoutMessage) {}, nil},
		{"taken away", func(f *mimi.FanoutMessage) { f.Frank = nil }, []string{"frank missing"}},
		{"signature bent", func(f *mimi.FanoutMessage) { f.Frank.FrankingIntegritySignature[3] ^= 1 }, []string{"not franked"}},
		{"server_frank bent", func(f *mimi.FanoutMessage) { f.Frank.ServerFrank[3] ^= 1 }, []string{"not franked"}},
		{"of another time", func(f *mimi.FanoutMessage) { f.Timestamp++ }, []string{"not franked"}},
		{"of another suite", func(f *mimi.FanoutMessage) { f.Frank.FrankingSignatureCiphersuite = 2 }, []string{"not franked"}},
		{"as it is again", func(*mimi.FanoutMessage) {}, nil},
		{"of the message before", func(f *mimi.FanoutMessage) { f.Frank, f.Timestamp = last.Frank, last.Timestamp }, []string{"frank unverified"}},
	} {
		mu.Lock()
		tamper = c.tamper
		mu.Unlock()
		bob.say(uri, c.name)
		m := alice.waitText(c.name).Message
		if !slices.Equal(m.Marks, c.marks) || m.Franked != (c.marks == nil) {
			t.Errorf("%s: marked %q, franked %v", c.name, m.Marks, m.Franked)
		}
	}
	// A report proves what was said, and only that is reported.
	good, bad := alice.waitText("as it is").Message, alice.waitText("signature bent").Message
	if err := alice.ReportAbuse(w.ctx, uri, "rude", bad.ID); err == nil || !strings.Contains(err.Error(), "can't be reported") {
		t.Errorf("report without a proof: %v", err)
	}
	if err := alice.ReportAbuse(w.ctx, uri, "rude", good.ID); err != nil {
		t.Fatal(err)
	}
	reports, err := w.providers["a.example"].Reports(w.ctx)
	if err != nil || len(reports) != 1 {
		t.Fatalf("%d reports (%v)", len(reports), err)
	}
	t.Logf("%+v", reports[0])
}
