// Package store keeps what a provider must not lose: accounts and their
// clients, key packages, rooms with their logs, what followers still have to
// receive, consent, reports.
//
// It is one set of queries over database/sql with two thin dialects,
// store/sqlite and store/postgres. It knows nothing of the protocol's meaning:
// URIs are text, messages and states are bytes. Packages that need durable
// state declare the few methods they use as an interface of their own; *Tx
// satisfies them.
//
// # Transactions
//
// All writing happens inside [Store.Update] and all reading inside
// [Store.View]. A function given to Update may be run more than once (a
// serialization failure on PostgreSQL repeats it), so it must not have effects
// outside its [Tx]. Update returns nil only when what the function wrote is on
// disk. On SQLite many concurrent Updates share one commit and so one fsync,
// each inside a savepoint of its own: an error undoes only its own writes.
//
// # A room's log
//
// Events of a room are numbered 1, 2, 3, … without gaps by [Tx.AppendEvents],
// which also checks that the room is still at the version that the caller
// judged. Followers ([Tx.FollowRoom]) and clients ([Tx.JoinRoom]) hold
// cursors into that log: accepting an event costs one row, whatever the number
// of its readers.
package store
