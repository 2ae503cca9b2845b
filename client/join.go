package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
)

// A JoinError says why the hub does not let the device in.
type JoinError struct {
	Room   mimi.RoomURI
	Status mimi.GroupInfoCode
}

func (e *JoinError) Error() string {
	if e.Status == mimi.GroupInfoNoSuchRoom {
		return fmt.Sprintf("client: there is no room %s", e.Room)
	}
	return fmt.Sprintf("client: %s does not let you into %s", e.Room.Host(), e.Room)
}

// Join brings the device into a room by itself: as one more of a participant's,
// with a join code, or because the room lets anybody in. code and role may be
// empty. A device that is in already comes in anew.
func (c *Client) Join(ctx context.Context, uri mimi.RoomURI, code, role string) error {
	c.mu.Lock()
	r := c.room(uri)
	c.mu.Unlock()
	if err := r.acquire(ctx); err != nil {
		return err
	}
	defer r.release()
	var secret []byte
	if code != "" {
		secret = []byte(code)
	}
	c.mu.Lock()
	lost := r.rec.standing == Lost
	r.insists = true
	defer func() {
		c.mu.Lock()
		r.insists = false
		c.mu.Unlock()
	}()
	_, err := c.write(ctx, func(b *batch) error {
		if r.rec.standing == Lost || r.rec.standing == Leaving || r.rec.standing == Refused || r.rec.standing == Replaced || r.rec.standing == Barred || r.rec.standing == Kicked {
			r.rec.standing, r.rec.why = Outside, ""
		}
		return nil
	}, r)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	err = c.join(ctx, r, secret, role)
	var denied *JoinError
	if lost && errors.As(err, &denied) {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, failed := c.write(ctx, func(*batch) error {
			r.rec.standing, r.rec.why = Lost, c.whyLost(uri)
			return nil
		}, r)
		return errors.Join(err, failed)
	}
	return err
}

// join makes an external Commit (RFC 9420 §12.4.3.2) and brings it through. The
// room's op is held.
func (c *Client) join(ctx context.Context, r *roomState, code []byte, role string) error {
	for range changeAttempts {
		if err := c.resolve(ctx, r); err != nil && !errors.Is(err, errAgain) {
			var refused *RefusedError
			if !errors.As(err, &refused) {
				return err
			}
		}
		tbe, err := c.groupInfo(ctx, r.uri, code)
		if err != nil {
			return err
		}
		var gone []departure
		err = c.believing(ctx, func() (err error) {
			gone, err = c.prepareJoin(ctx, r, tbe, code, role)
			return err
		})
		if err != nil {
			return err
		}
		if err := c.resolve(ctx, r); err == nil {
			return c.again(ctx, r, c.depart(ctx, r, gone))
		} else if !errors.Is(err, errAgain) {
			return err
		}
	}
	return fmt.Errorf("client: %d others were faster; try again", changeAttempts)
}

// groupInfo asks the hub for what an external Commit takes (MIMI protocol §5.6,
// Decisions 61 to 65).
func (c *Client) groupInfo(ctx context.Context, uri mimi.RoomURI, code []byte) (*mimi.GroupInfoRatchetTreeTBE, error) {
	ids, err := c.suites(ctx)
	if err != nil {
		return nil, err
	}
	id := ids[0]
	of, _ := suite.Lookup(id)
	s, err := c.signer(ctx, id)
	if err != nil {
		return nil, err
	}
	fresh, err := of.GenerateKeyPair(c.rand)
	if err != nil {
		return nil, err
	}
	q := &mimi.GroupInfoRequest{Protocol: mimi.MLS10, CipherSuite: id, RequestingCredential: s.rec.credential, GroupInfoPublicKey: fresh.Public(), JoiningCode: code}
	if err := q.Sign(c.rand, s.key); err != nil {
		return nil, err
	}
	resp, err := c.provider.GroupInfo(ctx, uri, q)
	if err != nil {
		return nil, err
	}
	if resp.Status != mimi.GroupInfoSuccess {
		return nil, &JoinError{uri, resp.Status}
	}
	err = c.believing(ctx, func() error {
		return c.trust.verifier.VerifyHub(&resp.HubSender.Credential, resp.HubSender.SignatureKey, uri.Host(), c.cfg.Now())
	})
	if err != nil {
		return nil, fmt.Errorf("client: group information of %s is not signed by its hub: %w", uri, err)
	}
	tbe, err := resp.Open(uri, fresh, id)
	if err != nil {
		return nil, err
	}
	return tbe, c.checkSender(resp, tbe)
}

// checkSender: who signed the response must be the hub of the group too. Decision 65
func (c *Client) checkSender(resp *mimi.GroupInfoResponse, tbe *mimi.GroupInfoRatchetTreeTBE) error {
	if resp.CipherSuite != tbe.GroupInfo.GroupContext.CipherSuite {
		return nil
	}
	senders, err := tbe.GroupInfo.GroupContext.Extensions.ExternalSenders()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(senders, func(s mls.ExternalSender) bool {
		return bytes.Equal(s.SignatureKey, resp.HubSender.SignatureKey) && s.Credential.Equal(&resp.HubSender.Credential)
	}) {
		return fmt.Errorf("client: group information of %s is signed by a hub that is none of the room's external senders", resp.RoomID)
	}
	return nil
}

// prepareJoin makes the external Commit and stores it with the group that it makes. It returns whom this device has seen go
// that the hub, gone back to an older state, has in the room.
func (c *Client) prepareJoin(ctx context.Context, r *roomState, tbe *mimi.GroupInfoRatchetTreeTBE, code []byte, role string) ([]departure, error) {
	leaf, err := c.leaf(ctx, tbe.GroupInfo.GroupContext.CipherSuite)
	if err != nil {
		return nil, err
	}
	theirs, err := room.NewView(&tbe.GroupInfo.GroupContext)
	if err != nil {
		return nil, err
	}
	params := room.JoinParams{Room: r.uri, Info: &tbe.GroupInfo, Tree: tbe.RatchetTreeOption, Pending: tbe.PendingProposals, Leaf: leaf,
		Role: policy.NoRole, HasCode: code != nil}
	if role != "" {
		if params.Role, err = roleOf(theirs.Roles(), role); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !r.insists {
		mine, err := c.held(ctx, r)
		if err != nil {
			return nil, err
		}
		if err := strange(r, mine, theirs); err != nil {
			return nil, err
		}
	}
	staged, err := room.StageJoin(c.rand, c.roomConfig(), params)
	if err != nil {
		return nil, err
	}
	gone := departed(r, theirs)
	next := staged.Room()
	e := Event{Kind: EventJoined, Epoch: next.View().Epoch()}
	if r.rec.repair != "" {
		e.Kind, e.Text = EventRepaired, r.rec.repair
	}
	p := &pendingRecord{kind: pendingJoin, epoch: tbe.GroupInfo.GroupContext.Epoch}
	return gone, c.pend(ctx, r, p, next, staged.Bundle(), []Event{e})
}

// authenticator is the MLS epoch authenticator of a room, in hexadecimal: devices
// in the same epoch of the same group have the same.
func authenticator(g *room.Room) string { return fmt.Sprintf("%x", g.Group().EpochAuthenticator()) }

// suspicious looks whether the room has forked: whether the hub's epoch is
// another one than this device's of the same number. The room's op is held.
func (c *Client) suspicious(ctx context.Context, r *roomState) error {
	tbe, err := c.groupInfo(ctx, r.uri, nil)
	if err != nil {
		return err
	}
	theirs := &tbe.GroupInfo.GroupContext
	var events []Event
	c.mu.Lock()
	why := r.suspect
	r.suspect = ""
	if r.group != nil && (r.rec.standing == Joined || r.rec.standing == Refused) && !bytes.Equal(theirs.GroupID, r.group.Group().GroupID()) {
		events, err = c.write(ctx, func(b *batch) error { return b.another(r, theirs) }, r)
		c.mu.Unlock()
		c.notify.tell(events...)
		return err
	}
	if r.group != nil && r.rec.standing == Joined && why != "" {
		mine := r.group.View().Context()
		events, err = c.write(ctx, func(b *batch) error {
			switch {
			case theirs.Epoch > mine.Epoch:
				return b.problem(r, "%s", why) // the log will tell
			case theirs.Epoch == mine.Epoch && bytes.Equal(theirs.ConfirmedTranscriptHash, mine.ConfirmedTranscriptHash) &&
				bytes.Equal(theirs.TreeHash, mine.TreeHash) && bytes.Equal(theirs.GroupID, mine.GroupID):
				return b.problem(r, "%s; the room is not forked", why)
			}
			return b.repair(r, "the room has forked: the hub's epoch %d is not this device's epoch %d with the authenticator %s; compare it with others",
				theirs.Epoch, mine.Epoch, authenticator(r.group))
		}, r)
	}
	c.mu.Unlock()
	c.notify.tell(events...)
	return err
}
