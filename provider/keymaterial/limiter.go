package keymaterial

import (
	"sync"
	"time"
)

// A limiter bounds how much each key may take in a window of time.
type limiter struct {
	most   int
	window time.Duration
	now    func() time.Time

	mu   sync.Mutex
	used map[string]*taken
}

type taken struct {
	since time.Time
	n     int
}

func newLimiter(most int, window time.Duration, now func() time.Time) *limiter {
	return &limiter{most: most, window: window, now: now, used: map[string]*taken{}}
}

// allow counts n for a key and reports whether it had something left.
func (l *limiter) allow(key string, n int) bool {
	if l.most <= 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if len(l.used) > 100000 {
		for k, t := range l.used {
			if now.Sub(t.since) > l.window {
				delete(l.used, k)
			}
		}
		if len(l.used) > 100000 {
			clear(l.used) // bounded memory goes before exact counts
		}
	}
	t := l.used[key]
	if t == nil || now.Sub(t.since) > l.window {
		t = &taken{since: now}
		l.used[key] = t
	}
	ok := t.n < l.most
	t.n += n
	return ok
}

// wait is how long a key must wait for its window to end.
func (l *limiter) wait(key string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.used[key]; t != nil {
		return max(time.Second, l.window-l.now().Sub(t.since))
	}
	return time.Second
}
