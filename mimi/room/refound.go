package room

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
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

// Refound takes up a new group for the room from its first GroupInfo and ratchet tree, which a client of the participant by
// sends. It gives the Hub of the new group and its Next, whose records replace all records of the old one; nothing is sent,
// and Merge on the new Hub takes it into effect. The error has a *policy.Denial in it where by may not.
func (h *Hub) Refound(by mimi.UserURI, info *mls.GroupInfo, tree []byte, now mimi.Millis) (*Hub, *Next, error) {
	old := h.View()
	next, n, err := NewHub(h.cfg, old.Room(), by, info, tree, max(now, h.last+1))
	if err != nil {
		return nil, nil, err
	}
	if bytes.Equal(next.public.GroupID(), h.public.GroupID()) {
		return nil, nil, &StateError{Err: fmt.Errorf("the new group has the ID of the old one")}
	}
	if err := h.mayRefound(by, next); err != nil {
		return nil, nil, err
	}
	list := effectiveList(old, h.plan)
	if err := sameRoom(old, next.View(), list); err != nil {
		return nil, nil, err
	}
	return next, n, nil
}

// mayRefound: a participant who keeps its place and may bring clients; in a group that goes on, one who may send a ReInit.
func (h *Hub) mayRefound(by mimi.UserURI, next *Hub) error {
	actor := policy.Actor{URI: by.Identifier()}
	if h.restricted(by) {
		return &policy.Denial{Reason: policy.NotOnParticipantList, Actor: actor.URI, Change: policy.Change{Kind: policy.ReInit, User: actor.URI}}
	}
	if r := h.public.ReInit(); r != nil {
		c := next.public.Context()
		if !bytes.Equal(r.GroupID, c.GroupID) || r.CipherSuite != c.CipherSuite || r.Version != c.Version {
			return &StateError{Err: fmt.Errorf("the new group is not the one that the ReInit names")}
		}
	} else if !h.Stuck() {
		if d := policy.Authorize(h.rules.room, actor, policy.Change{Kind: policy.ReInit, User: actor.URI}); d != nil {
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

// RefoundParams is what a new group for a room is made from.
type RefoundParams struct {
	// GroupID and CipherSuite must be those of the ReInit, if one ended the group before.
	GroupID     []byte
	CipherSuite mls.CipherSuite
	// HubSender and FrankingAgent are the hub's present keys. A nil FrankingAgent keeps the old one, if there was one.
	HubSender     mls.ExternalSender
	FrankingAgent *mimi.FrankingAgentData
	Leaf          mls.LeafOptions
	Lifetime      mls.Lifetime
}

// Refound makes a new group for a room on this client, from what the old group's GroupContext says and the proposals that
// are pending in it, as the GroupInfoResponse of the hub has both. The hub takes it up by Hub.Refound, with what First
// gives; others come in by external commits of their own.
func Refound(rand io.Reader, cfg Config, info *mls.GroupInfo, tree mls.RatchetTreeOption, pending []mimi.PendingProposal, p RefoundParams) (*Room, error) {
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
	list := effectiveList(old, gone)
	extensions, err := refoundExtensions(old, list, &p)
	if err != nil {
		return nil, err
	}
	next := newRoom(cfg)
	group, err := mls.CreateGroup(rand, next.mls, mls.GroupOptions{GroupID: p.GroupID, CipherSuite: p.CipherSuite, Extensions: extensions, Leaf: p.Leaf, Lifetime: p.Lifetime})
	if err != nil {
		return nil, err
	}
	return next.enter(group, old.Room())
}

// pendingPlan verifies pending proposals as a follower of the old group does, and puts them in the room's terms.
func (r *Room) pendingPlan(room *snapshot, info *mls.GroupInfo, tree mls.RatchetTreeOption, pending []mimi.PendingProposal) (*plan, error) {
	if len(pending) == 0 {
		return nil, nil
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
	return extensions, set(mls.ExtensionExternalSenders, &mls.ExternalSenders{p.HubSender})
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
