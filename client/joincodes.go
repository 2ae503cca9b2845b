package client

import (
	"context"
	"io"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/room"
)

// JoinCodes lists the joining codes of a room: those that its hub has if that is the user's provider, otherwise those that the
// room lists, whose limits only its hub knows.
func (c *Client) JoinCodes(ctx context.Context, uri mimi.RoomURI) ([]clientapi.JoinCode, error) {
	if c.hosts(uri) {
		return c.provider.JoinCodes(ctx, uri)
	}
	var list []clientapi.JoinCode
	return list, c.Inspect(ctx, uri, func(g *room.Room) error {
		if l := g.View().Components().JoinLinks; l != nil {
			for _, link := range l.Links {
				list = append(list, clientapi.JoinCode{Code: string(link.JoiningCode(uri)), UsesLeft: -1, Listed: true})
			}
		}
		return nil
	})
}

// CreateJoinCode makes one. In a room of another provider it is made by listing it in the room, where every member sees it; its
// limits are those of the room's join_link_policy, and code is ignored but for its Code.
func (c *Client) CreateJoinCode(ctx context.Context, uri mimi.RoomURI, code clientapi.JoinCode) (clientapi.JoinCode, error) {
	if c.hosts(uri) {
		return c.provider.CreateJoinCode(ctx, uri, code)
	}
	if code.Code == "" {
		var b [16]byte
		if _, err := io.ReadFull(c.rand, b[:]); err != nil {
			return code, err
		}
		code.Code = codeText(b[:])
	}
	code = clientapi.JoinCode{Code: code.Code, UsesLeft: -1, Listed: true}
	return code, c.ListJoinCode(ctx, uri, code.Code)
}

// codeText writes a random code so that it needs no escaping in a link.
func codeText(b []byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	text := make([]byte, 0, 2*len(b))
	for _, x := range b {
		text = append(text, alphabet[x>>4], alphabet[16+x&15])
	}
	return string(text)
}

// ListJoinCode puts the link with a code into the room's join_links.
func (c *Client) ListJoinCode(ctx context.Context, uri mimi.RoomURI, code string) error {
	return c.ChangeJoinLinks(ctx, uri, nil, []mimi.JoinLink{mimi.NewJoinLink(uri, code)})
}

// RevokeJoinCode removes one, from the hub and from the room's join_links.
func (c *Client) RevokeJoinCode(ctx context.Context, uri mimi.RoomURI, code string) error {
	var listed []mimi.JoinLink
	err := c.Inspect(ctx, uri, func(g *room.Room) error {
		if l := g.View().Components().JoinLinks; l != nil {
			for _, link := range l.Links {
				if string(link.JoiningCode(uri)) == code {
					listed = append(listed, link)
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if c.hosts(uri) {
		if err := c.provider.RevokeJoinCode(ctx, uri, code); err != nil {
			return err
		}
	} else if len(listed) == 0 {
		return clientapi.Errorf(clientapi.CodeNotFound, "the room lists no such join code; only its hub's users see others")
	}
	if len(listed) == 0 {
		return nil
	}
	return c.ChangeJoinLinks(ctx, uri, listed, nil)
}

// hosts reports whether the user's provider is the room's hub.
func (c *Client) hosts(uri mimi.RoomURI) bool { return uri.Host() == c.self.user.Host() }
