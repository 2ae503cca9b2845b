package mimi

import (
	"bytes"
	"crypto/sha256"

	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// A FanoutMessage is one event of a room, as the hub hands it to a follower
// (MIMI protocol §5.5). What follows the message depends on what it is. One that
// was read keeps its octets for Bytes. Decision 52
type FanoutMessage struct {
	Timestamp         Millis // the hub's acceptance time
	Message           Message
	Frank             *Frank                // application; nil if not franked
	RatchetTreeOption mls.RatchetTreeOption // Welcome
	MoreProposals     []Message             // proposal: as in the HandshakeBundle
	ExternalProposals []Message             // commit: the hub's, of the new epoch. Decision 60
	raw               []byte
}

// A FanoutKind says what a FanoutMessage carries.
type FanoutKind uint8

// The kinds of FanoutMessage. Decision 52
const (
	FanoutApplication FanoutKind = 1
	FanoutWelcome     FanoutKind = 2
	FanoutProposal    FanoutKind = 3
	FanoutCommit      FanoutKind = 4
)

// String returns the draft's word.
func (k FanoutKind) String() string {
	return enumName(k, "none", "application", "welcome", "proposal", "commit")
}

// Kind returns what the message is, 0 if it can't be fanned out.
func (m *FanoutMessage) Kind() FanoutKind {
	if m.Message.application() {
		return FanoutApplication
	}
	if m.Message.WireFormat == mls.WireFormatWelcome {
		return FanoutWelcome
	}
	switch t, _ := m.Message.handshakeType(); t {
	case mls.ContentProposal:
		return FanoutProposal
	case mls.ContentCommit:
		return FanoutCommit
	}
	return 0
}

// Bytes returns the encoding: of one that was read, and must not have been changed
// since, the octets that it was read from.
func (m *FanoutMessage) Bytes() ([]byte, error) {
	if m.raw != nil {
		return m.raw, nil
	}
	return tlspl.Marshal(m)
}

// Code describes a FanoutMessage.
func (m *FanoutMessage) Code(c *tlspl.Codec) {
	tlspl.Raw(c, &m.raw, func() { m.code(c) })
}

func (m *FanoutMessage) code(c *tlspl.Codec) {
	c.Field("timestamp")
	tlspl.Uint64(c, &m.Timestamp)
	tlspl.Struct(c, "message", &m.Message)
	if c.Err() != nil {
		return
	}
	switch m.Kind() {
	case FanoutApplication:
		c.Field("frank")
		tlspl.Optional(c, &m.Frank)
	case FanoutWelcome:
		tlspl.Struct(c, "ratchetTreeOption", &m.RatchetTreeOption)
	case FanoutProposal:
		c.Field("moreProposals")
		codeProposals(c, &m.MoreProposals)
	case FanoutCommit:
		c.Field("externalProposals")
		codeProposals(c, &m.ExternalProposals)
	default:
		c.Field("message")
		c.Fail(ErrMessageKind)
	}
}

// A NotifyRequest is the body of a notify request: one or more FanoutMessages
// of one room, back to back, in the hub's order. One that was read keeps its
// octets and must not be changed. Decision 55
type NotifyRequest struct {
	Messages []FanoutMessage
	raw      []byte
}

// ForwardedNotify returns a request of FanoutMessages that are encoded already,
// for who sends it on and need not look inside: its Messages stay empty.
func ForwardedNotify(encoded [][]byte) *NotifyRequest {
	return &NotifyRequest{raw: bytes.Join(encoded, nil)}
}

// Code describes the body of a notify request.
func (r *NotifyRequest) Code(c *tlspl.Codec) {
	if !c.Decoding() {
		if r.raw != nil {
			tlspl.Fixed(c, r.raw)
			return
		}
		if len(r.Messages) == 0 {
			c.Fail(tlspl.ErrLength)
		}
		for i := range r.Messages {
			r.Messages[i].Code(c)
		}
		return
	}
	tlspl.Raw(c, &r.raw, func() {
		var list []FanoutMessage
		for again := true; again; again = c.More() {
			list = append(list, FanoutMessage{})
			tlspl.Struct(c, "FanoutMessage", &list[len(list)-1])
		}
		r.Messages = list
	})
}

// Digest returns the SHA-256 of the body, by which a follower recognises a
// repeat. Decision 57
func (r *NotifyRequest) Digest() ([sha256.Size]byte, error) {
	b, err := tlspl.Marshal(r)
	return sha256.Sum256(b), err
}
