package room

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
)

// Config is what a client needs for each of its rooms. It is not stored.
type Config struct {
	Verifier Verifier
	// MLS is how the client treats the MLS group. Its Rules are set by this package.
	MLS mls.Config
}

// A Room is a room as a member's client holds it: the MLS group with the room state in it. Changes are staged, sent to the
// hub, and merged once the hub has accepted them; until then nothing has changed. It is not safe for concurrent use.
type Room struct {
	verifier Verifier
	mls      mls.Config
	rules    *Rules
	group    *mls.Group
	self     Identity
	past     []pastEpoch // the latest first
	dirty    []mls.Record
}

func newRoom(cfg Config) *Room {
	r := &Room{verifier: cfg.Verifier, mls: cfg.MLS, rules: NewRules(cfg.Verifier)}
	r.mls.Rules = r.rules
	return r
}

// enter takes up a group that the client has just come into, if it is that of the room. Decisions 30, 31, 37
func (r *Room) enter(group *mls.Group, room mimi.RoomURI) (*Room, error) {
	if err := r.hold(group); err != nil {
		return nil, err
	}
	if err := r.View().Check(r.verifier, room); err != nil {
		return nil, err
	}
	return r, r.rules.room.checkMembership()
}

func (r *Room) hold(group *mls.Group) error {
	r.group = group
	view, err := NewView(group.Context())
	if err != nil {
		return err
	}
	if r.rules.room, err = newSnapshot(r.verifier, view, group.Tree()); err != nil {
		return err
	}
	if group.Removed() {
		return nil
	}
	r.self, err = identify(r.verifier, &group.Tree().Leaf(group.OwnLeaf()).Credential)
	return err
}

// Load returns the room whose records are given, in any order.
func Load(cfg Config, records iter.Seq2[[]byte, []byte]) (*Room, error) {
	r := newRoom(cfg)
	var broken error
	group, err := mls.LoadGroup(r.mls, func(yield func([]byte, []byte) bool) {
		for key, value := range records {
			if len(key) > 0 && key[0] == keyPast {
				broken = r.loadPast(key, value)
			} else if len(key) > 0 && key[0] == keyGroup && !yield(key[1:], value) {
				return
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if broken != nil {
		return nil, fmt.Errorf("room: stored state: %w", broken)
	}
	slices.SortFunc(r.past, func(a, b pastEpoch) int { return -compareEpochs(a.epoch, b.epoch) })
	if err := r.hold(group); err != nil {
		return r, err
	}
	for _, p := range r.past {
		if p.terms != nil {
			p.terms.Content.Hub = r.View().Hub()
		}
	}
	return r, nil
}

func compareEpochs(a, b mls.Epoch) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// PendingPrefix is what the keys of pending proposals' records begin with.
func PendingPrefix() []byte { return []byte{keyGroup, mls.PendingRecord} }

// Flush returns the records that changed since the last call, nil values being deletions. What they hold must be stored
// before a message leaves that was made since, and together with what was received.
func (r *Room) Flush() ([]mls.Record, error) {
	group, err := r.group.Flush()
	if err != nil {
		return nil, err
	}
	records := r.dirty
	r.dirty = nil
	return appendGroup(records, group), nil
}

// View returns the room in the present epoch.
func (r *Room) View() *View { return r.rules.room.view }

// State returns what policy is judged by in the present epoch.
func (r *Room) State() policy.State { return r.rules.room }

// Group returns the MLS group. It must not be changed but through the Room.
func (r *Room) Group() *mls.Group { return r.group }

// Self returns who this client is.
func (r *Room) Self() Identity { return r.self }

// Role returns the role of this client's user.
func (r *Room) Role() policy.RoleIndex {
	role, _ := r.View().RoleOf(r.self.User.Identifier())
	return role
}

// Active reports whether the client is still in the room.
func (r *Room) Active() bool { return r.group.Active() }

// Clients returns the leaves of a user, with their clients.
func (r *Room) Clients(user mimi.UserURI) map[mls.LeafIndex]mimi.ClientURI {
	clients := make(map[mls.LeafIndex]mimi.ClientURI)
	for _, l := range r.rules.room.leaves.by(user) {
		if who, err := r.verifier.Identify(&r.group.Tree().Leaf(l).Credential); err == nil {
			clients[l] = who.Client
		}
	}
	return clients
}

// Authorize says whether policy lets this client's user make a change, before it is tried.
func (r *Room) Authorize(c policy.Change) *policy.Denial {
	return policy.Authorize(r.rules.room, policy.Actor{URI: r.self.User.Identifier(), Claims: r.self.Claims}, c)
}

// A Staged is a Commit of this client or of another, judged and not merged.
type Staged struct {
	commit *mls.StagedCommit
	plan   *plan
	bundle *mimi.HandshakeBundle
}

// Bundle returns what to send to the hub; nil for a Commit that was received.
func (s *Staged) Bundle() *mimi.HandshakeBundle { return s.bundle }

// Changes returns what the Commit does to the MLS group.
func (s *Staged) Changes() *mls.Changes { return s.commit.Changes() }

// Removed reports whether the Commit takes this client out of the room.
func (s *Staged) Removed() bool { return s.commit.Removed() }

// A ParticipantChange is what a Commit does to one user.
type ParticipantChange struct {
	User mimi.IdentifierURI
	// From and To are its roles before and after; policy.NoRole is "not on the list".
	From, To policy.RoleIndex
	// By is who asked for the change of the role; empty if the role stays.
	By mimi.IdentifierURI
	// Added and Removed count its clients that come and go.
	Added, Removed int
}

// Participants returns what the Commit does to each user whom it is about.
func (s *Staged) Participants() []ParticipantChange {
	changes := make([]ParticipantChange, len(s.plan.users))
	for i := range s.plan.users {
		u := &s.plan.users[i]
		changes[i] = ParticipantChange{User: u.user, From: u.from, To: u.to, By: u.by.URI, Added: len(u.adds), Removed: len(u.removes)}
	}
	return changes
}

// Updated returns the components that the Commit updates.
func (s *Staged) Updated() []mls.ComponentID { return s.plan.effect.Updated }

// Commit stages a Commit with all pending proposals, which it must have (Decision 34), and these. now is in seconds, for the
// lifetimes of KeyPackages; 0: not checked. The error has a *policy.Denial in it where policy forbids a change.
func (r *Room) Commit(rand io.Reader, now uint64, proposals ...mls.Proposal) (*Staged, error) {
	return r.stage(rand, mls.CommitOptions{Proposals: proposals, Now: now})
}

func (r *Room) stage(rand io.Reader, o mls.CommitOptions) (*Staged, error) {
	aad, err := r.View().authenticatedData(nil)
	if err != nil {
		return nil, err
	}
	o.AllPending, o.AuthenticatedData, o.WireFormat = true, aad, r.View().handshakeFormat()
	commit, err := r.group.Stage(rand, o)
	if err != nil {
		return nil, err
	}
	s := &Staged{commit: commit, plan: r.rules.judged}
	s.bundle, err = bundle(commit.Message(), commit.Welcome(), commit.GroupInfo())
	return s, err
}

// bundle puts a Commit together with what the hub needs. The hub keeps the tree itself (Decision 26) and all of the GroupInfo
// that it can compute (Decision 27).
func bundle(commit *mls.MLSMessage, welcome *mls.Welcome, info *mls.GroupInfo) (*mimi.HandshakeBundle, error) {
	m, err := mimi.NewMessage(*commit)
	if err != nil {
		return nil, err
	}
	partial := info.Partial()
	return &mimi.HandshakeBundle{ProposalOrCommit: m, Welcome: welcome, GroupInfoOption: mimi.PartialGroupInfo(&partial),
		RatchetTreeOption: mls.RatchetTreeOption{Representation: mls.RatchetTreeDistributionService}}, nil
}

// StageReceived judges a Commit that came from the hub, by the same rules as the hub. A client does not follow a Commit that
// policy forbids: the room stays in its last good state (Decision 85).
func (r *Room) StageReceived(m *mimi.Message) (*Staged, error) {
	commit, err := r.group.StageReceived(&m.MLSMessage)
	if err != nil {
		return nil, err
	}
	return &Staged{commit: commit, plan: r.rules.judged}, nil
}

// Merge takes a staged Commit into effect: another's, or the client's own when the hub has accepted it.
func (r *Room) Merge(s *Staged) error {
	past := r.pastOf(s)
	if err := r.group.Merge(s.commit); err != nil {
		return err
	}
	r.rules.judged = nil
	if s.commit.Removed() {
		return nil
	}
	next, err := r.rules.room.next(s.plan, r.group.Context(), r.group.Tree())
	if err != nil {
		return err // Judge has seen the same context
	}
	next.leaves.settle()
	r.rules.room = next
	r.keepPast(past)
	r.self, err = identify(r.verifier, &r.group.Tree().Leaf(r.group.OwnLeaf()).Credential)
	return err
}

// ReceiveProposals takes up proposals that the hub has accepted: a first one with its moreProposals, or the
// externalProposals of a Commit, after it was merged. Those of this client are known already.
func (r *Room) ReceiveProposals(messages ...mimi.Message) error {
	for i := range messages {
		if _, err := r.group.ReceiveProposal(&messages[i].MLSMessage); err != nil && !errors.Is(err, mls.ErrOwnMessage) {
			return fmt.Errorf("room: proposal: %w", err)
		}
	}
	return nil
}

// Proposed are proposals that this client made and that are not committed.
type Proposed struct {
	// Bundle is what to send to the hub.
	Bundle *mimi.HandshakeBundle
	refs   []mls.ProposalRef
}

// Propose makes a bundle of proposals, which belong together. They are pending at once; Drop takes them back if the hub
// refuses them.
func (r *Room) Propose(rand io.Reader, proposals ...mls.Proposal) (*Proposed, error) {
	aad, err := r.View().authenticatedData(nil)
	if err != nil {
		return nil, err
	}
	p := &Proposed{}
	before := r.group.Pending()
	var messages []mimi.Message
	for i := range proposals {
		o := mls.SendOptions{AuthenticatedData: aad, WireFormat: r.View().handshakeFormat()}
		if proposals[i].Type == mls.ProposalSelfRemove {
			o.WireFormat = mls.WireFormatPublicMessage // Decision 120
		}
		m, err := r.group.Propose(rand, proposals[i], o)
		var message mimi.Message
		if err == nil {
			message, err = mimi.NewMessage(*m)
		}
		for _, now := range r.group.Pending()[len(before)+len(p.refs):] {
			p.refs = append(p.refs, now.Ref)
		}
		if err != nil {
			r.Drop(p)
			return nil, err
		}
		messages = append(messages, message)
	}
	p.Bundle = &mimi.HandshakeBundle{ProposalOrCommit: messages[0], MoreProposals: messages[1:]}
	return p, nil
}

// Drop forgets proposals that the hub refused.
func (r *Room) Drop(p *Proposed) {
	for _, ref := range p.refs {
		r.group.DropPending(ref)
	}
}
