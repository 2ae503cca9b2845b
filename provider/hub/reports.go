package hub

import (
	"context"
	"fmt"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/store"
)

// MayReport says whether reports about a room are taken from a peer, and from
// this user of it (empty: anonymous): the peer has participants there or had
// some, and the user's role has canReportAbuse if it is still on the list.
// Decision 74
func (h *Hub) MayReport(ctx context.Context, from mimi.ProviderDomain, uri mimi.RoomURI, reporter mimi.UserURI) error {
	r, err := h.room(uri)
	if err != nil {
		return err
	}
	_, err = run(ctx, r, func(r *hosted) (none nothing, err error) {
		st, err := r.current()
		if err != nil {
			return none, err
		}
		view := st.room.View()
		if reporter != "" {
			if role, ok := view.RoleOf(reporter.Identifier()); ok {
				if !view.Roles().Has(role, mimi.CanReportAbuse) {
					return none, &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: fmt.Sprintf("%s has no role with %v in this room", reporter, mimi.CanReportAbuse)}
				}
				return none, nil
			}
		}
		for _, d := range st.room.Providers() {
			if d == from {
				return none, nil
			}
		}
		had := false
		err = h.cfg.Store.View(context.WithoutCancel(ctx), func(tx *store.Tx) error {
			had, err = tx.Took(st.row.ID, string(from))
			return err
		})
		if err == nil && !had {
			err = &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: fmt.Sprintf("%s never had participants in this room", from)}
		}
		return none, err
	})
	return err
}
