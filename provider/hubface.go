package provider

import (
	"context"
	"fmt"
	"slices"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/store"
)

var _ mimi.Hub = (*Provider)(nil)

// KeyMaterial answers claims for our users, and as the hub of a room sends
// claims for others' users on to their providers (MIMI protocol §5.2).
func (p *Provider) KeyMaterial(ctx context.Context, from mimi.ProviderDomain, target mimi.UserURI, req *mimi.KeyMaterialRequest) (*mimi.KeyMaterialResponse, error) {
	p.contact(from)
	if req.RoomID == "" || req.RoomID.Host() != p.cfg.Domain || req.Protocol != mimi.MLS10 {
		return p.keys.Claim(ctx, from, target, req)
	}
	// Decision 13: the hub relays.
	if req.RequestingUser.Host() != from {
		return nil, &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: fmt.Sprintf("%s may not ask for %s", from, req.RequestingUser)}
	}
	return p.hub.KeyMaterial(ctx, target, req)
}

// keyMaterialOf asks a user's provider, which may be us, as the hub.
func (p *Provider) keyMaterialOf(ctx context.Context, target mimi.UserURI, req *mimi.KeyMaterialRequest) (*mimi.KeyMaterialResponse, error) {
	if target.Host() == p.cfg.Domain {
		return p.keys.Claim(ctx, p.cfg.Domain, target, req)
	}
	return p.cfg.Peers.Peer(target.Host()).KeyMaterial(ctx, p.cfg.Domain, target, req)
}

// Update changes a room that is hosted here (MIMI protocol §5.3).
func (p *Provider) Update(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, req *mimi.UpdateRequest) (*mimi.UpdateRoomResponse, error) {
	p.contact(from)
	return p.hub.Update(ctx, from, room, req)
}

// SubmitMessage takes a message to a room that is hosted here (MIMI protocol
// §5.4).
func (p *Provider) SubmitMessage(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, req *mimi.SubmitMessageRequest) (*mimi.SubmitMessageResponse, error) {
	p.contact(from)
	return p.hub.SubmitMessage(ctx, from, room, req)
}

// Notify takes events of a room that is hosted elsewhere (MIMI protocol §5.5).
func (p *Provider) Notify(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, req *mimi.NotifyRequest) error {
	p.contact(from)
	return p.follower.Notify(ctx, from, room, req)
}

// GroupInfo tells those who may join a room that is hosted here how (MIMI
// protocol §5.6).
func (p *Provider) GroupInfo(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, req *mimi.GroupInfoRequest) (*mimi.GroupInfoResponse, error) {
	p.contact(from)
	return p.hub.GroupInfo(ctx, from, room, req)
}

// RequestConsent takes a request for consent, or its cancellation (MIMI
// protocol §5.7).
func (p *Provider) RequestConsent(ctx context.Context, from mimi.ProviderDomain, entry *mimi.ConsentEntry) error {
	p.contact(from)
	return p.consents.Requested(ctx, from, entry)
}

// UpdateConsent takes a grant or revocation (MIMI protocol §5.7).
func (p *Provider) UpdateConsent(ctx context.Context, from mimi.ProviderDomain, entry *mimi.ConsentEntry) error {
	p.contact(from)
	return p.consents.Decided(ctx, from, entry)
}

// IdentifierQuery looks for users (MIMI protocol §5.8).
func (p *Provider) IdentifierQuery(ctx context.Context, from, domain mimi.ProviderDomain, req *mimi.IdentifierRequest) (*mimi.IdentifierResponse, error) {
	p.contact(from)
	return p.discovery.Query(ctx, from, domain, req)
}

// ReportAbuse takes a report about a room that is hosted here (MIMI protocol
// §5.9).
func (p *Provider) ReportAbuse(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, report *mimi.AbuseReport) error {
	p.contact(from)
	return p.abuse.Report(ctx, from, room, report)
}

// ProxyDownload fetches an asset for a follower (MIMI protocol §5.10.2).
func (p *Provider) ProxyDownload(ctx context.Context, from mimi.ProviderDomain, req *mimi.DownloadRequest) (*mimi.Download, error) {
	p.contact(from)
	if p.cfg.Proxy == nil {
		return nil, &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: "this provider downloads nothing for others"}
	}
	return p.cfg.Proxy(ctx, from, req)
}

// contact notes that a peer was heard of: what waits for it is tried at once.
func (p *Provider) contact(from mimi.ProviderDomain) {
	if from != p.cfg.Domain {
		p.delivery.Contact(from)
	}
}

// leftRooms takes clients that are gone out of their rooms: the hub proposes it
// for rooms that are hosted here. For others the hub learns it from a member.
func (p *Provider) leftRooms(ctx context.Context, user mimi.UserURI, client mimi.ClientURI, rooms []store.Membership) error {
	done := []mimi.RoomURI{}
	for _, m := range rooms {
		uri := mimi.RoomURI(m.RoomURI)
		if uri.Host() != p.cfg.Domain || slices.Contains(done, uri) {
			continue
		}
		done = append(done, uri)
		var err error
		if client == "" {
			err = p.hub.RemoveUser(ctx, uri, user)
		} else {
			err = p.hub.RemoveClient(ctx, uri, user, client)
		}
		if err != nil {
			p.cfg.Logger.Warn("can't take a client that is gone out of a room", "room", string(uri), "user", string(user), "client", string(client), "error", err)
		}
	}
	return nil
}
