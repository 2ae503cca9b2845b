package mimi

import (
	"errors"
	"fmt"
	"io"

	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// A GroupInfoRequest asks the hub for what an external join takes (MIMI
// protocol §5.6, Decision 61).
type GroupInfoRequest struct {
	Protocol               Protocol
	CipherSuite            suite.ID // of the signatures and of the encryption. Decision 63
	RequestingSignatureKey []byte
	RequestingCredential   mls.Credential
	GroupInfoPublicKey     []byte // an HPKE key, fresh for each request. Decision 62
	JoiningCode            []byte // proves that its holder may join; nil: none
	Signature              []byte

	tbs []byte // as it arrived
}

// Code describes a GroupInfoRequest.
func (r *GroupInfoRequest) Code(c *tlspl.Codec) {
	tlspl.Raw(c, &r.tbs, func() { r.codeTBS(c) })
	c.Field("signature")
	tlspl.Opaque(c, &r.Signature)
}

func (r *GroupInfoRequest) codeTBS(c *tlspl.Codec) {
	r.Protocol.code(c)
	c.Field("cipher_suite")
	tlspl.Uint16(c, &r.CipherSuite)
	c.Field("requestingSignatureKey")
	tlspl.Opaque(c, &r.RequestingSignatureKey)
	tlspl.Struct(c, "requestingCredential", &r.RequestingCredential)
	c.Field("groupInfoPublicKey")
	tlspl.Opaque(c, &r.GroupInfoPublicKey)
	c.Field("joiningCode")
	code := &r.JoiningCode
	if r.JoiningCode == nil {
		code = nil
	}
	tlspl.OptionalFunc(c, &code, tlspl.Opaque[[]byte])
	if c.Decoding() && code != nil {
		if r.JoiningCode = *code; *code == nil {
			r.JoiningCode = []byte{} // present, but empty
		}
	}
}

type groupInfoRequestTBS GroupInfoRequest

// Code describes a GroupInfoRequestTBS.
func (r *groupInfoRequestTBS) Code(c *tlspl.Codec) { (*GroupInfoRequest)(r).codeTBS(c) }

const groupInfoRequestLabel = "GroupInfoRequestTBS"

// Sign sets RequestingSignatureKey, CipherSuite and Signature.
func (r *GroupInfoRequest) Sign(rand io.Reader, signer *suite.Signer) error {
	r.RequestingSignatureKey, r.CipherSuite, r.tbs = signer.Public(), signer.Suite().ID(), nil
	var err error
	r.Signature, err = signStruct(rand, signer, groupInfoRequestLabel, (*groupInfoRequestTBS)(r))
	return err
}

// Verify checks the signature under RequestingSignatureKey. It does not check
// that the key is the credential's, nor the credential.
func (r *GroupInfoRequest) Verify() error {
	return verifyStruct(r.CipherSuite, r.RequestingSignatureKey, groupInfoRequestLabel,
		r.tbs, (*groupInfoRequestTBS)(r), r.Signature)
}

// A GroupInfoCode says what became of a GroupInfoRequest (MIMI protocol §5.6).
type GroupInfoCode uint8

// The values of GroupInfoCode.
const (
	GroupInfoSuccess       GroupInfoCode = 1
	GroupInfoNotAuthorized GroupInfoCode = 2
	GroupInfoNoSuchRoom    GroupInfoCode = 3
)

// String returns the draft's word.
func (g GroupInfoCode) String() string {
	return enumName(g, "reserved", "success", "notAuthorized", "noSuchRoom")
}

// A GroupInfoResponse answers a GroupInfoRequest (MIMI protocol §5.6, Decision
// 64). Only success has the fields after Status, and a signature.
type GroupInfoResponse struct {
	Version                   Protocol
	RoomID                    RoomURI
	Status                    GroupInfoCode
	CipherSuite               suite.ID
	HubSender                 mls.ExternalSender
	EncryptedGroupInfoAndTree mls.HPKECiphertext
	Signature                 []byte

	tbs []byte // as it arrived
}

// Code describes a GroupInfoResponse.
func (r *GroupInfoResponse) Code(c *tlspl.Codec) {
	tlspl.Raw(c, &r.tbs, func() { r.codeTBS(c) })
	if r.Status == GroupInfoSuccess {
		c.Field("signature")
		tlspl.Opaque(c, &r.Signature)
	}
}

func (r *GroupInfoResponse) codeTBS(c *tlspl.Codec) {
	r.Version.code(c)
	c.Field("room_id")
	r.RoomID.Code(c)
	c.Field("status")
	tlspl.Uint8(c, &r.Status)
	switch r.Status {
	case GroupInfoSuccess:
		c.Field("cipher_suite")
		tlspl.Uint16(c, &r.CipherSuite)
		tlspl.Struct(c, "hub_sender", &r.HubSender)
		tlspl.Struct(c, "encrypted_groupinfo_and_tree", &r.EncryptedGroupInfoAndTree)
	case GroupInfoNotAuthorized, GroupInfoNoSuchRoom:
	default:
		c.Fail(tlspl.ErrValue)
	}
}

type groupInfoResponseTBS GroupInfoResponse

// Code describes a GroupInfoResponseTBS.
func (r *groupInfoResponseTBS) Code(c *tlspl.Codec) { (*GroupInfoResponse)(r).codeTBS(c) }

const (
	groupInfoResponseLabel   = "GroupInfoResponseTBS"
	groupInfoEncryptionLabel = "GroupInfo and ratchet_tree encryption"
)

// A PendingProposal is a proposal that the hub accepted in the present epoch
// (MIMI protocol §5.6).
type PendingProposal struct {
	Proposal        Message
	HubAcceptedTime Millis
}

// Code describes a PendingProposal.
func (p *PendingProposal) Code(c *tlspl.Codec) {
	tlspl.Struct(c, "proposal", &p.Proposal)
	if t, ok := p.Proposal.handshakeType(); c.Err() == nil && (!ok || t != mls.ContentProposal) {
		c.Fail(ErrMessageKind)
	}
	c.Field("hub_accepted_time")
	tlspl.Uint64(c, &p.HubAcceptedTime)
}

// A GroupInfoRatchetTreeTBE is what a GroupInfoResponse encrypts (MIMI protocol
// §5.6).
type GroupInfoRatchetTreeTBE struct {
	GroupInfo         mls.GroupInfo // without a ratchet_tree extension. Decision 28
	RatchetTreeOption mls.RatchetTreeOption
	PendingProposals  []PendingProposal
}

// Code describes a GroupInfoRatchetTreeTBE.
func (t *GroupInfoRatchetTreeTBE) Code(c *tlspl.Codec) {
	tlspl.Struct(c, "groupInfo", &t.GroupInfo)
	tlspl.Struct(c, "ratchetTreeOption", &t.RatchetTreeOption)
	c.Field("pending_proposals")
	tlspl.Vector(c, &t.PendingProposals)
}

// NewGroupInfoResponse answers req with success: it encrypts tbe to the
// request's key and signs as the hub, whose signer must be of the request's
// cipher suite. Decision 63
func NewGroupInfoResponse(rand io.Reader, req *GroupInfoRequest, room RoomURI, tbe *GroupInfoRatchetTreeTBE, signer *suite.Signer, credential mls.Credential) (*GroupInfoResponse, error) {
	s := signer.Suite()
	if s.ID() != req.CipherSuite {
		return nil, fmt.Errorf("mimi: group info for cipher suite %v, signing key of %v", req.CipherSuite, s.ID())
	}
	plaintext, err := tlspl.Marshal(tbe)
	if err != nil {
		return nil, err
	}
	kemOutput, ciphertext, err := s.SealWithLabel(req.GroupInfoPublicKey, groupInfoEncryptionLabel, []byte(room), plaintext)
	if err != nil {
		return nil, err
	}
	r := &GroupInfoResponse{
		Version:                   MLS10,
		RoomID:                    room,
		Status:                    GroupInfoSuccess,
		CipherSuite:               s.ID(),
		HubSender:                 mls.ExternalSender{SignatureKey: signer.Public(), Credential: credential},
		EncryptedGroupInfoAndTree: mls.HPKECiphertext{KEMOutput: kemOutput, Ciphertext: ciphertext},
	}
	r.Signature, err = signStruct(rand, signer, groupInfoResponseLabel, (*groupInfoResponseTBS)(r))
	if err != nil {
		return nil, err
	}
	return r, nil
}

// ErrGroupInfoMismatch is the error of a GroupInfoResponse for another room or
// cipher suite than was asked for.
var ErrGroupInfoMismatch = errors.New("mimi: group info response is not for this request")

// Open checks that the response is for room, verifies its signature under
// HubSender's key, and decrypts it. The key must be the one whose public half
// the request carried. Whether HubSender is the hub is for the caller to check.
// Decisions 62, 65
func (r *GroupInfoResponse) Open(room RoomURI, key *suite.PrivateKey, id suite.ID) (*GroupInfoRatchetTreeTBE, error) {
	if r.Status != GroupInfoSuccess || r.RoomID != room || r.CipherSuite != id {
		return nil, ErrGroupInfoMismatch
	}
	err := verifyStruct(r.CipherSuite, r.HubSender.SignatureKey, groupInfoResponseLabel,
		r.tbs, (*groupInfoResponseTBS)(r), r.Signature)
	if err != nil {
		return nil, err
	}
	e := &r.EncryptedGroupInfoAndTree
	plaintext, err := key.OpenWithLabel(groupInfoEncryptionLabel, []byte(room), e.KEMOutput, e.Ciphertext)
	if err != nil {
		return nil, err
	}
	tbe := new(GroupInfoRatchetTreeTBE)
	if err := tlspl.UnmarshalAlias(plaintext, tbe); err != nil {
		return nil, err
	}
	return tbe, nil
}
