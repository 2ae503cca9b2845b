package policy

import (
	"fmt"
	"slices"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// ComponentID numbers a component of the GroupContext (MLS extensions §4.6).
type ComponentID = mls.ComponentID

// componentName returns the drafts' name of a component.
func componentName(id ComponentID) string {
	switch id {
	case mls.ComponentAppComponents:
		return "app_components"
	case mls.ComponentSafeAAD:
		return "safe_aad"
	case mls.ComponentContentMediaTypes:
		return "content_media_types"
	}
	return mimi.ComponentName(id)
}

// componentCapability says which capability lets one replace a component. What is not here nobody may change; the
// participant list, the metadata and the join links are judged by what changes in them. Decision 94
var componentCapability = map[ComponentID]Capability{
	mls.ComponentAppComponents:             mimi.CanChangeMlsOperationalPolicies,
	mls.ComponentSafeAAD:                   mimi.CanChangeMlsOperationalPolicies,
	mls.ComponentContentMediaTypes:         mimi.CanChangeMlsOperationalPolicies,
	mimi.ComponentMLSOperationalPolicy:     mimi.CanChangeMlsOperationalPolicies,
	mimi.ComponentRolesList:                mimi.CanChangeRoleDefinitions,
	mimi.ComponentPreauthList:              mimi.CanChangePreauthorizedUserList,
	mimi.ComponentBaseRoomPolicy:           mimi.CanChangeRoomMembershipStyle,
	mimi.ComponentStatusNotificationPolicy: mimi.CanChangeOtherPolicyAttribute,
	mimi.ComponentJoinLinkPolicy:           mimi.CanChangeOtherPolicyAttribute,
	mimi.ComponentLinkPreviewPolicy:        mimi.CanChangeOtherPolicyAttribute,
	mimi.ComponentAssetPolicy:              mimi.CanChangeOtherPolicyAttribute,
	mimi.ComponentLoggingPolicy:            mimi.CanChangeOtherPolicyAttribute,
	mimi.ComponentChatHistoryPolicy:        mimi.CanChangeOtherPolicyAttribute,
	mimi.ComponentBotPolicy:                mimi.CanChangeOtherPolicyAttribute,
	mimi.ComponentMessageExpirationPolicy:  mimi.CanChangeOtherPolicyAttribute,
}

// ComponentCapability returns the capability that lets its holder replace the data of a component; ok is false for
// components that nobody may change this way. Decision 94
func ComponentCapability(id ComponentID) (c Capability, ok bool) {
	c, ok = componentCapability[id]
	return c, ok
}

// Components are the policy components of a room, decoded. Roles and Base are always there; nil stands for a component
// that the room does not have.
type Components struct {
	Roles          *mimi.RoleData
	Base           *mimi.BaseRoomPolicy
	Preauth        *mimi.PreAuthData
	Operational    *mimi.OperationalParameters
	Status         *mimi.StatusNotificationPolicy
	JoinLinkPolicy *mimi.JoinLinkPolicy
	JoinLinks      *mimi.JoinLinksData
	LinkPreview    *mimi.LinkPreviewPolicy
	Assets         *mimi.AssetPolicy
	Logging        *mimi.LoggingPolicy
	History        *mimi.HistoryPolicy
	Bots           *mimi.BotPolicy
	Expiration     *mimi.MessageExpiration
}

// CheckComponents says whether a room's policy components, as they stand after a Commit or at its creation, are valid by
// themselves and with each other. The error is a *PolicyError. hub is the provider that hosts the room. Decision 102
func CheckComponents(c *Components, hub mimi.ProviderDomain) error {
	if c.Roles == nil {
		return &PolicyError{mimi.ComponentRolesList, "the room has none"}
	}
	if c.Base == nil {
		return &PolicyError{mimi.ComponentBaseRoomPolicy, "the room has none"}
	}
	roles, err := NewRoles(c.Roles)
	if err != nil {
		return err
	}
	if err := c.Base.Validate(hub); err != nil {
		return &PolicyError{mimi.ComponentBaseRoomPolicy, err.Error()}
	}
	if c.Base.FixedMembership {
		// room policy §5: none of its non-zero, non-banned roles can contain canAddParticipant.
		for i := range roles.list {
			r := &roles.list[i]
			if r.index != NoRole && !roles.Banned(r.index) && r.has(mimi.CanAddParticipant) {
				return &PolicyError{mimi.ComponentRolesList, fmt.Sprintf("%s has canAddParticipant in a room with fixed_membership", r.ref())}
			}
		}
	}
	if c.Preauth != nil {
		for i := range c.Preauth.PreauthorizedEntries {
			role := c.Preauth.PreauthorizedEntries[i].TargetRole.RoleIndex
			if role == NoRole || !roles.Defined(role) {
				return &PolicyError{mimi.ComponentPreauthList, fmt.Sprintf("entry %d gives role %d, which the room does not define", i, role)}
			}
		}
	}
	if h := c.History; h != nil {
		// room policy §6.6
		for _, i := range h.RolesThatCanShare {
			if i == NoRole || i == BannedRole || !roles.MayBeActive(i) {
				return &PolicyError{mimi.ComponentChatHistoryPolicy, fmt.Sprintf("%s can't share history", roles.ref(i))}
			}
		}
	}
	if c.Bots != nil {
		// room policy §6.7
		for i := range c.Bots.AllowedBots {
			b := &c.Bots.AllowedBots[i]
			if b.LocalClientBot && b.BotRoleIndex != NoRole {
				return &PolicyError{mimi.ComponentBotPolicy, fmt.Sprintf("bot %q is a local client bot, which has role 0, not %d", b.Name, b.BotRoleIndex)}
			}
			if b.BotRoleIndex != NoRole && !roles.Defined(b.BotRoleIndex) {
				return &PolicyError{mimi.ComponentBotPolicy, fmt.Sprintf("bot %q has role %d, which the room does not define", b.Name, b.BotRoleIndex)}
			}
		}
	}
	if l := c.Logging; l != nil && l.Logging == mimi.Required && len(l.LoggingClients) == 0 {
		return &PolicyError{mimi.ComponentLoggingPolicy, "logging is required, but there is no logging client"} // room policy §6.5
	}
	if c.LinkPreview != nil {
		if err := c.LinkPreview.Validate(); err != nil {
			return &PolicyError{mimi.ComponentLinkPreviewPolicy, err.Error()}
		}
	}
	if e := c.Expiration; e != nil && e.ExpiringMessages != mimi.Forbidden {
		d := e.DefaultExpirationDuration
		if e.MinExpirationDuration > e.MaxExpirationDuration || d != nil && (*d < e.MinExpirationDuration || *d > e.MaxExpirationDuration) {
			return &PolicyError{mimi.ComponentMessageExpirationPolicy, "minimum, default and maximum durations are not in order"} // room policy §6.8
		}
	}
	return checkJoinLinks(c)
}

// checkJoinLinks is room policy §6.2: with on_request at most one link is persisted.
func checkJoinLinks(c *Components) error {
	if c.JoinLinks == nil {
		return nil
	}
	links := c.JoinLinks.Links
	if c.JoinLinkPolicy != nil && c.JoinLinkPolicy.OnRequest && len(links) > 1 {
		return &PolicyError{mimi.ComponentJoinLinks, fmt.Sprintf("%d links where on_request allows one", len(links))}
	}
	for i, l := range links {
		if slices.ContainsFunc(links[:i], func(o mimi.JoinLink) bool { return string(o) == string(l) }) {
			return &PolicyError{mimi.ComponentJoinLinks, "the same link twice"}
		}
	}
	return nil
}
