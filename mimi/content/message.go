package content

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// HashSHA256 is SHA-256 in the IANA Named Information Hash Algorithm Registry.
const HashSHA256 uint8 = 1

// MessageID names a message: the hash algorithm and the first 31 octets of the
// hash (C §3.3).
type MessageID [32]byte

// NewMessageID computes the ID of a message (C §3.3, Decision 103):
//
//	hash( senderUriLength || senderUri || roomUriLength || roomUri || message || salt )
//
// message is the received MIMI content octets, without ApplicationFraming. A URI
// longer than 65535 octets is ErrURITooLong.
func NewMessageID(senderURI, roomURI string, message []byte, salt [SaltLength]byte) (MessageID, error) {
	for _, uri := range []string{senderURI, roomURI} {
		if len(uri) > 1<<16-1 {
			return MessageID{}, broken(ErrURITooLong, 1<<16-1, len(uri))
		}
	}
	h := sha256.New()
	var length [2]byte
	binary.BigEndian.PutUint16(length[:], uint16(len(senderURI)))
	h.Write(length[:])
	h.Write([]byte(senderURI))
	binary.BigEndian.PutUint16(length[:], uint16(len(roomURI)))
	h.Write(length[:])
	h.Write([]byte(roomURI))
	h.Write(message)
	h.Write(salt[:])
	return messageIDOf(HashSHA256, h.Sum(nil)), nil
}

func messageIDOf(alg uint8, hash []byte) MessageID {
	var id MessageID
	id[0] = alg
	copy(id[1:], hash)
	return id
}

// ParseMessageID reads the 64 hexadecimal digits that String writes.
func ParseMessageID(s string) (MessageID, error) {
	var id MessageID
	err := id.UnmarshalText([]byte(s))
	return id, err
}

func (id MessageID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText gives 64 hexadecimal digits.
func (id MessageID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads 64 hexadecimal digits.
func (id *MessageID) UnmarshalText(s []byte) error {
	b, err := hex.DecodeString(string(s))
	if err != nil {
		return fmt.Errorf("content: message ID: %w", err)
	}
	if len(b) != len(id) {
		return broken(ErrLength, len(id), len(b))
	}
	copy(id[:], b)
	return nil
}

// Compare orders message IDs by their octets.
func (id MessageID) Compare(other MessageID) int { return bytes.Compare(id[:], other[:]) }

// Envelope is what a receiver knows about a message from outside its content.
type Envelope struct {
	SenderURI      string // user URI in the credential of the MLS sender
	RoomURI        string
	AcceptedMillis uint64 // when the hub accepted it, ms since the Unix epoch
	NowMillis      uint64 // the receiver's clock; 0 when a stored message is read again
}

// Message is content that passed Verify.
type Message struct {
	ID             MessageID
	SenderURI      string
	RoomURI        string
	AcceptedMillis uint64
	Content        *Content      // nil if the octets were a bare status report
	Status         *StatusReport // not nil if this is a status report
	Raw            []byte        // the octets received
}

// maxClockSkewMillis is how far a hub's timestamp may be ahead of the receiver's
// clock: the "few minutes" of C §9.1.
const maxClockSkewMillis = 5 * 60 * 1000

// Verify decodes received MIMI content and checks it against what the receiver
// knows (C §9.1; Decisions 41, 103, 111). The error is a *SyntaxError or a
// *RuleError; either way the message is to be discarded.
func Verify(b []byte, e Envelope) (*Message, error) {
	c, err := Unmarshal(b)
	if err != nil {
		return nil, err
	}
	if got := c.SenderURI(); got != e.SenderURI || got == "" {
		return nil, broken(ErrSenderURI, e.SenderURI, got)
	}
	if got := c.RoomURI(); got != e.RoomURI || got == "" {
		return nil, broken(ErrRoomURI, e.RoomURI, got)
	}
	if err := e.checkAccepted(); err != nil {
		return nil, err
	}
	if err := c.checkExpires(e.AcceptedMillis); err != nil {
		return nil, err
	}
	raw := bytes.Clone(b)
	id, err := NewMessageID(e.SenderURI, e.RoomURI, raw, c.Salt)
	if err != nil {
		return nil, err
	}
	m := &Message{
		ID:             id,
		SenderURI:      e.SenderURI,
		RoomURI:        e.RoomURI,
		AcceptedMillis: e.AcceptedMillis,
		Content:        c,
		Raw:            raw,
	}
	if s, ok := c.NestedPart.Part.(*SinglePart); ok && ParseMediaType(s.ContentType).Is(MediaTypeStatus) {
		if m.Status, err = UnmarshalStatus(s.Content); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// VerifyBareStatus does for a status report that came without a MIMI content
// container what Verify does for content (Decision 112). Such a report has no
// message ID; the one it gets begins with 0 and never goes on the wire.
func VerifyBareStatus(b []byte, e Envelope) (*Message, error) {
	s, err := UnmarshalStatus(b)
	if err != nil {
		return nil, err
	}
	if err := e.checkAccepted(); err != nil {
		return nil, err
	}
	raw := bytes.Clone(b)
	stamped := binary.BigEndian.AppendUint64(bytes.Clone(b), e.AcceptedMillis)
	id, err := NewMessageID(e.SenderURI, e.RoomURI, stamped, [SaltLength]byte{})
	if err != nil {
		return nil, err
	}
	id[0] = 0
	return &Message{ID: id, SenderURI: e.SenderURI, RoomURI: e.RoomURI, AcceptedMillis: e.AcceptedMillis, Status: s, Raw: raw}, nil
}

func (e Envelope) checkAccepted() error {
	if e.NowMillis != 0 && e.AcceptedMillis > e.NowMillis+maxClockSkewMillis {
		return broken(ErrAcceptedFuture, fmt.Sprintf("at most %d ms", e.NowMillis+maxClockSkewMillis), e.AcceptedMillis)
	}
	return nil
}

// checkExpires measures an absolute expiry from when the hub accepted the
// message, so that every reader comes to the same verdict at any time. A
// relative one was measured by Unmarshal.
func (c *Content) checkExpires(acceptedMillis uint64) error {
	if c.Expires == nil || c.Expires.Relative {
		return nil
	}
	at, accepted := uint64(c.Expires.Time), acceptedMillis/1000
	if at > accepted+MaxExpirySeconds {
		return broken(ErrExpiryFar, fmt.Sprintf("at most %d", accepted+MaxExpirySeconds), at)
	}
	if at+MaxExpirySeconds < accepted {
		return broken(ErrExpiryPast, fmt.Sprintf("at least %d", accepted-MaxExpirySeconds), at)
	}
	return nil
}

// Compare orders messages as a room shows them: by hub timestamp, and by message
// ID where that is equal (C §5.11).
func (m *Message) Compare(other *Message) int {
	if c := cmp.Compare(m.AcceptedMillis, other.AcceptedMillis); c != 0 {
		return c
	}
	return m.ID.Compare(other.ID)
}
