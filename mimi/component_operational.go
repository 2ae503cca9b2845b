package mimi

import (
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// ExtendedCapabilities lists what MLS clients must, should or must not use
// (room policy §7.1).
type ExtendedCapabilities struct {
	Versions     []mls.ProtocolVersion
	CipherSuites []suite.ID
	Extensions   []mls.ExtensionType
	Proposals    []mls.ProposalType
	Credentials  []mls.CredentialType
	WireFormats  []mls.WireFormat // one vector, not a vector of vectors. Decision 92
	ComponentIDs []mls.ComponentID
	SafeAADTypes []mls.ComponentID
	MediaTypes   []mls.MediaType
	ContentTypes []mls.ContentType
}

// Code describes an ExtendedCapabilities.
func (e *ExtendedCapabilities) Code(c *tlspl.Codec) {
	c.Field("versions")
	tlspl.VectorFunc(c, &e.Versions, tlspl.Uint16[mls.ProtocolVersion])
	c.Field("cipher_suites")
	tlspl.VectorFunc(c, &e.CipherSuites, tlspl.Uint16[suite.ID])
	c.Field("extensions")
	tlspl.VectorFunc(c, &e.Extensions, tlspl.Uint16[mls.ExtensionType])
	c.Field("proposals")
	tlspl.VectorFunc(c, &e.Proposals, tlspl.Uint16[mls.ProposalType])
	c.Field("credentials")
	tlspl.VectorFunc(c, &e.Credentials, tlspl.Uint16[mls.CredentialType])
	c.Field("wire_formats")
	tlspl.VectorFunc(c, &e.WireFormats, tlspl.Uint16[mls.WireFormat])
	c.Field("component_ids")
	tlspl.VectorFunc(c, &e.ComponentIDs, tlspl.Uint16[mls.ComponentID])
	c.Field("safe_aad_types")
	tlspl.VectorFunc(c, &e.SafeAADTypes, tlspl.Uint16[mls.ComponentID])
	c.Field("media_types")
	tlspl.Vector(c, &e.MediaTypes)
	c.Field("content_types")
	tlspl.VectorFunc(c, &e.ContentTypes, tlspl.Uint8[mls.ContentType])
}

// A PendingProposalStrategy says when members commit pending proposals (room
// policy §7.1).
type PendingProposalStrategy uint8

// The values of PendingProposalStrategy. There is no extension case. Decision 92
const (
	PendingUnspecified     PendingProposalStrategy = 0
	PendingImmediateCommit PendingProposalStrategy = 1
	PendingRandomDelay     PendingProposalStrategy = 2
)

// String returns the draft's word.
func (s PendingProposalStrategy) String() string {
	return enumName(s, "unspecified", "immediate_commit", "random_delay")
}

// PendingProposalPolicy is a strategy with its parameters (room policy §7.1),
// which only PendingRandomDelay has, in milliseconds.
type PendingProposalPolicy struct {
	PendingProposalStrategy PendingProposalStrategy
	MinimumDelayMillis      uint64
	MaximumDelayMillis      uint64
}

// Code describes a PendingProposalPolicy.
func (p *PendingProposalPolicy) Code(c *tlspl.Codec) {
	c.Field("pending_proposal_strategy")
	codeEnum(c, &p.PendingProposalStrategy, PendingRandomDelay)
	if p.PendingProposalStrategy == PendingRandomDelay {
		c.Field("minimum_delay_ms")
		tlspl.Uint64(c, &p.MinimumDelayMillis)
		c.Field("maximum_delay_ms")
		tlspl.Uint64(c, &p.MaximumDelayMillis)
	}
}

// MinDefaultMaxTime bounds a time, in seconds (room policy §7.1, Decision 92).
type MinDefaultMaxTime struct {
	MinimumTime uint64
	DefaultTime uint64
	MaximumTime uint64
}

// Code describes a MinDefaultMaxTime.
func (t *MinDefaultMaxTime) Code(c *tlspl.Codec) {
	c.Field("minimum_time")
	tlspl.Uint64(c, &t.MinimumTime)
	c.Field("default_time")
	tlspl.Uint64(c, &t.DefaultTime)
	c.Field("maximum_time")
	tlspl.Uint64(c, &t.MaximumTime)
}

// AppMessagePolicy says how clients treat application messages (room policy
// §7.1): from how many epochs back they are taken, to what size they are
// padded, and how far a sender's generation may jump ahead.
type AppMessagePolicy struct {
	EpochTolerance          uint8
	PadToSize               uint16
	MaxGenerationsSkipahead uint32
}

// Code describes an AppMessagePolicy.
func (p *AppMessagePolicy) Code(c *tlspl.Codec) {
	c.Field("epoch_tolerance")
	tlspl.Uint8(c, &p.EpochTolerance)
	c.Field("pad_to_size")
	tlspl.Uint16(c, &p.PadToSize)
	c.Field("max_generations_skipahead")
	tlspl.Uint32(c, &p.MaxGenerationsSkipahead)
}

// OperationalParameters is the data of the mls_operational_policy component,
// and the content of its updates (room policy §7.1). Times are in seconds.
type OperationalParameters struct {
	MandatoryCapabilities      ExtendedCapabilities
	DefaultCapabilities        ExtendedCapabilities
	ForbiddenCapabilities      ExtendedCapabilities
	HandshakeFormats           []mls.WireFormat
	ExternalProposalAllowed    bool
	ExternalCommitAllowed      bool
	PendingProposalPolicy      PendingProposalPolicy
	LeafNodeUpdateTime         MinDefaultMaxTime
	AppMessagePolicy           AppMessagePolicy
	MaxKPLifetime              uint64
	MaxCredentialLifetime      uint64
	ResumptionPSKLifetime      uint64
	SenderNonceKeypairLifetime MinDefaultMaxTime
	MaxKeypairs                uint32
	BufferIncomingMessageTime  MinDefaultMaxTime
	MaxBufferedMessages        uint32
}

// Code describes an OperationalParameters.
func (p *OperationalParameters) Code(c *tlspl.Codec) {
	tlspl.Struct(c, "mandatory_capabilities", &p.MandatoryCapabilities)
	tlspl.Struct(c, "default_capabilities", &p.DefaultCapabilities)
	tlspl.Struct(c, "forbidden_capabilities", &p.ForbiddenCapabilities)
	c.Field("handshake_formats")
	tlspl.VectorFunc(c, &p.HandshakeFormats, tlspl.Uint16[mls.WireFormat])
	c.Field("external_proposal_allowed")
	tlspl.Bool(c, &p.ExternalProposalAllowed)
	c.Field("external_commit_allowed")
	tlspl.Bool(c, &p.ExternalCommitAllowed)
	tlspl.Struct(c, "pending_proposal_policy", &p.PendingProposalPolicy)
	tlspl.Struct(c, "LeafNode_update_time", &p.LeafNodeUpdateTime)
	tlspl.Struct(c, "app_message_policy", &p.AppMessagePolicy)
	c.Field("max_kp_lifetime")
	tlspl.Uint64(c, &p.MaxKPLifetime)
	c.Field("max_credential_lifetime")
	tlspl.Uint64(c, &p.MaxCredentialLifetime)
	c.Field("resumption_psk_lifetime")
	tlspl.Uint64(c, &p.ResumptionPSKLifetime)
	tlspl.Struct(c, "sender_nonce_keypair_lifetime", &p.SenderNonceKeypairLifetime)
	c.Field("max_keypairs")
	tlspl.Uint32(c, &p.MaxKeypairs)
	tlspl.Struct(c, "buffer_incoming_message_time", &p.BufferIncomingMessageTime)
	c.Field("max_buffered_messages")
	tlspl.Uint32(c, &p.MaxBufferedMessages)
}
