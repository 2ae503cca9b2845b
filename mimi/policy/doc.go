// Package policy decides who may do what in a MIMI room (draft-ietf-mimi-room-policy-03).
//
// A room defines roles. Every participant has exactly one, and a role is a list of capabilities, a table of the role changes
// that its holders may make to others, and limits on how many may hold it. Whoever is not on the participant list has role 0;
// role 1, if it is named "banned", is that of banned users.
//
// Judging is by pure functions. Authorize says whether the room, as it stands before a Commit, lets one actor make one
// Change; CheckCommit says whether the room, as it would stand after the whole Commit, keeps its constraints; CheckComponents
// whether a set of policy components is valid at all. Each gives nil, or a *Denial (a *PolicyError) that names the rule: in a
// sentence for people, in fields for programs. What the hub can't see, the content of messages, JudgeContent judges at the
// clients.
//
// The package knows no MLS framing: mimi/room turns proposals into Changes and says who asks for each. State is all that it
// must be told of a room, and none of it takes work that grows with the room.
//
// Build makes the policy of a new room from a Preset, WriteTable shows people a room's policy.
package policy
