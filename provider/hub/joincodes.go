package hub

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
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
		return list, h.cfg.Store.View(context.WithoutCancel(ctx), func(tx *store.Tx) error {
			codes, err := tx.JoinCodes(st.row.ID)
			for _, c := range codes {
				list = append(list, clientapi.JoinCode{Code: string(c.Code), ExpiresMillis: c.ExpiresMillis, UsesLeft: c.UsesLeft, CreatedMillis: c.CreatedMillis})
			}
			return err
		})
	})
}

// CreateJoinCode makes a code of a room; an empty one is chosen here.
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
		return c, h.cfg.Store.Update(context.WithoutCancel(ctx), func(tx *store.Tx) error {
			codes, err := tx.JoinCodes(st.row.ID)
			if err != nil {
				return err
			}
			live := 0
			for _, old := range codes {
				if old.ExpiresMillis != 0 && old.ExpiresMillis <= now || old.UsesLeft == 0 {
					if err := tx.DropJoinCode(st.row.ID, old.Code); err != nil {
						return err
					}
					continue
				}
				live++
			}
			if live >= maxCodes {
				return clientapi.Errorf(clientapi.CodeTooLarge, "the room has %d join codes; revoke some first", live)
			}
			err = tx.PutJoinCode(store.JoinCode{RoomID: st.row.ID, Code: []byte(c.Code), CreatedBy: string(user), CreatedMillis: now, ExpiresMillis: c.ExpiresMillis, UsesLeft: c.UsesLeft})
			if errors.Is(err, store.ErrConflict) {
				return clientapi.Errorf(clientapi.CodeConflict, "the room has this join code already")
			}
			return err
		})
	})
}

// RevokeJoinCode removes a code of a room.
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
			return tx.DropJoinCode(st.row.ID, []byte(code))
		})
		if errors.Is(err, store.ErrNotFound) {
			return none, clientapi.Errorf(clientapi.CodeNotFound, "the room has no such join code")
		}
		return none, err
	})
	return err
}
