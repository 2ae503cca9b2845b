package mls

import (
	"slices"

	"github.com/comity-im/comity/tlspl"
)

// RequiredCapabilities is the required_capabilities extension of a
// GroupContext: what every member must support (RFC 9420 §11.1).
type RequiredCapabilities struct {
	ExtensionTypes  []ExtensionType
	ProposalTypes   []ProposalType
	CredentialTypes []CredentialType
}

// Code describes RequiredCapabilities (RFC 9420 §11.1).
func (r *RequiredCapabilities) Code(c *tlspl.Codec) {
	c.Field("extension_types")
	tlspl.VectorFunc(c, &r.ExtensionTypes, tlspl.Uint16)
	c.Field("proposal_types")
	tlspl.VectorFunc(c, &r.ProposalTypes, tlspl.Uint16)
	c.Field("credential_types")
	tlspl.VectorFunc(c, &r.CredentialTypes, tlspl.Uint16)
}

// An ExternalSender may send proposals without being a member (RFC 9420
// §12.1.8.1).
type ExternalSender struct {
	SignatureKey []byte
	Credential   Credential
}

// Code describes an ExternalSender (RFC 9420 §12.1.8.1).
func (e *ExternalSender) Code(c *tlspl.Codec) {
	c.Field("signature_key")
	tlspl.Opaque(c, &e.SignatureKey)
	tlspl.Struct(c, "credential", &e.Credential)
}

// ExternalSenders is the external_senders extension of a GroupContext
// (RFC 9420 §12.1.8.1).
type ExternalSenders []ExternalSender

// Code describes the external_senders extension (RFC 9420 §12.1.8.1).
func (e *ExternalSenders) Code(c *tlspl.Codec) {
	c.Field("external_senders")
	tlspl.Vector(c, (*[]ExternalSender)(e))
}

// ExternalPub is the external_pub extension of a GroupInfo: the key for
// external commits (RFC 9420 §12.4.3.2).
type ExternalPub struct {
	ExternalPub []byte // HPKE public key
}

// Code describes ExternalPub (RFC 9420 §12.4.3.2).
func (e *ExternalPub) Code(c *tlspl.Codec) {
	c.Field("external_pub")
	tlspl.Opaque(c, &e.ExternalPub)
}

// WireFormats is the supported_wire_formats extension of a LeafNode and the
// required_wire_formats extension of a GroupContext (MLS extensions §5).
type WireFormats struct {
	WireFormats []WireFormat
}

// Code describes WireFormats (MLS extensions §5).
func (w *WireFormats) Code(c *tlspl.Codec) {
	c.Field("wire_formats")
	tlspl.VectorFunc(c, &w.WireFormats, tlspl.Uint16)
}

// An ExternalReceiver may read SemiPrivateMessages without being a member
// (SemiPrivateMessage §3).
type ExternalReceiver struct {
	PublicKey  []byte // external_receiver_public_key, an HPKE key
	Credential Credential
}

// Code describes an ExternalReceiver (SemiPrivateMessage §3).
func (e *ExternalReceiver) Code(c *tlspl.Codec) {
	c.Field("external_receiver_public_key")
	tlspl.Opaque(c, &e.PublicKey)
	tlspl.Struct(c, "credential", &e.Credential)
}

// ExternalReceivers is the external_receivers extension of a GroupContext
// (Decision 120).
type ExternalReceivers []ExternalReceiver

// Code describes the external_receivers extension (Decision 120).
func (e *ExternalReceivers) Code(c *tlspl.Codec) {
	c.Field("external_receivers")
	tlspl.Vector(c, (*[]ExternalReceiver)(e))
}

// RequiredCapabilities returns the required_capabilities extension, the zero
// value if there is none.
func (e Extensions) RequiredCapabilities() (RequiredCapabilities, error) {
	var r RequiredCapabilities
	_, err := e.find(ExtensionRequiredCapabilities, &r)
	return r, err
}

// ExternalSenders returns the external_senders extension, nil if there is
// none.
func (e Extensions) ExternalSenders() (ExternalSenders, error) {
	var s ExternalSenders
	_, err := e.find(ExtensionExternalSenders, &s)
	return s, err
}

// ExternalReceivers returns the external_receivers extension, nil if there is
// none.
func (e Extensions) ExternalReceivers() (ExternalReceivers, error) {
	var r ExternalReceivers
	_, err := e.find(ExtensionExternalReceivers, &r)
	return r, err
}

// ExternalPub returns the external_pub extension, nil if there is none.
func (e Extensions) ExternalPub() ([]byte, error) {
	var p ExternalPub
	_, err := e.find(ExtensionExternalPub, &p)
	return p.ExternalPub, err
}

// AppDataDictionary returns the app_data_dictionary extension and whether
// there is one.
func (e Extensions) AppDataDictionary() (AppDataDictionary, bool, error) {
	var d AppDataDictionary
	ok, err := e.find(ExtensionAppDataDictionary, &d)
	return d, ok, err
}

// wireFormats returns the formats that the extension of type t lists.
func (e Extensions) wireFormats(t ExtensionType) ([]WireFormat, error) {
	var w WireFormats
	_, err := e.find(t, &w)
	return w.WireFormats, err
}

// SupportsWireFormat reports whether a leaf reads messages of format w
// (MLS extensions §5).
func (n *LeafNode) SupportsWireFormat(w WireFormat) bool {
	if w.IsDefault() {
		return true
	}
	list, err := n.Extensions.wireFormats(ExtensionSupportedWireFormats)
	return err == nil && slices.Contains(list, w)
}

// A RatchetTreeRepresentation says how a ratchet tree is conveyed
// (ratchet tree options §3).
type RatchetTreeRepresentation uint8

// The representations of ratchet tree options §3.
const (
	RatchetTreeFull                RatchetTreeRepresentation = 1
	RatchetTreeHTTPSURI            RatchetTreeRepresentation = 2
	RatchetTreeOutOfBand           RatchetTreeRepresentation = 3
	RatchetTreeDistributionService RatchetTreeRepresentation = 4
)

// A RatchetTreeOption conveys a ratchet tree, or says where to find it
// (ratchet tree options §3). MIMI uses full and distributionService only
// (Decision 26).
type RatchetTreeOption struct {
	Representation RatchetTreeRepresentation
	RatchetTree    []byte // full: the extension_data of a ratchet_tree extension, with its length
	RatchetTreeURL []byte // httpsUri
	TreeSignature  []byte // httpsUri, outOfBand
}

// Code describes a RatchetTreeOption (ratchet tree options §3, Decisions 25,
// 26).
func (r *RatchetTreeOption) Code(c *tlspl.Codec) {
	c.Field("representation")
	tlspl.Uint8(c, &r.Representation)
	switch r.Representation {
	case RatchetTreeFull:
		c.Field("ratchet_tree")
		var nodes opaque // read when the tree is used
		if !c.Decoding() {
			if tlspl.UnmarshalAlias(r.RatchetTree, &nodes) != nil {
				c.Fail(tlspl.ErrLength)
			}
			tlspl.Fixed(c, r.RatchetTree)
			return
		}
		tlspl.Raw(c, &r.RatchetTree, func() { nodes.Code(c) })
	case RatchetTreeHTTPSURI:
		c.Field("ratchet_tree_url")
		tlspl.Opaque(c, &r.RatchetTreeURL)
		c.Field("tree_signature")
		tlspl.Opaque(c, &r.TreeSignature)
	case RatchetTreeOutOfBand:
		c.Field("tree_signature")
		tlspl.Opaque(c, &r.TreeSignature)
	case RatchetTreeDistributionService:
	default:
		c.Fail(tlspl.ErrValue)
	}
}

// A RatchetTreePresence says in which of two epochs a GroupInfo held the
// ratchet_tree extension (ratchet tree options §4).
type RatchetTreePresence uint8

// The presences of ratchet tree options §4. MIMI uses the first only
// (Decision 27).
const (
	PresenceNoRatchetTree RatchetTreePresence = 0
	PresencePresent       RatchetTreePresence = 1
	PresenceRemoved       RatchetTreePresence = 2
	PresenceAdded         RatchetTreePresence = 3
)

// A PartialGroupInfo is what a hub that follows the group can't compute of a
// GroupInfo (ratchet tree options §4).
type PartialGroupInfo struct {
	RatchetTreePresence RatchetTreePresence
	GroupInfoExtensions Extensions
	Signature           []byte // of the whole GroupInfo
}

// Code describes a PartialGroupInfo (ratchet tree options §4).
func (p *PartialGroupInfo) Code(c *tlspl.Codec) {
	c.Field("ratchet_tree_presence")
	tlspl.Uint8(c, &p.RatchetTreePresence)
	if p.RatchetTreePresence > PresenceAdded {
		c.Fail(tlspl.ErrValue)
	}
	tlspl.Struct(c, "group_info_extensions", &p.GroupInfoExtensions)
	c.Field("signature")
	tlspl.Opaque(c, &p.Signature)
}
