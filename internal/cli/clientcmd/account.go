package clientcmd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/client/clientdb"
	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
)

// credentials are what registering and logging in take.
type credentials struct {
	User         string `arg:"" help:"The user: its mimi: URI, or its name."`
	Provider     string `help:"The provider's address for clients." required:"" env:"COMITY_PROVIDER" placeholder:"https://a.example:8444"`
	CA           string `help:"PEM file of the authority of the provider's certificate, if it is not a public one." name:"ca" type:"existingfile" env:"COMITY_CA" placeholder:"FILE"`
	Device       string `help:"A name for this device." default:"${device}"`
	PasswordFile string `help:"File with the password; - is standard input. Without it, COMITY_PASSWORD." placeholder:"FILE"`
}

func (c *credentials) password() (string, error) { return readPassword(c.PasswordFile) }

func readPassword(file string) (string, error) {
	if file == "" {
		if p := os.Getenv("COMITY_PASSWORD"); p != "" {
			return p, nil
		}
		return "", errors.New("there is no password: give a file with --password-file (- for standard input), or set COMITY_PASSWORD")
	}
	in := os.Stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	line, err := bufio.NewReader(io.LimitReader(in, 4096)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// enter registers or logs in, and makes the folder the device.
func (c *credentials) enter(ctx context.Context, cmd *Cmd, out io.Writer, invite string, f func(*clientapi.Client, clientapi.Login) (clientapi.Session, error)) error {
	password, err := c.password()
	if err != nil {
		return err
	}
	name := c.User
	if strings.Contains(name, "://") {
		user, err := mimi.ParseUserURI(name)
		if err != nil {
			return err
		}
		name = user.Name()
	}
	var roots []byte
	if c.CA != "" {
		if roots, err = os.ReadFile(c.CA); err != nil {
			return err
		}
	}
	api, err := connect(c.Provider, roots)
	if err != nil {
		return err
	}
	defer api.Close()
	db, err := clientdb.Open(ctx, cmd.Dir)
	if err != nil {
		return err
	}
	if err := c.save(ctx, db, f, api, clientapi.Login{User: name, Password: password, Device: c.Device, Invite: invite}, roots); err != nil {
		db.Close()
		return err
	}
	db.Close()
	// The first connection: a credential, a stock of KeyPackages, the user's rooms.
	return cmd.online(ctx, out, func(ctx context.Context, s *session) error {
		if strings.Contains(c.User, "://") && string(s.User()) != c.User {
			return fmt.Errorf("the provider at %s made you %s, not %s", c.Provider, s.User(), c.User)
		}
		v := map[string]any{"user": s.User(), "device": s.Device(), "folder": cmd.Dir}
		return cmd.show(out, v, func(w io.Writer) {
			fmt.Fprintf(w, "You are %s, at device %s. The folder %s holds its keys: keep it to yourself.\n", s.User(), s.Device(), cmd.Dir)
		})
	})
}

func (c *credentials) save(ctx context.Context, db *clientdb.DB, f func(*clientapi.Client, clientapi.Login) (clientapi.Session, error), api *clientapi.Client, login clientapi.Login, roots []byte) error {
	old, err := client.LoadSession(ctx, db)
	if err != nil && !errors.Is(err, client.ErrNoDevice) {
		return err
	}
	if err == nil && old.User.Name() != login.User {
		return fmt.Errorf("this folder is the device %s; another user needs another folder", old.Client)
	}
	s, err := f(api, login)
	if err != nil {
		return err
	}
	return plain(client.SaveSession(ctx, db, client.Session{Session: s, URL: c.Provider, Roots: roots}))
}

// Register is comity client register.
type Register struct {
	credentials
	Invite string `help:"The invite, where the provider needs one."`
}

// Run registers.
func (r *Register) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return r.enter(ctx, cmd, out, r.Invite, func(api *clientapi.Client, l clientapi.Login) (clientapi.Session, error) { return api.Register(ctx, l) })
}

// Login is comity client login.
type Login struct{ credentials }

// Run logs in.
func (l *Login) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return l.enter(ctx, cmd, out, "", func(api *clientapi.Client, l clientapi.Login) (clientapi.Session, error) { return api.Login(ctx, l) })
}

// Devices is comity client devices.
type Devices struct {
	List   DevicesList   `cmd:"" default:"1" help:"List them."`
	Remove DevicesRemove `cmd:"" help:"End a device: it is logged out and taken out of all rooms."`
}

// DevicesList is comity client devices list.
type DevicesList struct{}

// Run lists the devices.
func (DevicesList) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return cmd.online(ctx, out, func(ctx context.Context, s *session) error {
		list, err := s.Devices(ctx)
		if err != nil {
			return err
		}
		return cmd.show(out, list, func(w io.Writer) {
			t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
			for _, d := range list {
				mark := ""
				if d.Client == s.Device() {
					mark = "this one"
				}
				fmt.Fprintf(t, "%s\tsince %s\tseen %s\t%d KeyPackages\t%s\n", d.Client, date(d.CreatedMillis), date(d.SeenMillis), d.Stock, mark)
			}
			t.Flush()
		})
	})
}

func date(millis int64) string {
	if millis == 0 {
		return "never"
	}
	return time.UnixMilli(millis).Format("2006-01-02 15:04")
}

// DevicesRemove is comity client devices remove.
type DevicesRemove struct {
	Device string `arg:"" help:"The device's URI, or its name."`
}

// Run ends a device.
func (d *DevicesRemove) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return cmd.online(ctx, out, func(ctx context.Context, s *session) error {
		uri, err := mimi.ParseClientURI(d.Device)
		if err != nil {
			list, e := s.Devices(ctx)
			if e != nil {
				return e
			}
			for _, x := range list {
				if parts := x.Client.Segments(); parts[len(parts)-1] == d.Device {
					uri, err = x.Client, nil
				}
			}
		}
		if err != nil {
			return fmt.Errorf("you have no device %q", d.Device)
		}
		if uri == s.Device() {
			return errors.New("that is this device; end it from another one")
		}
		if err := s.RemoveDevice(ctx, uri); err != nil {
			return err
		}
		return cmd.show(out, map[string]any{"removed": uri}, func(w io.Writer) { fmt.Fprintf(w, "%s is ended.\n", uri) })
	})
}

// Status is comity client status.
type Status struct{}

// Run says how the device stands.
func (Status) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return cmd.local(ctx, out, func(ctx context.Context, s *session) error {
		rooms, err := s.Rooms(ctx)
		if err != nil {
			return err
		}
		v := struct {
			User   mimi.UserURI   `json:"user"`
			Device mimi.ClientURI `json:"device"`
			Online bool           `json:"online"`
			Rooms  []client.Room  `json:"rooms"`
		}{s.User(), s.Device(), s.Online(), rooms}
		return cmd.show(out, v, func(w io.Writer) {
			fmt.Fprintf(w, "user    %s\ndevice  %s\n", v.User, v.Device)
			for _, r := range rooms {
				fmt.Fprintf(w, "room    %s: %s", r.URI, r.Standing)
				if r.Standing == client.Joined {
					fmt.Fprintf(w, ", epoch %d, %d unread", r.Epoch, r.Unread)
				}
				for _, x := range []string{r.Why, r.Repair} {
					if x != "" {
						fmt.Fprintf(w, " (%s)", x)
					}
				}
				if r.Outbox > 0 {
					fmt.Fprintf(w, ", %d to be sent", r.Outbox)
				}
				fmt.Fprintln(w)
				if r.Authenticator != "" {
					fmt.Fprintf(w, "        epoch authenticator %.16s: the same for everybody who is in step\n", r.Authenticator)
				}
			}
		})
	})
}

// DeleteAccount is comity client delete-account.
type DeleteAccount struct {
	PasswordFile string `help:"File with the password; - is standard input. Without it, COMITY_PASSWORD." placeholder:"FILE"`
}

// Run deletes the account.
func (d *DeleteAccount) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	password, err := readPassword(d.PasswordFile)
	if err != nil {
		return err
	}
	return cmd.online(ctx, out, func(ctx context.Context, s *session) error {
		user := s.User()
		if err := s.Client.DeleteAccount(ctx, password); err != nil {
			return err
		}
		return cmd.show(out, map[string]any{"deleted": user}, func(w io.Writer) { fmt.Fprintf(w, "%s is deleted.\n", user) })
	})
}
