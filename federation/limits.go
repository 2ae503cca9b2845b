package federation

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/comity-im/comity/mimi"
)

// EndpointLimit bounds the requests to one endpoint. Zero fields take the default.
type EndpointLimit struct {
	// Body is the longest request body in octets; as a client, the longest answer.
	Body int64
	// Concurrent is how many requests may be under way, from all peers together.
	Concurrent int
	// BodyTime is how long a body may take to arrive, Time how long the answer
	// may take after that.
	BodyTime, Time time.Duration
}

const (
	kib = 1 << 10
	mib = 1 << 20
)

// DefaultEndpointLimits returns the limits of each endpoint by its directory
// key, and of the OHTTP gateway as "ohttpGateway". The sizes are those of Decision 10: 1 MiB, and 64 MiB where a ratchet tree may
// travel.
func DefaultEndpointLimits() map[string]EndpointLimit {
	small := EndpointLimit{Body: mib, Concurrent: 128, BodyTime: 20 * time.Second, Time: 30 * time.Second}
	tree := EndpointLimit{Body: 64 * mib, Concurrent: 128, BodyTime: 60 * time.Second, Time: 60 * time.Second}
	groupInfo := small // the request is small; the answer carries the tree and is not bounded here
	groupInfo.Time = tree.Time
	return map[string]EndpointLimit{
		"keyMaterial":     small,
		"update":          tree,
		"notify":          tree,
		"submitMessage":   small,
		"groupInfo":       groupInfo,
		"requestConsent":  small,
		"updateConsent":   small,
		"identifierQuery": {Body: 64 * kib, Concurrent: 16, BodyTime: 10 * time.Second, Time: 10 * time.Second},
		"reportAbuse":     {Body: mib, Concurrent: 8, BodyTime: 20 * time.Second, Time: 30 * time.Second},
		mimi.GoneKey:      {Body: 64 * kib, Concurrent: 16, BodyTime: 10 * time.Second, Time: 10 * time.Second},
		"proxyDownload":   {Concurrent: 32, Time: 5 * time.Minute},
		gatewayKey:        {Body: 16 * kib, Concurrent: 16, BodyTime: 10 * time.Second, Time: time.Minute},
	}
}

// Limits bounds what a server spends. Zero fields take the default.
type Limits struct {
	// Endpoints overrides DefaultEndpointLimits, by directory key.
	Endpoints map[string]EndpointLimit
	// Memory is how many octets of request bodies may be held at once, and
	// PeerMemory how many of them for one peer. Defaults: 256 MiB, 96 MiB.
	Memory, PeerMemory int64
	// Connections is how many connections may be open. Default: 4096.
	Connections int
	// HeaderTime is how long a request's header may take. Default: 10 s.
	HeaderTime time.Duration
	// IdleTime is how long an unused connection stays open. Default: 2 min.
	IdleTime time.Duration
	// HeaderBytes is how long a request's header may be. Default: 16 KiB.
	HeaderBytes int
}

func (l Limits) withDefaults() (Limits, error) {
	endpoints := DefaultEndpointLimits()
	for key, set := range l.Endpoints {
		d, ok := endpoints[key]
		if !ok {
			return l, fmt.Errorf("federation: limits: there is no endpoint %q", key)
		}
		setDefault(&set.Body, d.Body)
		setDefault(&set.Concurrent, d.Concurrent)
		setDefault(&set.BodyTime, d.BodyTime)
		setDefault(&set.Time, d.Time)
		endpoints[key] = set
	}
	l.Endpoints = maps.Clone(endpoints)
	setDefault(&l.Memory, 256*mib)
	setDefault(&l.PeerMemory, 96*mib)
	setDefault(&l.Connections, 4096)
	setDefault(&l.HeaderTime, 10*time.Second)
	setDefault(&l.IdleTime, 2*time.Minute)
	setDefault(&l.HeaderBytes, 16*kib)
	return l, nil
}

func setDefault[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Errors of readBody.
var (
	errBodyTooLarge = errors.New("body too large")
	errMemory       = errors.New("the server holds as many bodies as it may")
	errPeerMemory   = errors.New("the server holds as many bodies of this peer as it may")
)

// memory counts the octets of request bodies that are held.
type memory struct {
	total, perPeer int64 // the bounds

	mu   sync.Mutex
	held int64
}

func (m *memory) take(n *peer, octets int64) error {
	n.mu.Lock()
	if n.buffered+octets > m.perPeer {
		n.mu.Unlock()
		return errPeerMemory
	}
	n.buffered += octets
	n.mu.Unlock()
	m.mu.Lock()
	ok := m.held+octets <= m.total
	if ok {
		m.held += octets
	}
	m.mu.Unlock()
	if !ok {
		n.mu.Lock()
		n.buffered -= octets
		n.mu.Unlock()
		return errMemory
	}
	return nil
}

func (m *memory) give(n *peer, octets int64) {
	n.mu.Lock()
	n.buffered -= octets
	n.mu.Unlock()
	m.mu.Lock()
	m.held -= octets
	m.mu.Unlock()
}

// readBody reads r to its end. Memory is taken as octets arrive, never for what
// a header promises; release gives it back.
// likely is how long the body says to be, or less than 0: where that is little, so
// is taken from the start.
func (m *memory) readBody(n *peer, r io.Reader, likely, longest int64) (body []byte, release func(), err error) {
	release = func() { m.give(n, int64(cap(body))) }
	first := int64(4 * kib)
	if 0 <= likely && likely < first {
		first = likely + 1 // room to see its end
	}
	for {
		if len(body) == cap(body) {
			size := min(max(2*int64(cap(body)), first), longest+1)
			if err := m.take(n, size); err != nil {
				return body, release, err
			}
			grown := make([]byte, len(body), size)
			copy(grown, body)
			if cap(body) > 0 {
				m.give(n, int64(cap(body)))
			}
			body = grown
		}
		got, err := r.Read(body[len(body):cap(body)])
		body = body[:len(body)+got]
		if int64(len(body)) > longest {
			return body, release, errBodyTooLarge
		}
		if err == io.EOF {
			return body, release, nil
		}
		if err != nil {
			return body, release, err
		}
	}
}
