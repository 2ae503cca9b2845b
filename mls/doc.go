// Package mls is Messaging Layer Security: RFC 9420 with the extensions that
// MIMI needs (draft-ietf-mls-extensions, ratchet tree options,
// SemiPrivateMessage).
//
// A [Group] is a member's view of a group: it holds secrets, sends and reads
// messages. A [PublicGroup] is what somebody outside can follow, such as a hub:
// the tree, the GroupContext and the pending proposals, no secret.
//
// A commit is staged, then merged or dropped:
//
//	staged, err := group.Stage(rand.Reader, mls.CommitOptions{...})
//	// send staged.Message(); when the hub has accepted it:
//	err = group.Merge(staged)
//
// Staging never changes the group, and no check comes after a change; a group
// is never half in one epoch and half in the next. The rules of RFC 9420 §12.2
// and those of the extensions are one pipeline, which the sender of a commit, its
// receivers and a PublicGroup run alike. What the application has to say is in
// [Rules].
//
// Nothing here opens a socket or a file, reads a clock or draws randomness on
// its own: randomness comes in as an io.Reader, time as seconds. Groups are not
// safe for concurrent use.
package mls
