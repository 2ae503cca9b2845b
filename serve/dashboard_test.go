package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comity-im/comity/federation/devpki"
)

// open opens a provider that nobody speaks to.
func open(t *testing.T) *Server {
	t.Helper()
	dir := t.TempDir()
	ca, err := devpki.LoadOrCreateCA(filepath.Join(dir, "ca"), "")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(devpki.Leaf{Names: []string{"a.example"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := pair.WriteFiles(dir, "a"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "comity.toml")
	text := "domain = \"a.example\"\ndata = \"data\"\n[listen]\nfederation = \"127.0.0.1:0\"\nclients = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[certificate]\ncert = \"a.pem\"\nkey = \"a-key.pem\"\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(context.Background(), cfg, NewLogger(os.Stderr, Log{Level: "error"}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.close() })
	return s
}

// metricNames are the names of all metrics of a provider, whether or not
// anything was counted yet.
func metricNames(s *Server) (names []string) {
	descs := make(chan *prometheus.Desc, 10)
	go func() {
		s.registry.Describe(descs)
		close(descs)
	}()
	name := regexp.MustCompile(`fqName: "([^"]+)"`)
	for d := range descs {
		if m := name.FindStringSubmatch(d.String()); m != nil {
			names = append(names, m[1])
		}
	}
	return names
}

// The dashboard asks for nothing that a provider doesn't have, and shows all
// that it counts itself.
func TestDashboardShowsWhatIsCounted(t *testing.T) {
	names := metricNames(open(t))
	b, err := os.ReadFile("../docs/grafana/comity.json")
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	var exprs []string
	var find func(any)
	find = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if e, ok := v["expr"].(string); ok {
				exprs = append(exprs, e)
			}
			for _, x := range v {
				find(x)
			}
		case []any:
			for _, x := range v {
				find(x)
			}
		}
	}
	find(v)
	if len(exprs) < 20 {
		t.Fatalf("only %d queries were found", len(exprs))
	}
	selector := regexp.MustCompile(`([a-z_]+)\{`)
	shown := map[string]bool{}
	for _, e := range exprs {
		found := selector.FindAllStringSubmatch(e, -1)
		if len(found) == 0 {
			t.Errorf("%s: no metric", e)
		}
		for _, m := range found {
			name := m[1]
			for _, part := range []string{"_bucket", "_sum", "_count"} {
				if base, ok := strings.CutSuffix(name, part); ok && slices.Contains(names, base) {
					name = base
				}
			}
			shown[name] = true
			if !slices.Contains(names, name) {
				t.Errorf("the dashboard asks for %s, which a provider doesn't have", m[1])
			}
		}
	}
	for _, want := range []string{
		"comity_federation_peer_requests_total", "comity_queue_events", "comity_queue_oldest_seconds", "comity_client_lag_events", "comity_client_behind_events",
		"comity_store_sync_seconds", "comity_store_log_bytes", "comity_store_checkpoints_total", "comity_hub_events_total", "comity_key_package_stock_low", "comity_key_package_stock_empty",
	} {
		if !slices.Contains(names, want) || !shown[want] {
			t.Errorf("%s: counted %v, shown %v", want, slices.Contains(names, want), shown[want])
		}
	}
	if t.Failed() {
		t.Log(fmt.Sprint(names))
	}
}
