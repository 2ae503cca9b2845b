package room

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// A View is what the GroupContext of one epoch says of the room, decoded. It is immutable; what its methods return must not
// be changed. Views of following epochs share what stayed the same.
type View struct {
	context    *mls.GroupContext
	dictionary mls.AppDataDictionary
	dictBytes  []byte
	senders    mls.ExternalSenders
	metadata   *mimi.RoomMetaData
	list       *participants
	roles      *policy.Roles
	components policy.Components
	franking   *mimi.FrankingAgentData
}

// participants is a participant list that can be searched.
type participants struct {
	data  []byte // as in the dictionary
	list  mimi.ParticipantListData
	once  sync.Once
	index map[mimi.IdentifierURI]int
}

func (p *participants) find(user mimi.IdentifierURI) (int, bool) {
	p.once.Do(func() {
		p.index = make(map[mimi.IdentifierURI]int, len(p.list.Participants))
		for i := range p.list.Participants {
			p.index[p.list.Participants[i].User] = i
		}
	})
	i, ok := p.index[user]
	return i, ok
}

// A StateError is a GroupContext that is not that of a MIMI room. Decisions 30, 83
type StateError struct {
	Component mls.ComponentID // 0: not about one component
	Err       error
}

func (e *StateError) Error() string {
	if e.Component == 0 {
		return "room: " + e.Err.Error()
	}
	return fmt.Sprintf("room: %s: %v", mimi.ComponentName(e.Component), e.Err)
}

// Unwrap returns what is wrong.
func (e *StateError) Unwrap() error { return e.Err }

// What keeps a group from being a MIMI room.
var (
	ErrNoDictionary = fmt.Errorf("the group has no app_data_dictionary")
	ErrMissing      = fmt.Errorf("the room must have it")
	ErrNoHub        = fmt.Errorf("the hub is not among the external senders")
)

// NewView decodes the room state in a GroupContext. A *StateError says what makes it no room (Decision 30).
func NewView(context *mls.GroupContext) (*View, error) { return newView(context, nil, nil) }

// newView is NewView, taking from prev, the view of the epoch before, what has the same octets. list, if not nil, is the
// decoded participant list.
func newView(context *mls.GroupContext, prev *View, list *mimi.ParticipantListData) (*View, error) {
	v := &View{context: context}
	dict, ok := context.Extensions.Find(mls.ExtensionAppDataDictionary)
	if !ok {
		return nil, &StateError{Err: ErrNoDictionary}
	}
	var err error
	if v.senders, err = context.Extensions.ExternalSenders(); err != nil {
		return nil, &StateError{Err: err}
	}
	v.dictBytes = dict
	if prev != nil && bytes.Equal(prev.dictBytes, dict) {
		senders := v.senders
		*v = *prev
		v.context, v.senders = context, senders
		return v, nil
	}
	if v.dictionary, _, err = context.Extensions.AppDataDictionary(); err != nil {
		return nil, &StateError{Err: err}
	}
	return v, v.decode(prev, list)
}

// part decodes the data of one component into a new T, or takes it over from the view before.
func part[T any, P interface {
	*T
	tlspl.Coder
}](v, prev *View, id mls.ComponentID, into **T, old func(*View) *T, err *error) {
	data, ok := v.dictionary.Find(id)
	if *err != nil || !ok {
		return
	}
	if prev != nil {
		if before, ok := prev.dictionary.Find(id); ok && bytes.Equal(before, data) {
			*into = old(prev)
			return
		}
	}
	value := new(T)
	if e := tlspl.Unmarshal(data, P(value)); e != nil {
		*err = &StateError{id, e}
		return
	}
	*into = value
}

func (v *View) decode(prev *View, list *mimi.ParticipantListData) error {
	var err error
	c := &v.components
	part(v, prev, mimi.ComponentRoomMetadata, &v.metadata, (*View).Metadata, &err)
	part(v, prev, mimi.ComponentRolesList, &c.Roles, func(p *View) *mimi.RoleData { return p.components.Roles }, &err)
	part(v, prev, mimi.ComponentBaseRoomPolicy, &c.Base, func(p *View) *mimi.BaseRoomPolicy { return p.components.Base }, &err)
	part(v, prev, mimi.ComponentPreauthList, &c.Preauth, func(p *View) *mimi.PreAuthData { return p.components.Preauth }, &err)
	part(v, prev, mimi.ComponentMLSOperationalPolicy, &c.Operational, func(p *View) *mimi.OperationalParameters { return p.components.Operational }, &err)
	part(v, prev, mimi.ComponentStatusNotificationPolicy, &c.Status, func(p *View) *mimi.StatusNotificationPolicy { return p.components.Status }, &err)
	part(v, prev, mimi.ComponentJoinLinkPolicy, &c.JoinLinkPolicy, func(p *View) *mimi.JoinLinkPolicy { return p.components.JoinLinkPolicy }, &err)
	part(v, prev, mimi.ComponentJoinLinks, &c.JoinLinks, func(p *View) *mimi.JoinLinksData { return p.components.JoinLinks }, &err)
	part(v, prev, mimi.ComponentLinkPreviewPolicy, &c.LinkPreview, func(p *View) *mimi.LinkPreviewPolicy { return p.components.LinkPreview }, &err)
	part(v, prev, mimi.ComponentAssetPolicy, &c.Assets, func(p *View) *mimi.AssetPolicy { return p.components.Assets }, &err)
	part(v, prev, mimi.ComponentLoggingPolicy, &c.Logging, func(p *View) *mimi.LoggingPolicy { return p.components.Logging }, &err)
	part(v, prev, mimi.ComponentChatHistoryPolicy, &c.History, func(p *View) *mimi.HistoryPolicy { return p.components.History }, &err)
	part(v, prev, mimi.ComponentBotPolicy, &c.Bots, func(p *View) *mimi.BotPolicy { return p.components.Bots }, &err)
	part(v, prev, mimi.ComponentMessageExpirationPolicy, &c.Expiration, func(p *View) *mimi.MessageExpiration { return p.components.Expiration }, &err)
	part(v, prev, mimi.ComponentFrankingAgent, &v.franking, func(p *View) *mimi.FrankingAgentData { return p.franking }, &err)
	if err != nil {
		return err
	}
	for _, must := range []struct {
		id mls.ComponentID
		is bool
	}{{mimi.ComponentRoomMetadata, v.metadata != nil}, {mimi.ComponentRolesList, c.Roles != nil}, {mimi.ComponentBaseRoomPolicy, c.Base != nil}} {
		if !must.is {
			return &StateError{must.id, ErrMissing}
		}
	}
	if prev != nil && prev.components.Roles == c.Roles {
		v.roles = prev.roles
	} else if v.roles, err = policy.NewRoles(c.Roles); err != nil {
		return &StateError{mimi.ComponentRolesList, err}
	}
	return v.decodeList(prev, list)
}

func (v *View) decodeList(prev *View, list *mimi.ParticipantListData) error {
	data, ok := v.dictionary.Find(mimi.ComponentParticipantList)
	switch {
	case !ok:
		return &StateError{mimi.ComponentParticipantList, ErrMissing}
	case prev != nil && bytes.Equal(prev.list.data, data):
		v.list = prev.list
		return nil
	case list != nil:
		v.list = &participants{data: data, list: *list}
		return nil
	}
	v.list = &participants{data: data}
	if err := tlspl.Unmarshal(data, &v.list.list); err != nil {
		return &StateError{mimi.ComponentParticipantList, err}
	}
	return nil
}

// Context returns the GroupContext.
func (v *View) Context() *mls.GroupContext { return v.context }

// Epoch returns the MLS epoch.
func (v *View) Epoch() mls.Epoch { return v.context.Epoch }

// Room returns the room's URI.
func (v *View) Room() mimi.RoomURI { return v.metadata.RoomURI }

// Hub returns the provider that hosts the room.
func (v *View) Hub() mimi.ProviderDomain { return v.metadata.RoomURI.Host() }

// Metadata returns the room_metadata component.
func (v *View) Metadata() *mimi.RoomMetaData { return v.metadata }

// Participants returns the participant list.
func (v *View) Participants() []mimi.UserRolePair { return v.list.list.Participants }

// IndexOf returns where a user stands on the participant list, as updates of the list name it.
func (v *View) IndexOf(user mimi.IdentifierURI) (uint32, bool) {
	i, ok := v.list.find(user)
	return uint32(i), ok
}

// RoleOf returns the role of a participant, and whether there is such a participant.
func (v *View) RoleOf(user mimi.IdentifierURI) (policy.RoleIndex, bool) {
	i, ok := v.list.find(user)
	if !ok {
		return policy.NoRole, false
	}
	return v.list.list.Participants[i].RoleIndex, true
}

// Roles returns the room's roles, ready for judging.
func (v *View) Roles() *policy.Roles { return v.roles }

// Components returns the policy components.
func (v *View) Components() *policy.Components { return &v.components }

// Base returns the base_room_policy component.
func (v *View) Base() *mimi.BaseRoomPolicy { return v.components.Base }

// Preauth returns the preauth_list component, or nil.
func (v *View) Preauth() *mimi.PreAuthData { return v.components.Preauth }

// Operational returns the mls_operational_policy component, or nil.
func (v *View) Operational() *mimi.OperationalParameters { return v.components.Operational }

// FrankingAgent returns the franking_agent component, or nil.
func (v *View) FrankingAgent() *mimi.FrankingAgentData { return v.franking }

// EpochTolerance returns how many past epochs the hub takes application messages of. Decision 51
func (v *View) EpochTolerance() mls.Epoch {
	if v.components.Operational == nil {
		return 0
	}
	return mls.Epoch(v.components.Operational.AppMessagePolicy.EpochTolerance)
}

// MembershipDigest returns, for a room with fixed membership, a digest of the set of its users: only one such room may exist
// for any set (room policy §5), which is for the hub to see to. ok is false for other rooms.
func (v *View) MembershipDigest() (digest [sha256.Size]byte, ok bool) {
	if !v.components.Base.FixedMembership {
		return digest, false
	}
	var users []string
	for i := range v.list.list.Participants {
		if user, ok := v.list.list.Participants[i].User.User(); ok {
			users = append(users, string(user))
		}
	}
	slices.Sort(users)
	// canonical URIs hold no line feed
	return sha256.Sum256([]byte(strings.Join(users, "\n"))), true
}

// Outside returns the participants of a parent-dependent room that are not participants of its parent, as they must be
// (room policy §5). The hub asks it of a new room; Hub.Update asks it of additions.
func (v *View) Outside(parent *View) []mimi.UserURI {
	var outside []mimi.UserURI
	for i := range v.list.list.Participants {
		p := &v.list.list.Participants[i]
		user, ok := p.User.User()
		if !ok || v.roles.Banned(p.RoleIndex) {
			continue
		}
		if role, listed := parent.RoleOf(p.User); !listed || parent.roles.Banned(role) {
			outside = append(outside, user)
		}
	}
	return outside
}

// Has reports whether the GroupContext has data of the component.
func (v *View) Has(id mls.ComponentID) bool { _, ok := v.dictionary.Find(id); return ok }

// ContentPolicy returns what judging the content of messages takes.
func (v *View) ContentPolicy() *policy.ContentPolicy {
	c := &v.components
	return &policy.ContentPolicy{Roles: v.roles, Hub: v.Hub(), Status: c.Status, LinkPreview: c.LinkPreview, Assets: c.Assets, Expiration: c.Expiration}
}

// HubSender returns the position of the hub among the external senders. Decision 32
func (v *View) HubSender(verifier Verifier) (uint32, bool) {
	for i := range v.senders {
		if domain, err := verifier.Provider(&v.senders[i].Credential); err == nil && domain == v.Hub() {
			return uint32(i), true
		}
	}
	return 0, false
}

// Check says whether a room that was just created, or is about to be joined, is one (Decisions 30, 31): it has the
// components and extensions that every room has, belongs to the room URI that it was asked for, and the hub can reach into
// it. It gives a *StateError or a *policy.PolicyError.
func (v *View) Check(verifier Verifier, room mimi.RoomURI) error {
	if v.Room() != room {
		return &StateError{mimi.ComponentRoomMetadata, fmt.Errorf("room_uri is %s, expected %s", v.Room(), room)}
	}
	if _, ok := v.HubSender(verifier); !ok {
		return &StateError{Err: ErrNoHub}
	}
	if err := checkReceivers(verifier, v.Hub(), v.context.Extensions); err != nil {
		return &StateError{Err: err}
	}
	required, err := v.context.Extensions.RequiredCapabilities()
	if err != nil {
		return &StateError{Err: err}
	}
	if !slices.Contains(required.ExtensionTypes, mls.ExtensionAppDataDictionary) ||
		!slices.Contains(required.ProposalTypes, mls.ProposalAppDataUpdate) || !slices.Contains(required.ProposalTypes, mls.ProposalSelfRemove) {
		return &StateError{Err: fmt.Errorf("required_capabilities lack app_data_dictionary, app_data_update or self_remove")}
	}
	if !v.Has(mls.ComponentAppComponents) {
		return &StateError{mls.ComponentAppComponents, ErrMissing}
	}
	if err := v.checkFranking(verifier); err != nil {
		return err
	}
	if err := v.metadata.Validate(); err != nil {
		return &StateError{mimi.ComponentRoomMetadata, err}
	}
	if err := v.list.list.Validate(v.components.Roles); err != nil {
		return &StateError{mimi.ComponentParticipantList, err}
	}
	return v.checkComponents()
}

// checkPseudonyms: a new room lists pseudonyms only if it allows them (room policy §5). Later additions are judged one by one.
func (v *View) checkPseudonyms() error {
	for i := range v.list.list.Participants {
		if user, ok := v.list.list.Participants[i].User.User(); ok && user.Pseudonym() && !v.components.Base.PseudonymsAllowed {
			return &StateError{mimi.ComponentParticipantList, ErrPseudonym}
		}
	}
	return nil
}

// checkReceivers: nobody but the hub reads SemiPrivateMessages from outside. Decision 120
func checkReceivers(verifier Verifier, hub mimi.ProviderDomain, e mls.Extensions) error {
	receivers, err := e.ExternalReceivers()
	if err != nil {
		return err
	}
	for i := range receivers {
		if domain, err := verifier.Provider(&receivers[i].Credential); err != nil || domain != hub {
			return ErrReceiver
		}
	}
	return nil
}

// handshakeFormat returns the wire format in which members send handshake messages: the first of the room's
// handshake_formats (room policy §7), by default PublicMessage.
func (v *View) handshakeFormat() mls.WireFormat {
	if op := v.components.Operational; op != nil && len(op.HandshakeFormats) > 0 {
		return op.HandshakeFormats[0]
	}
	return mls.WireFormatPublicMessage
}

// SemiPrivate reports whether members send their handshake messages as SemiPrivateMessages (Decision 120).
func (v *View) SemiPrivate() bool { return v.handshakeFormat() == mls.WireFormatSemiPrivateMessage }

// takesFormat reports whether members may send handshake messages in the format.
func (v *View) takesFormat(f mls.WireFormat) bool {
	op := v.components.Operational
	if op == nil || len(op.HandshakeFormats) == 0 {
		return f == mls.WireFormatPublicMessage
	}
	return slices.Contains(op.HandshakeFormats, f)
}

// checkFranking: the franking agent must be the hub's. Decision 47
func (v *View) checkFranking(verifier Verifier) error {
	if v.franking == nil {
		return nil
	}
	if domain, err := verifier.Provider(&v.franking.Credential); err != nil || domain != v.Hub() {
		return &StateError{mimi.ComponentFrankingAgent, fmt.Errorf("the credential is not that of the hub %s", v.Hub())}
	}
	return nil
}

// checkComponents checks the policy components with each other, and that the dictionary and app_components agree
// (Decisions 88, 115).
func (v *View) checkComponents() error {
	if err := policy.CheckComponents(&v.components, v.Hub()); err != nil {
		return err
	}
	required, err := required(v.dictionary)
	if err != nil {
		return &StateError{mls.ComponentAppComponents, err}
	}
	for i := range v.dictionary {
		if id := v.dictionary[i].ComponentID; !slices.Contains(required.ComponentIDs, id) && id > mls.ComponentContentMediaTypes {
			return &StateError{id, fmt.Errorf("app_components does not list it")}
		}
	}
	for _, id := range v.components.Base.PolicyComponentIDs {
		if !v.Has(id) {
			return &StateError{mimi.ComponentBaseRoomPolicy, fmt.Errorf("policy_component_ids lists %s, which the room does not have", mimi.ComponentName(id))}
		}
	}
	return nil
}
