package mls

import "github.com/comity-im/comity/tlspl"

// A ProposalType says what a Proposal would change (RFC 9420 §12.1).
type ProposalType uint16

// The proposal types of RFC 9420 §17.4 and MLS extensions §7.2 (Decision 113).
const (
	ProposalAdd                    ProposalType = 0x0001
	ProposalUpdate                 ProposalType = 0x0002
	ProposalRemove                 ProposalType = 0x0003
	ProposalPSK                    ProposalType = 0x0004
	ProposalReInit                 ProposalType = 0x0005
	ProposalExternalInit           ProposalType = 0x0006
	ProposalGroupContextExtensions ProposalType = 0x0007
	ProposalAppDataUpdate          ProposalType = 0x0008
	ProposalAppEphemeral           ProposalType = 0x0009
	ProposalSelfRemove             ProposalType = 0x000a
)

// IsDefault reports whether every client supports t, so that capabilities must
// not list it (RFC 9420 §7.2).
func (t ProposalType) IsDefault() bool {
	return t >= ProposalAdd && t <= ProposalGroupContextExtensions
}

// IsCustom reports whether t is a type that this package doesn't define.
func (t ProposalType) IsCustom() bool { return t > ProposalSelfRemove }

var proposalNames = map[ProposalType]string{
	ProposalAdd:                    "add",
	ProposalUpdate:                 "update",
	ProposalRemove:                 "remove",
	ProposalPSK:                    "psk",
	ProposalReInit:                 "reinit",
	ProposalExternalInit:           "external_init",
	ProposalGroupContextExtensions: "group_context_extensions",
	ProposalAppDataUpdate:          "app_data_update",
	ProposalAppEphemeral:           "app_ephemeral",
	ProposalSelfRemove:             "self_remove",
}

// String is the name in the IANA registry, or the number.
func (t ProposalType) String() string { return nameOf(proposalNames, t) }

// A Proposal asks for one change of the group (RFC 9420 §12.1). Exactly the
// field that Type names is set; SelfRemove has none, it is empty.
//
// A type that this package doesn't know is read as one opaque<V>, which is how
// an application's own proposals must be encoded; the rules refuse it unless
// the application registered the type.
type Proposal struct {
	Type                   ProposalType
	Add                    *Add
	Update                 *Update
	Remove                 *Remove
	PreSharedKey           *PreSharedKey
	ReInit                 *ReInit
	ExternalInit           *ExternalInit
	GroupContextExtensions *GroupContextExtensions
	AppDataUpdate          *AppDataUpdate
	AppEphemeral           *AppEphemeral
	Custom                 []byte
}

// Code describes a Proposal (RFC 9420 §12.1, MLS extensions §6.3).
func (p *Proposal) Code(c *tlspl.Codec) {
	c.Field("proposal_type")
	tlspl.Uint16(c, &p.Type)
	switch p.Type {
	case ProposalAdd:
		body(c, "add", &p.Add)
	case ProposalUpdate:
		body(c, "update", &p.Update)
	case ProposalRemove:
		body(c, "remove", &p.Remove)
	case ProposalPSK:
		body(c, "psk", &p.PreSharedKey)
	case ProposalReInit:
		body(c, "reinit", &p.ReInit)
	case ProposalExternalInit:
		body(c, "external_init", &p.ExternalInit)
	case ProposalGroupContextExtensions:
		body(c, "group_context_extensions", &p.GroupContextExtensions)
	case ProposalAppDataUpdate:
		body(c, "app_data_update", &p.AppDataUpdate)
	case ProposalAppEphemeral:
		body(c, "app_ephemeral", &p.AppEphemeral)
	case ProposalSelfRemove:
	case 0:
		c.Fail(tlspl.ErrValue)
	default:
		c.Field("custom")
		tlspl.Opaque(c, &p.Custom)
	}
}

// body codes the case of a select that a pointer holds.
func body[T any, P tlspl.Ptr[T]](c *tlspl.Codec, name string, p **T) {
	c.Field(name)
	if c.Err() != nil {
		return
	}
	if c.Decoding() {
		*p = new(T)
	} else if *p == nil {
		c.Fail(tlspl.ErrValue)
		return
	}
	tlspl.Struct(c, name, P(*p))
}

// An Add asks to add the client that a KeyPackage describes (RFC 9420
// §12.1.1).
type Add struct {
	KeyPackage KeyPackage
}

// Code describes an Add (RFC 9420 §12.1.1).
func (a *Add) Code(c *tlspl.Codec) { tlspl.Struct(c, "key_package", &a.KeyPackage) }

// An Update asks to replace the sender's leaf (RFC 9420 §12.1.2).
type Update struct {
	LeafNode LeafNode
}

// Code describes an Update (RFC 9420 §12.1.2).
func (u *Update) Code(c *tlspl.Codec) { tlspl.Struct(c, "leaf_node", &u.LeafNode) }

// A Remove asks to remove a member (RFC 9420 §12.1.3).
type Remove struct {
	Removed LeafIndex
}

// Code describes a Remove (RFC 9420 §12.1.3).
func (r *Remove) Code(c *tlspl.Codec) {
	c.Field("removed")
	tlspl.Uint32(c, &r.Removed)
}

// A PreSharedKey asks to mix a PSK into the key schedule (RFC 9420 §12.1.4).
type PreSharedKey struct {
	PSK PreSharedKeyID
}

// Code describes a PreSharedKey (RFC 9420 §12.1.4).
func (p *PreSharedKey) Code(c *tlspl.Codec) { tlspl.Struct(c, "psk", &p.PSK) }

// A ReInit asks to close the group in favour of a new one (RFC 9420 §12.1.5).
type ReInit struct {
	GroupID     []byte
	Version     ProtocolVersion
	CipherSuite CipherSuite
	Extensions  Extensions
}

// Code describes a ReInit (RFC 9420 §12.1.5).
func (r *ReInit) Code(c *tlspl.Codec) {
	c.Field("group_id")
	tlspl.Opaque(c, &r.GroupID)
	c.Field("version")
	tlspl.Uint16(c, &r.Version)
	c.Field("cipher_suite")
	tlspl.Uint16(c, &r.CipherSuite)
	r.Extensions.Code(c)
}

// An ExternalInit lets a new member enter by a commit of its own (RFC 9420
// §12.1.6).
type ExternalInit struct {
	KEMOutput []byte
}

// Code describes an ExternalInit (RFC 9420 §12.1.6).
func (e *ExternalInit) Code(c *tlspl.Codec) {
	c.Field("kem_output")
	tlspl.Opaque(c, &e.KEMOutput)
}

// A GroupContextExtensions asks to replace the extensions of the GroupContext
// (RFC 9420 §12.1.7).
type GroupContextExtensions struct {
	Extensions Extensions
}

// Code describes a GroupContextExtensions (RFC 9420 §12.1.7).
func (g *GroupContextExtensions) Code(c *tlspl.Codec) { g.Extensions.Code(c) }

// A PSKType says where a PSK comes from (RFC 9420 §8.4, MLS extensions §4.5).
type PSKType uint8

// The PSK types of RFC 9420 §8.4 and MLS extensions §4.5.
const (
	PSKExternal    PSKType = 1
	PSKResumption  PSKType = 2
	PSKApplication PSKType = 3
)

// A ResumptionPSKUsage says what a resumption PSK is used for (RFC 9420 §8.4).
type ResumptionPSKUsage uint8

// The usages of RFC 9420 §8.4.
const (
	UsageApplication ResumptionPSKUsage = 1
	UsageReInit      ResumptionPSKUsage = 2
	UsageBranch      ResumptionPSKUsage = 3
)

// A PreSharedKeyID names a PSK (RFC 9420 §8.4, MLS extensions §4.5).
type PreSharedKeyID struct {
	Type        PSKType
	ComponentID ComponentID        // application
	PSKID       []byte             // external, application
	Usage       ResumptionPSKUsage // resumption
	PSKGroupID  []byte             // resumption
	PSKEpoch    Epoch              // resumption
	PSKNonce    []byte             // fresh, KDF.Nh octets
}

// Code describes a PreSharedKeyID (RFC 9420 §8.4, MLS extensions §4.5).
func (p *PreSharedKeyID) Code(c *tlspl.Codec) {
	c.Field("psktype")
	tlspl.Uint8(c, &p.Type)
	switch p.Type {
	case PSKExternal:
		c.Field("psk_id")
		tlspl.Opaque(c, &p.PSKID)
	case PSKResumption:
		c.Field("usage")
		tlspl.Uint8(c, &p.Usage)
		if p.Usage < UsageApplication || p.Usage > UsageBranch {
			c.Fail(tlspl.ErrValue)
		}
		c.Field("psk_group_id")
		tlspl.Opaque(c, &p.PSKGroupID)
		c.Field("psk_epoch")
		tlspl.Uint64(c, &p.PSKEpoch)
	case PSKApplication:
		c.Field("component_id")
		tlspl.Uint16(c, &p.ComponentID)
		c.Field("psk_id")
		tlspl.Opaque(c, &p.PSKID)
	default:
		c.Fail(tlspl.ErrValue)
	}
	c.Field("psk_nonce")
	tlspl.Opaque(c, &p.PSKNonce)
}
