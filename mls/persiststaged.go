package mls

import (
	"bytes"
	"errors"

	"github.com/comity-im/comity/tlspl"
)

// storedStaged is a commit of this member that waits for its acceptance.
type storedStaged struct {
	version   uint8
	epoch     Epoch // that it was made in
	content   []byte
	message   MLSMessage
	welcome   *Welcome
	groupInfo *GroupInfo
	private   []byte
	signer    []byte
	start     epochStart
}

// Code describes the stored form.
func (s *storedStaged) Code(c *tlspl.Codec) {
	tlspl.Uint8(c, &s.version)
	if s.version < 1 || s.version > storedVersion {
		c.Fail(ErrStored)
	}
	tlspl.Uint64(c, &s.epoch)
	tlspl.Opaque(c, &s.content)
	tlspl.Struct(c, "message", &s.message)
	tlspl.Optional(c, &s.welcome)
	tlspl.Optional(c, &s.groupInfo)
	tlspl.Opaque(c, &s.private)
	tlspl.Opaque(c, &s.signer)
	s.start.secrets.Code(c)
	tlspl.Opaque(c, &s.start.encryption)
	tlspl.Opaque(c, &s.start.applicationExport)
}

// errNotMade says that a staged commit was received, or is merged or dropped
// already.
var errNotMade = errors.New("mls: only a commit that Stage made can be stored")

// Marshal encodes a commit that Stage made, with its secrets, so that it can be
// merged after a restart: a commit that the hub has accepted is the group's, and
// only its sender's keys can follow it. Store it before the commit leaves,
// together with what Flush returns.
func (c *StagedCommit) Marshal() ([]byte, error) {
	if c.content == nil || c.private == nil {
		return nil, errNotMade
	}
	content, err := tlspl.Marshal(c.content)
	if err != nil {
		return nil, err
	}
	private, err := c.private.Marshal()
	if err != nil {
		return nil, err
	}
	return tlspl.Marshal(&storedStaged{
		version: storedVersion, epoch: c.base.context.Epoch, content: content, message: *c.message, welcome: c.welcome,
		groupInfo: c.groupInfo, private: private, signer: c.signer.Bytes(), start: c.start,
	})
}

// LoadStaged decodes what [StagedCommit.Marshal] gave, for the group in the
// epoch that it was made in; ErrStale in another.
func (g *Group) LoadStaged(b []byte) (*StagedCommit, error) {
	var stored storedStaged
	if err := tlspl.Unmarshal(b, &stored); err != nil {
		return nil, err
	}
	if !g.Active() {
		return nil, ErrGroupClosed
	}
	if stored.epoch != g.Epoch() {
		return nil, ErrStale
	}
	a := new(AuthenticatedContent)
	if err := tlspl.UnmarshalAlias(stored.content, a); err != nil {
		return nil, err
	}
	if a.Content.ContentType != ContentCommit || a.Content.Sender != MemberSender(g.OwnLeaf()) || !bytes.Equal(a.Content.GroupID, g.GroupID()) {
		return nil, ErrStored
	}
	t, err := g.public.transition(a)
	if err != nil {
		return nil, err
	}
	s := g.Suite()
	if !stored.start.secrets.verifyConfirmationTag(s, t.context.ConfirmedTranscriptHash, a.Auth.ConfirmationTag) {
		return nil, ErrStored
	}
	c := &StagedCommit{
		base: g.public.state, next: t.next(a.Auth.ConfirmationTag), start: stored.start, changes: t.changes, content: a,
		message: &stored.message, welcome: stored.welcome, groupInfo: stored.groupInfo,
	}
	c.changes.New = &c.next.context
	if c.private, err = LoadPrivateTree(s, stored.private); err != nil {
		return nil, err
	}
	if err := c.private.Check(c.next.tree); err != nil {
		return nil, err
	}
	c.signer, err = s.NewSigner(stored.signer)
	return c, err
}
