package provider_test

import (
	"crypto/rand"
	"errors"
	"testing"

	"github.com/comity-im/comity/mimi"
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
