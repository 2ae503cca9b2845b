package cli

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/comity-im/comity/federation/devpki"
	"github.com/comity-im/comity/mimi"
)

// Init writes what a first provider needs.
type Init struct {
	Domain string            `help:"The provider's domain." required:"" placeholder:"a.example"`
	Dir    string            `help:"Folder to write to; it must not have a comity.toml." required:"" type:"path" placeholder:"DIR"`
	CA     string            `help:"Folder of a test authority, made if it isn't there. Providers of one authority trust each other." type:"path" placeholder:"DIR"`
	Port   uint16            `help:"First of the three ports that it listens on, for providers, clients and the admin." default:"8443"`
	Peer   map[string]string `help:"Another provider on this machine, and its address for providers; may be given several times." placeholder:"b.example=127.0.0.1:9443"`
}

// Help is shown below the flags.
func (Init) Help() string {
	return `Two providers on one machine that know each other:

  comity init --domain a.example --dir a --peer b.example=127.0.0.1:9443
  comity init --domain b.example --dir b --peer a.example=127.0.0.1:8443 --port 9443 --ca a/ca`
}

// check refuses what the provider would refuse at its start.
func (i *Init) check() error {
	if _, err := mimi.NewProviderURI(mimi.ProviderDomain(i.Domain)); err != nil {
		return fmt.Errorf("--domain: %w", err)
	}
	if i.Port == 0 || i.Port > 65533 {
		return fmt.Errorf("--port %d: it is the first of three, so between 1 and 65533", i.Port)
	}
	for domain, address := range i.Peer {
		if _, err := mimi.NewProviderURI(mimi.ProviderDomain(domain)); err != nil {
			return fmt.Errorf("--peer: %w", err)
		}
		if _, _, err := net.SplitHostPort(address); err != nil {
			return fmt.Errorf("--peer %s: its address %q must be HOST:PORT: %w", domain, address, err)
		}
	}
	return nil
}

// Run writes a config file and a certificate of a test authority.
func (i *Init) Run(out io.Writer) error {
	if err := i.check(); err != nil {
		return err
	}
	file := filepath.Join(i.Dir, "comity.toml")
	if _, err := os.Stat(file); err == nil {
		return fmt.Errorf("%s is there already; choose another folder, or edit that file", file)
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if i.CA == "" {
		i.CA = filepath.Join(i.Dir, "ca")
	}
	if err := os.MkdirAll(i.Dir, 0o700); err != nil {
		return err
	}
	ca, err := devpki.LoadOrCreateCA(i.CA, "Comity test authority")
	if err != nil {
		return err
	}
	pair, err := ca.Issue(devpki.Leaf{Names: []string{i.Domain, "localhost"}})
	if err != nil {
		return err
	}
	if _, _, err := pair.WriteFiles(i.Dir, i.Domain); err != nil {
		return err
	}
	caFile := filepath.Join(i.Dir, "ca.pem")
	if err := os.WriteFile(caFile, ca.PEM(), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(i.config()), 0o600); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, `wrote %s, with a certificate of a test authority (%s).

  comity serve --config %s
  comity client --dir alice register alice --provider https://localhost:%d --ca %s

'comity serve --example' prints every setting. For the Internet, put your own certificate's files under [certificate]
and remove web_ca and allow_private.
`, file, i.CA, file, i.Port+1, caFile)
	return err
}

// config is the text of the config file.
func (i *Init) config() string {
	var b strings.Builder
	fmt.Fprintf(&b, `domain = %q
data = "data"

[listen]
federation = "127.0.0.1:%d"
clients = "127.0.0.1:%d"
admin = "127.0.0.1:%d"

[certificate]
cert = "%s.pem"
key = "%s-key.pem"

[peers]
web_ca = "ca.pem"      # the test authority instead of the public ones
allow_private = true   # peers on this machine
`, i.Domain, i.Port, i.Port+1, i.Port+2, i.Domain, i.Domain)
	domains := make([]string, 0, len(i.Peer))
	for domain := range i.Peer {
		domains = append(domains, domain)
	}
	slices.Sort(domains)
	for _, domain := range domains {
		fmt.Fprintf(&b, "\n[peers.peer.%q]\naddress = %q\n", domain, i.Peer[domain])
	}
	if len(domains) == 0 {
		b.WriteString(`
# Another provider of the same test authority on this machine:
# [peers.peer."b.example"]
# address = "127.0.0.1:9443"
`)
	}
	return b.String()
}
