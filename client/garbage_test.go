package client_test

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// A hub answers with what is well-formed and wrong. No device believes it, and
// once the hub answers rightly all is as if nothing had been.
func TestHubAnswersGarbage(t *testing.T) {
	w, uri, alice, bob, cathy := stage(t)
	dave, eve := w.device("dave@d.example/phone"), w.device("eve@d.example/phone")
	other, err := eve.CreateRoom(w.ctx, client.NewRoom{Name: "other"})
	if err != nil {
		t.Fatal(err)
	}

	// Key material: of somebody else, for somebody else, and not what was signed.
	var foreign *mls.KeyPackage
	w.setBend(func(_ mimi.ProviderDomain, answer any) {
		if a, ok := answer.(*mimi.KeyMaterialResponse); ok && len(a.Clients) > 0 && foreign == nil {
			foreign = a.Clients[0].KeyPackage
		}
	})
	if err := bob.Add(w.ctx, uri, eve.User(), ""); err != nil || foreign == nil {
		t.Fatal(err)
	}
	for name, bend := range map[string]func(*mimi.KeyMaterialResponse){
		"somebody else's KeyPackage": func(a *mimi.KeyMaterialResponse) { a.Clients[0].KeyPackage = foreign },
		"for somebody else":          func(a *mimi.KeyMaterialResponse) { a.UserURI = eve.User() },
		"somebody else's client":     func(a *mimi.KeyMaterialResponse) { a.Clients[0].ClientURI = eve.Device() },
		"another init key": func(a *mimi.KeyMaterialResponse) {
			k := *a.Clients[0].KeyPackage
			k.InitKey = slices.Clone(k.InitKey)
			k.InitKey[0] ^= 1
			a.Clients[0].KeyPackage = &k
		},
		"another leaf": func(a *mimi.KeyMaterialResponse) {
			k := *a.Clients[0].KeyPackage
			k.LeafNode.EncryptionKey = slices.Clone(k.LeafNode.EncryptionKey)
			k.LeafNode.EncryptionKey[0] ^= 1
			a.Clients[0].KeyPackage = &k
		},
	} {
		w.setBend(func(of mimi.ProviderDomain, answer any) {
			if a, ok := answer.(*mimi.KeyMaterialResponse); ok && of == domA {
				bend(a)
			}
		})
		if err := bob.Add(w.ctx, uri, dave.User(), ""); err == nil {
			t.Errorf("key material, %s: Dave was added", name)
		}
		if role, _ := alice.role(uri, dave.User()); role != "" {
			t.Fatalf("key material, %s: Dave is %s", name, role)
		}
	}

	// An update that is refused for reasons that there aren't.
	for name, bend := range map[string]func(*mimi.UpdateRoomResponse){
		"no such code": func(a *mimi.UpdateRoomResponse) { *a = mimi.UpdateRoomResponse{ResponseCode: 200} },
		"proposals that there aren't": func(a *mimi.UpdateRoomResponse) {
			*a = mimi.UpdateRoomResponse{ResponseCode: mimi.UpdateInvalidProposal, InvalidProposals: []mls.ProposalRef{make([]byte, 32)}}
		},
	} {
		var bent atomic.Bool
		w.setBend(func(of mimi.ProviderDomain, answer any) {
			if a, ok := answer.(*mimi.UpdateRoomResponse); ok && of == domA && !bent.Swap(true) {
				bend(a)
			}
		})
		// The hub has taken it all the same, which its log shows.
		err := bob.SetMetadata(w.ctx, uri, func(m *mimi.RoomMetaData) { m.RoomSubject = name })
		w.setBend(nil)
		for _, d := range []*device{alice, bob, cathy} {
			d.waitRoom(uri, "the subject "+name, func(r client.Room) bool { return r.Subject == name && r.Repair == "" })
		}
		t.Logf("an update, %s: %v", name, err)
		inStep(t, uri, alice, bob, cathy)
	}
	var refused *client.RefusedError
	var bent atomic.Bool
	w.setBend(func(of mimi.ProviderDomain, answer any) {
		if a, ok := answer.(*mimi.UpdateRoomResponse); ok && of == domA && !bent.Swap(true) {
			*a = mimi.UpdateRoomResponse{ResponseCode: mimi.UpdateWrongEpoch, CurrentEpoch: 1 << 60}
		}
	})
	// It waits for an epoch that never comes, and then comes in anew.
	if err := bob.SetMetadata(w.ctx, uri, func(m *mimi.RoomMetaData) { m.RoomSubject = "from the future" }); errors.As(err, &refused) {
		t.Errorf("an epoch of the far future: %v", err)
	}
	w.setBend(nil)
	for _, d := range []*device{alice, bob, cathy} {
		d.waitRoom(uri, "the subject from the future", func(r client.Room) bool { return r.Subject == "from the future" && r.Repair == "" })
	}

	// A message that was taken is said to be too old for an epoch that isn't.
	bent.Store(false)
	w.setBend(func(of mimi.ProviderDomain, answer any) {
		if a, ok := answer.(*mimi.SubmitMessageResponse); ok && of == domA && !bent.Swap(true) {
			*a = mimi.SubmitMessageResponse{StatusCode: mimi.SubmitEpochTooOld, CurrentEpoch: 1 << 60}
		}
	})
	bob.say(uri, "hello?")
	w.setBend(nil)
	alice.waitText("hello?")
	cathy.waitText("hello?")
	if n := len(slices.DeleteFunc(alice.texts(uri), func(s string) bool { return s != "hello?" })); n != 1 {
		t.Errorf("Alice reads %d messages for one", n)
	}

	// What is needed to come in: bent, of another room, of another hub.
	var elsewhere *mimi.GroupInfoResponse
	w.setBend(func(_ mimi.ProviderDomain, answer any) {
		if a, ok := answer.(*mimi.GroupInfoResponse); ok {
			copied := *a
			elsewhere = &copied
		}
	})
	eve2 := w.device("eve@d.example/tablet")
	eve2.waitKind(client.EventJoined)
	if elsewhere == nil {
		t.Fatal("Eve's tablet came in without asking")
	}
	for _, d := range []*device{alice, bob, cathy} {
		if err := d.Idle(w.ctx); err != nil {
			t.Fatal(err)
		}
	}
	inStep(t, uri, alice, bob, cathy) // no epoch is on its way that would look as if she came in
	for name, bend := range map[string]func(*mimi.GroupInfoResponse){
		"of another request": func(a *mimi.GroupInfoResponse) { *a = *elsewhere },
		"bent": func(a *mimi.GroupInfoResponse) {
			a.EncryptedGroupInfoAndTree.Ciphertext = slices.Clone(a.EncryptedGroupInfoAndTree.Ciphertext)
			a.EncryptedGroupInfoAndTree.Ciphertext[20] ^= 1
		},
		"signed otherwise": func(a *mimi.GroupInfoResponse) {
			a.Signature = slices.Clone(a.Signature)
			a.Signature[0] ^= 1
		},
		"of another hub": func(a *mimi.GroupInfoResponse) {
			a.HubSender.SignatureKey = slices.Clone(a.HubSender.SignatureKey)
			a.HubSender.SignatureKey[0] ^= 1
		},
	} {
		w.setBend(func(of mimi.ProviderDomain, answer any) {
			if a, ok := answer.(*mimi.GroupInfoResponse); ok && of == domA && a.Status == mimi.GroupInfoSuccess {
				bend(a)
			}
		})
		before, err := cathy.Room(w.ctx, uri)
		if err != nil {
			t.Fatal(err)
		}
		if err := cathy.Join(w.ctx, uri, "", ""); err == nil {
			t.Errorf("group information, %s: Cathy came in anew", name)
		} else if strings.Contains(err.Error(), "does not let you") {
			t.Errorf("group information, %s: %v", name, err)
		}
		if now, err := cathy.Room(w.ctx, uri); err != nil || now.Standing != client.Joined || now.Authenticator != before.Authenticator {
			t.Errorf("group information, %s: Cathy's room is %+v (%v)", name, now, err)
		}
	}
	w.setBend(nil)
	if err := cathy.Join(w.ctx, uri, "", ""); err != nil {
		t.Error(err)
	}
	inStep(t, uri, alice, bob, cathy)
	cathy.say(uri, "all is well")
	bob.waitText("all is well")
	if r, err := eve.Room(w.ctx, other); err != nil || r.Standing != client.Joined {
		t.Errorf("another room: %+v (%v)", r, err)
	}
}
