package room

import (
	"slices"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// A plan is what a list of proposals does to a room, put in the room's terms: who asks for what about whom. A Commit is
// judged by its plan, and so are the proposals that a hub holds as pending. Its size is that of the proposals.
type plan struct {
	s        *snapshot
	verifier Verifier
	items    []mls.ResolvedProposal
	joiner   *Identity // of an external commit

	users   []userPlan                 // in the order in which they appear
	at      map[mimi.IdentifierURI]int // where in users
	changes []authored
	list    *mimi.ParticipantListData // the new list; nil if it stays
	effect  policy.Effect
	join    policy.JoinMethod // how an unlisted joiner comes in; 0 if nobody does
	reinit  bool
	refound bool // the first Commit of a group that follows another by a ReInit

	// set from the trees of a Commit
	removed []mls.LeafIndex
	added   []newLeaf
}

type newLeaf struct {
	leaf mls.LeafIndex
	user mimi.UserURI
}

// An authored change is one that somebody asks for by a proposal.
type authored struct {
	proposal int
	actor    policy.Actor
	change   policy.Change
}

// A userPlan gathers what happens to one user.
type userPlan struct {
	user     mimi.IdentifierURI
	from, to policy.RoleIndex // roles before and after
	listed   int              // the proposal that changes its entry on the list; -1: none
	by       policy.Actor     // who changes the entry
	removes  []clientChange
	adds     []clientChange
}

type clientChange struct {
	proposal int // -1: the external commit itself
	by       policy.Actor
	resync   bool // an external commit replaces this leaf
}

// readParticipants decodes the participant list updates among proposals and applies them to the list of the view.
func readParticipants(v *View, items []mls.ResolvedProposal) (*listChange, error) {
	l := &listChange{}
	var updates []mimi.ParticipantListUpdate
	for i := range items {
		u := items[i].AppDataUpdate
		if items[i].Type != mls.ProposalAppDataUpdate || u.ComponentID != mimi.ComponentParticipantList || u.Op != mls.AppDataOpUpdate {
			continue
		}
		var update mimi.ParticipantListUpdate
		if err := tlspl.Unmarshal(u.Update, &update); err != nil {
			return nil, &ProposalError{i, items[i].Ref, err}
		}
		updates = append(updates, update)
		l.proposals = append(l.proposals, i)
	}
	if len(updates) == 0 {
		return l, nil
	}
	next, changes, err := v.list.list.Apply(v.components.Roles, updates)
	if err != nil {
		at := 0
		if bad, ok := err.(*mimi.ParticipantError); ok {
			at = bad.Update
		}
		return nil, &ProposalError{l.proposals[at], items[l.proposals[at]].Ref, err}
	}
	l.next, l.changes = &next, changes
	return l, nil
}

// A listChange is what the participant list updates of a Commit come to.
type listChange struct {
	proposals []int // which proposal each update is
	next      *mimi.ParticipantListData
	changes   []mimi.ParticipantChange
}

// newPlan puts proposals in the room's terms. list is what readParticipants made of them. joiner is the new client of an
// external commit.
func newPlan(s *snapshot, verifier Verifier, items []mls.ResolvedProposal, list *listChange, joiner *Identity) (*plan, error) {
	p := &plan{s: s, verifier: verifier, items: items, joiner: joiner, list: list.next}
	p.effect.OnlyRemovals = true
	if err := p.readList(list); err != nil {
		return nil, err
	}
	for i := range items {
		if err := p.read(i); err != nil {
			return nil, &ProposalError{i, items[i].Ref, err}
		}
	}
	if joiner != nil {
		u := p.user(joiner.User.Identifier())
		u.adds = append(u.adds, clientChange{proposal: -1, by: p.joinerActor()})
	}
	return p, nil
}

func (p *plan) joinerActor() policy.Actor {
	return policy.Actor{URI: p.joiner.User.Identifier(), Kind: policy.Joiner, Claims: p.joiner.Claims}
}

// actor says who sent a proposal (Decision 96).
func (p *plan) actor(i int) (policy.Actor, error) {
	switch sender := p.items[i].Sender; sender.Type {
	case mls.SenderMember:
		user, ok := p.s.leaves.owner(sender.LeafIndex)
		if !ok {
			return policy.Actor{}, ErrUnknownSender
		}
		claims := &lazyClaims{p.verifier, &p.s.tree.Leaf(sender.LeafIndex).Credential}
		return policy.Actor{URI: user.Identifier(), Kind: policy.Member, Claims: claims}, nil
	case mls.SenderExternal:
		if uint64(sender.SenderIndex) >= uint64(len(p.s.view.senders)) {
			return policy.Actor{}, ErrUnknownSender
		}
		domain, err := p.verifier.Provider(&p.s.view.senders[sender.SenderIndex].Credential)
		if err != nil {
			return policy.Actor{}, err
		}
		return policy.Actor{URI: domain.URI().Identifier(), Kind: policy.ExternalSender}, nil
	case mls.SenderNewMemberProposal:
		if p.items[i].Type != mls.ProposalAdd {
			return policy.Actor{}, ErrUnknownSender
		}
		who, err := identify(p.verifier, &p.items[i].Add.KeyPackage.LeafNode.Credential)
		return policy.Actor{URI: who.User.Identifier(), Kind: policy.Joiner, Claims: who.Claims}, err
	case mls.SenderNewMemberCommit:
		if p.joiner != nil {
			return p.joinerActor(), nil
		}
	}
	return policy.Actor{}, ErrUnknownSender
}

// user returns the plan for a user, making one that changes nothing if there is none.
func (p *plan) user(uri mimi.IdentifierURI) *userPlan {
	if i, ok := p.at[uri]; ok {
		return &p.users[i]
	}
	role, _ := p.s.RoleOf(uri)
	return p.put(userPlan{user: uri, from: role, to: role, listed: -1})
}

func (p *plan) put(u userPlan) *userPlan {
	if p.at == nil {
		p.at = make(map[mimi.IdentifierURI]int)
	}
	p.at[u.user] = len(p.users)
	p.users = append(p.users, u)
	return &p.users[len(p.users)-1]
}

func (p *plan) readList(l *listChange) error {
	for _, c := range l.changes {
		at := l.proposals[c.Update]
		actor, err := p.actor(at)
		if err != nil {
			return &ProposalError{at, p.items[at].Ref, err}
		}
		// Apply has made sure that each user appears once
		p.put(userPlan{user: c.User, from: c.From, to: c.To, listed: at, by: actor})
		if c.To != policy.NoRole {
			p.effect.OnlyRemovals = false
		}
		if user, ok := c.User.User(); ok && c.From == policy.NoRole && user.Pseudonym() && !p.s.Base().PseudonymsAllowed {
			return &ProposalError{at, p.items[at].Ref, ErrPseudonym}
		}
	}
	if len(l.changes) > 0 {
		p.effect.Updated = append(p.effect.Updated, mimi.ComponentParticipantList)
	}
	return nil
}

// read takes up proposal i.
func (p *plan) read(i int) error {
	item := &p.items[i]
	if item.Type == mls.ProposalExternalInit {
		return nil
	}
	actor, err := p.actor(i)
	if err != nil {
		return err
	}
	add := func(kind policy.Kind) {
		p.changes = append(p.changes, authored{i, actor, policy.Change{Kind: kind, User: actor.URI}})
	}
	switch item.Type {
	case mls.ProposalAdd:
		who, err := p.verifier.Identify(&item.Add.KeyPackage.LeafNode.Credential)
		if err != nil {
			return err
		}
		u := p.user(who.User.Identifier())
		u.adds = append(u.adds, clientChange{proposal: i, by: actor})
	case mls.ProposalRemove:
		return p.remove(item.Remove.Removed, clientChange{proposal: i, by: actor, resync: item.Sender.Type == mls.SenderNewMemberCommit})
	case mls.ProposalSelfRemove:
		return p.remove(item.Sender.LeafIndex, clientChange{proposal: i, by: actor})
	case mls.ProposalUpdate:
		add(policy.UpdateLeaf)
	case mls.ProposalPSK:
		// The link of a new group to the one that a ReInit ended is part of the ReInit (RFC 9420 §11.2).
		if psk := &item.PreSharedKey.PSK; psk.Type == mls.PSKResumption && psk.Usage == mls.UsageReInit && p.s.view.Epoch() == 0 {
			p.refound = true
			return nil
		}
		add(policy.UsePSK)
	case mls.ProposalReInit:
		p.reinit = true
		add(policy.ReInit)
	case mls.ProposalGroupContextExtensions:
		if err := p.extensions(item.GroupContextExtensions.Extensions); err != nil {
			return err
		}
		add(policy.ChangeGroupExtensions)
	case mls.ProposalAppEphemeral:
		add(policy.SendEphemeral)
	case mls.ProposalAppDataUpdate:
		return p.component(i, actor)
	default:
		return ErrComponentUnknown
	}
	return nil
}

func (p *plan) remove(leaf mls.LeafIndex, c clientChange) error {
	user, ok := p.s.leaves.owner(leaf)
	if !ok {
		return ErrUnknownSender
	}
	u := p.user(user.Identifier())
	u.removes = append(u.removes, c)
	return nil
}

// extensions is what GroupContextExtensions must leave alone. That app_data_dictionary stays is checked by mls.
// Decisions 32, 116
func (p *plan) extensions(next mls.Extensions) error {
	before := p.s.view.context.Extensions
	same := func(t mls.ExtensionType) bool {
		a, hadIt := before.Find(t)
		b, hasIt := next.Find(t)
		return hadIt == hasIt && string(a) == string(b)
	}
	if !same(mls.ExtensionExternalSenders) || !same(mls.ExtensionAppDataDictionary) {
		return ErrExtensionsChanged
	}
	if err := checkReceivers(p.verifier, p.s.view.Hub(), next); err != nil {
		return err
	}
	was, err := before.RequiredCapabilities()
	if err != nil {
		return err
	}
	is, err := next.RequiredCapabilities()
	if err != nil {
		return err
	}
	if !subset(was.ExtensionTypes, is.ExtensionTypes) || !subset(was.ProposalTypes, is.ProposalTypes) || !subset(was.CredentialTypes, is.CredentialTypes) {
		return ErrExtensionsChanged
	}
	return nil
}

func subset[T comparable](a, b []T) bool {
	return !slices.ContainsFunc(a, func(x T) bool { return !slices.Contains(b, x) })
}

// component takes up an AppDataUpdate.
func (p *plan) component(i int, actor policy.Actor) error {
	u := p.items[i].AppDataUpdate
	id := u.ComponentID
	if id == mimi.ComponentParticipantList && u.Op == mls.AppDataOpUpdate {
		return nil // in readList
	}
	twice := slices.Contains(p.effect.Updated, id)
	p.effect.Updated = append(p.effect.Updated, id)
	add := func(c policy.Change) { p.changes = append(p.changes, authored{i, actor, c}) }
	if u.Op == mls.AppDataOpRemove {
		// Decisions 83, 114
		if mimi.PermanentComponent(id) || id == mimi.ComponentFrankingAgent || id <= mls.ComponentContentMediaTypes {
			return ErrComponentPermanent
		}
		add(policy.Change{Kind: policy.ChangeComponent, User: actor.URI, Component: id})
		return nil
	}
	switch id {
	case mimi.ComponentJoinLinks:
		var update mimi.JoinLinksUpdate
		if err := tlspl.Unmarshal(u.Update, &update); err != nil {
			return err
		}
		if len(update.AddedLinks) > 0 {
			add(policy.Change{Kind: policy.AddJoinLink, User: actor.URI, Component: id})
		}
		if len(update.RemovedIndices) > 0 {
			add(policy.Change{Kind: policy.RemoveJoinLink, User: actor.URI, Component: id})
		}
		return nil
	case mimi.ComponentRoomMetadata:
		if twice {
			return ErrComponentTwice // Decision 84
		}
		return p.metadata(i, actor)
	case mimi.ComponentFrankingAgent:
		// Decision 47: once, by the hub
		hub, ok := p.s.view.HubSender(p.verifier)
		sender := p.items[i].Sender
		if p.s.view.Has(id) || twice || !ok || sender.Type != mls.SenderExternal || sender.SenderIndex != hub {
			return ErrFrankingAgent
		}
		return nil
	}
	if twice {
		return ErrComponentTwice
	}
	switch id {
	case mimi.ComponentRolesList:
		var data mimi.RoleData
		if err := tlspl.Unmarshal(u.Update, &data); err != nil {
			return err
		}
		roles, err := policy.NewRoles(&data)
		if err != nil {
			return err
		}
		p.effect.NewRoles = roles
	case mimi.ComponentBaseRoomPolicy:
		p.effect.NewBase = new(mimi.BaseRoomPolicy)
		if err := tlspl.Unmarshal(u.Update, p.effect.NewBase); err != nil {
			return err
		}
	}
	add(policy.Change{Kind: policy.ChangeComponent, User: actor.URI, Component: id})
	return nil
}

// metadata compares old and new metadata field by field: each changed field needs its capability. Decision 84
func (p *plan) metadata(i int, actor policy.Actor) error {
	var next mimi.RoomMetaData
	if err := tlspl.Unmarshal(p.items[i].AppDataUpdate.Update, &next); err != nil {
		return err
	}
	need, err := p.s.view.metadata.Update(&next)
	if err != nil {
		return err
	}
	for _, c := range need {
		kind := map[policy.Capability]policy.Kind{
			mimi.CanChangeRoomName: policy.ChangeRoomName, mimi.CanChangeRoomDescription: policy.ChangeRoomDescription,
			mimi.CanChangeRoomAvatar: policy.ChangeRoomAvatar, mimi.CanChangeRoomSubject: policy.ChangeRoomSubject,
			mimi.CanChangeRoomMood: policy.ChangeRoomMood,
		}[c]
		p.changes = append(p.changes, authored{i, actor, policy.Change{Kind: kind, User: actor.URI}})
	}
	return nil
}
