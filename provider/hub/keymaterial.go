package hub

import (
	"context"
	"fmt"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/store"
)

// KeyMaterial sends a claim for a room of ours on to the target's provider, and
// remembers where the KeyPackages came from (MIMI protocol §5.2, Decisions 13,
// 21).
func (h *Hub) KeyMaterial(ctx context.Context, target mimi.UserURI, req *mimi.KeyMaterialRequest) (*mimi.KeyMaterialResponse, error) {
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

// checkClaims: a KeyPackage that was claimed through this hub is used in the
// room that it was claimed for. Decision 21
func (r *hosted) checkClaims(next *room.Next) error {
	return r.h.cfg.Store.View(context.Background(), func(tx *store.Tx) error {
		for _, ref := range next.KeyPackages {
			c, err := tx.Claim(ref)
			if err == nil && c.Room != string(r.uri) {
				return &mimi.NotAllowedError{Reason: fmt.Sprintf("a KeyPackage was claimed for %s", c.Room)}
			}
		}
		return nil
	})
}
