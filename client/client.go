package client

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/content"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
)

// ErrNoDevice is the error of a store in which no device was registered.
var ErrNoDevice = errors.New("client: no device is registered in this store; register or log in first")

// A Config configures a Client.
type Config struct {
	Store    Store
	Provider Provider
	// Rand is crypto/rand if nil, Now the clock, Logger silent.
	Rand   io.Reader
	Now    func() time.Time
	Logger *slog.Logger
	// Notify is told what happens, in order, one at a time. It must not call the Client. Nil: nobody is.
	Notify func(Event)
	// Pseudonyms follows rooms whose members have pseudonymous credentials (MIMI protocol §6).
	Pseudonyms bool
	// CommitDelay says how long to wait before committing what others proposed, so that not all do at once. Nil: as the
	// room's pending_proposal_policy says (room policy §7.1).
	CommitDelay func() time.Duration
	// ReceiptDelay says for how long delivery notifications and read receipts are gathered in a room with so many clients
	// before they are sent as one report. Nil: from a second to ten minutes, the more clients the longer, at random.
	ReceiptDelay func(clients int) time.Duration
}

// A Client is a device. It is safe for concurrent use.
type Client struct {
	cfg      Config
	store    Store
	provider Provider
	trust    *trust
	rand     io.Reader
	self     deviceRecord

	wake   chan struct{} // holds one token when there may be something to do
	notify *notifier

	mu      sync.Mutex
	rooms   map[mimi.RoomURI]*roomState
	learned map[mimi.ProviderDomain]time.Time // when issuers were last asked for
	info    *clientapi.Info
	signers map[suite.ID]*signer
	conn    Connection    // nil: none
	changed chan struct{} // closed and replaced whenever anything changes
	newest  map[mimi.RoomURI]uint64
	caught  bool          // newest is known of the present connection
	looked  bool          // at rooms, stock and what has expired, since the present connection began
	running bool          // Run is
	used    chan struct{} // holds a token when a KeyPackage was used up: the stock may be low
}

// roomState is a room in memory. c.mu covers it.
type roomState struct {
	uri      mimi.RoomURI
	rec      roomRecord
	saved    bool       // rec has a number
	group    *room.Room // nil: not loaded, or there is none
	pending  *pendingRecord
	prepared *pendingRecord // the last one that became pending
	next     *room.Room     // what pending leads to, if it is in memory
	timeline *content.Timeline
	verdicts map[content.MessageID]verdict
	outbox   int // entries that are to be sent

	reads bool // the provider keeps the room's events for this device, which is out

	op       chan struct{} // holds a token while a handshake or a sending of this device is under way
	busy     bool          // a worker is at it
	reportAt time.Time     // when to send the receipts that are owed; zero: none are
	commitAt time.Time     // when to commit what is pending; zero: nothing is to be
	leaveAt  time.Time     // when to propose once more to leave; zero: not
	retryAt  time.Time
	failures int
	began    mimi.Millis // when the hub accepted the Commit that made the present epoch; 0: not known
	repairs  int         // without an event that could be read since
	suspect  string      // why the room may have forked; empty: nothing says so
	insists  bool        // the user wants in, whatever the room has become
	kept     string      // why the device does not follow another group, once it was said
}

// Open returns the device that is in a store.
func Open(ctx context.Context, cfg Config) (*Client, error) {
	if cfg.Store == nil || cfg.Provider == nil {
		return nil, errors.New("client: Config needs a Store and a Provider")
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.ReceiptDelay == nil {
		cfg.ReceiptDelay = receiptDelay
	}
	c := &Client{
		cfg: cfg, store: cfg.Store, provider: cfg.Provider, rand: cfg.Rand,
		trust:   &trust{verifier: identity.NewVerifier(identity.Config{Pseudonyms: cfg.Pseudonyms}), now: cfg.Now},
		wake:    make(chan struct{}, 1),
		notify:  newNotifier(cfg.Notify),
		rooms:   map[mimi.RoomURI]*roomState{},
		learned: map[mimi.ProviderDomain]time.Time{},
		signers: map[suite.ID]*signer{},
		changed: make(chan struct{}),
		used:    make(chan struct{}, 1),
		newest:  map[mimi.RoomURI]uint64{},
	}
	err := c.store.View(ctx, func(tx Tx) error {
		found, err := get(tx, []byte{keyDevice}, &c.self)
		if err != nil {
			return err
		}
		if !found {
			return ErrNoDevice
		}
		if err := c.trust.loadAnchors(tx); err != nil {
			return err
		}
		if err := c.loadSigners(tx); err != nil {
			return err
		}
		return c.loadRooms(tx)
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// User returns whose device this is.
func (c *Client) User() mimi.UserURI { return c.self.user }

// Device returns the device's URI.
func (c *Client) Device() mimi.ClientURI { return c.self.client }

// loadRooms reads the rooms, but not yet their groups.
func (c *Client) loadRooms(tx Tx) error {
	err := tx.Scan([]byte{keyRoom}, nil, func(k, _ []byte) (bool, error) {
		r := c.newRoom(mimi.RoomURI(k[1:]))
		if _, err := get(tx, k, &r.rec); err != nil {
			return false, err
		}
		r.saved = true
		c.rooms[r.uri] = r
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, r := range c.rooms {
		if err := c.reload(tx, r); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) newRoom(uri mimi.RoomURI) *roomState {
	return &roomState{uri: uri, op: make(chan struct{}, 1)}
}

// reload brings what is in memory of a room back to what is stored.
func (c *Client) reload(tx Tx, r *roomState) error {
	r.group, r.next, r.pending, r.timeline, r.verdicts, r.began = nil, nil, nil, nil, nil, 0
	if !r.saved {
		return nil
	}
	if _, err := get(tx, roomKey(r.uri), &r.rec); err != nil {
		return err
	}
	p := &pendingRecord{}
	found, err := get(tx, key(keyPending, r.rec.number), p)
	if err != nil {
		return err
	}
	if found {
		r.pending = p
	}
	if r.leaveAt = (time.Time{}); r.rec.standing == Leaving {
		r.leaveAt = c.cfg.Now() // to look whether it must
	}
	// What was pending before this device started is to be committed all the same.
	if r.rec.standing == Joined && r.commitAt.IsZero() {
		err := tx.Scan(key(keyGroup, r.rec.number, room.PendingPrefix()), nil, func(_, _ []byte) (bool, error) {
			r.commitAt = c.cfg.Now().Add(c.commitDelay(r.group))
			return false, nil
		})
		if err != nil {
			return err
		}
	}
	r.outbox, r.reportAt = 0, time.Time{}
	if list, err := owed(tx, r); err != nil {
		return err
	} else if len(list) > 0 {
		r.reportAt = c.cfg.Now().Add(c.cfg.ReceiptDelay(1))
	}
	return tx.Scan(key(keyOutbox, r.rec.number), nil, func(k, v []byte) (bool, error) {
		var o outboxRecord
		if _, err := get(tx, k, &o); err != nil {
			return false, err
		}
		if o.failed == "" {
			r.outbox++
		}
		return true, nil
	})
}

// forget drops what is in memory after a write failed: nobody knows whether it
// was stored.
func (c *Client) forget(ctx context.Context, rooms ...*roomState) {
	err := c.store.View(context.WithoutCancel(ctx), func(tx Tx) error {
		for _, r := range rooms {
			if err := c.reload(tx, r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		c.cfg.Logger.Error("the device's store can't be read", "error", err)
	}
}

func roomKey(uri mimi.RoomURI) []byte { return append([]byte{keyRoom}, uri...) }

// save stores the room's record, and gives the room a number first if it has none.
func (c *Client) save(tx Tx, r *roomState) error {
	if r.rec.number == 0 {
		b, err := tx.Get([]byte{keyNumber})
		if err != nil {
			return err
		}
		n := uint32(1)
		if len(b) == 4 {
			n = binary.BigEndian.Uint32(b) + 1
		}
		if err := tx.Put([]byte{keyNumber}, number(n)); err != nil {
			return err
		}
		r.rec.number = n
	}
	r.saved = true
	return put(tx, roomKey(r.uri), &r.rec)
}

// room returns a room's state in memory, and makes it if there is none.
func (c *Client) room(uri mimi.RoomURI) *roomState {
	r := c.rooms[uri]
	if r == nil {
		r = c.newRoom(uri)
		c.rooms[uri] = r
	}
	return r
}

// roomConfig is how this device treats its rooms.
func (c *Client) roomConfig() room.Config {
	return room.Config{Verifier: c.trust, MLS: mls.Config{PastEpochs: 8, Padding: 64}}
}

// load returns a room's group from its stored records; nil if there is none.
func (c *Client) load(tx Tx, r *roomState) (*room.Room, error) {
	return c.loadWith(tx, r, nil)
}

// loadWith returns a room's group as it is once these records have changed.
func (c *Client) loadWith(tx Tx, r *roomState, changed []mls.Record) (*room.Room, error) {
	if !r.saved {
		return nil, nil
	}
	var scan error
	none := true
	prefix := key(keyGroup, r.rec.number)
	latest := make(map[string][]byte, len(changed))
	for _, record := range changed {
		latest[string(record.Key)] = record.Value
	}
	g, err := room.Load(c.roomConfig(), func(yield func([]byte, []byte) bool) {
		more := true
		scan = tx.Scan(prefix, nil, func(k, v []byte) (bool, error) {
			none = false
			if _, replaced := latest[string(k[len(prefix):])]; !replaced {
				more = yield(slices.Clone(k[len(prefix):]), slices.Clone(v))
			}
			return more, nil
		})
		for k, v := range latest {
			if more && scan == nil && v != nil {
				more = yield([]byte(k), slices.Clone(v))
			}
		}
	})
	if scan != nil {
		return nil, scan
	}
	if none {
		return nil, nil
	}
	if err != nil {
		return nil, &CorruptError{keyGroup, err}
	}
	return g, nil
}

// hold makes sure that a room's group is in memory, if there is one.
func (c *Client) hold(tx Tx, r *roomState) (err error) {
	if r.group == nil {
		r.group, err = c.load(tx, r)
	}
	return err
}

// held is hold in a transaction of its own.
func (c *Client) held(ctx context.Context, r *roomState) (*room.Room, error) {
	if r.group != nil {
		return r.group, nil
	}
	err := c.store.View(ctx, func(tx Tx) error { return c.hold(tx, r) })
	return r.group, err
}

// keep stores what changed of a group.
func keep(tx Tx, number uint32, records []mls.Record) error {
	for i := range records {
		k := key(keyGroup, number, records[i].Key)
		var err error
		if records[i].Value == nil {
			err = tx.Delete(k)
		} else {
			err = tx.Put(k, records[i].Value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// drop deletes all records under a prefix.
func drop(tx Tx, prefix []byte) error {
	var keys [][]byte
	err := tx.Scan(prefix, nil, func(k, _ []byte) (bool, error) {
		keys = append(keys, slices.Clone(k))
		return true, nil
	})
	for _, k := range keys {
		if err == nil {
			err = tx.Delete(k)
		}
	}
	return err
}

// flush stores what changed of a room's group.
func flush(tx Tx, r *roomState) error {
	if r.group == nil {
		return nil
	}
	records, err := r.group.Flush()
	if err != nil {
		return err
	}
	return keep(tx, r.rec.number, records)
}

// touch tells all who wait that something changed. c.mu is held.
func (c *Client) touch() {
	close(c.changed)
	c.changed = make(chan struct{})
	c.poke()
}

// poke wakes the worker.
func (c *Client) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// await waits, without c.mu, until ok, which runs with it, is true.
func (c *Client) await(ctx context.Context, ok func() bool) error {
	for {
		c.mu.Lock()
		done, changed := ok(), c.changed
		c.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}

// acquire takes a room's op.
func (r *roomState) acquire(ctx context.Context) error {
	select {
	case r.op <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (r *roomState) release() { <-r.op }

// A NoRoomError is a room that the device does not know, or is not in.
type NoRoomError struct {
	Room     mimi.RoomURI
	Standing Standing // 0: unknown
	Why      string
}

func (e *NoRoomError) Error() string {
	switch {
	case e.Standing == 0:
		return fmt.Sprintf("client: this device does not know the room %s", e.Room)
	case e.Why != "":
		return fmt.Sprintf("client: this device is not in the room %s (%s): %s", e.Room, e.Standing, e.Why)
	}
	return fmt.Sprintf("client: this device is not in the room %s (%s)", e.Room, e.Standing)
}

// member returns a room that the device is in.
func (c *Client) member(ctx context.Context, uri mimi.RoomURI) (*roomState, *room.Room, error) {
	r := c.rooms[uri]
	if r == nil {
		return nil, nil, &NoRoomError{Room: uri}
	}
	g, err := c.held(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	if g == nil || r.rec.standing != Joined && r.rec.standing != Leaving && r.rec.standing != Refused {
		return nil, nil, &NoRoomError{uri, r.rec.standing, r.rec.why}
	}
	return r, g, nil
}

// ParseRoom reads a room URI, or the name of a room: of one that the device
// knows, else of one hosted by the user's provider.
func (c *Client) ParseRoom(s string) (mimi.RoomURI, error) {
	if strings.Contains(s, "://") {
		return mimi.ParseRoomURI(s)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []mimi.RoomURI
	for uri := range c.rooms {
		if uri.Name() == s {
			found = append(found, uri)
		}
	}
	switch len(found) {
	case 0:
		return mimi.NewRoomURI(c.self.user.Host(), s)
	case 1:
		return found[0], nil
	}
	slices.Sort(found)
	return "", fmt.Errorf("client: %q may be any of %s; give the whole URI", s, strings.Join(text(found), ", "))
}

func text[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = string(list[i])
	}
	return out
}
