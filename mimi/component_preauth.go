package mimi

import (
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// A ClaimID names a claim of a credential (room policy §4): for X.509 the DER
// of the OID of a subject attribute, or of a kind of alternative name; for a
// basic credential nothing, which is the whole identity. Decision 90
type ClaimID struct {
	CredentialType mls.CredentialType
	ID             []byte
}

// Code describes a ClaimId.
func (i *ClaimID) Code(c *tlspl.Codec) {
	c.Field("credential_type")
	tlspl.Uint16(c, &i.CredentialType)
	c.Field("id")
	tlspl.Opaque(c, &i.ID)
}

// A Claim is a claim with the value it must have (room policy §4).
type Claim struct {
	ClaimID    ClaimID
	ClaimValue []byte
}

// Code describes a Claim.
func (l *Claim) Code(c *tlspl.Codec) {
	tlspl.Struct(c, "claim_id", &l.ClaimID)
	c.Field("claim_value")
	tlspl.Opaque(c, &l.ClaimValue)
}

// A PreAuthRoleEntry gives a role to those whose credential satisfies every
// claim (room policy §4).
type PreAuthRoleEntry struct {
	Claimset []Claim
	// TargetRole is a whole Role on the wire, of which only RoleIndex counts.
	// Decision 89
	TargetRole Role
}

// Code describes a PreAuthRoleEntry.
func (e *PreAuthRoleEntry) Code(c *tlspl.Codec) {
	c.Field("claimset")
	tlspl.Vector(c, &e.Claimset)
	tlspl.Struct(c, "target_role", &e.TargetRole)
}

// PreAuthData is the data of the preauth_list component, and the content of its
// updates, which replace it (room policy §4).
type PreAuthData struct {
	PreauthorizedEntries []PreAuthRoleEntry
}

// Code describes a PreAuthData.
func (d *PreAuthData) Code(c *tlspl.Codec) {
	c.Field("preauthorized_entries")
	tlspl.Vector(c, &d.PreauthorizedEntries)
}
