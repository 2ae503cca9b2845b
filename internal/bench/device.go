package bench

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// believing is a room.Verifier that believes every credential: what is measured
// are the providers, which don't.
type believing struct{}

func (believing) Identify(c *mls.Credential) (room.Identity, error) {
	user, client, err := identity.Names(c)
	return room.Identity{User: user, Client: client}, err
}

func (believing) Verify(*mls.LeafNode) error { return nil }

func (believing) Provider(c *mls.Credential) (mimi.ProviderDomain, error) { return identity.HubName(c) }

var roomConfig = room.Config{Verifier: believing{}}

// cipherSuite is the one of all rooms here.
const cipherSuite = suite.ID(1)

func lifetime() mls.Lifetime {
	now := time.Now()
	return mls.Lifetime{NotBefore: uint64(now.Add(-time.Hour).Unix()), NotAfter: uint64(now.Add(30 * 24 * time.Hour).Unix())}
}

func newSigner() (*suite.Signer, error) {
	s, ok := suite.Lookup(cipherSuite)
	if !ok {
		return nil, mls.ErrCipherSuite
	}
	return s.GenerateSigner(rand.Reader)
}

// A member is a client's MLS state in its rooms, wherever it is a user of.
type member struct {
	user   mimi.UserURI
	signer *suite.Signer
	leaf   mls.LeafOptions

	group sync.Mutex // what is done with a room's group; before mu
	mu    sync.Mutex
	keys  map[string]*mls.KeyPackageSecrets // by KeyPackageRef
	rooms map[mimi.RoomURI]*room.Room
	came  chan struct{} // closed and replaced when a room is joined
}

func newMember(user mimi.UserURI, signer *suite.Signer, credential mls.Credential) (*member, error) {
	leaf, err := room.Leaf(credential, signer)
	return &member{user: user, signer: signer, leaf: leaf, keys: map[string]*mls.KeyPackageSecrets{}, rooms: map[mimi.RoomURI]*room.Room{}, came: make(chan struct{})}, err
}

// keyPackages makes n of them.
func (m *member) keyPackages(n int) ([]mls.KeyPackage, error) {
	list := make([]mls.KeyPackage, n)
	for i := range list {
		k, err := mls.NewKeyPackage(rand.Reader, mls.KeyPackageOptions{CipherSuite: cipherSuite, Leaf: m.leaf, Lifetime: lifetime()})
		if err != nil {
			return nil, err
		}
		ref, err := k.KeyPackage.Ref()
		if err != nil {
			return nil, err
		}
		list[i] = k.KeyPackage
		m.mu.Lock()
		m.keys[string(ref)] = k
		m.mu.Unlock()
	}
	return list, nil
}

// welcomed joins a room if a Welcome is for this client.
func (m *member) welcomed(uri mimi.RoomURI, f *mimi.FanoutMessage) error {
	w := f.Message.Welcome
	if w == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rooms[uri] != nil {
		return nil
	}
	for i := range w.Secrets {
		k := m.keys[string(w.Secrets[i].NewMember)]
		if k == nil {
			continue
		}
		r, err := room.JoinWelcome(roomConfig, uri, w, k, f.RatchetTreeOption, nil)
		if err != nil {
			return fmt.Errorf("bench: %s can't join %s: %w", m.user, uri, err)
		}
		m.enter(uri, r)
		return nil
	}
	return nil
}

// enter takes up a room; m.mu is held.
func (m *member) enter(uri mimi.RoomURI, r *room.Room) {
	m.rooms[uri] = r
	close(m.came)
	m.came = make(chan struct{})
}

// room waits until the member is in a room.
func (m *member) room(ctx context.Context, uri mimi.RoomURI) (*room.Room, error) {
	for {
		m.mu.Lock()
		r, came := m.rooms[uri], m.came
		m.mu.Unlock()
		if r != nil {
			return r, nil
		}
		select {
		case <-came:
		case <-ctx.Done():
			return nil, fmt.Errorf("bench: %s does not get into %s: %w", m.user, uri, ctx.Err())
		}
	}
}

// encrypt makes a submit request of a message with size octets of application
// data, the first eight of which are the time.
func (m *member) encrypt(uri mimi.RoomURI, size int) (*mimi.SubmitMessageRequest, error) {
	m.group.Lock()
	defer m.group.Unlock()
	m.mu.Lock()
	r := m.rooms[uri]
	m.mu.Unlock()
	if r == nil {
		return nil, fmt.Errorf("bench: %s is not in %s", m.user, uri)
	}
	data := make([]byte, max(size, 8))
	binary.BigEndian.PutUint64(data, uint64(time.Now().UnixNano()))
	var tag []byte
	if r.View().FrankingAgent() != nil {
		t := mimi.NewFrankingTag(data[:8], data)
		tag = t[:]
	}
	message, err := r.Encrypt(rand.Reader, data, tag)
	if err != nil {
		return nil, err
	}
	return &mimi.SubmitMessageRequest{Protocol: mimi.MLS10, AppMessage: *message, SendingURI: m.user}, nil
}

// A device is a client of a provider, with a connection for its events.
type device struct {
	*member
	name   string
	api    *clientapi.Client
	conn   *clientapi.Connection
	failed atomic.Pointer[error]

	count   *counter
	decrypt *atomic.Bool // whether messages are decrypted or only counted
}

// connect registers a user's device and opens its connection.
func connect(ctx context.Context, api *clientapi.Client, name, invite string, packages int, count *counter, decrypt *atomic.Bool) (*device, error) {
	s, err := api.Register(ctx, clientapi.Login{User: name, Password: "correct horse battery", Device: "load", Invite: invite})
	if err != nil {
		return nil, err
	}
	api = api.WithToken(s.Token)
	signer, err := newSigner()
	if err != nil {
		return nil, err
	}
	q, err := identity.NewCertificateRequest(rand.Reader, signer, s.User, s.Client)
	if err != nil {
		return nil, err
	}
	credential, err := api.Certify(ctx, q)
	if err != nil {
		return nil, err
	}
	m, err := newMember(s.User, signer, *credential)
	if err != nil {
		return nil, err
	}
	if packages > 0 {
		list, err := m.keyPackages(packages)
		if err != nil {
			return nil, err
		}
		if _, err := api.AddKeyPackages(ctx, list); err != nil {
			return nil, err
		}
	}
	d := &device{member: m, name: name, api: api, count: count, decrypt: decrypt}
	if d.conn, err = api.Connect(ctx); err != nil {
		return nil, err
	}
	return d, nil
}

// receive takes events until the connection ends.
func (d *device) receive(ctx context.Context) {
	for {
		list, err := d.conn.Next(ctx)
		if err != nil {
			d.failed.Store(&err)
			return
		}
		now := time.Now()
		last := map[mimi.RoomURI]int64{}
		for i := range list {
			e := &list[i]
			if e.Invited {
				continue
			}
			last[e.Room] = e.Seq
			if err := d.take(e, now); err != nil {
				d.failed.Store(&err)
				return
			}
		}
		for uri, seq := range last {
			if err := d.conn.Ack(ctx, uri, seq); err != nil {
				d.failed.Store(&err)
				return
			}
		}
	}
}

func (d *device) take(e *clientapi.Event, now time.Time) error {
	d.mu.Lock()
	r := d.rooms[e.Room]
	d.mu.Unlock()
	if r != nil && !d.decrypt.Load() {
		d.count.add(1)
		return nil
	}
	var f mimi.FanoutMessage
	if err := tlspl.Unmarshal(e.Fanout, &f); err != nil {
		return err
	}
	switch {
	case r == nil:
		return d.welcomed(e.Room, &f)
	case f.Kind() != mimi.FanoutApplication:
		return nil
	}
	d.group.Lock()
	got, err := r.Decrypt(&f.Message)
	d.group.Unlock()
	if err != nil {
		return nil // its own
	}
	d.count.took(time.Since(time.Unix(0, int64(binary.BigEndian.Uint64(got.Data)))))
	d.count.add(1)
	return nil
}

// create founds a room.
func (d *device) create(ctx context.Context, uri mimi.RoomURI) error {
	info, err := d.api.Info(ctx)
	if err != nil {
		return err
	}
	group, err := mimi.NewGroupURI(uri.Host(), rand.Text())
	if err != nil {
		return err
	}
	p := room.CreateParams{Room: uri, GroupID: []byte(group), CipherSuite: cipherSuite, Metadata: mimi.RoomMetaData{RoomName: "load"}, Leaf: d.leaf, Lifetime: lifetime()}
	for _, h := range info.HubSenders {
		if suite.ID(h.Suite) != cipherSuite {
			continue
		}
		if err := tlspl.Unmarshal(h.ExternalSender, &p.HubSender); err != nil {
			return err
		}
		p.FrankingAgent = new(mimi.FrankingAgentData)
		if err := tlspl.Unmarshal(h.FrankingAgent, p.FrankingAgent); err != nil {
			return err
		}
	}
	if p.Components, p.Participants, err = policy.Build(policy.Cooperative, policy.Params{Hub: uri.Host(), Creator: d.user}); err != nil {
		return err
	}
	r, err := room.Create(rand.Reader, roomConfig, p)
	if err != nil {
		return err
	}
	first, tree, err := r.First(rand.Reader)
	if err != nil {
		return err
	}
	if _, err := d.api.CreateRoom(ctx, uri, &clientapi.CreateRoomRequest{GroupInfo: *first, RatchetTree: tree}); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.enter(uri, r)
	return nil
}

// claim gets one KeyPackage of each device of a user.
func (d *device) claim(ctx context.Context, uri mimi.RoomURI, r *room.Room, user mimi.UserURI) ([]mls.KeyPackage, error) {
	required, err := r.View().Context().Extensions.RequiredCapabilities()
	if err != nil {
		return nil, err
	}
	q := &mimi.KeyMaterialRequest{Protocol: mimi.MLS10, RequestingUser: d.user, TargetUser: user, RoomID: uri,
		AcceptableCiphersuites: []suite.ID{cipherSuite}, RequiredCapabilities: required, RequesterCredential: d.leaf.Credential}
	if err := q.Sign(rand.Reader, d.signer); err != nil {
		return nil, err
	}
	resp, err := d.api.KeyMaterial(ctx, user, q)
	if err != nil {
		return nil, err
	}
	var list []mls.KeyPackage
	for i := range resp.Clients {
		if k := resp.Clients[i].KeyPackage; k != nil {
			list = append(list, *k)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("bench: no KeyPackage of %s: %s", user, resp.UserStatus)
	}
	return list, nil
}

// role is the one that rooms' members get.
func role(r *room.Room) (policy.RoleIndex, error) {
	for _, i := range r.View().Roles().Indexes() {
		if i == policy.NoRole || r.View().Roles().Banned(i) || !r.View().Roles().MayBeActive(i) || !r.View().Roles().MaySubmit(i) {
			continue
		}
		return i, nil
	}
	return 0, fmt.Errorf("bench: the room has no role for members")
}

// commit sends a handshake and merges it.
func (d *device) commit(ctx context.Context, uri mimi.RoomURI, r *room.Room, s *room.Staged) error {
	resp, err := d.api.Update(ctx, uri, &mimi.UpdateRequest{Bundle: *s.Bundle()})
	if err != nil {
		return err
	}
	if resp.ResponseCode != mimi.UpdateSuccess {
		return fmt.Errorf("bench: the hub refused a commit: %s: %s", resp.ResponseCode, resp.ErrorDescription)
	}
	return r.Merge(s)
}

// add brings users into a room: those of whom no KeyPackages are given are asked
// for.
func (d *device) add(ctx context.Context, uri mimi.RoomURI, users []mimi.UserURI, given map[mimi.UserURI][]mls.KeyPackage) error {
	r, err := d.room(ctx, uri)
	if err != nil {
		return err
	}
	as, err := role(r)
	if err != nil {
		return err
	}
	var additions []room.Addition
	for _, u := range users {
		list := given[u]
		if list == nil {
			if list, err = d.claim(ctx, uri, r, u); err != nil {
				return err
			}
		}
		additions = append(additions, room.Addition{User: u, Role: as, KeyPackages: list})
	}
	d.group.Lock()
	defer d.group.Unlock()
	s, err := r.AddUsers(rand.Reader, uint64(time.Now().Unix()), additions...)
	if err != nil {
		return err
	}
	return d.commit(ctx, uri, r, s)
}
