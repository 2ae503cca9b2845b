package hub

import (
	"context"
	"errors"
	"fmt"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/store"
)

// KeyMaterial sends a claim for a room of ours on to the target's provider, and
// remembers where the KeyPackages came from (MIMI protocol §5.2, Decisions 13,
// 21).
func (h *Hub) KeyMaterial(ctx context.Context, target mimi.UserURI, req *mimi.KeyMaterialRequest) (*mimi.KeyMaterialResponse, error) {
	if err := h.mayClaim(ctx, req); err != nil {
		return nil, err
	}
	resp, err := h.cfg.KeyMaterial(ctx, target, req)
	if err != nil || len(resp.Clients) == 0 {
		return resp, err
	}
	err = h.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		for i := range resp.Clients {
			kp := resp.Clients[i].KeyPackage
			if kp == nil {
				continue
			}
			ref, err := kp.Ref()
			if err != nil {
				return err
			}
			err = tx.PutClaim(store.Claim{
				Ref: ref, Provider: string(target.Host()), Claimant: string(req.RequestingUser), Room: string(req.RoomID),
				NotAfterSeconds: int64(min(kp.LeafNode.Lifetime.NotAfter, 1<<62)),
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return resp, err
}

// mayClaim: this hub passes on claims for rooms that it hosts, of their
// participants; else it would be a way to anybody's provider for anybody.
func (h *Hub) mayClaim(ctx context.Context, req *mimi.KeyMaterialRequest) error {
	r, err := h.room(req.RoomID)
	if err != nil {
		return err
	}
	_, err = run(ctx, r, func(r *hosted) (none nothing, err error) {
		st, err := r.current()
		if err != nil {
			return none, err
		}
		if role := st.room.Effective(req.RequestingUser); role == policy.NoRole || st.room.View().Roles().Banned(role) {
			return none, &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: fmt.Sprintf("%s is not a participant of %s", req.RequestingUser, req.RoomID)}
		}
		return none, nil
	})
	return err
}

// checkClaims: a KeyPackage that was claimed through this hub is used in the
// room that it was claimed for, by who claimed it. Decision 21
func (r *hosted) checkClaims(next *room.Next) error {
	err := r.h.cfg.Store.View(context.Background(), func(tx *store.Tx) error {
		for i, ref := range next.KeyPackages {
			c, err := tx.Claim(ref)
			switch {
			case errors.Is(err, store.ErrNotFound):
			case err != nil:
				return err
			case c.Room != string(r.uri):
				return &mimi.NotAllowedError{Reason: "a KeyPackage was claimed for another room"}
			case c.Claimant != string(next.AddedBy[i]):
				return &mimi.NotAllowedError{Reason: fmt.Sprintf("a KeyPackage was claimed by somebody else than %s, who adds it", next.AddedBy[i])}
			}
		}
		return nil
	})
	var denied *mimi.NotAllowedError
	if err != nil && !errors.As(err, &denied) {
		return unknowable(err) // a View can fail before it begins
	}
	return err
}
