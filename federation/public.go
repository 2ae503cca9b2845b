package federation

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/comity-im/comity/mimi"
)

// document is something that anybody may read, without a certificate.
type document struct {
	anyHost bool // health checks come by address
	serve   func(s *Server, x *exchange) *refusal
}

func (s *Server) public(method, path string) *document {
	switch path {
	case gatewayPath:
		if s.gateway != nil && method != http.MethodPost {
			return &document{serve: (*Server).serveGatewayKeys}
		}
	case mimi.DirectoryPath:
		return &document{serve: (*Server).serveDirectory}
	case "/healthz":
		return &document{anyHost: true, serve: (*Server).serveHealth}
	case "/readyz":
		return &document{anyHost: true, serve: (*Server).serveReady}
	}
	if s.directory.Issuers != "" {
		if _, ok := s.directory.Issuers.Match(path); ok {
			return &document{serve: (*Server).serveIssuers}
		}
	}
	return nil
}

func (s *Server) servePublic(x *exchange, d *document) *refusal {
	if x.r.Method != http.MethodGet && x.r.Method != http.MethodHead {
		return &refusal{status: 405, reason: ReasonMethod, allow: "GET, HEAD", text: "this is to be read with GET, not " + short(x.r.Method)}
	}
	if !d.anyHost {
		if r := s.checkHost(x.r); r != nil {
			return r
		}
	}
	return d.serve(s, x)
}

// serveDirectory answers GET /.well-known/mimi-protocol-directory (MIMI protocol §5.1).
func (s *Server) serveDirectory(x *exchange) *refusal {
	h := x.w.Header()
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(s.cfg.DirectoryAge.Seconds())))
	h.Set("ETag", s.etag)
	for _, tag := range strings.Split(x.r.Header.Get("If-None-Match"), ",") {
		if tag = strings.TrimSpace(tag); tag == s.etag || tag == "W/"+s.etag || tag == "*" {
			x.w.WriteHeader(http.StatusNotModified)
			s.finished(x, http.StatusNotModified)
			return nil
		}
	}
	s.writeDocument(x, "application/json", s.document)
	return nil
}

func (s *Server) serveIssuers(x *exchange) *refusal {
	doc, err := s.cfg.Issuers(x.r.Context())
	if err != nil {
		return &refusal{status: 500, reason: ReasonFailed, err: err, text: "internal error"}
	}
	// Short, because a rotation must be seen soon.
	x.w.Header().Set("Cache-Control", "public, max-age=300")
	s.writeDocument(x, "application/json", doc)
	return nil
}

// serveHealth says that the program runs.
func (s *Server) serveHealth(x *exchange) *refusal {
	x.w.Header().Set("Cache-Control", "no-store")
	s.writeDocument(x, "text/plain; charset=utf-8", []byte("ok\n"))
	return nil
}

// serveReady says whether the provider works. Why it doesn't goes to the log
// only: strangers may ask.
func (s *Server) serveReady(x *exchange) *refusal {
	ready := s.cfg.Ready
	if ready == nil {
		ready = func(context.Context) error { return nil }
	}
	if err := ready(x.r.Context()); err != nil {
		return &refusal{status: 503, reason: ReasonUnavailable, err: err, text: "not ready"}
	}
	return s.serveHealth(x)
}

func (s *Server) writeDocument(x *exchange, mediaType string, body []byte) {
	_ = http.NewResponseController(x.w).SetWriteDeadline(time.Now().Add(answerTime)) // not supported: a test's recorder
	x.w.Header().Set("Content-Type", mediaType)
	x.w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	x.w.WriteHeader(http.StatusOK)
	if x.r.Method != http.MethodHead {
		_, _ = x.w.Write(body) // whoever is gone asks again
	}
	s.finished(x, http.StatusOK)
}
