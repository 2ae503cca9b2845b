package serve

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/comity-im/comity/federation"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/provider"
	"github.com/comity-im/comity/store"
)

// A Backup is a copy of the database in a file of the provider's machine.
type Backup struct {
	File  string `json:"file"`
	Bytes int64  `json:"bytes"`
}

// serveAdmin serves what is for this machine only: metrics, profiles, and the
// commands of comity admin.
func (s *Server) serveAdmin(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/healthz", s.healthz)
	mux.HandleFunc("/readyz", s.readyz)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("GET /admin/v1/status", func(w http.ResponseWriter, r *http.Request) {
		v, err := s.provider.Status(r.Context())
		reply(w, v, err)
	})
	mux.HandleFunc("GET /admin/v1/rooms", func(w http.ResponseWriter, r *http.Request) {
		limit, err := strconv.Atoi(r.URL.Query().Get("limit"))
		if err != nil || limit < 1 || limit > 100_000 {
			http.Error(w, "the limit is a number from 1 to 100000", http.StatusBadRequest)
			return
		}
		v, err := s.provider.Rooms(r.Context(), limit)
		reply(w, v, err)
	})
	mux.HandleFunc("GET /admin/v1/peers", func(w http.ResponseWriter, r *http.Request) {
		reply(w, s.peers.List(), nil)
	})
	mux.HandleFunc("GET /admin/v1/peers/{domain}", func(w http.ResponseWriter, r *http.Request) {
		d, err := mimi.ParseProviderDomain(r.PathValue("domain"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), 30*time.Second)
		defer cancel()
		status, _ := s.peers.Status(d)
		queue, err := s.provider.Queue(ctx, d)
		reply(w, map[string]any{"report": s.out.Diagnose(ctx, d), "status": status, "queue": queue}, err)
	})
	mux.HandleFunc("POST /admin/v1/peers/{domain}/{action}", s.peerAction)
	mux.HandleFunc("GET /admin/v1/policy", func(w http.ResponseWriter, r *http.Request) {
		reply(w, PeerPolicy{string(s.peers.Policy())}, nil)
	})
	mux.HandleFunc("PUT /admin/v1/policy", s.setPolicy)
	mux.HandleFunc("POST /admin/v1/backup", func(w http.ResponseWriter, r *http.Request) {
		var b Backup
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&b); err != nil || !filepath.IsAbs(b.File) {
			http.Error(w, "name the backup's file with its whole path", http.StatusBadRequest)
			return
		}
		err := s.store.Backup(r.Context(), b.File)
		if err == nil {
			var info os.FileInfo
			if info, err = os.Stat(b.File); err == nil {
				b.Bytes = info.Size()
			}
		}
		reply(w, b, err)
	})
	mux.HandleFunc("POST /admin/v1/restored", func(w http.ResponseWriter, r *http.Request) {
		reply(w, struct{}{}, s.store.Update(r.Context(), func(tx *store.Tx) error { return tx.Restored(time.Now().UnixMilli()) }))
	})
	mux.HandleFunc("POST /admin/v1/rotate-franking", func(w http.ResponseWriter, r *http.Request) {
		from, err := s.provider.RotateFranking(r.Context())
		reply(w, map[string]time.Time{"from": from}, err)
	})
	mux.HandleFunc("GET /admin/v1/reports", func(w http.ResponseWriter, r *http.Request) {
		v, err := s.provider.Reports(r.Context())
		reply(w, v, err)
	})
	mux.HandleFunc("PUT /admin/v1/users/{name}/attributes", func(w http.ResponseWriter, r *http.Request) {
		var at provider.Attributes
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&at); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		reply(w, at, s.provider.SetAttributes(r.Context(), r.PathValue("name"), at))
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return serveHTTP(ctx, server, func() error { return server.Serve(s.adminListener) })
}

// PeerPolicy says what becomes of peers that the config says nothing of: "open",
// "allowlist", or "config" for what the config says.
type PeerPolicy struct {
	Policy string `json:"policy"`
}

// setPolicy changes what becomes of peers without settings, now and for later
// starts.
func (s *Server) setPolicy(w http.ResponseWriter, r *http.Request) {
	var v PeerPolicy
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&v)
	if err != nil || v.Policy != "config" && v.Policy != string(federation.PolicyOpen) && v.Policy != string(federation.PolicyAllowlist) {
		http.Error(w, "the policy is open, allowlist or config", http.StatusBadRequest)
		return
	}
	if v.Policy == "config" {
		v.Policy = ""
	}
	if err = s.provider.SetPeerPolicy(r.Context(), v.Policy); err == nil {
		err = s.applyPeers(r.Context())
	}
	reply(w, PeerPolicy{string(s.peers.Policy())}, err)
}

// peerAction changes how we deal with a peer while the provider runs.
func (s *Server) peerAction(w http.ResponseWriter, r *http.Request) {
	d, err := mimi.ParseProviderDomain(r.PathValue("domain"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	switch action := r.PathValue("action"); action {
	case "block":
		blocked := true
		err = s.changePeer(r.Context(), d, func(p *provider.PeerSettings) { p.Blocked, p.Why = &blocked, "by the operator" })
	case "unblock":
		blocked := false
		err = s.changePeer(r.Context(), d, func(p *provider.PeerSettings) { p.Blocked, p.Why = &blocked, "" })
	case "allow", "disallow":
		err = s.changePeer(r.Context(), d, func(p *provider.PeerSettings) { p.Allowed = action == "allow" })
	case "quota":
		var q provider.PeerSettings
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&q); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		err = s.changePeer(r.Context(), d, func(p *provider.PeerSettings) {
			p.PerSecond, p.Burst, p.Concurrent = q.PerSecond, q.Burst, q.Concurrent
		})
	case "pause", "resume", "retry", "drop":
		err = s.provider.PeerQueue(r.Context(), d, action)
	default:
		http.Error(w, action+" is not block, unblock, allow, disallow, quota, pause, resume, retry or drop", http.StatusBadRequest)
		return
	}
	reply(w, map[string]string{"peer": string(d), "done": r.PathValue("action")}, err)
}

func reply(w http.ResponseWriter, v any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}
