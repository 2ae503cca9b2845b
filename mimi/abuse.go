package mimi

import (
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// An AbusiveMessage is a message that someone reports, with the hub's frank
// that proves it (MIMI protocol §5.9).
type AbusiveMessage struct {
	MessageContent    []byte // the whole application_data. Decision 73
	Frank             Frank
	AcceptedTimestamp Millis
}

// Code describes an AbusiveMessage.
func (m *AbusiveMessage) Code(c *tlspl.Codec) {
	c.Field("message_content")
	tlspl.Opaque(c, &m.MessageContent)
	tlspl.Struct(c, "frank", &m.Frank)
	c.Field("accepted_timestamp")
	tlspl.Uint64(c, &m.AcceptedTimestamp)
}

// An AbuseType is a kind of abuse (MIMI protocol §5.9). None is registered:
// send AbuseUnspecified, accept any. Decision 75
type AbuseType uint8

// AbuseUnspecified is the reserved AbuseType.
const AbuseUnspecified AbuseType = 0

// An AbuseReport tells a hub of abuse in one of its rooms (MIMI protocol §5.9).
type AbuseReport struct {
	ReportingUser    UserURI // empty: anonymous. Decision 74
	AllegedAbuserURI UserURI
	ReasonCode       AbuseType
	Note             string
	Messages         []AbusiveMessage
	AbuseExtensions  mls.AppDataDictionary
}

// Code describes an AbuseReport.
func (r *AbuseReport) Code(c *tlspl.Codec) {
	c.Field("reportingUser")
	codeOptionalURI(c, &r.ReportingUser, ParseUserURI)
	c.Field("allegedAbuserUri")
	r.AllegedAbuserURI.Code(c)
	c.Field("reasonCode")
	tlspl.Uint8(c, &r.ReasonCode)
	c.Field("note")
	tlspl.String(c, &r.Note)
	c.Field("messages")
	tlspl.Vector(c, &r.Messages)
	tlspl.Struct(c, "abuse_extensions", &r.AbuseExtensions)
}
