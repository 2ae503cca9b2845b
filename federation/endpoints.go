package federation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/tlspl"
)

// call is a request whose sender is known.
type call struct {
	from, own mimi.ProviderDomain
	// One of these is what the path names.
	room     mimi.RoomURI
	user     mimi.UserURI
	domain   mimi.ProviderDomain
	download string

	body []byte
}

// handler is how one endpoint of MIMI protocol §5 is served.
type handler struct {
	key    string // in the directory
	method string
	status int // of success. Decision 7
	// path reads the path's variable into the call and checks that it concerns
	// this provider.
	path func(*call, map[string]string) *refusal
	// serve decodes, asks the hub, and encodes; nil for proxyDownload, which has no
	// bodies of that kind.
	serve func(context.Context, mimi.Hub, *call) ([]byte, error)
}

// handlers are all endpoints in the order of the directory.
var handlers = []handler{
	{"keyMaterial", http.MethodPost, 200, anyTarget, serveKeyMaterial},
	{"update", http.MethodPost, 200, ownRoom, serveUpdate},
	{"notify", http.MethodPost, 201, peerRoom, serveNotify},
	{"submitMessage", http.MethodPost, 200, ownRoom, serveSubmitMessage},
	{"groupInfo", http.MethodPost, 200, ownRoom, serveGroupInfo},
	{"requestConsent", http.MethodPost, 201, targetUser, serveRequestConsent},
	{"updateConsent", http.MethodPost, 201, requesterUser, serveUpdateConsent},
	{"identifierQuery", http.MethodPost, 200, ownDomain, serveIdentifierQuery},
	{"reportAbuse", http.MethodPost, 201, ownRoom, serveReportAbuse},
	{mimi.GoneKey, http.MethodPost, 201, ownRoom, serveGone},
	{"proxyDownload", http.MethodGet, 200, downloadURL, nil},
}

func badPath(err error) *refusal {
	return &refusal{status: 400, reason: ReasonPathVariable, text: "path: " + err.Error()}
}

func notHosted(domain, own mimi.ProviderDomain) *refusal {
	return &refusal{status: 404, reason: ReasonNotHosted, text: fmt.Sprintf("this is %s, not %s", own, domain)}
}

// ownRoom is a room that this provider must be the hub of.
func ownRoom(c *call, values map[string]string) *refusal {
	var err error
	if c.room, err = mimi.ParseRoomURI(values["roomId"]); err != nil {
		return badPath(err)
	}
	if c.room.Host() != c.own {
		return notHosted(c.room.Host(), c.own)
	}
	return nil
}

// peerRoom is a room that the sender must be the hub of (Decision 58).
func peerRoom(c *call, values map[string]string) *refusal {
	var err error
	if c.room, err = mimi.ParseRoomURI(values["roomId"]); err != nil {
		return badPath(err)
	}
	if c.room.Host() != c.from {
		return &refusal{status: 403, reason: ReasonSource, text: fmt.Sprintf("%s is not the hub of a room of %s", c.from, c.room.Host())}
	}
	return nil
}

func targetUser(c *call, values map[string]string) *refusal { return ownUser(c, values["targetUser"]) }

// anyTarget is a user of any provider: a room's hub is asked for others' users
// too. The body says whether it is (Decision 13).
func anyTarget(c *call, values map[string]string) *refusal {
	var err error
	if c.user, err = mimi.ParseUserURI(values["targetUser"]); err != nil {
		return badPath(err)
	}
	return nil
}

func requesterUser(c *call, values map[string]string) *refusal {
	return ownUser(c, values["requesterUser"])
}

func ownUser(c *call, value string) *refusal {
	var err error
	if c.user, err = mimi.ParseUserURI(value); err != nil {
		return badPath(err)
	}
	if c.user.Host() != c.own {
		return notHosted(c.user.Host(), c.own)
	}
	return nil
}

func ownDomain(c *call, values map[string]string) *refusal {
	var err error
	if c.domain, err = mimi.ParseProviderDomain(values["domain"]); err != nil {
		return badPath(err)
	}
	if c.domain != c.own {
		return notHosted(c.domain, c.own)
	}
	return nil
}

func noVariable(*call, map[string]string) *refusal { return nil }

func downloadURL(c *call, values map[string]string) *refusal {
	c.download = values["downloadUrl"]
	return nil
}

// mayActFor checks that the sender is the provider of the URI that acts in the
// body (Decision 6).
func (c *call) mayActFor(acting mimi.ProviderDomain) error {
	if acting == c.from {
		return nil
	}
	return &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: fmt.Sprintf("%s may not act for %s", c.from, acting)}
}

// pathAgrees checks that the body concerns whom the path named.
func (c *call) pathAgrees(user mimi.UserURI) error {
	if user == c.user {
		return nil
	}
	return &mimi.MalformedError{Err: errors.New("the path and the body name different users")}
}

func unmarshal(c *call, v tlspl.Coder) error {
	if err := tlspl.Unmarshal(c.body, v); err != nil {
		return &mimi.MalformedError{Err: err}
	}
	return nil
}

// marshal encodes the hub's answer. That it can't be encoded is our failure, not
// the peer's, whatever kind of error it is.
func marshal(v tlspl.Coder, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	b, err := tlspl.Marshal(v)
	if err != nil {
		return nil, &mimi.FailedError{Err: errors.New("answer not encoded: " + err.Error())}
	}
	return b, nil
}

func serveKeyMaterial(ctx context.Context, hub mimi.Hub, c *call) ([]byte, error) {
	req := new(mimi.KeyMaterialRequest)
	if err := unmarshal(c, req); err != nil {
		return nil, err
	}
	if err := c.pathAgrees(req.TargetUser); err != nil {
		return nil, err
	}
	if c.user.Host() != c.own && (req.RoomID == "" || req.RoomID.Host() != c.own) {
		r := notHosted(c.user.Host(), c.own)
		return nil, &mimi.RefusedError{Refusal: mimi.RefusedNotFound, Reason: r.text}
	}
	// From the requester's provider, or from the hub that relays (Decision 13).
	if req.RoomID == "" || req.RoomID.Host() != c.from {
		if err := c.mayActFor(req.RequestingUser.Host()); err != nil {
			return nil, err
		}
	}
	resp, err := hub.KeyMaterial(ctx, c.from, c.user, req)
	return marshal(resp, err)
}

func serveUpdate(ctx context.Context, hub mimi.Hub, c *call) ([]byte, error) {
	req := new(mimi.UpdateRequest)
	if err := unmarshal(c, req); err != nil {
		return nil, err
	}
	resp, err := hub.Update(ctx, c.from, c.room, req)
	return marshal(resp, err)
}

func serveNotify(ctx context.Context, hub mimi.Hub, c *call) ([]byte, error) {
	req := new(mimi.NotifyRequest)
	if err := unmarshal(c, req); err != nil {
		return nil, err
	}
	return nil, hub.Notify(ctx, c.from, c.room, req)
}

func serveSubmitMessage(ctx context.Context, hub mimi.Hub, c *call) ([]byte, error) {
	req := new(mimi.SubmitMessageRequest)
	if err := unmarshal(c, req); err != nil {
		return nil, err
	}
	resp, err := hub.SubmitMessage(ctx, c.from, c.room, req)
	return marshal(resp, err)
}

func serveGroupInfo(ctx context.Context, hub mimi.Hub, c *call) ([]byte, error) {
	req := new(mimi.GroupInfoRequest)
	if err := unmarshal(c, req); err != nil {
		return nil, err
	}
	resp, err := hub.GroupInfo(ctx, c.from, c.room, req)
	return marshal(resp, err)
}

func serveRequestConsent(ctx context.Context, hub mimi.Hub, c *call) ([]byte, error) {
	req := new(mimi.ConsentEntry)
	if err := unmarshal(c, req); err != nil {
		return nil, err
	}
	if !req.ConsentOperation.IsRequest() {
		return nil, wrongOperation(req.ConsentOperation, "requestConsent")
	}
	if err := c.pathAgrees(req.ConsentScope.TargetURI); err != nil {
		return nil, err
	}
	if err := c.mayActFor(req.ConsentScope.RequesterURI.Host()); err != nil {
		return nil, err
	}
	return nil, hub.RequestConsent(ctx, c.from, req)
}

func serveUpdateConsent(ctx context.Context, hub mimi.Hub, c *call) ([]byte, error) {
	req := new(mimi.ConsentEntry)
	if err := unmarshal(c, req); err != nil {
		return nil, err
	}
	if req.ConsentOperation.IsRequest() {
		return nil, wrongOperation(req.ConsentOperation, "updateConsent")
	}
	if err := c.pathAgrees(req.ConsentScope.RequesterURI); err != nil {
		return nil, err
	}
	if err := c.mayActFor(req.ConsentScope.TargetURI.Host()); err != nil {
		return nil, err
	}
	return nil, hub.UpdateConsent(ctx, c.from, req)
}

// wrongOperation is an operation that belongs to the other endpoint (Decision 67).
func wrongOperation(o mimi.ConsentOperation, key string) error {
	return &mimi.MalformedError{Err: fmt.Errorf("consentOperation %s does not belong to %s", o, key)}
}

func serveIdentifierQuery(ctx context.Context, hub mimi.Hub, c *call) ([]byte, error) {
	req := new(mimi.IdentifierRequest)
	if err := unmarshal(c, req); err != nil {
		return nil, err
	}
	resp, err := hub.IdentifierQuery(ctx, c.from, c.domain, req)
	return marshal(resp, err)
}

func serveReportAbuse(ctx context.Context, hub mimi.Hub, c *call) ([]byte, error) {
	req := new(mimi.AbuseReport)
	if err := unmarshal(c, req); err != nil {
		return nil, err
	}
	if req.ReportingUser != "" { // else anonymous. Decision 74
		if err := c.mayActFor(req.ReportingUser.Host()); err != nil {
			return nil, err
		}
	}
	return nil, hub.ReportAbuse(ctx, c.from, c.room, req)
}

func serveGone(ctx context.Context, hub mimi.Hub, c *call) ([]byte, error) {
	req := new(mimi.GoneNotice)
	if err := unmarshal(c, req); err != nil {
		return nil, err
	}
	if err := c.mayActFor(req.User.Host()); err != nil {
		return nil, err
	}
	return nil, hub.Gone(ctx, c.from, c.room, req)
}

// chunkTime is how long a peer may take to read one piece of an asset.
const chunkTime = 20 * time.Second

// proxyDownload passes on what the asset's host answers (MIMI protocol §5.10.2,
// Decision 76).
func (s *Server) proxyDownload(x *exchange, e *endpoint, c *call) *refusal {
	ctx, cancel := context.WithTimeout(x.r.Context(), e.limit.Time)
	defer cancel()
	asset, err := s.cfg.Hub.ProxyDownload(ctx, c.from, &mimi.DownloadRequest{
		URL: c.download, Range: x.r.Header.Get("Range"), IfNoneMatch: x.r.Header.Get("If-None-Match"),
	})
	if err != nil {
		return refusalOf(err)
	}
	defer asset.Body.Close()
	if asset.Status < 200 || asset.Status > 599 {
		return &refusal{status: 502, reason: ReasonAssetUnreachable, text: "the asset is not fetched"}
	}
	h := x.w.Header()
	h.Set("Content-Type", "application/octet-stream") // ciphertext, whatever its host calls it
	h.Set("X-Content-Type-Options", "nosniff")
	if asset.ContentLength >= 0 && asset.Status != http.StatusNotModified {
		h.Set("Content-Length", strconv.FormatInt(asset.ContentLength, 10))
	}
	if asset.ContentRange != "" {
		h.Set("Content-Range", asset.ContentRange)
	}
	if asset.ETag != "" {
		h.Set("ETag", asset.ETag)
	}
	x.w.WriteHeader(asset.Status)
	control := http.NewResponseController(x.w)
	buf := make([]byte, 32*kib)
	for {
		n, err := asset.Body.Read(buf)
		_ = control.SetWriteDeadline(time.Now().Add(chunkTime)) // not supported: a test's recorder
		if n > 0 {
			if _, err := x.w.Write(buf[:n]); err != nil {
				break // the peer is gone
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			// Half an asset must not look whole.
			s.metrics.refusals.WithLabelValues(x.name, string(ReasonAssetUnreachable)).Inc()
			s.logger.Warn("asset broke off", "endpoint", x.name, "reason", string(ReasonAssetUnreachable), "peer", string(x.from), "error", err)
			panic(http.ErrAbortHandler)
		}
	}
	s.finished(x, asset.Status)
	return nil
}
