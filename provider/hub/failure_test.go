package hub

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/store/sqlite"
)

// A database that does not answer while an update is judged is no refusal, which
// a device would take for final.
func TestFailureIsNoRefusal(t *testing.T) {
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "hub.db"))
	if err != nil {
		t.Fatal(err)
	}
	h := New(Config{Domain: "a.example", Store: s, Now: time.Now, Refused: func(mimi.RoomURI, mimi.ProviderDomain, string, string, error) {
		t.Error("it was counted as refused")
	}})
	r, err := h.room("mimi://a.example/r/clubhouse")
	if err != nil {
		t.Fatal(err)
	}
	st := &state{}
	s.Close()
	_, joins := r.checkJoin(st, &room.Next{JoinedKey: []byte{1}, JoinedUser: "mimi://b.example/u/bob"})
	for what, err := range map[string]error{
		"who joined":     joins,
		"what it claims": r.checkClaims(&room.Next{KeyPackages: nil}),
	} {
		resp, err := r.refuse(st, "b.example", [32]byte{}, err)
		var failed *mimi.FailedError
		if status, after := mimi.HTTPStatus(err); !errors.As(err, &failed) || status != 503 || after == 0 {
			t.Errorf("%s can't be looked up: %v, %v (status %d)", what, resp, err, status)
		}
	}
}
