package mimi

import (
	"errors"

	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// A SearchIdentifierType says which property of a user is searched (MIMI
// protocol §5.8).
type SearchIdentifierType uint8

// The values of SearchIdentifierType.
const (
	SearchHandle       SearchIdentifierType = 1
	SearchNick         SearchIdentifierType = 2
	SearchEmail        SearchIdentifierType = 3
	SearchPhone        SearchIdentifierType = 4
	SearchPartialName  SearchIdentifierType = 5
	SearchWholeProfile SearchIdentifierType = 6
	SearchOIDCStdClaim SearchIdentifierType = 7
	SearchVCardField   SearchIdentifierType = 8
)

// String returns the draft's word.
func (s SearchIdentifierType) String() string {
	return enumName(s, "reserved", "handle", "nick", "email", "phone", "partialName", "wholeProfile",
		"oidcStdClaim", "vcardField")
}

// A QueryElement is one condition of a query (MIMI protocol §5.8, Decision 70).
type QueryElement struct {
	SearchType   SearchIdentifierType
	ClaimName    string // SearchOIDCStdClaim
	PropertyName string // SearchVCardField
	SearchValue  string
}

// Code describes a QueryElement.
func (q *QueryElement) Code(c *tlspl.Codec) {
	c.Field("searchType")
	codeEnum(c, &q.SearchType, SearchVCardField)
	switch q.SearchType {
	case 0:
		c.Fail(tlspl.ErrValue)
	case SearchOIDCStdClaim:
		c.Field("claimName")
		tlspl.String(c, &q.ClaimName)
	case SearchVCardField:
		c.Field("propertyName")
		tlspl.String(c, &q.PropertyName)
	}
	c.Field("searchValue")
	tlspl.String(c, &q.SearchValue)
}

// An IdentifierRequest looks for users who meet all conditions (MIMI protocol
// §5.8). An empty list is answered with QueryForbidden. Decision 70
type IdentifierRequest struct {
	QueryElements       []QueryElement
	IDRequestExtensions mls.AppDataDictionary
}

// Code describes an IdentifierRequest.
func (r *IdentifierRequest) Code(c *tlspl.Codec) {
	c.Field("query_elements")
	tlspl.Vector(c, &r.QueryElements)
	tlspl.Struct(c, "id_request_extensions", &r.IDRequestExtensions)
}

// An IdentifierQueryCode says what became of a query (MIMI protocol §5.8).
// Values that are not known are failures. Decision 10
type IdentifierQueryCode uint8

// The values of IdentifierQueryCode.
const (
	QuerySuccess          IdentifierQueryCode = 0
	QueryNotFound         IdentifierQueryCode = 1
	QueryAmbiguous        IdentifierQueryCode = 2
	QueryForbidden        IdentifierQueryCode = 3
	QueryUnsupportedField IdentifierQueryCode = 4
)

// String returns the draft's word.
func (q IdentifierQueryCode) String() string {
	return enumName(q, "success", "notFound", "ambiguous", "forbidden", "unsupportedField")
}

// A FieldSource says by which standard a profile field is named (MIMI protocol
// §5.8).
type FieldSource uint8

// The values of FieldSource.
const (
	SourceOIDCStdClaim FieldSource = 7
	SourceVCardField   FieldSource = 8
)

// String returns the draft's word.
func (f FieldSource) String() string { return SearchIdentifierType(f).String() }

// A ProfileField is a property of a user (MIMI protocol §5.8, Decision 71).
type ProfileField struct {
	FieldSource FieldSource
	FieldName   string
	FieldValue  []byte
}

// Code describes a ProfileField.
func (f *ProfileField) Code(c *tlspl.Codec) {
	c.Field("fieldSource")
	tlspl.Uint8(c, &f.FieldSource)
	if f.FieldSource != SourceOIDCStdClaim && f.FieldSource != SourceVCardField {
		c.Fail(tlspl.ErrValue)
	}
	c.Field("fieldName")
	tlspl.String(c, &f.FieldName)
	c.Field("fieldValue")
	tlspl.Opaque(c, &f.FieldValue)
}

// A UserProfile is what a provider tells of a user who was found (MIMI protocol
// §5.8).
type UserProfile struct {
	StableURI UserURI
	Fields    []ProfileField
}

// Code describes a UserProfile.
func (p *UserProfile) Code(c *tlspl.Codec) {
	c.Field("stableUri")
	p.StableURI.Code(c)
	c.Field("fields")
	tlspl.Vector(c, &p.Fields)
}

// An IdentifierResponse answers an IdentifierRequest (MIMI protocol §5.8). URI
// lists every match; FoundProfiles is empty, or has one entry for each, in the
// same order. Decision 71
type IdentifierResponse struct {
	ResponseCode         IdentifierQueryCode
	URI                  []UserURI
	FoundProfiles        []UserProfile
	IDResponseExtensions mls.AppDataDictionary
}

// ErrProfiles is the error of a response whose URIs and profiles don't agree,
// or that has some without being a success. Decision 71
var ErrProfiles = errors.New("mimi: uri and foundProfiles don't agree")

// Code describes an IdentifierResponse.
func (r *IdentifierResponse) Code(c *tlspl.Codec) {
	c.Field("responseCode")
	tlspl.Uint8(c, &r.ResponseCode)
	c.Field("uri")
	tlspl.Vector(c, &r.URI)
	c.Field("foundProfiles")
	tlspl.Vector(c, &r.FoundProfiles)
	if c.Err() == nil && !r.consistent() {
		c.Fail(ErrProfiles)
	}
	tlspl.Struct(c, "id_response_extensions", &r.IDResponseExtensions)
}

func (r *IdentifierResponse) consistent() bool {
	if r.ResponseCode != QuerySuccess {
		return len(r.URI) == 0 && len(r.FoundProfiles) == 0
	}
	if len(r.FoundProfiles) == 0 {
		return true
	}
	if len(r.FoundProfiles) != len(r.URI) {
		return false
	}
	for i := range r.URI {
		if r.FoundProfiles[i].StableURI != r.URI[i] {
			return false
		}
	}
	return true
}
