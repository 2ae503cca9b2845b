package hub

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/provider/follower"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/tlspl"
)

// Create founds a room for one of our users: the client's first GroupInfo and
// tree become its state. It returns the acceptance time in milliseconds.
func (h *Hub) Create(ctx context.Context, creator mimi.UserURI, client mimi.ClientURI, uri mimi.RoomURI, info *mls.GroupInfo, tree *mls.RatchetTreeOption) (uint64, error) {
	r, err := h.room(uri)
	if err != nil {
		return 0, err
	}
	if tree.Representation != mls.RatchetTreeFull {
		return 0, &mimi.MalformedError{Err: errors.New("the ratchet tree must be full")}
	}
	return run(ctx, r, func(r *hosted) (uint64, error) { return r.create(creator, client, info, tree) })
}

func (r *hosted) create(creator mimi.UserURI, client mimi.ClientURI, info *mls.GroupInfo, tree *mls.RatchetTreeOption) (uint64, error) {
	h := r.h
	now := mimi.Millis(h.cfg.Now().UnixMilli())
	cfg, err := h.roomConfig(info.GroupContext.CipherSuite)
	if err != nil {
		return 0, err
	}
	state, next, err := room.NewHub(cfg, r.uri, creator, info, tree.RatchetTree, now)
	if err != nil {
		return 0, &mimi.NotAllowedError{Reason: err.Error(), Err: err}
	}
	if err := h.checkOwnKeys(state); err != nil {
		return 0, &mimi.NotAllowedError{Reason: err.Error(), Err: err}
	}
	records, err := next.Records()
	if err != nil {
		return 0, err
	}
	at := uint64(next.Accepted)
	err = h.cfg.Store.Update(context.Background(), func(tx *store.Tx) error {
		id, err := tx.CreateRoom(store.Room{URI: string(r.uri), Hub: string(h.cfg.Domain), Head: head(info.GroupContext.CipherSuite), LastMillis: int64(at), CreatedMillis: int64(at)})
		if err != nil {
			return err
		}
		if err := tx.PutRecords(id, storeRecords(records)); err != nil {
			return err
		}
		if err := h.onlyRoomOf(tx, r.uri, state.View()); err != nil {
			return err
		}
		if err := tx.SetParent(id, string(h.parentOf(state.View()))); err != nil {
			return err
		}
		return tx.JoinRoom(string(client), id, 1)
	})
	r.state = nil
	if errors.Is(err, store.ErrConflict) {
		return r.created(info, err)
	}
	if err != nil {
		return 0, err
	}
	h.cfg.Follower.Changed(client)
	return at, nil
}

// fixedRooms is what the names of the Metas begin with that say which room a set
// of people has.
const fixedRooms = "fixed/"

// onlyRoomOf: of rooms with fixed membership there is one for any set of people
// (room policy §5).
func (h *Hub) onlyRoomOf(tx *store.Tx, uri mimi.RoomURI, view *room.View) error {
	digest, ok := view.MembershipDigest()
	if !ok {
		return nil
	}
	name := fixedRooms + hex.EncodeToString(digest[:])
	have, err := tx.CreateMeta(name, []byte(uri))
	if err != nil || string(have) == string(uri) {
		return err
	}
	if _, err := tx.Room(string(have)); errors.Is(err, store.ErrNotFound) {
		return tx.SetMeta(name, []byte(uri))
	} else if err != nil {
		return err
	}
	return &mimi.NotAllowedError{Reason: fmt.Sprintf("these people have a room of their own already: %s", have)}
}

// created answers who founds the same room again, because the first answer was
// lost, as it was answered then.
func (r *hosted) created(info *mls.GroupInfo, conflict error) (uint64, error) {
	st, err := r.load()
	if err != nil {
		return 0, err
	}
	stored, err := tlspl.Marshal(st.room.GroupInfo())
	if err != nil {
		return 0, err
	}
	given, err := tlspl.Marshal(info)
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(stored, given) {
		return 0, conflict
	}
	return uint64(st.row.CreatedMillis), nil
}

// parentOf is the room that a view depends on, if it is hosted here too.
func (h *Hub) parentOf(v *room.View) mimi.RoomURI {
	base := v.Base()
	if base == nil || !base.ParentDependant || base.ParentRoom == "" || base.ParentRoom.Host() != h.cfg.Domain || base.ParentRoom == v.Room() {
		return ""
	}
	return base.ParentRoom
}

// head is what must be known of a room before its records are read: the cipher
// suite of its group.
func head(id suite.ID) []byte { return binary.BigEndian.AppendUint16(nil, uint16(id)) }

// checkOwnKeys: a new room names the keys that this hub has.
func (h *Hub) checkOwnKeys(s *room.Hub) error {
	id := s.GroupInfo().GroupContext.CipherSuite
	own, ok := h.cfg.Keys.Sender(id)
	if !ok {
		return fmt.Errorf("this hub does not host groups of cipher suite %v", id)
	}
	senders, err := s.GroupInfo().GroupContext.Extensions.ExternalSenders()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(senders, func(e mls.ExternalSender) bool { return slices.Equal(e.SignatureKey, own.SignatureKey) }) {
		return errors.New("external_senders does not have this hub's key")
	}
	receivers, err := s.GroupInfo().GroupContext.Extensions.ExternalReceivers()
	if err != nil {
		return err
	}
	if len(receivers) > 0 && !slices.Equal(receivers[0].PublicKey, h.cfg.Keys.receivers[id].PublicKey) {
		return errors.New("external_receivers does not have this hub's key")
	}
	if data := s.View().FrankingAgent(); data != nil {
		if agent, _ := h.cfg.Keys.Agent(id); !slices.Equal(data.FrankingSignatureKey, agent.FrankingSignatureKey) {
			return errors.New("franking_agent is not this hub's key")
		}
	}
	return nil
}

// Update accepts or refuses a commit or proposals (MIMI protocol §5.3). It
// returns when what it accepted is on disk.
func (h *Hub) Update(ctx context.Context, from mimi.ProviderDomain, uri mimi.RoomURI, req *mimi.UpdateRequest) (*mimi.UpdateRoomResponse, error) {
	r, err := h.room(uri)
	if err != nil {
		return nil, err
	}
	digest, err := req.Digest()
	if err != nil {
		return nil, &mimi.MalformedError{Err: err}
	}
	// What must be asked of others is asked before it is the room's turn.
	handshakes, err := r.readable(ctx, &req.Bundle)
	if err != nil {
		return nil, err
	}
	if err := h.cfg.Credentials.Need(ctx, append(credentials(handshakes), founder(&req.Bundle)...)...); err != nil {
		return nil, err
	}
	return run(ctx, r, func(r *hosted) (*mimi.UpdateRoomResponse, error) {
		for tries := 0; ; tries++ {
			resp, err := r.update(from, req, digest)
			if !errors.Is(err, store.ErrConflict) || tries >= 20 {
				return resp, err
			}
			r.state = nil
		}
	})
}

// readable returns what the messages of a bundle say. SemiPrivateMessages are
// read with the room's state; those that can't be are left out, and refused later.
func (r *hosted) readable(ctx context.Context, b *mimi.HandshakeBundle) (list []*mls.FramedContent, err error) {
	semiPrivate := false
	for _, m := range append([]mimi.Message{b.ProposalOrCommit}, b.MoreProposals...) {
		switch {
		case m.PublicMessage != nil:
			list = append(list, &m.PublicMessage.Content)
		case m.SemiPrivateMessage != nil:
			semiPrivate = true
		}
	}
	if !semiPrivate {
		return list, nil
	}
	read, err := run(ctx, r, func(r *hosted) ([]*mls.FramedContent, error) {
		st, err := r.current()
		if err != nil {
			return nil, err
		}
		return st.room.Read(b), nil
	})
	return append(list, read...), err
}

// founder returns the credential of the client that makes a group, where a bundle has all of one.
func founder(b *mimi.HandshakeBundle) []*mls.Credential {
	info := b.GroupInfoOption.GroupInfo
	if info == nil || b.RatchetTreeOption.Representation != mls.RatchetTreeFull {
		return nil
	}
	s, ok := suite.Lookup(info.GroupContext.CipherSuite)
	if !ok {
		return nil
	}
	tree, err := mls.ParseRatchetTree(s, b.RatchetTreeOption.RatchetTree)
	if err != nil {
		return nil
	}
	leaf := tree.Leaf(0)
	if leaf == nil {
		return nil
	}
	return []*mls.Credential{&leaf.Credential}
}

// credentials are those of the leaves that handshakes bring in.
func credentials(handshakes []*mls.FramedContent) (list []*mls.Credential) {
	proposal := func(p *mls.Proposal) {
		switch {
		case p == nil:
		case p.Add != nil:
			list = append(list, &p.Add.KeyPackage.LeafNode.Credential)
		case p.Update != nil:
			list = append(list, &p.Update.LeafNode.Credential)
		}
	}
	for _, content := range handshakes {
		proposal(content.Proposal)
		if c := content.Commit; c != nil {
			for i := range c.Proposals {
				proposal(c.Proposals[i].Proposal)
			}
			if c.Path != nil {
				list = append(list, &c.Path.LeafNode.Credential)
			}
		}
	}
	return list
}

func (r *hosted) update(from mimi.ProviderDomain, req *mimi.UpdateRequest, digest [sha256.Size]byte) (*mimi.UpdateRoomResponse, error) {
	st, err := r.load()
	if err != nil {
		return nil, err
	}
	if st.room.Founds(&req.Bundle) {
		return r.refound(st, from, req, digest)
	}
	parent, err := r.parent(st)
	if err != nil {
		return nil, err
	}
	next, err := st.room.Update(room.UpdateInput{
		From: from, Bundle: &req.Bundle, Now: mimi.Millis(r.h.nextMillis(st.row.LastMillis)), Rand: rand.Reader, Parent: parent,
	})
	var code []byte
	if err == nil {
		code, err = r.checkJoin(st, next)
	}
	if err == nil {
		err = r.checkClaims(next)
	}
	if err != nil {
		return r.refuse(st, from, digest, err)
	}
	if err := r.commit(st, from, next, code); err != nil {
		return nil, err
	}
	return next.Response(), nil
}

// refound takes up another MLS group for the room (Decision 31): the room's URI,
// its log, followers, codes and claims stay.
func (r *hosted) refound(st *state, from mimi.ProviderDomain, req *mimi.UpdateRequest, digest [sha256.Size]byte) (*mimi.UpdateRoomResponse, error) {
	id := req.Bundle.GroupInfoOption.GroupInfo.GroupContext.CipherSuite
	cfg, err := r.h.roomConfig(id)
	if err != nil {
		return r.refuse(st, from, digest, err)
	}
	in := room.UpdateInput{From: from, Bundle: &req.Bundle, Now: mimi.Millis(r.h.nextMillis(st.row.LastMillis)), Rand: rand.Reader, Next: &cfg}
	founded, next, err := st.room.Refound(in)
	if err == nil {
		if err = r.h.checkOwnKeys(founded); err != nil {
			err = &mimi.NotAllowedError{Reason: err.Error(), Err: err}
		}
	}
	if err == nil {
		err = r.checkClaims(next)
	}
	if err != nil {
		return r.refuse(st, from, digest, err)
	}
	before := st.room.Providers()
	fresh := &state{row: st.row, room: founded, agent: r.h.agent(founded), followers: st.followers}
	fresh.row.Head = head(id)
	if err := r.store(fresh, from, next, nil, before, true); err != nil {
		return nil, err
	}
	r.state = fresh
	r.h.cfg.Logger.Info("a room has a new MLS group", "room", string(r.uri), "founder", string(from), "group", string(founded.GroupInfo().GroupContext.GroupID))
	return next.Response(), founded.Merge(next)
}

// refuse answers an update that is not accepted; one that was accepted before
// is answered as it was (Decision 38).
func (r *hosted) refuse(st *state, from mimi.ProviderDomain, digest [sha256.Size]byte, err error) (*mimi.UpdateRoomResponse, error) {
	var failure *mimi.FailedError
	if errors.As(err, &failure) {
		return nil, err
	}
	if ok, failed := r.isCurrent(st); failed != nil {
		return nil, failed
	} else if !ok {
		return nil, store.ErrConflict // another node has changed the room: judge again
	}
	var e store.Event
	seen := r.h.cfg.Store.View(context.Background(), func(tx *store.Tx) (err error) {
		e, err = tx.EventByDigest(st.row.ID, digest)
		return err
	})
	if seen != nil && !errors.Is(seen, store.ErrNotFound) {
		return nil, seen
	}
	if seen == nil && e.Source == string(from) {
		return &mimi.UpdateRoomResponse{ResponseCode: mimi.UpdateSuccess, AcceptedTimestamp: mimi.Millis(e.AcceptedMillis)}, nil
	}
	var refusal *room.Refusal
	resp, ok := mimi.UpdateResponse(err)
	if errors.As(err, &refusal) {
		resp, ok = refusal.Response(), true
	}
	if !ok {
		return nil, &mimi.MalformedError{Err: err}
	}
	r.h.cfg.Refused(r.uri, from, "update", resp.ResponseCode.String(), err)
	return resp, nil
}

// unknowable is the error of an update that can't be judged at present, because the database does not answer. It is no
// refusal: who asked tries again.
func unknowable(err error) error {
	return &mimi.FailedError{RetryAfter: time.Second, Err: err}
}

// parent is the present state of the room that this one depends on, if it does
// and that room is hosted here too.
func (r *hosted) parent(st *state) (*room.View, error) {
	uri := r.h.parentOf(st.room.View())
	if uri == "" {
		return nil, nil
	}
	p := &hosted{h: r.h, uri: uri}
	parent, err := p.load()
	if err != nil {
		var refused *mimi.RefusedError
		if errors.As(err, &refused) {
			return nil, nil
		}
		return nil, err
	}
	return parent.room.View(), nil
}

// checkJoin: who joined alone was given the GroupInfo, for the credential that
// it shows now (Decision 66). It returns the join code that was used, if one was
// needed.
func (r *hosted) checkJoin(st *state, next *room.Next) (code []byte, err error) {
	if next.JoinedKey == nil {
		return nil, nil
	}
	var joins []store.Join
	err = r.h.cfg.Store.View(context.Background(), func(tx *store.Tx) (err error) {
		joins, err = tx.Joins(st.row.ID, string(next.JoinedUser), r.h.cfg.Now().UnixMilli())
		return err
	})
	if err != nil {
		return nil, unknowable(err)
	}
	for _, j := range joins {
		if next.Joined != policy.CodeJoin {
			return nil, nil
		}
		if len(j.Code) > 0 && slices.Equal(j.Signer, next.JoinedKey) {
			return j.Code, nil
		}
	}
	return nil, &mimi.NotAllowedError{Reason: "the joiner was given no GroupInfo by this hub in the last minutes; it must ask for it first"}
}

// commit stores what an update makes of the room and merges it.
func (r *hosted) commit(st *state, from mimi.ProviderDomain, next *room.Next, code []byte) error {
	if err := r.store(st, from, next, code, st.room.Providers(), false); err != nil {
		return err
	}
	if err := st.room.Merge(next); err != nil {
		return err
	}
	if len(next.Unlisted) > 0 {
		r.h.cfg.WakeRemovals()
	}
	return nil
}

// store stores what an update makes of the room. before are the providers that
// had clients in it; anew says that there is another group.
func (r *hosted) store(st *state, from mimi.ProviderDomain, next *room.Next, code []byte, before []mimi.ProviderDomain, anew bool) error {
	events := make([]store.Event, len(next.Events))
	for i := range next.Events {
		e := &next.Events[i]
		var err error
		if events[i], err = follower.NewEvent(&e.Message, from); err != nil {
			return err
		}
		if mimi.FanoutKind(events[i].Kind) == mimi.FanoutWelcome {
			for _, d := range e.Providers {
				events[i].Audience = append(events[i].Audience, string(d))
			}
		}
	}
	records, err := next.Records()
	if err != nil {
		return err
	}
	after := next.Providers()
	c := &change{head: st.row.Head, records: records, anew: anew, also: func(tx *store.Tx, events []store.Event) error {
		for i := range events {
			if !slices.Contains(events[i].Audience, string(r.h.cfg.Domain)) {
				continue
			}
			clients, err := follower.Welcomed(tx, events[i].Body, r.uri)
			if err != nil {
				return err
			}
			events[i].Clients = clients
			if err := tx.AddressEvent(st.row.ID, events[i].Seq, events[i].Clients); err != nil {
				return err
			}
		}
		for _, ref := range next.KeyPackages {
			if err := tx.DropClaim(ref); err != nil {
				return err
			}
		}
		if code != nil {
			if err := tx.UseJoinCode(st.row.ID, code); errors.Is(err, store.ErrConflict) {
				return &mimi.NotAllowedError{Reason: "the join code was used up"}
			} else if err != nil {
				return err
			}
		}
		if err := r.relist(tx, st, next.View()); err != nil {
			return err
		}
		if len(next.Unlisted) > 0 {
			if err := r.leaveChildren(tx, next.Unlisted); err != nil {
				return err
			}
		}
		return r.follow(tx, st, next, events, before, after)
	}}
	return r.append(st, events, c)
}

// leaveChildren notes that users who left this room are to leave the rooms that
// depend on it and are hosted here (room policy §5).
func (r *hosted) leaveChildren(tx *store.Tx, users []mimi.UserURI) error {
	children, err := tx.Children(string(r.uri))
	if err != nil {
		return err
	}
	for _, child := range children {
		for _, user := range users {
			if err := tx.PutRemoval(store.Removal{Room: child, User: string(user), CreatedMillis: r.h.cfg.Now().UnixMilli()}); err != nil {
				return err
			}
		}
	}
	return nil
}

// follow moves the followers' cursors with the membership (Decision 54): a
// provider that comes in begins with what names it, one that goes gets what
// made it go.
func (r *hosted) follow(tx *store.Tx, st *state, next *room.Next, events []store.Event, before, after []mimi.ProviderDomain) error {
	own := r.h.cfg.Domain
	for _, d := range after {
		if d == own || slices.Contains(before, d) {
			continue
		}
		// It begins with the commit if that lists one of its users without a
		// client, who would not hear of it otherwise.
		i := slices.IndexFunc(next.Events, func(e room.Event) bool { return slices.Contains(e.Providers, d) })
		if slices.ContainsFunc(next.Listed, func(u mimi.UserURI) bool { return u.Host() == d && next.Clients(u) == 0 }) {
			i = 0
		}
		if i >= 0 {
			if err := tx.FollowRoom(st.row.ID, string(d), events[i].Seq); err != nil {
				return err
			}
		}
	}
	last := events[len(events)-1].Seq
	for _, d := range before {
		if d != own && !slices.Contains(after, d) {
			if err := tx.UnfollowRoom(st.row.ID, string(d), last); err != nil {
				return err
			}
		}
	}
	// Users who are listed without any client hear of it by the commit, and
	// join by themselves.
	for _, user := range next.Listed {
		d := user.Host()
		if d == own || slices.Contains(before, d) || slices.Contains(after, d) {
			continue
		}
		if err := tx.FollowRoom(st.row.ID, string(d), events[0].Seq); err != nil {
			return err
		}
		if err := tx.UnfollowRoom(st.row.ID, string(d), events[0].Seq); err != nil {
			return err
		}
	}
	return nil
}

// Propose makes the hub itself propose something, for example to remove a user
// whose account was deleted. A proposal that comes to nothing is nil.
func (h *Hub) Propose(ctx context.Context, uri mimi.RoomURI, propose func(r *room.Hub, now mimi.Millis) (*room.Next, error)) error {
	r, err := h.room(uri)
	if err != nil {
		return err
	}
	_, err = run(ctx, r, func(r *hosted) (none nothing, err error) {
		for tries := 0; ; tries++ {
			err := r.propose(propose)
			if !errors.Is(err, store.ErrConflict) || tries >= 20 {
				return none, err
			}
			r.state = nil
		}
	})
	return err
}

// RemoveUser proposes to take a user out of a room: its account is gone.
func (h *Hub) RemoveUser(ctx context.Context, uri mimi.RoomURI, user mimi.UserURI) error {
	return h.Propose(ctx, uri, func(r *room.Hub, now mimi.Millis) (*room.Next, error) {
		return r.ProposeRemove(now, rand.Reader, user)
	})
}

// RemoveClient proposes to take one client out of a room: the device is gone.
func (h *Hub) RemoveClient(ctx context.Context, uri mimi.RoomURI, user mimi.UserURI, client mimi.ClientURI) error {
	return h.Propose(ctx, uri, func(r *room.Hub, now mimi.Millis) (*room.Next, error) {
		return r.ProposeRemoveClient(now, rand.Reader, user, client)
	})
}

func (r *hosted) propose(propose func(*room.Hub, mimi.Millis) (*room.Next, error)) error {
	st, err := r.current()
	if err != nil {
		return err
	}
	next, err := propose(st.room, mimi.Millis(r.h.nextMillis(st.row.LastMillis)))
	if err != nil || next == nil {
		return err
	}
	return r.commit(st, r.h.cfg.Domain, next, nil)
}

// roomConfig is what the rooms of a cipher suite need from this hub.
func (h *Hub) roomConfig(id mls.CipherSuite) (room.HubConfig, error) {
	k := h.cfg.Keys.senders[id]
	if k == nil {
		return room.HubConfig{}, &mimi.NotAllowedError{Reason: fmt.Sprintf("this hub does not host groups of cipher suite %v", id)}
	}
	return room.HubConfig{Verifier: h.cfg.Credentials, Signer: k.signer, Receiver: h.cfg.Keys.receivers[id]}, nil
}
