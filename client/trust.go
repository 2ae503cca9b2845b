package client

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
)

// trust says whose a credential is. It implements room.Verifier. The issuers of
// a domain come from the own provider (docs/design/identity.md); which are
// missing, an error of Verify says, and whoever gets it fetches them and tries
// again: nothing is fetched in the middle of judging a Commit.
type trust struct {
	verifier *identity.Verifier
	now      func() time.Time
}

var _ room.Verifier = (*trust)(nil)

func (t *trust) Identify(c *mls.Credential) (room.Identity, error) {
	user, client, err := identity.Names(c)
	if err != nil {
		return room.Identity{}, err
	}
	who := room.Identity{User: user, Client: client}
	if c.Type == mls.CredentialX509 && len(c.Certificates) > 0 {
		if claims, err := policy.X509Claims(c.Certificates[0].CertData); err == nil {
			who.Claims = claims
		}
	}
	return who, nil
}

func (t *trust) Verify(leaf *mls.LeafNode) error {
	_, err := t.verifier.VerifyCredential(&leaf.Credential, leaf.SignatureKey, t.now())
	return err
}

func (t *trust) Provider(c *mls.Credential) (mimi.ProviderDomain, error) { return identity.HubName(c) }

// loadAnchors takes up the issuers that were stored.
func (t *trust) loadAnchors(tx Tx) error {
	return tx.Scan([]byte{keyAnchors}, nil, func(key, value []byte) (bool, error) {
		certs, err := x509.ParseCertificates(value)
		if err != nil {
			return false, &CorruptError{keyAnchors, err}
		}
		t.verifier.SetAnchors(mimi.ProviderDomain(key[1:]), certs)
		return true, nil
	})
}

// missing returns the domain whose issuers are not known, or no longer right,
// according to an error; empty if that is not the trouble.
func missing(err error) mimi.ProviderDomain {
	var bad *identity.CredentialError
	if errors.As(err, &bad) && (errors.Is(bad, identity.ErrNoAnchor) || errors.Is(bad, identity.ErrChain)) {
		return bad.Provider
	}
	return ""
}

// fetchAgain is how long issuers are believed to be the latest although a
// credential does not verify with them.
const fetchAgain = time.Minute

// learn fetches the issuers of a domain. It reports whether it is worth trying
// again what failed without them.
func (c *Client) learn(ctx context.Context, domain mimi.ProviderDomain) (bool, error) {
	c.mu.Lock()
	last, asked := c.learned[domain]
	now := c.cfg.Now()
	if asked && now.Sub(last) < fetchAgain {
		c.mu.Unlock()
		return false, nil
	}
	c.learned[domain] = now
	c.mu.Unlock()
	answer, err := c.provider.Issuers(ctx, domain)
	if err != nil {
		c.mu.Lock()
		delete(c.learned, domain)
		c.mu.Unlock()
		return false, fmt.Errorf("client: the issuers of %s: %w", domain, err)
	}
	var certs []*x509.Certificate
	var der []byte
	for _, root := range answer.Roots {
		cert, err := x509.ParseCertificate(root)
		if err != nil {
			return false, fmt.Errorf("client: an issuer of %s: %w", domain, err)
		}
		certs = append(certs, cert)
		der = append(der, root...)
	}
	if len(certs) == 0 {
		return false, nil
	}
	c.trust.verifier.SetAnchors(domain, certs)
	return true, c.store.Update(ctx, func(tx Tx) error {
		return tx.Put(append([]byte{keyAnchors}, domain...), der)
	})
}

// believing runs f, which holds no lock when it returns, and runs it again when
// issuers were missing that could be fetched.
func (c *Client) believing(ctx context.Context, f func() error) error {
	for {
		err := f()
		domain := missing(err)
		if domain == "" {
			return err
		}
		again, e := c.learn(ctx, domain)
		if e != nil {
			return errors.Join(err, e)
		}
		if !again {
			return err
		}
	}
}
