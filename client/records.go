package client

import (
	"encoding/binary"
	"fmt"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/content"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// The first octet of a key says what the record is. Where a room's number
// follows, it is a uint32; times and counters are uint64, all big-endian.
const (
	keyDevice     = 'd' // deviceRecord
	keyAnchors    = 'a' // + domain: certificates
	keySigner     = 's' // + cipher suite: signerRecord
	keyKeyPackage = 'k' // + KeyPackageRef: packageRecord
	keyRoom       = 'R' // + room URI: roomRecord
	keyDevices    = 'D' // the user's devices, as the provider last listed them
	keyNumber     = 'N' // the last room number that was given out
	keyGroup      = 'g' // + room + key: records of mimi/room
	keyPending    = 'P' // + room: pendingRecord
	keyMessage    = 'm' // + room + time + message ID: messageRecord
	keyIndex      = 'i' // + room + message ID: key of the messageRecord
	keyFrank      = 'f' // + room + server_frank: message ID
	keyGeneration = 'h' // + room + epoch + client: generationRecord
	keyOutbox     = 'q' // + room + counter: outboxRecord
	keyNotice     = 'n' // + room + counter: noticeRecord
	keyReceipts   = 'e' // Receipts: the user's setting
	keyReceipt    = 'r' // + room + message ID: the status that the room is to hear of
	keyRenewed    = 'c' // + cipher suite: digest of the credential that this device has in all its rooms
	keyOwn        = 'o' // + room + digest: key of a messageRecord that the hub accepted and the log has not shown yet
)

func number(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func key(kind byte, room uint32, parts ...[]byte) []byte {
	k := binary.BigEndian.AppendUint32([]byte{kind}, room)
	for _, p := range parts {
		k = append(k, p...)
	}
	return k
}

func counter(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func messageKey(room uint32, at mimi.Millis, id content.MessageID) []byte {
	return key(keyMessage, room, counter(uint64(at)), id[:])
}

func outboxKey(room uint32, n uint64) []byte { return key(keyOutbox, room, counter(n)) }

// A CorruptError is a record of the device's store that can't be read.
type CorruptError struct {
	Key byte // what the record is, as in records.go
	Err error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("client: a record of kind %q in the device's store can't be read: %v", e.Key, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

func put(tx Tx, key []byte, v tlspl.Coder) error {
	b, err := tlspl.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Put(key, b)
}

// get reads a record into v and reports whether there is one.
func get(tx Tx, key []byte, v tlspl.Coder) (bool, error) {
	b, err := tx.Get(key)
	if err != nil || b == nil {
		return false, err
	}
	if err := tlspl.Unmarshal(b, v); err != nil {
		return false, &CorruptError{key[0], err}
	}
	return true, nil
}

// deviceRecord is who the device is.
type deviceRecord struct {
	user   mimi.UserURI
	client mimi.ClientURI
	token  string
	url    string
	roots  []byte // PEM; empty: the system's
}

func (d *deviceRecord) Code(c *tlspl.Codec) {
	d.user.Code(c)
	d.client.Code(c)
	tlspl.String(c, &d.token)
	tlspl.String(c, &d.url)
	tlspl.Opaque(c, &d.roots)
}

// signerRecord is a signature key with its credential.
type signerRecord struct {
	private    []byte
	credential mls.Credential
	notBefore  uint64 // seconds
	notAfter   uint64 // seconds; 0: without end
}

func (s *signerRecord) Code(c *tlspl.Codec) {
	tlspl.Opaque(c, &s.private)
	s.credential.Code(c)
	tlspl.Uint64(c, &s.notBefore)
	tlspl.Uint64(c, &s.notAfter)
}

// packageRecord is a KeyPackage of the stock, with its private keys.
type packageRecord struct {
	secrets  []byte // mls.KeyPackageSecrets
	suite    suite.ID
	notAfter uint64 // seconds
}

func (p *packageRecord) Code(c *tlspl.Codec) {
	tlspl.Opaque(c, &p.secrets)
	tlspl.Uint16(c, &p.suite)
	tlspl.Uint64(c, &p.notAfter)
}

// A Standing says how a device stands to a room.
type Standing uint8

// The standings.
const (
	// Outside: the user is a participant, the device is not in yet and comes in by itself.
	Outside Standing = iota + 1
	// Joined: the device is a member.
	Joined
	// Leaving: the user left; nobody has committed it yet.
	Leaving
	// Left: the user is no participant any more: it left, was removed or banned, or the room ended.
	Left
	// Kicked: the device was taken out, the user is still a participant. Join brings it back.
	Kicked
	// Refused: the hub let something through that the room's policy forbids. The device stays in the room's last good state,
	// where it can read what is sent in that state. Join follows the hub all the same.
	Refused
	// Replaced: another device took this one's place with a copy of its state, or its session was given to another. It does
	// not come back by itself.
	Replaced
	// Barred: the hub does not let the device in. Join tries again.
	Barred
	// Lost: the hub does not know the room any more. The device keeps its state, from which the room can be founded again.
	Lost
)

func (s Standing) String() string {
	return [...]string{"unknown", "outside", "joined", "leaving", "left", "kicked", "refused", "replaced", "barred", "lost"}[min(s, Lost)]
}

// MarshalText gives the word.
func (s Standing) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// roomRecord is what the device knows of a room besides the group.
type roomRecord struct {
	number   uint32
	standing Standing
	cursor   uint64 // position in the provider's log up to which everything is stored here
	counter  uint64 // the last number given to an outbox entry or a notice
	shown    []byte // key of the last message that was shown; the next ones are new
	why      string // for Refused, Replaced, Barred, Lost
	name     string // the room's, as last seen
	repair   string // why the device must come in anew; empty: it need not
}

func (r *roomRecord) Code(c *tlspl.Codec) {
	tlspl.Uint32(c, &r.number)
	tlspl.Uint8(c, &r.standing)
	tlspl.Uint64(c, &r.cursor)
	tlspl.Uint64(c, &r.counter)
	tlspl.Opaque(c, &r.shown)
	tlspl.String(c, &r.why)
	tlspl.String(c, &r.name)
	tlspl.String(c, &r.repair)
}

// pendingRecord is a handshake that the hub has been sent, or is about to be, with what becomes of the room when it is
// accepted.
type pendingRecord struct {
	kind    pendingKind
	digest  []byte // SHA-256 of the MLSMessage
	epoch   mls.Epoch
	body    []byte // UpdateRequest or CreateRoomRequest
	records []mls.Record
	events  []byte // JSON: what to tell then

	won     bool // in memory: it took effect
	covered int  // in memory: how many pending proposals it commits
}

type pendingKind uint8

const (
	pendingCommit  pendingKind = iota + 1 // records change those of the group
	pendingJoin                           // records replace all of the group
	pendingCreate                         // the group is there already
	pendingPropose                        // records change those of the group
	pendingAgain                          // records replace all of the group; the hub had lost the room
)

func (p *pendingRecord) Code(c *tlspl.Codec) {
	tlspl.Uint8(c, &p.kind)
	tlspl.Opaque(c, &p.digest)
	tlspl.Uint64(c, &p.epoch)
	tlspl.Opaque(c, &p.body)
	tlspl.VectorFunc(c, &p.records, func(c *tlspl.Codec, r *mls.Record) {
		tlspl.Opaque(c, &r.Key)
		value := &r.Value
		if r.Value == nil {
			value = nil
		}
		tlspl.OptionalFunc(c, &value, tlspl.Opaque[[]byte])
		if c.Decoding() && value != nil {
			if r.Value = *value; r.Value == nil {
				r.Value = []byte{}
			}
		}
	})
	tlspl.Opaque(c, &p.events)
}

// messageRecord is a message that the hub accepted.
type messageRecord struct {
	seq    uint64 // 0: not seen in the log yet, but in the hub's answer
	sender mimi.UserURI
	client mimi.ClientURI
	epoch  mls.Epoch
	gen    uint32
	data   []byte // application_data: what was franked and what a report hands over
	frank  *mimi.Frank
	caps   uint32 // bit n: the sender's role had capability 0x0100 + n
	rule   string // how the message broke the room's rules
	marks  marks
	shown  uint64 // ms: when it was first displayed
}

func (m *messageRecord) Code(c *tlspl.Codec) {
	tlspl.Uint64(c, &m.seq)
	m.sender.Code(c)
	m.client.Code(c)
	tlspl.Uint64(c, &m.epoch)
	tlspl.Uint32(c, &m.gen)
	tlspl.Opaque(c, &m.data)
	tlspl.Optional(c, &m.frank)
	tlspl.Uint32(c, &m.caps)
	tlspl.String(c, &m.rule)
	tlspl.Uint8(c, &m.marks)
	tlspl.Uint64(c, &m.shown)
}

// generationRecord is the latest message of a client in an epoch. Decision 45
type generationRecord struct {
	generation uint32
	at         mimi.Millis
}

func (g *generationRecord) Code(c *tlspl.Codec) {
	tlspl.Uint32(c, &g.generation)
	tlspl.Uint64(c, &g.at)
}

// outboxRecord is a message of this device that the hub has not accepted yet.
type outboxRecord struct {
	id     content.MessageID
	data   []byte // application_data
	tag    []byte // franking tag; empty: none
	at     uint64 // ms, by this device's clock
	sealed []byte // MLSMessage, once encrypted
	epoch  mls.Epoch
	digest []byte // SHA-256 of sealed
	old    bool   // the hub found the epoch too old: encrypt again once this device is in that of minimum
	need   mls.Epoch
	failed string // why the hub does not take it; it stays until the user sends it again or drops it
}

func (o *outboxRecord) Code(c *tlspl.Codec) {
	tlspl.Fixed(c, o.id[:])
	tlspl.Opaque(c, &o.data)
	tlspl.Opaque(c, &o.tag)
	tlspl.Uint64(c, &o.at)
	tlspl.Opaque(c, &o.sealed)
	tlspl.Uint64(c, &o.epoch)
	tlspl.Opaque(c, &o.digest)
	tlspl.Bool(c, &o.old)
	tlspl.Uint64(c, &o.need)
	tlspl.String(c, &o.failed)
}

// noticeRecord is something that happened in a room, for its history.
type noticeRecord struct {
	at    uint64 // ms
	event []byte // JSON of an Event
}

func (n *noticeRecord) Code(c *tlspl.Codec) {
	tlspl.Uint64(c, &n.at)
	tlspl.Opaque(c, &n.event)
}
