package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/comity-im/comity/federation"
	"github.com/comity-im/comity/internal/conform"
	"github.com/comity-im/comity/mimi"
)

// Check tries somebody's provider from outside.
type Check struct {
	Target  string `arg:"" help:"The provider to check, by its domain." placeholder:"b.example"`
	Domain  string `help:"Who asks: the domain of the certificate." required:"" placeholder:"a.example"`
	Cert    string `help:"PEM file of the certificate that is shown." required:"" type:"existingfile" placeholder:"FILE"`
	Key     string `help:"PEM file of its private key." required:"" type:"existingfile" placeholder:"FILE"`
	CA      string `name:"ca" help:"PEM file of the authorities that the target's certificate is judged by, instead of the public ones." type:"existingfile" placeholder:"FILE"`
	Address string `help:"Connect to this address instead of looking the target up." placeholder:"127.0.0.1:9443"`
	User    string `help:"Somebody who exists there, to see whether strangers can tell; gets a consent request that is taken back." placeholder:"mimi://b.example/u/bob"`
	JSON    bool   `help:"Print JSON, one object a line."`
}

// Help is shown below the flags.
func (Check) Help() string {
	return `It sends some forty requests with a certificate of yours: a few good ones, and many that a provider must refuse (a
foreign name in From, no certificate, malformed and huge bodies, users of other domains, addresses inside its network). It
needs no account there. It ends with 1 if a check failed. A second provider on this machine:

  comity check b.example --domain a.example --cert a/a.example.pem --key a/a.example-key.pem --ca a/ca.pem --address 127.0.0.1:9443`
}

// Run prints each finding as it comes.
func (k *Check) Run(ctx context.Context, out io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	own, err := mimi.ParseProviderDomain(k.Domain)
	if err != nil {
		return fmt.Errorf("--domain: %w", err)
	}
	target, err := mimi.ParseProviderDomain(k.Target)
	if err != nil {
		return err
	}
	var user mimi.UserURI
	if k.User != "" {
		if user, err = mimi.ParseUserURI(k.User); err != nil {
			return fmt.Errorf("--user: %w", err)
		}
		if user.Host() != target {
			return fmt.Errorf("--user: %s is not a user of %s", user, target)
		}
	}
	quiet := slog.New(slog.DiscardHandler)
	cert, err := federation.LoadCertificate(federation.CertificateConfig{Domain: own, CertFile: k.Cert, KeyFile: k.Key, Logger: quiet})
	if err != nil {
		return err
	}
	peers, err := federation.NewPeers(federation.PeersConfig{WebCAFile: k.CA, AllowPrivate: true, Logger: quiet,
		Peers: map[mimi.ProviderDomain]federation.PeerConfig{target: {Address: k.Address}}})
	if err != nil {
		return err
	}
	client, err := federation.NewClient(federation.ClientConfig{Certificate: cert, Peers: peers, Logger: quiet})
	if err != nil {
		return err
	}
	defer client.Close()
	seen, err := conform.Run(ctx, conform.Config{Own: own, Target: target, Client: client, User: user}, func(f conform.Finding) {
		if k.JSON {
			_ = json.NewEncoder(out).Encode(f) // whoever closed the pipe ends us
			return
		}
		fmt.Fprintf(out, "%s  %s: %s  [%s]\n", f.Verdict, f.Check, f.Text, f.Section)
	})
	if err != nil {
		return err
	}
	if !k.JSON {
		fmt.Fprintf(out, "\n%s: %d passed, %d warnings, %d failed, %d not tried\n", target, seen[conform.Pass], seen[conform.Warn], seen[conform.Fail], seen[conform.Skip])
	}
	if seen[conform.Fail] > 0 {
		return fmt.Errorf("%d checks failed at %s", seen[conform.Fail], target)
	}
	return nil
}
