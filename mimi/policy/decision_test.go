package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/comity-im/comity/mimi"
)

// testState is a room as the engine sees it.
type testState struct {
	roles       *Roles
	list        map[mimi.IdentifierURI]RoleIndex
	clients     map[mimi.IdentifierURI]int
	counts      map[RoleIndex]Count
	preauth     *mimi.PreAuthData
	base        *mimi.BaseRoomPolicy
	operational *mimi.OperationalParameters
}

func (s *testState) RoleOf(u mimi.IdentifierURI) (RoleIndex, bool) { r, ok := s.list[u]; return r, ok }
func (s *testState) Count(r RoleIndex) Count                       { return s.counts[r] }
func (s *testState) Roles() *Roles                                 { return s.roles }
func (s *testState) Preauth() *mimi.PreAuthData                    { return s.preauth }
func (s *testState) Base() *mimi.BaseRoomPolicy                    { return s.base }
func (s *testState) Operational() *mimi.OperationalParameters      { return s.operational }
func (s *testState) Clients() uint32 {
	n := 0
	for _, c := range s.clients {
		n += c
	}
	return uint32(n)
}

func (s *testState) Users() uint32 {
	n := uint32(0)
	for u, r := range s.list {
		if r != BannedRole && u.Kind() != mimi.KindProvider {
			n++
		}
	}
	return n
}

// recount works out the counts from the list.
func (s *testState) recount() *testState {
	s.counts = map[RoleIndex]Count{}
	for u, r := range s.list {
		n := s.counts[r]
		n.Participants++
		if s.clients[u] > 0 {
			n.Active++
		}
		s.counts[r] = n
	}
	return s
}

// apply makes a change, as a Commit would.
func (s *testState) apply(c Change) {
	switch c.Kind {
	case Add, Join, ChangeRole, ChangeOwnRole, Ban, Unban:
		s.list[c.User] = c.To
		if c.Kind == Add || c.Kind == Join {
			s.clients[c.User] = 1
		}
		if c.RemovesClients || c.Kind == Ban {
			delete(s.clients, c.User)
		}
	case AddOwnClient, AddClient:
		s.clients[c.User]++
	case RemoveOwnClient:
		s.clients[c.User]--
	case Leave, Remove:
		delete(s.list, c.User)
		delete(s.clients, c.User)
	case Kick:
		delete(s.clients, c.User)
	}
	s.recount()
}

// effect says what a change does to the numbers.
func (s *testState) effect(c Change) *Effect {
	before, was := s.list[c.User], s.clients[c.User]
	after := &testState{list: map[mimi.IdentifierURI]RoleIndex{}, clients: map[mimi.IdentifierURI]int{}}
	if before != NoRole {
		after.list[c.User] = before
	}
	if was > 0 {
		after.clients[c.User] = was
	}
	users := after.Users()
	after.apply(c)
	e := &Effect{Clients: after.clients[c.User] - was, Users: int(after.Users()) - int(users)}
	if e.Clients > 0 {
		e.MostClients = uint32(after.clients[c.User])
	}
	e.Move(before, after.list[c.User], was > 0, after.clients[c.User] > 0)
	return e
}

const (
	alice = mimi.IdentifierURI("mimi://a.example/u/alice")
	bob   = mimi.IdentifierURI("mimi://b.example/u/bob")
	cathy = mimi.IdentifierURI("mimi://c.example/u/cathy")
	dave  = mimi.IdentifierURI("mimi://b.example/u/dave")
	eve   = mimi.IdentifierURI("mimi://c.example/u/eve")
	zoe   = mimi.IdentifierURI("mimi://c.example/u/zoe") // nowhere
	hub   = mimi.IdentifierURI("mimi://a.example")
)

var hr = mimi.Claim{ClaimID: mimi.ClaimID{CredentialType: 2, ID: []byte{6, 3, 0x55, 4, 0x0b}}, ClaimValue: []byte("HR")}

// moderatedRoom is the moderated room of room policy A.3: alice super_admin, bob guest, cathy attendee, dave moderator, eve
// banned, and the hub as policy_enforcer. HR comes in as attendee.
func moderatedRoom(t testing.TB) *testState {
	c, _, err := Build(Moderated, testParams)
	if err != nil {
		t.Fatal(err)
	}
	roles, err := NewRoles(c.Roles)
	if err != nil {
		t.Fatal(err)
	}
	s := &testState{roles: roles, base: c.Base, operational: c.Operational,
		list:    map[mimi.IdentifierURI]RoleIndex{alice: 6, bob: 2, cathy: 3, dave: 5, eve: 1, hub: 7},
		clients: map[mimi.IdentifierURI]int{alice: 1, bob: 1, cathy: 2, dave: 1},
		preauth: &mimi.PreAuthData{PreauthorizedEntries: []mimi.PreAuthRoleEntry{{Claimset: []mimi.Claim{hr}, TargetRole: mimi.Role{RoleIndex: 3}}}}}
	return s.recount()
}

type decision struct {
	section string
	actor   string // user, or user from outside, or hub
	asks    string
	answer  string
}

// The rules of room policy §8 as a decision table: in the moderated room of Appendix A.3, who asks for what, and what the
// answer is. An empty answer is "allowed".
var decisions = []decision{
	// §8.1.1 Adding
	{"canAddParticipant", "dave", "add zoe as speaker", ""},
	{"canAddParticipant", "bob", "add zoe as guest", `role "guest" lacks canAddParticipant`},
	{"canAddParticipant: authorized_role_changes has (0, target)", "dave", "add zoe as super_admin", `authorized_role_changes of role "moderator" do not go from role "no_role" to role "super_admin"`},
	{"canAddParticipant: not on the list already", "dave", "add bob as speaker", "already on the participant list"},
	{"canAddParticipant: a role that exists", "alice", "add zoe as role 42", "the room has no role 42"},
	{"canAddParticipant: the adder's role counts, not the hub's", "hub", "add zoe as guest", `role "policy_enforcer" lacks canAddParticipant`},
	{"clients of a listed user (Decision 99)", "dave", "add client of bob", ""},
	{"clients of a listed user (Decision 99)", "cathy", "add client of bob", `role "attendee" lacks canAddParticipant`},
	{"canAddOwnClient", "cathy", "add own client", ""},
	{"canAddOwnClient, from outside", "cathy outside", "add own client", ""},
	{"canAddOwnClient", "bob", "add own client", `role "guest" lacks canAddOwnClient`},
	{"canAddOwnClient: in the participant list", "zoe outside", "add own client", "not on the participant list"},
	{"canAddOwnClient: banned has nothing", "eve outside", "add own client", `role "banned" lacks canAddOwnClient`},
	{"canUseJoinCode: role 0 and its table", "zoe outside", "join as guest", ""},
	{"canUseJoinCode: role 0 and its table", "zoe outside", "join as speaker", "authorized_role_changes"},
	{"canJoinIfPreauthorized: no table", "zoe of HR outside", "join as attendee", ""},
	{"a banned user joins in no way", "eve of HR outside", "join as attendee", "already on the participant list"},
	{"joining is from outside", "zoe", "join as guest", "that takes an external commit or an external proposal"},
	// §8.1.2 Removing
	{"canRemoveParticipant", "dave", "remove bob", ""},
	{"canRemoveParticipant", "cathy", "remove bob", `role "attendee" lacks canRemoveParticipant`},
	{"canRemoveParticipant: (role, 0) in the table", "dave", "remove alice", `do not go from role "super_admin"`},
	{"canRemoveParticipant: excluding itself", "dave", "remove dave", "that is for other users only"},
	{"canRemoveParticipant: who is not there", "dave", "remove zoe", "not on the participant list"},
	{"canRemoveParticipant: from=1 to 0 (Decision 100)", "dave", "remove eve", ""},
	{"policy_enforcer cleans up the banned", "hub", "remove eve", ""},
	{"canRemoveOwnClient", "cathy", "remove own client", ""},
	{"canRemoveOwnClient", "bob", "remove own client", `role "guest" lacks canRemoveOwnClient`},
	{"canRemoveSelf", "bob", "leave", ""},
	{"canRemoveSelf: (own role, 0) in the table", "dave", "leave", ""},
	{"canRemoveSelf", "hub", "leave", `role "policy_enforcer" lacks canRemoveSelf`},
	{"canKick: no table", "dave", "kick alice", ""},
	{"canKick: not oneself", "dave", "kick dave", "that is for other users only"},
	{"canKick", "cathy", "kick bob", `role "attendee" lacks canKick`},
	// §8.1.3 Role changes
	{"canChangeUserRole", "dave", "change bob to speaker", ""},
	{"canChangeUserRole: the table", "dave", "change bob to super_admin", `authorized_role_changes of role "moderator" do not go from role "guest" to role "super_admin"`},
	{"canChangeUserRole", "cathy", "change bob to speaker", `role "attendee" lacks canChangeUserRole`},
	{"canChangeUserRole: not itself", "dave", "change dave to guest", "not preauthorized"},
	{"canChangeOwnRole: to what the credential gives", "cathy of HR", "change cathy to attendee", ""},
	{"canChangeOwnRole: to nothing else", "cathy of HR", "change cathy to speaker", "not preauthorized"},
	{"canChangeOwnRole", "bob of HR", "change bob to attendee", `role "guest" lacks canChangeOwnRole`},
	{"canChangeOwnRole: without the claim", "cathy", "change cathy to attendee", "not preauthorized"},
	{"canBan", "dave", "ban bob", ""},
	{"canBan: before the user ever came (Decision 100)", "dave", "ban zoe", ""},
	{"canBan", "cathy", "ban bob", `role "attendee" lacks canBan or canChangeUserRole`},
	{"canBan: the table", "dave", "ban alice", `authorized_role_changes of role "moderator"`},
	{"canBan by the hub", "hub", "ban bob", ""},
	{"canBan by the hub: not strangers' friends", "hub", "ban zoe", ""},
	{"canUnban", "dave", "unban eve to guest", ""},
	{"canUnban", "cathy", "unban eve to guest", `role "attendee" lacks canUnBan or canChangeUserRole`},
	{"canUnban: the enforcer can't restore", "hub", "unban eve to guest", "authorized_role_changes of role \"policy_enforcer\""},
	// §8.2 Metadata
	{"canChangeRoomName", "dave", "name the room", ""},
	{"canChangeRoomName", "cathy", "name the room", `role "attendee" lacks canChangeRoomName`},
	{"canChangeRoomDescription", "dave", "describe the room", `role "moderator" lacks canChangeRoomDescription`},
	{"canChangeRoomDescription", "alice", "describe the room", ""},
	{"canChangeRoomAvatar", "dave", "set the avatar", ""},
	{"canChangeRoomAvatar", "cathy", "set the avatar", `role "attendee" lacks canChangeRoomAvatar`},
	{"canChangeRoomSubject", "dave", "set the subject", ""},
	{"canChangeRoomSubject", "cathy", "set the subject", `role "attendee" lacks canChangeRoomSubject`},
	{"canChangeRoomMood", "dave", "set the mood", ""},
	{"canChangeRoomMood", "cathy", "set the mood", `role "attendee" lacks canChangeRoomMood`},
	// §8.6 Disruptive changes (Decision 94)
	{"canChangeRoleDefinitions", "alice", "set roles_list", ""},
	{"canChangeRoleDefinitions", "dave", "set roles_list", `can't change roles_list: role "moderator" lacks canChangeRoleDefinitions`},
	{"canChangePreauthorizedUserList", "hub", "set preauth_list", ""},
	{"canChangePreauthorizedUserList", "dave", "set preauth_list", `lacks canChangePreauthorizedUserList`},
	{"canChangeRoomMembershipStyle", "alice", "set base_room_policy", ""},
	{"canChangeRoomMembershipStyle", "dave", "set base_room_policy", `lacks canChangeRoomMembershipStyle`},
	{"canChangeOtherPolicyAttribute", "alice", "set status_notification_policy", ""},
	{"canChangeOtherPolicyAttribute", "dave", "set status_notification_policy", `lacks canChangeOtherPolicyAttribute`},
	{"canChangeOtherPolicyAttribute", "alice", "set join_link_policy", ""},
	{"canChangeOtherPolicyAttribute", "dave", "set join_link_policy", `lacks canChangeOtherPolicyAttribute`},
	{"canChangeOtherPolicyAttribute", "alice", "set link_preview_policy", ""},
	{"canChangeOtherPolicyAttribute", "dave", "set link_preview_policy", `lacks canChangeOtherPolicyAttribute`},
	{"canChangeOtherPolicyAttribute", "alice", "set asset_policy", ""},
	{"canChangeOtherPolicyAttribute", "dave", "set asset_policy", `lacks canChangeOtherPolicyAttribute`},
	{"canChangeOtherPolicyAttribute", "alice", "set logging_policy", ""},
	{"canChangeOtherPolicyAttribute", "dave", "set logging_policy", `lacks canChangeOtherPolicyAttribute`},
	{"canChangeOtherPolicyAttribute", "alice", "set chat_history_policy", ""},
	{"canChangeOtherPolicyAttribute", "dave", "set chat_history_policy", `lacks canChangeOtherPolicyAttribute`},
	{"canChangeOtherPolicyAttribute", "alice", "set bot_policy", ""},
	{"canChangeOtherPolicyAttribute", "dave", "set bot_policy", `lacks canChangeOtherPolicyAttribute`},
	{"canChangeOtherPolicyAttribute", "alice", "set message_expiration_policy", ""},
	{"canChangeOtherPolicyAttribute", "dave", "set message_expiration_policy", `lacks canChangeOtherPolicyAttribute`},
	{"canChangeMlsOperationalPolicies", "hub", "set mls_operational_policy", ""},
	{"canChangeMlsOperationalPolicies", "dave", "set mls_operational_policy", `lacks canChangeMlsOperationalPolicies`},
	{"canChangeMlsOperationalPolicies (Decision 114)", "alice", "set app_components", ""},
	{"canChangeMlsOperationalPolicies (Decision 114)", "dave", "set safe_aad", `lacks canChangeMlsOperationalPolicies`},
	{"canChangeMlsOperationalPolicies (Decision 114)", "dave", "set content_media_types", `lacks canChangeMlsOperationalPolicies`},
	{"canCreateJoinCode", "dave", "add link", ""},
	{"canCreateJoinCode", "cathy", "add link", `lacks canCreateJoinCode`},
	{"canDeleteJoinCode", "dave", "remove link", ""},
	{"canDeleteJoinCode", "cathy", "remove link", `lacks canDeleteJoinCode`},
	{"other components: nobody", "alice", "set franking_agent", "no capability allows it"},
	{"canSendMLSReinitProposal", "alice", "reinit", ""},
	{"canSendMLSReinitProposal", "dave", "reinit", "lacks canSendMLSReinitProposal"},
	{"canDestroyRoom", "hub", "destroy", ""},
	{"canDestroyRoom", "dave", "destroy", "lacks canDestroyRoom"},
	{"canSendMLSPSKProposal (reserved): nobody in the presets", "alice", "use a PSK", "lacks canSendMLSPSKProposal"},
	// every participant
	{"Update is for every participant (0x0602 is reserved)", "bob", "update leaf", ""},
	{"Update is for participants", "zoe", "update leaf", "not on the participant list"},
}

// parseQuestion reads an actor and what it asks for.
func parseQuestion(t testing.TB, s *testState, who, asks string) (Actor, Change) {
	users := map[string]mimi.IdentifierURI{"alice": alice, "bob": bob, "cathy": cathy, "dave": dave, "eve": eve, "zoe": zoe, "hub": hub}
	words := strings.Fields(who)
	a := Actor{URI: users[words[0]]}
	if strings.Contains(who, "of HR") {
		a.Claims = ClaimSet{hr}
	}
	if strings.Contains(who, "outside") {
		a.Kind = Joiner
	}
	if words[0] == "hub" {
		a.Kind = ExternalSender
	}
	role := func(name string) RoleIndex {
		var n RoleIndex
		if _, err := fmt.Sscanf(name, "role %d", &n); err == nil {
			return n
		}
		i, ok := s.roles.ByName(name)
		if !ok {
			t.Fatalf("no role %q", name)
		}
		return i
	}
	w := strings.SplitN(asks, " ", 4)
	list := func(user mimi.IdentifierURI, to RoleIndex) Change {
		return ListChange(s.roles, a.URI, user, s.list[user], to, s.clients[user] > 0 && !s.roles.MayBeActive(to))
	}
	switch {
	case strings.HasPrefix(asks, "add client of"):
		return a, Change{Kind: AddClient, User: users[w[3]], From: s.list[users[w[3]]], To: s.list[users[w[3]]]}
	case asks == "add own client":
		return a, Change{Kind: AddOwnClient, User: a.URI}
	case asks == "remove own client":
		return a, Change{Kind: RemoveOwnClient, User: a.URI}
	case asks == "leave":
		return a, list(a.URI, NoRole)
	case asks == "update leaf":
		return a, Change{Kind: UpdateLeaf, User: a.URI}
	case asks == "use a PSK":
		return a, Change{Kind: UsePSK, User: a.URI}
	case asks == "reinit":
		return a, Change{Kind: ReInit, User: a.URI}
	case asks == "destroy":
		return a, Change{Kind: DestroyRoom, User: a.URI}
	case asks == "add link":
		return a, Change{Kind: AddJoinLink, User: a.URI}
	case asks == "remove link":
		return a, Change{Kind: RemoveJoinLink, User: a.URI}
	case asks == "name the room":
		return a, Change{Kind: ChangeRoomName, User: a.URI}
	case asks == "set the avatar":
		return a, Change{Kind: ChangeRoomAvatar, User: a.URI}
	case asks == "set the subject":
		return a, Change{Kind: ChangeRoomSubject, User: a.URI}
	case asks == "set the mood":
		return a, Change{Kind: ChangeRoomMood, User: a.URI}
	case asks == "describe the room":
		return a, Change{Kind: ChangeRoomDescription, User: a.URI}
	case w[0] == "set":
		for id := ComponentID(0); id < 0x40; id++ {
			if componentName(id) == w[1] {
				return a, Change{Kind: ChangeComponent, User: a.URI, Component: id}
			}
		}
	case w[0] == "join":
		return a, Change{Kind: Join, User: a.URI, To: role(w[2])}
	case w[0] == "add":
		// as a proposal would have it, whether or not the user is there
		return a, Change{Kind: Add, User: users[w[1]], To: role(w[3])}
	case w[0] == "remove":
		c := list(users[w[1]], NoRole)
		c.Kind = Remove
		if users[w[1]] == a.URI {
			return a, Change{Kind: Remove, User: a.URI, From: s.list[a.URI]}
		}
		return a, c
	case w[0] == "kick":
		return a, Change{Kind: Kick, User: users[w[1]]}
	case w[0] == "change", w[0] == "unban":
		return a, list(users[w[1]], role(w[3]))
	case w[0] == "ban":
		return a, list(users[w[1]], BannedRole)
	}
	t.Fatalf("%q is not understood", asks)
	return a, Change{}
}

// publicRoom is a channel: zoe may come in by herself. No role is called banned, so nobody can be, though cathy, a publisher, has
// canBan and canUnban with a table for it.
func publicRoom(t testing.TB) *testState {
	c, _, err := Build(Channel, testParams)
	if err != nil {
		t.Fatal(err)
	}
	c.Roles.Roles[1].RoleName = "outcast"
	c.Roles.Roles[3].RoleCapabilities = append(c.Roles.Roles[3].RoleCapabilities, mimi.CanBan, mimi.CanUnBan)
	c.Roles.Roles[3].AuthorizedRoleChanges = moves(from(2, 1), from(1, 2))
	roles, err := NewRoles(c.Roles)
	if err != nil {
		t.Fatal(err)
	}
	s := &testState{roles: roles, base: c.Base, operational: c.Operational,
		list:    map[mimi.IdentifierURI]RoleIndex{alice: 4, bob: 2, cathy: 3, eve: 1, hub: 5},
		clients: map[mimi.IdentifierURI]int{alice: 1, bob: 1, cathy: 1}}
	return s.recount()
}

// What the moderated room has no example of, in a public one.
var publicDecisions = []decision{
	{"canOpenJoin: role 0 and its table", "zoe outside", "join as subscriber", ""},
	{"canOpenJoin: only to what the table of role 0 has", "zoe outside", "join as owner", "authorized_role_changes"},
	{"canOpenJoin: not on the list already", "bob outside", "join as subscriber", "already on the participant list"},
	{"canOpenJoin: not into a room that one is put out of", "eve outside", "join as subscriber", "already on the participant list"},
	{"canBan: role 1 must be named banned", "alice", "ban bob", ""}, // an ordinary change of the role, by canChangeUserRole
	{"canBan: role 1 must be named banned", "cathy", "ban bob", `role "publisher" lacks canChangeUserRole`},
	{"canUnban: role 1 must be named banned", "cathy", "unban eve to subscriber", `role "publisher" lacks canChangeUserRole`},
}

func TestDecisionTable(t *testing.T) {
	decide(t, moderatedRoom(t), decisions)
	decide(t, publicRoom(t), publicDecisions)
}

// Each capability that changes the room has a row that allows by it and one that refuses without it.
func TestDecisionTableIsComplete(t *testing.T) {
	table := append(slices.Clone(decisions), publicDecisions...)
	for _, c := range append(Capabilities()[:0:0],
		mimi.CanAddParticipant, mimi.CanAddOwnClient, mimi.CanOpenJoin, mimi.CanUseJoinCode, mimi.CanRemoveParticipant, mimi.CanRemoveOwnClient, mimi.CanRemoveSelf,
		mimi.CanKick, mimi.CanChangeUserRole, mimi.CanChangeOwnRole, mimi.CanBan, mimi.CanCreateJoinCode, mimi.CanDeleteJoinCode,
		mimi.CanChangeRoomName, mimi.CanChangeRoomDescription, mimi.CanChangeRoomAvatar, mimi.CanChangeRoomSubject, mimi.CanChangeRoomMood,
		mimi.CanChangeRoleDefinitions, mimi.CanChangePreauthorizedUserList, mimi.CanChangeRoomMembershipStyle, mimi.CanChangeOtherPolicyAttribute,
		mimi.CanChangeMlsOperationalPolicies, mimi.CanSendMLSReinitProposal, mimi.CanDestroyRoom) {
		allows, refuses := false, false
		for _, d := range table {
			if d.section == c.String() || strings.HasPrefix(d.section, c.String()+":") || strings.HasPrefix(d.section, c.String()+" ") || strings.HasPrefix(d.section, c.String()+",") {
				allows, refuses = allows || d.answer == "", refuses || d.answer != ""
			}
		}
		if !allows || !refuses {
			t.Errorf("%s: a row that allows: %v, one that refuses: %v", c, allows, refuses)
		}
	}
}

func decide(t *testing.T, s *testState, table []decision) {
	for _, d := range table {
		t.Run(d.actor+": "+d.asks, func(t *testing.T) {
			a, c := parseQuestion(t, s, d.actor, d.asks)
			got := Authorize(s, a, c)
			switch {
			case got == nil && d.answer != "":
				t.Errorf("%s: allowed, expected %q", d.section, d.answer)
			case got != nil && d.answer == "":
				t.Errorf("%s: %v", d.section, got)
			case got != nil && !strings.Contains(got.Error(), d.answer):
				t.Errorf("%s:\ngot  %v\nwant %s", d.section, got, d.answer)
			}
		})
	}
}

// A denial says the rule to programs as well.
func TestDenialFields(t *testing.T) {
	s := moderatedRoom(t)
	a, c := parseQuestion(t, s, "dave", "change bob to super_admin")
	d := Authorize(s, a, c)
	if d == nil || d.Reason != RoleChangeNotAuthorized || d.Actor != dave || d.ActorRole.Name != "moderator" || d.From.Index != 2 || d.To.Index != 6 ||
		d.Change.User != bob || len(d.Capabilities) != 1 || d.Capabilities[0] != mimi.CanChangeUserRole {
		t.Errorf("%+v", d)
	}
}

func TestJoinMethods(t *testing.T) {
	s := moderatedRoom(t)
	for _, test := range []struct {
		claims Claims
		to     RoleIndex
		want   JoinMethod
	}{
		{nil, 2, CodeJoin}, {nil, 3, CodeJoin}, {ClaimSet{hr}, 3, PreauthorizedJoin}, {ClaimSet{hr}, 2, CodeJoin}, {nil, 4, 0}, {nil, BannedRole, 0}, {nil, 0, 0},
	} {
		if got, d := AuthorizeJoin(s, Actor{URI: zoe, Kind: Joiner, Claims: test.claims}, test.to); got != test.want || (d == nil) != (test.want != 0) {
			t.Errorf("as %d: %v, %v", test.to, got, d)
		}
	}
	for _, test := range []struct {
		who  mimi.IdentifierURI
		code bool
		ok   bool
	}{{zoe, true, true}, {zoe, false, false}, {cathy, false, true}, {bob, false, false}, {eve, true, false}} {
		if d := MayFetchGroupInfo(s, Actor{URI: test.who, Kind: Joiner}, test.code); (d == nil) != test.ok {
			t.Errorf("GroupInfo for %s: %v", test.who, d)
		}
	}
	// operational policy may forbid coming in from outside at all
	op := *s.operational
	op.ExternalCommitAllowed = false
	s.operational = &op
	if d := Authorize(s, Actor{URI: cathy, Kind: Joiner}, Change{Kind: AddOwnClient, User: cathy}); d == nil || d.Reason != ExternalNotAllowed {
		t.Errorf("%v", d)
	}
}

// Constraints hold for the room after the whole Commit: maxima where a count grew, minima where it shrank. Decision 101
func TestConstraints(t *testing.T) {
	five := uint32(5)
	for _, test := range []struct {
		name   string
		change func(s *testState) *Effect
		want   string
	}{
		{"the last moderator", func(s *testState) *Effect { return s.effect(Change{Kind: Remove, User: dave}) },
			`role "moderator" needs at least 1 participants, 0 would be left (minimum_participants_constraint)`},
		{"a second enforcer", func(s *testState) *Effect { return s.effect(Change{Kind: Add, User: "mimi://b.example", To: 7}) }, `role "policy_enforcer" may have at most 0 active participants`},
		{"the last active one of a role", func(s *testState) *Effect {
			r, _ := NewRoles(&mimi.RoleData{Roles: []mimi.Role{{RoleIndex: 0}, {RoleIndex: 1, RoleName: "banned"}, {RoleIndex: 2, RoleName: "guest", MinimumActiveParticipantsConstraint: 1}, {RoleIndex: 3}, {RoleIndex: 5}, {RoleIndex: 6}, {RoleIndex: 7}}})
			s.roles = r
			return s.effect(Change{Kind: Kick, User: bob})
		}, `role "guest" needs at least 1 active participants, 0 would be left (minimum_active_participants_constraint)`},
		{"enforcers without clients", func(s *testState) *Effect {
			e := &Effect{}
			e.Move(0, 7, false, false)
			return e
		}, ""},
		{"a third enforcer", func(s *testState) *Effect {
			e := &Effect{}
			e.Move(0, 7, false, false)
			e.Move(0, 7, false, false)
			return e
		}, `role "policy_enforcer" may have at most 2 participants, there would be 3 (maximum_participants_constraint)`},
		{"max_users", func(s *testState) *Effect {
			s.base = &mimi.BaseRoomPolicy{MultiDevice: true, MaxUsers: &five}
			e := s.effect(Change{Kind: Add, User: zoe, To: 2})
			e.Users = 2
			return e
		}, "the room may have at most 5 users, there would be 6 (max_users)"},
		{"max_clients", func(s *testState) *Effect {
			s.base = &mimi.BaseRoomPolicy{MultiDevice: true, MaxClients: &five}
			return s.effect(Change{Kind: AddOwnClient, User: cathy})
		}, "the room may have at most 5 clients, there would be 6 (max_clients)"},
		{"max_clients binds only growth", func(s *testState) *Effect {
			one := uint32(1)
			s.base = &mimi.BaseRoomPolicy{MultiDevice: true, MaxClients: &one}
			return s.effect(Change{Kind: RemoveOwnClient, User: cathy})
		}, ""},
		{"multi_device", func(s *testState) *Effect {
			s.base = &mimi.BaseRoomPolicy{}
			return s.effect(Change{Kind: AddOwnClient, User: dave})
		}, "a user may have one client in this room, there would be 2 (multi_device)"},
		{"roles and list together", func(s *testState) *Effect {
			return &Effect{Updated: []ComponentID{mimi.ComponentRolesList, mimi.ComponentParticipantList}, OnlyRemovals: true}
		}, "roles_list and participant_list can't change together"},
		{"preauth and additions together", func(s *testState) *Effect {
			return &Effect{Updated: []ComponentID{mimi.ComponentPreauthList, mimi.ComponentParticipantList}}
		}, "preauth_list can change only with participant list updates that remove users"},
		{"preauth and removals together", func(s *testState) *Effect {
			return &Effect{Updated: []ComponentID{mimi.ComponentPreauthList, mimi.ComponentParticipantList}, OnlyRemovals: true}
		}, ""},
		{"a role in use goes", func(s *testState) *Effect {
			r, _ := NewRoles(&mimi.RoleData{Roles: []mimi.Role{{RoleIndex: 0}, {RoleIndex: 1}, {RoleIndex: 2}, {RoleIndex: 5}, {RoleIndex: 6}, {RoleIndex: 7}}})
			return &Effect{NewRoles: r}
		}, `the room has no role "attendee": 1 participants have it`},
		{"a role in use loses its clients", func(s *testState) *Effect {
			r, _ := NewRoles(&mimi.RoleData{Roles: []mimi.Role{{RoleIndex: 1}, {RoleIndex: 2, RoleName: "guest", MaximumActiveParticipantsConstraint: ptr(0)}, {RoleIndex: 3}, {RoleIndex: 5}, {RoleIndex: 6}, {RoleIndex: 7}}})
			return &Effect{NewRoles: r}
		}, `role "guest" may have at most 0 active participants, there would be 1`},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := moderatedRoom(t)
			d := CheckCommit(s, test.change(s))
			if (d == nil) != (test.want == "") || d != nil && !strings.Contains(d.Error(), test.want) {
				t.Errorf("got %v, want %q", d, test.want)
			}
		})
	}
}

// In a room with fixed_membership nobody comes or goes, but clients do (room policy §5).
func TestFixedMembership(t *testing.T) {
	c, list, err := Build(Direct, Params{Hub: "a.example", Creator: "mimi://a.example/u/alice", Others: []mimi.UserURI{"mimi://b.example/u/bob"}})
	if err != nil {
		t.Fatal(err)
	}
	roles, _ := NewRoles(c.Roles)
	s := &testState{roles: roles, base: c.Base, list: map[mimi.IdentifierURI]RoleIndex{}, clients: map[mimi.IdentifierURI]int{alice: 1}}
	for _, p := range list {
		s.list[p.User] = p.RoleIndex
	}
	s.recount()
	for _, test := range []struct {
		a  Actor
		c  Change
		ok bool
	}{
		{Actor{URI: alice}, Change{Kind: AddClient, User: bob, From: 2, To: 2}, true},
		{Actor{URI: alice}, Change{Kind: AddClient, User: zoe}, false},
		{Actor{URI: bob, Kind: Joiner}, Change{Kind: AddOwnClient, User: bob}, true},
		{Actor{URI: alice}, Change{Kind: RemoveOwnClient, User: alice}, true},
		{Actor{URI: alice}, Change{Kind: Add, User: zoe, To: 2}, false},
		{Actor{URI: alice}, Change{Kind: Leave, User: alice, From: 2}, false},
		{Actor{URI: alice}, Change{Kind: Remove, User: bob, From: 2}, false},
		{Actor{URI: zoe, Kind: Joiner}, Change{Kind: Join, User: zoe, To: 2}, false},
		{Actor{URI: hub, Kind: ExternalSender}, Change{Kind: Remove, User: bob, From: 2}, true}, // a deleted account
		{Actor{URI: hub, Kind: ExternalSender}, Change{Kind: Ban, User: zoe, To: 1}, false},
	} {
		if d := Authorize(s, test.a, test.c); (d == nil) != test.ok {
			t.Errorf("%s, %s: %v", test.a.URI, test.c.Kind, d)
		}
	}
}
