package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// A Session is what a device was given when it registered or logged in, and
// where its provider is.
type Session struct {
	clientapi.Session
	URL   string
	Roots []byte // PEM of the authorities of the provider's address; empty: the system's
}

// SaveSession puts a new device into an empty store, or a new session of the
// same device into its store, which then asks for new credentials.
func SaveSession(ctx context.Context, store Store, s Session) error {
	if s.User == "" || s.Client == "" || s.Token == "" {
		return fmt.Errorf("client: the provider gave no complete session")
	}
	return store.Update(ctx, func(tx Tx) error {
		var old deviceRecord
		found, err := get(tx, []byte{keyDevice}, &old)
		if err != nil {
			return err
		}
		if found && (old.user != s.User || old.client != s.Client) {
			return fmt.Errorf("client: this is the store of %s, %s; a store belongs to one device", old.user, old.client)
		}
		if found && old.token != s.Token {
			// The provider may issue other credentials than before: one that lost all it had does.
			if err := drop(tx, []byte{keySigner}); err != nil {
				return err
			}
		}
		return put(tx, []byte{keyDevice}, &deviceRecord{user: s.User, client: s.Client, token: s.Token, url: s.URL, roots: s.Roots})
	})
}

// LoadSession returns the session in a store.
func LoadSession(ctx context.Context, store Store) (Session, error) {
	var d deviceRecord
	err := store.View(ctx, func(tx Tx) error {
		found, err := get(tx, []byte{keyDevice}, &d)
		if err == nil && !found {
			err = ErrNoDevice
		}
		return err
	})
	return Session{Session: clientapi.Session{User: d.user, Client: d.client, Token: d.token}, URL: d.url, Roots: d.roots}, err
}

// A signer is a signature key of the device with its credential.
type signer struct {
	key *suite.Signer
	rec signerRecord
}

func (c *Client) loadSigners(tx Tx) error {
	return tx.Scan([]byte{keySigner}, nil, func(k, _ []byte) (bool, error) {
		s := &signer{}
		if _, err := get(tx, k, &s.rec); err != nil {
			return false, err
		}
		if len(k) != 3 {
			return false, &CorruptError{keySigner, tlspl.ErrLength}
		}
		id := suite.ID(k[1])<<8 | suite.ID(k[2])
		of, ok := suite.Lookup(id)
		if !ok {
			return true, nil
		}
		var err error
		if s.key, err = of.NewSigner(s.rec.private); err != nil {
			return false, &CorruptError{keySigner, err}
		}
		c.signers[id] = s
		return true, nil
	})
}

// renewBefore is which part of its lifetime a credential still has when it is
// replaced: a quarter.
const renewBefore = 4

// signer returns the device's signature key for a cipher suite, with a
// credential that is valid for a while; it makes the key and asks the provider
// for the credential if need be.
func (c *Client) signer(ctx context.Context, id suite.ID) (*signer, error) {
	now := uint64(c.cfg.Now().Unix())
	c.mu.Lock()
	s := c.signers[id]
	c.mu.Unlock()
	if s != nil && (s.rec.notAfter == 0 || now+(s.rec.notAfter-s.rec.notBefore)/renewBefore < s.rec.notAfter) {
		return s, nil
	}
	of, ok := suite.Lookup(id)
	if !ok {
		return nil, mls.ErrCipherSuite
	}
	key, err := of.GenerateSigner(c.rand)
	if err != nil {
		return nil, err
	}
	q, err := identity.NewCertificateRequest(c.rand, key, c.self.user, c.self.client)
	if err != nil {
		return nil, err
	}
	credential, err := c.provider.Certify(ctx, q)
	if err != nil {
		if s != nil && now < s.rec.notAfter {
			return s, nil // it will do a while longer
		}
		return nil, err
	}
	fresh := &signer{key: key, rec: signerRecord{private: key.Bytes(), credential: *credential}}
	if credential.Type == mls.CredentialX509 && len(credential.Certificates) > 0 {
		cert, err := x509.ParseCertificate(credential.Certificates[0].CertData)
		if err != nil {
			return nil, fmt.Errorf("client: the provider issued no certificate: %w", err)
		}
		fresh.rec.notBefore, fresh.rec.notAfter = uint64(cert.NotBefore.Unix()), uint64(cert.NotAfter.Unix())
	}
	if user, client, err := identity.Names(credential); err != nil || user != c.self.user || client != c.self.client {
		return nil, fmt.Errorf("client: the provider issued a credential for %s, %s instead of %s, %s", user, client, c.self.user, c.self.client)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.signers[id]; now != s {
		return now, nil // somebody else was faster
	}
	err = c.store.Update(ctx, func(tx Tx) error {
		return put(tx, []byte{keySigner, byte(id >> 8), byte(id)}, &fresh.rec)
	})
	if err != nil {
		return nil, err
	}
	c.signers[id] = fresh
	return fresh, nil
}

// leaf is what the device says of itself in a room or KeyPackage of a suite.
func (c *Client) leaf(ctx context.Context, id suite.ID) (mls.LeafOptions, error) {
	s, err := c.signer(ctx, id)
	if err != nil {
		return mls.LeafOptions{}, err
	}
	return room.Leaf(s.rec.credential, s.key)
}

// Info returns what the provider says of itself, as of the present run.
func (c *Client) Info(ctx context.Context) (clientapi.Info, error) {
	c.mu.Lock()
	info := c.info
	c.mu.Unlock()
	if info != nil {
		return *info, nil
	}
	v, err := c.provider.Info(ctx)
	if err != nil {
		return v, err
	}
	c.mu.Lock()
	c.info = &v
	c.mu.Unlock()
	return v, nil
}

// suites are the cipher suites of the provider that the device has, best first.
func (c *Client) suites(ctx context.Context) ([]suite.ID, error) {
	info, err := c.Info(ctx)
	if err != nil {
		return nil, err
	}
	var ids []suite.ID
	for _, n := range info.Suites {
		if slices.Contains(suite.IDs(), suite.ID(n)) {
			ids = append(ids, suite.ID(n))
		}
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("client: the provider offers the cipher suites %v, of which this device has none", info.Suites)
	}
	return ids, nil
}

// renewLeaves brings the device's present credential into the rooms whose leaf has an older one, before that expires.
func (c *Client) renewLeaves(ctx context.Context) error {
	c.mu.Lock()
	ids := slices.Sorted(maps.Keys(c.signers))
	c.mu.Unlock()
	current := map[suite.ID]*signer{}
	for _, id := range ids {
		s, err := c.signer(ctx, id)
		if err != nil {
			return err
		}
		digest, err := s.digest()
		if err != nil {
			return err
		}
		var done []byte
		err = c.store.View(ctx, func(tx Tx) (err error) {
			done, err = tx.Get(renewedKey(id))
			return err
		})
		if err != nil {
			return err
		}
		if !bytes.Equal(done, digest) {
			current[id] = s
		}
	}
	if len(current) == 0 {
		return nil
	}
	c.mu.Lock()
	uris := slices.Sorted(maps.Keys(c.rooms))
	c.mu.Unlock()
	var failed error
	for _, uri := range uris {
		if err := c.renewLeaf(ctx, uri, current); err != nil {
			if ctx.Err() != nil {
				return err
			}
			failed = errors.Join(failed, fmt.Errorf("the new credential in %s: %w", uri, err))
		}
	}
	if failed != nil {
		return failed
	}
	return c.store.Update(ctx, func(tx Tx) error {
		for id, s := range current {
			digest, err := s.digest()
			if err != nil {
				return err
			}
			if err := tx.Put(renewedKey(id), digest); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *Client) renewLeaf(ctx context.Context, uri mimi.RoomURI, current map[suite.ID]*signer) error {
	old := func(g *room.Room) *signer {
		s := current[suiteOf(g)]
		if s == nil || !g.Active() || g.Group().Tree().Leaf(g.Group().OwnLeaf()).Credential.Equal(&s.rec.credential) {
			return nil
		}
		return s
	}
	c.mu.Lock()
	r, due := c.rooms[uri], false
	var err error
	if r.rec.standing == Joined && r.rec.repair == "" { // others come in with the new one
		var g *room.Room
		if g, err = c.held(ctx, r); err == nil && g != nil {
			due = old(g) != nil
		}
	}
	c.mu.Unlock()
	if err != nil || !due {
		return err
	}
	err = c.change(ctx, uri, func(g *room.Room) (handshake, error) {
		s := old(g)
		if s == nil {
			return handshake{}, errNothing
		}
		leaf, err := room.Leaf(s.rec.credential, s.key)
		if err != nil {
			return handshake{}, err
		}
		staged, err := g.Renew(c.rand, leaf)
		return handshake{staged: staged}, err
	})
	if errors.Is(err, errNothing) {
		return nil
	}
	return err
}

func (s *signer) digest() ([]byte, error) {
	b, err := tlspl.Marshal(&s.rec.credential)
	sum := sha256.Sum256(b)
	return sum[:], err
}

func renewedKey(id suite.ID) []byte { return []byte{keyRenewed, byte(id >> 8), byte(id)} }

const (
	// packageLifetime is how long a KeyPackage may be used.
	packageLifetime = 60 * 24 * time.Hour
	// packageGrace is how long its private keys are kept after that, for a Welcome
	// that was long on its way.
	packageGrace = 30 * 24 * time.Hour
	// otherSuites is the share, one in so many, of the stock that is for the suites
	// which are not the provider's first.
	otherSuites = 8
)

// Refill fills up the stock of KeyPackages at the provider, if it is below the
// provider's floor, and forgets those that have expired.
func (c *Client) Refill(ctx context.Context) error {
	stock, err := c.provider.Stock(ctx)
	if err != nil {
		return err
	}
	want := stock.Ceiling - int(stock.Left)
	if int(stock.Left) >= stock.Floor || want <= 0 {
		return nil
	}
	ids, err := c.suites(ctx)
	if err != nil {
		return err
	}
	var list []mls.KeyPackage
	var secrets []packageRecord
	now := c.cfg.Now()
	lifetime := mls.Lifetime{NotBefore: uint64(now.Add(-time.Hour).Unix()), NotAfter: uint64(now.Add(packageLifetime).Unix())}
	for i, id := range ids {
		n := max(1, want/otherSuites)
		if i == 0 {
			n = max(1, want-(len(ids)-1)*n)
		}
		s, err := c.signer(ctx, id)
		if err != nil {
			if i > 0 {
				c.cfg.Logger.Debug("no credential for a cipher suite", "suite", id, "error", err)
				continue
			}
			return err
		}
		leaf, err := room.Leaf(s.rec.credential, s.key)
		if err != nil {
			return err
		}
		lifetime := lifetime
		if s.rec.notAfter > 0 {
			lifetime.NotAfter = min(lifetime.NotAfter, s.rec.notAfter) // nobody can use it with an expired credential
		}
		for ; n > 0; n-- {
			k, err := mls.NewKeyPackage(c.rand, mls.KeyPackageOptions{CipherSuite: id, Leaf: leaf, Lifetime: lifetime})
			if err != nil {
				return err
			}
			b, err := k.Marshal()
			if err != nil {
				return err
			}
			list = append(list, k.KeyPackage)
			secrets = append(secrets, packageRecord{secrets: b, suite: id, notAfter: lifetime.NotAfter})
		}
	}
	// The private keys are here before anybody can use the public ones.
	err = c.store.Update(ctx, func(tx Tx) error {
		for i := range list {
			ref, err := list[i].Ref()
			if err != nil {
				return err
			}
			if err := put(tx, append([]byte{keyKeyPackage}, ref...), &secrets[i]); err != nil {
				return err
			}
		}
		return dropExpired(tx, uint64(now.Add(-packageGrace).Unix()))
	})
	if err != nil {
		return err
	}
	_, err = c.provider.AddKeyPackages(ctx, list)
	return err
}

func dropExpired(tx Tx, before uint64) error {
	var keys [][]byte
	err := tx.Scan([]byte{keyKeyPackage}, nil, func(k, _ []byte) (bool, error) {
		var p packageRecord
		if _, err := get(tx, k, &p); err != nil {
			return false, err
		}
		if p.notAfter < before {
			keys = append(keys, slices.Clone(k))
		}
		return true, nil
	})
	for _, k := range keys {
		if err == nil {
			err = tx.Delete(k)
		}
	}
	return err
}

// Devices lists the user's devices.
func (c *Client) Devices(ctx context.Context) ([]clientapi.DeviceInfo, error) {
	return c.provider.Devices(ctx)
}

// randomName returns n random letters and digits.
func randomName(n int) string { return rand.Text()[:n] }
