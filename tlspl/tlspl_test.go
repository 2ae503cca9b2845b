package tlspl

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

type inner struct {
	A uint16
	S string
}

func (v *inner) Code(c *Codec) {
	c.Field("a")
	Uint16(c, &v.A)
	c.Field("s")
	String(c, &v.S)
}

type outer struct {
	U8   uint8
	U32  uint32
	U64  uint64
	B    bool
	F    [3]byte
	O    []byte
	V    []inner
	N    []uint16
	Opt  *inner
	In   inner
	Len  []byte
	Raw  []byte
	Tail []byte
}

func (v *outer) Code(c *Codec) {
	c.Field("u8")
	Uint8(c, &v.U8)
	c.Field("u32")
	Uint32(c, &v.U32)
	c.Field("u64")
	Uint64(c, &v.U64)
	c.Field("b")
	Bool(c, &v.B)
	c.Field("f")
	Fixed(c, v.F[:])
	c.Field("o")
	Opaque(c, &v.O)
	c.Field("v")
	Vector(c, &v.V)
	c.Field("n")
	VectorFunc(c, &v.N, Uint16[uint16])
	c.Field("opt")
	Optional(c, &v.Opt)
	Raw(c, &v.Raw, func() { Struct(c, "in", &v.In) })
	c.Field("len")
	Length(c, func() { Remainder(c, &v.Len) })
	c.Field("tail")
	Opaque(c, &v.Tail)
}

func sample() *outer {
	return &outer{
		U8: 1, U32: 2, U64: 3, B: true, F: [3]byte{4, 5, 6},
		O:   bytes.Repeat([]byte{7}, 100),
		V:   []inner{{1, "one"}, {2, strings.Repeat("two", 40)}},
		N:   []uint16{8, 9},
		Opt: &inner{3, "three"},
		In:  inner{4, "four"},
		Len: bytes.Repeat([]byte{10}, 17000), Tail: []byte{11},
	}
}

func TestRoundTrip(t *testing.T) {
	want := sample()
	b, err := Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got outer
	if err := Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if raw, _ := Marshal(&got.In); !bytes.Equal(raw, got.Raw) {
		t.Errorf("Raw = %x, want %x", got.Raw, raw)
	}
	got.Raw = nil
	if !reflect.DeepEqual(&got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestStrictPrefixFails(t *testing.T) {
	b, _ := Marshal(sample())
	for i := range b {
		var v outer
		err := Unmarshal(b[:i], &v)
		var syntax *SyntaxError
		if !errors.As(err, &syntax) {
			t.Fatalf("prefix of %d octets: %v", i, err)
		}
	}
	if err := Unmarshal(append(b, 0), new(outer)); !errors.Is(err, ErrTrailing) {
		t.Errorf("trailing octet: %v", err)
	}
}

// lengthed is a single opaque<V>.
type lengthed []byte

func (v *lengthed) Code(c *Codec) { Opaque(c, v) }

func TestLength(t *testing.T) {
	for _, test := range []struct {
		in   string
		want error
	}{
		{"00", nil},
		{"01ff", nil},
		{"3f", ErrTruncated},
		{"4000", ErrNonMinimal},
		{"403f", ErrNonMinimal},
		{"4040", ErrTruncated},
		{"80000040", ErrNonMinimal},
		{"80003fff", ErrNonMinimal},
		{"bfffffff", ErrTruncated},
		{"c000000000000001", ErrLength},
		{"ff", ErrLength},
		{"40", ErrTruncated},
		{"", ErrTruncated},
		{"0000", ErrTrailing},
	} {
		b, _ := hex.DecodeString(test.in)
		if err := Unmarshal(b, new(lengthed)); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.in, err, test.want)
		}
	}
	for _, n := range []int{0, 1, 63, 64, 16383, 16384, 1 << 20} {
		in := lengthed(bytes.Repeat([]byte{1}, n))
		b, err := Marshal(&in)
		if err != nil {
			t.Fatal(err)
		}
		if head := AppendLength(nil, n); !bytes.HasPrefix(b, head) || len(b) != len(head)+n {
			t.Errorf("%d octets: bad length", n)
		}
	}
}

type flag bool

func (v *flag) Code(c *Codec) { Bool(c, (*bool)(v)) }

type maybe struct{ v *inner }

func (v *maybe) Code(c *Codec) { Optional(c, &v.v) }

type list []inner

func (v *list) Code(c *Codec) { Vector(c, (*[]inner)(v)) }

type nothing struct{}

func (*nothing) Code(*Codec) {}

type nothings []nothing

func (v *nothings) Code(c *Codec) { Vector(c, (*[]nothing)(v)) }

type nested struct{ in *nested }

func (v *nested) Code(c *Codec) { Optional(c, &v.in) }

func TestRefused(t *testing.T) {
	for _, test := range []struct {
		name string
		in   []byte
		v    Coder
		want SyntaxError
	}{
		{"bool", []byte{2}, new(flag), SyntaxError{0, "", ErrValue}},
		{"presence", []byte{2}, new(maybe), SyntaxError{0, "", ErrPresence}},
		{"UTF-8", []byte{0, 1, 1, 0xff}, new(inner), SyntaxError{2, "s", ErrUTF8}},
		{"element", []byte{8, 0, 1, 1, 'a', 0, 1, 9, 'b'}, new(list), SyntaxError{7, "[1].s", ErrTruncated}},
		{"empty element", []byte{1, 0}, new(nothings), SyntaxError{1, "[0]", ErrLength}},
		{"depth", bytes.Repeat([]byte{1}, 100), new(nested), SyntaxError{32, "", ErrDepth}},
	} {
		err := Unmarshal(test.in, test.v)
		var got *SyntaxError
		if !errors.As(err, &got) || *got != test.want {
			t.Errorf("%s: %v, want %v", test.name, err, &test.want)
		}
	}
	if _, err := Marshal(&inner{S: "\xff"}); !errors.Is(err, ErrUTF8) {
		t.Errorf("writing: %v", err)
	}
	if err := UnmarshalLimit(make([]byte, 9), new(inner), 8); !errors.Is(err, ErrSize) {
		t.Errorf("limit: %v", err)
	}
}

// A claimed length must not make memory.
func TestClaimedLength(t *testing.T) {
	in := []byte{0xbf, 0xff, 0xff, 0xff, 0, 0}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		if err := Unmarshal(in, new(lengthed)); err == nil {
			t.Fatal("accepted")
		}
		if err := Unmarshal(in, new(list)); err == nil {
			t.Fatal("accepted")
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d octets allocated", n)
	}
}

func TestAlias(t *testing.T) {
	b := []byte{3, 1, 2, 3}
	var copied, aliased lengthed
	if Unmarshal(b, &copied) != nil || UnmarshalAlias(b, &aliased) != nil {
		t.Fatal("not accepted")
	}
	if cap(aliased) != 3 {
		t.Errorf("capacity %d is not clipped", cap(aliased))
	}
	b[1] = 9
	if copied[0] != 1 || aliased[0] != 9 {
		t.Errorf("copied %v, aliased %v", copied, aliased)
	}
}

func TestAppend(t *testing.T) {
	b, err := Append([]byte("head"), &inner{1, "x"})
	if err != nil || string(b) != "head\x00\x01\x01x" {
		t.Errorf("%q, %v", b, err)
	}
	v := lengthed("abc")
	n, err := UnmarshalPrefix([]byte("\x02xytail"), &v)
	if n != 3 || err != nil || string(v) != "xy" {
		t.Errorf("%d, %v, %q", n, err, v)
	}
}

func TestRoundTripProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		blob := rapid.SliceOfN(rapid.Byte(), 0, 200)
		in := rapid.Custom(func(t *rapid.T) inner {
			return inner{rapid.Uint16().Draw(t, "a"), rapid.String().Draw(t, "s")}
		})
		want := outer{
			U8: rapid.Uint8().Draw(t, "u8"), U32: rapid.Uint32().Draw(t, "u32"), U64: rapid.Uint64().Draw(t, "u64"),
			B: rapid.Bool().Draw(t, "b"), O: blob.Draw(t, "o"), V: rapid.SliceOf(in).Draw(t, "v"),
			N: rapid.SliceOf(rapid.Uint16()).Draw(t, "n"), Opt: rapid.Ptr(in, true).Draw(t, "opt"),
			In: in.Draw(t, "in"), Len: blob.Draw(t, "len"), Tail: blob.Draw(t, "tail"),
		}
		b, err := Marshal(&want)
		if err != nil {
			t.Fatal(err)
		}
		var got outer
		if err := Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		again, _ := Marshal(&got)
		if !bytes.Equal(b, again) {
			t.Fatalf("%x re-encodes as %x", b, again)
		}
	})
}

func FuzzUnmarshal(f *testing.F) {
	b, _ := Marshal(sample())
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var v outer
		if Unmarshal(b, &v) != nil {
			return
		}
		again, err := Marshal(&v)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x re-encodes as %x, %v", b, again, err)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	v := make(list, 1000)
	for i := range v {
		v[i] = inner{uint16(i), strings.Repeat("x", 200)}
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = Append(buf[:0], &v)
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkUnmarshal(b *testing.B) {
	v := make(list, 1000)
	for i := range v {
		v[i] = inner{uint16(i), strings.Repeat("x", 200)}
	}
	buf, _ := Marshal(&v)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Unmarshal(buf, &v); err != nil {
			b.Fatal(err)
		}
	}
}
