package mimi

import (
	"errors"
	"fmt"
	"strings"

	"github.com/comity-im/comity/tlspl"
)

// JoinLinkPolicy is the data of the join_link_policy component, and the content
// of its updates (room policy §6.2). JoinLink is where a link can be requested;
// it may be empty. Expiration is in seconds from a link's creation. Decision 91
type JoinLinkPolicy struct {
	OnRequest  bool
	JoinLink   URI
	Multiuser  bool
	Expiration uint32
}

// Code describes a JoinLinkPolicy.
func (p *JoinLinkPolicy) Code(c *tlspl.Codec) {
	c.Field("on_request")
	tlspl.Bool(c, &p.OnRequest)
	c.Field("join_link")
	p.JoinLink.Code(c)
	c.Field("multiuser")
	tlspl.Bool(c, &p.Multiuser)
	c.Field("expiration")
	tlspl.Uint32(c, &p.Expiration)
}

// A JoinLink is one active link by which a room can be joined (room policy
// §6.2): opaque join_link<V>. Decision 91
type JoinLink []byte

// Code describes a JoinLink.
func (l *JoinLink) Code(c *tlspl.Codec) {
	c.Field("join_link")
	tlspl.Opaque(c, l)
}

// joinLinkCode comes between a room's URI and the code in a link of ours.
const joinLinkCode = "?code="

// NewJoinLink returns the link that invites into a room with a joining code. The draft says nothing of what is in a link; this
// is the room's URI, "?code=" and the code, percent-encoded.
func NewJoinLink(room RoomURI, code string) JoinLink {
	return JoinLink(string(room) + joinLinkCode + Escape(code))
}

// CutJoinLink splits the text of a link into the room's URI and the joining code; ok is false if it has no code.
func CutJoinLink(text string) (room, code string, ok bool) {
	room, code, ok = strings.Cut(text, joinLinkCode)
	if !ok {
		return text, "", false
	}
	code, err := Unescape(code)
	return room, code, err == nil && code != ""
}

// JoiningCode returns the joiningCode that the link stands for (MIMI protocol §5.6): the one in a link to the room of the form
// of NewJoinLink; any other link is itself the code, since it is opaque.
func (l JoinLink) JoiningCode(room RoomURI) []byte {
	if uri, code, ok := CutJoinLink(string(l)); ok && uri == string(room) {
		return []byte(code)
	}
	return l
}

// JoinLinksData is the data of the join_links component (room policy §6.2).
type JoinLinksData struct {
	Links []JoinLink
}

// Code describes a JoinLinksData.
func (d *JoinLinksData) Code(c *tlspl.Codec) {
	c.Field("links")
	tlspl.Vector(c, &d.Links)
}

// A JoinLinksUpdate is the content of an AppDataUpdate of the join_links
// component (room policy §6.2). Its indices refer to the links before the
// Commit. Decision 91
type JoinLinksUpdate struct {
	RemovedIndices []uint32
	AddedLinks     []JoinLink
}

// Code describes a JoinLinksUpdate.
func (u *JoinLinksUpdate) Code(c *tlspl.Codec) {
	c.Field("removedIndices")
	tlspl.VectorFunc(c, &u.RemovedIndices, tlspl.Uint32[uint32])
	c.Field("added_links")
	tlspl.Vector(c, &u.AddedLinks)
}

// ErrJoinLinkIndex is the error of an index that is beyond the list of join
// links, or removed twice in one Commit.
var ErrJoinLinkIndex = errors.New("mimi: join links: removed index is out of range or given twice")

// Apply returns the links after all join_links updates of one Commit, in the
// order of their proposals. d stays as it is. The error wraps ErrJoinLinkIndex.
func (d *JoinLinksData) Apply(updates []JoinLinksUpdate) (JoinLinksData, error) {
	removed := make(map[uint32]bool)
	var added []JoinLink
	for i := range updates {
		for _, index := range updates[i].RemovedIndices {
			if uint64(index) >= uint64(len(d.Links)) || removed[index] {
				return JoinLinksData{}, fmt.Errorf("%w: update %d, index %d of %d", ErrJoinLinkIndex, i, index, len(d.Links))
			}
			removed[index] = true
		}
		added = append(added, updates[i].AddedLinks...)
	}
	next := JoinLinksData{Links: make([]JoinLink, 0, len(d.Links)-len(removed)+len(added))}
	for i, l := range d.Links {
		if !removed[uint32(i)] {
			next.Links = append(next.Links, l)
		}
	}
	next.Links = append(next.Links, added...)
	return next, nil
}
