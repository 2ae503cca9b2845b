package policy

import (
	"fmt"
	"slices"

	"github.com/comity-im/comity/mimi"
)

// RoleIndex refers to a role of the room (room policy §3). Indexes need not be contiguous.
type RoleIndex = mimi.RoleIndex

// The role indexes that have a meaning of their own (room policy §3, §8.1.3).
const (
	// NoRole is the role of whoever is not on the participant list.
	NoRole = mimi.RoleNone
	// BannedRole is the role of a banned user, if it is named exactly "banned".
	BannedRole = mimi.RoleBanned
)

const bannedName = "banned"

// Roles is a roles_list made ready for judging: looked up by index, its capabilities and role changes sorted. It is
// immutable.
type Roles struct {
	list   []role // ascending by index
	banned bool
}

type role struct {
	index     RoleIndex
	name      string
	caps      []Capability // ascending, without duplicates
	minAll    uint32
	maxAll    *uint32
	minActive uint32
	maxActive *uint32
	changes   []roleChange // ascending, without duplicates
}

type roleChange struct{ from, to RoleIndex }

// NewRoles compiles a roles_list. It gives a *PolicyError for one that breaks a rule of room policy §3 or §8 by itself:
// an index twice, or canOpenJoin on another role than role 0. What other components say of roles is CheckComponents'.
func NewRoles(data *mimi.RoleData) (*Roles, error) {
	r := &Roles{list: make([]role, 0, len(data.Roles))}
	for i := range data.Roles {
		d := &data.Roles[i]
		one := role{
			index: RoleIndex(d.RoleIndex), name: string(d.RoleName),
			minAll: d.MinimumParticipantsConstraint, maxAll: d.MaximumParticipantsConstraint,
			minActive: d.MinimumActiveParticipantsConstraint, maxActive: d.MaximumActiveParticipantsConstraint,
		}
		for _, c := range d.RoleCapabilities {
			one.caps = append(one.caps, Capability(c))
		}
		slices.Sort(one.caps)
		one.caps = slices.Compact(one.caps) // Decision 95: duplicates are ignored
		for _, s := range d.AuthorizedRoleChanges {
			for _, to := range s.TargetRoleIndexes {
				one.changes = append(one.changes, roleChange{RoleIndex(s.FromRoleIndex), RoleIndex(to)})
			}
		}
		slices.SortFunc(one.changes, compareChange)
		one.changes = slices.Compact(one.changes)
		if one.index != NoRole && one.has(mimi.CanOpenJoin) {
			return nil, &PolicyError{Component: mimi.ComponentRolesList, Rule: fmt.Sprintf("canOpenJoin is only for role 0, not for %s", one.ref())}
		}
		r.list = append(r.list, one)
	}
	slices.SortStableFunc(r.list, func(a, b role) int { return compare(a.index, b.index) })
	for i := 1; i < len(r.list); i++ {
		if r.list[i].index == r.list[i-1].index {
			return nil, &PolicyError{Component: mimi.ComponentRolesList, Rule: fmt.Sprintf("role index %d appears twice", r.list[i].index)}
		}
	}
	if b := r.get(BannedRole); b != nil && b.name == bannedName {
		r.banned = true // Decision 101: exactly these octets
	}
	return r, nil
}

func compare(a, b RoleIndex) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func compareChange(a, b roleChange) int {
	if c := compare(a.from, b.from); c != 0 {
		return c
	}
	return compare(a.to, b.to)
}

// get returns the role, or nil. A room without a definition of role 0 grants nothing to strangers (Decision 96).
func (r *Roles) get(i RoleIndex) *role {
	n, ok := slices.BinarySearchFunc(r.list, i, func(x role, i RoleIndex) int { return compare(x.index, i) })
	if !ok {
		return nil
	}
	return &r.list[n]
}

func (r *role) has(c Capability) bool {
	if r == nil {
		return false
	}
	_, ok := slices.BinarySearch(r.caps, c)
	return ok
}

// may reports whether authorized_role_changes lets the holder move a user from one role to the other.
func (r *role) may(from, to RoleIndex) bool {
	if r == nil {
		return false
	}
	_, ok := slices.BinarySearchFunc(r.changes, roleChange{from, to}, compareChange)
	return ok
}

// active reports whether participants with the role may have clients in the room's MLS group.
func (r *role) active() bool { return r != nil && (r.maxActive == nil || *r.maxActive > 0) }

func (r *role) ref() RoleRef {
	if r == nil {
		return RoleRef{}
	}
	return RoleRef{Index: r.index, Name: r.name, Defined: true}
}

func (r *Roles) ref(i RoleIndex) RoleRef {
	if x := r.get(i); x != nil {
		return x.ref()
	}
	return RoleRef{Index: i}
}

// Defined reports whether the room defines the role.
func (r *Roles) Defined(i RoleIndex) bool { return r.get(i) != nil }

// Name returns the name of the role; it is empty for one that the room does not define.
func (r *Roles) Name(i RoleIndex) string { return r.ref(i).Name }

// ByName returns the first role with this name.
func (r *Roles) ByName(name string) (RoleIndex, bool) {
	for i := range r.list {
		if r.list[i].name == name {
			return r.list[i].index, true
		}
	}
	return 0, false
}

// Has reports whether the role has the capability.
func (r *Roles) Has(i RoleIndex, c Capability) bool { return r.get(i).has(c) }

// MayMove reports whether the authorized_role_changes of the role hold a change of another user from one role to the
// other; NoRole is "not on the list".
func (r *Roles) MayMove(i, from, to RoleIndex) bool { return r.get(i).may(from, to) }

// MayBeActive reports whether participants with the role may have clients in the room's MLS group: whether its
// maximum_active_participants_constraint is absent or not zero (room policy §3).
func (r *Roles) MayBeActive(i RoleIndex) bool { return r.get(i).active() }

// Banned reports whether the role is the room's banned role: role 1, named exactly "banned" (Decision 101).
func (r *Roles) Banned(i RoleIndex) bool { return r.banned && i == BannedRole }

// Indexes returns the index of every role of the room, ascending.
func (r *Roles) Indexes() []RoleIndex {
	all := make([]RoleIndex, len(r.list))
	for i := range r.list {
		all[i] = r.list[i].index
	}
	return all
}

// MaySubmit reports whether the hub lets a participant with the role submit an application message. The hub can't see
// what a message is, so any capability that takes a message is enough; clients enforce the specific one. Decision 93
func (r *Roles) MaySubmit(i RoleIndex) bool {
	x := r.get(i)
	if x == nil {
		return false
	}
	for _, c := range [...]Capability{mimi.CanSendMessage, mimi.CanReplyToMessage, mimi.CanReactToMessage, mimi.CanEditReaction, mimi.CanDeleteOwnReaction, mimi.CanReplyInTopic} {
		if x.has(c) {
			return true
		}
	}
	return false
}
