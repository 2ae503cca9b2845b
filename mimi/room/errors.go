package room

import (
	"errors"
	"fmt"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
)

// A MembershipError is a user with clients in the MLS group who may have none: who is not on the participant list, or whose
// role has no active participants (Decision 37).
type MembershipError struct {
	User    mimi.UserURI
	Role    policy.RoleIndex // NoRole: not on the list
	Clients int
}

func (e *MembershipError) Error() string {
	if e.Role == policy.NoRole {
		return fmt.Sprintf("room: %s would have %d clients without being on the participant list", e.User, e.Clients)
	}
	return fmt.Sprintf("room: %s would have %d clients with role %d, which has none", e.User, e.Clients, e.Role)
}

// A ProposalError is a proposal that the room can't take, with what is wrong. Err is a *policy.Denial where the sender may
// not do it, else what makes it invalid.
type ProposalError struct {
	Proposal int             // position in the Commit or bundle, from 0; -1: none in particular
	Ref      mls.ProposalRef // nil if by value
	Err      error
}

func (e *ProposalError) Error() string {
	if e.Proposal < 0 {
		return e.Err.Error()
	}
	return fmt.Sprintf("proposal %d: %v", e.Proposal, e.Err)
}

// Unwrap returns what is wrong.
func (e *ProposalError) Unwrap() error { return e.Err }

// Rules of the room that make a proposal invalid, whoever sends it.
var (
	ErrComponentUnknown   = errors.New("room: no such component in the GroupContext")
	ErrComponentPermanent = errors.New("room: the component can't be removed")
	ErrComponentTwice     = errors.New("room: two updates of a component that an update replaces")
	ErrFrankingAgent      = errors.New("room: the franking agent can be set once, by the hub")
	ErrJoinAlone          = errors.New("room: a user who joins alone brings the one client that joins")
	ErrExtensionsChanged  = errors.New("room: GroupContextExtensions changes external_senders or drops a required capability")
	ErrClientTwice        = errors.New("room: the client is in the group already")
	ErrOtherClient        = errors.New("room: the new leaf is another client's")
	ErrUnknownSender      = errors.New("room: the sender is nobody whom the room knows")
	ErrReceiver           = errors.New("room: somebody else than the hub is an external receiver")
	ErrHandshakeFormat    = errors.New("room: the handshake message is in a wire format that handshake_formats does not list")
	ErrPseudonym          = errors.New("room: pseudonyms are not allowed in this room")
	ErrMinimalMetadata    = errors.New("room: all leaves of a minimal metadata room, and of no other room, have pseudonymous credentials")
)
