package hub

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/comity-im/comity/mimi"
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
	if err := req.Verify(); err != nil {
		return nil, &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: "the signature is not valid: " + err.Error()}
	}
	user, _, err := h.cfg.Credentials.VerifyKey(ctx, &req.RequestingCredential, req.RequestingSignatureKey)
	if err != nil {
		return nil, &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: "the requester's credential is not valid: " + err.Error()}
	}
	if user.Host() != from {
		return nil, &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: fmt.Sprintf("%s may not ask for %s", from, user)}
	}
	var resp *mimi.GroupInfoResponse
	err = r.run(ctx, func(r *hosted) error {
		resp, err = r.groupInfo(from, user, req)
		return err
	})
	return resp, err
}

func (r *hosted) groupInfo(from mimi.ProviderDomain, user mimi.UserURI, req *mimi.GroupInfoRequest) (*mimi.GroupInfoResponse, error) {
	refuse := func(code mimi.GroupInfoCode, why error) (*mimi.GroupInfoResponse, error) {
		r.h.cfg.Refused(r.uri, from, "groupInfo", why)
		return &mimi.GroupInfoResponse{Version: mimi.MLS10, RoomID: r.uri, Status: code}, nil
	}
	st, err := r.load()
	var refused *mimi.RefusedError
	if errors.As(err, &refused) {
		// Strangers learn nothing of which rooms there are.
		return refuse(mimi.GroupInfoNotAuthorized, err)
	}
	if err != nil {
		return nil, err
	}
	now := r.h.cfg.Now()
	code, err := r.joinCode(st, req.JoiningCode, now)
	if err != nil {
		return refuse(mimi.GroupInfoNotAuthorized, err)
	}
	who, err := r.h.cfg.Credentials.Identify(&req.RequestingCredential)
	if err != nil {
		return refuse(mimi.GroupInfoNotAuthorized, err)
	}
	if denial := st.room.MayFetchGroupInfo(who, code != nil); denial != nil {
		return refuse(mimi.GroupInfoNotAuthorized, denial)
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

// joinCode returns the code if it lets its holder join this room now; nil if
// none was given.
func (r *hosted) joinCode(st *state, code []byte, now time.Time) ([]byte, error) {
	if len(code) == 0 {
		return nil, nil
	}
	var c store.JoinCode
	err := r.h.cfg.Store.View(context.Background(), func(tx *store.Tx) (err error) {
		c, err = tx.JoinCode(st.row.ID, code)
		return err
	})
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
