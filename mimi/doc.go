// Package mimi is the vocabulary of the MIMI protocol: identifiers, every
// request and response that one provider sends another, and the application
// components that a room keeps inside its MLS group. The structs mirror the
// drafts field by field, each with one method that describes its encoding in
// both directions.
//
// The package does no I/O, reads no clock and draws no randomness. It says what
// bytes mean and whether they are well formed; who may do what is decided by
// mimi/policy and mimi/room.
//
// # Identifiers
//
// A provider is named by a domain ([ProviderDomain]); everything it owns by a
// URI below it. Each kind has a type of its own, so that a room can't be handed
// over where a user is meant:
//
//	ProviderURI  mimi://a.example
//	UserURI      mimi://a.example/u/alice   (or /p/ for a pseudonym)
//	ClientURI    mimi://a.example/d/alice/phone
//	RoomURI      mimi://a.example/r/clubhouse
//	GroupURI     mimi://a.example/g/clubhouse
//	TeamURI      mimi://a.example/t/staff
//
// [IdentifierURI] holds any of them. URIs are compared, hashed and signed as
// octets, so only the canonical spelling is accepted. A value of these types is
// canonical if it came from a Parse or New function or from a decoder; a
// conversion from a plain string checks nothing.
package mimi
