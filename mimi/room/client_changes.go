package room

import (
	"fmt"
	"io"
	"slices"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// A NotListedError is a user whom a change is about and who is not on the participant list.
type NotListedError struct{ User mimi.UserURI }

func (e *NotListedError) Error() string {
	return fmt.Sprintf("room: %s is not on the participant list", e.User)
}

func (r *Room) indexOf(user mimi.UserURI) (uint32, error) {
	i, ok := r.View().IndexOf(user.Identifier())
	if !ok {
		return 0, &NotListedError{user}
	}
	return i, nil
}

// An Addition is a user to add, with the KeyPackages of its clients; there may be none.
type Addition struct {
	User mimi.UserURI
	// Role is not looked at if the user is on the list already: then only the clients are added.
	Role        policy.RoleIndex
	KeyPackages []mls.KeyPackage
}

// AddUsers stages the addition of users and their clients. now is in seconds, for the lifetimes of the KeyPackages.
func (r *Room) AddUsers(rand io.Reader, now uint64, additions ...Addition) (*Staged, error) {
	var update mimi.ParticipantListUpdate
	var proposals []mls.Proposal
	for i := range additions {
		a := &additions[i]
		if _, listed := r.View().RoleOf(a.User.Identifier()); !listed {
			update.AddedParticipants = append(update.AddedParticipants, mimi.UserRolePair{User: a.User.Identifier(), RoleIndex: a.Role})
		}
		for k := range a.KeyPackages {
			who, err := r.verifier.Identify(&a.KeyPackages[k].LeafNode.Credential)
			if err != nil {
				return nil, err
			}
			if who.User != a.User {
				return nil, fmt.Errorf("room: a KeyPackage of %s came for %s", who.User, a.User)
			}
			proposals = append(proposals, mls.Proposal{Type: mls.ProposalAdd, Add: &mls.Add{KeyPackage: a.KeyPackages[k]}})
		}
	}
	list, err := listAndRemoves(&update, nil)
	if err != nil {
		return nil, err
	}
	return r.Commit(rand, now, append(list, proposals...)...)
}

// Supports says why the client of a KeyPackage can't be in this room, or nil if it can: whether it has the components, media
// types and credential types that the room requires (Decision 18).
func (r *Room) Supports(k *mls.KeyPackage) error {
	tree, v := r.group.Tree().Fork(), r.View()
	if next := r.Ended(); next != nil {
		s, ok := suite.Lookup(next.CipherSuite)
		if !ok {
			return mls.ErrCipherSuite
		}
		var err error
		if v, err = r.nextView(); err != nil {
			return err
		}
		tree = mls.NewRatchetTree(s)
	}
	if _, err := tree.Add(&k.LeafNode); err != nil {
		return err
	}
	for _, list := range []mls.ComponentID{mls.ComponentAppComponents, mls.ComponentSafeAAD} {
		var required mls.ComponentsList
		if data, ok := v.dictionary.Find(list); ok {
			if err := tlspl.Unmarshal(data, &required); err != nil {
				return err
			}
		}
		for _, id := range required.ComponentIDs {
			if !tree.SupportsComponent(list, id) {
				return fmt.Errorf("room: the client does not support component %s", mimi.ComponentName(id))
			}
		}
	}
	required, err := v.context.Extensions.RequiredCapabilities()
	if err != nil {
		return err
	}
	return tree.CheckRequired(&required)
}

// removal is the change of the list and the removal of all clients that goes with it.
func (r *Room) removal(to policy.RoleIndex, users []mimi.UserURI) ([]mls.Proposal, error) {
	var update mimi.ParticipantListUpdate
	var removes []mls.LeafIndex
	for _, user := range users {
		i, listed := r.View().IndexOf(user.Identifier())
		switch {
		case listed && to == policy.NoRole:
			update.RemovedIndices = append(update.RemovedIndices, i)
		case listed:
			update.ChangedRoleParticipants = append(update.ChangedRoleParticipants, mimi.UserindexRolePair{UserIndex: i, RoleIndex: to})
		case to == policy.NoRole:
			return nil, &NotListedError{user}
		default:
			update.AddedParticipants = append(update.AddedParticipants, mimi.UserRolePair{User: user.Identifier(), RoleIndex: to})
		}
		removes = append(removes, r.rules.room.leaves.by(user)...)
	}
	return listAndRemoves(&update, removes)
}

// RemoveUsers stages taking users off the participant list, with all their clients.
func (r *Room) RemoveUsers(rand io.Reader, users ...mimi.UserURI) (*Staged, error) {
	proposals, err := r.removal(policy.NoRole, users)
	if err != nil {
		return nil, err
	}
	return r.Commit(rand, 0, proposals...)
}

// Ban stages banning users, who need not be on the list, with the removal of their clients.
func (r *Room) Ban(rand io.Reader, users ...mimi.UserURI) (*Staged, error) {
	if !r.View().roles.Banned(policy.BannedRole) {
		return nil, fmt.Errorf("room: the room has no role \"banned\"")
	}
	proposals, err := r.removal(policy.BannedRole, users)
	if err != nil {
		return nil, err
	}
	return r.Commit(rand, 0, proposals...)
}

// Kick stages removing all clients of a user, who stays on the list and may come back.
func (r *Room) Kick(rand io.Reader, user mimi.UserURI) (*Staged, error) {
	of := r.rules.room.leaves.by(user)
	if len(of) == 0 {
		return nil, fmt.Errorf("room: %s has no client in the room", user)
	}
	return r.RemoveClients(rand, of...)
}

// RemoveClients stages removing single clients: others' by a kick, or others of this user's.
func (r *Room) RemoveClients(rand io.Reader, leaves ...mls.LeafIndex) (*Staged, error) {
	proposals, err := listAndRemoves(&mimi.ParticipantListUpdate{}, leaves)
	if err != nil {
		return nil, err
	}
	return r.Commit(rand, 0, proposals...)
}

// ChangeRole stages giving users on the list another role: lifting a ban too. Where the new role can have no clients, they
// are removed.
func (r *Room) ChangeRole(rand io.Reader, role policy.RoleIndex, users ...mimi.UserURI) (*Staged, error) {
	var update mimi.ParticipantListUpdate
	var removes []mls.LeafIndex
	for _, user := range users {
		i, err := r.indexOf(user)
		if err != nil {
			return nil, err
		}
		update.ChangedRoleParticipants = append(update.ChangedRoleParticipants, mimi.UserindexRolePair{UserIndex: i, RoleIndex: role})
		if !r.View().roles.MayBeActive(role) {
			removes = append(removes, r.rules.room.leaves.by(user)...)
		}
	}
	proposals, err := listAndRemoves(&update, removes)
	if err != nil {
		return nil, err
	}
	return r.Commit(rand, 0, proposals...)
}

// ChangeOwnRole stages taking the role for which the own credential is preauthorized.
func (r *Room) ChangeOwnRole(rand io.Reader) (*Staged, error) {
	role, ok := policy.MatchPreauth(r.View().Preauth(), r.View().roles, r.self.Claims)
	if !ok {
		return nil, &policy.Denial{Reason: policy.NotPreauthorized, Actor: r.self.User.Identifier(),
			Change: policy.Change{Kind: policy.ChangeOwnRole, User: r.self.User.Identifier()}}
	}
	return r.ChangeRole(rand, role, r.self.User)
}

// SetMetadata stages new room metadata. The room's URI stays.
func (r *Room) SetMetadata(rand io.Reader, next mimi.RoomMetaData) (*Staged, error) {
	next.RoomURI = r.View().Room()
	return r.SetComponents(rand, Component{mimi.ComponentRoomMetadata, &next})
}

// A Component is the new data of a component.
type Component struct {
	ID   mls.ComponentID
	Data tlspl.Coder
}

// SetComponents stages the replacement of components. Those that the room does not have yet become required of all clients
// (Decision 115), which takes canChangeMlsOperationalPolicies besides.
func (r *Room) SetComponents(rand io.Reader, components ...Component) (*Staged, error) {
	var proposals []mls.Proposal
	var fresh []mls.ComponentID
	for _, c := range components {
		p, err := appData(c.ID, c.Data)
		if err != nil {
			return nil, err
		}
		proposals = append(proposals, p)
		if !r.View().Has(c.ID) {
			fresh = append(fresh, c.ID)
		}
	}
	if len(fresh) > 0 {
		p, err := r.requireComponents(fresh, nil)
		if err != nil {
			return nil, err
		}
		proposals = append([]mls.Proposal{p}, proposals...)
	}
	return r.Commit(rand, 0, proposals...)
}

// RemoveComponent stages the removal of an optional component, which is then required no more, nor named in the base policy.
func (r *Room) RemoveComponent(rand io.Reader, id mls.ComponentID) (*Staged, error) {
	p, err := r.requireComponents(nil, []mls.ComponentID{id})
	if err != nil {
		return nil, err
	}
	proposals := []mls.Proposal{p, {Type: mls.ProposalAppDataUpdate, AppDataUpdate: &mls.AppDataUpdate{ComponentID: id, Op: mls.AppDataOpRemove}}}
	if base := *r.View().Base(); slices.Contains(base.PolicyComponentIDs, id) {
		base.PolicyComponentIDs = slices.DeleteFunc(slices.Clone(base.PolicyComponentIDs), func(o mls.ComponentID) bool { return o == id })
		p, err := appData(mimi.ComponentBaseRoomPolicy, &base)
		if err != nil {
			return nil, err
		}
		proposals = append(proposals, p)
	}
	return r.Commit(rand, 0, proposals...)
}

// requireComponents changes the list of components that clients must support.
func (r *Room) requireComponents(add, drop []mls.ComponentID) (mls.Proposal, error) {
	required, err := required(r.View().dictionary)
	if err != nil {
		return mls.Proposal{}, err
	}
	ids := append(slices.Clone(required.ComponentIDs), add...)
	ids = slices.DeleteFunc(ids, func(id mls.ComponentID) bool { return slices.Contains(drop, id) })
	slices.Sort(ids)
	return appData(mls.ComponentAppComponents, &mls.ComponentsList{ComponentIDs: slices.Compact(ids)})
}

// ChangeJoinLinks stages withdrawing links and adding others. Adding the first takes canChangeMlsOperationalPolicies besides,
// as in SetComponents.
func (r *Room) ChangeJoinLinks(rand io.Reader, remove []mimi.JoinLink, add []mimi.JoinLink) (*Staged, error) {
	update := mimi.JoinLinksUpdate{AddedLinks: add}
	var have []mimi.JoinLink
	if l := r.View().components.JoinLinks; l != nil {
		have = l.Links
	}
	for _, link := range remove {
		i := slices.IndexFunc(have, func(o mimi.JoinLink) bool { return string(o) == string(link) })
		if i < 0 {
			return nil, fmt.Errorf("room: there is no such join link")
		}
		update.RemovedIndices = append(update.RemovedIndices, uint32(i))
	}
	return r.SetComponents(rand, Component{mimi.ComponentJoinLinks, &update})
}

// Renew stages a Commit that gives this client's leaf another credential and signature key, of the same client: those that
// were certified anew before the old ones expire. It has all pending proposals too.
func (r *Room) Renew(rand io.Reader, leaf mls.LeafOptions) (*Staged, error) {
	return r.stage(rand, mls.CommitOptions{Leaf: &leaf})
}

// ReInit stages the end of the MLS group, to be followed by another one for the same room.
func (r *Room) ReInit(rand io.Reader, next mls.ReInit) (*Staged, error) {
	return r.Commit(rand, 0, mls.Proposal{Type: mls.ProposalReInit, ReInit: &next})
}

// Leave makes the bundle by which this client's user leaves the room: SelfRemove, the removal of its other clients, and that
// of its entry on the list. Somebody else commits it. Decision 35
func (r *Room) Leave(rand io.Reader) (*Proposed, error) {
	index, err := r.indexOf(r.self.User)
	if err != nil {
		return nil, err
	}
	others := slices.DeleteFunc(slices.Clone(r.rules.room.leaves.by(r.self.User)), func(l mls.LeafIndex) bool { return l == r.group.OwnLeaf() })
	rest, err := listAndRemoves(&mimi.ParticipantListUpdate{RemovedIndices: []uint32{index}}, others)
	if err != nil {
		return nil, err
	}
	return r.Propose(rand, append([]mls.Proposal{{Type: mls.ProposalSelfRemove}}, rest...)...)
}

// LeaveAsClient makes the proposal by which this client leaves, while its user stays a participant.
func (r *Room) LeaveAsClient(rand io.Reader) (*Proposed, error) {
	return r.Propose(rand, mls.Proposal{Type: mls.ProposalSelfRemove})
}
