package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
)

// A Config says what a Verifier accepts.
type Config struct {
	// AllowBasic reports whether basic credentials that name users, clients or
	// the hub of a provider are accepted. Nothing vouches for them, so they are
	// for tests and for closed federations. Nil accepts none.
	AllowBasic func(mimi.ProviderDomain) bool

	// Pseudonyms reports whether pseudonymous credentials are accepted (MIMI protocol §6). What they say of the real identity is
	// encrypted: nothing but the provider that passes a client's requests on vouches for its pseudonym to those who have not
	// the key; VerifyPseudonym is for those who have it.
	Pseudonyms bool

	// CacheSize is how many verified credentials are remembered; 0 is 65536.
	CacheSize int
}

const defaultCacheSize = 1 << 16

// A Verifier verifies credentials against the trust anchors of their providers.
// It is safe for concurrent use.
type Verifier struct {
	allowBasic func(mimi.ProviderDomain) bool
	pseudonyms bool

	mu      sync.RWMutex
	anchors map[mimi.ProviderDomain]*anchors

	cache cache
}

// anchors are the roots of one provider; a change makes a new value.
type anchors struct {
	certs []*x509.Certificate
	pool  *x509.CertPool
}

// NewVerifier returns a Verifier that knows no anchors.
func NewVerifier(cfg Config) *Verifier {
	if cfg.CacheSize <= 0 {
		cfg.CacheSize = defaultCacheSize
	}
	if cfg.AllowBasic == nil {
		cfg.AllowBasic = func(mimi.ProviderDomain) bool { return false }
	}
	return &Verifier{
		allowBasic: cfg.AllowBasic,
		pseudonyms: cfg.Pseudonyms,
		anchors:    make(map[mimi.ProviderDomain]*anchors),
		cache:      cache{half: max(cfg.CacheSize/2, 1)},
	}
}

// SetAnchors replaces the trust anchors of a provider; none withdraws its
// trust. What was verified before by an anchor that is gone does not verify any
// more.
func (v *Verifier) SetAnchors(domain mimi.ProviderDomain, certs []*x509.Certificate) {
	v.mu.Lock()
	defer v.mu.Unlock()
	old := v.anchors[domain]
	if old != nil && slices.EqualFunc(old.certs, certs, (*x509.Certificate).Equal) {
		return
	}
	if len(certs) == 0 {
		delete(v.anchors, domain)
		return
	}
	a := &anchors{certs: slices.Clone(certs), pool: x509.NewCertPool()}
	for _, c := range certs {
		a.pool.AddCert(c)
	}
	v.anchors[domain] = a
}

// Anchors returns the trust anchors of a provider.
func (v *Verifier) Anchors(domain mimi.ProviderDomain) []*x509.Certificate {
	if a := v.lookup(domain); a != nil {
		return slices.Clone(a.certs)
	}
	return nil
}

// Domains returns the providers that have trust anchors, in order.
func (v *Verifier) Domains() []mimi.ProviderDomain {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return slices.Sorted(maps.Keys(v.anchors))
}

func (v *Verifier) lookup(domain mimi.ProviderDomain) *anchors {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.anchors[domain]
}

// VerifyCredential says whom the credential of a client names, if at the time
// now it proves that signatureKey is theirs: the certificate is for that key,
// names one user and one client of one provider, and chains to an anchor of
// just that provider. The error is a *CredentialError. Decision 11
func (v *Verifier) VerifyCredential(cred *mls.Credential, signatureKey []byte, now time.Time) (Identity, error) {
	switch cred.Type {
	case mls.CredentialBasic:
		id, err := basicIdentity(cred)
		if err != nil {
			return Identity{}, &CredentialError{Err: err}
		}
		if !v.allowBasic(id.Provider()) {
			return Identity{}, &CredentialError{id.Provider(), ErrBasic}
		}
		return id, nil
	case mls.CredentialX509:
		return v.verifyX509(cred, signatureKey, now)
	case mimi.CredentialPseudonymous:
		p, err := v.pseudonym(cred, signatureKey)
		if err != nil {
			return Identity{}, err
		}
		return Identity{User: p.UserPseudonym, Client: p.ClientPseudonym}, nil
	}
	return Identity{}, &CredentialError{Err: fmt.Errorf("%w: %v", ErrCredentialType, cred.Type)}
}

// pseudonym checks of a pseudonymous credential what needs no key.
func (v *Verifier) pseudonym(cred *mls.Credential, signatureKey []byte) (*mimi.PseudonymousCredential, error) {
	p, err := mimi.ParsePseudonymousCredential(cred)
	if err != nil {
		return nil, &CredentialError{Err: err}
	}
	if !v.pseudonyms {
		return nil, &CredentialError{p.UserPseudonym.Host(), ErrPseudonymsOff}
	}
	if err := p.Check(signatureKey); err != nil {
		return nil, &CredentialError{p.UserPseudonym.Host(), err}
	}
	return p, nil
}

// VerifyPseudonym says who is behind a pseudonymous credential, for those who have the key of its identity link: the real
// credential verifies, is of the same provider, and its holder signed the pseudonyms (MIMI protocol §6.1). How members come by
// the key is left open by the draft. The error is a *CredentialError.
func (v *Verifier) VerifyPseudonym(cred *mls.Credential, signatureKey []byte, s suite.Suite, key []byte, now time.Time) (Identity, error) {
	p, err := v.pseudonym(cred, signatureKey)
	if err != nil {
		return Identity{}, err
	}
	domain := p.UserPseudonym.Host()
	link, err := p.OpenIdentity(s, key)
	if err != nil {
		return Identity{}, &CredentialError{domain, err}
	}
	if t := link.ClientCredential.Type; t != mls.CredentialX509 {
		return Identity{}, &CredentialError{domain, fmt.Errorf("%w: a real identity of type %v", ErrCredentialType, t)}
	}
	realKey, err := signatureKeyOf(&link.ClientCredential)
	if err != nil {
		return Identity{}, &CredentialError{domain, err}
	}
	who, err := v.VerifyCredential(&link.ClientCredential, realKey, now)
	switch {
	case err != nil:
		return Identity{}, err
	case who.Provider() != domain:
		return Identity{}, &CredentialError{domain, fmt.Errorf("%w: %s and %s", ErrHost, p.UserPseudonym, who.User)}
	}
	if err := link.Verify(p, s, realKey); err != nil {
		return Identity{}, &CredentialError{domain, err}
	}
	return who, nil
}

func (v *Verifier) verifyX509(cred *mls.Credential, signatureKey []byte, now time.Time) (Identity, error) {
	key := cacheKey(cred, signatureKey)
	if e, ok := v.cache.get(key); ok && v.lookup(e.id.Provider()) == e.anchors &&
		!now.Before(e.id.NotBefore) && !now.After(e.id.NotAfter) {
		return e.id, nil
	}

	chain, err := parseChain(cred)
	if err != nil {
		return Identity{}, &CredentialError{Err: err}
	}
	leaf := chain[0]
	user, client, err := clientNames(leaf)
	if err != nil {
		return Identity{}, &CredentialError{Err: err}
	}
	domain := user.Host()
	if !keyMatches(leaf, signatureKey) {
		return Identity{}, &CredentialError{domain, ErrKey}
	}
	a := v.lookup(domain)
	notBefore, notAfter, err := a.verify(chain, now)
	if err != nil {
		return Identity{}, &CredentialError{domain, err}
	}
	id := Identity{
		User: user, Client: client,
		NotBefore: notBefore, NotAfter: notAfter,
		Certificate: leaf,
	}
	v.cache.put(key, cacheEntry{id, a})
	return id, nil
}

// verify verifies a chain, leaf first, and returns when all of it is valid.
func (a *anchors) verify(chain []*x509.Certificate, now time.Time) (notBefore, notAfter time.Time, err error) {
	if a == nil {
		return notBefore, notAfter, ErrNoAnchor
	}
	leaf := chain[0]
	if leaf.IsCA {
		return notBefore, notAfter, fmt.Errorf("%w: the client's certificate is an authority's", ErrChain)
	}
	intermediates := x509.NewCertPool()
	for _, c := range chain[1:] {
		intermediates.AddCert(c)
	}
	chains, err := leaf.Verify(x509.VerifyOptions{
		Roots:         a.pool,
		Intermediates: intermediates,
		CurrentTime:   now,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return notBefore, notAfter, fmt.Errorf("%w: %v", ErrChain, err)
	}
	notBefore, notAfter = leaf.NotBefore, leaf.NotAfter
	for _, c := range chains[0][1:] {
		if c.NotBefore.After(notBefore) {
			notBefore = c.NotBefore
		}
		if c.NotAfter.Before(notAfter) {
			notAfter = c.NotAfter
		}
	}
	return notBefore, notAfter, nil
}

// VerifyHub checks that at the time now the credential proves signatureKey to
// be the hub's: as an external sender, a franking agent, or the sender of group
// information. It is a certificate whose one dNSName is the hub's and that
// chains to an anchor of the hub, or, where basic credentials of the hub are
// accepted, the identity mimi://<hub>. Decisions 32, 47, 65
func (v *Verifier) VerifyHub(cred *mls.Credential, signatureKey []byte, hub mimi.ProviderDomain, now time.Time) error {
	switch cred.Type {
	case mls.CredentialBasic:
		if string(cred.Identity) != string(hub.URI()) {
			return &CredentialError{hub, fmt.Errorf("%w: identity is %q", ErrHub, cred.Identity)}
		}
		if !v.allowBasic(hub) {
			return &CredentialError{hub, ErrBasic}
		}
		return nil
	case mls.CredentialX509:
		return v.verifyHubX509(cred, signatureKey, hub, now)
	}
	return &CredentialError{hub, fmt.Errorf("%w: %v", ErrCredentialType, cred.Type)}
}

// verifyHubX509 remembers what it found, since a client asks with every message.
func (v *Verifier) verifyHubX509(cred *mls.Credential, signatureKey []byte, hub mimi.ProviderDomain, now time.Time) error {
	a, of := v.lookup(hub), cacheKey(cred, signatureKey)
	// Another key than a client's: neither passes for the other.
	key := sha256.Sum256(append(append([]byte("hub "), of[:]...), hub...))
	if e, ok := v.cache.get(key); ok && e.anchors == a && !now.Before(e.id.NotBefore) && !now.After(e.id.NotAfter) {
		return nil
	}
	chain, err := parseChain(cred)
	if err != nil {
		return &CredentialError{hub, err}
	}
	name, err := hubName(chain[0])
	if err == nil && name != hub {
		err = fmt.Errorf("%w: it names %s", ErrHub, name)
	}
	if err != nil {
		return &CredentialError{hub, err}
	}
	if !keyMatches(chain[0], signatureKey) {
		return &CredentialError{hub, ErrKey}
	}
	notBefore, notAfter, err := a.verify(chain, now)
	if err != nil {
		return &CredentialError{hub, err}
	}
	v.cache.put(key, cacheEntry{Identity{NotBefore: notBefore, NotAfter: notAfter}, a})
	return nil
}

// HubName returns the provider whose hub the credential claims to be, without
// verifying anything: a client finds the hub among a group's external senders
// by it. Decision 32
func HubName(cred *mls.Credential) (mimi.ProviderDomain, error) {
	switch cred.Type {
	case mls.CredentialBasic:
		u, err := mimi.ParseProviderURI(string(cred.Identity))
		if err != nil {
			return "", &CredentialError{Err: fmt.Errorf("%w: %w", ErrHub, err)}
		}
		return u.Host(), nil
	case mls.CredentialX509:
		chain, err := parseChain(cred)
		if err != nil {
			return "", &CredentialError{Err: err}
		}
		hub, err := hubName(chain[0])
		if err != nil {
			return "", &CredentialError{Err: err}
		}
		return hub, nil
	}
	return "", &CredentialError{Err: fmt.Errorf("%w: %v", ErrCredentialType, cred.Type)}
}

// hubName returns the one dNSName of a certificate, which names a provider.
func hubName(cert *x509.Certificate) (mimi.ProviderDomain, error) {
	dns, err := dnsNames(cert)
	if err != nil {
		return "", err
	}
	if len(dns) != 1 {
		return "", fmt.Errorf("%w: names are %q", ErrHub, dns)
	}
	hub, err := mimi.ParseProviderDomain(dns[0])
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrHub, err)
	}
	return hub, nil
}

// A cache remembers credentials that verified. It keeps between half and all of
// its size: when the young half is full, the old one is forgotten.
type cache struct {
	mu         sync.Mutex
	half       int
	young, old map[[sha256.Size]byte]cacheEntry
}

type cacheEntry struct {
	id      Identity
	anchors *anchors // that it was verified with
}

// cacheKey is a hash of all that a verification depends on but anchors and time.
func cacheKey(cred *mls.Credential, signatureKey []byte) [sha256.Size]byte {
	h := sha256.New()
	var n [4]byte
	write := func(b []byte) {
		binary.BigEndian.PutUint32(n[:], uint32(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	write(signatureKey)
	for i := range cred.Certificates {
		write(cred.Certificates[i].CertData)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func (c *cache) get(key [sha256.Size]byte) (cacheEntry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.young[key]; ok {
		return e, true
	}
	e, ok := c.old[key]
	if ok {
		c.putLocked(key, e)
	}
	return e, ok
}

func (c *cache) put(key [sha256.Size]byte, e cacheEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putLocked(key, e)
}

func (c *cache) putLocked(key [sha256.Size]byte, e cacheEntry) {
	if len(c.young) >= c.half {
		c.young, c.old = nil, c.young
	}
	if c.young == nil {
		c.young = make(map[[sha256.Size]byte]cacheEntry)
	}
	c.young[key] = e
}
