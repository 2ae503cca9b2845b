package hub

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/store"
)

// joinWithin is for how long a GroupInfo that was given out lets its holder
// join. Decision 66
const joinWithin = 10 * time.Minute

// GroupInfo gives those who may join what an external commit takes (MIMI
// protocol §5.6).
func (h *Hub) GroupInfo(ctx context.Context, from mimi.ProviderDomain, uri mimi.RoomURI, req *mimi.GroupInfoRequest) (*mimi.GroupInfoResponse, error) {
	r, err := h.room(uri)
	if err != nil {
		return nil, err
	}
	no := func(why string, err error) (*mimi.GroupInfoResponse, error) {
		h.cfg.Refused(uri, from, "groupInfo", "notAuthorized", fmt.Errorf("%s: %w", why, err))
		return &mimi.GroupInfoResponse{Version: mimi.MLS10, RoomID: uri, Status: mimi.GroupInfoNotAuthorized}, nil
	}
	if err := req.Verify(); err != nil {
		return no("the signature is not valid", err)
	}
	// Before a third provider is asked for its issuers: nobody sends us there.
	who, err := h.cfg.Credentials.Identify(&req.RequestingCredential)
	if err != nil {
		return no("the requester's credential names nobody", err)
	}
	if who.User.Host() != from {
		return nil, &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: fmt.Sprintf("%s may not ask for %s", from, who.User)}
	}
	user, _, err := h.cfg.Credentials.VerifyKey(ctx, &req.RequestingCredential, req.RequestingSignatureKey)
	var failed *mimi.FailedError
	if errors.As(err, &failed) {
		return nil, err // it may be judged another time
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return no("the requester's credential is not valid", err)
	}
	return run(ctx, r, func(r *hosted) (*mimi.GroupInfoResponse, error) { return r.groupInfo(from, user, req) })
}

func (r *hosted) groupInfo(from mimi.ProviderDomain, user mimi.UserURI, req *mimi.GroupInfoRequest) (*mimi.GroupInfoResponse, error) {
	refuse := func(code mimi.GroupInfoCode, why error) (*mimi.GroupInfoResponse, error) {
		r.h.cfg.Refused(r.uri, from, "groupInfo", code.String(), why)
		return &mimi.GroupInfoResponse{Version: mimi.MLS10, RoomID: r.uri, Status: code}, nil
	}
	st, err := r.current()
	var refused *mimi.RefusedError
	if errors.As(err, &refused) {
		// Strangers learn nothing of which rooms there are.
		return refuse(mimi.GroupInfoNotAuthorized, err)
	}
	if err != nil {
		return nil, err
	}
	now := r.h.cfg.Now()
	// Those who were in a room that has ended may know that it has. Decision 66
	no := mimi.GroupInfoNotAuthorized
	if r.ended(st) && r.knew(st, from) {
		no = mimi.GroupInfoNoSuchRoom
	}
	code, err := r.joinCode(st, req.JoiningCode, now)
	if err != nil {
		return refuse(no, err)
	}
	who, err := r.h.cfg.Credentials.Identify(&req.RequestingCredential)
	if err != nil {
		return refuse(mimi.GroupInfoNotAuthorized, err)
	}
	if denial := st.room.MayFetchGroupInfo(who, code != nil); denial != nil {
		return refuse(no, denial)
	}
	// Where a ReInit has ended the group, participants may have what another one
	// is made from; the hub takes no external commit to this one.
	if _, listed := st.room.View().RoleOf(who.User.Identifier()); st.room.Closed() && !listed {
		return refuse(no, room.ErrClosed)
	}
	k := r.h.cfg.Keys.senders[req.CipherSuite]
	if k == nil {
		return refuse(mimi.GroupInfoNotAuthorized, fmt.Errorf("this hub has no key of cipher suite %v", req.CipherSuite))
	}
	tbe := &mimi.GroupInfoRatchetTreeTBE{GroupInfo: *st.room.GroupInfo(), RatchetTreeOption: st.room.Tree(), PendingProposals: st.room.Pending()}
	resp, err := mimi.NewGroupInfoResponse(rand.Reader, req, r.uri, tbe, k.signer, k.credential)
	if err != nil {
		return nil, err
	}
	err = r.h.cfg.Store.Update(context.Background(), func(tx *store.Tx) error {
		return tx.PutJoin(store.Join{
			RoomID: st.row.ID, PublicKey: req.GroupInfoPublicKey, User: string(user), Signer: req.RequestingSignatureKey,
			Code: code, ExpiresMillis: now.Add(joinWithin).UnixMilli(),
		})
	})
	if errors.Is(err, store.ErrConflict) {
		return refuse(mimi.GroupInfoNotAuthorized, errors.New("groupInfoPublicKey was used before"))
	}
	return resp, err
}

// ended says whether nobody is left in a room who could change it: each client is
// one of somebody who leaves, or the group ended by a ReInit.
func (r *hosted) ended(st *state) bool {
	if st.room.Closed() {
		return true
	}
	roles := st.room.View().Roles()
	for _, p := range st.room.View().Participants() {
		user, ok := p.User.User()
		if !ok || st.room.Clients(user) == 0 {
			continue
		}
		if role := st.room.Effective(user); role != policy.NoRole && roles.MayBeActive(role) {
			return false
		}
	}
	return true
}

// knew says whether a provider has clients in a room, or took part in it before.
func (r *hosted) knew(st *state, from mimi.ProviderDomain) bool {
	if slices.Contains(st.room.Providers(), from) {
		return true
	}
	took := false
	err := r.h.cfg.Store.View(context.Background(), func(tx *store.Tx) (err error) {
		took, err = tx.Took(st.row.ID, string(from))
		return err
	})
	return err == nil && took
}

// joinCode returns the code if it lets its holder join this room now; nil if
// none was given. Codes that only the room's join_links component has are as
// good as those that were made here.
func (r *hosted) joinCode(st *state, code []byte, now time.Time) ([]byte, error) {
	if len(code) == 0 {
		return nil, nil
	}
	var c store.JoinCode
	err := r.h.cfg.Store.View(context.Background(), func(tx *store.Tx) (err error) {
		c, err = tx.JoinCode(st.row.ID, code)
		return err
	})
	if errors.Is(err, store.ErrNotFound) && listedCodes(st.room.View())[string(code)] { // the room came with it
		err = r.h.cfg.Store.Update(context.Background(), func(tx *store.Tx) (err error) {
			c, err = r.list(tx, st, st.room.View(), code)
			return err
		})
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, errors.New("the join code is not one of this room")
	case err != nil:
		return nil, err
	case c.ExpiresMillis > 0 && now.UnixMilli() >= c.ExpiresMillis:
		return nil, errors.New("the join code has expired")
	case c.UsesLeft == 0:
		return nil, errors.New("the join code was used up")
	}
	return code, nil
}
