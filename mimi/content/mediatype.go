package content

import (
	"mime"
	"strings"
)

// Media types that C and M name.
const (
	MediaTypeContent  = "application/mimi-content"
	MediaTypeStatus   = "application/mimi-message-status"
	MediaTypeMarkdown = "text/markdown;variant=GFM-MIMI"
	MediaTypePlain    = "text/plain;charset=utf-8"
)

// MediaType is a parsed contentType. The zero value is an empty or unreadable
// one: a message with it is legitimate, its part just can't be processed (C §9.1).
type MediaType struct {
	Type       string            // "type/subtype" in lower case
	Parameters map[string]string // names in lower case, also the values of charset and variant
}

// ParseMediaType reads a contentType (Decision 110).
func ParseMediaType(s string) MediaType {
	t, p, err := mime.ParseMediaType(s)
	if err != nil || !strings.Contains(t, "/") {
		return MediaType{}
	}
	for name, v := range p {
		if name == "charset" || name == "variant" {
			p[name] = strings.ToLower(v)
		}
	}
	return MediaType{Type: t, Parameters: p}
}

// Is reports whether the type and subtype are those of t, parameters aside.
func (m MediaType) Is(t string) bool {
	t, _, _ = strings.Cut(t, ";")
	return m.Type == t
}

// Markdown is the variant of a text/markdown, in lower case; GFM-MIMI if none is
// given (Decision 110).
func (m MediaType) Markdown() (variant string, ok bool) {
	if m.Type != "text/markdown" {
		return "", false
	}
	if v, ok := m.Parameters["variant"]; ok {
		return v, true
	}
	return "gfm-mimi", true
}

// IsText reports whether the part can be shown as UTF-8 text.
func (m MediaType) IsText() bool {
	if !strings.HasPrefix(m.Type, "text/") {
		return false
	}
	c, ok := m.Parameters["charset"]
	return !ok || c == "utf-8" || c == "us-ascii"
}
