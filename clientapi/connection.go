package clientapi

import (
	"context"
	"errors"
	"net/http"
	"sync"

	"github.com/coder/websocket"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/tlspl"
)

// A Connection is a client's events connection.
type Connection struct {
	conn *websocket.Conn
	out  *outbox

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan *Frame
	err     error // why it ended
}

// Connect opens the events connection. What the client has not acknowledged
// comes first.
func (c *Client) Connect(ctx context.Context) (*Connection, error) {
	conn, resp, err := websocket.Dial(ctx, c.base+"events", c.dialOptions())
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols && resp.Body != nil {
			return nil, responseError(resp)
		}
		return nil, unreachable(ctx, c.base, err)
	}
	conn.SetReadLimit(MaxUpdate * 2)
	v := &Connection{conn: conn, waiting: map[uint64]chan *Frame{}}
	v.out = newOutbox(v.write)
	return v, nil
}

// Next waits for events. It must be called in a loop: answers to Submit arrive
// only while it runs.
func (c *Connection) Next(ctx context.Context) ([]Event, error) {
	for {
		_, b, err := c.conn.Read(ctx)
		if err != nil {
			return nil, c.end(err)
		}
		var events []Event
		if err := frames(b, func(f *Frame) error {
			switch f.Type {
			case FrameEvents:
				events = append(events, f.Events...)
			case FrameAnswer, FrameRefuse:
				c.answered(f)
			default:
				return errors.New("clientapi: a frame of this type comes from a client")
			}
			return nil
		}); err != nil {
			return nil, c.end(err)
		}
		if len(events) > 0 {
			return events, nil
		}
	}
}

// answered hands an answer to who waits for it.
func (c *Connection) answered(f *Frame) {
	c.mu.Lock()
	ch := c.waiting[f.ID]
	delete(c.waiting, f.ID)
	c.mu.Unlock()
	if ch != nil {
		ch <- f
	}
}

// end makes all that wait fail.
func (c *Connection) end(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	for id, ch := range c.waiting {
		close(ch)
		delete(c.waiting, id)
	}
	return err
}

func (c *Connection) write(ctx context.Context, b []byte) error {
	err := c.conn.Write(ctx, websocket.MessageBinary, b)
	if err != nil {
		c.end(err)
	}
	return err
}

// Ack tells the provider that everything in room up to seq is stored here.
func (c *Connection) Ack(ctx context.Context, room mimi.RoomURI, seq int64) error {
	return c.out.put(&Frame{Type: FrameAck, Room: room, Seq: uint64(seq)})
}

// Submit submits an application message and waits for the hub's answer. If the
// connection ends first it is not known whether the hub took it: submitting the
// same octets again is safe.
func (c *Connection) Submit(ctx context.Context, room mimi.RoomURI, r *mimi.SubmitMessageRequest) (*mimi.SubmitMessageResponse, error) {
	body, err := tlspl.Marshal(r)
	if err != nil {
		return nil, err
	}
	ch := make(chan *Frame, 1)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return nil, c.err
	}
	c.next++
	id := c.next
	c.waiting[id] = ch
	c.mu.Unlock()
	forget := func() {
		c.mu.Lock()
		delete(c.waiting, id)
		c.mu.Unlock()
	}
	if err := c.out.put(&Frame{Type: FrameSubmit, ID: id, Room: room, Body: body}); err != nil {
		forget()
		return nil, err
	}
	select {
	case <-ctx.Done():
		forget()
		return nil, ctx.Err()
	case f, ok := <-ch:
		if !ok {
			return nil, Errorf(CodeUnreachable, "the connection to the provider ended: %v", c.err)
		}
		if f.Type == FrameRefuse {
			return nil, &Error{Code: f.Reason, Message: string(f.Body)}
		}
		v := new(mimi.SubmitMessageResponse)
		return v, tlspl.UnmarshalAlias(f.Body, v)
	}
}

// Close ends the connection.
func (c *Connection) Close() error {
	c.out.drain()
	err := c.conn.Close(websocket.StatusNormalClosure, "")
	c.end(errors.New("clientapi: the connection was closed"))
	return err
}
