package interop

import (
	"bytes"
	"slices"
)

// follow ends the group by a ReInit, or has some members branch off from it, and goes on in the
// group that follows (RFC 9420 §11.2, §11.3). Whoever is not in that one is outside then.
func (w *world) follow(branch bool) {
	if len(w.members) < 2 || len(w.pending) > 0 {
		return
	}
	feature, to := FeatureReInit, slices.Clone(w.members)
	if branch {
		feature = FeatureBranch
		w.rng.Shuffle(len(to), func(i, j int) { to[i], to[j] = to[j], to[i] })
		to = to[:2+w.rng.IntN(len(to)-1)]
	}
	if slices.ContainsFunc(to, func(c *client) bool { return !c.features[feature] }) {
		return
	}
	blank := func(c *client) bool { return int(c.index) >= len(w.members) } // leaves before it are
	if !branch && !w.all(FeatureReInitBlank) && slices.ContainsFunc(w.members, blank) {
		return
	}
	f := Following{Branch: branch}
	if branch {
		f.GroupID = w.bytes(16)
	} else {
		w.reinit()
	}
	founder := pick(w, to)
	joiners := slices.DeleteFunc(slices.Clone(to), func(c *client) bool { return c == founder })
	for _, c := range joiners {
		k, err := c.peer.KeyPackage(c.name)
		w.must(err)
		f.KeyPackages = append(f.KeyPackages, k)
	}
	w.logf("%s founds what follows (branch: %t) with %v", founder, branch, joiners)
	out, err := founder.peer.Follow(founder.name, f)
	w.must(err)
	for _, c := range joiners {
		// Without the old group nobody gets in: the Welcome has its PSK.
		if w.chance(20) {
			if err := c.peer.Join(c.name, out.Welcome, out.RatchetTree); err == nil {
				w.errorf("%s joined what follows without the old group", c)
			}
		}
		w.must(c.peer.JoinFollowing(c.name, branch, out.Welcome, out.RatchetTree))
	}
	w.drop(slices.DeleteFunc(slices.Clone(w.members), func(c *client) bool { return slices.Contains(to, c) }))
	w.epoch = 1
	if w.hub != nil {
		w.hub = &hub{w: w, signer: w.hub.signer}
	}
	w.done[string(feature)]++
	w.agree()
	w.talk()
}

// reinit has a member commit a ReInit, its own or another's. Suites 1 and 3 have the same
// signatures, so clients can go from one to the other with the keys that they have.
func (w *world) reinit() {
	next := w.suite
	if w.suite != 2 && w.chance(50) {
		next = 4 - w.suite
	}
	context := w.extensions()
	if !w.all(FeatureReInitRequired) {
		context = slices.DeleteFunc(context, func(e Extension) bool { return e.Type == requiredCapabilities })
	}
	p := Proposal{Kind: KindReInit, GroupID: w.bytes(16), Suite: next, Extensions: context}
	by := pick(w, w.members)
	proposals := []Proposal{p}
	if w.chance(50) {
		from := pick(w, w.members)
		w.logf("%s proposes a reinit to suite %d", from, next)
		message, err := from.peer.Propose(from.name, p)
		w.must(err)
		w.deliver(from, message, "proposal", nil)
		proposals = nil
	}
	w.logf("%s commits a reinit to suite %d", by, next)
	out, err := by.peer.Commit(by.name, proposals)
	w.must(err)
	w.deliver(by, out.Commit, "commit", nil)
	w.must(by.peer.Merge(by.name))
	w.epoch++
	last, err := by.peer.State(by.name) // nothing may be exported any more
	w.must(err)
	for _, c := range w.members {
		s, err := c.peer.State(c.name)
		w.must(err)
		if s.Epoch != w.epoch || !bytes.Equal(s.EpochAuthenticator, last.EpochAuthenticator) {
			w.errorf("%s ends in epoch %d, authenticator %x, %s in %d, %x", c, s.Epoch, s.EpochAuthenticator, by, last.Epoch, last.EpochAuthenticator)
		}
		if _, err := c.peer.Encrypt(c.name, []byte("late"), nil); err == nil && c.features[FeatureEnds] {
			w.errorf("%s writes to a group that a ReInit ended", c)
		}
	}
	w.suite, w.context = next, context
}
