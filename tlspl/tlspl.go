// Package tlspl codes the TLS presentation language as MLS uses it
// (RFC 9420 §2.1): big-endian integers, optional values, and vectors whose
// length is a variable-size integer.
//
// One method describes a struct in both directions, so that writing and
// reading can't drift apart:
//
//	// Code describes a Parameter (MLS extensions §6.2.2).
//	func (p *Parameter) Code(c *tlspl.Codec) {
//		tlspl.Opaque(c, &p.Name)
//		tlspl.Opaque(c, &p.Value)
//	}
//
// [Marshal] runs it to write, [Unmarshal] to read. The first error sticks:
// after it every operation does nothing, so a Code method needs no error
// handling of its own. A read error carries the offset in the input and the
// path of the field.
//
// Reading is strict (Decision 10): trailing bytes, lengths that are not
// encoded minimally, presence octets and booleans other than 0 and 1 are
// refused, so that what is accepted is written back as the same bytes. A
// length is compared with what is left of the input before anything is
// allocated for it.
package tlspl

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
)

// The reasons inside a [SyntaxError].
var (
	ErrTruncated  = errors.New("input ends too early")
	ErrTrailing   = errors.New("bytes left over")
	ErrNonMinimal = errors.New("length is not encoded minimally")
	ErrLength     = errors.New("invalid length")
	ErrValue      = errors.New("value not allowed")
	ErrPresence   = errors.New("presence octet is neither 0 nor 1")
	ErrUTF8       = errors.New("string is not UTF-8")
	ErrDepth      = errors.New("nested too deeply")
	ErrSize       = errors.New("input is larger than allowed")
	ErrOrder      = errors.New("elements are not in strictly increasing order")
)

// MaxLength is the greatest length of a variable-size vector: 2^30-1 octets
// (RFC 9420 §2.1.2).
const MaxLength = 1<<30 - 1

// MaxDepth is how deeply structs, vectors and optionals may nest.
const MaxDepth = 32

// A SyntaxError says why, where, and in which field bytes could not be read
// or a value could not be written.
type SyntaxError struct {
	Offset int    // octets before the error, from the start of the outermost value
	Field  string // path such as "proposals[3].add.key_package", "" if unknown
	Err    error  // one of the Err variables of this package or an error given to Fail
}

func (e *SyntaxError) Error() string {
	s := "tlspl: offset " + strconv.Itoa(e.Offset)
	if e.Field != "" {
		s += " (" + e.Field + ")"
	}
	return s + ": " + e.Err.Error()
}

func (e *SyntaxError) Unwrap() error { return e.Err }

// A Coder is a struct whose Code method describes it in both directions.
type Coder interface {
	Code(*Codec)
}

// A frame is the place inside one struct, vector or optional.
type frame struct {
	field string
	index int // element number, -1 outside a vector
}

// shallow is the depth that a Codec has room for from the start: enough for an
// encrypted message, which is coded far more often than anything deeper.
const shallow = 8

// A Codec walks one value, either writing or reading it.
type Codec struct {
	buf      []byte // written so far, or the whole input
	pos      int    // reading: the next octet
	end      int    // reading: end of the enclosing vector
	base     int    // writing: what buf held before
	decoding bool
	err      error
	depth    int
	frames   [shallow]frame
	deep     *[MaxDepth - shallow]frame // made when something nests deeper
	trace    *tracer                    // reading for Trace, else nil
}

// Marshal returns the encoding of v.
func Marshal(v Coder) ([]byte, error) { return Append(make([]byte, 0, usual), v) }

// usual is how long most encodings are at most: a message grows no buffer.
const usual = 256

// Append appends the encoding of v to dst and returns the longer slice. On an
// error it returns dst as it was.
func Append(dst []byte, v Coder) ([]byte, error) {
	c := Codec{buf: dst, base: len(dst)}
	c.frames[0].index = -1
	v.Code(&c)
	if c.err != nil {
		return dst, c.err
	}
	return c.buf, nil
}

// Unmarshal reads v from b, all of it. The fields of v share one copy of b,
// which the caller is free to change afterwards.
func Unmarshal(b []byte, v Coder) error {
	return UnmarshalAlias(bytes.Clone(b), v)
}

// UnmarshalAlias is Unmarshal without the copy: the fields of v alias b, which
// must not change any more. Their capacity is clipped, so that appending to
// one never writes into b.
func UnmarshalAlias(b []byte, v Coder) error {
	n, err := UnmarshalPrefix(b, v)
	if err == nil && n != len(b) {
		err = &SyntaxError{Offset: n, Err: ErrTrailing}
	}
	return err
}

// UnmarshalPrefix reads v from the start of b and returns how many octets it
// took. Like UnmarshalAlias it makes no copy of b.
func UnmarshalPrefix(b []byte, v Coder) (n int, err error) {
	c := Codec{buf: b, end: len(b), decoding: true}
	c.frames[0].index = -1
	v.Code(&c)
	if c.err != nil {
		return 0, c.err
	}
	return c.pos, nil
}

// UnmarshalLimit is Unmarshal that refuses inputs of more than max octets with
// ErrSize before it copies them.
func UnmarshalLimit(b []byte, v Coder, max int) error {
	if len(b) > max {
		return &SyntaxError{Offset: max, Err: ErrSize}
	}
	return Unmarshal(b, v)
}

// Decoding reports whether the codec reads.
func (c *Codec) Decoding() bool { return c.decoding }

// Err returns the first error, a *SyntaxError, or nil.
func (c *Codec) Err() error { return c.err }

// Fail records err at the present place, unless an error was recorded before.
func (c *Codec) Fail(err error) {
	if c.err != nil {
		return
	}
	at := c.pos
	if !c.decoding {
		at = len(c.buf) - c.base
	}
	c.err = &SyntaxError{Offset: at, Field: c.path(), Err: err}
	c.pos = c.end
}

// Field names what is coded next, for the path of an error. It holds until
// the next call inside the same struct.
func (c *Codec) Field(name string) {
	c.frame(c.depth).field = name
}

func (c *Codec) frame(depth int) *frame {
	if depth < shallow {
		return &c.frames[depth]
	}
	return &c.deep[depth-shallow]
}

func (c *Codec) path() string {
	var b strings.Builder
	for i := 0; i <= c.depth; i++ {
		f := c.frame(i)
		if f.index >= 0 {
			b.WriteString("[" + strconv.Itoa(f.index) + "]")
		}
		if f.field != "" {
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(f.field)
		}
	}
	return b.String()
}

// push opens a place inside the present one and reports whether it could.
func (c *Codec) push(index int) bool {
	if c.err != nil {
		return false
	}
	if c.depth == MaxDepth-1 {
		c.Fail(ErrDepth)
		return false
	}
	if c.trace != nil {
		name := ""
		if index < 0 {
			name = c.frame(c.depth).field
		}
		c.trace.begin(NodeStruct, name, c.pos)
	}
	c.depth++
	if c.depth >= shallow && c.deep == nil {
		c.deep = new([MaxDepth - shallow]frame)
	}
	*c.frame(c.depth) = frame{index: index}
	return true
}

// pop closes it again.
func (c *Codec) pop() {
	c.depth--
	if c.trace != nil && c.err == nil {
		c.trace.end(c.pos)
	}
}

// More reports whether octets are left in the enclosing vector, or in the
// input. It is false when writing.
func (c *Codec) More() bool { return c.decoding && c.err == nil && c.pos < c.end }

// Rest takes all octets left in the enclosing vector, or in the input, and
// returns them. It returns nil when writing.
func (c *Codec) Rest() []byte {
	if !c.decoding || c.err != nil {
		return nil
	}
	return c.take(c.end - c.pos)
}

// take returns the next n octets with clipped capacity, nil after an error.
func (c *Codec) take(n int) []byte {
	if c.err != nil {
		return nil
	}
	if n < 0 || c.end-c.pos < n {
		c.Fail(ErrTruncated)
		return nil
	}
	b := c.buf[c.pos : c.pos+n : c.pos+n]
	c.pos += n
	return b
}

// readLength reads a variable-size length and compares it with what is left.
func (c *Codec) readLength() int {
	if c.err != nil {
		return 0
	}
	if c.pos >= c.end {
		c.Fail(ErrTruncated)
		return 0
	}
	first := c.buf[c.pos]
	size := 1 << (first >> 6)
	if size == 8 {
		c.Fail(ErrLength)
		return 0
	}
	if c.end-c.pos < size {
		c.Fail(ErrTruncated)
		return 0
	}
	n := int(first & 0x3f)
	for _, b := range c.buf[c.pos+1 : c.pos+size] {
		n = n<<8 | int(b)
	}
	if size != lengthSize(n) {
		c.Fail(ErrNonMinimal)
		return 0
	}
	if c.end-c.pos-size < n {
		c.Fail(ErrTruncated)
		return 0
	}
	c.pos += size
	return n
}

// lengthSize is how many octets the length n takes.
func lengthSize(n int) int {
	switch {
	case n < 1<<6:
		return 1
	case n < 1<<14:
		return 2
	default:
		return 4
	}
}

// AppendLength appends the variable-size encoding of n (RFC 9420 §2.1.2),
// which must be at most MaxLength.
func AppendLength(dst []byte, n int) []byte {
	switch lengthSize(n) {
	case 1:
		return append(dst, byte(n))
	case 2:
		return append(dst, 0x40|byte(n>>8), byte(n))
	default:
		return append(dst, 0x80|byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
}

func (c *Codec) writeLength(n int) {
	if c.err != nil {
		return
	}
	if n > MaxLength {
		c.Fail(ErrLength)
		return
	}
	c.buf = AppendLength(c.buf, n)
}

// open starts a vector: writing reserves one octet for its length, reading
// narrows the input to it. close takes what open returned.
func (c *Codec) open() int {
	if c.decoding {
		if c.trace != nil {
			c.trace.begin(NodeVector, c.frame(c.depth).field, c.pos)
		}
		n := c.readLength()
		outer := c.end
		if c.err == nil {
			c.end = c.pos + n
		}
		return outer
	}
	c.buf = append(c.buf, 0)
	return len(c.buf)
}

func (c *Codec) close(mark int) {
	if c.decoding {
		if c.err == nil && c.pos != c.end {
			c.Fail(ErrTrailing)
		}
		c.end = mark
		if c.err != nil {
			c.pos = c.end
		} else if c.trace != nil {
			c.trace.end(c.pos)
		}
		return
	}
	if c.err != nil {
		return
	}
	n := len(c.buf) - mark
	if n > MaxLength {
		c.Fail(ErrLength)
		return
	}
	if extra := lengthSize(n) - 1; extra > 0 {
		var zero [3]byte
		c.buf = append(c.buf, zero[:extra]...)
		copy(c.buf[mark+extra:], c.buf[mark:mark+n])
	}
	AppendLength(c.buf[:mark-1], n)
}
