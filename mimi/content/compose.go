package content

import (
	"fmt"
	"io"
	"slices"
)

// A Composer makes the messages of one user in one room. Its methods read the
// salt from Rand, which must be cryptographically random. Set TopicID, Expires
// or further extensions on the result before Marshal.
type Composer struct {
	SenderURI string
	RoomURI   string
	Rand      io.Reader
}

// Compose makes a message of the part with a fresh salt and extensions 1 and 2
// (Decision 103).
func (w Composer) Compose(part NestedPart) (*Content, error) {
	c := &Content{NestedPart: part}
	if _, err := io.ReadFull(w.Rand, c.Salt[:]); err != nil {
		return nil, fmt.Errorf("content: salt: %w", err)
	}
	if err := c.SetExtension(KeySenderURI, w.SenderURI); err != nil {
		return nil, err
	}
	if err := c.SetExtension(KeyRoomURI, w.RoomURI); err != nil {
		return nil, err
	}
	return c, nil
}

// Markdown is a body of text in GFM-MIMI Markdown.
func Markdown(text string) NestedPart {
	return NestedPart{Disposition: Render, Part: &SinglePart{ContentType: MediaTypeMarkdown, Content: []byte(text)}}
}

// Plain is a body of plain text.
func Plain(text string) NestedPart {
	return NestedPart{Disposition: Render, Part: &SinglePart{ContentType: MediaTypePlain, Content: []byte(text)}}
}

// Text is a message in Markdown (C §5.1).
func (w Composer) Text(markdown string) (*Content, error) {
	return w.Compose(Markdown(markdown))
}

// Reply is an answer to a message (C §5.2). to should be the version that is
// shown when the answer is written.
func (w Composer) Reply(to MessageID, body NestedPart) (*Content, error) {
	c, err := w.Compose(body)
	if err == nil {
		c.InReplyTo = &to
	}
	return c, err
}

// Edit puts another body in the place of a message (C §5.5). first is the ID of
// its first version, original its content, whose other fields the edit repeats.
func (w Composer) Edit(first MessageID, original *Content, body NestedPart) (*Content, error) {
	c, err := w.Compose(body)
	if err != nil {
		return nil, err
	}
	c.Replaces, c.InReplyTo = &first, original.InReplyTo
	c.TopicID, c.Expires = slices.Clone(original.TopicID), original.Expires
	return c, nil
}

// Delete retracts a message or a reaction (C §5.6, §5.7). first and original are
// as for Edit; expires is not repeated, for a deletion does not.
func (w Composer) Delete(first MessageID, original *Content) (*Content, error) {
	c, err := w.Edit(first, original, NestedPart{Disposition: original.NestedPart.Disposition, Part: NullPart{}})
	if err == nil {
		c.Expires = nil
	}
	return c, err
}

// React answers a message with emoji, each a part of its own (C §5.3).
func (w Composer) React(to MessageID, emoji ...string) (*Content, error) {
	parts := make([]NestedPart, len(emoji))
	for i, e := range emoji {
		if !isEmoji(e) {
			return nil, broken(ErrNotReaction, "one emoji", e)
		}
		parts[i] = NestedPart{Disposition: Reaction, Part: &SinglePart{ContentType: MediaTypePlain, Content: []byte(e)}}
	}
	switch len(parts) {
	case 0:
		return nil, broken(ErrNotReaction, "one emoji", "none")
	case 1:
		return w.Reply(to, parts[0])
	}
	return w.Reply(to, NestedPart{Disposition: Reaction, Part: &MultiPart{PartSemantics: ProcessAll, Parts: parts}})
}

// Attach is a message that refers to a file somewhere else (C §5.9). The part
// must pass Check; Seal fills most of it.
func (w Composer) Attach(file ExternalPart) (*Content, error) {
	if err := file.Check(); err != nil {
		return nil, err
	}
	return w.Compose(NestedPart{Disposition: Attachment, Part: &file})
}

// Report tells the room what became of messages at this user (M §3), in a MIMI
// content container (Decision 112).
func (w Composer) Report(statuses ...PerMessageStatus) (*Content, error) {
	report := StatusReport{Statuses: statuses}
	b, err := report.Marshal()
	if err != nil {
		return nil, err
	}
	return w.Compose(NestedPart{Disposition: Unspecified, Part: &SinglePart{ContentType: MediaTypeStatus, Content: b}})
}
