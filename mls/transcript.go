package mls

import (
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// confirmedTranscriptHash continues the transcript with a Commit (RFC 9420 §8.2): input is its encoded
// ConfirmedTranscriptHashInput, the octets of AuthenticatedContent up to and with the signature.
func confirmedTranscriptHash(s suite.Suite, interimBefore, input []byte) []byte {
	return s.Hash(interimBefore, input)
}

// interimTranscriptHash covers an epoch's confirmed_transcript_hash and the confirmation_tag of the Commit that began it
// (RFC 9420 §8.2).
func interimTranscriptHash(s suite.Suite, confirmed, confirmationTag []byte) []byte {
	b := append([]byte(nil), confirmed...)
	b = tlspl.AppendLength(b, len(confirmationTag))
	return s.Hash(append(b, confirmationTag...))
}
