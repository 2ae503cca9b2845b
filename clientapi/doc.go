// Package clientapi is the protocol between a client and its own provider. The
// drafts leave it to each provider; this one keeps close to them: what goes on
// to a room's hub is carried as the very request that MIMI defines, in a POST
// to the same path below /client/v1, and comes back as MIMI's response.
// Everything else is JSON.
//
// [Service] is what a provider offers. [NewHandler] serves one over HTTPS,
// [Client] speaks to one and has the same methods.
//
// A client proves who it is with a bearer token, which it gets for its user's
// password ([Service.Register], [Service.Login]).
//
// # Events
//
// A WebSocket at /client/v1/events carries the events of all rooms of a client,
// each with its position in its room's log. The client acknowledges a position
// when everything up to it is in its own store; what it has not acknowledged
// comes again with the next connection. Over the same connection a client may
// submit messages, which costs less than a request each. Messages of the
// connection are binary; each has one [Frame] or several, one after the other.
package clientapi
