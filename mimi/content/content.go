package content

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
)

// Content is the MIMI content container (C §4.1):
//
//	mimiContent = [salt, replaces, topicId, expires, inReplyTo, mimiExtensions, nestedPart]
type Content struct {
	Salt       [SaltLength]byte // random, per message
	Replaces   *MessageID       // the first version of what this edits or deletes; nil is null
	TopicID    []byte           // at most 4096 octets; empty: in no topic
	Expires    *Expiration      // nil is null: never
	InReplyTo  *MessageID       // nil is null
	Extensions []Extension      // mimiExtensions, in deterministic order when decoded
	NestedPart NestedPart
}

// Expiration is a hint when the message should be deleted (C §4.1).
type Expiration struct {
	Relative bool   // counted from the first display to this reader, else absolute
	Time     uint32 // seconds: a duration if Relative, else since the Unix epoch
}

// The extension keys that C registers (§8.2.1).
var (
	KeySenderURI = IntKey(1)
	KeyRoomURI   = IntKey(2)
)

// ExtensionKey names an extension: an integer other than 0 within ±(2^53-1), or
// a text of 1 to 255 octets (C §4.3, Decision 105). It is comparable. Negative
// integers and texts are for private use.
type ExtensionKey struct {
	Int  int64
	Text string // used when not empty
}

// IntKey is an integer key.
func IntKey(n int64) ExtensionKey { return ExtensionKey{Int: n} }

// TextKey is a text key for private use.
func TextKey(s string) ExtensionKey { return ExtensionKey{Text: s} }

func (k ExtensionKey) String() string {
	switch k {
	case KeySenderURI:
		return "senderUri"
	case KeyRoomURI:
		return "roomUri"
	}
	if k.Text != "" {
		return fmt.Sprintf("%q", k.Text)
	}
	return fmt.Sprint(k.Int)
}

// Extension is one entry of mimiExtensions. Value is one CBOR item in
// deterministic encoding, of at most 64 KiB, nested at most 4 levels deep with
// the extension map as the first.
type Extension struct {
	Key   ExtensionKey
	Value []byte
}

// Extension gives the encoded value of the extension with this key.
func (c *Content) Extension(key ExtensionKey) (value []byte, ok bool) {
	for _, e := range c.Extensions {
		if e.Key == key {
			return e.Value, true
		}
	}
	return nil, false
}

// SetExtension encodes v deterministically as the value of the extension.
func (c *Content) SetExtension(key ExtensionKey, v any) error {
	value, err := encoding.Marshal(v)
	if err != nil {
		return fmt.Errorf("content: extension %v: %w", key, err)
	}
	for i := range c.Extensions {
		if c.Extensions[i].Key == key {
			c.Extensions[i].Value = value
			return nil
		}
	}
	c.Extensions = append(c.Extensions, Extension{Key: key, Value: value})
	return nil
}

// SenderURI is extension 1, or "" if there is none.
func (c *Content) SenderURI() string { return c.textExtension(KeySenderURI) }

// RoomURI is extension 2, or "" if there is none.
func (c *Content) RoomURI() string { return c.textExtension(KeyRoomURI) }

func (c *Content) textExtension(key ExtensionKey) string {
	v, _ := c.Extension(key)
	r := cursor{b: v}
	return r.text()
}

// Disposition is what a part is meant for (C §8.2.2). 9 to 255 are unassigned
// and treated as Render (Decision 111).
type Disposition uint8

const (
	Unspecified Disposition = 0
	Render      Disposition = 1
	Reaction    Disposition = 2
	Profile     Disposition = 3
	Inline      Disposition = 4
	Icon        Disposition = 5
	Attachment  Disposition = 6
	Session     Disposition = 7
	Preview     Disposition = 8
)

var dispositionNames = []string{"unspecified", "render", "reaction", "profile", "inline", "icon", "attachment", "session", "preview"}

func (d Disposition) String() string {
	if int(d) < len(dispositionNames) {
		return dispositionNames[d]
	}
	return fmt.Sprintf("unknown(%d)", uint8(d))
}

// Cardinality selects the form of a NestedPart (C §4.4).
type Cardinality uint8

const (
	CardinalityNull     Cardinality = 0
	CardinalitySingle   Cardinality = 1
	CardinalityExternal Cardinality = 2
	CardinalityMulti    Cardinality = 3
)

var cardinalityNames = []string{"nullpart", "single", "external", "multi"}

func (n Cardinality) String() string {
	if int(n) < len(cardinalityNames) {
		return cardinalityNames[n]
	}
	return fmt.Sprintf("unknown(%d)", uint8(n))
}

// PartSemantics says what the receiver does with the parts of a MultiPart.
type PartSemantics uint8

const (
	ChooseOne  PartSemantics = 0 // process exactly one part
	SingleUnit PartSemantics = 1 // process all parts as a unit or none
	ProcessAll PartSemantics = 2 // process as many as possible, each on its own
)

var partSemanticsNames = []string{"chooseOne", "singleUnit", "processAll"}

func (s PartSemantics) String() string {
	if int(s) < len(partSemanticsNames) {
		return partSemanticsNames[s]
	}
	return fmt.Sprintf("unknown(%d)", uint8(s))
}

// NestedPart is the body, or a part of it (C §4.4).
type NestedPart struct {
	Disposition Disposition
	Language    string // "" or comma-separated tags of RFC 5646
	Part        Part   // NullPart, *SinglePart, *ExternalPart or *MultiPart
}

// Part is one of the four forms that a NestedPart can have.
type Part interface {
	Cardinality() Cardinality
}

// NullPart is the absence of a body, as in a deletion.
type NullPart struct{}

// SinglePart carries its content in the message.
type SinglePart struct {
	ContentType string // media type with parameters, never empty
	Content     []byte
}

// ExternalPart refers to content somewhere else (C §4.5). See Check for what a
// receiver demands before it downloads, Seal and Open for the cryptography.
type ExternalPart struct {
	ContentType string // may be empty
	URL         string
	Expires     uint32 // seconds since the Unix epoch, 0: never
	Size        uint64 // octets at URL, 0: unknown
	EncAlg      AEAD   // 0: not encrypted
	Key         []byte
	Nonce       []byte
	AAD         []byte
	HashAlg     uint8 // 0: no hash
	ContentHash []byte
	Description string
	Filename    string
}

// MultiPart is two parts or more and how they belong together.
type MultiPart struct {
	PartSemantics PartSemantics
	Parts         []NestedPart
}

func (NullPart) Cardinality() Cardinality      { return CardinalityNull }
func (*SinglePart) Cardinality() Cardinality   { return CardinalitySingle }
func (*ExternalPart) Cardinality() Cardinality { return CardinalityExternal }
func (*MultiPart) Cardinality() Cardinality    { return CardinalityMulti }

// Walk calls f for every part in the order of the implied part index, the root
// first as 0 (C §4.4, Decision 111), until f returns false.
func (p *NestedPart) Walk(f func(index int, p *NestedPart) bool) {
	next := 0
	p.walk(&next, f)
}

func (p *NestedPart) walk(next *int, f func(int, *NestedPart) bool) bool {
	index := *next
	*next++
	if !f(index, p) {
		return false
	}
	if m, ok := p.Part.(*MultiPart); ok {
		for i := range m.Parts {
			if !m.Parts[i].walk(next, f) {
				return false
			}
		}
	}
	return true
}

// Unmarshal decodes a MIMI content message of at most MaxLength octets. Every
// error is a *SyntaxError. The result does not share memory with b.
//
// It checks the encoding and everything that the octets alone decide. Verify
// also checks sender, room and times.
func Unmarshal(b []byte) (*Content, error) {
	if len(b) > MaxLength {
		return nil, &SyntaxError{Err: broken(ErrTooLong, fmt.Sprintf("at most %d octets", MaxLength), len(b))}
	}
	r := cursor{b: bytes.Clone(b)}
	c := r.content()
	if err := r.result(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *cursor) content() *Content {
	m := new(Content)
	c.array(7)
	c.in("salt", func() { c.fixed(m.Salt[:]) })
	c.in("replaces", func() { m.Replaces = c.optionalID() })
	c.in("topicId", func() {
		start := c.off
		m.TopicID = c.bytes()
		if len(m.TopicID) > MaxTopicIDLength {
			c.failAt(start, broken(ErrTopicTooLong, fmt.Sprintf("at most %d octets", MaxTopicIDLength), len(m.TopicID)))
		}
	})
	c.in("expires", func() { m.Expires = c.expiration() })
	c.in("inReplyTo", func() { m.InReplyTo = c.optionalID() })
	c.in("mimiExtensions", func() { m.Extensions = c.extensions() })
	c.in("nestedPart", func() {
		c.parts = 1
		m.NestedPart = c.nestedPart(1)
	})
	return m
}

func (c *cursor) optionalID() *MessageID {
	if c.isNull() {
		return nil
	}
	id := c.messageID()
	return &id
}

func (c *cursor) expiration() *Expiration {
	if c.isNull() {
		return nil
	}
	e := new(Expiration)
	c.array(2)
	c.in("relative", func() { e.Relative = c.bool() })
	c.in("time", func() {
		start := c.off
		e.Time = uint32(c.uint(1<<32 - 1))
		if e.Relative && e.Time > MaxExpirySeconds {
			c.failAt(start, broken(ErrExpiryFar, fmt.Sprintf("at most %d s", MaxExpirySeconds), e.Time))
		}
	})
	return e
}

func (c *cursor) extensions() []Extension {
	start := c.off
	n := c.want(majorMap)
	if n > uint64(c.left()/2) {
		c.failAt(start, ErrTruncated)
		return nil
	}
	c.kind(Object)
	var all []Extension
	var e Extension
	c.mapKeys(n,
		func() { e = Extension{Key: c.extensionKey()} },
		func() {
			c.in(e.Key.String(), func() {
				start := c.off
				if e.Key == KeySenderURI || e.Key == KeyRoomURI {
					c.text()
				} else {
					c.item(2)
				}
				if c.err != nil {
					return
				}
				e.Value = c.b[start:c.off:c.off]
				if len(e.Value) > MaxExtensionValueLength {
					c.failAt(start, broken(ErrExtensionValue, fmt.Sprintf("at most %d octets", MaxExtensionValueLength), len(e.Value)))
				}
			})
			all = append(all, e)
		})
	return all
}

func (c *cursor) extensionKey() ExtensionKey {
	start := c.off
	major, _, arg := c.head()
	if c.err != nil {
		return ExtensionKey{}
	}
	switch major {
	case majorUint:
		if arg == 0 {
			c.failAt(start, broken(ErrExtensionKey, "an integer other than 0", arg))
		}
		c.keyRange(start, major, arg)
		return IntKey(int64(arg))
	case majorNint:
		c.keyRange(start, major, arg)
		return IntKey(-1 - int64(arg))
	case majorText:
		c.off = start
		s := c.octets(majorText)
		switch {
		case c.err != nil:
		case len(s) == 0 || len(s) > MaxExtensionKeyLength:
			c.failAt(start, broken(ErrExtensionKey, fmt.Sprintf("1 to %d octets", MaxExtensionKeyLength), len(s)))
		case !utf8.Valid(s):
			c.failAt(start, ErrUTF8)
		}
		return TextKey(string(s))
	}
	c.failAt(start, broken(ErrKeyType, "integer or text string", majorNames[major]))
	return ExtensionKey{}
}

// Elements of a NestedPart's array: three, and those of the Part.
const (
	nullElements     = 3
	singleElements   = 5
	externalElements = 15
	multiElements    = 5
)

func (c *cursor) nestedPart(depth int) NestedPart {
	var p NestedPart
	start := c.off
	n := c.want(majorArray)
	if c.err == nil && depth > MaxPartDepth {
		c.failAt(start, broken(ErrPartDepth, fmt.Sprintf("at most %d levels", MaxPartDepth), depth))
	}
	if c.err == nil && n < nullElements {
		c.failAt(start, broken(ErrElements, "at least 3", n))
	}
	c.in("disposition", func() {
		p.Disposition = Disposition(c.uint(255))
		c.note(p.Disposition.String())
	})
	c.in("language", func() { p.Language = c.text() })
	var kind Cardinality
	c.in("cardinality", func() {
		start := c.off
		v := c.uint(1<<64 - 1)
		if v > uint64(CardinalityMulti) {
			c.failAt(start, broken(ErrCardinality, "0 to 3", v))
			return
		}
		kind = Cardinality(v)
		c.note(kind.String())
	})
	if c.err != nil {
		return p
	}
	want := [...]uint64{nullElements, singleElements, externalElements, multiElements}[kind]
	if n != want {
		c.failAt(start, broken(ErrElements, want, n))
		return p
	}
	switch kind {
	case CardinalityNull:
		p.Part = NullPart{}
	case CardinalitySingle:
		p.Part = c.singlePart()
	case CardinalityExternal:
		p.Part = c.externalPart()
	case CardinalityMulti:
		p.Part = c.multiPart(depth)
	}
	return p
}

func (c *cursor) singlePart() *SinglePart {
	p := new(SinglePart)
	c.in("contentType", func() {
		start := c.off
		p.ContentType = c.text()
		if c.err == nil && p.ContentType == "" {
			c.failAt(start, broken(ErrNoContentType, "a media type", `""`)) // Decision 110
		}
	})
	c.in("content", func() {
		p.Content = c.bytes()
		if c.dump != nil && printable(string(p.Content)) {
			c.show(string(p.Content))
		}
	})
	return p
}

func (c *cursor) externalPart() *ExternalPart {
	p := new(ExternalPart)
	c.in("contentType", func() { p.ContentType = c.text() })
	c.in("url", func() { p.URL = c.text() })
	c.in("expires", func() { p.Expires = uint32(c.uint(1<<32 - 1)) })
	c.in("size", func() { p.Size = c.uint(1<<64 - 1) })
	c.in("encAlg", func() {
		p.EncAlg = AEAD(c.uint(1<<16 - 1))
		c.note(p.EncAlg.String())
	})
	c.in("key", func() { p.Key = c.bytes() })
	c.in("nonce", func() { p.Nonce = c.bytes() })
	c.in("aad", func() { p.AAD = c.bytes() })
	c.in("hashAlg", func() { p.HashAlg = uint8(c.uint(1<<8 - 1)) })
	c.in("contentHash", func() { p.ContentHash = c.bytes() })
	c.in("description", func() { p.Description = c.text() })
	c.in("filename", func() { p.Filename = c.text() })
	return p
}

func (c *cursor) multiPart(depth int) *MultiPart {
	m := new(MultiPart)
	c.in("partSemantics", func() {
		start := c.off
		v := c.uint(1<<64 - 1)
		if v > uint64(ProcessAll) {
			c.failAt(start, broken(ErrPartSemantics, "0 to 2", v))
			return
		}
		m.PartSemantics = PartSemantics(v)
		c.note(m.PartSemantics.String())
	})
	c.in("parts", func() {
		start := c.off
		n := c.want(majorArray)
		switch {
		case c.err != nil:
			return
		case n < 2:
			c.failAt(start, broken(ErrTooFewParts, "at least 2", n))
			return
		case n > uint64(MaxParts-c.parts):
			c.failAt(start, broken(ErrTooManyParts, fmt.Sprintf("at most %d", MaxParts), uint64(c.parts)+n))
			return
		case n > uint64(c.left()/4): // a NestedPart takes four octets
			c.failAt(start, ErrTruncated)
			return
		}
		c.parts += int(n)
		m.Parts = make([]NestedPart, n)
		for i := range m.Parts {
			c.at(i, func() { m.Parts[i] = c.nestedPart(depth + 1) })
		}
	})
	return m
}

// encoding is the deterministic encoding of RFC 8949 §4.2.1.
var encoding = func() cbor.EncMode {
	o := cbor.CoreDetEncOptions()
	o.NilContainers = cbor.NilContainerAsEmpty
	m, err := o.EncMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return m
}()

// Marshal encodes the message. It refuses, with the error of Unmarshal, whatever
// Unmarshal would refuse: nothing leaves that a peer would discard.
func (c *Content) Marshal() ([]byte, error) {
	extensions := make(map[any]cbor.RawMessage, len(c.Extensions))
	for _, e := range c.Extensions {
		var key any = e.Key.Int
		if e.Key.Text != "" {
			key = e.Key.Text
		}
		if len(e.Value) == 0 {
			return nil, fmt.Errorf("content: extension %v: %w", e.Key, ErrTruncated)
		}
		if _, twice := extensions[key]; twice {
			return nil, fmt.Errorf("content: extension %v: %w", e.Key, ErrKeyTwice)
		}
		extensions[key] = e.Value
	}
	body, err := c.NestedPart.elements(1)
	if err != nil {
		return nil, err
	}
	var expires any
	if c.Expires != nil {
		expires = []any{c.Expires.Relative, c.Expires.Time}
	}
	b, err := encoding.Marshal([]any{
		c.Salt[:],
		idOrNull(c.Replaces),
		c.TopicID,
		expires,
		idOrNull(c.InReplyTo),
		extensions,
		body,
	})
	if err != nil {
		return nil, fmt.Errorf("content: %w", err)
	}
	if _, err := Unmarshal(b); err != nil {
		return nil, err
	}
	return b, nil
}

func idOrNull(id *MessageID) any {
	if id == nil {
		return nil
	}
	return id[:]
}

// elements is the array of a NestedPart.
func (p *NestedPart) elements(depth int) ([]any, error) {
	if depth > MaxPartDepth {
		return nil, broken(ErrPartDepth, fmt.Sprintf("at most %d levels", MaxPartDepth), depth)
	}
	part := p.Part
	if part == nil {
		part = NullPart{}
	}
	e := []any{uint8(p.Disposition), p.Language, uint8(part.Cardinality())}
	switch part := part.(type) {
	case NullPart:
	case *SinglePart:
		e = append(e, part.ContentType, part.Content)
	case *ExternalPart:
		e = append(e, part.ContentType, part.URL, part.Expires, part.Size, uint16(part.EncAlg),
			part.Key, part.Nonce, part.AAD, part.HashAlg, part.ContentHash, part.Description, part.Filename)
	case *MultiPart:
		parts := make([]any, len(part.Parts))
		for i := range part.Parts {
			inner, err := part.Parts[i].elements(depth + 1)
			if err != nil {
				return nil, err
			}
			parts[i] = inner
		}
		e = append(e, uint8(part.PartSemantics), parts)
	default:
		return nil, broken(ErrCardinality, "NullPart, *SinglePart, *ExternalPart or *MultiPart", fmt.Sprintf("%T", part))
	}
	return e, nil
}
