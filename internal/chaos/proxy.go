package chaos

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// A proxy stands between those who connect and one or several addresses, and
// breaks what passes. Everything that passes is TLS: it delays, cuts and swallows
// bytes, which makes lost, truncated, late and, because the peers try again,
// repeated requests. It also is the load balancer in front of several nodes.
type proxy struct {
	listener net.Listener
	targets  []string

	mu     sync.Mutex
	random *rand.Rand
	mood   mood
	conns  map[*link]struct{}
	wg     sync.WaitGroup
}

// A mood is how a proxy treats connections.
type mood struct {
	refuse bool          // close new connections at once
	hole   bool          // take everything, pass nothing on
	mute   bool          // pass requests on, swallow answers
	delay  time.Duration // of each piece, in both directions
	loss   int           // one of so many pieces comes 200 ms to 1.2 s later, and what follows on its connection after it; 0: none
	// reorder holds each connection's requests back for a time of its own, up to so
	// long: what was sent first over one comes later than what was sent over another.
	reorder time.Duration
	cut     int // one of so many pieces is cut in the middle, with its connection; 0: none
}

// A link is one connection through a proxy.
type link struct {
	in, out net.Conn
	share   float64 // of the longest time by which connections are held back
}

func (l *link) close() {
	// A reset, not an orderly end.
	for _, c := range []net.Conn{l.in, l.out} {
		if t, ok := c.(*net.TCPConn); ok {
			t.SetLinger(0)
		}
		if c != nil {
			c.Close()
		}
	}
}

func newProxy(seed uint64, targets ...string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, targets: targets, random: rand.New(rand.NewPCG(seed, 7)), conns: map[*link]struct{}{}}
	p.wg.Go(p.accept)
	return p, nil
}

// add makes the proxy spread connections over one more address.
func (p *proxy) add(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.targets = append(p.targets, target)
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// set changes how connections are treated, those that there are too.
func (p *proxy) set(m mood) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mood = m
}

// reset cuts all connections.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.conns {
		l.close()
	}
}

// now says what to do with a piece: how long to hold it back, and whether to cut.
func (p *proxy) now(l *link) (m mood, wait time.Duration, cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m = p.mood
	wait = m.delay + time.Duration(l.share*float64(m.reorder))
	if m.loss > 0 && p.random.IntN(m.loss) == 0 {
		wait += 200*time.Millisecond + time.Duration(p.random.Int64N(int64(time.Second)))
	}
	return m, wait, m.cut > 0 && p.random.IntN(m.cut) == 0
}

func (p *proxy) close() {
	p.listener.Close()
	p.reset()
	p.wg.Wait()
}

func (p *proxy) accept() {
	for {
		in, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		p.mu.Lock()
		refuse := p.mood.refuse
		p.mu.Unlock()
		if refuse {
			(&link{in: in}).close()
			continue
		}
		p.wg.Go(func() { p.serve(in) })
	}
}

func (p *proxy) serve(in net.Conn) {
	p.mu.Lock()
	targets := p.targets
	order := p.random.Perm(len(targets))
	l := &link{in: in, share: p.random.Float64()}
	p.mu.Unlock()
	for _, i := range order { // the first node that answers
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		out, err := new(net.Dialer).DialContext(ctx, "tcp", targets[i])
		cancel()
		if err == nil {
			l.out = out
			break
		}
	}
	if l.out == nil {
		l.close()
		return
	}
	p.mu.Lock()
	p.conns[l] = struct{}{}
	p.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { p.copy(l, l.out, l.in, false) })
	wg.Go(func() { p.copy(l, l.in, l.out, true) })
	wg.Wait()
	p.mu.Lock()
	delete(p.conns, l)
	p.mu.Unlock()
}

func (p *proxy) copy(l *link, to, from net.Conn, answers bool) {
	defer l.close()
	b := make([]byte, 16<<10)
	for {
		n, err := from.Read(b)
		m, wait, cut := p.now(l)
		time.Sleep(wait)
		switch {
		case n == 0:
		case m.hole || m.mute && answers:
			// Whatever comes later is no use to TLS any more.
			io.Copy(io.Discard, from)
			return
		case cut:
			to.Write(b[:n/2])
			return
		default:
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
