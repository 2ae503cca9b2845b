package content

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestTimelineAnyOrder: whatever arrives in whatever order, with reads between,
// comes to the same; and nothing gets lost.
func TestTimelineAnyOrder(t *testing.T) {
	users := []string{alice, bob, cathy}
	emoji := []string{"👍", "❤", "🥳"}
	rapid.Check(t, func(rt *rapid.T) {
		policy := Policy{
			Allowed: func(m *Message, c Capability) bool { return (int(m.ID[5])+int(c))%5 != 0 },
			Judge: func(m *Message) error {
				if m.ID[6] < 8 {
					return ErrNotPermitted
				}
				return nil
			},
		}
		s := newStage(t, policy)
		var all, targets []*Message // a bare report can't be named on the wire
		pick := func(label string) *Message { return rapid.SampledFrom(targets).Draw(rt, label) }
		for range rapid.IntRange(1, 30).Draw(rt, "messages") {
			w := s.as(rapid.SampledFrom(users).Draw(rt, "user"))
			at := uint64(rapid.IntRange(0, 8).Draw(rt, "at")) * 30_000_000 // a day is 86,400,000
			what := rapid.SampledFrom([]string{"text", "reply", "edit", "edit", "delete", "react", "react", "report", "bare", "again"}).Draw(rt, "what")
			if len(all) == 0 {
				what = "text"
			}
			var c *Content
			var err error
			switch what {
			case "text":
				c, err = w.Text("text")
			case "reply":
				c, err = w.Reply(pick("to").ID, Markdown("reply"))
			case "react":
				c, err = w.React(pick("to").ID, rapid.SampledFrom(emoji).Draw(rt, "emoji"))
			case "edit", "delete":
				to := pick("of")
				body := Markdown("edit")
				if what == "delete" {
					body = NestedPart{Part: NullPart{}}
				} else if to.Content.NestedPart.Disposition == Reaction && rapid.Bool().Draw(rt, "another emoji") {
					body = to.Content.NestedPart
				}
				if rapid.Bool().Draw(rt, "as its sender") {
					w = s.as(to.SenderURI)
				}
				c, err = w.Edit(to.ID, to.Content, body)
			case "report":
				c, err = w.Report(status(pick("on"), Status(rapid.IntRange(0, 7).Draw(rt, "status"))), status(pick("on"), StatusRead))
			case "bare":
				b, err := (&StatusReport{Statuses: []PerMessageStatus{status(pick("on"), StatusDelivered)}}).Marshal()
				if err != nil {
					rt.Fatal(err)
				}
				m, err := VerifyBareStatus(b, Envelope{SenderURI: w.SenderURI, RoomURI: room, AcceptedMillis: at})
				if err != nil {
					rt.Fatal(err)
				}
				all = append(all, m)
				continue
			case "again":
				m := *pick("copy of")
				m.AcceptedMillis = at
				all = append(all, &m)
				continue
			}
			if err != nil {
				rt.Fatal(err)
			}
			if rapid.IntRange(0, 3).Draw(rt, "topic?") == 0 {
				c.TopicID = []byte(rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "topic"))
			}
			if rapid.IntRange(0, 5).Draw(rt, "expires?") == 0 {
				c.Expires = &Expiration{Relative: rapid.Bool().Draw(rt, "relative"), Time: 100_000}
			}
			targets = append(targets, s.message(at, c, nil))
			all = append(all, targets[len(targets)-1])
		}

		const now = 120_000_000
		play := func(order []*Message, read func() bool) *Timeline {
			tl := NewTimeline(room, policy)
			for i, m := range order {
				if err := tl.Add(m); err != nil {
					rt.Fatal(err)
				}
				tl.Shown(all[0].ID, uint64(1000+10*slices.Index(all, m)))
				if read() {
					tl.Entries(now)
					tl.Refused()
					tl.Entry(order[i].ID, now)
				}
			}
			return tl
		}
		a := play(all, func() bool { return false })
		b := play(rapid.Permutation(all).Draw(rt, "order"), func() bool { return rapid.Bool().Draw(rt, "read") })
		for _, view := range []struct {
			name string
			get  func(*Timeline) any
		}{
			{"entries", func(tl *Timeline) any { return tl.Entries(now) }},
			{"topics", func(tl *Timeline) any { return tl.Topics(now) }},
			{"waiting", func(tl *Timeline) any { return ids(tl.Waiting()) }},
			{"refused", func(tl *Timeline) any { return refusals(tl.Refused()) }},
			{"expired", func(tl *Timeline) any { return tl.Expired(now) }},
		} {
			if x, y := view.get(a), view.get(b); !reflect.DeepEqual(x, y) {
				rt.Fatalf("%s differ:\n%+v\n%+v", view.name, x, y)
			}
		}

		accounted := make(map[MessageID]bool)
		for id := range b.byID {
			accounted[id] = true
		}
		for _, m := range b.Waiting() {
			accounted[m.ID] = true
		}
		for _, r := range b.Refused() {
			accounted[r.Message.ID] = true
		}
		for _, m := range all {
			if m.Status == nil && !accounted[m.ID] {
				rt.Fatalf("%v is lost", m.ID)
			}
		}
	})
}

func ids(all []*Message) []MessageID {
	var ids []MessageID
	for _, m := range all {
		ids = append(ids, m.ID)
	}
	return ids
}

func refusals(all []Refusal) []string {
	var s []string
	for _, r := range all {
		s = append(s, r.Message.ID.String()+" "+r.Err.Error())
	}
	return s
}

// room of n messages: a thread of replies, every fourth edited, every fifth
// reacted to, all read.
func conversation(b *testing.B, n int) []*Message {
	s := newStage(b, Policy{})
	last := s.text(0, alice, "begin")
	for i := 1; i < n; i++ {
		at := uint64(i) * 1000
		switch {
		case i%4 == 0:
			s.edit(at, last.SenderURI, last, last.ID, "edited")
		case i%5 == 0:
			s.react(at, bob, last.ID, "👍")
		case i%7 == 0:
			s.report(at, cathy, status(last, StatusRead))
		default:
			last = s.reply(at, alice, last.ID, "some words, as people write them")
		}
	}
	return s.tl.order
}

func BenchmarkVerify(b *testing.B) {
	m := conversation(b, 2)[1]
	e := Envelope{SenderURI: m.SenderURI, RoomURI: m.RoomURI, AcceptedMillis: m.AcceptedMillis}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Verify(m.Raw, e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMarshal(b *testing.B) {
	m := conversation(b, 2)[1]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Content.Marshal(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRebuild(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		all := conversation(b, n)
		b.Run(fmt.Sprintf("messages=%d", n), func(b *testing.B) {
			for b.Loop() {
				tl := NewTimeline(room, Policy{})
				for _, m := range all {
					if err := tl.Add(m); err != nil {
						b.Fatal(err)
					}
				}
				tl.Entries(0)
			}
		})
	}
}

func BenchmarkAddLast(b *testing.B) {
	all := conversation(b, 10000)
	tl := NewTimeline(room, Policy{})
	for _, m := range all {
		if err := tl.Add(m); err != nil {
			b.Fatal(err)
		}
	}
	i := uint64(0)
	for b.Loop() {
		m := *all[len(all)-1]
		i++
		m.AcceptedMillis += i
		m.ID = MessageID{1, byte(i), byte(i >> 8), byte(i >> 16)}
		if err := tl.Add(&m); err != nil {
			b.Fatal(err)
		}
		tl.Entry(m.ID, 0)
	}
}
