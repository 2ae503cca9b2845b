package provider

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/comity-im/comity/store"
)

// gaugesEvery is how often what the gauges show is read from the database, at
// most, however often they are asked for.
const gaugesEvery = 15 * time.Second

var (
	gaugeQueue     = prometheus.NewDesc("comity_queue_events", "Events that wait for a follower.", []string{"peer"}, nil)
	gaugeQueueAge  = prometheus.NewDesc("comity_queue_oldest_seconds", "Age of the oldest event that waits for a follower.", []string{"peer"}, nil)
	gaugeFailures  = prometheus.NewDesc("comity_queue_failures", "Failures in a row of delivery to a follower.", []string{"peer"}, nil)
	gaugeBehind    = prometheus.NewDesc("comity_client_cursors_behind", "Cursors of local clients that are behind their room's log.", nil, nil)
	gaugeLag       = prometheus.NewDesc("comity_client_lag_events", "Events that the local client furthest behind has not read.", nil, nil)
	gaugeLaggard   = prometheus.NewDesc("comity_client_behind_events", "Events that a local client has not read, for the clients furthest behind.", []string{"client"}, nil)
	gaugeLow       = prometheus.NewDesc("comity_key_package_stock_low", "Active local clients whose stock of KeyPackages is below the floor.", nil, nil)
	gaugeNone      = prometheus.NewDesc("comity_key_package_stock_empty", "Active local clients that have no KeyPackage left.", nil, nil)
	gaugeLoaded    = prometheus.NewDesc("comity_rooms_loaded", "Rooms hosted here that are in memory.", nil, nil)
	gaugeRooms     = prometheus.NewDesc("comity_rooms", "Rooms, by whether they are hosted here or followed.", []string{"role"}, nil)
	gaugeConnected = prometheus.NewDesc("comity_clients_connected", "Connections of local clients.", nil, nil)
	gaugeDatabase  = prometheus.NewDesc("comity_store_bytes", "Size of the database.", nil, nil)
)

// laggards is how many clients have a gauge of their own.
const laggards = 10

// gauges is a prometheus.Collector of how a provider stands.
type gauges struct {
	p *Provider

	mu   sync.Mutex
	read time.Time
	kept []prometheus.Metric // of then
}

// Gauges shows how the provider stands: what waits for followers, how far its
// clients are behind, how much key material they have left.
func (p *Provider) Gauges() prometheus.Collector { return &gauges{p: p} }

// Describe names the gauges.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{gaugeQueue, gaugeQueueAge, gaugeFailures, gaugeBehind, gaugeLag, gaugeLaggard, gaugeLow, gaugeNone, gaugeLoaded, gaugeRooms, gaugeConnected, gaugeDatabase} {
		ch <- d
	}
}

// Collect reads them.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	ch <- gauge(gaugeLoaded, float64(g.p.hub.Loaded()))
	ch <- gauge(gaugeConnected, float64(g.p.follower.Connected()))
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Since(g.read) >= gaugesEvery {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		kept, err := g.stored(ctx)
		if err != nil {
			g.p.cfg.Logger.Warn("metrics of the database can't be read", "error", err)
		}
		g.read, g.kept = time.Now(), kept
	}
	for _, m := range g.kept {
		ch <- m
	}
}

func gauge(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func (g *gauges) stored(ctx context.Context) (list []prometheus.Metric, err error) {
	now := g.p.cfg.Now()
	var queues []store.Queue
	var lag store.Lag
	var behind []store.Laggard
	var low, none, rooms, hosted int64
	err = g.p.cfg.Store.View(ctx, func(tx *store.Tx) error {
		if queues, err = tx.Queues(); err != nil {
			return err
		}
		if lag, err = tx.Lag(); err != nil {
			return err
		}
		if behind, err = tx.Laggards(laggards); err != nil {
			return err
		}
		if low, none, err = tx.LowStock(g.p.cfg.StockFloor, now.Unix()); err != nil {
			return err
		}
		if rooms, err = tx.CountRooms(""); err != nil {
			return err
		}
		hosted, err = tx.CountRooms(string(g.p.cfg.Domain))
		return err
	})
	if err != nil {
		return nil, err
	}
	size, err := g.p.cfg.Store.Size(ctx)
	if err != nil {
		return nil, err
	}
	for _, q := range queues {
		age := 0.0
		if q.OldestMillis > 0 {
			age = max(0, now.Sub(time.UnixMilli(q.OldestMillis)).Seconds())
		}
		list = append(list, gauge(gaugeQueue, float64(q.Events), q.Domain), gauge(gaugeQueueAge, age, q.Domain))
	}
	for _, l := range behind {
		list = append(list, gauge(gaugeLaggard, float64(l.Events), l.Client))
	}
	for _, s := range g.p.delivery.Status() {
		list = append(list, gauge(gaugeFailures, float64(s.Failures), string(s.Follower)))
	}
	return append(list, gauge(gaugeBehind, float64(lag.Cursors)), gauge(gaugeLag, float64(lag.Events)), gauge(gaugeLow, float64(low)), gauge(gaugeNone, float64(none)),
		gauge(gaugeRooms, float64(hosted), "hub"), gauge(gaugeRooms, float64(rooms-hosted), "follower"), gauge(gaugeDatabase, float64(size))), nil
}
