package clientcmd

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
)

// RoomCmd is comity client room.
type RoomCmd struct {
	Create     RoomCreate  `cmd:"" help:"Create a room at your provider."`
	Policy     PolicyCmd   `cmd:"" help:"Who may do what, as a table; or change it."`
	Set        RoomSet     `cmd:"" help:"Change the room's name, subject, mood, avatar or description."`
	Role       RoomRole    `cmd:"" help:"Give somebody another role."`
	Kick       RoomKick    `cmd:"" help:"Take somebody's devices out; they stay a participant and may come back."`
	Ban        RoomBan     `cmd:"" help:"Ban somebody."`
	Unban      RoomUnban   `cmd:"" help:"Lift a ban."`
	InviteLink InviteLink  `cmd:"" help:"Links by which others can join."`
	Commit     RoomCommit  `cmd:"" help:"Commit what others proposed; it happens by itself too." hidden:""`
	Refound    RoomRefound `cmd:"" help:"Give a room that no change goes through in any more, or that its hub has lost, another MLS group; its participants and history stay."`
	Forget     RoomForget  `cmd:"" help:"Drop a room that you are out of, with its messages."`
}

// RoomCreate is comity client room create.
type RoomCreate struct {
	Name          string   `arg:"" optional:"" help:"Last part of the room's URI; without it a random one."`
	Preset        string   `help:"Who may do what: ${presets}." enum:"${presets}" default:"cooperative"`
	Title         string   `help:"What people call the room."`
	Subject       string   `help:"What it is about."`
	With          []string `help:"The other participants of a direct room." placeholder:"USER"`
	Organizations []string `help:"Domains of the organizations of a multi-organization room." placeholder:"DOMAIN"`
	NoFranking    bool     `help:"Without the hub's proof of who sent what."`
	SemiPrivate   bool     `help:"Hide from the other providers who changes the room, and how; only its members and the hub see it."`
	Pseudonyms    bool     `help:"Let people be participants under pseudonyms (base.pseudonyms=yes)."`
	Set           []string `help:"Change the preset's policy, as 'room policy set' does." placeholder:"CHANGE"`
}

// Run creates a room.
func (r *RoomCreate) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return cmd.online(ctx, out, func(ctx context.Context, s *session) error {
		n := client.NewRoom{Name: r.Name, Title: r.Title, Subject: r.Subject, Preset: policy.Preset(r.Preset), NoFranking: r.NoFranking, SemiPrivate: r.SemiPrivate}
		for _, w := range r.With {
			u, err := s.user(w)
			if err != nil {
				return err
			}
			n.Others = append(n.Others, u)
		}
		for _, o := range r.Organizations {
			d, err := mimi.ParseProviderDomain(o)
			if err != nil {
				return err
			}
			n.Organizations = append(n.Organizations, d)
		}
		changes := r.Set
		if r.Pseudonyms {
			changes = append([]string{"base.pseudonyms=yes"}, changes...)
		}
		n.Change = func(c *policy.Components) error {
			for _, change := range changes {
				if _, err := edit(c, change); err != nil {
					return err
				}
			}
			return nil
		}
		uri, err := s.CreateRoom(ctx, n)
		if err != nil {
			return err
		}
		return cmd.show(out, map[string]any{"room": uri, "preset": r.Preset}, func(w io.Writer) {
			fmt.Fprintf(w, "%s is there. %s\n", uri, policy.Preset(r.Preset).Does())
		})
	})
}

// presets are the names of all presets, as an enum of kong.
func presets() string {
	var names []string
	for _, p := range policy.Presets() {
		names = append(names, string(p))
	}
	return strings.Join(names, ",")
}

// Vars are the variables of kong that this package's flags use.
func Vars() map[string]string { return map[string]string{"presets": presets(), "device": deviceName()} }

// deviceName is this machine's name, as far as a device can be called so.
func deviceName() string {
	host, err := os.Hostname()
	if err != nil {
		return "device"
	}
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return -1
	}, strings.ToLower(strings.SplitN(host, ".", 2)[0]))
	if name == "" {
		return "device"
	}
	return name[:min(len(name), 32)]
}

// Rooms is comity client rooms.
type Rooms struct{}

// Run lists the rooms.
func (Rooms) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return cmd.local(ctx, out, func(ctx context.Context, s *session) error {
		list, err := s.Rooms(ctx)
		if err != nil {
			return err
		}
		if cmd.JSON {
			for i := range list {
				if err := cmd.show(out, &list[i], nil); err != nil {
					return err
				}
			}
			return nil
		}
		t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
		for _, r := range list {
			fmt.Fprintf(t, "%s\t%s\t%s\t%d participants\t%d unread\n", r.URI, safe(r.Name), r.Standing, r.Participants, r.Unread)
		}
		return t.Flush()
	})
}

// inRoom runs f for a room, with the device connected and in step.
func inRoom(ctx context.Context, cmd *Cmd, out io.Writer, name string, f func(ctx context.Context, s *session, uri mimi.RoomURI) error) error {
	return cmd.online(ctx, out, func(ctx context.Context, s *session) error {
		uri, err := s.room(name)
		if err != nil {
			return err
		}
		return f(ctx, s, uri)
	})
}

// about runs f for a user and a room.
func about(ctx context.Context, cmd *Cmd, out io.Writer, room, user, done string, f func(ctx context.Context, s *session, uri mimi.RoomURI, u mimi.UserURI) error) error {
	return inRoom(ctx, cmd, out, room, func(ctx context.Context, s *session, uri mimi.RoomURI) error {
		u, err := s.user(user)
		if err != nil {
			return err
		}
		if err := f(ctx, s, uri, u); err != nil {
			return err
		}
		r, err := s.Client.Room(ctx, uri)
		if err != nil {
			return err
		}
		v := map[string]any{"room": uri, "user": u, "done": done, "epoch": r.Epoch}
		return cmd.show(out, v, func(w io.Writer) { fmt.Fprintf(w, "%s %s in %s.\n", u, done, uri) })
	})
}

// Members is comity client members.
type Members struct {
	Room string `arg:"" help:"The room's URI or name."`
}

// Run lists the members.
func (m *Members) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return cmd.local(ctx, out, func(ctx context.Context, s *session) error {
		uri, err := s.room(m.Room)
		if err != nil {
			return err
		}
		list, err := s.Members(ctx, uri)
		if err != nil {
			return err
		}
		if cmd.JSON {
			for i := range list {
				if err := cmd.show(out, &list[i], nil); err != nil {
					return err
				}
			}
			return nil
		}
		t := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
		for _, p := range list {
			if p.Enforcer {
				continue
			}
			var devices []string
			for _, c := range p.Clients {
				parts := c.Segments()
				devices = append(devices, parts[len(parts)-1])
			}
			what := strings.Join(devices, ", ")
			if what == "" {
				what = "not here yet"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\n", p.User, safe(p.Role), what)
		}
		return t.Flush()
	})
}

// Add is comity client add.
type Add struct {
	Room string `arg:"" help:"The room's URI or name."`
	User string `arg:"" help:"Whom: a mimi: URI."`
	Role string `help:"The role; without it the lowest that you may give."`
}

// Run adds somebody.
func (a *Add) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return about(ctx, cmd, out, a.Room, a.User, "is added", func(ctx context.Context, s *session, uri mimi.RoomURI, u mimi.UserURI) error {
		return s.Add(ctx, uri, u, a.Role)
	})
}

// Remove is comity client remove.
type Remove struct {
	Room string `arg:"" help:"The room's URI or name."`
	User string `arg:"" help:"Whom."`
}

// Run removes somebody.
func (r *Remove) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return about(ctx, cmd, out, r.Room, r.User, "is removed", func(ctx context.Context, s *session, uri mimi.RoomURI, u mimi.UserURI) error {
		return s.Client.Remove(ctx, uri, u)
	})
}

// RoomKick is comity client room kick.
type RoomKick struct {
	Room string `arg:"" help:"The room's URI or name."`
	User string `arg:"" help:"Whom."`
}

// Run kicks somebody.
func (r *RoomKick) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return about(ctx, cmd, out, r.Room, r.User, "is kicked", func(ctx context.Context, s *session, uri mimi.RoomURI, u mimi.UserURI) error {
		return s.Kick(ctx, uri, u)
	})
}

// RoomBan is comity client room ban.
type RoomBan struct {
	Room string `arg:"" help:"The room's URI or name."`
	User string `arg:"" help:"Whom."`
}

// Run bans somebody.
func (r *RoomBan) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return about(ctx, cmd, out, r.Room, r.User, "is banned", func(ctx context.Context, s *session, uri mimi.RoomURI, u mimi.UserURI) error {
		return s.Ban(ctx, uri, u)
	})
}

// RoomUnban is comity client room unban.
type RoomUnban struct {
	Room string `arg:"" help:"The room's URI or name."`
	User string `arg:"" help:"Whom."`
	Role string `help:"The role to come back with; without it they are off the list."`
}

// Run lifts a ban.
func (r *RoomUnban) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return about(ctx, cmd, out, r.Room, r.User, "is not banned any more", func(ctx context.Context, s *session, uri mimi.RoomURI, u mimi.UserURI) error {
		return s.Unban(ctx, uri, u, r.Role)
	})
}

// RoomRole is comity client room role.
type RoomRole struct {
	Room string `arg:"" help:"The room's URI or name."`
	User string `arg:"" optional:"" help:"Whom; without it, you take the role for which you are preauthorized."`
	Role string `arg:"" optional:"" help:"The role's name or number."`
}

// Run changes a role.
func (r *RoomRole) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	if r.User == "" {
		return inRoom(ctx, cmd, out, r.Room, func(ctx context.Context, s *session, uri mimi.RoomURI) error {
			if err := s.ChangeOwnRole(ctx, uri); err != nil {
				return err
			}
			v, err := s.Client.Room(ctx, uri)
			if err != nil {
				return err
			}
			return cmd.show(out, map[string]any{"room": uri, "role": v.Role}, func(w io.Writer) { fmt.Fprintf(w, "You are now %s in %s.\n", safe(v.Role), uri) })
		})
	}
	if r.Role == "" {
		return fmt.Errorf("name the role too; 'room policy %s' shows them", r.Room)
	}
	return about(ctx, cmd, out, r.Room, r.User, "is now "+r.Role, func(ctx context.Context, s *session, uri mimi.RoomURI, u mimi.UserURI) error {
		return s.ChangeRole(ctx, uri, u, r.Role)
	})
}

// RoomSet is comity client room set.
type RoomSet struct {
	Room        string  `arg:"" help:"The room's URI or name."`
	Name        *string `help:"What people call the room."`
	Subject     *string `help:"What it is about now."`
	Mood        *string `help:"Its mood."`
	Avatar      *string `help:"An https URL of a picture."`
	Description *string `help:"A longer description, in plain text."`
}

// Run changes the metadata.
func (r *RoomSet) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return inRoom(ctx, cmd, out, r.Room, func(ctx context.Context, s *session, uri mimi.RoomURI) error {
		err := s.SetMetadata(ctx, uri, func(m *mimi.RoomMetaData) {
			for _, f := range []struct {
				from *string
				to   *string
			}{{r.Name, &m.RoomName}, {r.Subject, &m.RoomSubject}, {r.Mood, &m.RoomMood}, {r.Avatar, (*string)(&m.RoomAvatar)}} {
				if f.from != nil {
					*f.to = *f.from
				}
			}
			if r.Description != nil {
				m.RoomDescriptions = []mimi.RichDescription{{DescriptionContent: []byte(*r.Description)}}
			}
		})
		if err != nil {
			return err
		}
		v, err := s.Client.Room(ctx, uri)
		if err != nil {
			return err
		}
		return cmd.show(out, &v, func(w io.Writer) { fmt.Fprintf(w, "%s is changed.\n", uri) })
	})
}

// RoomCommit is comity client room commit.
type RoomCommit struct {
	Room string `arg:"" help:"The room's URI or name."`
}

// Run commits.
func (r *RoomCommit) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return inRoom(ctx, cmd, out, r.Room, func(ctx context.Context, s *session, uri mimi.RoomURI) error { return s.Commit(ctx, uri) })
}

// RoomRefound is comity client room refound.
type RoomRefound struct {
	Room string `arg:""`
}

// Run founds a room anew.
func (r *RoomRefound) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return inRoom(ctx, cmd, out, r.Room, func(ctx context.Context, s *session, uri mimi.RoomURI) error {
		if err := s.Refound(ctx, uri); err != nil {
			return err
		}
		v, err := s.Room(ctx, uri)
		if err != nil {
			return err
		}
		return cmd.show(out, map[string]any{"room": uri, "epoch": v.Epoch, "participants": v.Participants}, func(w io.Writer) {
			fmt.Fprintf(w, "%s has a new MLS group. The %d participants' devices come into it by themselves.\n", uri, v.Participants)
		})
	})
}

// RoomForget is comity client room forget.
type RoomForget struct {
	Room string `arg:"" help:"The room's URI or name."`
}

// Run forgets a room.
func (r *RoomForget) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return cmd.local(ctx, out, func(ctx context.Context, s *session) error {
		uri, err := s.room(r.Room)
		if err != nil {
			return err
		}
		return s.Forget(ctx, uri)
	})
}

// Leave is comity client leave.
type Leave struct {
	Room string `arg:"" help:"The room's URI or name."`
}

// Run leaves a room.
func (l *Leave) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return inRoom(ctx, cmd, out, l.Room, func(ctx context.Context, s *session, uri mimi.RoomURI) error {
		if err := s.Client.Leave(ctx, uri); err != nil {
			return err
		}
		return cmd.show(out, map[string]any{"room": uri, "done": "left"}, func(w io.Writer) {
			fmt.Fprintf(w, "You left %s. Another member's device makes it final.\n", uri)
		})
	})
}

// Join is comity client join.
type Join struct {
	Room string `arg:"" help:"The room's URI, or an invite link."`
	Code string `help:"A join code."`
	Role string `help:"The role to take, where there is a choice."`
}

// Run joins a room.
func (j *Join) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	name, code := j.Room, j.Code
	if room, c, ok := mimi.CutJoinLink(j.Room); ok {
		name, code = room, c
	}
	return inRoom(ctx, cmd, out, name, func(ctx context.Context, s *session, uri mimi.RoomURI) error {
		if err := s.Client.Join(ctx, uri, code, j.Role); err != nil {
			return err
		}
		v, err := s.Client.Room(ctx, uri)
		if err != nil {
			return err
		}
		return cmd.show(out, &v, func(w io.Writer) { fmt.Fprintf(w, "You are in %s, as %s.\n", uri, safe(v.Role)) })
	})
}
