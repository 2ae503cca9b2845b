package federation

import (
	"net"
	"runtime"
	"sync"
	"time"
)

const (
	// gatherBytes bounds what waits to be written to one connection.
	gatherBytes = 64 * kib
	// aheadBytes is how much of what has come is read at once.
	aheadBytes = 8 * kib
	// closeTime is how long the last octets of a connection may take.
	closeTime = time.Second
)

// A gathering connection writes what is given to it at about the same time with
// one system call, and reads as much as there is. HTTP/2 writes header and body
// of each request by themselves, and TLS reads each record by itself: with many
// requests under way most of these system calls can be shared.
//
// Write returns before the octets are written; an error shows in a later one, or
// in Read.
type gathering struct {
	net.Conn
	ahead []byte // was read and not taken yet; only Read uses it
	space []byte

	mu      sync.Mutex
	changed sync.Cond // on mu
	pending []byte
	spare   []byte // the buffer that is not pending
	busy    bool   // a goroutine writes
	closed  bool
	err     error // of a write
}

func newGathering(c net.Conn) *gathering {
	g := &gathering{Conn: c}
	g.changed.L = &g.mu
	return g
}

// Read is net.Conn's. One goroutine reads at a time.
func (g *gathering) Read(b []byte) (int, error) {
	if len(g.ahead) == 0 {
		if len(b) >= aheadBytes {
			return g.Conn.Read(b)
		}
		if g.space == nil {
			g.space = make([]byte, aheadBytes)
		}
		n, err := g.Conn.Read(g.space)
		if n == 0 {
			return 0, err
		}
		g.ahead = g.space[:n] // an error comes again
	}
	n := copy(b, g.ahead)
	g.ahead = g.ahead[n:]
	return n, nil
}

// Write is net.Conn's. It waits only for a peer that reads more slowly than is
// written.
func (g *gathering) Write(b []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.pending) > 0 && len(g.pending)+len(b) > gatherBytes && g.err == nil && !g.closed {
		g.changed.Wait()
	}
	if g.err != nil {
		return 0, g.err
	}
	if g.closed {
		return 0, net.ErrClosed
	}
	g.pending = append(g.pending, b...)
	if !g.busy {
		g.busy = true
		go g.flush()
	}
	return len(b), nil
}

// flush writes what waits until nothing does.
func (g *gathering) flush() {
	for {
		runtime.Gosched() // who has something to write at this moment puts it in
		g.mu.Lock()
		b := g.pending
		if len(b) == 0 || g.err != nil {
			g.busy, g.pending, g.spare = false, nil, nil
			g.changed.Broadcast()
			g.mu.Unlock()
			return
		}
		g.pending, g.spare = g.spare[:0], nil
		g.changed.Broadcast()
		g.mu.Unlock()
		_, err := g.Conn.Write(b)
		if err != nil {
			g.Conn.Close() // who reads hears of it, too
		}
		g.mu.Lock()
		g.spare, g.err = b, err
		g.mu.Unlock()
	}
}

// Close is net.Conn's. What was written before still goes out, if the peer takes
// it in closeTime.
func (g *gathering) Close() error {
	g.mu.Lock()
	g.closed = true
	g.changed.Broadcast()
	if g.busy {
		g.Conn.SetWriteDeadline(time.Now().Add(closeTime))
	}
	for g.busy {
		g.changed.Wait()
	}
	err := g.err
	g.mu.Unlock()
	if err != nil {
		return nil // it is closed
	}
	return g.Conn.Close()
}

// gatherListener makes the connections of a listener gather.
type gatherListener struct{ net.Listener }

// Accept waits for the next connection.
func (l gatherListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newGathering(c), nil
}
