package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/content"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/ohttp"
)

// A File is what a message attaches.
type File struct {
	Name        string
	ContentType string
	Description string
	Data        []byte
	// Render says that it is to be shown with the message, not only offered.
	Render bool
}

// SendFile encrypts a file, uploads it to the user's provider, and sends a
// message that points to it (MIMI protocol §5.10).
func (c *Client) SendFile(ctx context.Context, uri mimi.RoomURI, f File) (content.MessageID, error) {
	var id content.MessageID
	info, err := c.Info(ctx)
	if err != nil {
		return id, err
	}
	part := content.ExternalPart{ContentType: f.ContentType, Filename: f.Name, Description: f.Description}
	sealed, err := part.Seal(c.rand, content.AEADAES128GCM, f.Data)
	if err != nil {
		return id, err
	}
	if int64(len(sealed)) > info.MaxAsset {
		return id, fmt.Errorf("client: the file has %d octets; %s takes %d", len(f.Data), info.Domain, info.MaxAsset)
	}
	// Ask the room's rules before anything is uploaded: the host is known already.
	host := string(info.Domain)
	if len(info.AssetDomains) > 0 {
		host = info.AssetDomains[0]
	}
	part.URL = "https://" + host + "/"
	m, err := c.attach(uri, part, f.Render)
	if err != nil {
		return id, err
	}
	if err := c.allowed(ctx, uri, m); err != nil {
		return id, err
	}
	asset, err := c.provider.UploadAsset(ctx, "application/octet-stream", int64(len(sealed)), bytes.NewReader(sealed))
	if err != nil {
		return id, err
	}
	part.URL = asset.URL
	if m, err = c.attach(uri, part, f.Render); err != nil {
		return id, err
	}
	return c.SendContent(ctx, uri, m)
}

func (c *Client) attach(uri mimi.RoomURI, part content.ExternalPart, render bool) (*content.Content, error) {
	m, err := c.Composer(uri).Attach(part)
	if err == nil && render {
		m.NestedPart.Disposition = content.Render
	}
	return m, err
}

// allowed says whether the room's rules let this user send a message.
func (c *Client) allowed(ctx context.Context, uri mimi.RoomURI, m *content.Content) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, g, err := c.member(ctx, uri)
	if err != nil {
		return err
	}
	msg := &content.Message{SenderURI: string(c.self.user), RoomURI: string(uri), AcceptedMillis: uint64(c.cfg.Now().UnixMilli()), Content: m}
	if d := policy.JudgeContent(g.View().ContentPolicy(), g.Role(), describe(msg, nil)); d != nil {
		return d
	}
	return nil
}

// A Route is a way to download.
type Route string

// The routes. Through the hub, the file's host does not learn who downloads;
// over OHTTP the user's provider does not learn what, either (MIMI protocol
// §5.10.2, §5.10.3).
const (
	ByPolicy Route = "" // what the room's policy says
	Proxy    Route = "proxy"
	OHTTP    Route = "ohttp"
	Direct   Route = "direct"
)

// Fetch downloads what a message points to, in its part of the given index, and
// decrypts it. direct fetches a URL over HTTPS, where the room's policy allows
// that; it may be nil.
func (c *Client) Fetch(ctx context.Context, uri mimi.RoomURI, id content.MessageID, index int, by Route, direct func(ctx context.Context, url string) (io.ReadCloser, error)) (*content.ExternalPart, []byte, error) {
	part, err := c.external(ctx, uri, id, index)
	if err != nil {
		return nil, nil, err
	}
	if err := part.Check(); err != nil {
		return part, nil, err
	}
	route, err := c.route(ctx, uri, by)
	if err != nil {
		return part, nil, err
	}
	info, err := c.Info(ctx)
	if err != nil {
		return part, nil, err
	}
	limit := max(info.MaxAsset, 1<<20) * 4
	if part.Size > uint64(limit) {
		return part, nil, fmt.Errorf("client: the file has %d octets, more than this device downloads (%d)", part.Size, limit)
	}
	var octets []byte
	switch {
	case route == OHTTP:
		octets, err = c.oblivious(ctx, uri.Host(), part.URL)
	case route == Direct && direct != nil:
		octets, err = readAll(limit)(direct(ctx, part.URL))
	default:
		octets, err = readAll(limit)(c.provider.DownloadAsset(ctx, uri, part.URL, clientapi.Range{}))
	}
	if err != nil {
		return part, nil, err
	}
	data, err := part.Open(octets)
	return part, data, err
}

// external is the part of a message, in its version shown, that points somewhere.
func (c *Client) external(ctx context.Context, uri mimi.RoomURI, id content.MessageID, index int) (*content.ExternalPart, error) {
	e, err := c.entry(ctx, uri, id)
	if err != nil {
		return nil, err
	}
	var found *content.ExternalPart
	if e.Body != nil {
		e.Body.Walk(func(i int, p *content.NestedPart) bool {
			x, ok := p.Part.(*content.ExternalPart)
			if ok && (i == index || index < 0) {
				found = x
			}
			return found == nil
		})
	}
	if found == nil {
		return nil, fmt.Errorf("client: message %s has no file", id)
	}
	return found, nil
}

// route decides how to download, within what the room's policy allows.
func (c *Client) route(ctx context.Context, uri mimi.RoomURI, by Route) (Route, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, g, err := c.member(ctx, uri)
	if err != nil {
		return "", err
	}
	p := g.View().Components().Assets
	if p == nil {
		if by == Direct {
			return "", errors.New("client: the room's policy does not speak of downloads; they go through the hub")
		}
		if by == ByPolicy {
			by = Proxy
		}
		return by, nil
	}
	d := &p.DownloadPrivacy
	kinds := map[Route]mimi.DownloadPrivacyType{Direct: mimi.DownloadDirect, Proxy: mimi.DownloadHubProxy, OHTTP: mimi.DownloadOHTTP}
	if by == ByPolicy {
		for route, kind := range kinds {
			if kind == d.DefaultDownloadType {
				return route, nil
			}
		}
	}
	kind, ok := kinds[by]
	if !ok || slices.Contains(d.ForbiddenDownloadTypes, kind) || len(d.AllowedDownloadTypes) > 0 && !slices.Contains(d.AllowedDownloadTypes, kind) {
		return "", fmt.Errorf("client: the room's policy does not allow to download by %q", string(by))
	}
	return by, nil
}

// obliviousPad hides how long a URL is.
const obliviousPad = 256

// oblivious downloads through the OHTTP gateway of a hub, with the user's own
// provider as the relay. Decision 78
func (c *Client) oblivious(ctx context.Context, hub mimi.ProviderDomain, target string) ([]byte, error) {
	keys, err := c.provider.GatewayKeys(ctx, hub)
	if err != nil {
		return nil, err
	}
	config, err := ohttp.ParseKeys(keys)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "https" {
		return nil, fmt.Errorf("client: %q is no https URL", target)
	}
	q := ohttp.Request{Method: "GET", Scheme: u.Scheme, Authority: u.Host, Path: u.RequestURI()}
	message, exchange, err := config.Encapsulate(q.Marshal(obliviousPad))
	if err != nil {
		return nil, err
	}
	answer, err := c.provider.Relay(ctx, hub, message)
	if err != nil {
		return nil, err
	}
	plain, err := exchange.Open(answer)
	if err != nil {
		return nil, err
	}
	resp, err := ohttp.UnmarshalResponse(plain)
	if err != nil {
		return nil, err
	}
	if resp.Status != 200 {
		return nil, fmt.Errorf("client: the file's host answered %d", resp.Status)
	}
	return resp.Content, nil
}

func readAll(limit int64) func(io.ReadCloser, error) ([]byte, error) {
	return func(body io.ReadCloser, err error) ([]byte, error) {
		if err != nil {
			return nil, err
		}
		defer body.Close()
		b, err := io.ReadAll(io.LimitReader(body, limit+1))
		if err == nil && int64(len(b)) > limit {
			err = fmt.Errorf("client: the file has more than %d octets", limit)
		}
		return b, err
	}
}
