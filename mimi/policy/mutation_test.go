package policy

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// A question is something that can be asked of the engine, with the role that it is judged by and the capabilities of which
// the draft says that any one gives the right to it: written down here apart from the engine.
type question struct {
	name  string
	by    RoleIndex
	gives []Capability
	ask   func(*testState) bool
}

// mutationRoom is the moderated room with somebody in each of its roles, and a claim that gives each of them.
func mutationRoom(t *testing.T) *testState {
	s := moderatedRoom(t)
	s.list["mimi://c.example/u/frank"], s.clients["mimi://c.example/u/frank"] = 4, 1
	s.preauth = &mimi.PreAuthData{}
	for _, r := range s.roles.Indexes() {
		s.preauth.PreauthorizedEntries = append(s.preauth.PreauthorizedEntries, mimi.PreAuthRoleEntry{Claimset: claimFor(r), TargetRole: mimi.Role{RoleIndex: r}})
	}
	return s.recount()
}

func claimFor(r RoleIndex) ClaimSet {
	return ClaimSet{{ClaimID: mimi.ClaimID{CredentialType: 2, ID: []byte("role")}, ClaimValue: []byte{byte(r)}}}
}

// questions asks everything that there is to ask, of every role of the moderated room.
func questions(t *testing.T) []question {
	s := mutationRoom(t)
	var all []question
	actors := map[mimi.IdentifierURI]Actor{}
	for u := range s.list {
		actors[u] = Actor{URI: u}
		if u == hub {
			actors[u] = Actor{URI: u, Kind: ExternalSender}
		}
	}
	change := func(a Actor, by RoleIndex, c Change, gives ...Capability) {
		all = append(all, question{
			name: fmt.Sprintf("%s: %s %s %d->%d %s", a.URI, c.Kind, c.User, c.From, c.To, componentName(c.Component)), by: by, gives: gives,
			ask: func(s *testState) bool { return Authorize(s, a, c) == nil },
		})
	}
	for _, u := range slices.Sorted(maps.Keys(actors)) {
		a, by := actors[u], s.list[u]
		for _, other := range append(slices.Sorted(maps.Keys(s.list)), zoe) {
			is := s.list[other]
			for _, to := range s.roles.Indexes() {
				if is == to {
					continue
				}
				c := ListChange(s.roles, u, other, is, to, s.clients[other] > 0 && !s.roles.MayBeActive(to))
				switch c.Kind {
				case Add:
					change(a, by, c, mimi.CanAddParticipant)
				case Remove:
					change(a, by, c, mimi.CanRemoveParticipant)
				case Leave:
					change(a, by, c, mimi.CanRemoveSelf)
				case ChangeRole:
					change(a, by, c, mimi.CanChangeUserRole)
				case ChangeOwnRole:
					own := a
					own.Claims = claimFor(to)
					change(own, by, c, mimi.CanChangeOwnRole, mimi.CanRemoveOwnClient)
				case Ban:
					// room policy §8.1.3: canBan, or canChangeUserRole together with canKick, which takes the clients
					if is == NoRole {
						change(a, by, c, mimi.CanBan)
					} else {
						change(a, by, c, mimi.CanBan, mimi.CanChangeUserRole, mimi.CanKick)
					}
				case Unban:
					change(a, by, c, mimi.CanUnBan, mimi.CanChangeUserRole)
				}
			}
			if other != u && other != zoe {
				change(a, by, Change{Kind: Kick, User: other}, mimi.CanKick)
				change(a, by, Change{Kind: AddClient, User: other, From: is, To: is}, mimi.CanAddParticipant)
			}
		}
		change(a, by, Change{Kind: AddOwnClient, User: u}, mimi.CanAddOwnClient)
		change(a, by, Change{Kind: RemoveOwnClient, User: u}, mimi.CanRemoveOwnClient)
		change(a, by, Change{Kind: ChangeRoomName}, mimi.CanChangeRoomName)
		change(a, by, Change{Kind: ChangeRoomDescription}, mimi.CanChangeRoomDescription)
		change(a, by, Change{Kind: ChangeRoomAvatar}, mimi.CanChangeRoomAvatar)
		change(a, by, Change{Kind: ChangeRoomSubject}, mimi.CanChangeRoomSubject)
		change(a, by, Change{Kind: ChangeRoomMood}, mimi.CanChangeRoomMood)
		change(a, by, Change{Kind: AddJoinLink}, mimi.CanCreateJoinCode)
		change(a, by, Change{Kind: RemoveJoinLink}, mimi.CanDeleteJoinCode)
		change(a, by, Change{Kind: ReInit}, mimi.CanSendMLSReinitProposal)
		change(a, by, Change{Kind: DestroyRoom}, mimi.CanDestroyRoom)
		change(a, by, Change{Kind: ChangeGroupExtensions}, mimi.CanChangeMlsOperationalPolicies)
		for id, gives := range map[ComponentID]Capability{
			0x0001: mimi.CanChangeMlsOperationalPolicies, 0x0002: mimi.CanChangeMlsOperationalPolicies, 0x0003: mimi.CanChangeMlsOperationalPolicies,
			0x0024: mimi.CanChangeMlsOperationalPolicies, 0x0025: mimi.CanChangeRoleDefinitions, 0x0026: mimi.CanChangePreauthorizedUserList,
			0x0027: mimi.CanChangeRoomMembershipStyle, 0x0028: mimi.CanChangeOtherPolicyAttribute, 0x0029: mimi.CanChangeOtherPolicyAttribute,
			0x002b: mimi.CanChangeOtherPolicyAttribute, 0x002c: mimi.CanChangeOtherPolicyAttribute, 0x002d: mimi.CanChangeOtherPolicyAttribute,
			0x002e: mimi.CanChangeOtherPolicyAttribute, 0x002f: mimi.CanChangeOtherPolicyAttribute, 0x0030: mimi.CanChangeOtherPolicyAttribute,
		} {
			change(a, by, Change{Kind: ChangeComponent, Component: id}, gives)
		}
		all = append(all, messageQuestions(by)...)
		all = append(all, question{name: "submit", by: by, ask: func(s *testState) bool { return s.roles.MaySubmit(by) },
			gives: []Capability{mimi.CanSendMessage, mimi.CanReplyToMessage, mimi.CanReactToMessage, mimi.CanEditReaction, mimi.CanDeleteOwnReaction, mimi.CanReplyInTopic}})
	}
	for _, to := range []RoleIndex{2, 3, 4, 5, 6} {
		all = append(all,
			question{name: fmt.Sprintf("a stranger joins as %d", to), by: NoRole, gives: []Capability{mimi.CanUseJoinCode},
				ask: func(s *testState) bool {
					return Authorize(s, Actor{URI: zoe, Kind: Joiner}, Change{Kind: Join, User: zoe, To: to}) == nil
				}},
			question{name: fmt.Sprintf("somebody is preauthorized as %d", to), by: to, gives: []Capability{mimi.CanJoinIfPreauthorized},
				ask: func(s *testState) bool {
					m, d := AuthorizeJoin(s, Actor{URI: zoe, Kind: Joiner, Claims: claimFor(to)}, to)
					return d == nil && m == PreauthorizedJoin
				}})
	}
	return all
}

func messageQuestions(by RoleIndex) []question {
	var all []question
	add := func(name string, m Message, gives ...Capability) {
		all = append(all, question{name: fmt.Sprintf("role %d: %s", by, name), by: by, gives: gives,
			ask: func(s *testState) bool { return JudgeContent(&ContentPolicy{Roles: s.roles}, by, &m) == nil }})
	}
	add("say", Message{Act: Say}, mimi.CanSendMessage)
	add("start a topic", Message{Act: Say, Topic: "x"}, mimi.CanSendMessage, mimi.CanStartTopic)
	add("reply", Message{Act: Reply}, mimi.CanReplyToMessage, mimi.CanReplyInTopic)
	add("reply in topic", Message{Act: Reply, Topic: "x", TargetTopic: "x"}, mimi.CanReplyInTopic)
	add("react", Message{Act: React}, mimi.CanReactToMessage)
	add("replace a reaction", Message{Act: EditReaction, OwnTarget: true}, mimi.CanEditReaction)
	add("unlike", Message{Act: DeleteReaction, OwnTarget: true}, mimi.CanDeleteOwnReaction)
	add("delete another's reaction", Message{Act: DeleteReaction}, mimi.CanDeleteOtherReaction)
	add("edit", Message{Act: EditMessage, OwnTarget: true}, mimi.CanEditOwnMessage)
	add("edit another's", Message{Act: EditMessage})
	add("delete", Message{Act: DeleteMessage, OwnTarget: true}, mimi.CanDeleteOwnMessage)
	add("delete another's", Message{Act: DeleteMessage}, mimi.CanDeleteOtherMessage)
	add("change own topic", Message{Act: EditMessage, OwnTarget: true, Topic: "x"}, mimi.CanEditOwnTopic)
	add("change another's topic", Message{Act: EditMessage, Topic: "x"}, mimi.CanEditOtherTopic)
	add("link", Message{Act: Say, Links: 1}, mimi.CanSendMessage, mimi.CanSendLink)
	add("preview", Message{Act: Say, Links: 1, Previews: 1}, mimi.CanSendMessage, mimi.CanSendLink, mimi.CanSendLinkPreview)
	for kind, c := range map[AssetKind]Capability{Image: mimi.CanUploadImage, Audio: mimi.CanUploadAudio, Video: mimi.CanUploadVideo, Attachment: mimi.CanUploadAttachment} {
		add(fmt.Sprintf("asset %d", kind), Message{Act: Say, Assets: []Asset{{Kind: kind, MediaType: mls.MediaType{Type: []byte("x/y")}}}}, mimi.CanSendMessage, c)
	}
	return all
}

// Each capability taken from each role in turn makes some of its own actions fail, by holders of that role, and nothing else.
func TestMutation(t *testing.T) {
	all := questions(t)
	base := mutationRoom(t)
	before := make([]bool, len(all))
	asked := map[Capability]bool{}
	for i, q := range all {
		before[i] = q.ask(base)
		for _, c := range q.gives {
			asked[c] = true
		}
	}
	c, _, err := Build(Moderated, testParams)
	if err != nil {
		t.Fatal(err)
	}
	taken, bites := 0, 0
	for r := range c.Roles.Roles {
		role := &c.Roles.Roles[r]
		for _, gone := range role.RoleCapabilities {
			mutant := mimi.RoleData{Roles: slices.Clone(c.Roles.Roles)}
			mutant.Roles[r].RoleCapabilities = slices.DeleteFunc(slices.Clone(role.RoleCapabilities), func(c Capability) bool { return c == gone })
			s := mutationRoom(t)
			if s.roles, err = NewRoles(&mutant); err != nil {
				t.Fatal(err)
			}
			taken++
			fails := 0
			for i, q := range all {
				switch is := q.ask(s); {
				case is == before[i]:
				case is:
					t.Errorf("without %s, role %q may: %s", gone, role.RoleName, q.name)
				case q.by != role.RoleIndex || !slices.Contains(q.gives, gone):
					t.Errorf("without %s for role %q this fails: %s", gone, role.RoleName, q.name)
				default:
					fails++
				}
			}
			if fails > 0 {
				bites++
				continue
			}
			// what has another way to it does not fail: reactions keep a hub's door open, canChangeUserRole unbans
			alternative := gone == mimi.CanUnBan || gone == mimi.CanChangeUserRole
			if asked[gone] && !alternative {
				t.Errorf("without %s, role %q can still do everything", gone, role.RoleName)
			}
		}
	}
	t.Logf("%d questions, %d capabilities taken, %d of them asked for", len(all), taken, bites)
	if bites < 90 {
		t.Errorf("only %d of %d removals made a difference", bites, taken)
	}
}
