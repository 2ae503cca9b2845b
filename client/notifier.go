package client

import "sync"

// A notifier hands events to one function, in order and one at a time, without
// making those wait who raise them... as long as it keeps up.
type notifier struct {
	f func(Event)

	mu      sync.Mutex
	queue   []Event
	running bool
}

func newNotifier(f func(Event)) *notifier { return &notifier{f: f} }

// tell queues events, and delivers what is queued unless somebody else is at it.
func (n *notifier) tell(events ...Event) {
	if n.f == nil || len(events) == 0 {
		return
	}
	n.mu.Lock()
	n.queue = append(n.queue, events...)
	if n.running {
		n.mu.Unlock()
		return
	}
	n.running = true
	for len(n.queue) > 0 {
		e := n.queue[0]
		n.queue = n.queue[1:]
		n.mu.Unlock()
		n.f(e)
		n.mu.Lock()
	}
	n.running = false
	n.mu.Unlock()
}
