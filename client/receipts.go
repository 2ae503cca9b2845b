package client

import (
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/content"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/tlspl"
)

const (
	// receiptsRoom is up to how many clients a room has in which receipts that are optional are sent by themselves: everybody
	// answers every message, so they grow with the square of a room.
	receiptsRoom = 200
	// receiptsEach is how long receipts are gathered for each client in the room, so that the room gets a few reports a second
	// at most, whoever writes; receiptsFirst and receiptsLast bound it.
	receiptsEach  = 250 * time.Millisecond
	receiptsFirst = 2 * time.Second
	receiptsLast  = 10 * time.Minute
	// receiptsReport is how many messages one report speaks of at most.
	receiptsReport = 500
)

// ReceiptMode is what the user says of a kind of receipt.
type ReceiptMode uint8

// The modes. A room that requires receipts gets them unless they are Never sent (room policy §6.1).
const (
	ReceiptsOff   ReceiptMode = iota // only where the room requires them
	ReceiptsOn                       // where the room does not forbid them
	ReceiptsNever                    // not even where the room requires them
)

func (m ReceiptMode) String() string {
	return [...]string{"off", "on", "never", "unknown"}[min(m, 3)]
}

// MarshalText gives the word.
func (m ReceiptMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads the word.
func (m *ReceiptMode) UnmarshalText(b []byte) error {
	for _, mode := range []ReceiptMode{ReceiptsOff, ReceiptsOn, ReceiptsNever} {
		if mode.String() == string(b) {
			*m = mode
			return nil
		}
	}
	return fmt.Errorf("client: %q is none of off, on and never", b)
}

// Receipts is the user's setting for delivery notifications and read receipts.
type Receipts struct {
	Delivery ReceiptMode `json:"delivery"`
	Read     ReceiptMode `json:"read"`
}

// Code describes Receipts as they are stored.
func (r *Receipts) Code(c *tlspl.Codec) {
	tlspl.Uint8(c, &r.Delivery)
	tlspl.Uint8(c, &r.Read)
}

// Receipts returns the setting; both are off until the user says otherwise.
func (c *Client) Receipts(ctx context.Context) (r Receipts, err error) {
	return r, c.store.View(ctx, func(tx Tx) error {
		_, err := get(tx, []byte{keyReceipts}, &r)
		return err
	})
}

// SetReceipts changes it. It holds for messages that come, or are read, from now on.
func (c *Client) SetReceipts(ctx context.Context, r Receipts) error {
	return c.store.Update(ctx, func(tx Tx) error { return put(tx, []byte{keyReceipts}, &r) })
}

// receiptDelay is for how long a room's receipts are gathered: longer the more clients there are, and at random, so that they
// do not all report at once.
func receiptDelay(clients int) time.Duration {
	d := min(max(time.Duration(clients)*receiptsEach, receiptsFirst), receiptsLast)
	return d/2 + mathrand.N(d/2)
}

func receiptKey(r *roomState, id content.MessageID) []byte {
	return key(keyReceipt, r.rec.number, id[:])
}

// wanted says whether a room is to hear of a status, by its policy and by the user's setting.
func (b *batch) wanted(r *roomState, status content.Status) (bool, error) {
	if r.group == nil || r.rec.standing != Joined {
		return false, nil
	}
	var set Receipts
	if _, err := get(b.tx, []byte{keyReceipts}, &set); err != nil {
		return false, err
	}
	mode, rule := set.Delivery, mimi.Optional
	p := r.group.View().Components().Status
	if p != nil {
		rule = p.DeliveryNotifications
	}
	if status == content.StatusRead {
		if mode = set.Read; p != nil {
			rule = p.ReadReceipts
		}
	}
	switch {
	case rule == mimi.Forbidden || mode == ReceiptsNever:
		return false, nil
	case rule == mimi.Required:
		return true, nil
	}
	return mode == ReceiptsOn && r.group.Group().Tree().Members() <= receiptsRoom, nil
}

// owe notes that a room is to hear what became of a message of somebody else's, unless it has heard as much already. What is
// noted is stored, and reported together with all that is noted until then.
func (b *batch) owe(r *roomState, status content.Status, id content.MessageID) error {
	if ok, err := b.wanted(r, status); err != nil || !ok {
		return err
	}
	k := receiptKey(r, id)
	have, err := b.tx.Get(k)
	if err != nil || len(have) == 1 && have[0] >= byte(status) {
		return err
	}
	if err := b.tx.Put(k, []byte{byte(status)}); err != nil {
		return err
	}
	if r.reportAt.IsZero() {
		r.reportAt = b.c.cfg.Now().Add(b.c.cfg.ReceiptDelay(r.group.Group().Tree().Members()))
	}
	return nil
}

// came notes what follows from a message that was taken up: somebody else's is to be reported as delivered, and what another
// device of the user's has reported need not be once more.
func (b *batch) came(r *roomState, rec *messageRecord, m *content.Message) error {
	if rec.sender == b.c.self.user {
		if m.Status == nil {
			return nil
		}
		for _, s := range m.Status.Latest() {
			k := receiptKey(r, s.MessageID)
			have, err := b.tx.Get(k)
			if err != nil {
				return err
			}
			if len(have) == 1 && have[0] <= byte(s.Status) {
				if err := b.tx.Delete(k); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if rec.rule != "" || m.Content == nil || m.Status != nil || m.Content.Replaces != nil || m.Content.NestedPart.Disposition == content.Reaction {
		return nil
	}
	return b.owe(r, content.StatusDelivered, m.ID)
}

// owed returns what a room is to hear, at most one report's.
func owed(tx Tx, r *roomState) (list []content.PerMessageStatus, err error) {
	prefix := key(keyReceipt, r.rec.number)
	return list, tx.Scan(prefix, nil, func(k, v []byte) (bool, error) {
		var s content.PerMessageStatus
		if len(v) != 1 || len(k) != len(prefix)+len(s.MessageID) {
			return false, &CorruptError{keyReceipt, tlspl.ErrValue}
		}
		copy(s.MessageID[:], k[len(prefix):])
		s.Status = content.Status(v[0])
		list = append(list, s)
		return len(list) < receiptsReport, nil
	})
}

// SendReceipts puts into the outbox what is to be reported in a room, instead of gathering more, and reports whether there was
// anything.
func (c *Client) SendReceipts(ctx context.Context, uri mimi.RoomURI) (any bool, err error) {
	c.mu.Lock()
	r := c.rooms[uri]
	c.mu.Unlock()
	for more := r != nil; more && err == nil; any = any || more {
		more, err = c.report(ctx, r)
	}
	return any, err
}

// report puts one report into the outbox, and reports whether there was anything to say.
func (c *Client) report(ctx context.Context, r *roomState) (bool, error) {
	var list []content.PerMessageStatus
	c.mu.Lock()
	err := c.store.View(ctx, func(tx Tx) (err error) {
		list, err = owed(tx, r)
		return err
	})
	r.reportAt = time.Time{}
	c.mu.Unlock()
	if err != nil || len(list) == 0 {
		return false, err
	}
	settle := func(b *batch) error {
		for _, s := range list {
			k := receiptKey(r, s.MessageID)
			have, err := b.tx.Get(k)
			if err != nil {
				return err
			}
			if len(have) != 1 || have[0] != byte(s.Status) {
				continue // it was read meanwhile
			}
			if err := b.tx.Delete(k); err != nil {
				return err
			}
		}
		return nil
	}
	m, err := c.Composer(r.uri).Report(list...)
	if err != nil {
		return false, err
	}
	_, err = c.post(ctx, r.uri, m, settle)
	var denied *policy.Denial
	var out *NoRoomError
	if errors.As(err, &denied) || errors.As(err, &out) { // the room does not want to hear it any more
		c.mu.Lock()
		_, err = c.write(ctx, settle, r)
		c.mu.Unlock()
		return false, err
	}
	return err == nil, err
}

// readBy notes the messages of others that were displayed for the first time.
func (b *batch) readBy(r *roomState, shown []content.MessageID) error {
	for _, id := range shown {
		if err := b.owe(r, content.StatusRead, id); err != nil {
			return err
		}
	}
	return nil
}
