package mls

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// A ProtocolVersion is a version of MLS (RFC 9420 §6).
type ProtocolVersion uint16

// MLS10 is the version of RFC 9420, the only one there is.
const MLS10 ProtocolVersion = 1

// An Epoch numbers the states of a group, from 0 (RFC 9420 §2).
type Epoch uint64

// A CipherSuite names the primitives that a group uses (RFC 9420 §5.1).
type CipherSuite = suite.ID

// code writes mls10 for the zero value, which it leaves as it is: what is encoded
// may be shared.
func (v *ProtocolVersion) code(c *tlspl.Codec) {
	c.Field("version")
	version := *v
	if !c.Decoding() && version == 0 {
		version = MLS10
	}
	tlspl.Uint16(c, &version)
	if version != MLS10 && c.Err() == nil {
		c.Fail(ErrVersion)
	}
	if c.Decoding() {
		*v = version
	}
}

// Errors of decoding, found inside a [tlspl.SyntaxError].
var (
	ErrVersion            = errors.New("mls: protocol version is not mls10")
	ErrDuplicateExtension = errors.New("mls: two extensions of one type")
	ErrWireFormat         = errors.New("mls: unknown wire format")
	ErrContentType        = errors.New("mls: content type not allowed here")
	ErrPadding            = errors.New("mls: padding is not all zero")
)

// An ExtensionType says how to read an Extension (RFC 9420 §17.3).
type ExtensionType uint16

// The extension types of RFC 9420 §17.3, MLS extensions §7.1 and, in the
// private range, SemiPrivateMessage §4.2 (Decisions 113, 120).
const (
	ExtensionApplicationID        ExtensionType = 0x0001
	ExtensionRatchetTree          ExtensionType = 0x0002
	ExtensionRequiredCapabilities ExtensionType = 0x0003
	ExtensionExternalPub          ExtensionType = 0x0004
	ExtensionExternalSenders      ExtensionType = 0x0005
	ExtensionAppDataDictionary    ExtensionType = 0x0006
	ExtensionSupportedWireFormats ExtensionType = 0x0007
	ExtensionRequiredWireFormats  ExtensionType = 0x0008
	ExtensionExternalReceivers    ExtensionType = 0xf008
)

// IsDefault reports whether every client supports t, so that capabilities must
// not list it (RFC 9420 §7.2).
func (t ExtensionType) IsDefault() bool {
	return t >= ExtensionApplicationID && t <= ExtensionExternalSenders
}

var extensionNames = map[ExtensionType]string{
	ExtensionApplicationID:        "application_id",
	ExtensionRatchetTree:          "ratchet_tree",
	ExtensionRequiredCapabilities: "required_capabilities",
	ExtensionExternalPub:          "external_pub",
	ExtensionExternalSenders:      "external_senders",
	ExtensionAppDataDictionary:    "app_data_dictionary",
	ExtensionSupportedWireFormats: "supported_wire_formats",
	ExtensionRequiredWireFormats:  "required_wire_formats",
	ExtensionExternalReceivers:    "external_receivers",
}

// String is the name in the IANA registry, or the number.
func (t ExtensionType) String() string { return nameOf(extensionNames, t) }

func nameOf[T ~uint16 | ~uint8](names map[T]string, v T) string {
	if s, ok := names[v]; ok {
		return s
	}
	return fmt.Sprintf("%#04x", uint16(v))
}

// IsGREASE reports whether v is one of the values that peers send to keep
// extension points usable (RFC 9420 §13.5). No rule depends on it.
func IsGREASE[T ~uint16](v T) bool {
	return v&0x0f0f == 0x0a0a && byte(v) == byte(v>>8) && v != 0xfafa
}

// An Extension is a typed piece of data in a KeyPackage, LeafNode,
// GroupContext or GroupInfo (RFC 9420 §7.2).
type Extension struct {
	Type ExtensionType
	Data []byte
}

// Code describes an Extension (RFC 9420 §7.2).
func (e *Extension) Code(c *tlspl.Codec) {
	c.Field("extension_type")
	tlspl.Uint16(c, &e.Type)
	c.Field("extension_data")
	tlspl.Opaque(c, &e.Data)
}

// Extensions is a list with at most one extension of each type.
type Extensions []Extension

// Code describes a list of extensions, which must not hold one type twice
// (RFC 9420 §13.4).
func (e *Extensions) Code(c *tlspl.Codec) {
	c.Field("extensions")
	tlspl.Vector(c, (*[]Extension)(e))
	if c.Err() == nil && e.duplicate() {
		c.Fail(ErrDuplicateExtension)
	}
}

func (e *Extensions) duplicate() bool {
	list := *e
	if len(list) > 16 {
		seen := make(map[ExtensionType]bool, len(list))
		for i := range list {
			if seen[list[i].Type] {
				return true
			}
			seen[list[i].Type] = true
		}
		return false
	}
	for i := range list {
		for j := range i {
			if list[i].Type == list[j].Type {
				return true
			}
		}
	}
	return false
}

// Find returns the data of the extension of type t, and whether there is one.
func (e Extensions) Find(t ExtensionType) ([]byte, bool) {
	for i := range e {
		if e[i].Type == t {
			return e[i].Data, true
		}
	}
	return nil, false
}

// With returns a copy of e in which the extension of type t has the given
// data: in its place if there is one, else at the end.
func (e Extensions) With(t ExtensionType, data []byte) Extensions {
	out := make(Extensions, len(e), len(e)+1)
	copy(out, e)
	for i := range out {
		if out[i].Type == t {
			out[i].Data = data
			return out
		}
	}
	return append(out, Extension{t, data})
}

// Without returns a copy of e that has no extension of type t.
func (e Extensions) Without(t ExtensionType) Extensions {
	out := make(Extensions, 0, len(e))
	for _, x := range e {
		if x.Type != t {
			out = append(out, x)
		}
	}
	return out
}

// Equal reports whether both lists hold the same extensions in the same order.
func (e Extensions) Equal(other Extensions) bool {
	if len(e) != len(other) {
		return false
	}
	for i := range e {
		if e[i].Type != other[i].Type || !bytes.Equal(e[i].Data, other[i].Data) {
			return false
		}
	}
	return true
}

// find decodes the extension of type t into v and reports whether it was
// there.
func (e Extensions) find(t ExtensionType, v tlspl.Coder) (bool, error) {
	data, ok := e.Find(t)
	if !ok {
		return false, nil
	}
	if err := tlspl.UnmarshalAlias(data, v); err != nil {
		return true, fmt.Errorf("mls: extension %s: %w", t, err)
	}
	return true, nil
}

// An HPKECiphertext is what EncryptWithLabel gives (RFC 9420 §5.1.3).
type HPKECiphertext struct {
	KEMOutput  []byte
	Ciphertext []byte
}

// Code describes an HPKECiphertext (RFC 9420 §5.1.3).
func (h *HPKECiphertext) Code(c *tlspl.Codec) {
	c.Field("kem_output")
	tlspl.Opaque(c, &h.KEMOutput)
	c.Field("ciphertext")
	tlspl.Opaque(c, &h.Ciphertext)
}

// opaque is a single opaque<V>.
type opaque []byte

// Code describes opaque<V> (RFC 9420 §2.1.2).
func (o *opaque) Code(c *tlspl.Codec) { tlspl.Opaque(c, o) }

// marshal encodes values that this package built itself. They always encode:
// an error would be a bug.
func marshal(v tlspl.Coder) []byte {
	b, err := tlspl.Marshal(v)
	if err != nil {
		panic("mls: " + err.Error())
	}
	return b
}
