package content

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"pgregory.net/rapid"
)

func isError(err, want error) bool          { return errors.Is(err, want) }
func asError[T error](err error, t *T) bool { return errors.As(err, t) }

const (
	alice = "mimi://example.com/u/alice-smith"
	bob   = "mimi://example.com/u/bob-jones"
	cathy = "mimi://example.com/u/cathy-washington"
	room  = "mimi://example.com/r/engineering_team"
)

// A message in pieces, each of which a test replaces by a bad one.
type pieces struct {
	array, salt, replaces, topic, expires, reply, extensions, part string
}

func good() pieces {
	return pieces{"87", "50" + strings.Repeat("5e", 16), "f6", "40", "f6", "f6", "a0", "83016000"}
}

func (p pieces) octets(t testing.TB) []byte {
	t.Helper()
	b, err := hex.DecodeString(p.array + p.salt + p.replaces + p.topic + p.expires + p.reply + p.extensions + p.part)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const single = "85016001" + "616d" + "40" // content type "m"

func TestUnmarshalRefuses(t *testing.T) {
	id := "5820" + "01" + strings.Repeat("aa", 31)
	nested := func(levels int) string { // levels of MultiPart with a NullPart at the end
		s := "83016000"
		for range levels {
			s = "8501600300" + "82" + "83016000" + s
		}
		return s
	}
	big := hex.EncodeToString(bytes.Repeat([]byte{'x'}, MaxExtensionValueLength))
	tests := []struct {
		name  string
		edit  func(*pieces)
		want  error
		field string
	}{
		{"not an array", func(p *pieces) { p.array = "a7" }, ErrType, ""},
		{"six elements", func(p *pieces) { p.array = "86" }, ErrElements, ""},
		{"indefinite array", func(p *pieces) { p.array = "9f" }, ErrIndefinite, ""},
		{"long array head", func(p *pieces) { p.array = "9807" }, ErrNotShortest, ""},
		{"salt of 15", func(p *pieces) { p.salt = "4f" + strings.Repeat("5e", 15) }, ErrLength, "salt"},
		{"salt as text", func(p *pieces) { p.salt = "70" + strings.Repeat("5e", 16) }, ErrType, "salt"},
		{"indefinite salt", func(p *pieces) { p.salt = "5f50" + strings.Repeat("5e", 16) + "ff" }, ErrIndefinite, "salt"},
		{"undefined for null", func(p *pieces) { p.replaces = "f7" }, ErrType, "replaces"},
		{"ID of 31", func(p *pieces) { p.replaces = "581f" + strings.Repeat("01", 31) }, ErrLength, "replaces"},
		{"ID of another hash", func(p *pieces) { p.reply = "582002" + strings.Repeat("aa", 31) }, ErrUnknownHash, "inReplyTo"},
		{"topicId too long", func(p *pieces) { p.topic = "591001" + strings.Repeat("00", 4097) }, ErrTopicTooLong, "topicId"},
		{"topicId claims much", func(p *pieces) { p.topic = "5bffffffffffffffff" }, ErrTruncated, "topicId"},
		{"expires without time", func(p *pieces) { p.expires = "81f4" }, ErrElements, "expires"},
		{"relative as integer", func(p *pieces) { p.expires = "820000" }, ErrType, "expires.relative"},
		{"time of 33 bits", func(p *pieces) { p.expires = "82f41b0000000100000000" }, ErrRange, "expires.time"},
		{"negative time", func(p *pieces) { p.expires = "82f420" }, ErrType, "expires.time"},
		{"relative of 367 days", func(p *pieces) { p.expires = "82f51a01e3d281" }, ErrExpiryFar, "expires.time"},
		{"extensions as array", func(p *pieces) { p.extensions = "80" }, ErrType, "mimiExtensions"},
		{"indefinite extensions", func(p *pieces) { p.extensions = "bfff" }, ErrIndefinite, "mimiExtensions"},
		{"extensions claim much", func(p *pieces) { p.extensions = "bb00ffffffffffffff" }, ErrTruncated, "mimiExtensions"},
		{"key 0", func(p *pieces) { p.extensions = "a100f6" }, ErrExtensionKey, "mimiExtensions"},
		{"key 2^53", func(p *pieces) { p.extensions = "a11b0020000000000000f6" }, ErrRange, "mimiExtensions"},
		{"key -2^53", func(p *pieces) { p.extensions = "a13b001ffffffffffffff6" }, ErrRange, "mimiExtensions"},
		{"key of 0 octets", func(p *pieces) { p.extensions = "a160f6" }, ErrExtensionKey, "mimiExtensions"},
		{"key of 256 octets", func(p *pieces) { p.extensions = "a1790100" + strings.Repeat("61", 256) + "f6" }, ErrExtensionKey, "mimiExtensions"},
		{"key not UTF-8", func(p *pieces) { p.extensions = "a161fff6" }, ErrUTF8, "mimiExtensions"},
		{"byte string as key", func(p *pieces) { p.extensions = "a14161f6" }, ErrKeyType, "mimiExtensions"},
		{"same key twice", func(p *pieces) { p.extensions = "a203f603f6" }, ErrKeyTwice, "mimiExtensions"},
		{"keys out of order", func(p *pieces) { p.extensions = "a204f603f6" }, ErrKeyOrder, "mimiExtensions"},
		{"keys by length first", func(p *pieces) { p.extensions = "a220f61864f6" }, ErrKeyOrder, "mimiExtensions"}, // RFC 7049 order
		{"text before negative", func(p *pieces) { p.extensions = "a26161f620f6" }, ErrKeyOrder, "mimiExtensions"},
		{"senderUri as integer", func(p *pieces) { p.extensions = "a10105" }, ErrType, "mimiExtensions.senderUri"},
		{"roomUri as bytes", func(p *pieces) { p.extensions = "a1024161" }, ErrType, "mimiExtensions.roomUri"},
		{"value too long", func(p *pieces) { p.extensions = "a1035a00010000" + big }, ErrExtensionValue, "mimiExtensions.3"},
		{"value at level 5", func(p *pieces) { p.extensions = "a10381818180" }, ErrExtensionDepth, "mimiExtensions.3[0][0][0]"},
		{"tag at level 5", func(p *pieces) { p.extensions = "a103818181d82060" }, ErrExtensionDepth, "mimiExtensions.3[0][0][0]"},
		{"map at level 5", func(p *pieces) { p.extensions = "a103818181a0" }, ErrExtensionDepth, "mimiExtensions.3[0][0][0]"},
		{"inner key null", func(p *pieces) { p.extensions = "a103a1f600" }, ErrKeyType, "mimiExtensions.3"},
		{"inner keys out of order", func(p *pieces) { p.extensions = "a103a202000100" }, ErrKeyOrder, "mimiExtensions.3"},
		{"array claims much", func(p *pieces) { p.extensions = "a1039affffffff" }, ErrTruncated, "mimiExtensions.3"},
		{"NaN of 32 bits", func(p *pieces) { p.extensions = "a103fa7fc00000" }, ErrNaN, "mimiExtensions.3"},
		{"NaN with payload", func(p *pieces) { p.extensions = "a103f97e01" }, ErrNaN, "mimiExtensions.3"},
		{"1.5 as double", func(p *pieces) { p.extensions = "a103fb3ff8000000000000" }, ErrNotShortest, "mimiExtensions.3"},
		{"1.5 as single", func(p *pieces) { p.extensions = "a103fa3fc00000" }, ErrNotShortest, "mimiExtensions.3"},
		{"2^-24 as single", func(p *pieces) { p.extensions = "a103fa33800000" }, ErrNotShortest, "mimiExtensions.3"},
		{"infinity as double", func(p *pieces) { p.extensions = "a103fb7ff0000000000000" }, ErrNotShortest, "mimiExtensions.3"},
		{"bignum that fits", func(p *pieces) { p.extensions = "a103c24101" }, ErrNotShortest, "mimiExtensions.3"},
		{"bignum with leading zero", func(p *pieces) { p.extensions = "a103c249000102030405060708" }, ErrNotShortest, "mimiExtensions.3"},
		{"bignum of text", func(p *pieces) { p.extensions = "a103c26161" }, ErrType, "mimiExtensions.3"},
		{"simple(31) in two octets", func(p *pieces) { p.extensions = "a103f81f" }, ErrReserved, "mimiExtensions.3"},
		{"break alone", func(p *pieces) { p.extensions = "a103ff" }, ErrIndefinite, "mimiExtensions.3"},
		{"reserved 28", func(p *pieces) { p.extensions = "a1031c" }, ErrReserved, "mimiExtensions.3"},
		{"reserved 31", func(p *pieces) { p.extensions = "a1031f" }, ErrReserved, "mimiExtensions.3"},
		{"two elements", func(p *pieces) { p.part = "820160" }, ErrElements, "nestedPart"},
		{"null with four", func(p *pieces) { p.part = "8401600000" }, ErrElements, "nestedPart"},
		{"disposition 256", func(p *pieces) { p.part = "831901006000" }, ErrRange, "nestedPart.disposition"},
		{"language not UTF-8", func(p *pieces) { p.part = "830161ff00" }, ErrUTF8, "nestedPart.language"},
		{"cardinality 4", func(p *pieces) { p.part = "83016004" }, ErrCardinality, "nestedPart.cardinality"},
		{"single without type", func(p *pieces) { p.part = "850160016040" }, ErrNoContentType, "nestedPart.contentType"},
		{"single with text", func(p *pieces) { p.part = "85016001616d60" }, ErrType, "nestedPart.content"},
		{"partSemantics 3", func(p *pieces) { p.part = "8501600303" + "82" + single + single }, ErrPartSemantics, "nestedPart.partSemantics"},
		{"one part", func(p *pieces) { p.part = "8501600300" + "81" + single }, ErrTooFewParts, "nestedPart.parts"},
		{"1024 parts below one", func(p *pieces) { p.part = "8501600300" + "990400" + strings.Repeat("83016000", 1024) }, ErrTooManyParts, "nestedPart.parts"},
		{"parts claim much", func(p *pieces) { p.part = "8501600300" + "9a3fffffff" }, ErrTooManyParts, "nestedPart.parts"},
		{"parts not there", func(p *pieces) { p.part = "8501600300" + "9903ff" }, ErrTruncated, "nestedPart.parts"},
		{"five levels", func(p *pieces) { p.part = nested(4) }, ErrPartDepth, "nestedPart.parts[1].parts[1].parts[1].parts[0]"},
		{"many levels", func(p *pieces) { p.part = nested(1000) }, ErrPartDepth, "nestedPart.parts[1].parts[1].parts[1].parts[0]"},
		{"url tagged", func(p *pieces) { p.part = "8f01600260d8206000000040404000406060" }, ErrType, "nestedPart.url"},
		{"more after it", func(p *pieces) { p.part += "00" }, ErrTrailing, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p := good()
			test.edit(&p)
			_, err := Unmarshal(p.octets(t))
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || !errors.Is(err, test.want) {
				t.Fatalf("error %v, want %v", err, test.want)
			}
			if syntax.Field != test.field {
				t.Errorf("field %q, want %q", syntax.Field, test.field)
			}
		})
	}

	accepted := []struct {
		name string
		edit func(*pieces)
	}{
		{"as it is", func(*pieces) {}},
		{"IDs", func(p *pieces) { p.replaces, p.reply = id, id }},
		{"topicId of 4096", func(p *pieces) { p.topic = "591000" + strings.Repeat("00", 4096) }},
		{"relative of 366 days", func(p *pieces) { p.expires = "82f51a01e28500" }},
		{"key 2^53-1", func(p *pieces) { p.extensions = "a11b001ffffffffffffff6" }},
		{"key of 255 octets", func(p *pieces) { p.extensions = "a178ff" + strings.Repeat("61", 255) + "f6" }},
		{"value of 64 KiB", func(p *pieces) { p.extensions = "a10359fffd" + big[:2*0xfffd] }},
		{"level 4 of the draft", func(p *pieces) {
			p.extensions = "a119010082824212 34d82072687474703a2f2f6578616d706c652e636f6d824234561916 8b"
			p.extensions = strings.ReplaceAll(p.extensions, " ", "")
		}},
		{"inner keys of three types", func(p *pieces) { p.extensions = "a103a4000020004100006000" }},
		{"NaN of 16 bits", func(p *pieces) { p.extensions = "a103f97e00" }},
		{"65505 as single", func(p *pieces) { p.extensions = "a103fa477fe100" }},
		{"0.1 as double", func(p *pieces) { p.extensions = "a103fb3fb999999999999a" }},
		{"undefined", func(p *pieces) { p.extensions = "a103f7" }},
		{"simple(32)", func(p *pieces) { p.extensions = "a103f820" }},
		{"bignum", func(p *pieces) { p.extensions = "a103c349010000000000000000" }},
		{"integer of 64 bits", func(p *pieces) { p.extensions = "a1031bffffffffffffffff" }},
		{"negative of 64 bits", func(p *pieces) { p.extensions = "a1033bffffffffffffffff" }},
		{"disposition 255", func(p *pieces) { p.part = "8318ff6000" }},
		{"unreadable contentType", func(p *pieces) { p.part = single }},
		{"1023 parts below one", func(p *pieces) { p.part = "8501600300" + "9903ff" + strings.Repeat("83016000", 1023) }},
		{"four levels", func(p *pieces) { p.part = nested(3) }},
	}
	for _, test := range accepted {
		t.Run(test.name, func(t *testing.T) {
			p := good()
			test.edit(&p)
			b := p.octets(t)
			c, err := Unmarshal(b)
			if err != nil {
				t.Fatal(err)
			}
			again, err := c.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(again, b) {
				t.Errorf("encodes to %x, want %x", again, b)
			}
		})
	}
}

func TestUnmarshalTooLong(t *testing.T) {
	p := good()
	p.part = "85016001616d5a00100000" + strings.Repeat("00", MaxLength)
	if _, err := Unmarshal(p.octets(t)); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
}

// TestHostile: much input costs no more than it should, and what a peer wrote
// can't write the log.
func TestHostile(t *testing.T) {
	p := good()
	var values strings.Builder // 15 arrays of 64 Ki zeros
	for i := range 15 {
		values.WriteString(fmt.Sprintf("%02x99fff0", i+3) + strings.Repeat("00", 0xfff0))
	}
	p.extensions = "af" + values.String()
	b := p.octets(t)
	if _, err := Unmarshal(b); err != nil {
		t.Fatal(err)
	}
	f, err := Dump(b)
	if err != nil {
		t.Fatal(err)
	}
	fields := 0
	var count func(*Field)
	count = func(f *Field) {
		fields++
		for _, c := range f.Children {
			count(c)
		}
	}
	count(f)
	if fields != maxDumpFields+1 {
		t.Errorf("%d fields", fields)
	}

	p = good()
	p.extensions = "a103a1790400" + strings.Repeat("1b", 1024) + "1801"
	_, err = Unmarshal(p.octets(t))
	if !errors.Is(err, ErrNotShortest) || len(err.Error()) > 300 || !printable(err.Error()) {
		t.Errorf("error %q", err)
	}
	c := compose(t, alice, "x")
	if err := c.SetExtension(KeySenderURI, strings.Repeat("\x1b[2J\n", 1000)); err != nil {
		t.Fatal(err)
	}
	if b, err = c.Marshal(); err != nil {
		t.Fatal(err)
	}
	_, err = Verify(b, Envelope{SenderURI: alice, RoomURI: room})
	if s := err.Error(); !errors.Is(err, ErrSenderURI) || len(s) > 600 || !printable(s) || strings.Contains(s, "\n") {
		t.Errorf("error %q", s)
	}
}

func TestUnmarshalCopies(t *testing.T) {
	p := good()
	p.topic = "43616263"
	b := p.octets(t)
	c, err := Unmarshal(b)
	if err != nil {
		t.Fatal(err)
	}
	clear(b)
	if string(c.TopicID) != "abc" {
		t.Errorf("topicId became %x", c.TopicID)
	}
}

func TestMarshalRefuses(t *testing.T) {
	part := func(p Part) NestedPart { return NestedPart{Part: p} }
	deep := part(NullPart{})
	for range 100 {
		deep = part(&MultiPart{Parts: []NestedPart{deep, deep}})
	}
	tests := []struct {
		name string
		c    Content
		want error
	}{
		{"language", Content{NestedPart: NestedPart{Language: "\xff"}}, ErrUTF8},
		{"no content type", Content{NestedPart: part(&SinglePart{})}, ErrNoContentType},
		{"one part", Content{NestedPart: part(&MultiPart{Parts: []NestedPart{deep}})}, ErrPartDepth},
		{"too few", Content{NestedPart: part(&MultiPart{Parts: make([]NestedPart, 1)})}, ErrTooFewParts},
		{"too many", Content{NestedPart: part(&MultiPart{Parts: make([]NestedPart, 1024)})}, ErrTooManyParts},
		{"semantics", Content{NestedPart: part(&MultiPart{PartSemantics: 3, Parts: make([]NestedPart, 2)})}, ErrPartSemantics},
		{"topic", Content{TopicID: make([]byte, 4097)}, ErrTopicTooLong},
		{"unknown hash", Content{Replaces: new(MessageID)}, ErrUnknownHash},
		{"far expiry", Content{Expires: &Expiration{Relative: true, Time: MaxExpirySeconds + 1}}, ErrExpiryFar},
		{"key 0", Content{Extensions: []Extension{{Value: []byte{0xf6}}}}, ErrExtensionKey},
		{"key twice", Content{Extensions: []Extension{{Key: IntKey(5), Value: []byte{0xf6}}, {Key: IntKey(5), Value: []byte{0xf6}}}}, ErrKeyTwice},
		{"empty value", Content{Extensions: []Extension{{Key: IntKey(5)}}}, ErrTruncated},
		{"value of two items", Content{Extensions: []Extension{{Key: IntKey(5), Value: []byte{0xf6, 0x18, 0x20}}}}, nil},
		{"large key", Content{Extensions: []Extension{{Key: IntKey(math.MaxInt64), Value: []byte{0xf6}}}}, ErrRange},
		{"foreign part", Content{NestedPart: part(foreign{})}, ErrCardinality},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b, err := test.c.Marshal()
			if err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("gives %x, %v, want %v", b, err, test.want)
			}
		})
	}
}

type foreign struct{}

func (foreign) Cardinality() Cardinality { return 9 }

// TestAgainstLibrary: what the cursor accepts as an extension value is what
// fxamacker/cbor, an independent reading of RFC 8949, encodes deterministically.
func TestAgainstLibrary(t *testing.T) {
	var gen func(depth int) *rapid.Generator[any]
	key := rapid.OneOf(
		rapid.Map(rapid.Int64Range(-MaxExtensionKeyInt, MaxExtensionKeyInt), func(n int64) any { return n }),
		rapid.Map(rapid.String(), func(s string) any { return s }),
		rapid.Map(rapid.String(), func(s string) any { return cbor.ByteString(s) }),
	)
	gen = func(depth int) *rapid.Generator[any] {
		leaves := []*rapid.Generator[any]{
			rapid.Map(rapid.Int64(), func(n int64) any { return n }),
			rapid.Map(rapid.Uint64(), func(n uint64) any { return n }),
			rapid.Map(rapid.Float64(), func(f float64) any { return f }),
			rapid.Map(rapid.Float32(), func(f float32) any { return f }),
			rapid.Map(rapid.Bool(), func(b bool) any { return b }),
			rapid.Map(rapid.String(), func(s string) any { return s }),
			rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) any { return b }),
			rapid.Just[any](nil),
			rapid.Just[any](math.NaN()),
			rapid.Just[any](math.Inf(-1)),
		}
		if depth < 4 {
			leaves = append(leaves,
				rapid.Map(rapid.SliceOfN(rapid.Deferred(func() *rapid.Generator[any] { return gen(depth + 1) }), 0, 4), func(s []any) any { return s }),
				rapid.Map(rapid.MapOfN(key, rapid.Deferred(func() *rapid.Generator[any] { return gen(depth + 1) }), 0, 4), func(m map[any]any) any { return m }),
				rapid.Map(rapid.Deferred(func() *rapid.Generator[any] { return gen(depth + 1) }), func(v any) any { return cbor.Tag{Number: 4711, Content: v} }),
			)
		}
		return rapid.OneOf(leaves...)
	}
	rapid.Check(t, func(t *rapid.T) {
		c := Content{}
		v := gen(1).Draw(t, "value")
		if err := c.SetExtension(TextKey("x"), v); err != nil {
			t.Fatal(err)
		}
		b, err := c.Marshal()
		if errors.Is(err, ErrExtensionDepth) {
			return
		}
		if err != nil {
			t.Fatalf("%v of %x", err, c.Extensions[0].Value)
		}
		f, err := Dump(b)
		if err != nil {
			t.Fatal(err)
		}
		if j, err := json.Marshal(f); err != nil || !json.Valid(j) {
			t.Fatalf("JSON %s, %v", j, err)
		}
	})
}

func TestVerify(t *testing.T) {
	accepted := uint64(1_700_000_000_000)
	envelope := Envelope{SenderURI: alice, RoomURI: room, AcceptedMillis: accepted, NowMillis: accepted}
	expires := func(at uint32) func(*Content, *Envelope) {
		return func(c *Content, _ *Envelope) { c.Expires = &Expiration{Time: at} }
	}
	sec := uint32(accepted / 1000)
	tests := []struct {
		name string
		edit func(*Content, *Envelope)
		want error
	}{
		{"as it is", func(*Content, *Envelope) {}, nil},
		{"another sender", func(_ *Content, e *Envelope) { e.SenderURI = bob }, ErrSenderURI},
		{"another room", func(_ *Content, e *Envelope) { e.RoomURI += "x" }, ErrRoomURI},
		{"no sender", func(c *Content, e *Envelope) { c.Extensions, e.SenderURI = c.Extensions[1:], "" }, ErrSenderURI},
		{"no room", func(c *Content, e *Envelope) { c.Extensions, e.RoomURI = c.Extensions[:1], "" }, ErrRoomURI},
		{"hub five minutes ahead", func(_ *Content, e *Envelope) { e.AcceptedMillis += maxClockSkewMillis }, nil},
		{"hub further ahead", func(_ *Content, e *Envelope) { e.AcceptedMillis += maxClockSkewMillis + 1 }, ErrAcceptedFuture},
		{"hub ahead, no clock", func(_ *Content, e *Envelope) { e.AcceptedMillis += maxClockSkewMillis + 1; e.NowMillis = 0 }, nil},
		{"expires in 366 days", expires(sec + MaxExpirySeconds), nil},
		{"expires later", expires(sec + MaxExpirySeconds + 1), ErrExpiryFar},
		{"expired 366 days ago", expires(sec - MaxExpirySeconds), nil},
		{"expired before", expires(sec - MaxExpirySeconds - 1), ErrExpiryPast},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, e := compose(t, alice, "hi"), envelope
			test.edit(c, &e)
			b, err := c.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			_, err = Verify(b, e)
			if !errors.Is(err, test.want) {
				t.Fatalf("error %v, want %v", err, test.want)
			}
			if rule := (*RuleError)(nil); err != nil && (!errors.As(err, &rule) || rule.Expected == nil || rule.Got == nil) {
				t.Errorf("error %v carries not what was expected and got", err)
			}
		})
	}
}

func TestVerifyBareStatus(t *testing.T) {
	b := readVector(t, "message-status", "status.cbor")
	e := Envelope{SenderURI: bob, RoomURI: room, AcceptedMillis: 5}
	m, err := VerifyBareStatus(b, e)
	if err != nil {
		t.Fatal(err)
	}
	if m.ID[0] != 0 || len(m.Status.Statuses) != 4 {
		t.Errorf("message %v", m)
	}
	e.AcceptedMillis++
	later, err := VerifyBareStatus(b, e)
	if err != nil || later.ID == m.ID {
		t.Errorf("a later report has ID %v, %v", later.ID, err)
	}
}

func TestStatusRefuses(t *testing.T) {
	id := "5820" + "01" + strings.Repeat("aa", 31)
	for in, want := range map[string]error{
		"a0":                        ErrType,
		"9bffffffffffffffff":        ErrTruncated,
		"81" + "81" + id + "0000":   ErrElements,
		"81" + "82" + id + "190100": ErrRange,
		"81" + "82" + id + "1805":   ErrNotShortest,
		"81" + "82" + "5820" + strings.Repeat("aa", 32) + "01": ErrUnknownHash,
		"8000": ErrTrailing,
	} {
		b, err := hex.DecodeString(in)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := UnmarshalStatus(b); !errors.Is(err, want) {
			t.Errorf("%s: error %v, want %v", in, err, want)
		}
	}
	if s, err := UnmarshalStatus([]byte{0x80}); err != nil || len(s.Statuses) != 0 {
		t.Errorf("empty report: %v, %v", s, err)
	}
}

func TestStatusLatest(t *testing.T) {
	a, b := MessageID{1, 1}, MessageID{1, 2}
	s := StatusReport{Statuses: []PerMessageStatus{{a, StatusDelivered}, {b, StatusRead}, {a, StatusRead}, {b, 7}}}
	got := s.Latest()
	if len(got) != 2 || got[0] != (PerMessageStatus{a, StatusRead}) || got[1] != (PerMessageStatus{b, StatusRead}) {
		t.Errorf("latest %v", got)
	}
}

func TestMediaType(t *testing.T) {
	tests := []struct {
		in, typ, markdown string
		text              bool
	}{
		{"text/markdown;variant=GFM-MIMI", "text/markdown", "gfm-mimi", true},
		{"TEXT/Markdown; Variant=gfm-mimi", "text/markdown", "gfm-mimi", true},
		{"text/markdown", "text/markdown", "gfm-mimi", true},
		{"text/markdown;variant=CommonMark", "text/markdown", "commonmark", true},
		{"text/plain;charset=UTF-8", "text/plain", "", true},
		{"text/plain;charset=utf-16", "text/plain", "", false},
		{"image/png", "image/png", "", false},
		{"", "", "", false},
		{"text", "", "", false},
		{"text/plain;charset", "", "", false},
	}
	for _, test := range tests {
		m := ParseMediaType(test.in)
		v, _ := m.Markdown()
		if m.Type != test.typ || v != test.markdown || m.IsText() != test.text {
			t.Errorf("%q: %+v, markdown %q, text %v", test.in, m, v, m.IsText())
		}
	}
}

func TestPartIndex(t *testing.T) {
	c, err := Unmarshal(readVector(t, "mimi-content", "multipart-3.cbor"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	c.NestedPart.Walk(func(index int, p *NestedPart) bool {
		if index != len(got) {
			t.Errorf("index %d at place %d", index, len(got))
		}
		switch p := p.Part.(type) {
		case *SinglePart:
			got = append(got, p.ContentType)
		case *MultiPart:
			got = append(got, p.PartSemantics.String())
		}
		return true
	})
	const html = "text/html;charset=utf-8"
	want := []string{"chooseOne", "processAll", "chooseOne", html, html, "image/gif", "processAll", "chooseOne", html, html, "image/png"}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("parts %v, want %v", got, want)
	}
}

func FuzzUnmarshal(f *testing.F) {
	for _, b := range examples(f) {
		f.Add(b)
	}
	p := good()
	p.extensions = "a203a3f97e00fb3fb999999999999a"
	f.Add(p.octets(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, dumpErr := Dump(b)
		c, err := Unmarshal(b)
		if (err == nil) != (dumpErr == nil) {
			t.Fatalf("Unmarshal says %v, Dump %v", err, dumpErr)
		}
		if j, err := json.Marshal(tree); err != nil {
			t.Fatalf("JSON %s, %v", j, err)
		}
		if s := tree.String(); !printable(s) {
			t.Fatalf("dump is not printable: %q", s)
		}
		if err != nil {
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || syntax.Offset < 0 || syntax.Offset > len(b) {
				t.Fatalf("error %#v", err)
			}
			return
		}
		if err := cbor.Wellformed(b); err != nil {
			t.Fatalf("the library says %v", err)
		}
		again, err := c.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("encodes to\n%x, was\n%x", again, b)
		}
	})
}

func FuzzText(f *testing.F) {
	for _, s := range []string{MediaTypeMarkdown, "text/plain; charset=\"utf-8\"", "cid:5@local.invalid", "\x1b[2J", strings.Repeat("01", 32)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if m := ParseMediaType(s); m.Type != strings.ToLower(m.Type) {
			t.Errorf("media type %q", m.Type)
		}
		if i, ok := ParsePartReference(s); ok && s != fmt.Sprintf("cid:%d@local.invalid", i) {
			t.Errorf("part %d", i)
		}
		if id, err := ParseMessageID(s); err == nil && id.String() != strings.ToLower(s) {
			t.Errorf("message ID %v", id)
		}
		if p := Printable(s); !printable(p) || Printable(p) != p {
			t.Errorf("printable %q", p)
		}
		part := Markdown(s)
		if d := part.Display(); !printable(d) {
			t.Errorf("display %q", d)
		}
		isEmoji(s)
	})
}

func FuzzUnmarshalStatus(f *testing.F) {
	f.Add(readVector(f, "message-status", "status.cbor"))
	f.Add([]byte{0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := UnmarshalStatus(b)
		if err != nil {
			return
		}
		again, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("encodes to %x, was %x", again, b)
		}
	})
}
