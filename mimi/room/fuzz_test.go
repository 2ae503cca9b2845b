package room

import (
	"crypto/rand"
	"errors"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// Whatever a provider sends as an update, the hub takes it or refuses it with a code, and a refusal changes nothing.
func FuzzHubUpdate(f *testing.F) {
	w := newWorld(f, policy.Cooperative, nil)
	a, b := w.devices[0], w.device(bob, "b1")
	w.must(a.add("ordinary_user", b))
	seed := func(bundle *mimi.HandshakeBundle, err error) {
		if err != nil {
			f.Fatal(err)
		}
		data, err := tlspl.Marshal(bundle)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	for _, stage := range []func() (*Staged, error){
		func() (*Staged, error) { return a.room.Commit(rand.Reader, 0) },
		func() (*Staged, error) { return b.room.SetMetadata(rand.Reader, mimi.RoomMetaData{RoomName: "x"}) },
		func() (*Staged, error) { return a.room.Ban(rand.Reader, bob) },
		func() (*Staged, error) {
			return a.room.AddUsers(rand.Reader, 0, Addition{User: cathy, Role: 2, KeyPackages: []mls.KeyPackage{w.device(cathy, "c1").keyPackage()}})
		},
	} {
		s, err := stage()
		seed(s.Bundle(), err)
	}
	p, err := b.room.Leave(rand.Reader)
	seed(p.Bundle, err)
	before := describe(w.hub.rules.room)
	f.Fuzz(func(t *testing.T, data []byte) {
		var bundle mimi.HandshakeBundle
		if tlspl.Unmarshal(data, &bundle) != nil {
			return
		}
		for _, from := range []mimi.ProviderDomain{"a.example", "b.example"} {
			n, err := w.hub.Update(UpdateInput{From: from, Bundle: &bundle, Now: w.now, Rand: rand.Reader})
			var refusal *Refusal
			switch {
			case err == nil:
				if _, err := n.Records(); err != nil {
					t.Fatal(err)
				}
			case !errors.As(err, &refusal):
				t.Fatalf("neither taken nor refused: %v", err)
			case refusal.Code == mimi.UpdateSuccess || refusal.Description == "":
				t.Fatalf("%+v", refusal)
			}
		}
		if describe(w.hub.rules.room) != before || len(w.hub.Pending()) != 0 {
			t.Fatal("an update changed the hub without being merged")
		}
	})
}

// Any octets are a room's GroupContext or not one; a View never fails in another way.
func FuzzView(f *testing.F) {
	for _, preset := range policy.Presets() {
		w := newWorld(f, preset, nil)
		data, err := tlspl.Marshal(w.hub.public.Context())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var context mls.GroupContext
		if tlspl.Unmarshal(data, &context) != nil {
			return
		}
		v, err := NewView(&context)
		if err != nil {
			return
		}
		_ = v.Check(&testVerifier{}, v.Room())
		for i := range v.Participants() {
			if _, ok := v.RoleOf(v.Participants()[i].User); !ok {
				t.Fatal("a participant is not found")
			}
		}
		v.MembershipDigest()
		if v.Roles() == nil || v.Base() == nil || v.Metadata() == nil {
			t.Fatal("a room lacks a component that every room has")
		}
	})
}
