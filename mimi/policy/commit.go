package policy

import (
	"fmt"
	"slices"

	"github.com/comity-im/comity/mimi"
)

// A RoleDelta is by how much a Commit changes the counts of one role.
type RoleDelta struct {
	Role                 RoleIndex
	Participants, Active int
}

// An Effect is what a whole Commit does to what the room's constraints speak of. Its size is that of the Commit, not that
// of the room.
type Effect struct {
	// Roles holds one entry for each role whose counts change, in any order.
	Roles []RoleDelta
	// Users and Clients are by how much the Commit changes State.Users and State.Clients.
	Users, Clients int
	// MostClients is the greatest number of clients that any user, to whom the Commit adds one, has after it.
	MostClients uint32
	// Updated are the components that the Commit updates.
	Updated []ComponentID
	// OnlyRemovals says that the Commit's participant list updates, if there are any, only remove users.
	OnlyRemovals bool
	// NewRoles and NewBase are set if the Commit replaces these components.
	NewRoles *Roles
	NewBase  *mimi.BaseRoomPolicy
}

// Move adds to the effect that a user goes from one role to another, NoRole being "not on the list"; active says whether
// it had, and has, a client.
func (e *Effect) Move(from, to RoleIndex, wasActive, isActive bool) {
	e.count(from, -1, wasActive)
	e.count(to, 1, isActive)
}

func (e *Effect) count(r RoleIndex, n int, active bool) {
	if r == NoRole {
		return
	}
	i := slices.IndexFunc(e.Roles, func(d RoleDelta) bool { return d.Role == r })
	if i < 0 {
		i = len(e.Roles)
		e.Roles = append(e.Roles, RoleDelta{Role: r})
	}
	e.Roles[i].Participants += n
	if active {
		e.Roles[i].Active += n
	}
}

// CheckCommit says whether the room, as it stands after a whole Commit, keeps its constraints, and whether the Commit
// combines what must not be combined; nil means that all is well. Maxima bind only where a count grew and minima only where
// it shrank, so that a room that is outside of them can still change in other ways. Decisions 101, 102
func CheckCommit(s State, e *Effect) *Denial {
	if d := checkCombination(e); d != nil {
		return d
	}
	roles := s.Roles()
	if e.NewRoles != nil {
		roles = e.NewRoles
		if d := rolesInUse(s, roles); d != nil {
			return d
		}
	}
	for i := range e.Roles {
		if d := checkRole(s, roles, &e.Roles[i]); d != nil {
			return d
		}
	}
	base := s.Base()
	if e.NewBase != nil {
		base = e.NewBase
	}
	if base == nil {
		return nil
	}
	if n := after(s.Users(), e.Users); base.MaxUsers != nil && e.Users > 0 && n > *base.MaxUsers {
		return &Denial{Reason: ConstraintBroken, Constraint: MaxUsers, Limit: *base.MaxUsers, Got: n, Component: mimi.ComponentBaseRoomPolicy}
	}
	if n := after(s.Clients(), e.Clients); base.MaxClients != nil && e.Clients > 0 && n > *base.MaxClients {
		return &Denial{Reason: ConstraintBroken, Constraint: MaxClients, Limit: *base.MaxClients, Got: n, Component: mimi.ComponentBaseRoomPolicy}
	}
	if !base.MultiDevice && e.MostClients > 1 {
		return &Denial{Reason: ConstraintBroken, Constraint: MultiDevice, Limit: 1, Got: e.MostClients, Component: mimi.ComponentBaseRoomPolicy}
	}
	return nil
}

// after adds a change to a count; a count never goes below zero.
func after(n uint32, change int) uint32 { return uint32(max(0, int64(n)+int64(change))) }

func checkRole(s State, roles *Roles, d *RoleDelta) *Denial {
	r := roles.get(d.Role)
	broken := func(c Constraint, limit, got uint32) *Denial {
		return &Denial{Reason: ConstraintBroken, Role: roles.ref(d.Role), Constraint: c, Limit: limit, Got: got, Component: mimi.ComponentRolesList}
	}
	if r == nil {
		return &Denial{Reason: UndefinedRole, To: roles.ref(d.Role), Component: mimi.ComponentRolesList}
	}
	before := s.Count(d.Role)
	all, active := after(before.Participants, d.Participants), after(before.Active, d.Active)
	switch {
	case d.Participants > 0 && r.maxAll != nil && all > *r.maxAll:
		return broken(MaximumParticipants, *r.maxAll, all)
	case d.Participants < 0 && all < r.minAll:
		return broken(MinimumParticipants, r.minAll, all)
	case d.Active > 0 && r.maxActive != nil && active > *r.maxActive:
		return broken(MaximumActiveParticipants, *r.maxActive, active)
	case d.Active < 0 && active < r.minActive:
		return broken(MinimumActiveParticipants, r.minActive, active)
	}
	return nil
}

// checkCombination is "not valid if it appears in the same commit" (room policy §3, §4).
func checkCombination(e *Effect) *Denial {
	if !slices.Contains(e.Updated, mimi.ComponentParticipantList) {
		return nil
	}
	if slices.Contains(e.Updated, mimi.ComponentRolesList) {
		return &Denial{Reason: NotInSameCommit, Component: mimi.ComponentRolesList, Detail: "roles_list and participant_list can't change together"}
	}
	if slices.Contains(e.Updated, mimi.ComponentPreauthList) && !e.OnlyRemovals {
		return &Denial{Reason: NotInSameCommit, Component: mimi.ComponentPreauthList,
			Detail: "preauth_list can change only with participant list updates that remove users"}
	}
	return nil
}

// rolesInUse checks that new role definitions still hold every role that a participant has, and let those be active who
// are (Decision 102, Decision 37).
func rolesInUse(s State, next *Roles) *Denial {
	old := s.Roles()
	for i := range old.list {
		index := old.list[i].index
		n := s.Count(index)
		r := next.get(index)
		if n.Participants > 0 && r == nil {
			return &Denial{Reason: UndefinedRole, To: old.ref(index), Component: mimi.ComponentRolesList,
				Detail: fmt.Sprintf("%d participants have it", n.Participants)}
		}
		if n.Active > 0 && !r.active() {
			return &Denial{Reason: ConstraintBroken, Role: next.ref(index), Constraint: MaximumActiveParticipants, Got: n.Active, Component: mimi.ComponentRolesList}
		}
	}
	return nil
}
