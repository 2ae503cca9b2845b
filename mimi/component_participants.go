package mimi

import (
	"errors"
	"fmt"
	"slices"

	"github.com/comity-im/comity/tlspl"
)

// A RoleIndex names a role of a room (room policy §3).
type RoleIndex uint32

const (
	// RoleNone is the role of whoever is not on the participant list.
	RoleNone RoleIndex = 0
	// RoleBanned is the role of banned users (room policy §3, Decision 101).
	RoleBanned RoleIndex = 1
)

// A UserRolePair is an entry of the participant list (MIMI protocol §7.5).
// User is a user, a pseudonym, or a provider that enforces policy. Decision 82
type UserRolePair struct {
	User      IdentifierURI
	RoleIndex RoleIndex
}

// Code describes a UserRolePair.
func (p *UserRolePair) Code(c *tlspl.Codec) {
	c.Field("user")
	p.User.Code(c)
	c.Field("role_index")
	tlspl.Uint32(c, &p.RoleIndex)
}

// ParticipantListData is the data of the participant_list component (MIMI
// protocol §7.5).
type ParticipantListData struct {
	Participants []UserRolePair
}

// Code describes a ParticipantListData.
func (d *ParticipantListData) Code(c *tlspl.Codec) {
	c.Field("participants")
	tlspl.Vector(c, &d.Participants)
}

// A UserindexRolePair gives the participant at an index a new role (MIMI
// protocol §7.5).
type UserindexRolePair struct {
	UserIndex uint32
	RoleIndex RoleIndex
}

// Code describes a UserindexRolePair.
func (p *UserindexRolePair) Code(c *tlspl.Codec) {
	c.Field("user_index")
	tlspl.Uint32(c, &p.UserIndex)
	c.Field("role_index")
	tlspl.Uint32(c, &p.RoleIndex)
}

// A ParticipantListUpdate is the content of an AppDataUpdate of the
// participant_list component (MIMI protocol §7.5, Decision 80). Its indices
// refer to the list before the Commit. Decision 81
type ParticipantListUpdate struct {
	ChangedRoleParticipants []UserindexRolePair
	RemovedIndices          []uint32
	AddedParticipants       []UserRolePair
}

// Code describes a ParticipantListUpdate.
func (u *ParticipantListUpdate) Code(c *tlspl.Codec) {
	c.Field("changedRoleParticipants")
	tlspl.Vector(c, &u.ChangedRoleParticipants)
	c.Field("removedIndices")
	tlspl.VectorFunc(c, &u.RemovedIndices, tlspl.Uint32[uint32])
	c.Field("addedParticipants")
	tlspl.Vector(c, &u.AddedParticipants)
}

// Find returns the index of user on the list, -1 if it is not there.
func (d *ParticipantListData) Find(user IdentifierURI) int {
	for i := range d.Participants {
		if d.Participants[i].User == user {
			return i
		}
	}
	return -1
}

// Role returns the role of user, RoleNone if it is not on the list.
func (d *ParticipantListData) Role(user IdentifierURI) RoleIndex {
	if i := d.Find(user); i >= 0 {
		return d.Participants[i].RoleIndex
	}
	return RoleNone
}

// What makes a participant list, or an update of one, invalid. Decision 82
var (
	ErrParticipantIndex   = errors.New("index is beyond the participant list")
	ErrParticipantTwice   = errors.New("participant is operated on more than once")
	ErrParticipantPresent = errors.New("participant is on the list already")
	ErrParticipantRole    = errors.New("role is not in the roles list, or is role 0")
	ErrParticipantSame    = errors.New("participant has this role already")
	ErrParticipantKind    = errors.New("participant is neither a user nor a provider")
	ErrParticipantEmpty   = errors.New("update changes nothing")
)

// A ParticipantError says which part of which update is invalid.
type ParticipantError struct {
	Update int           // number of the update in the Commit, from 0; -1 for the list itself
	User   IdentifierURI // whom it is about, if known
	Index  uint32        // the index given, for ErrParticipantIndex
	Role   RoleIndex     // the role given, if any
	Err    error         // one of the ErrParticipant variables
}

func (e *ParticipantError) Error() string {
	s := "mimi: participant list"
	if e.Update >= 0 {
		s += fmt.Sprintf(" update %d", e.Update)
	}
	switch {
	case e.Err == ErrParticipantIndex:
		s += fmt.Sprintf(": index %d", e.Index)
	case e.User != "":
		s += ": " + string(e.User)
		if e.Role != RoleNone {
			s += fmt.Sprintf(" (role %d)", e.Role)
		}
	}
	return s + ": " + e.Err.Error()
}

// Unwrap returns the rule that was broken.
func (e *ParticipantError) Unwrap() error { return e.Err }

// A ParticipantChange is what one update does to one user. Someone added comes
// from RoleNone, someone removed goes to it.
type ParticipantChange struct {
	Update   int // number of the update in the Commit, from 0
	User     IdentifierURI
	From, To RoleIndex
}

func checkParticipant(p *UserRolePair, roles *RoleData) error {
	switch p.User.Kind() {
	case KindUser, KindPseudonym, KindProvider:
	default:
		return ErrParticipantKind
	}
	return checkRole(p.RoleIndex, roles)
}

func checkRole(r RoleIndex, roles *RoleData) error {
	if r == RoleNone || roles.Find(r) == nil {
		return ErrParticipantRole
	}
	return nil
}

// Validate reports, as a *ParticipantError, why d can't be the list of a new
// room: a user twice, a role that roles lacks, or something that is no user.
func (d *ParticipantListData) Validate(roles *RoleData) error {
	seen := make(map[IdentifierURI]bool, len(d.Participants))
	for i := range d.Participants {
		p := &d.Participants[i]
		err := checkParticipant(p, roles)
		if err == nil && seen[p.User] {
			err = ErrParticipantTwice
		}
		if err != nil {
			return &ParticipantError{Update: -1, User: p.User, Role: p.RoleIndex, Err: err}
		}
		seen[p.User] = true
	}
	return nil
}

// Apply returns the list after all participant list updates of one Commit, in
// the order of their proposals, and what they change, in the order they say
// it. d stays as it is. An invalid update is a *ParticipantError. Decisions 81, 82
func (d *ParticipantListData) Apply(roles *RoleData, updates []ParticipantListUpdate) (ParticipantListData, []ParticipantChange, error) {
	n := 0
	for i := range updates {
		u := &updates[i]
		k := len(u.ChangedRoleParticipants) + len(u.RemovedIndices) + len(u.AddedParticipants)
		if k == 0 {
			return ParticipantListData{}, nil, &ParticipantError{Update: i, Err: ErrParticipantEmpty}
		}
		n += k
	}

	var (
		changes = make([]ParticipantChange, 0, n)
		roleOf  = make(map[uint32]RoleIndex, n) // by index before the Commit; RoleNone: removed
		added   = make(map[IdentifierURI]bool)
		appends []UserRolePair
	)
	// touch checks an index and that nothing else in the Commit names it.
	touch := func(update int, index uint32, to RoleIndex) error {
		if uint64(index) >= uint64(len(d.Participants)) {
			return &ParticipantError{Update: update, Index: index, Err: ErrParticipantIndex}
		}
		p := &d.Participants[index]
		if _, ok := roleOf[index]; ok {
			return &ParticipantError{Update: update, User: p.User, Role: to, Err: ErrParticipantTwice}
		}
		roleOf[index] = to
		changes = append(changes, ParticipantChange{Update: update, User: p.User, From: p.RoleIndex, To: to})
		return nil
	}
	for i := range updates {
		u := &updates[i]
		for _, c := range u.ChangedRoleParticipants {
			if err := touch(i, c.UserIndex, c.RoleIndex); err != nil {
				return ParticipantListData{}, nil, err
			}
			p := &d.Participants[c.UserIndex]
			err := checkRole(c.RoleIndex, roles)
			if err == nil && c.RoleIndex == p.RoleIndex {
				err = ErrParticipantSame
			}
			if err != nil {
				return ParticipantListData{}, nil, &ParticipantError{Update: i, User: p.User, Role: c.RoleIndex, Err: err}
			}
		}
		for _, index := range u.RemovedIndices {
			if err := touch(i, index, RoleNone); err != nil {
				return ParticipantListData{}, nil, err
			}
		}
		for j := range u.AddedParticipants {
			p := &u.AddedParticipants[j]
			err := checkParticipant(p, roles)
			if err == nil && added[p.User] {
				err = ErrParticipantTwice
			}
			if err != nil {
				return ParticipantListData{}, nil, &ParticipantError{Update: i, User: p.User, Role: p.RoleIndex, Err: err}
			}
			added[p.User] = true
			appends = append(appends, *p)
			changes = append(changes, ParticipantChange{Update: i, User: p.User, From: RoleNone, To: p.RoleIndex})
		}
	}

	// A user is touched once, so an addition of someone present is invalid even if
	// the Commit removes them.
	if i := d.findAny(added, appends); i >= 0 {
		for _, c := range changes {
			if c.User == d.Participants[i].User && c.From == RoleNone {
				return ParticipantListData{}, nil, &ParticipantError{Update: c.Update, User: c.User, Role: c.To, Err: ErrParticipantPresent}
			}
		}
	}

	next := ParticipantListData{Participants: make([]UserRolePair, len(d.Participants), len(d.Participants)+len(appends))}
	copy(next.Participants, d.Participants)
	removed := false
	for index, to := range roleOf {
		next.Participants[index].RoleIndex = to
		removed = removed || to == RoleNone
	}
	if removed {
		kept := next.Participants[:0]
		for i := range next.Participants {
			if to, ok := roleOf[uint32(i)]; !ok || to != RoleNone {
				kept = append(kept, next.Participants[i])
			}
		}
		next.Participants = kept
	}
	next.Participants = append(next.Participants, appends...)
	return next, changes, nil
}

// findAny returns the index of the first participant that is among the added,
// -1 if there is none.
func (d *ParticipantListData) findAny(added map[IdentifierURI]bool, list []UserRolePair) int {
	if len(list) > 8 {
		return slices.IndexFunc(d.Participants, func(p UserRolePair) bool { return added[p.User] })
	}
	for i := range list { // comparing is cheaper than hashing everybody
		if at := d.Find(list[i].User); at >= 0 {
			return at
		}
	}
	return -1
}
