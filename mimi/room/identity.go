package room

import (
	"fmt"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
)

// An Identity is who a leaf belongs to (Decision 11).
type Identity struct {
	User   mimi.UserURI
	Client mimi.ClientURI
	// Claims are what preauthorization may match. Nil stands for what the credential itself says: the whole identity of a
	// basic credential, subject and alternative names of a certificate (Decision 90).
	Claims policy.Claims
}

// A Verifier knows whose a credential is. It must give the same answers at the hub and at every client, since they decide
// on its word what a commit may do; only Verify may depend on what each of them trusts. Its methods are called from several
// goroutines.
type Verifier interface {
	// Identify reads a leaf's credential without judging it: the leaf is in the group, or Verify has judged it.
	Identify(credential *mls.Credential) (Identity, error)
	// Verify says whether the credential of a leaf that enters the group is true, and belongs to its signature key.
	Verify(leaf *mls.LeafNode) error
	// Provider returns the provider that a credential of the hub names: that of an external sender, or of the franking agent
	// (Decisions 32, 47).
	Provider(credential *mls.Credential) (mimi.ProviderDomain, error)
}

// lazyClaims reads a credential only if a rule asks for its claims.
type lazyClaims struct {
	verifier   Verifier
	credential *mls.Credential
}

func (l *lazyClaims) Has(t mls.CredentialType, id, value []byte) bool {
	who, err := l.verifier.Identify(l.credential)
	if err != nil {
		return false
	}
	if who.Claims == nil {
		return credentialClaims(l.credential).Has(t, id, value)
	}
	return who.Claims.Has(t, id, value)
}

func credentialClaims(c *mls.Credential) policy.ClaimSet {
	switch {
	case c.Type == mls.CredentialBasic:
		return policy.BasicClaims(c.Identity)
	case c.Type == mls.CredentialX509 && len(c.Certificates) > 0:
		// the Verifier has judged the certificate; one that can't be read claims nothing
		claims, _ := policy.X509Claims(c.Certificates[0].CertData)
		return claims
	}
	return nil
}

// identify is Verifier.Identify with claims.
func identify(v Verifier, c *mls.Credential) (Identity, error) {
	who, err := v.Identify(c)
	if err == nil && who.Claims == nil {
		who.Claims = &lazyClaims{v, c}
	}
	return who, err
}

// An IdentityError is a leaf whose credential names nobody who could be in a room.
type IdentityError struct {
	Leaf mls.LeafIndex // where it is known
	Err  error
}

func (e *IdentityError) Error() string { return fmt.Sprintf("room: leaf %d: %v", e.Leaf, e.Err) }

// Unwrap returns what the Verifier said.
func (e *IdentityError) Unwrap() error { return e.Err }
