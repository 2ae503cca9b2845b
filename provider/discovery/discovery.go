// Package discovery lets people be found by what they chose to be found by
// (MIMI protocol §5.8), and by nothing else. Answers are uniform and limited, so
// that they don't serve to enumerate users.
package discovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
	"golang.org/x/time/rate"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/store"
)

// Limits of a query. Decisions 71, 72
const (
	MaxResults  = 20
	MaxElements = 8
	MinPartial  = 3 // characters of a partial name
	maxValue    = 512
	maxFields   = 64 // a user's profile fields
	candidates  = 200
)

// A Config configures Discovery.
type Config struct {
	Domain mimi.ProviderDomain
	Store  *store.Store
	Now    func() time.Time
	// HandleByDefault lets users be found by their exact handle unless they say
	// otherwise.
	HandleByDefault bool
	// PerSecond and Burst limit the queries of each peer and of each user.
	PerSecond float64
	Burst     int
}

// Discovery answers queries about one provider's users. Safe for concurrent
// use.
type Discovery struct {
	cfg Config

	mu     sync.Mutex
	limits map[string]*rate.Limiter
}

// New returns the discovery of a provider.
func New(cfg Config) *Discovery {
	return &Discovery{cfg: cfg, limits: map[string]*rate.Limiter{}}
}

// Allow counts a query of who, a peer or a user; the error is a
// *mimi.RefusedError.
func (d *Discovery) Allow(who string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.limits) > 100000 {
		clear(d.limits)
	}
	l := d.limits[who]
	if l == nil {
		l = rate.NewLimiter(rate.Limit(d.cfg.PerSecond), d.cfg.Burst)
		d.limits[who] = l
	}
	if r := l.ReserveN(d.cfg.Now(), 1); r.DelayFrom(d.cfg.Now()) > 0 {
		wait := r.DelayFrom(d.cfg.Now())
		r.CancelAt(d.cfg.Now())
		return &mimi.RefusedError{Refusal: mimi.RefusedTooMany, Reason: "too many identifier queries", RetryAfter: wait}
	}
	return nil
}

// Query answers a query from another provider, or from ourselves for one of our
// users.
func (d *Discovery) Query(ctx context.Context, from, domain mimi.ProviderDomain, req *mimi.IdentifierRequest) (*mimi.IdentifierResponse, error) {
	if domain != d.cfg.Domain {
		return nil, &mimi.RefusedError{Refusal: mimi.RefusedNotFound, Reason: fmt.Sprintf("%s is not served here", domain)}
	}
	// Our own users are counted one by one.
	if from != d.cfg.Domain {
		if err := d.Allow(string(from)); err != nil {
			return nil, err
		}
	}
	if len(req.QueryElements) == 0 || len(req.QueryElements) > MaxElements {
		return &mimi.IdentifierResponse{ResponseCode: mimi.QueryForbidden}, nil
	}
	// Each element's matches are read up to a bound. One that has more narrows
	// nothing down by itself: it is compared with what the others found.
	var users []string
	narrowed := false
	var wide []*mimi.QueryElement
	for i := range req.QueryElements {
		q := &req.QueryElements[i]
		found, code, err := d.matches(ctx, q)
		switch {
		case err != nil:
			return nil, err
		case code != mimi.QuerySuccess:
			return &mimi.IdentifierResponse{ResponseCode: code}, nil
		case len(found) >= candidates:
			wide = append(wide, q)
		case !narrowed:
			users, narrowed = found, true
		default:
			users = slices.DeleteFunc(users, func(u string) bool { return !slices.Contains(found, u) })
		}
	}
	if !narrowed {
		return &mimi.IdentifierResponse{ResponseCode: mimi.QueryAmbiguous}, nil
	}
	users, err := d.among(ctx, users, wide)
	if err != nil {
		return nil, err
	}
	return d.answer(ctx, users)
}

// matches returns the users who may be found by one element.
func (d *Discovery) matches(ctx context.Context, q *mimi.QueryElement) (users []string, code mimi.IdentifierQueryCode, err error) {
	name := fieldName(q)
	if err := checkName(q.SearchType, name); err != nil {
		return nil, mimi.QueryUnsupportedField, nil
	}
	if len(q.SearchValue) > maxValue {
		return nil, mimi.QueryForbidden, nil
	}
	search, err := Fold(q.SearchType, q.SearchValue)
	if err != nil || search == "" {
		return nil, mimi.QueryNotFound, nil
	}
	var fields []store.ProfileField
	err = d.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
		users, fields = nil, nil
		switch q.SearchType {
		case mimi.SearchHandle:
			users, err = d.byHandle(tx, search)
			return err
		case mimi.SearchPartialName:
			if len([]rune(search)) < MinPartial {
				return nil
			}
			fields, err = tx.FindableContaining(uint8(mimi.SearchPartialName), search, candidates)
		case mimi.SearchWholeProfile:
			for _, t := range []mimi.SearchIdentifierType{mimi.SearchNick, mimi.SearchEmail, mimi.SearchPhone, mimi.SearchPartialName, mimi.SearchOIDCStdClaim, mimi.SearchVCardField} {
				folded, err := Fold(t, q.SearchValue)
				if err != nil || folded == "" {
					continue
				}
				more, err := tx.Findable(uint8(t), "", folded, candidates)
				if err != nil {
					return err
				}
				fields = append(fields, more...)
			}
			if handle, err := Fold(mimi.SearchHandle, q.SearchValue); err == nil {
				users, err = d.byHandle(tx, handle)
				return err
			}
		default:
			fields, err = tx.Findable(uint8(q.SearchType), name, search, candidates)
		}
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	for _, f := range fields {
		if !slices.Contains(users, f.User) {
			users = append(users, f.User)
		}
	}
	return users, mimi.QuerySuccess, nil
}

// among returns those of the users whom each of the elements finds.
func (d *Discovery) among(ctx context.Context, users []string, elements []*mimi.QueryElement) (rest []string, err error) {
	if len(elements) == 0 {
		return users, nil
	}
	err = d.cfg.Store.View(ctx, func(tx *store.Tx) error {
		rest = nil
		for _, u := range users {
			fields, err := tx.Profile(u)
			if err != nil {
				return err
			}
			all := true
			for _, q := range elements {
				all = all && slices.ContainsFunc(fields, func(f store.ProfileField) bool { return f.Findable && finds(q, f) })
			}
			if all {
				rest = append(rest, u)
			}
		}
		return nil
	})
	return rest, err
}

// finds says whether an element finds a field.
func finds(q *mimi.QueryElement, f store.ProfileField) bool {
	source := mimi.SearchIdentifierType(f.Source)
	if q.SearchType == mimi.SearchWholeProfile {
		search, err := Fold(source, q.SearchValue)
		return err == nil && search == f.Search
	}
	search, err := Fold(q.SearchType, q.SearchValue)
	if err != nil || source != q.SearchType || f.Name != fieldName(q) {
		return false
	}
	if q.SearchType == mimi.SearchPartialName {
		return strings.Contains(f.Search, search)
	}
	return f.Search == search
}

// byHandle finds the user with a handle, unless it does not want that.
func (d *Discovery) byHandle(tx *store.Tx, handle string) ([]string, error) {
	user, err := mimi.NewUserURI(d.cfg.Domain, handle)
	if err != nil {
		return nil, nil
	}
	u, err := tx.User(string(user))
	if errors.Is(err, store.ErrNotFound) || err == nil && u.State != store.StateActive {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	fields, err := tx.Profile(u.URI)
	if err != nil {
		return nil, err
	}
	findable := d.cfg.HandleByDefault
	for _, f := range fields {
		if f.Source == uint8(mimi.SearchHandle) {
			findable = f.Findable
		}
	}
	if !findable {
		return nil, nil
	}
	return []string{u.URI}, nil
}

// answer lists users with what they show.
func (d *Discovery) answer(ctx context.Context, users []string) (*mimi.IdentifierResponse, error) {
	slices.Sort(users)
	switch {
	case len(users) == 0:
		return &mimi.IdentifierResponse{ResponseCode: mimi.QueryNotFound}, nil
	case len(users) > MaxResults:
		return &mimi.IdentifierResponse{ResponseCode: mimi.QueryAmbiguous}, nil
	}
	resp := &mimi.IdentifierResponse{ResponseCode: mimi.QuerySuccess}
	err := d.cfg.Store.View(ctx, func(tx *store.Tx) error {
		resp.URI, resp.FoundProfiles = nil, nil
		for _, u := range users {
			fields, err := tx.Profile(u)
			if err != nil {
				return err
			}
			profile := mimi.UserProfile{StableURI: mimi.UserURI(u)}
			for _, f := range fields {
				source := mimi.FieldSource(f.Source)
				if f.Shown && (source == mimi.SourceOIDCStdClaim || source == mimi.SourceVCardField) {
					profile.Fields = append(profile.Fields, mimi.ProfileField{FieldSource: source, FieldName: f.Name, FieldValue: []byte(f.Value)})
				}
			}
			resp.URI = append(resp.URI, mimi.UserURI(u))
			resp.FoundProfiles = append(resp.FoundProfiles, profile)
		}
		return nil
	})
	return resp, err
}

func fieldName(q *mimi.QueryElement) string {
	switch q.SearchType {
	case mimi.SearchOIDCStdClaim:
		return q.ClaimName
	case mimi.SearchVCardField:
		return strings.ToUpper(q.PropertyName)
	}
	return ""
}

// Fold brings a value into the form in which it is compared. Decision 72
func Fold(t mimi.SearchIdentifierType, value string) (string, error) {
	value = norm.NFC.String(strings.TrimSpace(value))
	switch t {
	case mimi.SearchHandle:
		for _, scheme := range []string{"mimi://", "im:"} {
			if rest, ok := strings.CutPrefix(value, scheme); ok {
				value = rest
				if scheme == "mimi://" {
					_, name, ok := strings.Cut(value, "/u/")
					if !ok {
						return "", errors.New("discovery: the URI is not a user's")
					}
					return mimi.Unescape(name)
				}
			}
		}
		value, _, _ = strings.Cut(value, "@")
		return asciiLower(value), nil
	case mimi.SearchNick:
		return asciiLower(value), nil
	case mimi.SearchEmail:
		local, domain, ok := strings.Cut(value, "@")
		if !ok {
			return "", errors.New("discovery: an e-mail address has an @")
		}
		return local + "@" + asciiLower(domain), nil
	case mimi.SearchPhone:
		var b strings.Builder
		for i, r := range value {
			if r == '+' && i == 0 || r >= '0' && r <= '9' {
				b.WriteRune(r)
			}
		}
		return b.String(), nil
	case mimi.SearchPartialName:
		return cases.Fold().String(value), nil
	}
	return value, nil
}

func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= unicode.MaxASCII {
			return unicode.ToLower(r)
		}
		return r
	}, s)
}

// Profile returns what a user says of themselves.
func (d *Discovery) Profile(ctx context.Context, user mimi.UserURI) (list []clientapi.ProfileField, err error) {
	err = d.cfg.Store.View(ctx, func(tx *store.Tx) error {
		list = nil
		fields, err := tx.Profile(string(user))
		for _, f := range fields {
			list = append(list, clientapi.ProfileField{Source: f.Source, Name: f.Name, Value: f.Value, Findable: f.Findable, Shown: f.Shown})
		}
		return err
	})
	return list, err
}

// Set stores what a user says of themselves. For the handle only Findable
// counts: its value is the user's name.
func (d *Discovery) Set(ctx context.Context, user mimi.UserURI, f clientapi.ProfileField) error {
	t := mimi.SearchIdentifierType(f.Source)
	if t == mimi.SearchVCardField {
		f.Name = strings.ToUpper(f.Name)
	}
	if err := checkName(t, f.Name); err != nil {
		return clientapi.Errorf(clientapi.CodeBadRequest, "%v", err)
	}
	if t == mimi.SearchWholeProfile {
		return clientapi.Errorf(clientapi.CodeBadRequest, "wholeProfile searches all fields; it is not one itself")
	}
	if len(f.Value) > maxValue {
		return clientapi.Errorf(clientapi.CodeBadRequest, "the value has %d octets; at most %d are kept", len(f.Value), maxValue)
	}
	if t == mimi.SearchHandle {
		f.Value = string(user)
	}
	search, err := Fold(t, f.Value)
	if err != nil {
		return clientapi.Errorf(clientapi.CodeBadRequest, "%v", err)
	}
	return d.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		fields, err := tx.Profile(string(user))
		if err != nil {
			return err
		}
		same := func(o store.ProfileField) bool { return o.Source == f.Source && o.Name == f.Name }
		if len(fields) >= maxFields && !slices.ContainsFunc(fields, same) {
			return clientapi.Errorf(clientapi.CodeTooLarge, "a profile has at most %d fields", maxFields)
		}
		return tx.PutProfileField(store.ProfileField{User: string(user), Source: f.Source, Name: f.Name, Value: f.Value, Search: search, Findable: f.Findable, Shown: f.Shown})
	})
}

// Drop removes a field.
func (d *Discovery) Drop(ctx context.Context, user mimi.UserURI, source uint8, name string) error {
	err := d.cfg.Store.Update(ctx, func(tx *store.Tx) error { return tx.DropProfileField(string(user), source, name) })
	if errors.Is(err, store.ErrNotFound) {
		return clientapi.Errorf(clientapi.CodeNotFound, "the profile has no such field")
	}
	return err
}
