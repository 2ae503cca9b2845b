package provider

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
)

// Metrics count what a provider does. A nil *Metrics counts nothing.
type Metrics struct {
	refusals   *prometheus.CounterVec
	deliveries *prometheus.CounterVec
	delivered  *prometheus.CounterVec
	notify     *prometheus.HistogramVec
	requests   *prometheus.HistogramVec
	clients    *prometheus.CounterVec
}

// NewMetrics registers the metrics of a provider.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "comity_refusals_total", Help: "Requests that were refused, by endpoint, peer and the code of the answer."}, []string{"endpoint", "peer", "code"}),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "comity_delivery_requests_total", Help: "Notify requests to followers, by peer and result."}, []string{"peer", "result"}),
		delivered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "comity_delivered_events_total", Help: "Events that followers acknowledged, by peer."}, []string{"peer"}),
		notify: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "comity_delivery_seconds", Help: "Duration of notify requests.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}, []string{"peer"}),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "comity_client_request_seconds", Help: "Duration of clients' requests, by operation and result.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15)}, []string{"operation", "result"}),
	}
	m.clients = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "comity_client_refusals_total", Help: "Clients' requests that were refused, by operation and reason."}, []string{"operation", "code"})
	reg.MustRegister(m.clients, m.refusals, m.deliveries, m.delivered, m.notify, m.requests)
	return m
}

func (m *Metrics) refused(endpoint string, peer mimi.ProviderDomain, code string) {
	if m != nil {
		m.refusals.WithLabelValues(endpoint, string(peer), code).Inc()
	}
}

func (m *Metrics) notified(peer mimi.ProviderDomain, events int, took time.Duration, err error) {
	if m == nil {
		return
	}
	result := "ok"
	if err != nil {
		result = "failed"
	} else {
		m.delivered.WithLabelValues(string(peer)).Add(float64(events))
	}
	m.deliveries.WithLabelValues(string(peer), result).Inc()
	m.notify.WithLabelValues(string(peer)).Observe(took.Seconds())
}

// ClientRequest counts a client's request.
func (m *Metrics) ClientRequest(operation string, status int, took time.Duration) {
	if m == nil {
		return
	}
	result := "ok"
	switch {
	case status >= 500:
		result = "failed"
	case status >= 400:
		result = "refused"
	}
	m.requests.WithLabelValues(operation, result).Observe(took.Seconds())
}

// ClientRefused counts a client's request that was refused.
func (m *Metrics) ClientRefused(operation string, code clientapi.Code) {
	if m != nil {
		m.clients.WithLabelValues(operation, string(code)).Inc()
	}
}
