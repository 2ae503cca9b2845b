package room

import (
	"crypto/rand"
	"errors"
	"fmt"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
	"pgregory.net/rapid"
)

// Random people do random things in a room, many of them forbidden. Whatever happens, hub and clients agree on the whole
// state, it is what working it out from scratch gives, everybody in the group is a participant who may be, and a hub that is
// loaded from its records is the same hub. Where a client itself refuses to make a Commit, nothing is sent; where the hub
// refuses, nothing has changed.
func TestRandomRooms(t *testing.T) {
	refused, accepted := map[string]int{}, map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		preset := rapid.SampledFrom([]policy.Preset{policy.Cooperative, policy.Administered, policy.Moderated, policy.Channel}).Draw(rt, "preset")
		w := newWorld(t, preset, func(c *policy.Components, _ *[]mimi.UserRolePair) {
			c.Base.MultiDevice = rapid.Bool().Draw(rt, "multi_device")
			c.Base.MaxUsers = rapid.Ptr(rapid.Uint32Range(3, 5), true).Draw(rt, "max_users")
		})
		users := []mimi.UserURI{alice, bob, cathy, dave}
		roles := w.hub.View().Roles()
		serial := 1
		fresh := func(user mimi.UserURI) *device { serial++; return w.device(user, fmt.Sprintf("x%d", serial)) }
		// somebody is there to begin with
		for _, user := range []mimi.UserURI{bob, dave} {
			role := rapid.SampledFrom(roles.Indexes()).Draw(rt, "first role")
			_, _ = w.devices[0].commit(w.devices[0].room.AddUsers(rand.Reader, 0, Addition{User: user, Role: role, KeyPackages: []mls.KeyPackage{fresh(user).keyPackage()}}))
		}
		for range rapid.IntRange(5, 40).Draw(rt, "steps") {
			var active []*device
			for _, d := range w.devices {
				if d.room != nil && d.room.Active() {
					active = append(active, d)
				}
			}
			if len(active) == 0 {
				break
			}
			d := active[0] // mostly alice's first, who may do most
			if rapid.Bool().Draw(rt, "another") {
				d = rapid.SampledFrom(active).Draw(rt, "device")
			}
			user := rapid.SampledFrom(users).Draw(rt, "user")
			role := rapid.SampledFrom(roles.Indexes()).Draw(rt, "role")
			pending := len(w.hub.Pending())
			epoch := w.hub.Epoch()
			what := rapid.SampledFrom([]string{"add", "add client", "remove", "kick", "ban", "role", "name", "leave", "client leaves", "join", "commit", "reload", "hub removes"}).Draw(rt, "what")
			var err error
			switch what {
			case "add":
				_, err = d.commit(d.room.AddUsers(rand.Reader, 0, Addition{User: user, Role: role, KeyPackages: []mls.KeyPackage{fresh(user).keyPackage()}}))
			case "add client":
				_, err = d.commit(d.room.Commit(rand.Reader, 0, mls.Proposal{Type: mls.ProposalAdd, Add: &mls.Add{KeyPackage: fresh(user).keyPackage()}}))
			case "remove":
				_, err = d.commit(d.room.RemoveUsers(rand.Reader, user))
			case "kick":
				_, err = d.commit(d.room.Kick(rand.Reader, user))
			case "ban":
				_, err = d.commit(d.room.Ban(rand.Reader, user))
			case "role":
				_, err = d.commit(d.room.ChangeRole(rand.Reader, role, user))
			case "name":
				_, err = d.commit(d.room.SetMetadata(rand.Reader, mimi.RoomMetaData{RoomName: fmt.Sprint(serial)}))
			case "leave", "client leaves":
				var p *Proposed
				if what == "leave" {
					p, err = d.room.Leave(rand.Reader)
				} else {
					p, err = d.room.LeaveAsClient(rand.Reader)
				}
				if err == nil {
					if _, err = w.update(d.user.Host(), p.Bundle); err != nil {
						d.room.Drop(p)
					}
				}
			case "join":
				_, err = fresh(user).join(JoinParams{Role: role, HasCode: true})
			case "commit":
				_, err = d.commit(d.room.Commit(rand.Reader, 0))
			case "reload":
				w.reload()
			case "hub removes":
				var n *Next
				if n, err = w.hub.ProposeRemove(w.now, rand.Reader, user); err == nil && n != nil {
					w.save(n)
					w.deliver(n)
				}
			}
			if err != nil {
				refused[what]++
				if w.hub.Epoch() != epoch || len(w.hub.Pending()) != pending {
					rt.Fatalf("%s was refused and changed the room: %v", what, err)
				}
				var refusal *Refusal
				if errors.As(err, &refusal) && refusal.Description == "" {
					rt.Fatalf("%s: refused without a word", what)
				}
			} else {
				accepted[what]++
			}
			w.check()
			// who is about to lose its place is restricted, and nobody else
			for _, u := range users {
				if is, _ := w.hub.View().RoleOf(u.Identifier()); is == policy.NoRole && w.hub.Effective(u) != policy.NoRole {
					rt.Fatalf("the effective state grants %s something", u)
				}
			}
		}
	})
	t.Logf("accepted %v, refused %v", accepted, refused)
	for _, what := range []string{"add", "remove", "ban", "role", "join", "leave", "commit"} {
		if accepted[what] == 0 || what != "commit" && refused[what] == 0 {
			t.Errorf("%s: %d accepted, %d refused: the test does not ask enough", what, accepted[what], refused[what])
		}
	}
}
