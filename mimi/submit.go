package mimi

import (
	"crypto/sha256"

	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// A SubmitMessageRequest hands the hub an application message (MIMI protocol
// §5.4). SendingURI is what the sender's provider says; receivers compare it
// with the sender's credential. Decision 41
type SubmitMessageRequest struct {
	Protocol   Protocol
	AppMessage Message // a PrivateMessage with application content
	SendingURI UserURI
}

// Code describes a SubmitMessageRequest (Decision 40).
func (r *SubmitMessageRequest) Code(c *tlspl.Codec) {
	r.Protocol.code(c)
	tlspl.Struct(c, "appMessage", &r.AppMessage)
	if c.Err() == nil && !r.AppMessage.application() {
		c.Field("appMessage")
		c.Fail(ErrMessageKind)
	}
	c.Field("sendingUri")
	r.SendingURI.Code(c)
}

// application reports whether m is a PrivateMessage with application content.
func (m *Message) application() bool {
	return m.WireFormat == mls.WireFormatPrivateMessage && m.PrivateMessage.ContentType == mls.ContentApplication
}

// Digest returns the SHA-256 of the application message, by which a hub
// recognises a repeat. Decision 38
func (r *SubmitMessageRequest) Digest() ([sha256.Size]byte, error) { return r.AppMessage.Digest() }

// A SubmitResponseCode says what became of a message (MIMI protocol §5.4).
type SubmitResponseCode uint8

// The values of SubmitResponseCode. The draft calls the first accepted too.
// Decision 40
const (
	SubmitSuccess     SubmitResponseCode = 0
	SubmitNotAllowed  SubmitResponseCode = 1
	SubmitEpochTooOld SubmitResponseCode = 2
)

// String returns the draft's word.
func (s SubmitResponseCode) String() string {
	return enumName(s, "success", "notAllowed", "epochTooOld")
}

// A SubmitMessageResponse answers a SubmitMessageRequest (MIMI protocol §5.4,
// Decision 40).
type SubmitMessageResponse struct {
	Protocol          Protocol
	StatusCode        SubmitResponseCode
	AcceptedTimestamp Millis    // SubmitSuccess
	Frank             *Frank    // SubmitSuccess; nil if the message was not franked
	CurrentEpoch      mls.Epoch // SubmitEpochTooOld
}

// Code describes a SubmitMessageResponse.
func (r *SubmitMessageResponse) Code(c *tlspl.Codec) {
	r.Protocol.code(c)
	c.Field("statusCode")
	codeEnum(c, &r.StatusCode, SubmitEpochTooOld)
	switch r.StatusCode {
	case SubmitSuccess:
		c.Field("accepted_timestamp")
		tlspl.Uint64(c, &r.AcceptedTimestamp)
		c.Field("frank")
		tlspl.Optional(c, &r.Frank)
	case SubmitEpochTooOld:
		c.Field("currentEpoch")
		tlspl.Uint64(c, &r.CurrentEpoch)
	}
}
