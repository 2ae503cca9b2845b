package follower

import (
	"sync"

	"github.com/comity-im/comity/store"
)

// bufferedEvents and bufferedBytes bound what waits in memory for one connected
// client, in all its rooms; past it the client reads from the database. All
// clients of a room share the events, so a slow one holds at most this of its own.
const (
	bufferedEvents = 1024
	bufferedBytes  = 512 << 10
)

// A notifier wakes connected clients. What it hands over is only a shortcut:
// the truth is in the logs.
type notifier struct {
	mu      sync.Mutex
	rooms   map[int64]map[*Subscription]struct{}
	clients map[string]map[*Subscription]struct{}
	// seen is the newest event of a room that all its connected clients were
	// told of, where other nodes may append too.
	seen map[int64]int64
}

func newNotifier() *notifier {
	return &notifier{rooms: map[int64]map[*Subscription]struct{}{}, clients: map[string]map[*Subscription]struct{}{}, seen: map[int64]int64{}}
}

func add[K comparable](m map[K]map[*Subscription]struct{}, k K, s *Subscription) {
	if m[k] == nil {
		m[k] = map[*Subscription]struct{}{}
	}
	m[k][s] = struct{}{}
}

func remove[K comparable](m map[K]map[*Subscription]struct{}, k K, s *Subscription) {
	delete(m[k], s)
	if len(m[k]) == 0 {
		delete(m, k)
	}
}

// published tells the connected clients in a room of new events, in order.
func (n *notifier) published(room int64, events []store.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.rooms[room]) == 0 {
		return
	}
	if last := events[len(events)-1].Seq; n.seen[room] < last {
		n.seen[room] = last
	}
	for s := range n.rooms[room] {
		s.offer(room, events)
	}
}

// stale tells connected clients in a room that there is something to read, up
// to a position.
func (n *notifier) stale(room, last int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen[room] = max(n.seen[room], last)
	for s := range n.rooms[room] {
		s.offer(room, nil)
	}
}

// changed tells a client's connections that its rooms changed.
func (n *notifier) changed(client string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for s := range n.clients[client] {
		s.reload()
	}
}

// connected returns how many connections there are.
func (n *notifier) connected() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	total := 0
	for _, m := range n.clients {
		total += len(m)
	}
	return total
}
