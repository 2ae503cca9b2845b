package clientapi

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// guarded knows one token.
type guarded struct{ *talking }

func (g guarded) Authenticate(ctx context.Context, token string) (Device, error) {
	if token != "dG9rZW4tb2YtYWxpY2U" {
		return Device{}, Errorf(CodeUnauthorized, "the session has ended")
	}
	return Device{User: "mimi://a.example/u/alice", Client: "mimi://a.example/d/alice/browser"}, nil
}

// A browser, whose WebSocket takes no headers of ours, offers its token as a
// subprotocol. The answer names the protocol, never the token; a wrong token, or
// none, gets no connection.
func TestTokenAsSubprotocol(t *testing.T) {
	s := guarded{&talking{subs: make(chan *feed, 1), most: 1}}
	_, client := serve(t, s)
	c := client("")
	url := "wss" + strings.TrimPrefix(c.base, "https") + "events"
	dial := func(protocols ...string) (*websocket.Conn, *http.Response, error) {
		return websocket.Dial(t.Context(), url, &websocket.DialOptions{HTTPClient: c.http, Subprotocols: protocols})
	}
	conn, resp, err := dial(subprotocol, tokenPrefix+"dG9rZW4tb2YtYWxpY2U")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	<-s.subs
	if got := conn.Subprotocol(); got != subprotocol {
		t.Errorf("the subprotocol is %q, not %q", got, subprotocol)
	}
	for name, values := range resp.Header {
		if strings.Contains(strings.Join(values, " "), "dG9rZW4tb2YtYWxpY2U") {
			t.Errorf("the answer's %s has the token", name)
		}
	}
	for name, protocols := range map[string][]string{"a wrong token": {subprotocol, tokenPrefix + "d3Jvbmc"}, "no token": {subprotocol}, "nothing": nil} {
		conn, resp, err := dial(protocols...)
		if err == nil {
			conn.CloseNow()
			t.Errorf("%s: connected", name)
		} else if resp == nil || resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %+v, %v", name, resp, err)
		}
	}
}
