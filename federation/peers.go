package federation

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sort"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/comity-im/comity/mimi"
)

// A Policy says what becomes of providers that the config does not name.
type Policy string

// The policies for unknown peers.
const (
	PolicyOpen      Policy = "open"      // everybody with a good certificate may talk to us
	PolicyAllowlist Policy = "allowlist" // only configured peers
)

// A Quota bounds what one peer may ask of us. Zero fields take the default.
type Quota struct {
	// PerSecond is the sustained rate of requests, Burst how many may come at
	// once. Defaults: 1000 and 2000.
	PerSecond float64
	Burst     int
	// Concurrent is how many requests may be under way. Default: 256.
	Concurrent int
}

func (q Quota) withDefaults(d Quota) Quota {
	if q.PerSecond <= 0 {
		q.PerSecond = d.PerSecond
	}
	if q.Burst <= 0 {
		q.Burst = d.Burst
	}
	if q.Concurrent <= 0 {
		q.Concurrent = d.Concurrent
	}
	return q
}

// DefaultQuota is what a peer may ask where the config says nothing.
var DefaultQuota = Quota{PerSecond: 1000, Burst: 2000, Concurrent: 256}

// PeerConfig is what the config says of one peer.
type PeerConfig struct {
	// Trust is how the peer's certificate is known. Default: TrustWeb.
	Trust TrustKind
	// CAFile holds the PEM certificates of the authorities, for TrustCA.
	CAFile string
	// Pins are the keys, for TrustPin, in a form that ParsePin reads. Two allow
	// the peer to change its key.
	Pins []string
	// Address is the host:port to connect to instead of looking up the peer's
	// names. Names and certificates are verified all the same. It may be a
	// private address.
	Address string
	// AssetHosts are the exact hosts, each with its port if that is not 443, from
	// which assets of the peer's users may be fetched on behalf of others
	// (Decision 77). Their certificates are judged by Trust.
	AssetHosts []string
	// AssetAddress is the host:port to connect to for the AssetHosts instead of
	// looking them up. It may be a private address.
	AssetAddress string
	// Blocked is the kill switch: nothing is taken from the peer or sent to it.
	Blocked bool
	// Quota overrides the default quota where not zero.
	Quota Quota
}

// PeersConfig is what the config says of all peers.
type PeersConfig struct {
	// Policy for peers that are not in Peers. Default: PolicyOpen.
	Policy Policy
	// Deny lists blocked domains that need no other setting.
	Deny []mimi.ProviderDomain
	// Peers holds the settings of single peers.
	Peers map[mimi.ProviderDomain]PeerConfig
	// WebCAFile replaces the system's authorities for TrustWeb.
	WebCAFile string
	// Quota is the default for all peers; zero fields take DefaultQuota.
	Quota Quota
	// AllowPrivate lets us connect to private and loopback addresses of peers
	// that have no Address. For tests and closed networks.
	AllowPrivate bool
	// Logger is told about changes. Nil means slog.Default.
	Logger *slog.Logger
}

// maxGuests bounds how many peers without a setting are remembered.
const maxGuests = 4096

// Peers is who may talk to us, how we know them and how much they may ask. The
// server and the client share one. Every change takes effect at once, on
// connections that are open too. It is safe for concurrent use.
type Peers struct {
	logger       *slog.Logger
	now          func() time.Time
	web          *trust
	allowPrivate bool

	mu       sync.RWMutex
	policy   Policy
	quota    Quota
	peers    map[mimi.ProviderDomain]*peer // configured ones and guests
	guests   int
	onChange []func(mimi.ProviderDomain)
}

// peer is one provider as we know it at run time.
type peer struct {
	domain     mimi.ProviderDomain
	configured bool // on the allow list; guarded by Peers.mu
	kept       bool // changed at run time; guarded by Peers.mu
	cfg        PeerConfig
	trust      *trust
	private    bool // Peers.allowPrivate

	mu       sync.Mutex
	blocked  bool
	why      string
	allowed  bool // on the allow list, at run time
	quota    Quota
	rate     *rate.Limiter
	inFlight int
	buffered int64 // octets of request bodies in memory
	verified map[[sha256.Size]byte]verifiedCert
	health   Health
}

type verifiedCert struct {
	generation uint64
	until      time.Time
}

// verifiedFor is how long a verified client certificate is not verified again.
const verifiedFor = 5 * time.Minute

// NewPeers checks the settings and reads the files they name.
func NewPeers(cfg PeersConfig) (*Peers, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Policy == "" {
		cfg.Policy = PolicyOpen
	}
	p := &Peers{
		logger: cfg.Logger, now: time.Now, allowPrivate: cfg.AllowPrivate,
		quota: cfg.Quota.withDefaults(DefaultQuota), peers: make(map[mimi.ProviderDomain]*peer),
	}
	var err error
	if p.web, err = newTrust(TrustWeb, cfg.WebCAFile, nil, cfg.Logger, p.now()); err != nil {
		return nil, err
	}
	if err := p.SetPolicy(cfg.Policy); err != nil {
		return nil, err
	}
	for domain, pc := range cfg.Peers {
		if err := p.Set(domain, pc); err != nil {
			return nil, err
		}
	}
	for _, domain := range cfg.Deny {
		if err := p.Block(domain, "on the deny list"); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Set adds a peer or replaces its settings.
func (p *Peers) Set(domain mimi.ProviderDomain, cfg PeerConfig) error {
	if _, err := mimi.ParseProviderDomain(string(domain)); err != nil {
		return fmt.Errorf("federation: peer: %w", err)
	}
	if cfg.Trust == "" {
		cfg.Trust = TrustWeb
	}
	t := p.web
	if cfg.Trust != TrustWeb || len(cfg.Pins) > 0 || cfg.CAFile != "" {
		var err error
		if cfg.Trust == TrustWeb && cfg.CAFile != "" {
			return fmt.Errorf("federation: peer %s: a CA file needs the trust %q", domain, TrustCA)
		}
		if t, err = newTrust(cfg.Trust, cfg.CAFile, cfg.Pins, p.logger, p.now()); err != nil {
			return fmt.Errorf("federation: peer %s: %w", domain, err)
		}
	}
	if cfg.Address != "" {
		if err := checkAddress(cfg.Address); err != nil {
			return fmt.Errorf("federation: peer %s: %w", domain, err)
		}
	}
	if cfg.AssetAddress != "" {
		if err := checkAddress(cfg.AssetAddress); err != nil {
			return fmt.Errorf("federation: peer %s: %w", domain, err)
		}
	}
	for _, h := range cfg.AssetHosts {
		if err := checkAssetHost(h); err != nil {
			return fmt.Errorf("federation: peer %s: %w", domain, err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	next := p.newPeer(domain, cfg, t)
	next.configured = true
	if old := p.peers[domain]; old != nil {
		old.mu.Lock()
		next.health = old.health
		if old.blocked && !old.cfg.Blocked { // at run time: outlives a reload of the config
			next.blocked, next.why = true, old.why
		}
		next.allowed = old.allowed
		old.mu.Unlock()
		if old.guest() {
			p.guests--
		}
	}
	p.peers[domain] = next
	p.changed(domain)
	return nil
}

// newPeer makes the run-time side of a peer. The caller holds p.mu.
func (p *Peers) newPeer(domain mimi.ProviderDomain, cfg PeerConfig, t *trust) *peer {
	q := cfg.Quota.withDefaults(p.quota)
	n := &peer{domain: domain, cfg: cfg, trust: t, private: p.allowPrivate, blocked: cfg.Blocked, quota: q,
		rate: rate.NewLimiter(rate.Limit(q.PerSecond), q.Burst), verified: make(map[[sha256.Size]byte]verifiedCert)}
	if cfg.Blocked {
		n.why = "blocked by the config"
	}
	return n
}

// guest reports whether the peer may be forgotten.
func (n *peer) guest() bool { return !n.configured && !n.kept }

// watch calls f, with the lock held, for each peer whose settings change.
func (p *Peers) watch(f func(mimi.ProviderDomain)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onChange = append(p.onChange, f)
}

func (p *Peers) changed(domain mimi.ProviderDomain) {
	for _, f := range p.onChange {
		f(domain)
	}
}

// Remove forgets a peer's settings; from then on it is one like any other.
func (p *Peers) Remove(domain mimi.ProviderDomain) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.peers[domain]; old != nil {
		if old.guest() {
			p.guests--
		}
		delete(p.peers, domain)
		p.changed(domain)
	}
}

// SetPolicy changes what becomes of peers without settings.
func (p *Peers) SetPolicy(policy Policy) error {
	if policy != PolicyOpen && policy != PolicyAllowlist {
		return fmt.Errorf("federation: unknown policy %q: it is %q or %q", policy, PolicyOpen, PolicyAllowlist)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.policy = policy
	return nil
}

// Block is the kill switch for one peer, whether it has settings or not; why is
// for the log and the peer's status.
func (p *Peers) Block(domain mimi.ProviderDomain, why string) error {
	return p.update(domain, func(n *peer) { n.blocked, n.why = true, why })
}

// Unblock undoes Block.
func (p *Peers) Unblock(domain mimi.ProviderDomain) error {
	return p.update(domain, func(n *peer) { n.blocked, n.why = false, "" })
}

// Allow puts a peer without settings on the allow list.
func (p *Peers) Allow(domain mimi.ProviderDomain) error {
	return p.update(domain, func(n *peer) { n.allowed = true })
}

// Disallow undoes Allow.
func (p *Peers) Disallow(domain mimi.ProviderDomain) error {
	return p.update(domain, func(n *peer) { n.allowed = false })
}

// Policy says what becomes of peers without settings.
func (p *Peers) Policy() Policy {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.policy
}

// SetQuota changes what one peer may ask; zero fields are as the config says.
func (p *Peers) SetQuota(domain mimi.ProviderDomain, q Quota) error {
	return p.update(domain, func(n *peer) {
		n.quota = q.withDefaults(n.cfg.Quota.withDefaults(p.quota))
		n.rate = rate.NewLimiter(rate.Limit(n.quota.PerSecond), n.quota.Burst)
	})
}

// update changes a peer at run time. One without settings is kept from then on:
// a block must not be forgotten with the guests.
func (p *Peers) update(domain mimi.ProviderDomain, f func(*peer)) error {
	if _, err := mimi.ParseProviderDomain(string(domain)); err != nil {
		return fmt.Errorf("federation: peer: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.peers[domain]
	if n == nil {
		n = p.newPeer(domain, PeerConfig{Trust: TrustWeb}, p.web)
		p.peers[domain] = n
	} else if n.guest() {
		p.guests--
	}
	n.kept = true
	n.mu.Lock()
	f(n)
	n.mu.Unlock()
	p.changed(domain)
	return nil
}

// Restore says what was known of a peer's health before the process started.
// What happened since stands.
func (p *Peers) Restore(domain mimi.ProviderDomain, h Health) {
	n, known := p.find(domain)
	if !known {
		n = p.remember(n)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.health == (Health{}) {
		n.health = h
	}
}

// Reload reads all CA files again, whether they changed or not.
func (p *Peers) Reload() {
	p.mu.RLock()
	defer p.mu.RUnlock()
	trusts, seen := []*trust{p.web}, make(map[*trust]bool)
	for _, n := range p.peers {
		trusts = append(trusts, n.trust)
	}
	for _, t := range trusts {
		if seen[t] || t.caFile == "" {
			continue
		}
		seen[t] = true
		t.mu.Lock()
		t.files.changed(p.now())
		t.reload()
		t.mu.Unlock()
	}
}

// find returns the peer, or one that is not remembered yet.
func (p *Peers) find(domain mimi.ProviderDomain) (n *peer, known bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if n := p.peers[domain]; n != nil {
		return n, true
	}
	return p.newPeer(domain, PeerConfig{Trust: TrustWeb}, p.web), false
}

// remember keeps a peer without settings, so that its quota counts and its
// health shows. The oldest idle guest gives way.
func (p *Peers) remember(n *peer) *peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old := p.peers[n.domain]; old != nil {
		return old
	}
	if p.guests >= maxGuests {
		p.evict()
	}
	p.peers[n.domain] = n
	p.guests++
	return n
}

func (p *Peers) evict() {
	var oldest *peer
	var at time.Time
	for _, n := range p.peers {
		if !n.guest() {
			continue
		}
		n.mu.Lock()
		last, idle := n.health.last(), n.inFlight == 0
		n.mu.Unlock()
		if idle && (oldest == nil || last.Before(at)) {
			oldest, at = n, last
		}
	}
	if oldest != nil {
		delete(p.peers, oldest.domain)
		p.guests--
		p.changed(oldest.domain)
	}
}

// A BlockedError is a peer that we do not talk to, because of the kill switch,
// the deny list or the allow list.
type BlockedError struct {
	Domain mimi.ProviderDomain
	Why    string
}

func (e *BlockedError) Error() string {
	return fmt.Sprintf("federation: we do not talk to %s: %s", e.Domain, e.Why)
}

// admits reports, as a *BlockedError, why we do not talk to the peer.
func (p *Peers) admits(n *peer) error {
	p.mu.RLock()
	policy := p.policy
	p.mu.RUnlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.blocked {
		return &BlockedError{n.domain, n.why}
	}
	if policy == PolicyAllowlist && !n.configured && !n.allowed {
		return &BlockedError{n.domain, "it is not on the allow list"}
	}
	return nil
}

// verifyClient judges the certificates that a client showed for the peer,
// remembering the verdict for a while if it is good.
func (n *peer) verifyClient(chain []*x509.Certificate, now time.Time) error {
	if len(chain) == 0 {
		return n.trust.verifyDomain(chain, n.domain, now)
	}
	_, generation := n.trust.get(now)
	key := sha256.Sum256(chain[0].Raw)
	n.mu.Lock()
	v, ok := n.verified[key]
	n.mu.Unlock()
	if ok && v.generation == generation && now.Before(v.until) {
		return nil
	}
	if err := n.trust.verifyDomain(chain, n.domain, now); err != nil {
		return err
	}
	until := now.Add(verifiedFor)
	for _, c := range chain {
		if c.NotAfter.Before(until) {
			until = c.NotAfter
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.verified) >= 16 {
		clear(n.verified)
	}
	n.verified[key] = verifiedCert{generation, until}
	return nil
}

// Errors of begin.
var (
	errRate       = errors.New("too many requests a second")
	errConcurrent = errors.New("too many requests at the same time")
)

// begin counts one request against the peer's quota. On nil the caller calls end.
func (n *peer) begin(now time.Time) (wait time.Duration, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.inFlight >= n.quota.Concurrent {
		return time.Second, errConcurrent
	}
	r := n.rate.ReserveN(now, 1)
	if delay := r.DelayFrom(now); delay > 0 {
		r.CancelAt(now)
		return delay, errRate
	}
	n.inFlight++
	n.health.LastHeard = now
	return 0, nil
}

func (n *peer) end() {
	n.mu.Lock()
	n.inFlight--
	n.mu.Unlock()
}

// Health is when a peer was last well, and what was wrong last.
type Health struct {
	LastHeard   time.Time // its last request with a good certificate
	LastReached time.Time // our last request that it answered well
	LastFailure time.Time // our last request that failed
	Failure     string    // how, in words
}

func (h Health) last() time.Time {
	t := h.LastHeard
	for _, u := range []time.Time{h.LastReached, h.LastFailure} {
		if u.After(t) {
			t = u
		}
	}
	return t
}

func (n *peer) reached(now time.Time) {
	n.mu.Lock()
	n.health.LastReached = now
	n.mu.Unlock()
}

func (n *peer) failed(now time.Time, err error) {
	n.mu.Lock()
	n.health.LastFailure, n.health.Failure = now, err.Error()
	n.mu.Unlock()
}

// PeerStatus is a peer as an operator sees it.
type PeerStatus struct {
	Domain     mimi.ProviderDomain
	Configured bool
	Trust      TrustKind
	Address    string
	AssetHosts []string
	Blocked    bool
	Why        string // of Blocked
	Quota      Quota
	InFlight   int
	Health
}

// List returns all peers that are configured or were heard of, by domain.
func (p *Peers) List() []PeerStatus {
	p.mu.RLock()
	defer p.mu.RUnlock()
	list := make([]PeerStatus, 0, len(p.peers))
	for _, n := range p.peers {
		list = append(list, n.status())
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Domain < list[j].Domain })
	return list
}

// Status returns one peer; ok is false for one that is neither configured nor
// was heard of.
func (p *Peers) Status(domain mimi.ProviderDomain) (s PeerStatus, ok bool) {
	n, known := p.find(domain)
	return n.status(), known
}

func (n *peer) status() PeerStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	return PeerStatus{
		Domain: n.domain, Configured: n.configured, Trust: n.cfg.Trust, Address: n.cfg.Address,
		AssetHosts: n.cfg.AssetHosts, Blocked: n.blocked, Why: n.why, Quota: n.quota, InFlight: n.inFlight, Health: n.health,
	}
}

// assetHost reports whether host holds assets of some peer that we talk to.
func (p *Peers) assetHost(host string) (*peer, bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, n := range p.peers {
		for _, h := range n.cfg.AssetHosts {
			if h == host {
				n.mu.Lock()
				blocked := n.blocked
				n.mu.Unlock()
				if !blocked {
					return n, true
				}
			}
		}
	}
	return nil, false
}
