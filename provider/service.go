package provider

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/provider/follower"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/tlspl"
)

var _ clientapi.Service = service{}

// Clients returns the provider as its own clients see it.
func (p *Provider) Clients() clientapi.Service { return service{p} }

// service is a Provider towards its clients. Requests for a room go to its hub
// as they are, over the same interface whether it is ours or another's.
type service struct{ p *Provider }

func (s service) Info(context.Context) (clientapi.Info, error) {
	p := s.p
	info := clientapi.Info{
		Domain: p.cfg.Domain, Registration: p.cfg.Registration,
		StockFloor: p.cfg.StockFloor, StockCeiling: p.cfg.StockCeiling, MaxAsset: p.cfg.MaxAsset, AssetDomains: p.cfg.AssetDomains,
	}
	for _, id := range p.cfg.Suites {
		sender, ok1 := p.hubKeys.Sender(id)
		agent, ok2 := p.hubKeys.Agent(id)
		receiver, ok3 := p.hubKeys.Receiver(id)
		if !ok1 || !ok2 || !ok3 {
			continue
		}
		a, err := tlspl.Marshal(&sender)
		if err != nil {
			return info, err
		}
		b, err := tlspl.Marshal(&agent)
		if err != nil {
			return info, err
		}
		c, err := tlspl.Marshal(&receiver)
		if err != nil {
			return info, err
		}
		info.Suites = append(info.Suites, uint16(id))
		info.HubSenders = append(info.HubSenders, clientapi.HubSender{Suite: uint16(id), ExternalSender: a, FrankingAgent: b, ExternalReceiver: c})
	}
	return info, nil
}

func (s service) Register(ctx context.Context, l clientapi.Login) (clientapi.Session, error) {
	return s.p.accounts.Register(ctx, l)
}

func (s service) Login(ctx context.Context, l clientapi.Login) (clientapi.Session, error) {
	session, err := s.p.accounts.Login(ctx, l)
	if err == nil {
		s.p.follower.End(session.Client) // of its session before
	}
	return session, err
}

func (s service) Authenticate(ctx context.Context, token string) (clientapi.Device, error) {
	return s.p.accounts.Authenticate(ctx, token)
}

func (s service) Devices(ctx context.Context, d clientapi.Device) ([]clientapi.DeviceInfo, error) {
	return s.p.accounts.Devices(ctx, d.User)
}

// RemoveDevice ends a device. Its rooms lose its client by a proposal of their
// hub, which is told if it is another provider; a client of the user may be faster
// (docs/rooms-and-delivery.md).
func (s service) RemoveDevice(ctx context.Context, d clientapi.Device, client mimi.ClientURI) error {
	if err := s.p.accounts.RemoveDevice(ctx, d.User, client); err != nil {
		return err
	}
	s.p.follower.End(client)
	s.p.wakeRemovals()
	return nil
}

// CheckPassword says whether it is the user's password.
func (s service) CheckPassword(ctx context.Context, d clientapi.Device, password string) error {
	return s.p.accounts.CheckPassword(ctx, d.User, password)
}

// DeleteAccount deletes a user, and takes it out of the rooms that its clients
// have not left before, by a proposal of their hubs.
func (s service) DeleteAccount(ctx context.Context, d clientapi.Device, password string) error {
	clients, err := s.p.accounts.Delete(ctx, d.User, password)
	if err != nil {
		return err
	}
	for _, c := range clients {
		s.p.follower.End(c)
	}
	s.p.wakeRemovals()
	return nil
}

// Certify issues a credential for the key of a device.
func (s service) Certify(ctx context.Context, d clientapi.Device, r *identity.CertificateRequest) (*mls.Credential, error) {
	if r.User != d.User || r.Client != d.Client {
		return nil, clientapi.Errorf(clientapi.CodeForbidden, "the request is for %s, %s; this session is of %s, %s", r.User, r.Client, d.User, d.Client)
	}
	if !slices.Contains(s.p.cfg.Suites, r.CipherSuite) {
		return nil, clientapi.Errorf(clientapi.CodeBadRequest, "cipher suite %v is not used at this provider", r.CipherSuite)
	}
	if err := r.Verify(); err != nil {
		return nil, clientapi.Errorf(clientapi.CodeBadRequest, "the request is not signed with the key that it is for: %v", err)
	}
	subject, err := s.p.accounts.Subject(ctx, d.User)
	if err != nil {
		return nil, err
	}
	now := s.p.cfg.Now()
	c, err := s.p.issuer.IssueClient(rand.Reader, r, identity.Certified{
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(s.p.cfg.CredentialLifetime), Subject: subject,
	})
	return &c, err
}

func (s service) Issuers(ctx context.Context, _ clientapi.Device, domain mimi.ProviderDomain) (clientapi.Issuers, error) {
	list, err := s.p.trust.Issuers(ctx, domain)
	if err != nil {
		return clientapi.Issuers{}, clientapi.Errorf(clientapi.CodeUnreachable, "the credential issuers of %s can't be had: %v", domain, err)
	}
	out := clientapi.Issuers{Domain: domain}
	for _, c := range list {
		out.Roots = append(out.Roots, c.Raw)
	}
	return out, nil
}

func (s service) Stock(ctx context.Context, d clientapi.Device) (clientapi.Stock, error) {
	return s.p.keys.Stock(ctx, d)
}

func (s service) AddKeyPackages(ctx context.Context, d clientapi.Device, list []mls.KeyPackage) (clientapi.Stock, error) {
	return s.p.keys.Add(ctx, d, list)
}

func (s service) CreateRoom(ctx context.Context, d clientapi.Device, room mimi.RoomURI, r *clientapi.CreateRoomRequest) (*clientapi.CreateRoomResponse, error) {
	if room.Host() != s.p.cfg.Domain {
		return nil, clientapi.Errorf(clientapi.CodeBadRequest, "rooms of yours are hosted at %s; %s is not", s.p.cfg.Domain, room)
	}
	at, err := s.p.hub.Create(ctx, d.User, d.Client, room, &r.GroupInfo, &r.RatchetTree)
	if errors.Is(err, store.ErrConflict) {
		return nil, clientapi.Errorf(clientapi.CodeConflict, "there is a room %s already; choose another name", room)
	}
	if err != nil {
		return nil, clientError(err)
	}
	return &clientapi.CreateRoomResponse{AcceptedMillis: at}, nil
}

// Rooms lists the rooms that a device reads, and those that it might: the
// user's other devices are there, or the user is listed.
func (s service) Rooms(ctx context.Context, d clientapi.Device) (list []clientapi.RoomInfo, err error) {
	err = s.p.cfg.Store.View(ctx, func(tx *store.Tx) error {
		list = nil
		own, err := tx.Memberships(string(d.Client))
		if err != nil {
			return err
		}
		for _, m := range own {
			list = append(list, clientapi.RoomInfo{Room: mimi.RoomURI(m.RoomURI), Joined: true, First: m.FirstSeq, Read: m.CursorSeq, Newest: m.LastSeq})
		}
		add := func(room string) {
			if !slices.ContainsFunc(list, func(r clientapi.RoomInfo) bool { return string(r.Room) == room }) {
				list = append(list, clientapi.RoomInfo{Room: mimi.RoomURI(room)})
			}
		}
		invited, err := tx.Invitations(string(d.User))
		if err != nil {
			return err
		}
		for _, room := range invited {
			add(room)
		}
		clients, err := tx.Clients(string(d.User))
		if err != nil {
			return err
		}
		for _, c := range clients {
			if c.State != store.StateActive || c.URI == string(d.Client) {
				continue
			}
			others, err := tx.Memberships(c.URI)
			if err != nil {
				return err
			}
			for _, m := range others {
				add(m.RoomURI)
			}
		}
		return nil
	})
	return list, err
}

// LeaveRoom ends a device's reading of a room.
func (s service) LeaveRoom(ctx context.Context, d clientapi.Device, uri mimi.RoomURI, read int64) error {
	if read == 0 {
		return s.left(ctx, d, uri, true, math.MaxInt64)
	}
	return s.left(ctx, d, uri, false, read)
}

// left ends a device's reading of a room, if that began at or before a position
// of the log; decline forgets an invitation too.
func (s service) left(ctx context.Context, d clientapi.Device, uri mimi.RoomURI, decline bool, read int64) error {
	err := s.p.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		if decline {
			if err := tx.Uninvite(string(d.User), string(uri)); err != nil {
				return err
			}
		}
		room, err := tx.Room(string(uri))
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return tx.LeaveRoom(string(d.Client), room.ID, read)
	})
	if err == nil {
		s.p.follower.Changed(d.Client)
	}
	return err
}

func (s service) Subscribe(ctx context.Context, d clientapi.Device) (clientapi.Subscription, error) {
	return s.p.follower.Subscribe(ctx, d)
}

// KeyMaterial sends a claim to the hub of its room, or without a room to the
// target's provider (Decision 13).
func (s service) KeyMaterial(ctx context.Context, d clientapi.Device, target mimi.UserURI, r *mimi.KeyMaterialRequest) (*mimi.KeyMaterialResponse, error) {
	if r.RequestingUser != d.User {
		return nil, clientapi.Errorf(clientapi.CodeForbidden, "the request is of %s; this session is of %s", r.RequestingUser, d.User)
	}
	at := target.Host()
	if r.RoomID != "" {
		at = r.RoomID.Host()
	}
	resp, err := s.p.at(at).KeyMaterial(ctx, s.p.cfg.Domain, target, r)
	return resp, clientError(err)
}

// Update sends a handshake to the room's hub. A device that joins by it begins
// to read before it is accepted, so that it misses nothing; events of before its
// time mean nothing to it.
func (s service) Update(ctx context.Context, d clientapi.Device, uri mimi.RoomURI, r *mimi.UpdateRequest) (*mimi.UpdateRoomResponse, error) {
	m := r.Bundle.ProposalOrCommit.PublicMessage
	joins := m != nil && m.Content.Sender.Type == mls.SenderNewMemberCommit ||
		r.Bundle.RatchetTreeOption.Representation == mls.RatchetTreeFull // it may found another group for the room
	fresh, first := false, int64(0)
	if joins {
		err := s.p.cfg.Store.Update(ctx, func(tx *store.Tx) error {
			room, err := s.roomOf(tx, uri)
			if err != nil {
				return err
			}
			in, err := tx.IsMember(string(d.Client), room.ID)
			if fresh = err == nil && !in; !fresh {
				return err
			}
			first, err = s.p.follower.Joining(tx, d.Client, &room)
			return err
		})
		if err != nil {
			return nil, clientError(err)
		}
		s.p.follower.Changed(d.Client)
	}
	resp, err := s.p.hubOf(uri).Update(ctx, s.p.cfg.Domain, uri, r)
	if err == nil && resp.ResponseCode == mimi.UpdateSuccess {
		if joins {
			err = s.p.cfg.Store.Update(context.WithoutCancel(ctx), func(tx *store.Tx) error { return s.p.follower.Joined(tx, d.User, uri) })
			if err != nil {
				s.p.cfg.Logger.Warn("an invitation stays although it was followed", "user", string(d.User), "room", string(uri), "error", err)
			}
		}
		return resp, nil
	}
	// It stays a reader if nobody knows whether the hub took the commit.
	if fresh && (err == nil || refusedForGood(err)) {
		// Unless it was brought in by somebody else meanwhile.
		if err := s.left(context.WithoutCancel(ctx), d, uri, false, first); err != nil {
			return nil, err
		}
	}
	return resp, clientError(err)
}

// roomOf returns the entry of a room, and makes one for a room that is hosted
// elsewhere.
func (s service) roomOf(tx *store.Tx, uri mimi.RoomURI) (store.Room, error) {
	if uri.Host() == s.p.cfg.Domain {
		room, err := tx.Room(string(uri))
		if errors.Is(err, store.ErrNotFound) {
			return room, &mimi.RefusedError{Refusal: mimi.RefusedNotFound, Reason: "there is no room " + string(uri)}
		}
		return room, err
	}
	return follower.FollowedRoom(tx, uri, s.p.cfg.Now().UnixMilli())
}

func refusedForGood(err error) bool {
	var refused *mimi.RefusedError
	var malformed *mimi.MalformedError
	return errors.As(err, &refused) || errors.As(err, &malformed)
}

func (s service) SubmitMessage(ctx context.Context, d clientapi.Device, uri mimi.RoomURI, r *mimi.SubmitMessageRequest) (*mimi.SubmitMessageResponse, error) {
	if r.SendingURI != d.User {
		return nil, clientapi.Errorf(clientapi.CodeForbidden, "the message is of %s; this session is of %s", r.SendingURI, d.User)
	}
	resp, err := s.p.hubOf(uri).SubmitMessage(ctx, s.p.cfg.Domain, uri, r)
	return resp, clientError(err)
}

func (s service) GroupInfo(ctx context.Context, d clientapi.Device, uri mimi.RoomURI, r *mimi.GroupInfoRequest) (*mimi.GroupInfoResponse, error) {
	user, client, err := identity.Names(&r.RequestingCredential)
	if err != nil || user != d.User || client != d.Client {
		return nil, clientapi.Errorf(clientapi.CodeForbidden, "the credential in the request is not of this device")
	}
	resp, err := s.p.hubOf(uri).GroupInfo(ctx, s.p.cfg.Domain, uri, r)
	if err == nil && resp.Status != mimi.GroupInfoSuccess {
		// Where a follower can't read who is listed it may have invited too many.
		err := s.p.cfg.Store.Update(context.WithoutCancel(ctx), func(tx *store.Tx) error { return tx.Uninvite(string(d.User), string(uri)) })
		if err != nil {
			s.p.cfg.Logger.Warn("an invitation stays although the hub does not know of it", "user", string(d.User), "room", string(uri), "error", err)
		}
		s.p.follower.Changed(d.Client)
	}
	return resp, clientError(err)
}

func (s service) ReportAbuse(ctx context.Context, d clientapi.Device, uri mimi.RoomURI, r *mimi.AbuseReport) error {
	if r.ReportingUser != "" && r.ReportingUser != d.User {
		return clientapi.Errorf(clientapi.CodeForbidden, "the report is of %s; this session is of %s", r.ReportingUser, d.User)
	}
	return clientError(s.p.hubOf(uri).ReportAbuse(ctx, s.p.cfg.Domain, uri, r))
}

func (s service) IdentifierQuery(ctx context.Context, d clientapi.Device, domain mimi.ProviderDomain, r *mimi.IdentifierRequest) (*mimi.IdentifierResponse, error) {
	if err := s.p.discovery.Allow(string(d.User)); err != nil {
		return nil, clientError(err)
	}
	resp, err := s.p.at(domain).IdentifierQuery(ctx, s.p.cfg.Domain, domain, r)
	return resp, clientError(err)
}

func (s service) Consents(ctx context.Context, d clientapi.Device) ([]clientapi.Consent, error) {
	return s.p.consents.List(ctx, d.User)
}

// ChangeConsent stores what a user says and tells the peer's provider.
func (s service) ChangeConsent(ctx context.Context, d clientapi.Device, c clientapi.ConsentChange) error {
	e, err := s.p.consents.Change(ctx, d.User, c)
	if err != nil {
		return err
	}
	if c.KeyPackages && e.ConsentOperation == mimi.ConsentGrant {
		if e.ClientKeyPackages, err = s.p.keys.Give(ctx, d.User, c.Room, s.p.cfg.Suites); err != nil {
			return err
		}
	}
	at := s.p.at(c.Peer.Host())
	if e.ConsentOperation.IsRequest() {
		err = at.RequestConsent(ctx, s.p.cfg.Domain, e)
	} else {
		err = at.UpdateConsent(ctx, s.p.cfg.Domain, e)
	}
	if err != nil {
		return clientapi.Errorf(clientapi.CodeUnreachable, "it is noted here, but %s could not be told: %v; say it again later", c.Peer.Host(), err)
	}
	return nil
}

// ReportConsent keeps a report of somebody who asks for consent.
func (s service) ReportConsent(ctx context.Context, d clientapi.Device, r clientapi.ConsentReport) error {
	return clientError(s.p.abuse.ReportConsent(ctx, d.User, r.Requester, r.Room, r.Note))
}

func (s service) Profile(ctx context.Context, d clientapi.Device) ([]clientapi.ProfileField, error) {
	return s.p.discovery.Profile(ctx, d.User)
}

func (s service) SetProfileField(ctx context.Context, d clientapi.Device, f clientapi.ProfileField) error {
	return s.p.discovery.Set(ctx, d.User, f)
}

func (s service) DropProfileField(ctx context.Context, d clientapi.Device, source uint8, name string) error {
	return s.p.discovery.Drop(ctx, d.User, source, name)
}

func (s service) JoinCodes(ctx context.Context, d clientapi.Device, room mimi.RoomURI) ([]clientapi.JoinCode, error) {
	list, err := s.p.hub.JoinCodes(ctx, room, d.User)
	return list, clientError(err)
}

func (s service) CreateJoinCode(ctx context.Context, d clientapi.Device, room mimi.RoomURI, c clientapi.JoinCode) (clientapi.JoinCode, error) {
	out, err := s.p.hub.CreateJoinCode(ctx, room, d.User, c)
	return out, clientError(err)
}

func (s service) RevokeJoinCode(ctx context.Context, d clientapi.Device, room mimi.RoomURI, code string) error {
	return clientError(s.p.hub.RevokeJoinCode(ctx, room, d.User, code))
}

func (s service) UploadAsset(ctx context.Context, d clientapi.Device, mediaType string, size int64, body io.Reader) (clientapi.Asset, error) {
	if s.p.cfg.Assets == nil {
		return clientapi.Asset{}, clientapi.Errorf(clientapi.CodeForbidden, "%s keeps no assets", s.p.cfg.Domain)
	}
	return s.p.cfg.Assets.Upload(ctx, d, mediaType, size, body)
}

func (s service) DownloadAsset(ctx context.Context, d clientapi.Device, room mimi.RoomURI, url string, part clientapi.Range) (io.ReadCloser, error) {
	if s.p.cfg.Assets == nil {
		return nil, clientapi.Errorf(clientapi.CodeForbidden, "%s downloads no assets", s.p.cfg.Domain)
	}
	body, err := s.p.cfg.Assets.Download(ctx, d, room, url, part)
	return body, clientError(err)
}

func (s service) GatewayKeys(ctx context.Context, _ clientapi.Device, hub mimi.ProviderDomain) ([]byte, error) {
	b, err := s.p.cfg.Peers.GatewayKeys(ctx, hub)
	return b, clientError(err)
}

func (s service) Relay(ctx context.Context, _ clientapi.Device, hub mimi.ProviderDomain, encapsulated []byte) ([]byte, error) {
	b, err := s.p.cfg.Peers.Relay(ctx, hub, encapsulated)
	return b, clientError(err)
}

// clientError turns an error of a hub into one that a client can act on.
func clientError(err error) error {
	var already *clientapi.Error
	var refused *mimi.RefusedError
	var malformed *mimi.MalformedError
	var denied *mimi.NotAllowedError
	var failed *mimi.FailedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &already):
		return already
	case errors.As(err, &refused):
		code := map[mimi.Refusal]clientapi.Code{
			mimi.RefusedForbidden: clientapi.CodeForbidden, mimi.RefusedNotFound: clientapi.CodeNotFound,
			mimi.RefusedTooLarge: clientapi.CodeTooLarge, mimi.RefusedTooMany: clientapi.CodeTooMany,
		}[refused.Refusal]
		return &clientapi.Error{Code: code, Message: refused.Reason, RetryAfter: refused.RetryAfter}
	case errors.As(err, &malformed):
		return clientapi.Errorf(clientapi.CodeBadRequest, "%v", malformed.Err)
	case errors.As(err, &denied):
		return clientapi.Errorf(clientapi.CodeForbidden, "%v", denied)
	case errors.As(err, &failed):
		return &clientapi.Error{Code: clientapi.CodeUnreachable, Message: fmt.Sprintf("the other provider can't be reached: %v", failed), RetryAfter: failed.RetryAfter}
	}
	return err
}
