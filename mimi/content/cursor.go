package content

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// CBOR major types (RFC 8949 §3.1).
const (
	majorUint = iota
	majorNint
	majorBytes
	majorText
	majorArray
	majorMap
	majorTag
	majorSimple
)

var majorNames = [8]string{"unsigned integer", "negative integer", "byte string", "text string", "array", "map", "tag", "simple value or float"}

const (
	cborFalse = 0xf4
	cborTrue  = 0xf5
	cborNull  = 0xf6
)

// A cursor reads the deterministic encoding of RFC 8949 §4.2.1 and nothing else.
// A decoder library would say that something is wrong; the cursor also says
// where, which is what an implementer on the other side needs. The first error
// sticks: every read after it gives zero values.
//
// Encoding is fxamacker/cbor's, so round trips compare two implementations.
type cursor struct {
	b     []byte
	off   int
	path  []step
	err   *SyntaxError
	parts int // NestedParts announced so far

	dump   *Field // the field being read, nil unless dumping
	fields int    // dumped so far
}

// A step is one element of a field path: a name or, if name is "", an index.
type step struct {
	name string
	i    int
}

func (s step) kind() Kind {
	if s.name == "" {
		return List
	}
	return Object
}

// in reads one field: f runs with name on the path.
func (c *cursor) in(name string, f func()) { c.step(step{name: name}, f) }

// at reads one element of an array: f runs with [i] on the path.
func (c *cursor) at(i int, f func()) { c.step(step{i: i}, f) }

func (c *cursor) step(s step, f func()) {
	if c.err != nil {
		return
	}
	c.path = append(c.path, s)
	parent := c.dump
	if parent != nil {
		c.dump = c.child(s)
	}
	f()
	if c.dump != nil {
		c.dump.Length = c.off - c.dump.Offset
	}
	c.dump = parent
	c.path = c.path[:len(c.path)-1]
}

// maxDumpFields bounds what a dump of a hostile message takes. The rest of it is
// still checked.
const maxDumpFields = 1 << 15

// child adds a field to the one being dumped; nil if there are enough.
func (c *cursor) child(s step) *Field {
	c.kind(s.kind())
	if c.fields++; c.fields > maxDumpFields {
		return nil
	}
	name := s.name
	if name == "" {
		name = strconv.Itoa(s.i)
	}
	f := &Field{Name: name, Offset: c.off}
	c.dump.Children = append(c.dump.Children, f)
	return f
}

// show gives the field being dumped its value.
func (c *cursor) show(v any) {
	if c.dump != nil && c.err == nil {
		c.dump.Value = v
	}
}

// kind says that the field being dumped has children, if it should have none.
func (c *cursor) kind(k Kind) {
	if c.dump != nil && c.err == nil {
		c.dump.Kind = k
	}
}

// note adds a remark for a human to the field being dumped.
func (c *cursor) note(s string) {
	if c.dump != nil && c.err == nil {
		c.dump.Note = s
	}
}

func (c *cursor) failAt(off int, err error) {
	if c.err != nil {
		return
	}
	var p strings.Builder
	for i, s := range c.path {
		switch {
		case s.name == "":
			fmt.Fprintf(&p, "[%d]", s.i)
		case i == 0:
			p.WriteString(brief(s.name))
		default:
			p.WriteString("." + brief(s.name))
		}
	}
	c.err = &SyntaxError{Offset: off, Field: p.String(), Err: err}
}

func (c *cursor) left() int { return len(c.b) - c.off }

// result ends a decoding: the sticky error, or one for what was left over.
func (c *cursor) result() error {
	if c.err == nil && c.left() > 0 {
		c.failAt(c.off, ErrTrailing)
	}
	if c.err != nil {
		return c.err
	}
	return nil
}

// head reads the first octets of an item: its major type, the additional
// information and the argument.
func (c *cursor) head() (major, info byte, arg uint64) {
	if c.err != nil {
		return 0, 0, 0
	}
	if c.left() == 0 {
		c.failAt(c.off, ErrTruncated)
		return 0, 0, 0
	}
	start := c.off
	first := c.b[start]
	major, info = first>>5, first&31
	switch {
	case info < 24:
		c.off++
		return major, info, uint64(info)
	case info == 31:
		if major == majorUint || major == majorNint || major == majorTag {
			c.failAt(start, ErrReserved)
		} else {
			c.failAt(start, ErrIndefinite)
		}
		return 0, 0, 0
	case info > 27:
		c.failAt(start, ErrReserved)
		return 0, 0, 0
	}
	n := 1 << (info - 24)
	if c.left() < 1+n {
		c.failAt(start, ErrTruncated)
		return 0, 0, 0
	}
	for _, o := range c.b[start+1 : start+1+n] {
		arg = arg<<8 | uint64(o)
	}
	c.off += 1 + n
	if major == majorSimple {
		return major, info, arg // shortness of floats is checked by item
	}
	if least := [4]uint64{24, 1 << 8, 1 << 16, 1 << 32}[info-24]; arg < least {
		c.failAt(start, ErrNotShortest)
		return 0, 0, 0
	}
	return major, info, arg
}

// want reads the head of an item of one major type.
func (c *cursor) want(major byte) uint64 {
	start := c.off
	got, _, arg := c.head()
	if c.err == nil && got != major {
		c.failAt(start, broken(ErrType, majorNames[major], majorNames[got]))
	}
	if c.err != nil {
		return 0
	}
	return arg
}

// isNull reads a null if one is next.
func (c *cursor) isNull() bool {
	if c.err != nil || c.left() == 0 || c.b[c.off] != cborNull {
		return false
	}
	c.off++
	c.show(nil)
	return true
}

func (c *cursor) bool() bool {
	if c.err != nil {
		return false
	}
	if c.left() == 0 {
		c.failAt(c.off, ErrTruncated)
		return false
	}
	o := c.b[c.off]
	if o != cborFalse && o != cborTrue {
		c.failAt(c.off, broken(ErrType, "bool", majorNames[o>>5]))
		return false
	}
	c.off++
	c.show(o == cborTrue)
	return o == cborTrue
}

// uint reads an unsigned integer of at most max.
func (c *cursor) uint(max uint64) uint64 {
	start := c.off
	v := c.want(majorUint)
	if v > max {
		c.failAt(start, broken(ErrRange, fmt.Sprintf("at most %d", max), v))
		return 0
	}
	c.show(v)
	return v
}

// array reads the head of an array that must have n elements.
func (c *cursor) array(n uint64) {
	start := c.off
	got := c.want(majorArray)
	if c.err == nil && got != n {
		c.failAt(start, broken(ErrElements, n, got))
	}
}

// octets reads a string of the major type; the result aliases the input.
func (c *cursor) octets(major byte) []byte {
	start := c.off
	n := c.want(major)
	if c.err != nil {
		return nil
	}
	if n > uint64(c.left()) {
		c.failAt(start, ErrTruncated)
		return nil
	}
	end := c.off + int(n)
	s := c.b[c.off:end:end]
	c.off = end
	return s
}

func (c *cursor) bytes() []byte {
	s := c.octets(majorBytes)
	c.show(HexBytes(s))
	return s
}

// fixed reads a byte string that must be as long as dst.
func (c *cursor) fixed(dst []byte) {
	start := c.off
	s := c.bytes()
	if c.err == nil && len(s) != len(dst) {
		c.failAt(start, broken(ErrLength, len(dst), len(s)))
	}
	if c.err == nil {
		copy(dst, s)
	}
}

func (c *cursor) text() string {
	start := c.off
	s := c.octets(majorText)
	if c.err == nil && !utf8.Valid(s) {
		c.failAt(start, ErrUTF8)
		return ""
	}
	t := string(s)
	c.show(t)
	return t
}

func (c *cursor) messageID() MessageID {
	start := c.off
	var id MessageID
	c.fixed(id[:])
	if c.err == nil && id[0] != HashSHA256 {
		c.failAt(start, broken(ErrUnknownHash, HashSHA256, id[0]))
	}
	return id
}

// mapKeys reads the n pairs of a map in their order; key reads one key and value
// the value behind it.
func (c *cursor) mapKeys(n uint64, key, value func()) {
	var last []byte
	for ; n > 0 && c.err == nil; n-- {
		start := c.off
		key()
		if c.err != nil {
			return
		}
		this := c.b[start:c.off]
		if last != nil {
			switch order := bytes.Compare(last, this); {
			case order == 0:
				c.failAt(start, ErrKeyTwice)
			case order > 0:
				c.failAt(start, ErrKeyOrder)
			}
		}
		last = this
		value()
	}
}

// item reads any CBOR item that may appear in an extension (C §6.2, §6.3). depth
// is the level that a tag, map or array at this place has.
func (c *cursor) item(depth int) {
	start := c.off
	major, info, arg := c.head()
	if c.err != nil {
		return
	}
	if (major == majorArray || major == majorMap || major == majorTag) && depth > MaxExtensionDepth {
		c.failAt(start, broken(ErrExtensionDepth, fmt.Sprintf("at most %d levels", MaxExtensionDepth), depth))
		return
	}
	switch major {
	case majorUint:
		c.show(arg)
	case majorNint:
		if arg <= math.MaxInt64 {
			c.show(-1 - int64(arg))
		} else {
			c.show(negative(arg))
		}
	case majorBytes:
		c.off = start
		c.bytes()
	case majorText:
		c.off = start
		c.text()
	case majorArray:
		if arg > uint64(c.left()) { // an element takes an octet
			c.failAt(start, ErrTruncated)
			return
		}
		c.kind(List)
		for i := 0; i < int(arg) && c.err == nil; i++ {
			c.at(i, func() { c.item(depth + 1) })
		}
	case majorMap:
		if arg > uint64(c.left()/2) {
			c.failAt(start, ErrTruncated)
			return
		}
		c.kind(Object)
		var name string
		c.mapKeys(arg,
			func() { name = c.innerKey() },
			func() { c.in(name, func() { c.item(depth + 1) }) })
	case majorTag:
		c.note("tag " + strconv.FormatUint(arg, 10))
		c.tagged(start, arg, depth)
	case majorSimple:
		c.simple(start, info, arg)
	}
}

// tagged reads what follows a tag. A bignum must not fit an integer and must
// have no leading zero (RFC 8949 §3.4.3, C §6.1).
func (c *cursor) tagged(start int, tag uint64, depth int) {
	if tag != 2 && tag != 3 {
		c.item(depth + 1)
		return
	}
	s := c.bytes()
	if c.err == nil && (len(s) <= 8 || s[0] == 0) {
		c.failAt(start, ErrNotShortest)
	}
}

// innerKey reads a key of a map inside an extension: an integer, a text string
// or a byte string (C §6.2).
func (c *cursor) innerKey() string {
	start := c.off
	major, _, arg := c.head()
	if c.err != nil {
		return ""
	}
	switch major {
	case majorUint, majorNint:
		c.keyRange(start, major, arg)
		if major == majorNint {
			return negative(arg)
		}
		return strconv.FormatUint(arg, 10)
	case majorText, majorBytes:
		c.off = start
		s := c.octets(major)
		if major == majorBytes {
			return "h'" + fmt.Sprintf("%x", s) + "'"
		}
		if c.err == nil && !utf8.Valid(s) {
			c.failAt(start, ErrUTF8)
		}
		return strconv.Quote(string(s))
	}
	c.failAt(start, broken(ErrKeyType, "integer, text string or byte string", majorNames[major]))
	return ""
}

// keyRange checks that an integer key is exact as a double (C §6.2).
func (c *cursor) keyRange(start int, major byte, arg uint64) {
	max := uint64(MaxExtensionKeyInt)
	if major == majorNint {
		max-- // the argument is -1-n
	}
	if arg > max {
		c.failAt(start, broken(ErrRange, "an integer key within ±(2^53-1)", arg))
	}
}

// negative writes the integer -1-arg.
func negative(arg uint64) string {
	if arg == math.MaxUint64 {
		return "-18446744073709551616"
	}
	return "-" + strconv.FormatUint(arg+1, 10)
}

// simple checks a simple value or float whose head was read.
func (c *cursor) simple(start int, info byte, arg uint64) {
	switch info {
	default: // 0..23
		switch byte(arg) {
		case cborFalse & 31:
			c.show(false)
		case cborTrue & 31:
			c.show(true)
		case cborNull & 31:
			c.show(nil)
		default:
			c.show(fmt.Sprintf("simple(%d)", arg))
		}
	case 24:
		if arg < 32 {
			c.failAt(start, ErrReserved)
		}
		c.show(fmt.Sprintf("simple(%d)", arg))
	case 25:
		f := float16(uint16(arg))
		if f != f && arg != 0x7e00 {
			c.failAt(start, ErrNaN)
		}
		c.show(floatText(f))
	case 26:
		f := float64(math.Float32frombits(uint32(arg)))
		switch {
		case f != f:
			c.failAt(start, ErrNaN)
		case fitsFloat16(f):
			c.failAt(start, ErrNotShortest)
		}
		c.show(floatText(f))
	case 27:
		f := math.Float64frombits(arg)
		switch {
		case f != f:
			c.failAt(start, ErrNaN)
		case float64(float32(f)) == f:
			c.failAt(start, ErrNotShortest)
		}
		c.show(floatText(f))
	}
}

// floatText writes a float for a dump; JSON has no infinities.
func floatText(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// float16 gives the value of a half-precision float (RFC 8949 Appendix D).
func float16(h uint16) float64 {
	exp, frac := int(h>>10&31), float64(h&1023)
	var v float64
	switch exp {
	case 0:
		v = math.Ldexp(frac, -24)
	case 31:
		if frac != 0 {
			return math.NaN()
		}
		v = math.Inf(1)
	default:
		v = math.Ldexp(frac+1024, exp-25)
	}
	if h>>15 != 0 {
		v = -v
	}
	return v
}

// fitsFloat16 reports whether f, which is a float32, is exact in half precision.
func fitsFloat16(f float64) bool {
	a := math.Abs(f)
	if a == 0 || math.IsInf(a, 0) {
		return true
	}
	// The greatest is 65504; a normal one has 10 bits of fraction, a subnormal
	// one is a multiple of 2^-24.
	if a > 65504 {
		return false
	}
	_, e := math.Frexp(a)
	unit := math.Ldexp(1, max(e-11, -24))
	return math.Mod(a, unit) == 0
}
