package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/tlspl"
)

// A Setting is one value of a room's policy that people see and change by its name.
type Setting struct {
	// Name is made of the component and the field, such as "expiration.max".
	Name string
	// Help says what it does, in a few words.
	Help string
	// Component is what changes with it.
	Component ComponentID
	kind      kind
	field     func(*Components) any // a pointer into the component, which is there
}

// A kind is how a value is written.
type kind struct {
	help  string
	get   func(field any) string
	parse func(field any, value string) error
}

var (
	yesNo = kind{"yes or no",
		func(f any) string {
			if *f.(*bool) {
				return "yes"
			}
			return "no"
		},
		func(f any, v string) error {
			switch strings.ToLower(v) {
			case "yes", "true", "on":
				*f.(*bool) = true
			case "no", "false", "off":
				*f.(*bool) = false
			default:
				return fmt.Errorf("%q is neither yes nor no", v)
			}
			return nil
		}}
	optionality = kind{"optional, required or forbidden",
		func(f any) string { return f.(*mimi.Optionality).String() },
		func(f any, v string) error {
			for _, o := range []mimi.Optionality{mimi.Optional, mimi.Required, mimi.Forbidden} {
				if v == o.String() {
					*f.(*mimi.Optionality) = o
					return nil
				}
			}
			return fmt.Errorf("%q is none of optional, required and forbidden", v)
		}}
	limit = kind{"a number, or none",
		func(f any) string {
			if p := *f.(**uint32); p != nil {
				return strconv.FormatUint(uint64(*p), 10)
			}
			return "none"
		},
		func(f any, v string) error {
			if v == "none" {
				*f.(**uint32) = nil
				return nil
			}
			n, err := parseNumber(v, 32)
			if err == nil {
				*f.(**uint32) = ptr(uint32(n))
			}
			return err
		}}
	number = kind{"a number",
		func(f any) string { return strconv.FormatUint(uint64(*f.(*uint32)), 10) },
		func(f any, v string) error {
			n, err := parseNumber(v, 32)
			*f.(*uint32) = uint32(n)
			return err
		}}
	octet = kind{"a number up to 255",
		func(f any) string { return strconv.Itoa(int(*f.(*uint8))) },
		func(f any, v string) error {
			n, err := parseNumber(v, 8)
			*f.(*uint8) = uint8(n)
			return err
		}}
	seconds = kind{"a time, such as 90s, 5m, 2h or 7d",
		func(f any) string { return writeSeconds(*f.(*uint32)) },
		func(f any, v string) (err error) {
			*f.(*uint32), err = parseSeconds(v)
			return err
		}}
	secondsOrNone = kind{"a time, such as 90s, 5m, 2h or 7d, or none",
		func(f any) string {
			if p := *f.(**uint32); p != nil {
				return writeSeconds(*p)
			}
			return "none"
		},
		func(f any, v string) error {
			if v == "none" {
				*f.(**uint32) = nil
				return nil
			}
			n, err := parseSeconds(v)
			if err == nil {
				*f.(**uint32) = &n
			}
			return err
		}}
	size = kind{"a size in octets, such as 500, 20k, 10M or 1G; unlimited; or 0 to allow none",
		func(f any) string { return writeSize(*f.(*uint64)) },
		func(f any, v string) (err error) {
			*f.(*uint64), err = parseSize(v)
			return err
		}}
	uri = kind{"a URI",
		func(f any) string { return string(*f.(*mimi.URI)) },
		func(f any, v string) error { *f.(*mimi.URI) = mimi.URI(v); return nil }}
	uploadTo = kind{"unspecified, localProvider or hub",
		func(f any) string { return f.(*mimi.AssetUploadLocation).String() },
		func(f any, v string) error {
			for _, l := range []mimi.AssetUploadLocation{mimi.UploadUnspecified, mimi.UploadLocalProvider, mimi.UploadHub} {
				if v == l.String() {
					*f.(*mimi.AssetUploadLocation) = l
					return nil
				}
			}
			return fmt.Errorf("%q is none of unspecified, localProvider and hub", v)
		}}
)

func parseNumber(v string, bits int) (uint64, error) {
	n, err := strconv.ParseUint(v, 10, bits)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number from 0 to %d", v, uint64(1)<<bits-1)
	}
	return n, nil
}

var secondsUnits = []struct {
	unit string
	n    uint32
}{{"d", 24 * 3600}, {"h", 3600}, {"m", 60}, {"s", 1}}

func writeSeconds(n uint32) string {
	for _, u := range secondsUnits {
		if n > 0 && n%u.n == 0 {
			return fmt.Sprintf("%d%s", n/u.n, u.unit)
		}
	}
	return "0s"
}

func parseSeconds(v string) (uint32, error) {
	for _, u := range secondsUnits {
		if rest, ok := strings.CutSuffix(v, u.unit); ok {
			n, err := strconv.ParseUint(rest, 10, 32)
			if err != nil || n*uint64(u.n) >= 1<<32 {
				break
			}
			return uint32(n) * u.n, nil
		}
	}
	return 0, fmt.Errorf("%q is not a time such as 90s, 5m, 2h or 7d", v)
}

var sizeUnits = []struct {
	unit string
	n    uint64
}{{"G", 1e9}, {"M", 1e6}, {"k", 1e3}, {"", 1}}

func writeSize(n uint64) string {
	if n == mimi.NoAssetLimit {
		return "unlimited"
	}
	for _, u := range sizeUnits {
		if n >= u.n && n%u.n == 0 {
			return fmt.Sprintf("%d%s", n/u.n, u.unit)
		}
	}
	return "0"
}

func parseSize(v string) (uint64, error) {
	if v == "unlimited" {
		return mimi.NoAssetLimit, nil
	}
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(v, u.unit); ok {
			n, err := strconv.ParseUint(rest, 10, 64)
			if err == nil && n < mimi.NoAssetLimit/u.n {
				return n * u.n, nil
			}
		}
	}
	return 0, fmt.Errorf("%q is not a size such as 500, 20k, 10M or 1G", v)
}

// settings is every value but those of roles, whose names hold the role's.
var settings = []Setting{
	{"base.multi_device", "a user may have several clients in the room", mimi.ComponentBaseRoomPolicy, yesNo, func(c *Components) any { return &c.Base.MultiDevice }},
	{"base.max_users", "how many users there may be", mimi.ComponentBaseRoomPolicy, limit, func(c *Components) any { return &c.Base.MaxUsers }},
	{"base.max_clients", "how many clients there may be", mimi.ComponentBaseRoomPolicy, limit, func(c *Components) any { return &c.Base.MaxClients }},
	{"base.pseudonyms", "pseudonyms are allowed", mimi.ComponentBaseRoomPolicy, yesNo, func(c *Components) any { return &c.Base.PseudonymsAllowed }},
	{"base.persistent", "the room stays when the last client has left", mimi.ComponentBaseRoomPolicy, yesNo, func(c *Components) any { return &c.Base.PersistentRoom }},
	{"base.discoverable", "the room can be found by searching", mimi.ComponentBaseRoomPolicy, yesNo, func(c *Components) any { return &c.Base.Discoverable }},
	{"base.fixed_membership", "nobody comes or goes", mimi.ComponentBaseRoomPolicy, yesNo, func(c *Components) any { return &c.Base.FixedMembership }},

	{"status.delivery", "delivery notifications", mimi.ComponentStatusNotificationPolicy, optionality, func(c *Components) any { return &c.Status.DeliveryNotifications }},
	{"status.read", "read receipts", mimi.ComponentStatusNotificationPolicy, optionality, func(c *Components) any { return &c.Status.ReadReceipts }},

	{"expiration.mode", "expiring messages", mimi.ComponentMessageExpirationPolicy, optionality, func(c *Components) any { return &c.Expiration.ExpiringMessages }},
	{"expiration.min", "the shortest life of a message", mimi.ComponentMessageExpirationPolicy, seconds, func(c *Components) any { return &c.Expiration.MinExpirationDuration }},
	{"expiration.max", "the longest life of a message that expires", mimi.ComponentMessageExpirationPolicy, seconds, func(c *Components) any { return &c.Expiration.MaxExpirationDuration }},
	{"expiration.default", "the life that is suggested", mimi.ComponentMessageExpirationPolicy, secondsOrNone, func(c *Components) any { return &c.Expiration.DefaultExpirationDuration }},

	{"assets.max_image", "the largest image", mimi.ComponentAssetPolicy, size, func(c *Components) any { return &c.Assets.MaxImage }},
	{"assets.max_audio", "the largest audio file", mimi.ComponentAssetPolicy, size, func(c *Components) any { return &c.Assets.MaxAudio }},
	{"assets.max_video", "the largest video", mimi.ComponentAssetPolicy, size, func(c *Components) any { return &c.Assets.MaxVideo }},
	{"assets.max_attachment", "the largest attachment", mimi.ComponentAssetPolicy, size, func(c *Components) any { return &c.Assets.MaxAttachment }},
	{"assets.upload", "where assets are uploaded to", mimi.ComponentAssetPolicy, uploadTo, func(c *Components) any { return &c.Assets.AssetUploadLocation }},

	{"links.autodetect", "finding links in plain text", mimi.ComponentLinkPreviewPolicy, optionality, func(c *Components) any { return &c.LinkPreview.AutodetectHyperlinksInText }},
	{"links.send_previews", "previews sent along with links", mimi.ComponentLinkPreviewPolicy, optionality, func(c *Components) any { return &c.LinkPreview.SendLinkPreviews }},
	{"links.automatic_previews", "previews that receivers make", mimi.ComponentLinkPreviewPolicy, optionality, func(c *Components) any { return &c.LinkPreview.AutomaticLinkPreviews }},
	{"links.proxy_use", "making previews by a proxy", mimi.ComponentLinkPreviewPolicy, optionality, func(c *Components) any { return &c.LinkPreview.LinkPreviewProxyUse }},
	{"links.proxy", "the proxy for previews", mimi.ComponentLinkPreviewPolicy, uri, func(c *Components) any { return &c.LinkPreview.LinkPreviewProxy }},

	{"history.mode", "sharing history with those who join", mimi.ComponentChatHistoryPolicy, optionality, func(c *Components) any { return &c.History.HistorySharing }},
	{"history.automatic", "history is shared without being asked", mimi.ComponentChatHistoryPolicy, yesNo, func(c *Components) any { return &c.History.AutomaticallyShare }},
	{"history.max", "how far back history is shared", mimi.ComponentChatHistoryPolicy, seconds, func(c *Components) any { return &c.History.MaxTimePeriod }},

	{"logging.mode", "logging by the provider", mimi.ComponentLoggingPolicy, optionality, func(c *Components) any { return &c.Logging.Logging }},
	{"logging.policy", "where people can read the logging policy", mimi.ComponentLoggingPolicy, uri, func(c *Components) any { return &c.Logging.HumanReadablePolicy }},

	{"join_links.on_request", "only one link at a time, made on request", mimi.ComponentJoinLinkPolicy, yesNo, func(c *Components) any { return &c.JoinLinkPolicy.OnRequest }},
	{"join_links.multiuser", "a link serves several users", mimi.ComponentJoinLinkPolicy, yesNo, func(c *Components) any { return &c.JoinLinkPolicy.Multiuser }},
	{"join_links.expiration", "how long a link is valid", mimi.ComponentJoinLinkPolicy, seconds, func(c *Components) any { return &c.JoinLinkPolicy.Expiration }},

	{"mls.epoch_tolerance", "of how many past epochs messages are still taken", mimi.ComponentMLSOperationalPolicy, octet, func(c *Components) any { return &c.Operational.AppMessagePolicy.EpochTolerance }},
	{"mls.external_commits", "clients may come in alone", mimi.ComponentMLSOperationalPolicy, yesNo, func(c *Components) any { return &c.Operational.ExternalCommitAllowed }},
	{"mls.external_proposals", "the hub may propose", mimi.ComponentMLSOperationalPolicy, yesNo, func(c *Components) any { return &c.Operational.ExternalProposalAllowed }},
}

// Settings returns every setting of a room, in the order in which to show them, with those of its roles last.
func (c *Components) Settings() []Setting {
	all := slices.Clone(settings)
	for i := range c.Roles.Roles {
		all = append(all, roleSettings(c.Roles.Roles[i].RoleName, i)...)
	}
	return all
}

func roleSettings(name string, i int) []Setting {
	role := func(c *Components) *mimi.Role { return &c.Roles.Roles[i] }
	of := func(field, help string, k kind, f func(*mimi.Role) any) Setting {
		return Setting{"role." + name + "." + field, help, mimi.ComponentRolesList, k, func(c *Components) any { return f(role(c)) }}
	}
	return []Setting{
		of("can", "the capabilities", capabilityList, func(r *mimi.Role) any { return &r.RoleCapabilities }),
		of("min", "how many participants must have it", number, func(r *mimi.Role) any { return &r.MinimumParticipantsConstraint }),
		of("max", "how many participants may have it", limit, func(r *mimi.Role) any { return &r.MaximumParticipantsConstraint }),
		of("min_active", "how many of them must have clients", number, func(r *mimi.Role) any { return &r.MinimumActiveParticipantsConstraint }),
		of("max_active", "how many of them may have clients", limit, func(r *mimi.Role) any { return &r.MaximumActiveParticipantsConstraint }),
	}
}

// capabilityList is written as names; a change may also be given as +name or -name.
var capabilityList = kind{"names, or +name and -name to add and take away",
	func(f any) string {
		var names []string
		for _, c := range *f.(*[]Capability) {
			names = append(names, c.String())
		}
		return strings.Join(names, " ")
	},
	func(f any, v string) error {
		list := f.(*[]Capability)
		words := strings.FieldsFunc(v, func(r rune) bool { return r == ' ' || r == ',' })
		next := slices.Clone(*list)
		if len(words) == 0 || words[0][0] != '+' && words[0][0] != '-' {
			next = nil
		}
		for _, w := range words {
			c, ok := ParseCapability(strings.TrimLeft(w, "+-"))
			if !ok {
				return fmt.Errorf("there is no capability %q", w)
			}
			next = slices.DeleteFunc(next, func(o Capability) bool { return o == c })
			if w[0] != '-' {
				next = append(next, c)
			}
		}
		*list = next
		return nil
	}}

// Value returns a setting as it is in the room; it is empty where the room does not have the component.
func (c *Components) Value(s Setting) string {
	if c.Data(s.Component) == nil {
		return ""
	}
	return s.kind.get(s.field(c))
}

// Values says how the values of the setting are written, such as "yes or no".
func (s Setting) Values() string { return s.kind.help }

// Set returns the data of the one component that changes if a setting gets a value, and which it is. c stays as it is. Errors
// say, in a sentence, that there is no such setting or that it can't have the value; whether policy components are valid
// together is CheckComponents'.
func (c *Components) Set(name, value string) (ComponentID, tlspl.Coder, error) {
	i := slices.IndexFunc(c.Settings(), func(s Setting) bool { return s.Name == name })
	if i < 0 {
		return 0, nil, fmt.Errorf("policy: there is no setting %q", name)
	}
	s := c.Settings()[i]
	next := *c
	if err := next.renew(s.Component); err != nil {
		return 0, nil, err
	}
	if err := s.kind.parse(s.field(&next), value); err != nil {
		return 0, nil, fmt.Errorf("policy: %s: %w", name, err)
	}
	return s.Component, next.Data(s.Component), nil
}

// Data returns a component that updates replace, nil if the room does not have it.
func (c *Components) Data(id ComponentID) tlspl.Coder {
	switch id {
	case mimi.ComponentRolesList:
		return coder(c.Roles)
	case mimi.ComponentBaseRoomPolicy:
		return coder(c.Base)
	case mimi.ComponentMLSOperationalPolicy:
		return coder(c.Operational)
	case mimi.ComponentStatusNotificationPolicy:
		return coder(c.Status)
	case mimi.ComponentJoinLinkPolicy:
		return coder(c.JoinLinkPolicy)
	case mimi.ComponentLinkPreviewPolicy:
		return coder(c.LinkPreview)
	case mimi.ComponentAssetPolicy:
		return coder(c.Assets)
	case mimi.ComponentLoggingPolicy:
		return coder(c.Logging)
	case mimi.ComponentChatHistoryPolicy:
		return coder(c.History)
	case mimi.ComponentMessageExpirationPolicy:
		return coder(c.Expiration)
	case mimi.ComponentPreauthList:
		return coder(c.Preauth)
	case mimi.ComponentBotPolicy:
		return coder(c.Bots)
	}
	return nil
}

// coder keeps a nil pointer from becoming an interface that is not nil.
func coder[T any, P interface {
	*T
	tlspl.Coder
}](v *T) tlspl.Coder {
	if v == nil {
		return nil
	}
	return P(v)
}

// renew replaces a component by a copy, or by an empty one where there is none.
func (c *Components) renew(id ComponentID) error {
	fresh := mimi.NewComponentData(id)
	if old := c.Data(id); old != nil {
		data, err := tlspl.Marshal(old)
		if err != nil {
			return err
		}
		if err := tlspl.Unmarshal(data, fresh); err != nil {
			return err
		}
	}
	c.Put(fresh)
	return nil
}

// Put puts a component in place of the one of its kind.
func (c *Components) Put(data tlspl.Coder) {
	switch v := data.(type) {
	case *mimi.RoleData:
		c.Roles = v
	case *mimi.BaseRoomPolicy:
		c.Base = v
	case *mimi.OperationalParameters:
		c.Operational = v
	case *mimi.StatusNotificationPolicy:
		c.Status = v
	case *mimi.JoinLinkPolicy:
		c.JoinLinkPolicy = v
	case *mimi.LinkPreviewPolicy:
		c.LinkPreview = v
	case *mimi.AssetPolicy:
		c.Assets = v
	case *mimi.LoggingPolicy:
		c.Logging = v
	case *mimi.HistoryPolicy:
		c.History = v
	case *mimi.MessageExpiration:
		c.Expiration = v
	case *mimi.PreAuthData:
		c.Preauth = v
	case *mimi.BotPolicy:
		c.Bots = v
	}
}
