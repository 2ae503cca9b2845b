package clientapi

import (
	"fmt"
	"time"
)

// A Code says what kind of refusal an Error is.
type Code string

const (
	CodeBadRequest   Code = "bad_request"  // malformed, or a value that can't be
	CodeUnauthorized Code = "unauthorized" // no session, or a wrong password
	CodeForbidden    Code = "forbidden"
	CodeNotFound     Code = "not_found"
	CodeConflict     Code = "conflict" // exists already
	CodeTooLarge     Code = "too_large"
	CodeTooMany      Code = "too_many" // try again after RetryAfter
	CodeUnreachable  Code = "unreachable"
	CodeFailed       Code = "failed"
)

var statuses = map[Code]int{
	CodeBadRequest: 400, CodeUnauthorized: 401, CodeForbidden: 403, CodeNotFound: 404, CodeConflict: 409,
	CodeTooLarge: 413, CodeTooMany: 429, CodeFailed: 500, CodeUnreachable: 502,
}

// An Error is a refusal in words that a person can act on.
type Error struct {
	Code       Code          `json:"code"`
	Message    string        `json:"message"`
	RetryAfter time.Duration `json:"-"`
}

func (e *Error) Error() string { return e.Message }

// Errorf makes an Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}
