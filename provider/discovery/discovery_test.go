package discovery

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/store/sqlite"
)

const here = mimi.ProviderDomain("a.example")

func newDiscovery(t *testing.T, change func(*Config)) *Discovery {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "a.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	cfg := Config{Domain: here, Store: s, Now: time.Now, PerSecond: 1e6, Burst: 1e6}
	if change != nil {
		change(&cfg)
	}
	return New(cfg)
}

func (d *Discovery) user(t *testing.T, name string, state int64, fields ...clientapi.ProfileField) mimi.UserURI {
	t.Helper()
	uri := mimi.UserURI("mimi://a.example/u/" + name)
	if err := d.cfg.Store.Update(t.Context(), func(tx *store.Tx) error { return tx.CreateUser(store.User{URI: string(uri), State: state}) }); err != nil {
		t.Fatal(err)
	}
	for _, f := range fields {
		if err := d.Set(t.Context(), uri, f); err != nil {
			t.Fatal(err)
		}
	}
	return uri
}

func (d *Discovery) find(t *testing.T, elements ...mimi.QueryElement) (mimi.IdentifierQueryCode, []mimi.UserURI) {
	t.Helper()
	resp, err := d.Query(t.Context(), "b.example", here, &mimi.IdentifierRequest{QueryElements: elements})
	if err != nil {
		t.Fatal(err)
	}
	return resp.ResponseCode, resp.URI
}

func handle(v string) mimi.QueryElement {
	return mimi.QueryElement{SearchType: mimi.SearchHandle, SearchValue: v}
}

// The default is the exact handle, or nothing; a user's word goes before it.
func TestDefaults(t *testing.T) {
	for _, byDefault := range []bool{true, false} {
		d := newDiscovery(t, func(c *Config) { c.HandleByDefault = byDefault })
		plain := d.user(t, "plain", store.StateActive)
		d.user(t, "hidden", store.StateActive, clientapi.ProfileField{Source: uint8(mimi.SearchHandle)})
		shown := d.user(t, "shown", store.StateActive, clientapi.ProfileField{Source: uint8(mimi.SearchHandle), Findable: true})
		d.user(t, "deleted", store.StateDeleted, clientapi.ProfileField{Source: uint8(mimi.SearchHandle), Findable: true})
		for name, want := range map[string]mimi.UserURI{"plain": plain, "hidden": "", "shown": shown, "deleted": "", "plai": "", "nobody": ""} {
			if name == "plain" && !byDefault {
				want = ""
			}
			code, found := d.find(t, handle(name))
			if want == "" && (code != mimi.QueryNotFound || len(found) > 0) || want != "" && !slices.Equal(found, []mimi.UserURI{want}) {
				t.Errorf("%s, by default %v: %v %v", name, byDefault, code, found)
			}
		}
	}
}

// Who does not exist, does not want to be found and was asked for by a field that
// it does not have is answered alike, octet for octet.
func TestUniformAnswers(t *testing.T) {
	d := newDiscovery(t, nil)
	d.user(t, "hidden", store.StateActive, clientapi.ProfileField{Source: uint8(mimi.SearchNick), Value: "secret"})
	var first string
	for _, q := range []mimi.QueryElement{handle("hidden"), handle("nobody"), {SearchType: mimi.SearchNick, SearchValue: "secret"},
		{SearchType: mimi.SearchNick, SearchValue: "nobody's"}, {SearchType: mimi.SearchEmail, SearchValue: "no address"},
		{SearchType: mimi.SearchPartialName, SearchValue: "hi"}, {SearchType: mimi.SearchWholeProfile, SearchValue: "secret"}} {
		resp, err := d.Query(t.Context(), "b.example", here, &mimi.IdentifierRequest{QueryElements: []mimi.QueryElement{q}})
		if err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprintf("%+v", *resp)
		if first == "" {
			first = got
		}
		if got != first || resp.ResponseCode != mimi.QueryNotFound {
			t.Errorf("%+v: %s, not %s", q, got, first)
		}
	}
}

// A query that would list many lists nobody.
func TestManyAreNone(t *testing.T) {
	d := newDiscovery(t, nil)
	org := mimi.QueryElement{SearchType: mimi.SearchVCardField, PropertyName: "ORG", SearchValue: "Acme"}
	for i := range MaxResults {
		d.user(t, fmt.Sprint("u", i), store.StateActive, clientapi.ProfileField{Source: uint8(mimi.SearchVCardField), Name: "ORG", Value: "Acme", Findable: true},
			clientapi.ProfileField{Source: uint8(mimi.SearchNick), Value: fmt.Sprint("nick", i), Findable: true})
	}
	if code, found := d.find(t, org); code != mimi.QuerySuccess || len(found) != MaxResults {
		t.Errorf("%d users: %v, %d found", MaxResults, code, len(found))
	}
	d.user(t, "onemore", store.StateActive, clientapi.ProfileField{Source: uint8(mimi.SearchVCardField), Name: "org", Value: "Acme", Findable: true})
	if code, found := d.find(t, org); code != mimi.QueryAmbiguous || len(found) != 0 {
		t.Errorf("one more: %v, %d found", code, len(found))
	}
	if code, found := d.find(t, org, mimi.QueryElement{SearchType: mimi.SearchNick, SearchValue: "NICK7"}); code != mimi.QuerySuccess || len(found) != 1 {
		t.Errorf("narrowed down: %v, %v", code, found)
	}
	var many []mimi.QueryElement
	for range MaxElements + 1 {
		many = append(many, org)
	}
	if code, _ := d.find(t, many...); code != mimi.QueryForbidden {
		t.Errorf("%d elements: %v", len(many), code)
	}
	if code, _ := d.find(t, handle(strings.Repeat("x", maxValue+1))); code != mimi.QueryForbidden {
		t.Errorf("a long value: %v", code)
	}
	var refused *mimi.RefusedError
	if _, err := d.Query(t.Context(), "b.example", "c.example", &mimi.IdentifierRequest{}); !errors.As(err, &refused) || refused.Refusal != mimi.RefusedNotFound {
		t.Errorf("a domain that is not ours: %v", err)
	}
}

// Each peer and each user has its own budget, which fills up again.
func TestAllow(t *testing.T) {
	now := time.Now()
	d := newDiscovery(t, func(c *Config) { c.PerSecond, c.Burst, c.Now = 0.5, 2, func() time.Time { return now } })
	allow := func(who string) bool {
		err := d.Allow(who)
		var r *mimi.RefusedError
		if err != nil && (!errors.As(err, &r) || r.Refusal != mimi.RefusedTooMany || r.RetryAfter <= 0 || r.RetryAfter > 2*time.Second) {
			t.Errorf("%s: %v", who, err)
		}
		return err == nil
	}
	for i, want := range []bool{true, true, false, false} {
		if allow("b.example") != want {
			t.Errorf("query %d: allowed %v", i, !want)
		}
	}
	if !allow("c.example") {
		t.Error("b.example's queries are counted for c.example")
	}
	now = now.Add(2 * time.Second)
	if !allow("b.example") || allow("b.example") {
		t.Error("two seconds later it is not one more")
	}
}

// What a user may say: names are of the vocabulary, values and fields are bounded.
func TestSet(t *testing.T) {
	d := newDiscovery(t, nil)
	u := d.user(t, "alice", store.StateActive)
	field := func(s mimi.SearchIdentifierType, name, value string) clientapi.ProfileField {
		return clientapi.ProfileField{Source: uint8(s), Name: name, Value: value}
	}
	for _, bad := range []clientapi.ProfileField{
		field(mimi.SearchOIDCStdClaim, "shoe_size", "46"), field(mimi.SearchOIDCStdClaim, "", "x"), field(mimi.SearchOIDCStdClaim, "Given_Name", "x"),
		field(mimi.SearchVCardField, "SHOES", "46"), field(mimi.SearchVCardField, "", "46"), field(mimi.SearchNick, "name", "x"),
		field(mimi.SearchWholeProfile, "", "x"), field(99, "", "x"), field(mimi.SearchEmail, "", "no address"),
		field(mimi.SearchNick, "", strings.Repeat("x", maxValue+1)),
	} {
		var e *clientapi.Error
		if err := d.Set(t.Context(), u, bad); !errors.As(err, &e) || e.Code != clientapi.CodeBadRequest {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	var all []clientapi.ProfileField
	for _, name := range properties {
		all = append(all, field(mimi.SearchVCardField, strings.ToLower(name), "x"))
	}
	for _, name := range claims {
		all = append(all, field(mimi.SearchOIDCStdClaim, name, "x"))
	}
	for i, f := range all[:maxFields+1] {
		var e *clientapi.Error
		if err := d.Set(t.Context(), u, f); i < maxFields && err != nil || i == maxFields && (!errors.As(err, &e) || e.Code != clientapi.CodeTooLarge) {
			t.Fatalf("field %d: %v", i, err)
		}
	}
	if err := d.Set(t.Context(), u, field(mimi.SearchVCardField, "org", "y")); err != nil {
		t.Errorf("a field of a full profile can't be changed: %v", err)
	}
	var e *clientapi.Error
	if err := d.Drop(t.Context(), u, uint8(mimi.SearchNick), ""); !errors.As(err, &e) || e.Code != clientapi.CodeNotFound {
		t.Errorf("dropping what there isn't: %v", err)
	}
	if err := d.Drop(t.Context(), u, uint8(mimi.SearchVCardField), "ORG"); err != nil {
		t.Error(err)
	}
}

// Values are compared as Decision 72 says.
func TestFold(t *testing.T) {
	for _, x := range []struct {
		t        mimi.SearchIdentifierType
		in, want string
		bad      bool
	}{
		{mimi.SearchHandle, "im:Alice@a.example", "alice", false},
		{mimi.SearchHandle, "mimi://a.example/u/alice", "alice", false},
		{mimi.SearchHandle, "mimi://a.example/r/alice", "", true},
		{mimi.SearchHandle, " alice ", "alice", false},
		{mimi.SearchNick, "ALICE Ä", "alice Ä", false},
		{mimi.SearchEmail, "Al.Ice@A.Example", "Al.Ice@a.example", false},
		{mimi.SearchEmail, "alice", "", true},
		{mimi.SearchPhone, "+49 (30) 123-4", "+49301234", false},
		{mimi.SearchPhone, "0049+30", "004930", false},
		{mimi.SearchPartialName, "MÜLLERSTRASSE", "müllerstrasse", false},
		{mimi.SearchPartialName, "Straße", "strasse", false},
		{mimi.SearchPartialName, "e\u0301", "é", false},
		{mimi.SearchVCardField, "Acme", "Acme", false},
	} {
		got, err := Fold(x.t, x.in)
		if got != x.want || (err != nil) != x.bad {
			t.Errorf("%v %q: %q, %v; not %q", x.t, x.in, got, err, x.want)
		}
	}
}
