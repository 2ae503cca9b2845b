package clientapi

import (
	"io"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/comity-im/comity/mimi"
)

// Limits bound what one user may ask of its provider, over all devices; zero
// fields take the default that is named with them.
type Limits struct {
	// PerSecond is the sustained rate of requests, Burst how many may come at
	// once, and Concurrent how many may be under way; 100, 500 and 64.
	PerSecond  float64
	Burst      int
	Concurrent int
	// SubmitsPerSecond and SubmitBurst are the same for messages, which are not
	// counted among the requests; 500 and 5000. On a connection they are not
	// refused, but read more slowly.
	SubmitsPerSecond float64
	SubmitBurst      int
	// Connections is how many event connections may be open; 32.
	Connections int
	// Memory is how many octets of requests' bodies, and of answers that are written,
	// may be held for all users, and UserMemory how many of them for one; 256 and 96
	// MiB. Files are not counted: they are not held in memory.
	Memory, UserMemory int64
	// LoginsPerSecond and LoginBurst bound the log-ins under one name; 0.2 and 20.
	LoginsPerSecond float64
	LoginBurst      int
	// AddressPerSecond and AddressBurst bound the registrations and log-ins from
	// one address, or one /64 network of IPv6; 1 and 100. Loopback addresses are
	// not counted: there may be a proxy.
	AddressPerSecond float64
	AddressBurst     int
}

func (l Limits) withDefaults() Limits {
	float := func(v *float64, d float64) {
		if *v <= 0 {
			*v = d
		}
	}
	whole := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	float(&l.PerSecond, 100)
	whole(&l.Burst, 500)
	whole(&l.Concurrent, 64)
	float(&l.SubmitsPerSecond, 500)
	whole(&l.SubmitBurst, 5000)
	whole(&l.Connections, 32)
	if l.Memory <= 0 {
		l.Memory = 256 << 20
	}
	if l.UserMemory <= 0 {
		l.UserMemory = 96 << 20
	}
	float(&l.LoginsPerSecond, 0.2)
	whole(&l.LoginBurst, 20)
	float(&l.AddressPerSecond, 1)
	whole(&l.AddressBurst, 100)
	return l
}

// How long the body of a request may take to arrive: an upload, a handshake with
// its tree, anything else.
const (
	assetTime  = 30 * time.Minute
	updateTime = 10 * time.Minute
	bodyTime   = time.Minute
)

func timeFor(operation string) time.Duration {
	switch operation {
	case "assets":
		return assetTime
	case "update", "rooms", "reportAbuse":
		return updateTime
	}
	return bodyTime
}

// maxUsers bounds how many users' use is remembered.
const maxUsers = 100000

// users counts what each user does.
type users struct {
	limits Limits

	mu     sync.Mutex
	of     map[mimi.UserURI]*usage
	logins map[string]*rate.Limiter // by name
	places map[netip.Prefix]*rate.Limiter
	held   int64 // octets of bodies
}

// usage is what one user does at present; users.mu covers the counts.
type usage struct {
	requests, submits     *rate.Limiter
	inFlight, connections int
	held                  int64 // octets of bodies
}

func newUsers(l Limits) *users {
	return &users{limits: l.withDefaults(), of: map[mimi.UserURI]*usage{}, logins: map[string]*rate.Limiter{}, places: map[netip.Prefix]*rate.Limiter{}}
}

// get returns the usage of a user; u.mu is held.
func (u *users) get(user mimi.UserURI) *usage {
	if s := u.of[user]; s != nil {
		return s
	}
	if len(u.of) >= maxUsers {
		for k, s := range u.of {
			if s.inFlight == 0 && s.connections == 0 {
				delete(u.of, k)
			}
		}
	}
	l := u.limits
	s := &usage{requests: rate.NewLimiter(rate.Limit(l.PerSecond), l.Burst), submits: rate.NewLimiter(rate.Limit(l.SubmitsPerSecond), l.SubmitBurst)}
	u.of[user] = s
	return s
}

// take counts one event, or says how long to wait for it.
func take(l *rate.Limiter) time.Duration {
	r := l.Reserve()
	wait := r.Delay()
	if wait > 0 {
		r.Cancel()
	}
	return wait
}

func tooMany(wait time.Duration, what string) *Error {
	e := Errorf(CodeTooMany, "%s; try again in %v", what, wait.Round(time.Millisecond))
	e.RetryAfter = wait
	return e
}

// begin counts a request of a user; end must follow if it is nil.
func (u *users) begin(user mimi.UserURI, operation string) (end func(), err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.get(user)
	count, most, what := &s.inFlight, u.limits.Concurrent, "requests at a time"
	if operation == "events" {
		count, most, what = &s.connections, u.limits.Connections, "connections"
	}
	if *count >= most {
		return nil, tooMany(time.Second, "too many "+what)
	}
	bucket := s.requests
	if operation == "submitMessage" {
		bucket = s.submits
	}
	if wait := take(bucket); wait > 0 {
		return nil, tooMany(wait, "too many requests")
	}
	*count++
	return func() {
		u.mu.Lock()
		*count--
		u.mu.Unlock()
	}, nil
}

// A body is a request's body whose octets are counted as they come, until the
// request is over.
type body struct {
	io.ReadCloser
	u    *users
	of   *usage
	held int64 // only the request's goroutine uses it
}

// Read reads what there is place for.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if refused := b.add(n); refused != nil {
		return 0, refused
	}
	return n, err
}

// add counts octets that are held until the request is over: of its body, or of
// its answer while that is written. It returns an [*Error] where they are too many.
func (b *body) add(n int) error {
	b.u.mu.Lock()
	defer b.u.mu.Unlock()
	b.held += int64(n)
	b.of.held += int64(n)
	b.u.held += int64(n)
	if l := b.u.limits; b.of.held > l.UserMemory {
		return tooMany(2*time.Second, "the requests of this user that are under way are too large together")
	} else if b.u.held > l.Memory {
		return tooMany(2*time.Second, "the provider holds as many requests as it may")
	}
	return nil
}

// release says that the body is held no more.
func (b *body) release() {
	b.u.mu.Lock()
	defer b.u.mu.Unlock()
	b.of.held -= b.held
	b.u.held -= b.held
	b.held = 0
}

// body counts a request's body as a user's.
func (u *users) body(user mimi.UserURI, r io.ReadCloser) *body {
	u.mu.Lock()
	defer u.mu.Unlock()
	return &body{ReadCloser: r, u: u, of: u.get(user)}
}

// submits is the bucket of a user's messages.
func (u *users) submits(user mimi.UserURI) *rate.Limiter {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.get(user).submits
}

// login counts a log-in under a name.
func (u *users) login(name string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if wait := take(limiterOf(u.logins, name, u.limits.LoginsPerSecond, u.limits.LoginBurst)); wait > 0 {
		return tooMany(wait, "too many log-ins under this name")
	}
	return nil
}

// place counts a registration or a log-in from an address, host and port.
func (u *users) place(remote string) error {
	at, err := netip.ParseAddrPort(remote)
	if err != nil || at.Addr().IsLoopback() {
		return nil
	}
	addr, bits := at.Addr().Unmap().WithZone(""), 32
	if addr.Is6() {
		bits = 64
	}
	network, _ := addr.Prefix(bits) // there are so many
	u.mu.Lock()
	defer u.mu.Unlock()
	if wait := take(limiterOf(u.places, network, u.limits.AddressPerSecond, u.limits.AddressBurst)); wait > 0 {
		return tooMany(wait, "too many registrations and log-ins from this address")
	}
	return nil
}

// limiterOf returns the limiter of a key, of which maxUsers are remembered.
func limiterOf[K comparable](of map[K]*rate.Limiter, key K, perSecond float64, burst int) *rate.Limiter {
	l := of[key]
	if l == nil {
		if len(of) >= maxUsers {
			clear(of)
		}
		l = rate.NewLimiter(rate.Limit(perSecond), burst)
		of[key] = l
	}
	return l
}

// limitTime bounds how long a request's body may take.
func limitTime(w http.ResponseWriter, operation string) {
	// Some writers, such as those of tests, have no deadlines.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(timeFor(operation)))
}
