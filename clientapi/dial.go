//go:build !js

package clientapi

import (
	"net/http"

	"github.com/coder/websocket"
)

func (c *Client) dialOptions() *websocket.DialOptions {
	return &websocket.DialOptions{HTTPClient: c.http, HTTPHeader: http.Header{"Authorization": {"Bearer " + c.token}}}
}
