package bench

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A counter counts what happens, and how long it took.
type counter struct {
	n atomic.Int64

	mu    sync.Mutex
	times []time.Duration
}

func (c *counter) add(n int) { c.n.Add(int64(n)) }

func (c *counter) took(d time.Duration) {
	c.mu.Lock()
	c.times = append(c.times, d)
	c.mu.Unlock()
}

// reset starts anew and returns what there was.
func (c *counter) reset() (n int64, times []time.Duration) {
	c.mu.Lock()
	times = c.times
	c.times = nil
	c.mu.Unlock()
	return c.n.Swap(0), times
}

// Quantiles are of durations, in milliseconds.
type Quantiles struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50_ms"`
	P95   float64 `json:"p95_ms"`
	P99   float64 `json:"p99_ms"`
	Max   float64 `json:"max_ms"`
}

func quantiles(times []time.Duration) Quantiles {
	if len(times) == 0 {
		return Quantiles{}
	}
	slices.Sort(times)
	at := func(q float64) float64 {
		return float64(times[min(int(q*float64(len(times))), len(times)-1)]) / float64(time.Millisecond)
	}
	return Quantiles{len(times), at(0.5), at(0.95), at(0.99), at(1)}
}
