package room

import (
	"crypto/rand"
	"errors"
	"slices"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"pgregory.net/rapid"
)

// Hub and clients never disagree: whatever Commit a member's client makes that believes it may do anything, the hub takes it if
// and only if every other client follows it, and where policy forbids it they name the same rule.
func TestHubAndClientsAgree(t *testing.T) {
	taken, refused := map[string]int{}, map[string]int{}
	w, a, b, c, d := moderatedWorld(t)
	everybody := []*device{a, b, c, d}
	strangers := []mimi.UserURI{"mimi://b.example/u/erin", "mimi://c.example/u/frank"}
	users := []mimi.UserURI{alice, bob, cathy, dave, strangers[0]}
	serial := 0
	cheats := map[*device]*mls.Group{}
	for _, m := range everybody {
		cheats[m] = groupWith(t, m.room, &lenient{m.room.rules})
	}
	good, err := a.room.Successor(RefoundParams{GroupID: []byte("next"), CipherSuite: testSuite})
	if err != nil {
		t.Fatal(err)
	}
	reinits := []mls.ReInit{good, {GroupID: []byte("next"), Version: mls.MLS10, CipherSuite: testSuite}} // one is of no room
	list := func(rt *rapid.T) mls.Proposal {
		v := w.hub.View()
		var u mimi.ParticipantListUpdate
		index := rapid.Uint32Range(0, uint32(len(v.Participants()))) // one beyond
		role := rapid.SampledFrom(append(v.Roles().Indexes(), 42))
		switch rapid.SampledFrom([]string{"change", "remove", "add", "both"}).Draw(rt, "list") {
		case "change":
			u.ChangedRoleParticipants = append(u.ChangedRoleParticipants, mimi.UserindexRolePair{UserIndex: index.Draw(rt, "index"), RoleIndex: role.Draw(rt, "role")})
		case "remove":
			u.RemovedIndices = append(u.RemovedIndices, index.Draw(rt, "index"))
		case "add":
			u.AddedParticipants = append(u.AddedParticipants, mimi.UserRolePair{User: rapid.SampledFrom(users).Draw(rt, "user").Identifier(), RoleIndex: role.Draw(rt, "role")})
		case "both":
			u.RemovedIndices = append(u.RemovedIndices, index.Draw(rt, "index"))
			u.AddedParticipants = append(u.AddedParticipants, mimi.UserRolePair{User: strangers[1].Identifier(), RoleIndex: role.Draw(rt, "role")})
		}
		p, err := appData(mimi.ComponentParticipantList, &u)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	component := func(rt *rapid.T) mls.Proposal {
		v := w.hub.View()
		next := *v.Metadata()
		next.RoomName = "another"
		roles := mimi.RoleData{Roles: slices.Clone(v.Components().Roles.Roles)}
		if rapid.Bool().Draw(rt, "a role less") {
			roles.Roles = roles.Roles[:len(roles.Roles)-1]
		}
		base := *v.Base()
		base.MultiDevice = rapid.Bool().Draw(rt, "multi_device")
		x := rapid.SampledFrom([]Component{
			{mimi.ComponentRoomMetadata, &next}, {mimi.ComponentRolesList, &roles}, {mimi.ComponentBaseRoomPolicy, &base},
			{mimi.ComponentStatusNotificationPolicy, &mimi.StatusNotificationPolicy{ReadReceipts: mimi.Required}},
			{mimi.ComponentJoinLinks, &mimi.JoinLinksUpdate{AddedLinks: []mimi.JoinLink{[]byte("l")}}},
			{mimi.ComponentJoinLinks, &mimi.JoinLinksUpdate{RemovedIndices: []uint32{0}}},
			{mimi.ComponentPreauthList, &mimi.PreAuthData{}},
			{mimi.ComponentBotPolicy, &mimi.BotPolicy{AllowedBots: []mimi.Bot{{BotRoleIndex: 99}}}},
		}).Draw(rt, "component")
		p, err := appData(x.ID, x.Data)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	once := func(rt *rapid.T) {
		by := a // who may do most
		if rapid.Bool().Draw(rt, "another") {
			by = rapid.SampledFrom(everybody).Draw(rt, "by")
		}
		var proposals []mls.Proposal
		what := ""
		for range 1 + rapid.IntRange(0, 4).Draw(rt, "more")/2 {
			kind := rapid.SampledFrom([]string{"list", "component", "remove", "add", "reinit"}).Draw(rt, "kind")
			what = kind
			switch kind {
			case "list":
				proposals = append(proposals, list(rt))
			case "component":
				proposals = append(proposals, component(rt))
			case "remove":
				of := rapid.SampledFrom(everybody).Draw(rt, "whose")
				for leaf := range by.room.Clients(of.user) {
					proposals = append(proposals, mls.Proposal{Type: mls.ProposalRemove, Remove: &mls.Remove{Removed: leaf}})
				}
				if rapid.Bool().Draw(rt, "off the list too") {
					if index, ok := w.hub.View().IndexOf(of.user.Identifier()); ok {
						p, err := appData(mimi.ComponentParticipantList, &mimi.ParticipantListUpdate{RemovedIndices: []uint32{index}})
						if err != nil {
							t.Fatal(err)
						}
						proposals = append(proposals, p)
					}
				}
			case "add":
				serial++
				x := &device{w: w, user: rapid.SampledFrom(users).Draw(rt, "whom")}
				x.client, _ = mimi.NewClientURI(x.user.Host(), x.user.Name(), "y"+string(rune('a'+serial%26)))
				proposals = append(proposals, mls.Proposal{Type: mls.ProposalAdd, Add: &mls.Add{KeyPackage: x.keyPackage()}})
				if _, ok := w.hub.View().RoleOf(x.user.Identifier()); !ok && rapid.Bool().Draw(rt, "listed") {
					role := rapid.SampledFrom(w.hub.View().Roles().Indexes()).Draw(rt, "role")
					p, err := appData(mimi.ComponentParticipantList, &mimi.ParticipantListUpdate{AddedParticipants: []mimi.UserRolePair{{User: x.user.Identifier(), RoleIndex: role}}})
					if err != nil {
						t.Fatal(err)
					}
					proposals = append(proposals, p)
				}
			case "reinit":
				proposals = append(proposals, mls.Proposal{Type: mls.ProposalReInit, ReInit: &reinits[rapid.IntRange(0, 1).Draw(rt, "which")]})
			}
		}
		staged, err := cheats[by].Stage(rand.Reader, mls.CommitOptions{Proposals: proposals, AuthenticatedData: []byte{0}})
		if err != nil {
			return // MLS itself forbids it
		}
		forged, err := bundle(staged.Message(), staged.Welcome(), staged.GroupInfo())
		if err != nil {
			t.Fatal(err)
		}
		_, byHub := w.hub.Update(UpdateInput{From: by.user.Host(), Bundle: forged, Now: w.now, Rand: rand.Reader})
		if errors.Is(byHub, ErrClosed) {
			t.Fatal(byHub)
		}
		for _, x := range everybody {
			if x == by {
				continue
			}
			_, byClient := x.room.StageReceived(&forged.ProposalOrCommit)
			if (byHub == nil) != (byClient == nil) {
				rt.Fatalf("%s by %s: the hub says %v, %s says %v", what, by.user, byHub, x.client, byClient)
			}
			h, c := Denied(byHub), Denied(byClient)
			if (h == nil) != (c == nil) || h != nil && h.Error() != c.Error() {
				rt.Fatalf("%s by %s: the hub names %v, %s names %v", what, by.user, h, x.client, c)
			}
		}
		if byHub == nil {
			taken[what]++
		} else {
			refused[what]++
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		for range 4 {
			once(rt)
		}
	})
	t.Logf("taken %v, refused %v", taken, refused)
	all := 0
	for _, n := range taken {
		all += n
	}
	for _, what := range []string{"list", "component", "add", "remove"} {
		if refused[what] == 0 || all == 0 {
			t.Errorf("%s: %d refused, %d of all taken: the test does not ask enough", what, refused[what], all)
		}
	}
}
