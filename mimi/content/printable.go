package content

import (
	"strings"
	"unicode/utf8"
)

// Printable makes text from others safe for a terminal: whatever could move the
// cursor, change colours, set a title, reverse the direction of the text or
// otherwise do more than show characters is replaced by U+FFFD. Line feeds and
// tabs stay, CR LF becomes LF. Markdown is shown as it is written, which C §7.1
// allows.
func Printable(s string) string {
	if printable(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		switch {
		case r == '\r' && i < len(s) && s[i] == '\n':
		case unprintable(r) || r == utf8.RuneError && n == 1:
			b.WriteRune(utf8.RuneError)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// PrintableLine is Printable for what must stay on one line, such as a name:
// line feeds and tabs become spaces.
func PrintableLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return ' '
		}
		return r
	}, Printable(s))
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if unprintable(r) {
			return false
		}
	}
	return true
}

// unprintable reports whether a terminal might do something with r other than
// show it. U+200D and the variation selectors stay: emoji need them.
func unprintable(r rune) bool {
	switch {
	case r == '\n' || r == '\t':
		return false
	case r < 0x20 || r >= 0x7f && r < 0xa0: // C0, DEL, C1
		return true
	case r == 0x061c, r == 0x200e, r == 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069: // bidirectional controls
		return true
	case r == 0x2028 || r == 0x2029: // line and paragraph separator
		return true
	case r >= 0xfff9 && r <= 0xfffb: // interlinear annotation
		return true
	case r == 0xfeff: // zero width no-break space
		return true
	}
	return r >= 0xe0000 && r <= 0xe001f // tags that no emoji uses
}
