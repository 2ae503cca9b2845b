package content

import (
	"cmp"
	"slices"
)

// State says whether there is something to show of an Entry.
type State uint8

const (
	Present State = iota
	Deleted       // retracted; a placeholder remains
	Expired       // its time is over
)

func (s State) String() string { return [...]string{"present", "deleted", "expired"}[s] }

// Entry is one message as a person sees it, with all that became of it. It does
// not change when the timeline does; ask again. Messages and slices in it are
// shared and must not be modified.
type Entry struct {
	ID             MessageID // of the first version: what edits and deletions must name
	Current        MessageID // of the version shown: what replies and reactions should name
	SenderURI      string
	AcceptedMillis uint64 // of the first version
	State          State
	Body           *NestedPart // nil unless Present
	TopicID        []byte      // empty: in no topic
	ExpiresMillis  uint64      // when it will be deleted, 0: never, or not before it is shown
	Versions       []*Message  // the valid ones in order, the last is shown; nil unless Present
	DeletedBy      string      // user who deleted it
	InReplyTo      *ReplyTarget
	Reactions      []EmojiReaction // in order; none unless Present
	Statuses       []UserStatus    // one a user, by URI
	NotReaction    error           // why this, meant as a reaction, is shown as a reply
	Refused        []Refusal       // edits and deletions that broke a rule
}

// Edited reports whether the first version is not the one shown.
func (e *Entry) Edited() bool { return e.Current != e.ID }

// ReplyTarget is what a reply answers.
type ReplyTarget struct {
	Version  MessageID // as the reply names it
	Known    bool      // the rest says something
	ID       MessageID // of the first version
	Outdated bool      // Version is not the version shown
	State    State
	Loop     bool // the replies lead back to themselves; do not follow them
}

// EmojiReaction is one emoji that a user reacted with.
type EmojiReaction struct {
	Emoji          string
	SenderURI      string
	MessageID      MessageID // of the reaction, to name when it is undone
	Version        MessageID // the version of the message that it is about
	Outdated       bool      // that is not the version shown
	AcceptedMillis uint64
}

// EmojiCount is how many users reacted with an emoji.
type EmojiCount struct {
	Emoji string
	Users int
}

// EmojiCounts sums up the reactions in the order in which the emoji came first.
func (e *Entry) EmojiCounts() []EmojiCount {
	var counts []EmojiCount
	seen := make(map[[2]string]bool)
	place := make(map[string]int)
	for _, r := range e.Reactions {
		if key := [2]string{r.Emoji, r.SenderURI}; seen[key] {
			continue
		} else {
			seen[key] = true
		}
		i, ok := place[r.Emoji]
		if !ok {
			i = len(counts)
			place[r.Emoji] = i
			counts = append(counts, EmojiCount{Emoji: r.Emoji})
		}
		counts[i].Users++
	}
	return counts
}

// UserStatus is what a user last said about a message.
type UserStatus struct {
	UserURI        string
	Status         Status
	MessageID      MessageID // the version that the report names
	AcceptedMillis uint64    // of the report
	ReportID       MessageID
}

func (s UserStatus) after(other UserStatus) bool {
	if c := cmp.Compare(s.AcceptedMillis, other.AcceptedMillis); c != 0 {
		return c > 0
	}
	return s.ReportID.Compare(other.ReportID) > 0
}

// Topic is the messages that share a topicId, in order.
type Topic struct {
	ID      []byte
	Entries []*Entry
}

// Entries gives what a person sees at a time, in ms since the Unix epoch, in
// the hub's order.
func (t *Timeline) Entries(nowMillis uint64) []*Entry {
	t.sync()
	entries := make([]*Entry, 0, len(t.nodes))
	for _, n := range t.nodes {
		if !n.emoji {
			entries = append(entries, t.entry(n, nowMillis))
		}
	}
	return entries
}

// Entry gives the entry that a message belongs to: its own, that of the message
// it replaces or reacts to.
func (t *Timeline) Entry(id MessageID, nowMillis uint64) (*Entry, bool) {
	t.sync()
	n := t.byID[id]
	if n != nil && n.emoji {
		n = t.answered(n)
	}
	if n == nil {
		return nil, false
	}
	return t.entry(n, nowMillis), true
}

// Topics gives the topics in the order in which they began.
func (t *Timeline) Topics(nowMillis uint64) []Topic {
	var topics []Topic
	place := make(map[string]int)
	for _, e := range t.Entries(nowMillis) {
		if len(e.TopicID) == 0 {
			continue
		}
		i, ok := place[string(e.TopicID)]
		if !ok {
			i = len(topics)
			place[string(e.TopicID)] = i
			topics = append(topics, Topic{ID: e.TopicID})
		}
		topics[i].Entries = append(topics[i].Entries, e)
	}
	return topics
}

// Waiting gives the edits, deletions and reactions whose target is unknown, in
// the hub's order. It may have been sent before this client joined.
func (t *Timeline) Waiting() []*Message {
	t.sync()
	var all []*Message
	for _, waiting := range t.waiting {
		all = append(all, waiting...)
	}
	slices.SortFunc(all, (*Message).Compare)
	return all
}

// Refused gives the messages that broke a rule and have no effect, in the hub's
// order.
func (t *Timeline) Refused() []Refusal {
	t.sync()
	all := slices.Clone(t.refused)
	for _, n := range t.nodes {
		t.judge(n)
		all = append(all, n.refused...)
	}
	slices.SortFunc(all, func(a, b Refusal) int { return a.Message.Compare(b.Message) })
	return all
}

// Expired gives the IDs of all messages, edits included, whose time is over:
// their octets are to be deleted (C §5.8), then Remove takes them out.
func (t *Timeline) Expired(nowMillis uint64) []MessageID {
	t.sync()
	var ids []MessageID
	for _, n := range t.nodes {
		if !t.expired(n, nowMillis) {
			continue
		}
		ids = append(ids, n.first.ID)
		for _, m := range n.replacing {
			ids = append(ids, m.ID)
		}
	}
	slices.SortFunc(ids, MessageID.Compare)
	return ids
}

func (t *Timeline) state(n *node, nowMillis uint64) State {
	switch {
	case n.deletion != nil:
		return Deleted
	case t.expired(n, nowMillis):
		return Expired
	}
	return Present
}

func (t *Timeline) entry(n *node, nowMillis uint64) *Entry {
	t.judge(n)
	e := &Entry{
		ID:             n.first.ID,
		Current:        n.current().ID,
		SenderURI:      n.first.SenderURI,
		AcceptedMillis: n.first.AcceptedMillis,
		State:          t.state(n, nowMillis),
		TopicID:        n.topic,
		InReplyTo:      t.replyTarget(n, nowMillis),
		NotReaction:    n.notEmoji,
		Refused:        n.refused,
	}
	e.ExpiresMillis, _ = t.expires(n)
	if n.deletion != nil {
		e.DeletedBy = n.deletion.SenderURI
	}
	for _, s := range n.statuses {
		e.Statuses = append(e.Statuses, s)
	}
	slices.SortFunc(e.Statuses, func(a, b UserStatus) int { return cmp.Compare(a.UserURI, b.UserURI) })
	if e.State != Present {
		return e
	}
	e.Body = &n.current().Content.NestedPart
	e.Versions = n.versions
	slices.SortFunc(n.reactions, func(a, b *node) int { return a.first.Compare(b.first) })
	for _, r := range n.reactions {
		e.Reactions = append(e.Reactions, t.emoji(r, e.Current, nowMillis)...)
	}
	return e
}

// emoji gives what a reaction to a message, shown in the version current, says.
func (t *Timeline) emoji(r *node, current MessageID, nowMillis uint64) []EmojiReaction {
	t.judge(r)
	if t.state(r, nowMillis) != Present {
		return nil
	}
	emoji, err := r.current().Content.NestedPart.reactions()
	if err != nil {
		return nil // judge let no such version pass
	}
	all := make([]EmojiReaction, len(emoji))
	about := *r.first.Content.InReplyTo
	for i, e := range emoji {
		all[i] = EmojiReaction{
			Emoji:          e,
			SenderURI:      r.first.SenderURI,
			MessageID:      r.first.ID,
			Version:        about,
			Outdated:       about != current,
			AcceptedMillis: r.first.AcceptedMillis,
		}
	}
	return all
}

func (t *Timeline) replyTarget(n *node, nowMillis uint64) *ReplyTarget {
	to := n.first.Content.InReplyTo
	if to == nil {
		return nil
	}
	r := &ReplyTarget{Version: *to}
	if target := t.byID[*to]; target != nil {
		t.judge(target)
		r.Known = true
		r.ID = target.first.ID
		r.Outdated = target.current().ID != *to
		r.State = t.state(target, nowMillis)
		r.Loop = t.repliesLoop(n)
	}
	return r
}
