// Package room is a MIMI room as a state machine: an MLS group, and the participant list, metadata and policy that its
// GroupContext holds (MIMI protocol §7).
//
// The hub holds a Hub, on top of an mls.PublicGroup; each client a Room, on top of an mls.Group. Both judge every Commit by
// the same Rules, which look at nothing but the GroupContext, the ratchet tree and the Commit, so that they can't disagree
// (Decision 85): Rules put the proposals in the room's terms, say who asks for what about whom, have mimi/policy judge each
// change by its own sender and the whole by the room's constraints, and check that clients in the group and participants on
// the list agree (Decision 37). A client refuses a Commit that policy forbids even if the hub let it through.
//
// Nothing here does input or output, reads a clock or draws randomness of its own. A change is staged: Hub.Update and its
// like give a Next that says what to store and what to send, Room.Commit and its like a Staged to send to the hub. Merge
// takes it into effect afterwards; forgetting it undoes it.
//
// View reads the room out of a GroupContext. A *policy.Denial in an error (see Denied) says which rule of the policy was in
// the way.
package room
