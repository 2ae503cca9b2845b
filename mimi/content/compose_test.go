package content

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

// chacha is a reproducible source for salts and keys.
func chacha(seed byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{seed}) }

func compose(t testing.TB, sender, text string) *Content {
	t.Helper()
	c, err := Composer{SenderURI: sender, RoomURI: room, Rand: chacha(1)}.Text(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestComposeExamples: given the salts of the draft, the constructors make the
// octets of the draft.
func TestComposeExamples(t *testing.T) {
	all := examples(t)
	decode := func(name string) *Content {
		c, err := Unmarshal(all[name])
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	original, _ := NewMessageID(alice, room, all["original"], decode("original").Salt)
	reply, _ := NewMessageID(bob, room, all["reply"], decode("reply").Salt)
	reaction, _ := NewMessageID(cathy, room, all["reaction"], decode("reaction").Salt)
	tests := map[string]func(w Composer) (*Content, error){
		"original": func(w Composer) (*Content, error) {
			return w.Text("Hi everyone, we just shipped release 2.0. __Good  work__!")
		},
		"reply": func(w Composer) (*Content, error) {
			return w.Reply(original, Markdown("Right on! _Congratulations_ 'all!"))
		},
		"reaction": func(w Composer) (*Content, error) { return w.React(original, "❤") },
		"edit": func(w Composer) (*Content, error) {
			return w.Edit(reply, decode("reply"), Markdown("Right on! _Congratulations_ y'all!"))
		},
		"delete": func(w Composer) (*Content, error) { return w.Delete(reply, decode("reply")) },
		"unlike": func(w Composer) (*Content, error) { return w.Delete(reaction, decode("reaction")) },
		"attachment": func(w Composer) (*Content, error) {
			c, err := w.Attach(*decode("attachment").NestedPart.Part.(*ExternalPart))
			if err == nil {
				c.NestedPart.Language = "en"
			}
			return c, err
		},
	}
	for name, make := range tests {
		t.Run(name, func(t *testing.T) {
			want := decode(name)
			c, err := make(Composer{SenderURI: want.SenderURI(), RoomURI: room, Rand: bytes.NewReader(want.Salt[:])})
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, all[name]) {
				t.Errorf("got  %x\nwant %x", got, all[name])
			}
		})
	}
}

func TestComposeReport(t *testing.T) {
	want, err := UnmarshalStatus(readVector(t, "message-status", "status.cbor"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := Composer{SenderURI: bob, RoomURI: room, Rand: chacha(1)}.Report(want.Statuses...)
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	m, err := Verify(b, Envelope{SenderURI: bob, RoomURI: room})
	if err != nil {
		t.Fatal(err)
	}
	if m.Status == nil || len(m.Status.Statuses) != 4 || m.Status.Statuses[3] != want.Statuses[3] {
		t.Errorf("report %v", m.Status)
	}
	c.NestedPart.Part.(*SinglePart).Content = []byte{0xa0}
	if b, err = c.Marshal(); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(b, Envelope{SenderURI: bob, RoomURI: room}); !errors.Is(err, ErrType) {
		t.Errorf("broken report: %v", err)
	}
}

func TestComposeShortRand(t *testing.T) {
	if _, err := (Composer{Rand: bytes.NewReader(make([]byte, 15))}).Text("x"); err == nil {
		t.Error("salt of 15 octets")
	}
}

func TestIsEmoji(t *testing.T) {
	for _, s := range []string{"❤", "❤️", "👍", "👍🏽", "👩🏽‍⚕️", "🇪🇺", "1️⃣", "#⃣", "👨‍👩‍👧‍👦", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🥳", "🤞"} {
		if !isEmoji(s) {
			t.Errorf("%q is not an emoji", s)
		}
	}
	for _, s := range []string{"", "a", "1", "👍👍", "👍 ", "🇪", "🇪🇺🇪", "👍\u200d", "\u200d👍", "\x1b[2J", "hello", "❤\ufe0f\ufe0f", "🏴\U000e0067", "\xff"} {
		if isEmoji(s) {
			t.Errorf("%q is an emoji", s)
		}
	}
}

func TestReactions(t *testing.T) {
	c, err := Unmarshal(readVector(t, "mimi-content", "multipart-2.cbor"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Reactions(); !errors.Is(err, ErrNotReaction) {
		t.Errorf("without inReplyTo: %v", err)
	}
	c.InReplyTo = &MessageID{1}
	got, err := c.Reactions()
	if err != nil || len(got) != 3 || got[0] != "❤" || got[1] != "🥳" || got[2] != "🤞" {
		t.Errorf("reactions %q, %v", got, err)
	}
	c.NestedPart.Part.(*MultiPart).PartSemantics = ChooseOne
	if _, err := c.Reactions(); !errors.Is(err, ErrNotReaction) {
		t.Errorf("chooseOne: %v", err)
	}
	c.NestedPart.Part.(*MultiPart).PartSemantics = ProcessAll
	c.NestedPart.Part.(*MultiPart).Parts[1].Part.(*SinglePart).Content = []byte("🥳🥳")
	if _, err := c.Reactions(); !errors.Is(err, ErrNotReaction) {
		t.Errorf("two in one part: %v", err)
	}
	if _, err := (Composer{SenderURI: bob, RoomURI: room, Rand: chacha(1)}).React(MessageID{1}, "👍👍"); !errors.Is(err, ErrNotReaction) {
		t.Errorf("composing two in one part: %v", err)
	}
}
