package mimi

import (
	"errors"
	"fmt"
	"strings"
)

// ErrEscape is returned for a percent sign that two hexadecimal digits do not follow.
var ErrEscape = errors.New("mimi: malformed percent-encoding")

const upperHexDigits = "0123456789ABCDEF"

func escapeTo(b *strings.Builder, s string) {
	for i := 0; i < len(s); i++ {
		if c := s[i]; unreserved(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(upperHexDigits[c>>4])
			b.WriteByte(upperHexDigits[c&15])
		}
	}
}

// Escape percent-encodes every octet of s that is not unreserved: the simple
// string expansion of RFC 6570 §3.2.2, which makes any URI one path segment.
func Escape(s string) string {
	var b strings.Builder
	b.Grow(len(s) + len(s)/4)
	escapeTo(&b, s)
	return b.String()
}

// Unescape undoes Escape on one raw path segment. It takes hexadecimal digits
// of either case and leaves other characters as they are; the error is ErrEscape.
func Unescape(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 {
		return s, nil
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", ErrEscape
		}
		hi, lo := anyHex(s[i+1]), anyHex(s[i+2])
		if hi < 0 || lo < 0 {
			return "", ErrEscape
		}
		b.WriteByte(byte(hi<<4 | lo))
		i += 2
	}
	return b.String(), nil
}

func anyHex(b byte) int {
	if 'a' <= b && b <= 'f' {
		return int(b-'a') + 10
	}
	return upperHex(b)
}

// Variables are the values that an endpoint's template may ask for. Peers name
// them in two ways, so fill in all that the request has. Decisions 4, 67
type Variables struct {
	TargetUser      UserURI
	RequesterUser   UserURI
	RoomID          RoomURI
	TargetDomain    ProviderDomain
	RequesterDomain ProviderDomain
	Domain          ProviderDomain
	DownloadURL     string
}

func (v *Variables) lookup(name string) (value string, known bool) {
	switch name {
	case "targetUser":
		return string(v.TargetUser), true
	case "requesterUser":
		return string(v.RequesterUser), true
	case "roomId":
		return string(v.RoomID), true
	case "targetDomain":
		return string(v.TargetDomain), true
	case "requesterDomain":
		return string(v.RequesterDomain), true
	case "domain":
		return string(v.Domain), true
	case "downloadUrl":
		return v.DownloadURL, true
	}
	return "", false
}

// A TemplateError says what keeps an endpoint's URI template from being used.
type TemplateError struct {
	Template string
	Err      error
}

func (e *TemplateError) Error() string {
	return fmt.Sprintf("mimi: endpoint template %q: %v", e.Template, e.Err)
}

// Unwrap returns what is wrong.
func (e *TemplateError) Unwrap() error { return e.Err }

// What can be wrong with a template.
var (
	ErrTemplateScheme   = errors.New("not an absolute https URI")
	ErrTemplateBraces   = errors.New("not a level 1 template: braces do not match or hold an operator")
	ErrTemplateVariable = errors.New("unknown variable")
	ErrTemplateValue    = errors.New("no value for variable")
)

// A Template is the absolute https URI of an endpoint, an RFC 6570 level 1
// template over the names of Variables. The empty Template is an endpoint that
// is not offered. Decision 4
type Template string

// ParseTemplate returns s if it is an https URI template of level 1 whose
// variables are all known, else a *TemplateError.
func ParseTemplate(s string) (Template, error) {
	rest, ok := strings.CutPrefix(s, "https://")
	if authority, _, _ := strings.Cut(rest, "/"); !ok || authority == "" || strings.ContainsAny(authority, "{}@?#") {
		return "", &TemplateError{s, ErrTemplateScheme}
	}
	t := Template(s)
	err := t.walk(func(string) error { return nil }, func(name string) error {
		if _, known := new(Variables).lookup(name); !known {
			return fmt.Errorf("%w %q", ErrTemplateVariable, name)
		}
		return nil
	})
	if err != nil {
		return "", &TemplateError{s, err}
	}
	return t, nil
}

// walk calls literal and variable for the parts of the template in order.
func (t Template) walk(literal, variable func(string) error) error {
	for rest := string(t); rest != ""; {
		i := strings.IndexAny(rest, "{}")
		if i < 0 {
			return literal(rest)
		}
		if rest[i] == '}' {
			return ErrTemplateBraces
		}
		if i > 0 {
			if err := literal(rest[:i]); err != nil {
				return err
			}
		}
		name, after, ok := strings.Cut(rest[i+1:], "}")
		if !ok || name == "" || strings.ContainsAny(name, "{+#./;?&=,!@|:*") {
			return ErrTemplateBraces
		}
		if err := variable(name); err != nil {
			return err
		}
		rest = after
	}
	return nil
}

// Expand returns the URL of the endpoint. A variable that is unknown or has no
// value is a *TemplateError: a request must not reach some other URL.
func (t Template) Expand(v Variables) (string, error) {
	var b strings.Builder
	err := t.walk(func(s string) error {
		b.WriteString(s)
		return nil
	}, func(name string) error {
		value, known := v.lookup(name)
		if !known {
			return fmt.Errorf("%w %q", ErrTemplateVariable, name)
		}
		if value == "" {
			return fmt.Errorf("%w %q", ErrTemplateValue, name)
		}
		escapeTo(&b, value)
		return nil
	})
	if err != nil {
		return "", &TemplateError{string(t), err}
	}
	return b.String(), nil
}

// Match is the inverse of Expand for a server. It compares the path of the
// template with a request's path as it came on the wire, not decoded, and
// returns the decoded value of each variable. A value never spans a slash.
// Decision 3
func (t Template) Match(rawPath string) (values map[string]string, ok bool) {
	_, rest, _ := strings.Cut(string(t), "://")
	i := strings.IndexByte(rest, '/')
	if i < 0 {
		return nil, rawPath == "" || rawPath == "/"
	}
	path, values := Template(rest[i:]), make(map[string]string)
	pending := "" // the variable whose value ends at the next literal
	errMismatch := errors.New("mismatch")
	take := func(raw string) error {
		value, err := Unescape(raw)
		if err != nil || raw == "" || strings.ContainsRune(raw, '/') {
			return errMismatch
		}
		values[pending], pending = value, ""
		return nil
	}
	err := path.walk(func(literal string) error {
		if pending == "" {
			after, found := strings.CutPrefix(rawPath, literal)
			if !found {
				return errMismatch
			}
			rawPath = after
			return nil
		}
		raw, after, found := strings.Cut(rawPath, literal)
		if !found {
			return errMismatch
		}
		rawPath = after
		return take(raw)
	}, func(name string) error {
		if pending != "" { // two variables side by side can't be told apart
			return errMismatch
		}
		pending = name
		return nil
	})
	if err == nil && pending != "" {
		err, rawPath = take(rawPath), ""
	}
	if err != nil || rawPath != "" {
		return nil, false
	}
	return values, true
}
