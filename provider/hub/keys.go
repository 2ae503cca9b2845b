package hub

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/tlspl"
)

// Keys are what a hub signs, reads and franks with: for each cipher suite a key
// as external sender, one as external receiver and one as franking agent, and
// the secrets from which the rooms' franking keys are derived.
type Keys struct {
	senders   map[suite.ID]*key
	receivers map[suite.ID]*mls.Receiver
	agents    map[suite.ID]*key
	db        *store.Store

	mu      sync.RWMutex
	masters []master // by FromMillis
}

// A key signs as the hub, and is certified by the provider's issuer
// (Decisions 32, 47).
type key struct {
	signer     *suite.Signer
	credential mls.Credential
}

// storedKey is a key in the database.
type storedKey struct {
	Private    []byte
	Credential mls.Credential
}

func (k *storedKey) Code(c *tlspl.Codec) {
	tlspl.Opaque(c, &k.Private)
	k.Credential.Code(c)
}

// A master is a secret from which hub_keys are derived for messages accepted
// from a time on. Older ones are kept for reports. Decision 46
type master struct {
	FromMillis uint64
	Secret     []byte
}

func (m *master) Code(c *tlspl.Codec) {
	tlspl.Uint64(c, &m.FromMillis)
	tlspl.Opaque(c, &m.Secret)
}

type masters struct{ list []master }

func (m *masters) Code(c *tlspl.Codec) { tlspl.Vector(c, &m.list) }

// LoadKeys returns the keys of a provider, and makes those that it doesn't have
// yet.
func LoadKeys(ctx context.Context, db *store.Store, issuer *identity.Issuer, suites []suite.ID, now time.Time) (*Keys, error) {
	k := &Keys{db: db, senders: map[suite.ID]*key{}, receivers: map[suite.ID]*mls.Receiver{}, agents: map[suite.ID]*key{}}
	return k, db.Update(ctx, func(tx *store.Tx) error {
		for _, id := range suites {
			s, ok := suite.Lookup(id)
			if !ok {
				return fmt.Errorf("hub: cipher suite %v is not one that this program has", id)
			}
			var err error
			if k.senders[id], err = loadKey(tx, issuer, s, "hub-sender", now); err != nil {
				return err
			}
			if k.receivers[id], err = loadReceiver(tx, s, k.senders[id].credential); err != nil {
				return err
			}
			if k.agents[id], err = loadKey(tx, issuer, s, "hub-agent", now); err != nil {
				return err
			}
		}
		first := masters{[]master{{FromMillis: uint64(now.UnixMilli()), Secret: random(32)}}}
		b, err := tlspl.Marshal(&first)
		if err != nil {
			return err
		}
		if b, err = tx.CreateMeta(frankingMeta, b); err != nil {
			return err
		}
		var m masters
		if err := tlspl.Unmarshal(b, &m); err != nil {
			return err
		}
		k.masters = m.list
		return nil
	})
}

// hubLifetime is how long a hub's certificate holds; it is in the rooms' state
// and changes only with ReInit.
const hubLifetime = 20 * 365 * 24 * time.Hour

func loadKey(tx *store.Tx, issuer *identity.Issuer, s suite.Suite, name string, now time.Time) (*key, error) {
	name = fmt.Sprintf("%s-%04x", name, uint16(s.ID()))
	b, err := tx.Meta(name)
	if errors.Is(err, store.ErrNotFound) {
		signer, err := s.GenerateSigner(rand.Reader)
		if err != nil {
			return nil, err
		}
		credential, err := issuer.IssueHub(rand.Reader, signer, identity.Certified{NotBefore: now.Add(-time.Hour), NotAfter: now.Add(hubLifetime)})
		if err != nil {
			return nil, err
		}
		if b, err = tlspl.Marshal(&storedKey{signer.Bytes(), credential}); err != nil {
			return nil, err
		}
		if b, err = tx.CreateMeta(name, b); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	var stored storedKey
	if err := tlspl.Unmarshal(b, &stored); err != nil {
		return nil, err
	}
	signer, err := s.NewSigner(stored.Private)
	return &key{signer, stored.Credential}, err
}

// loadReceiver returns the key by which the hub reads SemiPrivateMessages, with
// the credential that names it (Decision 120). The credential certifies the key
// of the external sender: for HPKE keys there is no certificate.
func loadReceiver(tx *store.Tx, s suite.Suite, credential mls.Credential) (*mls.Receiver, error) {
	name := fmt.Sprintf("hub-receiver-%04x", uint16(s.ID()))
	b, err := tx.Meta(name)
	if errors.Is(err, store.ErrNotFound) {
		fresh, err := s.GenerateKeyPair(rand.Reader)
		if err != nil {
			return nil, err
		}
		private, err := fresh.Bytes()
		if err != nil {
			return nil, err
		}
		if b, err = tlspl.Marshal(&storedKey{private, credential}); err != nil {
			return nil, err
		}
		if b, err = tx.CreateMeta(name, b); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	var stored storedKey
	if err := tlspl.Unmarshal(b, &stored); err != nil {
		return nil, err
	}
	private, err := s.ParsePrivateKey(stored.Private)
	if err != nil {
		return nil, err
	}
	return &mls.Receiver{ExternalReceiver: mls.ExternalReceiver{PublicKey: private.Public(), Credential: stored.Credential}, Key: private}, nil
}

func random(n int) []byte {
	b := make([]byte, n)
	if _, err := io.ReadFull(rand.Reader, b); err != nil {
		panic(err) // the system's randomness does not fail
	}
	return b
}

// rotateAhead is how long before it is used a new secret is stored: by then all
// nodes that share the database have read it, which each does every minute.
// overlap is how far from a rotation the neighbouring secret is tried too when a
// report is verified, should a node have been late all the same.
const (
	rotateAhead = 2 * time.Minute
	overlap     = 15 * time.Minute
)

// Rotate adds a new secret for the franks of messages accepted from some minutes
// after now on, which it returns; the old ones still verify reports. With a
// positive age it does so only if the newest secret is older than that.
func (k *Keys) Rotate(ctx context.Context, now time.Time, age time.Duration) (from time.Time, rotated bool, err error) {
	from = now.Add(rotateAhead)
	err = k.db.Update(ctx, func(tx *store.Tx) error {
		rotated = false
		m, err := loadMasters(tx)
		if err != nil {
			return err
		}
		newest := time.UnixMilli(int64(m.list[len(m.list)-1].FromMillis))
		if age > 0 && now.Sub(newest) < age || !newest.Before(from) {
			from = newest
			return nil
		}
		rotated = true
		m.list = append(m.list, master{FromMillis: uint64(from.UnixMilli()), Secret: random(32)})
		b, err := tlspl.Marshal(&m)
		if err != nil {
			return err
		}
		return tx.SetMeta(frankingMeta, b)
	})
	if err == nil {
		err = k.Reload(ctx)
	}
	return from, rotated, err
}

// Reload reads the secrets that other nodes may have added.
func (k *Keys) Reload(ctx context.Context) error {
	var m masters
	err := k.db.View(ctx, func(tx *store.Tx) (err error) {
		m, err = loadMasters(tx)
		return err
	})
	if err == nil {
		k.mu.Lock()
		k.masters = m.list
		k.mu.Unlock()
	}
	return err
}

const frankingMeta = "hub-franking"

func loadMasters(tx *store.Tx) (m masters, err error) {
	b, err := tx.Meta(frankingMeta)
	if err == nil {
		err = tlspl.Unmarshal(b, &m)
	}
	if err == nil && len(m.list) == 0 {
		err = errors.New("hub: there is no franking secret")
	}
	return m, err
}

// Sender is the hub's entry for external_senders of groups with a cipher suite.
func (k *Keys) Sender(id suite.ID) (mls.ExternalSender, bool) {
	s := k.senders[id]
	if s == nil {
		return mls.ExternalSender{}, false
	}
	return mls.ExternalSender{SignatureKey: s.signer.Public(), Credential: s.credential}, true
}

// Receiver is the hub's entry for external_receivers of groups with a cipher
// suite.
func (k *Keys) Receiver(id suite.ID) (mls.ExternalReceiver, bool) {
	r := k.receivers[id]
	if r == nil {
		return mls.ExternalReceiver{}, false
	}
	return r.ExternalReceiver, true
}

// Agent is the hub's franking_agent for groups with a cipher suite.
func (k *Keys) Agent(id suite.ID) (mimi.FrankingAgentData, bool) {
	s := k.agents[id]
	if s == nil {
		return mimi.FrankingAgentData{}, false
	}
	return mimi.FrankingAgentData{FrankingSignatureKey: s.signer.Public(), Credential: s.credential}, true
}

// Suites are those that the hub has keys for, in the order of their numbers.
func (k *Keys) Suites() []suite.ID {
	var list []suite.ID
	for id := range k.senders {
		list = append(list, id)
	}
	slices.Sort(list)
	return list
}

// HubKey is the franking key of a room for messages accepted at a time.
func (k *Keys) HubKey(room mimi.RoomURI, acceptedMillis uint64) ([]byte, error) {
	k.mu.RLock()
	m := k.masters[k.at(acceptedMillis)]
	k.mu.RUnlock()
	return mimi.HubKey(m.Secret, room)
}

// Same says whether messages accepted at two times are stamped with the same
// franking key.
func (k *Keys) Same(a, b uint64) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.at(a) == k.at(b)
}

// at is the index of the secret for a time; k.mu is held.
func (k *Keys) at(acceptedMillis uint64) (i int) {
	for j, m := range k.masters {
		if m.FromMillis <= acceptedMillis {
			i = j
		}
	}
	return i
}

// HubKeys are the franking keys that a message accepted at a time may have been
// stamped with: that for the time first, then those of a rotation close by.
func (k *Keys) HubKeys(room mimi.RoomURI, acceptedMillis uint64) (keys [][]byte, err error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	now := k.at(acceptedMillis)
	near := uint64(overlap.Milliseconds())
	for j := range k.masters {
		switch {
		case j == now:
		case j == now-1 && acceptedMillis < k.masters[now].FromMillis+near:
		case j == now+1 && acceptedMillis+near >= k.masters[j].FromMillis:
		default:
			continue
		}
		key, err := mimi.HubKey(k.masters[j].Secret, room)
		if err != nil {
			return nil, err
		}
		if keys = append(keys, key); j == now {
			keys[0], keys[len(keys)-1] = keys[len(keys)-1], keys[0]
		}
	}
	return keys, nil
}
