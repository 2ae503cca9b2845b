package tlspl

import (
	"encoding/binary"
	"unicode/utf8"
)

// Uint8 codes a uint8 or an enum of one octet.
func Uint8[T ~uint8](c *Codec, p *T) {
	if c.err != nil {
		return
	}
	if !c.decoding {
		c.buf = append(c.buf, byte(*p))
	} else if b := c.take(1); b != nil {
		*p = T(b[0])
		if c.trace != nil {
			c.value(c.pos-1, *p)
		}
	}
}

// Uint16 codes a uint16.
func Uint16[T ~uint16](c *Codec, p *T) {
	if c.err != nil {
		return
	}
	if !c.decoding {
		c.buf = binary.BigEndian.AppendUint16(c.buf, uint16(*p))
	} else if b := c.take(2); b != nil {
		*p = T(binary.BigEndian.Uint16(b))
		if c.trace != nil {
			c.value(c.pos-2, *p)
		}
	}
}

// Uint32 codes a uint32.
func Uint32[T ~uint32](c *Codec, p *T) {
	if c.err != nil {
		return
	}
	if !c.decoding {
		c.buf = binary.BigEndian.AppendUint32(c.buf, uint32(*p))
	} else if b := c.take(4); b != nil {
		*p = T(binary.BigEndian.Uint32(b))
		if c.trace != nil {
			c.value(c.pos-4, *p)
		}
	}
}

// Uint64 codes a uint64.
func Uint64[T ~uint64](c *Codec, p *T) {
	if c.err != nil {
		return
	}
	if !c.decoding {
		c.buf = binary.BigEndian.AppendUint64(c.buf, uint64(*p))
	} else if b := c.take(8); b != nil {
		*p = T(binary.BigEndian.Uint64(b))
		if c.trace != nil {
			c.value(c.pos-8, *p)
		}
	}
}

// Bool codes an octet that is 0 or 1 (Decision 10).
func Bool(c *Codec, p *bool) {
	octet(c, p, ErrValue)
	if c.trace != nil && c.err == nil {
		c.value(c.pos-1, *p)
	}
}

// octet codes an octet that is 0 or 1.
func octet(c *Codec, p *bool, reason error) {
	if c.err != nil {
		return
	}
	if !c.decoding {
		var b byte
		if *p {
			b = 1
		}
		c.buf = append(c.buf, b)
		return
	}
	b := c.take(1)
	if b == nil {
		return
	}
	if b[0] > 1 {
		c.pos--
		c.Fail(reason)
		return
	}
	*p = b[0] == 1
}

// Opaque codes opaque<V>. What is read aliases the input; an empty vector is
// read as nil.
func Opaque[T ~[]byte](c *Codec, p *T) {
	if c.err != nil {
		return
	}
	if !c.decoding {
		c.writeLength(len(*p))
		if c.err == nil {
			c.buf = append(c.buf, *p...)
		}
		return
	}
	start := c.pos
	n := c.readLength()
	if b := c.take(n); n > 0 && b != nil {
		*p = T(b)
	} else if c.err == nil {
		*p = nil
	}
	if c.trace != nil && c.err == nil {
		c.value(start, []byte(*p))
	}
}

// String codes opaque<V> that holds UTF-8.
func String[T ~string](c *Codec, p *T) {
	if c.err != nil {
		return
	}
	if !c.decoding {
		if !utf8.ValidString(string(*p)) {
			c.Fail(ErrUTF8)
			return
		}
		c.writeLength(len(*p))
		if c.err == nil {
			c.buf = append(c.buf, *p...)
		}
		return
	}
	start := c.pos
	b := c.take(c.readLength())
	if c.err != nil {
		return
	}
	if !utf8.Valid(b) {
		c.pos = start
		c.Fail(ErrUTF8)
		return
	}
	*p = T(b)
	if c.trace != nil {
		c.value(start, *p)
	}
}

// Fixed codes opaque[len(b)]: an array whose length is not on the wire.
// Reading copies into b.
func Fixed(c *Codec, b []byte) {
	if c.err != nil {
		return
	}
	if !c.decoding {
		c.buf = append(c.buf, b...)
		return
	}
	in := c.take(len(b))
	copy(b, in)
	if c.trace != nil && c.err == nil {
		c.value(c.pos-len(b), in)
	}
}

// Remainder codes octets without a length that reach to the end of the
// enclosing vector, or of the input. What is read aliases the input.
func Remainder[T ~[]byte](c *Codec, p *T) {
	if c.err != nil {
		return
	}
	if !c.decoding {
		c.buf = append(c.buf, *p...)
		return
	}
	*p = nil
	start := c.pos
	if b := c.Rest(); len(b) > 0 {
		*p = T(b)
	}
	if c.trace != nil && c.err == nil {
		c.value(start, []byte(*p))
	}
}

// Struct codes v as the field called name, inside which the errors' paths go
// on.
func Struct(c *Codec, name string, v Coder) {
	c.Field(name)
	if c.push(-1) {
		v.Code(c)
		c.pop()
	}
}

// A Ptr is a pointer to T that can be coded.
type Ptr[T any] interface {
	*T
	Coder
}

// Vector codes T<V>. An empty vector is read as nil.
func Vector[T any, P Ptr[T]](c *Codec, p *[]T) {
	if c.err != nil {
		return
	}
	mark := c.open()
	if c.decoding {
		readVector(c, p, mark, func(c *Codec, v *T) { P(v).Code(c) })
		return
	}
	for i := range *p {
		if !c.push(i) {
			return
		}
		P(&(*p)[i]).Code(c)
		c.pop()
	}
	c.close(mark)
}

// VectorFunc codes T<V> with a function that codes one element, such as
// Uint16[ComponentID].
func VectorFunc[T any](c *Codec, p *[]T, code func(*Codec, *T)) {
	if c.err != nil {
		return
	}
	mark := c.open()
	if c.decoding {
		readVector(c, p, mark, code)
		return
	}
	for i := range *p {
		if !c.push(i) {
			return
		}
		code(c, &(*p)[i])
		c.pop()
	}
	c.close(mark)
}

func readVector[T any](c *Codec, p *[]T, outer int, code func(*Codec, *T)) {
	var list []T
	for i := 0; c.err == nil && c.pos < c.end; i++ {
		start := c.pos
		var zero T
		list = append(list, zero)
		if !c.push(i) {
			break
		}
		code(c, &list[i])
		if c.err == nil && c.pos == start {
			c.Fail(ErrLength) // an element of no octets could repeat for ever
		}
		c.pop()
	}
	c.close(outer)
	if c.err == nil {
		*p = list
	}
}

// Optional codes optional<T>: a presence octet, then the value if it is 1
// (RFC 9420 §2.1.1). Absent is nil.
func Optional[T any, P Ptr[T]](c *Codec, p **T) {
	present := *p != nil
	optional(c, &present)
	if c.err != nil {
		return
	}
	if !present {
		*p = nil
		return
	}
	if c.decoding {
		*p = new(T)
	}
	if c.push(-1) {
		P(*p).Code(c)
		c.pop()
	}
}

// OptionalFunc codes optional<T> with a function that codes the value.
func OptionalFunc[T any](c *Codec, p **T, code func(*Codec, *T)) {
	present := *p != nil
	optional(c, &present)
	if c.err != nil {
		return
	}
	if !present {
		*p = nil
		return
	}
	if c.decoding {
		*p = new(T)
	}
	code(c, *p)
}

// optional codes the presence octet.
func optional(c *Codec, present *bool) {
	octet(c, present, ErrPresence)
	if c.trace != nil && c.err == nil && !*present {
		c.value(c.pos-1, nil)
	}
}

// Length puts a variable-size length around whatever f codes. Reading, f must
// take exactly that many octets.
func Length(c *Codec, f func()) {
	if c.err != nil {
		return
	}
	mark := c.open()
	if c.err == nil {
		f()
	}
	c.close(mark)
}

// Raw runs f and, when reading, records the exact octets that f took, for
// what is hashed or signed. They alias the input. Writing leaves raw alone.
func Raw[T ~[]byte](c *Codec, raw *T, f func()) {
	start := c.pos
	f()
	if c.decoding && c.err == nil {
		*raw = T(c.buf[start:c.pos:c.pos])
	}
}
