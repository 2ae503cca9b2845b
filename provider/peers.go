package provider

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/store"
)

// PeerSettings are what the operator said of a peer while the provider ran. They
// outlive a restart, and go before the config.
type PeerSettings struct {
	Blocked *bool  `json:"blocked,omitempty"` // nil: as the config says
	Why     string `json:"why,omitempty"`     // of Blocked
	Allowed bool   `json:"allowed,omitempty"` // on the allow list, though the config says nothing of it
	Paused  bool   `json:"paused,omitempty"`  // delivery to it
	// The quota of its requests; 0: as the config says.
	PerSecond  float64 `json:"per_second,omitempty"`
	Burst      int     `json:"burst,omitempty"`
	Concurrent int     `json:"concurrent,omitempty"`
}

// A KnownPeer is what the database has of a peer.
type KnownPeer struct {
	Domain   mimi.ProviderDomain
	Settings PeerSettings
	// Contact is when it last answered well or called us, and Failure what was
	// wrong at FailedAt; zero: never.
	Contact, FailedAt time.Time
	Failure           string
}

func knownPeer(row store.Peer) (KnownPeer, error) {
	k := KnownPeer{Domain: mimi.ProviderDomain(row.Domain), Failure: row.Failure}
	if row.ContactMillis > 0 {
		k.Contact = time.UnixMilli(row.ContactMillis)
	}
	if row.FailureMillis > 0 {
		k.FailedAt = time.UnixMilli(row.FailureMillis)
	}
	if row.Settings == "" {
		return k, nil
	}
	return k, json.Unmarshal([]byte(row.Settings), &k.Settings)
}

// KnownPeers returns the peers of which the database has something.
func (p *Provider) KnownPeers(ctx context.Context) (list []KnownPeer, err error) {
	err = p.cfg.Store.View(ctx, func(tx *store.Tx) error {
		list = nil
		rows, err := tx.Peers()
		for _, row := range rows {
			k, err := knownPeer(row)
			if err != nil {
				return err
			}
			list = append(list, k)
		}
		return err
	})
	return list, err
}

// changePeer changes what the database has of a peer.
func (p *Provider) changePeer(ctx context.Context, d mimi.ProviderDomain, change func(*store.Peer) error) error {
	return p.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		row, err := tx.Peer(string(d))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		row.Domain = string(d)
		if err := change(&row); err != nil {
			return err
		}
		return tx.PutPeer(row)
	})
}

// SetPeer changes what the operator says of a peer.
func (p *Provider) SetPeer(ctx context.Context, d mimi.ProviderDomain, change func(*PeerSettings)) error {
	return p.changePeer(ctx, d, func(row *store.Peer) error {
		k, err := knownPeer(*row)
		if err != nil {
			return err
		}
		change(&k.Settings)
		b, err := json.Marshal(k.Settings)
		row.Settings = string(b)
		return err
	})
}

// NotePeer keeps when a peer was last well and what was last wrong with it.
func (p *Provider) NotePeer(ctx context.Context, d mimi.ProviderDomain, contact, failedAt time.Time, failure string) error {
	return p.changePeer(ctx, d, func(row *store.Peer) error {
		if !contact.IsZero() {
			row.ContactMillis = max(row.ContactMillis, contact.UnixMilli())
		}
		if !failedAt.IsZero() && failedAt.UnixMilli() > row.FailureMillis {
			row.FailureMillis, row.Failure = failedAt.UnixMilli(), failure
		}
		return nil
	})
}

// PeerPolicy is what the operator said at run time of peers that the config says
// nothing of: "open", "allowlist", or empty for what the config says.
func (p *Provider) PeerPolicy(ctx context.Context) (policy string, err error) {
	err = p.cfg.Store.View(ctx, func(tx *store.Tx) error {
		b, err := tx.Meta("peers/policy")
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		policy = string(b)
		return err
	})
	return policy, err
}

// SetPeerPolicy changes PeerPolicy.
func (p *Provider) SetPeerPolicy(ctx context.Context, policy string) error {
	return p.cfg.Store.Update(ctx, func(tx *store.Tx) error { return tx.SetMeta("peers/policy", []byte(policy)) })
}

// PausePeer makes what the database says of the delivery to a peer hold at this
// node.
func (p *Provider) PausePeer(d mimi.ProviderDomain, paused bool) { p.delivery.Pause(d, paused) }

// restorePeers does again what the operator said before the last stop.
func (p *Provider) restorePeers(ctx context.Context) error {
	list, err := p.KnownPeers(ctx)
	for _, k := range list {
		if k.Settings.Paused {
			p.delivery.Pause(k.Domain, true)
		}
	}
	return err
}
