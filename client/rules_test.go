package client_test

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// sealed is a text as a modified client would send it: nobody asked the room's rules.
func (d *device) sealed(uri mimi.RoomURI, text string) *mimi.SubmitMessageRequest {
	d.w.t.Helper()
	m, err := d.Composer(uri).Text(text)
	if err != nil {
		d.w.t.Fatal(err)
	}
	body, err := m.Marshal()
	if err != nil {
		d.w.t.Fatal(err)
	}
	data, err := tlspl.Marshal(&mls.ApplicationFraming{MediaType: mls.MediaType{Type: []byte(room.ContentMediaType)}, InnerApplicationContent: body})
	if err != nil {
		d.w.t.Fatal(err)
	}
	tag := mimi.NewFrankingTag(m.Salt[:], data)
	req := &mimi.SubmitMessageRequest{Protocol: mimi.MLS10, SendingURI: d.User()}
	err = d.Inspect(d.w.ctx, uri, func(g *room.Room) error {
		message, err := g.Encrypt(rand.Reader, data, tag[:])
		if err == nil {
			req.AppMessage = *message
		}
		return err
	})
	if err != nil {
		d.w.t.Fatal(err)
	}
	return req
}

// A message that breaks a rule which only clients can see is kept and marked. One that was sent before the rule was made and
// arrives after it is not.
func TestMessagesAgainstTheRules(t *testing.T) {
	w, alice, bob, uri := pair(t)
	inStep(t, uri, alice, bob)
	late := bob.sealed(uri, "in time: [this](example.com)")
	err := alice.SetComponents(w.ctx, uri, func(v *room.View) ([]room.Component, error) {
		id, data, err := v.Components().Set("role.ordinary_user.can", "-canSendLink")
		return []room.Component{{ID: id, Data: data}}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	inStep(t, uri, alice, bob)
	if _, err := bob.Send(w.ctx, uri, "[this](example.com)"); err == nil || !strings.Contains(err.Error(), "canSendLink") {
		t.Errorf("Bob's own client sends it: %v", err)
	}
	bad := bob.sealed(uri, "against the rule: [this](example.com)")
	good := bob.sealed(uri, "no link")
	bob.stop() // it would wonder at messages that it did not send
	for _, req := range []*mimi.SubmitMessageRequest{late, bad, good} {
		if resp, err := bob.link.SubmitMessage(w.ctx, uri, req); err != nil || resp.StatusCode != mimi.SubmitSuccess {
			t.Fatalf("the hub, which can't see it, says %+v, %v", resp, err)
		}
	}
	has := func(part string) *client.Message {
		t.Helper()
		return alice.wait(part, func(e *client.Event) bool {
			return e.Kind == client.EventMessage && strings.Contains(e.Message.Text, part)
		}).Message
	}
	if m := has("in time"); m.Broke != "" || len(m.Marks) > 0 {
		t.Errorf("what was allowed when it was sent: %+v", m)
	}
	if m := has("against the rule"); !strings.Contains(m.Broke, "canSendLink") || !strings.Contains(m.Line(), "(against the room's rules: ") {
		t.Errorf("a message against a rule: %s", m.Line())
	}
	if m := has("no link"); m.Broke != "" {
		t.Errorf("a good message: %s", m.Broke)
	}
}
