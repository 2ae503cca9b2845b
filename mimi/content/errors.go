package content

import (
	"errors"
	"fmt"
)

// Limits on one message (C §6, §9.1; Decisions 105, 111). MaxLength is local
// policy: what fits the 1 MiB that a provider accepts per request.
const (
	MaxLength               = 1 << 20
	MaxTopicIDLength        = 4096
	MaxParts                = 1024
	MaxPartDepth            = 4
	MaxExtensionDepth       = 4
	MaxExtensionValueLength = 64 << 10
	MaxExtensionKeyLength   = 255
	MaxExtensionKeyInt      = 1<<53 - 1 // also as a negative number
	MaxExpirySeconds        = 366 * 24 * 60 * 60
	SaltLength              = 16
)

// What is wrong with the encoding (C §6; Decision 104). They come wrapped in a
// SyntaxError.
var (
	ErrTruncated   = errors.New("input ends early")
	ErrTrailing    = errors.New("octets after the end")
	ErrType        = errors.New("wrong CBOR type")
	ErrNotShortest = errors.New("not the shortest encoding")
	ErrIndefinite  = errors.New("indefinite length")
	ErrReserved    = errors.New("reserved CBOR encoding")
	ErrUTF8        = errors.New("text is not UTF-8")
	ErrNaN         = errors.New("NaN other than f97e00")
	ErrKeyOrder    = errors.New("map keys not in deterministic order")
	ErrKeyTwice    = errors.New("map key appears twice")
	ErrKeyType     = errors.New("map key of a forbidden type")
)

// Rules that a well-formed message can break (C §4, §6, §9.1; Decisions 103 to
// 112). They come wrapped in a RuleError that carries what was expected and
// what came.
var (
	ErrTooLong        = errors.New("message too long")
	ErrElements       = errors.New("wrong number of array elements")
	ErrLength         = errors.New("wrong length")
	ErrRange          = errors.New("value out of range")
	ErrUnknownHash    = errors.New("message ID with an unknown hash algorithm")
	ErrTopicTooLong   = errors.New("topicId too long")
	ErrExtensionKey   = errors.New("extension key not allowed")
	ErrExtensionValue = errors.New("extension value too long")
	ErrExtensionDepth = errors.New("extensions nested too deeply")
	ErrTooManyParts   = errors.New("too many body parts")
	ErrTooFewParts    = errors.New("a MultiPart needs two parts")
	ErrPartDepth      = errors.New("body parts nested too deeply")
	ErrCardinality    = errors.New("unknown cardinality")
	ErrPartSemantics  = errors.New("unknown partSemantics")
	ErrNoContentType  = errors.New("contentType missing")
	ErrSenderURI      = errors.New("senderUri is not the sender")
	ErrRoomURI        = errors.New("roomUri is not the room")
	ErrExpiryFar      = errors.New("expires too far ahead")
	ErrExpiryPast     = errors.New("expires too far in the past")
	ErrAcceptedFuture = errors.New("hub timestamp in the future")
	ErrURITooLong     = errors.New("URI longer than 65535 octets")
	ErrNotHTTPS       = errors.New("url is not https")
	ErrEncAlg         = errors.New("unsupported AEAD algorithm")
	ErrKeyLength      = errors.New("AEAD key of the wrong length")
	ErrNonceLength    = errors.New("AEAD nonce of the wrong length")
	ErrNotEncrypted   = errors.New("key, nonce or aad without an algorithm")
	ErrHashAlg        = errors.New("unsupported hash algorithm")
	ErrHashLength     = errors.New("contentHash of the wrong length")
	ErrSize           = errors.New("external content of the wrong size")
	ErrContentHash    = errors.New("external content does not match contentHash")
	ErrAuthentication = errors.New("external content does not decrypt")
	ErrNotReaction    = errors.New("not a reaction of one emoji each")
	ErrPartReference  = errors.New("reference to something else than a SinglePart or ExternalPart")
	ErrNoBody         = errors.New("no body, and nothing to delete")
	ErrNotPermitted   = errors.New("sender may not do this")
	ErrNotSender      = errors.New("only its sender may edit a message")
	ErrDeleted        = errors.New("edit of a deleted message")
)

// A SyntaxError says that octets are not the deterministic encoding of what they
// should be: where decoding stopped, in which field, and why. Err is one of the
// encoding errors, or a RuleError when a rule was broken at that place.
type SyntaxError struct {
	Offset int    // octets from the start of the input
	Field  string // path of draft names, such as "nestedPart.parts[1].contentType"
	Err    error
}

func (e *SyntaxError) Error() string {
	if e.Field == "" {
		return fmt.Sprintf("content: at octet %d: %v", e.Offset, e.Err)
	}
	return fmt.Sprintf("content: %s at octet %d: %v", e.Field, e.Offset, e.Err)
}

func (e *SyntaxError) Unwrap() error { return e.Err }

// A RuleError is a rule of the drafts that a peer broke. Err is the rule, one of
// the Err variables of this package.
type RuleError struct {
	Err           error
	Expected, Got any
}

func (e *RuleError) Error() string {
	return fmt.Sprintf("%v: expected %s, got %s", e.Err, brief(e.Expected), brief(e.Got))
}

// brief writes a value for a log line: it may be a peer's, of any length and with
// any characters.
func brief(v any) string {
	s := fmt.Sprint(v)
	if len(s) > maxBrief {
		s = s[:maxBrief] + "..."
	}
	return PrintableLine(s)
}

const maxBrief = 128

func (e *RuleError) Unwrap() error { return e.Err }

func broken(rule error, expected, got any) error {
	return &RuleError{Err: rule, Expected: expected, Got: got}
}
