// Package keymaterial keeps the KeyPackages of a provider's clients and gives
// each out once (MIMI protocol §5.2).
package keymaterial

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/provider/consent"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/tlspl"
)

const (
	// leastLifetime is how long a KeyPackage must still be valid to be given
	// out. Decision 18
	leastLifetime = time.Hour
	// repeatWithin is for how long the same request gets the same answer, and
	// rememberFor for how long it is refused after that. Decision 20
	repeatWithin = 10 * time.Minute
	rememberFor  = 24 * time.Hour
	// consider is how many KeyPackages of a client are looked at for one that
	// fits the request.
	consider = 32
	// uploadAtOnce bounds one upload.
	uploadAtOnce = 500
)

// Verifier says whose a credential is; the error says why it is nobody's. It
// may ask another provider for its issuers.
type Verifier interface {
	VerifyLeaf(ctx context.Context, leaf *mls.LeafNode) (user mimi.UserURI, client mimi.ClientURI, err error)
	VerifyKey(ctx context.Context, credential *mls.Credential, signatureKey []byte) (user mimi.UserURI, client mimi.ClientURI, err error)
}

// A Config configures Keys.
type Config struct {
	Domain   mimi.ProviderDomain
	Store    *store.Store
	Now      func() time.Time
	Verifier Verifier
	Consents *consent.Consents
	// Floor and Ceiling bound the stock of a client: it refills to the ceiling
	// when it has less than the floor.
	Floor, Ceiling int
	// PerRequester is how many KeyPackages of one user one requester may have
	// in an hour, and PerProvider how many all requesters of one provider may.
	PerRequester, PerProvider int
}

// Keys are the KeyPackages of one provider's clients. Safe for concurrent use.
type Keys struct {
	cfg      Config
	limit    *limiter // by requester and target
	provider *limiter // by the requester's provider and target
}

// New returns the KeyPackages of a provider.
func New(cfg Config) *Keys {
	return &Keys{cfg: cfg, limit: newLimiter(cfg.PerRequester, time.Hour, cfg.Now), provider: newLimiter(cfg.PerProvider, time.Hour, cfg.Now)}
}

// Add puts KeyPackages of a client into its stock.
func (k *Keys) Add(ctx context.Context, d clientapi.Device, list []mls.KeyPackage) (clientapi.Stock, error) {
	if len(list) > uploadAtOnce {
		return clientapi.Stock{}, clientapi.Errorf(clientapi.CodeTooLarge, "%d KeyPackages at once; at most %d are taken", len(list), uploadAtOnce)
	}
	now := k.cfg.Now()
	rows := make([]store.KeyPackage, 0, len(list))
	for i := range list {
		row, err := k.check(ctx, d, &list[i], now)
		if err != nil {
			return clientapi.Stock{}, clientapi.Errorf(clientapi.CodeBadRequest, "KeyPackage %d of %d: %v", i+1, len(list), err)
		}
		rows = append(rows, row)
	}
	var left int64
	err := k.cfg.Store.Update(ctx, func(tx *store.Tx) (err error) {
		if left, err = tx.CountKeyPackages(string(d.Client), now.Unix()); err != nil {
			return err
		}
		if left+int64(len(rows)) > int64(2*k.cfg.Ceiling) {
			return clientapi.Errorf(clientapi.CodeTooLarge, "%d KeyPackages are in stock; with %d more there would be over %d", left, len(rows), 2*k.cfg.Ceiling)
		}
		for _, row := range rows {
			if err := tx.AddKeyPackage(row); errors.Is(err, store.ErrConflict) {
				return clientapi.Errorf(clientapi.CodeConflict, "a KeyPackage was uploaded before; each is used once")
			} else if err != nil {
				return err
			}
		}
		left += int64(len(rows))
		return nil
	})
	return clientapi.Stock{Left: left, Floor: k.cfg.Floor, Ceiling: k.cfg.Ceiling}, err
}

func (k *Keys) check(ctx context.Context, d clientapi.Device, kp *mls.KeyPackage, now time.Time) (row store.KeyPackage, err error) {
	if err := kp.Verify(uint64(now.Unix())); err != nil {
		return row, err
	}
	user, client, err := k.cfg.Verifier.VerifyLeaf(ctx, &kp.LeafNode)
	if err != nil {
		return row, err
	}
	if user != d.User || client != d.Client {
		return row, fmt.Errorf("its credential is of %s, %s, not of %s, %s", user, client, d.User, d.Client)
	}
	if kp.IsLastResort() {
		return row, errors.New("it is a last-resort KeyPackage, which MIMI doesn't give out (Decision 19)")
	}
	ref, err := kp.Ref()
	if err != nil {
		return row, err
	}
	body, err := tlspl.Marshal(kp)
	return store.KeyPackage{Ref: ref, Client: string(d.Client), Suite: uint16(kp.CipherSuite), NotAfterSeconds: int64(min(kp.LeafNode.Lifetime.NotAfter, 1<<62)), Body: body}, err
}

// Stock tells how many KeyPackages of a client are left.
func (k *Keys) Stock(ctx context.Context, d clientapi.Device) (clientapi.Stock, error) {
	s := clientapi.Stock{Floor: k.cfg.Floor, Ceiling: k.cfg.Ceiling}
	err := k.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
		s.Left, err = tx.CountKeyPackages(string(d.Client), k.cfg.Now().Add(leastLifetime).Unix())
		return err
	})
	return s, err
}

// Claim answers a request for the key material of a user of ours (MIMI protocol
// §5.2). from is the requester's provider or the hub of the room.
func (k *Keys) Claim(ctx context.Context, from mimi.ProviderDomain, target mimi.UserURI, req *mimi.KeyMaterialRequest) (*mimi.KeyMaterialResponse, error) {
	answer := func(code mimi.KeyMaterialUserCode) (*mimi.KeyMaterialResponse, error) {
		return &mimi.KeyMaterialResponse{Protocol: mimi.MLS10, UserStatus: code, UserURI: target}, nil
	}
	if target.Host() != k.cfg.Domain {
		return nil, &mimi.RefusedError{Refusal: mimi.RefusedNotFound, Reason: fmt.Sprintf("%s is not a user of %s", target, k.cfg.Domain)}
	}
	if req.TargetUser != target {
		return nil, &mimi.MalformedError{Err: fmt.Errorf("targetUser is %s, the path says %s", req.TargetUser, target)}
	}
	if req.Protocol != mimi.MLS10 {
		return answer(mimi.KeyMaterialIncompatibleProtocol)
	}
	// Decision 13
	if from != req.RequestingUser.Host() && (req.RoomID == "" || from != req.RoomID.Host()) {
		return nil, &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: fmt.Sprintf("%s is neither the provider of %s nor the hub of the room", from, req.RequestingUser)}
	}
	if err := req.Verify(); err != nil {
		return nil, &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: "the signature is not valid: " + err.Error()}
	}
	// Before a third provider is asked for its issuers: nobody sends us there.
	if user, _, err := identity.Names(&req.RequesterCredential); err != nil {
		return nil, &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: "the requester's credential names nobody: " + err.Error()}
	} else if user != req.RequestingUser {
		return nil, &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: fmt.Sprintf("the credential is of %s, not of %s", user, req.RequestingUser)}
	}
	_, _, err := k.cfg.Verifier.VerifyKey(ctx, &req.RequesterCredential, req.RequesterSignatureKey)
	if unknown(err) {
		return nil, err
	}
	if err != nil {
		return nil, &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: "the requester's credential is not valid: " + err.Error()}
	}
	digest, err := req.Digest()
	if err != nil {
		return nil, err
	}
	digest = sha256.Sum256(append([]byte("keyMaterial"), digest[:]...))
	var resp *mimi.KeyMaterialResponse
	err = k.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		resp, err = k.claim(tx, digest, target, req)
		return err
	})
	return resp, err
}

func (k *Keys) claim(tx *store.Tx, digest [32]byte, target mimi.UserURI, req *mimi.KeyMaterialRequest) (*mimi.KeyMaterialResponse, error) {
	now := k.cfg.Now()
	// Decision 20
	if stored, created, err := tx.Answer(digest); err == nil {
		if age := now.Sub(time.UnixMilli(created)); age > repeatWithin {
			return nil, &mimi.RefusedError{Refusal: mimi.RefusedTooMany, Reason: "this request was answered before", RetryAfter: rememberFor - age}
		}
		resp := new(mimi.KeyMaterialResponse)
		return resp, tlspl.Unmarshal(stored, resp)
	} else if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	resp := &mimi.KeyMaterialResponse{Protocol: mimi.MLS10, UserURI: target}
	allowed, code, err := k.cfg.Consents.Allowed(tx, req.RequestingUser, target, req.RoomID)
	if err != nil {
		return nil, err
	}
	u, err := tx.User(string(target))
	switch {
	case errors.Is(err, store.ErrNotFound):
		// Only where everybody may be added is it no secret who is there.
		code, allowed = mimi.KeyMaterialUserUnknown, allowed && k.cfg.Consents.Open()
		if !allowed {
			code = mimi.KeyMaterialNoConsent
		}
		resp.UserStatus = code
		return resp, nil
	case err != nil:
		return nil, err
	case !allowed:
		resp.UserStatus = code
		return resp, nil
	case u.State != store.StateActive:
		resp.UserStatus = mimi.KeyMaterialUserDeleted
		return resp, nil
	}
	if err := k.cfg.Consents.AskedFor(tx, target, req.RoomID); err != nil {
		return nil, err
	}
	clients, err := tx.Clients(string(target))
	if err != nil {
		return nil, err
	}
	byUser := string(req.RequestingUser) + " " + string(target)
	byProvider := string(req.RequestingUser.Host()) + " " + string(target)
	if !k.limit.allow(byUser, 0) {
		return nil, &mimi.RefusedError{Refusal: mimi.RefusedTooMany, Reason: "too many KeyPackages of this user for this requester", RetryAfter: k.limit.wait(byUser)}
	}
	if !k.provider.allow(byProvider, 0) {
		return nil, &mimi.RefusedError{Refusal: mimi.RefusedTooMany, Reason: "too many KeyPackages of this user for this provider", RetryAfter: k.provider.wait(byProvider)}
	}
	given := 0
	for _, c := range clients {
		if c.State != store.StateActive {
			continue
		}
		m, err := k.claimClient(tx, c, req, now)
		if err != nil {
			return nil, err
		}
		if m.ClientStatus == mimi.ClientSuccess {
			given++
		}
		resp.Clients = append(resp.Clients, m)
	}
	switch {
	case given == 0:
		resp.UserStatus = mimi.KeyMaterialNoCompatible // Decision 17
	case given < len(resp.Clients):
		resp.UserStatus = mimi.KeyMaterialPartialSuccess
	default:
		resp.UserStatus = mimi.KeyMaterialSuccess
	}
	if slices.ContainsFunc(resp.Clients, func(m mimi.ClientKeyMaterial) bool { return m.ClientStatus == mimi.ClientKeyMaterialExhausted }) {
		if err := k.cfg.Consents.Exhausted(tx, target, req.RoomID); err != nil {
			return nil, err
		}
	}
	k.limit.allow(byUser, given)
	k.provider.allow(byProvider, given)
	if given == 0 {
		return resp, nil
	}
	b, err := tlspl.Marshal(resp)
	if err != nil {
		return nil, err
	}
	return resp, tx.PutAnswer(digest, b, now.UnixMilli())
}

// claimClient takes one KeyPackage of a client, in the first acceptable suite
// that it has.
func (k *Keys) claimClient(tx *store.Tx, c store.Client, req *mimi.KeyMaterialRequest, now time.Time) (mimi.ClientKeyMaterial, error) {
	m := mimi.ClientKeyMaterial{ClientURI: mimi.ClientURI(c.URI)}
	left, err := tx.CountKeyPackages(c.URI, now.Add(leastLifetime).Unix())
	if err != nil {
		return m, err
	}
	if left == 0 {
		m.ClientStatus = mimi.ClientKeyMaterialExhausted
		return m, nil
	}
	for i, id := range req.AcceptableCiphersuites {
		// GREASE and suites of others are passed over before anything is read.
		if _, ok := suite.Lookup(id); !ok || slices.Contains(req.AcceptableCiphersuites[:i], id) {
			continue
		}
		list, err := tx.KeyPackagesOf(c.URI, uint16(id), now.Add(leastLifetime).Unix(), consider)
		if err != nil {
			return m, err
		}
		for _, row := range list {
			kp := new(mls.KeyPackage)
			if err := tlspl.Unmarshal(row.Body, kp); err != nil {
				return m, err
			}
			if !Covers(&kp.LeafNode.Capabilities, &req.RequiredCapabilities) {
				m.ClientCapabilities = &kp.LeafNode.Capabilities
				continue
			}
			if err := tx.ClaimKeyPackage(row.Ref, string(req.RoomID), now.UnixMilli()); err != nil {
				return m, err
			}
			m.ClientStatus, m.KeyPackage, m.ClientCapabilities = mimi.ClientSuccess, kp, nil
			return m, nil
		}
	}
	m.ClientStatus = mimi.ClientNothingCompatible
	return m, nil
}

// Give takes a KeyPackage of each client of a user of ours out of the stock, to
// go with a grant of consent (Decision 69): of the first suite, in the order of
// their numbers, that the client has.
func (k *Keys) Give(ctx context.Context, user mimi.UserURI, room mimi.RoomURI, suites []suite.ID) (list []mls.KeyPackage, err error) {
	now := k.cfg.Now()
	err = k.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		list = nil
		clients, err := tx.Clients(string(user))
		if err != nil {
			return err
		}
		for _, c := range clients {
			if c.State != store.StateActive {
				continue
			}
			m, err := k.claimClient(tx, c, &mimi.KeyMaterialRequest{RoomID: room, AcceptableCiphersuites: suites}, now)
			if err != nil {
				return err
			}
			if m.KeyPackage != nil {
				list = append(list, *m.KeyPackage)
			}
		}
		return nil
	})
	return list, err
}

// Covers reports whether capabilities have all that is required; the extensions,
// proposals and credentials of RFC 9420 itself need not be listed there
// (RFC 9420 §7.2).
func Covers(have *mls.Capabilities, want *mls.RequiredCapabilities) bool {
	for _, t := range want.ExtensionTypes {
		if t > 5 && !slices.Contains(have.Extensions, t) {
			return false
		}
	}
	for _, t := range want.ProposalTypes {
		if t > 7 && !slices.Contains(have.Proposals, t) {
			return false
		}
	}
	for _, t := range want.CredentialTypes {
		if !slices.Contains(have.Credentials, t) {
			return false
		}
	}
	return true
}

// Trim forgets what expired.
func (k *Keys) Trim(ctx context.Context) error {
	now := k.cfg.Now()
	return k.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		if _, err := tx.TrimKeyPackages(now.Unix()); err != nil {
			return err
		}
		_, err := tx.TrimAnswers(now.Add(-rememberFor).UnixMilli())
		return err
	})
}

// unknown says whether a credential could not be judged, which may be another
// time.
func unknown(err error) bool {
	var failed *mimi.FailedError
	return errors.As(err, &failed) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
