package federation

import (
	"context"
	"errors"
	"net/http"
	"net/url"

	"github.com/comity-im/comity/mimi"
)

// A RawRequest is a request to an endpoint of a peer that a checking tool makes
// wrong on purpose.
type RawRequest struct {
	Endpoint  string // its key in the directory
	Variables mimi.Variables
	Body      []byte
	// Anonymous shows no client certificate.
	Anonymous bool
	// Change may alter all of it before it is sent; nil for nothing.
	Change func(*http.Request)
}

// A RawAnswer is whatever came back.
type RawAnswer struct {
	Status int
	Header http.Header
	Body   []byte // at most 1 MiB of it
}

// Raw sends a request as it is and returns the answer as it is: a refusal is not
// an error, that no answer came is. No waits imposed by the peer are kept, and
// nothing is remembered of how it went.
func (c *Client) Raw(ctx context.Context, domain mimi.ProviderDomain, r RawRequest) (*RawAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	l, err := c.link(domain)
	if err != nil {
		return nil, err
	}
	req, err := c.request(ctx, l, http.MethodPost, r.Endpoint, r.Variables, r.Body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	if r.Change != nil {
		r.Change(req)
	}
	client := l.client
	if r.Anonymous {
		own := c.newLink(l.peer, l.trustGen, l.certGen)
		own.transport.TLSClientConfig.GetClientCertificate = nil
		defer own.transport.CloseIdleConnections()
		client = own.client
	}
	resp, err := client.Do(req)
	if err != nil {
		if ue := (*url.Error)(nil); errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, &PeerError{domain, r.Endpoint, stepOf(err), 0, &mimi.FailedError{Err: err}}
	}
	defer resp.Body.Close()
	body, err := readAnswer(resp, mib)
	if err != nil {
		return nil, &PeerError{domain, r.Endpoint, StepRequest, resp.StatusCode, &mimi.FailedError{Err: err}}
	}
	return &RawAnswer{resp.StatusCode, resp.Header, body}, nil
}
