package mimi

import (
	"errors"
	"fmt"
	"strings"
)

// MaxURILen is the length in octets of the longest MIMI URI. Decision 1
const MaxURILen = 2048

const uriScheme = "mimi://"

// A Kind says what a MIMI URI names: the path segment after the host, or
// KindProvider where there is no path.
type Kind byte

// The kinds of MIMI URI. Decision 1
const (
	KindProvider  Kind = 0
	KindUser      Kind = 'u'
	KindPseudonym Kind = 'p'
	KindClient    Kind = 'd'
	KindRoom      Kind = 'r'
	KindGroup     Kind = 'g'
	KindTeam      Kind = 't'
)

// String returns the kind in words.
func (k Kind) String() string {
	switch k {
	case KindProvider:
		return "provider"
	case KindUser:
		return "user"
	case KindPseudonym:
		return "pseudonym"
	case KindClient:
		return "client"
	case KindRoom:
		return "room"
	case KindGroup:
		return "group"
	case KindTeam:
		return "team"
	}
	return fmt.Sprintf("kind %q", rune(k))
}

type (
	// A ProviderDomain is the DNS name of a provider: lower-case A-labels
	// without a trailing dot.
	ProviderDomain string

	// A ProviderURI names a provider: mimi://a.example.
	ProviderURI string

	// A UserURI names a user (mimi://a.example/u/alice) or a pseudonym
	// (mimi://a.example/p/x93).
	UserURI string

	// A ClientURI names a client of a user: mimi://a.example/d/alice/phone.
	ClientURI string

	// A RoomURI names a room: mimi://a.example/r/clubhouse. Its host is the hub.
	RoomURI string

	// A GroupURI names an MLS group: mimi://a.example/g/clubhouse.
	GroupURI string

	// A TeamURI names a team of users: mimi://a.example/t/staff.
	TeamURI string

	// An IdentifierURI is a MIMI URI of any kind (MIMI protocol §5, Decision 8).
	IdentifierURI string
)

// A URIError says why a text is not the MIMI URI that was asked for.
type URIError struct {
	Want  string // what was asked for: "user URI"
	Input string // the text, as it came
	Err   error  // what is wrong with it
}

func (e *URIError) Error() string {
	in := e.Input
	if len(in) > 128 {
		in = in[:128] + "…"
	}
	return fmt.Sprintf("mimi: %q is not a %s: %v", in, e.Want, e.Err)
}

// Unwrap returns what is wrong.
func (e *URIError) Unwrap() error { return e.Err }

// What can be wrong with a URI.
var (
	ErrURILength    = errors.New("longer than 2048 octets")
	ErrURIScheme    = errors.New("does not begin with mimi://")
	ErrURIHost      = errors.New("host is not a domain name in lower-case A-labels")
	ErrURIAuthority = errors.New("has a port or user information")
	ErrURIKind      = errors.New("wrong kind")
	ErrURISegments  = errors.New("wrong number of path segments")
	ErrURISegment   = errors.New("empty or dot path segment")
	ErrURISuffix    = errors.New("has a query or fragment")
	ErrURIEncoding  = errors.New("not in canonical form: unreserved characters stand for themselves, all others as upper-case %XX")
)

// unreserved is the set of RFC 3986 §2.3.
func unreserved(b byte) bool {
	return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || '0' <= b && b <= '9' ||
		b == '-' || b == '.' || b == '_' || b == '~'
}

func checkDomain(s string) error {
	if s == "" || len(s) > 253 {
		return ErrURIHost
	}
	start, numeric := 0, true
	for i := 0; i <= len(s); i++ {
		if i == len(s) || s[i] == '.' {
			if n := i - start; n == 0 || n > 63 || s[start] == '-' || s[i-1] == '-' {
				return ErrURIHost
			}
			if i == len(s) && numeric { // an IPv4 address, which no certificate names as a domain
				return ErrURIHost
			}
			start, numeric = i+1, true
			continue
		}
		switch b := s[i]; {
		case '0' <= b && b <= '9':
		case 'a' <= b && b <= 'z' || b == '-':
			numeric = false
		default:
			return ErrURIHost
		}
	}
	return nil
}

func checkSegment(s string) error {
	if s == "" || s == "." || s == ".." {
		return ErrURISegment
	}
	for i := 0; i < len(s); i++ {
		switch b := s[i]; {
		case unreserved(b):
		case b == '?' || b == '#':
			return ErrURISuffix
		case b == '%':
			if i+2 >= len(s) || upperHex(s[i+1]) < 0 || upperHex(s[i+2]) < 0 ||
				unreserved(byte(upperHex(s[i+1])<<4|upperHex(s[i+2]))) {
				return ErrURIEncoding
			}
			i += 2
		default:
			return ErrURIEncoding
		}
	}
	return nil
}

func upperHex(b byte) int {
	switch {
	case '0' <= b && b <= '9':
		return int(b - '0')
	case 'A' <= b && b <= 'F':
		return int(b-'A') + 10
	}
	return -1
}

// checkURI reports the kind of s, or what keeps it from being a canonical MIMI
// URI. Decisions 1, 2
func checkURI(s string) (Kind, error) {
	if len(s) > MaxURILen {
		return 0, ErrURILength
	}
	rest, ok := strings.CutPrefix(s, uriScheme)
	if !ok {
		return 0, ErrURIScheme
	}
	host, path, hasPath := strings.Cut(rest, "/")
	if strings.ContainsAny(host, ":@") {
		return 0, ErrURIAuthority
	}
	if strings.ContainsAny(host, "?#") {
		return 0, ErrURISuffix
	}
	if err := checkDomain(host); err != nil {
		return 0, err
	}
	if !hasPath {
		return KindProvider, nil
	}
	first, path, hasSegments := strings.Cut(path, "/")
	if len(first) != 1 {
		return 0, ErrURIKind
	}
	kind := Kind(first[0])
	switch kind {
	case KindUser, KindPseudonym, KindClient, KindRoom, KindGroup, KindTeam:
	default:
		return 0, ErrURIKind
	}
	if !hasSegments {
		return 0, ErrURISegments
	}
	for n := 1; ; n++ {
		segment, more, again := strings.Cut(path, "/")
		if err := checkSegment(segment); err != nil {
			return 0, err
		}
		if !again {
			return kind, nil
		}
		if kind != KindClient {
			if more == "" {
				return 0, ErrURISegment
			}
			return 0, ErrURISegments
		}
		path = more
	}
}

func parseURI[T ~string](s, want string, kinds ...Kind) (T, error) {
	kind, err := checkURI(s)
	if err != nil {
		return "", &URIError{Want: want, Input: s, Err: err}
	}
	for _, k := range kinds {
		if k == kind {
			return T(s), nil
		}
	}
	if len(kinds) > 0 {
		return "", &URIError{Want: want, Input: s, Err: fmt.Errorf("%w: %s", ErrURIKind, kind)}
	}
	return T(s), nil
}

// ParseProviderDomain returns s if it is a canonical domain name, else a *URIError.
func ParseProviderDomain(s string) (ProviderDomain, error) {
	if err := checkDomain(s); err != nil {
		return "", &URIError{Want: "provider domain", Input: s, Err: err}
	}
	return ProviderDomain(s), nil
}

// ParseProviderURI returns s if it is the canonical URI of a provider, else a *URIError.
func ParseProviderURI(s string) (ProviderURI, error) {
	return parseURI[ProviderURI](s, "provider URI", KindProvider)
}

// ParseUserURI returns s if it is the canonical URI of a user or pseudonym, else a *URIError.
func ParseUserURI(s string) (UserURI, error) {
	return parseURI[UserURI](s, "user URI", KindUser, KindPseudonym)
}

// ParseClientURI returns s if it is the canonical URI of a client, else a *URIError.
func ParseClientURI(s string) (ClientURI, error) {
	return parseURI[ClientURI](s, "client URI", KindClient)
}

// ParseRoomURI returns s if it is the canonical URI of a room, else a *URIError.
func ParseRoomURI(s string) (RoomURI, error) { return parseURI[RoomURI](s, "room URI", KindRoom) }

// ParseGroupURI returns s if it is the canonical URI of an MLS group, else a *URIError.
func ParseGroupURI(s string) (GroupURI, error) { return parseURI[GroupURI](s, "group URI", KindGroup) }

// ParseTeamURI returns s if it is the canonical URI of a team, else a *URIError.
func ParseTeamURI(s string) (TeamURI, error) { return parseURI[TeamURI](s, "team URI", KindTeam) }

// ParseIdentifierURI returns s if it is a canonical MIMI URI of any kind, else a *URIError.
func ParseIdentifierURI(s string) (IdentifierURI, error) {
	return parseURI[IdentifierURI](s, "MIMI URI")
}

// build makes a URI out of decoded segments and checks it as a parser would.
func build(domain ProviderDomain, kind Kind, segments ...string) string {
	var b strings.Builder
	b.WriteString(uriScheme)
	b.WriteString(string(domain))
	b.WriteByte('/')
	b.WriteByte(byte(kind))
	for _, s := range segments {
		b.WriteByte('/')
		escapeTo(&b, s)
	}
	return b.String()
}

// NewProviderURI returns mimi://domain.
func NewProviderURI(domain ProviderDomain) (ProviderURI, error) {
	return ParseProviderURI(uriScheme + string(domain))
}

// NewUserURI returns the URI of the user called name, which it percent-encodes.
func NewUserURI(domain ProviderDomain, name string) (UserURI, error) {
	return ParseUserURI(build(domain, KindUser, name))
}

// NewPseudonymURI returns the URI of the pseudonym called name, which it percent-encodes.
func NewPseudonymURI(domain ProviderDomain, name string) (UserURI, error) {
	return ParseUserURI(build(domain, KindPseudonym, name))
}

// NewClientURI returns the URI of a client, whose one or more segments it
// percent-encodes. A basic credential needs two: user and client. Decision 11
func NewClientURI(domain ProviderDomain, segments ...string) (ClientURI, error) {
	return ParseClientURI(build(domain, KindClient, segments...))
}

// NewRoomURI returns the URI of the room called name, which it percent-encodes.
func NewRoomURI(domain ProviderDomain, name string) (RoomURI, error) {
	return ParseRoomURI(build(domain, KindRoom, name))
}

// NewGroupURI returns the URI of the group called name, which it percent-encodes.
func NewGroupURI(domain ProviderDomain, name string) (GroupURI, error) {
	return ParseGroupURI(build(domain, KindGroup, name))
}

// host returns the authority of a canonical URI, or "" if there is none.
func host(s string) ProviderDomain {
	rest, ok := strings.CutPrefix(s, uriScheme)
	if !ok {
		return ""
	}
	h, _, _ := strings.Cut(rest, "/")
	return ProviderDomain(h)
}

// segments returns the decoded path segments after the kind.
func segments(s string) []string {
	parts := strings.Split(strings.TrimPrefix(s, uriScheme), "/")
	if len(parts) < 3 {
		return nil
	}
	parts = parts[2:]
	for i, p := range parts {
		if d, err := Unescape(p); err == nil {
			parts[i] = d
		}
	}
	return parts
}

func lastSegment(s string) string {
	if p := segments(s); len(p) > 0 {
		return p[len(p)-1]
	}
	return ""
}

// URI returns the provider's URI.
func (d ProviderDomain) URI() ProviderURI { return ProviderURI(uriScheme + string(d)) }

// Host returns the provider's domain.
func (u ProviderURI) Host() ProviderDomain { return host(string(u)) }

// Host returns the domain of the user's provider.
func (u UserURI) Host() ProviderDomain { return host(string(u)) }

// Host returns the domain of the client's provider.
func (u ClientURI) Host() ProviderDomain { return host(string(u)) }

// Host returns the domain of the room's hub.
func (u RoomURI) Host() ProviderDomain { return host(string(u)) }

// Host returns the domain of the group's hub.
func (u GroupURI) Host() ProviderDomain { return host(string(u)) }

// Host returns the domain of the team's provider.
func (u TeamURI) Host() ProviderDomain { return host(string(u)) }

// Host returns the domain of the provider that owns what u names.
func (u IdentifierURI) Host() ProviderDomain { return host(string(u)) }

// Name returns the user's name, decoded. It may hold any octets.
func (u UserURI) Name() string { return lastSegment(string(u)) }

// Name returns the room's name, decoded. It may hold any octets.
func (u RoomURI) Name() string { return lastSegment(string(u)) }

// Pseudonym reports whether u is of kind p.
func (u UserURI) Pseudonym() bool { return IdentifierURI(u).Kind() == KindPseudonym }

// Segments returns the decoded path segments after /d/.
func (u ClientURI) Segments() []string { return segments(string(u)) }

// Segments returns the decoded path segments after the kind.
func (u IdentifierURI) Segments() []string { return segments(string(u)) }

// User returns the user that a client URI of the two-segment form
// mimi://host/d/<user>/<client> belongs to, which is how a basic credential
// names both. ok is false for any other form. Decision 11
func (u ClientURI) User() (user UserURI, ok bool) {
	rest, ok := strings.CutPrefix(string(u), uriScheme)
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 4 || parts[1] != string(rune(KindClient)) {
		return "", false
	}
	return UserURI(uriScheme + parts[0] + "/u/" + parts[2]), true
}

// Kind returns what u names. It is KindProvider for a URI without a path.
func (u IdentifierURI) Kind() Kind {
	rest := strings.TrimPrefix(string(u), uriScheme)
	if i := strings.IndexByte(rest, '/'); i >= 0 && i+1 < len(rest) {
		return Kind(rest[i+1])
	}
	return KindProvider
}

// User returns u as a UserURI if it is of kind u or p.
func (u IdentifierURI) User() (user UserURI, ok bool) {
	if k := u.Kind(); k == KindUser || k == KindPseudonym {
		return UserURI(u), true
	}
	return "", false
}

// Provider returns u as a ProviderURI if it has no path.
func (u IdentifierURI) Provider() (provider ProviderURI, ok bool) {
	if u != "" && u.Kind() == KindProvider {
		return ProviderURI(u), true
	}
	return "", false
}

// Identifier returns u as a URI of any kind.
func (u ProviderURI) Identifier() IdentifierURI { return IdentifierURI(u) }

// Identifier returns u as a URI of any kind.
func (u UserURI) Identifier() IdentifierURI { return IdentifierURI(u) }

func unmarshalText[T ~string](u *T, b []byte, parse func(string) (T, error)) error {
	v, err := parse(string(b))
	if err == nil {
		*u = v
	}
	return err
}

// UnmarshalText accepts what ParseProviderDomain accepts.
func (d *ProviderDomain) UnmarshalText(b []byte) error {
	return unmarshalText(d, b, ParseProviderDomain)
}

// UnmarshalText accepts what ParseProviderURI accepts.
func (u *ProviderURI) UnmarshalText(b []byte) error { return unmarshalText(u, b, ParseProviderURI) }

// UnmarshalText accepts what ParseUserURI accepts.
func (u *UserURI) UnmarshalText(b []byte) error { return unmarshalText(u, b, ParseUserURI) }

// UnmarshalText accepts what ParseClientURI accepts.
func (u *ClientURI) UnmarshalText(b []byte) error { return unmarshalText(u, b, ParseClientURI) }

// UnmarshalText accepts what ParseRoomURI accepts.
func (u *RoomURI) UnmarshalText(b []byte) error { return unmarshalText(u, b, ParseRoomURI) }

// UnmarshalText accepts what ParseGroupURI accepts.
func (u *GroupURI) UnmarshalText(b []byte) error { return unmarshalText(u, b, ParseGroupURI) }

// UnmarshalText accepts what ParseTeamURI accepts.
func (u *TeamURI) UnmarshalText(b []byte) error { return unmarshalText(u, b, ParseTeamURI) }

// UnmarshalText accepts what ParseIdentifierURI accepts.
func (u *IdentifierURI) UnmarshalText(b []byte) error { return unmarshalText(u, b, ParseIdentifierURI) }
