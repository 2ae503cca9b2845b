package inspect

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// A tlsTree is a value that the presentation language describes.
type tlsTree struct{ root *tlspl.Node }

// shown is how many octets of an opaque value a line shows.
const shown = 64

// String writes one field a line: offset, name, value.
func (t *tlsTree) String() string {
	var b strings.Builder
	write(&b, t.root, t.root.Name, 0)
	return b.String()
}

func write(b *strings.Builder, n *tlspl.Node, name string, depth int) {
	fmt.Fprintf(b, "%6d  %s%s", n.Offset, strings.Repeat("  ", depth), name)
	switch n.Kind {
	case tlspl.NodeValue:
		b.WriteString(": " + text(n))
	case tlspl.NodeVector:
		if len(n.Children) == 0 {
			b.WriteString(": []")
		}
	case tlspl.NodeStruct:
		if len(n.Children) == 0 {
			b.WriteString(": {}")
		}
	}
	b.WriteByte('\n')
	for i, k := range n.Children {
		switch {
		case n.Kind == tlspl.NodeVector && (k.Name == "" || k.Name == n.Name):
			write(b, k, fmt.Sprintf("[%d]", i), depth+1)
		case k.Name != "":
			write(b, k, k.Name, depth+1)
		}
	}
}

// text writes a value for a human: an enum as its name and number, a time as a
// date, octets in hexadecimal with what they read as.
func text(n *tlspl.Node) string {
	switch v := n.Value.(type) {
	case nil:
		return "absent"
	case []byte:
		return octets(n.Name, v)
	case mls.ComponentID:
		return named(componentName(v), v)
	case mimi.Millis:
		return fmt.Sprintf("%d (%s)", v, time.UnixMilli(int64(v)).UTC().Format("2006-01-02T15:04:05.000Z"))
	case bool:
		if n.Name == "" && !v { // an element of a ratchet tree
			return "blank"
		}
		return fmt.Sprint(v)
	}
	if s, ok := stringValue(n.Value); ok {
		return fmt.Sprintf("%q", s)
	}
	if s, ok := n.Value.(fmt.Stringer); ok {
		return named(s.String(), n.Value)
	}
	if n.Name == "not_before" || n.Name == "not_after" {
		if v, ok := n.Value.(uint64); ok {
			return fmt.Sprintf("%d%s", v, seconds(v))
		}
	}
	return fmt.Sprint(n.Value)
}

func seconds(v uint64) string {
	if v == 0 || v > 1<<38 {
		return ""
	}
	return time.Unix(int64(v), 0).UTC().Format(" (2006-01-02T15:04:05Z)")
}

// named writes a number with its name, unless the name is the number.
func named(name string, v any) string {
	n := number(v)
	if name == n || strings.HasPrefix(name, "0x") {
		return n
	}
	return name + " (" + n + ")"
}

// number writes a number as the drafts do: code points in hexadecimal.
func number(v any) string {
	u := reflect.ValueOf(v)
	switch {
	case !u.CanUint():
		return fmt.Sprint(v)
	case u.Kind() == reflect.Uint16:
		return fmt.Sprintf("0x%04x", u.Uint())
	}
	return fmt.Sprint(u.Uint())
}

func componentName(id mls.ComponentID) string {
	switch id {
	case mls.ComponentAppComponents:
		return "app_components"
	case mls.ComponentSafeAAD:
		return "safe_aad"
	case mls.ComponentContentMediaTypes:
		return "content_media_types"
	case mls.ComponentLastResortKeyPackage:
		return "last_resort_key_package"
	case mls.ComponentAppAck:
		return "app_ack"
	}
	return mimi.ComponentName(id)
}

// stringValue returns a value of string type.
func stringValue(v any) (string, bool) {
	switch s := v.(type) {
	case string:
		return s, true
	case mimi.UserURI:
		return string(s), true
	case mimi.ClientURI:
		return string(s), true
	case mimi.RoomURI:
		return string(s), true
	case mimi.IdentifierURI:
		return string(s), true
	case mimi.ProviderDomain:
		return string(s), true
	case mimi.URI:
		return string(s), true
	}
	return "", false
}

func octets(name string, b []byte) string {
	if len(b) == 0 {
		return "empty"
	}
	if readable(b) && len(b) <= 4*shown && !random(name) {
		return fmt.Sprintf("%q", b)
	}
	if len(b) > shown {
		return fmt.Sprintf("%x… (%d octets)", b[:shown], len(b))
	}
	return hex.EncodeToString(b)
}

// random reports whether a field of this name holds the output of some
// cryptography, which only by chance reads as text.
func random(name string) bool {
	for _, part := range []string{"signature", "key", "hash", "tag", "secret", "frank", "kem", "cipher", "encrypted", "ref", "salt"} {
		if strings.Contains(strings.ToLower(name), part) {
			return true
		}
	}
	return false
}

// readable reports whether b is surely meant as text.
func readable(b []byte) bool {
	if len(b) < 3 || !utf8.Valid(b) {
		return false
	}
	for _, r := range string(b) {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// MarshalJSON writes an object whose keys keep the order of the fields. Octets
// are in hexadecimal, enums by name.
func (t *tlsTree) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	if err := writeJSON(&b, t.root); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func writeJSON(b *bytes.Buffer, n *tlspl.Node) error {
	switch n.Kind {
	case tlspl.NodeValue:
		v := n.Value
		switch x := v.(type) {
		case []byte:
			v = hex.EncodeToString(x)
		case mls.ComponentID:
			v = componentName(x)
		case fmt.Stringer:
			v = x.String()
		}
		j, err := json.Marshal(v)
		b.Write(j)
		return err
	case tlspl.NodeVector:
		b.WriteByte('[')
		for i, k := range n.Children {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := writeJSON(b, k); err != nil {
				return err
			}
		}
		b.WriteByte(']')
		return nil
	}
	b.WriteByte('{')
	first := true
	for _, k := range n.Children {
		if k.Name == "" {
			continue
		}
		if !first {
			b.WriteByte(',')
		}
		first = false
		name, err := json.Marshal(k.Name)
		if err != nil {
			return err
		}
		b.Write(name)
		b.WriteByte(':')
		if err := writeJSON(b, k); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return nil
}
