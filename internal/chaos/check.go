package chaos

import (
	"context"
	"slices"
	"strings"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/mimi"
)

// texts are the messages that a device shows of a room, in its order, without
// those that are not accepted.
func (m *member) texts(ctx context.Context, room mimi.RoomURI) ([]string, error) {
	items, err := m.history(ctx, room)
	var out []string
	for _, i := range items {
		if i.Message != nil && i.Message.State != client.Sending && i.Message.State != client.Failed {
			out = append(out, strings.TrimSpace(i.Message.Text))
		}
	}
	return out, err
}

// check compares what everybody shows with what was sent.
func (w *world) check(ctx context.Context) {
	for _, room := range w.rooms {
		w.checkRoom(ctx, room)
	}
	for _, m := range w.members {
		m.seenMu.Lock()
		for room, shown := range m.shown {
			for id, n := range shown {
				if w.count("check: told of once"); n > 1 {
					w.finding("%s was told of message %x in %s %d times", m.name, id, room, n)
				}
			}
		}
		m.seenMu.Unlock()
	}
}

func (w *world) checkRoom(ctx context.Context, room mimi.RoomURI) {
	order, err := w.core[0].texts(ctx, room)
	if err != nil {
		w.finding("%v", err)
		return
	}
	at := map[string]int{}
	for i, text := range order {
		if _, twice := at[text]; twice {
			w.finding("%s shows %q in %s twice", w.core[0].name, text, room)
		}
		at[text] = i
	}
	// Nothing acknowledged is missing: what is not in an outbox any more and was
	// not refused was accepted, and everybody shows it.
	for _, m := range w.members {
		refused, queued := map[string]bool{}, map[string]bool{}
		items, err := m.history(ctx, room)
		if err != nil {
			w.finding("%v", err)
			return
		}
		for _, i := range items {
			switch {
			case i.Message == nil:
			case i.Message.State == client.Failed:
				refused[strings.TrimSpace(i.Message.Text)] = true
			case i.Message.State == client.Sending: // kept by one who is out of the room
				queued[strings.TrimSpace(i.Message.Text)] = true
			}
		}
		for text, s := range m.sent {
			if s.room != room {
				continue
			}
			_, there := at[text]
			switch w.count("check: sent and shown"); {
			case s.sure && !there && !refused[text] && !queued[text]:
				w.finding("%q of %s, sent at %s, is lost in %s", text, m.name, s.begun.Format("15:04:05.000"), room)
			case there && refused[text]:
				w.finding("%q of %s was refused and is shown all the same", text, m.name)
			}
		}
	}
	// One order for all.
	for _, m := range w.members {
		texts, err := m.texts(ctx, room)
		if err != nil {
			w.finding("%v", err)
			continue
		}
		if slices.Contains(w.core, m) {
			if w.count("check: same history"); !slices.Equal(texts, order) {
				w.finding("%s and %s show different histories of %s: %s", w.core[0].name, m.name, room, difference(order, texts))
			}
			continue
		}
		last := -1
		for _, text := range texts {
			i, known := at[text]
			switch w.count("check: order"); {
			case !known:
				w.finding("%s shows %q in %s, which %s does not", m.name, text, room, w.core[0].name)
			case i <= last:
				w.finding("%s shows %q in %s in another order or twice", m.name, text, room)
			}
			last = i
		}
		w.checkAbsence(ctx, room, m, texts)
	}
	w.checkStates(ctx, room)
}

// checkAbsence: nobody reads what was written while they were not in the room.
func (w *world) checkAbsence(ctx context.Context, room mimi.RoomURI, m *member, texts []string) {
	items, err := w.core[0].history(ctx, room)
	if err != nil {
		w.finding("%v", err)
		return
	}
	in := true // since before the first message
	away := map[string]bool{}
	for _, i := range items {
		switch {
		case i.Event != nil && i.Event.User == m.user.Identifier() && i.Event.Kind == client.EventRemoved:
			in = false
		case i.Event != nil && i.Event.User == m.user.Identifier() && i.Event.Kind == client.EventAdded:
			in = true
		case i.Message != nil && !in:
			away[strings.TrimSpace(i.Message.Text)] = true
		}
	}
	for _, text := range texts {
		if w.count("check: read by members only"); away[text] {
			w.finding("%s shows %q of %s, written while it was not in the room", m.name, text, room)
		}
	}
}

// checkStates: all devices in a room are in the same state of its group.
func (w *world) checkStates(ctx context.Context, room mimi.RoomURI) {
	first := ""
	for _, m := range w.members {
		r, err := m.client.Room(ctx, room)
		if err != nil || r.Standing != client.Joined {
			continue
		}
		if w.count("check: same MLS state"); first != "" && r.Authenticator != first {
			w.finding("%s has another state of %s, in epoch %d", m.name, room, r.Epoch)
		}
		first = r.Authenticator
	}
}

// difference says where two histories part.
func difference(a, b []string) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return "from position " + itoa(i) + ": " + strings.Join(a[i:min(i+5, len(a))], " ") + " | " + strings.Join(b[i:min(i+5, len(b))], " ")
		}
	}
	return itoa(len(a)) + " and " + itoa(len(b)) + " messages"
}
