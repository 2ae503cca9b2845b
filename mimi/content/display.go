package content

import (
	"fmt"
	"strconv"
	"strings"
)

// Display is the body as text for a terminal, made safe by Printable. Markdown
// is shown as written; of alternatives one that is text is chosen, Markdown
// first; what can't be shown as text is named in brackets.
func (p *NestedPart) Display() string {
	d := display{used: make(map[int]bool)}
	next := 0
	return strings.Join(d.lines(p, &next), "\n")
}

type display struct {
	used map[int]bool // referred to by a part already shown, so not shown again (C §4.4)
}

// lines gives the text of a part whose index is *next, and leaves in *next the
// index of the part after it.
func (d *display) lines(p *NestedPart, next *int) []string {
	index := *next
	*next++
	switch part := p.Part.(type) {
	case *SinglePart:
		if d.used[index] {
			return nil
		}
		if !understood(p) {
			return []string{fmt.Sprintf("[%s, %d octets]", PrintableLine(part.ContentType), len(part.Content))}
		}
		text := string(part.Content)
		for _, i := range references(text) {
			d.used[i] = true
		}
		return []string{Printable(text)}
	case *ExternalPart:
		if d.used[index] {
			return nil
		}
		return []string{part.display()}
	case *MultiPart:
		return d.multi(part, next)
	}
	return nil
}

func (d *display) multi(m *MultiPart, next *int) []string {
	chosen := -1
	if m.PartSemantics == ChooseOne {
		chosen = m.choose()
	}
	var lines []string
	for i := range m.Parts {
		if chosen >= 0 && i != chosen {
			skip(&m.Parts[i], next)
			continue
		}
		lines = append(lines, d.lines(&m.Parts[i], next)...)
	}
	if m.PartSemantics == SingleUnit && !understood(&NestedPart{Part: m}) {
		return []string{fmt.Sprintf("[%d parts that can't be shown as text]", len(m.Parts))}
	}
	return lines
}

func skip(p *NestedPart, next *int) {
	p.Walk(func(int, *NestedPart) bool {
		*next++
		return true
	})
}

// choose gives the index of the alternative that is best shown as text.
func (m *MultiPart) choose() int {
	best, score := 0, -1
	for i := range m.Parts {
		s := 0
		if single, ok := m.Parts[i].Part.(*SinglePart); ok {
			t := ParseMediaType(single.ContentType)
			switch _, markdown := t.Markdown(); {
			case !t.IsText():
			case markdown:
				s = 4
			case t.Is(MediaTypePlain):
				s = 3
			default:
				s = 1
			}
		} else if understood(&m.Parts[i]) {
			s = 2
		}
		if s > score {
			best, score = i, s
		}
	}
	return best
}

// understood reports whether a part can be shown as text, for a MultiPart by the
// meaning of its parts.
func understood(p *NestedPart) bool {
	switch part := p.Part.(type) {
	case *SinglePart:
		return ParseMediaType(part.ContentType).IsText()
	case *MultiPart:
		all, some := true, false
		for i := range part.Parts {
			if understood(&part.Parts[i]) {
				some = true
			} else {
				all = false
			}
		}
		return all || some && part.PartSemantics != SingleUnit
	}
	return false
}

func (p *ExternalPart) display() string {
	name := p.Filename
	if name == "" {
		name = p.URL
	}
	words := []string{PrintableLine(name)}
	if p.Description != "" {
		words = append(words, PrintableLine(p.Description))
	}
	if p.ContentType != "" {
		words = append(words, PrintableLine(p.ContentType))
	}
	if p.Size != 0 {
		words = append(words, fmt.Sprintf("%d octets", p.Size))
	}
	if p.Check() != nil {
		words = append(words, "can't be downloaded")
	}
	return "[" + strings.Join(words, ", ") + "]"
}

const (
	referencePrefix = "cid:"
	referenceSuffix = "@local.invalid"
)

// ParsePartReference reads a content ID URI cid:<partIndex>@local.invalid
// (C §4.4).
func ParsePartReference(uri string) (index int, ok bool) {
	digits, prefixed := strings.CutPrefix(uri, referencePrefix)
	digits, suffixed := strings.CutSuffix(digits, referenceSuffix)
	n, err := strconv.ParseUint(digits, 10, 16)
	if !prefixed || !suffixed || err != nil || strconv.FormatUint(n, 10) != digits {
		return 0, false
	}
	return int(n), true
}

// references finds the part references in a text.
func references(text string) []int {
	var all []int
	for {
		_, rest, found := strings.Cut(text, referencePrefix)
		if !found {
			return all
		}
		text = rest
		if end := strings.Index(rest, referenceSuffix); end >= 0 && end <= 5 {
			if i, ok := ParsePartReference(referencePrefix + rest[:end] + referenceSuffix); ok {
				all = append(all, i)
			}
		}
	}
}

// Refer gives the part that a content ID URI in another part names. Anything but
// a SinglePart or ExternalPart is ErrPartReference (Decision 111).
func (c *Content) Refer(uri string) (*NestedPart, error) {
	index, ok := ParsePartReference(uri)
	if !ok {
		return nil, broken(ErrPartReference, "cid:<partIndex>@local.invalid", uri)
	}
	var found *NestedPart
	c.NestedPart.Walk(func(i int, p *NestedPart) bool {
		if i == index {
			found = p
		}
		return found == nil
	})
	if found == nil {
		return nil, broken(ErrPartReference, "the index of a part", index)
	}
	switch found.Part.(type) {
	case *SinglePart, *ExternalPart:
		return found, nil
	}
	return nil, broken(ErrPartReference, "a SinglePart or ExternalPart", found.Part.Cardinality())
}
