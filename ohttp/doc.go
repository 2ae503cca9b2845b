// Package ohttp is Oblivious HTTP (RFC 9458) with Binary HTTP (RFC 9292), as far
// as downloading assets takes it: a client seals a request to a gateway's key, a
// relay passes it on without being able to read it, the gateway opens it, and
// seals the response to whoever made the request without knowing who that is.
//
//	client                         relay             gateway
//	ParseKeys                                        Keys.Marshal
//	Request.Marshal, Encapsulate ----------------->  Keys.Decapsulate, UnmarshalRequest
//	Exchange.Open, UnmarshalResponse <-------------  Response.Marshal, Exchange.Seal
//
// The package does no I/O. HPKE is crypto/hpke; the random numbers of sealing a
// request are its own.
//
// In MIMI the relay is the downloading provider and the gateway the hub (MIMI
// protocol §5.10.3, Decision 78).
package ohttp
