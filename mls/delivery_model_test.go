package mls

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/comity-im/comity/tlspl"
	"pgregory.net/rapid"
)

// A network is a hub with the one order of what it accepted, and members that get it late, twice, in another order, or not
// until they ask again.
type network struct {
	t       *rapid.T
	tb      testing.TB
	hub     *PublicGroup
	log     []logEntry
	members []*node
	ghosts  []ghost
	invited map[string]*node // by KeyPackageRef
	names   int
}

type logEntry struct {
	wire    []byte
	epoch   Epoch // in which it was sent
	kind    ContentType
	by      *node
	text    string // of an application message
	removes []*node
}

// A node is a member on its side of the network.
type node struct {
	*client
	start  int // where the log begins for it
	cursor int // everything before it was handled
	done   map[int]bool
	sent   *StagedCommit // whose fate it doesn't know
	at     int           // the log's length when it was submitted, -1: it was lost
}

// A ghost is what a removed member still has.
type ghost struct {
	name  string
	store memoryStore
	from  int // log entries after its removal
}

// TestNetwork is the model of a group under bad delivery. Commits race, and the hub takes the first; submissions and
// answers are lost; deliveries come twice, early or late. Whatever a member refuses changes nothing in it; in the end all
// agree with the hub, everybody has read what was readable, and no removed member reads on.
func TestNetwork(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := &network{t: rt, tb: t, invited: make(map[string]*node)}
		n.start(rapid.IntRange(2, 30).Draw(rt, "members"))
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			by := n.members[rapid.IntRange(0, len(n.members)-1).Draw(rt, "member")]
			switch rapid.SampledFrom([]string{"commit", "commit", "propose", "say", "deliver", "deliver", "deliver", "catch up", "restart"}).Draw(rt, "step") {
			case "commit":
				n.commit(by)
			case "propose":
				n.propose(by)
			case "say":
				n.say(by)
			case "deliver":
				if len(n.log) > 0 { // now and then what it had, or what comes later
					n.deliver(by, max(0, min(len(n.log)-1, by.cursor+rapid.SampledFrom([]int{0, 0, 0, 1, 2, -1, -5}).Draw(rt, "which"))))
				}
			case "catch up":
				n.catchUp(by)
			case "restart":
				n.restart(by)
			}
		}
		n.settle()
	})
}

func (n *network) fresh() *node {
	n.names++
	return &node{client: newClient(n.tb, fmt.Sprint("client ", n.names)), done: make(map[int]bool), at: -1}
}

func (n *network) start(size int) {
	first := n.fresh()
	first.create(n.tb, nil)
	n.members = []*node{first}
	info, err := first.group.GroupInfo(rand.Reader, false)
	if err != nil {
		n.t.Fatal(err)
	}
	if n.hub, err = NewPublicGroup(first.config, info, first.group.Tree().Bytes()); err != nil {
		n.t.Fatal(err)
	}
	var adds []Proposal
	for range size - 1 {
		adds = append(adds, n.invite())
	}
	n.submit(first, CommitOptions{Proposals: adds}, false, false)
	n.catchUp(first)
}

// invite returns an Add of a new client.
func (n *network) invite() Proposal {
	c := n.fresh()
	k := c.keyPackage(n.tb)
	ref, err := k.Ref()
	if err != nil {
		n.t.Fatal(err)
	}
	n.invited[string(ref)] = c
	return add(k)
}

// unchanged runs f and demands, if f fails, that it left no trace in the member.
func (n *network) unchanged(by *node, what string, f func() error) error {
	n.flush(by)
	state, pending := by.group.public.state, len(by.group.Pending())
	err := f()
	if err != nil {
		if by.group.public.state != state || len(by.group.Pending()) != pending {
			n.t.Fatalf("%s: %s: %v: the group changed", by.name, what, err)
		}
		if list, ferr := by.group.Flush(); ferr != nil || len(list) != 0 {
			n.t.Fatalf("%s: %s: %v: %d records changed, %v", by.name, what, err, len(list), ferr)
		}
	}
	return err
}

func (n *network) flush(c *node) {
	list, err := c.group.Flush()
	if err != nil {
		n.t.Fatal(err)
	}
	if c.store == nil {
		c.store = memoryStore{}
	}
	c.store.save(list)
}

// restart stores a member with the commit that it has sent, and loads both.
func (n *network) restart(c *node) {
	var stored []byte
	if c.sent != nil {
		var err error
		if stored, err = c.sent.Marshal(); err != nil {
			n.t.Fatal(err)
		}
	}
	c.client.restart(n.tb)
	if stored != nil {
		var err error
		if c.sent, err = c.group.LoadStaged(stored); err != nil {
			n.t.Fatal(err)
		}
	}
}

func (n *network) commit(by *node) {
	if by.sent != nil {
		return // one at a time
	}
	o := CommitOptions{AllPending: rapid.Bool().Draw(n.t, "all pending"), OmitPath: rapid.Bool().Draw(n.t, "omit path")}
	for range rapid.IntRange(0, 2).Draw(n.t, "proposals") {
		o.Proposals = append(o.Proposals, n.proposal(by))
	}
	n.submit(by, o, rapid.IntRange(0, 4).Draw(n.t, "lost") == 0, rapid.IntRange(0, 2).Draw(n.t, "answer lost") == 0)
}

func (n *network) proposal(by *node) Proposal {
	switch rapid.SampledFrom([]string{"add", "remove", "data"}).Draw(n.t, "proposal") {
	case "remove":
		if by.group.Tree().Members() > 2 {
			if other := n.members[rapid.IntRange(0, len(n.members)-1).Draw(n.t, "removed")]; other != by {
				return remove(other.group.OwnLeaf())
			}
		}
	case "data":
		return appData(0xf000, AppDataOpUpdate, "x")
	}
	return n.invite()
}

func (n *network) message(wire []byte) *MLSMessage {
	m := new(MLSMessage)
	if err := tlspl.Unmarshal(wire, m); err != nil {
		n.t.Fatal(err)
	}
	return m
}

// submit stages a commit and sends it to the hub. The rules may forbid it, the hub may have taken another.
func (n *network) submit(by *node, o CommitOptions, lost, answerLost bool) {
	var staged *StagedCommit
	if n.unchanged(by, "stage", func() (err error) {
		staged, err = by.group.Stage(rand.Reader, o)
		return err
	}) != nil {
		return
	}
	if lost {
		by.sent, by.at = staged, -1
		return
	}
	wire := marshal(staged.Message())
	public, err := n.hub.Stage(n.message(wire))
	if err != nil {
		var epoch *EpochError
		if by.group.Epoch() == n.hub.Epoch() || !errors.As(err, &epoch) {
			n.t.Fatalf("the hub refuses %s in epoch %d, is in %d: %v", by.name, by.group.Epoch(), n.hub.Epoch(), err)
		}
		staged.Drop()
		return
	}
	entry := logEntry{wire: wire, epoch: n.hub.Epoch(), kind: ContentCommit, by: by}
	for _, leaf := range public.Changes().Removed {
		key := public.Changes().OldTree.Leaf(leaf).SignatureKey
		for _, m := range n.members {
			if bytes.Equal(m.leaf.Signer.Public(), key) {
				entry.removes = append(entry.removes, m)
			}
		}
	}
	if err := n.hub.Merge(public); err != nil {
		n.t.Fatal(err)
	}
	at := len(n.log)
	n.log = append(n.log, entry)
	by.sent, by.at = staged, at
	tree := n.hub.Tree().Bytes()
	for ref, c := range n.invited {
		if staged.Welcome() == nil {
			break
		}
		if _, ok := staged.Welcome().Find(KeyPackageRef(ref)); !ok {
			continue
		}
		g, err := JoinWelcome(c.config, staged.Welcome(), c.keys, JoinOptions{RatchetTree: tree})
		if err != nil {
			n.t.Fatalf("%s joins: %v", c.name, err)
		}
		c.group, c.start, c.cursor = g, at+1, at+1
		n.members = append(n.members, c)
		delete(n.invited, ref)
	}
	// A removed member keeps the last state that it was entitled to.
	for _, c := range entry.removes {
		for c.cursor < at {
			n.deliver(c, c.cursor)
		}
		n.flush(c)
		n.ghosts = append(n.ghosts, ghost{c.name, c.store, at + 1})
		n.members = slices.DeleteFunc(n.members, func(m *node) bool { return m == c })
	}
	if !answerLost {
		n.deliver(by, at)
	}
}

func (n *network) propose(by *node) {
	var m *MLSMessage
	send := func() (err error) {
		m, err = by.group.ProposeUpdate(rand.Reader, nil, SendOptions{})
		return err
	}
	if !rapid.Bool().Draw(n.t, "update") {
		p := n.proposal(by)
		send = func() (err error) {
			m, err = by.group.Propose(rand.Reader, p, SendOptions{})
			return err
		}
	}
	if n.unchanged(by, "propose", send) != nil {
		return
	}
	own := by.group.Pending()
	wire := marshal(m)
	if _, err := n.hub.ReceiveProposal(n.message(wire)); err != nil {
		if by.group.Epoch() == n.hub.Epoch() {
			n.t.Fatalf("the hub refuses a proposal of %s: %v", by.name, err)
		}
		by.group.DropPending(own[len(own)-1].Ref)
		return
	}
	n.log = append(n.log, logEntry{wire: wire, epoch: n.hub.Epoch(), kind: ContentProposal, by: by})
}

func (n *network) say(by *node) {
	text := fmt.Sprintf("%s, message %d", by.name, len(n.log))
	var m *MLSMessage
	if n.unchanged(by, "encrypt", func() (err error) {
		m, err = by.group.Encrypt(rand.Reader, []byte(text), nil)
		return err
	}) != nil || by.group.Epoch() != n.hub.Epoch() {
		return // the hub takes messages of its epoch only
	}
	n.log = append(n.log, logEntry{wire: marshal(m), epoch: n.hub.Epoch(), kind: ContentApplication, by: by, text: text})
}

// deliver hands one entry of the log to a member, which may have had it, or may lack what comes before.
func (n *network) deliver(to *node, i int) {
	e, epoch := &n.log[i], to.group.Epoch()
	m := n.message(e.wire)
	what := fmt.Sprintf("entry %d, %s of epoch %d, in epoch %d", i, e.kind, e.epoch, epoch)
	var err error
	switch e.kind {
	case ContentCommit:
		if e.by == to && to.sent != nil && to.at == i {
			if err = to.group.Merge(to.sent); err != nil {
				n.t.Fatalf("%s: %s: merge: %v", to.name, what, err)
			}
			to.sent, to.at = nil, -1
			break
		}
		var staged *StagedCommit
		err = n.unchanged(to, what, func() (err error) {
			staged, err = to.group.StageReceived(m)
			return err
		})
		if err == nil {
			// A member that is told to take a commit checks that it is the hub's for this epoch: the log has one.
			if err := to.group.Merge(staged); err != nil {
				n.t.Fatal(err)
			}
			if to.sent != nil { // it lost the race
				if err := to.group.Merge(to.sent); !errors.Is(err, ErrStale) {
					n.t.Fatalf("%s: merging a lost commit: %v", to.name, err)
				}
				to.sent.Drop()
				to.sent, to.at = nil, -1
			}
			break
		}
		// Without the proposals before it, it can't be taken yet.
		if e.epoch == epoch && ruleOf(err) != RuleProposalReference {
			n.t.Fatalf("%s: %s: %v", to.name, what, err)
		}
	case ContentProposal:
		err = n.unchanged(to, what, func() error { _, err := to.group.ReceiveProposal(m); return err })
		if e.epoch == epoch && err != nil && !(e.by == to && errors.Is(err, ErrOwnMessage)) {
			n.t.Fatalf("%s: %s: %v", to.name, what, err)
		}
	case ContentApplication:
		var got *ApplicationMessage
		err = n.unchanged(to, what, func() (err error) { got, err = to.group.Decrypt(m); return err })
		readable := e.by != to && !to.done[i] && e.epoch <= epoch && e.epoch+Epoch(to.config.PastEpochs) >= epoch && i >= to.start
		switch {
		case err == nil && !readable:
			n.t.Fatalf("%s: %s: read what it should not", to.name, what)
		case err == nil && string(got.Data) != e.text:
			n.t.Fatalf("%s: %s: read %q, want %q", to.name, what, got.Data, e.text)
		case err != nil && readable:
			n.t.Fatalf("%s: %s: %v", to.name, what, err)
		}
	}
	if e.epoch != epoch && e.kind != ContentApplication {
		var other *EpochError
		if !errors.As(err, &other) {
			n.t.Fatalf("%s: %s: %v, want an EpochError", to.name, what, err)
		}
	}
	if err == nil || errors.Is(err, ErrOwnMessage) || i == to.cursor {
		to.done[i] = true
	}
	if i == to.cursor && err != nil && e.kind == ContentCommit && e.epoch == epoch {
		n.t.Fatalf("%s: %s: refused in its turn: %v", to.name, what, err)
	}
	for to.done[to.cursor] {
		to.cursor++
	}
}

// catchUp asks the hub for everything that is missing, in its order.
func (n *network) catchUp(to *node) {
	for to.cursor < len(n.log) {
		n.deliver(to, to.cursor)
	}
	if to.sent != nil { // it isn't in the log: it was lost
		to.sent.Drop()
		to.sent, to.at = nil, -1
	}
}

// settle brings all up to date and compares.
func (n *network) settle() {
	for _, c := range n.members {
		n.catchUp(c)
	}
	for _, c := range n.members {
		if c.group.Epoch() != n.hub.Epoch() || !bytes.Equal(c.group.public.state.encoded, n.hub.state.encoded) {
			n.t.Fatalf("%s is in epoch %d, the hub in %d", c.name, c.group.Epoch(), n.hub.Epoch())
		}
		if !bytes.Equal(c.group.EpochAuthenticator(), n.members[0].group.EpochAuthenticator()) {
			n.t.Fatalf("%s is in another state than %s", c.name, n.members[0].name)
		}
		if err := c.group.private.Check(c.group.Tree()); err != nil {
			n.t.Fatalf("%s: %v", c.name, err)
		}
		c.restart(n.tb)
	}
	for _, g := range n.ghosts {
		group, err := LoadGroup(n.members[0].config, g.store.all)
		if err != nil {
			n.t.Fatal(err)
		}
		for i, e := range n.log[g.from:] {
			m := n.message(e.wire)
			switch e.kind {
			case ContentApplication:
				if i%2 == 1 { // it may try the message as one of its own epoch
					m.PrivateMessage.Epoch = group.Epoch()
				}
				if _, err := group.Decrypt(m); err == nil {
					n.t.Fatalf("%s, who was removed, read entry %d", g.name, g.from+i)
				}
			case ContentCommit:
				if _, err := group.StageReceived(m); err == nil {
					n.t.Fatalf("%s, who was removed, followed entry %d", g.name, g.from+i)
				}
			}
		}
	}
}
