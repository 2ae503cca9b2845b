package content

import (
	"fmt"
	"slices"
)

// Capability is a number of the room policy draft's registry (§10.2) that a
// timeline asks about.
type Capability uint16

const (
	CanSendMessage         Capability = 0x0100
	CanReplyToMessage      Capability = 0x0104
	CanReactToMessage      Capability = 0x0105
	CanEditReaction        Capability = 0x0106
	CanDeleteOwnReaction   Capability = 0x0107
	CanDeleteOtherReaction Capability = 0x0108
	CanEditOwnMessage      Capability = 0x0109
	CanDeleteOwnMessage    Capability = 0x010a
	CanDeleteOtherMessage  Capability = 0x010b
	CanStartTopic          Capability = 0x010c
	CanReplyInTopic        Capability = 0x010d
	CanEditOwnTopic        Capability = 0x010e
	CanEditOtherTopic      Capability = 0x010f
)

var capabilityNames = map[Capability]string{
	CanSendMessage:         "canSendMessage",
	CanReplyToMessage:      "canReplyToMessage",
	CanReactToMessage:      "canReactToMessage",
	CanEditReaction:        "canEditReaction",
	CanDeleteOwnReaction:   "canDeleteOwnReaction",
	CanDeleteOtherReaction: "canDeleteOtherReaction",
	CanEditOwnMessage:      "canEditOwnMessage",
	CanDeleteOwnMessage:    "canDeleteOwnMessage",
	CanDeleteOtherMessage:  "canDeleteOtherMessage",
	CanStartTopic:          "canStartTopic",
	CanReplyInTopic:        "canReplyInTopic",
	CanEditOwnTopic:        "canEditOwnTopic",
	CanEditOtherTopic:      "canEditOtherTopic",
}

func (c Capability) String() string {
	if s, ok := capabilityNames[c]; ok {
		return s
	}
	return fmt.Sprintf("0x%04x", uint16(c))
}

// Policy is what the room allowed when a message was accepted. Both functions
// must always give the same answer for a message: a client evaluates the room's
// policy in the epoch of the message and keeps the answer beside it.
type Policy struct {
	// Allowed reports whether the sender of m had the capability. If nil, a
	// sender may do everything with what is their own and nothing with what
	// is another's.
	Allowed func(m *Message, c Capability) bool

	// Judge refuses a message for a reason that no capability expresses, such
	// as a read receipt in a room that forbids them or an expiry outside the
	// room's limits. If nil, nothing is refused.
	Judge func(m *Message) error
}

func (p Policy) allowed(m *Message, c Capability) bool {
	if p.Allowed != nil {
		return p.Allowed(m, c)
	}
	return c != CanDeleteOtherReaction && c != CanDeleteOtherMessage && c != CanEditOtherTopic
}

// need refuses m unless its sender has the capability.
func (p Policy) need(m *Message, c Capability) error {
	if p.allowed(m, c) {
		return nil
	}
	return broken(ErrNotPermitted, c, m.SenderURI)
}

// statusWaitMillis is how long a status report waits for a message that is not
// there yet, in hub time (Decision 112).
const statusWaitMillis = 24 * 60 * 60 * 1000

// A Timeline is what the messages of one room come to. It is a function of the
// set of messages, the policy and the first displays; the order in which they
// were added does not matter. Only the hub's order does: by timestamp, then by
// message ID.
//
// Nothing is dropped in silence: what breaks a rule is in Refused, what refers
// to a message that is not there is in Waiting until it arrives.
//
// A Timeline is not safe for concurrent use, and reading counts as use. It is
// rebuilt from stored messages (Message.Raw and Envelope) with Verify and Add.
type Timeline struct {
	room   string
	policy Policy

	all    map[MessageID]*Message
	order  []*Message           // in the hub's order unless dirty
	dirty  bool                 // the fold must begin again
	shown  map[MessageID]uint64 // first display, ms
	folded int                  // how much of order the rest reflects

	nodes   []*node
	byID    map[MessageID]*node // by any version
	waiting map[MessageID][]*Message
	pending map[MessageID][]UserStatus
	topics  map[string]bool
	refused []Refusal
	clock   uint64 // hub time of the step, ms
	walks   int    // along reply chains, to mark where each has been
}

// A node is a message, all that replaces it and all that is said about it.
type node struct {
	first     *Message
	emoji     bool  // a reaction, shown with its target
	notEmoji  error // why something meant as a reaction is shown as a reply
	replacing []*Message
	reactions []*node
	statuses  map[string]UserStatus

	judged   bool // the following reflect replacing
	versions []*Message
	topic    []byte
	deletion *Message
	refused  []Refusal

	walk     int  // the last that came by
	grounded bool // replies from here lead to a message that answers none
	ends     int  // how many messages were folded when they led to an unknown one
}

// Refusal is a message that broke a rule, and the rule.
type Refusal struct {
	Message *Message
	Err     error
}

// NewTimeline makes the empty timeline of a room.
func NewTimeline(roomURI string, policy Policy) *Timeline {
	t := &Timeline{
		room:   roomURI,
		policy: policy,
		all:    make(map[MessageID]*Message),
		shown:  make(map[MessageID]uint64),
	}
	t.restart()
	return t
}

func (t *Timeline) restart() {
	t.dirty, t.folded = false, 0
	t.nodes, t.refused = nil, nil
	t.byID = make(map[MessageID]*node, len(t.all))
	t.waiting = make(map[MessageID][]*Message)
	t.pending = make(map[MessageID][]UserStatus)
	t.topics = make(map[string]bool)
}

// Add puts a verified message into the timeline. The same message again changes
// nothing: of two arrivals the earlier hub timestamp counts. A message of
// another room is ErrRoomURI.
func (t *Timeline) Add(m *Message) error {
	if m.RoomURI != t.room {
		return broken(ErrRoomURI, t.room, m.RoomURI)
	}
	if old, ok := t.all[m.ID]; ok {
		if m.AcceptedMillis < old.AcceptedMillis {
			t.all[m.ID] = m
			t.order[slices.Index(t.order, old)] = m
			t.dirty = true
		}
		return nil
	}
	t.all[m.ID] = m
	if n := len(t.order); n > 0 && t.order[n-1].Compare(m) > 0 {
		t.dirty = true
	}
	t.order = append(t.order, m)
	return nil
}

// Remove takes messages out, such as those that Expired names.
func (t *Timeline) Remove(ids ...MessageID) {
	for _, id := range ids {
		delete(t.all, id)
		delete(t.shown, id)
	}
	t.order = slices.DeleteFunc(t.order, func(m *Message) bool { return t.all[m.ID] == nil })
	t.dirty = true
}

// Shown says when a message was first displayed to this reader, in ms since the
// Unix epoch: relative expiry counts from there. Of several times the earliest
// counts.
func (t *Timeline) Shown(id MessageID, millis uint64) {
	if at, ok := t.shown[id]; !ok || millis < at {
		t.shown[id] = millis
	}
}

// sync folds the messages in the hub's order. A message that comes last, as most
// do, costs one step; any other begins from the start.
func (t *Timeline) sync() {
	if t.dirty {
		slices.SortFunc(t.order, (*Message).Compare)
		t.restart()
	}
	for ; t.folded < len(t.order); t.folded++ {
		t.clock = t.order[t.folded].AcceptedMillis
		t.step(t.order[t.folded])
		if t.folded%1024 == 0 {
			t.prune()
		}
	}
}

func (t *Timeline) step(m *Message) {
	if t.policy.Judge != nil {
		if err := t.policy.Judge(m); err != nil {
			t.refuse(m, err)
			return
		}
	}
	switch {
	case m.Status != nil:
		t.report(m)
	case m.Content.Replaces != nil:
		t.place(m)
	default:
		t.original(m)
	}
}

func (t *Timeline) refuse(m *Message, err error) {
	t.refused = append(t.refused, Refusal{m, err})
}

// original takes in a message that replaces none.
func (t *Timeline) original(m *Message) {
	n := &node{first: m}
	if m.Content.NestedPart.Disposition == Reaction {
		_, n.notEmoji = m.Content.Reactions()
		n.emoji = n.notEmoji == nil
	}
	if err := t.permit(n); err != nil {
		t.refuse(m, err)
		return
	}
	if topic := m.Content.TopicID; len(topic) > 0 {
		t.topics[string(topic)] = true
	}
	t.nodes = append(t.nodes, n)
	t.byID[m.ID] = n
	if n.emoji {
		t.place(m)
	}
	t.settle(m.ID)
}

// permit checks what a new message needs (room policy §8.3, Decision 93).
func (t *Timeline) permit(n *node) error {
	m, c := n.first, n.first.Content
	if c.NestedPart.Part == (NullPart{}) {
		return broken(ErrNoBody, "replaces or a body", NullPart{}.Cardinality())
	}
	if n.emoji {
		return t.policy.need(m, CanReactToMessage)
	}

	// A reply within the topic of what it answers has its own capability. If
	// that message is unknown its topic is too, and nothing speaks against m.
	inTopic := false
	if c.InReplyTo != nil && len(c.TopicID) > 0 {
		to := t.byID[*c.InReplyTo]
		inTopic = to == nil || slices.Equal(to.first.Content.TopicID, c.TopicID)
	}
	replyInTopic := t.policy.allowed(m, CanReplyInTopic)
	switch {
	case c.InReplyTo == nil:
		if err := t.policy.need(m, CanSendMessage); err != nil {
			return err
		}
	case !(inTopic && replyInTopic):
		if err := t.policy.need(m, CanReplyToMessage); err != nil {
			return err
		}
	}
	if len(c.TopicID) > 0 && !(replyInTopic && (inTopic || t.topics[string(c.TopicID)])) {
		return t.policy.need(m, CanStartTopic)
	}
	return nil
}

// place puts an edit, a deletion or a reaction to the message that it is about,
// or lets it wait for that.
func (t *Timeline) place(m *Message) {
	to := m.Content.Replaces
	if to == nil {
		to = m.Content.InReplyTo
	}
	n := t.byID[*to]
	switch {
	case n == nil:
		t.waiting[*to] = append(t.waiting[*to], m)
	case m.Content.Replaces != nil:
		n.replacing = append(n.replacing, m)
		n.judged = false
		t.byID[m.ID] = n // an edit that names this one means the same root (Decision 108)
		t.settle(m.ID)
	case n.emoji:
		r := t.byID[m.ID]
		r.emoji, r.notEmoji = false, broken(ErrNotReaction, "a reaction to a message", "a reaction to a reaction")
	default:
		n.reactions = append(n.reactions, t.byID[m.ID])
	}
}

// settle gives the message with this ID what waited for it.
func (t *Timeline) settle(id MessageID) {
	waiting := t.waiting[id]
	delete(t.waiting, id)
	for _, m := range waiting {
		t.place(m)
	}
	pending := t.pending[id]
	delete(t.pending, id)
	for _, s := range pending {
		if !t.overdue(s) {
			t.byID[id].setStatus(s)
		}
	}
}

// overdue reports whether a status waited too long.
func (t *Timeline) overdue(s UserStatus) bool { return s.AcceptedMillis+statusWaitMillis < t.clock }

// prune lets go of statuses that waited too long.
func (t *Timeline) prune() {
	for id, pending := range t.pending {
		pending = slices.DeleteFunc(pending, t.overdue)
		if t.pending[id] = pending; len(pending) == 0 {
			delete(t.pending, id)
		}
	}
}

// report takes in a status report, which speaks for the user who sent it only
// (Decision 112).
func (t *Timeline) report(m *Message) {
	for _, p := range m.Status.Latest() {
		s := UserStatus{UserURI: m.SenderURI, Status: p.Status, MessageID: p.MessageID, AcceptedMillis: m.AcceptedMillis, ReportID: m.ID}
		if n := t.byID[p.MessageID]; n != nil {
			n.setStatus(s)
		} else {
			t.pending[p.MessageID] = append(t.pending[p.MessageID], s)
		}
	}
}

// setStatus keeps the last status of a user in the hub's order.
func (n *node) setStatus(s UserStatus) {
	if old, ok := n.statuses[s.UserURI]; ok && old.after(s) {
		return
	}
	if n.statuses == nil {
		n.statuses = make(map[string]UserStatus)
	}
	n.statuses[s.UserURI] = s
}

// judge decides which of the messages that replace n count (Decision 108). The
// greatest valid edit wins; a valid deletion is final, so that nobody undoes a
// moderator's by editing.
func (t *Timeline) judge(n *node) {
	if n.judged {
		return
	}
	n.judged, n.deletion, n.refused = true, nil, nil
	n.versions, n.topic = []*Message{n.first}, n.first.Content.TopicID
	slices.SortFunc(n.replacing, (*Message).Compare)
	for _, m := range n.replacing {
		if err := t.replace(n, m); err != nil {
			n.refused = append(n.refused, Refusal{m, err})
		}
	}
}

func (t *Timeline) replace(n *node, m *Message) error {
	own := m.SenderURI == n.first.SenderURI
	if m.Content.NestedPart.Part == (NullPart{}) {
		if err := t.policy.need(m, deletion(n.emoji, own)); err != nil {
			return err
		}
		if n.deletion == nil {
			n.deletion = m
		}
		return nil
	}

	switch {
	case n.deletion != nil:
		return broken(ErrDeleted, n.first.ID, n.deletion.ID)
	case !own && (n.emoji || !t.policy.allowed(m, CanEditOtherTopic)):
		return broken(ErrNotSender, n.first.SenderURI, m.SenderURI)
	case !own:
		n.topic = m.Content.TopicID // and nothing else
		return nil
	case n.emoji:
		if err := t.policy.need(m, CanEditReaction); err != nil {
			return err
		}
		if _, err := m.Content.NestedPart.reactions(); err != nil {
			return err
		}
	default:
		if err := t.policy.need(m, CanEditOwnMessage); err != nil {
			return err
		}
	}
	n.versions = append(n.versions, m)
	if t.policy.allowed(m, CanEditOwnTopic) {
		n.topic = m.Content.TopicID
	}
	return nil
}

// deletion is the capability that a deletion takes.
func deletion(emoji, own bool) Capability {
	switch {
	case emoji && own:
		return CanDeleteOwnReaction
	case emoji:
		return CanDeleteOtherReaction
	case own:
		return CanDeleteOwnMessage
	}
	return CanDeleteOtherMessage
}

// current is the version that counts, once judged.
func (n *node) current() *Message { return n.versions[len(n.versions)-1] }

// expires gives when a message is to be deleted, in ms since the Unix epoch.
func (t *Timeline) expires(n *node) (millis uint64, ok bool) {
	e := n.first.Content.Expires
	switch {
	case e == nil:
		return 0, false
	case !e.Relative:
		return uint64(e.Time) * 1000, true
	}
	at, ok := t.shown[n.first.ID]
	return at + uint64(e.Time)*1000, ok
}

func (t *Timeline) expired(n *node, nowMillis uint64) bool {
	at, ok := t.expires(n)
	return ok && nowMillis >= at
}

// repliesLoop reports whether following inReplyTo from n comes back to where it
// was (C §4.1). Message IDs are hashes, so that takes a broken hash; a reader
// that follows replies must nevertheless end.
func (t *Timeline) repliesLoop(n *node) bool {
	// What was found out is kept, so that a long thread is not walked again for
	// each reply: for ever if it leads to a message that answers none, until
	// the next message if it leads to one that is unknown.
	known := func(at *node) bool { return at == nil || at.grounded || at.ends == t.folded }
	t.walks++
	grounded := false
	for at := n; !known(at); at = t.answered(at) {
		if at.walk == t.walks {
			return true
		}
		at.walk = t.walks
		to := t.answered(at)
		grounded = at.first.Content.InReplyTo == nil || to != nil && to.grounded
	}
	for at := n; !known(at); at = t.answered(at) {
		at.grounded, at.ends = grounded, t.folded
	}
	return false
}

// answered is the message that n replies to, nil if none or unknown.
func (t *Timeline) answered(n *node) *node {
	if to := n.first.Content.InReplyTo; to != nil {
		return t.byID[*to]
	}
	return nil
}
