package mimi

import "fmt"

// A CapabilityType is something that a role allows (room policy §10.2). Roles
// name capabilities by number only; numbers that are not known are kept and
// grant nothing. Decision 95
type CapabilityType uint16

// The registered capabilities. Decision 94 uses some that are marked reserved.
const (
	// Membership (room policy §8.1).
	CanAddParticipant      CapabilityType = 0x0000
	CanRemoveParticipant   CapabilityType = 0x0001
	CanAddOwnClient        CapabilityType = 0x0002
	CanRemoveOwnClient     CapabilityType = 0x0003
	CanOpenJoin            CapabilityType = 0x0004
	CanJoinIfPreauthorized CapabilityType = 0x0005
	CanRemoveSelf          CapabilityType = 0x0006
	CanCreateJoinCode      CapabilityType = 0x0007 // reserved
	CanDeleteJoinCode      CapabilityType = 0x0008 // reserved
	CanUseJoinCode         CapabilityType = 0x0009
	CanBan                 CapabilityType = 0x000a
	CanUnBan               CapabilityType = 0x000b
	CanKick                CapabilityType = 0x000c
	CanKnock               CapabilityType = 0x000d // reserved
	CanAcceptKnock         CapabilityType = 0x000e // reserved
	CanChangeUserRole      CapabilityType = 0x000f
	CanChangeOwnRole       CapabilityType = 0x0010
	CanCreateSubgroup      CapabilityType = 0x0011 // reserved

	// Messages (room policy §8.3).
	CanSendMessage         CapabilityType = 0x0100
	CanReceiveMessage      CapabilityType = 0x0101
	CanCopyMessage         CapabilityType = 0x0102
	CanReportAbuse         CapabilityType = 0x0103
	CanReplyToMessage      CapabilityType = 0x0104
	CanReactToMessage      CapabilityType = 0x0105
	CanEditReaction        CapabilityType = 0x0106
	CanDeleteOwnReaction   CapabilityType = 0x0107
	CanDeleteOtherReaction CapabilityType = 0x0108
	CanEditOwnMessage      CapabilityType = 0x0109
	CanDeleteOwnMessage    CapabilityType = 0x010a
	CanDeleteOtherMessage  CapabilityType = 0x010b
	CanStartTopic          CapabilityType = 0x010c
	CanReplyInTopic        CapabilityType = 0x010d
	CanEditOwnTopic        CapabilityType = 0x010e
	CanEditOtherTopic      CapabilityType = 0x010f
	CanSendDirectMessage   CapabilityType = 0x0110 // reserved
	CanTargetMessage       CapabilityType = 0x0111 // reserved

	// Assets (room policy §8.4).
	CanUploadImage        CapabilityType = 0x0200
	CanUploadAudio        CapabilityType = 0x0201
	CanUploadVideo        CapabilityType = 0x0202
	CanUploadAttachment   CapabilityType = 0x0203
	CanDownloadImage      CapabilityType = 0x0204
	CanDownloadAudio      CapabilityType = 0x0205
	CanDownloadVideo      CapabilityType = 0x0206
	CanDownloadAttachment CapabilityType = 0x0207
	CanSendLink           CapabilityType = 0x0208
	CanSendLinkPreview    CapabilityType = 0x0209
	CanFollowLink         CapabilityType = 0x020a
	CanCopyLink           CapabilityType = 0x020b

	// Metadata (room policy §8.2).
	CanChangeRoomName        CapabilityType = 0x0300
	CanChangeRoomDescription CapabilityType = 0x0301
	CanChangeRoomAvatar      CapabilityType = 0x0302
	CanChangeRoomSubject     CapabilityType = 0x0303
	CanChangeRoomMood        CapabilityType = 0x0304
	CanChangeOwnName         CapabilityType = 0x0380 // reserved
	CanChangeOwnPresence     CapabilityType = 0x0381 // reserved
	CanChangeOwnMood         CapabilityType = 0x0382 // reserved
	CanChangeOwnAvatar       CapabilityType = 0x0383 // reserved

	// Real-time media (room policy §8.5).
	CanStartCall        CapabilityType = 0x0400
	CanJoinCall         CapabilityType = 0x0401
	CanSendAudio        CapabilityType = 0x0402
	CanReceiveAudio     CapabilityType = 0x0403
	CanSendVideo        CapabilityType = 0x0404
	CanReceiveVideo     CapabilityType = 0x0405
	CanShareScreen      CapabilityType = 0x0406
	CanViewSharedScreen CapabilityType = 0x0407

	// Disruptive policy changes (room policy §8.6).
	CanCreateRoom                  CapabilityType = 0x0500 // reserved
	CanDestroyRoom                 CapabilityType = 0x0501
	CanChangeRoomMembershipStyle   CapabilityType = 0x0502
	CanChangeRoleDefinitions       CapabilityType = 0x0503
	CanChangePreauthorizedUserList CapabilityType = 0x0504
	CanChangeOtherPolicyAttribute  CapabilityType = 0x0505 // reserved

	// MLS (room policy §8.7).
	CanChangeMlsOperationalPolicies CapabilityType = 0x0600 // reserved
	CanSendMLSReinitProposal        CapabilityType = 0x0601
	CanSendMLSUpdateProposal        CapabilityType = 0x0602 // reserved
	CanSendMLSPSKProposal           CapabilityType = 0x0603 // reserved
	CanSendMLSExternalProposal      CapabilityType = 0x0604 // reserved
	CanSendMLSExternalCommit        CapabilityType = 0x0605 // reserved
)

var capabilityNames = map[CapabilityType]string{
	CanAddParticipant:               "canAddParticipant",
	CanRemoveParticipant:            "canRemoveParticipant",
	CanAddOwnClient:                 "canAddOwnClient",
	CanRemoveOwnClient:              "canRemoveOwnClient",
	CanOpenJoin:                     "canOpenJoin",
	CanJoinIfPreauthorized:          "canJoinIfPreauthorized",
	CanRemoveSelf:                   "canRemoveSelf",
	CanCreateJoinCode:               "canCreateJoinCode",
	CanDeleteJoinCode:               "canDeleteJoinCode",
	CanUseJoinCode:                  "canUseJoinCode",
	CanBan:                          "canBan",
	CanUnBan:                        "canUnBan",
	CanKick:                         "canKick",
	CanKnock:                        "canKnock",
	CanAcceptKnock:                  "canAcceptKnock",
	CanChangeUserRole:               "canChangeUserRole",
	CanChangeOwnRole:                "canChangeOwnRole",
	CanCreateSubgroup:               "canCreateSubgroup",
	CanSendMessage:                  "canSendMessage",
	CanReceiveMessage:               "canReceiveMessage",
	CanCopyMessage:                  "canCopyMessage",
	CanReportAbuse:                  "canReportAbuse",
	CanReplyToMessage:               "canReplyToMessage",
	CanReactToMessage:               "canReactToMessage",
	CanEditReaction:                 "canEditReaction",
	CanDeleteOwnReaction:            "canDeleteOwnReaction",
	CanDeleteOtherReaction:          "canDeleteOtherReaction",
	CanEditOwnMessage:               "canEditOwnMessage",
	CanDeleteOwnMessage:             "canDeleteOwnMessage",
	CanDeleteOtherMessage:           "canDeleteOtherMessage",
	CanStartTopic:                   "canStartTopic",
	CanReplyInTopic:                 "canReplyInTopic",
	CanEditOwnTopic:                 "canEditOwnTopic",
	CanEditOtherTopic:               "canEditOtherTopic",
	CanSendDirectMessage:            "canSendDirectMessage",
	CanTargetMessage:                "canTargetMessage",
	CanUploadImage:                  "canUploadImage",
	CanUploadAudio:                  "canUploadAudio",
	CanUploadVideo:                  "canUploadVideo",
	CanUploadAttachment:             "canUploadAttachment",
	CanDownloadImage:                "canDownloadImage",
	CanDownloadAudio:                "canDownloadAudio",
	CanDownloadVideo:                "canDownloadVideo",
	CanDownloadAttachment:           "canDownloadAttachment",
	CanSendLink:                     "canSendLink",
	CanSendLinkPreview:              "canSendLinkPreview",
	CanFollowLink:                   "canFollowLink",
	CanCopyLink:                     "canCopyLink",
	CanChangeRoomName:               "canChangeRoomName",
	CanChangeRoomDescription:        "canChangeRoomDescription",
	CanChangeRoomAvatar:             "canChangeRoomAvatar",
	CanChangeRoomSubject:            "canChangeRoomSubject",
	CanChangeRoomMood:               "canChangeRoomMood",
	CanChangeOwnName:                "canChangeOwnName",
	CanChangeOwnPresence:            "canChangeOwnPresence",
	CanChangeOwnMood:                "canChangeOwnMood",
	CanChangeOwnAvatar:              "canChangeOwnAvatar",
	CanStartCall:                    "canStartCall",
	CanJoinCall:                     "canJoinCall",
	CanSendAudio:                    "canSendAudio",
	CanReceiveAudio:                 "canReceiveAudio",
	CanSendVideo:                    "canSendVideo",
	CanReceiveVideo:                 "canReceiveVideo",
	CanShareScreen:                  "canShareScreen",
	CanViewSharedScreen:             "canViewSharedScreen",
	CanCreateRoom:                   "canCreateRoom",
	CanDestroyRoom:                  "canDestroyRoom",
	CanChangeRoomMembershipStyle:    "canChangeRoomMembershipStyle",
	CanChangeRoleDefinitions:        "canChangeRoleDefinitions",
	CanChangePreauthorizedUserList:  "canChangePreauthorizedUserList",
	CanChangeOtherPolicyAttribute:   "canChangeOtherPolicyAttribute",
	CanChangeMlsOperationalPolicies: "canChangeMlsOperationalPolicies",
	CanSendMLSReinitProposal:        "canSendMLSReinitProposal",
	CanSendMLSUpdateProposal:        "canSendMLSUpdateProposal",
	CanSendMLSPSKProposal:           "canSendMLSPSKProposal",
	CanSendMLSExternalProposal:      "canSendMLSExternalProposal",
	CanSendMLSExternalCommit:        "canSendMLSExternalCommit",
}

// String returns the registered name, or the number in hexadecimal.
func (t CapabilityType) String() string {
	if s, ok := capabilityNames[t]; ok {
		return s
	}
	return fmt.Sprintf("0x%04x", uint16(t))
}
