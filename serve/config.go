// Package serve runs one provider as a process: from a config file to its
// listeners and back to a clean stop.
package serve

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/federation"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls/suite"
)

// A Config is what a config file says. Relative file names are relative to the
// config file's folder.
type Config struct {
	Domain string `toml:"domain"` // the provider's domain, such as a.example
	Data   string `toml:"data"`   // folder of the database and the assets
	Store  string `toml:"store"`  // a postgres:// URL; empty: SQLite in the data folder
	Node   string `toml:"node"`   // name among the nodes that share one PostgreSQL

	Listen      Listen      `toml:"listen"`
	Certificate Certificate `toml:"certificate"`
	Public      Public      `toml:"public"`
	Log         Log         `toml:"log"`
	Accounts    Accounts    `toml:"accounts"`
	Peers       Peers       `toml:"peers"`
	Limits      Limits      `toml:"limits"`

	// Now is the clock, for tests that make it jump; nil: time.Now.
	Now func() time.Time `toml:"-"`
	// Committed is called after each commit of the database and before anybody
	// hears of it, for tests whose disk is slow; nil: nothing.
	Committed func() `toml:"-"`

	dir string // of the config file
}

// Listen are the addresses of the listeners.
type Listen struct {
	Federation string `toml:"federation"` // other providers, HTTPS with mutual TLS
	Clients    string `toml:"clients"`    // our users' clients, HTTPS
	Admin      string `toml:"admin"`      // metrics, profiles, admin commands; loopback only
}

// Certificate are the files of the provider's own certificate.
type Certificate struct {
	Cert string `toml:"cert"`
	Key  string `toml:"key"`
}

// Public says under which URLs others reach us.
type Public struct {
	Federation string `toml:"federation"` // base of the endpoints; default: https://<domain>[:port]/mimi/v1
	Assets     string `toml:"assets"`     // base of uploaded files; default: https://<domain>[:port]/assets on the clients' port
}

// Log says how to log.
type Log struct {
	Level  string `toml:"level"`  // debug, info, warn, error
	Format string `toml:"format"` // text or json
}

// Accounts says who may have one, and what others may do with it.
type Accounts struct {
	Registration  string   `toml:"registration"` // open, invite or closed
	Invites       []string `toml:"invites"`
	ConsentFirst  bool     `toml:"consent_first"`  // users must grant before others may add them
	HiddenHandles bool     `toml:"hidden_handles"` // users are not found by their handle unless they say so
	Pseudonyms    bool     `toml:"pseudonyms"`     // rooms here may have members with pseudonymous credentials
}

// Peers says which providers we talk to and how we know them.
type Peers struct {
	Policy       string          `toml:"policy"` // open or allowlist
	Deny         []string        `toml:"deny"`
	WebCA        string          `toml:"web_ca"`        // PEM file instead of the system's authorities
	AllowPrivate bool            `toml:"allow_private"` // connect to private addresses
	Peer         map[string]Peer `toml:"peer"`
}

// A Peer is what is said of one provider.
type Peer struct {
	Trust      string   `toml:"trust"` // web, ca or pin
	CA         string   `toml:"ca"`    // PEM file, for ca
	Pins       []string `toml:"pins"`  // sha256/… of the public key, for pin
	Address    string   `toml:"address"`
	AssetHosts []string `toml:"asset_hosts"`
	Blocked    bool     `toml:"blocked"`
	Issuers    string   `toml:"issuers"` // PEM file with its credential issuers, instead of asking
}

// Limits bound what others may use.
type Limits struct {
	Suites           []uint16 `toml:"cipher_suites"`
	StockFloor       int      `toml:"stock_floor"`
	StockCeiling     int      `toml:"stock_ceiling"`
	KeysPerRequester int      `toml:"keys_per_requester"`
	Retention        string   `toml:"retention"`
	KeepUnread       string   `toml:"keep_unread"`
	MaxAsset         int64    `toml:"max_asset"`
	AssetQuota       int64    `toml:"asset_quota"`
	KeepAssets       string   `toml:"keep_assets"`
	PeerPerSecond    float64  `toml:"peer_per_second"`
	PeerBurst        int      `toml:"peer_burst"`
	PeerConcurrent   int      `toml:"peer_concurrent"`
	QueriesPerSecond float64  `toml:"queries_per_second"`
	KeysPerProvider  int      `toml:"keys_per_provider"`
	ReportsPerHour   int      `toml:"reports_per_hour"`
	KeepReports      string   `toml:"keep_reports"`
	FrankingAge      string   `toml:"franking_age"`

	ClientPerSecond   float64 `toml:"client_per_second"`
	ClientBurst       int     `toml:"client_burst"`
	ClientConcurrent  int     `toml:"client_concurrent"`
	ClientConnections int     `toml:"client_connections"`
	SubmitsPerSecond  float64 `toml:"submits_per_second"`
	SubmitBurst       int     `toml:"submit_burst"`
	LoginsPerMinute   float64 `toml:"logins_per_minute"`
	LoginBurst        int     `toml:"login_burst"`
	AddressPerMinute  float64 `toml:"address_per_minute"`
	AddressBurst      int     `toml:"address_burst"`
	Nodes             int     `toml:"nodes"`
}

// share is what one of several nodes may allow of what is counted in each node's
// memory, so that all of them together allow no more than the config says.
func (l Limits) share() Limits {
	if l.Nodes <= 1 {
		return l
	}
	for _, v := range []*float64{&l.PeerPerSecond, &l.QueriesPerSecond, &l.ClientPerSecond, &l.SubmitsPerSecond, &l.LoginsPerMinute, &l.AddressPerMinute} {
		*v /= float64(l.Nodes)
	}
	for _, v := range []*int{&l.PeerBurst, &l.PeerConcurrent, &l.KeysPerRequester, &l.KeysPerProvider, &l.ReportsPerHour, &l.ClientBurst, &l.ClientConcurrent,
		&l.ClientConnections, &l.SubmitBurst, &l.LoginBurst, &l.AddressBurst} {
		if *v > 0 { // 0 has a meaning of its own
			*v = max(1, *v/l.Nodes)
		}
	}
	return l
}

// Example is a config file with every setting and its default.
const Example = `# comity: one provider

domain = "a.example"         # our users are mimi://a.example/u/...
data = "data"                # folder for the database; relative to this file
store = ""                   # postgres://user:password@host/database; empty: SQLite in data
node = ""                    # a name of this node, where several share one PostgreSQL

[listen]
federation = ":8443"         # other providers (HTTPS, mutual TLS)
clients = ":8444"            # our users' clients (HTTPS)
admin = "127.0.0.1:8445"     # metrics, profiles and comity admin; only loopback addresses

[certificate]                # names the domain as a dNSName; reloaded when the files change
cert = "a.example.pem"
key = "a.example-key.pem"

[public]
federation = ""              # URL of our endpoints; empty: https://<domain>:<port>/mimi/v1
assets = ""                  # URL of uploaded files; empty: https://<domain>:<clients' port>/assets

[log]
level = "info"               # debug, info, warn or error
format = "text"              # text or json

[accounts]
registration = "open"        # open, invite or closed
invites = []                 # for registration = "invite"
consent_first = false        # true: nobody may add our users whom they have not said yes to
hidden_handles = false       # true: users are not found by their handle unless they say so
pseudonyms = false           # true: rooms here may be minimal metadata rooms (docs/wire.md, Pseudonyms)

[peers]
policy = "open"              # open: any provider with a good certificate; allowlist: those below
deny = []                    # domains that we never talk to
web_ca = ""                  # PEM file of authorities instead of the system's
allow_private = false        # connect to private addresses of peers

# [peers.peer."b.example"]
# trust = "web"              # web: a public certificate; ca: of the authority in ca; pin: the key in pins
# ca = "b-ca.pem"
# pins = ["sha256/..."]
# address = "127.0.0.1:9443" # connect here instead of asking the DNS
# asset_hosts = ["assets.b.example"]
# issuers = "b-issuers.pem"  # believe these credential issuers instead of asking the peer
# blocked = false            # the kill switch

[limits]
cipher_suites = [1, 2, 3]    # of the rooms hosted here
stock_floor = 20             # KeyPackages of a device below which it uploads more ...
stock_ceiling = 100          # ... up to this many
keys_per_requester = 200     # KeyPackages of one user that one requester may have in an hour
retention = "48h"            # how long events are kept that everybody has read; 24h at least
keep_unread = "2160h"        # how long they are kept for devices and providers that are away
max_asset = 104857600        # octets of one uploaded file; 0: no assets
asset_quota = 1073741824     # octets of all files of one user
keep_assets = "8760h"        # how long a file is kept
peer_per_second = 100.0      # requests of one peer
peer_burst = 400
peer_concurrent = 64
queries_per_second = 1.0     # identifier queries of one peer or user
keys_per_provider = 1000     # KeyPackages of one user that all users of one provider may have in an hour
reports_per_hour = 60        # abuse reports of one reporter
keep_reports = "9600h"       # how long they are kept
franking_age = "2160h"       # when the secret that messages are franked with is replaced; reports need the old ones, which stay
client_per_second = 100.0    # requests of one of our users, over all devices
client_burst = 500
client_concurrent = 64       # ... under way
client_connections = 32      # event connections of one user
submits_per_second = 500.0   # messages of one user; on a connection they are read more slowly instead of refused
submit_burst = 5000
logins_per_minute = 12.0     # log-ins under one name
login_burst = 20
address_per_minute = 60.0    # registrations and log-ins from one address (IPv6: one /64); loopback is not counted
address_burst = 100
nodes = 1                    # of how many nodes this is one: rates, bursts and counts are divided by it; files and times are not
`

// Default is the config of a file that says nothing.
func Default() Config {
	var c Config
	if err := toml.Unmarshal([]byte(Example), &c); err != nil {
		panic(err) // a test reads it
	}
	c.Domain, c.Certificate = "", Certificate{}
	return c
}

// Load reads a config file over the defaults.
func Load(file string) (Config, error) {
	c := Default()
	f, err := os.Open(file)
	if err != nil {
		return c, fmt.Errorf("the config file can't be read: %w", err)
	}
	defer f.Close()
	dec := toml.NewDecoder(f)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		var strict *toml.StrictMissingError
		var at *toml.DecodeError
		switch {
		case errors.As(err, &strict):
			row, _ := strict.Errors[0].Position()
			return c, fmt.Errorf("%s:%d: there is no setting %s", file, row, strings.Join(strict.Errors[0].Key(), "."))
		case errors.As(err, &at):
			row, col := at.Position()
			return c, fmt.Errorf("%s:%d:%d: %s", file, row, col, at.Error())
		}
		return c, fmt.Errorf("%s: %w", file, err)
	}
	c.dir = filepath.Dir(file)
	return c, nil
}

// path returns a file name of the config, relative to its folder.
func (c *Config) path(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.dir, name)
}

// Check says what in a config can't be.
func (c *Config) Check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Domain == "" {
		bad("domain is missing: the domain that your users' URIs have, such as a.example")
	} else if _, err := mimi.ParseProviderDomain(c.Domain); err != nil {
		bad("domain: %v", err)
	}
	if c.Data == "" {
		bad("data is missing: a folder for the database")
	}
	if c.Certificate.Cert == "" || c.Certificate.Key == "" {
		bad("certificate.cert and certificate.key are missing: PEM files of a certificate for %s", c.Domain)
	}
	for name, addr := range map[string]string{"federation": c.Listen.Federation, "clients": c.Listen.Clients, "admin": c.Listen.Admin} {
		host, _, err := net.SplitHostPort(addr)
		if err != nil && addr != "" {
			bad("listen.%s: %q is not of the form host:port", name, addr)
			continue
		}
		if name == "admin" && addr != "" {
			if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
				bad("listen.admin: %q is not a loopback address; what is there is for this machine only", addr)
			}
		}
	}
	if c.Listen.Federation == "" {
		bad("listen.federation is missing")
	}
	if c.Listen.Clients == "" {
		bad("listen.clients is missing")
	}
	if u, err := url.Parse(c.Public.Federation); c.Public.Federation != "" && (err != nil || u.Scheme != "https" || u.Host == "") {
		bad("public.federation: %q is not an https URL", c.Public.Federation)
	}
	if c.Store != "" && !strings.HasPrefix(c.Store, "postgres://") && !strings.HasPrefix(c.Store, "postgresql://") {
		bad("store: only postgres:// URLs are known, or nothing for SQLite")
	}
	if _, err := time.ParseDuration(c.Limits.Retention); err != nil {
		bad("limits.retention: %v", err)
	}
	for name, value := range map[string]string{"keep_assets": c.Limits.KeepAssets, "keep_reports": c.Limits.KeepReports, "franking_age": c.Limits.FrankingAge} {
		if _, err := time.ParseDuration(value); err != nil {
			bad("limits.%s: %v", name, err)
		}
	}
	if u, err := url.Parse(c.Public.Assets); c.Public.Assets != "" && (err != nil || u.Scheme != "https" || u.Host == "") {
		bad("public.assets: %q is not an https URL", c.Public.Assets)
	}
	if c.Limits.Nodes < 1 {
		return fmt.Errorf("limits.nodes is %d: it must be 1 at least", c.Limits.Nodes)
	}
	for _, id := range c.Limits.Suites {
		if _, ok := suite.Lookup(suite.ID(id)); !ok {
			bad("limits.cipher_suites: there is no cipher suite %d here", id)
		}
	}
	switch c.Log.Level {
	case "debug", "info", "warn", "error":
	default:
		bad("log.level: %q is not debug, info, warn or error", c.Log.Level)
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		bad("log.format: %q is not text or json", c.Log.Format)
	}
	return errors.Join(errs...)
}

// peers turns the peers' settings into those of package federation.
func (c *Config) peers() (federation.PeersConfig, error) {
	out := federation.PeersConfig{
		Policy: federation.Policy(c.Peers.Policy), WebCAFile: c.path(c.Peers.WebCA), AllowPrivate: c.Peers.AllowPrivate,
		Quota: federation.Quota{PerSecond: c.Limits.PeerPerSecond, Burst: c.Limits.PeerBurst, Concurrent: c.Limits.PeerConcurrent},
		Peers: map[mimi.ProviderDomain]federation.PeerConfig{},
	}
	for _, s := range c.Peers.Deny {
		d, err := mimi.ParseProviderDomain(s)
		if err != nil {
			return out, fmt.Errorf("peers.deny: %w", err)
		}
		out.Deny = append(out.Deny, d)
	}
	for name, p := range c.Peers.Peer {
		d, err := mimi.ParseProviderDomain(name)
		if err != nil {
			return out, fmt.Errorf("peers.peer: %w", err)
		}
		out.Peers[d] = federation.PeerConfig{
			Trust: federation.TrustKind(p.Trust), CAFile: c.path(p.CA), Pins: p.Pins, Address: p.Address, AssetHosts: p.AssetHosts, Blocked: p.Blocked,
		}
	}
	return out, nil
}

// base is the URL of our endpoints.
func (c *Config) base() string {
	if c.Public.Federation != "" {
		return strings.TrimSuffix(c.Public.Federation, "/")
	}
	return "https://" + c.Domain + port(c.Listen.Federation) + "/mimi/v1"
}

// assetBase is the URL of uploaded files.
func (c *Config) assetBase() string {
	if c.Public.Assets != "" {
		return strings.TrimSuffix(c.Public.Assets, "/")
	}
	return "https://" + c.Domain + port(c.Listen.Clients) + "/assets"
}

// assetDomains are the hosts of uploaded files.
func (c *Config) assetDomains() []string {
	u, err := url.Parse(c.assetBase())
	if err != nil || c.Limits.MaxAsset <= 0 {
		return nil
	}
	return []string{u.Host}
}

// port is the :port of a listener in URLs; nothing for that of https.
func port(listen string) string {
	_, port, err := net.SplitHostPort(listen)
	if err != nil || port == "443" || port == "https" || port == "0" {
		return ""
	}
	return ":" + port
}

// clients are the limits of our own users.
func (l *Limits) clients() clientapi.Limits {
	return clientapi.Limits{
		PerSecond: l.ClientPerSecond, Burst: l.ClientBurst, Concurrent: l.ClientConcurrent, Connections: l.ClientConnections,
		SubmitsPerSecond: l.SubmitsPerSecond, SubmitBurst: l.SubmitBurst, LoginsPerSecond: l.LoginsPerMinute / 60, LoginBurst: l.LoginBurst,
		AddressPerSecond: l.AddressPerMinute / 60, AddressBurst: l.AddressBurst,
	}
}
