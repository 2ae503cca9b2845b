package federation

import (
	"context"
	"net/http"
	"time"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
)

// issuersKey is the directory key of the issuers' document.
const issuersKey = "comityIssuers"

// Issuers fetches the document with a peer's credential issuers
// (docs/design/identity.md) for identity.ParseIssuers, and says how long it may
// be kept. A peer without one is a *NotOfferedError.
func (c *Client) Issuers(ctx context.Context, domain mimi.ProviderDomain) (document []byte, age time.Duration, err error) {
	started := c.now()
	document, age, err = c.fetchIssuers(ctx, domain)
	c.metrics.seconds.WithLabelValues(issuersKey).Observe(c.now().Sub(started).Seconds())
	c.metrics.requested(issuersKey, domain, err)
	return document, age, err
}

func (c *Client) fetchIssuers(ctx context.Context, domain mimi.ProviderDomain) ([]byte, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	l, err := c.link(domain)
	if err != nil {
		return nil, 0, err
	}
	if err := l.waiting(issuersKey, c.now()); err != nil {
		return nil, 0, err
	}
	req, err := c.request(ctx, l, http.MethodGet, issuersKey, mimi.Variables{Domain: domain, TargetDomain: domain}, nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := l.client.Do(req)
	if err != nil {
		return nil, 0, c.unreachable(l, issuersKey, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, 0, c.refusedBy(l, issuersKey, resp)
	}
	document, err := readAnswer(resp, identity.MaxIssuersSize)
	if err != nil {
		return nil, 0, c.unreachable(l, issuersKey, err)
	}
	l.peer.reached(c.now())
	return document, cacheAge(resp.Header), nil
}
