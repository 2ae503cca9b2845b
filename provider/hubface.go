package provider

import (
	"context"
	"errors"
	"fmt"

	"github.com/comity-im/comity/mimi"
)

var _ mimi.Hub = (*Provider)(nil)

// heard notes that a peer was heard of: what waits for it is tried at once.
func (p *Provider) heard(from mimi.ProviderDomain) {
	if from != p.cfg.Domain {
		p.delivery.Contact(from)
	}
}

// answered logs and counts a request that was not granted: an error, or a code
// other than success in the response. It returns err.
func (p *Provider) answered(endpoint string, from mimi.ProviderDomain, about string, code string, err error) error {
	var refused *mimi.RefusedError
	var malformed *mimi.MalformedError
	switch {
	case err == nil && code == "":
		return nil
	case err == nil:
		p.cfg.Metrics.refused(endpoint, from, code)
		p.cfg.Logger.Info("refused", "endpoint", endpoint, "from", string(from), "about", about, "code", code)
		return nil
	case errors.As(err, &refused):
		code = refused.Refusal.String()
	case errors.As(err, &malformed):
		code = "malformed"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	default:
		p.cfg.Metrics.refused(endpoint, from, "failed")
		p.cfg.Logger.Error("request failed", "endpoint", endpoint, "from", string(from), "about", about, "error", err)
		return err
	}
	p.cfg.Metrics.refused(endpoint, from, code)
	p.cfg.Logger.Info("refused", "endpoint", endpoint, "from", string(from), "about", about, "code", code, "reason", err.Error())
	return err
}

// KeyMaterial answers claims for our users, and as the hub of a room sends
// claims for others' users on to their providers (MIMI protocol §5.2).
func (p *Provider) KeyMaterial(ctx context.Context, from mimi.ProviderDomain, target mimi.UserURI, req *mimi.KeyMaterialRequest) (*mimi.KeyMaterialResponse, error) {
	p.heard(from)
	resp, err := p.claim(ctx, from, target, req)
	code := ""
	if resp != nil && resp.UserStatus != mimi.KeyMaterialSuccess {
		code = resp.UserStatus.String()
	}
	return resp, p.answered("keyMaterial", from, string(target), code, err)
}

func (p *Provider) claim(ctx context.Context, from mimi.ProviderDomain, target mimi.UserURI, req *mimi.KeyMaterialRequest) (*mimi.KeyMaterialResponse, error) {
	if req.Protocol != mimi.MLS10 && target.Host() != p.cfg.Domain {
		// What it says beyond that can't be read, so that it can't be passed on.
		return &mimi.KeyMaterialResponse{Protocol: mimi.MLS10, UserStatus: mimi.KeyMaterialIncompatibleProtocol, UserURI: target}, nil
	}
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
	p.heard(from)
	resp, err := p.hub.Update(ctx, from, room, req) // tells of other codes itself
	return resp, p.answered("update", from, string(room), "", err)
}

// SubmitMessage takes a message to a room that is hosted here (MIMI protocol
// §5.4).
func (p *Provider) SubmitMessage(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, req *mimi.SubmitMessageRequest) (*mimi.SubmitMessageResponse, error) {
	p.heard(from)
	resp, err := p.hub.SubmitMessage(ctx, from, room, req) // tells of other codes itself
	return resp, p.answered("submitMessage", from, string(room), "", err)
}

// Notify takes events of a room that is hosted elsewhere (MIMI protocol §5.5).
func (p *Provider) Notify(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, req *mimi.NotifyRequest) error {
	p.heard(from)
	return p.answered("notify", from, string(room), "", p.follower.Notify(ctx, from, room, req))
}

// GroupInfo tells those who may join a room that is hosted here how (MIMI
// protocol §5.6).
func (p *Provider) GroupInfo(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, req *mimi.GroupInfoRequest) (*mimi.GroupInfoResponse, error) {
	p.heard(from)
	resp, err := p.hub.GroupInfo(ctx, from, room, req) // tells of other codes itself
	return resp, p.answered("groupInfo", from, string(room), "", err)
}

// RequestConsent takes a request for consent, or its cancellation (MIMI
// protocol §5.7).
func (p *Provider) RequestConsent(ctx context.Context, from mimi.ProviderDomain, entry *mimi.ConsentEntry) error {
	p.heard(from)
	return p.answered("requestConsent", from, string(entry.ConsentScope.TargetURI), "", p.consents.Requested(ctx, from, entry))
}

// UpdateConsent takes a grant or revocation (MIMI protocol §5.7).
func (p *Provider) UpdateConsent(ctx context.Context, from mimi.ProviderDomain, entry *mimi.ConsentEntry) error {
	p.heard(from)
	return p.answered("updateConsent", from, string(entry.ConsentScope.RequesterURI), "", p.consents.Decided(ctx, from, entry))
}

// IdentifierQuery looks for users (MIMI protocol §5.8).
func (p *Provider) IdentifierQuery(ctx context.Context, from, domain mimi.ProviderDomain, req *mimi.IdentifierRequest) (*mimi.IdentifierResponse, error) {
	p.heard(from)
	resp, err := p.discovery.Query(ctx, from, domain, req)
	code := ""
	if resp != nil && resp.ResponseCode != mimi.QuerySuccess && resp.ResponseCode != mimi.QueryNotFound {
		code = resp.ResponseCode.String()
	}
	return resp, p.answered("identifierQuery", from, string(domain), code, err)
}

// ReportAbuse takes a report about a room that is hosted here (MIMI protocol
// §5.9).
func (p *Provider) ReportAbuse(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, report *mimi.AbuseReport) error {
	p.heard(from)
	return p.answered("reportAbuse", from, string(room), "", p.abuse.Report(ctx, from, room, report))
}

// Gone takes a provider's notice that a user or clients of its are gone.
func (p *Provider) Gone(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, notice *mimi.GoneNotice) error {
	p.heard(from)
	return p.answered(mimi.GoneKey, from, string(room), "", p.hub.Gone(ctx, from, room, notice))
}

// ProxyDownload fetches an asset for a follower (MIMI protocol §5.10.2).
func (p *Provider) ProxyDownload(ctx context.Context, from mimi.ProviderDomain, req *mimi.DownloadRequest) (*mimi.Download, error) {
	p.heard(from)
	if p.cfg.Proxy == nil {
		return nil, p.answered("proxyDownload", from, "", "", &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: "this provider downloads nothing for others"})
	}
	d, err := p.cfg.Proxy(ctx, from, req)
	return d, p.answered("proxyDownload", from, "", "", err)
}
