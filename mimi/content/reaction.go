package content

import "unicode/utf8"

// Reactions gives the emoji of a reaction in their order (C §5.3, Decision 109):
// disposition reaction at the top, inReplyTo set, and text parts of one emoji
// each. The error, ErrNotReaction, says why the message is to be shown as a
// reply instead.
func (c *Content) Reactions() ([]string, error) {
	if c.InReplyTo == nil {
		return nil, broken(ErrNotReaction, "inReplyTo", "null")
	}
	return c.NestedPart.reactions()
}

// reactions gives the emoji of a body that is a reaction.
func (p *NestedPart) reactions() ([]string, error) {
	if p.Disposition != Reaction {
		return nil, broken(ErrNotReaction, Reaction, p.Disposition)
	}
	parts := []NestedPart{*p}
	if m, ok := p.Part.(*MultiPart); ok {
		if m.PartSemantics != ProcessAll {
			return nil, broken(ErrNotReaction, ProcessAll, m.PartSemantics)
		}
		parts = m.Parts
	}
	emoji := make([]string, 0, len(parts))
	for _, p := range parts {
		s, ok := p.Part.(*SinglePart)
		if !ok || !ParseMediaType(s.ContentType).IsText() {
			return nil, broken(ErrNotReaction, "a text part", partType(p.Part))
		}
		if !isEmoji(string(s.Content)) {
			return nil, broken(ErrNotReaction, "one emoji", string(s.Content))
		}
		emoji = append(emoji, string(s.Content))
	}
	return emoji, nil
}

func partType(p Part) string {
	switch p := p.(type) {
	case *SinglePart:
		return p.ContentType
	case *ExternalPart:
		return "external " + p.ContentType
	}
	return p.Cardinality().String()
}

// maxEmojiLength is generous: a family of four with skin tones takes 41 octets,
// a flag of tags 28.
const maxEmojiLength = 64

// isEmoji reports whether s is one emoji as a receiver can tell without knowing
// the Unicode version of the sender: one sequence of pictures joined by ZWJ, a
// flag, or a keycap (Unicode TS #51 §1.4.9). Anything that might be two, or
// words, is not.
func isEmoji(s string) bool {
	if s == "" || len(s) > maxEmojiLength || !utf8.ValidString(s) {
		return false
	}
	r := []rune(s)
	if n := len(r); isKeycapBase(r[0]) {
		return n == 2 && r[1] == keycap || n == 3 && r[1] == emojiStyle && r[2] == keycap
	}
	if isRegional(r[0]) {
		return len(r) == 2 && isRegional(r[1])
	}
	for i := 0; ; i++ { // element (ZWJ element)*
		if i == len(r) || !isPicture(r[i]) {
			return false
		}
		if i+1 < len(r) && (isSkinTone(r[i+1]) || r[i+1] == emojiStyle) {
			i++
		}
		if i+1 < len(r) && isTag(r[i+1]) {
			for i+1 < len(r) && isTag(r[i+1]) {
				i++
			}
			return i+1 == len(r) && r[i] == tagEnd
		}
		if i+1 == len(r) {
			return true
		}
		if i++; r[i] != zeroWidthJoiner {
			return false
		}
	}
}

const (
	zeroWidthJoiner = 0x200d
	emojiStyle      = 0xfe0f
	keycap          = 0x20e3
	tagEnd          = 0xe007f
)

func isKeycapBase(r rune) bool { return r >= '0' && r <= '9' || r == '#' || r == '*' }
func isRegional(r rune) bool   { return r >= 0x1f1e6 && r <= 0x1f1ff }
func isSkinTone(r rune) bool   { return r >= 0x1f3fb && r <= 0x1f3ff }
func isTag(r rune) bool        { return r >= 0xe0020 && r <= tagEnd }

// isPicture reports whether r may begin an emoji: Extended_Pictographic of
// Unicode 16, with the blocks it reserves for later taken whole.
func isPicture(r rune) bool {
	for _, b := range pictures {
		if r >= b[0] && r <= b[1] {
			return true
		}
	}
	return false
}

var pictures = [][2]rune{
	{0xa9, 0xa9}, {0xae, 0xae}, {0x203c, 0x203c}, {0x2049, 0x2049}, {0x2122, 0x2122}, {0x2139, 0x2139},
	{0x2194, 0x2199}, {0x21a9, 0x21aa}, {0x231a, 0x231b}, {0x2328, 0x2328}, {0x2388, 0x2388},
	{0x23cf, 0x23cf}, {0x23e9, 0x23f3}, {0x23f8, 0x23fa}, {0x24c2, 0x24c2}, {0x25aa, 0x25ab},
	{0x25b6, 0x25b6}, {0x25c0, 0x25c0}, {0x25fb, 0x25fe}, {0x2600, 0x27bf}, {0x2934, 0x2935},
	{0x2b05, 0x2b07}, {0x2b1b, 0x2b1c}, {0x2b50, 0x2b50}, {0x2b55, 0x2b55}, {0x3030, 0x3030},
	{0x303d, 0x303d}, {0x3297, 0x3297}, {0x3299, 0x3299}, {0x1f000, 0x1f1e5}, {0x1f200, 0x1faff},
	{0x1fc00, 0x1fffd},
}
