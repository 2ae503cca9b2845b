package interop

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// A client of some peer, as the script knows it.
type client struct {
	name     string
	peer     Peer
	features map[Feature]bool
	private  bool   // sends handshakes as PrivateMessage, as a SelfRemove may not be
	index    uint32 // its leaf, while a member
}

func (c *client) String() string { return c.name }

// pending is a proposal by reference that waits for a commit.
type pending struct {
	by *client
	Proposal
	added *client // of an Add
}

// A world is one group, the clients in and out of it, and what they should agree on. It plays the
// delivery service: every message reaches every member, commits in one order.
type world struct {
	t        *testing.T
	rng      *rand.Rand
	suite    uint16
	seed     uint64
	members  []*client
	outside  []*client
	pending  []pending
	hub      *hub        // follows the group, if every handshake is public
	context  []Extension // GroupContext extensions
	epoch    uint64
	names    int
	trace    []string
	over     bool           // nobody is left who could go on
	checked  int            // epochs in which all members agreed
	messages int            // application messages that all members read
	done     map[string]int // how often what was done
}

func newWorld(t *testing.T, suite uint16, seed uint64) *world {
	return &world{t: t, done: map[string]int{}, suite: suite, seed: seed, rng: rand.New(rand.NewPCG(seed, uint64(suite)))}
}

func (w *world) logf(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("epoch %d: ", w.epoch)+fmt.Sprintf(format, args...))
}

// must ends the run, with the steps that led here.
func (w *world) must(err error) {
	w.t.Helper()
	if err == nil {
		return
	}
	for _, line := range w.trace {
		w.t.Log(line)
	}
	w.t.Fatalf("suite %d: %v\nreproduce: COMITY_INTEROP_SEED=%d go test ./interop -run '%s$'",
		w.suite, err, w.seed, w.t.Name())
}

func (w *world) errorf(format string, args ...any) {
	w.t.Helper()
	w.must(fmt.Errorf(format, args...))
}

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

func (w *world) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(w.rng.Uint32())
	}
	return b
}

func pick[T any](w *world, from []T) T { return from[w.rng.IntN(len(from))] }

// all says whether every member (and everyone in more) has a feature.
func (w *world) all(f Feature, more ...*client) bool {
	without := func(c *client) bool { return !c.features[f] }
	return !slices.ContainsFunc(w.members, without) && !slices.ContainsFunc(more, without)
}

func (w *world) newClient(peer Peer, caps Capabilities) {
	w.names++
	c := &client{name: fmt.Sprintf("%s-%d", caps.Name, w.names), peer: peer, features: map[Feature]bool{}}
	for _, f := range caps.Features {
		c.features[f] = true
	}
	options := ClientOptions{
		TreeExtension: w.chance(50),
		Private:       w.hub == nil && c.features[FeaturePrivate] && w.chance(30),
		AlwaysPath:    w.chance(50), // ts-mls has no such choice
	}
	c.private = options.Private
	w.must(peer.NewClient(c.name, w.suite, options))
	w.logf("client %s %+v", c, options)
	w.outside = append(w.outside, c)
}

func (w *world) start() {
	founder := pick(w, w.outside)
	w.logf("%s creates the group", founder)
	w.must(founder.peer.CreateGroup(founder.name, w.bytes(16)))
	w.outside = slices.DeleteFunc(w.outside, func(c *client) bool { return c == founder })
	w.members = []*client{founder}
	w.agree()
}

// agree checks that all members see one epoch, group context and membership, and know which.
func (w *world) agree() {
	w.t.Helper()
	label := fmt.Sprintf("label-%d", w.rng.IntN(10))
	context := w.bytes(w.rng.IntN(40))
	length := 1 + w.rng.IntN(64)
	var first State
	var secret []byte
	for i, c := range w.members {
		s, err := c.peer.State(c.name)
		w.must(err)
		slices.SortFunc(s.Members, func(a, b Member) int { return cmp.Compare(a.Index, b.Index) })
		exported, err := c.peer.Export(c.name, label, context, length)
		w.must(err)
		if i == 0 {
			first, secret = s, exported
		}
		switch {
		case s.Epoch != w.epoch:
			w.errorf("%s is in epoch %d, want %d", c, s.Epoch, w.epoch)
		case !bytes.Equal(s.EpochAuthenticator, first.EpochAuthenticator):
			w.errorf("epoch authenticator of %s is %x, of %s %x", c, s.EpochAuthenticator, w.members[0], first.EpochAuthenticator)
		case !bytes.Equal(secret, exported):
			w.errorf("exported secrets of %s and %s differ", c, w.members[0])
		case fmt.Sprint(s.Members) != fmt.Sprint(first.Members):
			w.errorf("members for %s: %v, for %s: %v", c, s.Members, w.members[0], first.Members)
		case fmt.Sprint(s.Extensions) != fmt.Sprint(w.context) && len(s.Extensions)+len(w.context) > 0:
			w.errorf("extensions for %s: %v, want %v", c, s.Extensions, w.context)
		}
		c.index = s.OwnIndex
		if r, ok := c.peer.(interface{ Restart(client string) error }); ok && w.chance(30) {
			w.must(r.Restart(c.name))
			w.done["restart"]++
		}
		own := slices.IndexFunc(s.Members, func(m Member) bool { return m.Index == s.OwnIndex })
		if own < 0 || string(s.Members[own].Identity) != c.name {
			w.errorf("%s sees itself at leaf %d of %v", c, s.OwnIndex, s.Members)
		}
	}
	if len(first.EpochAuthenticator) == 0 || len(first.Members) != len(w.members) {
		w.errorf("epoch authenticator %x, members %v, want %v", first.EpochAuthenticator, first.Members, w.members)
	}
	if w.hub != nil {
		w.hub.agree(pick(w, w.members), first)
	}
	w.checked++
}

// deliver hands a handshake message to every member but its sender, and drops whom it removed.
func (w *world) deliver(from *client, message []byte, kind string, removed []*client) {
	w.t.Helper()
	for _, c := range w.members {
		gone := slices.Contains(removed, c)
		if c == from || gone && !c.features[FeatureRemoval] {
			continue
		}
		got, err := c.peer.Process(c.name, message)
		w.must(err)
		if got.Kind != kind || got.Removed != gone {
			w.errorf("%s processed %+v, want kind %s, removed %t", c, got, kind, gone)
		}
	}
	if w.hub != nil {
		w.hub.receive(message, kind)
	}
	w.drop(removed)
}

func (w *world) drop(removed []*client) {
	for _, c := range removed {
		w.must(c.peer.Forget(c.name))
		w.outside = append(w.outside, c)
	}
	w.members = slices.DeleteFunc(w.members, func(c *client) bool { return slices.Contains(removed, c) })
}

// enter moves clients from outside into the group.
func (w *world) enter(joined []*client) {
	w.outside = slices.DeleteFunc(w.outside, func(c *client) bool { return slices.Contains(joined, c) })
	w.members = append(w.members, joined...)
}

// A draft collects proposals of one commit that can stand together.
type draft struct {
	w        *world
	touched  map[*client]bool // clients that some proposal is about
	gone     map[*client]bool // clients that leave
	context  []Extension
	dict     bool // the dictionary changes
	psks     bool // some PSK is pending
	onePSK   bool // draw no PSK beside a pending one
	path     bool // RFC 9420 §12.4 wants a path
	pathless bool // draw nothing that wants one
}

func (w *world) draft() *draft {
	d := &draft{w: w, touched: map[*client]bool{}, gone: map[*client]bool{}}
	for _, p := range w.pending {
		d.note(p)
	}
	return d
}

func (d *draft) note(p pending) {
	d.path = d.path || p.wantsPath()
	switch p.Kind {
	case KindAdd:
		d.touched[p.added] = true
	case KindRemove:
		d.touched[d.w.at(p.Index)], d.gone[d.w.at(p.Index)] = true, true
	case KindUpdate:
		d.touched[p.by] = true
	case KindSelfRemove:
		d.touched[p.by], d.gone[p.by] = true, true
	case KindGroupContextExtensions:
		d.context = p.Extensions
	case KindAppDataUpdate:
		d.dict = true
	case KindPSK:
		d.psks = true
	}
}

func (p Proposal) wantsPath() bool {
	switch p.Kind {
	case KindRemove, KindUpdate, KindGroupContextExtensions, KindSelfRemove:
		return true
	}
	return false
}

func (w *world) at(index uint32) *client {
	for _, c := range w.members {
		if c.index == index {
			return c
		}
	}
	w.errorf("nobody at leaf %d", index)
	return nil
}

// propose draws a proposal by c that agrees with the rest of the draft, if there is one.
func (d *draft) propose(by *client, reference bool) (pending, bool) {
	w := d.w
	p := pending{by: by}
	free := slices.DeleteFunc(slices.Clone(w.members), func(c *client) bool { return c == by || d.touched[c] })
	switch w.rng.IntN(8) {
	case 0, 1:
		out := slices.DeleteFunc(slices.Clone(w.outside), func(c *client) bool { return d.touched[c] })
		if len(out) == 0 {
			return p, false
		}
		p.Kind, p.added = KindAdd, pick(w, out)
		var err error
		p.KeyPackage, err = p.added.peer.KeyPackage(p.added.name)
		w.must(err)
	case 2:
		if d.pathless || len(free) == 0 || len(w.members)-len(d.touched) < 3 {
			return p, false
		}
		out := pick(w, free)
		if !d.canLose(out) {
			return p, false
		}
		p.Kind, p.Index = KindRemove, out.index
	case 3:
		if !reference || d.touched[by] || !by.features[FeatureUpdate] {
			return p, false
		}
		p.Kind = KindUpdate
	case 4:
		if d.psks && d.onePSK || !w.all(FeaturePSK, w.outside...) {
			return p, false
		}
		p.Kind, p.PSKID = KindPSK, w.bytes(1+w.rng.IntN(40))
		psk := w.bytes(16 + w.rng.IntN(32))
		for _, c := range slices.Concat(w.members, w.outside) {
			w.must(c.peer.PSK(c.name, p.PSKID, psk))
		}
	case 5:
		if d.pathless || d.context != nil || d.dict || !w.all(FeatureGroupContext) {
			return p, false
		}
		p.Kind, p.Extensions = KindGroupContextExtensions, w.extensions()
	case 6:
		if !w.all(FeatureCustom) {
			return p, false
		}
		p.Kind, p.Data = KindCustom, w.bytes(w.rng.IntN(100))
	case 7:
		return d.extension(p, reference)
	}
	d.note(p)
	return p, true
}

// canLose says whether everybody can go on without a client besides those that leave already.
func (d *draft) canLose(out *client) bool {
	if d.w.all(FeatureHalfTree, d.w.outside...) {
		return true
	}
	lowest, highest := ^uint32(0), uint32(0)
	for _, c := range d.w.members {
		if c != out && !d.gone[c] {
			lowest, highest = min(lowest, c.index), max(highest, c.index)
		}
	}
	return highest == 0 || lowest < 1<<(bits.Len32(highest)-1)
}

// extension draws a proposal of the extensions draft.
func (d *draft) extension(p pending, reference bool) (pending, bool) {
	w := d.w
	switch w.rng.IntN(2) {
	case 0:
		if d.context != nil || d.dict || !w.all(FeatureAppDataUpdate, w.outside...) {
			return p, false
		}
		p.Kind, p.Component, p.Update = KindAppDataUpdate, uint16(0x8000+w.rng.IntN(3)), w.bytes(1+w.rng.IntN(20))
	case 1:
		left := len(w.members) - len(d.touched)
		if !reference || p.by.private || d.touched[p.by] || left < 3 || !d.canLose(p.by) || !w.all(FeatureSelfRemove, w.outside...) {
			return p, false
		}
		p.Kind = KindSelfRemove
	}
	d.note(p)
	return p, true
}

// extensions draws a GroupContext: each of the types that all leaves support, or not. Where a peer
// wants it, and else at random, required_capabilities (RFC 9420 §7.2) lists them.
func (w *world) extensions() []Extension {
	list := []Extension{}
	if !w.all(FeatureFreeContext, w.outside...) || w.chance(30) {
		types := binary.BigEndian.AppendUint16(nil, AppDataDictionary)
		types = binary.BigEndian.AppendUint16(types, OpaqueExtension)
		required := appendOpaque(nil, types)
		required = appendOpaque(required, nil)          // proposals
		required = appendOpaque(required, []byte{0, 1}) // credentials: basic
		list = append(list, Extension{requiredCapabilities, required})
	}
	if w.hub != nil && w.all(FeatureExternalSenders, w.outside...) && w.chance(90) {
		list = append(list, w.hub.senders())
	}
	dict := Extension{AppDataDictionary, dictionary(map[uint16][]byte{
		0x8000: w.bytes(w.rng.IntN(20)), 0x8001: w.bytes(w.rng.IntN(70)),
	})}
	first := w.chance(60)
	last := !first && w.chance(50)
	if first && !w.all(FeatureDictionaryPlace, w.outside...) {
		first, last = false, true
	}
	if first {
		list = append(list, dict)
	}
	if w.chance(60) || len(list) == 0 && !last && !w.all(FeatureEmptyContext, w.outside...) {
		list = append(list, Extension{OpaqueExtension, w.bytes(w.rng.IntN(200))})
	}
	if last {
		list = append(list, dict)
	}
	return list
}

// dictionary encodes an AppDataDictionary (MLS extensions §4.6), its entries in order.
func dictionary(entries map[uint16][]byte) []byte {
	var list []byte
	ids := make([]uint16, 0, len(entries))
	for id := range entries {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		list = binary.BigEndian.AppendUint16(list, id)
		list = appendOpaque(list, entries[id])
	}
	return appendOpaque(nil, list)
}

func appendOpaque(dst, b []byte) []byte {
	if len(b) < 1<<6 {
		dst = append(dst, byte(len(b)))
	} else {
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(b))|1<<14)
	}
	return append(dst, b...)
}

// parseDictionary is the inverse of dictionary.
func parseDictionary(b []byte) map[uint16][]byte {
	opaque := func(b []byte) (content, rest []byte) {
		n, used := int(b[0]), 1
		if b[0]&0xc0 != 0 {
			n, used = int(binary.BigEndian.Uint16(b)&0x3fff), 2
		}
		return b[used : used+n], b[used+n:]
	}
	entries := map[uint16][]byte{}
	list, _ := opaque(b)
	for len(list) > 0 {
		id := binary.BigEndian.Uint16(list)
		entries[id], list = opaque(list[2:])
	}
	return entries
}

// proposeByReference has some members each send a proposal.
func (w *world) proposeByReference() {
	for range 1 + w.rng.IntN(3) {
		by := pick(w, w.members)
		if slices.ContainsFunc(w.pending, func(p pending) bool { return p.Kind == KindSelfRemove && p.by == by }) {
			continue
		}
		p, ok := w.draft().propose(by, true)
		if !ok {
			continue
		}
		w.logf("%s proposes %s", by, p)
		message, err := by.peer.Propose(by.name, p.Proposal)
		w.must(err)
		w.deliver(by, message, "proposal", nil)
		w.pending = append(w.pending, p)
	}
}

func (p pending) String() string {
	switch p.Kind {
	case KindAdd:
		return fmt.Sprintf("add %s", p.added)
	case KindRemove:
		return fmt.Sprintf("remove leaf %d", p.Index)
	case KindGroupContextExtensions:
		return fmt.Sprintf("group context with %d extensions", len(p.Extensions))
	}
	return string(p.Kind)
}

// committers are the members who may commit the pending proposals.
func (w *world) committers() []*client {
	d := w.draft()
	return slices.DeleteFunc(slices.Clone(w.members), func(c *client) bool {
		return d.touched[c] || d.path && !c.features[FeaturePath]
	})
}

// commit has a member commit everything pending and more by value. Now and then the commit is lost
// first, and dropped by its maker.
func (w *world) commit() {
	candidates := w.committers()
	if len(candidates) == 0 { // each has an Update pending, or can't do what is
		w.external()
		return
	}
	if w.chance(15) {
		loser := pick(w, candidates)
		w.logf("%s commits %v, in vain", loser, w.pending)
		_, err := loser.peer.Commit(loser.name, nil)
		w.must(err)
		w.done["lost commit"]++
		w.must(loser.peer.Discard(loser.name))
	}
	by := pick(w, candidates)
	d := w.draft()
	d.touched[by] = true
	d.pathless = !by.features[FeaturePath]
	d.onePSK = !by.features[FeaturePSKOrder]
	covered := slices.Clone(w.pending)
	var values []Proposal
	for range w.rng.IntN(3) {
		if p, ok := d.propose(by, false); ok {
			covered, values = append(covered, p), append(values, p.Proposal)
		}
	}
	w.logf("%s commits %v (%d by value)", by, covered, len(values))
	out, err := by.peer.Commit(by.name, values)
	w.must(err)

	var added, removed []*client
	for _, p := range covered {
		w.done[string(p.Kind)]++
		switch p.Kind {
		case KindAdd:
			added = append(added, p.added)
		case KindRemove:
			removed = append(removed, w.at(p.Index))
		case KindSelfRemove:
			removed = append(removed, p.by)
		case KindGroupContextExtensions:
			w.context = p.Extensions
		case KindAppDataUpdate:
			w.context = updated(w.context, p.Component, p.Update)
		}
	}
	w.deliver(by, out.Commit, "commit", removed)
	w.must(by.peer.Merge(by.name))
	w.epoch++
	w.pending = nil
	if (out.Welcome != nil) != (len(added) > 0) {
		w.errorf("Welcome of %d octets for %d new members", len(out.Welcome), len(added))
	}
	var lost []*client
	for _, c := range added {
		if err := c.peer.Join(c.name, out.Welcome, out.RatchetTree); deviates(err) {
			lost = append(lost, c)
		} else {
			w.must(err)
		}
	}
	w.enter(slices.DeleteFunc(added, func(c *client) bool { return slices.Contains(lost, c) }))
	w.expel(lost)
}

// deviations are refusals that RFC 9420 doesn't know; docs/interop.md tells of each.
var deviations = []string{
	// ts-mls wants all parents above an unmerged leaf to list the same unmerged leaves.
	"non-blank intermediate node must list leaf node in its unmerged_leaves",
}

func deviates(err error) bool {
	return err != nil && slices.ContainsFunc(deviations, func(s string) bool { return strings.Contains(err.Error(), s) })
}

// expel removes clients that are in the tree but refused to join, then checks that the rest agree.
func (w *world) expel(lost []*client) {
	if len(lost) == 0 {
		w.agree()
		return
	}
	i := slices.IndexFunc(w.members, func(c *client) bool { return c.features[FeaturePath] })
	if i < 0 {
		w.logf("nobody can remove %v", lost)
		w.over = true
		return
	}
	by := w.members[i]
	s, err := by.peer.State(by.name)
	w.must(err)
	var values []Proposal
	for _, m := range s.Members {
		if slices.ContainsFunc(lost, func(c *client) bool { return c.name == string(m.Identity) }) {
			values = append(values, Proposal{Kind: KindRemove, Index: m.Index})
		}
	}
	w.logf("%s removes %v, who refused to join", by, lost)
	out, err := by.peer.Commit(by.name, values)
	w.must(err)
	w.deliver(by, out.Commit, "commit", nil)
	w.must(by.peer.Merge(by.name))
	w.epoch++
	w.outside = append(w.outside, slices.DeleteFunc(slices.Clone(lost), func(c *client) bool { return slices.Contains(w.outside, c) })...)
	w.agree()
}

// updated is the group context after an AppDataUpdate that replaces a component's data.
func updated(context []Extension, component uint16, data []byte) []Extension {
	out := slices.Clone(context)
	i := slices.IndexFunc(out, func(e Extension) bool { return e.Type == AppDataDictionary })
	if i < 0 {
		return append(out, Extension{AppDataDictionary, dictionary(map[uint16][]byte{component: data})})
	}
	entries := parseDictionary(out[i].Data)
	entries[component] = data
	out[i].Data = dictionary(entries)
	return out
}

// external has a client join alone, or a member whose state is broken join again.
func (w *world) external() {
	var joiner *client
	var remove *uint32
	if w.chance(40) && len(w.members) > 1 && len(w.pending) == 0 {
		joiner = pick(w, w.members)
		if !joiner.features[FeatureResync] {
			return
		}
		index := joiner.index
		remove = &index
	} else if len(w.outside) > 0 {
		joiner = pick(w, w.outside)
	} else {
		return
	}
	host := pick(w, slices.DeleteFunc(slices.Clone(w.members), func(c *client) bool { return c == joiner }))
	w.logf("%s joins externally (again: %t) with the GroupInfo of %s", joiner, remove != nil, host)
	info, err := host.peer.GroupInfo(host.name)
	w.must(err)
	if remove != nil {
		w.must(joiner.peer.Forget(joiner.name))
	}
	commit, err := joiner.peer.JoinExternal(joiner.name, info.GroupInfo, info.RatchetTree, remove)
	if deviates(err) {
		w.logf("%s refuses", joiner)
		if remove == nil {
			return
		}
		w.members = slices.DeleteFunc(w.members, func(c *client) bool { return c == joiner })
		w.expel([]*client{joiner})
		return
	}
	w.must(err)
	w.deliver(joiner, commit, "commit", nil)
	w.done["join externally"]++
	w.epoch++
	w.pending = nil
	if remove == nil {
		w.enter([]*client{joiner})
	}
	w.agree()
}

// talk sends application messages from some members, read by everyone, out of order.
func (w *world) talk() {
	type sent struct {
		by                 *client
		data, aad, message []byte
	}
	var all []sent
	for range 1 + w.rng.IntN(4) {
		m := sent{by: pick(w, w.members), data: w.bytes(w.rng.IntN(300)), aad: w.bytes(w.rng.IntN(30))}
		var err error
		m.message, err = m.by.peer.Encrypt(m.by.name, m.data, m.aad)
		w.must(err)
		all = append(all, m)
	}
	w.logf("%d application messages", len(all))
	for _, c := range w.members {
		for _, i := range w.rng.Perm(len(all)) {
			m := all[i]
			if m.by == c {
				continue
			}
			got, err := c.peer.Process(c.name, m.message)
			w.must(err)
			if got.Kind != "application" || !bytes.Equal(got.Data, m.data) || !bytes.Equal(got.AAD, m.aad) {
				w.errorf("%s read %+v from %s, sent %x with AAD %x", c, got, m.by, m.data, m.aad)
			}
		}
	}
	w.messages += len(all)
}

// step does one random thing.
func (w *world) step() {
	switch w.rng.IntN(10) {
	case 0, 1, 2:
		w.commit()
	case 3, 4, 5:
		w.proposeByReference()
		w.commit()
	case 6:
		if w.hub != nil {
			w.hub.propose()
			w.commit()
			return
		}
		w.proposeByReference() // left for whoever commits next, or lost with the epoch
		if w.chance(50) {
			w.talkPending()
		}
	case 7:
		if len(w.pending) == 0 || w.chance(50) {
			w.external()
		}
	default:
		if w.talkPending(); w.chance(10) {
			w.follow(true)
		}
	}
}

// talkPending talks where RFC 9420 §15.2 lets it: a client refuses to send application data while
// proposals wait, so those are committed first.
func (w *world) talkPending() {
	if len(w.pending) > 0 {
		w.commit()
	}
	if len(w.pending) == 0 {
		w.talk()
	}
}
