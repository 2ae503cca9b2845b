package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// A NewRoom is what a room is made from.
type NewRoom struct {
	// Name is the last segment of the room's URI; empty: a random one.
	Name string
	// Title is what people call the room; empty: Name.
	Title, Subject string
	// Preset is the policy; empty: policy.Cooperative.
	Preset policy.Preset
	// Others are the other participants of a Direct room, Organizations the domains of a MultiOrganization room.
	Others        []mimi.UserURI
	Organizations []mimi.ProviderDomain
	// Change, if not nil, changes the policy before the room is made.
	Change func(*policy.Components) error
	// NoFranking makes a room without franking.
	NoFranking bool
	// SemiPrivate makes a room whose handshake messages nobody can read but its members and the hub: providers that follow it
	// learn neither who sends them nor what they say.
	SemiPrivate bool
	// Suite is the cipher suite; 0: the provider's first that this device has.
	Suite suite.ID
}

// CreateRoom makes a room that the user's provider hosts. The participants of a
// direct room are added with their devices.
func (c *Client) CreateRoom(ctx context.Context, n NewRoom) (mimi.RoomURI, error) {
	if n.Name == "" {
		n.Name = randomName(12)
	}
	if n.Title == "" {
		n.Title = n.Name
	}
	if n.Preset == "" {
		n.Preset = policy.Cooperative
	}
	hub := c.self.user.Host()
	uri, err := mimi.NewRoomURI(hub, n.Name)
	if err != nil {
		return "", err
	}
	params, err := c.createParams(ctx, uri, &n)
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	r := c.room(uri)
	c.mu.Unlock()
	if err := r.acquire(ctx); err != nil {
		return "", err
	}
	defer r.release()
	err = c.believing(ctx, func() error { return c.prepareRoom(ctx, r, params) })
	if err == nil {
		err = c.resolve(ctx, r)
	}
	if err != nil {
		return "", err
	}
	if n.Preset == policy.Direct && len(n.Others) > 0 {
		return uri, c.addClients(ctx, r, n.Others)
	}
	return uri, nil
}

func (c *Client) createParams(ctx context.Context, uri mimi.RoomURI, n *NewRoom) (*room.CreateParams, error) {
	info, err := c.Info(ctx)
	if err != nil {
		return nil, err
	}
	id := n.Suite
	if id == 0 {
		ids, err := c.suites(ctx)
		if err != nil {
			return nil, err
		}
		id = ids[0]
	}
	i := slices.IndexFunc(info.HubSenders, func(h clientapi.HubSender) bool { return suite.ID(h.Suite) == id })
	if i < 0 {
		return nil, fmt.Errorf("client: %s hosts no rooms of cipher suite %v", info.Domain, id)
	}
	group, err := mimi.NewGroupURI(uri.Host(), randomName(20))
	if err != nil {
		return nil, err
	}
	p := &room.CreateParams{
		Room: uri, GroupID: []byte(group), CipherSuite: id,
		Metadata: mimi.RoomMetaData{RoomName: n.Title, RoomSubject: n.Subject},
	}
	if err := tlspl.Unmarshal(info.HubSenders[i].ExternalSender, &p.HubSender); err != nil {
		return nil, fmt.Errorf("client: the provider's external sender can't be read: %w", err)
	}
	if !n.NoFranking && len(info.HubSenders[i].FrankingAgent) > 0 {
		p.FrankingAgent = new(mimi.FrankingAgentData)
		if err := tlspl.Unmarshal(info.HubSenders[i].FrankingAgent, p.FrankingAgent); err != nil {
			return nil, fmt.Errorf("client: the provider's franking agent can't be read: %w", err)
		}
	}
	if n.SemiPrivate {
		if len(info.HubSenders[i].ExternalReceiver) == 0 {
			return nil, fmt.Errorf("client: %s hosts no SemiPrivate rooms", info.Domain)
		}
		p.HubReceiver = new(mls.ExternalReceiver)
		if err := tlspl.Unmarshal(info.HubSenders[i].ExternalReceiver, p.HubReceiver); err != nil {
			return nil, fmt.Errorf("client: the provider's external receiver can't be read: %w", err)
		}
	}
	if p.Leaf, err = c.leaf(ctx, id); err != nil {
		return nil, err
	}
	now := c.cfg.Now()
	p.Lifetime = mls.Lifetime{NotBefore: uint64(now.Add(-time.Hour).Unix()), NotAfter: uint64(now.Add(packageLifetime).Unix())}
	p.Components, p.Participants, err = policy.Build(n.Preset, policy.Params{Hub: uri.Host(), Creator: c.self.user, Others: n.Others, Organizations: n.Organizations})
	if err != nil {
		return nil, err
	}
	if n.Change != nil {
		if err := n.Change(p.Components); err != nil {
			return nil, err
		}
		p.Components.Base.PolicyComponentIDs = p.Components.IDs()
		if err := policy.CheckComponents(p.Components, uri.Host()); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// prepareRoom makes a room and stores it, before the hub hears of it.
func (c *Client) prepareRoom(ctx context.Context, r *roomState, params *room.CreateParams) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.rec.standing != 0 && r.rec.standing != Left {
		return fmt.Errorf("client: there is a room %s already; choose another name", r.uri)
	}
	g, err := room.Create(c.rand, c.roomConfig(), *params)
	if err != nil {
		return err
	}
	info, tree, err := g.First(c.rand)
	if err != nil {
		return err
	}
	p := &pendingRecord{kind: pendingCreate}
	if p.body, err = tlspl.Marshal(&clientapi.CreateRoomRequest{GroupInfo: *info, RatchetTree: tree}); err != nil {
		return err
	}
	_, err = c.write(ctx, func(b *batch) error {
		if err := c.save(b.tx, r); err != nil {
			return err
		}
		if err := drop(b.tx, key(keyGroup, r.rec.number)); err != nil {
			return err
		}
		r.group, r.pending = g, p
		r.rec.standing, r.rec.why, r.rec.repair, r.rec.name = Outside, "", "", params.Metadata.RoomName
		return put(b.tx, key(keyPending, r.rec.number), p)
	}, r)
	return err
}

// found asks the hub to take up a room that was made here.
func (c *Client) found(ctx context.Context, r *roomState, p *pendingRecord) error {
	q := new(clientapi.CreateRoomRequest)
	if err := tlspl.Unmarshal(p.body, q); err != nil {
		return &CorruptError{keyPending, err}
	}
	resp, err := c.provider.CreateRoom(ctx, r.uri, q)
	if final(err) != "" && p.kind == pendingAgain {
		return errors.Join(err, c.lose(ctx, r, p))
	}
	if final(err) != "" {
		c.mu.Lock()
		_, e := c.write(ctx, func(b *batch) error {
			if err := drop(b.tx, key(keyGroup, r.rec.number)); err != nil {
				return err
			}
			r.group, r.rec.standing, r.rec.why = nil, Left, err.Error()
			return b.abandon(r)
		}, r)
		c.mu.Unlock()
		return errors.Join(err, e)
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	var events []Event
	if r.pending == p {
		events, err = c.write(ctx, func(b *batch) error {
			if err := b.settle(r, mimi.Millis(resp.AcceptedMillis)); err != nil {
				return err
			}
			kind := EventJoined
			if p.kind == pendingAgain {
				kind = EventRefounded
			}
			return b.raise(r, Event{Kind: kind, Time: millis(mimi.Millis(resp.AcceptedMillis))})
		}, r)
	}
	c.mu.Unlock()
	c.notify.tell(events...)
	return err
}

// RoleOf finds a role of a room by its name or number.
func roleOf(roles *policy.Roles, s string) (policy.RoleIndex, error) {
	if i, ok := roles.ByName(s); ok {
		return i, nil
	}
	var n policy.RoleIndex
	if _, err := fmt.Sscanf(s, "%d", &n); err == nil && fmt.Sprint(n) == s && roles.Defined(n) {
		return n, nil
	}
	var names []string
	for _, i := range roles.Indexes() {
		if i != policy.NoRole {
			names = append(names, roles.Name(i))
		}
	}
	return 0, fmt.Errorf("client: the room has no role %q; it has %s", s, joinWords(names))
}

// defaultRole is the role with which somebody is added who is given none: the
// lowest that this user may give and that may have devices in the room.
func defaultRole(g *room.Room, user mimi.UserURI) (policy.RoleIndex, error) {
	var first *policy.Denial
	for _, role := range g.View().Roles().Indexes() {
		if role == policy.NoRole || g.View().Roles().Banned(role) || !g.View().Roles().MayBeActive(role) {
			continue
		}
		d := g.Authorize(policy.Change{Kind: policy.Add, User: user.Identifier(), To: role})
		if d == nil {
			return role, nil
		}
		if first == nil {
			first = d
		}
	}
	if first == nil {
		return 0, errors.New("client: the room has no role to add somebody with")
	}
	return 0, first
}

// A ConsentError is a user who does not let themselves be added.
type ConsentError struct {
	User mimi.UserURI
	Room bool // they would be, but not to this room
}

func (e *ConsentError) Error() string {
	return fmt.Sprintf("client: %s has not consented to be added; ask for consent first", e.User)
}

// A KeyMaterialError is a user of whom there is no key material.
type KeyMaterialError struct {
	User   mimi.UserURI
	Status mimi.KeyMaterialUserCode
}

func (e *KeyMaterialError) Error() string {
	switch e.Status {
	case mimi.KeyMaterialUserUnknown:
		return fmt.Sprintf("client: there is no user %s", e.User)
	case mimi.KeyMaterialUserDeleted:
		return fmt.Sprintf("client: %s does not exist any more", e.User)
	case mimi.KeyMaterialNoCompatible:
		return fmt.Sprintf("client: no device of %s can take part in this room", e.User)
	}
	return fmt.Sprintf("client: no key material of %s: %s", e.User, e.Status)
}

// material claims KeyPackages of a user for a room. None is not an error if the
// user's devices can come in later: their stock was used up.
func (c *Client) material(ctx context.Context, r *roomState, user mimi.UserURI) ([]mls.KeyPackage, error) {
	c.mu.Lock()
	_, g, err := c.member(ctx, r.uri)
	var id suite.ID
	if err == nil {
		id = suiteOf(g)
	}
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return c.materialIn(ctx, r, user, id)
}

// materialIn is material for a group of a cipher suite, which may be another than the room's.
func (c *Client) materialIn(ctx context.Context, r *roomState, user mimi.UserURI, id suite.ID) ([]mls.KeyPackage, error) {
	c.mu.Lock()
	_, g, err := c.member(ctx, r.uri)
	var required mls.RequiredCapabilities
	if err == nil {
		required, err = g.View().Context().Extensions.RequiredCapabilities()
	}
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	s, err := c.signer(ctx, id)
	if err != nil {
		return nil, err
	}
	grease, err := c.grease()
	if err != nil {
		return nil, err
	}
	q := &mimi.KeyMaterialRequest{
		Protocol: mimi.MLS10, RequestingUser: c.self.user, TargetUser: user, RoomID: r.uri,
		AcceptableCiphersuites: append([]suite.ID{id}, grease...), RequiredCapabilities: required, RequesterCredential: s.rec.credential,
	}
	if err := q.Sign(c.rand, s.key); err != nil {
		return nil, err
	}
	resp, err := c.provider.KeyMaterial(ctx, user, q)
	if err != nil {
		return nil, err
	}
	switch resp.UserStatus {
	case mimi.KeyMaterialSuccess, mimi.KeyMaterialPartialSuccess, mimi.KeyMaterialNoCompatible:
	case mimi.KeyMaterialNoConsent, mimi.KeyMaterialNoConsentForThisRoom:
		return nil, &ConsentError{user, resp.UserStatus == mimi.KeyMaterialNoConsentForThisRoom}
	default:
		return nil, &KeyMaterialError{user, resp.UserStatus}
	}
	if resp.UserURI != user {
		return nil, fmt.Errorf("client: key material of %s came for %s", resp.UserURI, user)
	}
	return c.usable(ctx, r, user, resp)
}

// grease are random cipher suites that nobody has (RFC 9420 §13.5). They make
// each claim one of its own: the same octets would be answered with the same
// KeyPackages, which may have been used since, or not at all (Decision 20).
func (c *Client) grease() ([]suite.ID, error) {
	ids := make([]suite.ID, 8)
	for i := range ids {
		var err error
		if ids[i], err = mls.GREASE[suite.ID](c.rand); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// usable are the KeyPackages that can be used in the room.
func (c *Client) usable(ctx context.Context, r *roomState, user mimi.UserURI, resp *mimi.KeyMaterialResponse) ([]mls.KeyPackage, error) {
	var list []mls.KeyPackage
	later := len(resp.Clients) == 0 && resp.UserStatus != mimi.KeyMaterialNoCompatible
	for i := range resp.Clients {
		k := &resp.Clients[i]
		switch {
		case k.ClientStatus == mimi.ClientKeyMaterialExhausted:
			later = true
		case k.KeyPackage != nil:
			err := c.believing(ctx, func() error { return c.trust.Verify(&k.KeyPackage.LeafNode) })
			if err != nil {
				return nil, fmt.Errorf("client: a KeyPackage of %s: %w", k.ClientURI, err)
			}
			who, err := c.trust.Identify(&k.KeyPackage.LeafNode.Credential)
			if err != nil || who.User != user || who.Client != k.ClientURI {
				return nil, fmt.Errorf("client: a KeyPackage of %s, %s came for %s", who.User, who.Client, k.ClientURI)
			}
			c.mu.Lock()
			_, g, err := c.member(ctx, r.uri)
			if err == nil {
				if err := g.Supports(k.KeyPackage); err != nil {
					c.cfg.Logger.Info("a device can't take part in a room", "client", string(k.ClientURI), "room", string(r.uri), "error", err)
				} else {
					list = append(list, *k.KeyPackage)
				}
			}
			c.mu.Unlock()
			if err != nil {
				return nil, err
			}
		}
	}
	if len(list) == 0 && !later {
		return nil, &KeyMaterialError{user, mimi.KeyMaterialNoCompatible}
	}
	return list, nil
}

// Add makes a user a participant, with its devices. role may be empty. A user
// whose KeyPackages ran out is a participant all the same; its devices come in
// by themselves when they are next online.
func (c *Client) Add(ctx context.Context, uri mimi.RoomURI, user mimi.UserURI, role string) error {
	c.mu.Lock()
	r, g, err := c.member(ctx, uri)
	if err == nil {
		_, err = additionRole(g, user, role)
	}
	c.mu.Unlock()
	if err != nil {
		return err // no need to bother anybody
	}
	packages, err := c.material(ctx, r, user)
	if err != nil {
		return err
	}
	return c.change(ctx, uri, func(g *room.Room) (handshake, error) {
		index, err := additionRole(g, user, role)
		if err != nil {
			return handshake{}, err
		}
		s, err := g.AddUsers(c.rand, uint64(c.cfg.Now().Unix()), room.Addition{User: user, Role: index, KeyPackages: absent(g, packages, c.trust)})
		return handshake{staged: s}, err
	})
}

// addClients adds the devices of users who are participants already.
func (c *Client) addClients(ctx context.Context, r *roomState, users []mimi.UserURI) error {
	var additions []room.Addition
	for _, user := range users {
		packages, err := c.material(ctx, r, user)
		if err != nil {
			return err
		}
		if len(packages) > 0 {
			additions = append(additions, room.Addition{User: user, KeyPackages: packages})
		}
	}
	if len(additions) == 0 {
		return nil
	}
	return c.changeHeld(ctx, r, func(g *room.Room) (handshake, error) {
		s, err := g.AddUsers(c.rand, uint64(c.cfg.Now().Unix()), additions...)
		return handshake{staged: s}, err
	})
}

// absent are the KeyPackages of clients that are not in the room yet.
func absent(g *room.Room, packages []mls.KeyPackage, t *trust) []mls.KeyPackage {
	var list []mls.KeyPackage
	for i := range packages {
		who, err := t.Identify(&packages[i].LeafNode.Credential)
		if err != nil {
			continue
		}
		there := false
		for _, client := range g.Clients(who.User) {
			there = there || client == who.Client
		}
		if !there {
			list = append(list, packages[i])
		}
	}
	return list
}

func additionRole(g *room.Room, user mimi.UserURI, role string) (policy.RoleIndex, error) {
	if index, listed := g.View().RoleOf(user.Identifier()); listed {
		return index, nil
	}
	if role == "" {
		return defaultRole(g, user)
	}
	index, err := roleOf(g.View().Roles(), role)
	if err != nil {
		return 0, err
	}
	if d := g.Authorize(policy.Change{Kind: policy.Add, User: user.Identifier(), To: index}); d != nil {
		return 0, d
	}
	return index, nil
}

func (c *Client) commit(ctx context.Context, uri mimi.RoomURI, f func(*room.Room) (*room.Staged, error)) error {
	return c.change(ctx, uri, func(g *room.Room) (handshake, error) {
		s, err := f(g)
		return handshake{staged: s}, err
	})
}

// Remove takes users off the participant list, with their devices.
func (c *Client) Remove(ctx context.Context, uri mimi.RoomURI, users ...mimi.UserURI) error {
	return c.commit(ctx, uri, func(g *room.Room) (*room.Staged, error) { return g.RemoveUsers(c.rand, users...) })
}

// Kick takes the devices of a user out; it stays a participant.
func (c *Client) Kick(ctx context.Context, uri mimi.RoomURI, user mimi.UserURI) error {
	return c.commit(ctx, uri, func(g *room.Room) (*room.Staged, error) { return g.Kick(c.rand, user) })
}

// Ban bans users, who need not be participants.
func (c *Client) Ban(ctx context.Context, uri mimi.RoomURI, users ...mimi.UserURI) error {
	return c.commit(ctx, uri, func(g *room.Room) (*room.Staged, error) { return g.Ban(c.rand, users...) })
}

// Unban takes a banned user off the list, or gives it a role.
func (c *Client) Unban(ctx context.Context, uri mimi.RoomURI, user mimi.UserURI, role string) error {
	return c.commit(ctx, uri, func(g *room.Room) (*room.Staged, error) {
		if now, _ := g.View().RoleOf(user.Identifier()); !g.View().Roles().Banned(now) {
			return nil, fmt.Errorf("client: %s is not banned", user)
		}
		if role == "" {
			return g.RemoveUsers(c.rand, user)
		}
		index, err := roleOf(g.View().Roles(), role)
		if err != nil {
			return nil, err
		}
		return g.ChangeRole(c.rand, index, user)
	})
}

// ChangeRole gives a user another role.
func (c *Client) ChangeRole(ctx context.Context, uri mimi.RoomURI, user mimi.UserURI, role string) error {
	return c.commit(ctx, uri, func(g *room.Room) (*room.Staged, error) {
		index, err := roleOf(g.View().Roles(), role)
		if err != nil {
			return nil, err
		}
		return g.ChangeRole(c.rand, index, user)
	})
}

// ChangeOwnRole takes the role for which the own credential is preauthorized.
func (c *Client) ChangeOwnRole(ctx context.Context, uri mimi.RoomURI) error {
	return c.commit(ctx, uri, func(g *room.Room) (*room.Staged, error) { return g.ChangeOwnRole(c.rand) })
}

// SetMetadata changes the room's metadata.
func (c *Client) SetMetadata(ctx context.Context, uri mimi.RoomURI, change func(*mimi.RoomMetaData)) error {
	return c.commit(ctx, uri, func(g *room.Room) (*room.Staged, error) {
		next := *g.View().Metadata()
		change(&next)
		return g.SetMetadata(c.rand, next)
	})
}

// SetComponents replaces components of the room's policy. change is given the
// present room, and may be called again for another state of it.
func (c *Client) SetComponents(ctx context.Context, uri mimi.RoomURI, change func(*room.View) ([]room.Component, error)) error {
	return c.commit(ctx, uri, func(g *room.Room) (*room.Staged, error) {
		list, err := change(g.View())
		if err != nil {
			return nil, err
		}
		return g.SetComponents(c.rand, list...)
	})
}

// RemoveComponent removes an optional component of the room's policy.
func (c *Client) RemoveComponent(ctx context.Context, uri mimi.RoomURI, id mls.ComponentID) error {
	return c.commit(ctx, uri, func(g *room.Room) (*room.Staged, error) { return g.RemoveComponent(c.rand, id) })
}

// ChangeJoinLinks withdraws join links and adds others.
func (c *Client) ChangeJoinLinks(ctx context.Context, uri mimi.RoomURI, remove, add []mimi.JoinLink) error {
	return c.commit(ctx, uri, func(g *room.Room) (*room.Staged, error) { return g.ChangeJoinLinks(c.rand, remove, add) })
}

// Commit commits what others proposed. Run does it by itself.
func (c *Client) Commit(ctx context.Context, uri mimi.RoomURI) error {
	return c.commit(ctx, uri, func(g *room.Room) (*room.Staged, error) { return g.Commit(c.rand, 0) })
}

// Leave makes the user leave a room, with all its devices. It is out when
// another member has committed that; nothing is sent or shown from now on.
func (c *Client) Leave(ctx context.Context, uri mimi.RoomURI) error {
	return c.change(ctx, uri, func(g *room.Room) (handshake, error) {
		p, err := g.Leave(c.rand)
		return handshake{proposed: p}, err
	})
}

// Forget drops a room that the device is out of, with its messages.
func (c *Client) Forget(ctx context.Context, uri mimi.RoomURI) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rooms[uri]
	if r == nil {
		return &NoRoomError{Room: uri}
	}
	if r.rec.standing == Joined {
		return fmt.Errorf("client: this device is in %s; leave it first", uri)
	}
	err := c.store.Update(ctx, func(tx Tx) error {
		for _, kind := range []byte{keyGroup, keyPending, keyMessage, keyIndex, keyFrank, keyGeneration, keyOutbox, keyNotice, keyOwn} {
			if err := drop(tx, key(kind, r.rec.number)); err != nil {
				return err
			}
		}
		return tx.Delete(roomKey(uri))
	})
	if err == nil {
		delete(c.rooms, uri)
	} else {
		c.forget(ctx, r)
	}
	return err
}

// A Participant is a user on a room's participant list.
type Participant struct {
	User     mimi.IdentifierURI `json:"user"`
	Role     string             `json:"role"`
	Index    policy.RoleIndex   `json:"role_index"`
	Clients  []mimi.ClientURI   `json:"clients"`
	Own      bool               `json:"own,omitempty"`
	Enforcer bool               `json:"enforcer,omitempty"` // the hub itself, when it enforces policy
}

// A Room is where the device stands in a room.
type Room struct {
	URI      mimi.RoomURI `json:"room"`
	Name     string       `json:"name,omitempty"`
	Subject  string       `json:"subject,omitempty"`
	Standing Standing     `json:"standing"`
	Why      string       `json:"why,omitempty"`
	Repair   string       `json:"repair,omitempty"` // why the device comes in anew
	Epoch    mls.Epoch    `json:"epoch"`
	Role     string       `json:"role,omitempty"` // of this user
	Suite    string       `json:"suite,omitempty"`
	// Authenticator is the MLS epoch authenticator, in hexadecimal: devices in the same epoch of the same group have the same.
	Authenticator string `json:"epoch_authenticator,omitempty"`
	Participants  int    `json:"participants"`
	Clients       int    `json:"clients"`
	Unread        int    `json:"unread"`
	Outbox        int    `json:"outbox"`
	Pending       int    `json:"pending"` // proposals that wait for a commit
	Cursor        uint64 `json:"cursor"`
	Franked       bool   `json:"franking"`
	// SemiPrivate says that handshake messages can be read by members and the hub only.
	SemiPrivate bool `json:"semi_private,omitempty"`
}

// Rooms lists the rooms that the device knows, by URI.
func (c *Client) Rooms(ctx context.Context) ([]Room, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []Room
	for _, r := range c.rooms {
		if r.rec.standing == 0 {
			continue
		}
		v, err := c.summary(ctx, r)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b Room) int {
		if a.URI < b.URI {
			return -1
		}
		return 1
	})
	return list, nil
}

// Room says where the device stands in a room.
func (c *Client) Room(ctx context.Context, uri mimi.RoomURI) (Room, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rooms[uri]
	if r == nil {
		return Room{}, &NoRoomError{Room: uri}
	}
	return c.summary(ctx, r)
}

func (c *Client) summary(ctx context.Context, r *roomState) (Room, error) {
	v := Room{URI: r.uri, Name: r.rec.name, Standing: r.rec.standing, Why: r.rec.why, Repair: r.rec.repair, Outbox: r.outbox, Cursor: r.rec.cursor}
	g, err := c.held(ctx, r)
	if err != nil {
		return v, err
	}
	if r.saved {
		err = c.store.View(ctx, func(tx Tx) error {
			return tx.Scan(key(keyMessage, r.rec.number), r.rec.shown, func([]byte, []byte) (bool, error) {
				v.Unread++
				return true, nil
			})
		})
	}
	if g == nil || err != nil {
		return v, err
	}
	view := g.View()
	v.Name, v.Subject, v.Epoch, v.Role, v.Suite = view.Metadata().RoomName, view.Metadata().RoomSubject, view.Epoch(), view.Roles().Name(g.Role()), suiteOf(g).String()
	v.Authenticator = authenticator(g)
	v.Pending, v.Franked = len(g.Group().Pending()), view.FrankingAgent() != nil
	v.SemiPrivate = view.SemiPrivate()
	for _, p := range view.Participants() {
		if user, ok := p.User.User(); ok {
			v.Participants++
			v.Clients += len(g.Clients(user))
		}
	}
	return v, nil
}

// Members lists the participants of a room with their devices, in the order of
// the participant list.
func (c *Client) Members(ctx context.Context, uri mimi.RoomURI) ([]Participant, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, g, err := c.member(ctx, uri)
	if err != nil {
		return nil, err
	}
	var list []Participant
	for _, p := range g.View().Participants() {
		m := Participant{User: p.User, Role: g.View().Roles().Name(p.RoleIndex), Index: p.RoleIndex, Own: p.User == c.self.user.Identifier(), Clients: []mimi.ClientURI{}}
		if user, ok := p.User.User(); ok {
			for _, client := range g.Clients(user) {
				m.Clients = append(m.Clients, client)
			}
			slices.Sort(m.Clients)
		} else {
			m.Enforcer = true
		}
		list = append(list, m)
	}
	return list, nil
}

// Inspect runs f on the room as it is, which f must not change.
func (c *Client) Inspect(ctx context.Context, uri mimi.RoomURI, f func(*room.Room) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, g, err := c.member(ctx, uri)
	if err != nil {
		return err
	}
	return f(g)
}
