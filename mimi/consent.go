package mimi

import (
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// A ConsentOperation says what a ConsentEntry does (MIMI protocol §5.7).
// requestConsent takes the first two, updateConsent the other two. Decision 67
type ConsentOperation uint8

// The values of ConsentOperation.
const (
	ConsentCancel  ConsentOperation = 0
	ConsentRequest ConsentOperation = 1
	ConsentGrant   ConsentOperation = 2
	ConsentRevoke  ConsentOperation = 3
)

// String returns the draft's word.
func (o ConsentOperation) String() string { return enumName(o, "cancel", "request", "grant", "revoke") }

// IsRequest reports whether the operation belongs to requestConsent.
func (o ConsentOperation) IsRequest() bool { return o == ConsentCancel || o == ConsentRequest }

// A ConsentScope says who may fetch whose KeyPackages, and for which room
// (MIMI protocol §5.7). Two scopes are the same if they are equal.
type ConsentScope struct {
	RequesterURI UserURI
	TargetURI    UserURI
	RoomID       RoomURI // empty: any room
}

// Code describes a ConsentScope.
func (s *ConsentScope) Code(c *tlspl.Codec) {
	c.Field("requesterUri")
	s.RequesterURI.Code(c)
	c.Field("targetUri")
	s.TargetURI.Code(c)
	c.Field("roomId")
	room := &s.RoomID
	if s.RoomID == "" {
		room = nil
	}
	tlspl.Optional(c, &room)
	if c.Decoding() && room != nil {
		s.RoomID = *room
	}
}

// A ConsentEntry asks for consent, takes the request back, or says that consent
// is given or not (MIMI protocol §5.7, Decision 67).
type ConsentEntry struct {
	ConsentOperation  ConsentOperation
	ConsentScope      ConsentScope
	ClientKeyPackages []mls.KeyPackage // ConsentGrant; may be empty
	ConsentExtensions mls.AppDataDictionary
}

// Code describes a ConsentEntry.
func (e *ConsentEntry) Code(c *tlspl.Codec) {
	c.Field("consentOperation")
	codeEnum(c, &e.ConsentOperation, ConsentRevoke)
	e.ConsentScope.Code(c)
	if e.ConsentOperation == ConsentGrant {
		c.Field("clientKeyPackages")
		tlspl.Vector(c, &e.ClientKeyPackages)
	}
	tlspl.Struct(c, "consent_extensions", &e.ConsentExtensions)
}
