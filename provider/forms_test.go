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

// Either form of the GroupInfo goes with either form of the tree that a hub takes; what it can't use, or would not be true,
// is notAllowed and changes nothing (Decisions 26-28).
func TestGroupInfoAndTreeOptions(t *testing.T) {
	p := newPlay(t)
	alice, bob := p.As("alice@a.example"), p.As("bob@b.example")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob)
	bob.Enters(clubhouse)
	alice.drain()
	distribution := mls.RatchetTreeOption{Representation: mls.RatchetTreeDistributionService}
	for _, test := range []struct {
		name   string
		good   bool
		adjust func(b *mimi.HandshakeBundle, info *mls.GroupInfo, tree mls.RatchetTreeOption)
	}{
		{"full, full", true, func(b *mimi.HandshakeBundle, info *mls.GroupInfo, tree mls.RatchetTreeOption) {
			b.GroupInfoOption, b.RatchetTreeOption = mimi.FullGroupInfo(info), tree
		}},
		{"full, distributionService", true, func(b *mimi.HandshakeBundle, info *mls.GroupInfo, _ mls.RatchetTreeOption) {
			b.GroupInfoOption, b.RatchetTreeOption = mimi.FullGroupInfo(info), distribution
		}},
		{"partial, full", true, func(b *mimi.HandshakeBundle, _ *mls.GroupInfo, tree mls.RatchetTreeOption) {
			b.RatchetTreeOption = tree
		}},
		{"partial, distributionService", true, func(b *mimi.HandshakeBundle, _ *mls.GroupInfo, _ mls.RatchetTreeOption) {
			b.RatchetTreeOption = distribution
		}},
		{"httpsUri", false, func(b *mimi.HandshakeBundle, _ *mls.GroupInfo, _ mls.RatchetTreeOption) {
			b.RatchetTreeOption = mls.RatchetTreeOption{Representation: mls.RatchetTreeHTTPSURI, RatchetTreeURL: []byte("https://b.example/tree"), TreeSignature: []byte{1}}
		}},
		{"outOfBand", false, func(b *mimi.HandshakeBundle, _ *mls.GroupInfo, _ mls.RatchetTreeOption) {
			b.RatchetTreeOption = mls.RatchetTreeOption{Representation: mls.RatchetTreeOutOfBand, TreeSignature: []byte{1}}
		}},
		{"ratchet_tree added", false, func(b *mimi.HandshakeBundle, _ *mls.GroupInfo, _ mls.RatchetTreeOption) {
			partial := *b.GroupInfoOption.PartialGroupInfo
			partial.RatchetTreePresence = mls.PresenceAdded
			b.GroupInfoOption = mimi.PartialGroupInfo(&partial)
		}},
		{"no external_pub", false, func(b *mimi.HandshakeBundle, _ *mls.GroupInfo, _ mls.RatchetTreeOption) {
			partial := *b.GroupInfoOption.PartialGroupInfo
			partial.GroupInfoExtensions = nil
			b.GroupInfoOption = mimi.PartialGroupInfo(&partial)
		}},
		{"partial, wrong signature", false, func(b *mimi.HandshakeBundle, _ *mls.GroupInfo, _ mls.RatchetTreeOption) {
			partial := *b.GroupInfoOption.PartialGroupInfo
			partial.Signature = append([]byte{}, partial.Signature...)
			partial.Signature[0] ^= 1
			b.GroupInfoOption = mimi.PartialGroupInfo(&partial)
		}},
		{"full, of another epoch", false, func(b *mimi.HandshakeBundle, info *mls.GroupInfo, _ mls.RatchetTreeOption) {
			bent := *info
			bent.GroupContext.Epoch++
			b.GroupInfoOption = mimi.FullGroupInfo(&bent)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			bob.drain()
			r := bob.rooms[clubhouse]
			epoch := r.View().Epoch()
			staged, err := r.Commit(rand.Reader, 0)
			bob.must(err)
			bundle := *staged.Bundle()
			var info *mls.GroupInfo
			var tree mls.RatchetTreeOption
			if test.good { // as of after the commit
				bob.must(r.Merge(staged))
				info, tree, err = r.First(rand.Reader)
			} else {
				info, tree, err = r.First(rand.Reader)
			}
			bob.must(err)
			test.adjust(&bundle, info, tree)
			resp, err := bob.Updates(clubhouse, &bundle)
			if err != nil {
				t.Fatal(err)
			}
			if test.good {
				if resp.ResponseCode != mimi.UpdateSuccess {
					t.Fatalf("%v: %s", resp.ResponseCode, resp.ErrorDescription)
				}
				alice.Reaches(clubhouse, epoch+1)
				p.Same(clubhouse, alice, bob)
				return
			}
			if resp.ResponseCode != mimi.UpdateNotAllowed || resp.ErrorDescription == "" {
				t.Fatalf("%v %q, expected notAllowed with a reason", resp.ResponseCode, resp.ErrorDescription)
			}
		})
	}
	// What the hub gives out is full, in answers and with a Welcome, and it is true: who joins by it can speak and be read.
	laptop := p.enter("bob@b.example/laptop")
	laptop.Joins(clubhouse)
	laptop.Says(clubhouse, "joined alone")
	alice.Reads(clubhouse, "joined alone")
	cathy := p.As("cathy@c.example")
	alice.Adds(clubhouse, cathy)
	cathy.Enters(clubhouse)
	cathy.Says(clubhouse, "welcomed")
	laptop.Reads(clubhouse, "welcomed")
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
