// Package provider is one messaging provider: its users' accounts, their key
// material, the rooms that it hosts or follows, consent, discovery, reports.
// Each duty is a package below; this one wires them and is both faces of the
// whole: [mimi.Hub] towards other providers and [clientapi.Service] towards its
// own clients.
//
// It never holds what would let it read a message: no private key of a client
// and no mls.Group.
package provider

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/provider/abuse"
	"github.com/comity-im/comity/provider/account"
	"github.com/comity-im/comity/provider/consent"
	"github.com/comity-im/comity/provider/delivery"
	"github.com/comity-im/comity/provider/discovery"
	"github.com/comity-im/comity/provider/follower"
	"github.com/comity-im/comity/provider/hub"
	"github.com/comity-im/comity/provider/keymaterial"
	"github.com/comity-im/comity/provider/trust"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/tlspl"
)

// Peers is how other providers are reached.
type Peers interface {
	// Peer speaks to another provider.
	Peer(domain mimi.ProviderDomain) mimi.Hub
	// Issuers asks another provider for its credential issuers.
	Issuers(ctx context.Context, domain mimi.ProviderDomain) ([]*x509.Certificate, error)
	// GatewayKeys and Relay reach the OHTTP gateway of a hub.
	GatewayKeys(ctx context.Context, hub mimi.ProviderDomain) ([]byte, error)
	Relay(ctx context.Context, hub mimi.ProviderDomain, encapsulated []byte) ([]byte, error)
}

// Assets keeps what users upload, and fetches what others did.
type Assets interface {
	Upload(ctx context.Context, d clientapi.Device, mediaType string, size int64, body io.Reader) (clientapi.Asset, error)
	Download(ctx context.Context, d clientapi.Device, room mimi.RoomURI, url string, part clientapi.Range) (io.ReadCloser, error)
	Trim(ctx context.Context) error
}

// A Config configures a Provider. The zero value of what is optional takes the
// default that is named with it.
type Config struct {
	Domain mimi.ProviderDomain
	Store  *store.Store
	Peers  Peers
	Node   string // this process, among those that share the database; default: random
	Logger *slog.Logger
	Now    func() time.Time // default: time.Now
	// FixedIssuers are credential issuers of providers that are not asked for
	// theirs.
	FixedIssuers map[mimi.ProviderDomain][]*x509.Certificate
	Metrics      *Metrics // may be nil

	Registration string   // "open", "invite" or "closed"; default: open
	Invites      []string // for "invite"
	ConsentFirst bool     // users must grant before others may add them
	Suites       []suite.ID
	StockFloor   int // default: 20
	StockCeiling int // default: 100
	// KeysPerRequester is how many KeyPackages of one user one requester may
	// have in an hour; default: 200.
	KeysPerRequester int
	// KeysPerProvider is how many all users of one provider may have; default: 5
	// times that.
	KeysPerProvider int
	// ReportsPerHour of one reporter are taken; default: 60.
	ReportsPerHour int
	// FrankingAge is when the secret that messages are franked with is replaced;
	// default: 90 days.
	FrankingAge time.Duration
	// KeepReports is how long abuse reports are kept; default: 400 days.
	KeepReports time.Duration
	// Retention is how long events are kept that everybody has read; default:
	// 48 h, and no less than the 24 h in which repeats must be known.
	Retention time.Duration
	// KeepUnread is how long events are kept for clients and followers that are
	// away; one that was away for longer comes into its rooms anew. Default: 90
	// days, and no less than Retention.
	KeepUnread time.Duration
	// CredentialLifetime of clients; default: 400 days.
	CredentialLifetime time.Duration
	// HiddenHandles keeps users from being found by their handle unless they
	// say otherwise.
	HiddenHandles bool
	// Pseudonyms lets rooms here have members with pseudonymous credentials (MIMI protocol §6). How members come by the key of
	// their identity links, the draft leaves open, and so does Comity.
	Pseudonyms bool
	// QueriesPerSecond and QueryBurst limit the identifier queries of each peer
	// and user; default: 1 and 30.
	QueriesPerSecond float64
	QueryBurst       int

	Assets       Assets   // may be nil
	MaxAsset     int64    // octets of one asset
	AssetDomains []string // hosts that our users' assets are at
	// Proxy fetches assets for followers; nil: nobody may.
	Proxy func(ctx context.Context, from mimi.ProviderDomain, req *mimi.DownloadRequest) (*mimi.Download, error)
}

func (c *Config) setDefaults() error {
	if _, err := mimi.ParseProviderDomain(string(c.Domain)); err != nil {
		return fmt.Errorf("provider: domain: %w", err)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Node == "" {
		c.Node = rand.Text()
	}
	if c.Registration == "" {
		c.Registration = "open"
	}
	if len(c.Suites) == 0 {
		c.Suites = []suite.ID{1, 2, 3}
	}
	for p, v := range map[*int]int{&c.StockFloor: 20, &c.StockCeiling: 100, &c.KeysPerRequester: 200} {
		if *p <= 0 {
			*p = v
		}
	}
	if c.StockFloor > c.StockCeiling {
		return fmt.Errorf("provider: the floor of a client's stock is %d, above its ceiling %d", c.StockFloor, c.StockCeiling)
	}
	if c.Retention == 0 {
		c.Retention = 48 * time.Hour
	}
	if c.Retention < 24*time.Hour {
		return fmt.Errorf("provider: the retention is %v; events must be kept 24h at least, so that repeats are known", c.Retention)
	}
	if c.KeysPerProvider <= 0 {
		c.KeysPerProvider = 5 * c.KeysPerRequester
	}
	if c.ReportsPerHour <= 0 {
		c.ReportsPerHour = 60
	}
	if c.FrankingAge <= 0 {
		c.FrankingAge = 90 * 24 * time.Hour
	}
	if c.KeepReports <= 0 {
		c.KeepReports = 400 * 24 * time.Hour
	}
	if c.KeepUnread == 0 {
		c.KeepUnread = max(90*24*time.Hour, c.Retention)
	}
	if c.KeepUnread < c.Retention {
		return fmt.Errorf("provider: unread events are kept for %v, less than those that everybody has read (%v)", c.KeepUnread, c.Retention)
	}
	if c.QueriesPerSecond <= 0 {
		c.QueriesPerSecond = 1
	}
	if c.QueryBurst <= 0 {
		c.QueryBurst = 30
	}
	if c.CredentialLifetime <= 0 {
		c.CredentialLifetime = 400 * 24 * time.Hour
	}
	return nil
}

// A Provider is one provider, or one node of it. Safe for concurrent use.
type Provider struct {
	cfg      Config
	issuer   *identity.Issuer
	accounts *account.Accounts
	trust    *trust.Trust
	consents *consent.Consents
	keys     *keymaterial.Keys
	follower *follower.Follower
	delivery *delivery.Deliverer
	hub      *hub.Hub
	hubKeys  *hub.Keys
	// endedAfter is where the next look at quiet rooms begins; Trim alone uses it.
	endedAfter int64
	removals   chan struct{} // holds one token when somebody is to be taken out of a room

	discovery *discovery.Discovery
	abuse     *abuse.Abuse
}

// New returns a provider on its database, in which it makes the keys that it
// doesn't have yet. It works while Run runs.
func New(ctx context.Context, cfg Config) (*Provider, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	p := &Provider{cfg: cfg, removals: make(chan struct{}, 1)}
	if err := p.checkDomain(ctx); err != nil {
		return nil, err
	}
	var err error
	if p.issuer, err = loadIssuer(ctx, cfg); err != nil {
		return nil, err
	}
	if p.hubKeys, err = hub.LoadKeys(ctx, cfg.Store, p.issuer, cfg.Suites, cfg.Now()); err != nil {
		return nil, err
	}
	p.accounts, err = account.New(account.Config{Domain: cfg.Domain, Store: cfg.Store, Registration: cfg.Registration, Invites: cfg.Invites, Now: cfg.Now})
	if err != nil {
		return nil, fmt.Errorf("provider: %w", err)
	}
	p.trust, err = trust.New(ctx, trust.Config{
		Domain: cfg.Domain, Roots: []*x509.Certificate{p.issuer.Root()}, Store: cfg.Store, Now: cfg.Now, Logger: cfg.Logger,
		Fetch: cfg.Peers.Issuers, Fixed: cfg.FixedIssuers, Pseudonyms: cfg.Pseudonyms,
	})
	if err != nil {
		return nil, err
	}
	p.consents = consent.New(consent.Config{Domain: cfg.Domain, Store: cfg.Store, Now: cfg.Now, Open: !cfg.ConsentFirst})
	p.keys = keymaterial.New(keymaterial.Config{
		Domain: cfg.Domain, Store: cfg.Store, Now: cfg.Now, Verifier: p.trust, Consents: p.consents,
		Floor: cfg.StockFloor, Ceiling: cfg.StockCeiling, PerRequester: cfg.KeysPerRequester, PerProvider: cfg.KeysPerProvider,
	})
	p.follower = follower.New(follower.Config{Domain: cfg.Domain, Store: cfg.Store, Logger: cfg.Logger, Now: cfg.Now, MayInvite: p.consents.MayInvite, MayBeListed: p.consents.ExhaustedIn})
	p.delivery = delivery.New(delivery.Config{
		Store: cfg.Store, Sender: sender{p}, Node: cfg.Node, Logger: cfg.Logger, Now: cfg.Now, Observe: cfg.Metrics.notified,
	})
	if err := p.restorePeers(ctx); err != nil {
		return nil, err
	}
	p.hub = hub.New(hub.Config{
		Domain: cfg.Domain, Store: cfg.Store, Keys: p.hubKeys, Credentials: p.trust, Follower: p.follower,
		Wake: p.delivery.Wake, Accepted: cfg.Metrics.accepted, Traced: p.delivery.Traced, WakeRemovals: p.wakeRemovals, Logger: cfg.Logger, Now: cfg.Now, Refused: p.refused, KeyMaterial: p.keyMaterialOf,
	})
	p.discovery = discovery.New(discovery.Config{
		Domain: cfg.Domain, Store: cfg.Store, Now: cfg.Now, HandleByDefault: !cfg.HiddenHandles, PerSecond: cfg.QueriesPerSecond, Burst: cfg.QueryBurst,
	})
	p.abuse = abuse.New(abuse.Config{Domain: cfg.Domain, Store: cfg.Store, Now: cfg.Now, HubKeys: p.hubKeys.HubKeys, PerHour: cfg.ReportsPerHour, Allowed: p.hub.MayReport})
	return p, nil
}

// checkDomain makes sure that a database is never used under another domain.
func (p *Provider) checkDomain(ctx context.Context) error {
	var have []byte
	err := p.cfg.Store.Update(ctx, func(tx *store.Tx) (err error) {
		have, err = tx.CreateMeta("domain", []byte(p.cfg.Domain))
		return err
	})
	if err == nil && string(have) != string(p.cfg.Domain) {
		return fmt.Errorf("provider: the database belongs to %s, the config says %s: use the data folder of %s", have, p.cfg.Domain, p.cfg.Domain)
	}
	return err
}

// issuerLifetime is how long a provider's own root is valid.
const issuerLifetime = 20 * 365 * 24 * time.Hour

// loadIssuer returns the provider's certification authority, a new one the
// first time.
func loadIssuer(ctx context.Context, cfg Config) (*identity.Issuer, error) {
	var stored []byte
	err := cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
		stored, err = tx.Meta("issuer")
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		now := cfg.Now()
		fresh, err := identity.NewIssuer(rand.Reader, cfg.Domain, now.Add(-time.Hour), now.Add(issuerLifetime))
		if err != nil {
			return nil, err
		}
		certs, key, err := fresh.MarshalPEM()
		if err != nil {
			return nil, err
		}
		err = cfg.Store.Update(ctx, func(tx *store.Tx) (err error) {
			b, err := tlspl.Marshal(&storedIssuer{certs, key})
			if err == nil {
				stored, err = tx.CreateMeta("issuer", b)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	var i storedIssuer
	if err := tlspl.Unmarshal(stored, &i); err != nil {
		return nil, err
	}
	return identity.LoadIssuer(cfg.Domain, i.Certificates, i.Key)
}

// storedIssuer is the certification authority in the database, as PEM.
type storedIssuer struct{ Certificates, Key []byte }

func (i *storedIssuer) Code(c *tlspl.Codec) {
	tlspl.Opaque(c, &i.Certificates)
	tlspl.Opaque(c, &i.Key)
}

// refused logs and counts a refusal: code is what the peer hears, err is why.
func (p *Provider) refused(room mimi.RoomURI, from mimi.ProviderDomain, endpoint, code string, err error) {
	p.cfg.Metrics.refused(endpoint, from, code)
	p.cfg.Logger.Info("refused", "endpoint", endpoint, "from", string(from), "room", string(room), "code", code, "reason", err.Error())
}

// trimEvery is how often what nobody needs any more is removed.
const trimEvery = time.Minute

// Run works until ctx ends and everything that was begun is done.
func (p *Provider) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { p.follower.Run(ctx) })
	wg.Go(func() { p.delivery.Run(ctx) })
	wg.Go(func() { p.hub.Run(ctx) })
	wg.Go(func() { p.trimLoop(ctx) })
	wg.Go(func() { p.removalLoop(ctx) })
	wg.Go(func() { p.nodesLoop(ctx) })
	wg.Wait()
	p.hub.Wait()
}

func (p *Provider) trimLoop(ctx context.Context) {
	t := time.NewTicker(trimEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if err := p.hubKeys.Reload(ctx); err != nil && ctx.Err() == nil {
				p.cfg.Logger.Error("can't read the franking secrets", "error", err)
			}
			if !p.leads(ctx, "trim", trimLease) {
				continue
			}
			if err := p.Trim(ctx); err != nil && ctx.Err() == nil {
				p.cfg.Logger.Error("can't remove what is not needed any more", "error", err)
			}
		}
	}
}

// trimAtOnce bounds how many events of a room are removed in one transaction.
const trimAtOnce = 2000

// Trim removes expired key material, answers that are not repeated any more, and
// events that everybody has read.
func (p *Provider) Trim(ctx context.Context) error {
	if err := p.keys.Trim(ctx); err != nil {
		return err
	}
	if p.cfg.Assets != nil {
		if err := p.cfg.Assets.Trim(ctx); err != nil {
			return err
		}
	}
	now := p.cfg.Now()
	before, unread := now.Add(-p.cfg.Retention).UnixMilli(), now.Add(-p.cfg.KeepUnread).UnixMilli()
	if from, rotated, err := p.hubKeys.Rotate(ctx, now, p.cfg.FrankingAge); err != nil {
		return err
	} else if rotated {
		p.cfg.Logger.Info("a new franking secret is used from some minutes on; the old ones still verify reports", "from", from)
	}
	err := p.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		if _, err := tx.TrimJoins(now.UnixMilli()); err != nil {
			return err
		}
		if _, err := tx.TrimReports(now.Add(-p.cfg.KeepReports).UnixMilli()); err != nil {
			return err
		}
		_, err := tx.DropIdleRooms(string(p.cfg.Domain), before, trimAtOnce)
		return err
	})
	for after := int64(0); err == nil; {
		var ids []int64
		err = p.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
			ids, err = tx.RoomsToTrim(after, before, 100)
			return err
		})
		if len(ids) == 0 {
			break
		}
		for _, id := range ids {
			after = id
			if err = p.cfg.Store.Update(ctx, func(tx *store.Tx) error {
				_, err := tx.TrimRoom(id, before, unread, trimAtOnce)
				return err
			}); err != nil {
				break
			}
		}
	}
	if err != nil {
		return err
	}
	return p.dropEnded(ctx, before)
}

// endedAtOnce is how many quiet rooms are looked at, in each round of Trim,
// whether they have ended.
const endedAtOnce = 200

// dropEnded removes hosted rooms that have ended and of which nothing is left to
// read. Each round goes on where the last one stopped.
func (p *Provider) dropEnded(ctx context.Context, beforeMillis int64) error {
	var rooms []store.Room
	err := p.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
		rooms, err = tx.QuietRooms(string(p.cfg.Domain), p.endedAfter, beforeMillis, endedAtOnce)
		return err
	})
	if err != nil {
		return err
	}
	p.endedAfter = 0
	for _, r := range rooms {
		if _, err := p.hub.DropEnded(ctx, mimi.RoomURI(r.URI)); err != nil {
			return err
		}
		if len(rooms) == endedAtOnce {
			p.endedAfter = r.ID
		}
	}
	return nil
}

// sender delivers to followers over the peers.
type sender struct{ p *Provider }

func (s sender) Notify(ctx context.Context, to mimi.ProviderDomain, room mimi.RoomURI, req *mimi.NotifyRequest) error {
	return s.p.cfg.Peers.Peer(to).Notify(ctx, s.p.cfg.Domain, room, req)
}

// hubOf returns the hub of a room, ours or another's.
func (p *Provider) hubOf(room mimi.RoomURI) mimi.Hub { return p.at(room.Host()) }

// Secret returns a secret of the provider that exists once and is the same on all
// its nodes, 32 octets.
func (p *Provider) Secret(ctx context.Context, name string) (b []byte, err error) {
	fresh := make([]byte, 32)
	if _, err := rand.Read(fresh); err != nil {
		return nil, err
	}
	err = p.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		b, err = tx.CreateMeta("secret/"+name, fresh)
		return err
	})
	return b, err
}

// at returns a provider, us or another.
func (p *Provider) at(domain mimi.ProviderDomain) mimi.Hub {
	if domain == p.cfg.Domain {
		return p
	}
	return p.cfg.Peers.Peer(domain)
}
