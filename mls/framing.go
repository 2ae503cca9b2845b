package mls

import "github.com/comity-im/comity/tlspl"

// A ContentType says what a message carries (RFC 9420 §6).
type ContentType uint8

// The content types of RFC 9420 §6.
const (
	ContentApplication ContentType = 1
	ContentProposal    ContentType = 2
	ContentCommit      ContentType = 3
)

// String is the name in RFC 9420 §6, or the number.
func (t ContentType) String() string {
	return nameOf(map[ContentType]string{
		ContentApplication: "application", ContentProposal: "proposal", ContentCommit: "commit",
	}, t)
}

// A SenderType says who sent a message (RFC 9420 §6).
type SenderType uint8

// The sender types of RFC 9420 §6.
const (
	SenderMember            SenderType = 1
	SenderExternal          SenderType = 2
	SenderNewMemberProposal SenderType = 3
	SenderNewMemberCommit   SenderType = 4
)

// String is the name in RFC 9420 §6, or the number.
func (t SenderType) String() string {
	return nameOf(map[SenderType]string{
		SenderMember: "member", SenderExternal: "external",
		SenderNewMemberProposal: "new_member_proposal", SenderNewMemberCommit: "new_member_commit",
	}, t)
}

// A Sender names who sent a message (RFC 9420 §6).
type Sender struct {
	Type        SenderType
	LeafIndex   LeafIndex // member
	SenderIndex uint32    // external: position in external_senders
}

// MemberSender is the sender at a leaf.
func MemberSender(i LeafIndex) Sender { return Sender{Type: SenderMember, LeafIndex: i} }

// Code describes a Sender (RFC 9420 §6).
func (s *Sender) Code(c *tlspl.Codec) {
	c.Field("sender_type")
	tlspl.Uint8(c, &s.Type)
	switch s.Type {
	case SenderMember:
		c.Field("leaf_index")
		tlspl.Uint32(c, &s.LeafIndex)
	case SenderExternal:
		c.Field("sender_index")
		tlspl.Uint32(c, &s.SenderIndex)
	case SenderNewMemberProposal, SenderNewMemberCommit:
	default:
		c.Fail(tlspl.ErrValue)
	}
}

// A FramedContent is what a message says, and who says it when (RFC 9420 §6).
// Exactly the field that ContentType names counts.
type FramedContent struct {
	GroupID           []byte
	Epoch             Epoch
	Sender            Sender
	AuthenticatedData []byte
	ContentType       ContentType
	ApplicationData   []byte
	Proposal          *Proposal
	Commit            *Commit

	raw []byte // as it arrived
}

// Code describes a FramedContent (RFC 9420 §6).
func (f *FramedContent) Code(c *tlspl.Codec) {
	tlspl.Raw(c, &f.raw, func() {
		c.Field("group_id")
		tlspl.Opaque(c, &f.GroupID)
		c.Field("epoch")
		tlspl.Uint64(c, &f.Epoch)
		tlspl.Struct(c, "sender", &f.Sender)
		c.Field("authenticated_data")
		tlspl.Opaque(c, &f.AuthenticatedData)
		c.Field("content_type")
		tlspl.Uint8(c, &f.ContentType)
		f.codeBody(c)
	})
}

// codeBody codes the select over content_type, which PrivateMessageContent
// shares.
func (f *FramedContent) codeBody(c *tlspl.Codec) {
	switch f.ContentType {
	case ContentApplication:
		c.Field("application_data")
		tlspl.Opaque(c, &f.ApplicationData)
	case ContentProposal:
		body(c, "proposal", &f.Proposal)
	case ContentCommit:
		body(c, "commit", &f.Commit)
	default:
		c.Fail(ErrContentType)
	}
}

// appendTo appends the encoding to dst, the one that arrived if there is one.
func (f *FramedContent) appendTo(dst []byte) ([]byte, error) {
	if f.raw != nil {
		return append(dst, f.raw...), nil
	}
	return tlspl.Append(dst, f)
}

// A FramedContentAuthData authenticates a FramedContent (RFC 9420 §6.1).
type FramedContentAuthData struct {
	Signature       []byte // SignWithLabel(., "FramedContentTBS", FramedContentTBS)
	ConfirmationTag []byte // only for commits
}

// code describes a FramedContentAuthData (RFC 9420 §6.1), whose shape depends
// on the content.
func (a *FramedContentAuthData) code(c *tlspl.Codec, content ContentType) {
	c.Field("signature")
	tlspl.Opaque(c, &a.Signature)
	if content == ContentCommit {
		c.Field("confirmation_tag")
		tlspl.Opaque(c, &a.ConfirmationTag)
	}
}

// An AuthenticatedContent is a message freed of its protection (RFC 9420 §6).
type AuthenticatedContent struct {
	WireFormat WireFormat
	Content    FramedContent
	Auth       FramedContentAuthData
}

// Code describes an AuthenticatedContent (RFC 9420 §6).
func (a *AuthenticatedContent) Code(c *tlspl.Codec) {
	c.Field("wire_format")
	tlspl.Uint16(c, &a.WireFormat)
	if !c.Decoding() && a.Content.raw != nil {
		tlspl.Fixed(c, a.Content.raw)
	} else {
		tlspl.Struct(c, "content", &a.Content)
	}
	a.Auth.code(c, a.Content.ContentType)
}

// A PublicMessage is a signed, unencrypted message (RFC 9420 §6.2).
type PublicMessage struct {
	Content       FramedContent
	Auth          FramedContentAuthData
	MembershipTag []byte // only from members
}

// Code describes a PublicMessage (RFC 9420 §6.2). It carries no application
// data (RFC 9420 §6).
func (m *PublicMessage) Code(c *tlspl.Codec) {
	tlspl.Struct(c, "content", &m.Content)
	m.Auth.code(c, m.Content.ContentType)
	if m.Content.Sender.Type == SenderMember {
		c.Field("membership_tag")
		tlspl.Opaque(c, &m.MembershipTag)
	}
}

// A PrivateMessage is a signed and encrypted message (RFC 9420 §6.3).
type PrivateMessage struct {
	GroupID             []byte
	Epoch               Epoch
	ContentType         ContentType
	AuthenticatedData   []byte
	EncryptedSenderData []byte
	Ciphertext          []byte
}

// Code describes a PrivateMessage (RFC 9420 §6.3).
func (m *PrivateMessage) Code(c *tlspl.Codec) {
	codeMessageHead(c, &m.GroupID, &m.Epoch, &m.ContentType)
	c.Field("authenticated_data")
	tlspl.Opaque(c, &m.AuthenticatedData)
	c.Field("encrypted_sender_data")
	tlspl.Opaque(c, &m.EncryptedSenderData)
	c.Field("ciphertext")
	tlspl.Opaque(c, &m.Ciphertext)
}

func codeMessageHead(c *tlspl.Codec, groupID *[]byte, epoch *Epoch, content *ContentType) {
	c.Field("group_id")
	tlspl.Opaque(c, groupID)
	c.Field("epoch")
	tlspl.Uint64(c, epoch)
	c.Field("content_type")
	tlspl.Uint8(c, content)
	if *content < ContentApplication || *content > ContentCommit {
		c.Fail(ErrContentType)
	}
}

// privateMessageContent is what a PrivateMessage encrypts (RFC 9420 §6.3.1).
// Content's type must be set before it is read, and its body is all that is
// coded of it.
type privateMessageContent struct {
	Content *FramedContent
	Auth    *FramedContentAuthData
	Padding int // octets, all zero
}

// Code describes a PrivateMessageContent (RFC 9420 §6.3.1).
func (p *privateMessageContent) Code(c *tlspl.Codec) {
	p.Content.codeBody(c)
	p.Auth.code(c, p.Content.ContentType)
	c.Field("padding")
	if !c.Decoding() {
		tlspl.Fixed(c, make([]byte, p.Padding))
		return
	}
	padding := c.Rest()
	p.Padding = len(padding)
	for _, b := range padding {
		if b != 0 {
			c.Fail(ErrPadding)
			return
		}
	}
}

// senderData says which key a PrivateMessage used (RFC 9420 §6.3.2).
type senderData struct {
	LeafIndex  LeafIndex
	Generation uint32
	ReuseGuard [4]byte
}

// A WireFormat says which struct an MLSMessage holds (RFC 9420 §17.2).
type WireFormat uint16

// The wire formats of RFC 9420 §17.2 and, in the private range,
// SemiPrivateMessage §4.1 (Decision 120).
const (
	WireFormatPublicMessage      WireFormat = 0x0001
	WireFormatPrivateMessage     WireFormat = 0x0002
	WireFormatWelcome            WireFormat = 0x0003
	WireFormatGroupInfo          WireFormat = 0x0004
	WireFormatKeyPackage         WireFormat = 0x0005
	WireFormatSemiPrivateMessage WireFormat = 0xf006
)

// IsDefault reports whether every client reads w (RFC 9420 §17.2).
func (w WireFormat) IsDefault() bool {
	return w >= WireFormatPublicMessage && w <= WireFormatKeyPackage
}

var wireFormatNames = map[WireFormat]string{
	WireFormatPublicMessage:      "mls_public_message",
	WireFormatPrivateMessage:     "mls_private_message",
	WireFormatWelcome:            "mls_welcome",
	WireFormatGroupInfo:          "mls_group_info",
	WireFormatKeyPackage:         "mls_key_package",
	WireFormatSemiPrivateMessage: "mls_semiprivate_message",
}

// String is the name in the IANA registry, or the number.
func (w WireFormat) String() string { return nameOf(wireFormatNames, w) }

// An MLSMessage is what travels (RFC 9420 §6). Exactly the field that
// WireFormat names is set.
type MLSMessage struct {
	Version            ProtocolVersion
	WireFormat         WireFormat
	PublicMessage      *PublicMessage
	PrivateMessage     *PrivateMessage
	Welcome            *Welcome
	GroupInfo          *GroupInfo
	KeyPackage         *KeyPackage
	SemiPrivateMessage *SemiPrivateMessage
}

// Code describes an MLSMessage (RFC 9420 §6).
func (m *MLSMessage) Code(c *tlspl.Codec) {
	m.Version.code(c)
	c.Field("wire_format")
	tlspl.Uint16(c, &m.WireFormat)
	switch m.WireFormat {
	case WireFormatPublicMessage:
		body(c, "public_message", &m.PublicMessage)
	case WireFormatPrivateMessage:
		body(c, "private_message", &m.PrivateMessage)
	case WireFormatWelcome:
		body(c, "welcome", &m.Welcome)
	case WireFormatGroupInfo:
		body(c, "group_info", &m.GroupInfo)
	case WireFormatKeyPackage:
		body(c, "key_package", &m.KeyPackage)
	case WireFormatSemiPrivateMessage:
		body(c, "semiprivate_message", &m.SemiPrivateMessage)
	default:
		c.Fail(ErrWireFormat)
	}
}

// Message wraps one of the six message structs as an MLSMessage.
func Message(v tlspl.Coder) MLSMessage {
	m := MLSMessage{Version: MLS10}
	switch v := v.(type) {
	case *PublicMessage:
		m.WireFormat, m.PublicMessage = WireFormatPublicMessage, v
	case *PrivateMessage:
		m.WireFormat, m.PrivateMessage = WireFormatPrivateMessage, v
	case *Welcome:
		m.WireFormat, m.Welcome = WireFormatWelcome, v
	case *GroupInfo:
		m.WireFormat, m.GroupInfo = WireFormatGroupInfo, v
	case *KeyPackage:
		m.WireFormat, m.KeyPackage = WireFormatKeyPackage, v
	case *SemiPrivateMessage:
		m.WireFormat, m.SemiPrivateMessage = WireFormatSemiPrivateMessage, v
	}
	return m
}

// ContentType returns the content type of the three message formats that
// carry content, and false for the others.
func (m *MLSMessage) ContentType() (ContentType, bool) {
	switch m.WireFormat {
	case WireFormatPublicMessage:
		return m.PublicMessage.Content.ContentType, true
	case WireFormatPrivateMessage:
		return m.PrivateMessage.ContentType, true
	case WireFormatSemiPrivateMessage:
		return m.SemiPrivateMessage.ContentType, true
	}
	return 0, false
}
