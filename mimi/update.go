package mimi

import (
	"crypto/sha256"

	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// A GroupInfoRepresentation says how a GroupInfo is conveyed (MIMI protocol
// §5.3).
type GroupInfoRepresentation uint8

// The values of GroupInfoRepresentation.
const (
	GroupInfoFull    GroupInfoRepresentation = 1
	GroupInfoPartial GroupInfoRepresentation = 2
)

// String returns the draft's word.
func (r GroupInfoRepresentation) String() string {
	return enumName(r, "reserved", "full", "partial")
}

// A GroupInfoOption holds a whole GroupInfo, or the part of one that a hub
// can't compute by itself (MIMI protocol §5.3, Decision 27).
type GroupInfoOption struct {
	Representation   GroupInfoRepresentation
	GroupInfo        *mls.GroupInfo        // GroupInfoFull
	PartialGroupInfo *mls.PartialGroupInfo // GroupInfoPartial
}

// FullGroupInfo returns the option that holds all of g.
func FullGroupInfo(g *mls.GroupInfo) GroupInfoOption {
	return GroupInfoOption{Representation: GroupInfoFull, GroupInfo: g}
}

// PartialGroupInfo returns the option that holds p.
func PartialGroupInfo(p *mls.PartialGroupInfo) GroupInfoOption {
	return GroupInfoOption{Representation: GroupInfoPartial, PartialGroupInfo: p}
}

// Code describes a GroupInfoOption.
func (o *GroupInfoOption) Code(c *tlspl.Codec) {
	c.Field("representation")
	tlspl.Uint8(c, &o.Representation)
	switch o.Representation {
	case GroupInfoFull:
		codeCase(c, "groupInfo", &o.GroupInfo)
	case GroupInfoPartial:
		codeCase(c, "partialGroupInfo", &o.PartialGroupInfo)
	default:
		c.Fail(tlspl.ErrValue)
	}
}

// A HandshakeBundle is a handshake message with what belongs to it (MIMI
// protocol §5.3, Decision 22): to a commit a Welcome, a GroupInfo and the
// ratchet tree; to a proposal further proposals.
type HandshakeBundle struct {
	ProposalOrCommit  Message
	Welcome           *mls.Welcome          // commit; may be nil
	GroupInfoOption   GroupInfoOption       // commit
	RatchetTreeOption mls.RatchetTreeOption // commit
	MoreProposals     []Message             // proposal
}

// Commit reports whether the bundle holds a commit rather than proposals.
func (b *HandshakeBundle) Commit() bool {
	t, _ := b.ProposalOrCommit.handshakeType()
	return t == mls.ContentCommit
}

// Code describes a HandshakeBundle.
func (b *HandshakeBundle) Code(c *tlspl.Codec) {
	tlspl.Struct(c, "proposalOrCommit", &b.ProposalOrCommit)
	if c.Err() != nil {
		return
	}
	switch t, _ := b.ProposalOrCommit.handshakeType(); t {
	case mls.ContentCommit:
		c.Field("welcome")
		tlspl.Optional(c, &b.Welcome)
		tlspl.Struct(c, "groupInfoOption", &b.GroupInfoOption)
		tlspl.Struct(c, "ratchetTreeOption", &b.RatchetTreeOption)
	case mls.ContentProposal:
		c.Field("moreProposals")
		codeProposals(c, &b.MoreProposals)
	default:
		c.Fail(ErrMessageKind)
	}
}

// An UpdateRequest changes a room (MIMI protocol §5.3). On the wire it is its
// bundle: the room's protocol is known. Decision 23
type UpdateRequest struct {
	Bundle HandshakeBundle
}

// Code describes an UpdateRequest.
func (r *UpdateRequest) Code(c *tlspl.Codec) { r.Bundle.Code(c) }

// Digest returns the SHA-256 of the bundle's handshake message, by which a hub
// recognises a repeat. Decision 38
func (r *UpdateRequest) Digest() ([sha256.Size]byte, error) {
	return r.Bundle.ProposalOrCommit.Digest()
}

// An UpdateResponseCode says what became of an update (MIMI protocol §5.3).
type UpdateResponseCode uint8

// The values of UpdateResponseCode.
const (
	UpdateSuccess         UpdateResponseCode = 0
	UpdateWrongEpoch      UpdateResponseCode = 1
	UpdateNotAllowed      UpdateResponseCode = 2
	UpdateInvalidProposal UpdateResponseCode = 3
)

// String returns the draft's word.
func (u UpdateResponseCode) String() string {
	return enumName(u, "success", "wrongEpoch", "notAllowed", "invalidProposal")
}

// An UpdateRoomResponse answers an UpdateRequest (MIMI protocol §5.3, Decision
// 24).
type UpdateRoomResponse struct {
	ResponseCode      UpdateResponseCode
	ErrorDescription  string            // empty on success
	AcceptedTimestamp Millis            // UpdateSuccess
	CurrentEpoch      mls.Epoch         // UpdateWrongEpoch
	InvalidProposals  []mls.ProposalRef // UpdateInvalidProposal: those sent by themselves or by reference
}

// Code describes an UpdateRoomResponse.
func (r *UpdateRoomResponse) Code(c *tlspl.Codec) {
	c.Field("responseCode")
	codeEnum(c, &r.ResponseCode, UpdateInvalidProposal)
	c.Field("errorDescription")
	tlspl.String(c, &r.ErrorDescription)
	switch r.ResponseCode {
	case UpdateSuccess:
		c.Field("accepted_timestamp")
		tlspl.Uint64(c, &r.AcceptedTimestamp)
	case UpdateWrongEpoch:
		c.Field("currentEpoch")
		tlspl.Uint64(c, &r.CurrentEpoch)
	case UpdateInvalidProposal:
		c.Field("invalidProposals")
		tlspl.VectorFunc(c, &r.InvalidProposals, tlspl.Opaque[mls.ProposalRef])
	}
}
