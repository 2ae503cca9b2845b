package room

import (
	"crypto/rand"
	"errors"
	"fmt"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
)

// moderatedWorld has alice (super_admin), bob (guest), cathy (speaker) and dave (moderator), with a client each.
func moderatedWorld(t testing.TB) (w *world, a, b, c, d *device) {
	w = newWorld(t, policy.Moderated, nil)
	a, b, c, d = w.devices[0], w.device(bob, "b1"), w.device(cathy, "c1"), w.device(dave, "d1")
	w.must(a.add("guest", b))
	w.must(a.add("speaker", c))
	w.must(a.add("moderator", d))
	return
}

// What each refusal says, and that policy is what it names.
func TestRefusals(t *testing.T) {
	w, a, b, c, d := moderatedWorld(t)
	erin := w.device("mimi://c.example/u/erin", "e1")
	for _, test := range []struct {
		name string
		do   func() (*Next, error)
		says string
	}{
		{"guest adds", func() (*Next, error) { return b.add("guest", erin) },
			`mimi://b.example/u/bob can't add mimi://c.example/u/erin as role "guest": role "guest" lacks canAddParticipant`},
		{"moderator adds beyond its table", func() (*Next, error) { return d.add("super_admin", erin) },
			`authorized_role_changes of role "moderator" do not go from role "no_role" to role "super_admin"`},
		{"speaker removes", func() (*Next, error) { return c.commit(c.room.RemoveUsers(rand.Reader, bob)) }, `role "speaker" lacks canRemoveParticipant`},
		{"moderator removes the super_admin", func() (*Next, error) { return d.commit(d.room.RemoveUsers(rand.Reader, alice)) },
			`authorized_role_changes of role "moderator" do not go from role "super_admin"`},
		{"guest kicks", func() (*Next, error) { return b.commit(b.room.Kick(rand.Reader, cathy)) }, "lacks canKick"},
		{"speaker bans", func() (*Next, error) { return c.commit(c.room.Ban(rand.Reader, bob)) }, "lacks canBan or canChangeUserRole"},
		{"guest changes roles", func() (*Next, error) { return b.commit(b.room.ChangeRole(rand.Reader, w.role("speaker"), cathy)) }, ""},
		{"guest brings another client", func() (*Next, error) {
			return w.device(bob, "b2").join(JoinParams{})
		}, "lacks canAddOwnClient"},
		{"guest names the room", func() (*Next, error) {
			return b.commit(b.room.SetMetadata(rand.Reader, mimi.RoomMetaData{RoomName: "Bob's"}))
		}, "lacks canChangeRoomName"},
		{"moderator describes the room", func() (*Next, error) {
			m := *w.hub.View().Metadata()
			m.RoomDescriptions = []mimi.RichDescription{{DescriptionContent: []byte("x")}}
			return d.commit(d.room.SetMetadata(rand.Reader, m))
		}, "lacks canChangeRoomDescription"},
		{"moderator changes roles_list", func() (*Next, error) {
			return d.commit(d.room.SetComponents(rand.Reader, Component{mimi.ComponentRolesList, w.hub.View().Components().Roles}))
		}, "lacks canChangeRoleDefinitions"},
		{"moderator changes status policy", func() (*Next, error) {
			return d.commit(d.room.SetComponents(rand.Reader, Component{mimi.ComponentStatusNotificationPolicy, &mimi.StatusNotificationPolicy{}}))
		}, "can't change status_notification_policy: role \"moderator\" lacks canChangeOtherPolicyAttribute"},
		{"the last moderator goes", func() (*Next, error) { return a.commit(a.room.RemoveUsers(rand.Reader, dave)) },
			`role "moderator" needs at least 1 participants, 0 would be left (minimum_participants_constraint)`},
		{"restart by a moderator", func() (*Next, error) {
			return d.commit(d.room.ReInit(rand.Reader, mls.ReInit{GroupID: []byte("next"), Version: mls.MLS10, CipherSuite: testSuite}))
		}, "lacks canSendMLSReinitProposal"},
		{"extensions by a moderator", func() (*Next, error) {
			e := d.room.Group().Context().Extensions
			return d.commit(d.room.Commit(rand.Reader, 0, mls.Proposal{Type: mls.ProposalGroupContextExtensions, GroupContextExtensions: &mls.GroupContextExtensions{Extensions: e}}))
		}, "lacks canChangeMlsOperationalPolicies"},
		{"external senders changed", func() (*Next, error) {
			e := a.room.Group().Context().Extensions.Without(mls.ExtensionExternalSenders)
			return a.commit(a.room.Commit(rand.Reader, 0, mls.Proposal{Type: mls.ProposalGroupContextExtensions, GroupContextExtensions: &mls.GroupContextExtensions{Extensions: e}}))
		}, ErrExtensionsChanged.Error()},
		{"participant list removed", func() (*Next, error) {
			return a.commit(a.room.Commit(rand.Reader, 0, mls.Proposal{Type: mls.ProposalAppDataUpdate,
				AppDataUpdate: &mls.AppDataUpdate{ComponentID: mimi.ComponentParticipantList, Op: mls.AppDataOpRemove}}))
		}, "removed"},
		{"unlisted user's client added", func() (*Next, error) {
			k := erin.keyPackage()
			return a.commit(a.room.Commit(rand.Reader, 0, mls.Proposal{Type: mls.ProposalAdd, Add: &mls.Add{KeyPackage: k}}))
		}, "erin: not on the participant list"},
		{"list entry removed, client left", func() (*Next, error) {
			i, _ := a.room.View().IndexOf(bob.Identifier())
			p, _ := appData(mimi.ComponentParticipantList, &mimi.ParticipantListUpdate{RemovedIndices: []uint32{i}})
			return a.commit(a.room.Commit(rand.Reader, 0, p))
		}, "without being on the participant list"},
		{"banned, client left", func() (*Next, error) {
			i, _ := a.room.View().IndexOf(bob.Identifier())
			p, _ := appData(mimi.ComponentParticipantList, &mimi.ParticipantListUpdate{ChangedRoleParticipants: []mimi.UserindexRolePair{{UserIndex: i, RoleIndex: 1}}})
			return a.commit(a.room.Commit(rand.Reader, 0, p))
		}, "with role 1, which has none"},
		{"roles and list at once", func() (*Next, error) {
			i, _ := a.room.View().IndexOf(bob.Identifier())
			list, _ := appData(mimi.ComponentParticipantList, &mimi.ParticipantListUpdate{ChangedRoleParticipants: []mimi.UserindexRolePair{{UserIndex: i, RoleIndex: 3}}})
			roles, _ := appData(mimi.ComponentRolesList, w.hub.View().Components().Roles)
			return a.commit(a.room.Commit(rand.Reader, 0, list, roles))
		}, "roles_list and participant_list can't change together"},
		{"one user twice", func() (*Next, error) {
			i, _ := a.room.View().IndexOf(bob.Identifier())
			change := func(role policy.RoleIndex) mls.Proposal {
				p, _ := appData(mimi.ComponentParticipantList, &mimi.ParticipantListUpdate{ChangedRoleParticipants: []mimi.UserindexRolePair{{UserIndex: i, RoleIndex: role}}})
				return p
			}
			return a.commit(a.room.Commit(rand.Reader, 0, change(3), change(4)))
		}, mimi.ErrParticipantTwice.Error()},
		{"two metadata updates", func() (*Next, error) {
			p, _ := appData(mimi.ComponentRoomMetadata, w.hub.View().Metadata())
			return a.commit(a.room.Commit(rand.Reader, 0, p, p))
		}, ErrComponentTwice.Error()},
		{"another room URI", func() (*Next, error) {
			m := *w.hub.View().Metadata()
			m.RoomURI = "mimi://a.example/r/other"
			p, _ := appData(mimi.ComponentRoomMetadata, &m)
			return a.commit(a.room.Commit(rand.Reader, 0, p))
		}, mimi.ErrMetadataRoomURI.Error()},
		{"franking agent by a member", func() (*Next, error) {
			return a.commit(a.room.SetComponents(rand.Reader, Component{mimi.ComponentFrankingAgent,
				&mimi.FrankingAgentData{FrankingSignatureKey: []byte{1}, Credential: mls.BasicCredential([]byte("mimi://a.example"))}}))
		}, ErrFrankingAgent.Error()},
		{"role in use deleted", func() (*Next, error) {
			roles := *w.hub.View().Components().Roles
			roles.Roles = append(append([]mimi.Role(nil), roles.Roles[:2]...), roles.Roles[3:]...)
			return a.commit(a.room.SetComponents(rand.Reader, Component{mimi.ComponentRolesList, &roles}))
		}, "1 participants have it"},
		{"the same client twice", func() (*Next, error) {
			x := &device{w: w, client: c.client, user: cathy}
			k := x.keyPackage()
			return a.commit(a.room.AddUsers(rand.Reader, 0, Addition{User: cathy, KeyPackages: []mls.KeyPackage{k}}))
		}, ErrClientTwice.Error()},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.t = t
			n, err := test.do()
			w.refused(test.says, n, err)
		})
	}
}

// A hub that lets a forbidden Commit through is not followed: the client stays in the last good state and says why.
func TestClientsDoNotTrustTheHub(t *testing.T) {
	w, a, b, c, _ := moderatedWorld(t)
	// bob's client is changed to believe that it may do anything
	cheat := groupWith(t, b.room, &lenient{b.room.rules})
	proposals, err := b.room.removal(policy.NoRole, []mimi.UserURI{cathy})
	if err != nil {
		t.Fatal(err)
	}
	staged, err := cheat.Stage(rand.Reader, mls.CommitOptions{Proposals: proposals, AuthenticatedData: []byte{0}})
	if err != nil {
		t.Fatal(err)
	}
	forged, err := bundle(staged.Message(), nil, staged.GroupInfo())
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.hub.Update(UpdateInput{From: "b.example", Bundle: forged, Now: w.now, Rand: rand.Reader})
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Code != mimi.UpdateNotAllowed || Denied(err) == nil {
		t.Fatalf("the hub says %v", err)
	}
	for _, d := range []*device{a, c} {
		_, err := d.room.StageReceived(&forged.ProposalOrCommit)
		if d := Denied(err); d == nil || d.Capabilities[0] != mimi.CanRemoveParticipant {
			t.Errorf("%s says %v", d, err)
		}
	}
	w.check()
	w.must(a.commit(a.room.Ban(rand.Reader, bob))) // and the room goes on
}

type lenient struct{ *Rules }

func (l *lenient) Judge(*mls.Changes) error { return nil }

func groupRecords(t testing.TB, r *Room) func(func([]byte, []byte) bool) {
	t.Helper()
	records, err := r.Group().Flush()
	if err != nil {
		t.Fatal(err)
	}
	return func(yield func([]byte, []byte) bool) {
		for _, r := range records {
			if r.Value != nil && !yield(r.Key, r.Value) {
				return
			}
		}
	}
}

// Constraints are looked at after the whole Commit: the only moderator hands over in one.
func TestHandOver(t *testing.T) {
	w, a, _, _, _ := moderatedWorld(t)
	change := func(user mimi.UserURI, role string) mimi.UserindexRolePair {
		i, _ := a.room.View().IndexOf(user.Identifier())
		return mimi.UserindexRolePair{UserIndex: i, RoleIndex: w.role(role)}
	}
	p, err := appData(mimi.ComponentParticipantList, &mimi.ParticipantListUpdate{ChangedRoleParticipants: []mimi.UserindexRolePair{change(dave, "speaker")}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.commit(a.room.Commit(rand.Reader, 0, p))
	w.refused("minimum_participants_constraint", nil, err)
	p, err = appData(mimi.ComponentParticipantList, &mimi.ParticipantListUpdate{ChangedRoleParticipants: []mimi.UserindexRolePair{
		change(dave, "speaker"), change(cathy, "moderator")}})
	if err != nil {
		t.Fatal(err)
	}
	w.must(a.commit(a.room.Commit(rand.Reader, 0, p)))
}

// A new client proposes itself; whoever is in commits it (room policy §8.1.1: via an external commit or external proposal).
func TestClientProposesItself(t *testing.T) {
	w, a, _, _, _ := moderatedWorld(t)
	propose := func(d *device) (*Next, error) {
		k := d.keyPackage()
		m, err := mls.SignExternalProposal(rand.Reader, d.key.Signer, w.hub.View().Context(), mls.Sender{Type: mls.SenderNewMemberProposal},
			mls.Proposal{Type: mls.ProposalAdd, Add: &mls.Add{KeyPackage: k}}, []byte{0})
		if err != nil {
			t.Fatal(err)
		}
		message, err := mimi.NewMessage(*m)
		if err != nil {
			t.Fatal(err)
		}
		return w.update(d.user.Host(), &mimi.HandshakeBundle{ProposalOrCommit: message})
	}
	_, err := propose(w.device(bob, "b2"))
	w.refused(`role "guest" lacks canAddOwnClient`, nil, err)
	_, err = propose(w.device("mimi://c.example/u/zoe", "z1"))
	w.refused("not on the participant list", nil, err)
	c2 := w.device(cathy, "c2")
	if _, err := propose(c2); err != nil {
		t.Fatal(err)
	}
	w.must(a.commit(a.room.Commit(rand.Reader, 0)))
	if c2.room == nil || w.hub.Clients(cathy) != 2 {
		t.Error("the new client is not in")
	}
}

func TestBanKickAndReturn(t *testing.T) {
	w, a, b, c, d := moderatedWorld(t)
	n := w.must(d.commit(d.room.Ban(rand.Reader, bob)))
	if len(n.Unlisted) != 1 || b.room.Active() {
		t.Errorf("ban: %+v", n)
	}
	// whoever is banned comes back in no way
	again := w.device(bob, "b9")
	_, err := again.join(JoinParams{HasCode: true})
	w.refused("can't", nil, err)
	if w.hub.MayFetchGroupInfo(Identity{User: bob}, true) == nil {
		t.Error("a banned user gets the GroupInfo")
	}
	_, err = a.add("guest", again)
	w.refused("", nil, err)
	w.must(d.commit(d.room.ChangeRole(rand.Reader, w.role("attendee"), bob)))
	w.must(again.join(JoinParams{}))

	// a kicked user stays a participant, and comes back
	w.must(d.commit(d.room.Kick(rand.Reader, cathy)))
	if c.room.Active() || w.hub.Clients(cathy) != 0 {
		t.Error("cathy was not kicked")
	}
	if _, ok := w.hub.View().RoleOf(cathy.Identifier()); !ok {
		t.Error("cathy is off the list")
	}
	w.must(w.device(cathy, "c2").join(JoinParams{}))
}

// Ways of joining alone: open, preauthorized, by code.
func TestJoinAlone(t *testing.T) {
	t.Run("open", func(t *testing.T) {
		w := newWorld(t, policy.Channel, nil)
		n := w.must(w.device(bob, "b1").join(JoinParams{}))
		if n.Joined != policy.OpenJoin || n.JoinedUser != bob || len(n.Listed) != 1 || n.JoinedRole != w.role("subscriber") {
			t.Errorf("%+v", n)
		}
		_, err := w.device(cathy, "c1").join(JoinParams{Role: w.role("owner")})
		w.refused("authorized_role_changes", nil, err)
	})
	// Credentials that are tokens have no registered type; the claims of one, once it is verified, count the same (Decision 90).
	t.Run("by token", func(t *testing.T) {
		const jwt, cwt = mls.CredentialType(0xF0F0), mls.CredentialType(0xF0F1)
		w := newWorld(t, policy.Moderated, func(c *policy.Components, _ *[]mimi.UserRolePair) {
			c.Preauth = &mimi.PreAuthData{PreauthorizedEntries: []mimi.PreAuthRoleEntry{
				{Claimset: []mimi.Claim{{ClaimID: mimi.ClaimID{CredentialType: jwt, ID: []byte("department")}, ClaimValue: []byte(`"HR"`)}}, TargetRole: mimi.Role{RoleIndex: 5}},
				{Claimset: []mimi.Claim{{ClaimID: mimi.ClaimID{CredentialType: cwt, ID: []byte("\x64dept")}, ClaimValue: []byte("\x62HR")}}, TargetRole: mimi.Role{RoleIndex: 4}}}}
		})
		var err error
		if w.verifier.claims[bob], err = policy.JWTClaims(jwt, []byte(`{"sub": "bob", "department": "HR"}`)); err != nil {
			t.Fatal(err)
		}
		if w.verifier.claims[cathy], err = policy.CWTClaims(cwt, []byte{0xa1, 0x64, 'd', 'e', 'p', 't', 0x62, 'H', 'R'}); err != nil {
			t.Fatal(err)
		}
		if w.verifier.claims[dave], err = policy.JWTClaims(jwt, []byte(`{"department": "IT"}`)); err != nil {
			t.Fatal(err)
		}
		for user, role := range map[mimi.UserURI]string{bob: "moderator", cathy: "speaker"} {
			if n := w.must(w.device(user, "x1").join(JoinParams{Role: w.role(role)})); n.Joined != policy.PreauthorizedJoin || n.JoinedRole != w.role(role) {
				t.Errorf("%s: %+v", user, n)
			}
		}
		_, err = w.device(dave, "d1").join(JoinParams{Role: w.role("moderator")})
		w.refused("dave can't", nil, err)
	})
	t.Run("by department", func(t *testing.T) {
		department := mimi.Claim{ClaimID: mimi.ClaimID{CredentialType: mls.CredentialX509, ID: []byte{6, 3, 0x55, 4, 0x0b}}, ClaimValue: []byte("HR")}
		w := newWorld(t, policy.Administered, func(c *policy.Components, _ *[]mimi.UserRolePair) {
			c.Preauth = &mimi.PreAuthData{PreauthorizedEntries: []mimi.PreAuthRoleEntry{
				{Claimset: []mimi.Claim{department}, TargetRole: mimi.Role{RoleIndex: 3}}}}
			c.Roles.Roles[3].RoleCapabilities = append(c.Roles.Roles[3].RoleCapabilities, mimi.CanJoinIfPreauthorized)
		})
		w.verifier.claims[bob] = policy.ClaimSet{department}
		n := w.must(w.device(bob, "b1").join(JoinParams{}))
		if n.Joined != policy.PreauthorizedJoin || n.JoinedRole != w.role("group_admin") {
			t.Errorf("%+v", n)
		}
		// cathy is of no department: only a code helps her, which the hub must have seen
		_, err := w.device(cathy, "c1").join(JoinParams{Role: w.role("group_admin")})
		w.refused("authorized_role_changes", nil, err)
		n = w.must(w.device(cathy, "c2").join(JoinParams{HasCode: true}))
		if n.Joined != policy.CodeJoin || n.JoinedRole != w.role("ordinary_user") || n.JoinedKey == nil {
			t.Errorf("%+v", n)
		}
		// once her credential says so, she takes the role
		w.verifier.claims[cathy] = policy.ClaimSet{department}
		c := w.devices[len(w.devices)-1]
		c.room.self.Claims = w.verifier.claims[cathy]
		w.must(c.commit(c.room.ChangeOwnRole(rand.Reader)))
		if role, _ := w.hub.View().RoleOf(cathy.Identifier()); role != w.role("group_admin") {
			t.Errorf("cathy has role %d", role)
		}
	})
}

// An external Commit drops what is pending; the hub asks again for those who were to go. Decisions 35, 60
func TestLeaveAcrossExternalCommit(t *testing.T) {
	w := newWorld(t, policy.Cooperative, nil)
	a1, b1, b2, c1 := w.devices[0], w.device(bob, "b1"), w.device(bob, "b2"), w.device(cathy, "c1")
	w.must(a1.add("ordinary_user", b1))
	w.must(b2.join(JoinParams{}))
	w.must(a1.add("ordinary_user", c1))
	p, err := b1.room.Leave(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.update("b.example", p.Bundle); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(w.hub.receivers()); got != "[a.example c.example]" {
		t.Errorf("messages go to %s while bob is about to leave", got)
	}
	n := w.must(w.device(cathy, "c2").join(JoinParams{}))
	if k := len(n.Events[0].Message.ExternalProposals); k != 2 {
		t.Fatalf("%d proposals are stapled, expected the removal from the list and of one client", k)
	}
	if b1.room.Active() || w.hub.Clients(bob) != 1 || w.hub.Effective(bob) != policy.NoRole {
		t.Errorf("bob has %d clients and the effective role %d", w.hub.Clients(bob), w.hub.Effective(bob))
	}
	_, err = w.device(bob, "b3").join(JoinParams{})
	w.refused(PendingDescription, nil, err)
	w.reload()
	w.must(c1.commit(c1.room.Commit(rand.Reader, 0)))
	if _, ok := w.hub.View().RoleOf(bob.Identifier()); ok || b2.room.Active() {
		t.Error("bob has not left")
	}
}

// Every Commit of a member must cover what is pending. Decision 34
func TestPendingMustBeCommitted(t *testing.T) {
	w, a, b, c, d := moderatedWorld(t)
	stale, err := a.room.Commit(rand.Reader, 0)
	if err != nil {
		t.Fatal(err)
	}
	p, err := b.room.Leave(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.update("b.example", p.Bundle); err != nil {
		t.Fatal(err)
	}
	_, err = w.hub.Update(UpdateInput{From: "a.example", Bundle: stale.Bundle(), Now: w.now, Rand: rand.Reader})
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Description != PendingDescription || refusal.Response().ResponseCode != mimi.UpdateNotAllowed {
		t.Fatalf("%v", err)
	}
	// a second proposal about bob can't be committed with the first
	clash, err := d.room.Propose(rand.Reader, mustRemoval(t, d, bob)...)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.hub.Update(UpdateInput{From: "b.example", Bundle: clash.Bundle, Now: w.now, Rand: rand.Reader})
	if !errors.As(err, &refusal) || refusal.Code != mimi.UpdateInvalidProposal || len(refusal.InvalidProposals) != 1 {
		t.Fatalf("%v", err)
	}
	d.room.Drop(clash)
	w.must(c.commit(c.room.Commit(rand.Reader, 0)))
	// and a Commit of the epoch before says which epoch it is
	_, err = w.hub.Update(UpdateInput{From: "a.example", Bundle: stale.Bundle(), Now: w.now, Rand: rand.Reader})
	if !errors.As(err, &refusal) || refusal.Code != mimi.UpdateWrongEpoch || refusal.CurrentEpoch != w.hub.Epoch() {
		t.Fatalf("%v", err)
	}
}

// What no Commit could take must not become pending, since every Commit must then take it: it would stop the room.
func TestNothingStopsTheRoom(t *testing.T) {
	w, a, b, c, _ := moderatedWorld(t)
	send := func(m *mls.MLSMessage, err error) error {
		if err != nil {
			t.Fatal(err)
		}
		message, err := mimi.NewMessage(*m)
		if err != nil {
			t.Fatal(err)
		}
		n, err := w.hub.Update(UpdateInput{From: b.user.Host(), Bundle: &mimi.HandshakeBundle{ProposalOrCommit: message}, Now: w.now, Rand: rand.Reader})
		if err == nil {
			w.save(n)
			w.deliver(n)
		}
		for _, p := range b.room.Group().Pending() {
			if err != nil {
				b.room.Group().DropPending(p.Ref)
			}
		}
		return err
	}
	o := mls.SendOptions{AuthenticatedData: []byte{0}}
	group := b.room.Group()
	for name, p := range map[string]mls.Proposal{
		"a PSK that nobody has":                {Type: mls.ProposalPSK, PreSharedKey: &mls.PreSharedKey{PSK: mls.PreSharedKeyID{Type: mls.PSKExternal, PSKID: []byte("x"), PSKNonce: make([]byte, 32)}}},
		"an update of the links that can't be": {Type: mls.ProposalAppDataUpdate, AppDataUpdate: &mls.AppDataUpdate{ComponentID: mimi.ComponentJoinLinks, Op: mls.AppDataOpUpdate, Update: []byte{4, 0, 0, 0, 7, 0}}},
		"an unknown component":                 {Type: mls.ProposalAppDataUpdate, AppDataUpdate: &mls.AppDataUpdate{ComponentID: 0x7777, Op: mls.AppDataOpUpdate}},
		"somebody who is gone":                 {Type: mls.ProposalRemove, Remove: &mls.Remove{Removed: 77}},
	} {
		m, err := group.Propose(rand.Reader, p, o)
		if err != nil {
			t.Logf("%s: the client itself says %v", name, err)
			continue
		}
		if err := send(m, nil); err == nil {
			t.Errorf("%s is pending", name)
		}
	}
	// a new leaf that does not support what the room requires
	leaf := b.leaf()
	leaf.Extensions = nil
	m, err := group.ProposeUpdate(rand.Reader, &leaf, o)
	if err != nil {
		t.Logf("a poor leaf: the client itself says %v", err)
	} else if err := send(m, nil); err == nil {
		t.Error("a poor leaf is pending")
	} else {
		t.Logf("a poor leaf: %v", err)
	}
	w.must(a.commit(a.room.Commit(rand.Reader, 0)))
	// a good one is taken
	good := b.leaf()
	if err := send(group.ProposeUpdate(rand.Reader, &good, o)); err != nil {
		t.Fatal(err)
	}
	w.must(c.commit(c.room.Commit(rand.Reader, 0)))
}

// In a room of SemiPrivateMessages the hub judges what followers can't read. Decision 120
func TestSemiPrivateRoom(t *testing.T) {
	w := newWorldOf(t, policy.Cooperative, nil, true)
	a, b1, b2, c := w.devices[0], w.device(bob, "b1"), w.device(bob, "b2"), w.device(cathy, "c1")
	n := w.must(a.add("ordinary_user", b1))
	if n.Events[0].Message.Message.WireFormat != mls.WireFormatSemiPrivateMessage || n.Events[0].Message.Kind() != mimi.FanoutCommit {
		t.Errorf("the commit is a %s", n.Events[0].Message.Message.WireFormat)
	}
	w.must(b2.join(JoinParams{})) // external commits stay public
	w.must(b1.add("ordinary_user", c))
	p, err := b1.room.Leave(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if p.Bundle.ProposalOrCommit.WireFormat != mls.WireFormatPublicMessage || p.Bundle.MoreProposals[0].WireFormat != mls.WireFormatSemiPrivateMessage {
		t.Error("SelfRemove is public, the rest is not")
	}
	if _, err := w.update("b.example", p.Bundle); err != nil {
		t.Fatal(err)
	}
	w.reload()
	w.must(c.commit(c.room.Commit(rand.Reader, 0)))
	_, err = c.commit(c.room.Ban(rand.Reader, alice))
	w.refused("lacks canBan", nil, err)

	info, tree, err := c.room.First(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := NewHub(HubConfig{Verifier: w.verifier, Signer: w.hubCfg.Signer}, testRoom, cathy, info, tree.RatchetTree, 1); err == nil {
		t.Error("a hub takes up a room that it can't read")
	}

	// who sends a PublicMessage there is refused by the hub and by the others
	staged, err := groupWith(t, c.room, &lenient{c.room.rules}).Stage(rand.Reader, mls.CommitOptions{AuthenticatedData: []byte{0}})
	if err != nil {
		t.Fatal(err)
	}
	forged, err := bundle(staged.Message(), nil, staged.GroupInfo())
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.hub.Update(UpdateInput{From: "c.example", Bundle: forged, Now: w.now, Rand: rand.Reader})
	w.refused(ErrHandshakeFormat.Error(), nil, err)
	if _, err := a.room.StageReceived(&forged.ProposalOrCommit); !errors.Is(err, ErrHandshakeFormat) {
		t.Errorf("%v", err)
	}
}

// A room can't begin to use SemiPrivateMessages that its hub could not read.
func TestSemiPrivateLater(t *testing.T) {
	w := newWorld(t, policy.Cooperative, func(c *policy.Components, _ *[]mimi.UserRolePair) {
		for i := range c.Roles.Roles {
			c.Roles.Roles[i].RoleCapabilities = append(c.Roles.Roles[i].RoleCapabilities, mimi.CanChangeMlsOperationalPolicies)
		}
	})
	a := w.devices[0]
	op := *w.hub.View().Operational()
	op.HandshakeFormats = []mls.WireFormat{mls.WireFormatPublicMessage, mls.WireFormatSemiPrivateMessage}
	staged, err := a.room.SetComponents(rand.Reader, Component{ID: mimi.ComponentMLSOperationalPolicy, Data: &op})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.update("a.example", staged.Bundle())
	w.refused("SemiPrivateMessages of the room are not for the key of this hub", nil, err)
}

// groupWith is the MLS group of a client with other rules.
func groupWith(t testing.TB, r *Room, rules mls.Rules) *mls.Group {
	t.Helper()
	g, err := mls.LoadGroup(mls.Config{Rules: rules}, groupRecords(t, r))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func mustRemoval(t *testing.T, d *device, user mimi.UserURI) []mls.Proposal {
	p, err := d.room.removal(policy.NoRole, []mimi.UserURI{user})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSubmit(t *testing.T) {
	w, a, b, c, _ := moderatedWorld(t)
	send := func(d *device) *mimi.Message {
		m, err := d.room.Encrypt(rand.Reader, []byte("x"), make([]byte, 32))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	early := send(c)
	submit := func(from mimi.ProviderDomain, user mimi.UserURI, m *mimi.Message) error {
		s, err := w.hub.Submit(SubmitInput{From: from, Sending: user, Message: m, Now: w.now})
		if err == nil {
			if len(s.FrankingTag) != 32 || s.Accepted <= w.hub.LastAccepted() {
				t.Errorf("%+v", s)
			}
			w.save(s.Next)
		}
		return err
	}
	if err := submit("b.example", bob, send(b)); err != nil {
		t.Errorf("a guest may react: %v", err)
	}
	if err := submit("a.example", bob, send(b)); err == nil {
		t.Error("a provider speaks for another's user")
	}
	if err := submit("b.example", "mimi://b.example/u/nobody", send(b)); err == nil {
		t.Error("a stranger may speak")
	}
	for range 3 { // the tolerance of the presets
		w.must(a.commit(a.room.Commit(rand.Reader, 0)))
	}
	if err := submit("c.example", cathy, early); err != nil {
		t.Errorf("three epochs late: %v", err)
	}
	got, err := a.room.Decrypt(early)
	if err != nil || got.Sender.User != cathy {
		t.Errorf("%+v, %v", got, err)
	}
	w.must(a.commit(a.room.Commit(rand.Reader, 0)))
	var refusal *SubmitRefusal
	if err := submit("c.example", cathy, early); !errors.As(err, &refusal) || refusal.Code != mimi.SubmitEpochTooOld || refusal.Response().CurrentEpoch != w.hub.Epoch() {
		t.Errorf("four epochs late: %v", err)
	}
}

// A late message is judged by who its sender was then: also of somebody who is gone since.
func TestLateMessageOfARemovedClient(t *testing.T) {
	w, a, _, c, d := moderatedWorld(t)
	m, err := c.room.Encrypt(rand.Reader, []byte("bye"), nil)
	if err != nil {
		t.Fatal(err)
	}
	w.must(a.commit(a.room.RemoveUsers(rand.Reader, cathy)))
	records, err := d.room.Flush()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Load(w.config(), func(yield func([]byte, []byte) bool) {
		for _, r := range records {
			if r.Value != nil && !yield(r.Key, r.Value) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := again.Decrypt(m)
	if err != nil || got.Sender.User != cathy || again.View().Roles().Name(got.Role) != "speaker" {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestDirect(t *testing.T) {
	w := newWorld(t, policy.Direct, nil, bob)
	a1, b1, b2 := w.devices[0], w.device(bob, "b1"), w.device(bob, "b2")
	w.must(a1.commit(a1.room.AddUsers(rand.Reader, 0, Addition{User: bob, KeyPackages: []mls.KeyPackage{b1.keyPackage()}})))
	w.must(b2.join(JoinParams{}))
	_, err := a1.add("participant", w.device(cathy, "c1"))
	w.refused("the participants of this room are fixed", nil, err)
	_, err = w.device(cathy, "c2").join(JoinParams{})
	w.refused("can't", nil, err)
	p, err := b1.room.Leave(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.update("b.example", p.Bundle)
	w.refused("the participants of this room are fixed", nil, err)
	b1.room.Drop(p)
	// but a user can take all its clients away
	p, err = b1.room.LeaveAsClient(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.update("b.example", p.Bundle); err != nil {
		t.Fatal(err)
	}
	w.must(a1.commit(a1.room.Commit(rand.Reader, 0)))
	if w.hub.Clients(bob) != 1 {
		t.Errorf("bob has %d clients", w.hub.Clients(bob))
	}
}

// Leaving the parent leaves the child, and only the parent's participants come in.
func TestParentDependent(t *testing.T) {
	parent := newWorld(t, policy.Cooperative, nil)
	pb := parent.device(bob, "b1")
	parent.must(parent.devices[0].add("ordinary_user", pb))
	child := newWorld(t, policy.Cooperative, func(c *policy.Components, _ *[]mimi.UserRolePair) {
		c.Base.ParentDependant, c.Base.ParentRoom = true, testRoom
	})
	child.parent = parent.hub.View()
	if outside := child.hub.View().Outside(child.parent); len(outside) != 0 {
		t.Errorf("%v are not in the parent room", outside)
	}
	b1 := child.device(bob, "b1")
	child.must(child.devices[0].add("ordinary_user", b1))
	s, err := child.devices[0].room.AddUsers(rand.Reader, 0, Addition{User: cathy, Role: 2})
	if err != nil {
		t.Fatal(err)
	}
	_, err = child.hub.Update(UpdateInput{From: "a.example", Bundle: s.Bundle(), Now: child.now, Parent: child.parent})
	child.refused("not a participant of the parent room", nil, err)

	n := parent.must(parent.devices[0].commit(parent.devices[0].room.RemoveUsers(rand.Reader, bob)))
	next, err := child.hub.ProposeRemove(child.now, rand.Reader, n.Unlisted...)
	if err != nil {
		t.Fatal(err)
	}
	child.save(next)
	child.deliver(next)
	if again, err := child.hub.ProposeRemove(child.now, rand.Reader, n.Unlisted...); again != nil || err != nil {
		t.Errorf("proposed twice: %v", err)
	}
	child.must(child.devices[0].commit(child.devices[0].room.Commit(rand.Reader, 0)))
	if b1.room.Active() {
		t.Error("bob is still in the child")
	}
}

// The hub's own authority is that of its role and no more. Decision 97
func TestHubAuthority(t *testing.T) {
	w, a, _, c, _ := moderatedWorld(t)
	lost, err := w.hub.ProposeRemoveClient(w.now, rand.Reader, cathy, c.client)
	if err != nil {
		t.Fatal(err)
	}
	w.save(lost)
	w.deliver(lost)
	if again, err := w.hub.ProposeRemoveClient(w.now, rand.Reader, cathy, c.client); again != nil || err != nil {
		t.Errorf("proposed twice: %v", err)
	}
	// it waits across an external commit
	w.must(w.device(dave, "d2").join(JoinParams{}))
	if len(w.hub.Pending()) != 1 {
		t.Error("the removal of the lost client was not asked for again")
	}
	w.must(a.commit(a.room.Commit(rand.Reader, 0)))
	if w.hub.Clients(cathy) != 0 {
		t.Error("the lost client is still there")
	}
	n, err := w.hub.ProposeBan(w.now, rand.Reader, bob)
	if err != nil {
		t.Fatal(err)
	}
	w.save(n)
	w.deliver(n)
	w.must(a.commit(a.room.Commit(rand.Reader, 0)))
	list, err := appData(mimi.ComponentParticipantList, &mimi.ParticipantListUpdate{AddedParticipants: []mimi.UserRolePair{{User: "mimi://a.example/u/eve", RoleIndex: 6}}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.hub.Propose(w.now, rand.Reader, list)
	w.refused("mimi://a.example can't add mimi://a.example/u/eve", nil, err)
}

// The hub may set its franking agent once, in a room that requires the component (Decision 47).
func TestFrankingAgentByTheHub(t *testing.T) {
	w := newWorld(t, policy.Administered, nil)
	a := w.devices[0]
	agent := &mimi.FrankingAgentData{FrankingSignatureKey: []byte{1}, Credential: mls.BasicCredential([]byte("mimi://a.example"))}
	required, err := a.room.requireComponents([]mls.ComponentID{mimi.ComponentFrankingAgent}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.must(a.commit(a.room.Commit(rand.Reader, 0, required)))
	n, err := w.hub.ProposeFrankingAgent(w.now, rand.Reader, agent)
	if err != nil {
		t.Fatal(err)
	}
	w.save(n)
	w.deliver(n)
	w.must(a.commit(a.room.Commit(rand.Reader, 0)))
	if w.hub.View().FrankingAgent() == nil {
		t.Error("no franking agent")
	}
	_, err = w.hub.ProposeFrankingAgent(w.now, rand.Reader, agent)
	w.refused(ErrFrankingAgent.Error(), nil, err)
	// and from now on messages must be franked
	m, err := a.room.Encrypt(rand.Reader, []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.hub.Submit(SubmitInput{From: "a.example", Sending: alice, Message: m, Now: w.now}); err == nil {
		t.Error("a message without frank_aad is accepted")
	}
}

func TestSetAndRemoveComponents(t *testing.T) {
	w := newWorld(t, policy.Administered, nil)
	a := w.devices[0]
	w.must(a.add("ordinary_user", w.device(bob, "b1")))
	w.must(a.commit(a.room.SetComponents(rand.Reader,
		Component{mimi.ComponentBotPolicy, &mimi.BotPolicy{AllowedBots: []mimi.Bot{{Name: "poker", BotRoleIndex: 2}}}},
		Component{mimi.ComponentLoggingPolicy, &mimi.LoggingPolicy{Logging: mimi.Forbidden}})))
	if w.hub.View().Components().Bots == nil {
		t.Error("no bot policy")
	}
	w.must(a.commit(a.room.ChangeJoinLinks(rand.Reader, nil, []mimi.JoinLink{[]byte("l1"), []byte("l2")})))
	w.must(a.commit(a.room.ChangeJoinLinks(rand.Reader, []mimi.JoinLink{[]byte("l1")}, []mimi.JoinLink{[]byte("l3")})))
	if got := fmt.Sprintf("%s", w.hub.View().Components().JoinLinks.Links); got != "[l2 l3]" {
		t.Errorf("links %s", got)
	}
	w.must(a.commit(a.room.RemoveComponent(rand.Reader, mimi.ComponentBotPolicy)))
	w.must(a.commit(a.room.RemoveComponent(rand.Reader, mimi.ComponentStatusNotificationPolicy)))
	if w.hub.View().Components().Bots != nil || w.hub.View().Components().Status != nil {
		t.Error("components are still there")
	}
	_, err := a.commit(a.room.SetComponents(rand.Reader, Component{mimi.ComponentBotPolicy, &mimi.BotPolicy{AllowedBots: []mimi.Bot{{Name: "x", BotRoleIndex: 77}}}}))
	w.refused(`bot "x" has role 77`, nil, err)
	w.must(a.commit(a.room.SetMetadata(rand.Reader, mimi.RoomMetaData{RoomName: "New", RoomAvatar: "https://a.example/x.png"})))
	next, err := a.room.Successor(RefoundParams{GroupID: []byte("next"), CipherSuite: testSuite})
	if err != nil {
		t.Fatal(err)
	}
	w.must(a.commit(a.room.ReInit(rand.Reader, next)))
	if !w.hub.Closed() {
		t.Error("the group has not ended")
	}
	w.reload()
	if !w.hub.Closed() {
		t.Error("the group has not ended after a reload")
	}
}
