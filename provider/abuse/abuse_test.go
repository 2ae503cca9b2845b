package abuse

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/content"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/store/sqlite"
	"github.com/comity-im/comity/tlspl"
)

const (
	here  = mimi.ProviderDomain("a.example")
	club  = mimi.RoomURI("mimi://a.example/r/club")
	other = mimi.RoomURI("mimi://a.example/r/other")
	alice = mimi.UserURI("mimi://a.example/u/alice")
	bob   = mimi.UserURI("mimi://b.example/u/bob")
	eve   = mimi.UserURI("mimi://c.example/u/eve")
)

// desk is where reports arrive, with two hub keys: one for times before 1000,
// one from then on.
type desk struct {
	*Abuse
	t     *testing.T
	store *store.Store
	now   time.Time
	agent *suite.Signer
}

func hubKey(at uint64) []byte {
	if at < 1000 {
		return slices.Repeat([]byte{1}, 32)
	}
	return slices.Repeat([]byte{2}, 32)
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "a.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	st, _ := suite.Lookup(1)
	d := &desk{t: t, store: s, now: time.Now()}
	if d.agent, err = st.GenerateSigner(rand.Reader); err != nil {
		t.Fatal(err)
	}
	d.Abuse = New(Config{Domain: here, Store: s, Now: func() time.Time { return d.now }, PerHour: 3,
		HubKeys: func(_ mimi.RoomURI, at uint64) ([][]byte, error) { return [][]byte{hubKey(at)}, nil },
		Allowed: func(_ context.Context, from mimi.ProviderDomain, _ mimi.RoomURI, _ mimi.UserURI) error {
			if from == "stranger.example" {
				return &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: "it never was there"}
			}
			return nil
		}})
	return d
}

// message is what somebody said in a room at a time, with the frank of a key. media
// is the framing's type; "bare" is none at all.
func (d *desk) message(room mimi.RoomURI, from mimi.UserURI, at mimi.Millis, media, text string) mimi.AbusiveMessage {
	d.t.Helper()
	c, err := content.Composer{SenderURI: string(from), RoomURI: string(room), Rand: rand.Reader}.Text(text)
	if err != nil {
		d.t.Fatal(err)
	}
	inner, err := c.Marshal()
	if err != nil {
		d.t.Fatal(err)
	}
	data := inner
	if media != "bare" {
		if data, err = tlspl.Marshal(&mls.ApplicationFraming{MediaType: mls.MediaType{Type: []byte(media)}, InnerApplicationContent: inner}); err != nil {
			d.t.Fatal(err)
		}
	}
	x := &mimi.ServerFrankingContext{SenderURI: from, RoomURI: room, AcceptedTimestamp: at}
	f, err := mimi.NewFrank(rand.Reader, d.agent, hubKey(uint64(at)), mimi.NewFrankingTag(c.Salt[:], data), x)
	if err != nil {
		d.t.Fatal(err)
	}
	return mimi.AbusiveMessage{MessageContent: data, Frank: *f, AcceptedTimestamp: at}
}

func (d *desk) stored() []store.Report {
	d.t.Helper()
	var list []store.Report
	if err := d.store.View(d.t.Context(), func(tx *store.Tx) (err error) {
		list, err = tx.Reports(1<<62, 1000)
		return err
	}); err != nil {
		d.t.Fatal(err)
	}
	return list
}

const framed = "application/mimi-content"

// The verdict on each message: whose it is, in which room, of which time, under
// which of the hub's keys, and in each way of framing (Decisions 73, 103).
func TestJudge(t *testing.T) {
	d := newDesk(t)
	inner := func(m mimi.AbusiveMessage) mimi.AbusiveMessage {
		var f mls.ApplicationFraming
		if err := tlspl.Unmarshal(m.MessageContent, &f); err != nil {
			t.Fatal(err)
		}
		m.MessageContent = f.InnerApplicationContent
		return m
	}
	later := d.message(club, bob, 1500, framed, "x")
	later.AcceptedTimestamp = 900 // when another key was in use
	swapped := d.message(club, bob, 10, framed, "x")
	swapped.Frank = d.message(club, bob, 10, framed, "x").Frank
	for _, x := range []struct {
		name   string
		abuser mimi.UserURI
		m      mimi.AbusiveMessage
		want   Verdict
	}{
		{"framed", bob, d.message(club, bob, 10, framed, "x"), Valid},
		{"under the newer key", bob, d.message(club, bob, 1500, framed, "x"), Valid},
		{"with no media type", bob, d.message(club, bob, 10, "", "x"), Valid},
		{"bare", bob, d.message(club, bob, 10, "bare", "x"), Valid},
		{"framed, reported bare", bob, inner(d.message(club, bob, 10, framed, "x")), Valid},
		{"with no media type, reported bare", bob, inner(d.message(club, bob, 10, "", "x")), Valid},
		{"of another", alice, d.message(club, bob, 10, framed, "x"), Forged},
		{"under another key", bob, later, Forged},
		{"with the frank of the same words", bob, swapped, Forged},
		{"without a frank", bob, mimi.AbusiveMessage{MessageContent: d.message(club, bob, 10, framed, "x").MessageContent, AcceptedTimestamp: 10}, Forged},
		{"of another room", bob, d.message(other, bob, 10, framed, "x"), NotOurs},
		{"nothing", bob, mimi.AbusiveMessage{}, Forged},
		{"garbage", bob, mimi.AbusiveMessage{MessageContent: slices.Repeat([]byte{0xFF}, 100)}, Forged},
	} {
		got, err := d.Judge(club, x.abuser, &x.m)
		if err != nil || got != x.want {
			t.Errorf("%s: %v, %v; not %v", x.name, got, err, x.want)
		}
	}
}

// What is not taken, and why.
func TestReportRules(t *testing.T) {
	d := newDesk(t)
	good := func() *mimi.AbuseReport {
		return &mimi.AbuseReport{ReportingUser: eve, AllegedAbuserURI: bob, Note: "rude", Messages: []mimi.AbusiveMessage{d.message(club, bob, 10, framed, "you fool")}}
	}
	for _, x := range []struct {
		name    string
		from    mimi.ProviderDomain
		room    mimi.RoomURI
		change  func(*mimi.AbuseReport)
		refusal mimi.Refusal
	}{
		{"of a room elsewhere", "c.example", "mimi://b.example/r/x", nil, mimi.RefusedNotFound},
		{"for another's user", "b.example", club, nil, mimi.RefusedForbidden},
		{"of a stranger", "stranger.example", club, func(r *mimi.AbuseReport) { r.ReportingUser = "mimi://stranger.example/u/x" }, mimi.RefusedForbidden},
		{"too long", "c.example", club, func(r *mimi.AbuseReport) { r.Messages = make([]mimi.AbusiveMessage, MaxMessages+1) }, mimi.RefusedTooLarge},
	} {
		r := good()
		if x.change != nil {
			x.change(r)
		}
		var e *mimi.RefusedError
		if err := d.Report(t.Context(), x.from, x.room, r); !errors.As(err, &e) || e.Refusal != x.refusal {
			t.Errorf("%s: %v", x.name, err)
		}
	}
	if n := len(d.stored()); n != 0 {
		t.Fatalf("%d reports that were refused are kept", n)
	}
	r := good()
	r.Messages = append(r.Messages, d.message(club, alice, 10, framed, "not his"), d.message(other, bob, 10, framed, "elsewhere"))
	for range 2 { // the answer was lost
		if err := d.Report(t.Context(), "c.example", club, r); err != nil {
			t.Fatal(err)
		}
	}
	list := d.stored()
	if len(list) != 1 || list[0].Verdict != "valid, forged, not ours" || list[0].Reporter != string(eve) || list[0].Provider != "c.example" || list[0].Abuser != string(bob) {
		t.Fatalf("kept: %+v", list)
	}
	var kept mimi.AbuseReport
	if err := tlspl.Unmarshal(list[0].Body, &kept); err != nil || kept.Note != "rude" || d.Text(kept.Messages[0].MessageContent) != "you fool" {
		t.Errorf("kept: %+v, %v", kept, err)
	}
}

// One reporter, a peer without names, and a peer with many names are all bounded.
func TestReportLimits(t *testing.T) {
	d := newDesk(t)
	n := 0
	report := func(from mimi.ProviderDomain, who mimi.UserURI) bool {
		n++
		err := d.Report(t.Context(), from, club, &mimi.AbuseReport{ReportingUser: who, AllegedAbuserURI: alice, Note: fmt.Sprint(n)})
		var e *mimi.RefusedError
		if err != nil && (!errors.As(err, &e) || e.Refusal != mimi.RefusedTooMany || e.RetryAfter <= 0) {
			t.Fatal(err)
		}
		return err == nil
	}
	for i := range 4 {
		if ok := report("c.example", eve); ok != (i < 3) {
			t.Errorf("report %d of one reporter: %v", i, ok)
		}
		if ok := report("b.example", ""); ok != (i < 3) {
			t.Errorf("anonymous report %d: %v", i, ok)
		}
	}
	taken := 0
	for i := range 200 {
		if report("d.example", mimi.UserURI(fmt.Sprintf("mimi://d.example/u/x%d", i))) {
			taken++
		}
	}
	if taken != perPeer*3 {
		t.Errorf("%d reports of one peer with many names were taken", taken)
	}
	if !report("b.example", bob) {
		t.Error("another's flood is held against b.example")
	}
	d.now = d.now.Add(time.Hour)
	if !report("c.example", eve) {
		t.Error("an hour later it is still refused")
	}
}

// A request for consent can be reported to one's own provider, if there is one.
func TestReportConsent(t *testing.T) {
	d := newDesk(t)
	var e *mimi.RefusedError
	if err := d.ReportConsent(t.Context(), alice, bob, "", "spam"); !errors.As(err, &e) || e.Refusal != mimi.RefusedNotFound {
		t.Errorf("nobody asked: %v", err)
	}
	if err := d.store.Update(t.Context(), func(tx *store.Tx) error {
		return tx.PutConsent(store.Consent{Requester: string(bob), Target: string(alice), Asked: true})
	}); err != nil {
		t.Fatal(err)
	}
	if err := d.ReportConsent(t.Context(), alice, bob, "", "spam"); err != nil {
		t.Fatal(err)
	}
	if list := d.stored(); len(list) != 1 || list[0].Verdict != ConsentVerdict || list[0].Provider != string(here) || list[0].Abuser != string(bob) {
		t.Errorf("kept: %+v", list)
	}
}
