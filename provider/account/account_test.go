package account

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/store/sqlite"
)

const password = "correct horse"

func open(t *testing.T, registration string, invites ...string) (*Accounts, *store.Store) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "a.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	a, err := New(Config{Domain: "a.example", Store: s, Registration: registration, Invites: invites, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return a, s
}

func code(err error) clientapi.Code {
	var e *clientapi.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestRegister(t *testing.T) {
	for _, tc := range []struct {
		name         string
		registration string
		login        clientapi.Login
		code         clientapi.Code
		says         string
	}{
		{"closed", "closed", clientapi.Login{User: "alice", Password: password, Device: "phone"}, clientapi.CodeForbidden, "ask its operator"},
		{"without an invite", "invite", clientapi.Login{User: "alice", Password: password, Device: "phone"}, clientapi.CodeForbidden, "by invite only"},
		{"with a foreign invite", "invite", clientapi.Login{User: "alice", Password: password, Device: "phone", Invite: "guess"}, clientapi.CodeForbidden, "by invite only"},
		{"with an invite", "invite", clientapi.Login{User: "alice", Password: password, Device: "phone", Invite: "welcome"}, "", ""},
		{"short password", "open", clientapi.Login{User: "alice", Password: "1234567", Device: "phone"}, clientapi.CodeBadRequest, "the password has 7 characters"},
		{"no name", "open", clientapi.Login{Password: password, Device: "phone"}, clientapi.CodeBadRequest, "the user name has 0 characters"},
		{"name of another alphabet", "open", clientapi.Login{User: "Alice", Password: password, Device: "phone"}, clientapi.CodeBadRequest, `'A'`},
		{"a path", "open", clientapi.Login{User: "..", Password: password, Device: "phone"}, clientapi.CodeBadRequest, "only dots"},
		{"device with a slash", "open", clientapi.Login{User: "alice", Password: password, Device: "a/b"}, clientapi.CodeBadRequest, "the device name"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, _ := open(t, tc.registration, "welcome")
			s, err := a.Register(t.Context(), tc.login)
			if tc.code == "" {
				if err != nil || s.User != "mimi://a.example/u/alice" || s.Token == "" {
					t.Fatalf("%+v, %v", s, err)
				}
				return
			}
			if code(err) != tc.code || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestTaken registers a name twice: the second is refused, and the first's
// password still works.
func TestTaken(t *testing.T) {
	a, _ := open(t, "open")
	ctx := t.Context()
	if _, err := a.Register(ctx, clientapi.Login{User: "alice", Password: password, Device: "phone"}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Register(ctx, clientapi.Login{User: "alice", Password: "another one", Device: "thief"}); code(err) != clientapi.CodeConflict {
		t.Errorf("%v", err)
	}
	if _, err := a.Login(ctx, clientapi.Login{User: "alice", Password: password, Device: "laptop"}); err != nil {
		t.Error(err)
	}
}

// TestLoginSaysNoMore answers a wrong password and an unknown user alike.
func TestLoginSaysNoMore(t *testing.T) {
	a, _ := open(t, "open")
	ctx := t.Context()
	if _, err := a.Register(ctx, clientapi.Login{User: "alice", Password: password, Device: "phone"}); err != nil {
		t.Fatal(err)
	}
	_, wrong := a.Login(ctx, clientapi.Login{User: "alice", Password: "wrong horse", Device: "phone"})
	_, unknown := a.Login(ctx, clientapi.Login{User: "nobody", Password: password, Device: "phone"})
	if code(wrong) != clientapi.CodeUnauthorized || unknown == nil || wrong.Error() != unknown.Error() {
		t.Errorf("%v; %v", wrong, unknown)
	}
}

// TestSessions logs a device in anew: its old session ends, the others' don't.
func TestSessions(t *testing.T) {
	a, _ := open(t, "open")
	ctx := t.Context()
	phone, err := a.Register(ctx, clientapi.Login{User: "alice", Password: password, Device: "phone"})
	if err != nil {
		t.Fatal(err)
	}
	laptop, err := a.Login(ctx, clientapi.Login{User: "alice", Password: password, Device: "laptop"})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []clientapi.Session{phone, laptop} {
		if d, err := a.Authenticate(ctx, s.Token); err != nil || d.Client != s.Client {
			t.Fatalf("%v, %v", d, err)
		}
	}
	again, err := a.Login(ctx, clientapi.Login{User: "alice", Password: password, Device: "phone"})
	if err != nil {
		t.Fatal(err)
	}
	check := func(s clientapi.Session, good bool) {
		t.Helper()
		if _, err := a.Authenticate(ctx, s.Token); good != (err == nil) || err != nil && code(err) != clientapi.CodeUnauthorized {
			t.Errorf("%s: %v", s.Client, err)
		}
	}
	check(phone, false)
	check(again, true)
	check(laptop, true)
	if err := a.RemoveDevice(ctx, laptop.User, laptop.Client); err != nil {
		t.Fatal(err)
	}
	check(laptop, false)
	check(again, true)
	if err := a.RemoveDevice(ctx, laptop.User, laptop.Client); code(err) != clientapi.CodeNotFound {
		t.Errorf("removed twice: %v", err)
	}
	if err := a.RemoveDevice(ctx, "mimi://a.example/u/mallory", again.Client); code(err) != clientapi.CodeNotFound {
		t.Errorf("removed by somebody else: %v", err)
	}
	check(again, true)
}

// TestMaxDevices fills a user's places: one more device is refused, one of those
// that are there may log in anew.
func TestMaxDevices(t *testing.T) {
	a, s := open(t, "open")
	ctx := t.Context()
	if _, err := a.Register(ctx, clientapi.Login{User: "alice", Password: password, Device: "d0"}); err != nil {
		t.Fatal(err)
	}
	err := s.Update(ctx, func(tx *store.Tx) error { // without a hash of the password each
		for i := 1; i < MaxDevices; i++ {
			uri, err := mimi.NewClientURI("a.example", "alice", fmt.Sprintf("d%d", i))
			if err != nil {
				return err
			}
			if err := tx.CreateClient(store.Client{URI: string(uri), User: "mimi://a.example/u/alice", Token: [32]byte{byte(i)}, State: store.StateActive}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Login(ctx, clientapi.Login{User: "alice", Password: password, Device: "one-more"}); code(err) != clientapi.CodeForbidden {
		t.Errorf("one more: %v", err)
	}
	if _, err := a.Login(ctx, clientapi.Login{User: "alice", Password: password, Device: "d7"}); err != nil {
		t.Errorf("one that was there: %v", err)
	}
}

// TestDelete deletes a user: nothing of it works any more, and its name stays taken.
func TestDelete(t *testing.T) {
	a, s := open(t, "open")
	ctx := t.Context()
	alice, err := a.Register(ctx, clientapi.Login{User: "alice", Password: password, Device: "phone"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Delete(ctx, alice.User, "wrong horse"); code(err) != clientapi.CodeUnauthorized {
		t.Errorf("with a wrong password: %v", err)
	}
	ended, err := a.Delete(ctx, alice.User, password)
	if err != nil || len(ended) != 1 || ended[0] != alice.Client {
		t.Fatalf("%v, %v", ended, err)
	}
	if _, err := a.Authenticate(ctx, alice.Token); code(err) != clientapi.CodeUnauthorized {
		t.Errorf("its session: %v", err)
	}
	if _, err := a.Login(ctx, clientapi.Login{User: "alice", Password: password, Device: "phone"}); code(err) != clientapi.CodeUnauthorized {
		t.Errorf("log-in: %v", err)
	}
	if _, err := a.Register(ctx, clientapi.Login{User: "alice", Password: password, Device: "phone"}); code(err) != clientapi.CodeConflict {
		t.Errorf("registered by somebody else: %v", err)
	}
	err = s.View(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		u, err := tx.User(string(alice.User))
		if err == nil && (u.State != store.StateDeleted || u.Password != nil) {
			t.Errorf("kept: %+v", u)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
