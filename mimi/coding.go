package mimi

import (
	"errors"
	"strings"

	"github.com/comity-im/comity/tlspl"
)

// Code describes the URI as IdentifierUri: opaque uri<V>, canonical. Decision 8
func (u *UserURI) Code(c *tlspl.Codec) { codeURI(c, u, ParseUserURI) }

// Code describes the URI as IdentifierUri: opaque uri<V>, canonical. Decision 8
func (u *ClientURI) Code(c *tlspl.Codec) { codeURI(c, u, ParseClientURI) }

// Code describes the URI as RoomId: opaque uri<V>, canonical. Decision 8
func (u *RoomURI) Code(c *tlspl.Codec) { codeURI(c, u, ParseRoomURI) }

// Code describes the URI as IdentifierUri: opaque uri<V>, canonical. Decision 8
func (u *IdentifierURI) Code(c *tlspl.Codec) { codeURI(c, u, ParseIdentifierURI) }

func codeURI[T ~string](c *tlspl.Codec, u *T, parse func(string) (T, error)) {
	if !c.Decoding() {
		if _, err := parse(string(*u)); err != nil {
			c.Fail(err)
		}
	}
	tlspl.String(c, u)
	if c.Decoding() && c.Err() == nil {
		if _, err := parse(string(*u)); err != nil {
			c.Fail(err)
		}
	}
}

// codeOptionalURI is codeURI where a zero-length URI means that there is none.
func codeOptionalURI[T ~string](c *tlspl.Codec, u *T, parse func(string) (T, error)) {
	codeURI(c, u, func(s string) (T, error) {
		if s == "" {
			return "", nil
		}
		return parse(s)
	})
}

// A URI is any URI, of any scheme (Uri of MIMI protocol §7.6 and room policy
// §5). Its syntax is not checked beyond being UTF-8.
type URI string

// Code describes a Uri: opaque uri<V>.
func (u *URI) Code(c *tlspl.Codec) { tlspl.String(c, u) }

// HTTPS reports whether u looks like an https URL with a host.
func (u URI) HTTPS() bool {
	rest, ok := strings.CutPrefix(string(u), "https://")
	authority, _, _ := strings.Cut(rest, "/")
	return ok && authority != "" && !strings.ContainsAny(string(u), " \t\r\n\x00")
}

// ErrNUL is the error for a text that holds a zero octet (MIMI protocol §7.6).
var ErrNUL = errors.New("string holds a NUL")

// codeUTF8 codes a UTF8String: opaque string<V>, valid UTF-8 without NUL.
func codeUTF8[T ~string](c *tlspl.Codec, s *T) {
	tlspl.String(c, s)
	if c.Err() == nil && strings.IndexByte(string(*s), 0) >= 0 {
		c.Fail(ErrNUL)
	}
}

// codeEnum codes an enum of one octet whose values are 0 to last.
func codeEnum[T ~uint8](c *tlspl.Codec, v *T, last T) {
	tlspl.Uint8(c, v)
	if c.Err() == nil && *v > last {
		c.Fail(tlspl.ErrValue)
	}
}

func codeOptionalUint32(c *tlspl.Codec, v **uint32) {
	tlspl.OptionalFunc(c, v, tlspl.Uint32[uint32])
}
