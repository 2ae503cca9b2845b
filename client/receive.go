package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/content"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// receive takes up events in their order. It returns when they are stored; an
// error means that some may not be.
func (c *Client) receive(ctx context.Context, list []clientapi.Event) error {
	final := false
	for len(list) > 0 {
		n, domain, events, err := c.take(ctx, list, final)
		if err != nil {
			return err
		}
		c.notify.tell(events...)
		list, final = list[n:], false
		if domain == "" {
			continue
		}
		again, err := c.learn(ctx, domain)
		for tries := 0; err != nil && tries < askIssuers; tries++ {
			// Its provider, or ours, may be away for a moment.
			if err := sleep(ctx, backoff(tries)); err != nil {
				return err
			}
			again, err = c.learn(ctx, domain)
		}
		if err != nil {
			return &unknownIssuersError{err} // the events come again with the next connection
		}
		final = !again // judge the event without these issuers
	}
	return nil
}

// take takes up as many events as it can, and stores what they change together.
// It stops before one that needs the issuers of a domain; final says that the
// first is not to wait for any.
func (c *Client) take(ctx context.Context, list []clientapi.Event, final bool) (n int, need mimi.ProviderDomain, events []Event, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &batch{c: c, ctx: ctx}
	err = c.store.Update(ctx, func(tx Tx) error {
		b.tx = tx
		for i := range list {
			b.final = final && i == 0
			err := b.event(&list[i])
			if need = missing(err); need != "" && (i > 0 || !final) {
				break
			}
			if need = ""; err != nil {
				return err
			}
			n++
		}
		return b.store()
	})
	if err != nil {
		c.forget(ctx, b.rooms...)
		c.touch()
		return 0, "", nil, err
	}
	c.touch()
	return n, need, b.events, nil
}

// write runs f in a transaction and stores what it changed. After an error what
// is in memory of the rooms is what is stored. c.mu is held; the caller tells
// the events once it is not.
func (c *Client) write(ctx context.Context, f func(b *batch) error, rooms ...*roomState) ([]Event, error) {
	b := &batch{c: c, ctx: ctx, rooms: rooms}
	err := c.store.Update(ctx, func(tx Tx) error {
		b.tx, b.events = tx, nil
		if err := f(b); err != nil {
			return err
		}
		return b.store()
	})
	if err != nil {
		c.forget(ctx, b.rooms...)
	}
	c.touch()
	return b.events, err
}

// A batch is a transaction with what it changes in memory. c.mu is held.
type batch struct {
	c      *Client
	ctx    context.Context
	tx     Tx
	rooms  []*roomState
	events []Event
	final  bool // the event is judged with the issuers that are known
}

// missing is the function missing, where issuers may be waited for.
func (b *batch) missing(err error) mimi.ProviderDomain {
	if b.final {
		return ""
	}
	return missing(err)
}

// touch notes that a room changes.
func (b *batch) touch(r *roomState) {
	if !slices.Contains(b.rooms, r) {
		b.rooms = append(b.rooms, r)
	}
}

// store stores the rooms that changed.
func (b *batch) store() error {
	for _, r := range b.rooms {
		if err := b.c.save(b.tx, r); err != nil {
			return err
		}
		if err := flush(b.tx, r); err != nil {
			return err
		}
	}
	return nil
}

// raise notes an event to tell when all is stored, and keeps it in the room's
// history if it belongs there.
func (b *batch) raise(r *roomState, e Event) error {
	if r != nil {
		e.Room = r.uri
	}
	if e.Time.IsZero() {
		e.Time = b.c.cfg.Now()
	}
	b.events = append(b.events, e)
	switch e.Kind {
	case EventJoined, EventOut, EventAdded, EventRemoved, EventRole, EventChanged, EventRepaired, EventRefounded, EventProblem:
	default:
		return nil
	}
	if r == nil {
		return nil
	}
	if r.rec.number == 0 {
		if err := b.c.save(b.tx, r); err != nil {
			return err
		}
	}
	text, err := json.Marshal(&e)
	if err != nil {
		return err
	}
	r.rec.counter++
	b.touch(r)
	return put(b.tx, key(keyNotice, r.rec.number, counter(r.rec.counter)), &noticeRecord{at: uint64(e.Time.UnixMilli()), event: text})
}

func (b *batch) problem(r *roomState, format string, args ...any) error {
	return b.raise(r, Event{Kind: EventProblem, Text: fmt.Sprintf(format, args...)})
}

// event takes up one event. An error is one of the store's, or says that issuers
// are missing: then nothing has changed.
func (b *batch) event(ev *clientapi.Event) error {
	r := b.c.room(ev.Room)
	if ev.Invited {
		return b.invited(r)
	}
	if uint64(ev.Seq) <= r.rec.cursor {
		return nil
	}
	if !r.saved {
		if err := b.c.save(b.tx, r); err != nil {
			return err
		}
	}
	b.touch(r)
	if len(ev.Fanout) == 0 {
		r.rec.cursor = uint64(ev.Seq)
		return nil
	}
	m := new(mimi.FanoutMessage)
	if err := tlspl.Unmarshal(ev.Fanout, m); err != nil {
		if err := b.problem(r, "event %d of the room can't be read: %v", ev.Seq, err); err != nil {
			return err
		}
		r.rec.cursor = uint64(ev.Seq)
		return nil
	}
	err := b.c.hold(b.tx, r)
	if err == nil {
		switch m.Kind() {
		case mimi.FanoutWelcome:
			err = b.welcome(r, m)
		case mimi.FanoutCommit:
			err = b.commit(r, m)
		case mimi.FanoutProposal:
			err = b.proposals(r, m)
		case mimi.FanoutApplication:
			err = b.application(r, m, uint64(ev.Seq))
		}
	}
	if err != nil {
		return err
	}
	if !r.rec.standing.out() || r.rec.cursor > 0 { // else the provider knows that it is out
		r.rec.cursor = uint64(ev.Seq)
	}
	b.schedule(r)
	return nil
}

// invited notes that the user is a participant of a room that the device is not in.
func (b *batch) invited(r *roomState) error {
	switch r.rec.standing {
	case 0, Left:
		r.rec.standing, r.rec.why, r.retryAt, r.failures = Outside, "", time.Time{}, 0
		b.touch(r)
	}
	return nil
}

// schedule decides whether this device is to commit what others proposed.
func (b *batch) schedule(r *roomState) {
	c := b.c
	switch {
	case r.rec.standing != Leaving || r.group == nil || departing(r.group):
		r.leaveAt = time.Time{}
	case r.leaveAt.IsZero():
		r.leaveAt = c.cfg.Now().Add(c.commitDelay(r.group))
	}
	if r.group != nil && r.rec.standing == Joined && r.rec.repair == "" && r.group.Ended() != nil {
		if r.commitAt.IsZero() {
			r.commitAt = c.cfg.Now().Add(c.foundDelay(r.group)) // to found the next group
		}
		return
	}
	if r.group == nil || r.rec.standing != Joined || r.group.Group().Removed() || len(r.group.Group().Pending()) == 0 || targeted(r.group) {
		r.commitAt = time.Time{}
		return
	}
	if r.commitAt.IsZero() {
		r.commitAt = c.cfg.Now().Add(c.commitDelay(r.group))
	}
}

// longestDelay is the longest wait before a commit that a room's policy can ask for.
const longestDelay = 10 * time.Minute

// commitDelay is how long to wait before committing what others proposed: as the room's pending_proposal_policy says, up to
// a second at random where it says nothing (room policy §7.1).
func (c *Client) commitDelay(g *room.Room) time.Duration {
	if c.cfg.CommitDelay != nil {
		return c.cfg.CommitDelay()
	}
	least, most := time.Duration(0), time.Second
	if g != nil && g.View().Operational() != nil {
		bound := func(millis uint64) time.Duration {
			return time.Duration(min(millis, uint64(longestDelay.Milliseconds()))) * time.Millisecond
		}
		switch p := g.View().Operational().PendingProposalPolicy; p.PendingProposalStrategy {
		case mimi.PendingImmediateCommit:
			return 0
		case mimi.PendingRandomDelay:
			least, most = bound(p.MinimumDelayMillis), bound(p.MaximumDelayMillis)
		}
	}
	return least + mathrand.N(max(most-least, 0)+1)
}

// departing reports whether this device's SelfRemove is among the pending proposals.
func departing(g *room.Room) bool {
	own := g.Group().OwnLeaf()
	return slices.ContainsFunc(g.Group().Pending(), func(p mls.ResolvedProposal) bool {
		return p.Proposal.Type == mls.ProposalSelfRemove && p.Sender.Type == mls.SenderMember && p.Sender.LeafIndex == own
	})
}

// targeted reports whether a pending proposal takes this device out, which then
// can't commit it (Decision 34).
func targeted(g *room.Room) bool {
	own := g.Group().OwnLeaf()
	for _, p := range g.Group().Pending() {
		if p.Proposal.Type == mls.ProposalRemove && p.Proposal.Remove.Removed == own ||
			(p.Proposal.Type == mls.ProposalSelfRemove || p.Proposal.Type == mls.ProposalUpdate) &&
				p.Sender.Type == mls.SenderMember && p.Sender.LeafIndex == own {
			return true
		}
	}
	return false
}

// welcome enters a room by a Welcome, if it is for this device.
func (b *batch) welcome(r *roomState, m *mimi.FanoutMessage) error {
	w := m.Message.Welcome
	var ref []byte
	var p packageRecord
	for i := range w.Secrets {
		k := append([]byte{keyKeyPackage}, w.Secrets[i].NewMember...)
		found, err := get(b.tx, k, &p)
		if err != nil {
			return err
		}
		if found {
			ref = k
			break
		}
	}
	if ref == nil {
		if r.group == nil && (r.rec.standing == 0 || r.rec.standing == Left || r.rec.standing == Kicked) {
			r.rec.standing = Outside // it was for this device, which lost the keys
		}
		return nil
	}
	secrets, err := mls.LoadKeyPackageSecrets(p.secrets)
	if err != nil {
		return &CorruptError{keyKeyPackage, err}
	}
	in := r.group != nil && r.group.Active() && r.rec.standing == Joined && r.rec.repair == ""
	g, err := room.JoinWelcome(b.c.roomConfig(), r.uri, w, secrets, m.RatchetTreeOption, r.group)
	if err != nil {
		if b.missing(err) != "" {
			return err
		}
		if in {
			return nil
		}
		return b.repair(r, "the Welcome can't be used: %v", err)
	}
	if in && bytes.Equal(g.Group().GroupID(), r.group.Group().GroupID()) {
		return nil // it came in by itself in the meantime
	}
	if in || r.rec.standing == Lost {
		// The hub had lost the room, and somebody has founded it again; or has taken its name.
		if err := strange(r, r.group, g.View()); err != nil {
			return b.problem(r, "%v", err)
		}
	}
	anew := in || r.rec.standing == Lost || r.group != nil && r.group.Ended() != nil
	if err := b.enter(r, g); err != nil {
		return err
	}
	r.retryAt, r.commitAt = time.Time{}, time.Time{}
	if err := b.tx.Delete(ref); err != nil {
		return err
	}
	select {
	case b.c.used <- struct{}{}:
	default:
	}
	kind := EventJoined
	if anew {
		kind = EventRefounded
	}
	return b.raise(r, Event{Kind: kind, Epoch: g.View().Epoch(), Time: millis(m.Timestamp)})
}

// enter makes g the room's group, whatever was there before.
func (b *batch) enter(r *roomState, g *room.Room) error {
	if err := drop(b.tx, key(keyGroup, r.rec.number)); err != nil {
		return err
	}
	if g.View().Epoch() == 0 || !r.joinsAfter(g.View().Epoch()-1) {
		if err := b.abandon(r); err != nil {
			return err
		}
	}
	if err := b.unneed(r); err != nil {
		return err
	}
	r.group, r.began = g, 0
	r.rec.standing, r.rec.why, r.rec.repair, r.failures = Joined, "", "", 0
	r.rec.name = g.View().Metadata().RoomName
	b.touch(r)
	return nil
}

// joinsAfter reports whether the handshake that is under way brings this device in after an epoch: then it builds on the
// Commit that ends that epoch, and the hub may have accepted it by now.
func (r *roomState) joinsAfter(epoch mls.Epoch) bool {
	return r.pending != nil && r.pending.kind == pendingJoin && r.pending.epoch > epoch
}

// abandon gives up the handshake that is under way.
func (b *batch) abandon(r *roomState) error {
	if r.pending == nil {
		return nil
	}
	r.pending, r.next = nil, nil
	return b.tx.Delete(key(keyPending, r.rec.number))
}

// settle takes up the handshake that is under way: the hub has accepted it.
func (b *batch) settle(r *roomState, at mimi.Millis) error {
	p, next := r.pending, r.next
	p.won = true
	if err := flush(b.tx, r); err != nil {
		return err
	}
	if p.kind == pendingJoin || p.kind == pendingAgain {
		if err := drop(b.tx, key(keyGroup, r.rec.number)); err != nil {
			return err
		}
	}
	if err := b.abandon(r); err != nil {
		return err
	}
	if err := keep(b.tx, r.rec.number, p.records); err != nil {
		return err
	}
	if p.kind != pendingCreate {
		r.group = next
	}
	if err := b.c.hold(b.tx, r); err != nil {
		return err
	}
	if r.group == nil {
		return &CorruptError{keyPending, errors.New("the room's group is gone")}
	}
	switch p.kind {
	case pendingJoin, pendingCreate, pendingAgain:
		if err := b.unneed(r); err != nil {
			return err
		}
		if r.rec.standing != Leaving { // which came in anew to leave in this epoch
			r.rec.standing = Joined
		}
		r.rec.why, r.rec.repair, r.failures = "", "", 0
	case pendingPropose:
		r.rec.standing = Leaving
	}
	if p.kind != pendingPropose {
		r.began = at
	}
	r.rec.name = r.group.View().Metadata().RoomName
	b.touch(r)
	b.ended(r)
	b.schedule(r)
	var events []Event
	if err := json.Unmarshal(p.events, &events); err != nil && len(p.events) > 0 {
		return &CorruptError{keyPending, err}
	}
	for _, e := range events {
		e.Time = millis(at)
		if err := b.raise(r, e); err != nil {
			return err
		}
	}
	return nil
}

// ours reports whether a message is the handshake that is under way.
func ours(r *roomState, m *mimi.Message) bool {
	if r.pending == nil {
		return false
	}
	digest, err := m.Digest()
	return err == nil && bytes.Equal(digest[:], r.pending.digest)
}

// handshakeEpoch returns the epoch of a handshake message.
func handshakeEpoch(m *mimi.Message) mls.Epoch {
	switch {
	case m.PublicMessage != nil:
		return m.PublicMessage.Content.Epoch
	case m.SemiPrivateMessage != nil:
		return m.SemiPrivateMessage.Epoch
	}
	return 0
}

// behind handles a message of another epoch than the present one: an older one
// says nothing any more, a newer one says that something was missed.
func (b *batch) behind(r *roomState, epoch mls.Epoch) (bool, error) {
	switch now := r.group.View().Epoch(); {
	case epoch < now:
		return true, nil
	case epoch > now:
		return true, b.repair(r, "the room is in epoch %d, this device missed what came after epoch %d", epoch, now)
	}
	return false, nil
}

// repair notes that the device has to come in anew, for the worker.
func (b *batch) repair(r *roomState, format string, args ...any) error {
	if r.rec.standing == Refused || r.rec.repair != "" {
		return nil
	}
	r.rec.repair = fmt.Sprintf(format, args...)
	b.touch(r)
	if r.rec.standing != Joined && r.rec.standing != Leaving {
		r.rec.standing = Outside
	}
	return nil
}

// commit takes up a Commit: this device's own, or another's that the room's rules allow.
func (b *batch) commit(r *roomState, m *mimi.FanoutMessage) error {
	if ours(r, &m.Message) {
		if err := b.settle(r, m.Timestamp); err != nil {
			return err
		}
		return b.stapled(r, m)
	}
	if r.group == nil || r.group.Group().Removed() {
		return nil
	}
	if other, err := b.elsewhere(r, &m.Message, m.Timestamp); other || r.rec.standing == Refused {
		return err
	}
	epoch := handshakeEpoch(&m.Message)
	if epoch+1 < r.group.View().Epoch() && r.began != 0 && m.Timestamp > r.began {
		return b.repair(r, "the hub has gone back to epoch %d, this device is in epoch %d: the hub was restored from a backup", epoch, r.group.View().Epoch())
	}
	if epoch+1 == r.group.View().Epoch() {
		return b.stapled(r, m) // this device's own, which the hub's answer has settled
	}
	if other, err := b.behind(r, epoch); other {
		return err
	}
	staged, err := r.group.StageReceived(&m.Message)
	if err != nil {
		return b.refuse(r, m, err)
	}
	events := changes(r.group, staged)
	out, why := b.expelled(r, staged)
	ahead := r.joinsAfter(epoch)
	if ahead && out != 0 {
		return nil
	}
	if err := r.group.Merge(staged); err != nil {
		return b.repair(r, "a commit can't be followed: %v", err)
	}
	if !ahead {
		if err := b.abandon(r); err != nil { // it was for the epoch that is over
			return err
		}
	}
	for _, e := range events {
		e.Time = millis(m.Timestamp)
		if err := b.raise(r, e); err != nil {
			return err
		}
	}
	if out != 0 {
		return b.leave(r, out, why, m.Timestamp)
	}
	r.rec.name = r.group.View().Metadata().RoomName
	if err := b.raise(r, Event{Kind: EventEpoch, Epoch: r.group.View().Epoch(), Time: millis(m.Timestamp)}); err != nil {
		return err
	}
	r.repairs, r.began = 0, m.Timestamp
	b.ended(r)
	return b.stapled(r, m)
}

// stapled takes up the hub's proposals that came with a Commit. Decision 60
func (b *batch) stapled(r *roomState, m *mimi.FanoutMessage) error {
	if len(m.ExternalProposals) == 0 || r.group == nil || r.group.Group().Removed() {
		return nil
	}
	if err := r.group.ReceiveProposals(m.ExternalProposals...); err != nil {
		return b.problem(r, "a proposal of the hub can't be taken up: %v", err)
	}
	return nil
}

// refuse decides about a Commit that can't be followed. One that policy forbids
// is not followed though the hub let it through: the room stays in its last good
// state (Decision 85). After any other the device comes in anew.
func (b *batch) refuse(r *roomState, m *mimi.FanoutMessage, err error) error {
	if b.missing(err) != "" {
		return err
	}
	if denial := room.Denied(err); denial != nil {
		r.rec.standing, r.rec.why = Refused, denial.Error()
		return b.raise(r, Event{Kind: EventProblem, Time: millis(m.Timestamp),
			Text: "the hub let a change through that the room's policy forbids; this device does not follow it: " + denial.Error()})
	}
	if errors.Is(err, mls.ErrOwnMessage) {
		return b.repair(r, "a commit of this device is in the room that it does not know of: its state is old, or there is a copy of it")
	}
	return b.repair(r, "a commit can't be followed: %v", err)
}

// expelled says whether a Commit takes this device out, and how it then stands.
func (b *batch) expelled(r *roomState, s *room.Staged) (Standing, string) {
	if !s.Removed() {
		return 0, ""
	}
	changes := s.Changes()
	if changes.External() {
		if leaf := changes.NewTree.Leaf(changes.CommitterLeaf); leaf != nil {
			if who, err := b.c.trust.Identify(&leaf.Credential); err == nil && who.Client == b.c.self.client {
				return Replaced, "a copy of this device took its place; log in anew with another device name"
			}
		}
	}
	for _, p := range s.Participants() {
		if p.User != b.c.self.user.Identifier() || p.From == p.To {
			continue
		}
		switch {
		case p.To == policy.NoRole && p.By == p.User:
			return Left, "left"
		case p.To == policy.NoRole:
			return Left, "removed by " + string(p.By)
		case p.To == policy.BannedRole:
			return Left, "banned by " + string(p.By)
		}
	}
	if r.rec.standing == Leaving {
		return Left, "left"
	}
	return Kicked, "taken out by " + string(b.committer(changes))
}

// committer is whose Commit it was.
func (b *batch) committer(x *mls.Changes) mimi.UserURI {
	if leaf := x.NewTree.Leaf(x.CommitterLeaf); leaf != nil {
		if who, err := b.c.trust.Identify(&leaf.Credential); err == nil {
			return who.User
		}
	}
	return ""
}

// leave drops the group of a room that the device is out of. Its messages stay.
func (b *batch) leave(r *roomState, standing Standing, why string, at mimi.Millis) error {
	if err := drop(b.tx, key(keyGroup, r.rec.number)); err != nil {
		return err
	}
	if err := b.abandon(r); err != nil {
		return err
	}
	r.group, r.rec.standing, r.rec.why, r.rec.repair = nil, standing, why, ""
	r.reads = standing.out()
	b.touch(r)
	return b.raise(r, Event{Kind: EventOut, Text: why, Time: millis(at)})
}

// proposals takes up proposals that the hub accepted.
func (b *batch) proposals(r *roomState, m *mimi.FanoutMessage) error {
	if ours(r, &m.Message) {
		return b.settle(r, m.Timestamp)
	}
	if r.group == nil || r.group.Group().Removed() || r.rec.standing == Refused {
		return nil
	}
	if other, err := b.elsewhere(r, &m.Message, m.Timestamp); other {
		return err
	}
	if other, err := b.behind(r, handshakeEpoch(&m.Message)); other {
		return err
	}
	before := len(r.group.Group().Pending())
	list := append([]mimi.Message{m.Message}, m.MoreProposals...)
	if err := r.group.ReceiveProposals(list...); err != nil {
		if b.missing(err) != "" {
			return err
		}
		return b.problem(r, "a proposal can't be taken up: %v", err)
	}
	if err := b.beside(r, list); err != nil {
		return err
	}
	for _, p := range r.group.Group().Pending()[before:] {
		e := Event{Kind: EventProposed, Epoch: r.group.View().Epoch(), Text: p.Proposal.Type.String(), Time: millis(m.Timestamp)}
		if p.Sender.Type == mls.SenderMember {
			if leaf := r.group.Group().Tree().Leaf(p.Sender.LeafIndex); leaf != nil {
				if who, err := b.c.trust.Identify(&leaf.Credential); err == nil {
					e.User = who.User.Identifier()
				}
			}
		}
		if err := b.raise(r, e); err != nil {
			return err
		}
	}
	return nil
}

// beside takes proposals up in the state to which proposals of this device lead
// that are under way: they are in the same epoch.
func (b *batch) beside(r *roomState, list []mimi.Message) error {
	p := r.pending
	if p == nil || p.kind != pendingPropose {
		return nil
	}
	if r.next == nil { // since the device started
		if err := flush(b.tx, r); err != nil {
			return err
		}
		var err error
		if r.next, err = b.c.loadWith(b.tx, r, p.records); err != nil {
			return err
		}
	}
	if err := r.next.ReceiveProposals(list...); err != nil {
		return b.problem(r, "a proposal can't be taken up: %v", err)
	}
	records, err := r.next.Flush()
	if err != nil {
		return err
	}
	p.records = append(p.records, records...)
	return put(b.tx, key(keyPending, r.rec.number), p)
}

// changes are the events that a Commit makes.
func changes(g *room.Room, s *room.Staged) []Event {
	var events []Event
	roles := g.View().Roles()
	for _, p := range s.Participants() {
		e := Event{User: p.User, By: p.By, Clients: p.Added - p.Removed}
		switch {
		case p.From == policy.NoRole && p.To != policy.NoRole:
			e.Kind, e.Role = EventAdded, roles.Name(p.To)
		case p.To == policy.NoRole && p.From != policy.NoRole:
			e.Kind = EventRemoved
		case p.From != p.To:
			e.Kind, e.Role = EventRole, roles.Name(p.To)
		case p.Added > 0 || p.Removed > 0:
			e.Kind = EventClients
		default:
			continue
		}
		events = append(events, e)
	}
	var names []string
	for _, id := range s.Updated() {
		if id != mimi.ComponentParticipantList {
			names = append(names, mimi.ComponentName(id))
		}
	}
	if len(names) > 0 {
		slices.Sort(names)
		events = append(events, Event{Kind: EventChanged, Text: joinWords(names)})
	}
	return events
}

func joinWords(words []string) string {
	out := ""
	for i, w := range slices.Compact(words) {
		if i > 0 {
			out += ", "
		}
		out += w
	}
	return out
}

func millis(m mimi.Millis) time.Time { return time.UnixMilli(int64(min(m, 1<<62))) }

// line is an event in words.
func line(e *Event) string {
	room := ""
	if e.Room != "" {
		room = "[" + e.Room.Name() + "] "
	}
	clip := content.PrintableLine
	by := ""
	if e.By != "" && e.By != e.User {
		by = " by " + string(e.By)
	}
	switch e.Kind {
	case EventMessage:
		return room + e.Message.Line()
	case EventFailed:
		return room + "not sent: " + clip(e.Text) + ": " + e.Message.Line()
	case EventJoined:
		return fmt.Sprintf("%syou are in (epoch %d)", room, e.Epoch)
	case EventOut:
		return room + "you are out: " + clip(e.Text)
	case EventAdded:
		return fmt.Sprintf("%s%s was added%s as %s", room, e.User, by, clip(e.Role))
	case EventRemoved:
		if by == "" {
			return fmt.Sprintf("%s%s left", room, e.User)
		}
		return fmt.Sprintf("%s%s was removed%s", room, e.User, by)
	case EventRole:
		return fmt.Sprintf("%s%s is now %s%s", room, e.User, clip(e.Role), by)
	case EventClients:
		if e.Clients < 0 {
			return fmt.Sprintf("%s%s has fewer devices here", room, e.User)
		}
		return fmt.Sprintf("%s%s has another device here", room, e.User)
	case EventChanged:
		return room + "changed: " + clip(e.Text)
	case EventEpoch:
		return fmt.Sprintf("%sepoch %d", room, e.Epoch)
	case EventProposed:
		return fmt.Sprintf("%s%s proposes %s", room, e.User, clip(e.Text))
	case EventRepaired:
		return room + "back in step: " + clip(e.Text)
	case EventRefounded:
		return room + "founded anew: another MLS group, the same room"
	case EventProblem:
		return room + clip(e.Text)
	case EventOnline:
		return "connected"
	case EventOffline:
		return "not connected: " + clip(e.Text)
	}
	return room + string(e.Kind)
}

// askIssuers is how often a provider's issuers are asked for, with a growing
// wait in between, before the connection is given up and made anew.
const askIssuers = 6

// An unknownIssuersError says that an event can't be judged at present.
type unknownIssuersError struct{ error }

func (e *unknownIssuersError) Unwrap() error { return e.error }
