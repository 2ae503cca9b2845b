package provider

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/store"
)

// Metrics count what a provider does. A nil *Metrics counts nothing.
type Metrics struct {
	refusals   *prometheus.CounterVec
	deliveries *prometheus.CounterVec
	delivered  *prometheus.CounterVec
	notify     *prometheus.HistogramVec
	requests   *prometheus.HistogramVec
	clients    *prometheus.CounterVec
	events     *prometheus.CounterVec
	batch      prometheus.Histogram
	commits    *prometheus.CounterVec
	commit     prometheus.Histogram
	sync       prometheus.Histogram
	updates    prometheus.Histogram
	waiting    prometheus.Gauge
	unread     prometheus.Counter
	points     *prometheus.CounterVec
	log        prometheus.Gauge
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
	m.events = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "comity_hub_events_total", Help: "Events that were accepted into rooms hosted here, by kind; each commit is an epoch."}, []string{"kind"})
	m.batch = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "comity_hub_batch_events", Help: "Events of a room that were accepted together.", Buckets: prometheus.ExponentialBuckets(1, 2, 10)})
	m.commits = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "comity_store_commits_total", Help: "Commits of the database, by result."}, []string{"result"})
	m.commit = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "comity_store_commit_seconds", Help: "Duration of a commit with all updates in it.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16)})
	m.sync = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "comity_store_sync_seconds", Help: "Of that, making it durable.", Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16)})
	m.updates = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "comity_store_commit_updates", Help: "Updates that share a commit.", Buckets: prometheus.ExponentialBuckets(1, 2, 10)})
	m.waiting = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "comity_store_updates_waiting", Help: "Updates that waited for the next commit, when the last one ended."})
	m.unread = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "comity_store_read_failures_total", Help: "Reading transactions of the database that failed."})
	m.points = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "comity_store_checkpoints_total", Help: "Looks at the write-ahead log, which is copied into the database when it is long enough, by result (SQLite)."}, []string{"result"})
	m.log = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "comity_store_log_bytes", Help: "Size of the write-ahead log (SQLite)."})
	reg.MustRegister(m.events, m.batch, m.commits, m.commit, m.sync, m.updates, m.waiting, m.unread, m.points, m.log)
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

// Committed counts a commit of the store.
func (m *Metrics) Committed(c store.Commit) {
	if m == nil {
		return
	}
	result := "ok"
	if c.Err != nil {
		result = "failed"
	}
	m.commits.WithLabelValues(result).Inc()
	if c.Err != nil {
		return // how long it took says nothing of the others
	}
	m.commit.Observe(c.Took.Seconds())
	m.sync.Observe(c.Sync.Seconds())
	m.updates.Observe(float64(c.Updates))
	m.waiting.Set(float64(c.Waiting))
}

// Unread counts a failure to read from the store.
func (m *Metrics) Unread() {
	if m != nil {
		m.unread.Inc()
	}
}

// Checkpointed counts a checkpoint of the store.
func (m *Metrics) Checkpointed(c store.Checkpoint) {
	if m == nil {
		return
	}
	result := "ok"
	if c.Err != nil {
		result = "failed"
	}
	m.points.WithLabelValues(result).Inc()
	m.log.Set(float64(c.LogBytes))
}

// accepted counts events that a room took together.
func (m *Metrics) accepted(events []store.Event) {
	if m == nil || len(events) == 0 {
		return
	}
	m.batch.Observe(float64(len(events)))
	if kind := events[0].Kind; events[len(events)-1].Kind == kind {
		m.events.WithLabelValues(mimi.FanoutKind(kind).String()).Add(float64(len(events)))
		return
	}
	for i := range events {
		m.events.WithLabelValues(mimi.FanoutKind(events[i].Kind).String()).Inc()
	}
}
