package clientapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/tlspl"
)

// Prefix is where the client API lives below a provider's client address.
const Prefix = "/client/v1/"

// Bounds on what a client may send, in octets.
const (
	MaxJSON    = 64 << 10
	MaxMessage = 1 << 20  // a submitted message, a signed request
	MaxUpdate  = 64 << 20 // a commit with its tree
)

// Observe is told of every request that was answered: its operation, HTTP
// status and duration.
type Observe func(operation string, status int, took time.Duration)

// A HandlerConfig configures NewHandler.
type HandlerConfig struct {
	Service Service
	Logger  *slog.Logger
	Observe Observe // may be nil
	// AuthLimit bounds how many log-ins and registrations are worked on at a
	// time (each hashes a password); 0 means 4.
	AuthLimit int
	Limits    Limits
	// Refused is told of every request that was refused, with the reason. May be
	// nil.
	Refused func(operation string, code Code)
}

// tracer is the name under which spans are made.
const tracer = "github.com/comity-im/comity/clientapi"

// A Handler serves a provider's client API. Close ends it.
type Handler struct {
	HandlerConfig
	routes map[string]route
	auth   chan struct{}
	users  *users

	streams context.Context // of the events connections
	stop    context.CancelFunc
	running sync.WaitGroup // of them
	mu      sync.Mutex     // of closed, and of what begins to run
	closed  bool
}

// Close ends the events connections, which outlive their requests, and waits
// until they are over.
func (h *Handler) Close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.stop()
	h.running.Wait()
}

// begin counts an events connection, unless the handler is closed; running.Done
// must follow.
func (h *Handler) begin() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return Errorf(CodeUnreachable, "the provider is stopping; connect again in a moment")
	}
	h.running.Add(1)
	return nil
}

// A route serves one operation. arg is the raw path below the operation's name.
type route struct {
	methods string // which methods it takes, separated by spaces
	open    bool   // no session needed
	serve   func(h *Handler, w http.ResponseWriter, r *http.Request, d Device, arg string) error
}

// NewHandler serves a provider's client API.
func NewHandler(cfg HandlerConfig) *Handler {
	if cfg.AuthLimit <= 0 {
		cfg.AuthLimit = 4
	}
	if cfg.Observe == nil {
		cfg.Observe = func(string, int, time.Duration) {}
	}
	if cfg.Refused == nil {
		cfg.Refused = func(string, Code) {}
	}
	h := &Handler{HandlerConfig: cfg, auth: make(chan struct{}, cfg.AuthLimit), users: newUsers(cfg.Limits), routes: routes}
	h.streams, h.stop = context.WithCancel(context.Background())
	return h
}

const eventsRoute = "events"

var routes = map[string]route{
	"info":      {"GET", true, (*Handler).info},
	"register":  {"POST", true, (*Handler).register},
	"login":     {"POST", true, (*Handler).login},
	eventsRoute: {"GET", false, nil}, // goes on after the request

	"devices":     {"GET DELETE", false, (*Handler).devices},
	"account":     {"POST DELETE", false, (*Handler).account},
	"certificate": {"POST", false, (*Handler).certificate},
	"issuers":     {"GET", false, (*Handler).issuers},
	"keyPackages": {"GET POST", false, (*Handler).keyPackages},

	"rooms":         {"GET POST DELETE", false, (*Handler).rooms},
	"keyMaterial":   {"POST", false, (*Handler).keyMaterial},
	"update":        {"POST", false, (*Handler).update},
	"submitMessage": {"POST", false, (*Handler).submitMessage},
	"groupInfo":     {"POST", false, (*Handler).groupInfo},
	"reportAbuse":   {"POST", false, (*Handler).reportAbuse},

	"identifierQuery": {"POST", false, (*Handler).identifierQuery},
	"consents":        {"GET POST", false, (*Handler).consents},
	"profile":         {"GET POST DELETE", false, (*Handler).profile},
	"joinCodes":       {"GET POST DELETE", false, (*Handler).joinCodes},
	"assets":          {"GET POST", false, (*Handler).assets},
	"relay":           {"GET POST", false, (*Handler).relay},
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), Prefix)
	name, arg, _ := strings.Cut(rest, "/")
	rt, known := h.routes[name]
	sw := &statusWriter{ResponseWriter: w}
	err := error(nil)
	switch {
	case !ok || !known:
		name = "unknown"
		err = Errorf(CodeNotFound, "there is nothing at %s; the client API is below %s", r.URL.Path, Prefix)
	case !strings.Contains(" "+rt.methods+" ", " "+r.Method+" "):
		w.Header().Set("Allow", strings.ReplaceAll(rt.methods, " ", ", "))
		h.refused(name, "", Errorf(CodeBadRequest, "%s takes %s, not %s", name, rt.methods, r.Method))
		http.Error(sw, fmt.Sprintf("%s takes %s, not %s", name, rt.methods, r.Method), http.StatusMethodNotAllowed)
	default:
		ctx := otel.GetTextMapPropagator().Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		if name != eventsRoute {
			var span trace.Span
			ctx, span = otel.Tracer(tracer).Start(ctx, "client: "+name, trace.WithSpanKind(trace.SpanKindServer))
			defer span.End()
		}
		var d Device
		if d, err = h.serve(sw, r.WithContext(ctx), name, rt, arg); err != nil {
			h.fail(sw, name, d, err)
		}
	}
	if err != nil && sw.status == 0 {
		h.fail(sw, name, Device{}, err)
	}
	h.Observe(name, sw.status, time.Since(start))
}

func (h *Handler) serve(w http.ResponseWriter, r *http.Request, name string, rt route, arg string) (Device, error) {
	if name != eventsRoute {
		limitTime(w, name)
	}
	if rt.open {
		return Device{}, rt.serve(h, w, r, Device{}, arg)
	}
	token, ok := tokenOf(r)
	if !ok {
		return Device{}, Errorf(CodeUnauthorized, "no session: log in first")
	}
	d, err := h.Service.Authenticate(r.Context(), token)
	if err != nil {
		return d, err
	}
	end, err := h.users.begin(d.User, name)
	if err != nil {
		return d, err
	}
	if name == eventsRoute {
		return d, h.events(w, r, d, strings.Clone(token), end)
	}
	defer end()
	if name != "assets" {
		b := h.users.body(d.User, r.Body)
		defer b.release()
		r.Body = b
		if sw, ok := w.(*statusWriter); ok {
			sw.held = b
		}
	}
	return d, rt.serve(h, w, r, d, arg)
}

// tokenOf returns the token of a request's session.
func tokenOf(r *http.Request) (string, bool) {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return token, true
	}
	return offered(r)
}

// offered returns the token that a client offers among its WebSocket's subprotocols.
func offered(r *http.Request) (string, bool) {
	for _, line := range r.Header.Values("Sec-WebSocket-Protocol") {
		for word := range strings.SplitSeq(line, ",") {
			if token, ok := strings.CutPrefix(strings.TrimSpace(word), tokenPrefix); ok {
				return token, true
			}
		}
	}
	return "", false
}

// fail answers with an error. What a client can't act on is logged and not
// told.
func (h *Handler) fail(w *statusWriter, name string, d Device, err error) {
	if w.status != 0 {
		h.Logger.Warn("client request broke off", "operation", name, "error", err)
		return
	}
	e := h.refused(name, d.Client, err)
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((e.RetryAfter+time.Second-1)/time.Second)))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(statuses[e.Code])
	json.NewEncoder(w).Encode(e)
}

// refused logs and counts a request that was not granted, and returns what its
// client may know of it.
func (h *Handler) refused(name string, client mimi.ClientURI, err error) *Error {
	e := asError(err)
	h.Refused(name, e.Code)
	if e.Code == CodeFailed {
		h.Logger.Error("client request failed", "operation", name, "client", string(client), "error", err)
		return Errorf(CodeFailed, "the provider failed to do this; its log says why")
	}
	h.Logger.Info("client request refused", "operation", name, "client", string(client), "code", string(e.Code), "reason", e.Message)
	return e
}

// asError finds the *Error in err, or makes one.
func asError(err error) *Error {
	var e *Error
	var syntax *tlspl.SyntaxError
	var uri *mimi.URIError
	var big *http.MaxBytesError
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &big):
		return Errorf(CodeTooLarge, "the request is larger than %d octets", big.Limit)
	case errors.As(err, &syntax), errors.As(err, &uri):
		return Errorf(CodeBadRequest, "%v", err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Errorf(CodeUnreachable, "no answer in time")
	}
	return Errorf(CodeFailed, "%v", err)
}

type statusWriter struct {
	http.ResponseWriter
	status int
	held   *body // counts the answer with the request; may be nil
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		if w.held != nil {
			if err := w.held.add(len(b)); err != nil {
				return 0, err
			}
		}
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, MaxJSON))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		var big *http.MaxBytesError
		var refused *Error
		if errors.As(err, &big) || errors.As(err, &refused) {
			return err
		}
		return Errorf(CodeBadRequest, "the JSON body can't be read: %v", err)
	}
	return nil
}

func readBody(w http.ResponseWriter, r *http.Request, max int64, v tlspl.Coder) error {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, max))
	if err != nil {
		return err
	}
	return tlspl.UnmarshalAlias(b, v)
}

func writeJSON(w http.ResponseWriter, v any, err error) error {
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

func writeBody(w http.ResponseWriter, v tlspl.Coder, err error) error {
	if err != nil {
		return err
	}
	b, err := tlspl.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, err = w.Write(b)
	return err
}

// done answers a request that has nothing to tell.
func done(w http.ResponseWriter, err error) error {
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// parse decodes one raw path segment as a URI of the kind that parse takes.
func parseArg[T ~string](arg string, parse func(string) (T, error)) (T, error) {
	s, err := mimi.Unescape(arg)
	if err != nil {
		return "", Errorf(CodeBadRequest, "%v", err)
	}
	return parse(s)
}
