package chaos

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"
)

// A wire is a network in this process: what the kernel sends into it comes back,
// packet by packet, after what may happen to packets. Connections between
// providers go over it, so that the kernel's TCP meets loss and reordering.
//
// It is a TUN device with one address, 198.18.n.1 of those for benchmarks (RFC
// 2544); what is sent to its neighbour 198.18.n.2 is sent back with both
// addresses exchanged, which no checksum notices, and so arrives here.
type wire struct {
	device  *os.File
	own     net.IP
	other   net.IP
	writing sync.Mutex

	mu      sync.Mutex
	random  *rand.Rand
	weather weather
	counts  weatherCounts
	open    map[io.Closer]bool // listeners and connections
	closed  bool
	wg      sync.WaitGroup
}

// weather is what happens to packets: each to one of so many, 0: to none.
type weather struct {
	lose, double, spoil int
	// late is how many come up to 30 ms later than they should, after others that
	// were sent after them.
	late int
}

type weatherCounts struct{ passed, lost, doubled, spoiled, late int }

// errNoWire says why there is none.
var errNoWire = errors.New("chaos: no packets can be lost: it takes a TUN device, and those are not made on this system")

func (w *wire) set(x weather) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.weather = x
}

// forward makes an address be reached over the wire, and returns at which.
func (w *wire) forward(to string) (string, error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: w.own})
	if err != nil {
		return "", err
	}
	w.hold(l)
	w.wg.Go(func() {
		for {
			in, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue
			}
			w.wg.Go(func() { w.pass(in, to) })
		}
	})
	at := l.Addr().(*net.TCPAddr)
	return (&net.TCPAddr{IP: w.other, Port: at.Port}).String(), nil
}

// pass connects to an address and passes on what comes, until either side ends.
func (w *wire) pass(in net.Conn, to string) {
	defer w.drop(in)
	if !w.hold(in) {
		return
	}
	out, err := net.DialTimeout("tcp", to, time.Second)
	if err != nil {
		in.(*net.TCPConn).SetLinger(0)
		return
	}
	defer w.drop(out)
	if !w.hold(out) {
		return
	}
	end := sync.OnceFunc(func() {
		in.Close()
		out.Close()
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		io.Copy(out, in)
		end()
	})
	wg.Go(func() {
		io.Copy(in, out)
		end()
	})
	wg.Wait()
}

// hold notes what is to be closed with the wire, and says whether that is still
// there.
func (w *wire) hold(c io.Closer) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open == nil {
		w.open = map[io.Closer]bool{}
	}
	w.open[c] = true
	return !w.closed
}

func (w *wire) drop(c io.Closer) {
	c.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.open, c)
}

// run sends packets back until the device is closed.
func (w *wire) run() {
	b := make([]byte, 65536)
	for {
		n, err := w.device.Read(b)
		if err != nil {
			return
		}
		p := append([]byte(nil), b[:n]...)
		if len(p) <= 20 || p[0]>>4 != 4 {
			continue // not IPv4
		}
		var from [4]byte
		copy(from[:], p[12:16])
		copy(p[12:16], p[16:20])
		copy(p[16:20], from[:])
		w.mu.Lock()
		one := func(of int) bool { return of > 0 && w.random.IntN(of) == 0 }
		lost, doubled, spoiled, late := one(w.weather.lose), one(w.weather.double), one(w.weather.spoil), one(w.weather.late)
		wait := time.Duration(w.random.Int64N(int64(30 * time.Millisecond)))
		if spoiled { // one bit of what TCP's checksum covers
			p[20+w.random.IntN(len(p)-20)] ^= 1 << w.random.IntN(8)
		}
		for _, c := range []struct {
			happened bool
			n        *int
		}{{!lost, &w.counts.passed}, {lost, &w.counts.lost}, {doubled, &w.counts.doubled}, {spoiled, &w.counts.spoiled}, {late, &w.counts.late}} {
			if c.happened {
				*c.n++
			}
		}
		w.mu.Unlock()
		if lost {
			continue
		}
		if doubled {
			w.write(p)
		}
		if late {
			time.AfterFunc(wait, func() { w.write(p) })
		} else {
			w.write(p)
		}
	}
}

func (w *wire) write(p []byte) {
	w.writing.Lock()
	defer w.writing.Unlock()
	w.device.Write(p) // a packet that can't be written is lost
}

func (w *wire) close() {
	w.mu.Lock()
	w.closed = true
	for c := range w.open {
		c.Close()
	}
	w.mu.Unlock()
	w.device.Close()
	w.wg.Wait()
}
