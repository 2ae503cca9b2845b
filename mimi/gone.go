package mimi

import "github.com/comity-im/comity/tlspl"

// GoneKey is the directory key of the endpoint that takes a GoneNotice, a key of
// ours that others ignore.
const GoneKey = "comityGone"

// A GoneNotice tells the hub of a room that a user of the sending provider, or
// some of its clients, are gone, and that nobody is left who could say so in the
// room: the account was deleted, or the last device is lost. The hub then
// proposes their removal itself, as MIMI protocol §5.5 has it do for "a lost
// client or a deleted user"; how a hub learns of other providers' users the
// draft leaves open, and followers are no external senders (Decision 32).
//
//	struct {
//	  IdentifierUri user;
//	  IdentifierUri clients<V>;  /* empty: the account is gone */
//	} GoneNotice;
type GoneNotice struct {
	User    UserURI
	Clients []ClientURI // empty: the user with all clients
}

// Code describes a GoneNotice.
func (n *GoneNotice) Code(c *tlspl.Codec) {
	c.Field("user")
	n.User.Code(c)
	c.Field("clients")
	tlspl.Vector(c, &n.Clients)
}
