package federation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/tlspl"
)

// A Reason is why the server refused a request: the value of the label "reason"
// of comity_federation_refusals_total and of the field "reason" in the log.
type Reason string

// The reasons for refusing a request, with the HTTP status that goes with each.
const (
	ReasonUnknownPath        Reason = "unknown_path"        // 404 no such endpoint
	ReasonMethod             Reason = "method"              // 405 with Allow
	ReasonHost               Reason = "host"                // 421 the Host is not ours
	ReasonFromMissing        Reason = "from_missing"        // 400 no From
	ReasonFromInvalid        Reason = "from_invalid"        // 400 From is not mimi@<domain>
	ReasonNoCertificate      Reason = "no_certificate"      // 403 no client certificate
	ReasonFromMismatch       Reason = "from_mismatch"       // 403 the certificate does not name the domain in From
	ReasonUntrusted          Reason = "untrusted"           // 403 the certificate names it but is not trusted
	ReasonBlocked            Reason = "blocked"             // 403 kill switch, deny or allow list
	ReasonRate               Reason = "rate"                // 429 the peer's rate
	ReasonPeerConcurrency    Reason = "peer_concurrency"    // 429 the peer's requests under way
	ReasonConcurrency        Reason = "concurrency"         // 429 the endpoint's requests under way
	ReasonPeerMemory         Reason = "peer_memory"         // 429 the peer's bodies in memory
	ReasonMemory             Reason = "memory"              // 503 all bodies in memory
	ReasonContentEncoding    Reason = "content_encoding"    // 415 a compressed body
	ReasonTooLarge           Reason = "too_large"           // 413
	ReasonSlowBody           Reason = "slow_body"           // 408
	ReasonBrokenBody         Reason = "broken_body"         // 400 the body ended early
	ReasonPathVariable       Reason = "path_variable"       // 400 the path holds no URI of the right kind
	ReasonMalformed          Reason = "malformed"           // 400 the body does not parse
	ReasonNotHosted          Reason = "not_hosted"          // 404 no such room or user here
	ReasonSource             Reason = "source"              // 403 the sender may not act for this URI
	ReasonThrottled          Reason = "throttled"           // 429 by the hub
	ReasonUnavailable        Reason = "unavailable"         // 503 by the hub, or it took too long
	ReasonFailed             Reason = "failed"              // 500
	ReasonAssetHost          Reason = "asset_host"          // 403 not an asset host of a peer
	ReasonAssetURL           Reason = "asset_url"           // 400 not an https URL that we fetch
	ReasonAssetUnreachable   Reason = "asset_unreachable"   // 502
	ReasonAssetTooLarge      Reason = "asset_too_large"     // 502
	ReasonUnsupportedRequest Reason = "unsupported_request" // 400 for instance two From fields
)

// refusalOf turns an error of the Hub or of decoding into an answer. The status
// is the one that mimi.HTTPStatus says, whose inverse the client applies.
func refusalOf(err error) *refusal {
	if asset := (*AssetError)(nil); errors.As(err, &asset) {
		return &refusal{status: assetStatus[asset.Reason], reason: asset.Reason, err: err, text: "the asset is not fetched"}
	}
	if r := (*refusal)(nil); errors.As(err, &r) {
		return r
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = &mimi.FailedError{RetryAfter: 5 * time.Second, Err: err}
	}
	status, retry := mimi.HTTPStatus(err)
	r := &refusal{status: status, retry: retry, err: err}
	if refused := (*mimi.RefusedError)(nil); errors.As(err, &refused) {
		r.text, r.err = cmp.Or(refused.Reason, refused.Refusal.String()), nil
	}
	switch status {
	case 400:
		r.reason, r.text, r.err = ReasonMalformed, malformedText(err), nil
	case 403:
		r.reason = ReasonSource
	case 404:
		r.reason = ReasonNotHosted
	case 413:
		r.reason = ReasonTooLarge
	case 429:
		r.reason = ReasonThrottled
	case 503:
		r.reason, r.text = ReasonUnavailable, "not available for the time being"
	default:
		r.reason, r.text = ReasonFailed, "internal error"
	}
	return r
}

// malformedText says where and in which field reading stopped.
func malformedText(err error) string {
	if syntax := (*tlspl.SyntaxError)(nil); errors.As(err, &syntax) {
		return fmt.Sprintf("the body does not parse at offset %d, field %q: %v", syntax.Offset, syntax.Field, syntax.Err)
	}
	if malformed := (*mimi.MalformedError)(nil); errors.As(err, &malformed) {
		return malformed.Err.Error()
	}
	return err.Error()
}

var assetStatus = map[Reason]int{
	ReasonAssetURL:         400,
	ReasonAssetHost:        403,
	ReasonAssetUnreachable: 502,
	ReasonAssetTooLarge:    502,
}

// A refusal is an answer with a status of 400 or more, and what goes with it.
type refusal struct {
	status int
	reason Reason
	text   string        // for the peer: one line, nothing that a stranger should not see
	err    error         // for the log; nil if the text says it all
	retry  time.Duration // Retry-After, if not zero
	allow  string        // Allow, for 405

	problem string // the type of a problem document (RFC 9457), in place of the text
}

func (r *refusal) Error() string {
	if r.err != nil {
		return r.text + ": " + r.err.Error()
	}
	return r.text
}

func (r *refusal) write(w http.ResponseWriter) {
	h, body := w.Header(), []byte(r.text+"\n")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if r.problem != "" {
		h.Set("Content-Type", "application/problem+json")
		body = fmt.Appendf(nil, "{\"type\": %q, \"title\": %q}\n", r.problem, r.text)
	}
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if r.retry > 0 {
		h.Set("Retry-After", retryAfter(r.retry))
	}
	if r.allow != "" {
		h.Set("Allow", r.allow)
	}
	w.WriteHeader(r.status)
	_, _ = w.Write(body) // the peer may have gone; it was logged already
}

// retryAfter is d in whole seconds, rounded up (RFC 9110 §10.2.3).
func retryAfter(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}
