package policy

import (
	"fmt"

	"github.com/comity-im/comity/mimi"
)

// A Kind is a sort of change to a room: what the proposals of one sender about one user, or about one component, ask
// for when taken together.
type Kind uint8

// The kinds of change (room policy §8.1, §8.2, §8.6; Decisions 94, 99, 100).
const (
	// Add puts User, who is not on the list, on it with role To, with any of its clients.
	Add Kind = iota + 1
	// Join puts the actor itself on the list with role To, from outside, with the one client that joins.
	Join
	// AddOwnClient adds a client of the actor, who is on the list.
	AddOwnClient
	// AddClient adds a client of User, who is on the list and whose role is To after the Commit.
	AddClient
	// RemoveOwnClient removes a client of the actor, who stays on the list.
	RemoveOwnClient
	// Leave takes the actor off the list and removes its clients.
	Leave
	// Remove takes User off the list and removes its clients.
	Remove
	// Kick removes clients of User, who stays on the list.
	Kick
	// ChangeRole gives User role To instead of From.
	ChangeRole
	// ChangeOwnRole gives the actor role To instead of From.
	ChangeOwnRole
	// Ban gives User the banned role and removes its clients. From is NoRole for a user who is not on the list.
	Ban
	// Unban gives the banned User role To.
	Unban
	// ChangeRoomName and the next four change one field of the room metadata.
	ChangeRoomName
	ChangeRoomDescription
	ChangeRoomAvatar
	ChangeRoomSubject
	ChangeRoomMood
	// ChangeComponent replaces the data of Component.
	ChangeComponent
	// AddJoinLink and RemoveJoinLink change the join_links component.
	AddJoinLink
	RemoveJoinLink
	// ChangeGroupExtensions changes the extensions of the GroupContext, within what Decision 116 leaves open.
	ChangeGroupExtensions
	// ReInit ends the room's MLS group to start another one.
	ReInit
	// UpdateLeaf gives the actor's own client a new leaf.
	UpdateLeaf
	// UsePSK brings a pre-shared key into the key schedule.
	UsePSK
	// SendEphemeral carries application data with the Commit that leaves no state behind.
	SendEphemeral
	// DestroyRoom ends the room.
	DestroyRoom
)

// String returns the change as a verb phrase, to follow "can't".
func (k Kind) String() string {
	switch k {
	case Add:
		return "add a participant"
	case Join:
		return "join"
	case AddOwnClient:
		return "add an own client"
	case AddClient:
		return "add a client of a participant"
	case RemoveOwnClient:
		return "remove an own client"
	case Leave:
		return "leave"
	case Remove:
		return "remove a participant"
	case Kick:
		return "kick a participant"
	case ChangeRole:
		return "change a participant's role"
	case ChangeOwnRole:
		return "change its own role"
	case Ban:
		return "ban a user"
	case Unban:
		return "unban a user"
	case ChangeRoomName:
		return "change the room's name"
	case ChangeRoomDescription:
		return "change the room's description"
	case ChangeRoomAvatar:
		return "change the room's avatar"
	case ChangeRoomSubject:
		return "change the room's subject"
	case ChangeRoomMood:
		return "change the room's mood"
	case ChangeComponent:
		return "change a component"
	case AddJoinLink:
		return "add a join link"
	case RemoveJoinLink:
		return "remove a join link"
	case ChangeGroupExtensions:
		return "change the group's extensions"
	case ReInit:
		return "restart the MLS group"
	case UpdateLeaf:
		return "update its leaf"
	case UsePSK:
		return "use a pre-shared key"
	case SendEphemeral:
		return "send ephemeral application data"
	case DestroyRoom:
		return "destroy the room"
	}
	return fmt.Sprintf("make a change of kind %d", uint8(k))
}

// A Change is one thing that one actor asks for. ListChange and ClientChange make those that are about users.
type Change struct {
	Kind Kind
	// User is the user that the change is about; the actor itself where the kind says "own" or "its".
	User mimi.IdentifierURI
	// From and To are User's roles before and after, NoRole for "not on the list".
	From, To RoleIndex
	// RemovesClients says that the same sender removes clients of User together with the change of its role.
	RemovesClients bool
	// Component is what ChangeComponent is about.
	Component ComponentID
}

// ListChange names the change of the participant list that takes user from one role to another, NoRole being "not on
// the list". Ban and unban take the room's role 1 to be named "banned". Decision 100
func ListChange(r *Roles, actor, user mimi.IdentifierURI, from, to RoleIndex, removesClients bool) Change {
	c := Change{User: user, From: from, To: to, RemovesClients: removesClients}
	self := actor == user
	switch {
	case from == NoRole && self:
		c.Kind = Join
	case from == NoRole && r.Banned(to):
		c.Kind = Ban
	case from == NoRole:
		c.Kind = Add
	case to == NoRole && self:
		c.Kind = Leave
	case to == NoRole:
		c.Kind = Remove
	case self:
		c.Kind = ChangeOwnRole
	case r.Banned(to):
		c.Kind = Ban
	case r.Banned(from):
		c.Kind = Unban
	default:
		c.Kind = ChangeRole
	}
	return c
}

// An ActorKind says from where an actor reaches into the group (Decision 96).
type ActorKind uint8

// The kinds of actor.
const (
	// Member is a client that has a leaf.
	Member ActorKind = iota
	// Joiner is a client without a leaf: the sender of an external commit, or of a proposal to add itself.
	Joiner
	// ExternalSender is an entry of the external_senders extension, such as the hub.
	ExternalSender
)

// An Actor is who asks for a change.
type Actor struct {
	// URI is the user of the client, or the provider that an external sender is.
	URI  mimi.IdentifierURI
	Kind ActorKind
	// Claims are those of the actor's credential; nil if it has none that preauthorization could match.
	Claims Claims
}

// A Count is how many participants have a role, and how many of those are active: have at least one client in the MLS
// group.
type Count struct{ Participants, Active uint32 }

// A State is what the engine must know of a room before a Commit. Nothing that the engine asks for takes work that
// grows with the room. Nil pointers stand for components that the room does not have.
type State interface {
	// RoleOf returns the role of a participant, and whether there is one.
	RoleOf(mimi.IdentifierURI) (RoleIndex, bool)
	// Count returns how many participants have the role.
	Count(RoleIndex) Count
	// Users returns how many participants count against max_users: all but those with role 1 and providers.
	Users() uint32
	// Clients returns how many leaves the MLS group has.
	Clients() uint32
	Roles() *Roles
	Preauth() *mimi.PreAuthData
	Base() *mimi.BaseRoomPolicy
	Operational() *mimi.OperationalParameters
}
