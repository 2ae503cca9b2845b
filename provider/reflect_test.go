package provider_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/provider"
)

// asked notes whose issuers a provider asks for.
type asked struct {
	provider.Peers
	mu  sync.Mutex
	who []mimi.ProviderDomain
}

func (a *asked) Issuers(ctx context.Context, d mimi.ProviderDomain) ([]*x509.Certificate, error) {
	a.mu.Lock()
	a.who = append(a.who, d)
	a.mu.Unlock()
	return a.Peers.Issuers(ctx, d)
}

// TestNotSentToOthers has b.example, with its own certificate, hand in
// credentials that name users of c.example: a provider is refused before
// c.example hears of it.
func TestNotSentToOthers(t *testing.T) {
	var a *asked
	p := newPlay(t, func(cfg *provider.Config) {
		if cfg.Domain == domA {
			a = &asked{Peers: cfg.Peers}
			cfg.Peers = a
		}
	})
	alice, bob, cathy := p.As("alice@a.example"), p.As("bob@b.example"), p.As("cathy@c.example")
	alice.Creates(clubhouse, policy.Cooperative)
	hub := p.providers[domA]
	forbidden := func(what string, err error) {
		t.Helper()
		var refused *mimi.RefusedError
		if !errors.As(err, &refused) || refused.Refusal != mimi.RefusedForbidden {
			t.Errorf("%s: %v", what, err)
		}
	}
	info, _ := cathy.groupInfo("")
	_, err := hub.GroupInfo(p.ctx, domB, clubhouse, info)
	forbidden("groupInfo", err)
	claim := &mimi.KeyMaterialRequest{Protocol: mimi.MLS10, RequestingUser: bob.dev.User, TargetUser: alice.dev.User, RoomID: clubhouse,
		AcceptableCiphersuites: []suite.ID{testSuite}, RequesterCredential: cathy.cred}
	if err := claim.Sign(rand.Reader, cathy.signer); err != nil {
		t.Fatal(err)
	}
	_, err = hub.KeyMaterial(p.ctx, domB, alice.dev.User, claim)
	forbidden("keyMaterial", err)
	a.mu.Lock()
	defer a.mu.Unlock()
	if slices.Contains(a.who, domC) {
		t.Errorf("asked for the issuers of %v", a.who)
	}
}
