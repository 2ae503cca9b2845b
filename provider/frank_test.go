package provider_test

import (
	"errors"
	"testing"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/provider"
)

// checkFrank verifies a message's frank as a receiver does (MIMI protocol
// §5.4.1.3).
func (m *member) checkFrank(x text) {
	m.Helper()
	if x.fanout.Frank == nil {
		m.Fatalf("%q has no frank", x.body)
	}
	agent := m.rooms[x.room].View().FrankingAgent()
	err := x.fanout.Frank.Verify(agent.FrankingSignatureKey, &mimi.ServerFrankingContext{SenderURI: x.from, RoomURI: x.room, AcceptedTimestamp: x.fanout.Timestamp})
	m.must(err)
}

// Franked messages are reportable across a rotation of the hub's secret; forged
// and foreign ones are told apart; the hub never says what it found.
func TestAbuseReports(t *testing.T) {
	p := newPlay(t, func(c *provider.Config) { c.ReportsPerHour = 8 })
	alice, bob, cathy := p.As("alice@a.example"), p.As("bob@b.example"), p.As("cathy@c.example")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob, cathy)
	bob.Enters(clubhouse)
	cathy.Enters(clubhouse)
	cathy.Says(clubhouse, "something bad")
	before := bob.Reads(clubhouse, "something bad")
	bob.checkFrank(before)

	from, err := p.providers[domA].RotateFranking(p.ctx)
	if err != nil || !from.After(p.now()) {
		t.Fatalf("rotation: %v, %v", from, err)
	}
	p.later(10 * time.Minute)
	cathy.Says(clubhouse, "something worse")
	after := bob.Reads(clubhouse, "something worse")
	bob.checkFrank(after)
	if before.fanout.Frank.ServerFrank == after.fanout.Frank.ServerFrank {
		t.Error("two messages have one frank")
	}

	report := func(abuser mimi.UserURI, x text, adjust func(*mimi.AbusiveMessage)) string {
		t.Helper()
		m := mimi.AbusiveMessage{MessageContent: x.data, Frank: *x.fanout.Frank, AcceptedTimestamp: x.fanout.Timestamp}
		if adjust != nil {
			adjust(&m)
		}
		bob.must(bob.svc.ReportAbuse(p.ctx, bob.dev, clubhouse, &mimi.AbuseReport{ReportingUser: bob.dev.User, AllegedAbuserURI: abuser, Note: "help", Messages: []mimi.AbusiveMessage{m}}))
		list, err := p.providers[domA].Reports(p.ctx)
		bob.must(err)
		return list[0].Verdict
	}
	other, _ := cathy.compose("mimi://a.example/r/elsewhere", "something bad")
	forged, _ := cathy.compose(clubhouse, "I never said that")
	for _, x := range []struct {
		name    string
		abuser  mimi.UserURI
		text    text
		adjust  func(*mimi.AbusiveMessage)
		verdict string
	}{
		{"before the rotation", cathy.dev.User, before, nil, "valid"},
		{"after it", cathy.dev.User, after, nil, "valid"},
		{"another text", cathy.dev.User, before, func(m *mimi.AbusiveMessage) { m.MessageContent = forged }, "forged"},
		{"another sender", alice.dev.User, before, nil, "forged"},
		{"another time", cathy.dev.User, before, func(m *mimi.AbusiveMessage) { m.AcceptedTimestamp++ }, "forged"},
		{"the frank of another message", cathy.dev.User, before, func(m *mimi.AbusiveMessage) { m.Frank = *after.fanout.Frank }, "forged"},
		{"another room", cathy.dev.User, before, func(m *mimi.AbusiveMessage) { m.MessageContent = other }, "not ours"},
		{"not even content", cathy.dev.User, before, func(m *mimi.AbusiveMessage) { m.MessageContent = []byte("?") }, "forged"},
	} {
		if got := report(x.abuser, x.text, x.adjust); got != x.verdict {
			t.Errorf("%s: %s, not %s", x.name, got, x.verdict)
		}
	}
	list, err := p.providers[domA].Reports(p.ctx)
	if err != nil || len(list) != 8 || list[7].Messages[0] != "something bad" || list[7].Reporter != bob.dev.User || list[7].Note != "help" {
		t.Errorf("reports: %+v, %v", list, err)
	}
	var e *clientapi.Error
	if err := bob.svc.ReportAbuse(p.ctx, bob.dev, clubhouse, &mimi.AbuseReport{ReportingUser: bob.dev.User, AllegedAbuserURI: cathy.dev.User}); !errors.As(err, &e) || e.Code != clientapi.CodeTooMany {
		t.Errorf("one report too many: %v", err)
	}
	// Nobody reports for others, or about rooms that it has no part in.
	var r *mimi.RefusedError
	if err := p.providers[domA].ReportAbuse(p.ctx, domB, clubhouse, &mimi.AbuseReport{ReportingUser: cathy.dev.User, AllegedAbuserURI: alice.dev.User}); !errors.As(err, &r) {
		t.Errorf("b.example reports for cathy: %v", err)
	}
	if err := p.providers[domA].ReportAbuse(p.ctx, "d.example", clubhouse, &mimi.AbuseReport{AllegedAbuserURI: alice.dev.User}); !errors.As(err, &r) {
		t.Errorf("a stranger reports: %v", err)
	}
}

// The secret is replaced by itself when it is old.
func TestFrankingRotatesByAge(t *testing.T) {
	p := newPlay(t, func(c *provider.Config) { c.FrankingAge = 24 * time.Hour })
	alice, bob := p.As("alice@a.example"), p.As("bob@b.example")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob)
	bob.Enters(clubhouse)
	alice.Says(clubhouse, "old")
	x := bob.Reads(clubhouse, "old")
	for range 3 {
		p.later(25 * time.Hour)
		if err := p.providers[domA].Trim(p.ctx); err != nil {
			t.Fatal(err)
		}
	}
	if !p.metrics[domA].has("new franking secret") {
		t.Error("the secret was not replaced")
	}
	m := mimi.AbusiveMessage{MessageContent: x.data, Frank: *x.fanout.Frank, AcceptedTimestamp: x.fanout.Timestamp}
	bob.must(bob.svc.ReportAbuse(p.ctx, bob.dev, clubhouse, &mimi.AbuseReport{AllegedAbuserURI: alice.dev.User, Messages: []mimi.AbusiveMessage{m}}))
	if list, err := p.providers[domA].Reports(p.ctx); err != nil || list[0].Verdict != "valid" {
		t.Errorf("a message of three secrets ago: %+v, %v", list, err)
	}
}

// A franked room takes no message without a tag.
func TestUnfrankedRefused(t *testing.T) {
	p := newPlay(t)
	alice := p.As("alice@a.example")
	alice.Creates(clubhouse, policy.Cooperative)
	data, _ := alice.compose(clubhouse, "untagged")
	message, err := alice.rooms[clubhouse].Encrypt(zero{}, data, nil)
	alice.must(err)
	resp, err := alice.svc.SubmitMessage(p.ctx, alice.dev, clubhouse, &mimi.SubmitMessageRequest{Protocol: mimi.MLS10, AppMessage: *message, SendingURI: alice.dev.User})
	if err != nil || resp.StatusCode != mimi.SubmitNotAllowed {
		t.Errorf("a message without a tag: %+v, %v", resp, err)
	}
}

// Joining codes: created, listed, used up, expired, revoked; all three codes of
// GroupInfo.
func TestJoinCodes(t *testing.T) {
	p := newPlay(t)
	alice, bob, cathy, dave := p.As("alice@a.example"), p.As("bob@b.example"), p.As("cathy@c.example"), p.As("dave@b.example")
	alice.Creates(clubhouse, policy.Administered)
	denied := func(m *member, code string) {
		t.Helper()
		var e *mimi.GroupInfoError
		if err := m.join(clubhouse, code); !errors.As(err, &e) || e.Code != mimi.GroupInfoNotAuthorized {
			t.Errorf("%s with %q: %v", m.dev.Client, code, err)
		}
	}
	denied(bob, "")
	denied(bob, "no such code, but long")
	code, err := alice.svc.CreateJoinCode(p.ctx, alice.dev, clubhouse, clientapi.JoinCode{UsesLeft: 1})
	alice.must(err)
	bob.Joins(clubhouse, code.Code)
	bob.Says(clubhouse, "by code")
	alice.Reads(clubhouse, "by code")
	denied(cathy, code.Code) // used up
	short, err := alice.svc.CreateJoinCode(p.ctx, alice.dev, clubhouse, clientapi.JoinCode{ExpiresMillis: p.now().Add(time.Minute).UnixMilli()})
	alice.must(err)
	p.later(2 * time.Minute)
	denied(cathy, short.Code) // expired
	long, err := alice.svc.CreateJoinCode(p.ctx, alice.dev, clubhouse, clientapi.JoinCode{})
	alice.must(err)
	list, err := alice.svc.JoinCodes(p.ctx, alice.dev, clubhouse)
	if err != nil || len(list) != 1 || list[0].Code != long.Code || list[0].UsesLeft != -1 {
		t.Errorf("codes: %+v, %v", list, err)
	}
	if _, err := bob.svc.CreateJoinCode(p.ctx, bob.dev, clubhouse, clientapi.JoinCode{}); err == nil {
		t.Error("bob, who may not, made a code")
	}
	cathy.Joins(clubhouse, long.Code)
	alice.must(alice.svc.RevokeJoinCode(p.ctx, alice.dev, clubhouse, long.Code))
	denied(dave, long.Code) // revoked
	p.Refused(domA, "groupInfo", "notAuthorized", "from=b.example")

	// What was given out is for who asked: another key does not join with it.
	again, err := alice.svc.CreateJoinCode(p.ctx, alice.dev, clubhouse, clientapi.JoinCode{})
	alice.must(err)
	dave.Joins(clubhouse, again.Code)

	// A request is used once.
	req, _ := alice.groupInfo("")
	if r, err := alice.svc.GroupInfo(p.ctx, alice.dev, clubhouse, req); err != nil || r.Status != mimi.GroupInfoSuccess {
		t.Errorf("a request: %+v, %v", r, err)
	}
	if r, err := alice.svc.GroupInfo(p.ctx, alice.dev, clubhouse, req); err != nil || r.Status != mimi.GroupInfoNotAuthorized {
		t.Errorf("the same request again: %+v, %v", r, err)
	}
	// Strangers hear the same of a room that there isn't.
	eve := p.As("eve@c.example")
	var e *mimi.GroupInfoError
	if err := eve.join("mimi://a.example/r/nowhere", ""); !errors.As(err, &e) || e.Code != mimi.GroupInfoNotAuthorized {
		t.Errorf("a room that there isn't: %v", err)
	}
}

// An external commit takes that its client asked for the GroupInfo first.
func TestJoinWithoutAsking(t *testing.T) {
	p := newPlay(t)
	alice, bob := p.As("alice@a.example"), p.As("bob@b.example")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob)
	bob.Enters(clubhouse)
	laptop := p.enter("bob@b.example/laptop")
	req, key := laptop.groupInfo("")
	resp, err := laptop.svc.GroupInfo(p.ctx, laptop.dev, clubhouse, req)
	laptop.must(err)
	tbe, err := resp.Open(clubhouse, key, testSuite)
	laptop.must(err)
	j, err := room.StageJoin(random{}, roomConfig(), room.JoinParams{Room: clubhouse, Info: &tbe.GroupInfo, Tree: tbe.RatchetTreeOption, Leaf: laptop.leaf()})
	laptop.must(err)
	p.later(11 * time.Minute)
	got, err := laptop.Updates(clubhouse, j.Bundle())
	if err != nil || got.ResponseCode != mimi.UpdateNotAllowed {
		t.Errorf("eleven minutes later: %+v, %v", got, err)
	}
	// Its reading has ended with that.
	rooms, err := laptop.svc.Rooms(p.ctx, laptop.dev)
	if err != nil || len(rooms) != 1 || rooms[0].Joined {
		t.Errorf("rooms: %+v, %v", rooms, err)
	}
	laptop.Joins(clubhouse)
}

// When everybody is gone, those who were there hear that there is no such room.
func TestLastParticipantGone(t *testing.T) {
	p := newPlay(t)
	alice, bob := p.As("alice@a.example"), p.As("bob@b.example")
	alice.Creates(clubhouse, policy.Cooperative)
	alice.Adds(clubhouse, bob)
	bob.Enters(clubhouse)
	alice.must(alice.svc.DeleteAccount(p.ctx, alice.dev, password))
	bob.Pending(clubhouse, 2)
	bob.Empties(clubhouse)
	bob.must(bob.svc.DeleteAccount(p.ctx, bob.dev, password)) // b.example can't tell the hub
	var e *mimi.GroupInfoError
	cathy := p.As("cathy@c.example")
	if err := cathy.join(clubhouse, ""); !errors.As(err, &e) || e.Code != mimi.GroupInfoNotAuthorized {
		t.Errorf("a stranger: %v", err)
	}

	den := mimi.RoomURI("mimi://a.example/r/den")
	carol, dora := p.As("carol@a.example"), p.As("dora@b.example")
	carol.Creates(den, policy.Cooperative)
	carol.Adds(den, dora)
	dora.Enters(den)
	carol.must(carol.svc.DeleteAccount(p.ctx, carol.dev, password))
	dora.Pending(den, 2)
	dora.Empties(den)
	dora.Leaves(den)
	laptop := p.enter("dora@b.example/laptop")
	if err := laptop.join(den, ""); !errors.As(err, &e) || e.Code != mimi.GroupInfoNoSuchRoom {
		t.Errorf("a room that everybody left: %v", err)
	}
	if err := cathy.join(den, ""); !errors.As(err, &e) || e.Code != mimi.GroupInfoNotAuthorized {
		t.Errorf("a stranger: %v", err)
	}
}
