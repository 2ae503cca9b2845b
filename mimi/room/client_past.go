package room

import (
	"encoding/binary"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// keyPast begins the keys of the records of past epochs; the epoch follows, uint64.
const keyPast = 'e'

// A pastEpoch is how an epoch differed from the one after it: whose the leaves were that a Commit removed or replaced, which
// role the users had whom it changed, and what messages were judged by. Late messages are judged by it.
type pastEpoch struct {
	epoch  mls.Epoch
	leaves []pastLeaf
	terms  *Terms // nil: those of the epoch after
}

type pastLeaf struct {
	leaf   mls.LeafIndex
	user   mimi.UserURI
	client mimi.ClientURI
	role   policy.RoleIndex
}

func (l *pastLeaf) Code(c *tlspl.Codec) {
	tlspl.Uint32(c, &l.leaf)
	l.user.Code(c)
	l.client.Code(c)
	tlspl.Uint32(c, &l.role)
}

func (p *pastEpoch) Code(c *tlspl.Codec) {
	tlspl.Vector(c, &p.leaves)
	tlspl.Optional(c, &p.terms)
}

func pastKey(e mls.Epoch) []byte { return binary.BigEndian.AppendUint64([]byte{keyPast}, uint64(e)) }

func (r *Room) loadPast(key, value []byte) error {
	if len(key) != 9 {
		return tlspl.ErrValue
	}
	p := pastEpoch{epoch: mls.Epoch(binary.BigEndian.Uint64(key[1:]))}
	if err := tlspl.Unmarshal(value, &p); err != nil {
		return err
	}
	r.past = append(r.past, p)
	return nil
}

// pastOf notes what a staged Commit is about to change.
func (r *Room) pastOf(s *Staged) pastEpoch {
	p := pastEpoch{epoch: r.group.Epoch(), terms: r.View().Terms()}
	seen := make(map[mls.LeafIndex]bool)
	note := func(l mls.LeafIndex) {
		leaf := r.group.Tree().Leaf(l)
		if seen[l] || leaf == nil {
			return
		}
		seen[l] = true
		if who, err := r.verifier.Identify(&leaf.Credential); err == nil {
			role, _ := r.View().RoleOf(who.User.Identifier())
			p.leaves = append(p.leaves, pastLeaf{l, who.User, who.Client, role})
		}
	}
	for _, l := range s.commit.Changes().Removed {
		note(l)
	}
	for i := range s.plan.users {
		u := &s.plan.users[i]
		if user, ok := u.user.User(); ok && u.from != u.to {
			for _, l := range r.rules.room.leaves.by(user) {
				note(l)
			}
		}
	}
	return p
}

// keepPast remembers the epoch that has just ended.
func (r *Room) keepPast(p pastEpoch) {
	keep := r.mls.PastEpochs
	if keep == 0 {
		return
	}
	if p.terms.same(r.View().Terms()) {
		p.terms = nil
	}
	r.past = append([]pastEpoch{p}, r.past...)
	if value, err := tlspl.Marshal(&p); err == nil {
		r.dirty = append(r.dirty, mls.Record{Key: pastKey(p.epoch), Value: value})
	}
	for len(r.past) > keep {
		last := r.past[len(r.past)-1]
		r.past = r.past[:len(r.past)-1]
		r.dirty = append(r.dirty, mls.Record{Key: pastKey(last.epoch)})
	}
}

// senderIn returns whose a leaf was in an epoch, and which role its user had.
func (r *Room) senderIn(e mls.Epoch, l mls.LeafIndex) (Identity, policy.RoleIndex, error) {
	for i := len(r.past) - 1; i >= 0; i-- { // the oldest first
		if r.past[i].epoch < e {
			continue
		}
		for _, p := range r.past[i].leaves {
			if p.leaf == l {
				return Identity{User: p.user, Client: p.client}, p.role, nil
			}
		}
	}
	leaf := r.group.Tree().Leaf(l)
	if leaf == nil {
		return Identity{}, policy.NoRole, &IdentityError{l, ErrUnknownSender}
	}
	who, err := r.verifier.Identify(&leaf.Credential)
	if err != nil {
		return Identity{}, policy.NoRole, &IdentityError{l, err}
	}
	role, _ := r.View().RoleOf(who.User.Identifier())
	return who, role, nil
}

// RoleIn returns the role that a user had in an epoch.
func (r *Room) RoleIn(e mls.Epoch, user mimi.UserURI) policy.RoleIndex {
	for i := len(r.past) - 1; i >= 0; i-- {
		if r.past[i].epoch < e {
			continue
		}
		for _, p := range r.past[i].leaves {
			if p.user == user {
				return p.role
			}
		}
	}
	role, _ := r.View().RoleOf(user.Identifier())
	return role
}
