package mimi

import (
	"errors"
	"fmt"
	"time"

	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// A MalformedError is a request that means nothing: its bytes can't be read,
// or don't belong to the endpoint. Sending it again does not help.
type MalformedError struct {
	Err error // often a *tlspl.SyntaxError
}

func (e *MalformedError) Error() string { return "mimi: malformed request: " + e.Err.Error() }

// Unwrap returns what is wrong with the request.
func (e *MalformedError) Unwrap() error { return e.Err }

// A Refusal says why a provider does not do what a peer asks.
type Refusal uint8

// The refusals. Decision 7
const (
	RefusedForbidden Refusal = iota + 1 // the peer may not act for this URI
	RefusedNotFound                     // the room or user is not hosted here
	RefusedTooLarge                     // the request is longer than allowed
	RefusedTooMany                      // the peer must wait
)

var refusals = [...]struct {
	status int
	name   string
}{
	RefusedForbidden: {403, "forbidden"},
	RefusedNotFound:  {404, "not found"},
	RefusedTooLarge:  {413, "too large"},
	RefusedTooMany:   {429, "too many requests"},
}

// String returns the refusal in words.
func (r Refusal) String() string {
	if int(r) < len(refusals) && refusals[r].status != 0 {
		return refusals[r].name
	}
	return fmt.Sprintf("refusal %d", uint8(r))
}

// A RefusedError is a request that was understood and is not granted, for a
// reason that the body of the response can't express.
type RefusedError struct {
	Refusal    Refusal
	Reason     string        // for the log of the peer
	RetryAfter time.Duration // for RefusedTooMany; 0 if not known
}

func (e *RefusedError) Error() string {
	s := "mimi: " + e.Refusal.String()
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if e.RetryAfter > 0 {
		s += fmt.Sprintf(" (retry after %v)", e.RetryAfter)
	}
	return s
}

// A FailedError is a peer that could not do what was asked, or could not be
// asked. Trying again later may help.
type FailedError struct {
	Status     int           // the peer's HTTP status, 0 if it gave none
	RetryAfter time.Duration // 0 if not known
	Err        error         // may be nil
}

func (e *FailedError) Error() string {
	s := "mimi: request failed"
	if e.Status != 0 {
		s += fmt.Sprintf(" with status %d", e.Status)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the reason, if there is one.
func (e *FailedError) Unwrap() error { return e.Err }

// HTTPStatus returns the HTTP status that tells a peer of err, and for how long
// the peer is to wait, 0 if that is not known. Errors that are neither
// malformed nor refused are status 500, of which the peer learns no more, or
// 503 if they are a FailedError with RetryAfter. ErrorFromStatus is its inverse.
func HTTPStatus(err error) (status int, retryAfter time.Duration) {
	var (
		malformed *MalformedError
		syntax    *tlspl.SyntaxError
		refused   *RefusedError
		failed    *FailedError
	)
	switch {
	case err == nil:
		return 200, 0
	case errors.As(err, &refused) && int(refused.Refusal) < len(refusals) && refusals[refused.Refusal].status != 0:
		return refusals[refused.Refusal].status, refused.RetryAfter
	case errors.As(err, &malformed), errors.As(err, &syntax):
		return 400, 0
	case errors.As(err, &failed) && failed.RetryAfter > 0:
		return 503, failed.RetryAfter
	}
	return 500, 0
}

// ErrorFromStatus returns the error that a peer's HTTP status tells of, nil for
// any 2xx. Reason is what the peer said, for the log. Statuses that the
// protocol does not use are a *FailedError. Decision 7
func ErrorFromStatus(status int, retryAfter time.Duration, reason string) error {
	if status >= 200 && status < 300 {
		return nil
	}
	for r := range refusals {
		if r > 0 && refusals[r].status == status {
			return &RefusedError{Refusal: Refusal(r), Reason: reason, RetryAfter: retryAfter}
		}
	}
	var err error
	if reason != "" {
		err = errors.New(reason)
	}
	if status == 400 {
		if err == nil {
			err = errors.New("no reason given")
		}
		return &MalformedError{Err: err}
	}
	return &FailedError{Status: status, RetryAfter: retryAfter, Err: err}
}

// An EpochError is a message or update for another epoch than the hub's:
// wrongEpoch and epochTooOld.
type EpochError struct {
	Got     mls.Epoch // of the message; not on the wire
	Current mls.Epoch // of the hub
}

func (e *EpochError) Error() string {
	return fmt.Sprintf("mimi: message is for epoch %d, the room is in epoch %d", e.Got, e.Current)
}

// A NotAllowedError is a message or update that the room's policy, or its
// state, forbids: notAllowed. "pending" is the reason of a commit that misses a
// pending proposal. Decision 34
type NotAllowedError struct {
	Reason string
	Err    error // the rule that was broken, if known; not on the wire
}

// ReasonPending is the errorDescription for a commit that does not reference
// every pending proposal. Decision 34
const ReasonPending = "pending"

func (e *NotAllowedError) Error() string {
	s := "mimi: not allowed"
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if e.Err != nil && e.Err.Error() != e.Reason {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the rule that was broken, if it is known.
func (e *NotAllowedError) Unwrap() error { return e.Err }

// An InvalidProposalError is an update with proposals that are well formed, but
// invalid: invalidProposal. Proposals holds the references of those that have
// one; Reason names the others. Decision 24
type InvalidProposalError struct {
	Proposals []mls.ProposalRef
	Reason    string
	Err       error // the rule that was broken, if known; not on the wire
}

func (e *InvalidProposalError) Error() string {
	s := fmt.Sprintf("mimi: invalid proposal (%d by reference)", len(e.Proposals))
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}

// Unwrap returns the rule that was broken, if it is known.
func (e *InvalidProposalError) Unwrap() error { return e.Err }

// UpdateResponse returns the response that tells of err. ok is false for errors
// that no response code expresses, which go to HTTPStatus.
func UpdateResponse(err error) (r *UpdateRoomResponse, ok bool) {
	var (
		epoch   *EpochError
		denied  *NotAllowedError
		invalid *InvalidProposalError
	)
	switch {
	case errors.As(err, &epoch):
		return &UpdateRoomResponse{ResponseCode: UpdateWrongEpoch, ErrorDescription: epoch.Error(), CurrentEpoch: epoch.Current}, true
	case errors.As(err, &denied):
		return &UpdateRoomResponse{ResponseCode: UpdateNotAllowed, ErrorDescription: denied.Reason}, true
	case errors.As(err, &invalid):
		return &UpdateRoomResponse{ResponseCode: UpdateInvalidProposal, ErrorDescription: invalid.Reason, InvalidProposals: invalid.Proposals}, true
	}
	return nil, false
}

// Err returns the error that the response tells of, nil for success.
// UpdateResponse is its inverse.
func (r *UpdateRoomResponse) Err() error {
	switch r.ResponseCode {
	case UpdateSuccess:
		return nil
	case UpdateWrongEpoch:
		return &EpochError{Current: r.CurrentEpoch}
	case UpdateInvalidProposal:
		return &InvalidProposalError{Proposals: r.InvalidProposals, Reason: r.ErrorDescription}
	}
	return &NotAllowedError{Reason: r.ErrorDescription}
}

// SubmitResponse returns the response that tells of err. ok is false for errors
// that no response code expresses, which go to HTTPStatus.
func SubmitResponse(err error) (r *SubmitMessageResponse, ok bool) {
	var (
		epoch  *EpochError
		denied *NotAllowedError
	)
	switch {
	case errors.As(err, &epoch):
		return &SubmitMessageResponse{Protocol: MLS10, StatusCode: SubmitEpochTooOld, CurrentEpoch: epoch.Current}, true
	case errors.As(err, &denied):
		return &SubmitMessageResponse{Protocol: MLS10, StatusCode: SubmitNotAllowed}, true
	}
	return nil, false
}

// Err returns the error that the response tells of, nil for success.
// SubmitResponse is its inverse.
func (r *SubmitMessageResponse) Err() error {
	switch r.StatusCode {
	case SubmitSuccess:
		return nil
	case SubmitEpochTooOld:
		return &EpochError{Current: r.CurrentEpoch}
	}
	return &NotAllowedError{}
}

// A KeyMaterialError is key material that the target's provider does not give.
type KeyMaterialError struct {
	Code KeyMaterialUserCode
}

func (e *KeyMaterialError) Error() string { return "mimi: no key material: " + e.Code.String() }

// Err returns the error that the response tells of; nil for success and partial
// success.
func (r *KeyMaterialResponse) Err() error {
	if r.UserStatus == KeyMaterialSuccess || r.UserStatus == KeyMaterialPartialSuccess {
		return nil
	}
	return &KeyMaterialError{r.UserStatus}
}

// A GroupInfoError is group information that the hub does not give.
type GroupInfoError struct {
	Code GroupInfoCode
}

func (e *GroupInfoError) Error() string { return "mimi: no group info: " + e.Code.String() }

// Err returns the error that the response tells of, nil for success.
func (r *GroupInfoResponse) Err() error {
	if r.Status == GroupInfoSuccess {
		return nil
	}
	return &GroupInfoError{r.Status}
}

// A QueryError is an identifier query that found nobody, or was not answered.
type QueryError struct {
	Code IdentifierQueryCode
}

func (e *QueryError) Error() string { return "mimi: identifier query: " + e.Code.String() }

// Err returns the error that the response tells of, nil for success.
func (r *IdentifierResponse) Err() error {
	if r.ResponseCode == QuerySuccess {
		return nil
	}
	return &QueryError{r.ResponseCode}
}
