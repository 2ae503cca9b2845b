package room

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// commit judges a Commit with all that comes with it.
func (h *Hub) commit(in UpdateInput) (*Next, error) {
	if err := h.header(&in.Bundle.ProposalOrCommit); err != nil {
		return nil, err
	}
	n := h.begin(in.Now)
	n.Commit = true
	n.public = h.public.Clone()
	staged, err := n.public.Stage(&in.Bundle.ProposalOrCommit.MLSMessage)
	if err != nil {
		return nil, refuse(h.Epoch(), err)
	}
	changes := staged.Changes()
	user, err := h.sender(in.From, changes.Committer, changes.NewTree.Leaf(changes.CommitterLeaf))
	if err != nil {
		return nil, err
	}
	if err := h.mayCommit(user, changes); err != nil {
		return nil, err
	}
	p := h.rules.judged
	if err := h.parent(p, in.Parent); err != nil {
		return nil, err
	}
	if err := n.adds(p, in.Bundle.Welcome); err != nil {
		return nil, err
	}
	if n.info, err = groupInfo(staged, &in.Bundle.GroupInfoOption); err != nil {
		return nil, notAllowed(err.Error(), err)
	}
	if r := in.Bundle.RatchetTreeOption.Representation; r != mls.RatchetTreeFull && r != mls.RatchetTreeDistributionService {
		return nil, notAllowed("ratchetTreeOption must be full or distributionService", nil) // Decision 26
	}
	if err := n.public.Merge(staged); err != nil {
		return nil, err
	}
	before := h.Providers()
	if n.room, err = h.rules.room.next(p, n.public.Context(), n.public.Tree()); err != nil {
		return nil, notAllowed(err.Error(), err)
	}
	if err := h.cfg.reads(n.room.view); err != nil {
		return nil, notAllowed(err.Error(), err)
	}
	n.describe(p, changes)
	n.pending, n.plan, n.keep = nil, nil, 0
	event := Event{Message: mimi.FanoutMessage{Timestamp: n.Accepted, Message: in.Bundle.ProposalOrCommit}, Providers: before}
	if changes.External() {
		// A provider whose first client this is did not have a leaf before, and is the one that sent it.
		if !slices.Contains(event.Providers, in.From) {
			event.Providers = append(event.Providers, in.From)
			slices.Sort(event.Providers)
		}
		if event.Message.ExternalProposals, err = h.reissue(n, h.plan, false, in.Rand); err != nil {
			return nil, err
		}
	}
	n.Events = append(n.Events, event)
	if in.Bundle.Welcome != nil {
		welcome, err := n.welcome(in.Bundle.Welcome, welcomeProviders(p))
		if err != nil {
			return nil, err
		}
		n.Events = append(n.Events, welcome)
	}
	return n, nil
}

// welcome is the event of a Welcome.
func (n *Next) welcome(w *mls.Welcome, providers []mimi.ProviderDomain) (Event, error) {
	m, err := mimi.NewMessage(mls.Message(w))
	return Event{
		Message: mimi.FanoutMessage{Timestamp: n.Accepted, Message: m,
			RatchetTreeOption: mls.RatchetTreeOption{Representation: mls.RatchetTreeFull, RatchetTree: n.public.Tree().Bytes()}},
		Providers: providers,
	}, err
}

// mayCommit: a member's Commit references every pending proposal, an external one all SelfRemoves and nothing else; and no
// client commits that a pending proposal is about. Decision 34
func (h *Hub) mayCommit(user mimi.UserURI, c *mls.Changes) error {
	if h.plan != nil {
		if i, ok := h.plan.at[user.Identifier()]; ok && h.plan.users[i].listed >= 0 && h.restricted(user) {
			return notAllowed(PendingDescription, nil)
		}
	}
	refs := make(map[string]bool, len(c.Proposals))
	for i := range c.Proposals {
		if ref := c.Proposals[i].Ref; ref != nil {
			refs[string(ref)] = true
		}
	}
	for _, item := range h.public.Pending() {
		if c.External() {
			if refs[string(item.Ref)] != (item.Type == mls.ProposalSelfRemove) {
				return notAllowed(PendingDescription, nil)
			}
			continue
		}
		if !refs[string(item.Ref)] {
			return notAllowed(PendingDescription, nil)
		}
		switch item.Type {
		case mls.ProposalRemove:
			if item.Remove.Removed == c.Committer.LeafIndex {
				return notAllowed(PendingDescription, nil)
			}
		case mls.ProposalSelfRemove, mls.ProposalUpdate:
			if item.Sender.Type == mls.SenderMember && item.Sender.LeafIndex == c.Committer.LeafIndex {
				return notAllowed(PendingDescription, nil)
			}
		}
	}
	return nil
}

// adds checks that the Welcome is for exactly the KeyPackages that the Commit adds. Decision 21
func (n *Next) adds(p *plan, welcome *mls.Welcome) error {
	for i := range p.items {
		if p.items[i].Type != mls.ProposalAdd {
			continue
		}
		ref, err := p.items[i].Add.KeyPackage.Ref()
		if err != nil {
			return notAllowed(err.Error(), err)
		}
		actor, err := p.actor(i)
		if err != nil {
			return notAllowed(err.Error(), err)
		}
		n.KeyPackages = append(n.KeyPackages, ref)
		n.AddedBy = append(n.AddedBy, actor.URI)
	}
	return n.welcomed(welcome)
}

// welcomed checks that a Welcome is for exactly the KeyPackages that are added.
func (n *Next) welcomed(welcome *mls.Welcome) error {
	if welcome == nil {
		if len(n.KeyPackages) > 0 {
			return notAllowed("the commit adds clients without a welcome", nil)
		}
		return nil
	}
	added := make(map[string]bool, len(n.KeyPackages))
	for _, ref := range n.KeyPackages {
		added[string(ref)] = true
	}
	for i := range welcome.Secrets {
		ref := string(welcome.Secrets[i].NewMember)
		if !added[ref] {
			return notAllowed("the welcome names a KeyPackage that the commit does not add, or one twice", nil)
		}
		delete(added, ref)
	}
	if len(added) > 0 || len(welcome.Secrets) == 0 {
		return notAllowed("the welcome leaves out a client that the commit adds", nil)
	}
	return nil
}

// groupInfo takes the new GroupInfo of a Commit in either form. Decisions 27, 28
func groupInfo(staged *mls.StagedPublicCommit, o *mimi.GroupInfoOption) (*mls.GroupInfo, error) {
	info := o.GroupInfo
	switch {
	case o.Representation == mimi.GroupInfoPartial && o.PartialGroupInfo != nil:
		var err error
		if info, err = staged.GroupInfo(o.PartialGroupInfo); err != nil {
			return nil, err
		}
	case o.Representation == mimi.GroupInfoFull && info != nil:
		if err := staged.VerifyGroupInfo(info); err != nil {
			return nil, err
		}
	default:
		return nil, errors.New("room: the commit comes without a GroupInfo")
	}
	return info, checkGroupInfo(info)
}

// describe says in the Next what a Commit did.
func (n *Next) describe(p *plan, c *mls.Changes) {
	n.Epoch = n.public.Epoch()
	n.ReInit = c.ReInit
	for i := range p.users {
		u := &p.users[i]
		user, ok := u.user.User()
		switch {
		case !ok || u.from == u.to:
		case u.from == policy.NoRole:
			n.Listed = append(n.Listed, user)
		case u.to == policy.NoRole || n.room.view.roles.Banned(u.to):
			n.Unlisted = append(n.Unlisted, user)
		}
	}
	if p.joiner != nil {
		n.JoinedUser, n.Joined = p.joiner.User, p.join
		n.JoinedRole, _ = n.room.RoleOf(p.joiner.User.Identifier())
		n.JoinedKey = c.NewTree.Leaf(c.CommitterLeaf).SignatureKey
	}
}

func welcomeProviders(p *plan) []mimi.ProviderDomain {
	var domains []mimi.ProviderDomain
	for i := range p.users {
		for _, a := range p.users[i].adds {
			if user, ok := p.users[i].user.User(); ok && a.proposal >= 0 {
				domains = append(domains, user.Host())
				break
			}
		}
	}
	slices.Sort(domains)
	return slices.Compact(domains)
}

// reissue makes, after an external Commit, the hub's own proposals for what pending proposals wanted and the Commit could
// not take: users who leave, are removed or banned, and clients that were to go. Others must ask again. The hub proposes
// only what its role lets it. was is the plan of those proposals; anew says that they were pending in another group, whose
// leaves are not those of this one. Decisions 35, 60
func (h *Hub) reissue(n *Next, was *plan, anew bool, rand io.Reader) ([]mimi.Message, error) {
	if was == nil || h.cfg.Signer == nil {
		return nil, nil
	}
	hub := policy.Actor{URI: n.room.view.Hub().URI().Identifier(), Kind: policy.ExternalSender}
	var update mimi.ParticipantListUpdate
	var removes []mls.LeafIndex
	for i := range was.users {
		u := &was.users[i]
		role, listed := n.room.RoleOf(u.user)
		if !listed || role != u.from || len(u.removes) == 0 && u.from == u.to {
			continue
		}
		user, _ := u.user.User()
		left := n.room.leaves.by(user)
		goes := u.to == policy.NoRole || !n.room.view.roles.MayBeActive(u.to)
		if !goes {
			// a client that was to go, of a user who stays
			left = slices.DeleteFunc(slices.Clone(left), func(l mls.LeafIndex) bool {
				return anew || !was.removesLeaf(l)
			})
			if len(left) > 0 && policy.Authorize(n.room, hub, policy.Change{Kind: policy.Kick, User: u.user, From: role, To: role}) == nil {
				removes = append(removes, left...)
			}
			continue
		}
		if policy.Authorize(n.room, hub, policy.ListChange(n.room.view.roles, hub.URI, u.user, u.from, u.to, len(left) > 0)) != nil {
			continue
		}
		index, _ := n.room.view.IndexOf(u.user)
		if u.to == policy.NoRole {
			update.RemovedIndices = append(update.RemovedIndices, index)
		} else {
			update.ChangedRoleParticipants = append(update.ChangedRoleParticipants, mimi.UserindexRolePair{UserIndex: index, RoleIndex: u.to})
		}
		removes = append(removes, left...)
	}
	proposals, err := listAndRemoves(&update, removes)
	if err != nil || len(proposals) == 0 {
		return nil, err
	}
	messages, err := h.sign(rand, n.room.view, proposals)
	if err != nil {
		return nil, err
	}
	// the rules look at the room that the external Commit leads to
	old := h.rules.room
	h.rules.room = n.room
	defer func() { h.rules.room = old }()
	for i := range messages {
		if _, err := n.public.ReceiveProposal(&messages[i].MLSMessage); err != nil {
			return nil, fmt.Errorf("room: the hub's own proposal: %w", err)
		}
	}
	next := &Hub{cfg: h.cfg, public: n.public, rules: h.rules}
	if n.plan, err = next.union(n.public); err != nil {
		// they can't be committed together, such as for a minimum of participants: the room stays as it is
		for _, item := range n.public.Pending() {
			n.public.DropPending(item.Ref)
		}
		n.plan = nil
		return nil, nil
	}
	for i := range messages {
		n.pending = append(n.pending, mimi.PendingProposal{Proposal: messages[i], HubAcceptedTime: n.Accepted})
	}
	return messages, nil
}

// removesLeaf reports whether the pending proposals remove a leaf.
func (p *plan) removesLeaf(l mls.LeafIndex) bool {
	return slices.ContainsFunc(p.items, func(i mls.ResolvedProposal) bool {
		return i.Type == mls.ProposalRemove && i.Remove.Removed == l || i.Type == mls.ProposalSelfRemove && i.Sender.LeafIndex == l
	})
}

// listAndRemoves puts a change of the participant list and the removal of clients into proposals.
func listAndRemoves(update *mimi.ParticipantListUpdate, removes []mls.LeafIndex) ([]mls.Proposal, error) {
	var list []mls.Proposal
	for _, l := range removes {
		list = append(list, mls.Proposal{Type: mls.ProposalRemove, Remove: &mls.Remove{Removed: l}})
	}
	if len(update.AddedParticipants)+len(update.ChangedRoleParticipants)+len(update.RemovedIndices) == 0 {
		return list, nil
	}
	p, err := appData(mimi.ComponentParticipantList, update)
	return append(list, p), err
}

// appData returns an AppDataUpdate.
func appData(id mls.ComponentID, update tlspl.Coder) (mls.Proposal, error) {
	data, err := tlspl.Marshal(update)
	return mls.Proposal{Type: mls.ProposalAppDataUpdate, AppDataUpdate: &mls.AppDataUpdate{ComponentID: id, Op: mls.AppDataOpUpdate, Update: data}}, err
}

// sign signs proposals as the hub, an external sender of the room.
func (h *Hub) sign(rand io.Reader, v *View, proposals []mls.Proposal) ([]mimi.Message, error) {
	index, ok := v.HubSender(h.cfg.Verifier)
	if h.cfg.Signer == nil || !ok {
		return nil, ErrNoHub
	}
	aad, err := v.authenticatedData(nil)
	if err != nil {
		return nil, err
	}
	messages := make([]mimi.Message, len(proposals))
	for i := range proposals {
		m, err := mls.SignExternalProposal(rand, h.cfg.Signer, v.context, mls.Sender{Type: mls.SenderExternal, SenderIndex: index}, proposals[i], aad)
		if err != nil {
			return nil, err
		}
		if messages[i], err = mimi.NewMessage(*m); err != nil {
			return nil, err
		}
	}
	return messages, nil
}

// authenticatedData returns the SafeAAD for a message of this epoch: empty, or with the items. Groups without the safe_aad
// component have none. Decision 117
func (v *View) authenticatedData(items []mls.SafeAADItem) ([]byte, error) {
	if !v.Has(mls.ComponentSafeAAD) {
		return nil, nil
	}
	return tlspl.Marshal(&mls.SafeAAD{AADItems: items})
}
