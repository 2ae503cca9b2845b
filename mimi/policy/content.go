package policy

import (
	"fmt"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// An Act is what a message is, as far as policy cares (room policy §8.3).
type Act uint8

// The acts.
const (
	// Say is a new message.
	Say Act = iota + 1
	// Reply answers another message.
	Reply
	// React is a reaction to another message.
	React
	// EditMessage replaces a message by another version of it.
	EditMessage
	// EditReaction replaces a reaction by another one.
	EditReaction
	// DeleteMessage retracts a message.
	DeleteMessage
	// DeleteReaction retracts a reaction.
	DeleteReaction
	// Report is a message status report.
	Report
)

// String returns the act as a verb phrase, to follow "can't".
func (a Act) String() string {
	switch a {
	case Say:
		return "send a message"
	case Reply:
		return "reply to a message"
	case React:
		return "react to a message"
	case EditMessage:
		return "edit a message"
	case EditReaction:
		return "replace a reaction"
	case DeleteMessage:
		return "delete a message"
	case DeleteReaction:
		return "delete a reaction"
	case Report:
		return "report a message's status"
	}
	return fmt.Sprintf("send act %d", uint8(a))
}

// An AssetKind says which of the asset capabilities an attached file falls under (room policy §8.4).
type AssetKind uint8

// The kinds: by top-level media type where the disposition is "render", Attachment otherwise.
const (
	Attachment AssetKind = iota
	Image
	Audio
	Video
)

// An Asset is a file that a message carries or points to.
type Asset struct {
	Kind      AssetKind
	MediaType mls.MediaType
	// Size is in octets.
	Size uint64
	// Host is where the asset lies; empty for one inside the message.
	Host mimi.ProviderDomain
}

// A Message is what policy must know of the content of a message: nothing that isn't in it.
type Message struct {
	Act    Act
	Sender mimi.UserURI
	// OwnTarget says that the message that this one edits or deletes is the sender's own.
	OwnTarget bool
	// Topic is the message's topic. TargetTopic is that of the message that it answers or edits.
	Topic, TargetTopic string
	// Links and Previews count the inline links, and those of them that come with a preview.
	Links, Previews int
	Assets          []Asset
	// Expires says that the message expires, ExpiresSeconds after it is sent.
	Expires        bool
	ExpiresSeconds uint64
	// Delivered and Read say that a Report holds such statuses.
	Delivered, Read bool
}

// A ContentPolicy is what judging messages needs of a room. Nil components say nothing.
type ContentPolicy struct {
	Roles       *Roles
	Hub         mimi.ProviderDomain
	Status      *mimi.StatusNotificationPolicy
	LinkPreview *mimi.LinkPreviewPolicy
	Assets      *mimi.AssetPolicy
	Expiration  *mimi.MessageExpiration
}

// JudgeContent says whether a participant with the role may send the message; nil means that it may. The hub can't see
// what this looks at: the sending client refuses to send such a message, and a receiving one marks it as having broken a
// rule (room policy §8.3). The role is the sender's in the epoch of the message.
func JudgeContent(p *ContentPolicy, role RoleIndex, m *Message) *Denial {
	j := contentJudge{p: p, r: p.Roles.get(role), m: m}
	for _, rule := range []func() *Denial{j.act, j.links, j.assets, j.expiration, j.status} {
		if d := rule(); d != nil {
			return d
		}
	}
	return nil
}

type contentJudge struct {
	p *ContentPolicy
	r *role
	m *Message
}

func (j *contentJudge) needs(any ...Capability) *Denial {
	for _, c := range any {
		if j.r.has(c) {
			return nil
		}
	}
	d := &Denial{Reason: MissingCapability, Act: j.m.Act, Actor: j.m.Sender.Identifier(), ActorRole: j.r.ref()}
	d.Capabilities = append(d.Capabilities, any...)
	return d
}

func (j *contentJudge) forbidden(id ComponentID, detail string) *Denial {
	return &Denial{Reason: ForbiddenByPolicy, Act: j.m.Act, Actor: j.m.Sender.Identifier(), ActorRole: j.r.ref(), Component: id, Detail: detail}
}

// act is the capability for what the message is.
func (j *contentJudge) act() *Denial {
	own := func(mine, others Capability) *Denial {
		if j.m.OwnTarget {
			return j.needs(mine)
		}
		return j.needs(others)
	}
	switch j.m.Act {
	case Say:
		if d := j.needs(mimi.CanSendMessage); d != nil || j.m.Topic == "" {
			return d
		}
		return j.needs(mimi.CanStartTopic)
	case Reply:
		return j.reply()
	case React:
		return j.needs(mimi.CanReactToMessage)
	case EditMessage:
		return j.edit()
	case EditReaction:
		if !j.m.OwnTarget {
			return &Denial{Reason: NobodyMay, Act: j.m.Act, Actor: j.m.Sender.Identifier(), ActorRole: j.r.ref(), Detail: "it is another user's"}
		}
		return j.needs(mimi.CanEditReaction)
	case DeleteMessage:
		return own(mimi.CanDeleteOwnMessage, mimi.CanDeleteOtherMessage)
	case DeleteReaction:
		return own(mimi.CanDeleteOwnReaction, mimi.CanDeleteOtherReaction)
	case Report:
		return nil // only the status policy speaks of reports
	}
	return &Denial{Reason: NobodyMay, Act: j.m.Act, Actor: j.m.Sender.Identifier(), ActorRole: j.r.ref()}
}

// reply stays in the topic of what it answers with canReplyInTopic, and sets another one with canStartTopic. Without any
// topic either capability for replying will do.
func (j *contentJudge) reply() *Denial {
	switch {
	case j.m.Topic == j.m.TargetTopic && j.m.Topic != "":
		return j.needs(mimi.CanReplyInTopic)
	case j.m.Topic == j.m.TargetTopic:
		return j.needs(mimi.CanReplyToMessage, mimi.CanReplyInTopic)
	}
	if d := j.needs(mimi.CanReplyToMessage); d != nil || j.m.Topic == "" {
		return d
	}
	return j.needs(mimi.CanStartTopic)
}

// edit changes the sender's own message, or, of others' messages, no more than the topic.
func (j *contentJudge) edit() *Denial {
	if j.m.OwnTarget {
		if j.m.Topic != j.m.TargetTopic && j.r.has(mimi.CanEditOwnTopic) {
			return nil
		}
		if j.m.Topic != j.m.TargetTopic {
			return j.needs(mimi.CanEditOwnTopic)
		}
		return j.needs(mimi.CanEditOwnMessage)
	}
	if j.m.Topic != j.m.TargetTopic {
		return j.needs(mimi.CanEditOtherTopic)
	}
	return &Denial{Reason: NobodyMay, Act: j.m.Act, Actor: j.m.Sender.Identifier(), ActorRole: j.r.ref(), Detail: "it is another user's"}
}

func (j *contentJudge) links() *Denial {
	if j.m.Links > 0 || j.m.Previews > 0 {
		if d := j.needs(mimi.CanSendLink); d != nil {
			return d
		}
	}
	if j.m.Previews > 0 {
		if d := j.needs(mimi.CanSendLinkPreview); d != nil {
			return d
		}
	}
	lp := j.p.LinkPreview
	switch {
	case lp == nil:
	case lp.SendLinkPreviews == mimi.Forbidden && j.m.Previews > 0:
		return j.forbidden(mimi.ComponentLinkPreviewPolicy, "send_link_previews is forbidden")
	case lp.SendLinkPreviews == mimi.Required && j.m.Previews < j.m.Links:
		return j.forbidden(mimi.ComponentLinkPreviewPolicy, "send_link_previews is required")
	}
	return nil
}

func (j *contentJudge) assets() *Denial {
	for i := range j.m.Assets {
		a := &j.m.Assets[i]
		need := [...]Capability{Attachment: mimi.CanUploadAttachment, Image: mimi.CanUploadImage, Audio: mimi.CanUploadAudio, Video: mimi.CanUploadVideo}
		if int(a.Kind) >= len(need) {
			return j.forbidden(mimi.ComponentAssetPolicy, "unknown kind of asset")
		}
		if d := j.needs(need[a.Kind]); d != nil {
			return d
		}
		p := j.p.Assets
		if p == nil {
			continue
		}
		limit := [...]uint64{Attachment: p.MaxAttachment, Image: p.MaxImage, Audio: p.MaxAudio, Video: p.MaxVideo}[a.Kind]
		name := [...]string{Attachment: "max_attachment", Image: "max_image", Audio: "max_audio", Video: "max_video"}[a.Kind]
		switch {
		case limit != mimi.NoAssetLimit && a.Size > limit:
			return j.forbidden(mimi.ComponentAssetPolicy, fmt.Sprintf("%d octets where %s is %d", a.Size, name, limit))
		case limit == 0:
			return j.forbidden(mimi.ComponentAssetPolicy, name+" is 0")
		case !p.AllowsMediaType(&a.MediaType):
			return j.forbidden(mimi.ComponentAssetPolicy, fmt.Sprintf("media type %s", a.MediaType.Type))
		case a.Host != "" && !p.AllowsHost(a.Host, j.m.Sender.Host(), j.p.Hub):
			return j.forbidden(mimi.ComponentAssetPolicy, fmt.Sprintf("%s is not an upload domain of the sender", a.Host))
		}
	}
	return nil
}

func (j *contentJudge) expiration() *Denial {
	e := j.p.Expiration
	if e == nil || j.m.Act == Report || j.m.Act == DeleteMessage || j.m.Act == DeleteReaction {
		return nil
	}
	switch {
	case j.m.Expires && e.ExpiringMessages == mimi.Forbidden:
		return j.forbidden(mimi.ComponentMessageExpirationPolicy, "messages must not expire")
	case !j.m.Expires && e.ExpiringMessages == mimi.Required:
		return j.forbidden(mimi.ComponentMessageExpirationPolicy, "messages must expire")
	case j.m.Expires && (j.m.ExpiresSeconds < uint64(e.MinExpirationDuration) || j.m.ExpiresSeconds > uint64(e.MaxExpirationDuration)):
		return j.forbidden(mimi.ComponentMessageExpirationPolicy, fmt.Sprintf("expiration after %d s, allowed are %d to %d",
			j.m.ExpiresSeconds, e.MinExpirationDuration, e.MaxExpirationDuration))
	}
	return nil
}

func (j *contentJudge) status() *Denial {
	s := j.p.Status
	switch {
	case s == nil || j.m.Act != Report:
	case j.m.Delivered && s.DeliveryNotifications == mimi.Forbidden:
		return j.forbidden(mimi.ComponentStatusNotificationPolicy, "delivery_notifications are forbidden")
	case j.m.Read && s.ReadReceipts == mimi.Forbidden:
		return j.forbidden(mimi.ComponentStatusNotificationPolicy, "read_receipts are forbidden")
	}
	return nil
}
