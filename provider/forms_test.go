package provider_test

import (
	"crypto/rand"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
)

// A commit with a whole GroupInfo and a whole tree is as good as one with the
// parts that the hub can't make itself (Decisions 26-28).
func TestFullGroupInfoAndTree(t *testing.T) {
	p := newPlay(t)
	alice, bob := p.As("alice@a.example"), p.As("bob@b.example")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob)
	bob.Enters(clubhouse)
	alice.drain()
	r := bob.rooms[clubhouse]
	staged, err := r.Commit(rand.Reader, 0)
	bob.must(err)
	bob.must(r.Merge(staged))
	info, tree, err := r.First(rand.Reader)
	bob.must(err)
	bundle := *staged.Bundle()
	bundle.GroupInfoOption = mimi.GroupInfoOption{Representation: mimi.GroupInfoFull, GroupInfo: info}
	bundle.RatchetTreeOption = tree
	resp, err := bob.Updates(clubhouse, &bundle)
	if err != nil || resp.ResponseCode != mimi.UpdateSuccess {
		t.Fatalf("a commit in full: %+v, %v", resp, err)
	}
	// A joiner is given what it says.
	laptop := p.enter("bob@b.example/laptop")
	laptop.Joins(clubhouse)
	laptop.Says(clubhouse, "in full")
	alice.Reads(clubhouse, "in full")
}

// A proposal that is well formed and can't be is named by its reference.
func TestInvalidProposal(t *testing.T) {
	p := newPlay(t)
	alice, bob, cathy := p.As("alice@a.example"), p.As("bob@b.example"), p.As("cathy@c.example")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob, cathy)
	bob.Enters(clubhouse)
	cathy.Enters(clubhouse)
	alice.drain()
	var leaf mls.LeafIndex
	for l := range alice.rooms[clubhouse].Clients(cathy.dev.User) {
		leaf = l
	}
	// Before anybody hears of the other's, both propose to remove a client.
	mine, err := cathy.rooms[clubhouse].Leave(rand.Reader)
	cathy.must(err)
	laptop := p.enter("cathy@c.example/laptop")
	laptop.Joins(clubhouse)
	cathy.Reaches(clubhouse, laptop.rooms[clubhouse].View().Epoch())
	laptop.drain()
	if resp, err := cathy.Updates(clubhouse, mine.Bundle); err != nil || resp.ResponseCode != mimi.UpdateWrongEpoch {
		t.Errorf("proposals of a past epoch: %+v, %v", resp, err)
	}
	first, err := cathy.rooms[clubhouse].LeaveAsClient(rand.Reader)
	cathy.must(err)
	second, err := laptop.rooms[clubhouse].Propose(rand.Reader, mls.Proposal{Type: mls.ProposalRemove, Remove: &mls.Remove{Removed: leaf}})
	laptop.must(err)
	resp, err := cathy.Updates(clubhouse, first.Bundle)
	if err != nil || resp.ResponseCode != mimi.UpdateSuccess {
		t.Fatalf("the first: %+v, %v", resp, err)
	}
	resp, err = laptop.Updates(clubhouse, second.Bundle)
	if err != nil || resp.ResponseCode != mimi.UpdateInvalidProposal || len(resp.InvalidProposals) != 1 || resp.ErrorDescription == "" {
		t.Errorf("the second: %+v, %v", resp, err)
	}
	p.Refused(domA, "update", "invalidProposal", "from=c.example")
}
