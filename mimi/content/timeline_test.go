package content

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// A stage makes verified messages, each through Marshal and Verify.
type stage struct {
	t    testing.TB
	rand *rand.ChaCha8
	tl   *Timeline
}

func newStage(t testing.TB, p Policy) *stage {
	return &stage{t: t, rand: chacha(3), tl: NewTimeline(room, p)}
}

func (s *stage) as(user string) Composer {
	return Composer{SenderURI: user, RoomURI: room, Rand: s.rand}
}

// message finishes what a constructor began, without adding it.
func (s *stage) message(at uint64, c *Content, err error) *Message {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
	b, err := c.Marshal()
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := Verify(b, Envelope{SenderURI: c.SenderURI(), RoomURI: room, AcceptedMillis: at})
	if err != nil {
		s.t.Fatal(err)
	}
	return m
}

func (s *stage) add(m *Message) *Message {
	s.t.Helper()
	if err := s.tl.Add(m); err != nil {
		s.t.Fatal(err)
	}
	return m
}

func (s *stage) text(at uint64, user, text string) *Message {
	s.t.Helper()
	c, err := s.as(user).Text(text)
	return s.add(s.message(at, c, err))
}

func (s *stage) reply(at uint64, user string, to MessageID, text string) *Message {
	s.t.Helper()
	c, err := s.as(user).Reply(to, Markdown(text))
	return s.add(s.message(at, c, err))
}

func (s *stage) edit(at uint64, user string, first *Message, id MessageID, text string) *Message {
	s.t.Helper()
	c, err := s.as(user).Edit(id, first.Content, Markdown(text))
	return s.add(s.message(at, c, err))
}

func (s *stage) delete(at uint64, user string, first *Message) *Message {
	s.t.Helper()
	c, err := s.as(user).Delete(first.ID, first.Content)
	return s.add(s.message(at, c, err))
}

func (s *stage) react(at uint64, user string, to MessageID, emoji ...string) *Message {
	s.t.Helper()
	c, err := s.as(user).React(to, emoji...)
	return s.add(s.message(at, c, err))
}

func (s *stage) report(at uint64, user string, statuses ...PerMessageStatus) *Message {
	s.t.Helper()
	c, err := s.as(user).Report(statuses...)
	return s.add(s.message(at, c, err))
}

// expect compares what is seen at a time, one line an entry.
func (s *stage) expect(now uint64, want ...string) {
	s.t.Helper()
	var got []string
	for _, e := range s.tl.Entries(now) {
		got = append(got, line(e))
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("seen\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func (s *stage) expectRefused(want ...error) {
	s.t.Helper()
	refused := s.tl.Refused()
	ok := len(refused) == len(want)
	for i := 0; ok && i < len(want); i++ {
		ok = errors.Is(refused[i].Err, want[i])
	}
	if !ok {
		s.t.Errorf("refused %v, want %v", refused, want)
	}
}

func user(uri string) string { return uri[strings.LastIndex(uri, "/")+1:][:1] }

func line(e *Entry) string {
	s := user(e.SenderURI) + ":"
	switch e.State {
	case Present:
		s += " " + e.Body.Display()
	default:
		s += " <" + e.State.String() + ">"
	}
	if e.State == Present && e.Edited() {
		s += fmt.Sprintf(" (version %d)", len(e.Versions))
	}
	if r := e.InReplyTo; r != nil {
		s += " ^"
		if !r.Known {
			s += "?"
		}
		if r.Outdated {
			s += "old"
		}
		if r.State != Present {
			s += r.State.String()
		}
		if r.Loop {
			s += "loop"
		}
	}
	if len(e.TopicID) > 0 {
		s += " #" + string(e.TopicID)
	}
	for _, c := range e.EmojiCounts() {
		s += fmt.Sprintf(" %s%d", c.Emoji, c.Users)
	}
	for _, u := range e.Statuses {
		s += " " + user(u.UserURI) + "=" + u.Status.String()
	}
	return s
}

func status(m *Message, s Status) PerMessageStatus { return PerMessageStatus{m.ID, s} }

// TestTimelineExamples plays the examples of C and M in one room.
func TestTimelineExamples(t *testing.T) {
	at := map[string]uint64{
		"original": 1644387225019, "reply": 1644387237492, "reaction": 1644387237728, "mention": 1644387243008,
		"edit": 1644387248621, "unlike": 1644387250389, "expiring": 1644389403227,
	}
	s := newStage(t, Policy{})
	all := examples(t)
	play := func(names ...string) {
		for _, name := range names {
			c, err := Unmarshal(all[name])
			if err != nil {
				t.Fatal(err)
			}
			s.add(s.message(at[name], c, nil))
		}
	}
	play("original", "reply", "reaction")
	const hi = "a: Hi everyone, we just shipped release 2.0. __Good  work__!"
	s.expect(0, hi+" ❤1", "b: Right on! _Congratulations_ 'all! ^")
	play("unlike", "edit", "mention", "expiring")
	report, err := VerifyBareStatus(readVector(t, "message-status", "status.cbor"), Envelope{SenderURI: bob, RoomURI: room, AcceptedMillis: 1644390000000})
	if err != nil {
		t.Fatal(err)
	}
	s.add(report)
	const mention = "c: Kudos to [@Alice Smith](mimi://example.com/u/alice-smith) for making the release happen! ^ b=unread"
	s.expect(1644390003999,
		hi+" b=read",
		"b: Right on! _Congratulations_ y'all! (version 2) ^ b=read",
		mention,
		"a: __*VPN GOING DOWN*__ I'm rebooting the VPN in ten minutes unless anyone objects. b=expired")
	play("delete")
	s.expect(1644390004000, hi+" b=read", "b: <deleted> ^ b=read", mention, "a: <expired> b=expired")
}

func TestTimelineEdits(t *testing.T) {
	t.Run("the last in the hub's order wins", func(t *testing.T) {
		s := newStage(t, Policy{})
		m := s.text(1, alice, "one")
		s.edit(3, alice, m, m.ID, "three")
		s.edit(2, alice, m, m.ID, "two")
		s.expect(0, "a: three (version 3)")
	})
	t.Run("the greater message ID wins in one millisecond", func(t *testing.T) {
		s := newStage(t, Policy{})
		m := s.text(1, alice, "one")
		a := s.edit(2, alice, m, m.ID, "A")
		b := s.edit(2, alice, m, m.ID, "B")
		want := "a: A (version 3)"
		if a.ID.Compare(b.ID) < 0 {
			want = "a: B (version 3)"
		}
		s.expect(0, want)
	})
	t.Run("naming a later version means the first", func(t *testing.T) {
		s := newStage(t, Policy{})
		m := s.text(1, alice, "one")
		e := s.edit(2, alice, m, m.ID, "two")
		e = s.edit(3, alice, m, e.ID, "three")
		s.edit(4, alice, m, e.ID, "four")
		s.expect(0, "a: four (version 4)")
		s.expectRefused()
	})
	t.Run("before its target", func(t *testing.T) {
		s := newStage(t, Policy{})
		c, err := s.as(alice).Text("one")
		m := s.message(5, c, err)
		e := s.edit(3, alice, m, m.ID, "two")
		s.edit(4, alice, m, e.ID, "three")
		s.expect(0)
		if w := s.tl.Waiting(); len(w) != 2 || w[0] != e {
			t.Errorf("waiting %v", w)
		}
		s.add(m)
		s.expect(0, "a: three (version 3)")
		if w := s.tl.Waiting(); len(w) != 0 {
			t.Errorf("waiting %v", w)
		}
	})
	t.Run("before the version it names", func(t *testing.T) {
		s := newStage(t, Policy{})
		m := s.text(1, alice, "one")
		e := s.edit(4, alice, m, m.ID, "four")
		s.edit(3, alice, m, e.ID, "three")
		s.react(2, bob, e.ID, "👍")
		s.react(5, bob, m.ID, "🥳")
		s.react(3, cathy, m.ID, "🎉")
		s.expect(0, "a: four (version 3) 👍1 🎉1 🥳1")
		s.react(6, cathy, m.ID, "🤞")
		r, err := s.as(alice).React(m.ID, "❤")
		late := s.message(7, r, err)
		c, err := s.as(alice).Delete(late.ID, late.Content)
		s.add(s.message(6, c, err))
		s.add(late)
		s.expect(0, "a: four (version 3) 👍1 🎉1 🥳1 🤞1")
	})
	t.Run("only by the sender", func(t *testing.T) {
		s := newStage(t, Policy{Allowed: func(*Message, Capability) bool { return true }})
		m := s.text(1, alice, "one")
		r := s.react(1, alice, m.ID, "👍")
		s.edit(2, bob, m, m.ID, "evil") // may change the topic, not the text
		c, err := s.as(bob).Edit(r.ID, r.Content, NestedPart{Disposition: Reaction, Part: &SinglePart{ContentType: MediaTypePlain, Content: []byte("👎")}})
		s.add(s.message(3, c, err))
		s.expect(0, "a: one 👍1")
		s.expectRefused(ErrNotSender)
		s.tl = NewTimeline(room, Policy{})
		s.add(m)
		s.edit(2, bob, m, m.ID, "evil")
		s.expect(0, "a: one")
		s.expectRefused(ErrNotSender)
		if e, _ := s.tl.Entry(m.ID, 0); len(e.Refused) != 1 {
			t.Errorf("entry says refused %v", e.Refused)
		}
	})
	t.Run("other fields are ignored", func(t *testing.T) {
		s := newStage(t, Policy{Allowed: func(_ *Message, c Capability) bool { return c != CanEditOwnTopic }})
		m := s.text(1, alice, "one")
		c, err := s.as(alice).Edit(m.ID, m.Content, Markdown("two"))
		c.TopicID, c.Expires, c.InReplyTo = []byte("t"), &Expiration{Relative: false, Time: 1}, &MessageID{1}
		s.add(s.message(2, c, err))
		s.expect(5000, "a: two (version 2)")
	})
	t.Run("topic by permission", func(t *testing.T) {
		s := newStage(t, Policy{Allowed: func(m *Message, c Capability) bool { return c != CanEditOtherTopic || m.SenderURI == cathy }})
		m := s.text(1, alice, "one")
		for at, u := range map[uint64]string{2: alice, 3: cathy, 4: bob} {
			c, err := s.as(u).Edit(m.ID, m.Content, Markdown("by "+user(u)))
			c.TopicID = []byte(user(u))
			s.add(s.message(at, c, err))
		}
		s.expect(0, "a: by a (version 2) #c")
		s.expectRefused(ErrNotSender)
		topics := s.tl.Topics(0)
		if len(topics) != 1 || string(topics[0].ID) != "c" || topics[0].Entries[0].ID != m.ID {
			t.Errorf("topics %v", topics)
		}
	})
	t.Run("not permitted", func(t *testing.T) {
		s := newStage(t, Policy{Allowed: func(_ *Message, c Capability) bool { return c != CanEditOwnMessage && c != CanDeleteOwnMessage }})
		m := s.text(1, alice, "one")
		s.edit(2, alice, m, m.ID, "two")
		s.delete(3, alice, m)
		s.expect(0, "a: one")
		s.expectRefused(ErrNotPermitted, ErrNotPermitted)
		var rule *RuleError
		if !errors.As(s.tl.Refused()[0].Err, &rule) || rule.Expected != CanEditOwnMessage || rule.Got != alice {
			t.Errorf("rule %v", rule)
		}
	})
}

func TestTimelineDeletions(t *testing.T) {
	t.Run("is final", func(t *testing.T) {
		s := newStage(t, Policy{})
		m := s.text(1, alice, "one")
		s.edit(2, alice, m, m.ID, "two")
		s.react(2, bob, m.ID, "👍")
		s.delete(3, alice, m)
		s.edit(4, alice, m, m.ID, "again")
		s.expect(0, "a: <deleted>")
		s.expectRefused(ErrDeleted)
		if e, _ := s.tl.Entry(m.ID, 0); e.Body != nil || e.Versions != nil || e.DeletedBy != alice {
			t.Errorf("entry %+v", e)
		}
	})
	t.Run("by another", func(t *testing.T) {
		s := newStage(t, Policy{Allowed: func(m *Message, c Capability) bool {
			return c != CanDeleteOtherMessage && c != CanDeleteOtherReaction || m.SenderURI == cathy
		}})
		m := s.text(1, alice, "one")
		r := s.react(1, alice, m.ID, "👍")
		s.delete(2, bob, m)
		s.delete(2, bob, r)
		s.expect(0, "a: one 👍1")
		s.expectRefused(ErrNotPermitted, ErrNotPermitted)
		s.delete(3, cathy, r)
		s.expect(0, "a: one")
		s.delete(4, cathy, m)
		s.expect(0, "a: <deleted>")
		if e, _ := s.tl.Entry(m.ID, 0); e.DeletedBy != cathy {
			t.Errorf("deleted by %s", e.DeletedBy)
		}
	})
	t.Run("any disposition", func(t *testing.T) {
		s := newStage(t, Policy{})
		m := s.text(1, alice, "one")
		c, err := s.as(alice).Edit(m.ID, m.Content, NestedPart{Disposition: Reaction, Part: NullPart{}})
		s.add(s.message(2, c, err))
		s.expect(0, "a: <deleted>")
	})
	t.Run("of nothing", func(t *testing.T) {
		s := newStage(t, Policy{})
		c, err := s.as(alice).Compose(NestedPart{Part: NullPart{}})
		s.add(s.message(1, c, err))
		s.expect(0)
		s.expectRefused(ErrNoBody)
	})
}

func TestTimelineReactions(t *testing.T) {
	s := newStage(t, Policy{})
	m := s.text(1, alice, "one")
	s.react(2, bob, m.ID, "👍", "🥳")
	s.react(3, bob, m.ID, "👍")
	r := s.react(4, cathy, m.ID, "👍")
	s.expect(0, "a: one 👍2 🥳1")

	c, err := s.as(cathy).Edit(r.ID, r.Content, NestedPart{Disposition: Reaction, Part: &SinglePart{ContentType: MediaTypePlain, Content: []byte("🎉")}})
	s.add(s.message(5, c, err))
	s.expect(0, "a: one 👍1 🥳1 🎉1")
	c, err = s.as(cathy).Edit(r.ID, r.Content, Markdown("not an emoji"))
	s.add(s.message(6, c, err))
	s.expect(0, "a: one 👍1 🥳1 🎉1")
	s.expectRefused(ErrNotReaction)

	e := s.edit(7, alice, m, m.ID, "two")
	s.react(8, alice, e.ID, "🎉")
	entry, _ := s.tl.Entry(r.ID, 0)
	if entry.ID != m.ID {
		t.Errorf("the reaction belongs to %v", entry.ID)
	}
	var outdated []bool
	for _, r := range entry.Reactions {
		outdated = append(outdated, r.Outdated)
	}
	if !slices.Equal(outdated, []bool{true, true, true, true, false}) {
		t.Errorf("outdated %v", outdated)
	}
	s.delete(9, cathy, r)
	s.expect(0, "a: two (version 2) 👍1 🥳1 🎉1")

	// What is not a reaction is a reply.
	bad := s.reply(10, bob, m.ID, "👍👍")
	bad.Content.NestedPart.Disposition = Reaction
	r = s.react(11, bob, m.ID, "🤞")
	s.react(12, cathy, r.ID, "👍")
	s.tl.Remove() // rebuild: bad was changed behind the timeline's back
	s.expect(0, "a: two (version 2) 👍1 🥳1 🎉1 🤞1", "b: 👍👍 ^old", "c: 👍 ^")
	for _, e := range s.tl.Entries(0)[1:] {
		if !errors.Is(e.NotReaction, ErrNotReaction) {
			t.Errorf("%v says %v", e.ID, e.NotReaction)
		}
	}
}

func TestTimelineReplies(t *testing.T) {
	s := newStage(t, Policy{})
	c, err := s.as(alice).Text("one")
	m := s.message(1, c, err)
	r := s.reply(2, bob, m.ID, "yes")
	s.expect(0, "b: yes ^?")
	s.add(m)
	s.expect(0, "a: one", "b: yes ^")
	s.reply(3, cathy, r.ID, "no")
	e := s.edit(4, alice, m, m.ID, "two")
	s.reply(5, cathy, e.ID, "hm")
	s.expect(0, "a: two (version 2)", "b: yes ^old", "c: no ^", "c: hm ^")
	s.delete(6, alice, m)
	s.expect(0, "a: <deleted>", "b: yes ^olddeleted", "c: no ^", "c: hm ^deleted")
}

// TestTimelineReplyLoop: IDs are hashes, so the loop has to be forged after
// Verify.
func TestTimelineReplyLoop(t *testing.T) {
	s := newStage(t, Policy{})
	c, err := s.as(alice).Text("one")
	m := s.message(1, c, err)
	r := s.reply(2, bob, m.ID, "two")
	m.Content.InReplyTo = &r.ID
	s.add(m)
	s.reply(5, bob, s.reply(3, cathy, r.ID, "three").ID, "four")
	s.expect(0, "a: one ^loop", "b: two ^loop", "c: three ^loop", "b: four ^loop")
	s.tl.Remove(m.ID)
	s.expect(0, "b: two ^?", "c: three ^", "b: four ^")
	s.add(m) // sorts first, so the thread is walked anew
	s.expect(0, "a: one ^loop", "b: two ^loop", "c: three ^loop", "b: four ^loop")
	m.Content.InReplyTo, m.AcceptedMillis = nil, 9
	s.tl.Remove(m.ID)
	s.expect(0, "b: two ^?", "c: three ^", "b: four ^")
	s.add(m)
	s.expect(0, "b: two ^", "c: three ^", "b: four ^", "a: one")
	m.Content.InReplyTo = &r.ID
	s.tl.Remove(m.ID)
	s.expect(0, "b: two ^?", "c: three ^", "b: four ^")
	s.add(m) // sorts last: what was known of an open end is no longer
	s.expect(0, "b: two ^loop", "c: three ^loop", "b: four ^loop", "a: one ^loop")
}

func TestTimelinePermissions(t *testing.T) {
	only := func(caps ...Capability) Policy {
		return Policy{Allowed: func(m *Message, c Capability) bool { return m.SenderURI == alice || slices.Contains(caps, c) }}
	}
	topic := func(s *stage, at uint64, user, topic string, to *MessageID) {
		c, err := s.as(user).Text("t" + topic)
		c.TopicID, c.InReplyTo = []byte(topic), to
		s.add(s.message(at, c, err))
	}
	play := func(s *stage) {
		m := s.text(1, alice, "one")
		s.text(2, bob, "text")
		s.reply(3, bob, m.ID, "reply")
		s.react(4, bob, m.ID, "👍")
		topic(s, 5, alice, "A", nil)
		a := s.tl.order[len(s.tl.order)-1].ID
		topic(s, 6, bob, "A", nil)
		topic(s, 7, bob, "A", &a)
		topic(s, 8, bob, "A", &m.ID)
		topic(s, 9, bob, "B", nil)
		topic(s, 10, bob, "C", &MessageID{1, 1})
	}
	for _, test := range []struct {
		name string
		caps []Capability
		want []string // of bob
	}{
		{"nothing", nil, nil},
		{"send", []Capability{CanSendMessage}, []string{"text"}},
		{"reply", []Capability{CanReplyToMessage}, []string{"reply"}},
		{"react", []Capability{CanReactToMessage}, []string{"👍"}},
		{"reply in topic", []Capability{CanReplyInTopic}, []string{"tA", "tC"}}, // 7 and 10
		{"start topic alone", []Capability{CanStartTopic}, nil},
		{"send, reply in topic", []Capability{CanSendMessage, CanReplyInTopic}, []string{"text", "tA", "tA", "tC"}},
		{"send, start topic", []Capability{CanSendMessage, CanStartTopic}, []string{"text", "tA", "tB"}},
		{"reply, reply in topic", []Capability{CanReplyToMessage, CanReplyInTopic}, []string{"reply", "tA", "tA", "tC"}},
		{"reply, start topic", []Capability{CanReplyToMessage, CanStartTopic}, []string{"reply", "tA", "tA", "tC"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStage(t, only(test.caps...))
			play(s)
			var got []string
			for _, e := range s.tl.Entries(0) {
				if e.SenderURI == bob {
					got = append(got, e.Body.Display())
				}
				for _, r := range e.Reactions {
					got = append(got, r.Emoji)
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
			refused := s.tl.Refused()
			if len(refused) != 8-len(test.want) {
				t.Errorf("%d refused", len(refused))
			}
			for _, r := range refused {
				if !errors.Is(r.Err, ErrNotPermitted) {
					t.Error(r.Err)
				}
			}
		})
	}

	errForbidden := errors.New("read receipts are forbidden")
	s := newStage(t, Policy{Judge: func(m *Message) error {
		if m.Status != nil {
			return errForbidden
		}
		return nil
	}})
	m := s.text(1, alice, "one")
	s.report(2, bob, status(m, StatusRead))
	s.expect(0, "a: one")
	s.expectRefused(errForbidden)
}

func TestTimelineStatus(t *testing.T) {
	s := newStage(t, Policy{})
	m := s.text(1, alice, "one")
	first := s.report(10, bob, status(m, StatusDelivered), status(m, StatusRead))
	s.report(5, cathy, status(m, StatusDelivered))
	s.expect(0, "a: one b=read c=delivered")
	s.report(20, bob, status(m, StatusUnread), status(m, 9))
	s.report(15, bob, status(m, StatusError)) // came late, is older
	s.expect(0, "a: one b=unread c=delivered")
	s.report(30, cathy)                            // says nothing
	s.report(31, cathy, status(first, StatusRead)) // on a report
	e := s.edit(40, alice, m, m.ID, "two")         // a report on a version
	s.report(41, cathy, status(e, StatusRead))     // is one on the message
	s.expect(0, "a: two (version 2) b=unread c=read")

	// A report on an edit that the hub ordered after it doesn't undo a later one.
	s = newStage(t, Policy{})
	m = s.text(1, alice, "one")
	e = s.edit(9, alice, m, m.ID, "two")
	s.report(2, bob, status(e, StatusDelivered))
	s.report(3, bob, status(m, StatusRead))
	s.expect(0, "a: two (version 2) b=read")

	// Statuses of what is not there wait for a day of the hub's time.
	const day = 24 * 60 * 60 * 1000
	for _, late := range []struct {
		after uint64
		want  string
	}{{day, "a: late b=read"}, {day + 1, "a: late"}} {
		s := newStage(t, Policy{})
		c, err := s.as(alice).Text("late")
		m := s.message(100+late.after, c, err)
		s.report(100, bob, status(m, StatusRead))
		s.expect(0)
		s.add(m)
		s.expect(0, late.want)
	}
	s = newStage(t, Policy{})
	s.report(1, bob, PerMessageStatus{MessageID{1, 1}, StatusRead})
	for i := range uint64(2048) {
		s.add(&Message{ID: MessageID{1, byte(i), byte(i >> 8), 9}, RoomURI: room, AcceptedMillis: 2 * day, Status: &StatusReport{}})
	}
	s.expect(0)
	if len(s.tl.pending) != 0 {
		t.Errorf("%d statuses wait for ever", len(s.tl.pending))
	}
}

func TestTimelineExpiry(t *testing.T) {
	s := newStage(t, Policy{})
	expiring := func(at uint64, text string, e Expiration) *Message {
		c, err := s.as(alice).Text(text)
		c.Expires = &e
		return s.add(s.message(at, c, err))
	}
	absolute := expiring(1_000_000, "absolute", Expiration{Time: 2000})
	relative := expiring(1_000_001, "relative", Expiration{Relative: true, Time: 10})
	edit := s.edit(1_000_002, alice, absolute, absolute.ID, "edited")
	s.expect(1_999_999, "a: edited (version 2)", "a: relative")
	s.expect(2_000_000, "a: <expired>", "a: relative")
	s.expect(1<<60, "a: <expired>", "a: relative") // never shown, never expires
	s.tl.Shown(relative.ID, 3_000_000)
	s.tl.Shown(relative.ID, 3_005_000)
	s.expect(3_009_999, "a: <expired>", "a: relative")
	s.expect(3_010_000, "a: <expired>", "a: <expired>")
	if e, _ := s.tl.Entry(relative.ID, 0); e.ExpiresMillis != 3_010_000 {
		t.Errorf("expires at %d", e.ExpiresMillis)
	}
	want := []MessageID{absolute.ID, edit.ID}
	slices.SortFunc(want, MessageID.Compare)
	if got := s.tl.Expired(2_000_000); !slices.Equal(got, want) {
		t.Errorf("expired %v, want %v", got, want)
	}
	s.tl.Remove(want...)
	s.expect(2_000_000, "a: relative")

	r := expiring(4_000_000, "x", Expiration{Time: 5000})
	r.Content.NestedPart = NestedPart{Disposition: Reaction, Part: &SinglePart{ContentType: MediaTypePlain, Content: []byte("👍")}}
	r.Content.InReplyTo = &relative.ID
	s.expect(4_000_001, "a: <expired>")
	s.tl.shown = map[MessageID]uint64{}
	s.expect(4_999_999, "a: relative 👍1")
	s.expect(5_000_000, "a: relative")
}

func TestTimelineDuplicates(t *testing.T) {
	s := newStage(t, Policy{})
	m := s.text(5, alice, "one")
	s.text(6, bob, "two")
	later, earlier := *m, *m
	later.AcceptedMillis, earlier.AcceptedMillis = 9, 4
	s.add(m)
	s.add(&later)
	s.expect(0, "a: one", "b: two")
	s.add(&earlier)
	if e, _ := s.tl.Entry(m.ID, 0); e.AcceptedMillis != 4 {
		t.Errorf("accepted at %d", e.AcceptedMillis)
	}
	other := *m
	other.RoomURI += "x"
	if err := s.tl.Add(&other); !errors.Is(err, ErrRoomURI) {
		t.Error(err)
	}
}
