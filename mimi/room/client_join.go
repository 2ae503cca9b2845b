package room

import (
	"errors"
	"io"
	"slices"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
)

// JoinWelcome enters a room by a Welcome, with the ratchet tree that came with it. room is the URI of the endpoint that
// delivered it, or empty if the client had no part in that; the room's metadata must agree (Decision 31). former is the room
// with the group that the client has for it, which a ReInit may have ended (RFC 9420 §12.4.3.1); nil if it has none.
func JoinWelcome(cfg Config, room mimi.RoomURI, welcome *mls.Welcome, key *mls.KeyPackageSecrets, tree mls.RatchetTreeOption, former *Room) (*Room, error) {
	r := newRoom(cfg)
	o := mls.JoinOptions{RatchetTree: tree.RatchetTree}
	if former != nil {
		o.Former, o.Absent = former.group, former.comesAlone()
	}
	group, err := mls.JoinWelcome(r.mls, welcome, key, o)
	if err != nil {
		return nil, err
	}
	if room == "" {
		view, err := NewView(group.Context())
		if err != nil {
			return nil, err
		}
		room = view.Room()
	}
	if _, err := r.enter(group, room); err != nil {
		return nil, err
	}
	return r, r.follows(former)
}

// JoinParams is what a client that joins alone has from the hub's GroupInfoResponse.
type JoinParams struct {
	Room    mimi.RoomURI
	Info    *mls.GroupInfo
	Tree    mls.RatchetTreeOption
	Pending []mimi.PendingProposal
	// Leaf is the client's, from the function Leaf.
	Leaf mls.LeafOptions
	// Role is the one to take if the user is not on the participant list yet; NoRole takes the best that Joinable gives.
	Role policy.RoleIndex
	// HasCode says that the client was given the GroupInfo for a join code.
	HasCode bool
}

// A StagedJoin is an external Commit by which the client enters the room, once the hub accepts it.
type StagedJoin struct {
	room   *Room
	bundle *mimi.HandshakeBundle
}

// Bundle returns what to send to the hub.
func (j *StagedJoin) Bundle() *mimi.HandshakeBundle { return j.bundle }

// Room returns the room, to be used when the hub has accepted the Commit.
func (j *StagedJoin) Room() *Room { return j.room }

// ErrDeparting says that the client's own SelfRemove is pending: somebody else must commit it before the client can join.
var ErrDeparting = errors.New("room: this client is leaving; somebody else has to commit that first")

// Joinable returns the roles with which somebody could join alone, the one of its credential's claims first, then ascending.
func Joinable(s policy.State, who Identity, hasCode bool) []policy.RoleIndex {
	a := policy.Actor{URI: who.User.Identifier(), Kind: policy.Joiner, Claims: who.Claims}
	var roles []policy.RoleIndex
	add := func(role policy.RoleIndex) {
		for _, r := range roles {
			if r == role {
				return
			}
		}
		if method, d := policy.AuthorizeJoin(s, a, role); d == nil && (method != policy.CodeJoin || hasCode) && s.Roles().MayBeActive(role) {
			roles = append(roles, role)
		}
	}
	if role, ok := policy.MatchPreauth(s.Preauth(), s.Roles(), who.Claims); ok {
		add(role)
	}
	for _, role := range s.Roles().Indexes() {
		if role != policy.NoRole && !s.Roles().Banned(role) {
			add(role)
		}
	}
	return roles
}

// StageJoin makes the external Commit by which a client comes in alone: another client of a participant, or a user who may
// join by itself, who then puts itself on the participant list (room policy §8.1.1). An old leaf of the same client is
// replaced.
func StageJoin(rand io.Reader, cfg Config, p JoinParams) (*StagedJoin, error) {
	view, err := NewView(&p.Info.GroupContext)
	if err != nil {
		return nil, err
	}
	if err := view.Check(cfg.Verifier, p.Room); err != nil {
		return nil, err
	}
	who, err := identify(cfg.Verifier, &p.Leaf.Credential)
	if err != nil {
		return nil, err
	}
	options := mls.ExternalCommitOptions{RatchetTree: p.Tree.RatchetTree, Leaf: p.Leaf}
	if options.AuthenticatedData, err = view.authenticatedData(nil); err != nil {
		return nil, err
	}
	for i := range p.Pending {
		m := &p.Pending[i].Proposal.MLSMessage
		if m.PublicMessage != nil && m.PublicMessage.Content.Proposal != nil && m.PublicMessage.Content.Proposal.Type == mls.ProposalSelfRemove {
			options.SelfRemoves = append(options.SelfRemoves, m)
		}
	}
	old := &replaced{Verifier: cfg.Verifier}
	cfg.Verifier = old
	r := newRoom(cfg)
	snapshot, err := r.preview(p.Info, p.Tree, view)
	if err != nil {
		return nil, err
	}
	for _, l := range snapshot.leaves.by(who.User) {
		if id, err := cfg.Verifier.Identify(&snapshot.tree.Leaf(l).Credential); err == nil && id.Client == who.Client {
			options.Remove, old.leaf = &l, snapshot.tree.Leaf(l)
		}
	}
	if options.Remove != nil && slices.ContainsFunc(options.SelfRemoves, func(m *mls.MLSMessage) bool {
		return m.PublicMessage.Content.Sender.LeafIndex == *options.Remove
	}) {
		return nil, ErrDeparting
	}
	if _, listed := view.RoleOf(who.User.Identifier()); !listed {
		role := p.Role
		if role == policy.NoRole {
			if roles := Joinable(snapshot, who, p.HasCode); len(roles) > 0 {
				role = roles[0]
			} else if d := policy.MayFetchGroupInfo(snapshot, policy.Actor{URI: who.User.Identifier(), Kind: policy.Joiner, Claims: who.Claims}, p.HasCode); d != nil {
				return nil, d
			}
		}
		update, err := appData(mimi.ComponentParticipantList, &mimi.ParticipantListUpdate{
			AddedParticipants: []mimi.UserRolePair{{User: who.User.Identifier(), RoleIndex: role}}})
		if err != nil {
			return nil, err
		}
		options.Proposals = append(options.Proposals, update)
	}
	join, err := mls.StageExternalCommit(rand, r.mls, p.Info, options)
	if err != nil {
		return nil, err
	}
	j := &StagedJoin{}
	if j.room, err = r.enter(join.Group(), p.Room); err != nil {
		return nil, err
	}
	j.bundle, err = bundle(join.Message(), nil, join.GroupInfo())
	return j, err
}

// replaced is a Verifier that lets pass the leaf which an external Commit replaces by one of the same client: its provider may
// have other issuers by now, so that nobody else could ever take it out.
type replaced struct {
	Verifier
	leaf *mls.LeafNode // nil: none
}

func (v *replaced) Verify(leaf *mls.LeafNode) error {
	err := v.Verifier.Verify(leaf)
	if err != nil && v.leaf != nil && sameLeaf(leaf, v.leaf) {
		return nil
	}
	return err
}

// preview reads the room that a client is about to join. Staging the Commit verifies what is taken on trust here.
func (r *Room) preview(info *mls.GroupInfo, tree mls.RatchetTreeOption, view *View) (*snapshot, error) {
	s, ok := suite.Lookup(info.GroupContext.CipherSuite)
	if !ok {
		return nil, mls.ErrCipherSuite
	}
	parsed, err := mls.ParseRatchetTree(s, tree.RatchetTree)
	if err != nil {
		return nil, err
	}
	room, err := newSnapshot(r.verifier, view, parsed)
	if err != nil {
		return nil, err
	}
	return room, room.checkMembership()
}
