package policy

import (
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// Claims answers for the claims of one MLS credential (room policy §4).
type Claims interface {
	// Has reports whether the credential is of the type and has a claim with the ID and exactly the value.
	Has(credentialType mls.CredentialType, id, value []byte) bool
}

// MatchPreauth returns the role of the first entry of a preauth_list that the claims match, and whether there is one. An
// entry matches if all of its claims do; one without claims never does, nor one whose role the room does not define, or
// whose role is 0. Decisions 89, 90
func MatchPreauth(list *mimi.PreAuthData, roles *Roles, claims Claims) (RoleIndex, bool) {
	if list == nil || claims == nil {
		return NoRole, false
	}
next:
	for i := range list.PreauthorizedEntries {
		e := &list.PreauthorizedEntries[i]
		role := RoleIndex(e.TargetRole.RoleIndex)
		if len(e.Claimset) == 0 || role == NoRole || !roles.Defined(role) {
			continue
		}
		for k := range e.Claimset {
			c := &e.Claimset[k]
			if !claims.Has(c.ClaimID.CredentialType, c.ClaimID.ID, c.ClaimValue) {
				continue next
			}
		}
		return role, true
	}
	return NoRole, false
}
