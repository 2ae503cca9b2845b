package federation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// Every method of the spine arrives at the other side's hub, from the provider
// whose certificate it is, and its answer comes back.
func TestEveryEndpoint(t *testing.T) {
	a, b := two(t, providerConfig{})
	ctx := context.Background()
	hub := b.client.Peer("a.example")
	notify := &mimi.NotifyRequest{Messages: []mimi.FanoutMessage{{Timestamp: 1, Message: appMessage(t)}}}
	for _, tc := range []struct {
		call string
		do   func() (any, error)
	}{
		{"keyMaterial b.example " + string(alice), func() (any, error) {
			r, err := hub.KeyMaterial(ctx, "b.example", alice, keyMaterialRequest())
			return err == nil && r.UserStatus == mimi.KeyMaterialNoConsent, err
		}},
		{"update b.example " + string(roomA), func() (any, error) {
			r, err := hub.Update(ctx, "b.example", roomA, updateRequest(t))
			return err == nil && r.AcceptedTimestamp == 1, err
		}},
		{"submitMessage b.example " + string(roomA), func() (any, error) {
			r, err := hub.SubmitMessage(ctx, "b.example", roomA, submitRequest(t))
			return err == nil && r.AcceptedTimestamp == 1, err
		}},
		{"notify b.example " + string(roomB), func() (any, error) { return true, hub.Notify(ctx, "b.example", roomB, notify) }},
		{"groupInfo b.example " + string(roomA), func() (any, error) {
			r, err := hub.GroupInfo(ctx, "b.example", roomA, &mimi.GroupInfoRequest{Protocol: mimi.MLS10, CipherSuite: 1,
				RequestingCredential: mls.BasicCredential([]byte("x"))})
			return err == nil && r.Status == mimi.GroupInfoNotAuthorized, err
		}},
		{"requestConsent b.example " + string(alice), func() (any, error) {
			return true, hub.RequestConsent(ctx, "b.example", consentEntry(mimi.ConsentRequest))
		}},
		{"updateConsent b.example " + string(alice), func() (any, error) {
			return true, hub.UpdateConsent(ctx, "b.example", consentEntry(mimi.ConsentRevoke))
		}},
		{"identifierQuery b.example a.example", func() (any, error) {
			r, err := hub.IdentifierQuery(ctx, "b.example", "a.example", &mimi.IdentifierRequest{})
			return err == nil && r.ResponseCode == mimi.QueryNotFound, err
		}},
		{"reportAbuse b.example " + string(roomA), func() (any, error) {
			return true, hub.ReportAbuse(ctx, "b.example", roomA, &mimi.AbuseReport{ReportingUser: bob, AllegedAbuserURI: alice})
		}},
		{"comityGone b.example " + string(roomA) + " " + string(bob), func() (any, error) {
			return true, hub.Gone(ctx, "b.example", roomA, &mimi.GoneNotice{User: bob})
		}},
		{"proxyDownload b.example https://assets.c.example/x?y=%2F#", func() (any, error) {
			d, err := hub.ProxyDownload(ctx, "b.example", &mimi.DownloadRequest{URL: "https://assets.c.example/x?y=%2F#"})
			if err != nil {
				return nil, err
			}
			defer d.Body.Close()
			body, err := io.ReadAll(d.Body)
			return string(body) == "asset" && d.Status == 200 && d.ContentLength == 5, err
		}},
	} {
		ok, err := tc.do()
		if err != nil || ok != true {
			t.Errorf("%s: %v, %v", tc.call, ok, err)
		}
		if calls := a.hub.taken(); !slices.Equal(calls, []string{tc.call}) {
			t.Errorf("calls %q, want %q", calls, tc.call)
		}
	}
	if s, ok := b.peers.Status("a.example"); !ok || s.LastReached.IsZero() {
		t.Errorf("a's health at b: %+v", s)
	}
	if s, ok := a.peers.Status("b.example"); !ok || s.LastHeard.IsZero() {
		t.Errorf("b's health at a: %+v", s)
	}
}

// What the hub says with an error is what the caller on the other side gets:
// mimi.HTTPStatus and mimi.ErrorFromStatus are inverse through the wire.
func TestErrorsCrossTheWire(t *testing.T) {
	a, b := two(t, providerConfig{})
	call := func() error {
		_, err := b.client.Peer("a.example").SubmitMessage(context.Background(), "b.example", roomA, submitRequest(t))
		return err
	}
	for _, tc := range []struct {
		err, want error
		again     bool
		wait      time.Duration
		reason    Reason
	}{
		{&mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: "not yours"}, &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: "not yours"}, false, 0, ReasonSource},
		{fmt.Errorf("room: %w", &mimi.RefusedError{Refusal: mimi.RefusedNotFound, Reason: "no such room"}),
			&mimi.RefusedError{Refusal: mimi.RefusedNotFound, Reason: "no such room"}, false, 0, ReasonNotHosted},
		{&mimi.RefusedError{Refusal: mimi.RefusedTooLarge}, &mimi.RefusedError{Refusal: mimi.RefusedTooLarge, Reason: "too large"}, false, 0, ReasonTooLarge},
		{&mimi.RefusedError{Refusal: mimi.RefusedTooMany, Reason: "slowly", RetryAfter: 7 * time.Second},
			&mimi.RefusedError{Refusal: mimi.RefusedTooMany, Reason: "slowly", RetryAfter: 7 * time.Second}, true, 7 * time.Second, ReasonThrottled},
		{&mimi.MalformedError{Err: errors.New("upside down")}, &mimi.MalformedError{Err: errors.New("upside down")}, false, 0, ReasonMalformed},
		{&mimi.MalformedError{Err: &tlspl.SyntaxError{Offset: 3, Field: "appMessage", Err: tlspl.ErrValue}},
			&mimi.MalformedError{Err: fmt.Errorf("the body does not parse at offset 3, field %q: %v", "appMessage", tlspl.ErrValue)}, false, 0, ReasonMalformed},
		{&mimi.FailedError{RetryAfter: 9 * time.Second, Err: errors.New("secret")},
			&mimi.FailedError{Status: 503, RetryAfter: 9 * time.Second, Err: errors.New("not available for the time being")}, true, 9 * time.Second, ReasonUnavailable},
		{errors.New("secret"), &mimi.FailedError{Status: 500, Err: errors.New("internal error")}, true, 0, ReasonFailed},
	} {
		b.client.drop("a.example") // and with it what was noted of Retry-After
		a.log.reset()
		a.hub.setErr(tc.err)
		before := a.refusals("submitMessage", tc.reason)
		err := call()
		var pe *PeerError
		if !errors.As(err, &pe) || pe.Err.Error() != tc.want.Error() || fmt.Sprintf("%T", pe.Err) != fmt.Sprintf("%T", tc.want) {
			t.Errorf("%v arrives as %v, want %v", tc.err, err, tc.want)
			continue
		}
		if wait, again := Again(err); again != tc.again || wait != tc.wait {
			t.Errorf("%v: Again says %v, %v", tc.err, wait, again)
		}
		if got := a.refusals("submitMessage", tc.reason) - before; got != 1 {
			t.Errorf("%v: %v refusals counted for reason %s", tc.err, got, tc.reason)
		}
		if lines := a.log.find(t, map[string]any{"reason": string(tc.reason), "peer": "b.example", "endpoint": "submitMessage"}); len(lines) != 1 {
			t.Errorf("%v: %d log lines", tc.err, len(lines))
		}
	}
}

// A peer that says Retry-After is not asked before.
func TestRetryAfterIsHonoured(t *testing.T) {
	a, b := two(t, providerConfig{})
	clock := time.Now()
	b.client.now = func() time.Time { return clock }
	call := func() error {
		_, err := b.client.Peer("a.example").SubmitMessage(context.Background(), "b.example", roomA, submitRequest(t))
		return err
	}
	a.hub.setErr(&mimi.RefusedError{Refusal: mimi.RefusedTooMany, RetryAfter: 10 * time.Second})
	if wait, again := Again(call()); !again || wait != 10*time.Second {
		t.Fatalf("wait %v, again %v", wait, again)
	}
	a.hub.setErr(nil)
	a.hub.taken()
	clock = clock.Add(4 * time.Second)
	if wait, again := Again(call()); !again || wait != 6*time.Second {
		t.Errorf("wait %v, again %v; want the 6 s that are left", wait, again)
	}
	if calls := a.hub.taken(); len(calls) != 0 {
		t.Errorf("the peer was asked all the same: %q", calls)
	}
	clock = clock.Add(7 * time.Second)
	if err := call(); err != nil {
		t.Error(err)
	}
}

// BenchmarkRequest is one submitMessage to another provider and back, with all
// checks, on one connection. The hub does nothing.
func BenchmarkRequest(b *testing.B) {
	_, from := two(b, providerConfig{peers: PeersConfig{Quota: Quota{PerSecond: 1e9, Burst: 1e9}}})
	hub, req := from.client.Peer("a.example"), submitRequest(b)
	ctx := context.Background()
	for _, clients := range []int{1, 16} {
		b.Run(fmt.Sprintf("concurrent=%d", clients), func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism((clients + 1) / 2) // times the two cores of the machine this was written on
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := hub.SubmitMessage(ctx, "b.example", roomA, req); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
