package room

import (
	"crypto/rand"
	"fmt"
	"slices"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
)

// reloaded is a device's room as it was stored.
func (d *device) reloaded(stored map[string][]byte) *Room {
	d.w.t.Helper()
	records, err := d.room.Flush()
	if err != nil {
		d.w.t.Fatal(err)
	}
	for _, r := range records {
		if r.Value == nil {
			delete(stored, string(r.Key))
		} else {
			stored[string(r.Key)] = slices.Clone(r.Value)
		}
	}
	room, err := Load(d.w.config(), func(yield func([]byte, []byte) bool) {
		for k, v := range stored {
			if !yield([]byte(k), v) {
				return
			}
		}
	})
	if err != nil {
		d.w.t.Fatal(err)
	}
	return room
}

// A message that arrives late is judged by what its room allowed when it was sent: by the roles, the assets, the links, the
// expiration and the status policy of that epoch. Only epochs after which something of it changed take memory.
func TestLateMessagesAreJudgedByTheirEpoch(t *testing.T) {
	w := newWorld(t, policy.Administered, nil)
	a, b := w.devices[0], w.device(bob, "b1")
	w.must(a.add("ordinary_user", b))
	stored := map[string][]byte{}

	expiring := func(o mimi.Optionality) Component {
		e := mimi.MessageExpiration{ExpiringMessages: o, MaxExpirationDuration: 100}
		if o == mimi.Forbidden {
			e = mimi.MessageExpiration{ExpiringMessages: o}
		}
		return Component{mimi.ComponentMessageExpirationPolicy, &e}
	}
	roles := func(can bool) Component {
		next := mimi.RoleData{Roles: slices.Clone(a.room.View().Components().Roles.Roles)}
		i := slices.IndexFunc(next.Roles, func(r mimi.Role) bool { return r.RoleName == "ordinary_user" })
		next.Roles[i].RoleCapabilities = slices.DeleteFunc(slices.Clone(next.Roles[i].RoleCapabilities), func(c policy.Capability) bool { return c == mimi.CanSendLink })
		if can {
			next.Roles[i].RoleCapabilities = append(next.Roles[i].RoleCapabilities, mimi.CanSendLink)
		}
		return Component{mimi.ComponentRolesList, &next}
	}
	type late struct {
		message *mimi.Message
		broke   policy.Reason // 0: none
	}
	message := func() *mimi.Message {
		m, err := b.room.Encrypt(rand.Reader, []byte("https://example.com"), nil)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	say := &policy.Message{Act: policy.Say, Sender: bob, Links: 1}

	w.must(a.commit(a.room.SetComponents(rand.Reader, expiring(mimi.Optional))))
	w.must(a.commit(a.room.SetComponents(rand.Reader, roles(true))))
	lates := []late{{message(), 0}}
	w.must(a.commit(a.room.Commit(rand.Reader, 0))) // nothing changes
	lates = append(lates, late{message(), 0})
	w.must(a.commit(a.room.SetComponents(rand.Reader, roles(false))))
	lates = append(lates, late{message(), policy.MissingCapability})
	w.must(a.commit(a.room.SetComponents(rand.Reader, expiring(mimi.Required))))
	w.must(a.commit(a.room.SetComponents(rand.Reader, roles(true))))
	lates = append(lates, late{message(), policy.ForbiddenByPolicy})

	for _, room := range []*Room{a.room, a.reloaded(stored)} {
		snapshots := 0
		for _, p := range room.past {
			if p.terms != nil {
				snapshots++
			}
		}
		if len(room.past) != 4 || snapshots != 3 {
			t.Errorf("%d past epochs, %d of them with terms", len(room.past), snapshots)
		}
		if room == a.room {
			continue // keys are used once
		}
		for i, l := range lates {
			got, err := room.Decrypt(l.message)
			if err != nil {
				t.Fatal(err)
			}
			var is policy.Reason
			denial := policy.JudgeContent(got.Terms.Content, got.Role, say)
			if denial != nil {
				is = denial.Reason
			}
			if is != l.broke {
				t.Errorf("message %d of epoch %d: %v", i, got.Epoch, denial)
			}
			if got.Terms.Content.Hub != "a.example" || !got.Terms.Framed || !got.Terms.SafeAAD {
				t.Errorf("message %d: %+v", i, got.Terms)
			}
		}
	}
	// What is kept does not grow.
	for i := range 10 {
		w.must(a.commit(a.room.SetComponents(rand.Reader, roles(i%2 == 0))))
	}
	if a.reloaded(stored); len(a.room.past) != 4 {
		t.Errorf("%d past epochs are kept", len(a.room.past))
	}
	kept := 0
	for k := range stored {
		if k[0] == keyPast {
			kept++
		}
	}
	if kept != 4 {
		t.Errorf("%d past epochs are stored", kept)
	}
}

// The franking agent of an epoch stays known with it.
func TestTermsHoldTheFrankingAgent(t *testing.T) {
	w := newWorld(t, policy.Administered, nil)
	a := w.devices[0]
	required, err := a.room.requireComponents([]mls.ComponentID{mimi.ComponentFrankingAgent}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.must(a.commit(a.room.Commit(rand.Reader, 0, required)))
	before := a.room.View().Epoch()
	agent := &mimi.FrankingAgentData{FrankingSignatureKey: w.hubCfg.Signer.Public(), Credential: mls.BasicCredential([]byte("mimi://a.example"))}
	next, err := w.hub.ProposeFrankingAgent(w.now, rand.Reader, agent)
	if err != nil {
		t.Fatal(err)
	}
	w.save(next)
	w.deliver(next)
	w.must(a.commit(a.room.Commit(rand.Reader, 0)))
	room := a.reloaded(map[string][]byte{})
	if was, is := room.TermsIn(before).Franking, room.TermsIn(before+1).Franking; was != nil || is == nil || fmt.Sprint(is.FrankingSignatureKey) != fmt.Sprint(agent.FrankingSignatureKey) {
		t.Errorf("before %v, after %v", was, is)
	}
}
