package federation

import (
	"context"
	"fmt"
	"net/http"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/tlspl"
)

// Peer returns the provider of a domain as a mimi.Hub that is reached over HTTPS.
// It costs nothing and can't fail; what is wrong with the peer shows in each
// call, as a *PeerError, *BlockedError or *NotOfferedError. The argument from of
// its methods must be our own domain.
func (c *Client) Peer(domain mimi.ProviderDomain) mimi.Hub { return &peerHub{c, domain} }

type peerHub struct {
	client *Client
	domain mimi.ProviderDomain
}

// call encodes a request, sends it, and decodes the answer into resp unless nil.
func (h *peerHub) call(ctx context.Context, from mimi.ProviderDomain, key string, v mimi.Variables, req, resp tlspl.Coder) error {
	if own := h.client.cfg.Certificate.Domain(); from != own {
		return fmt.Errorf("federation: %s can't send for %s", own, from)
	}
	body, err := tlspl.Marshal(req)
	if err != nil {
		return fmt.Errorf("federation: %s: request not encoded: %w", key, err)
	}
	v.TargetDomain, v.Domain, v.RequesterDomain = h.domain, h.domain, from
	answer, err := h.client.post(ctx, h.domain, key, v, body)
	if err != nil || resp == nil {
		return err
	}
	if err := tlspl.Unmarshal(answer, resp); err != nil {
		// Garbage from a peer is its failure, not a malformed request of ours.
		return h.garbage(key, err)
	}
	return nil
}

func (h *peerHub) garbage(key string, err error) error {
	failure := &PeerError{h.domain, key, StepAnswer, 0, &mimi.FailedError{Err: fmt.Errorf("the answer makes no sense: %v", err)}}
	if n, known := h.client.cfg.Peers.find(h.domain); known {
		n.failed(h.client.now(), failure)
	}
	return failure
}

func (h *peerHub) KeyMaterial(ctx context.Context, from mimi.ProviderDomain, target mimi.UserURI, req *mimi.KeyMaterialRequest) (*mimi.KeyMaterialResponse, error) {
	resp := new(mimi.KeyMaterialResponse)
	v := mimi.Variables{TargetUser: target, RequesterUser: req.RequestingUser, RoomID: req.RoomID}
	if err := h.call(ctx, from, "keyMaterial", v, req, resp); err != nil {
		return nil, err
	}
	if resp.UserURI != target {
		return nil, h.garbage("keyMaterial", fmt.Errorf("it is for %s, not for %s", resp.UserURI, target))
	}
	for _, k := range resp.Clients {
		if k.ClientURI.Host() != target.Host() {
			return nil, h.garbage("keyMaterial", fmt.Errorf("it lists %s, a client of another provider", k.ClientURI))
		}
	}
	return resp, nil
}

func (h *peerHub) Update(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, req *mimi.UpdateRequest) (*mimi.UpdateRoomResponse, error) {
	resp := new(mimi.UpdateRoomResponse)
	if err := h.call(ctx, from, "update", mimi.Variables{RoomID: room}, req, resp); err != nil {
		return nil, err
	}
	return resp, nil
}

func (h *peerHub) SubmitMessage(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, req *mimi.SubmitMessageRequest) (*mimi.SubmitMessageResponse, error) {
	resp := new(mimi.SubmitMessageResponse)
	if err := h.call(ctx, from, "submitMessage", mimi.Variables{RoomID: room}, req, resp); err != nil {
		return nil, err
	}
	return resp, nil
}

func (h *peerHub) Notify(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, req *mimi.NotifyRequest) error {
	return h.call(ctx, from, "notify", mimi.Variables{RoomID: room}, req, nil)
}

func (h *peerHub) GroupInfo(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, req *mimi.GroupInfoRequest) (*mimi.GroupInfoResponse, error) {
	resp := new(mimi.GroupInfoResponse)
	if err := h.call(ctx, from, "groupInfo", mimi.Variables{RoomID: room}, req, resp); err != nil {
		return nil, err
	}
	if resp.RoomID != room { // Decision 62
		return nil, h.garbage("groupInfo", fmt.Errorf("it is for %s, not for %s", resp.RoomID, room))
	}
	return resp, nil
}

func (h *peerHub) RequestConsent(ctx context.Context, from mimi.ProviderDomain, entry *mimi.ConsentEntry) error {
	return h.call(ctx, from, "requestConsent", consentVariables(entry), entry, nil)
}

func (h *peerHub) UpdateConsent(ctx context.Context, from mimi.ProviderDomain, entry *mimi.ConsentEntry) error {
	return h.call(ctx, from, "updateConsent", consentVariables(entry), entry, nil)
}

func consentVariables(entry *mimi.ConsentEntry) mimi.Variables {
	return mimi.Variables{TargetUser: entry.ConsentScope.TargetURI, RequesterUser: entry.ConsentScope.RequesterURI, RoomID: entry.ConsentScope.RoomID}
}

func (h *peerHub) IdentifierQuery(ctx context.Context, from, domain mimi.ProviderDomain, req *mimi.IdentifierRequest) (*mimi.IdentifierResponse, error) {
	if domain != h.domain {
		return nil, fmt.Errorf("federation: %s is not asked about users of %s", h.domain, domain)
	}
	resp := new(mimi.IdentifierResponse)
	if err := h.call(ctx, from, "identifierQuery", mimi.Variables{}, req, resp); err != nil {
		return nil, err
	}
	for _, u := range resp.URI {
		if u.Host() != domain {
			return nil, h.garbage("identifierQuery", fmt.Errorf("it names %s, a user of another provider", u))
		}
	}
	return resp, nil
}

func (h *peerHub) ReportAbuse(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, report *mimi.AbuseReport) error {
	return h.call(ctx, from, "reportAbuse", mimi.Variables{RoomID: room}, report, nil)
}

func (h *peerHub) Gone(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, notice *mimi.GoneNotice) error {
	return h.call(ctx, from, mimi.GoneKey, mimi.Variables{RoomID: room}, notice, nil)
}

// ProxyDownload asks the peer to fetch an asset. The download ends with ctx,
// also while its Body is read.
func (h *peerHub) ProxyDownload(ctx context.Context, from mimi.ProviderDomain, req *mimi.DownloadRequest) (*mimi.Download, error) {
	d, err := h.download(ctx, from, req)
	h.client.metrics.requested("proxyDownload", h.domain, err)
	return d, err
}

func (h *peerHub) download(ctx context.Context, from mimi.ProviderDomain, req *mimi.DownloadRequest) (*mimi.Download, error) {
	const key = "proxyDownload"
	c := h.client
	if own := c.cfg.Certificate.Domain(); from != own {
		return nil, fmt.Errorf("federation: %s can't send for %s", own, from)
	}
	l, err := c.link(h.domain)
	if err != nil {
		return nil, err
	}
	if err := l.waiting(key, c.now()); err != nil {
		return nil, err
	}
	v := mimi.Variables{DownloadURL: req.URL, Domain: h.domain, TargetDomain: h.domain, RequesterDomain: from}
	r, err := c.request(ctx, l, http.MethodGet, key, v, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept-Encoding", "identity")
	if req.Range != "" {
		r.Header.Set("Range", req.Range)
	}
	if req.IfNoneMatch != "" {
		r.Header.Set("If-None-Match", req.IfNoneMatch)
	}
	resp, err := l.client.Do(r)
	if err != nil {
		return nil, c.unreachable(l, key, err)
	}
	// Whether a refusal is the hub's or the asset host's can't be told; those that
	// an asset host gives in the course of things are answers.
	switch resp.StatusCode {
	case http.StatusOK, http.StatusPartialContent, http.StatusNotModified, http.StatusNotFound, http.StatusGone, http.StatusRequestedRangeNotSatisfiable:
	default:
		defer resp.Body.Close()
		return nil, c.refusedBy(l, key, resp)
	}
	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		resp.Body.Close()
		return nil, c.unreachable(l, key, errAnswerEncoding)
	}
	l.peer.reached(c.now())
	return &mimi.Download{
		Status:        resp.StatusCode,
		ContentLength: resp.ContentLength,
		ContentRange:  resp.Header.Get("Content-Range"),
		ETag:          resp.Header.Get("ETag"),
		Body:          resp.Body,
	}, nil
}
