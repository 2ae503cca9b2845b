package clientcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// PolicyCmd is comity client room policy.
type PolicyCmd struct {
	Show PolicyShow `cmd:"" default:"withargs" help:"Show who may do what, as a table."`
	Set  PolicySet  `cmd:"" help:"Change it."`
}

// PolicyShow is comity client room policy show.
type PolicyShow struct {
	Room string `arg:"" help:"The room's URI or name."`
	All  bool   `help:"Show every field of every component too, by the names that 'room policy set' takes."`

	Component string `help:"Show all of one component as JSON, as 'room policy set' takes it, such as roles_list."`
}

// Run shows a room's policy.
func (p *PolicyShow) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return cmd.local(ctx, out, func(ctx context.Context, s *session) error {
		uri, err := s.room(p.Room)
		if err != nil {
			return err
		}
		return s.Inspect(ctx, uri, func(g *room.Room) error {
			v := g.View()
			if p.Component != "" {
				document, err := v.Components().Document(p.Component)
				if err == nil && document == nil {
					err = fmt.Errorf("the room has no %s", p.Component)
				}
				if err == nil {
					fmt.Fprintf(out, "%s\n", document)
				}
				return err
			}
			values := map[string]string{}
			for name, x := range settings {
				if x.get != nil {
					if value := x.get(v.Components()); value != "" {
						values[name] = value
					}
				}
			}
			if cmd.JSON {
				return cmd.show(out, map[string]any{"room": uri, "roles": roles(v), "settings": values, "role": v.Roles().Name(g.Role())}, nil)
			}
			if err := policy.WriteTable(out, v.Roles()); err != nil {
				return err
			}
			fmt.Fprintln(out)
			for _, name := range slices.Sorted(maps.Keys(values)) {
				fmt.Fprintf(out, "%s=%s\n", name, values[name])
			}
			if b := v.Components().Bots; b != nil {
				for i := range b.AllowedBots {
					fmt.Fprintf(out, "bot+%s\n", safe(botLine(v.Components(), &b.AllowedBots[i])))
				}
			}
			if p.All {
				fmt.Fprintln(out)
				for _, x := range v.Components().Settings() {
					fmt.Fprintf(out, "%s=%s  (%s; %s)\n", safe(x.Name), safe(v.Components().Value(x)), x.Help, x.Values())
				}
			}
			fmt.Fprintf(out, "\nYou are %s.\n", safe(v.Roles().Name(g.Role())))
			return nil
		})
	})
}

type role struct {
	Index        policy.RoleIndex `json:"index"`
	Name         string           `json:"name"`
	Description  string           `json:"description,omitempty"`
	Capabilities []string         `json:"capabilities"`
}

func roles(v *room.View) []role {
	var list []role
	for _, r := range v.Components().Roles.Roles {
		x := role{Index: r.RoleIndex, Name: safe(r.RoleName), Description: safe(r.RoleDescription), Capabilities: []string{}}
		for _, c := range r.RoleCapabilities {
			x.Capabilities = append(x.Capabilities, c.String())
		}
		list = append(list, x)
	}
	return list
}

// PolicySet is comity client room policy set.
type PolicySet struct {
	Room   string   `arg:"" help:"The room's URI or name."`
	Change []string `arg:"" help:"What: SETTING=VALUE, ROLE+capability, ROLE-capability, preauth+ATTRIBUTE=VALUE:ROLE, preauth-ATTRIBUTE=VALUE, bot+NAME:ROLE, bot-NAME, COMPONENT=@FILE or COMPONENT=none."`
}

// Help is shown below the flags.
func (PolicySet) Help() string {
	var s strings.Builder
	s.WriteString("Settings:\n\n")
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&s, "  %s: %s\n", name, settings[name].help)
	}
	s.WriteString("\n'room policy show --all' lists every further field with its values, such as history.mode or role.NAME.can.\n")
	s.WriteString("\nA whole component: COMPONENT=JSON or COMPONENT=@FILE, in the form that 'room policy show --component COMPONENT' shows; with =none it is removed. Components: " + strings.Join(policy.Documents(), ", ") + ".\n")
	s.WriteString("\nA bot may have a role, and say local, targets, per-user, homepage=URL and description=TEXT, as in bot+poker:guest,per-user.\n")
	s.WriteString("\nWhat a preauthorization may name: " + claimNames() + ".")
	return s.String()
}

// Run changes a room's policy.
func (p *PolicySet) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return inRoom(ctx, cmd, out, p.Room, func(ctx context.Context, s *session, uri mimi.RoomURI) error {
		change := slices.Clone(p.Change)
		for i := 0; i < len(change); i++ {
			name, ok := strings.CutSuffix(change[i], "=none")
			if !ok || !slices.Contains(policy.Documents(), name) {
				continue
			}
			id, err := policy.DocumentOf(name)
			if err != nil {
				return err
			}
			if err := s.RemoveComponent(ctx, uri, id); err != nil {
				return err
			}
			change = slices.Delete(change, i, i+1)
			i--
		}
		if len(change) > 0 {
			if err := s.SetComponents(ctx, uri, func(v *room.View) ([]room.Component, error) { return edited(v, change) }); err != nil {
				return err
			}
		}
		r, err := s.Client.Room(ctx, uri)
		if err != nil {
			return err
		}
		return cmd.show(out, map[string]any{"room": uri, "changed": p.Change, "epoch": r.Epoch}, func(w io.Writer) { fmt.Fprintf(w, "The policy of %s is changed.\n", uri) })
	})
}

// edited applies changes to a room's policy and returns the components that differ.
func edited(v *room.View, changes []string) ([]room.Component, error) {
	next, err := copied(v.Components())
	if err != nil {
		return nil, err
	}
	touched := map[mls.ComponentID]bool{}
	for _, change := range changes {
		id, err := edit(next, change)
		if err != nil {
			return nil, err
		}
		touched[id] = true
	}
	for id := range touched {
		if !v.Has(id) && id != mimi.ComponentBaseRoomPolicy {
			touched[mimi.ComponentBaseRoomPolicy] = true // it lists the components
		}
	}
	next.Base.PolicyComponentIDs = next.IDs()
	if err := policy.CheckComponents(next, v.Hub()); err != nil {
		return nil, err
	}
	var list []room.Component
	for _, id := range slices.Sorted(maps.Keys(touched)) {
		list = append(list, room.Component{ID: id, Data: next.Data(id)})
	}
	return list, nil
}

// copied is a copy of components that can be changed.
func copied(c *policy.Components) (*policy.Components, error) {
	next := *c
	var err error
	next.Roles, err = clone(c.Roles, err)
	next.Base, err = clone(c.Base, err)
	next.Preauth, err = clone(c.Preauth, err)
	next.Operational, err = clone(c.Operational, err)
	next.Status, err = clone(c.Status, err)
	next.JoinLinkPolicy, err = clone(c.JoinLinkPolicy, err)
	next.LinkPreview, err = clone(c.LinkPreview, err)
	next.Assets, err = clone(c.Assets, err)
	next.Expiration, err = clone(c.Expiration, err)
	next.Logging, err = clone(c.Logging, err)
	next.History, err = clone(c.History, err)
	next.Bots, err = clone(c.Bots, err)
	return &next, err
}

func clone[T any, P tlspl.Ptr[T]](from *T, err error) (*T, error) {
	if from == nil || err != nil {
		return nil, err
	}
	b, err := tlspl.Marshal(P(from))
	if err != nil {
		return nil, err
	}
	to := new(T)
	return to, tlspl.Unmarshal(b, P(to))
}

// edit applies one change, and says to which component.
func edit(c *policy.Components, change string) (mls.ComponentID, error) {
	if rest, ok := strings.CutPrefix(change, "preauth"); ok && rest != "" && (rest[0] == '+' || rest[0] == '-') {
		return mimi.ComponentPreauthList, editPreauth(c, rest[0] == '+', rest[1:])
	}
	if rest, ok := strings.CutPrefix(change, "bot"); ok && rest != "" && (rest[0] == '+' || rest[0] == '-') {
		return mimi.ComponentBotPolicy, editBots(c, rest[0] == '+', rest[1:])
	}
	if name, value, ok := strings.Cut(change, "="); ok {
		if slices.Contains(policy.Documents(), name) {
			return replaceComponent(c, name, value)
		}
		x, known := settings[name]
		if !known && strings.Contains(name, ".") { // every field of every component, by its own name
			id, data, err := c.Set(name, value)
			if err == nil {
				c.Put(data)
			}
			return id, err
		}
		if !known {
			return 0, fmt.Errorf("there is no setting %q; it is one of %s", name, strings.Join(slices.Sorted(maps.Keys(settings)), ", "))
		}
		if err := x.set(c, value); err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		return x.id, nil
	}
	i := strings.LastIndexAny(change, "+-")
	if i <= 0 {
		return 0, fmt.Errorf("%q is not SETTING=VALUE, ROLE+capability or ROLE-capability", change)
	}
	return mimi.ComponentRolesList, editRole(c, change[:i], change[i] == '+', change[i+1:])
}

func editRole(c *policy.Components, name string, add bool, capability string) error {
	what, ok := policy.ParseCapability(capability)
	if !ok {
		return fmt.Errorf("there is no capability %q; 'room policy' shows them", capability)
	}
	for i := range c.Roles.Roles {
		r := &c.Roles.Roles[i]
		if r.RoleName != name && fmt.Sprint(r.RoleIndex) != name {
			continue
		}
		r.RoleCapabilities = slices.DeleteFunc(r.RoleCapabilities, func(have policy.Capability) bool { return have == what })
		if add {
			r.RoleCapabilities = append(r.RoleCapabilities, what)
		}
		return nil
	}
	return fmt.Errorf("the room has no role %q", name)
}

// A setting is one field of the policy components.
type setting struct {
	id   mls.ComponentID
	help string
	get  func(*policy.Components) string
	set  func(*policy.Components, string) error
}

var settings = map[string]setting{
	"multi-device":  flag(mimi.ComponentBaseRoomPolicy, "people may have several devices in the room", func(c *policy.Components) *bool { return &c.Base.MultiDevice }),
	"persistent":    flag(mimi.ComponentBaseRoomPolicy, "the room stays when everybody has left", func(c *policy.Components) *bool { return &c.Base.PersistentRoom }),
	"discoverable":  flag(mimi.ComponentBaseRoomPolicy, "others may find the room", func(c *policy.Components) *bool { return &c.Base.Discoverable }),
	"fixed-members": flag(mimi.ComponentBaseRoomPolicy, "nobody may be added or removed", func(c *policy.Components) *bool { return &c.Base.FixedMembership }),
	"max-users":     limit("participants at most", func(c *policy.Components) **uint32 { return &c.Base.MaxUsers }),
	"max-clients":   limit("devices at most", func(c *policy.Components) **uint32 { return &c.Base.MaxClients }),
	"delivery-notifications": choice(mimi.ComponentStatusNotificationPolicy, "telling that a message was delivered", func(c *policy.Components) *mimi.Optionality {
		if c.Status == nil {
			c.Status = &mimi.StatusNotificationPolicy{}
		}
		return &c.Status.DeliveryNotifications
	}),
	"read-receipts": choice(mimi.ComponentStatusNotificationPolicy, "telling that a message was read", func(c *policy.Components) *mimi.Optionality {
		if c.Status == nil {
			c.Status = &mimi.StatusNotificationPolicy{}
		}
		return &c.Status.ReadReceipts
	}),
	"max-image":      size("octets of an image", func(a *mimi.AssetPolicy) *uint64 { return &a.MaxImage }),
	"max-audio":      size("octets of an audio file", func(a *mimi.AssetPolicy) *uint64 { return &a.MaxAudio }),
	"max-video":      size("octets of a video", func(a *mimi.AssetPolicy) *uint64 { return &a.MaxVideo }),
	"max-attachment": size("octets of any other file", func(a *mimi.AssetPolicy) *uint64 { return &a.MaxAttachment }),
	"download": {mimi.ComponentAssetPolicy, "how files are fetched: direct, hubProxy or ohttp",
		func(c *policy.Components) string {
			if c.Assets == nil {
				return ""
			}
			return c.Assets.DownloadPrivacy.DefaultDownloadType.String()
		},
		func(c *policy.Components, value string) error {
			for _, t := range []mimi.DownloadPrivacyType{mimi.DownloadDirect, mimi.DownloadHubProxy, mimi.DownloadOHTTP} {
				if t.String() == value {
					assets(c).DownloadPrivacy.DefaultDownloadType = t
					return nil
				}
			}
			return fmt.Errorf("%q is not direct, hubProxy or ohttp", value)
		}},
	"expiring-messages": choice(mimi.ComponentMessageExpirationPolicy, "messages that expire", func(c *policy.Components) *mimi.Optionality {
		if c.Expiration == nil {
			c.Expiration = &mimi.MessageExpiration{MaxExpirationDuration: 366 * 24 * 3600}
		}
		return &c.Expiration.ExpiringMessages
	}),
	"max-expiration": {mimi.ComponentMessageExpirationPolicy, "the longest time after which a message may expire, such as 24h",
		func(c *policy.Components) string {
			if c.Expiration == nil || c.Expiration.ExpiringMessages == mimi.Forbidden {
				return ""
			}
			return (time.Duration(c.Expiration.MaxExpirationDuration) * time.Second).String()
		},
		func(c *policy.Components, value string) error {
			d, err := time.ParseDuration(value)
			if err != nil || d < time.Second || d > 366*24*time.Hour {
				return fmt.Errorf("%q is not a time between 1s and 8784h", value)
			}
			if c.Expiration == nil {
				c.Expiration = &mimi.MessageExpiration{}
			}
			c.Expiration.MaxExpirationDuration = uint32(d / time.Second)
			return nil
		}},
	"epoch-tolerance": {mimi.ComponentMLSOperationalPolicy, "how many epochs late a message may be",
		func(c *policy.Components) string {
			if c.Operational == nil {
				return ""
			}
			return fmt.Sprint(c.Operational.AppMessagePolicy.EpochTolerance)
		},
		func(c *policy.Components, value string) error {
			n, err := strconv.ParseUint(value, 10, 8)
			if err != nil || c.Operational == nil {
				return fmt.Errorf("%q is not a number from 0 to 255", value)
			}
			c.Operational.AppMessagePolicy.EpochTolerance = uint8(n)
			return nil
		}},
}

func flag(id mls.ComponentID, help string, at func(*policy.Components) *bool) setting {
	return setting{id, help + ": true or false",
		func(c *policy.Components) string { return strconv.FormatBool(*at(c)) },
		func(c *policy.Components, value string) (err error) {
			*at(c), err = strconv.ParseBool(value)
			return err
		}}
}

func limit(help string, at func(*policy.Components) **uint32) setting {
	return setting{mimi.ComponentBaseRoomPolicy, help + ", or none",
		func(c *policy.Components) string {
			if n := *at(c); n != nil {
				return fmt.Sprint(*n)
			}
			return "none"
		},
		func(c *policy.Components, value string) error {
			if value == "none" {
				*at(c) = nil
				return nil
			}
			n, err := strconv.ParseUint(value, 10, 32)
			v := uint32(n)
			*at(c) = &v
			return err
		}}
}

func choice(id mls.ComponentID, help string, at func(*policy.Components) *mimi.Optionality) setting {
	return setting{id, help + ": optional, required or forbidden",
		func(c *policy.Components) string {
			if c.Data(id) == nil {
				return ""
			}
			copy, err := copied(c) // at makes what is missing
			if err != nil {
				return ""
			}
			return at(copy).String()
		},
		func(c *policy.Components, value string) error {
			for _, o := range []mimi.Optionality{mimi.Optional, mimi.Required, mimi.Forbidden} {
				if o.String() == value {
					*at(c) = o
					return nil
				}
			}
			return fmt.Errorf("%q is not optional, required or forbidden", value)
		}}
}

func assets(c *policy.Components) *mimi.AssetPolicy {
	if c.Assets == nil {
		c.Assets = &mimi.AssetPolicy{MaxImage: mimi.NoAssetLimit, MaxAudio: mimi.NoAssetLimit, MaxVideo: mimi.NoAssetLimit, MaxAttachment: mimi.NoAssetLimit}
		c.Assets.DownloadPrivacy.DefaultDownloadType = mimi.DownloadHubProxy
	}
	return c.Assets
}

func size(help string, at func(*mimi.AssetPolicy) *uint64) setting {
	return setting{mimi.ComponentAssetPolicy, help + " at most, none or unlimited",
		func(c *policy.Components) string {
			switch {
			case c.Assets == nil:
				return ""
			case *at(c.Assets) == mimi.NoAssetLimit:
				return "unlimited"
			case *at(c.Assets) == 0:
				return "none"
			}
			return fmt.Sprint(*at(c.Assets))
		},
		func(c *policy.Components, value string) (err error) {
			n := uint64(mimi.NoAssetLimit)
			switch value {
			case "unlimited":
			case "none":
				n = 0
			default:
				if n, err = strconv.ParseUint(value, 10, 63); err != nil {
					return fmt.Errorf("%q is not a number of octets, none or unlimited", value)
				}
			}
			*at(assets(c)) = n
			return nil
		}}
}

// InviteLink is comity client room invite-link.
type InviteLink struct {
	Create InviteCreate `cmd:"" default:"withargs" help:"Make a link."`
	List   InviteList   `cmd:"" help:"List the links."`
	Revoke InviteRevoke `cmd:"" help:"Withdraw a link."`
}

// InviteCreate is comity client room invite-link create.
type InviteCreate struct {
	Room   string        `arg:"" help:"The room's URI or name."`
	Valid  time.Duration `help:"For how long; without it, as long as the room allows."`
	Uses   int64         `help:"How many may use it; -1: any number." default:"-1"`
	Listed bool          `help:"Also list it in the room, where every member sees it."`
}

// Run makes a link.
func (i *InviteCreate) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return inRoom(ctx, cmd, out, i.Room, func(ctx context.Context, s *session, uri mimi.RoomURI) error {
		want := clientapi.JoinCode{UsesLeft: i.Uses}
		if i.Valid > 0 {
			want.ExpiresMillis = time.Now().Add(i.Valid).UnixMilli()
		}
		code, err := s.CreateJoinCode(ctx, uri, want)
		if err != nil {
			return err
		}
		l := string(mimi.NewJoinLink(uri, code.Code))
		if i.Listed && !code.Listed {
			if err := s.ListJoinCode(ctx, uri, code.Code); err != nil {
				return fmt.Errorf("the link %s is there, but can't be listed: %w", l, err)
			}
		}
		return cmd.show(out, map[string]any{"room": uri, "code": code.Code, "link": l, "expires_ms": code.ExpiresMillis, "uses_left": code.UsesLeft}, func(w io.Writer) {
			fmt.Fprintln(w, l)
		})
	})
}

// InviteList is comity client room invite-link list.
type InviteList struct {
	Room string `arg:"" help:"The room's URI or name."`
}

// Run lists the links.
func (i *InviteList) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return inRoom(ctx, cmd, out, i.Room, func(ctx context.Context, s *session, uri mimi.RoomURI) error {
		list, err := s.JoinCodes(ctx, uri)
		if err != nil {
			return err
		}
		return cmd.show(out, list, func(w io.Writer) {
			for _, c := range list {
				until, uses := "without end", "any number of uses"
				if c.ExpiresMillis != 0 {
					until = "until " + date(c.ExpiresMillis)
				}
				if c.UsesLeft >= 0 {
					uses = fmt.Sprintf("%d uses left", c.UsesLeft)
				}
				if c.Listed {
					uses += ", listed in the room"
				}
				fmt.Fprintf(w, "%s  %s, %s\n", safe(string(mimi.NewJoinLink(uri, c.Code))), until, uses)
			}
		})
	})
}

// InviteRevoke is comity client room invite-link revoke.
type InviteRevoke struct {
	Room string `arg:"" help:"The room's URI or name, or the link."`
	Code string `arg:"" optional:"" help:"The code, if not in the link."`
}

// Run withdraws a link.
func (i *InviteRevoke) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	name, code := i.Room, i.Code
	if room, c, ok := mimi.CutJoinLink(i.Room); ok {
		name, code = room, c
	} else if _, c, ok := mimi.CutJoinLink(i.Code); ok {
		code = c
	}
	if code == "" {
		return errors.New("name the code, or give the whole link")
	}
	return inRoom(ctx, cmd, out, name, func(ctx context.Context, s *session, uri mimi.RoomURI) error {
		if err := s.RevokeJoinCode(ctx, uri, code); err != nil {
			return err
		}
		return cmd.show(out, map[string]any{"room": uri, "revoked": code}, func(w io.Writer) { fmt.Fprintln(w, "The link is withdrawn.") })
	})
}
