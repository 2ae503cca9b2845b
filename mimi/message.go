package mimi

import (
	"crypto/sha256"
	"fmt"

	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// A Protocol is the end-to-end encryption protocol of a room (MIMI protocol
// §5). Where a struct has one, it is an octet. Decision 9
type Protocol uint8

// MLS10 is MLS as of RFC 9420, the only Protocol.
const MLS10 Protocol = 1

// String returns the draft's word.
func (p Protocol) String() string { return enumName(p, "reserved", "mls10") }

// ErrProtocol is the error of a request or response for a protocol other than
// MLS 1.0. Decision 9
var ErrProtocol = fmt.Errorf("mimi: protocol is not mls10: %w", tlspl.ErrValue)

// octet codes the protocol octet. Zero, which is reserved, is written as MLS10
// and is not read.
func (p *Protocol) octet(c *tlspl.Codec) {
	c.Field("protocol")
	if !c.Decoding() && *p == 0 {
		v := MLS10 // not into p: values may be shared by then
		tlspl.Uint8(c, &v)
		return
	}
	tlspl.Uint8(c, p)
	if c.Err() == nil && *p == 0 {
		c.Fail(ErrProtocol)
	}
}

// code codes the protocol octet, which must be MLS10.
func (p *Protocol) code(c *tlspl.Codec) {
	p.octet(c)
	if c.Err() == nil && *p != 0 && *p != MLS10 {
		c.Fail(ErrProtocol)
	}
}

// Millis is a time in milliseconds since the Unix epoch. The hub's are strictly
// increasing in each room. Decision 39
type Millis uint64

// A Message is an MLSMessage together with the octets it arrived as, which is
// what hubs and followers hash, keep and pass on. It must not be changed once it
// has octets.
type Message struct {
	mls.MLSMessage
	raw []byte
}

// NewMessage encodes m.
func NewMessage(m mls.MLSMessage) (Message, error) {
	raw, err := tlspl.Marshal(&m)
	if err != nil {
		return Message{}, err
	}
	return Message{m, raw}, nil
}

// ParseMessage decodes b, all of it, and keeps a copy.
func ParseMessage(b []byte) (Message, error) {
	var m Message
	err := tlspl.Unmarshal(b, &m)
	return m, err
}

// Bytes returns the encoding of the message, the one that arrived if there is
// one. It must not be changed.
func (m *Message) Bytes() ([]byte, error) {
	if m.raw != nil {
		return m.raw, nil
	}
	return tlspl.Marshal(&m.MLSMessage)
}

// Digest returns the SHA-256 of the message's octets, by which repeats and a
// client's own messages are recognised. Decisions 38, 53, 57
func (m *Message) Digest() ([sha256.Size]byte, error) {
	b, err := m.Bytes()
	return sha256.Sum256(b), err
}

// Code describes an MLSMessage (RFC 9420 §6).
func (m *Message) Code(c *tlspl.Codec) {
	if !c.Decoding() && m.raw != nil {
		tlspl.Fixed(c, m.raw)
		return
	}
	tlspl.Raw(c, &m.raw, func() { m.MLSMessage.Code(c) })
}

// ErrMessageKind is the error of an MLSMessage that is well-formed, but not
// what its place in a request or response calls for.
var ErrMessageKind = fmt.Errorf("mimi: MLSMessage of the wrong kind: %w", tlspl.ErrValue)

// handshakeType returns the content type of a handshake message: a
// PublicMessage or SemiPrivateMessage with a proposal or commit.
func (m *Message) handshakeType() (mls.ContentType, bool) {
	if m.WireFormat == mls.WireFormatPrivateMessage {
		return 0, false
	}
	t, ok := m.ContentType()
	return t, ok && (t == mls.ContentProposal || t == mls.ContentCommit)
}

// codeProposals codes a vector of handshake messages that carry proposals.
func codeProposals(c *tlspl.Codec, list *[]Message) {
	tlspl.VectorFunc(c, list, func(c *tlspl.Codec, m *Message) {
		m.Code(c)
		if c.Err() == nil {
			if t, ok := m.handshakeType(); !ok || t != mls.ContentProposal {
				c.Fail(ErrMessageKind)
			}
		}
	})
}
