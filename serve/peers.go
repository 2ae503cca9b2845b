package serve

import (
	"context"
	"time"

	"github.com/comity-im/comity/federation"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/provider"
)

// notePeersEvery is how often the database learns how the peers are.
const notePeersEvery = 30 * time.Second

// restorePeers brings back what the operator said of peers at run time, and when
// they were last well.
func (s *Server) restorePeers(ctx context.Context) error {
	list, err := s.provider.KnownPeers(ctx)
	if err != nil {
		return err
	}
	for _, k := range list {
		s.peers.Restore(k.Domain, federation.Health{LastHeard: k.Contact, LastReached: k.Contact, LastFailure: k.FailedAt, Failure: k.Failure})
		if err := s.applyPeer(k.Domain, k.Settings); err != nil {
			return err
		}
	}
	return nil
}

// applyPeer makes a peer's settings hold.
func (s *Server) applyPeer(d mimi.ProviderDomain, p provider.PeerSettings) error {
	if p.Blocked != nil {
		err := s.peers.Unblock(d)
		if *p.Blocked {
			err = s.peers.Block(d, p.Why)
		}
		if err != nil {
			return err
		}
	}
	if p.PerSecond > 0 || p.Burst > 0 || p.Concurrent > 0 {
		return s.peers.SetQuota(d, federation.Quota{PerSecond: p.PerSecond, Burst: p.Burst, Concurrent: p.Concurrent})
	}
	return nil
}

// changePeer changes a peer's settings, now and for later starts.
func (s *Server) changePeer(ctx context.Context, d mimi.ProviderDomain, change func(*provider.PeerSettings)) error {
	var now provider.PeerSettings
	err := s.provider.SetPeer(ctx, d, func(p *provider.PeerSettings) {
		change(p)
		now = *p
	})
	if err != nil {
		return err
	}
	return s.applyPeer(d, now)
}

// notePeers writes down from time to time, and at the end, how the peers are.
func (s *Server) notePeers(ctx context.Context) {
	t := time.NewTicker(notePeersEvery)
	defer t.Stop()
	noted := map[mimi.ProviderDomain]federation.Health{}
	note := func(ctx context.Context) {
		for _, p := range s.peers.List() {
			if p.Health == noted[p.Domain] {
				continue
			}
			contact := p.LastHeard
			if p.LastReached.After(contact) {
				contact = p.LastReached
			}
			if err := s.provider.NotePeer(ctx, p.Domain, contact, p.LastFailure, p.Failure); err != nil {
				if ctx.Err() == nil {
					s.logger.Warn("can't note how a peer is", "peer", string(p.Domain), "error", err)
				}
				return
			}
			noted[p.Domain] = p.Health
		}
	}
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			note(last)
			return
		case <-t.C:
			note(ctx)
		}
	}
}
