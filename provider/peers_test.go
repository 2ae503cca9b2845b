package provider_test

import (
	"testing"
	"time"

	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/provider"
)

// What an operator says of a peer, and how it was, outlives a restart.
func TestPeersAreRemembered(t *testing.T) {
	p := newPlay(t)
	alice, bob := p.As("alice@a.example"), p.As("bob@b.example")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob)
	bob.Enters(clubhouse)
	hub := p.providers[domA]
	blocked := true
	if err := hub.SetPeer(p.ctx, domC, func(s *provider.PeerSettings) { s.Blocked, s.Why, s.PerSecond = &blocked, "spam", 5 }); err != nil {
		t.Fatal(err)
	}
	at := time.UnixMilli(p.now().UnixMilli())
	if err := hub.NotePeer(p.ctx, domC, at, at, "down"); err != nil {
		t.Fatal(err)
	}
	// An older note changes nothing.
	if err := hub.NotePeer(p.ctx, domC, at.Add(-time.Hour), at.Add(-time.Hour), "older"); err != nil {
		t.Fatal(err)
	}
	if err := hub.PeerQueue(p.ctx, domB, "pause"); err != nil {
		t.Fatal(err)
	}
	alice.Says(clubhouse, "held back")
	again, err := provider.New(p.ctx, provider.Config{Domain: domA, Store: p.stores[domA], Peers: wire{p, domA}, Now: p.now})
	if err != nil {
		t.Fatal(err)
	}
	list, err := again.KnownPeers(p.ctx)
	if err != nil || len(list) != 2 || list[1].Domain != domC || list[1].Settings.Blocked == nil || !*list[1].Settings.Blocked || list[1].Settings.Why != "spam" ||
		list[1].Settings.PerSecond != 5 || !list[1].Contact.Equal(at) || list[1].Failure != "down" || !list[0].Settings.Paused {
		t.Errorf("known peers: %+v, %v", list, err)
	}
	// What was acknowledged before is written within moments.
	q, err := again.Queue(p.ctx, domB)
	for deadline := time.Now().Add(20 * time.Second); err == nil && q.Events > 1 && time.Now().Before(deadline); q, err = again.Queue(p.ctx, domB) {
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil || !q.Paused || q.Events != 1 {
		t.Errorf("the queue of a paused peer after a restart: %+v, %v", q, err)
	}
	bob.drain()
	if len(bob.texts) > 0 {
		t.Error("a paused peer got a message")
	}
	if err := hub.PeerQueue(p.ctx, domB, "resume"); err != nil {
		t.Fatal(err)
	}
	bob.Reads(clubhouse, "held back")
}
