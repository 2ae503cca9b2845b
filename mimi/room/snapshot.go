package room

import (
	"maps"
	"slices"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
)

// A snapshot is a room in one epoch, with what judging the next change needs at hand. It is policy.State.
type snapshot struct {
	view   *View
	tree   *mls.RatchetTree
	leaves *leaves
	counts map[policy.RoleIndex]policy.Count
	users  uint32

	receiving []mimi.ProviderDomain // see Hub.receivers; nil: not worked out
}

// leaves says whose each leaf is: a table for the group, and over it what commits that are not merged yet change. Successive
// epochs share the table until settle.
type leaves struct {
	table     *leafTable
	user      map[mls.LeafIndex]mimi.UserURI   // changed; empty: blank
	of        map[mimi.UserURI][]mls.LeafIndex // changed; empty: none
	providers map[mimi.ProviderDomain]uint32   // number of leaves
	count     uint32
}

type leafTable struct {
	user []mimi.UserURI                   // by leaf index; empty where the leaf is blank
	of   map[mimi.UserURI][]mls.LeafIndex // ascending
}

// newSnapshot reads a room from a group. It takes time that grows with the group; a room that is followed has its snapshot
// moved along instead.
func newSnapshot(verifier Verifier, view *View, tree *mls.RatchetTree) (*snapshot, error) {
	s := &snapshot{view: view, tree: tree, counts: make(map[policy.RoleIndex]policy.Count)}
	table := &leafTable{
		user: make([]mimi.UserURI, tree.Size()),
		of:   make(map[mimi.UserURI][]mls.LeafIndex, tree.Members()),
	}
	s.leaves = &leaves{table: table, providers: make(map[mimi.ProviderDomain]uint32), count: uint32(tree.Members())}
	for i, leaf := range tree.Leaves() {
		who, err := verifier.Identify(&leaf.Credential)
		if err != nil {
			return nil, &IdentityError{i, err}
		}
		table.user[i] = who.User
		table.of[who.User] = append(table.of[who.User], i)
		s.leaves.providers[who.User.Host()]++
	}
	for i := range view.Participants() {
		p := &view.Participants()[i]
		n := s.counts[p.RoleIndex]
		n.Participants++
		if user, ok := p.User.User(); ok && len(s.leaves.by(user)) > 0 {
			n.Active++
		}
		s.counts[p.RoleIndex] = n
		if countsAsUser(p.User, p.RoleIndex) {
			s.users++
		}
	}
	return s, nil
}

// countsAsUser says who counts against max_users: neither role 1 nor providers. Decision 101
func countsAsUser(user mimi.IdentifierURI, role policy.RoleIndex) bool {
	return role != policy.NoRole && role != policy.BannedRole && user.Kind() != mimi.KindProvider
}

// checkMembership is the rule that ties members to participants: every leaf's user is on the list, with a role that may
// have clients. Decision 37
func (s *snapshot) checkMembership() error {
	for user, of := range s.leaves.table.of {
		role, ok := s.view.RoleOf(user.Identifier())
		if !ok || !s.view.roles.MayBeActive(role) {
			return &MembershipError{User: user, Role: role, Clients: len(of)}
		}
	}
	return nil
}

// minimalMetadata reports whether the room is a minimal metadata room: its leaves have pseudonymous credentials (MIMI protocol
// §6.1). What its first leaf has all others must have.
func (s *snapshot) minimalMetadata() bool {
	for _, leaf := range s.tree.Leaves() {
		return leaf.Credential.Type == mimi.CredentialPseudonymous
	}
	return false
}

// by returns the leaves of a user, ascending.
func (l *leaves) by(user mimi.UserURI) []mls.LeafIndex {
	if of, ok := l.of[user]; ok {
		return of
	}
	return l.table.of[user]
}

// owner returns whose a leaf is.
func (l *leaves) owner(i mls.LeafIndex) (mimi.UserURI, bool) {
	user, ok := l.user[i]
	if !ok && uint64(i) < uint64(len(l.table.user)) {
		user = l.table.user[i]
	}
	return user, user != ""
}

// fork returns leaves that can be changed on their own.
func (l *leaves) fork() *leaves {
	n := &leaves{table: l.table, user: maps.Clone(l.user), of: maps.Clone(l.of), providers: maps.Clone(l.providers), count: l.count}
	if n.user == nil {
		n.user, n.of = make(map[mls.LeafIndex]mimi.UserURI), make(map[mimi.UserURI][]mls.LeafIndex)
	}
	return n
}

func (l *leaves) add(i mls.LeafIndex, user mimi.UserURI) {
	of := l.by(user)
	at, _ := slices.BinarySearch(of, i)
	l.of[user] = slices.Insert(slices.Clone(of), at, i)
	l.user[i] = user
	l.providers[user.Host()]++
	l.count++
}

func (l *leaves) remove(i mls.LeafIndex) {
	user, ok := l.owner(i)
	if !ok {
		return
	}
	l.of[user] = slices.DeleteFunc(slices.Clone(l.by(user)), func(o mls.LeafIndex) bool { return o == i })
	l.user[i] = ""
	if l.providers[user.Host()]--; l.providers[user.Host()] == 0 {
		delete(l.providers, user.Host())
	}
	l.count--
}

// settle writes the changes into the table. Every other leaves that shares it is void.
func (l *leaves) settle() {
	for i, user := range l.user {
		for uint64(len(l.table.user)) <= uint64(i) {
			l.table.user = append(l.table.user, "")
		}
		l.table.user[i] = user
	}
	for user, of := range l.of {
		if len(of) == 0 {
			delete(l.table.of, user)
		} else {
			l.table.of[user] = of
		}
	}
	l.user, l.of = nil, nil
}

// domains returns the providers that have a leaf, sorted.
func (l *leaves) domains() []mimi.ProviderDomain { return slices.Sorted(maps.Keys(l.providers)) }

// RoleOf returns the role of a participant.
func (s *snapshot) RoleOf(user mimi.IdentifierURI) (policy.RoleIndex, bool) {
	return s.view.RoleOf(user)
}

// Count returns how many participants have the role.
func (s *snapshot) Count(role policy.RoleIndex) policy.Count { return s.counts[role] }

// Users returns how many participants count against max_users.
func (s *snapshot) Users() uint32 { return s.users }

// Clients returns the number of leaves.
func (s *snapshot) Clients() uint32 { return s.leaves.count }

// Roles returns the roles.
func (s *snapshot) Roles() *policy.Roles { return s.view.roles }

// Preauth returns the preauth_list component.
func (s *snapshot) Preauth() *mimi.PreAuthData { return s.view.components.Preauth }

// Base returns the base_room_policy component.
func (s *snapshot) Base() *mimi.BaseRoomPolicy { return s.view.components.Base }

// Operational returns the mls_operational_policy component.
func (s *snapshot) Operational() *mimi.OperationalParameters { return s.view.components.Operational }

// next returns the room in the epoch after a judged commit. s stays good until next's leaves are settled.
func (s *snapshot) next(p *plan, context *mls.GroupContext, tree *mls.RatchetTree) (*snapshot, error) {
	view, err := newView(context, s.view, p.list)
	if err != nil {
		return nil, err
	}
	n := &snapshot{view: view, tree: tree, leaves: s.leaves.fork(), counts: maps.Clone(s.counts), users: s.users}
	for _, i := range p.removed {
		n.leaves.remove(i)
	}
	for _, a := range p.added {
		n.leaves.add(a.leaf, a.user)
	}
	for _, d := range p.effect.Roles {
		c := n.counts[d.Role]
		c.Participants = uint32(int64(c.Participants) + int64(d.Participants))
		c.Active = uint32(int64(c.Active) + int64(d.Active))
		n.counts[d.Role] = c
	}
	n.users = uint32(int64(n.users) + int64(p.effect.Users))
	return n, nil
}
