package follower

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/store/sqlite"
	"github.com/comity-im/comity/tlspl"
)

const (
	hub  = mimi.ProviderDomain("a.example")
	room = mimi.RoomURI("mimi://a.example/r/x")
	bob  = mimi.UserURI("mimi://b.example/u/bob")
	phone,
	tablet = mimi.ClientURI("mimi://b.example/d/bob/phone"), mimi.ClientURI("mimi://b.example/d/bob/tablet")
)

// here is b.example: a Follower whose database has Bob and his two devices.
type here struct {
	*testing.T
	f         *Follower
	db        *store.Store
	mayInvite bool
	at        mimi.Millis
}

func newHere(t *testing.T) *here {
	t.Helper()
	db, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "b.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	h := &here{T: t, db: db, mayInvite: true, at: 1000}
	h.f = New(Config{Domain: "b.example", Store: db, Logger: slog.New(slog.DiscardHandler), Now: time.Now,
		MayInvite:   func(*store.Tx, mimi.UserURI, mimi.RoomURI) (bool, error) { return h.mayInvite, nil },
		MayBeListed: func(*store.Tx, mimi.RoomURI) ([]mimi.UserURI, error) { return nil, nil }})
	h.update(func(tx *store.Tx) error {
		if err := tx.CreateUser(store.User{URI: string(bob), State: store.StateActive}); err != nil {
			return err
		}
		for _, c := range []mimi.ClientURI{phone, tablet} {
			if err := tx.CreateClient(store.Client{URI: string(c), User: string(bob), Token: sha256.Sum256([]byte(c)), State: store.StateActive}); err != nil {
				return err
			}
		}
		return nil
	})
	return h
}

func (h *here) update(f func(tx *store.Tx) error) {
	h.Helper()
	if err := h.db.Update(h.Context(), f); err != nil {
		h.Fatal(err)
	}
}

// joins makes a device a reader of the room from here on.
func (h *here) joins(c mimi.ClientURI) {
	h.Helper()
	h.update(func(tx *store.Tx) error {
		r, err := FollowedRoom(tx, room, 1)
		if err == nil {
			_, err = h.f.Joining(tx, c, &r)
		}
		return err
	})
}

// claimed puts a KeyPackage of a device into stock and gives it out for a room.
func (h *here) claimed(c mimi.ClientURI, ref string, forRoom mimi.RoomURI) {
	h.Helper()
	h.update(func(tx *store.Tx) error {
		if err := tx.AddKeyPackage(store.KeyPackage{Ref: []byte(ref), Client: string(c), Suite: 1, NotAfterSeconds: 1 << 40, Body: []byte{1}}); err != nil {
			return err
		}
		return tx.ClaimKeyPackage([]byte(ref), string(forRoom), 1)
	})
}

// fanout is one message as the hub sends it, read from its octets.
func (h *here) fanout(m mls.MLSMessage, frank *mimi.Frank) mimi.FanoutMessage {
	h.Helper()
	m.Version = mls.MLS10
	msg, err := mimi.NewMessage(m)
	if err != nil {
		h.Fatal(err)
	}
	h.at++
	b, err := tlspl.Marshal(&mimi.FanoutMessage{Timestamp: h.at, Message: msg, Frank: frank, RatchetTreeOption: mls.RatchetTreeOption{Representation: mls.RatchetTreeFull, RatchetTree: []byte{0}}})
	if err != nil {
		h.Fatal(err)
	}
	var f mimi.FanoutMessage
	if err := tlspl.Unmarshal(b, &f); err != nil {
		h.Fatal(err)
	}
	return f
}

func text(s string) mls.MLSMessage {
	return mls.MLSMessage{WireFormat: mls.WireFormatPrivateMessage, PrivateMessage: &mls.PrivateMessage{GroupID: []byte("x"), ContentType: mls.ContentApplication, Ciphertext: []byte(s)}}
}

func (h *here) says(s string) mimi.FanoutMessage { h.Helper(); return h.fanout(text(s), nil) }

func (h *here) welcomes(refs ...string) mimi.FanoutMessage {
	h.Helper()
	w := &mls.Welcome{CipherSuite: 1, EncryptedGroupInfo: []byte("group info")}
	for _, r := range refs {
		w.Secrets = append(w.Secrets, mls.EncryptedGroupSecrets{NewMember: mls.KeyPackageRef(r), EncryptedGroupSecrets: mls.HPKECiphertext{KEMOutput: []byte{1}, Ciphertext: []byte{2}}})
	}
	return h.fanout(mls.MLSMessage{WireFormat: mls.WireFormatWelcome, Welcome: w}, nil)
}

// lists is a commit that puts users on the participant list.
func (h *here) lists(users ...mimi.UserURI) mimi.FanoutMessage {
	h.Helper()
	var u mimi.ParticipantListUpdate
	for _, user := range users {
		u.AddedParticipants = append(u.AddedParticipants, mimi.UserRolePair{User: user.Identifier(), RoleIndex: 2})
	}
	b, err := tlspl.Marshal(&u)
	if err != nil {
		h.Fatal(err)
	}
	p := mls.ProposalOrRef{Proposal: &mls.Proposal{Type: mls.ProposalAppDataUpdate, AppDataUpdate: &mls.AppDataUpdate{ComponentID: mimi.ComponentParticipantList, Op: mls.AppDataOpUpdate, Update: b}}}
	return h.fanout(mls.MLSMessage{WireFormat: mls.WireFormatPublicMessage, PublicMessage: &mls.PublicMessage{
		Content: mls.FramedContent{GroupID: []byte("x"), Epoch: mls.Epoch(h.at), Sender: mls.Sender{Type: mls.SenderMember}, ContentType: mls.ContentCommit, Commit: &mls.Commit{Proposals: []mls.ProposalOrRef{p}}},
		Auth:    mls.FramedContentAuthData{Signature: []byte("signature"), ConfirmationTag: []byte("tag")}, MembershipTag: []byte("tag")}}, nil)
}

// notify is what a hub sends.
func (h *here) notify(from mimi.ProviderDomain, messages ...mimi.FanoutMessage) error {
	return h.f.Notify(h.Context(), from, room, &mimi.NotifyRequest{Messages: messages})
}

func (h *here) takes(messages ...mimi.FanoutMessage) {
	h.Helper()
	if err := h.notify(hub, messages...); err != nil {
		h.Fatal(err)
	}
}

func (h *here) refuses(want mimi.Refusal, err error) {
	h.Helper()
	var refused *mimi.RefusedError
	if !errors.As(err, &refused) || refused.Refusal != want {
		h.Errorf("%v, want a refusal %v", err, want)
	}
}

// has says what the log holds, which must have no gaps.
func (h *here) has(want ...mimi.FanoutMessage) {
	h.Helper()
	var got []store.Event
	err := h.db.View(h.Context(), func(tx *store.Tx) error {
		r, err := tx.Room(string(room))
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		got, err = tx.Events(r.ID, 0, 1000)
		return err
	})
	if err != nil {
		h.Fatal(err)
	}
	if len(got) != len(want) {
		h.Fatalf("the log has %d events, want %d", len(got), len(want))
	}
	for i := range want {
		if body, err := want[i].Bytes(); err != nil || !bytes.Equal(got[i].Body, body) || got[i].Seq != int64(i)+1 || got[i].Source != string(hub) {
			h.Errorf("event %d is number %d of %s, and not what the hub sent as the %d.", i, got[i].Seq, got[i].Source, i+1)
		}
	}
}

// reads says what a device is handed.
func (h *here) reads(s *Subscription, want ...mimi.FanoutMessage) {
	h.Helper()
	var got [][]byte
	last := int64(0)
	for {
		list, err := s.Take(h.Context())
		if err != nil {
			h.Fatal(err)
		}
		if len(list) == 0 {
			break
		}
		for _, e := range list {
			if e.Invited || len(e.Fanout) == 0 {
				continue
			}
			if e.Seq <= last {
				h.Errorf("event %d comes after %d", e.Seq, last)
			}
			last = e.Seq
			got = append(got, e.Fanout)
		}
	}
	if len(got) != len(want) {
		h.Fatalf("the device was handed %d events, want %d", len(got), len(want))
	}
	for i := range want {
		if body, _ := want[i].Bytes(); !bytes.Equal(got[i], body) {
			h.Errorf("the %d. event that the device was handed is another", i+1)
		}
	}
}

func (h *here) subscribes(c mimi.ClientURI) *Subscription {
	h.Helper()
	s, err := h.f.Subscribe(context.Background(), clientapi.Device{User: bob, Client: c})
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(s.Close)
	return s
}

// What the hub sends again, whole or in part, alone or beside what is new, is kept
// and handed over once, in the hub's order.
func TestRepeats(t *testing.T) {
	h := newHere(t)
	h.joins(phone)
	s := h.subscribes(phone)
	a, b, c, d, e := h.says("a"), h.says("b"), h.lists("mimi://c.example/u/cathy"), h.says("d"), h.says("e")
	h.takes(a, b)
	h.takes(a, b)       // the answer was lost
	h.takes(b, c)       // and batches are cut anew
	h.takes(c)          // a commit alone
	h.takes(d, d, a, e) // twice in one batch
	h.takes(a, b, c, d, e)
	h.has(a, b, c, d, e)
	h.reads(s, a, b, c, d, e)
	later := h.subscribes(phone)
	h.reads(later, a, b, c, d, e) // nothing was acknowledged
}

// Batches of several rooms, or at the same time, leave each room in order.
func TestBatchesSideBySide(t *testing.T) {
	h := newHere(t)
	h.joins(phone)
	var all []mimi.FanoutMessage
	for i := range 40 {
		all = append(all, h.says(string(rune('A'+i))))
	}
	done := make(chan error)
	go func() { // the node that delivered before it was frozen
		done <- h.f.Notify(context.Background(), hub, room, &mimi.NotifyRequest{Messages: all[:30]})
	}()
	err := h.notify(hub, all[:30]...)
	if err := errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	h.takes(all[20:]...)
	h.has(all...)
}

// Nobody but a room's hub says what happens in it; and nobody of our own rooms.
func TestWrongHub(t *testing.T) {
	h := newHere(t)
	h.joins(phone)
	a := h.says("a")
	h.refuses(mimi.RefusedForbidden, h.notify("c.example", a))
	h.refuses(mimi.RefusedForbidden, h.notify("b.example", a))
	own := mimi.RoomURI("mimi://b.example/r/own")
	for _, from := range []mimi.ProviderDomain{"a.example", "b.example"} {
		h.refuses(mimi.RefusedForbidden, h.f.Notify(t.Context(), from, own, &mimi.NotifyRequest{Messages: []mimi.FanoutMessage{a}}))
	}
	h.has()
	h.takes(a)
	h.has(a)
}

// A frank is kept as it came, bit by bit: the receiver verifies it and reports
// with it. A repeat with another frank, as of a hub that lost its secret, changes
// nothing.
func TestFranksAreKept(t *testing.T) {
	h := newHere(t)
	h.joins(phone)
	franked := h.fanout(text("a"), &mimi.Frank{ServerFrank: [mimi.FrankLen]byte{1, 2, 3}, FrankingSignatureCiphersuite: 1, FrankingIntegritySignature: []byte("signature")})
	again := h.fanout(text("a"), &mimi.Frank{ServerFrank: [mimi.FrankLen]byte{9}, FrankingSignatureCiphersuite: 1, FrankingIntegritySignature: []byte("another")})
	h.takes(franked)
	h.takes(again)
	h.has(franked)
	s := h.subscribes(phone)
	list, err := s.Take(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	var got mimi.FanoutMessage
	if err := tlspl.Unmarshal(list[0].Fanout, &got); err != nil || got.Frank == nil || got.Frank.ServerFrank != franked.Frank.ServerFrank || string(got.Frank.FrankingIntegritySignature) != "signature" {
		t.Errorf("the device was handed the frank %+v, %v", got.Frank, err)
	}
}

// A batch is taken as a whole or not at all.
func TestMalformedBatch(t *testing.T) {
	h := newHere(t)
	h.joins(phone)
	a, b := h.says("a"), h.says("b")
	var malformed *mimi.MalformedError
	if err := h.notify(hub, a, mimi.FanoutMessage{Timestamp: 1}, b); !errors.As(err, &malformed) {
		t.Errorf("a message that is none: %v", err)
	}
	h.has()
	// What is cut off anywhere is no request, so that nothing of it is taken.
	whole, err := tlspl.Marshal(&mimi.NotifyRequest{Messages: []mimi.FanoutMessage{a, b}})
	if err != nil {
		t.Fatal(err)
	}
	first, _ := a.Bytes()
	for n := range whole {
		if n == len(first) {
			continue // which is a request of one message
		}
		if err := tlspl.Unmarshal(whole[:n], new(mimi.NotifyRequest)); err == nil {
			t.Errorf("%d of %d octets are taken for a request", n, len(whole))
		}
	}
}

// What comes for a room that nobody here is in, and brings nobody in, is refused,
// and leaves no trace. For one that the last has left it is taken and dropped:
// the hub will hear.
func TestNobodyHere(t *testing.T) {
	h := newHere(t)
	h.refuses(mimi.RefusedNotFound, h.notify(hub, h.says("a")))
	// That a user exists, or does not, shows by nothing.
	h.takes(h.lists("mimi://b.example/u/nobody"))
	h.has()
	h.joins(phone)
	a := h.says("a")
	h.takes(a)
	h.update(func(tx *store.Tx) error {
		r, err := tx.Room(string(room))
		if err != nil {
			return err
		}
		return tx.LeaveRoom(string(phone), r.ID, 1<<40)
	})
	h.takes(h.says("b"))
	h.has(a)
}

// A Welcome brings in the devices whose KeyPackages it names, from its own
// position on, if these were given out for this room and the device is still one.
func TestWelcome(t *testing.T) {
	h := newHere(t)
	h.claimed(phone, "for this room", room)
	h.claimed(tablet, "for another", "mimi://a.example/r/y")
	p, q := h.subscribes(phone), h.subscribes(tablet)
	commit, welcome, a := h.lists("mimi://c.example/u/cathy"), h.welcomes("for this room", "for another", "of a stranger"), h.says("a")
	h.takes(commit, welcome, a)
	h.has(commit, welcome, a)
	h.reads(p, welcome, a)
	h.reads(q)
	// The tablet, which was left out, is told that it may come in.
	h.invited(true)

	// Who reads already reads on from where it is when it is welcomed once more.
	h.claimed(phone, "a second one", room)
	again, b := h.welcomes("a second one"), h.says("b")
	h.takes(again, b)
	h.reads(h.subscribes(phone), welcome, a, again, b)

	// A device that is gone is not brought in, even if its KeyPackage is named.
	h = newHere(t)
	h.claimed(phone, "ref", "")
	h.update(func(tx *store.Tx) error {
		c, err := tx.Client(string(phone))
		if err != nil {
			return err
		}
		c.State = store.StateDeleted
		return tx.UpdateClient(c)
	})
	h.refuses(mimi.RefusedNotFound, h.notify(hub, h.welcomes("ref")))
	h.has()
}

func (h *here) invited(want bool) {
	h.Helper()
	err := h.db.View(h.Context(), func(tx *store.Tx) error {
		list, err := tx.Invitations(string(bob))
		if got := slices.Contains(list, string(room)); got != want {
			h.Errorf("invited: %v", got)
		}
		return err
	})
	if err != nil {
		h.Fatal(err)
	}
}

// Who is listed without a device hears of it, unless it never agreed to.
func TestListed(t *testing.T) {
	for _, may := range []bool{true, false} {
		h := newHere(t)
		h.mayInvite = may
		s := h.subscribes(phone)
		h.takes(h.lists(bob, "mimi://c.example/u/cathy"))
		h.invited(may)
		list, err := s.Take(t.Context())
		if err != nil || may != (len(list) == 1 && list[0].Invited && list[0].Room == room) {
			t.Errorf("may be invited: %v; the device hears %+v, %v", may, list, err)
		}
	}
}
