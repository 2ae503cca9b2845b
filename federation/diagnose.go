package federation

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/comity-im/comity/mimi"
)

// A Side is who has to do something about a failure.
type Side string

// The sides of a failure.
const (
	SideNone    Side = ""        // all is well
	SideOurs    Side = "ours"    // our settings, our certificate, our network
	SideTheirs  Side = "theirs"  // their server, their certificate, their settings
	SideBetween Side = "between" // can't be told apart from here
)

// A Check is one step of a diagnosis.
type Check struct {
	Step Step
	OK   bool
	Took time.Duration
	Text string // what was found, in words
}

// A Report says whether a peer can be reached, and if not, what fails and on
// whose side.
type Report struct {
	Domain mimi.ProviderDomain
	OK     bool
	Side   Side
	Text   string // the finding in one sentence
	Checks []Check
	Health Health // from what was seen before
}

// Further steps that only a diagnosis takes.
const (
	StepPolicy  Step = "policy"  // do we talk to it at all
	StepRequest Step = "request" // does it know us
)

// slowAfter is from when a step that works is called slow.
const slowAfter = 2 * time.Second

// Diagnose tries each step that a request to the peer takes and says in words
// what it finds. It sends one request with an empty body, which a peer that
// knows us answers with 400. It ignores the directory in the cache and waits
// imposed by Retry-After.
func (c *Client) Diagnose(ctx context.Context, domain mimi.ProviderDomain) Report {
	d := &diagnosis{client: c, report: Report{Domain: domain}}
	d.run(ctx)
	r := &d.report
	if s, ok := c.cfg.Peers.Status(domain); ok {
		r.Health = s.Health
	}
	if r.OK = r.Side == SideNone; !r.OK {
		return *r
	}
	r.Text = fmt.Sprintf("%s is reachable and accepts our requests", domain)
	for _, check := range r.Checks {
		if check.Took >= slowAfter {
			r.Text += fmt.Sprintf(", but is slow: %s took %v", check.Step, check.Took.Round(10*time.Millisecond))
			break
		}
	}
	return *r
}

type diagnosis struct {
	client *Client
	report Report
}

func (d *diagnosis) good(step Step, took time.Duration, format string, args ...any) {
	d.report.Checks = append(d.report.Checks, Check{step, true, took, fmt.Sprintf(format, args...)})
}

func (d *diagnosis) bad(side Side, step Step, took time.Duration, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	d.report.Checks = append(d.report.Checks, Check{step, false, took, text})
	d.report.Side, d.report.Text = side, text
}

func (d *diagnosis) run(ctx context.Context) {
	c, domain := d.client, d.report.Domain
	l, err := c.link(domain)
	if err != nil {
		d.bad(SideOurs, StepPolicy, 0, "%s", strings.TrimPrefix(err.Error(), "federation: "))
		return
	}
	d.good(StepPolicy, 0, "we talk to %s and know it by %s", domain, trustWords(l.peer))
	own, _ := c.cfg.Certificate.get()
	if err := checkDates(own.Leaf, c.now(), "our own certificate"); err != nil {
		d.bad(SideOurs, StepCertificate, 0, "%s", strings.TrimPrefix(err.Error(), "federation: "))
		return
	}
	if !d.host(ctx, l, string(domain), "443") {
		return
	}
	started := c.now()
	l.expire(started)
	dir, err := c.askDirectory(ctx, l, nil)
	took := c.now().Sub(started)
	if err != nil {
		d.directoryFailed(took, err)
		return
	}
	l.mu.Lock()
	l.cached, l.failed = dir, nil
	l.mu.Unlock()
	hosts, missing := endpointHosts(dir)
	d.good(StepDirectory, took, "the directory offers its endpoints on %s%s", strings.Join(hosts, ", "), missing)
	for _, h := range hosts {
		name, port, err := net.SplitHostPort(h)
		if err != nil {
			name, port = h, "443"
		}
		if name == string(domain) && port == "443" {
			continue
		}
		if !d.host(ctx, l, name, port) {
			return
		}
	}
	d.request(ctx, l)
}

func trustWords(n *peer) string {
	switch n.trust.kind {
	case TrustCA:
		return "the authorities in " + n.trust.caFile
	case TrustPin:
		return "its pinned key"
	}
	return "the public web PKI"
}

// host checks the name, TCP, TLS and certificate of one host.
func (d *diagnosis) host(ctx context.Context, l *link, host, port string) bool {
	c, n := d.client, l.peer
	started := c.now()
	target := net.JoinHostPort(host, port)
	if n.cfg.Address != "" {
		target = n.cfg.Address
		d.good(StepName, 0, "our config says to connect to %s for %s", target, host)
	} else {
		addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		took := c.now().Sub(started)
		if err != nil {
			d.bad(SideTheirs, StepName, took, "the name %s leads to no address: %v", host, err)
			return false
		}
		words := make([]string, len(addresses))
		reachable := n.private
		for i, a := range addresses {
			words[i] = a.Unmap().String()
			reachable = reachable || public(a)
		}
		if !reachable {
			d.bad(SideTheirs, StepName, took, "the name %s leads only to addresses that are not public: %s", host, strings.Join(words, ", "))
			return false
		}
		d.good(StepName, took, "%s is at %s", host, strings.Join(words, ", "))
	}
	started = c.now()
	conn, err := n.dialer(c.cfg.ConnectTimeout)(ctx, "tcp", target)
	took := c.now().Sub(started)
	if err != nil {
		side := SideTheirs
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
			side = SideBetween
		}
		d.bad(side, StepTCP, took, "no TCP connection to %s: %v", target, err)
		return false
	}
	defer conn.Close()
	d.good(StepTCP, took, "connected to %s", conn.RemoteAddr())
	// First the handshake without judging the certificate, so that the two can
	// be told apart.
	started = c.now()
	cfg := c.tlsConfig(n)
	cfg.ServerName, cfg.VerifyConnection = host, nil
	cfg.NextProtos = []string{"h2", "http/1.1"}
	tc := tls.Client(conn, cfg)
	handshake, cancel := context.WithTimeout(ctx, c.cfg.ConnectTimeout)
	defer cancel()
	err = tc.HandshakeContext(handshake)
	took = c.now().Sub(started)
	if err != nil {
		d.bad(SideTheirs, StepTLS, took, "the TLS handshake with %s failed: %v", host, err)
		return false
	}
	state := tc.ConnectionState()
	d.good(StepTLS, took, "%s, %s", tls.VersionName(state.Version), cmp.Or(state.NegotiatedProtocol, "http/1.1"))
	if err := n.trust.verifyHost(state.PeerCertificates, host, n.domain, c.now()); err != nil {
		side := SideTheirs
		var ce *CertificateError
		if errors.As(err, &ce) && (ce.Problem == ProblemUntrusted || ce.Problem == ProblemWrongKey) {
			side = SideBetween // theirs is wrong, or what we expect is out of date
		}
		d.bad(side, StepCertificate, 0, "%s: %s", host, strings.TrimPrefix(err.Error(), "federation: "))
		return false
	}
	leaf := state.PeerCertificates[0]
	d.good(StepCertificate, 0, "good for %s until %s, key %s", certNames(leaf), leaf.NotAfter.UTC().Format(time.DateOnly), PinOf(leaf))
	return true
}

func (d *diagnosis) directoryFailed(took time.Duration, err error) {
	var failed *PeerError
	if !errors.As(err, &failed) {
		d.bad(SideTheirs, StepDirectory, took, "the directory can't be had: %v", err)
		return
	}
	if failed.Status != 0 {
		d.bad(SideTheirs, StepDirectory, took, "GET %s was answered with %d: %v", mimi.DirectoryPath, failed.Status, failed.Err)
		return
	}
	d.bad(SideTheirs, StepDirectory, took, "the directory can't be had: %v", failed.Err)
}

// endpointHosts returns the hosts (with their ports, if given) of a directory
// and words for what it lacks.
func endpointHosts(dir *cachedDirectory) (hosts []string, missing string) {
	var lacks []string
	for _, e := range dir.Endpoints() {
		if e.Template == "" {
			if e.Key != issuersKey && e.Key != mimi.GoneKey { // which are ours
				lacks = append(lacks, e.Key)
			}
			continue
		}
		authority, _, _ := strings.Cut(strings.TrimPrefix(string(e.Template), "https://"), "/")
		if !slices.Contains(hosts, authority) {
			hosts = append(hosts, authority)
		}
	}
	if len(lacks) > 0 {
		missing = "; it does not offer " + strings.Join(lacks, ", ")
	}
	return hosts, missing
}

// request sends an empty body, which passes all checks of who we are and then
// can't be parsed.
func (d *diagnosis) request(ctx context.Context, l *link) {
	c, domain := d.client, d.report.Domain
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	const key = "identifierQuery"
	v := mimi.Variables{Domain: domain, TargetDomain: domain}
	req, err := c.request(ctx, l, http.MethodPost, key, v, nil)
	if err != nil {
		if missing := (*NotOfferedError)(nil); errors.As(err, &missing) {
			d.good(StepRequest, 0, "not tried: %s is not offered", key)
			return
		}
		d.bad(SideTheirs, StepRequest, 0, "%v", err)
		return
	}
	started := c.now()
	resp, err := l.client.Do(req)
	took := c.now().Sub(started)
	if err != nil {
		if ue := (*url.Error)(nil); errors.As(err, &ue) {
			err = ue.Err
		}
		d.bad(SideTheirs, stepOf(err), took, "a request got no answer: %v", err)
		return
	}
	defer resp.Body.Close()
	text := quoted(refusalText(resp))
	switch s := resp.StatusCode; {
	case s < 300 || s == http.StatusBadRequest || s == http.StatusNotFound:
		d.good(StepRequest, took, "it takes requests from us (an empty one was answered with %d)", s)
		l.peer.reached(c.now())
	case s == http.StatusForbidden || s == http.StatusUnauthorized:
		d.bad(SideBetween, StepRequest, took, "it refuses us with %d%s: it blocks us, or does not trust our certificate", s, text)
	case s == http.StatusTooManyRequests:
		d.bad(SideBetween, StepRequest, took, "it refuses us with 429%s: we asked more than it allows", text)
	case s >= 500:
		d.bad(SideTheirs, StepRequest, took, "it fails with %d%s", s, text)
	default:
		d.bad(SideTheirs, StepRequest, took, "it refuses an ordinary request with %d%s", s, text)
	}
}

func quoted(text string) string {
	if text == "" {
		return ""
	}
	return fmt.Sprintf(" (%q)", text)
}
