// Package trust knows the credential issuers of all providers that this one
// deals with, and says whose a credential is (docs/design/identity.md).
//
// A provider's issuers are fetched from its own host when they are first
// needed, kept in the database, and fetched again from time to time: also when
// a credential does not verify, since the provider may have a new root.
package trust

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/store"
)

const (
	// refreshAfter is how old issuers may get before they are fetched again.
	refreshAfter = time.Hour
	// fetchAgain is how long to wait before a provider is asked again because
	// something did not verify, or because it did not answer.
	fetchAgain = time.Minute
	// fetchTime bounds one fetch.
	fetchTime = 10 * time.Second
)

// A Config configures Trust.
type Config struct {
	Domain mimi.ProviderDomain
	Roots  []*x509.Certificate // our own issuers
	Store  *store.Store
	Now    func() time.Time
	Logger *slog.Logger
	// Fetch asks a provider for its issuers.
	Fetch func(ctx context.Context, domain mimi.ProviderDomain) ([]*x509.Certificate, error)
	// Fixed are the issuers of providers whose word is not asked for.
	Fixed map[mimi.ProviderDomain][]*x509.Certificate
	// Pseudonyms takes leaves with pseudonymous credentials.
	Pseudonyms bool
}

// Trust is what a provider believes of credentials. Safe for concurrent use.
type Trust struct {
	cfg      Config
	verifier *identity.Verifier

	mu    sync.Mutex
	known map[mimi.ProviderDomain]*source
}

// A source is what is known of where a provider's issuers come from.
type source struct {
	fetching chan struct{} // closed when the fetch under way has ended; nil: none
	fetched  time.Time     // last success
	asked    time.Time     // last attempt
	err      error         // of the last attempt
}

// New returns the trust of a provider with what is in its database.
func New(ctx context.Context, cfg Config) (*Trust, error) {
	t := &Trust{cfg: cfg, verifier: identity.NewVerifier(identity.Config{Pseudonyms: cfg.Pseudonyms}), known: map[mimi.ProviderDomain]*source{}}
	t.verifier.SetAnchors(cfg.Domain, cfg.Roots)
	for domain, roots := range cfg.Fixed {
		t.verifier.SetAnchors(domain, roots)
	}
	return t, nil
}

// fixed says whether a domain's issuers are not to be asked for.
func (t *Trust) fixed(domain mimi.ProviderDomain) bool {
	return domain == t.cfg.Domain || t.cfg.Fixed[domain] != nil
}

// Issuers returns the issuers of a provider, for a device that does not know them
// or for which a credential did not verify with them: they are asked for again.
func (t *Trust) Issuers(ctx context.Context, domain mimi.ProviderDomain) ([]*x509.Certificate, error) {
	if err := t.ensure(ctx, domain, true); err != nil {
		return nil, err
	}
	return t.verifier.Anchors(domain), nil
}

// ensure makes sure that a provider's issuers are known, and with again that
// they are as new as may be.
func (t *Trust) ensure(ctx context.Context, domain mimi.ProviderDomain, again bool) error {
	if t.fixed(domain) {
		return nil
	}
	t.mu.Lock()
	s := t.known[domain]
	if s == nil {
		s = &source{}
		t.known[domain] = s
		t.mu.Unlock()
		t.restore(ctx, domain, s)
		t.mu.Lock()
	}
	now := t.cfg.Now()
	have := len(t.verifier.Anchors(domain)) > 0
	due := !have || again || now.Sub(s.fetched) > refreshAfter
	if !due || have && now.Sub(s.asked) < fetchAgain {
		t.mu.Unlock()
		return nil
	}
	if !have && s.err != nil && now.Sub(s.asked) < fetchAgain/12 {
		err := s.err
		t.mu.Unlock()
		return err
	}
	ch := s.fetching
	if ch == nil {
		ch = make(chan struct{})
		s.fetching, s.asked = ch, now
		go t.fetch(context.WithoutCancel(ctx), domain, s, ch)
	}
	t.mu.Unlock()
	if have && !again {
		return nil // refreshed in the background
	}
	select {
	case <-ch:
	case <-ctx.Done():
		return ctx.Err()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.verifier.Anchors(domain)) > 0 {
		return nil
	}
	return s.err
}

// restore reads what the database has of a provider's issuers.
func (t *Trust) restore(ctx context.Context, domain mimi.ProviderDomain, s *source) {
	var doc []byte
	err := t.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
		doc, err = tx.Meta(metaName(domain))
		return err
	})
	if err != nil {
		return
	}
	roots, err := identity.ParseIssuers(doc, domain)
	if err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.fetched.IsZero() {
		t.verifier.SetAnchors(domain, roots)
	}
}

func metaName(domain mimi.ProviderDomain) string { return "issuers/" + string(domain) }

func (t *Trust) fetch(ctx context.Context, domain mimi.ProviderDomain, s *source, done chan struct{}) {
	defer close(done)
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	roots, err := t.cfg.Fetch(ctx, domain)
	if err == nil && len(roots) == 0 {
		err = fmt.Errorf("trust: %s publishes no issuers", domain)
	}
	if err == nil {
		err = t.save(ctx, domain, roots)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s.fetching = nil
	if s.err = err; err != nil {
		t.cfg.Logger.Warn("can't get the credential issuers of a provider", "provider", string(domain), "error", err)
		return
	}
	s.fetched = t.cfg.Now()
	t.verifier.SetAnchors(domain, roots)
}

func (t *Trust) save(ctx context.Context, domain mimi.ProviderDomain, roots []*x509.Certificate) error {
	doc, err := identity.MarshalIssuers(domain, roots)
	if err != nil {
		return err
	}
	return t.cfg.Store.Update(ctx, func(tx *store.Tx) error { return tx.SetMeta(metaName(domain), doc) })
}

// Need makes sure that the issuers of the credentials' providers are known, and
// asks those providers if they are not. If one can't be asked the error is a
// *mimi.FailedError: whether its credential is true is not known at present.
func (t *Trust) Need(ctx context.Context, credentials ...*mls.Credential) error {
	var done []mimi.ProviderDomain
next:
	for _, c := range credentials {
		user, _, err := identity.Names(c)
		if err != nil {
			continue
		}
		for _, d := range done {
			if d == user.Host() {
				continue next
			}
		}
		done = append(done, user.Host())
		if err := t.ensure(ctx, user.Host(), false); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return &mimi.FailedError{RetryAfter: time.Second, Err: fmt.Errorf("the credential issuers of %s can't be had: %w", user.Host(), err)}
		}
	}
	return nil
}

// VerifyKey says whose a credential is, if it proves that the key is theirs.
func (t *Trust) VerifyKey(ctx context.Context, c *mls.Credential, signatureKey []byte) (mimi.UserURI, mimi.ClientURI, error) {
	if err := t.Need(ctx, c); err != nil {
		return "", "", err
	}
	id, err := t.verifier.VerifyCredential(c, signatureKey, t.cfg.Now())
	if errors.Is(err, identity.ErrChain) {
		var bad *identity.CredentialError
		if errors.As(err, &bad) && bad.Provider != "" && t.ensure(ctx, bad.Provider, true) == nil {
			id, err = t.verifier.VerifyCredential(c, signatureKey, t.cfg.Now())
		}
	}
	return id.User, id.Client, err
}

// VerifyLeaf is VerifyKey for the credential and key of a leaf.
func (t *Trust) VerifyLeaf(ctx context.Context, leaf *mls.LeafNode) (mimi.UserURI, mimi.ClientURI, error) {
	return t.VerifyKey(ctx, &leaf.Credential, leaf.SignatureKey)
}

// Identify reads a credential without judging it (room.Verifier).
func (t *Trust) Identify(c *mls.Credential) (room.Identity, error) { return Identify(c) }

// Identify reads whom a credential names, and its claims, without judging it.
func Identify(c *mls.Credential) (room.Identity, error) {
	user, client, err := identity.Names(c)
	if err != nil {
		return room.Identity{}, err
	}
	return room.Identity{User: user, Client: client, Claims: claimsOf(c)}, nil
}

func claimsOf(c *mls.Credential) policy.Claims {
	if c.Type != mls.CredentialX509 || len(c.Certificates) == 0 {
		return nil
	}
	claims, err := policy.X509Claims(c.Certificates[0].CertData)
	if err != nil {
		return nil
	}
	return claims
}

// Verify says whether the credential of a leaf that enters a group is true
// (room.Verifier). It asks nobody: Need has.
func (t *Trust) Verify(leaf *mls.LeafNode) error {
	_, err := t.verifier.VerifyCredential(&leaf.Credential, leaf.SignatureKey, t.cfg.Now())
	return err
}

// Provider returns the provider that a hub's credential names (room.Verifier).
func (t *Trust) Provider(c *mls.Credential) (mimi.ProviderDomain, error) {
	return identity.HubName(c)
}
