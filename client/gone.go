package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
)

// RemoveDevice ends the session of one of the user's devices, and takes it out of
// the rooms that this device is in. The hubs of the others hear of it from the
// provider.
func (c *Client) RemoveDevice(ctx context.Context, device mimi.ClientURI) error {
	if device == c.self.client {
		return errors.New("client: that is this device; end it from another one")
	}
	if err := c.provider.RemoveDevice(ctx, device); err != nil {
		return err
	}
	if err := c.takeOut(ctx, []mimi.ClientURI{device}); err != nil {
		c.cfg.Logger.Info("a removed device is still in some rooms", "device", string(device), "error", err)
	}
	return nil
}

// removeLost takes devices of the user that were removed out of the rooms that
// this device is in: those that it has seen on the provider's list and that are
// not on it any more.
func (c *Client) removeLost(ctx context.Context) error {
	var known []mimi.ClientURI
	err := c.store.View(ctx, func(tx Tx) error {
		b, err := tx.Get([]byte{keyDevices})
		if err != nil || len(b) == 0 {
			return err
		}
		if err := json.Unmarshal(b, &known); err != nil {
			return &CorruptError{keyDevices, err}
		}
		return nil
	})
	if err != nil {
		return err
	}
	list, err := c.provider.Devices(ctx)
	if err != nil {
		return err
	}
	var now, lost []mimi.ClientURI
	for i := range list {
		now = append(now, list[i].Client)
	}
	for _, device := range known {
		if !slices.Contains(now, device) && device != c.self.client {
			lost = append(lost, device)
		}
	}
	if slices.Equal(known, now) {
		return nil
	}
	if len(lost) > 0 {
		if err := c.takeOut(ctx, lost); err != nil {
			return err // again, next time
		}
	}
	b, err := json.Marshal(now)
	if err != nil {
		return err
	}
	return c.store.Update(ctx, func(tx Tx) error { return tx.Put([]byte{keyDevices}, b) })
}

// takeOut removes devices of the user from the rooms that this device is in,
// where nobody else does and the user's role lets it.
func (c *Client) takeOut(ctx context.Context, devices []mimi.ClientURI) error {
	c.mu.Lock()
	var rooms []*roomState
	for _, r := range c.rooms {
		if r.rec.standing == Joined && r.rec.repair == "" {
			rooms = append(rooms, r)
		}
	}
	c.mu.Unlock()
	var failed error
	for _, r := range rooms {
		err := c.change(ctx, r.uri, func(g *room.Room) (handshake, error) {
			leaves := strays(g, c.self.user, devices)
			if len(leaves) == 0 || targeted(g) {
				return handshake{}, errNothing
			}
			s, err := g.RemoveClients(c.rand, leaves...)
			return handshake{staged: s}, err
		})
		var refused *RefusedError
		var gone *NoRoomError
		switch {
		case err == nil, errors.Is(err, errNothing), errors.As(err, &gone):
		case room.Denied(err) != nil, errors.As(err, &refused):
			c.cfg.Logger.Info("a removed device stays in a room", "room", string(r.uri), "error", err)
		default:
			failed = errors.Join(failed, fmt.Errorf("%s: %w", r.uri, err))
		}
	}
	return failed
}

// strays are the leaves of a user's devices that nobody has proposed to remove.
func strays(g *room.Room, user mimi.UserURI, devices []mimi.ClientURI) (leaves []mls.LeafIndex) {
	for leaf, client := range g.Clients(user) {
		if !slices.Contains(devices, client) {
			continue
		}
		if !slices.ContainsFunc(g.Group().Pending(), func(p mls.ResolvedProposal) bool {
			return p.Type == mls.ProposalRemove && p.Remove.Removed == leaf
		}) {
			leaves = append(leaves, leaf)
		}
	}
	slices.Sort(leaves)
	return leaves
}

const (
	// leaveTime is how long a room's hub has to hear that the user leaves, before
	// an account is deleted; its provider tells the hub then.
	leaveTime = 15 * time.Second
	// leaveAtOnce is how many rooms are left side by side.
	leaveAtOnce = 8
)

// DeleteAccount leaves all rooms and deletes the user, with all devices. Hubs that
// don't hear that the user leaves are told by the provider.
func (c *Client) DeleteAccount(ctx context.Context, password string) error {
	if err := c.provider.CheckPassword(ctx, password); err != nil {
		return err
	}
	c.mu.Lock()
	var rooms []mimi.RoomURI
	for _, r := range c.rooms {
		if r.rec.standing == Joined {
			rooms = append(rooms, r.uri)
		}
	}
	c.mu.Unlock()
	var wg sync.WaitGroup
	slots := make(chan struct{}, leaveAtOnce)
	for _, uri := range rooms {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, leaveTime)
			defer cancel()
			if err := c.Leave(ctx, uri); err != nil {
				c.cfg.Logger.Info("a room was not left before the account is deleted", "room", string(uri), "error", err)
			}
		})
	}
	wg.Wait()
	return c.provider.DeleteAccount(ctx, password)
}

// out reports whether a device is out of a room for good, so that its provider
// need not keep the room's events for it.
func (s Standing) out() bool { return s == Left || s == Kicked }

// sayOut tells the provider that the device is out of a room (Decision 59): the
// provider can't see whose leaves a Commit removed.
func (c *Client) sayOut(ctx context.Context, r *roomState) error {
	c.mu.Lock()
	read, out := int64(r.rec.cursor), r.rec.standing.out()
	c.mu.Unlock()
	if out && read > 0 {
		if err := c.provider.LeaveRoom(ctx, r.uri, read); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.write(ctx, func(*batch) error {
		// If it comes in again the positions may begin anew.
		if r.rec.standing.out() {
			r.rec.cursor = 0
			delete(c.newest, r.uri)
		}
		return nil
	}, r)
	if err == nil {
		r.reads = false
	}
	return err
}
