package federation

import (
	"github.com/prometheus/client_golang/prometheus"
)

// serverMetrics are what a Server counts. No label takes a value that a peer
// can choose freely.
type serverMetrics struct {
	requests  *prometheus.CounterVec   // endpoint, status
	refusals  *prometheus.CounterVec   // endpoint, reason
	seconds   *prometheus.HistogramVec // endpoint
	inFlight  *prometheus.GaugeVec     // endpoint
	bodyBytes prometheus.GaugeFunc
}

// clientMetrics are what a Client counts.
type clientMetrics struct {
	requests *prometheus.CounterVec   // endpoint, outcome
	seconds  *prometheus.HistogramVec // endpoint
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
	return m, register(r, m.requests, m.refusals, m.seconds, m.inFlight, m.bodyBytes)
}

func newClientMetrics(r prometheus.Registerer) (*clientMetrics, error) {
	m := &clientMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "comity_federation_client_requests_total",
			Help: "Requests to other providers, by endpoint and outcome.",
		}, []string{"endpoint", "outcome"}),
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
