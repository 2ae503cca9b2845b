package policy

import (
	"fmt"
	"slices"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// A Preset names a ready-made room policy, so that whoever creates a room need not know of roles.
type Preset string

// The presets. The first four are those of room policy Appendix A.
const (
	// Cooperative is for friends, families and small groups of peers: everybody may add and remove (A.1).
	Cooperative Preset = "cooperative"
	// Administered leaves membership to administrators; others come in by join code or preauthorization (A.2).
	Administered Preset = "administered"
	// Moderated has guests who read and react, attendees, speakers and moderators (A.3).
	Moderated Preset = "moderated"
	// MultiOrganization has users and administrators of their own for each organization (A.4).
	MultiOrganization Preset = "multi-organization"
	// Direct is a conversation whose participants are fixed (room policy §5).
	Direct Preset = "direct"
	// Channel is a public channel: anybody may join and read, publishers write.
	Channel Preset = "channel"
)

// Presets returns every preset.
func Presets() []Preset {
	return []Preset{Cooperative, Administered, Moderated, MultiOrganization, Direct, Channel}
}

// Does says in a sentence what a preset is for; it is empty for a name that is no preset.
func (p Preset) Does() string {
	switch p {
	case Cooperative:
		return "Friends or a small team: everybody may add and remove people and write; admins may ban."
	case Administered:
		return "Admins decide who is in; everybody writes. People can also join with a join code or because of a claim in their credential."
	case Moderated:
		return "Guests read and react, attendees reply in topics, speakers write, moderators decide who is what."
	case MultiOrganization:
		return "Each organization has its own users and its own admins, who can't touch those of the others."
	case Direct:
		return "A conversation among people who are fixed when it is created."
	case Channel:
		return "A public channel: anybody may join and read, publishers write."
	}
	return ""
}

// Params is what a preset is filled in with.
type Params struct {
	// Hub hosts the room. It is put on the participant list as policy enforcer (Decision 97).
	Hub mimi.ProviderDomain
	// Creator gets the preset's highest role.
	Creator mimi.UserURI
	// Others are the other participants of a Direct room. The other presets start with the creator alone.
	Others []mimi.UserURI
	// Organizations are the domains of a MultiOrganization room, the first of which is the host organization, whose users
	// may be preauthorized.
	Organizations []mimi.ProviderDomain
}

// Build returns the policy components and the participant list of a new room. It gives an error for an unknown preset, and
// for params that do not suit it.
func Build(p Preset, with Params) (*Components, []mimi.UserRolePair, error) {
	if with.Hub == "" || with.Creator == "" {
		return nil, nil, fmt.Errorf("policy: preset %s: hub and creator are needed", p)
	}
	if len(with.Others) > 0 && p != Direct {
		return nil, nil, fmt.Errorf("policy: preset %s starts with its creator alone", p)
	}
	c := &Components{
		Base:        &mimi.BaseRoomPolicy{MultiDevice: true},
		Operational: operational(),
		Status:      &mimi.StatusNotificationPolicy{},
		Assets:      assets(),
		Expiration:  &mimi.MessageExpiration{ExpiringMessages: mimi.Optional, MaxExpirationDuration: 366 * 24 * 3600},
	}
	var creator, enforcer RoleIndex
	switch p {
	case Cooperative:
		c.Roles, creator, enforcer = cooperative(), 4, 5
	case Administered:
		c.Roles, creator, enforcer = administered(), 4, 5
		c.JoinLinkPolicy, c.JoinLinks = &mimi.JoinLinkPolicy{Multiuser: true, Expiration: 7 * 24 * 3600}, &mimi.JoinLinksData{}
	case Moderated:
		c.Roles, creator, enforcer = moderated(), 6, 7
		c.JoinLinkPolicy, c.JoinLinks = &mimi.JoinLinkPolicy{Multiuser: true, Expiration: 7 * 24 * 3600}, &mimi.JoinLinksData{}
	case MultiOrganization:
		if len(with.Organizations) == 0 {
			return nil, nil, fmt.Errorf("policy: preset %s needs its organizations", p)
		}
		c.Roles, creator, enforcer = organizations(with.Organizations)
	case Direct:
		c.Roles, creator, enforcer = direct(), 2, 3
		c.Base.FixedMembership = true
	case Channel:
		c.Roles, creator, enforcer = channel(), 4, 5
		c.Base.PersistentRoom, c.Base.Discoverable = true, true
		c.Status = &mimi.StatusNotificationPolicy{DeliveryNotifications: mimi.Forbidden, ReadReceipts: mimi.Forbidden}
	default:
		return nil, nil, fmt.Errorf("policy: there is no preset %q", string(p))
	}
	list := []mimi.UserRolePair{{User: with.Creator.Identifier(), RoleIndex: creator}}
	for _, u := range with.Others {
		list = append(list, mimi.UserRolePair{User: u.Identifier(), RoleIndex: creator})
	}
	list = append(list, mimi.UserRolePair{User: with.Hub.URI().Identifier(), RoleIndex: enforcer})
	c.Base.PolicyComponentIDs = c.IDs()
	if err := CheckComponents(c, with.Hub); err != nil {
		return nil, nil, err
	}
	return c, list, nil
}

// IDs returns the components that are there, ascending, but for base_room_policy itself, which lists them (room policy §5).
func (c *Components) IDs() []ComponentID {
	var ids []ComponentID
	for _, x := range []struct {
		id ComponentID
		is bool
	}{
		{mimi.ComponentMLSOperationalPolicy, c.Operational != nil},
		{mimi.ComponentRolesList, c.Roles != nil},
		{mimi.ComponentPreauthList, c.Preauth != nil},
		{mimi.ComponentStatusNotificationPolicy, c.Status != nil},
		{mimi.ComponentJoinLinkPolicy, c.JoinLinkPolicy != nil},
		{mimi.ComponentJoinLinks, c.JoinLinks != nil},
		{mimi.ComponentLinkPreviewPolicy, c.LinkPreview != nil},
		{mimi.ComponentAssetPolicy, c.Assets != nil},
		{mimi.ComponentLoggingPolicy, c.Logging != nil},
		{mimi.ComponentChatHistoryPolicy, c.History != nil},
		{mimi.ComponentBotPolicy, c.Bots != nil},
		{mimi.ComponentMessageExpirationPolicy, c.Expiration != nil},
	} {
		if x.is {
			ids = append(ids, x.id)
		}
	}
	return ids
}

// operational is what every preset says of MLS: messages of the last epochs are still taken, since a commit of somebody
// else may always come in between.
func operational() *mimi.OperationalParameters {
	const day = 24 * 3600
	return &mimi.OperationalParameters{
		HandshakeFormats:        []mls.WireFormat{mls.WireFormatPublicMessage},
		ExternalProposalAllowed: true,
		ExternalCommitAllowed:   true,
		PendingProposalPolicy: mimi.PendingProposalPolicy{PendingProposalStrategy: mimi.PendingRandomDelay,
			MinimumDelayMillis: 0, MaximumDelayMillis: 5000},
		LeafNodeUpdateTime:         mimi.MinDefaultMaxTime{MinimumTime: 3600, DefaultTime: 7 * day, MaximumTime: 90 * day},
		AppMessagePolicy:           mimi.AppMessagePolicy{EpochTolerance: 3, PadToSize: 64, MaxGenerationsSkipahead: 1000},
		MaxKPLifetime:              90 * day,
		MaxCredentialLifetime:      400 * day,
		ResumptionPSKLifetime:      7 * day,
		SenderNonceKeypairLifetime: mimi.MinDefaultMaxTime{MinimumTime: 0, DefaultTime: day, MaximumTime: 7 * day},
		MaxKeypairs:                1000,
		BufferIncomingMessageTime:  mimi.MinDefaultMaxTime{MinimumTime: 0, DefaultTime: 60, MaximumTime: 600},
		MaxBufferedMessages:        1000,
	}
}

func assets() *mimi.AssetPolicy {
	return &mimi.AssetPolicy{
		DownloadPrivacy: mimi.DownloadPrivacy{
			AllowedDownloadTypes: []mimi.DownloadPrivacyType{mimi.DownloadDirect, mimi.DownloadHubProxy, mimi.DownloadOHTTP},
			DefaultDownloadType:  mimi.DownloadHubProxy,
		},
		MaxImage: mimi.NoAssetLimit, MaxAudio: mimi.NoAssetLimit, MaxVideo: mimi.NoAssetLimit, MaxAttachment: mimi.NoAssetLimit,
	}
}

// caps joins lists of capabilities.
func caps(lists ...[]Capability) []Capability { return slices.Concat(lists...) }

func ptr(n uint32) *uint32 { return &n }

// moves writes an authorized_role_changes as the draft does: [(0,[2]), (2,[0])].
func moves(m ...mimi.SingleSourceRoleChangeTargets) []mimi.SingleSourceRoleChangeTargets { return m }

func from(f RoleIndex, to ...RoleIndex) mimi.SingleSourceRoleChangeTargets {
	return mimi.SingleSourceRoleChangeTargets{FromRoleIndex: f, TargetRoleIndexes: to}
}

// stranger is role 0 of most presets.
func stranger(can []Capability, changes ...mimi.SingleSourceRoleChangeTargets) mimi.Role {
	return mimi.Role{RoleIndex: NoRole, RoleName: "no_role", RoleDescription: "Whoever is not a participant", RoleCapabilities: can,
		MaximumActiveParticipantsConstraint: ptr(0), AuthorizedRoleChanges: changes}
}

func bannedRole() mimi.Role {
	return mimi.Role{RoleIndex: BannedRole, RoleName: bannedName, RoleDescription: "May not come back",
		MaximumActiveParticipantsConstraint: ptr(0)}
}

// enforcerRole is the role of the hub: it may take people out, whom it may have to, and let nobody in. "Can remove a
// banned user from the list (cleanup) but not restore them." Beyond the draft's list it has canKick, without which the hub
// could not propose to remove a lost client, as MIMI protocol §5.5 has it do.
func enforcerRole(index RoleIndex, over ...RoleIndex) mimi.Role {
	changes := moves(from(NoRole, BannedRole), from(BannedRole, NoRole))
	for _, r := range over {
		changes = append(changes, from(r, NoRole, BannedRole))
	}
	return mimi.Role{RoleIndex: index, RoleName: "policy_enforcer", RoleDescription: "The hub, when it enforces policy",
		RoleCapabilities: []Capability{
			mimi.CanRemoveParticipant, mimi.CanKick, mimi.CanChangeUserRole, mimi.CanBan, mimi.CanUnBan, mimi.CanChangeRoleDefinitions,
			mimi.CanChangePreauthorizedUserList, mimi.CanChangeMlsOperationalPolicies, mimi.CanDestroyRoom,
			mimi.CanSendMLSReinitProposal,
		},
		MinimumParticipantsConstraint: 1, MaximumParticipantsConstraint: ptr(2),
		MaximumActiveParticipantsConstraint: ptr(0), AuthorizedRoleChanges: changes}
}

// Groups of capabilities that several presets share.
var (
	download      = []Capability{mimi.CanDownloadImage, mimi.CanDownloadVideo, mimi.CanDownloadAudio, mimi.CanDownloadAttachment}
	upload        = []Capability{mimi.CanUploadImage, mimi.CanUploadVideo, mimi.CanUploadAudio, mimi.CanUploadAttachment}
	links         = []Capability{mimi.CanSendLink, mimi.CanSendLinkPreview, mimi.CanFollowLink, mimi.CanCopyLink}
	ownProfile    = []Capability{mimi.CanChangeOwnName, mimi.CanChangeOwnPresence, mimi.CanChangeOwnMood, mimi.CanChangeOwnAvatar}
	ownMembership = []Capability{mimi.CanAddOwnClient, mimi.CanRemoveOwnClient, mimi.CanRemoveSelf}
)

// cooperative is room policy A.1. Beyond the draft's list, super_admin also has canChangeRoleDefinitions,
// canChangeOtherPolicyAttribute and canSendMLSReinitProposal: without them only the hub could change anything later, and
// nobody could found the room anew.
func cooperative() *mimi.RoleData {
	user := caps([]Capability{mimi.CanAddParticipant, mimi.CanRemoveParticipant}, ownMembership, []Capability{
		mimi.CanSendMessage, mimi.CanReceiveMessage, mimi.CanCopyMessage, mimi.CanReportAbuse, mimi.CanReplyToMessage,
		mimi.CanReactToMessage, mimi.CanDeleteOwnReaction, mimi.CanEditOwnMessage, mimi.CanDeleteOwnMessage, mimi.CanStartTopic,
		mimi.CanReplyInTopic, mimi.CanEditOwnTopic,
	}, upload, download, links, []Capability{
		mimi.CanChangeRoomName, mimi.CanChangeRoomAvatar, mimi.CanChangeRoomSubject, mimi.CanChangeRoomMood,
	}, ownProfile)
	admin := caps(user, []Capability{
		mimi.CanBan, mimi.CanUnBan, mimi.CanKick, mimi.CanChangeUserRole, mimi.CanDeleteOtherMessage, mimi.CanEditOtherTopic,
		mimi.CanChangeRoomDescription,
	})
	super := caps(admin, []Capability{
		mimi.CanChangeRoomMembershipStyle, mimi.CanChangePreauthorizedUserList, mimi.CanDestroyRoom,
		mimi.CanChangeRoleDefinitions, mimi.CanChangeOtherPolicyAttribute, mimi.CanSendMLSReinitProposal,
	})
	return &mimi.RoleData{Roles: []mimi.Role{
		stranger(nil),
		bannedRole(),
		{RoleIndex: 2, RoleName: "ordinary_user", RoleDescription: "Writes, adds and removes", RoleCapabilities: user,
			AuthorizedRoleChanges: moves(from(0, 2), from(2, 0))},
		{RoleIndex: 3, RoleName: "group_admin", RoleDescription: "Also bans and changes roles", RoleCapabilities: admin,
			MinimumParticipantsConstraint: 1,
			AuthorizedRoleChanges:         moves(from(0, 1, 2, 3), from(1, 0, 2, 3), from(2, 0, 1, 3), from(3, 0, 1, 2))},
		{RoleIndex: 4, RoleName: "super_admin", RoleDescription: "May change everything", RoleCapabilities: super,
			AuthorizedRoleChanges: moves(from(0, 1, 2, 3, 4), from(1, 0, 2, 3, 4), from(2, 0, 1, 3, 4), from(3, 0, 1, 2, 4), from(4, 0, 1, 2, 3))},
		enforcerRole(5, 2, 3, 4),
	}}
}

// administered is room policy A.2, with canChangeOtherPolicyAttribute and canChangeMlsOperationalPolicies for super_admin.
func administered() *mimi.RoleData {
	user := caps(ownMembership, []Capability{
		mimi.CanJoinIfPreauthorized, mimi.CanChangeOwnRole, mimi.CanSendMessage, mimi.CanReceiveMessage, mimi.CanCopyMessage,
		mimi.CanReportAbuse, mimi.CanReactToMessage, mimi.CanDeleteOwnReaction, mimi.CanEditOwnMessage, mimi.CanDeleteOwnMessage,
		mimi.CanStartTopic, mimi.CanReplyInTopic,
	}, upload, download, links, ownProfile)
	admin := caps(user, administration, []Capability{mimi.CanChangeRoomDescription}, metadata)
	super := caps(admin, disruptive)
	return &mimi.RoleData{Roles: []mimi.Role{
		stranger([]Capability{mimi.CanUseJoinCode}, from(0, 2)),
		bannedRole(),
		{RoleIndex: 2, RoleName: "ordinary_user", RoleDescription: "Writes", RoleCapabilities: user,
			AuthorizedRoleChanges: moves(from(0, 2), from(2, 0))},
		{RoleIndex: 3, RoleName: "group_admin", RoleDescription: "Decides who is in", RoleCapabilities: admin,
			MinimumParticipantsConstraint: 1,
			AuthorizedRoleChanges:         moves(from(0, 1, 2, 3), from(1, 0, 2, 3), from(2, 0, 1, 3), from(3, 0, 1, 2))},
		{RoleIndex: 4, RoleName: "super_admin", RoleDescription: "May change everything", RoleCapabilities: super,
			AuthorizedRoleChanges: moves(from(0, 1, 2, 3, 4), from(1, 0, 2, 3, 4), from(2, 0, 1, 3, 4), from(3, 0, 1, 2, 4), from(4, 0, 1, 2, 3))},
		enforcerRole(5, 2, 3, 4),
	}}
}

var (
	administration = []Capability{
		mimi.CanAddParticipant, mimi.CanRemoveParticipant, mimi.CanBan, mimi.CanUnBan, mimi.CanKick, mimi.CanChangeUserRole,
		mimi.CanCreateJoinCode, mimi.CanDeleteJoinCode, mimi.CanDeleteOtherReaction, mimi.CanDeleteOtherMessage,
		mimi.CanEditOwnTopic, mimi.CanEditOtherTopic,
	}
	metadata   = []Capability{mimi.CanChangeRoomName, mimi.CanChangeRoomAvatar, mimi.CanChangeRoomSubject, mimi.CanChangeRoomMood}
	disruptive = []Capability{
		mimi.CanChangeRoomMembershipStyle, mimi.CanChangeRoleDefinitions, mimi.CanChangePreauthorizedUserList,
		mimi.CanDestroyRoom, mimi.CanSendMLSReinitProposal,
		// reserved in the draft, in use here: Decision 94
		mimi.CanChangeOtherPolicyAttribute, mimi.CanChangeMlsOperationalPolicies,
	}
)

// moderated is room policy A.3. Its "include all the capabilities authorized for a speaker" (of speaker itself) and "for an
// ordinary_user" (of which there is none) are read as attendee and as speaker.
func moderated() *mimi.RoleData {
	guest := []Capability{
		mimi.CanRemoveSelf, mimi.CanReceiveMessage, mimi.CanCopyMessage, mimi.CanReactToMessage, mimi.CanDeleteOwnReaction,
		mimi.CanFollowLink, mimi.CanCopyLink, mimi.CanDownloadImage, mimi.CanDownloadVideo, mimi.CanDownloadAudio,
	}
	attendee := caps(guest, []Capability{
		mimi.CanAddOwnClient, mimi.CanJoinIfPreauthorized, mimi.CanRemoveOwnClient, mimi.CanChangeOwnRole, mimi.CanReportAbuse,
		mimi.CanReplyInTopic, mimi.CanDownloadAttachment, mimi.CanChangeOwnName, mimi.CanChangeOwnPresence, mimi.CanChangeOwnAvatar,
	})
	speaker := caps(attendee, []Capability{
		mimi.CanSendMessage, mimi.CanEditOwnMessage, mimi.CanDeleteOwnMessage, mimi.CanStartTopic, mimi.CanSendLink, mimi.CanSendLinkPreview,
	}, upload)
	moderator := caps(speaker, administration, metadata)
	super := caps(moderator, []Capability{mimi.CanChangeRoomDescription}, disruptive)
	open := stranger([]Capability{mimi.CanUseJoinCode}, from(0, 2, 3))
	open.MaximumActiveParticipantsConstraint = nil
	return &mimi.RoleData{Roles: []mimi.Role{
		open,
		bannedRole(),
		{RoleIndex: 2, RoleName: "guest", RoleDescription: "Reads and reacts", RoleCapabilities: guest,
			AuthorizedRoleChanges: moves(from(0, 2), from(2, 0))},
		{RoleIndex: 3, RoleName: "attendee", RoleDescription: "Also replies in topics", RoleCapabilities: attendee,
			AuthorizedRoleChanges: moves(from(0, 3), from(3, 0))},
		{RoleIndex: 4, RoleName: "speaker", RoleDescription: "Also writes", RoleCapabilities: speaker,
			AuthorizedRoleChanges: moves(from(0, 4), from(4, 0))},
		{RoleIndex: 5, RoleName: "moderator", RoleDescription: "Decides who is what", RoleCapabilities: moderator,
			MinimumParticipantsConstraint: 1,
			AuthorizedRoleChanges: moves(from(0, 1, 2, 3, 4, 5), from(1, 0, 2, 3, 4, 5), from(2, 0, 1, 3, 4, 5), from(3, 0, 1, 2, 4, 5),
				from(4, 0, 1, 2, 3, 5), from(5, 0, 1, 2, 3, 4))},
		{RoleIndex: 6, RoleName: "super_admin", RoleDescription: "May change everything", RoleCapabilities: super,
			AuthorizedRoleChanges: moves(from(0, 1, 2, 3, 4, 5, 6), from(1, 0, 2, 3, 4, 5, 6), from(2, 0, 1, 3, 4, 5, 6),
				from(3, 0, 1, 2, 4, 5, 6), from(4, 0, 1, 2, 3, 5, 6), from(5, 0, 1, 2, 3, 4, 6), from(6, 0, 1, 2, 3, 4, 5))},
		enforcerRole(7, 2, 3, 4, 5, 6),
	}}
}

// organizations is room policy A.4 for any number of organizations: the users' roles are 2 to n+1, the administrators'
// n+2 to 2n+1, then super_admin and policy_enforcer. With three organizations the numbers are the draft's. The hub may also act
// on the host organization's users, whom the draft leaves out of policy_enforcer's list.
func organizations(orgs []mimi.ProviderDomain) (data *mimi.RoleData, creator, enforcer RoleIndex) {
	n := RoleIndex(len(orgs))
	super, enforcer := 2+2*n, 3+2*n
	user := caps([]Capability{
		mimi.CanRemoveSelf, mimi.CanAddOwnClient, mimi.CanRemoveOwnClient, mimi.CanSendMessage, mimi.CanReceiveMessage,
		mimi.CanCopyMessage, mimi.CanReportAbuse, mimi.CanReplyInTopic, mimi.CanReactToMessage, mimi.CanDeleteOwnReaction,
		mimi.CanEditOwnMessage,
	}, links, download, []Capability{mimi.CanChangeOwnName, mimi.CanChangeOwnPresence, mimi.CanChangeOwnAvatar})
	admin := caps(user, []Capability{mimi.CanDeleteOwnMessage, mimi.CanStartTopic}, upload, []Capability{
		mimi.CanAddParticipant, mimi.CanRemoveParticipant, mimi.CanBan, mimi.CanKick, mimi.CanChangeUserRole,
	})
	host := []Capability{mimi.CanChangeOwnRole, mimi.CanJoinIfPreauthorized}
	data = &mimi.RoleData{Roles: []mimi.Role{stranger(nil), bannedRole()}}
	var over []RoleIndex
	for i, org := range orgs {
		r := mimi.Role{RoleIndex: 2 + RoleIndex(i), RoleName: string(org) + "_user", RoleDescription: "Somebody of " + string(org),
			RoleCapabilities: user}
		if i == 0 {
			r.RoleCapabilities = caps(user, host)
		}
		r.AuthorizedRoleChanges = moves(from(0, r.RoleIndex), from(r.RoleIndex, 0))
		data.Roles = append(data.Roles, r)
	}
	all := []RoleIndex{1}
	for i := range 2 * n {
		all = append(all, 2+i)
	}
	everything := moves(from(0, append(slices.Clone(all), super)...))
	everything = append(everything, from(1, append([]RoleIndex{0}, append(slices.Clone(all[1:]), super)...)...))
	for i, org := range orgs {
		u, a := 2+RoleIndex(i), 2+n+RoleIndex(i)
		r := mimi.Role{RoleIndex: a, RoleName: string(org) + "_admin", RoleDescription: "Decides who of " + string(org) + " is in",
			RoleCapabilities: admin}
		if i == 0 {
			r.RoleCapabilities = caps(admin, host)
		} else {
			r.MinimumParticipantsConstraint, r.MaximumParticipantsConstraint = 1, ptr(3)
			r.MinimumActiveParticipantsConstraint = 1
		}
		r.AuthorizedRoleChanges = moves(from(0, u, a), from(u, 0, 1, a), from(a, 0, 1, u))
		data.Roles = append(data.Roles, r)
		if i == 0 {
			everything = append(everything, from(u, 0, 1, a, super), from(a, 0, 1, u, super), from(super, 0, 1, u, a))
		} else {
			everything = append(everything, from(u, 0, 1, a), from(a, 0, 1, u))
		}
		if i > 0 {
			over = append(over, u)
		}
	}
	for i := range orgs {
		over = append(over, 2+n+RoleIndex(i))
	}
	over = append(over, 2, super)
	data.Roles = append(data.Roles, mimi.Role{RoleIndex: super, RoleName: "super_admin", RoleDescription: "May change everything",
		RoleCapabilities: caps(admin, host, []Capability{
			mimi.CanUnBan, mimi.CanDeleteOtherReaction, mimi.CanDeleteOtherMessage, mimi.CanEditOwnTopic, mimi.CanEditOtherTopic,
			mimi.CanChangeRoomDescription,
		}, metadata, disruptive),
		MinimumParticipantsConstraint: 1, MinimumActiveParticipantsConstraint: 1, AuthorizedRoleChanges: everything})
	data.Roles = append(data.Roles, enforcerRole(enforcer, over...))
	return data, super, enforcer
}

// direct is a room for a fixed set of people (room policy §5): they write, bring and take away their own clients, and can
// change what the room is called, and each may found it anew when it is broken. Nobody can be added; no role may even hold
// canAddParticipant.
func direct() *mimi.RoleData {
	user := caps([]Capability{
		mimi.CanAddOwnClient, mimi.CanRemoveOwnClient, mimi.CanSendMessage, mimi.CanReceiveMessage, mimi.CanCopyMessage,
		mimi.CanReportAbuse, mimi.CanReplyToMessage, mimi.CanReactToMessage, mimi.CanEditReaction, mimi.CanDeleteOwnReaction,
		mimi.CanEditOwnMessage, mimi.CanDeleteOwnMessage, mimi.CanStartTopic, mimi.CanReplyInTopic, mimi.CanEditOwnTopic,
	}, upload, download, links, metadata, []Capability{mimi.CanChangeRoomDescription, mimi.CanSendMLSReinitProposal}, ownProfile)
	return &mimi.RoleData{Roles: []mimi.Role{
		stranger(nil),
		bannedRole(),
		{RoleIndex: 2, RoleName: "participant", RoleDescription: "One of the people of this conversation", RoleCapabilities: user},
		enforcerRole(3, 2),
	}}
}

// channel is a public channel: role 0 has canOpenJoin for subscribers.
func channel() *mimi.RoleData {
	subscriber := caps(ownMembership, []Capability{
		mimi.CanReceiveMessage, mimi.CanCopyMessage, mimi.CanReportAbuse, mimi.CanReactToMessage, mimi.CanDeleteOwnReaction,
		mimi.CanFollowLink, mimi.CanCopyLink,
	}, download)
	publisher := caps(subscriber, []Capability{
		mimi.CanSendMessage, mimi.CanReplyToMessage, mimi.CanEditReaction, mimi.CanEditOwnMessage, mimi.CanDeleteOwnMessage,
		mimi.CanStartTopic, mimi.CanReplyInTopic, mimi.CanEditOwnTopic, mimi.CanSendLink, mimi.CanSendLinkPreview,
	}, upload)
	owner := caps(publisher, administration, metadata, []Capability{mimi.CanChangeRoomDescription}, disruptive)
	return &mimi.RoleData{Roles: []mimi.Role{
		stranger([]Capability{mimi.CanOpenJoin}, from(0, 2)),
		bannedRole(),
		{RoleIndex: 2, RoleName: "subscriber", RoleDescription: "Reads and reacts", RoleCapabilities: subscriber,
			AuthorizedRoleChanges: moves(from(2, 0))},
		{RoleIndex: 3, RoleName: "publisher", RoleDescription: "Also writes", RoleCapabilities: publisher,
			AuthorizedRoleChanges: moves(from(3, 0))},
		{RoleIndex: 4, RoleName: "owner", RoleDescription: "May change everything", RoleCapabilities: owner,
			MinimumParticipantsConstraint: 1,
			AuthorizedRoleChanges:         moves(from(0, 1, 2, 3, 4), from(1, 0, 2, 3, 4), from(2, 0, 1, 3, 4), from(3, 0, 1, 2, 4), from(4, 0, 1, 2, 3))},
		enforcerRole(5, 2, 3, 4),
	}}
}
