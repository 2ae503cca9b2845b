package mimi

import (
	"fmt"

	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// The application components of MIMI (MIMI protocol §10, room policy §10.1;
// the suggested numbers where the draft has none yet).
const (
	ComponentFrankAAD                 mls.ComponentID = 0x0020
	ComponentFrankingAgent            mls.ComponentID = 0x0021
	ComponentParticipantList          mls.ComponentID = 0x0022
	ComponentRoomMetadata             mls.ComponentID = 0x0023
	ComponentMLSOperationalPolicy     mls.ComponentID = 0x0024
	ComponentRolesList                mls.ComponentID = 0x0025
	ComponentPreauthList              mls.ComponentID = 0x0026
	ComponentBaseRoomPolicy           mls.ComponentID = 0x0027
	ComponentStatusNotificationPolicy mls.ComponentID = 0x0028
	ComponentJoinLinkPolicy           mls.ComponentID = 0x0029
	ComponentJoinLinks                mls.ComponentID = 0x002A
	ComponentLinkPreviewPolicy        mls.ComponentID = 0x002B
	ComponentAssetPolicy              mls.ComponentID = 0x002C
	ComponentLoggingPolicy            mls.ComponentID = 0x002D
	ComponentChatHistoryPolicy        mls.ComponentID = 0x002E
	ComponentBotPolicy                mls.ComponentID = 0x002F
	ComponentMessageExpirationPolicy  mls.ComponentID = 0x0030
)

// A component is one row of the table of components.
type component struct {
	id        mls.ComponentID
	name      string
	newData   func() tlspl.Coder // nil: not in the GroupContext
	newUpdate func() tlspl.Coder // nil: like newData
	permanent bool               // from epoch 0, never removed. Decision 83
}

var components = []component{
	{id: ComponentFrankAAD, name: "frank_aad"},
	{id: ComponentFrankingAgent, name: "franking_agent", newData: func() tlspl.Coder { return new(FrankingAgentData) }},
	{id: ComponentParticipantList, name: "participant_list", permanent: true,
		newData:   func() tlspl.Coder { return new(ParticipantListData) },
		newUpdate: func() tlspl.Coder { return new(ParticipantListUpdate) }},
	{id: ComponentRoomMetadata, name: "room_metadata", permanent: true, newData: func() tlspl.Coder { return new(RoomMetaData) }},
	{id: ComponentMLSOperationalPolicy, name: "mls_operational_policy", newData: func() tlspl.Coder { return new(OperationalParameters) }},
	{id: ComponentRolesList, name: "roles_list", permanent: true, newData: func() tlspl.Coder { return new(RoleData) }},
	{id: ComponentPreauthList, name: "preauth_list", newData: func() tlspl.Coder { return new(PreAuthData) }},
	{id: ComponentBaseRoomPolicy, name: "base_room_policy", permanent: true, newData: func() tlspl.Coder { return new(BaseRoomPolicy) }},
	{id: ComponentStatusNotificationPolicy, name: "status_notification_policy", newData: func() tlspl.Coder { return new(StatusNotificationPolicy) }},
	{id: ComponentJoinLinkPolicy, name: "join_link_policy", newData: func() tlspl.Coder { return new(JoinLinkPolicy) }},
	{id: ComponentJoinLinks, name: "join_links",
		newData:   func() tlspl.Coder { return new(JoinLinksData) },
		newUpdate: func() tlspl.Coder { return new(JoinLinksUpdate) }},
	{id: ComponentLinkPreviewPolicy, name: "link_preview_policy", newData: func() tlspl.Coder { return new(LinkPreviewPolicy) }},
	{id: ComponentAssetPolicy, name: "asset_policy", newData: func() tlspl.Coder { return new(AssetPolicy) }},
	{id: ComponentLoggingPolicy, name: "logging_policy", newData: func() tlspl.Coder { return new(LoggingPolicy) }},
	{id: ComponentChatHistoryPolicy, name: "chat_history_policy", newData: func() tlspl.Coder { return new(HistoryPolicy) }},
	{id: ComponentBotPolicy, name: "bot_policy", newData: func() tlspl.Coder { return new(BotPolicy) }},
	{id: ComponentMessageExpirationPolicy, name: "message_expiration_policy", newData: func() tlspl.Coder { return new(MessageExpiration) }},
}

func findComponent(id mls.ComponentID) *component {
	for i := range components {
		if components[i].id == id {
			return &components[i]
		}
	}
	return nil
}

// ComponentName returns the draft's name of a component, or its number.
func ComponentName(id mls.ComponentID) string {
	if k := findComponent(id); k != nil {
		return k.name
	}
	return fmt.Sprintf("0x%04x", uint16(id))
}

// NewComponentData returns a new value of the type of a component's data in the
// GroupContext, nil if the component is not known or is not kept there.
func NewComponentData(id mls.ComponentID) tlspl.Coder {
	if k := findComponent(id); k != nil && k.newData != nil {
		return k.newData()
	}
	return nil
}

// NewComponentUpdate returns a new value of the type of the update that an
// AppDataUpdate of a component carries, nil if the component is not known or is
// not kept in the GroupContext. For all but the participant list and the join
// links it is the type of the data, which the update replaces.
func NewComponentUpdate(id mls.ComponentID) tlspl.Coder {
	if k := findComponent(id); k != nil && k.newUpdate != nil {
		return k.newUpdate()
	}
	return NewComponentData(id)
}

// PermanentComponent reports whether every room has the component from its
// first epoch and never loses it. Decision 83
func PermanentComponent(id mls.ComponentID) bool {
	k := findComponent(id)
	return k != nil && k.permanent
}
