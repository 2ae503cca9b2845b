package hub

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/store"
)

// maxCodes is how many codes a room may have at a time.
const maxCodes = 100

// mayUse says whether a user may make or see, or revoke, the join codes of a
// room.
func (r *hosted) mayUse(user mimi.UserURI, c mimi.CapabilityType) (*state, error) {
	st, err := r.current()
	if err != nil {
		return nil, err
	}
	roles := st.room.View().Roles()
	if role := st.room.Effective(user); !roles.Has(role, c) {
		return nil, &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: fmt.Sprintf("%s has no role with %v in this room", user, c)}
	}
	return st, nil
}

// JoinCodes lists the codes of a room for somebody who may make some.
func (h *Hub) JoinCodes(ctx context.Context, uri mimi.RoomURI, user mimi.UserURI) ([]clientapi.JoinCode, error) {
	r, err := h.room(uri)
	if err != nil {
		return nil, err
	}
	return run(ctx, r, func(r *hosted) (list []clientapi.JoinCode, err error) {
		st, err := r.mayUse(user, mimi.CanCreateJoinCode)
		if err != nil {
			return nil, err
		}
		err = h.cfg.Store.View(context.WithoutCancel(ctx), func(tx *store.Tx) error {
			list = nil
			codes, err := tx.JoinCodes(st.row.ID)
			listed := listedCodes(st.room.View())
			for _, c := range codes {
				list = append(list, clientapi.JoinCode{
					Code: string(c.Code), ExpiresMillis: c.ExpiresMillis, UsesLeft: c.UsesLeft, CreatedMillis: c.CreatedMillis, Listed: listed[string(c.Code)],
				})
				delete(listed, string(c.Code))
			}
			for _, code := range slices.Sorted(maps.Keys(listed)) { // the room came with it
				list = append(list, clientapi.JoinCode{Code: code, UsesLeft: -1, Listed: true})
			}
			return err
		})
		return list, err
	})
}

// live returns the codes of a room that still let somebody in, and drops the others, but for those of links that the room
// lists: they are remembered so that they stay expired or used up.
func live(tx *store.Tx, st *state, now int64) (list []store.JoinCode, err error) {
	codes, err := tx.JoinCodes(st.row.ID)
	if err != nil {
		return nil, err
	}
	listed := listedCodes(st.room.View())
	for _, c := range codes {
		switch {
		case c.UsesLeft != 0 && (c.ExpiresMillis == 0 || c.ExpiresMillis > now):
			list = append(list, c)
		case !listed[string(c.Code)]:
			if err := tx.DropJoinCode(st.row.ID, c.Code); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

// limits makes a new code obey the room's join_link_policy (room policy §6.2).
func limits(c *store.JoinCode, p *mimi.JoinLinkPolicy) {
	if p == nil {
		return
	}
	if !p.Multiuser {
		c.UsesLeft = 1
	}
	if latest := c.CreatedMillis + int64(p.Expiration)*1000; p.Expiration > 0 && (c.ExpiresMillis == 0 || c.ExpiresMillis > latest) {
		c.ExpiresMillis = latest
	}
}

// listedCodes are the joining codes of the links in the room's join_links component.
func listedCodes(v *room.View) map[string]bool {
	codes := make(map[string]bool)
	if l := v.Components().JoinLinks; l != nil {
		for _, link := range l.Links {
			codes[string(link.JoiningCode(v.Room()))] = true
		}
	}
	return codes
}

// relist follows what a commit does to the room's join_links: a link that a member lists, of whichever provider, becomes a code
// that is valid from now as long as join_link_policy says; one that is taken off the list is a code no more. Codes that were made
// here keep their own limits when they are listed.
func (r *hosted) relist(tx *store.Tx, st *state, next *room.View) error {
	before := st.room.View()
	if before.Components().JoinLinks == next.Components().JoinLinks { // views share what stayed
		return nil
	}
	had, has := listedCodes(before), listedCodes(next)
	for code := range had {
		if !has[code] {
			if err := tx.DropJoinCode(st.row.ID, []byte(code)); err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
	}
	for code := range has {
		if !had[code] {
			if _, err := r.list(tx, st, next, []byte(code)); err != nil {
				return err
			}
		}
	}
	return nil
}

// list remembers the code of a link that the room lists.
func (r *hosted) list(tx *store.Tx, st *state, v *room.View, code []byte) (store.JoinCode, error) {
	if c, err := tx.JoinCode(st.row.ID, code); !errors.Is(err, store.ErrNotFound) {
		return c, err
	}
	c := store.JoinCode{RoomID: st.row.ID, Code: code, CreatedMillis: r.h.cfg.Now().UnixMilli(), UsesLeft: -1}
	limits(&c, v.Components().JoinLinkPolicy)
	return c, tx.PutJoinCode(c)
}

// CreateJoinCode makes a code of a room; an empty one is chosen here. What it is given is narrowed to what the room's
// join_link_policy allows.
func (h *Hub) CreateJoinCode(ctx context.Context, uri mimi.RoomURI, user mimi.UserURI, c clientapi.JoinCode) (clientapi.JoinCode, error) {
	r, err := h.room(uri)
	if err != nil {
		return c, err
	}
	if c.Code == "" {
		c.Code = rand.Text()
	}
	if len(c.Code) < 16 || len(c.Code) > 128 {
		return c, clientapi.Errorf(clientapi.CodeBadRequest, "a join code has 16 to 128 characters, this one %d", len(c.Code))
	}
	now := h.cfg.Now().UnixMilli()
	if c.ExpiresMillis != 0 && c.ExpiresMillis <= now {
		return c, clientapi.Errorf(clientapi.CodeBadRequest, "the join code would have expired already")
	}
	if c.UsesLeft == 0 {
		c.UsesLeft = -1
	}
	c.CreatedMillis = now
	return run(ctx, r, func(r *hosted) (clientapi.JoinCode, error) {
		st, err := r.mayUse(user, mimi.CanCreateJoinCode)
		if err != nil {
			return c, err
		}
		err = h.cfg.Store.Update(context.WithoutCancel(ctx), func(tx *store.Tx) error {
			have, err := live(tx, st, now)
			if err != nil {
				return err
			}
			policy := st.room.View().Components().JoinLinkPolicy
			switch {
			case policy != nil && policy.OnRequest && len(have) > 0:
				return clientapi.Errorf(clientapi.CodeConflict, "the room has a join code already, and its join_link_policy (on_request) allows one at a time; revoke it first")
			case len(have) >= maxCodes:
				return clientapi.Errorf(clientapi.CodeTooLarge, "the room has %d join codes; revoke some first", len(have))
			}
			made := store.JoinCode{RoomID: st.row.ID, Code: []byte(c.Code), CreatedBy: string(user), CreatedMillis: now, ExpiresMillis: c.ExpiresMillis, UsesLeft: c.UsesLeft}
			limits(&made, policy)
			c.ExpiresMillis, c.UsesLeft = made.ExpiresMillis, made.UsesLeft
			err = tx.PutJoinCode(made)
			if errors.Is(err, store.ErrConflict) {
				return clientapi.Errorf(clientapi.CodeConflict, "the room has this join code already")
			}
			return err
		})
		return c, err
	})
}

// RevokeJoinCode removes a code of a room. One that the room lists is remembered as used up until the link is taken off the list.
func (h *Hub) RevokeJoinCode(ctx context.Context, uri mimi.RoomURI, user mimi.UserURI, code string) error {
	r, err := h.room(uri)
	if err != nil {
		return err
	}
	_, err = run(ctx, r, func(r *hosted) (none nothing, err error) {
		st, err := r.mayUse(user, mimi.CanDeleteJoinCode)
		if err != nil {
			return none, err
		}
		err = h.cfg.Store.Update(context.WithoutCancel(ctx), func(tx *store.Tx) error {
			err := tx.DropJoinCode(st.row.ID, []byte(code))
			if listedCodes(st.room.View())[code] && (err == nil || errors.Is(err, store.ErrNotFound)) {
				return tx.PutJoinCode(store.JoinCode{RoomID: st.row.ID, Code: []byte(code), CreatedBy: string(user), CreatedMillis: r.h.cfg.Now().UnixMilli()})
			}
			return err
		})
		if errors.Is(err, store.ErrNotFound) {
			return none, clientapi.Errorf(clientapi.CodeNotFound, "the room has no such join code")
		}
		return none, err
	})
	return err
}
