package discovery

import (
	"fmt"
	"slices"

	"github.com/comity-im/comity/mimi"
)

// claims are the standard claims of OpenID Connect Core 1.0 §5.1.
var claims = []string{
	"sub", "name", "given_name", "family_name", "middle_name", "nickname", "preferred_username", "profile", "picture", "website",
	"email", "email_verified", "gender", "birthdate", "zoneinfo", "locale", "phone_number", "phone_number_verified", "address", "updated_at",
}

// properties are those of vCard (RFC 6350 §6, and the registered ones of RFC
// 6474, 6715 and 9554).
var properties = []string{
	"SOURCE", "KIND", "FN", "N", "NICKNAME", "PHOTO", "BDAY", "ANNIVERSARY", "GENDER", "ADR", "TEL", "EMAIL", "IMPP", "LANG", "TZ", "GEO",
	"TITLE", "ROLE", "LOGO", "ORG", "MEMBER", "RELATED", "CATEGORIES", "NOTE", "PRODID", "REV", "SOUND", "UID", "CLIENTPIDMAP", "URL",
	"VERSION", "KEY", "FBURL", "CALADRURI", "CALURI", "BIRTHPLACE", "DEATHPLACE", "DEATHDATE", "EXPERTISE", "HOBBY", "INTEREST",
	"ORG-DIRECTORY", "CONTACT-URI", "CREATED", "GRAMGENDER", "LANGUAGE", "PRONOUNS", "SOCIALPROFILE",
}

// checkName says whether a search type takes a field of this name.
func checkName(t mimi.SearchIdentifierType, name string) error {
	switch t {
	case mimi.SearchOIDCStdClaim:
		if !slices.Contains(claims, name) {
			return fmt.Errorf("%q is not a standard claim of OpenID Connect", name)
		}
	case mimi.SearchVCardField:
		if !slices.Contains(properties, name) {
			return fmt.Errorf("%q is not a property of vCard", name)
		}
	case mimi.SearchHandle, mimi.SearchNick, mimi.SearchEmail, mimi.SearchPhone, mimi.SearchPartialName, mimi.SearchWholeProfile:
		if name != "" {
			return fmt.Errorf("%v takes no field name", t)
		}
	default:
		return fmt.Errorf("there is no search type %d", uint8(t))
	}
	return nil
}
