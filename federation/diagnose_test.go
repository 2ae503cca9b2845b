package federation

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/federation/devpki"
	"github.com/comity-im/comity/mimi"
)

func TestDiagnose(t *testing.T) {
	ca := newCA(t)
	good := issue(t, ca, devpki.Leaf{Names: []string{"b.example"}})
	status := func(code int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Error(w, text, code) }
	}
	own := directoryAt(t, "https://b.example/v1")
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, tc := range []struct {
		name    string
		address string // empty: a stranger with the handlers
		pair    devpki.Pair
		dir     http.HandlerFunc
		answer  http.HandlerFunc
		change  func(*Peers)
		side    Side
		step    Step // of the last check
		text    string
		timeout time.Duration // of a request; one second if zero
	}{
		{name: "well", pair: good, dir: own, answer: status(400, "offset 0"), side: SideNone, step: StepRequest, text: "is reachable and accepts our requests"},
		{name: "blocked by us", pair: good, dir: own, change: func(p *Peers) { _ = p.Block("b.example", "spam in May") }, side: SideOurs, step: StepPolicy, text: "spam in May"},
		{name: "nobody listens", address: closed.Addr().String(), side: SideTheirs, step: StepTCP, text: "no TCP connection"},
		{name: "no TLS", address: silent.Addr().String(), side: SideTheirs, step: StepTLS, text: "TLS handshake"},
		{name: "certificate of another", pair: issue(t, ca, devpki.Leaf{Names: []string{"c.example"}}), side: SideTheirs, step: StepCertificate, text: "it names c.example"},
		{name: "certificate untrusted", pair: issue(t, newCA(t), devpki.Leaf{Names: []string{"b.example"}}), side: SideBetween, step: StepCertificate, text: "leads to no authority"},
		{name: "no directory", pair: good, dir: status(404, "nothing here"), side: SideTheirs, step: StepDirectory, text: "was answered with 404"},
		{name: "broken directory", pair: good, dir: func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>") }, side: SideTheirs, step: StepDirectory, text: "can't be had"},
		{name: "endpoints elsewhere", pair: good, dir: directoryAt(t, "https://victim.example/v1"), side: SideTheirs, step: StepCertificate, text: "victim.example"},
		{name: "refuses us", pair: good, dir: own, answer: status(403, "this provider does not talk to a.example"), side: SideBetween, step: StepRequest, text: "does not talk to a.example"},
		{name: "too much", pair: good, dir: own, answer: status(429, "slowly"), side: SideBetween, step: StepRequest, text: "429"},
		{name: "fails", pair: good, dir: own, answer: status(503, ""), side: SideTheirs, step: StepRequest, text: "fails with 503"},
		{name: "odd", pair: good, dir: own, answer: status(421, "wrong host"), side: SideTheirs, step: StepRequest, text: `421 ("wrong host")`},
		{name: "hangs", pair: good, dir: own, answer: func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, side: SideTheirs, step: StepSlow, text: "no answer"},
		{name: "slow", pair: good, dir: own, answer: func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(slowAfter + 50*time.Millisecond)
			http.Error(w, "offset 0", http.StatusBadRequest)
		}, side: SideNone, step: StepRequest, text: "but is slow: request took 2.", timeout: 20 * time.Second},
		{name: "certificate expired", pair: issue(t, ca, devpki.Leaf{Names: []string{"b.example"}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}),
			side: SideTheirs, step: StepCertificate, text: "expired"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			address := tc.address
			if address == "" {
				address = strange(t, tc.pair, tc.dir, tc.answer).address
			}
			c, peers := asker(t, ca, address)
			c.cfg.Timeout, c.cfg.ConnectTimeout = cmp.Or(tc.timeout, time.Second), 500*time.Millisecond
			if tc.change != nil {
				tc.change(peers)
			}
			r := c.Diagnose(context.Background(), "b.example")
			last := r.Checks[len(r.Checks)-1]
			if r.Side != tc.side || last.Step != tc.step || !strings.Contains(r.Text, tc.text) || r.OK != (tc.side == SideNone) || last.OK != r.OK {
				t.Errorf("got %+v", r)
			}
			for i, check := range r.Checks[:len(r.Checks)-1] {
				if !check.OK {
					t.Errorf("check %d failed and it went on: %+v", i, check)
				}
			}
		})
	}
	t.Run("no such name", func(t *testing.T) {
		c, _ := asker(t, ca, closed.Addr().String())
		r := c.Diagnose(context.Background(), "nowhere.invalid")
		if r.OK || r.Side != SideTheirs || r.Checks[len(r.Checks)-1].Step != StepName {
			t.Errorf("got %+v", r)
		}
	})
	t.Run("inside", func(t *testing.T) {
		c, _ := asker(t, ca, closed.Addr().String())
		r := c.Diagnose(context.Background(), "localhost")
		if r.OK || !strings.Contains(r.Text, "not public") {
			t.Errorf("got %+v", r)
		}
	})
}

// Diagnosis tells what was seen before, and works between two real providers.
func TestDiagnoseReal(t *testing.T) {
	a, b := two(t, providerConfig{})
	r := b.client.Diagnose(context.Background(), "a.example")
	if !r.OK || r.Health.LastReached.IsZero() {
		t.Errorf("got %+v", r)
	}
	if err := a.peers.Block("b.example", "test"); err != nil {
		t.Fatal(err)
	}
	r = b.client.Diagnose(context.Background(), "a.example")
	if r.OK || r.Side != SideBetween || !strings.Contains(r.Text, "this provider does not talk to b.example") {
		t.Errorf("got %+v", r)
	}
}

func TestPeersAtRunTime(t *testing.T) {
	p, err := NewPeers(PeersConfig{Deny: []mimi.ProviderDomain{"spam.example"},
		Peers: map[mimi.ProviderDomain]PeerConfig{"b.example": {}, "off.example": {Blocked: true}}})
	if err != nil {
		t.Fatal(err)
	}
	admitted := func(d mimi.ProviderDomain) bool {
		n, _ := p.find(d)
		return p.admits(n) == nil
	}
	check := func(d mimi.ProviderDomain, want bool) {
		t.Helper()
		if admitted(d) != want {
			t.Errorf("%s: admitted %v, want %v", d, !want, want)
		}
	}
	check("b.example", true)
	check("new.example", true)
	check("spam.example", false)
	check("off.example", false)
	// A block at run time outlives a reload of the config.
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(p.Block("b.example", "test"))
	must(p.Set("b.example", PeerConfig{Quota: Quota{Burst: 7}}))
	check("b.example", false)
	must(p.Unblock("b.example"))
	check("b.example", true)
	if s, ok := p.Status("b.example"); !ok || s.Quota.Burst != 7 || s.Quota.PerSecond != DefaultQuota.PerSecond {
		t.Errorf("got %+v", s)
	}
	must(p.SetPolicy(PolicyAllowlist))
	check("b.example", true)
	check("new.example", false)
	must(p.Block("new.example", "x"))
	must(p.Unblock("new.example"))
	check("new.example", false) // unblocked is not on the list
	must(p.Set("new.example", PeerConfig{}))
	check("new.example", true)
	p.Remove("new.example")
	check("new.example", false)
	must(p.Allow("new.example"))
	check("new.example", true)
	must(p.Disallow("new.example"))
	check("new.example", false)
	// A quota that is taken back is as the config says.
	must(p.SetQuota("b.example", Quota{Burst: 3, PerSecond: 1}))
	must(p.SetQuota("b.example", Quota{}))
	if s, ok := p.Status("b.example"); !ok || s.Quota.Burst != 7 {
		t.Errorf("got %+v", s)
	}
	if p.SetPolicy("closed") == nil || p.Block("No Domain", "") == nil || p.Set("127.0.0.1", PeerConfig{}) == nil {
		t.Error("nonsense accepted")
	}
}

// Guests are remembered up to a bound, the blocked ones always.
func TestGuestsAreForgotten(t *testing.T) {
	p, err := NewPeers(PeersConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Block("spam.example", "x"); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for i := range maxGuests + 10 {
		n, known := p.find(mimi.ProviderDomain(fmt.Sprintf("g%d.example", i)))
		if known {
			t.Fatal("known before")
		}
		n = p.remember(n)
		n.reached(now.Add(time.Duration(i) * time.Second))
	}
	if got := len(p.List()); got != maxGuests+1 {
		t.Errorf("%d remembered", got)
	}
	if _, known := p.find("g0.example"); known {
		t.Error("the oldest is still remembered")
	}
	if _, known := p.find("spam.example"); !known {
		t.Error("the block was forgotten")
	}
}
