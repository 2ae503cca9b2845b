package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/content"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// Composer makes the messages of this device's user in a room.
func (c *Client) Composer(uri mimi.RoomURI) content.Composer {
	return content.Composer{SenderURI: string(c.self.user), RoomURI: string(uri), Rand: c.rand}
}

// Send writes a message in Markdown. It is stored when Send returns, and sent as
// soon as there is a connection; Sent waits for that.
func (c *Client) Send(ctx context.Context, uri mimi.RoomURI, markdown string) (content.MessageID, error) {
	m, err := c.Composer(uri).Text(markdown)
	if err != nil {
		return content.MessageID{}, err
	}
	return c.SendContent(ctx, uri, m)
}

// A NoMessageError is a message that the device does not have.
type NoMessageError struct {
	Room mimi.RoomURI
	ID   content.MessageID
}

func (e *NoMessageError) Error() string {
	return fmt.Sprintf("client: there is no message %s in %s", e.ID, e.Room)
}

// Reply answers a message.
func (c *Client) Reply(ctx context.Context, uri mimi.RoomURI, to content.MessageID, markdown string) (content.MessageID, error) {
	e, err := c.entry(ctx, uri, to)
	if err != nil {
		return to, err
	}
	m, err := c.Composer(uri).Reply(e.Current, content.Markdown(markdown))
	if err != nil {
		return to, err
	}
	m.TopicID = e.TopicID
	return c.SendContent(ctx, uri, m)
}

// React answers a message with emoji.
func (c *Client) React(ctx context.Context, uri mimi.RoomURI, to content.MessageID, emoji ...string) (content.MessageID, error) {
	e, err := c.entry(ctx, uri, to)
	if err != nil {
		return to, err
	}
	m, err := c.Composer(uri).React(e.Current, emoji...)
	if err != nil {
		return to, err
	}
	return c.SendContent(ctx, uri, m)
}

// Edit puts another text in the place of a message.
func (c *Client) Edit(ctx context.Context, uri mimi.RoomURI, id content.MessageID, markdown string) (content.MessageID, error) {
	first, original, err := c.original(ctx, uri, id)
	if err != nil {
		return id, err
	}
	m, err := c.Composer(uri).Edit(first, original, content.Markdown(markdown))
	if err != nil {
		return id, err
	}
	return c.SendContent(ctx, uri, m)
}

// Delete retracts a message or a reaction.
func (c *Client) Delete(ctx context.Context, uri mimi.RoomURI, id content.MessageID) (content.MessageID, error) {
	first, original, err := c.original(ctx, uri, id)
	if err != nil {
		return id, err
	}
	m, err := c.Composer(uri).Delete(first, original)
	if err != nil {
		return id, err
	}
	return c.SendContent(ctx, uri, m)
}

// Report tells the room what became of messages here.
func (c *Client) Report(ctx context.Context, uri mimi.RoomURI, status content.Status, ids ...content.MessageID) (content.MessageID, error) {
	list := make([]content.PerMessageStatus, len(ids))
	for i := range ids {
		list[i] = content.PerMessageStatus{MessageID: ids[i], Status: status}
	}
	m, err := c.Composer(uri).Report(list...)
	if err != nil {
		return content.MessageID{}, err
	}
	return c.SendContent(ctx, uri, m)
}

// original is the first version of a message.
func (c *Client) original(ctx context.Context, uri mimi.RoomURI, id content.MessageID) (content.MessageID, *content.Content, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rooms[uri]
	if r == nil {
		return id, nil, &NoRoomError{Room: uri}
	}
	var m *content.Message
	err := c.store.View(ctx, func(tx Tx) (err error) {
		if _, m, err = find(tx, r, id); err != nil || m == nil || m.Content == nil || m.Content.Replaces == nil {
			return err
		}
		id = *m.Content.Replaces
		_, m, err = find(tx, r, id)
		return err
	})
	if err == nil && (m == nil || m.Content == nil) {
		err = &NoMessageError{uri, id}
	}
	if err != nil {
		return id, nil, err
	}
	return id, m.Content, nil
}

// entry is what became of a message.
func (c *Client) entry(ctx context.Context, uri mimi.RoomURI, id content.MessageID) (*content.Entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rooms[uri]
	if r == nil {
		return nil, &NoRoomError{Room: uri}
	}
	if err := c.timelined(ctx, r); err != nil {
		return nil, err
	}
	e, ok := r.timeline.Entry(id, uint64(c.cfg.Now().UnixMilli()))
	if !ok {
		return nil, &NoMessageError{uri, id}
	}
	return e, nil
}

// SendContent puts a message into the outbox, unless the room's rules forbid it:
// then the error is a *policy.Denial.
func (c *Client) SendContent(ctx context.Context, uri mimi.RoomURI, m *content.Content) (content.MessageID, error) {
	return c.post(ctx, uri, m, nil)
}

// post is SendContent; also, if not nil, is stored with the message.
func (c *Client) post(ctx context.Context, uri mimi.RoomURI, m *content.Content, also func(*batch) error) (content.MessageID, error) {
	var id content.MessageID
	body, err := m.Marshal()
	if err != nil {
		return id, err
	}
	if id, err = content.NewMessageID(string(c.self.user), string(uri), body, m.Salt); err != nil {
		return id, err
	}
	now := uint64(c.cfg.Now().UnixMilli())
	c.mu.Lock()
	defer c.mu.Unlock()
	r, g, err := c.member(ctx, uri)
	if err != nil {
		return id, err
	}
	if r.rec.standing != Joined {
		return id, &NoRoomError{uri, r.rec.standing, r.rec.why}
	}
	msg, err := content.Verify(body, content.Envelope{SenderURI: string(c.self.user), RoomURI: string(uri), AcceptedMillis: now, NowMillis: now})
	if err != nil {
		return id, err
	}
	data, err := frame(g.View(), body)
	if err != nil {
		return id, err
	}
	o := &outboxRecord{id: id, data: data, at: now}
	if g.View().FrankingAgent() != nil {
		tag := mimi.NewFrankingTag(m.Salt[:], data)
		o.tag = tag[:]
	}
	_, err = c.write(ctx, func(b *batch) error {
		target, err := b.target(r, msg)
		if err != nil {
			return err
		}
		if d := policy.JudgeContent(g.View().ContentPolicy(), g.Role(), describe(msg, target)); d != nil {
			return d
		}
		if also != nil {
			if err := also(b); err != nil {
				return err
			}
		}
		r.rec.counter++
		r.outbox++
		return put(b.tx, outboxKey(r.rec.number, r.rec.counter), o)
	}, r)
	return id, err
}

// frame puts MIMI content into ApplicationFraming, if the room has that.
func frame(v *room.View, body []byte) ([]byte, error) {
	if !v.Has(mls.ComponentContentMediaTypes) {
		return body, nil
	}
	return tlspl.Marshal(&mls.ApplicationFraming{MediaType: mls.MediaType{Type: []byte(room.ContentMediaType)}, InnerApplicationContent: body})
}

// A FailedError is a message that the hub does not take.
type FailedError struct{ Why string }

func (e *FailedError) Error() string { return "client: the message was not sent: " + e.Why }

// Sent waits until the hub has accepted a message, or refused it: then the error
// is a *FailedError. It needs Run.
func (c *Client) Sent(ctx context.Context, uri mimi.RoomURI, id content.MessageID) error {
	var err error
	wait := c.await(ctx, func() bool {
		r := c.rooms[uri]
		if r == nil {
			err = &NoRoomError{Room: uri}
			return true
		}
		var waiting bool
		waiting, err = c.waiting(ctx, r, id)
		if err == nil && waiting && r.rec.standing == Lost {
			err = &NoRoomError{uri, r.rec.standing, r.rec.why}
		}
		return err != nil || !waiting
	})
	if wait != nil {
		return wait
	}
	return err
}

// waiting reports whether a message is in the outbox. c.mu is held.
func (c *Client) waiting(ctx context.Context, r *roomState, id content.MessageID) (waiting bool, err error) {
	err = c.store.View(ctx, func(tx Tx) error {
		return tx.Scan(key(keyOutbox, r.rec.number), nil, func(k, _ []byte) (bool, error) {
			var o outboxRecord
			if _, err := get(tx, k, &o); err != nil {
				return false, err
			}
			if o.id != id {
				return true, nil
			}
			if o.failed != "" {
				return false, &FailedError{o.failed}
			}
			waiting = true
			return false, nil
		})
	})
	return waiting, err
}

// errWait says that nothing can be sent now; what has to happen first wakes the worker.
var errWait = errors.New("client: waiting for the room")

// sendNext sends the first message of a room's outbox, and reports whether there
// was one. The room's op is held.
func (c *Client) sendNext(ctx context.Context, r *roomState) (bool, error) {
	k, o, err := c.seal(ctx, r)
	if err != nil || k == nil {
		return false, err
	}
	message, err := mimi.ParseMessage(o.sealed)
	if err != nil {
		return false, &CorruptError{keyOutbox, err}
	}
	resp, err := c.submit(ctx, r.uri, &mimi.SubmitMessageRequest{Protocol: mimi.MLS10, AppMessage: message, SendingURI: c.self.user})
	if err != nil {
		if why := final(err); why != "" {
			if notFound(err) {
				if _, err := c.lost(ctx, r, true); err != nil {
					return false, err
				}
				return false, errWait // until the device comes in anew, or the room is founded again
			}
			return true, c.fail(ctx, r, k, o, why)
		}
		return false, err
	}
	var events []Event
	c.mu.Lock()
	events, err = c.write(ctx, func(b *batch) error {
		b.touch(r)
		now, err := b.tx.Get(k)
		if err != nil || now == nil {
			return err // the log has brought it meanwhile
		}
		switch resp.StatusCode {
		case mimi.SubmitSuccess:
			return b.accepted(r, k, o, resp.AcceptedTimestamp, resp.Frank, 0)
		case mimi.SubmitEpochTooOld:
			o.old, o.need = true, resp.CurrentEpoch
			return put(b.tx, k, o)
		}
		return nil
	}, r)
	c.mu.Unlock()
	c.notify.tell(events...)
	if err != nil {
		return false, err
	}
	if resp.StatusCode == mimi.SubmitEpochTooOld && o.epoch >= resp.CurrentEpoch {
		// Too old, and of no earlier epoch: of another group than the hub's.
		if _, err := c.forked(ctx, r, k, o); err != nil {
			return false, err
		}
		return false, errWait
	}
	if resp.StatusCode == mimi.SubmitNotAllowed {
		if forked, err := c.forked(ctx, r, k, o); err != nil || forked {
			return false, err
		}
		return true, c.fail(ctx, r, k, o, "the hub does not allow it")
	}
	return true, nil
}

// forked looks whether the hub refused a message because its state of the room
// is an earlier one, or another one, than this device's: the hub was restored from
// a backup. Then the device comes in anew, and the message is encrypted anew. The
// room's op is held.
func (c *Client) forked(ctx context.Context, r *roomState, k []byte, o *outboxRecord) (bool, error) {
	tbe, err := c.groupInfo(ctx, r.uri, nil)
	var denied *JoinError
	switch {
	case errors.As(err, &denied), final(err) != "":
		return false, nil
	case err != nil:
		return false, err
	}
	theirs := &tbe.GroupInfo.GroupContext
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.group == nil || r.rec.standing != Joined {
		return false, nil
	}
	mine := r.group.View().Context()
	if !bytes.Equal(theirs.GroupID, mine.GroupID) {
		_, err := c.write(ctx, func(b *batch) error {
			o.old, o.need = true, 0
			if err := put(b.tx, k, o); err != nil {
				return err
			}
			return b.repair(r, foundedElsewhere)
		}, r)
		return err == nil, err
	}
	if theirs.Epoch > mine.Epoch || theirs.Epoch == mine.Epoch && bytes.Equal(theirs.ConfirmedTranscriptHash, mine.ConfirmedTranscriptHash) {
		return false, nil
	}
	_, err = c.write(ctx, func(b *batch) error {
		o.old, o.need = true, 0
		if err := put(b.tx, k, o); err != nil {
			return err
		}
		return b.repair(r, "the hub's epoch %d is not this device's epoch %d: it was restored from a backup", theirs.Epoch, mine.Epoch)
	}, r)
	return err == nil, err
}

// submit submits a message over the events connection, or without one by a request.
func (c *Client) submit(ctx context.Context, uri mimi.RoomURI, q *mimi.SubmitMessageRequest) (*mimi.SubmitMessageResponse, error) {
	c.mu.Lock()
	conn := c.conn
	c.mu.Unlock()
	if conn != nil {
		return conn.Submit(ctx, uri, q)
	}
	return c.provider.SubmitMessage(ctx, uri, q)
}

// final returns why the provider will never do something; empty if it may later.
func final(err error) string {
	var e *clientapi.Error
	if !errors.As(err, &e) {
		return ""
	}
	switch e.Code {
	case clientapi.CodeBadRequest, clientapi.CodeForbidden, clientapi.CodeNotFound, clientapi.CodeConflict, clientapi.CodeTooLarge:
		return e.Message
	}
	return ""
}

// fail marks an entry of the outbox as refused.
func (c *Client) fail(ctx context.Context, r *roomState, k []byte, o *outboxRecord, why string) error {
	c.mu.Lock()
	events, err := c.write(ctx, func(b *batch) error {
		now, err := b.tx.Get(k)
		if err != nil || now == nil {
			return err
		}
		o.failed = why
		r.outbox = max(0, r.outbox-1)
		if err := put(b.tx, k, o); err != nil {
			return err
		}
		m, err := c.unsent(r, o)
		if err != nil {
			return err
		}
		return b.raise(r, Event{Kind: EventFailed, Text: why, Message: m})
	}, r)
	c.mu.Unlock()
	c.notify.tell(events...)
	return err
}

// seal returns the first message of the outbox that is to be sent, encrypted; nil
// if there is none. What was sealed before is sent again as it is: the hub knows
// it if it had it. Only when the hub said that its epoch is too old is it
// encrypted anew, and not before this device has read the log up to the hub's
// epoch: if the hub had accepted it after all, the log has said so by then.
func (c *Client) seal(ctx context.Context, r *roomState) (k []byte, o *outboxRecord, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g, err := c.held(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	if g == nil || r.rec.standing != Joined || r.rec.repair != "" {
		return nil, nil, errWait
	}
	_, err = c.write(ctx, func(b *batch) error {
		k = nil
		err := b.tx.Scan(key(keyOutbox, r.rec.number), nil, func(at, _ []byte) (bool, error) {
			entry := new(outboxRecord)
			if _, err := get(b.tx, at, entry); err != nil {
				return false, err
			}
			if entry.failed == "" {
				k, o = bytes.Clone(at), entry
			}
			return k == nil, nil
		})
		if err != nil || k == nil {
			return err
		}
		if len(o.sealed) > 0 && !o.old {
			return nil
		}
		if !g.Active() || o.old && g.View().Epoch() < o.need || len(g.Group().Pending()) > 0 {
			return errWait
		}
		tag := o.tag
		if len(tag) == 0 {
			tag = nil
		}
		m, err := g.Encrypt(c.rand, o.data, tag)
		if err != nil {
			return err
		}
		digest, err := m.Digest()
		if err != nil {
			return err
		}
		if o.sealed, err = m.Bytes(); err != nil {
			return err
		}
		o.digest, o.epoch, o.old = digest[:], g.View().Epoch(), false
		b.touch(r)
		return put(b.tx, k, o)
	})
	if errors.Is(err, errWait) {
		return nil, nil, errWait
	}
	return k, o, err
}

// unsent is a message of the outbox as a person sees it.
func (c *Client) unsent(r *roomState, o *outboxRecord) (*Message, error) {
	rec := &messageRecord{sender: c.self.user, client: c.self.client, data: o.data}
	m, err := rec.parse(r.uri, mimi.Millis(o.at))
	if err != nil {
		return nil, &CorruptError{keyOutbox, err}
	}
	v := single(r.uri, rec, m, c.self.client)
	v.State, v.Time, v.Why = Sending, time.UnixMilli(int64(o.at)), o.failed
	if o.failed != "" {
		v.State = Failed
	}
	return v, nil
}

// Resend tries again to send a message that failed; Discard drops it.
func (c *Client) Resend(ctx context.Context, uri mimi.RoomURI, id content.MessageID) error {
	return c.retry(ctx, uri, id, func(b *batch, r *roomState, k []byte, o *outboxRecord) error {
		o.failed, o.sealed, o.digest = "", nil, nil
		r.outbox++
		return put(b.tx, k, o)
	})
}

// Discard drops a message that failed.
func (c *Client) Discard(ctx context.Context, uri mimi.RoomURI, id content.MessageID) error {
	return c.retry(ctx, uri, id, func(b *batch, _ *roomState, k []byte, _ *outboxRecord) error { return b.tx.Delete(k) })
}

func (c *Client) retry(ctx context.Context, uri mimi.RoomURI, id content.MessageID, f func(*batch, *roomState, []byte, *outboxRecord) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rooms[uri]
	if r == nil {
		return &NoRoomError{Room: uri}
	}
	_, err := c.write(ctx, func(b *batch) error {
		var mine []byte
		var o outboxRecord
		err := b.tx.Scan(key(keyOutbox, r.rec.number), nil, func(k, _ []byte) (bool, error) {
			o = outboxRecord{}
			if _, err := get(b.tx, k, &o); err != nil {
				return false, err
			}
			if o.id == id && o.failed != "" {
				mine = bytes.Clone(k)
			}
			return mine == nil, nil
		})
		if err != nil {
			return err
		}
		if mine == nil {
			return &NoMessageError{uri, id}
		}
		return f(b, r, mine, &o)
	}, r)
	return err
}
