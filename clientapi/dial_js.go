package clientapi

import "github.com/coder/websocket"

// A browser's WebSocket takes no headers of ours, but names of subprotocols: the
// token goes as one of them.
func (c *Client) dialOptions() *websocket.DialOptions {
	return &websocket.DialOptions{Subprotocols: []string{subprotocol, tokenPrefix + c.token}}
}
