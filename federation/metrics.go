package federation

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comity-im/comity/mimi"
)

// serverMetrics are what a Server counts. No label takes a value that a peer
// can choose freely.
type serverMetrics struct {
	requests  *prometheus.CounterVec   // endpoint, status
	refusals  *prometheus.CounterVec   // endpoint, reason
	seconds   *prometheus.HistogramVec // endpoint
	inFlight  *prometheus.GaugeVec     // endpoint
	bodyBytes prometheus.GaugeFunc
	peers     *prometheus.CounterVec // endpoint, peer, result
	labels    labels
}

// labels are the peers that have a label of their own.
type labels struct {
	mu    sync.Mutex
	known map[mimi.ProviderDomain]bool
}

// of is the label of a peer; real says that there is such a peer, so that names
// which somebody made up take none.
func (l *labels) of(peer mimi.ProviderDomain, real bool) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.known[peer] {
		if !real || len(l.known) >= labelledPeers {
			return "other"
		}
		if l.known == nil {
			l.known = map[mimi.ProviderDomain]bool{}
		}
		l.known[peer] = true
	}
	return string(peer)
}

// labelledPeers is how many peers have a label of their own; all others together
// are "other".
const labelledPeers = 500

// peer counts a request by who sent it, if that is proven.
func (m *serverMetrics) peer(x *exchange, result string) {
	if !x.proven {
		return
	}
	m.peers.WithLabelValues(x.name, m.labels.of(x.from, true), result).Inc()
}

// clientMetrics are what a Client counts.
type clientMetrics struct {
	requests *prometheus.CounterVec   // endpoint, peer, outcome
	seconds  *prometheus.HistogramVec // endpoint
	labels   labels
}

// requested counts a request to a peer.
func (m *clientMetrics) requested(endpoint string, peer mimi.ProviderDomain, err error) {
	m.requests.WithLabelValues(endpoint, m.labels.of(peer, err == nil), outcome(err)).Inc()
}

func newServerMetrics(r prometheus.Registerer, held func() float64) (*serverMetrics, error) {
	m := &serverMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "comity_federation_requests_total",
			Help: "Requests from other providers, by endpoint and HTTP status.",
		}, []string{"endpoint", "status"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "comity_federation_refusals_total",
			Help: "Requests from other providers that were refused, by endpoint and reason.",
		}, []string{"endpoint", "reason"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "comity_federation_request_seconds",
			Help:    "Time to answer a request of another provider.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}, []string{"endpoint"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "comity_federation_requests_in_flight",
			Help: "Requests of other providers under way.",
		}, []string{"endpoint"}),
		bodyBytes: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "comity_federation_body_bytes",
			Help: "Octets of request bodies in memory.",
		}, held),
	}
	m.peers = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "comity_federation_peer_requests_total",
		Help: "Requests from other providers, by endpoint, proven peer and result.",
	}, []string{"endpoint", "peer", "result"})
	return m, register(r, m.requests, m.refusals, m.seconds, m.inFlight, m.bodyBytes, m.peers)
}

func newClientMetrics(r prometheus.Registerer) (*clientMetrics, error) {
	m := &clientMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "comity_federation_client_requests_total",
			Help: "Requests to other providers, by endpoint, peer and outcome.",
		}, []string{"endpoint", "peer", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "comity_federation_client_request_seconds",
			Help:    "Time that another provider took to answer.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}, []string{"endpoint"}),
	}
	return m, register(r, m.requests, m.seconds)
}

func register(r prometheus.Registerer, cs ...prometheus.Collector) error {
	if r == nil {
		return nil
	}
	for _, c := range cs {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}
