package provider_test

import (
	"crypto/rand"
	"errors"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
)

func asError[T any](err error, to *T) bool { return errors.As(err, to) }

func mustStage(t *testing.T, m *member, uri mimi.RoomURI) *mimi.HandshakeBundle {
	t.Helper()
	s, err := m.rooms[uri].Commit(rand.Reader, 0)
	if err != nil {
		t.Fatal(err)
	}
	return s.Bundle()
}

// AddsWith adds somebody with a KeyPackage that is at hand.
func (m *member) AddsWith(uri mimi.RoomURI, who *member, kp mls.KeyPackage) {
	m.Helper()
	m.Commits(uri, func(r *room.Room) (*room.Staged, error) {
		return r.AddUsers(rand.Reader, 0, room.Addition{User: who.dev.User, Role: memberRole(r), KeyPackages: []mls.KeyPackage{kp}})
	})
}

func refString(t *testing.T, kp *mls.KeyPackage) string {
	t.Helper()
	ref, err := kp.Ref()
	if err != nil {
		t.Fatal(err)
	}
	return string(ref)
}

// random is crypto/rand as a value; zero is no randomness at all.
type (
	random struct{}
	zero   struct{}
)

func (random) Read(b []byte) (int, error) { return rand.Read(b) }
func (zero) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
