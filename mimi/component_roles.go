package mimi

import (
	"errors"
	"fmt"
	"slices"

	"github.com/comity-im/comity/tlspl"
)

// SingleSourceRoleChangeTargets says to which roles a participant may be moved
// from one role (room policy §3).
type SingleSourceRoleChangeTargets struct {
	FromRoleIndex     RoleIndex
	TargetRoleIndexes []RoleIndex
}

// Code describes a SingleSourceRoleChangeTargets.
func (t *SingleSourceRoleChangeTargets) Code(c *tlspl.Codec) {
	c.Field("from_role_index")
	tlspl.Uint32(c, &t.FromRoleIndex)
	c.Field("target_role_indexes")
	tlspl.VectorFunc(c, &t.TargetRoleIndexes, tlspl.Uint32[RoleIndex])
}

// A Role is what the participants who have it may do, and how many of them
// there may be (room policy §3). A minimum of 0 is none; a maximum of nil is
// none.
type Role struct {
	RoleIndex                           RoleIndex
	RoleName                            string
	RoleDescription                     string
	RoleCapabilities                    []CapabilityType
	MinimumParticipantsConstraint       uint32
	MaximumParticipantsConstraint       *uint32
	MinimumActiveParticipantsConstraint uint32
	MaximumActiveParticipantsConstraint *uint32
	AuthorizedRoleChanges               []SingleSourceRoleChangeTargets
}

// Code describes a Role.
func (r *Role) Code(c *tlspl.Codec) {
	c.Field("role_index")
	tlspl.Uint32(c, &r.RoleIndex)
	c.Field("role_name")
	tlspl.String(c, &r.RoleName)
	c.Field("role_description")
	tlspl.String(c, &r.RoleDescription)
	c.Field("role_capabilities")
	tlspl.VectorFunc(c, &r.RoleCapabilities, tlspl.Uint16[CapabilityType])
	c.Field("minimum_participants_constraint")
	tlspl.Uint32(c, &r.MinimumParticipantsConstraint)
	c.Field("maximum_participants_constraint")
	codeOptionalUint32(c, &r.MaximumParticipantsConstraint)
	c.Field("minimum_active_participants_constraint")
	tlspl.Uint32(c, &r.MinimumActiveParticipantsConstraint)
	c.Field("maximum_active_participants_constraint")
	codeOptionalUint32(c, &r.MaximumActiveParticipantsConstraint)
	c.Field("authorized_role_changes")
	tlspl.Vector(c, &r.AuthorizedRoleChanges)
}

// Can reports whether the role has the capability. A nil Role has none.
// Decision 96
func (r *Role) Can(capability CapabilityType) bool {
	return r != nil && slices.Contains(r.RoleCapabilities, capability)
}

// MayChange reports whether authorized_role_changes lists the step from one
// role to another. A nil Role lists none.
func (r *Role) MayChange(from, to RoleIndex) bool {
	if r == nil {
		return false
	}
	for i := range r.AuthorizedRoleChanges {
		t := &r.AuthorizedRoleChanges[i]
		if t.FromRoleIndex == from && slices.Contains(t.TargetRoleIndexes, to) {
			return true
		}
	}
	return false
}

// RoleData is the data of the roles_list component, and the content of its
// updates, which replace it (room policy §3).
type RoleData struct {
	Roles []Role
}

// Code describes a RoleData.
func (d *RoleData) Code(c *tlspl.Codec) {
	c.Field("roles")
	tlspl.Vector(c, &d.Roles)
}

// Find returns the role with the index, nil if there is none.
func (d *RoleData) Find(index RoleIndex) *Role {
	for i := range d.Roles {
		if d.Roles[i].RoleIndex == index {
			return &d.Roles[i]
		}
	}
	return nil
}

// What makes a roles list invalid by itself. Decision 102
var (
	ErrRoleTwice    = errors.New("role index is defined twice")
	ErrRoleOpenJoin = errors.New("only role 0 may have canOpenJoin")
)

// A RoleError says which role of a list is invalid.
type RoleError struct {
	Role RoleIndex
	Err  error
}

func (e *RoleError) Error() string { return fmt.Sprintf("mimi: role %d: %v", e.Role, e.Err) }

// Unwrap returns the rule that was broken.
func (e *RoleError) Unwrap() error { return e.Err }

// Validate reports, as a *RoleError, what is wrong with the list by itself.
// Whether it fits the other components is mimi/policy's to say.
func (d *RoleData) Validate() error {
	seen := make(map[RoleIndex]bool, len(d.Roles))
	for i := range d.Roles {
		r := &d.Roles[i]
		if seen[r.RoleIndex] {
			return &RoleError{r.RoleIndex, ErrRoleTwice}
		}
		seen[r.RoleIndex] = true
		if r.RoleIndex != RoleNone && r.Can(CanOpenJoin) {
			return &RoleError{r.RoleIndex, ErrRoleOpenJoin}
		}
	}
	return nil
}
