package serve

import (
	"cmp"
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
	}
	return s.applyPeers(ctx)
}

// applyPeers makes what the database has of the operator's words hold here: it
// may have been said to another node.
func (s *Server) applyPeers(ctx context.Context) error {
	s.applying.Lock()
	defer s.applying.Unlock()
	policy, err := s.provider.PeerPolicy(ctx)
	if err != nil {
		return err
	}
	if policy != s.policy {
		s.policy = policy
		if err := s.peers.SetPolicy(federation.Policy(cmp.Or(policy, s.cfg.Peers.Policy, string(federation.PolicyOpen)))); err != nil {
			return err
		}
		s.logger.Info("the policy for peers is changed", "policy", string(s.peers.Policy()))
	}
	list, err := s.provider.KnownPeers(ctx)
	if err != nil {
		return err
	}
	for _, k := range list {
		if err := s.applyPeer(k.Domain, s.applied[k.Domain], k.Settings); err != nil {
			return err
		}
		s.applied[k.Domain] = k.Settings
	}
	return nil
}

// applyPeer makes the settings of a peer hold, where they have changed.
func (s *Server) applyPeer(d mimi.ProviderDomain, old, p provider.PeerSettings) error {
	if (p.Blocked == nil) != (old.Blocked == nil) || p.Blocked != nil && *p.Blocked != *old.Blocked {
		err := s.peers.Unblock(d)
		if p.Blocked != nil && *p.Blocked {
			err = s.peers.Block(d, p.Why)
		}
		if err != nil {
			return err
		}
	}
	if p.Allowed != old.Allowed {
		change := s.peers.Disallow
		if p.Allowed {
			change = s.peers.Allow
		}
		if err := change(d); err != nil {
			return err
		}
	}
	if p.Paused != old.Paused {
		s.provider.PausePeer(d, p.Paused)
	}
	q := federation.Quota{PerSecond: p.PerSecond, Burst: p.Burst, Concurrent: p.Concurrent}
	if q == (federation.Quota{PerSecond: old.PerSecond, Burst: old.Burst, Concurrent: old.Concurrent}) {
		return nil
	}
	return s.peers.SetQuota(d, q)
}

// changePeer changes a peer's settings, now and for later starts.
func (s *Server) changePeer(ctx context.Context, d mimi.ProviderDomain, change func(*provider.PeerSettings)) error {
	if err := s.provider.SetPeer(ctx, d, change); err != nil {
		return err
	}
	return s.applyPeers(ctx)
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
			if err := s.applyPeers(ctx); err != nil && ctx.Err() == nil {
				s.logger.Warn("can't read what the operator said of peers", "error", err)
			}
		}
	}
}
