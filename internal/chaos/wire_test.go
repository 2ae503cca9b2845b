package chaos

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"testing"
	"time"
)

// What is sent over a wire that loses, doubles, spoils and delays packets arrives
// whole all the same, by TCP's work.
func TestWire(t *testing.T) {
	w, err := newWire(1)
	if err != nil {
		t.Skipf("skipped: %v", err)
	}
	defer w.close()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		for {
			c, err := server.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	at, err := w.forward(server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	w.set(weather{lose: 20, double: 20, spoil: 50, late: 10})
	c, err := net.DialTimeout("tcp", at, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	sent := make([]byte, 1<<20)
	rand.Read(sent)
	go c.Write(sent)
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("what came back is something else: %v", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	t.Logf("%+v", w.counts)
	if n := w.counts; n.passed == 0 || n.lost == 0 || n.doubled == 0 || n.spoiled == 0 || n.late == 0 {
		t.Errorf("nothing happened to packets: %+v", n)
	}
}
