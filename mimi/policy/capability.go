package policy

import (
	"slices"

	"github.com/comity-im/comity/mimi"
)

// Capability is one entry of the MIMI Role Capabilities registry: something that the holder of a role may do
// (room policy §8, §10.2).
type Capability = mimi.CapabilityType

// capabilities is the registry in its order, with what each entry lets one do in a few words.
var capabilities = []struct {
	number Capability
	does   string
}{
	{mimi.CanAddParticipant, "add another user"},
	{mimi.CanRemoveParticipant, "remove another user"},
	{mimi.CanAddOwnClient, "add an own client"},
	{mimi.CanRemoveOwnClient, "remove an own client"},
	{mimi.CanOpenJoin, "join without being asked"},
	{mimi.CanJoinIfPreauthorized, "join because of a claim in the credential"},
	{mimi.CanRemoveSelf, "leave"},
	{mimi.CanCreateJoinCode, "make a join link"},
	{mimi.CanDeleteJoinCode, "withdraw a join link"},
	{mimi.CanUseJoinCode, "join with a join code"},
	{mimi.CanBan, "ban a user"},
	{mimi.CanUnBan, "lift a ban"},
	{mimi.CanKick, "remove another user's clients for now"},
	{mimi.CanKnock, "ask to be let in"},
	{mimi.CanAcceptKnock, "let in who asked"},
	{mimi.CanChangeUserRole, "change another user's role"},
	{mimi.CanChangeOwnRole, "take the role that the credential gives"},
	{mimi.CanCreateSubgroup, "make a subgroup"},

	{mimi.CanSendMessage, "send a message"},
	{mimi.CanReceiveMessage, "receive messages"},
	{mimi.CanCopyMessage, "copy a message"},
	{mimi.CanReportAbuse, "report a message as abusive"},
	{mimi.CanReplyToMessage, "reply to a message"},
	{mimi.CanReactToMessage, "react to a message"},
	{mimi.CanEditReaction, "replace an own reaction"},
	{mimi.CanDeleteOwnReaction, "take back an own reaction"},
	{mimi.CanDeleteOtherReaction, "delete another user's reaction"},
	{mimi.CanEditOwnMessage, "edit an own message"},
	{mimi.CanDeleteOwnMessage, "delete an own message"},
	{mimi.CanDeleteOtherMessage, "delete another user's message"},
	{mimi.CanStartTopic, "start a topic"},
	{mimi.CanReplyInTopic, "reply in a topic"},
	{mimi.CanEditOwnTopic, "change the topic of an own message"},
	{mimi.CanEditOtherTopic, "change the topic of another user's message"},
	{mimi.CanSendDirectMessage, "send a direct message"},
	{mimi.CanTargetMessage, "send a message to one member"},

	{mimi.CanUploadImage, "send an image"},
	{mimi.CanUploadAudio, "send an audio file"},
	{mimi.CanUploadVideo, "send a video"},
	{mimi.CanUploadAttachment, "send an attachment"},
	{mimi.CanDownloadImage, "download an image"},
	{mimi.CanDownloadAudio, "download an audio file"},
	{mimi.CanDownloadVideo, "download a video"},
	{mimi.CanDownloadAttachment, "download an attachment"},
	{mimi.CanSendLink, "send a link"},
	{mimi.CanSendLinkPreview, "send a link with its preview"},
	{mimi.CanFollowLink, "follow a link"},
	{mimi.CanCopyLink, "copy a link"},

	{mimi.CanChangeRoomName, "change the room's name"},
	{mimi.CanChangeRoomDescription, "change the room's description"},
	{mimi.CanChangeRoomAvatar, "change the room's avatar"},
	{mimi.CanChangeRoomSubject, "change the room's subject"},
	{mimi.CanChangeRoomMood, "change the room's mood"},
	{mimi.CanChangeOwnName, "change the own name"},
	{mimi.CanChangeOwnPresence, "change the own presence"},
	{mimi.CanChangeOwnMood, "change the own mood"},
	{mimi.CanChangeOwnAvatar, "change the own avatar"},

	{mimi.CanStartCall, "start a call"},
	{mimi.CanJoinCall, "join a call"},
	{mimi.CanSendAudio, "speak in a call"},
	{mimi.CanReceiveAudio, "listen in a call"},
	{mimi.CanSendVideo, "send video in a call"},
	{mimi.CanReceiveVideo, "watch video in a call"},
	{mimi.CanShareScreen, "share a screen"},
	{mimi.CanViewSharedScreen, "view a shared screen"},

	{mimi.CanCreateRoom, "create a room"},
	{mimi.CanDestroyRoom, "destroy the room"},
	{mimi.CanChangeRoomMembershipStyle, "change the base policy"},
	{mimi.CanChangeRoleDefinitions, "change what roles may do"},
	{mimi.CanChangePreauthorizedUserList, "change who is preauthorized"},
	{mimi.CanChangeOtherPolicyAttribute, "change the other policies"},
	{mimi.CanChangeMlsOperationalPolicies, "change the operational policy"},
	{mimi.CanSendMLSReinitProposal, "restart the room's MLS group"},
	{mimi.CanSendMLSUpdateProposal, "send an MLS Update proposal"},
	{mimi.CanSendMLSPSKProposal, "send an MLS PSK proposal"},
	{mimi.CanSendMLSExternalProposal, "send an MLS external proposal"},
	{mimi.CanSendMLSExternalCommit, "send an MLS external commit"},
}

// Does says in a few words what the holder of a capability may do, such as "add another user". It is empty for a number
// that is not registered.
func Does(c Capability) string {
	for i := range capabilities {
		if capabilities[i].number == c {
			return capabilities[i].does
		}
	}
	return ""
}

// ParseCapability returns the capability with this registered name. canUnban is understood as well as canUnBan: the
// draft writes it both ways.
func ParseCapability(name string) (Capability, bool) {
	if name == "canUnban" {
		return mimi.CanUnBan, true
	}
	i := slices.IndexFunc(Capabilities(), func(c Capability) bool { return c.String() == name })
	if i < 0 {
		return 0, false
	}
	return capabilities[i].number, true
}

// Capabilities returns every registered capability, in the registry's order.
func Capabilities() []Capability {
	all := make([]Capability, len(capabilities))
	for i := range capabilities {
		all[i] = capabilities[i].number
	}
	return all
}
