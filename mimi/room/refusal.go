package room

import (
	"errors"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
)

// A Refusal is an update that the hub does not accept, with all that the answer says (MIMI protocol §5.3, Decision 24).
type Refusal struct {
	Code mimi.UpdateResponseCode
	// Description tells the sender's user why, in a sentence.
	Description string
	// CurrentEpoch is the hub's, for UpdateWrongEpoch.
	CurrentEpoch mls.Epoch
	// InvalidProposals are those that came by themselves or by reference, for UpdateInvalidProposal.
	InvalidProposals []mls.ProposalRef
	// Err is what led to the refusal: a *policy.Denial can be found in it where policy did.
	Err error
}

// PendingDescription is the description of a refusal because a Commit must cover all pending proposals, or because of whose
// client sent it: one that they remove. Decision 34
const PendingDescription = "pending"

func (r *Refusal) Error() string {
	return "room: update refused (" + r.Code.String() + "): " + r.Description
}

// Unwrap returns what led to the refusal.
func (r *Refusal) Unwrap() error { return r.Err }

// Response returns what the hub answers.
func (r *Refusal) Response() *mimi.UpdateRoomResponse {
	return &mimi.UpdateRoomResponse{ResponseCode: r.Code, ErrorDescription: r.Description, CurrentEpoch: r.CurrentEpoch, InvalidProposals: r.InvalidProposals}
}

func notAllowed(description string, err error) *Refusal {
	return &Refusal{Code: mimi.UpdateNotAllowed, Description: description, Err: err}
}

// refuse sorts an error of MLS or of the rules of the room into the codes of Decision 24: another epoch is wrongEpoch; what
// policy forbids, or is not authentic, is notAllowed; a proposal that is well-formed but can't be is invalidProposal.
func refuse(current mls.Epoch, err error) *Refusal {
	var epoch *mls.EpochError
	if errors.As(err, &epoch) {
		return &Refusal{Code: mimi.UpdateWrongEpoch, Description: err.Error(), CurrentEpoch: current, Err: err}
	}
	var denial *policy.Denial
	if errors.As(err, &denial) {
		return notAllowed(denial.Error(), err)
	}
	r := &Refusal{Code: mimi.UpdateInvalidProposal, Description: err.Error(), Err: err}
	var proposal *ProposalError
	if errors.As(err, &proposal) {
		if proposal.Ref != nil {
			r.InvalidProposals = []mls.ProposalRef{proposal.Ref}
		}
		return r
	}
	var rule *mls.RuleError
	if errors.As(err, &rule) && rule.Proposal >= 0 {
		if rule.Ref != nil {
			r.InvalidProposals = []mls.ProposalRef{rule.Ref}
		}
		return r
	}
	r.Code = mimi.UpdateNotAllowed
	return r
}

// Denied returns the policy rule in an error of this package, or nil if policy is not the reason.
func Denied(err error) *policy.Denial {
	var d *policy.Denial
	if errors.As(err, &d) {
		return d
	}
	return nil
}
