package mimi

import (
	"errors"
	"strings"
	"testing"

	"encoding/json"
)

func TestParseURI(t *testing.T) {
	long := "mimi://a.example/u/" + strings.Repeat("x", MaxURILen)
	for _, tt := range []struct {
		in   string
		kind Kind
		err  error
	}{
		{"mimi://a.example", KindProvider, nil},
		{"mimi://localhost", KindProvider, nil},
		{"mimi://xn--bcher-kva.example", KindProvider, nil},
		{"mimi://a.example/u/alice", KindUser, nil},
		{"mimi://a.example/p/x93", KindPseudonym, nil},
		{"mimi://a.example/d/ClientA1", KindClient, nil},
		{"mimi://a.example/d/alice/phone/2", KindClient, nil},
		{"mimi://a.example/r/clubhouse", KindRoom, nil},
		{"mimi://a.example/g/clubhouse", KindGroup, nil},
		{"mimi://a.example/t/staff", KindTeam, nil},
		{"mimi://a.example/u/al%20ice%2F%C3%A9", KindUser, nil},
		{"mimi://a.example/u/~a.b_c-d", KindUser, nil},
		{"mimi://a.example/u/...", KindUser, nil},

		{"", 0, ErrURIScheme},
		{"im:alice@a.example", 0, ErrURIScheme},
		{"MIMI://a.example", 0, ErrURIScheme},
		{"https://a.example/u/alice", 0, ErrURIScheme},
		{long, 0, ErrURILength},
		{"mimi://", 0, ErrURIHost},
		{"mimi:///u/alice", 0, ErrURIHost},
		{"mimi://A.example", 0, ErrURIHost},
		{"mimi://a..example", 0, ErrURIHost},
		{"mimi://a.example.", 0, ErrURIHost},
		{"mimi://-a.example", 0, ErrURIHost},
		{"mimi://a-.example", 0, ErrURIHost},
		{"mimi://a_b.example", 0, ErrURIHost},
		{"mimi://bücher.example", 0, ErrURIHost},
		{"mimi://127.0.0.1/u/alice", 0, ErrURIHost},
		{"mimi://" + strings.Repeat("a", 64) + ".example", 0, ErrURIHost},
		{"mimi://" + strings.Repeat("a.", 127) + "example", 0, ErrURIHost},
		{"mimi://a.example:443/u/alice", 0, ErrURIAuthority},
		{"mimi://alice@a.example", 0, ErrURIAuthority},
		{"mimi://a.example?x", 0, ErrURISuffix},
		{"mimi://a.example#x", 0, ErrURISuffix},
		{"mimi://a.example/u/alice?x", 0, ErrURISuffix},
		{"mimi://a.example/u/alice#x", 0, ErrURISuffix},
		{"mimi://a.example/", 0, ErrURIKind},
		{"mimi://a.example/b/bob", 0, ErrURIKind},
		{"mimi://a.example/clubhousee", 0, ErrURIKind},
		{"mimi://a.example//alice", 0, ErrURIKind},
		{"mimi://a.example/u", 0, ErrURISegments},
		{"mimi://a.example/u/alice/phone", 0, ErrURISegments},
		{"mimi://a.example/r/a/b", 0, ErrURISegments},
		{"mimi://a.example/u/", 0, ErrURISegment},
		{"mimi://a.example/u/alice/", 0, ErrURISegment},
		{"mimi://a.example/d/alice/", 0, ErrURISegment},
		{"mimi://a.example/d//phone", 0, ErrURISegment},
		{"mimi://a.example/u/.", 0, ErrURISegment},
		{"mimi://a.example/u/..", 0, ErrURISegment},
		{"mimi://a.example/u/a%2fb", 0, ErrURIEncoding},
		{"mimi://a.example/u/%61lice", 0, ErrURIEncoding},
		{"mimi://a.example/u/%2E", 0, ErrURIEncoding},
		{"mimi://a.example/u/a%", 0, ErrURIEncoding},
		{"mimi://a.example/u/a%2", 0, ErrURIEncoding},
		{"mimi://a.example/u/a@b", 0, ErrURIEncoding},
		{"mimi://a.example/u/a b", 0, ErrURIEncoding},
		{"mimi://a.example/u/é", 0, ErrURIEncoding},
		{"mimi://a.example/u/a\x00", 0, ErrURIEncoding},
	} {
		u, err := ParseIdentifierURI(tt.in)
		if !errors.Is(err, tt.err) {
			t.Errorf("ParseIdentifierURI(%q): error %v, want %v", tt.in, err, tt.err)
			continue
		}
		var ue *URIError
		if err != nil {
			if !errors.As(err, &ue) || ue.Input != tt.in || u != "" {
				t.Errorf("ParseIdentifierURI(%q) = %q, %#v, want an empty URI and a *URIError", tt.in, u, err)
			}
			continue
		}
		if u.Kind() != tt.kind || string(u) != tt.in {
			t.Errorf("ParseIdentifierURI(%q) = %q of kind %v, want kind %v", tt.in, u, u.Kind(), tt.kind)
		}
		// Each type takes its own kinds and nothing else.
		typed := map[string]struct {
			err   error
			kinds string
		}{
			"provider": {second(ParseProviderURI(tt.in)), "\x00"},
			"user":     {second(ParseUserURI(tt.in)), "up"},
			"client":   {second(ParseClientURI(tt.in)), "d"},
			"room":     {second(ParseRoomURI(tt.in)), "r"},
			"group":    {second(ParseGroupURI(tt.in)), "g"},
			"team":     {second(ParseTeamURI(tt.in)), "t"},
		}
		for name, c := range typed {
			if ok := strings.IndexByte(c.kinds, byte(tt.kind)) >= 0; ok != (c.err == nil) {
				t.Errorf("%q as %s URI: error %v", tt.in, name, c.err)
			} else if !ok && !errors.Is(c.err, ErrURIKind) {
				t.Errorf("%q as %s URI: error %v, want ErrURIKind", tt.in, name, c.err)
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestBuildURI(t *testing.T) {
	u := must(NewUserURI("a.example", "al ice/é.~"))
	if want := UserURI("mimi://a.example/u/al%20ice%2F%C3%A9.~"); u != want {
		t.Errorf("NewUserURI = %q, want %q", u, want)
	}
	if u.Host() != "a.example" || u.Name() != "al ice/é.~" || u.Pseudonym() {
		t.Errorf("host %q, name %q, pseudonym %v", u.Host(), u.Name(), u.Pseudonym())
	}
	if p := must(NewPseudonymURI("a.example", "x")); !p.Pseudonym() || p != "mimi://a.example/p/x" {
		t.Errorf("pseudonym = %q", p)
	}
	c := must(NewClientURI("a.example", "al ice", "phone"))
	if c != "mimi://a.example/d/al%20ice/phone" {
		t.Errorf("NewClientURI = %q", c)
	}
	if user, ok := c.User(); !ok || user != "mimi://a.example/u/al%20ice" {
		t.Errorf("User() = %q, %v", user, ok)
	}
	for _, c := range []ClientURI{"mimi://a.example/d/one", "mimi://a.example/d/a/b/c", ""} {
		if user, ok := c.User(); ok {
			t.Errorf("%q.User() = %q, want none", c, user)
		}
	}
	if s := c.Segments(); len(s) != 2 || s[0] != "al ice" || s[1] != "phone" {
		t.Errorf("Segments() = %q", s)
	}
	for _, name := range []string{"", ".", "..", strings.Repeat("é", 400)} {
		if u, err := NewUserURI("a.example", name); err == nil {
			t.Errorf("NewUserURI(%q) = %q, want an error", name, u)
		}
	}
	if u, err := NewRoomURI("A.example", "x"); !errors.Is(err, ErrURIHost) {
		t.Errorf("NewRoomURI on A.example = %q, %v", u, err)
	}
	if p := ProviderDomain("a.example").URI(); p != "mimi://a.example" || p.Host() != "a.example" {
		t.Errorf("provider URI = %q", p)
	}
}

func TestURIJSON(t *testing.T) {
	var v struct{ Room RoomURI }
	if err := json.Unmarshal([]byte(`{"Room":"mimi://a.example/r/x"}`), &v); err != nil || v.Room != "mimi://a.example/r/x" {
		t.Errorf("got %q, %v", v.Room, err)
	}
	if err := json.Unmarshal([]byte(`{"Room":"mimi://a.example/u/x"}`), &v); !errors.Is(err, ErrURIKind) {
		t.Errorf("a user URI decoded as a room: %v", err)
	}
}

func FuzzParseURI(f *testing.F) {
	for _, s := range []string{"mimi://a.example", "mimi://a.example/d/a/b", "mimi://a.example/u/%20", "mimi://a/u/.."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseIdentifierURI(s)
		if err != nil {
			return
		}
		// Splitting and building again must give the same octets.
		if string(u) != s {
			t.Fatalf("%q became %q", s, u)
		}
		again := uriScheme + string(u.Host())
		if u.Kind() != KindProvider {
			again = build(u.Host(), u.Kind(), u.Segments()...)
		}
		if again != s {
			t.Fatalf("%q rebuilt as %q", s, again)
		}
	})
}

func TestTemplate(t *testing.T) {
	room := must(NewRoomURI("a.example", "club house"))
	v := Variables{TargetUser: "mimi://b.example/u/bob", RoomID: room, Domain: "b.example", DownloadURL: "https://x.example/a?b=c"}
	for _, tt := range []struct{ template, url string }{
		{"https://h.example/v1/update/{roomId}", "https://h.example/v1/update/mimi%3A%2F%2Fa.example%2Fr%2Fclub%2520house"},
		{"https://h.example/v1/update{roomId}", "https://h.example/v1/updatemimi%3A%2F%2Fa.example%2Fr%2Fclub%2520house"},
		{"https://h.example/{targetUser}/km", "https://h.example/mimi%3A%2F%2Fb.example%2Fu%2Fbob/km"},
		{"https://h.example/{domain}/q/{targetUser}", "https://h.example/b.example/q/mimi%3A%2F%2Fb.example%2Fu%2Fbob"},
		{"https://h.example/dl/{downloadUrl}", "https://h.example/dl/https%3A%2F%2Fx.example%2Fa%3Fb%3Dc"},
		{"https://h.example/fixed", "https://h.example/fixed"},
	} {
		tp, err := ParseTemplate(tt.template)
		if err != nil {
			t.Errorf("ParseTemplate(%q): %v", tt.template, err)
			continue
		}
		url, err := tp.Expand(v)
		if err != nil || url != tt.url {
			t.Errorf("%q expands to %q, %v, want %q", tp, url, err, tt.url)
		}
		raw := url[len("https://h.example"):]
		values, ok := tp.Match(raw)
		if !ok {
			t.Errorf("%q does not match %q", tp, raw)
		}
		for name, got := range values {
			if want, _ := v.lookup(name); got != want {
				t.Errorf("%q: %s = %q, want %q", raw, name, got, want)
			}
		}
		if strings.Count(tt.template, "{") != len(values) {
			t.Errorf("%q gave %d values", raw, len(values))
		}
		// A path that a proxy has decoded has more segments and must not match.
		if decoded := strings.ReplaceAll(raw, "%2F", "/"); decoded != raw {
			if values, ok := tp.Match(decoded); ok {
				t.Errorf("%q matches the decoded %q: %v", tp, decoded, values)
			}
		}
	}
	for _, tt := range []struct {
		template string
		err      error
	}{
		{"", ErrTemplateScheme},
		{"http://h.example/{roomId}", ErrTemplateScheme},
		{"/v1/{roomId}", ErrTemplateScheme},
		{"https://{domain}/x", ErrTemplateScheme},
		{"https:///x", ErrTemplateScheme},
		{"https://u@h.example/x", ErrTemplateScheme},
		{"https://h.example/{+roomId}", ErrTemplateBraces},
		{"https://h.example/{roomId", ErrTemplateBraces},
		{"https://h.example/roomId}", ErrTemplateBraces},
		{"https://h.example/{}", ErrTemplateBraces},
		{"https://h.example/{room,domain}", ErrTemplateBraces},
		{"https://h.example/{room}", ErrTemplateVariable},
	} {
		if tp, err := ParseTemplate(tt.template); !errors.Is(err, tt.err) {
			t.Errorf("ParseTemplate(%q) = %q, %v, want %v", tt.template, tp, err, tt.err)
		}
	}
	if url, err := Template("https://h.example/{requesterUser}").Expand(v); !errors.Is(err, ErrTemplateValue) {
		t.Errorf("expanding without a value = %q, %v", url, err)
	}
	for _, raw := range []string{"/v1/update/", "/v1/update/a/b", "/v1/update/%2", "/v1/updat/x", "/x/v1/update/y"} {
		if v, ok := Template("https://h.example/v1/update/{roomId}").Match(raw); ok {
			t.Errorf("matched %q: %v", raw, v)
		}
	}
}

func TestEscape(t *testing.T) {
	if got, want := Escape("mimi://a.example/r/clubhouse"), "mimi%3A%2F%2Fa.example%2Fr%2Fclubhouse"; got != want {
		t.Errorf("Escape = %q, want %q", got, want)
	}
	for _, s := range []string{"%", "%2", "%zz", "a%G0"} {
		if got, err := Unescape(s); err != ErrEscape {
			t.Errorf("Unescape(%q) = %q, %v", s, got, err)
		}
	}
	if got, err := Unescape("%2f%2F"); err != nil || got != "//" {
		t.Errorf("Unescape = %q, %v", got, err)
	}
}

func TestDirectory(t *testing.T) {
	d, err := NewDirectory("https://mimi.a.example/v1")
	if err != nil {
		t.Fatal(err)
	}
	b, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseDirectory(b)
	if err != nil || got != d {
		t.Errorf("round trip gives %+v, %v", got, err)
	}
	got, err = ParseDirectory([]byte(`{"update":"https://m.example/update{roomId}","notify_v2":"x","other":{"a":1}}`))
	if err != nil || got.Update != "https://m.example/update{roomId}" || got.Notify != "" {
		t.Errorf("foreign directory: %+v, %v", got, err)
	}
	if _, err = ParseDirectory([]byte(`{"update":"http://m.example/{roomId}"}`)); !errors.Is(err, ErrTemplateScheme) || !strings.Contains(err.Error(), "key update") {
		t.Errorf("http endpoint: %v", err)
	}
	if _, err = ParseDirectory([]byte(`[]`)); err == nil {
		t.Error("an array is not a directory")
	}
}
