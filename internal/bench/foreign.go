package bench

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/comity-im/comity/federation"
	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// foreignDomain is the provider that the load generator itself is: it sends as a
// follower does and takes what it is notified of without storing it.
const foreignDomain = mimi.ProviderDomain("load.example")

// A foreign is that provider.
type foreign struct {
	issuer *identity.Issuer
	client *federation.Client
	count  *counter

	mu      sync.Mutex
	senders []*member // those that get into rooms
	made    int
}

// makeIssuer writes the provider's issuers for the others' configs, and its key.
func makeIssuer(dir string) error {
	issuer, err := identity.NewIssuer(rand.Reader, foreignDomain, time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour))
	if err != nil {
		return err
	}
	certs, key, err := issuer.MarshalPEM()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "issuer-key.pem"), key, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "issuer.pem"), certs, 0o600)
}

// newForeign starts the provider: dir has its files, peers says where the others
// are, listen is where it listens itself.
func newForeign(ctx context.Context, dir, ca, listen string, peers map[mimi.ProviderDomain]string) (*foreign, error) {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	cert, err := federation.LoadCertificate(federation.CertificateConfig{Domain: foreignDomain,
		CertFile: filepath.Join(dir, string(foreignDomain)+".pem"), KeyFile: filepath.Join(dir, string(foreignDomain)+"-key.pem"), Logger: quiet})
	if err != nil {
		return nil, err
	}
	cfg := federation.PeersConfig{WebCAFile: ca, AllowPrivate: true, Logger: quiet, Quota: federation.Quota{PerSecond: 1e6, Burst: 1e6, Concurrent: 1000}, Peers: map[mimi.ProviderDomain]federation.PeerConfig{}}
	for d, address := range peers {
		cfg.Peers[d] = federation.PeerConfig{Address: address}
	}
	p, err := federation.NewPeers(cfg)
	if err != nil {
		return nil, err
	}
	f := &foreign{count: &counter{}}
	if f.client, err = federation.NewClient(federation.ClientConfig{Certificate: cert, Peers: p, Logger: quiet}); err != nil {
		return nil, err
	}
	certs, err := os.ReadFile(filepath.Join(dir, "issuer.pem"))
	if err != nil {
		return nil, err
	}
	key, err := os.ReadFile(filepath.Join(dir, "issuer-key.pem"))
	if err != nil {
		return nil, err
	}
	if f.issuer, err = identity.LoadIssuer(foreignDomain, certs, key); err != nil {
		return nil, err
	}
	server, err := federation.NewServer(federation.ServerConfig{Certificate: cert, Peers: p, Hub: sink{f}, Logger: quiet})
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	go server.Serve(ctx, l)
	return f, nil
}

// users makes users with one client and one KeyPackage each. The first of them
// gets into the rooms that it is added to; the others are only names.
func (f *foreign) users(n int) (map[mimi.UserURI][]mls.KeyPackage, []mimi.UserURI, error) {
	packages := map[mimi.UserURI][]mls.KeyPackage{}
	var order []mimi.UserURI
	for range n {
		f.mu.Lock()
		f.made++
		name := fmt.Sprintf("u%d", f.made)
		f.mu.Unlock()
		user, err := mimi.NewUserURI(foreignDomain, name)
		if err != nil {
			return nil, nil, err
		}
		client, err := mimi.NewClientURI(foreignDomain, name+"-load")
		if err != nil {
			return nil, nil, err
		}
		signer, err := newSigner()
		if err != nil {
			return nil, nil, err
		}
		q, err := identity.NewCertificateRequest(rand.Reader, signer, user, client)
		if err != nil {
			return nil, nil, err
		}
		credential, err := f.issuer.IssueClient(rand.Reader, q, identity.Certified{NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(12 * time.Hour)})
		if err != nil {
			return nil, nil, err
		}
		m, err := newMember(user, signer, credential)
		if err != nil {
			return nil, nil, err
		}
		if packages[user], err = m.keyPackages(1); err != nil {
			return nil, nil, err
		}
		order = append(order, user)
		if len(order) == 1 {
			f.mu.Lock()
			f.senders = append(f.senders, m)
			f.mu.Unlock()
		}
	}
	return packages, order, nil
}

// sink takes notifications and refuses everything else.
type sink struct{ f *foreign }

var errSink = &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: "this is a load generator"}

func (s sink) Notify(_ context.Context, _ mimi.ProviderDomain, room mimi.RoomURI, req *mimi.NotifyRequest) error {
	s.f.count.add(len(req.Messages))
	for i := range req.Messages {
		if req.Messages[i].Message.Welcome == nil {
			continue
		}
		s.f.mu.Lock()
		senders := s.f.senders
		s.f.mu.Unlock()
		for _, m := range senders {
			if err := m.welcomed(room, &req.Messages[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (sink) KeyMaterial(context.Context, mimi.ProviderDomain, mimi.UserURI, *mimi.KeyMaterialRequest) (*mimi.KeyMaterialResponse, error) {
	return nil, errSink
}

func (sink) Update(context.Context, mimi.ProviderDomain, mimi.RoomURI, *mimi.UpdateRequest) (*mimi.UpdateRoomResponse, error) {
	return nil, errSink
}

func (sink) SubmitMessage(context.Context, mimi.ProviderDomain, mimi.RoomURI, *mimi.SubmitMessageRequest) (*mimi.SubmitMessageResponse, error) {
	return nil, errSink
}

func (sink) GroupInfo(context.Context, mimi.ProviderDomain, mimi.RoomURI, *mimi.GroupInfoRequest) (*mimi.GroupInfoResponse, error) {
	return nil, errSink
}

func (sink) RequestConsent(context.Context, mimi.ProviderDomain, *mimi.ConsentEntry) error {
	return errSink
}

func (sink) UpdateConsent(context.Context, mimi.ProviderDomain, *mimi.ConsentEntry) error {
	return errSink
}

func (sink) IdentifierQuery(context.Context, mimi.ProviderDomain, mimi.ProviderDomain, *mimi.IdentifierRequest) (*mimi.IdentifierResponse, error) {
	return nil, errSink
}

func (sink) ReportAbuse(context.Context, mimi.ProviderDomain, mimi.RoomURI, *mimi.AbuseReport) error {
	return errSink
}

func (sink) Gone(context.Context, mimi.ProviderDomain, mimi.RoomURI, *mimi.GoneNotice) error {
	return errSink
}

func (sink) ProxyDownload(context.Context, mimi.ProviderDomain, *mimi.DownloadRequest) (*mimi.Download, error) {
	return nil, errSink
}
