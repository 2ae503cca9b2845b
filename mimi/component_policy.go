package mimi

import (
	"errors"
	"fmt"

	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// An Optionality says whether something is left to the client, must be done, or
// must not (room policy §6.1). The draft's "mandatory" is Required. Decision 86
type Optionality uint8

// The values of Optionality.
const (
	Optional  Optionality = 0
	Required  Optionality = 1
	Forbidden Optionality = 2
)

// String returns the draft's word.
func (o Optionality) String() string { return enumName(o, "optional", "required", "forbidden") }

// Code describes an Optionality.
func (o *Optionality) Code(c *tlspl.Codec) { codeEnum(c, o, Forbidden) }

// enumName returns the name of an enum value, or its number.
func enumName[T ~uint8](v T, names ...string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("%d", uint8(v))
}

// BaseRoomPolicy is the data of the base_room_policy component, and the content
// of its updates, which replace it (room policy §5).
type BaseRoomPolicy struct {
	FixedMembership    bool
	ParentDependant    bool
	ParentRoom         RoomURI // empty for none: a vector of at most one. Decision 88
	MultiDevice        bool
	MaxClients         *uint32
	MaxUsers           *uint32
	PseudonymsAllowed  bool
	PersistentRoom     bool
	Discoverable       bool
	PolicyComponentIDs []mls.ComponentID
}

// Code describes a BaseRoomPolicy.
func (p *BaseRoomPolicy) Code(c *tlspl.Codec) {
	c.Field("fixed_membership")
	tlspl.Bool(c, &p.FixedMembership)
	c.Field("parent_dependant")
	tlspl.Bool(c, &p.ParentDependant)
	c.Field("parent_room")
	tlspl.Length(c, func() {
		if c.More() || p.ParentRoom != "" && !c.Decoding() {
			p.ParentRoom.Code(c)
		}
	})
	c.Field("multi_device")
	tlspl.Bool(c, &p.MultiDevice)
	c.Field("max_clients")
	codeOptionalUint32(c, &p.MaxClients)
	c.Field("max_users")
	codeOptionalUint32(c, &p.MaxUsers)
	c.Field("pseudonyms_allowed")
	tlspl.Bool(c, &p.PseudonymsAllowed)
	c.Field("persistent_room")
	tlspl.Bool(c, &p.PersistentRoom)
	c.Field("discoverable")
	tlspl.Bool(c, &p.Discoverable)
	c.Field("policy_component_ids")
	tlspl.VectorFunc(c, &p.PolicyComponentIDs, tlspl.Uint16[mls.ComponentID])
}

// ErrParentRoom is the error of a parent-dependent room without a parent, of a
// parent without dependence, and of a parent on another hub (room policy §5).
var ErrParentRoom = errors.New("mimi: base room policy: parent_room does not agree with parent_dependant, or is not on this hub")

// Validate checks the policy of a room on the hub by itself.
func (p *BaseRoomPolicy) Validate(hub ProviderDomain) error {
	if p.ParentDependant != (p.ParentRoom != "") || p.ParentDependant && p.ParentRoom.Host() != hub {
		return ErrParentRoom
	}
	return nil
}

// StatusNotificationPolicy is the data of the status_notification_policy
// component, and the content of its updates (room policy §6.1).
type StatusNotificationPolicy struct {
	DeliveryNotifications Optionality
	ReadReceipts          Optionality
}

// Code describes a StatusNotificationPolicy.
func (p *StatusNotificationPolicy) Code(c *tlspl.Codec) {
	c.Field("delivery_notifications")
	p.DeliveryNotifications.Code(c)
	c.Field("read_receipts")
	p.ReadReceipts.Code(c)
}

// LinkPreviewPolicy is the data of the link_preview_policy component, and the
// content of its updates (room policy §6.3).
type LinkPreviewPolicy struct {
	AutodetectHyperlinksInText Optionality
	SendLinkPreviews           Optionality
	AutomaticLinkPreviews      Optionality
	LinkPreviewProxyUse        Optionality
	LinkPreviewProxy           URI // none if LinkPreviewProxyUse is Forbidden
}

// Code describes a LinkPreviewPolicy. The proxy is a vector of exactly one
// element. Decision 92
func (p *LinkPreviewPolicy) Code(c *tlspl.Codec) {
	c.Field("autodetect_hyperlinks_in_text")
	p.AutodetectHyperlinksInText.Code(c)
	c.Field("send_link_previews")
	p.SendLinkPreviews.Code(c)
	c.Field("automatic_link_previews")
	p.AutomaticLinkPreviews.Code(c)
	c.Field("link_preview_proxy_use")
	p.LinkPreviewProxyUse.Code(c)
	if p.LinkPreviewProxyUse != Forbidden {
		c.Field("link_preview_proxy")
		tlspl.Length(c, func() { p.LinkPreviewProxy.Code(c) })
	}
}

// ErrAutodetectRequired is the error of a policy that requires clients to
// detect links in text (room policy §6.3).
var ErrAutodetectRequired = errors.New("mimi: link preview policy: autodetect_hyperlinks_in_text must not be required")

// Validate checks the policy by itself.
func (p *LinkPreviewPolicy) Validate() error {
	if p.AutodetectHyperlinksInText == Required {
		return ErrAutodetectRequired
	}
	return nil
}

// LoggingPolicy is the data of the logging_policy component, and the content of
// its updates (room policy §6.5). Nothing but Logging is on the wire if it is
// Forbidden. Decision 87
type LoggingPolicy struct {
	Logging               Optionality
	LoggingClients        []URI
	MachineReadablePolicy URI
	HumanReadablePolicy   URI
}

// Code describes a LoggingPolicy.
func (p *LoggingPolicy) Code(c *tlspl.Codec) {
	c.Field("logging")
	p.Logging.Code(c)
	if p.Logging == Forbidden {
		return
	}
	c.Field("logging_clients")
	tlspl.Vector(c, &p.LoggingClients)
	c.Field("machine_readable_policy")
	p.MachineReadablePolicy.Code(c)
	c.Field("human_readable_policy")
	p.HumanReadablePolicy.Code(c)
}

// HistoryPolicy is the data of the chat_history_policy component, and the
// content of its updates (room policy §6.6). Nothing but HistorySharing is on
// the wire if it is Forbidden. Decision 87
type HistoryPolicy struct {
	HistorySharing     Optionality
	RolesThatCanShare  []RoleIndex
	AutomaticallyShare bool
	MaxTimePeriod      uint32 // seconds. Decision 92
}

// Code describes a HistoryPolicy.
func (p *HistoryPolicy) Code(c *tlspl.Codec) {
	c.Field("history_sharing")
	p.HistorySharing.Code(c)
	if p.HistorySharing == Forbidden {
		return
	}
	c.Field("roles_that_can_share")
	tlspl.VectorFunc(c, &p.RolesThatCanShare, tlspl.Uint32[RoleIndex])
	c.Field("automatically_share")
	tlspl.Bool(c, &p.AutomaticallyShare)
	c.Field("max_time_period")
	tlspl.Uint32(c, &p.MaxTimePeriod)
}

// A Bot is a chat bot that a room allows (room policy §6.7).
type Bot struct {
	Name                    string
	Description             string
	Homepage                URI
	LocalClientBot          bool
	BotRoleIndex            RoleIndex
	CanTargetMessageInGroup bool
	PerUserContent          bool
}

// Code describes a Bot.
func (b *Bot) Code(c *tlspl.Codec) {
	c.Field("name")
	tlspl.String(c, &b.Name)
	c.Field("description")
	tlspl.String(c, &b.Description)
	c.Field("homepage")
	b.Homepage.Code(c)
	c.Field("local_client_bot")
	tlspl.Bool(c, &b.LocalClientBot)
	c.Field("bot_role_index")
	tlspl.Uint32(c, &b.BotRoleIndex)
	c.Field("can_target_message_in_group")
	tlspl.Bool(c, &b.CanTargetMessageInGroup)
	c.Field("per_user_content")
	tlspl.Bool(c, &b.PerUserContent)
}

// BotPolicy is the data of the bot_policy component, and the content of its
// updates (room policy §6.7).
type BotPolicy struct {
	AllowedBots []Bot
}

// Code describes a BotPolicy.
func (p *BotPolicy) Code(c *tlspl.Codec) {
	c.Field("allowed_bots")
	tlspl.Vector(c, &p.AllowedBots)
}

// MessageExpiration is the data of the message_expiration_policy component, and
// the content of its updates (room policy §6.8). Durations are in seconds.
// Nothing but ExpiringMessages is on the wire if it is Forbidden. Decision 87
type MessageExpiration struct {
	ExpiringMessages          Optionality
	MinExpirationDuration     uint32
	MaxExpirationDuration     uint32
	DefaultExpirationDuration *uint32
}

// Code describes a MessageExpiration.
func (m *MessageExpiration) Code(c *tlspl.Codec) {
	c.Field("expiring_messages")
	m.ExpiringMessages.Code(c)
	if m.ExpiringMessages == Forbidden {
		return
	}
	c.Field("min_expiration_duration")
	tlspl.Uint32(c, &m.MinExpirationDuration)
	c.Field("max_expiration_duration")
	tlspl.Uint32(c, &m.MaxExpirationDuration)
	c.Field("default_expiration_duration")
	codeOptionalUint32(c, &m.DefaultExpirationDuration)
}
