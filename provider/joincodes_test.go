package provider_test

import (
	"errors"
	"testing"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
)

// links changes the links that the room lists.
func (m *member) links(remove, add []mimi.JoinLink) {
	m.p.t.Helper()
	m.Commits(clubhouse, func(r *room.Room) (*room.Staged, error) { return r.ChangeJoinLinks(random{}, remove, add) })
}

// denied says that a code does not let somebody in.
func (m *member) denied(code string) {
	m.p.t.Helper()
	var e *mimi.GroupInfoError
	if err := m.join(clubhouse, code); !errors.As(err, &e) || e.Code != mimi.GroupInfoNotAuthorized {
		m.p.t.Errorf("%s with %q: %v", m.dev.Client, code, err)
	}
}

// withLinks makes a room in which bob, of another provider, may list links.
func withLinks(t *testing.T, links mimi.JoinLinkPolicy, listed ...mimi.JoinLink) (p *play, alice, bob *member) {
	p = newPlay(t)
	alice, bob = p.As("alice@a.example"), p.As("bob@b.example")
	alice.Creates(clubhouse, policy.Administered, func(c *policy.Components, _ *[]mimi.UserRolePair) {
		c.JoinLinkPolicy, c.JoinLinks = &links, &mimi.JoinLinksData{Links: listed}
	})
	alice.Adds(clubhouse, bob)
	bob.Enters(clubhouse)
	alice.Commits(clubhouse, func(r *room.Room) (*room.Staged, error) {
		admin, ok := r.View().Roles().ByName("group_admin")
		if !ok {
			t.Fatal("no group_admin")
		}
		return r.ChangeRole(random{}, admin, bob.dev.User)
	})
	bob.Reaches(clubhouse, alice.rooms[clubhouse].View().Epoch())
	return p, alice, bob
}

// A link that a member of any provider lists in the room's join_links lets people in: its code, or the whole of it where it is
// not of our form. It is seen by all members, expires by the room's policy, and is withdrawn by taking it off the list.
func TestListedJoinLinks(t *testing.T) {
	p, alice, bob := withLinks(t, mimi.JoinLinkPolicy{Multiuser: true, Expiration: 3600})
	cathy, dave, eve := p.As("cathy@c.example"), p.As("dave@b.example"), p.As("eve@c.example")
	ours, opaque := mimi.NewJoinLink(clubhouse, "listed & by bob"), mimi.JoinLink("https://b.example/i/42")
	elsewhere := mimi.NewJoinLink("mimi://a.example/r/other", "of another room")
	cathy.denied("listed & by bob")
	bob.links(nil, []mimi.JoinLink{ours, opaque, elsewhere})
	alice.Reaches(clubhouse, bob.rooms[clubhouse].View().Epoch())
	if l := alice.rooms[clubhouse].View().Components().JoinLinks; len(l.Links) != 3 {
		t.Errorf("alice sees %v", l)
	}
	list, err := alice.svc.JoinCodes(p.ctx, alice.dev, clubhouse)
	if err != nil || len(list) != 3 || !list[0].Listed || list[0].UsesLeft != -1 || list[0].ExpiresMillis != list[0].CreatedMillis+3600_000 {
		t.Errorf("the hub lists %+v, %v", list, err)
	}
	cathy.Joins(clubhouse, "listed & by bob")
	dave.Joins(clubhouse, "https://b.example/i/42")
	eve.denied("of another room")

	bob.Reaches(clubhouse, dave.rooms[clubhouse].View().Epoch())
	bob.links([]mimi.JoinLink{ours}, nil)
	eve.denied("listed & by bob")
	p.later(61 * time.Minute)
	eve.denied("https://b.example/i/42") // expired, though it is listed
	bob.links([]mimi.JoinLink{opaque}, []mimi.JoinLink{mimi.NewJoinLink(clubhouse, "once more, by bob")})
	eve.Joins(clubhouse, "once more, by bob")
	eve.Says(clubhouse, "in by link")
	alice.Reads(clubhouse, "in by link")
}

// Links for one user each; a code that its hub's user revokes is dead at once, though the room still lists it.
func TestListedJoinLinksOnce(t *testing.T) {
	p, alice, bob := withLinks(t, mimi.JoinLinkPolicy{}, mimi.NewJoinLink(clubhouse, "from the beginning"))
	cathy, dave := p.As("cathy@c.example"), p.As("dave@b.example")
	cathy.Joins(clubhouse, "from the beginning")
	dave.denied("from the beginning") // used up
	bob.Reaches(clubhouse, cathy.rooms[clubhouse].View().Epoch())
	bob.links(nil, []mimi.JoinLink{mimi.NewJoinLink(clubhouse, "will be revoked")})
	alice.must(alice.svc.RevokeJoinCode(p.ctx, alice.dev, clubhouse, "will be revoked"))
	dave.denied("will be revoked")
	dave.denied("will be revoked")
	if c, err := alice.svc.CreateJoinCode(p.ctx, alice.dev, clubhouse, clientapi.JoinCode{UsesLeft: 7}); err != nil || c.UsesLeft != 1 {
		t.Errorf("a code of a room whose links are for one user: %+v, %v", c, err)
	}
}

// With on_request there is one code at a time, and none is valid for longer than the room's policy says.
func TestJoinCodesObeyThePolicy(t *testing.T) {
	p, alice, _ := withLinks(t, mimi.JoinLinkPolicy{OnRequest: true, Multiuser: true, Expiration: 60})
	c, err := alice.svc.CreateJoinCode(p.ctx, alice.dev, clubhouse, clientapi.JoinCode{ExpiresMillis: p.now().Add(time.Hour).UnixMilli()})
	if err != nil || c.ExpiresMillis != c.CreatedMillis+60_000 {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := alice.svc.CreateJoinCode(p.ctx, alice.dev, clubhouse, clientapi.JoinCode{}); err == nil {
		t.Error("a second code")
	}
	p.later(2 * time.Minute)
	if _, err := alice.svc.CreateJoinCode(p.ctx, alice.dev, clubhouse, clientapi.JoinCode{}); err != nil {
		t.Errorf("a second code after the first: %v", err)
	}
}
