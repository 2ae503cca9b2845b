package policy

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/tlspl"
)

// documented are the components that Document and Replace know: each one that a room's policy is made of and that an update
// replaces.
var documented = []ComponentID{
	mimi.ComponentRolesList, mimi.ComponentPreauthList, mimi.ComponentBaseRoomPolicy, mimi.ComponentMLSOperationalPolicy,
	mimi.ComponentStatusNotificationPolicy, mimi.ComponentJoinLinkPolicy, mimi.ComponentLinkPreviewPolicy, mimi.ComponentAssetPolicy,
	mimi.ComponentLoggingPolicy, mimi.ComponentChatHistoryPolicy, mimi.ComponentBotPolicy, mimi.ComponentMessageExpirationPolicy,
}

// Documents returns the names of the components that Document and Replace take, such as "roles_list".
func Documents() []string {
	names := make([]string, len(documented))
	for i, id := range documented {
		names[i] = mimi.ComponentName(id)
	}
	return names
}

// DocumentOf returns the ID of a component by its name.
func DocumentOf(name string) (ComponentID, error) {
	for _, id := range documented {
		if mimi.ComponentName(id) == name {
			return id, nil
		}
	}
	return 0, fmt.Errorf("policy: there is no component %q", name)
}

// Document returns a component as JSON with the draft's names, nil if the room does not have it: all of it, where Settings
// shows its single values. Octets that are text stand as they are, others in hexadecimal after "hex:".
func (c *Components) Document(name string) ([]byte, error) {
	id, err := DocumentOf(name)
	if err != nil {
		return nil, err
	}
	data := c.Data(id)
	if data == nil {
		return nil, nil
	}
	var compact, out bytes.Buffer
	if err := writeDocument(&compact, reflect.ValueOf(data).Elem()); err != nil {
		return nil, err
	}
	if err := json.Indent(&out, compact.Bytes(), "", "  "); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// Replace returns the component that a document in the form of Document describes, and which it is. What the document leaves
// out is empty, 0 or false; what it says of fields that there are not is an error that names them. c stays as it is. Whether
// the components are valid together is CheckComponents'.
func (c *Components) Replace(name string, document []byte) (ComponentID, tlspl.Coder, error) {
	id, err := DocumentOf(name)
	if err != nil {
		return 0, nil, err
	}
	d := json.NewDecoder(bytes.NewReader(document))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		return 0, nil, fmt.Errorf("policy: %s: %w", name, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return 0, nil, fmt.Errorf("policy: %s: more than one JSON value", name)
	}
	fresh := mimi.NewComponentData(id)
	if err := readDocument(reflect.ValueOf(fresh).Elem(), value, name); err != nil {
		return 0, nil, fmt.Errorf("policy: %w", err)
	}
	encoded, err := tlspl.Marshal(fresh)
	if err != nil {
		return 0, nil, fmt.Errorf("policy: %s: %w", name, err)
	}
	data := mimi.NewComponentData(id)
	if err := tlspl.Unmarshal(encoded, data); err != nil { // what can't be on the wire, such as a URI that is none
		return 0, nil, fmt.Errorf("policy: %s: %w", name, err)
	}
	return id, data, nil
}

// words are the enumerations whose values are written as the draft's words.
var words = map[reflect.Type][]string{
	reflect.TypeFor[mimi.Optionality]():             wordsOf(mimi.Optional, mimi.Required, mimi.Forbidden),
	reflect.TypeFor[mimi.AssetUploadLocation]():     wordsOf(mimi.UploadUnspecified, mimi.UploadLocalProvider, mimi.UploadHub),
	reflect.TypeFor[mimi.DownloadPrivacyType]():     wordsOf(mimi.DownloadDirect, mimi.DownloadHubProxy, mimi.DownloadOHTTP),
	reflect.TypeFor[mimi.PendingProposalStrategy](): wordsOf(mimi.PendingUnspecified, mimi.PendingImmediateCommit, mimi.PendingRandomDelay),
}

func wordsOf[T fmt.Stringer](values ...T) []string {
	list := make([]string, len(values))
	for i, v := range values {
		list[i] = v.String()
	}
	return list
}

// fieldName is the draft's name of a field: RoleIndex is role_index.
func fieldName(name string) string {
	var s strings.Builder
	r := []rune(name)
	for i, c := range r {
		if unicode.IsUpper(c) && i > 0 && (unicode.IsLower(r[i-1]) || i+2 < len(r) && unicode.IsLower(r[i+1])) {
			s.WriteByte('_')
		}
		s.WriteRune(unicode.ToLower(c))
	}
	return s.String()
}

func writeDocument(w *bytes.Buffer, v reflect.Value) error {
	text := func(s any) error {
		b, err := json.Marshal(s)
		w.Write(b)
		return err
	}
	if names, ok := words[v.Type()]; ok && v.Uint() < uint64(len(names)) {
		return text(names[v.Uint()])
	}
	if c, ok := v.Interface().(Capability); ok && Does(c) != "" {
		return text(c.String())
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			w.WriteString("null")
			return nil
		}
		return writeDocument(w, v.Elem())
	case reflect.Struct:
		w.WriteByte('{')
		for i := range v.NumField() {
			if i > 0 {
				w.WriteByte(',')
			}
			fmt.Fprintf(w, "%q:", fieldName(v.Type().Field(i).Name))
			if err := writeDocument(w, v.Field(i)); err != nil {
				return err
			}
		}
		w.WriteByte('}')
		return nil
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 && words[v.Type().Elem()] == nil {
			return text(octetsAsText(v.Bytes()))
		}
		w.WriteByte('[')
		for i := range v.Len() {
			if i > 0 {
				w.WriteByte(',')
			}
			if err := writeDocument(w, v.Index(i)); err != nil {
				return err
			}
		}
		w.WriteByte(']')
		return nil
	}
	return text(v.Interface())
}

const hexPrefix = "hex:"

func octetsAsText(b []byte) string {
	s := string(b)
	if !utf8.Valid(b) || strings.HasPrefix(s, hexPrefix) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return hexPrefix + hex.EncodeToString(b)
	}
	return s
}

func readDocument(v reflect.Value, from any, path string) error {
	wrong := func(what string) error { return fmt.Errorf("%s: %v is not %s", path, from, what) }
	if names, ok := words[v.Type()]; ok {
		i := slices.IndexFunc(names, func(n string) bool { return from == n })
		if i < 0 {
			return wrong("one of " + strings.Join(names, ", "))
		}
		v.SetUint(uint64(i))
		return nil
	}
	if name, ok := from.(string); ok && v.Type() == reflect.TypeFor[Capability]() {
		c, ok := ParseCapability(name)
		if !ok {
			return wrong("a capability")
		}
		v.SetUint(uint64(c))
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		if from == nil {
			return nil
		}
		v.Set(reflect.New(v.Type().Elem()))
		return readDocument(v.Elem(), from, path)
	case reflect.Struct:
		return readFields(v, from, path)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 && words[v.Type().Elem()] == nil {
			s, ok := from.(string)
			if digits, isHex := strings.CutPrefix(s, hexPrefix); isHex {
				b, err := hex.DecodeString(digits)
				if err != nil {
					return wrong("hexadecimal")
				}
				v.SetBytes(b)
				return nil
			}
			v.SetBytes([]byte(s))
			if !ok {
				return wrong("a text")
			}
			return nil
		}
		list, ok := from.([]any)
		if !ok {
			return wrong("a list")
		}
		for i, x := range list {
			v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
			if err := readDocument(v.Index(i), x, fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
		return nil
	case reflect.Bool:
		b, ok := from.(bool)
		v.SetBool(b)
		if !ok {
			return wrong("true or false")
		}
		return nil
	case reflect.String:
		s, ok := from.(string)
		v.SetString(s)
		if !ok {
			return wrong("a text")
		}
		return nil
	}
	n, ok := from.(json.Number)
	if !ok {
		return wrong("a number")
	}
	number, err := parseNumber(n.String(), v.Type().Bits())
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	v.SetUint(number)
	return nil
}

func readFields(v reflect.Value, from any, path string) error {
	object, ok := from.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: %v is not an object", path, from)
	}
	known := make(map[string]bool, v.NumField())
	for i := range v.NumField() {
		name := fieldName(v.Type().Field(i).Name)
		known[name] = true
		if x, ok := object[name]; ok {
			if err := readDocument(v.Field(i), x, path+"."+name); err != nil {
				return err
			}
		}
	}
	for name := range object {
		if !known[name] {
			return fmt.Errorf("%s: there is no field %q", path, name)
		}
	}
	return nil
}
