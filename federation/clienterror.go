package federation

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/comity-im/comity/mimi"
)

// A Step is how far a request to a peer came before it failed.
type Step string

// The steps of a request, in order.
const (
	StepName        Step = "name"        // its name leads to no address, or to a private one
	StepTCP         Step = "tcp"         // nobody listens, or nothing comes back
	StepTLS         Step = "tls"         // the handshake failed
	StepCertificate Step = "certificate" // its certificate is not good
	StepDirectory   Step = "directory"   // it has no directory, or a broken one
	StepAnswer      Step = "answer"      // the answer broke off, was too long, or made no sense
	StepSlow        Step = "slow"        // it took too long
	StepRefused     Step = "refused"     // it answered, with a status of 300 or more
)

// A PeerError is a request to a peer that did not succeed. Err is what the
// spine knows: a *mimi.RefusedError or *mimi.MalformedError that the peer
// answered with, or a *mimi.FailedError if it failed or gave no usable answer.
type PeerError struct {
	Domain   mimi.ProviderDomain
	Endpoint string // directory key, or "directory"
	Step     Step   // how far the request came
	Status   int    // HTTP status, 0 if there was none
	Err      error
}

func (e *PeerError) Error() string {
	return fmt.Sprintf("federation: %s: %s: %s: %v", e.Domain, e.Endpoint, e.Step, e.Err)
}

// Unwrap returns the error of package mimi.
func (e *PeerError) Unwrap() error { return e.Err }

// Again reports whether a request that failed with err may succeed later
// unchanged, and how long the peer asked to wait, 0 if it didn't say.
func Again(err error) (wait time.Duration, again bool) {
	var (
		failed    *mimi.FailedError
		refused   *mimi.RefusedError
		malformed *mimi.MalformedError
	)
	switch {
	case err == nil, errors.As(err, &malformed):
		return 0, false
	case errors.As(err, &refused):
		return refused.RetryAfter, refused.Refusal == mimi.RefusedTooMany
	case errors.As(err, &failed):
		return failed.RetryAfter, true
	}
	return 0, true // blocked, not offered, cancelled: all of these can change
}

// A NotOfferedError is an endpoint that the peer's directory does not have.
type NotOfferedError struct {
	Domain   mimi.ProviderDomain
	Endpoint string
}

func (e *NotOfferedError) Error() string {
	return fmt.Sprintf("federation: %s does not offer %s", e.Domain, e.Endpoint)
}

// maxWait bounds how long a peer can keep us silent with Retry-After.
const maxWait = 30 * time.Minute

// waiting reports, as a *PeerError, that the peer asked not to be asked yet.
func (l *link) waiting(key string, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	w, ok := l.waits[key]
	if !ok {
		return nil
	}
	left := w.until.Sub(now)
	if left <= 0 {
		delete(l.waits, key)
		return nil
	}
	return &PeerError{l.peer.domain, key, StepRefused, w.status, mimi.ErrorFromStatus(w.status, left, "it asked us to wait")}
}

// wait is a peer's Retry-After.
type wait struct {
	status int
	until  time.Time
}

// unreachable makes a PeerError of what the HTTP client returned and
// notes it as the peer's health.
func (c *Client) unreachable(l *link, key string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err // our own doing says nothing of the peer
	}
	step := stepOf(err)
	if step != StepAnswer && step != StepSlow {
		l.expire(c.now()) // the endpoint may have moved
	}
	// The URL in the HTTP client's error would tell the log which room it was.
	for ue := (*url.Error)(nil); errors.As(err, &ue); {
		err = ue.Err
	}
	failure := &PeerError{l.peer.domain, key, step, 0, &mimi.FailedError{Err: err}}
	l.peer.failed(c.now(), failure)
	c.logger.Debug("peer not reached", "peer", l.peer.domain, "endpoint", key, "step", step, "error", err)
	return failure
}

func stepOf(err error) Step {
	var (
		certificate *CertificateError
		name        *net.DNSError
		operation   *net.OpError
		alert       tls.AlertError
		record      tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &certificate):
		return StepCertificate
	case errors.As(err, &name), errors.Is(err, errPrivateAddress):
		return StepName
	case errors.As(err, &alert), errors.As(err, &record):
		return StepTLS
	case errors.As(err, &operation) && operation.Op == "dial":
		return StepTCP
	case errors.As(err, &operation) && (operation.Op == "remote error" || operation.Op == "local error"):
		return StepTLS
	case strings.Contains(err.Error(), "TLS handshake"): // net/http has no type for it
		return StepTLS
	case errors.Is(err, context.DeadlineExceeded):
		return StepSlow
	}
	return StepAnswer
}

// refusedBy turns a status of 300 or more into an error.
func (c *Client) refusedBy(l *link, key string, resp *http.Response) error {
	after := min(parseRetryAfter(resp.Header.Get("Retry-After"), c.now()), maxWait)
	err := &PeerError{l.peer.domain, key, StepRefused, resp.StatusCode, mimi.ErrorFromStatus(resp.StatusCode, after, refusalText(resp))}
	if after > 0 && (resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500) {
		l.mu.Lock()
		l.waits[key] = wait{resp.StatusCode, c.now().Add(after)}
		l.mu.Unlock()
	}
	if resp.StatusCode == http.StatusMisdirectedRequest || resp.StatusCode == http.StatusGone {
		l.expire(c.now())
	}
	l.peer.failed(c.now(), err)
	return err
}

// parseRetryAfter reads seconds or a date (RFC 9110 §10.2.3); 0 if there is none.
func parseRetryAfter(s string, now time.Time) time.Duration {
	if n, err := strconv.ParseInt(s, 10, 32); err == nil && n > 0 {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil && t.After(now) {
		return t.Sub(now)
	}
	return 0
}

// refusalText returns the first line of a refusal's text, made safe to print.
func refusalText(resp *http.Response) string {
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		return ""
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 512))
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(line, ""))
}

// outcome is a value of the label "outcome" of the client's metrics.
func outcome(err error) string {
	var (
		failed  *PeerError
		blocked *BlockedError
		missing *NotOfferedError
	)
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &failed) && failed.Status != 0:
		return "status_" + strconv.Itoa(failed.Status)
	case errors.As(err, &failed):
		return string(failed.Step)
	case errors.As(err, &blocked):
		return "blocked"
	case errors.As(err, &missing):
		return "not_offered"
	}
	return "failed"
}
