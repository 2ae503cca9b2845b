package provider_test

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// Who is removed, though nobody has committed it yet, can send nothing but
// removals of its own clients, whatever its role may (MIMI protocol §5.3).
func TestRemovedMayOnlyLeave(t *testing.T) {
	p := newPlay(t)
	alice, bob, cathy := p.As("alice@a.example"), p.As("bob@b.example"), p.As("cathy@c.example")
	tablet := p.As("bob@b.example/tablet")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob, cathy)
	for _, m := range []*member{bob, cathy, tablet} {
		m.Enters(clubhouse)
	}
	// Bob is as much as Alice is, and may take anybody out.
	role, _ := alice.rooms[clubhouse].View().RoleOf(alice.dev.User.Identifier())
	alice.Commits(clubhouse, func(r *room.Room) (*room.Staged, error) { return r.ChangeRole(rand.Reader, role, bob.dev.User) })
	epoch := alice.rooms[clubhouse].View().Epoch()
	for _, m := range []*member{bob, cathy, tablet} {
		m.Reaches(clubhouse, epoch)
	}
	leafOf := func(m *member) mls.LeafIndex {
		for leaf, client := range bob.rooms[clubhouse].Clients(m.dev.User) {
			if client == m.dev.Client {
				return leaf
			}
		}
		t.Fatalf("%s is not in the room", m.dev.Client)
		return 0
	}
	proposed := func(x mls.Proposal) *mimi.HandshakeBundle {
		t.Helper()
		r := bob.rooms[clubhouse]
		q, err := r.Propose(rand.Reader, x)
		bob.must(err)
		r.Drop(q)
		return q.Bundle
	}
	remove := func(m *member) mls.Proposal {
		return mls.Proposal{Type: mls.ProposalRemove, Remove: &mls.Remove{Removed: leafOf(m)}}
	}
	cathys, tablets := proposed(remove(cathy)), proposed(remove(tablet))
	staged, err := bob.rooms[clubhouse].Commit(rand.Reader, 0)
	bob.must(err)
	message := bob.message(clubhouse, "let me stay")

	// Alice proposes to take him out; that is not committed yet.
	q, err := alice.rooms[clubhouse].Propose(rand.Reader, remove(bob), mls.Proposal{Type: mls.ProposalRemove, Remove: &mls.Remove{Removed: leafOf(tablet)}}, listRemoval(t, alice, bob))
	alice.must(err)
	resp, err := alice.Updates(clubhouse, q.Bundle)
	alice.must(err)
	alice.must(resp.Err())

	for name, bundle := range map[string]*mimi.HandshakeBundle{"to take Cathy out": cathys, "a commit": staged.Bundle()} {
		resp, err := bob.Updates(clubhouse, bundle)
		if err != nil || resp.ResponseCode != mimi.UpdateNotAllowed || resp.ErrorDescription == "" {
			t.Errorf("%s: %+v, %v", name, resp, err)
		}
	}
	if resp, err := bob.svc.SubmitMessage(p.ctx, bob.dev, clubhouse, message); err != nil || resp.StatusCode != mimi.SubmitNotAllowed {
		t.Errorf("a message: %+v, %v", resp, err)
	}
	// A removal of his own is not refused for that, but it is pending already.
	if resp, err := bob.Updates(clubhouse, tablets); err != nil || strings.Contains(resp.ErrorDescription, "about to go") {
		t.Errorf("his own client: %+v, %v", resp, err)
	}
	cathy.Pending(clubhouse, 3)
	cathy.Empties(clubhouse)
	bob.until("its removal", func() bool { return bob.rooms[clubhouse] == nil })
	cathy.Says(clubhouse, "still here")
	alice.Reads(clubhouse, "still here")
}

// listRemoval is the proposal that takes somebody off the list.
func listRemoval(t *testing.T, m, who *member) mls.Proposal {
	t.Helper()
	i, ok := m.rooms[clubhouse].View().IndexOf(who.dev.User.Identifier())
	if !ok {
		t.Fatalf("%s is not on the list", who.dev.User)
	}
	b, err := tlspl.Marshal(&mimi.ParticipantListUpdate{RemovedIndices: []uint32{i}})
	m.must(err)
	return mls.Proposal{Type: mls.ProposalAppDataUpdate, AppDataUpdate: &mls.AppDataUpdate{ComponentID: mimi.ComponentParticipantList, Op: mls.AppDataOpUpdate, Update: b}}
}
