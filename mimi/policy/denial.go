package policy

import (
	"fmt"
	"strings"

	"github.com/comity-im/comity/mimi"
)

// RoleRef names a role in a Denial.
type RoleRef struct {
	Index   RoleIndex
	Name    string
	Defined bool // the room has a definition of it
}

// String returns the role's name in quotes, or its index where it has none.
func (r RoleRef) String() string {
	switch {
	case r.Name != "":
		return fmt.Sprintf("role %q", r.Name)
	case r.Index == NoRole:
		return "role 0 (not a participant)"
	}
	return fmt.Sprintf("role %d", r.Index)
}

// A Reason says which sort of rule forbids a change.
type Reason uint8

// The reasons.
const (
	// MissingCapability: the actor's role has none of Denial.Capabilities.
	MissingCapability Reason = iota + 1
	// RoleChangeNotAuthorized: the role has the capability, but its authorized_role_changes lack (From, To).
	RoleChangeNotAuthorized
	// NotPreauthorized: the actor's credential does not give it the role it asks for.
	NotPreauthorized
	// NotOnParticipantList: the actor, or the user that the change is about, is not on the participant list.
	NotOnParticipantList
	// AlreadyOnParticipantList: the user that the change would add is on the list.
	AlreadyOnParticipantList
	// UndefinedRole: the room does not define the role that the change asks for.
	UndefinedRole
	// NobodyMay: no capability allows this change.
	NobodyMay
	// OnlyForOthers: the change may be made to another user only.
	OnlyForOthers
	// OnlyFromOutside: the change may be made by an external commit or an external proposal only.
	OnlyFromOutside
	// ExternalNotAllowed: the operational policy forbids external proposals or external commits.
	ExternalNotAllowed
	// FixedMembership: the room's participants are fixed.
	FixedMembership
	// ConstraintBroken: Denial.Constraint would be broken after the Commit.
	ConstraintBroken
	// NotInSameCommit: two changes that must not be in one Commit are.
	NotInSameCommit
	// ForbiddenByPolicy: a policy component (Denial.Component) forbids it whatever the role.
	ForbiddenByPolicy
)

// A Constraint is a limit on the room as it stands after a whole Commit.
type Constraint uint8

// The constraints, by the names of their fields (room policy §3, §5).
const (
	MinimumParticipants Constraint = iota + 1
	MaximumParticipants
	MinimumActiveParticipants
	MaximumActiveParticipants
	MaxUsers
	MaxClients
	MultiDevice
)

// String returns the name of the field that holds the constraint.
func (c Constraint) String() string {
	switch c {
	case MinimumParticipants:
		return "minimum_participants_constraint"
	case MaximumParticipants:
		return "maximum_participants_constraint"
	case MinimumActiveParticipants:
		return "minimum_active_participants_constraint"
	case MaximumActiveParticipants:
		return "maximum_active_participants_constraint"
	case MaxUsers:
		return "max_users"
	case MaxClients:
		return "max_clients"
	case MultiDevice:
		return "multi_device"
	}
	return fmt.Sprintf("constraint %d", uint8(c))
}

// A Denial is the rule that forbids a change. Error says it in one sentence; the fields say it to a program. It is an
// error of the refused kind: what was asked was understood, and is not allowed.
type Denial struct {
	Reason Reason
	// Change is what was asked. It is the zero Change where the rule is about a whole Commit.
	Change Change
	// Act is what was sent, where the rule is about a message.
	Act   Act
	Actor mimi.IdentifierURI
	// ActorRole is the role that the actor was judged by.
	ActorRole RoleRef
	From, To  RoleRef
	// Capabilities are those of which any one was needed.
	Capabilities []Capability
	// Role, Constraint, Limit and Got describe a broken constraint: Got is what the Commit would lead to.
	Role       RoleRef
	Constraint Constraint
	Limit, Got uint32
	// Component is the component that is the reason, where there is one.
	Component ComponentID
	// Detail completes the sentence where the fields above can't.
	Detail string
}

// Error returns the rule in a sentence such as
//
//	mimi://b.example/u/bob can't add mimi://c.example/u/cathy as role "speaker": role "guest" lacks canAddParticipant
func (d *Denial) Error() string {
	var b strings.Builder
	if d.Act != 0 {
		fmt.Fprintf(&b, "%s can't %s: ", d.Actor, d.Act)
	} else if d.Change.Kind != 0 {
		fmt.Fprintf(&b, "%s can't %s: ", d.Actor, d.what())
	}
	switch d.Reason {
	case MissingCapability:
		fmt.Fprintf(&b, "%s lacks ", d.ActorRole)
		for i, c := range d.Capabilities {
			if i > 0 {
				b.WriteString(" or ")
			}
			b.WriteString(c.String())
		}
	case RoleChangeNotAuthorized:
		fmt.Fprintf(&b, "authorized_role_changes of %s do not go from %s to %s", d.ActorRole, d.From, d.To)
	case NotPreauthorized:
		fmt.Fprintf(&b, "the credential is not preauthorized for %s", d.To)
	case NotOnParticipantList:
		b.WriteString("not on the participant list")
	case AlreadyOnParticipantList:
		b.WriteString("already on the participant list")
	case UndefinedRole:
		fmt.Fprintf(&b, "the room has no %s", d.To)
	case NobodyMay:
		b.WriteString("no capability allows it")
	case OnlyForOthers:
		b.WriteString("that is for other users only")
	case OnlyFromOutside:
		b.WriteString("that takes an external commit or an external proposal")
	case ExternalNotAllowed:
		b.WriteString("the operational policy forbids external proposals or commits")
	case FixedMembership:
		b.WriteString("the participants of this room are fixed (fixed_membership)")
	case ConstraintBroken:
		d.constraint(&b)
	case NotInSameCommit:
		b.WriteString("not in the same commit")
	case ForbiddenByPolicy:
		fmt.Fprintf(&b, "%s forbids it", componentName(d.Component))
	}
	if d.Detail != "" {
		b.WriteString(": ")
		b.WriteString(d.Detail)
	}
	return b.String()
}

func (d *Denial) constraint(b *strings.Builder) {
	switch d.Constraint {
	case MinimumParticipants:
		fmt.Fprintf(b, "%s needs at least %d participants, %d would be left (%s)", d.Role, d.Limit, d.Got, d.Constraint)
	case MaximumParticipants:
		fmt.Fprintf(b, "%s may have at most %d participants, there would be %d (%s)", d.Role, d.Limit, d.Got, d.Constraint)
	case MinimumActiveParticipants:
		fmt.Fprintf(b, "%s needs at least %d active participants, %d would be left (%s)", d.Role, d.Limit, d.Got, d.Constraint)
	case MaximumActiveParticipants:
		fmt.Fprintf(b, "%s may have at most %d active participants, there would be %d (%s)", d.Role, d.Limit, d.Got, d.Constraint)
	case MaxUsers:
		fmt.Fprintf(b, "the room may have at most %d users, there would be %d (%s)", d.Limit, d.Got, d.Constraint)
	case MaxClients:
		fmt.Fprintf(b, "the room may have at most %d clients, there would be %d (%s)", d.Limit, d.Got, d.Constraint)
	case MultiDevice:
		fmt.Fprintf(b, "a user may have one client in this room, there would be %d (%s)", d.Got, d.Constraint)
	}
}

// what says what was asked, to follow "can't".
func (d *Denial) what() string {
	c := d.Change
	switch c.Kind {
	case Add:
		return fmt.Sprintf("add %s as %s", c.User, d.To)
	case Join:
		return fmt.Sprintf("join as %s", d.To)
	case AddOwnClient:
		return "add an own client"
	case AddClient:
		return fmt.Sprintf("add a client of %s", c.User)
	case RemoveOwnClient:
		return "remove an own client"
	case Leave:
		return "leave"
	case Remove:
		return fmt.Sprintf("remove %s", c.User)
	case Kick:
		return fmt.Sprintf("kick %s", c.User)
	case ChangeRole:
		return fmt.Sprintf("change %s from %s to %s", c.User, d.From, d.To)
	case ChangeOwnRole:
		return fmt.Sprintf("change to %s", d.To)
	case Ban:
		return fmt.Sprintf("ban %s", c.User)
	case Unban:
		return fmt.Sprintf("unban %s", c.User)
	case ChangeComponent:
		return fmt.Sprintf("change %s", componentName(c.Component))
	}
	return c.Kind.String()
}

// A PolicyError says which rule a set of policy components breaks by itself, whoever sends it.
type PolicyError struct {
	Component ComponentID
	Rule      string
}

// Error returns the component and the rule.
func (e *PolicyError) Error() string {
	return fmt.Sprintf("%s: %s", componentName(e.Component), e.Rule)
}
