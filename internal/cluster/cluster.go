// Package cluster runs several providers as processes on this machine, with
// certificates of a test authority, and lets them be killed and started again.
// The demo plays on it, and the tests that break things on purpose.
package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/comity-im/comity/federation/devpki"
)

// Options say how to run a cluster.
type Options struct {
	Dir     string   // everything is below it
	Domains []string // one provider each
	// Command starts a provider; the config file's name is appended.
	Command []string
	// Settings are further lines of each provider's config, for the domain in
	// %[1]s, before its first table.
	Settings string
	// Own are further lines of the config of single providers, by domain.
	Own map[string]string
	// Tables are further tables of each provider's config.
	Tables string
	// LogLevel of the providers; empty: debug.
	LogLevel string
	// Addresses that peers of a provider are reached at instead of its own, such
	// as a proxy that breaks connections. May be nil.
	Via func(from, to string, address string) string
}

// A Cluster is a set of providers.
type Cluster struct {
	Providers []*Provider
	CAFile    string
	Roots     *x509.CertPool
	http      *http.Client
}

// A Provider is one process, or none while it is down.
type Provider struct {
	Domain string
	Dir    string
	Config string // file
	Log    string // file with one JSON object a line

	Federation, Clients, Admin string // addresses

	cluster *Cluster
	command []string
	cmd     *exec.Cmd
	done    chan struct{} // closed when the process has ended
}

// Start makes certificates and configs and starts all providers.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	for try := 0; ; try++ {
		c, err := start(ctx, o)
		// A free port may be taken before a provider listens on it.
		if err == nil || try >= 3 || !strings.Contains(err.Error(), "already in use") {
			return c, err
		}
	}
}

func start(ctx context.Context, o Options) (*Cluster, error) {
	c := &Cluster{CAFile: filepath.Join(o.Dir, "ca.pem")}
	ca, err := devpki.LoadOrCreateCA(filepath.Join(o.Dir, "ca"), "Comity demo authority")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(c.CAFile, ca.PEM(), 0o644); err != nil {
		return nil, err
	}
	c.Roots = ca.Pool()
	c.http = &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.Roots}}}
	ports, err := freePorts(3 * len(o.Domains))
	if err != nil {
		return nil, err
	}
	for i, domain := range o.Domains {
		p := &Provider{
			Domain: domain, Dir: filepath.Join(o.Dir, domain), cluster: c, command: o.Command,
			Federation: fmt.Sprintf("127.0.0.1:%d", ports[3*i]), Clients: fmt.Sprintf("127.0.0.1:%d", ports[3*i+1]), Admin: fmt.Sprintf("127.0.0.1:%d", ports[3*i+2]),
		}
		p.Config, p.Log = filepath.Join(p.Dir, "comity.toml"), filepath.Join(p.Dir, "log.json")
		c.Providers = append(c.Providers, p)
		if err := os.MkdirAll(p.Dir, 0o700); err != nil {
			return nil, err
		}
		pair, err := ca.Issue(devpki.Leaf{Names: []string{domain, "localhost"}})
		if err != nil {
			return nil, err
		}
		if _, _, err := pair.WriteFiles(p.Dir, domain); err != nil {
			return nil, err
		}
	}
	for _, p := range c.Providers {
		if err := p.writeConfig(o); err != nil {
			return nil, err
		}
		if err := p.Start(ctx); err != nil {
			c.Stop()
			return nil, err
		}
	}
	for _, p := range c.Providers {
		if err := p.Ready(ctx); err != nil {
			c.Stop()
			return nil, err
		}
	}
	return c, nil
}

// freePorts returns ports that nobody listens on at this moment.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

func (p *Provider) writeConfig(o Options) error {
	var b strings.Builder
	fmt.Fprintf(&b, "domain = %q\ndata = \"data\"\n", p.Domain)
	if o.Settings != "" {
		fmt.Fprintf(&b, o.Settings+"\n", p.Domain)
	}
	if own := o.Own[p.Domain]; own != "" {
		fmt.Fprintln(&b, own)
	}
	fmt.Fprintf(&b, "\n[listen]\nfederation = %q\nclients = %q\nadmin = %q\n", p.Federation, p.Clients, p.Admin)
	fmt.Fprintf(&b, "\n[certificate]\ncert = \"%s.pem\"\nkey = \"%s-key.pem\"\n", p.Domain, p.Domain)
	fmt.Fprintf(&b, "\n[public]\nfederation = \"https://%s/mimi/v1\"\nassets = \"https://%s/assets\"\n", p.Domain, p.Domain)
	level := o.LogLevel
	if level == "" {
		level = "debug"
	}
	fmt.Fprintf(&b, "\n[log]\nlevel = %q\nformat = \"json\"\n%s\n", level, o.Tables)
	fmt.Fprintf(&b, "\n[peers]\nweb_ca = %q\n", p.cluster.CAFile)
	for _, q := range p.cluster.Providers {
		if q == p {
			continue
		}
		address := q.Federation
		if o.Via != nil {
			address = o.Via(p.Domain, q.Domain, address)
		}
		fmt.Fprintf(&b, "\n[peers.peer.%q]\naddress = %q\n", q.Domain, address)
	}
	return os.WriteFile(p.Config, []byte(b.String()), 0o600)
}

// Node starts another process of the same provider, which shares its database,
// at addresses of its own.
func (p *Provider) Node(ctx context.Context, name string) (*Provider, error) {
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	n := &Provider{
		Domain: p.Domain, Dir: p.Dir, cluster: p.cluster, command: p.command, Config: filepath.Join(p.Dir, name+".toml"), Log: filepath.Join(p.Dir, name+".json"),
		Federation: fmt.Sprintf("127.0.0.1:%d", ports[0]), Clients: fmt.Sprintf("127.0.0.1:%d", ports[1]), Admin: fmt.Sprintf("127.0.0.1:%d", ports[2]),
	}
	text, err := os.ReadFile(p.Config)
	if err != nil {
		return nil, err
	}
	text = []byte(strings.NewReplacer(p.Federation, n.Federation, p.Clients, n.Clients, p.Admin, n.Admin).Replace(string(text)))
	if err := os.WriteFile(n.Config, text, 0o600); err != nil {
		return nil, err
	}
	p.cluster.Providers = append(p.cluster.Providers, n)
	return n, n.Restart(ctx)
}

// Process is the process, nil while it is down.
func (p *Provider) Process() *os.Process {
	if p.cmd == nil {
		return nil
	}
	return p.cmd.Process
}

// Start starts the process; Ready says when it answers.
func (p *Provider) Start(ctx context.Context) error {
	if p.cmd != nil {
		return fmt.Errorf("%s runs already", p.Domain)
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.command[0], append(p.command[1:len(p.command):len(p.command)], p.Config)...)
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own: a Ctrl-C at the terminal is ours to pass on.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd, p.done = cmd, make(chan struct{})
	go func(done chan struct{}) {
		cmd.Wait()
		close(done)
	}(p.done)
	return nil
}

// readyWithin is how long a provider may take to start.
const readyWithin = 30 * time.Second

// Ready waits until the provider answers.
func (p *Provider) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.Admin+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := p.cluster.http.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-p.done:
			return fmt.Errorf("the provider %s ended at once; the end of its log:\n%s", p.Domain, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("the provider %s does not get ready; the end of its log:\n%s", p.Domain, p.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tail is the end of the log.
func (p *Provider) tail() string {
	b, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

// Up reports whether the process runs.
func (p *Provider) Up() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Kill ends the process at once, as kill -9 does.
func (p *Provider) Kill() { p.end(syscall.SIGKILL, 0) }

// Stop ends the process as SIGTERM does: what is under way is finished.
func (p *Provider) Stop() { p.end(syscall.SIGTERM, 20*time.Second) }

func (p *Provider) end(sig syscall.Signal, patience time.Duration) {
	if p.cmd == nil {
		return
	}
	p.cmd.Process.Signal(sig)
	if patience > 0 {
		select {
		case <-p.done:
		case <-time.After(patience):
			p.cmd.Process.Kill()
		}
	}
	<-p.done
	p.cmd = nil
}

// Restart starts the process again and waits until it answers.
func (p *Provider) Restart(ctx context.Context) error {
	return errors.Join(p.Start(ctx), p.Ready(ctx))
}

// PID is the process's number; 0 while there is none.
func (p *Provider) PID() int {
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// ClientURL is where clients of the provider connect.
func (p *Provider) ClientURL() string {
	_, port, _ := net.SplitHostPort(p.Clients)
	return "https://localhost:" + port
}

// Provider returns the provider of a domain.
func (c *Cluster) Provider(domain string) *Provider {
	for _, p := range c.Providers {
		if p.Domain == domain {
			return p
		}
	}
	return nil
}

// Stop stops all providers.
func (c *Cluster) Stop() {
	for _, p := range c.Providers {
		p.Stop()
	}
}
