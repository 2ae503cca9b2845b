package federation

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// gatedConn counts its writes, which wait until the gate is open.
type gatedConn struct {
	net.Conn
	gate   chan struct{}
	writes atomic.Int64
}

func (c *gatedConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	<-c.gate
	return c.Conn.Write(b)
}

func gatheringPair(t *testing.T) (g *gathering, gated *gatedConn, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	gated = &gatedConn{Conn: near, gate: make(chan struct{})}
	return newGathering(gated), gated, far
}

func TestGatheringWritesTogether(t *testing.T) {
	g, gated, far := gatheringPair(t)
	var want []byte
	for i := range 200 {
		b := bytes.Repeat([]byte{byte(i)}, 100)
		if _, err := g.Write(b); err != nil {
			t.Fatal(err)
		}
		want = append(want, b...)
		b[0]++ // the writer's buffer is its own again
	}
	close(gated.gate)
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(far)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d octets of %d arrived, or others: %v", len(got), len(want), err)
	}
	if n := gated.writes.Load(); n > 2 {
		t.Errorf("%d writes for what was written while the first was under way", n)
	}
	if _, err := g.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("writing after Close: %v", err)
	}
}

func TestGatheringIsBounded(t *testing.T) {
	g, gated, far := gatheringPair(t)
	piece := make([]byte, 10*kib)
	var written atomic.Int64
	ended := make(chan error)
	go func() {
		for {
			n, err := g.Write(piece)
			if err != nil {
				ended <- err
				return
			}
			written.Add(int64(n))
		}
	}()
	// One buffer is being written, another waits; a third is not begun.
	for written.Load() < gatherBytes-10*kib {
		runtime.Gosched()
	}
	time.Sleep(20 * time.Millisecond)
	if n := written.Load(); n > 2*gatherBytes {
		t.Errorf("%d octets were taken though none was sent", n)
	}
	far.Close()
	close(gated.gate)
	if err := <-ended; err == nil {
		t.Error("writing to a closed peer goes on")
	}
	g.Close()
}

func TestGatheringReads(t *testing.T) {
	g, gated, far := gatheringPair(t)
	close(gated.gate)
	want := make([]byte, 5*aheadBytes)
	for i := range want {
		want[i] = byte(i * 7)
	}
	go func() {
		far.Write(want)
		far.Close()
	}()
	var got []byte
	for size := 1; ; size = size*3%977 + 1 {
		b := make([]byte, size)
		n, err := g.Read(b)
		got = append(got, b[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d octets of %d came, or others", len(got), len(want))
	}
}

func TestWorkersAreUsedAgain(t *testing.T) {
	var mu sync.Mutex
	stacks := map[string]int{}
	s := newWorkers(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/abort" {
			panic(http.ErrAbortHandler)
		}
		b := make([]byte, 64)
		id, _, _ := bytes.Cut(b[:runtime.Stack(b, false)], []byte(" ["))
		mu.Lock()
		stacks[string(id)]++
		mu.Unlock()
	})
	for i := range 50 {
		func() {
			defer func() {
				if v := recover(); (v == http.ErrAbortHandler) != (i%5 == 0) {
					t.Errorf("request %d: %v", i, v)
				}
			}()
			path := "/"
			if i%5 == 0 {
				path = "/abort"
			}
			s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil))
		}()
		time.Sleep(time.Millisecond) // the worker comes back
	}
	if len(stacks) > 25 {
		t.Errorf("%d goroutines for 40 requests one after the other", len(stacks))
	}
}
