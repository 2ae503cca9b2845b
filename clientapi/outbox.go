package clientapi

import (
	"context"
	"runtime"
	"sync"

	"github.com/comity-im/comity/tlspl"
)

// togetherBytes bounds the frames that go in one message of the connection, but
// for one that is larger by itself.
const togetherBytes = 64 << 10

// fullBytes is how much may wait for one connection.
const fullBytes = 4 * togetherBytes

// An outbox gathers the frames that one side of an events connection sends while
// an earlier message is being written, and writes them in one.
type outbox struct {
	write func(context.Context, []byte) error

	mu     sync.Mutex
	empty  sync.Cond // on mu
	frames [][]byte
	size   int   // octets of frames
	busy   bool  // a goroutine writes
	err    error // of a write; nothing is written any more
}

func newOutbox(write func(context.Context, []byte) error) *outbox {
	o := &outbox{write: write}
	o.empty.L = &o.mu
	return o
}

// put makes a frame be sent. Its error is that of an earlier write.
func (o *outbox) put(f *Frame) error {
	b, err := tlspl.Marshal(f)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return o.err
	}
	o.frames = append(o.frames, b)
	o.size += len(b)
	if !o.busy {
		o.busy = true
		go o.flush()
	}
	return nil
}

// drain waits until everything is written.
func (o *outbox) drain() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.busy {
		o.empty.Wait()
	}
	return o.err
}

// full says whether so much waits that who sends must wait, too.
func (o *outbox) full() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.size > fullBytes
}

func (o *outbox) flush() {
	for {
		runtime.Gosched() // who has something to send at this moment puts it in
		o.mu.Lock()
		n, size := 0, 0
		for n < len(o.frames) && (n == 0 || size+len(o.frames[n]) <= togetherBytes) {
			size += len(o.frames[n])
			n++
		}
		if n == 0 || o.err != nil {
			o.busy, o.frames, o.size = false, nil, 0
			o.empty.Broadcast()
			o.mu.Unlock()
			return
		}
		b := o.frames[0]
		if n > 1 {
			b = make([]byte, 0, size)
			for _, f := range o.frames[:n] {
				b = append(b, f...)
			}
		}
		o.frames, o.size = o.frames[n:], o.size-size
		o.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
		err := o.write(ctx, b)
		cancel()
		if err != nil {
			o.mu.Lock()
			o.err = err
			o.mu.Unlock()
		}
	}
}

// frames calls f for each frame of a message.
func frames(b []byte, f func(*Frame) error) error {
	for {
		frame := new(Frame)
		n, err := tlspl.UnmarshalPrefix(b, frame)
		if err != nil {
			return err
		}
		if err := f(frame); err != nil {
			return err
		}
		if b = b[n:]; len(b) == 0 {
			return nil
		}
	}
}
