// Package content is what people say to each other in a MIMI room:
// application/mimi-content (draft-ietf-mimi-content-08, "C" below) and
// application/mimi-message-status (draft-mahy-mimi-message-status-01, "M").
//
// The road of a received message is
//
//	Verify(octets, envelope)  the strict codec, the message ID, every rule that
//	                          one message can break on its own
//	Timeline.Add(message)     what it does to the messages before it: an edit, a
//	                          deletion, a reaction, a reply, a read receipt
//	Timeline.Entries()        what a person sees
//
// and the road of a message to send is a constructor (Text, Reply, Edit, Delete,
// Reaction, Attach, Report) followed by Content.Marshal.
//
// Content and its parts mirror the CDDL of C Appendix A field by field. The codec
// accepts exactly the deterministic encoding (Decision 104), so whatever
// Unmarshal accepts Marshal gives back octet for octet; the message ID is
// nevertheless taken over the octets that arrived.
//
// The package is pure: randomness comes in as an io.Reader, time as an argument,
// and text from others is cleaned by Printable before it may reach a terminal.
// It works on the inner octets of the ApplicationFraming of the MLS extensions
// draft, which package mls owns.
package content
