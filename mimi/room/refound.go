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

// A room outlives its MLS group. When the group has ended by a ReInit, or none of its members can commit any more, a
// participant founds another group for the same room: with the same participants, metadata and policy, under the same room
// URI (Decision 31, room policy §5). Whoever was leaving or about to be removed stays out of it.

// ErrAlive says that a group that still works can be replaced only by who may send a ReInit.
var ErrAlive = fmt.Errorf("room: the group can still go on")

// Stuck reports whether nobody is left who could commit: every client is about to go, or its user is.
func (h *Hub) Stuck() bool {
	items := h.public.Pending()
	taken := touched(items)
	for i := range h.public.Tree().Leaves() {
		if user, ok := h.rules.room.leaves.owner(i); ok && !taken[i] && !h.restricted(user) {
			return false
		}
	}
	return true
}

// Founds reports whether a bundle is the founding of another group for the room, rather than a change of the present one: a
// Commit that comes with all of the new group, its GroupInfo and its tree.
func (h *Hub) Founds(b *mimi.HandshakeBundle) bool {
	info := b.GroupInfoOption.GroupInfo
	return b.Commit() && b.GroupInfoOption.Representation == mimi.GroupInfoFull && info != nil &&
		b.RatchetTreeOption.Representation == mls.RatchetTreeFull && !bytes.Equal(info.GroupContext.GroupID, h.public.GroupID())
}

// Refound takes up a new group for the room from the bundle of its first Commit, as the function Refound makes it. It gives
// the Hub of the new group and its Next, whose records replace all records of the old one, and whose one event, the Commit,
// tells the providers of the old group's members that there is a new one; Merge on the new Hub takes it into effect.
// Errors are a *Refusal.
func (h *Hub) Refound(in UpdateInput) (*Hub, *Next, error) {
	next, n, err := h.refound(in)
	var refusal *Refusal
	if errors.As(err, &refusal) {
		return nil, nil, refusal
	}
	if err != nil {
		if Denied(err) == nil {
			return nil, nil, notAllowed(err.Error(), err)
		}
		return nil, nil, refuse(h.Epoch(), err)
	}
	return next, n, nil
}

func (h *Hub) refound(in UpdateInput) (*Hub, *Next, error) {
	if !h.Founds(in.Bundle) {
		return nil, nil, &StateError{Err: fmt.Errorf("this does not found another group")}
	}
	old := h.View()
	info := in.Bundle.GroupInfoOption.GroupInfo
	by, err := h.founder(in.Bundle)
	if err != nil {
		return nil, nil, err
	}
	if by.Host() != in.From {
		return nil, nil, notAllowed(fmt.Sprintf("%s may not act for %s", in.From, by), ErrUnknownSender)
	}
	next, n, err := newHub(h.cfgOf(in), old.Room(), info, in.Bundle.RatchetTreeOption.RatchetTree, max(in.Now, h.last+1))
	if err != nil {
		return nil, nil, err
	}
	if err := h.mayRefound(by, next); err != nil {
		return nil, nil, err
	}
	if err := h.mayBring(by, next, n, in.Bundle); err != nil {
		return nil, nil, err
	}
	// A founder from outside can't read pending SemiPrivateMessages: then all participants are on its list, and the hub
	// proposes in the new group who goes.
	err = sameRoom(old, next.View(), effectiveList(old, h.plan))
	again := err != nil && sealed(h.pending) && sameRoom(old, next.View(), effectiveList(old, nil)) == nil
	if err != nil && !again {
		return nil, nil, err
	}
	providers := append(slices.Clone(h.Providers()), in.From)
	slices.Sort(providers)
	n.Commit = true
	n.room = next.rules.room
	n.Events = []Event{{Message: mimi.FanoutMessage{Timestamp: n.Accepted, Message: in.Bundle.ProposalOrCommit}, Providers: slices.Compact(providers)}}
	if again {
		if n.Events[0].Message.ExternalProposals, err = next.reissueFrom(h, n, in.Rand); err != nil {
			return nil, nil, err
		}
	}
	if in.Bundle.Welcome == nil {
		return next, n, nil
	}
	var added []mimi.ProviderDomain
	for i := range next.public.Tree().Leaves() {
		if user, ok := next.rules.room.leaves.owner(i); ok && i != info.Signer {
			added = append(added, user.Host())
		}
	}
	slices.Sort(added)
	welcome, err := n.welcome(in.Bundle.Welcome, slices.Compact(added))
	n.Events = append(n.Events, welcome)
	return next, n, err
}

// reissueFrom makes the hub propose, in a new group, that those go whom proposals take out that are pending in the group
// before.
func (h *Hub) reissueFrom(before *Hub, n *Next, rand io.Reader) ([]mimi.Message, error) {
	messages, err := h.reissue(n, before.plan, true, rand)
	if err != nil {
		return nil, err
	}
	for i := range before.plan.users {
		u := &before.plan.users[i]
		if user, ok := u.user.User(); ok && before.restricted(user) && (n.plan == nil || !n.plan.goes(u.user)) {
			return nil, notAllowed(fmt.Sprintf("%s is about to go, and the hub may not take them out itself; somebody has to commit that first", user), nil)
		}
	}
	return messages, nil
}

// goes reports whether a plan takes a user's place in the group away.
func (p *plan) goes(user mimi.IdentifierURI) bool {
	i, ok := p.at[user]
	return ok && (p.users[i].to == policy.NoRole || !p.s.view.roles.MayBeActive(p.users[i].to))
}

// sealed reports whether one of pending proposals is a SemiPrivateMessage.
func sealed(pending []mimi.PendingProposal) bool {
	return slices.ContainsFunc(pending, func(p mimi.PendingProposal) bool { return p.Proposal.SemiPrivateMessage != nil })
}

// mayBring checks whom the first Commit of a new group brings in beside the founder: after a ReInit, with the PSK that links
// the two groups, those clients that were in the old one (RFC 9420 §11.2). Nobody comes in by it who was not in, or is about
// to go; that Commit has no path, so that the hub can read it.
func (h *Hub) mayBring(by mimi.UserURI, next *Hub, n *Next, b *mimi.HandshakeBundle) error {
	tree := next.public.Tree()
	if tree.Members() == 1 && b.Welcome == nil {
		return nil
	}
	if h.public.ReInit() == nil {
		return &StateError{Err: fmt.Errorf("others come in once the new group is there")}
	}
	if same, err := isSuccessor(h.public.ReInit(), next.public.Context()); err != nil || !same {
		return &StateError{Err: fmt.Errorf("only the group that the ReInit names is founded with others in it")}
	}
	content, err := next.public.ReadFirst(&b.ProposalOrCommit.MLSMessage)
	if err != nil {
		return &StateError{Err: fmt.Errorf("the first commit of the new group can't be read: %w", err)}
	}
	if content.Commit == nil {
		return &StateError{Err: fmt.Errorf("the new group doesn't begin with a commit")}
	}
	taken := touched(h.public.Pending())
	was := make(map[mimi.ClientURI]bool)
	for i, leaf := range h.public.Tree().Leaves() {
		if who, err := h.cfg.Verifier.Identify(&leaf.Credential); err == nil && !taken[i] && !h.restricted(who.User) {
			was[who.Client] = true
		}
	}
	linked, at := false, mls.LeafIndex(0)
	for i := range content.Commit.Proposals {
		p := content.Commit.Proposals[i].Proposal
		switch {
		case p != nil && p.Type == mls.ProposalPSK:
			id := &p.PreSharedKey.PSK
			linked = id.Type == mls.PSKResumption && id.Usage == mls.UsageReInit && bytes.Equal(id.PSKGroupID, h.public.GroupID()) && id.PSKEpoch == h.Epoch()
			if !linked {
				return &StateError{Err: fmt.Errorf("the PSK of the first commit is not the one that links it to the group before")}
			}
		case p != nil && p.Type == mls.ProposalAdd:
			at++
			leaf := tree.Leaf(at)
			if leaf == nil || !sameLeaf(leaf, &p.Add.KeyPackage.LeafNode) {
				return &StateError{Err: fmt.Errorf("the tree is not the one that the first commit leads to")}
			}
			who, err := identify(h.cfg.Verifier, &leaf.Credential)
			if err != nil {
				return err
			}
			if !was[who.Client] {
				return &StateError{Err: fmt.Errorf("%s was not in the group before", who.Client)}
			}
			delete(was, who.Client)
			ref, err := p.Add.KeyPackage.Ref()
			if err != nil {
				return err
			}
			n.KeyPackages, n.AddedBy = append(n.KeyPackages, ref), append(n.AddedBy, by.Identifier())
		default:
			return &StateError{Err: fmt.Errorf("the first commit does something else than bring in those who were in the group before")}
		}
	}
	if !linked || tree.Members() != int(at)+1 {
		return &StateError{Err: fmt.Errorf("the first commit has no PSK of usage reinit, or others are in the tree than it adds")}
	}
	return n.welcomed(b.Welcome)
}

func sameLeaf(a, b *mls.LeafNode) bool {
	x, err := tlspl.Marshal(a)
	if err != nil {
		return false
	}
	y, err := tlspl.Marshal(b)
	return err == nil && bytes.Equal(x, y)
}

// founder returns the user whose client made a new group, after checking that the Commit is the one that led to it.
func (h *Hub) founder(b *mimi.HandshakeBundle) (mimi.UserURI, error) {
	info, c := b.GroupInfoOption.GroupInfo, &b.GroupInfoOption.GroupInfo.GroupContext
	var id []byte
	var epoch mls.Epoch
	switch m := &b.ProposalOrCommit; {
	case m.PublicMessage != nil:
		id, epoch = m.PublicMessage.Content.GroupID, m.PublicMessage.Content.Epoch
		if !bytes.Equal(m.PublicMessage.Auth.ConfirmationTag, info.ConfirmationTag) {
			return "", &StateError{Err: fmt.Errorf("the commit is not the one that the GroupInfo is of")}
		}
	case m.SemiPrivateMessage != nil:
		id, epoch = m.SemiPrivateMessage.GroupID, m.SemiPrivateMessage.Epoch
	}
	if !bytes.Equal(id, c.GroupID) || epoch != 0 || c.Epoch != 1 {
		return "", &StateError{Err: fmt.Errorf("the commit is not the first one of the group that the GroupInfo is of")}
	}
	s, ok := suite.Lookup(c.CipherSuite)
	if !ok {
		return "", mls.ErrCipherSuite
	}
	tree, err := mls.ParseRatchetTree(s, b.RatchetTreeOption.RatchetTree)
	if err != nil {
		return "", err
	}
	leaf := tree.Leaf(0)
	if info.Signer != 0 || leaf == nil {
		return "", &StateError{Err: fmt.Errorf("the GroupInfo is not the founder's")}
	}
	who, err := identify(h.cfg.Verifier, &leaf.Credential)
	return who.User, err
}

// cfgOf is how the hub treats the new group, which may be of another cipher suite.
func (h *Hub) cfgOf(in UpdateInput) HubConfig {
	if in.Next != nil {
		return *in.Next
	}
	return h.cfg
}

// mayRefound: a participant who keeps its place and may bring clients; in a group that goes on, one who may send a ReInit.
func (h *Hub) mayRefound(by mimi.UserURI, next *Hub) error {
	actor := policy.Actor{URI: by.Identifier()}
	if h.restricted(by) {
		return &policy.Denial{Reason: policy.NotOnParticipantList, Actor: actor.URI, Change: policy.Change{Kind: policy.ReInit, User: actor.URI}}
	}
	if r := h.public.ReInit(); r != nil {
		// RFC 9420 §11.2. Should nobody be left who knows the ReInit, another group takes who may send another one.
		same, err := isSuccessor(r, next.public.Context())
		if err != nil {
			return err
		}
		if !same && h.mayReInit(actor) != nil {
			return &StateError{Err: fmt.Errorf("the new group is not the one that the ReInit names")}
		}
	} else if !h.Stuck() {
		if d := h.mayReInit(actor); d != nil {
			return fmt.Errorf("%w: %w", ErrAlive, d)
		}
	} else if !h.View().Base().PersistentRoom {
		// room policy §5: inaccessible when there are no clients in the group
		return &policy.Denial{Reason: policy.ForbiddenByPolicy, Component: mimi.ComponentBaseRoomPolicy, Actor: actor.URI,
			Change: policy.Change{Kind: policy.ReInit, User: actor.URI}, Detail: "the room is not persistent, and nobody is left in its group"}
	}
	if d := policy.Authorize(next.rules.room, actor, policy.Change{Kind: policy.AddOwnClient, User: actor.URI}); d != nil {
		return d
	}
	return nil
}

// mayReInit: who may send a ReInit; any participant where the participants are fixed, so that there is nothing to gain by it,
// or where nobody is left who may. Decision 122
func (h *Hub) mayReInit(actor policy.Actor) *policy.Denial {
	d := policy.Authorize(h.rules.room, actor, policy.Change{Kind: policy.ReInit, User: actor.URI})
	v := h.View()
	if d == nil || v.Base().FixedMembership {
		return nil
	}
	for _, p := range v.Participants() {
		user, ok := p.User.User()
		if ok && !h.restricted(user) && policy.Authorize(h.rules.room, policy.Actor{URI: p.User}, policy.Change{Kind: policy.ReInit, User: p.User}) == nil {
			return d
		}
	}
	return nil
}

// effectiveList is the participant list with what the pending proposals take away (Decision 36).
func effectiveList(v *View, pending *plan) mimi.ParticipantListData {
	var list mimi.ParticipantListData
	for _, p := range v.Participants() {
		if pending != nil {
			if i, ok := pending.at[p.User]; ok {
				u := &pending.users[i]
				switch {
				case u.to == policy.NoRole:
					continue
				case !v.roles.MayBeActive(u.to):
					p.RoleIndex = u.to
				}
			}
		}
		list.Participants = append(list.Participants, p)
	}
	return list
}

// sameRoom compares the components of two groups of a room. The hub may bring another franking key (Decision 47).
func sameRoom(old, next *View, list mimi.ParticipantListData) error {
	want, err := tlspl.Marshal(&list)
	if err != nil {
		return err
	}
	ids := make(map[mls.ComponentID]bool)
	for _, v := range []*View{old, next} {
		for i := range v.dictionary {
			ids[v.dictionary[i].ComponentID] = true
		}
	}
	delete(ids, mimi.ComponentFrankingAgent)
	delete(ids, mls.ComponentAppComponents) // may differ for the franking agent; View.Check has seen that it suits the rest
	for id := range ids {
		a, hadIt := old.dictionary.Find(id)
		b, hasIt := next.dictionary.Find(id)
		if id == mimi.ComponentParticipantList {
			a = want
		}
		if hadIt != hasIt || !bytes.Equal(a, b) {
			return &StateError{id, fmt.Errorf("it differs from that of the group before")}
		}
	}
	was, err := old.context.Extensions.RequiredCapabilities()
	if err != nil {
		return err
	}
	is, err := next.context.Extensions.RequiredCapabilities()
	if err != nil {
		return err
	}
	if !subset(was.ExtensionTypes, is.ExtensionTypes) || !subset(was.ProposalTypes, is.ProposalTypes) || !subset(was.CredentialTypes, is.CredentialTypes) {
		return &StateError{Err: ErrExtensionsChanged}
	}
	return nil
}

// isSuccessor reports whether a group is the one that a ReInit names (RFC 9420 §11.2).
func isSuccessor(r *mls.ReInit, c *mls.GroupContext) (bool, error) {
	want, err := tlspl.Marshal(&r.Extensions)
	if err != nil {
		return false, err
	}
	is, err := tlspl.Marshal(&c.Extensions)
	if err != nil {
		return false, err
	}
	return bytes.Equal(r.GroupID, c.GroupID) && r.CipherSuite == c.CipherSuite && r.Version == c.Version && bytes.Equal(want, is), nil
}

// checkReInit: a ReInit names a group that can be that of the room.
func checkReInit(v *View, r *mls.ReInit) error {
	next, err := NewView(&mls.GroupContext{Version: r.Version, CipherSuite: r.CipherSuite, GroupID: r.GroupID, Extensions: r.Extensions})
	if err != nil {
		return err
	}
	if next.Room() != v.Room() {
		return &StateError{mimi.ComponentRoomMetadata, fmt.Errorf("the ReInit is of a group for %s", next.Room())}
	}
	return sameRoom(v, next, effectiveList(v, nil))
}

// RefoundParams is what a new group for a room is made from.
type RefoundParams struct {
	// GroupID and CipherSuite are those of the new group. A group that was ended by a ReInit has named them already.
	GroupID     []byte
	CipherSuite mls.CipherSuite
	// HubSender, HubReceiver and FrankingAgent are the hub's present keys; those that are nil stay as they were.
	HubSender     *mls.ExternalSender
	HubReceiver   *mls.ExternalReceiver // only looked at in SemiPrivate rooms
	FrankingAgent *mimi.FrankingAgentData
	Leaf          mls.LeafOptions
	Lifetime      mls.Lifetime
	// Members are KeyPackages of clients of the old group, all but this one; those of whom there is none come in by external
	// commits. They count where a ReInit has ended the group. Now is in seconds, for their lifetimes; 0: not checked.
	Members []mls.KeyPackage
	Now     uint64
}

// A Refounding is a new group for a room, on the client that made it.
type Refounding struct {
	room   *Room
	bundle *mimi.HandshakeBundle
}

// Room returns the room with its new group, to be used when the hub has accepted it.
func (f *Refounding) Room() *Room { return f.room }

// Bundle returns what to send to the hub.
func (f *Refounding) Bundle() *mimi.HandshakeBundle { return f.bundle }

// Refound makes a new group for a room on this client, from what the old group's GroupContext says and the proposals that
// are pending in it, as the GroupInfoResponse of the hub has both. The hub takes it up by Hub.Refound; others come in by
// external commits of their own.
func Refound(rand io.Reader, cfg Config, info *mls.GroupInfo, tree mls.RatchetTreeOption, pending []mimi.PendingProposal, p RefoundParams) (*Refounding, error) {
	old, err := NewView(&info.GroupContext)
	if err != nil {
		return nil, err
	}
	r := newRoom(cfg)
	room, err := r.preview(info, tree, old)
	if err != nil {
		return nil, err
	}
	gone, err := r.pendingPlan(room, info, tree, pending)
	if err != nil {
		return nil, err
	}
	extensions, err := refoundExtensions(old, effectiveList(old, gone), &p)
	if err != nil {
		return nil, err
	}
	return found(rand, cfg, old.Room(), extensions, p)
}

// Successor returns the ReInit that ends this group in favour of one that is made from p: all that stays is as it is now.
func (r *Room) Successor(p RefoundParams) (mls.ReInit, error) {
	extensions, err := refoundExtensions(r.View(), effectiveList(r.View(), nil), &p)
	return mls.ReInit{GroupID: p.GroupID, Version: mls.MLS10, CipherSuite: p.CipherSuite, Extensions: extensions}, err
}

// ErrOpen says that a group was not ended by a ReInit.
var ErrOpen = fmt.Errorf("room: no ReInit has ended the group")

// Ended returns the ReInit that ended the group, nil if it goes on.
func (r *Room) Ended() *mls.ReInit { return r.group.Public().ReInit() }

// Refound makes the group that the ReInit of this one names, with the members of this one for whom there are KeyPackages. Its
// first Commit has a PSK of usage reinit: the new group's keys depend on this one's, and who comes in by its Welcome must
// have been in this one. Only Leaf, Lifetime, Members and Now of p count. RFC 9420 §11.2
func (r *Room) Refound(rand io.Reader, p RefoundParams) (*Refounding, error) {
	next := r.Ended()
	if next == nil {
		return nil, ErrOpen
	}
	if err := checkReInit(r.View(), next); err != nil {
		return nil, err
	}
	after := newRoom(Config{Verifier: r.verifier, MLS: r.mls})
	group, commit, err := r.group.ReInitGroup(rand, after.mls, mls.FollowOptions{
		Leaf: p.Leaf, Lifetime: p.Lifetime, Members: p.Members, Absent: r.comesAlone(),
		Prepare: func(g *mls.Group) (o mls.CommitOptions, err error) {
			if _, err := after.enter(g, r.View().Room()); err != nil {
				return o, err
			}
			aad, err := after.View().authenticatedData(nil)
			// Without a path epoch 0 can be known from epoch 1: the hub reads the Commit (Hub.mayBring).
			return mls.CommitOptions{AuthenticatedData: aad, WireFormat: after.View().handshakeFormat(), OmitPath: true, Now: p.Now}, err
		},
	})
	if err != nil {
		return nil, err
	}
	after.group = group
	s := &Staged{commit: commit, plan: after.rules.judged}
	if s.bundle, err = bundle(commit.Message(), commit.Welcome(), commit.GroupInfo()); err != nil {
		return nil, err
	}
	return after.founded(s)
}

// comesAlone says of a member of a group that a ReInit has ended whether the next one may be without its client: while its
// user is a participant it comes in by an external commit (RFC 9420 §12.4.3.1, "according to the application").
func (r *Room) comesAlone() func(*mls.LeafNode) bool {
	if r.Ended() == nil {
		return nil
	}
	view, err := r.nextView()
	return func(leaf *mls.LeafNode) bool {
		if err != nil {
			return false
		}
		who, err := identify(r.verifier, &leaf.Credential)
		if err != nil {
			return false
		}
		role, listed := view.RoleOf(who.User.Identifier())
		return listed && view.Roles().MayBeActive(role)
	}
}

// nextView is the room as the group begins that the ReInit of this one names.
func (r *Room) nextView() (*View, error) {
	next := r.Ended()
	return NewView(&mls.GroupContext{Version: next.Version, CipherSuite: next.CipherSuite, GroupID: next.GroupID, Extensions: next.Extensions})
}

// follows checks that nobody is in the group in whose first epoch this client has come in by a Welcome who was not in the one
// before, which a ReInit ended.
func (r *Room) follows(former *Room) error {
	if former == nil || former.Ended() == nil || r.View().Epoch() != 1 || !bytes.Equal(r.group.GroupID(), former.Ended().GroupID) {
		return nil
	}
	was := make(map[mimi.ClientURI]bool)
	for _, leaf := range former.group.Tree().Leaves() {
		if who, err := r.verifier.Identify(&leaf.Credential); err == nil {
			was[who.Client] = true
		}
	}
	for i, leaf := range r.group.Tree().Leaves() {
		who, err := r.verifier.Identify(&leaf.Credential)
		if err != nil {
			return &IdentityError{i, err}
		}
		if !was[who.Client] {
			return &StateError{Err: fmt.Errorf("%s was not in the group before", who.Client)}
		}
	}
	return nil
}

// found creates the group, and makes its first Commit.
func found(rand io.Reader, cfg Config, room mimi.RoomURI, extensions mls.Extensions, p RefoundParams) (*Refounding, error) {
	next := newRoom(cfg)
	group, err := mls.CreateGroup(rand, next.mls, mls.GroupOptions{GroupID: p.GroupID, CipherSuite: p.CipherSuite, Extensions: extensions, Leaf: p.Leaf, Lifetime: p.Lifetime})
	if err != nil {
		return nil, err
	}
	if _, err := next.enter(group, room); err != nil {
		return nil, err
	}
	staged, err := next.Commit(rand, 0)
	if err != nil {
		return nil, err
	}
	return next.founded(staged)
}

// founded merges the first Commit of a new group.
func (r *Room) founded(staged *Staged) (*Refounding, error) {
	f := &Refounding{room: r, bundle: staged.Bundle()}
	f.bundle.GroupInfoOption = mimi.FullGroupInfo(staged.commit.GroupInfo())
	if err := r.Merge(staged); err != nil {
		return nil, err
	}
	f.bundle.RatchetTreeOption = mls.RatchetTreeOption{Representation: mls.RatchetTreeFull, RatchetTree: f.room.group.Tree().Bytes()}
	return f, nil
}

// pendingPlan verifies pending proposals as a follower of the old group does, and puts them in the room's terms.
func (r *Room) pendingPlan(room *snapshot, info *mls.GroupInfo, tree mls.RatchetTreeOption, pending []mimi.PendingProposal) (*plan, error) {
	if len(pending) == 0 || sealed(pending) {
		return nil, nil // the hub takes out again who goes (Hub.reissueFrom)
	}
	public, err := mls.NewPublicGroup(r.mls, info, tree.RatchetTree)
	if err != nil {
		return nil, err
	}
	for i := range pending {
		if _, err := public.ReceiveProposal(&pending[i].Proposal.MLSMessage); err != nil {
			return nil, err
		}
	}
	items := public.Pending()
	list, err := readParticipants(room.view, items)
	if err != nil {
		return nil, err
	}
	return newPlan(room, r.verifier, items, list, nil)
}

func refoundExtensions(old *View, list mimi.ParticipantListData, p *RefoundParams) (mls.Extensions, error) {
	extensions := slices.Clone(old.context.Extensions)
	set := func(t mls.ExtensionType, v tlspl.Coder) error {
		data, err := tlspl.Marshal(v)
		extensions = extensions.With(t, data)
		return err
	}
	dictionary := old.dictionary
	data, err := tlspl.Marshal(&list)
	if err != nil {
		return nil, err
	}
	dictionary = dictionary.With(mimi.ComponentParticipantList, data)
	if p.FrankingAgent != nil {
		if data, err = tlspl.Marshal(p.FrankingAgent); err != nil {
			return nil, err
		}
		dictionary = dictionary.With(mimi.ComponentFrankingAgent, data)
		required, err := required(dictionary)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(required.ComponentIDs, mimi.ComponentFrankingAgent) {
			required.ComponentIDs = append(required.ComponentIDs, mimi.ComponentFrankingAgent)
			slices.Sort(required.ComponentIDs)
			if data, err = tlspl.Marshal(&required); err != nil {
				return nil, err
			}
			dictionary = dictionary.With(mls.ComponentAppComponents, data)
		}
	}
	if err := set(mls.ExtensionAppDataDictionary, &dictionary); err != nil {
		return nil, err
	}
	if p.HubReceiver != nil && old.SemiPrivate() {
		if err := set(mls.ExtensionExternalReceivers, &mls.ExternalReceivers{*p.HubReceiver}); err != nil {
			return nil, err
		}
	}
	if p.HubSender != nil {
		return extensions, set(mls.ExtensionExternalSenders, &mls.ExternalSenders{*p.HubSender})
	}
	return extensions, nil
}

// required returns the app_components of a dictionary.
func required(d mls.AppDataDictionary) (mls.ComponentsList, error) {
	var list mls.ComponentsList
	data, ok := d.Find(mls.ComponentAppComponents)
	if !ok {
		return list, nil
	}
	err := tlspl.Unmarshal(data, &list)
	return list, err
}
