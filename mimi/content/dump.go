package content

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// Field is one element of a decoded message with its place in the octets, in the
// order of the encoding and with the names of the draft. As JSON it is the
// value, or an object of the children in their order, or an array of them.
type Field struct {
	Name     string // draft's name, an index in an array, a key in a map
	Offset   int    // octets from the start of the input
	Length   int    // octets
	Kind     Kind
	Value    any    // of a Scalar: nil, bool, uint64, int64, string or HexBytes
	Note     string // name of a numeric value, such as "reaction" for disposition 2
	Children []*Field
}

// Kind says what a Field is.
type Kind uint8

const (
	Scalar Kind = iota
	Object      // named children
	List        // numbered children
)

// HexBytes is a byte string that prints as hexadecimal.
type HexBytes []byte

func (h HexBytes) String() string { return hex.EncodeToString(h) }

// MarshalText gives hexadecimal digits.
func (h HexBytes) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// Dump decodes MIMI content for a human. With an error, which is a *SyntaxError,
// the tree holds what was read before the offset where decoding stopped. Of a
// message with more than 32768 fields it holds the first.
func Dump(b []byte) (*Field, error) {
	return dump("mimiContent", b, func(c *cursor) { c.content() })
}

// DumpStatus decodes a message status report for a human, like Dump.
func DumpStatus(b []byte) (*Field, error) {
	return dump("MessageStatusReport", b, func(c *cursor) { c.status() })
}

func dump(name string, b []byte, read func(*cursor)) (*Field, error) {
	root := &Field{Name: name, Length: len(b), Kind: Object}
	if len(b) > MaxLength {
		return root, &SyntaxError{Err: broken(ErrTooLong, fmt.Sprintf("at most %d octets", MaxLength), len(b))}
	}
	c := cursor{b: b, dump: root}
	read(&c)
	return root, c.result()
}

// String writes the tree, one field a line with its offset. Text from the
// message is made safe for a terminal.
func (f *Field) String() string {
	var s strings.Builder
	f.write(&s, 0)
	return s.String()
}

func (f *Field) write(s *strings.Builder, depth int) {
	fmt.Fprintf(s, "%6d  %s%s", f.Offset, strings.Repeat("  ", depth), PrintableLine(f.Name))
	if f.Kind == Scalar {
		switch v := f.Value.(type) {
		case nil:
			s.WriteString(": null")
		case string:
			fmt.Fprintf(s, ": %q", v)
		case HexBytes:
			fmt.Fprintf(s, ": h'%s'", v)
		default:
			fmt.Fprintf(s, ": %v", v)
		}
	}
	if f.Note != "" {
		fmt.Fprintf(s, " (%s)", f.Note)
	}
	s.WriteString("\n")
	for _, c := range f.Children {
		c.write(s, depth+1)
	}
}

// MarshalJSON keeps the order of the fields.
func (f *Field) MarshalJSON() ([]byte, error) {
	if f.Kind == Scalar {
		return json.Marshal(f.Value)
	}
	ends := "{}"
	if f.Kind == List {
		ends = "[]"
	}
	var b bytes.Buffer
	b.WriteByte(ends[0])
	for i, c := range f.Children {
		if i > 0 {
			b.WriteByte(',')
		}
		if f.Kind == Object {
			name, err := json.Marshal(c.Name)
			if err != nil {
				return nil, err
			}
			b.Write(name)
			b.WriteByte(':')
		}
		v, err := c.MarshalJSON()
		if err != nil {
			return nil, err
		}
		b.Write(v)
	}
	b.WriteByte(ends[1])
	return b.Bytes(), nil
}
