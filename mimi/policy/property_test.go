package policy

import (
	"fmt"
	"slices"
	"testing"

	"github.com/comity-im/comity/mimi"
	"pgregory.net/rapid"
)

// drawRoles makes roles that nobody would think of: any capabilities, tables and limits.
func drawRoles(t *rapid.T) *Roles {
	data := &mimi.RoleData{}
	count := rapid.IntRange(3, 6).Draw(t, "roles")
	capability := rapid.SampledFrom(Capabilities())
	index := rapid.Map(rapid.IntRange(0, count-1), func(i int) RoleIndex { return RoleIndex(i) })
	limit := rapid.Ptr(rapid.Uint32Range(0, 4), true)
	for i := range count {
		r := mimi.Role{RoleIndex: RoleIndex(i), RoleName: fmt.Sprintf("r%d", i)}
		if i == 1 {
			r.RoleName = "banned"
		}
		r.RoleCapabilities = rapid.SliceOfN(capability, 0, 40).Draw(t, "capabilities")
		if i > 0 {
			r.RoleCapabilities = slices.DeleteFunc(r.RoleCapabilities, func(c Capability) bool { return c == mimi.CanOpenJoin })
		}
		r.MinimumParticipantsConstraint = rapid.Uint32Range(0, 2).Draw(t, "min")
		r.MinimumActiveParticipantsConstraint = rapid.Uint32Range(0, 1).Draw(t, "min active")
		r.MaximumParticipantsConstraint = limit.Draw(t, "max")
		r.MaximumActiveParticipantsConstraint = limit.Draw(t, "max active")
		if i == 1 {
			r.MaximumActiveParticipantsConstraint = ptr(0)
		}
		for range rapid.IntRange(0, count).Draw(t, "sources") {
			r.AuthorizedRoleChanges = append(r.AuthorizedRoleChanges,
				mimi.SingleSourceRoleChangeTargets{FromRoleIndex: index.Draw(t, "from"), TargetRoleIndexes: rapid.SliceOfN(index, 0, count).Draw(t, "to")})
		}
		data.Roles = append(data.Roles, r)
	}
	roles, err := NewRoles(data)
	if err != nil {
		t.Fatal(err)
	}
	return roles
}

// within reports, for each role, whether the room keeps its limits: worked out from the roles' definitions alone.
func (s *testState) within() map[string]bool {
	in := map[string]bool{}
	for i := range s.roles.list {
		r := &s.roles.list[i]
		n := s.counts[r.index]
		in[fmt.Sprintf("%d min", r.index)] = n.Participants >= r.minAll
		in[fmt.Sprintf("%d min active", r.index)] = n.Active >= r.minActive
		in[fmt.Sprintf("%d max", r.index)] = r.maxAll == nil || n.Participants <= *r.maxAll
		in[fmt.Sprintf("%d max active", r.index)] = r.maxActive == nil || n.Active <= *r.maxActive
	}
	return in
}

// Random sequences of changes, in rooms with random roles, never reach a state that breaks a constraint which held before,
// that has a banned user with clients, or a participant with a role that is not defined.
func TestRandomChangesKeepConstraints(t *testing.T) {
	users := []mimi.IdentifierURI{alice, bob, cathy, dave, eve, zoe, hub}
	allowed := 0
	rapid.Check(t, func(t *rapid.T) {
		s := &testState{roles: drawRoles(t), base: &mimi.BaseRoomPolicy{MultiDevice: rapid.Bool().Draw(t, "multi_device"), PersistentRoom: true,
			MaxUsers: rapid.Ptr(rapid.Uint32Range(1, 5), true).Draw(t, "max_users"), MaxClients: rapid.Ptr(rapid.Uint32Range(1, 8), true).Draw(t, "max_clients")},
			list: map[mimi.IdentifierURI]RoleIndex{}, clients: map[mimi.IdentifierURI]int{},
			preauth: &mimi.PreAuthData{PreauthorizedEntries: []mimi.PreAuthRoleEntry{{Claimset: []mimi.Claim{hr}, TargetRole: mimi.Role{RoleIndex: 2}}}}}
		indexes := s.roles.Indexes()
		for _, u := range users[:4] {
			s.list[u] = rapid.SampledFrom(indexes[1:]).Draw(t, "role")
			if s.roles.MayBeActive(s.list[u]) && !s.roles.Banned(s.list[u]) {
				s.clients[u] = 1
			}
		}
		s.recount()
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			a := Actor{URI: rapid.SampledFrom(users).Draw(t, "actor"), Kind: rapid.SampledFrom([]ActorKind{Member, Joiner, ExternalSender}).Draw(t, "kind")}
			if rapid.Bool().Draw(t, "claims") {
				a.Claims = ClaimSet{hr}
			}
			user := rapid.SampledFrom(users).Draw(t, "user")
			var c Change
			switch rapid.IntRange(0, 5).Draw(t, "change") {
			case 0:
				if s.clients[a.URI] == 0 && a.Kind == Member {
					continue
				}
				c = Change{Kind: AddOwnClient, User: a.URI}
			case 1:
				if s.clients[a.URI] == 0 {
					continue
				}
				c = Change{Kind: RemoveOwnClient, User: a.URI}
			case 2:
				c = Change{Kind: Kick, User: user}
			case 3:
				c = Change{Kind: AddClient, User: user, From: s.list[user], To: s.list[user]}
			default:
				to := rapid.SampledFrom(indexes).Draw(t, "to")
				if to == s.list[user] {
					continue
				}
				removes := s.clients[user] > 0 && !s.roles.MayBeActive(to)
				c = ListChange(s.roles, a.URI, user, s.list[user], to, removes)
				if c.Kind == Add && !s.roles.MayBeActive(to) {
					continue
				}
			}
			before := s.within()
			e := s.effect(c)
			if Authorize(s, a, c) != nil || CheckCommit(s, e) != nil {
				continue
			}
			allowed++
			users, clients := s.Users(), s.Clients()
			s.apply(c)
			for rule, is := range s.within() {
				if before[rule] && !is {
					t.Fatalf("%s %+v breaks %s: %+v", a.URI, c, rule, s.counts)
				}
			}
			if m := s.base.MaxUsers; m != nil && s.Users() > *m && s.Users() > users {
				t.Fatalf("%d users", s.Users())
			}
			if m := s.base.MaxClients; m != nil && s.Clients() > *m && s.Clients() > clients {
				t.Fatalf("%d clients", s.Clients())
			}
			for u, r := range s.list {
				if r == NoRole || !s.roles.Defined(r) {
					t.Fatalf("%s has role %d", u, r)
				}
				if r == BannedRole && s.clients[u] > 0 {
					t.Fatalf("%s is banned and has clients after %+v", u, c)
				}
			}
			for u, n := range s.clients {
				if _, listed := s.list[u]; n > 0 && !listed {
					t.Fatalf("%s has clients and is not listed after %+v", u, c)
				}
				if !s.base.MultiDevice && n > 1 {
					t.Fatalf("%s has %d clients", u, n)
				}
			}
		}
	})
	if allowed == 0 {
		t.Error("nothing was ever allowed: the test asks nothing")
	}
}
