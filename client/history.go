package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/content"
	"github.com/comity-im/comity/mimi/policy"
)

// timelined makes sure that a room's timeline is in memory. c.mu is held.
func (c *Client) timelined(ctx context.Context, r *roomState) error {
	if r.timeline != nil {
		return nil
	}
	verdicts := map[content.MessageID]verdict{}
	t := content.NewTimeline(string(r.uri), content.Policy{
		Allowed: func(m *content.Message, want content.Capability) bool {
			n := policy.Capability(want) - contentCaps
			return n < 32 && verdicts[m.ID].caps&(1<<n) != 0
		},
		Judge: func(m *content.Message) error {
			if rule := verdicts[m.ID].rule; rule != "" {
				return errors.New(rule)
			}
			return nil
		},
	})
	err := c.store.View(ctx, func(tx Tx) error {
		return tx.Scan(key(keyMessage, r.rec.number), nil, func(k, _ []byte) (bool, error) {
			rec, m, err := read(tx, r, k)
			if err != nil {
				return false, err
			}
			verdicts[m.ID] = verdict{rec.caps, rec.rule}
			if err := t.Add(m); err != nil {
				return false, &CorruptError{keyMessage, err}
			}
			if rec.shown != 0 {
				t.Shown(m.ID, rec.shown)
			}
			return true, nil
		})
	})
	if err != nil {
		return err
	}
	r.timeline, r.verdicts = t, verdicts
	return nil
}

// An Item is one line of a room's history: a message or something else that
// happened.
type Item struct {
	Message *Message `json:"message,omitempty"`
	Event   *Event   `json:"event,omitempty"`
	New     bool     `json:"new,omitempty"` // it came after what was read before
}

// HistoryOptions says how much of a room's history to give.
type HistoryOptions struct {
	New    bool // only what was not read before
	Last   int  // only so many items of the end; 0: all
	Peek   bool // leave what is new new
	Events bool // also what happened besides messages
}

// History gives what a room's members wrote, as it stands now, in the hub's order,
// and then what is in the outbox. Reading it makes it read: what comes later is
// new, and messages that expire some time after they are shown begin to.
func (c *Client) History(ctx context.Context, uri mimi.RoomURI, o HistoryOptions) ([]Item, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rooms[uri]
	if r == nil {
		return nil, &NoRoomError{Room: uri}
	}
	if err := c.timelined(ctx, r); err != nil {
		return nil, err
	}
	now := uint64(c.cfg.Now().UnixMilli())
	var items []Item
	var ids []content.MessageID
	var last []byte
	err := c.store.View(ctx, func(tx Tx) error {
		for _, e := range r.timeline.Entries(now) {
			rec, k, err := c.recordOf(tx, r, e.ID)
			if err != nil {
				return err
			}
			if rec == nil {
				continue
			}
			fresh := bytes.Compare(k, r.rec.shown) > 0
			if bytes.Compare(k, last) > 0 {
				last = k
			}
			items = append(items, Item{Message: c.view(r, rec, e), New: fresh})
			ids = append(ids, e.ID)
		}
		if o.Events {
			if err := c.notices(tx, r, &items); err != nil {
				return err
			}
		}
		return tx.Scan(key(keyOutbox, r.rec.number), nil, func(k, _ []byte) (bool, error) {
			var entry outboxRecord
			if _, err := get(tx, k, &entry); err != nil {
				return false, err
			}
			m, err := c.unsent(r, &entry)
			items = append(items, Item{Message: m})
			return true, err
		})
	})
	if err != nil {
		return nil, err
	}
	if o.New {
		items = slices.DeleteFunc(items, func(i Item) bool { return !i.New })
	}
	if o.Last > 0 && len(items) > o.Last {
		items = items[len(items)-o.Last:]
	}
	if o.Peek || bytes.Compare(last, r.rec.shown) <= 0 {
		return items, nil
	}
	return items, c.markShown(ctx, r, ids, last, now)
}

func (c *Client) recordOf(tx Tx, r *roomState, id content.MessageID) (*messageRecord, []byte, error) {
	k, err := tx.Get(key(keyIndex, r.rec.number, id[:]))
	if err != nil || len(k) == 0 {
		return nil, nil, err
	}
	rec := new(messageRecord)
	found, err := get(tx, k, rec)
	if !found {
		rec = nil
	}
	return rec, k, err
}

// notices merges what else happened into the messages, by time.
func (c *Client) notices(tx Tx, r *roomState, items *[]Item) error {
	err := tx.Scan(key(keyNotice, r.rec.number), nil, func(k, _ []byte) (bool, error) {
		var n noticeRecord
		if _, err := get(tx, k, &n); err != nil {
			return false, err
		}
		e := new(Event)
		if err := json.Unmarshal(n.event, e); err != nil {
			return false, &CorruptError{keyNotice, err}
		}
		*items = append(*items, Item{Event: e, New: len(r.rec.shown) < 13 || n.at > uint64(timeOf(r.rec.shown))})
		return true, nil
	})
	at := func(i Item) int64 {
		if i.Event != nil {
			return i.Event.Time.UnixMilli()
		}
		return i.Message.Time.UnixMilli()
	}
	slices.SortStableFunc(*items, func(a, b Item) int { return int(max(-1, min(1, at(a)-at(b)))) })
	return err
}

// markShown notes what was displayed, and when for the first time.
func (c *Client) markShown(ctx context.Context, r *roomState, ids []content.MessageID, last []byte, now uint64) error {
	if _, err := c.held(ctx, r); err != nil {
		return err
	}
	_, err := c.write(ctx, func(b *batch) error {
		var read []content.MessageID
		for _, id := range ids {
			rec, k, err := c.recordOf(b.tx, r, id)
			if err != nil {
				return err
			}
			if rec == nil || rec.shown != 0 {
				continue
			}
			rec.shown = now
			if err := put(b.tx, k, rec); err != nil {
				return err
			}
			r.timeline.Shown(id, now)
			if rec.sender != c.self.user && rec.rule == "" {
				read = append(read, id)
			}
		}
		r.rec.shown = last
		return b.readBy(r, read)
	}, r)
	return err
}

// view is an entry of the timeline as a person sees it.
func (c *Client) view(r *roomState, rec *messageRecord, e *content.Entry) *Message {
	v := &Message{
		ID: e.ID, Room: r.uri, Sender: mimi.UserURI(e.SenderURI), Client: rec.client, Time: millis(mimi.Millis(e.AcceptedMillis)),
		Act: "say", State: Sent, Own: rec.client == c.self.client, Edited: e.Edited(), Topic: content.PrintableLine(string(e.TopicID)),
		Reactions: e.EmojiCounts(), Marks: rec.marks.words(), Broke: rec.rule, Franked: rec.frank != nil && rec.marks == 0,
	}
	switch e.State {
	case content.Deleted:
		v.State = Deleted
	case content.Expired:
		v.State = Expired
	}
	if e.InReplyTo != nil {
		v.Act = "reply"
		id := e.InReplyTo.Version
		if e.InReplyTo.Known {
			id = e.InReplyTo.ID
		}
		v.InReplyTo = &id
	}
	if e.Body != nil {
		v.Text = e.Body.Display()
		v.Assets = attached(e.Body)
	}
	if e.ExpiresMillis != 0 {
		at := millis(mimi.Millis(e.ExpiresMillis))
		v.ExpiresAt = &at
	}
	for _, s := range e.Statuses {
		if v.Statuses == nil {
			v.Statuses = map[string]string{}
		}
		v.Statuses[s.UserURI] = s.Status.String()
	}
	return v
}

// Sweep deletes the messages whose time is over (content §5.8).
func (c *Client) Sweep(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.rooms {
		if err := c.timelined(ctx, r); err != nil {
			return err
		}
		gone := r.timeline.Expired(uint64(c.cfg.Now().UnixMilli()))
		if len(gone) == 0 {
			continue
		}
		_, err := c.write(ctx, func(b *batch) error {
			for _, id := range gone {
				index := key(keyIndex, r.rec.number, id[:])
				k, err := b.tx.Get(index)
				if err != nil || len(k) == 0 {
					return err
				}
				if err := b.tx.Delete(k); err != nil {
					return err
				}
				// The index stays, so that the message is known if it comes again.
				if err := b.tx.Put(index, []byte{}); err != nil {
					return err
				}
			}
			r.timeline.Remove(gone...)
			return nil
		}, r)
		if err != nil {
			return err
		}
	}
	return nil
}
