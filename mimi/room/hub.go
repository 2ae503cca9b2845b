package room

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// HubConfig is what a hub needs for each of its rooms. It is not stored.
type HubConfig struct {
	Verifier Verifier
	// Signer has the key of the hub's entry in the external senders. Without one the hub proposes nothing.
	Signer *suite.Signer
	// Receiver reads the SemiPrivateMessages of rooms that name it among their external receivers; nil: the hub takes
	// PublicMessages only (Decision 120).
	Receiver *mls.Receiver
}

func (c *HubConfig) mls(rules *Rules) mls.Config {
	return mls.Config{Rules: rules, Receiver: c.Receiver}
}

// A Hub is a room at the provider that hosts it: its state in the present epoch, and the proposals that it has accepted and
// that no Commit covers yet. It is a state machine without inputs or outputs of its own: Update, Submit and Propose leave it
// as it is and return a Next, which says what to store and what to send. Once that is on disk, Merge makes the Hub the next
// one. It is not safe for concurrent use.
type Hub struct {
	cfg     HubConfig
	public  *mls.PublicGroup
	rules   *Rules
	info    *mls.GroupInfo
	pending []mimi.PendingProposal
	plan    *plan // of the pending proposals; nil if there are none
	last    mimi.Millis
	closed  bool
	version uint64
}

// NewHub starts a room from the first GroupInfo and ratchet tree that its creator's client sends. It checks all that makes a
// group the group of the room (Decisions 30, 31, 37): errors are a *StateError, a *policy.PolicyError, a *MembershipError or
// come from mls. The Next is the one to store; nothing is sent.
func NewHub(cfg HubConfig, room mimi.RoomURI, creator mimi.UserURI, info *mls.GroupInfo, tree []byte, now mimi.Millis) (*Hub, *Next, error) {
	h, n, err := newHub(cfg, room, info, tree, now)
	if err != nil {
		return nil, nil, err
	}
	// The creator's client may hold the first epoch alone: adding others is judged like any other change.
	for user := range h.rules.room.leaves.table.of {
		if user != creator {
			return nil, nil, &StateError{Err: fmt.Errorf("%s is in the group, which %s created", user, creator)}
		}
	}
	return h, n, nil
}

// newHub is NewHub, whoever is in the group.
func newHub(cfg HubConfig, room mimi.RoomURI, info *mls.GroupInfo, tree []byte, now mimi.Millis) (*Hub, *Next, error) {
	h := &Hub{cfg: cfg, rules: NewRules(cfg.Verifier), last: now}
	if err := checkGroupInfo(info); err != nil {
		return nil, nil, err
	}
	public, err := mls.NewPublicGroup(cfg.mls(h.rules), info, tree)
	if err != nil {
		return nil, nil, err
	}
	view, err := NewView(public.Context())
	if err != nil {
		return nil, nil, err
	}
	if err := view.Check(cfg.Verifier, room); err != nil {
		return nil, nil, err
	}
	if err := view.checkPseudonyms(); err != nil {
		return nil, nil, err
	}
	if err := cfg.reads(view); err != nil {
		return nil, nil, err
	}
	if h.rules.room, err = newSnapshot(cfg.Verifier, view, public.Tree()); err != nil {
		return nil, nil, err
	}
	if err := h.rules.room.checkMembership(); err != nil {
		return nil, nil, err
	}
	h.public, h.info = public, info
	n := h.begin(now)
	n.Accepted, n.accepted, n.first = now, now, true
	n.public = public.Clone()
	return h, n, nil
}

// reads checks that the hub can read the handshake messages of a room: as the one external receiver, where they may be
// SemiPrivateMessages.
func (c *HubConfig) reads(v *View) error {
	receivers, err := v.context.Extensions.ExternalReceivers()
	if err != nil {
		return &StateError{Err: err}
	}
	if len(receivers) == 0 && !v.takesFormat(mls.WireFormatSemiPrivateMessage) {
		return nil
	}
	if c.Receiver == nil || len(receivers) != 1 || !bytes.Equal(receivers[0].PublicKey, c.Receiver.PublicKey) {
		return &StateError{Err: fmt.Errorf("SemiPrivateMessages of the room are not for the key of this hub")}
	}
	return nil
}

// checkGroupInfo: a GroupInfo at the hub has external_pub and no ratchet_tree. Decisions 27, 28
func checkGroupInfo(info *mls.GroupInfo) error {
	if _, ok := info.Extensions.Find(mls.ExtensionRatchetTree); ok {
		return errors.New("room: the GroupInfo has a ratchet_tree extension")
	}
	if _, ok := info.Extensions.Find(mls.ExtensionExternalPub); !ok {
		return errors.New("room: the GroupInfo has no external_pub extension")
	}
	return nil
}

// View returns the room as of the last Commit.
func (h *Hub) View() *View { return h.rules.room.view }

// State returns what policy is judged by in the present epoch.
func (h *Hub) State() policy.State { return h.rules.room }

// Epoch returns the present epoch.
func (h *Hub) Epoch() mls.Epoch { return h.public.Epoch() }

// GroupInfo returns the GroupInfo of the present epoch. It must not be changed.
func (h *Hub) GroupInfo() *mls.GroupInfo { return h.info }

// Tree returns the whole ratchet tree, as a client that joins needs it.
func (h *Hub) Tree() mls.RatchetTreeOption {
	return mls.RatchetTreeOption{Representation: mls.RatchetTreeFull, RatchetTree: h.public.Tree().Bytes()}
}

// Pending returns the proposals that were accepted in this epoch and that no Commit covers yet, in the order of acceptance.
func (h *Hub) Pending() []mimi.PendingProposal { return h.pending }

// Providers returns the providers that have a client in the group, sorted.
func (h *Hub) Providers() []mimi.ProviderDomain { return h.rules.room.leaves.domains() }

// Clients returns how many clients a user has in the group.
func (h *Hub) Clients(user mimi.UserURI) int { return len(h.rules.room.leaves.by(user)) }

// LastAccepted returns the time of the last event that the hub accepted.
func (h *Hub) LastAccepted() mimi.Millis { return h.last }

// Closed reports whether the MLS group has ended with a ReInit.
func (h *Hub) Closed() bool { return h.closed }

// Effective returns the role of a user as if the pending proposals were committed already. It is used only to restrict:
// whoever is about to lose its role may speak no more (Decision 36).
func (h *Hub) Effective(user mimi.UserURI) policy.RoleIndex {
	role, _ := h.rules.room.RoleOf(user.Identifier())
	if h.plan != nil {
		if i, ok := h.plan.at[user.Identifier()]; ok {
			return h.plan.users[i].to
		}
	}
	return role
}

// restricted reports whether pending proposals take away a user's place in the group.
func (h *Hub) restricted(user mimi.UserURI) bool {
	role := h.Effective(user)
	return role == policy.NoRole || !h.rules.room.view.roles.MayBeActive(role)
}

// A Next is what the hub becomes, and what it sends, by accepting something.
type Next struct {
	// Accepted is the hub's time of acceptance: strictly increasing in a room (Decision 39).
	Accepted mimi.Millis
	// Epoch is the epoch after it.
	Epoch mls.Epoch
	// Events are what to send to which providers, in this order.
	Events []Event
	// Commit says that the epoch has changed.
	Commit bool
	// Joined is how a user came in alone by this Commit, if one did. A CodeJoin is the caller's to check: that the user was
	// given the GroupInfo for a valid join code, and has that code's role (Decisions 66, 102).
	Joined     policy.JoinMethod
	JoinedUser mimi.UserURI
	JoinedRole policy.RoleIndex
	// JoinedKey is the signature key of the client that joined by an external commit.
	JoinedKey []byte
	// Listed and Unlisted are the users whom the Commit puts on the participant list, and takes off it or bans. Those who
	// leave a room leave those that depend on it (room policy §5).
	Listed, Unlisted []mimi.UserURI
	// KeyPackages are the references of the KeyPackages that the Commit adds.
	KeyPackages []mls.KeyPackageRef
	// AddedBy are the users who add them: the senders of the Adds, one for each of KeyPackages.
	AddedBy []mimi.IdentifierURI
	// ReInit ends the group.
	ReInit *mls.ReInit

	version  uint64
	accepted mimi.Millis
	public   *mls.PublicGroup
	info     *mls.GroupInfo
	room     *snapshot
	pending  []mimi.PendingProposal
	plan     *plan
	before   int // how many pending proposals there were
	keep     int // how many of them stay
	first    bool
}

// View returns the room as it will be.
func (n *Next) View() *View { return n.room.view }

// Providers returns the providers that have a client in the group after it, sorted.
func (n *Next) Providers() []mimi.ProviderDomain { return n.room.leaves.domains() }

// Clients returns how many clients a user has in the group after it.
func (n *Next) Clients(user mimi.UserURI) int { return len(n.room.leaves.by(user)) }

// An Event is one thing to send: a FanoutMessage for each of the providers (MIMI protocol §5.5).
type Event struct {
	Message   mimi.FanoutMessage
	Providers []mimi.ProviderDomain
}

// Response returns what the hub answers to an update that it accepts.
func (n *Next) Response() *mimi.UpdateRoomResponse {
	return &mimi.UpdateRoomResponse{ResponseCode: mimi.UpdateSuccess, AcceptedTimestamp: n.Accepted}
}

// ErrStale says that the Hub has moved on since the Next was made.
var ErrStale = errors.New("room: the hub has moved on")

// ErrClosed says that the group has ended.
var ErrClosed = errors.New("room: the group has ended by a ReInit")

// begin makes a Next that changes nothing but the time.
func (h *Hub) begin(now mimi.Millis) *Next {
	accepted := max(now, h.last+1)
	return &Next{Accepted: accepted, accepted: accepted, Epoch: h.Epoch(), version: h.version, public: h.public, info: h.info, room: h.rules.room,
		pending: h.pending, plan: h.plan, before: len(h.pending), keep: len(h.pending)}
}

// Merge makes the Hub the next one, after what Records gave was stored. It gives ErrStale if another Next was merged since.
func (h *Hub) Merge(n *Next) error {
	if n.version != h.version {
		return ErrStale
	}
	h.version++
	h.last = n.accepted
	h.public, h.info, h.pending, h.plan = n.public, n.info, n.pending, n.plan
	if n.room != h.rules.room {
		n.room.leaves.settle()
		h.rules.room = n.room
	}
	h.closed = h.closed || n.ReInit != nil
	return nil
}

// UpdateInput is an update that a provider sends (MIMI protocol §5.3).
type UpdateInput struct {
	// From is the provider that sends it, as its certificate says.
	From   mimi.ProviderDomain
	Bundle *mimi.HandshakeBundle
	Now    mimi.Millis
	// Rand is read to sign proposals of the hub.
	Rand io.Reader
	// Parent is the parent room of a parent-dependent one, to which participants must belong. It is not looked at if nobody
	// is added.
	Parent *View
	// Next is how the hub treats another group for the room, if the bundle founds one; nil: like the present one.
	Next *HubConfig
}

// Update judges a Commit or a bundle of proposals. Errors are a *Refusal, or say that the bundle does not hold what it must
// (then nothing can be answered but that it is malformed).
func (h *Hub) Update(in UpdateInput) (*Next, error) {
	if h.closed {
		return nil, notAllowed(ErrClosed.Error(), ErrClosed)
	}
	if in.Bundle.Commit() {
		return h.commit(in)
	}
	return h.proposals(in)
}

// header checks that a handshake message is of a kind that the hub can read, and is for this epoch of the group.
func (h *Hub) header(m *mimi.Message) error {
	var id []byte
	var epoch mls.Epoch
	switch {
	case m.WireFormat == mls.WireFormatPublicMessage && m.PublicMessage != nil:
		id, epoch = m.PublicMessage.Content.GroupID, m.PublicMessage.Content.Epoch
	case m.WireFormat == mls.WireFormatSemiPrivateMessage && m.SemiPrivateMessage != nil:
		id, epoch = m.SemiPrivateMessage.GroupID, m.SemiPrivateMessage.Epoch
	default:
		return notAllowed("handshake messages must be PublicMessages or SemiPrivateMessages", nil)
	}
	if !bytes.Equal(id, h.public.GroupID()) {
		return notAllowed("the message is for another group", nil)
	}
	if epoch != h.Epoch() {
		return refuse(h.Epoch(), &mls.EpochError{Got: epoch, Want: h.Epoch()})
	}
	return nil
}

// Read returns what those SemiPrivateMessages of a bundle say that are of this epoch and can be read, without judging them:
// whose credentials are new to the hub is seen from it (Decision 120).
func (h *Hub) Read(b *mimi.HandshakeBundle) (list []*mls.FramedContent) {
	for _, m := range append([]mimi.Message{b.ProposalOrCommit}, b.MoreProposals...) {
		if m.SemiPrivateMessage == nil {
			continue
		}
		if content, err := h.public.Read(&m.MLSMessage); err == nil {
			list = append(list, content)
		}
	}
	return list
}

// sender checks that a provider may pass on a message of this sender: its own users' (Decision 6), and returns the user.
// leaf is that of a sender who is not a member.
func (h *Hub) sender(from mimi.ProviderDomain, s mls.Sender, leaf *mls.LeafNode) (mimi.UserURI, error) {
	var user mimi.UserURI
	switch s.Type {
	case mls.SenderMember:
		var ok bool
		if user, ok = h.rules.room.leaves.owner(s.LeafIndex); !ok {
			return "", notAllowed("the sender is not a member", ErrUnknownSender)
		}
	case mls.SenderNewMemberProposal, mls.SenderNewMemberCommit:
		who, err := h.cfg.Verifier.Identify(&leaf.Credential)
		if err != nil {
			return "", notAllowed(err.Error(), err)
		}
		user = who.User
	default:
		return "", notAllowed("only the hub itself sends as external sender", ErrUnknownSender)
	}
	if user.Host() != from {
		return "", notAllowed(fmt.Sprintf("%s may not act for %s", from, user), ErrUnknownSender)
	}
	return user, nil
}

// proposals takes a bundle of proposals: all, or none.
func (h *Hub) proposals(in UpdateInput) (*Next, error) {
	return h.accept(in.Now, in.From, append([]mimi.Message{in.Bundle.ProposalOrCommit}, in.Bundle.MoreProposals...), in.Parent)
}

// mayPropose checks who sent a proposal that came from a provider.
func (h *Hub) mayPropose(from mimi.ProviderDomain, p *mls.ResolvedProposal) error {
	var leaf *mls.LeafNode
	if p.Type == mls.ProposalAdd {
		leaf = &p.Add.KeyPackage.LeafNode
	} else if p.Sender.Type == mls.SenderNewMemberProposal {
		return notAllowed("who is not a member can propose only to add itself", ErrUnknownSender)
	}
	user, err := h.sender(from, p.Sender, leaf)
	if err != nil {
		return err
	}
	// MIMI protocol §5.3: nothing but Remove and SelfRemove of its own clients from whoever is removed or banned.
	if p.Sender.Type == mls.SenderMember && h.restricted(user) && p.Type != mls.ProposalSelfRemove {
		if p.Type != mls.ProposalRemove {
			return notAllowed(PendingDescription, nil)
		}
		if of, ok := h.rules.room.leaves.owner(p.Remove.Removed); !ok || of != user {
			return notAllowed(fmt.Sprintf("%s is about to go, and may propose nothing but the removal of its own clients", user), nil)
		}
	}
	return nil
}

// maxPending is how many proposals may wait for a Commit, which has to name each of them.
const maxPending = 4096

// accept adds proposals to those that are pending, if all of them together could be committed (Decision 34).
// from is empty for the hub's own.
func (h *Hub) accept(now mimi.Millis, from mimi.ProviderDomain, messages []mimi.Message, parent *View) (*Next, error) {
	if len(h.pending)+len(messages) > maxPending {
		return nil, notAllowed(fmt.Sprintf("more than %d proposals would be pending", maxPending), nil)
	}
	n := h.begin(now)
	n.public = h.public.Clone()
	var refs []mls.ProposalRef
	for i := range messages {
		if err := h.header(&messages[i]); err != nil {
			return nil, err
		}
		p, err := n.public.ReceiveProposal(&messages[i].MLSMessage)
		if err != nil {
			return nil, refuse(h.Epoch(), err)
		}
		if from != "" {
			if err := h.mayPropose(from, p); err != nil {
				return nil, err
			}
		}
		refs = append(refs, p.Ref)
	}
	if len(n.public.Pending()) != len(h.pending)+len(messages) {
		return nil, notAllowed("the proposal is pending already", nil)
	}
	p, err := h.union(n.public)
	if err != nil {
		refusal := refuse(h.Epoch(), err)
		if Denied(err) == nil && refusal.InvalidProposals == nil {
			// it is about all of them together, and what was pending is valid
			refusal.Code, refusal.InvalidProposals = mimi.UpdateInvalidProposal, refs
		}
		return nil, refusal
	}
	if err := h.parent(p, parent); err != nil {
		return nil, err
	}
	n.plan = p
	n.pending = slices.Clone(h.pending)
	for i := range messages {
		n.pending = append(n.pending, mimi.PendingProposal{Proposal: messages[i], HubAcceptedTime: n.Accepted})
	}
	n.Events = []Event{{
		Message:   mimi.FanoutMessage{Timestamp: n.Accepted, Message: messages[0], MoreProposals: messages[1:]},
		Providers: h.Providers(),
	}}
	return n, nil
}

// union judges all pending proposals as if one Commit covered them, by a member whom none of them is about. Where there is
// no such member left, nobody can commit them anyway; they are judged by the rules of the room alone.
func (h *Hub) union(public *mls.PublicGroup) (*plan, error) {
	items := public.Pending()
	if len(items) == 0 {
		return nil, nil
	}
	if committer, ok := free(public.Tree(), items); ok {
		if err := public.JudgePending(committer, h.rules.room.view.handshakeFormat()); err != nil {
			return nil, err
		}
		return h.rules.judged, nil
	}
	s := h.rules.room
	list, err := readParticipants(s.view, items)
	if err != nil {
		return nil, err
	}
	p, err := newPlan(s, h.cfg.Verifier, items, list, nil)
	if err != nil {
		return nil, err
	}
	return p, p.judge()
}

// touched returns the leaves that proposals remove or update.
func touched(items []mls.ResolvedProposal) map[mls.LeafIndex]bool {
	taken := make(map[mls.LeafIndex]bool)
	for i := range items {
		switch item := &items[i]; item.Type {
		case mls.ProposalRemove:
			taken[item.Remove.Removed] = true
		case mls.ProposalSelfRemove, mls.ProposalUpdate:
			taken[item.Sender.LeafIndex] = true
		}
	}
	return taken
}

// free returns the first leaf that no proposal removes or updates.
func free(tree *mls.RatchetTree, items []mls.ResolvedProposal) (mls.LeafIndex, bool) {
	taken := touched(items)
	for i := range tree.Leaves() {
		if !taken[i] {
			return i, true
		}
	}
	return 0, false
}

// parent: the participants of a parent-dependent room are among those of its parent (room policy §5).
func (h *Hub) parent(p *plan, parent *View) error {
	base := h.View().Base()
	if p == nil || !base.ParentDependant {
		return nil
	}
	for i := range p.users {
		u := &p.users[i]
		if u.from != policy.NoRole || u.to == policy.NoRole || u.user.Kind() == mimi.KindProvider {
			continue
		}
		if parent != nil && parent.Room() == base.ParentRoom {
			if role, ok := parent.RoleOf(u.user); ok && role != policy.BannedRole {
				continue
			}
		}
		d := &policy.Denial{Reason: policy.ForbiddenByPolicy, Component: mimi.ComponentBaseRoomPolicy, Actor: u.by.URI,
			Change: policy.Change{Kind: policy.Add, User: u.user, To: u.to}, Detail: fmt.Sprintf("%s is not a participant of the parent room", u.user)}
		return notAllowed(d.Error(), d)
	}
	return nil
}

// recordsVersion is the first octet of the main record of a Hub.
const recordsVersion = 1

// hubRecord is what is stored of a Hub beside the group and its pending proposals.
type hubRecord struct {
	version uint8
	last    mimi.Millis
	closed  bool
}

func (r *hubRecord) Code(c *tlspl.Codec) {
	tlspl.Uint8(c, &r.version)
	if r.version != recordsVersion {
		c.Fail(tlspl.ErrValue)
	}
	tlspl.Uint64(c, &r.last)
	tlspl.Bool(c, &r.closed)
}
