package ohttp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// A Field is a header field. Its name is in lower case (RFC 9292 §3.6).
type Field struct {
	Name, Value string
}

// A Request is an HTTP request (RFC 9292 §3.4).
type Request struct {
	Method, Scheme, Authority, Path string
	Header                          []Field
	Content                         []byte
}

// A Response is a final HTTP response (RFC 9292 §3.5).
type Response struct {
	Status  int
	Header  []Field
	Content []byte
}

// Get returns the value of the first field with a name in lower case, "" if
// there is none.
func (r *Request) Get(name string) string { return get(r.Header, name) }

// Get returns the value of the first field with a name in lower case, "" if
// there is none.
func (r *Response) Get(name string) string { return get(r.Header, name) }

func get(header []Field, name string) string {
	for _, f := range header {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// Errors of reading a binary HTTP message.
var (
	ErrTruncated = errors.New("ohttp: message ends early")
	ErrFraming   = errors.New("ohttp: not a binary HTTP message of this kind")
	ErrField     = errors.New("ohttp: malformed header field")
	ErrStatus    = errors.New("ohttp: status code out of range")
	ErrPadding   = errors.New("ohttp: padding is not zero")
	ErrTooMany   = errors.New("ohttp: too many header fields")
)

// The framing indicators (RFC 9292 §3.3).
const (
	knownRequest = iota
	knownResponse
	indeterminateRequest
	indeterminateResponse
)

const maxFields = 256

// Marshal encodes the request with known lengths and pads it with zeros to a
// multiple of pad octets, which hides how long a URL is. pad 0 or 1 adds nothing.
func (r *Request) Marshal(pad int) []byte {
	b := []byte{knownRequest}
	for _, s := range []string{r.Method, r.Scheme, r.Authority, r.Path} {
		b = appendString(b, s)
	}
	b = appendHeader(b, r.Header)
	b = appendString(b, string(r.Content))
	b = appendVarint(b, 0) // no trailer
	if pad > 1 && len(b)%pad != 0 {
		b = append(b, make([]byte, pad-len(b)%pad)...)
	}
	return b
}

// Marshal encodes the response with known lengths.
func (r *Response) Marshal() []byte {
	b := make([]byte, 0, len(r.Content)+256)
	b = append(b, knownResponse)
	b = appendVarint(b, uint64(r.Status))
	b = appendHeader(b, r.Header)
	b = appendVarint(b, uint64(len(r.Content)))
	b = append(b, r.Content...)
	return appendVarint(b, 0) // no trailer
}

func appendHeader(b []byte, header []Field) []byte {
	var lines []byte
	for _, f := range header {
		lines = appendString(lines, f.Name)
		lines = appendString(lines, f.Value)
	}
	return appendString(b, string(lines))
}

func appendString(b []byte, s string) []byte {
	b = appendVarint(b, uint64(len(s)))
	return append(b, s...)
}

// appendVarint encodes an integer of RFC 9000 §16; n is below 2^62.
func appendVarint(b []byte, n uint64) []byte {
	switch {
	case n < 1<<6:
		return append(b, byte(n))
	case n < 1<<14:
		return binary.BigEndian.AppendUint16(b, uint16(n)|1<<14)
	case n < 1<<30:
		return binary.BigEndian.AppendUint32(b, uint32(n)|2<<30)
	}
	return binary.BigEndian.AppendUint64(b, n|3<<62)
}

// UnmarshalRequest decodes a request of known or indeterminate length. Trailers
// are read and dropped.
func UnmarshalRequest(b []byte) (*Request, error) {
	d := &decoder{rest: b}
	kind := d.varint()
	if d.err == nil && kind != knownRequest && kind != indeterminateRequest {
		return nil, ErrFraming
	}
	r := &Request{Method: d.text(), Scheme: d.text(), Authority: d.text(), Path: d.text()}
	r.Header, r.Content = d.sections(kind == knownRequest)
	if d.err != nil {
		return nil, d.err
	}
	if !token(r.Method) {
		return nil, fmt.Errorf("%w: method", ErrField)
	}
	return r, nil
}

// UnmarshalResponse decodes a response of known or indeterminate length.
// Informational responses and trailers are read and dropped.
func UnmarshalResponse(b []byte) (*Response, error) {
	d := &decoder{rest: b}
	kind := d.varint()
	if d.err == nil && kind != knownResponse && kind != indeterminateResponse {
		return nil, ErrFraming
	}
	known := kind == knownResponse
	var status uint64
	for n := 0; d.err == nil; n++ {
		if status = d.varint(); d.err != nil || status >= 200 {
			break
		}
		if status < 100 || n >= 16 {
			return nil, ErrStatus
		}
		d.header(known)
	}
	if d.err == nil && status > 599 {
		return nil, ErrStatus
	}
	r := &Response{Status: int(status)}
	r.Header, r.Content = d.sections(known)
	if d.err != nil {
		return nil, d.err
	}
	return r, nil
}

// decoder reads a binary HTTP message. After its first error all it gives is
// empty. What it returns does not alias its input.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.rest = nil
}

func (d *decoder) varint() uint64 {
	if d.err != nil || len(d.rest) == 0 {
		d.fail(ErrTruncated)
		return 0
	}
	n := 1 << (d.rest[0] >> 6)
	if len(d.rest) < n {
		d.fail(ErrTruncated)
		return 0
	}
	v := uint64(d.rest[0] & 0x3f)
	for _, b := range d.rest[1:n] {
		v = v<<8 | uint64(b)
	}
	d.rest = d.rest[n:]
	return v
}

// opaque reads a length and as many octets, which alias the input.
func (d *decoder) opaque() []byte {
	n := d.varint()
	if n > uint64(len(d.rest)) {
		d.fail(ErrTruncated)
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) text() string { return string(d.opaque()) }

// sections reads header, content, trailer and padding. A message may end before
// a section that is empty (RFC 9292 §3.8).
func (d *decoder) sections(known bool) (header []Field, content []byte) {
	if d.err != nil || len(d.rest) == 0 {
		return nil, nil
	}
	header = d.header(known)
	if len(d.rest) > 0 {
		content = d.content(known)
	}
	if len(d.rest) > 0 {
		d.header(known) // the trailer
	}
	if len(bytes.Trim(d.rest, "\x00")) > 0 {
		d.fail(ErrPadding)
	}
	return header, content
}

func (d *decoder) header(known bool) (fields []Field) {
	lines := d
	if known {
		lines = &decoder{rest: d.opaque(), err: d.err}
	}
	for lines.err == nil {
		if known && len(lines.rest) == 0 {
			break
		}
		name := lines.text()
		if name == "" {
			if known && lines.err == nil {
				lines.fail(ErrField)
			}
			break
		}
		f := Field{name, lines.text()}
		if lines.err == nil && (!token(name) || strings.ToLower(name) != name || strings.ContainsAny(f.Value, "\x00\r\n")) {
			lines.fail(ErrField)
		}
		if len(fields) == maxFields {
			lines.fail(ErrTooMany)
		}
		fields = append(fields, f)
	}
	if lines.err != nil {
		d.fail(lines.err)
		return nil
	}
	return fields
}

func (d *decoder) content(known bool) []byte {
	if known {
		return append([]byte(nil), d.opaque()...)
	}
	var content []byte
	for d.err == nil {
		chunk := d.opaque()
		if len(chunk) == 0 {
			break
		}
		content = append(content, chunk...)
	}
	return content
}

// token reports whether s is a token of RFC 9110 §5.6.2.
func token(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}
