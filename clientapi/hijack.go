package clientapi

import (
	"bufio"
	"net"
	"net/http"
	"sync"
	"time"
)

// Buffers of a connection, in octets. Most connections do nothing most of the
// time: the reader has room for a frame's header and a small frame, the writer
// for no more than a header, since a message is put together before it is written.
const (
	readBuffer  = 256
	writeBuffer = 16
)

// hijacker gives up a request's connection with small buffers.
type hijacker struct {
	http.ResponseWriter
	conn *corked
}

// Hijack is http.Hijacker's.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	h.conn = &corked{Conn: conn}
	ahead, _ := rw.Reader.Peek(rw.Reader.Buffered())
	h.conn.ahead = append(h.conn.ahead, ahead...)
	return h.conn, bufio.NewReadWriter(bufio.NewReaderSize(h.conn, readBuffer), bufio.NewWriterSize(h.conn, writeBuffer)), nil
}

// A corked connection gathers what is written between cork and uncork and writes
// it at once, in as few TLS records as may be.
type corked struct {
	net.Conn
	ahead []byte // was read with the request; only Read uses it

	mu      sync.Mutex
	on      bool
	pending []byte
}

// Read is net.Conn's.
func (c *corked) Read(b []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(b, c.ahead)
		if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
			c.ahead = nil
		}
		return n, nil
	}
	return c.Conn.Read(b)
}

// Write is net.Conn's.
func (c *corked) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.on {
		c.pending = append(c.pending, b...)
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// corks are buffers for what is written.
var corks = sync.Pool{New: func() any { return new([]byte) }}

// message writes what f writes.
func (c *corked) message(f func() error) error {
	buffer := corks.Get().(*[]byte)
	c.mu.Lock()
	c.on, c.pending = true, (*buffer)[:0]
	c.mu.Unlock()
	err := f()
	c.mu.Lock()
	c.on = false
	b := c.pending
	c.pending = nil
	if err == nil && len(b) > 0 {
		c.Conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		_, err = c.Conn.Write(b)
		c.Conn.SetWriteDeadline(time.Time{})
	}
	c.mu.Unlock()
	if cap(b) <= 2*togetherBytes {
		*buffer = b
		corks.Put(buffer)
	}
	return err
}
