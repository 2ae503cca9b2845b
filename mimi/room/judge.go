package room

import (
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
)

// judge authorizes every change by its own sender, against the room before the Commit, and then asks whether the room after
// it keeps its constraints. It fills in effect and join. Decisions 37, 98, 100, 101
func (p *plan) judge() error {
	roles := p.s.view.roles
	after := roles
	if p.effect.NewRoles != nil {
		after = p.effect.NewRoles
	}
	for i := range p.users {
		u := &p.users[i]
		if err := p.judgeUser(roles, u); err != nil {
			return err
		}
		if err := p.count(after, u); err != nil {
			return err
		}
	}
	for i := range p.changes {
		c := &p.changes[i]
		if d := policy.Authorize(p.s, c.actor, c.change); d != nil {
			return p.fault(c.proposal, d)
		}
	}
	if d := policy.CheckCommit(p.s, &p.effect); d != nil {
		return p.fault(-1, d)
	}
	return nil
}

func (p *plan) fault(proposal int, err error) error {
	e := &ProposalError{Proposal: proposal, Err: err}
	if proposal >= 0 {
		e.Ref = p.items[proposal].Ref
	}
	return e
}

// judgeUser authorizes what happens to one user: the change of its entry on the list together with what the same sender does
// with its clients, then what anybody else does with them. Decision 98
func (p *plan) judgeUser(roles *policy.Roles, u *userPlan) error {
	var kind policy.Kind
	if u.listed >= 0 {
		removes := false
		for _, r := range u.removes {
			removes = removes || r.by.URI == u.by.URI
		}
		c := policy.ListChange(roles, u.by.URI, u.user, u.from, u.to, removes)
		kind = c.Kind
		if d := p.authorizeListChange(u, c); d != nil {
			return p.fault(u.listed, d)
		}
		if kind == policy.Join && (len(u.adds) != 1 || u.adds[0].proposal >= 0) {
			return p.fault(u.listed, ErrJoinAlone) // Decision 99
		}
	}
	for _, r := range u.removes {
		covered := false
		switch kind {
		case policy.Remove, policy.Leave, policy.Ban, policy.ChangeRole, policy.ChangeOwnRole:
			covered = r.by.URI == u.by.URI
		}
		if covered || r.resync {
			continue
		}
		c := policy.Change{Kind: policy.Kick, User: u.user, From: u.from, To: u.to}
		if r.by.URI == u.user {
			c.Kind = policy.RemoveOwnClient
		}
		if d := policy.Authorize(p.s, r.by, c); d != nil {
			return p.fault(r.proposal, d)
		}
	}
	for _, a := range u.adds {
		if (kind == policy.Add || kind == policy.Join) && a.by.URI == u.by.URI {
			continue // room policy §8.1.1: also authorized to add any MLS clients matching the added user
		}
		if p.refound {
			continue // that they come along is part of the ReInit; the hub and they compare the groups (Hub.mayBring, Room.follows)
		}
		c := policy.Change{Kind: policy.AddClient, User: u.user, From: u.from, To: u.to}
		if a.by.URI == u.user {
			c.Kind = policy.AddOwnClient
		}
		if d := policy.Authorize(p.s, a.by, c); d != nil {
			return p.fault(a.proposal, d)
		}
	}
	return nil
}

func (p *plan) authorizeListChange(u *userPlan, c policy.Change) *policy.Denial {
	if c.Kind != policy.Join {
		return policy.Authorize(p.s, u.by, c)
	}
	method, d := policy.AuthorizeJoin(p.s, u.by, c.To)
	p.join = method
	return d
}

// count adds one user to the effect, and checks that it has clients only if it may. Decision 37
func (p *plan) count(roles *policy.Roles, u *userPlan) error {
	var before int
	user, isUser := u.user.User()
	if isUser {
		before = len(p.s.leaves.by(user))
	}
	clients := max(0, before-len(u.removes)+len(u.adds))
	if clients > 0 && !roles.MayBeActive(u.to) || clients > 0 && u.to == policy.NoRole {
		at := u.listed
		if len(u.adds) > 0 {
			at = u.adds[0].proposal
		}
		return p.fault(at, &MembershipError{User: user, Role: u.to, Clients: clients})
	}
	p.effect.Clients += len(u.adds) - len(u.removes)
	if len(u.adds) > 0 {
		p.effect.MostClients = max(p.effect.MostClients, uint32(clients))
	}
	if u.from != u.to || (before > 0) != (clients > 0) {
		p.effect.Move(u.from, u.to, before > 0, clients > 0)
	}
	was, is := countsAsUser(u.user, u.from), countsAsUser(u.user, u.to)
	if is && !was {
		p.effect.Users++
	} else if was && !is {
		p.effect.Users--
	}
	return nil
}

// policyChanged reports whether the plan updates a component whose validity hangs on others.
func (p *plan) policyChanged() bool {
	for _, id := range p.effect.Updated {
		if id != mimi.ComponentParticipantList && id != mimi.ComponentRoomMetadata {
			return true
		}
	}
	return false
}
