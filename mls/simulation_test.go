package mls

import (
	"crypto/rand"
	"fmt"
	"testing"

	"github.com/comity-im/comity/tlspl"
	"pgregory.net/rapid"
)

// TestSimulation lets a group live: members come, go, propose, commit and join on
// their own in any order. After each commit all members and the hub are stored and
// loaded, agree on the epoch, and everybody reads what everybody sends.
func TestSimulation(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := newRoom(t, nil, "client 0", "client 1", "client 2")
		names := 3
		fresh := func() *client {
			c := newClient(t, fmt.Sprint("client ", names))
			names++
			return c
		}
		pick := func(label string) *client { return r.clients[rapid.IntRange(0, len(r.clients)-1).Draw(rt, label)] }
		targeted := func(c *client) bool { // nobody whose removal is pending can commit
			for _, p := range r.hub.Pending() {
				if leaf, ok := p.target(); ok && leaf == c.group.OwnLeaf() && p.Type != ProposalUpdate {
					return true
				}
			}
			return false
		}
		propose := func(p Proposal) {
			by := pick("proposer")
			if p.Type == ProposalRemove && len(r.clients) < 3 {
				return
			}
			m, err := by.group.Propose(rand.Reader, p, SendOptions{})
			r.propose(by, m, err)
		}
		var invited []*client
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"add", "remove", "self-remove", "update", "data", "commit", "add now", "enter", "restart"}).Draw(rt, "step") {
			case "add":
				c := fresh()
				invited = append(invited, c)
				propose(add(c.keyPackage(t)))
			case "remove":
				propose(remove(pick("removed").group.OwnLeaf()))
			case "self-remove":
				by := pick("leaver")
				if len(r.clients) > 2 && !targeted(by) {
					m, err := by.group.Propose(rand.Reader, Proposal{Type: ProposalSelfRemove}, SendOptions{})
					r.propose(by, m, err)
				}
			case "update":
				by := pick("updater")
				m, err := by.group.ProposeUpdate(rand.Reader, nil, SendOptions{})
				r.propose(by, m, err)
			case "data":
				propose(appData(0xf000, AppDataOpUpdate, "x"))
			case "commit":
				by := pick("committer")
				if targeted(by) {
					continue
				}
				r.commit(by, CommitOptions{AllPending: true, OmitPath: rapid.Bool().Draw(rt, "omit path")}, invited...)
				invited = nil
			case "add now":
				by := pick("committer")
				if targeted(by) || len(r.clients) > 12 {
					continue
				}
				c, d := fresh(), fresh()
				o := CommitOptions{Proposals: []Proposal{add(c.keyPackage(t)), add(d.keyPackage(t))}, OmitPath: rapid.Bool().Draw(rt, "omit path")}
				r.commit(by, o, c, d)
				invited = nil
			case "enter":
				r.enter(fresh())
				invited = nil
			case "restart":
				r.restart()
			}
			if len(r.clients) < 2 {
				return
			}
		}
	})
}

// enter lets a client join by an external commit that takes up all SelfRemoves.
func (r *room) enter(c *client) {
	r.t.Helper()
	o := ExternalCommitOptions{RatchetTree: r.hub.Tree().Bytes(), Leaf: c.leaf}
	for _, p := range r.hub.pending.list {
		if p.Type == ProposalSelfRemove {
			var a AuthenticatedContent
			if err := tlspl.UnmarshalAlias(p.content, &a); err != nil {
				r.t.Fatal(err)
			}
			m := Message(&PublicMessage{Content: a.Content, Auth: a.Auth, MembershipTag: make([]byte, 32)})
			o.SelfRemoves = append(o.SelfRemoves, &m)
		}
	}
	info, err := r.clients[0].group.GroupInfo(rand.Reader, false)
	if err != nil {
		r.t.Fatal(err)
	}
	staged, err := StageExternalCommit(rand.Reader, c.config, wire(r.t, info), o)
	if err != nil {
		r.t.Fatal(err)
	}
	r.deliver(c, staged.Message(), staged.GroupInfo())
	c.group = staged.Group()
	r.clients = append(r.clients, c)
	r.check()
}
