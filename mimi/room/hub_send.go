package room

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// A SubmitRefusal is an application message that the hub does not accept (MIMI protocol §5.4).
type SubmitRefusal struct {
	Code         mimi.SubmitResponseCode
	CurrentEpoch mls.Epoch // for SubmitEpochTooOld
	Description  string    // for the log: the response has no room for it
	Err          error     // such as a *policy.Denial; may be nil
}

func (r *SubmitRefusal) Error() string {
	return "room: message refused (" + r.Code.String() + "): " + r.Description
}

// Unwrap returns what led to the refusal.
func (r *SubmitRefusal) Unwrap() error { return r.Err }

// Response returns what the hub answers.
func (r *SubmitRefusal) Response() *mimi.SubmitMessageResponse {
	return &mimi.SubmitMessageResponse{Protocol: mimi.MLS10, StatusCode: r.Code, CurrentEpoch: r.CurrentEpoch}
}

// SubmitInput is an application message that a provider sends (MIMI protocol §5.4).
type SubmitInput struct {
	From    mimi.ProviderDomain
	Sending mimi.UserURI
	Message *mimi.Message
	Now     mimi.Millis
}

// A Submission is an application message that the hub accepts.
type Submission struct {
	*Next
	// FrankingTag is the sender's commitment to the message, 32 octets; nil if it did not send one. Decision 43
	FrankingTag []byte
	// Providers are those to send it to.
	Providers []mimi.ProviderDomain
}

// Submit judges an application message: whether this user may speak in this epoch. What the message says it can't see.
// Errors are a *SubmitRefusal. Decisions 41, 43, 49, 51, 93
func (h *Hub) Submit(in SubmitInput) (*Submission, error) {
	refused := func(description string, err error) (*Submission, error) {
		return nil, &SubmitRefusal{Code: mimi.SubmitNotAllowed, Description: description, Err: err}
	}
	m := in.Message.PrivateMessage
	if in.Message.WireFormat != mls.WireFormatPrivateMessage || m == nil || m.ContentType != mls.ContentApplication {
		return refused("not an application message", nil)
	}
	// What was encrypted in a group that is over is to be encrypted again in the next one.
	stale := func(description string, err error) (*Submission, error) {
		return nil, &SubmitRefusal{Code: mimi.SubmitEpochTooOld, CurrentEpoch: h.Epoch(), Description: description, Err: err}
	}
	if h.closed {
		return stale(ErrClosed.Error(), ErrClosed)
	}
	if !bytes.Equal(m.GroupID, h.public.GroupID()) {
		return stale("the message is for another group", nil)
	}
	if in.Sending.Host() != in.From {
		return refused(fmt.Sprintf("%s may not act for %s", in.From, in.Sending), nil)
	}
	// Decision 51
	v := h.View()
	switch {
	case m.Epoch > v.Epoch():
		return refused(fmt.Sprintf("epoch %d has not come yet", m.Epoch), nil)
	case v.Epoch()-m.Epoch > v.EpochTolerance():
		return nil, &SubmitRefusal{Code: mimi.SubmitEpochTooOld, CurrentEpoch: v.Epoch(),
			Description: fmt.Sprintf("epoch %d is past", m.Epoch), Err: &mls.EpochError{Got: m.Epoch, Want: v.Epoch()}}
	}
	// Decisions 36, 41, 93: by the role that is left after the pending proposals, which only restrict.
	role, listed := v.RoleOf(in.Sending.Identifier())
	switch {
	case !listed || h.restricted(in.Sending):
		return refused(fmt.Sprintf("%s is not on the participant list", in.Sending), nil)
	case h.Clients(in.Sending) == 0:
		return refused(fmt.Sprintf("%s has no client in the group", in.Sending), nil)
	}
	for _, r := range []policy.RoleIndex{role, h.Effective(in.Sending)} {
		if !v.roles.MaySubmit(r) {
			return refused(fmt.Sprintf("%s has role %q, which may not send", in.Sending, v.roles.Name(r)), nil)
		}
	}
	tag, err := h.frankingTag(m.AuthenticatedData)
	if err != nil {
		return refused(err.Error(), err)
	}
	n := h.begin(in.Now)
	return &Submission{Next: n, FrankingTag: tag, Providers: h.receivers()}, nil
}

// frankingTag reads frank_aad. It must be there if the room has a franking agent. Decisions 43, 49, 117
func (h *Hub) frankingTag(authenticated []byte) ([]byte, error) {
	if !h.View().Has(mls.ComponentSafeAAD) {
		return nil, nil
	}
	var aad mls.SafeAAD
	if err := tlspl.Unmarshal(authenticated, &aad); err != nil {
		return nil, fmt.Errorf("room: authenticated_data is no SafeAAD: %w", err)
	}
	tag, ok := aad.Find(mimi.ComponentFrankAAD)
	switch {
	case ok && len(tag) != sha256.Size:
		return nil, fmt.Errorf("room: frank_aad has %d octets, not %d", len(tag), sha256.Size)
	case !ok && h.View().FrankingAgent() != nil:
		return nil, fmt.Errorf("room: the room is franked, and the message has no frank_aad")
	}
	return tag, nil
}

// receivers returns the providers that have a client of a user who may receive messages (Decision 93).
func (h *Hub) receivers() []mimi.ProviderDomain {
	s := h.rules.room
	all := true
	for role, n := range s.counts {
		all = all && (n.Active == 0 || s.view.roles.Has(role, mimi.CanReceiveMessage))
	}
	if all {
		return h.staying(h.Providers())
	}
	if s.receiving == nil {
		domains := make(map[mimi.ProviderDomain]bool)
		for i := range s.view.Participants() {
			p := &s.view.Participants()[i]
			if user, ok := p.User.User(); ok && s.view.roles.Has(p.RoleIndex, mimi.CanReceiveMessage) && len(s.leaves.by(user)) > 0 {
				domains[user.Host()] = true
			}
		}
		s.receiving = slices.DeleteFunc(h.Providers(), func(d mimi.ProviderDomain) bool { return !domains[d] })
	}
	return h.staying(s.receiving)
}

// staying leaves out the providers all of whose clients the pending proposals take away: MIMI protocol §5.3 wants them to
// receive nothing any more.
func (h *Hub) staying(domains []mimi.ProviderDomain) []mimi.ProviderDomain {
	if h.plan == nil {
		return domains
	}
	going := make(map[mimi.ProviderDomain]uint32)
	for i := range h.plan.users {
		if user, ok := h.plan.users[i].user.User(); ok && h.plan.users[i].listed >= 0 && h.restricted(user) {
			going[user.Host()] += uint32(h.Clients(user))
		}
	}
	return slices.DeleteFunc(slices.Clone(domains), func(d mimi.ProviderDomain) bool { return going[d] >= h.rules.room.leaves.providers[d] })
}

// MayFetchGroupInfo says whether somebody may be given the GroupInfo, to join with. hasCode says that a valid join code of
// the room came with the request. Decision 66
func (h *Hub) MayFetchGroupInfo(who Identity, hasCode bool) *policy.Denial {
	a := policy.Actor{URI: who.User.Identifier(), Kind: policy.Joiner, Claims: who.Claims}
	if _, listed := h.rules.room.RoleOf(a.URI); listed && h.restricted(who.User) {
		return &policy.Denial{Reason: policy.NotOnParticipantList, Actor: a.URI, Change: policy.Change{Kind: policy.AddOwnClient, User: a.URI}}
	}
	return policy.MayFetchGroupInfo(h.rules.room, a, hasCode)
}

// MayDestroy says whether a user may destroy the room (room policy §8.6).
func (h *Hub) MayDestroy(user mimi.UserURI) *policy.Denial {
	a := policy.Actor{URI: user.Identifier()}
	return policy.Authorize(h.rules.room, a, policy.Change{Kind: policy.DestroyRoom, User: a.URI})
}

// Propose makes proposals of the hub itself, as an external sender (MIMI protocol §7.4). They are judged like those of
// others: by the hub's role.
func (h *Hub) Propose(now mimi.Millis, rand io.Reader, proposals ...mls.Proposal) (*Next, error) {
	messages, err := h.sign(rand, h.View(), proposals)
	if err != nil {
		return nil, err
	}
	return h.accept(now, "", messages, nil)
}

// ProposeRemove proposes to take users off the participant list, with all their clients: because their accounts are gone, or
// because they left the parent room. Users who are not on the list, or about to go, are passed over; without any the Next is
// nil.
func (h *Hub) ProposeRemove(now mimi.Millis, rand io.Reader, users ...mimi.UserURI) (*Next, error) {
	return h.proposeList(now, rand, policy.NoRole, users)
}

// ProposeRemoveClient proposes to take one client out of the group: its device is gone. Without such a client, or if it is
// about to go, the Next is nil.
func (h *Hub) ProposeRemoveClient(now mimi.Millis, rand io.Reader, user mimi.UserURI, client mimi.ClientURI) (*Next, error) {
	for _, leaf := range h.rules.room.leaves.by(user) {
		node := h.public.Tree().Leaf(leaf)
		if node == nil {
			continue
		}
		who, err := h.cfg.Verifier.Identify(&node.Credential)
		if err != nil || who.Client != client || h.plan != nil && h.plan.removesLeaf(leaf) {
			continue
		}
		return h.Propose(now, rand, mls.Proposal{Type: mls.ProposalRemove, Remove: &mls.Remove{Removed: leaf}})
	}
	return nil, nil
}

// ProposeBan proposes to ban users who are on the participant list.
func (h *Hub) ProposeBan(now mimi.Millis, rand io.Reader, users ...mimi.UserURI) (*Next, error) {
	return h.proposeList(now, rand, policy.BannedRole, users)
}

func (h *Hub) proposeList(now mimi.Millis, rand io.Reader, to policy.RoleIndex, users []mimi.UserURI) (*Next, error) {
	var update mimi.ParticipantListUpdate
	var removes []mls.LeafIndex
	for _, user := range users {
		index, ok := h.View().IndexOf(user.Identifier())
		role, _ := h.View().RoleOf(user.Identifier())
		if !ok || role == to || h.plan != nil && h.plan.touches(user.Identifier()) {
			continue
		}
		if to == policy.NoRole {
			update.RemovedIndices = append(update.RemovedIndices, index)
		} else {
			update.ChangedRoleParticipants = append(update.ChangedRoleParticipants, mimi.UserindexRolePair{UserIndex: index, RoleIndex: to})
		}
		removes = append(removes, h.rules.room.leaves.by(user)...)
	}
	proposals, err := listAndRemoves(&update, removes)
	if err != nil || len(proposals) == 0 {
		return nil, err
	}
	return h.Propose(now, rand, proposals...)
}

// touches reports whether the pending proposals change something about a user.
func (p *plan) touches(user mimi.IdentifierURI) bool { _, ok := p.at[user]; return ok }

// ProposeFrankingAgent proposes the hub's franking key, in a room that has none. Decision 47
func (h *Hub) ProposeFrankingAgent(now mimi.Millis, rand io.Reader, agent *mimi.FrankingAgentData) (*Next, error) {
	p, err := appData(mimi.ComponentFrankingAgent, agent)
	if err != nil {
		return nil, err
	}
	return h.Propose(now, rand, p)
}
