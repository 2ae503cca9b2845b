package room

import (
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// Terms are what an application message is read and judged by: the part of the room state of the epoch that it was sent in. A
// message that arrives late is judged by what was in force when it was sent, not by what is now.
type Terms struct {
	// Content is what judging its content takes.
	Content *policy.ContentPolicy
	// Franking is the franking_agent component, nil if the room had none.
	Franking *mimi.FrankingAgentData
	// SafeAAD says that authenticated data was a SafeAAD, and Framed that application data had ApplicationFraming.
	SafeAAD, Framed bool

	roles *mimi.RoleData // that of Content.Roles, as it is stored
}

// Terms returns what messages of this epoch are judged by.
func (v *View) Terms() *Terms {
	return &Terms{Content: v.ContentPolicy(), Franking: v.franking, SafeAAD: v.Has(mls.ComponentSafeAAD), Framed: v.Has(mls.ComponentContentMediaTypes),
		roles: v.components.Roles}
}

// same reports whether two epochs, one after the other, have the same terms. Views share the components that stayed.
func (t *Terms) same(o *Terms) bool {
	a, b := t.Content, o.Content
	return t.roles == o.roles && a.Status == b.Status && a.LinkPreview == b.LinkPreview && a.Assets == b.Assets && a.Expiration == b.Expiration &&
		t.Franking == o.Franking && t.SafeAAD == o.SafeAAD && t.Framed == o.Framed
}

// Code describes Terms as they are stored. The hub is always the room's, and is set when the room is loaded.
func (t *Terms) Code(c *tlspl.Codec) {
	if c.Decoding() {
		t.roles, t.Content = new(mimi.RoleData), new(policy.ContentPolicy)
	}
	tlspl.Struct(c, "roles", t.roles)
	tlspl.Optional(c, &t.Content.Status)
	tlspl.Optional(c, &t.Content.LinkPreview)
	tlspl.Optional(c, &t.Content.Assets)
	tlspl.Optional(c, &t.Content.Expiration)
	tlspl.Optional(c, &t.Franking)
	tlspl.Bool(c, &t.SafeAAD)
	tlspl.Bool(c, &t.Framed)
	if c.Decoding() && c.Err() == nil {
		var err error
		if t.Content.Roles, err = policy.NewRoles(t.roles); err != nil {
			c.Fail(err)
		}
	}
}

// TermsIn returns what messages of an epoch are judged by: the present one, or a past one that the client keeps keys of.
func (r *Room) TermsIn(e mls.Epoch) *Terms {
	for i := len(r.past) - 1; i >= 0; i-- { // the oldest first
		if p := &r.past[i]; p.epoch >= e && p.terms != nil {
			return p.terms
		}
	}
	return r.View().Terms()
}
