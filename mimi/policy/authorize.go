package policy

import "github.com/comity-im/comity/mimi"

// Authorize says whether the room's policy, as it stands before the Commit, lets the actor make the change; nil means
// that it does. It judges one change at a time: what a Commit as a whole must keep is CheckCommit's. It allocates only
// what it returns. Decisions 96, 98, 99, 100
func Authorize(s State, a Actor, c Change) *Denial {
	j := judge{s: s, roles: s.Roles(), a: a, c: c}
	return j.authorize()
}

// A JoinMethod is the rule that lets somebody join alone (room policy §8.1.1).
type JoinMethod uint8

// The methods.
const (
	// OpenJoin is by canOpenJoin of role 0.
	OpenJoin JoinMethod = iota + 1
	// PreauthorizedJoin is by canJoinIfPreauthorized of the role that the credential gives.
	PreauthorizedJoin
	// CodeJoin is by canUseJoinCode of role 0. Only the hub can tell whether a code was given and is valid (Decision 102).
	CodeJoin
)

// String returns the method in words.
func (m JoinMethod) String() string {
	switch m {
	case OpenJoin:
		return "open join"
	case PreauthorizedJoin:
		return "preauthorized join"
	case CodeJoin:
		return "join code"
	}
	return "no way to join"
}

// AuthorizeJoin is Authorize for an actor who is not on the list and joins from outside as role to; it also says by
// which rule. Open join comes before preauthorization, and that before a join code.
func AuthorizeJoin(s State, a Actor, to RoleIndex) (JoinMethod, *Denial) {
	j := judge{s: s, roles: s.Roles(), a: a, c: Change{Kind: Join, User: a.URI, To: to}}
	if d := j.outside(); d != nil {
		return 0, d
	}
	return j.join()
}

// MayFetchGroupInfo says whether an actor may be given the GroupInfo to join with: as a participant who may add a client,
// or as somebody who could join with some role. hasCode says that a valid join code came with the request. Decision 66
func MayFetchGroupInfo(s State, a Actor, hasCode bool) *Denial {
	if role, ok := s.RoleOf(a.URI); ok {
		d := Authorize(s, a, Change{Kind: AddOwnClient, User: a.URI})
		if d == nil && !s.Roles().MayBeActive(role) {
			d = &Denial{Reason: ConstraintBroken, Actor: a.URI, Role: s.Roles().ref(role), Constraint: MaximumActiveParticipants, Got: 1}
		}
		return d
	}
	var last *Denial
	r := s.Roles()
	for i := range r.list {
		if r.list[i].index == NoRole {
			continue
		}
		m, d := AuthorizeJoin(s, a, r.list[i].index)
		if d == nil && (m != CodeJoin || hasCode) {
			return nil
		}
		if d != nil {
			last = d
		}
	}
	if last == nil {
		last = &Denial{Reason: MissingCapability, Change: Change{Kind: Join, User: a.URI}, Actor: a.URI, ActorRole: r.ref(NoRole),
			Capabilities: []Capability{mimi.CanOpenJoin}, Detail: "a valid join code is needed"}
	}
	return last
}

// judge is one judgement: who asks for what, in which room.
type judge struct {
	s     State
	roles *Roles
	a     Actor
	c     Change
}

func (j *judge) deny(reason Reason, role RoleIndex, caps ...Capability) *Denial {
	d := &Denial{Reason: reason, Change: j.c, Actor: j.a.URI, ActorRole: j.roles.ref(role), Component: j.c.Component}
	d.From, d.To = j.roles.ref(j.c.From), j.roles.ref(j.c.To)
	d.Capabilities = append(d.Capabilities, caps...)
	return d
}

// outside applies what the operational policy says of external commits and proposals.
func (j *judge) outside() *Denial {
	if j.a.Kind == Member {
		return nil
	}
	op := j.s.Operational()
	if op == nil {
		return nil
	}
	if (j.a.Kind == Joiner && !op.ExternalCommitAllowed) || (j.a.Kind == ExternalSender && !op.ExternalProposalAllowed) {
		d := j.deny(ExternalNotAllowed, NoRole)
		d.Component = mimi.ComponentMLSOperationalPolicy
		return d
	}
	return nil
}

// actor resolves the role that the actor is judged by (Decision 96): its entry in the list before the Commit; without
// one, role 0, and for external senders the role that preauthorization gives. ok is false for a client in the group whose
// user is not on the list, which no valid room has.
func (j *judge) actor() (role, preauth RoleIndex, ok bool) {
	if role, ok = j.s.RoleOf(j.a.URI); ok {
		return role, NoRole, true
	}
	if j.a.Kind == Member {
		return NoRole, NoRole, false
	}
	p, _ := j.preauthorized()
	return NoRole, p, true
}

// preauthorized returns the first role that the actor's claims match (room policy §4).
func (j *judge) preauthorized() (RoleIndex, bool) {
	return MatchPreauth(j.s.Preauth(), j.roles, j.a.Claims)
}

func (j *judge) authorize() *Denial {
	if d := j.outside(); d != nil {
		return d
	}
	if j.c.Kind == Join {
		_, d := j.join()
		return d
	}
	role, preauth, ok := j.actor()
	if !ok {
		return j.deny(NotOnParticipantList, NoRole)
	}
	d := j.as(role)
	if d != nil && preauth != NoRole && j.as(preauth) == nil {
		return nil
	}
	return d
}

// as judges the change as made by the holder of a role.
func (j *judge) as(role RoleIndex) *Denial {
	switch c := j.c; c.Kind {
	case Add:
		if d := j.target(NoRole); d != nil {
			return d
		}
		if j.fixed() {
			return j.deny(FixedMembership, role)
		}
		return j.move(role, NoRole, c.To, mimi.CanAddParticipant)
	case AddOwnClient:
		return j.own(role, mimi.CanAddOwnClient)
	case AddClient:
		// Decision 99: by whoever could add the user with the role that it has.
		if j.c.User == j.a.URI {
			return j.deny(OnlyForOthers, role)
		}
		if c.To == NoRole {
			return j.deny(NotOnParticipantList, role)
		}
		if j.fixed() {
			// room policy §5: clients of existing participants can be added, though no role may have canAddParticipant.
			return j.capability(role, mimi.CanAddOwnClient)
		}
		return j.move(role, NoRole, c.To, mimi.CanAddParticipant)
	case RemoveOwnClient:
		return j.own(role, mimi.CanRemoveOwnClient)
	case Leave:
		if j.fixed() && !j.enforcer() {
			return j.deny(FixedMembership, role)
		}
		return j.move(role, role, NoRole, mimi.CanRemoveSelf)
	case Remove:
		if d := j.target(c.From); d != nil {
			return d
		}
		if j.fixed() && !j.enforcer() {
			return j.deny(FixedMembership, role)
		}
		return j.move(role, c.From, NoRole, mimi.CanRemoveParticipant)
	case Kick:
		if c.User == j.a.URI {
			return j.deny(OnlyForOthers, role)
		}
		return j.capability(role, mimi.CanKick) // Decision 100: no table
	case ChangeRole:
		if d := j.target(c.From); d != nil {
			return d
		}
		if d := j.move(role, c.From, c.To, mimi.CanChangeUserRole); d != nil {
			return d
		}
		return j.removes(role)
	case ChangeOwnRole:
		return j.ownRole(role)
	case Ban:
		return j.ban(role)
	case Unban:
		if d := j.target(c.From); d != nil {
			return d
		}
		return j.move(role, c.From, c.To, mimi.CanUnBan, mimi.CanChangeUserRole)
	case ChangeRoomName:
		return j.capability(role, mimi.CanChangeRoomName)
	case ChangeRoomDescription:
		return j.capability(role, mimi.CanChangeRoomDescription)
	case ChangeRoomAvatar:
		return j.capability(role, mimi.CanChangeRoomAvatar)
	case ChangeRoomSubject:
		return j.capability(role, mimi.CanChangeRoomSubject)
	case ChangeRoomMood:
		return j.capability(role, mimi.CanChangeRoomMood)
	case ChangeComponent:
		need, ok := ComponentCapability(c.Component)
		if !ok {
			return j.deny(NobodyMay, role)
		}
		return j.capability(role, need)
	case AddJoinLink:
		return j.capability(role, mimi.CanCreateJoinCode)
	case RemoveJoinLink:
		return j.capability(role, mimi.CanDeleteJoinCode)
	case ChangeGroupExtensions:
		return j.capability(role, mimi.CanChangeMlsOperationalPolicies)
	case ReInit:
		return j.capability(role, mimi.CanSendMLSReinitProposal)
	case DestroyRoom:
		return j.capability(role, mimi.CanDestroyRoom)
	case UsePSK:
		// Reserved in the draft, but not for everybody: who commits or proposes a PSK that others don't have stops the room.
		return j.capability(role, mimi.CanSendMLSPSKProposal)
	case UpdateLeaf, SendEphemeral:
		// Every participant may: the capability for the first is reserved, for the second there is none.
		if _, ok := j.s.RoleOf(j.a.URI); !ok {
			return j.deny(NotOnParticipantList, role)
		}
		return nil
	}
	return j.deny(NobodyMay, role)
}

// capability asks for any one of the capabilities.
func (j *judge) capability(role RoleIndex, need ...Capability) *Denial {
	r := j.roles.get(role)
	for _, c := range need {
		if r.has(c) {
			return nil
		}
	}
	return j.deny(MissingCapability, role, need...)
}

// move asks for any one of the capabilities, and for the step in the authorized_role_changes of the role.
func (j *judge) move(role, from, to RoleIndex, need ...Capability) *Denial {
	if d := j.capability(role, need...); d != nil {
		return d
	}
	if !j.roles.get(role).may(from, to) {
		d := j.deny(RoleChangeNotAuthorized, role, need...)
		d.From, d.To = j.roles.ref(from), j.roles.ref(to)
		return d
	}
	return nil
}

// target checks that the change is about another user, who has the role that the change starts from, and ends in a role
// that exists.
func (j *judge) target(from RoleIndex) *Denial {
	role, _ := j.s.RoleOf(j.a.URI)
	if j.c.User == j.a.URI {
		return j.deny(OnlyForOthers, role)
	}
	is, listed := j.s.RoleOf(j.c.User)
	switch {
	case from == NoRole && listed:
		return j.deny(AlreadyOnParticipantList, role)
	case (from != NoRole || j.c.Kind == Remove) && (!listed || is != from):
		return j.deny(NotOnParticipantList, role)
	case j.c.To != NoRole && !j.roles.Defined(j.c.To):
		return j.deny(UndefinedRole, role)
	}
	return nil
}

// own asks for a capability over the actor's own clients, for which it must be on the list.
func (j *judge) own(role RoleIndex, need Capability) *Denial {
	if _, ok := j.s.RoleOf(j.a.URI); !ok {
		return j.deny(NotOnParticipantList, role)
	}
	return j.capability(role, need)
}

// removes asks for canKick where a role change takes clients away that a ban would take (room policy §8.1.3).
func (j *judge) removes(role RoleIndex) *Denial {
	if !j.c.RemovesClients {
		return nil
	}
	return j.capability(role, mimi.CanKick)
}

// ban is by canBan, or else by canChangeUserRole together with canKick where there are clients to remove
// (room policy §8.1.3). Banning a user who is not on the list takes canBan (Decision 100).
func (j *judge) ban(role RoleIndex) *Denial {
	if d := j.target(j.c.From); d != nil {
		return d
	}
	if j.c.From == NoRole && j.fixed() {
		return j.deny(FixedMembership, role)
	}
	d := j.move(role, j.c.From, j.c.To, mimi.CanBan)
	if d == nil || j.c.From == NoRole || d.Reason == RoleChangeNotAuthorized {
		return d
	}
	if j.move(role, j.c.From, j.c.To, mimi.CanChangeUserRole) == nil {
		return j.removes(role)
	}
	d.Capabilities = append(d.Capabilities, mimi.CanChangeUserRole)
	return d
}

// ownRole is canChangeOwnRole: to the first role that the actor's credential is preauthorized for, whatever the table
// says (room policy §8.1.3).
func (j *judge) ownRole(role RoleIndex) *Denial {
	if d := j.own(role, mimi.CanChangeOwnRole); d != nil {
		return d
	}
	if !j.roles.Defined(j.c.To) {
		return j.deny(UndefinedRole, role)
	}
	if p, ok := j.preauthorized(); !ok || p != j.c.To {
		return j.deny(NotPreauthorized, role)
	}
	if j.c.RemovesClients {
		return j.capability(role, mimi.CanRemoveOwnClient)
	}
	return nil
}

// join is the three ways of coming in alone.
func (j *judge) join() (JoinMethod, *Denial) {
	if _, listed := j.s.RoleOf(j.a.URI); listed {
		return 0, j.deny(AlreadyOnParticipantList, NoRole)
	}
	to := j.c.To
	switch {
	case j.a.Kind != Joiner:
		return 0, j.deny(OnlyFromOutside, NoRole)
	case to == NoRole || !j.roles.Defined(to):
		return 0, j.deny(UndefinedRole, NoRole)
	case j.fixed():
		return 0, j.deny(FixedMembership, NoRole)
	}
	stranger := j.roles.get(NoRole)
	if stranger.has(mimi.CanOpenJoin) && stranger.may(NoRole, to) {
		return OpenJoin, nil
	}
	p, matches := j.preauthorized()
	if matches && p == to && j.roles.Has(to, mimi.CanJoinIfPreauthorized) {
		return PreauthorizedJoin, nil
	}
	if stranger.has(mimi.CanUseJoinCode) && stranger.may(NoRole, to) {
		return CodeJoin, nil
	}
	switch {
	case stranger.has(mimi.CanOpenJoin), stranger.has(mimi.CanUseJoinCode):
		return 0, j.deny(RoleChangeNotAuthorized, NoRole, mimi.CanOpenJoin, mimi.CanUseJoinCode)
	case matches && p == to:
		return 0, j.deny(MissingCapability, to, mimi.CanJoinIfPreauthorized)
	case j.roles.Has(to, mimi.CanJoinIfPreauthorized):
		return 0, j.deny(NotPreauthorized, NoRole)
	}
	return 0, j.deny(MissingCapability, NoRole, mimi.CanOpenJoin, mimi.CanUseJoinCode, mimi.CanJoinIfPreauthorized)
}

// fixed reports whether the room's participants are fixed (room policy §5).
func (j *judge) fixed() bool {
	b := j.s.Base()
	return b != nil && b.FixedMembership
}

// enforcer reports whether the actor is a provider: not one of the "ordinary users" whom fixed membership binds, so that a
// hub can take a deleted account off the list.
func (j *judge) enforcer() bool { return j.a.URI.Kind() == mimi.KindProvider }
