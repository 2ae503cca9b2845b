package hub

import (
	"context"
	"errors"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/store"
)

// DropEnded removes a room in which nobody is left who could change it, with all
// that is stored of it, and reports whether it did. The caller knows that its log
// is empty.
func (h *Hub) DropEnded(ctx context.Context, uri mimi.RoomURI) (dropped bool, err error) {
	r, err := h.room(uri)
	if err != nil {
		return false, err
	}
	return run(ctx, r, func(r *hosted) (bool, error) {
		st, err := r.current()
		if err != nil {
			return false, err
		}
		if !r.ended(st) {
			return false, nil
		}
		err = h.cfg.Store.Update(context.WithoutCancel(ctx), func(tx *store.Tx) error {
			row, err := tx.Room(string(uri))
			if err != nil {
				return err
			}
			if row.ID != st.row.ID || row.Version != st.row.Version {
				return store.ErrConflict
			}
			if _, err := tx.DropMeta(fixedRooms, []byte(uri)); err != nil {
				return err
			}
			return tx.DropRoom(row.ID)
		})
		r.state = nil
		if errors.Is(err, store.ErrConflict) {
			return false, nil // another node changed it
		}
		return err == nil, err
	})
}
