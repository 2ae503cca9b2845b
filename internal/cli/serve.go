// Package cli are the commands of the comity binary but for those of a client
// (package clientcmd): flags in, packages called, results printed.
package cli

import (
	"context"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/comity-im/comity/serve"
)

// Serve runs one provider.
type Serve struct {
	Config     string   `help:"Config file (TOML); 'comity init' writes one, 'comity serve --example' prints every setting." type:"existingfile" env:"COMITY_CONFIG" placeholder:"FILE"`
	Example    bool     `help:"Print a config file with every setting and its default, and stop."`
	Domain     string   `help:"The provider's domain." env:"COMITY_DOMAIN" placeholder:"a.example"`
	Data       string   `help:"Folder for the database." env:"COMITY_DATA" placeholder:"DIR"`
	Store      string   `help:"PostgreSQL URL; without it, SQLite in the data folder." env:"COMITY_STORE" placeholder:"postgres://…"`
	Node       string   `help:"Name of this node, where several share one PostgreSQL." env:"COMITY_NODE"`
	Cert       string   `help:"PEM file of the certificate for the domain." env:"COMITY_CERT" placeholder:"FILE"`
	Key        string   `help:"PEM file of its private key." env:"COMITY_KEY" placeholder:"FILE"`
	Federation string   `help:"Address for other providers." env:"COMITY_LISTEN_FEDERATION" placeholder:":8443"`
	Clients    string   `help:"Address for our users' clients." env:"COMITY_LISTEN_CLIENTS" placeholder:":8444"`
	Admin      string   `help:"Address for metrics and admin commands; loopback only." env:"COMITY_LISTEN_ADMIN" placeholder:"127.0.0.1:8445"`
	LogLevel   string   `help:"debug, info, warn or error." env:"COMITY_LOG_LEVEL" placeholder:"info"`
	LogFormat  string   `help:"text or json." env:"COMITY_LOG_FORMAT" placeholder:"text"`
	Deny       []string `help:"Domains that we never talk to." env:"COMITY_DENY" placeholder:"DOMAIN"`
}

// Help is shown below the flags.
func (Serve) Help() string {
	return `A provider needs a domain, a certificate for it, and a folder. The quickest start, for a look on this machine:

  comity init --domain a.example --dir a     # writes a/comity.toml and a certificate of a test authority
  comity serve --config a/comity.toml

In production use the certificate that your web server has: a public one is good for both directions. Flags go over
environment variables, which go over the config file. SIGHUP reads certificates again (it happens by itself within a
minute too); SIGINT and SIGTERM stop cleanly. /healthz and /readyz answer on every listener.`
}

func (s *Serve) config() (serve.Config, error) {
	cfg := serve.Default()
	if s.Config != "" {
		var err error
		if cfg, err = serve.Load(s.Config); err != nil {
			return cfg, err
		}
	}
	abs := func(name string) string {
		if a, err := filepath.Abs(name); err == nil {
			return a
		}
		return name
	}
	for _, o := range []struct {
		to    *string
		value string
		file  bool
	}{
		{&cfg.Domain, s.Domain, false}, {&cfg.Data, s.Data, true}, {&cfg.Store, s.Store, false}, {&cfg.Node, s.Node, false},
		{&cfg.Certificate.Cert, s.Cert, true}, {&cfg.Certificate.Key, s.Key, true},
		{&cfg.Listen.Federation, s.Federation, false}, {&cfg.Listen.Clients, s.Clients, false}, {&cfg.Listen.Admin, s.Admin, false},
		{&cfg.Log.Level, s.LogLevel, false}, {&cfg.Log.Format, s.LogFormat, false},
	} {
		switch {
		case o.value == "":
		case o.file:
			*o.to = abs(o.value) // relative to where the command is run
		default:
			*o.to = o.value
		}
	}
	cfg.Peers.Deny = append(cfg.Peers.Deny, s.Deny...)
	return cfg, nil
}

// Run serves until a signal.
func (s *Serve) Run(ctx context.Context, out io.Writer) error {
	if s.Example {
		_, err := io.WriteString(out, serve.Example)
		return err
	}
	cfg, err := s.config()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	logger := serve.NewLogger(os.Stderr, cfg.Log)
	server, err := serve.Open(ctx, cfg, logger)
	if err != nil {
		return err
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hup:
				if err := server.Reload(); err != nil {
					logger.Error("certificates not read again; the old ones stay", "error", err)
				} else {
					logger.Info("certificates read again")
				}
			}
		}
	}()
	return server.Run(ctx)
}
