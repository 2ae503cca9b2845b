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

// ContentMediaType is the media type of MIMI content, the first of every room's content_media_types (Decision 119).
const ContentMediaType = "application/mimi-content"

// components are what a client of this package understands, ascending.
func components() []mls.ComponentID {
	ids := []mls.ComponentID{mls.ComponentAppComponents, mls.ComponentSafeAAD, mls.ComponentContentMediaTypes}
	for id := mimi.ComponentFrankAAD; id <= mimi.ComponentMessageExpirationPolicy; id++ {
		ids = append(ids, id)
	}
	return ids
}

// Leaf returns what a client says of itself in a KeyPackage or a leaf, so that rooms take it: the extensions, proposals and
// components of MIMI (Decisions 18, 115).
func Leaf(credential mls.Credential, signer *suite.Signer) (mls.LeafOptions, error) {
	var dictionary mls.AppDataDictionary
	for _, part := range []struct {
		id   mls.ComponentID
		data tlspl.Coder
	}{
		{mls.ComponentAppComponents, &mls.ComponentsList{ComponentIDs: components()}},
		{mls.ComponentSafeAAD, &mls.ComponentsList{ComponentIDs: []mls.ComponentID{mimi.ComponentFrankAAD}}},
		{mls.ComponentContentMediaTypes, mediaTypes()},
	} {
		data, err := tlspl.Marshal(part.data)
		if err != nil {
			return mls.LeafOptions{}, err
		}
		dictionary = dictionary.With(part.id, data)
	}
	data, err := tlspl.Marshal(&dictionary)
	if err != nil {
		return mls.LeafOptions{}, err
	}
	formats, err := tlspl.Marshal(&mls.WireFormats{WireFormats: []mls.WireFormat{mls.WireFormatSemiPrivateMessage}})
	credentials := []mls.CredentialType{mls.CredentialBasic, mls.CredentialX509}
	if credential.Type == mimi.CredentialPseudonymous {
		credentials = append(credentials, mimi.CredentialPseudonymous)
	}
	return mls.LeafOptions{
		Credential: credential,
		Capabilities: mls.Capabilities{
			Versions:     []mls.ProtocolVersion{mls.MLS10},
			CipherSuites: suite.IDs(),
			Extensions: []mls.ExtensionType{mls.ExtensionAppDataDictionary, mls.ExtensionSupportedWireFormats, mls.ExtensionRequiredWireFormats,
				mls.ExtensionExternalReceivers},
			Proposals:   []mls.ProposalType{mls.ProposalAppDataUpdate, mls.ProposalAppEphemeral, mls.ProposalSelfRemove},
			Credentials: credentials,
		},
		Extensions: mls.Extensions{{Type: mls.ExtensionAppDataDictionary, Data: data}, {Type: mls.ExtensionSupportedWireFormats, Data: formats}},
		Signer:     signer,
	}, err
}

func mediaTypes() *mls.MediaTypeList {
	return &mls.MediaTypeList{MediaTypeList: []mls.MediaType{{Type: []byte(ContentMediaType)}}}
}

// CreateParams is what a room is made from.
type CreateParams struct {
	Room mimi.RoomURI
	// GroupID is the ID of the MLS group, by custom the octets of mimi://<hub>/g/<random> (Decision 31).
	GroupID     []byte
	CipherSuite mls.CipherSuite
	// HubSender is the hub's entry among the external senders (Decision 32).
	HubSender mls.ExternalSender
	// HubReceiver makes the room one whose handshake messages are SemiPrivateMessages, which nobody but its members and the
	// hub can read (Decision 120); nil for PublicMessages.
	HubReceiver *mls.ExternalReceiver
	// FrankingAgent is the hub's franking key, nil for a room without franking.
	FrankingAgent *mimi.FrankingAgentData
	// Leaf is the creator's, from the function Leaf.
	Leaf     mls.LeafOptions
	Lifetime mls.Lifetime
	// Metadata is the room's; its RoomURI is set.
	Metadata mimi.RoomMetaData
	// Components and Participants are the room's policy and first participants, such as policy.Build makes.
	Components   *policy.Components
	Participants []mimi.UserRolePair
	// Credentials are the types of credential that members may have; none: the creator's.
	Credentials []mls.CredentialType
}

// Extensions returns the extensions of the first GroupContext of the room. Decision 30
func (p *CreateParams) Extensions() (mls.Extensions, error) {
	p.Metadata.RoomURI = p.Room
	c := *p.Components
	if p.HubReceiver != nil {
		var op mimi.OperationalParameters
		if c.Operational != nil {
			op = *c.Operational
		}
		op.HandshakeFormats = []mls.WireFormat{mls.WireFormatSemiPrivateMessage}
		c.Operational = &op
	}
	parts := []componentPart{
		{mls.ComponentSafeAAD, &mls.ComponentsList{ComponentIDs: []mls.ComponentID{mimi.ComponentFrankAAD}}},
		{mls.ComponentContentMediaTypes, mediaTypes()},
		{mimi.ComponentParticipantList, &mimi.ParticipantListData{Participants: p.Participants}},
		{mimi.ComponentRoomMetadata, &p.Metadata},
	}
	parts = optional(parts, mimi.ComponentFrankingAgent, p.FrankingAgent)
	parts = optional(parts, mimi.ComponentMLSOperationalPolicy, c.Operational)
	parts = optional(parts, mimi.ComponentRolesList, c.Roles)
	parts = optional(parts, mimi.ComponentPreauthList, c.Preauth)
	parts = optional(parts, mimi.ComponentBaseRoomPolicy, c.Base)
	parts = optional(parts, mimi.ComponentStatusNotificationPolicy, c.Status)
	parts = optional(parts, mimi.ComponentJoinLinkPolicy, c.JoinLinkPolicy)
	parts = optional(parts, mimi.ComponentJoinLinks, c.JoinLinks)
	parts = optional(parts, mimi.ComponentLinkPreviewPolicy, c.LinkPreview)
	parts = optional(parts, mimi.ComponentAssetPolicy, c.Assets)
	parts = optional(parts, mimi.ComponentLoggingPolicy, c.Logging)
	parts = optional(parts, mimi.ComponentChatHistoryPolicy, c.History)
	parts = optional(parts, mimi.ComponentBotPolicy, c.Bots)
	parts = optional(parts, mimi.ComponentMessageExpirationPolicy, c.Expiration)

	var required mls.ComponentsList
	for _, part := range parts {
		if part.id != mls.ComponentSafeAAD {
			required.ComponentIDs = append(required.ComponentIDs, part.id)
		}
	}
	slices.Sort(required.ComponentIDs)
	parts = append(parts, componentPart{mls.ComponentAppComponents, &required})

	var dictionary mls.AppDataDictionary
	for _, part := range parts {
		data, err := tlspl.Marshal(part.data)
		if err != nil {
			return nil, fmt.Errorf("room: %s: %w", mimi.ComponentName(part.id), err)
		}
		dictionary = dictionary.With(part.id, data)
	}
	credentials := p.Credentials
	if len(credentials) == 0 {
		credentials = []mls.CredentialType{p.Leaf.Credential.Type}
	}
	type extension struct {
		t    mls.ExtensionType
		data tlspl.Coder
	}
	list := []extension{
		{mls.ExtensionRequiredCapabilities, &mls.RequiredCapabilities{
			ExtensionTypes:  []mls.ExtensionType{mls.ExtensionAppDataDictionary},
			ProposalTypes:   []mls.ProposalType{mls.ProposalAppDataUpdate, mls.ProposalSelfRemove},
			CredentialTypes: credentials,
		}},
		{mls.ExtensionExternalSenders, &mls.ExternalSenders{p.HubSender}},
		{mls.ExtensionAppDataDictionary, &dictionary},
	}
	if p.HubReceiver != nil {
		list = append(list,
			extension{mls.ExtensionRequiredWireFormats, &mls.WireFormats{WireFormats: []mls.WireFormat{mls.WireFormatSemiPrivateMessage}}},
			extension{mls.ExtensionExternalReceivers, &mls.ExternalReceivers{*p.HubReceiver}})
	}
	var extensions mls.Extensions
	for _, e := range list {
		data, err := tlspl.Marshal(e.data)
		if err != nil {
			return nil, err
		}
		extensions = append(extensions, mls.Extension{Type: e.t, Data: data})
	}
	return extensions, nil
}

type componentPart struct {
	id   mls.ComponentID
	data tlspl.Coder
}

func optional[T any, P interface {
	*T
	tlspl.Coder
}](parts []componentPart, id mls.ComponentID, data *T) []componentPart {
	if data == nil {
		return parts
	}
	return append(parts, componentPart{id, P(data)})
}

// Create makes a room on the creator's client. The hub takes it up from the GroupInfo and the tree of its first epoch, which
// First gives.
func Create(rand io.Reader, cfg Config, p CreateParams) (*Room, error) {
	extensions, err := p.Extensions()
	if err != nil {
		return nil, err
	}
	r := newRoom(cfg)
	group, err := mls.CreateGroup(rand, r.mls, mls.GroupOptions{GroupID: p.GroupID, CipherSuite: p.CipherSuite, Extensions: extensions,
		Leaf: p.Leaf, Lifetime: p.Lifetime})
	if err != nil {
		return nil, err
	}
	return r.enter(group, p.Room)
}

// First returns what the hub needs to take up a room that was just created: the GroupInfo, and the ratchet tree.
func (r *Room) First(rand io.Reader) (*mls.GroupInfo, mls.RatchetTreeOption, error) {
	info, err := r.group.GroupInfo(rand, false)
	return info, mls.RatchetTreeOption{Representation: mls.RatchetTreeFull, RatchetTree: r.group.Tree().Bytes()}, err
}
