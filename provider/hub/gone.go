package hub

import (
	"context"
	"errors"
	"fmt"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/store"
)

// maxGone bounds the clients in one notice.
const maxGone = 100

// Gone takes another provider's notice that a user of its, or clients of that
// user, are gone: their removals wait from then on like those of our own users.
// What is not in the room is passed over without a word.
func (h *Hub) Gone(ctx context.Context, from mimi.ProviderDomain, uri mimi.RoomURI, notice *mimi.GoneNotice) error {
	if notice.User.Host() != from {
		return &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: fmt.Sprintf("%s may not speak for %s", from, notice.User)}
	}
	if len(notice.Clients) > maxGone {
		return &mimi.RefusedError{Refusal: mimi.RefusedTooLarge, Reason: fmt.Sprintf("%d clients in one notice; at most %d are taken", len(notice.Clients), maxGone)}
	}
	for _, c := range notice.Clients {
		if c.Host() != from {
			return &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: fmt.Sprintf("%s may not speak for %s", from, c)}
		}
	}
	r, err := h.room(uri)
	if err != nil {
		return err
	}
	_, err = run(ctx, r, func(r *hosted) (none nothing, err error) {
		st, err := r.current()
		var refused *mimi.RefusedError
		if errors.As(err, &refused) {
			return none, nil // there is no such room, which is nobody's business
		}
		if err != nil {
			return none, err
		}
		if _, listed := st.room.View().RoleOf(notice.User.Identifier()); !listed {
			return none, nil
		}
		return none, h.cfg.Store.Update(context.Background(), func(tx *store.Tx) error {
			removal := store.Removal{Room: string(uri), User: string(notice.User), CreatedMillis: h.cfg.Now().UnixMilli()}
			if len(notice.Clients) == 0 {
				return tx.PutRemoval(removal)
			}
			for _, c := range notice.Clients {
				removal.Client = string(c)
				if err := tx.PutRemoval(removal); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err == nil {
		h.cfg.WakeRemovals()
	}
	return err
}
