// Package clientcmd is the command line of a person at one device: comity client.
package clientcmd

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/client/clientdb"
	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/content"
)

// Cmd is comity client.
type Cmd struct {
	Dir     string        `help:"Folder of this device: its keys, rooms and messages. Another device is another folder." required:"" env:"COMITY_CLIENT" placeholder:"DIR"`
	JSON    bool          `help:"Print JSON, one object a line." name:"json"`
	Timeout time.Duration `help:"How long to wait for the provider." default:"30s"`
	Verbose bool          `help:"Say on standard error what the device does by itself." short:"v"`

	MinimalMetadata bool `help:"Follow minimal metadata rooms, whose members have pseudonymous credentials (MIMI protocol, section 6)." env:"COMITY_MINIMAL_METADATA"`

	Register      Register      `cmd:"" help:"Create an account, with this folder as its first device."`
	Login         Login         `cmd:"" help:"Make this folder a device of an account."`
	Devices       Devices       `cmd:"" help:"List the user's devices, or end one."`
	Status        Status        `cmd:"" help:"Who this device is, and how it stands."`
	DeleteAccount DeleteAccount `cmd:"" name:"delete-account" help:"Leave all rooms and delete the account, with all its devices."`

	Room    RoomCmd `cmd:"" help:"Create a room; who may do what in it, and changing that."`
	Rooms   Rooms   `cmd:"" help:"List the rooms."`
	Members Members `cmd:"" help:"List who is in a room."`
	Add     Add     `cmd:"" help:"Add somebody to a room by their mimi: URI."`
	Remove  Remove  `cmd:"" help:"Take somebody off a room's list of participants."`
	Join    Join    `cmd:"" help:"Come into a room by yourself: with an invite link, where anybody may, or again."`
	Leave   Leave   `cmd:"" help:"Leave a room, with all your devices."`

	Send     Send     `cmd:"" help:"Send a message."`
	Read     Read     `cmd:"" help:"Read what is new; --follow goes on."`
	Reply    Reply    `cmd:"" help:"Answer a message."`
	React    React    `cmd:"" help:"React to a message with an emoji."`
	Edit     Edit     `cmd:"" help:"Put another text in the place of a message of yours."`
	Delete   Delete   `cmd:"" help:"Delete a message or a reaction."`
	Asset    Asset    `cmd:"" help:"Send and fetch files."`
	Receipts Receipts `cmd:"" help:"Whether others hear that messages reached you, and that you read them."`
	Report   Report   `cmd:"" help:"Report messages to the room's hub, with the proof of who sent them."`

	Consent Consent `cmd:"" help:"Who may add you to rooms, and whom you asked."`
	Find    Find    `cmd:"" help:"Look for people at a provider."`
	Profile Profile `cmd:"" help:"What others may find you by."`
	Run     Run     `cmd:"" help:"Stay connected: receive, and do what is to be done by itself."`
}

// AfterApply makes the flags above known to the commands below.
func (c *Cmd) AfterApply(k *kong.Context) error {
	k.Bind(c)
	return nil
}

// session is the device while a command runs.
type session struct {
	*client.Client
	cmd  *Cmd
	out  io.Writer
	db   *clientdb.DB
	stop func()
	done chan error // what Run returned

	offline chan string        // why the provider can't be reached, once
	events  chan *client.Event // nil: nobody wants them
}

// open opens the device and begins to connect.
func (c *Cmd) open(ctx context.Context, out io.Writer, follow bool) (*session, error) {
	if !clientdb.Exists(c.Dir) {
		return nil, fmt.Errorf("there is no device in %s; make one with 'register' or 'login'", c.Dir)
	}
	db, err := clientdb.Open(ctx, c.Dir)
	if err != nil {
		return nil, err
	}
	s := &session{cmd: c, out: out, db: db, done: make(chan error, 1), offline: make(chan string, 1)}
	if follow {
		s.events = make(chan *client.Event, 1024)
	}
	if err := s.start(ctx); err != nil {
		db.Close()
		return nil, err
	}
	return s, nil
}

func (s *session) start(ctx context.Context) error {
	saved, err := client.LoadSession(ctx, s.db)
	if err != nil {
		return err
	}
	api, err := connect(saved.URL, saved.Roots)
	if err != nil {
		return err
	}
	logger := slog.New(slog.DiscardHandler)
	if s.cmd.Verbose {
		logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	cfg := client.Config{Store: s.db, Provider: client.Over(api.WithToken(saved.Token)), Notify: s.note, Logger: logger, Pseudonyms: s.cmd.MinimalMetadata}
	if s.events == nil {
		// Such a command does not last as long as the room's policy lets devices wait.
		cfg.CommitDelay = func() time.Duration { return rand.N(200 * time.Millisecond) }
	}
	s.Client, err = client.Open(ctx, cfg)
	if err != nil {
		return err
	}
	running, cancel := context.WithCancel(ctx)
	s.stop = cancel
	go func() {
		s.done <- s.Client.Run(running)
		api.Close()
	}()
	return nil
}

func (s *session) note(e client.Event) {
	if s.cmd.Verbose && e.Kind != client.EventMessage {
		fmt.Fprintln(os.Stderr, e.Line())
	}
	if e.Kind == client.EventOffline {
		select {
		case s.offline <- e.Text:
		default:
		}
	}
	if s.events != nil {
		select {
		case s.events <- &e:
		default: // whoever reads is slow; what it misses is in the history
		}
	}
}

// synced waits until all that the provider has for this device is here.
func (s *session) synced(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.cmd.Timeout, fmt.Errorf("the provider did not answer within %v", s.cmd.Timeout))
	defer cancel()
	ready := make(chan error, 1)
	go func() { ready <- s.Synced(ctx) }()
	select {
	case err := <-ready:
		if err == nil {
			// What is to be done by itself comes first: a command shows the rooms after it.
			ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			s.Idle(ctx)
		}
		return err
	case err := <-s.done:
		s.done <- err
		if err == nil {
			err = errors.New("the device stopped")
		}
		return err
	case why := <-s.offline:
		return errors.New(why)
	}
}

// close lets the device end what it is at, and stops it.
func (s *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if len(s.offline) == 0 && len(s.done) == 0 {
		s.Idle(ctx)
	}
	s.stop()
	<-s.done
	s.db.Close()
}

// online runs f with the device connected and in step.
func (c *Cmd) online(ctx context.Context, out io.Writer, f func(ctx context.Context, s *session) error) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := c.open(ctx, out, false)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.synced(ctx); err != nil {
		return plain(err)
	}
	limited, cancel := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("it took longer than %v; if it was under way, it goes on with the next command", c.Timeout))
	defer cancel()
	return plain(f(limited, s))
}

// local runs f with the device in step if the provider answers, else as it is.
func (c *Cmd) local(ctx context.Context, out io.Writer, f func(ctx context.Context, s *session) error) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := c.open(ctx, out, false)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.synced(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "comity: not connected, this is what the device has: %v\n", plain(err))
	}
	return plain(f(ctx, s))
}

// plain drops the name of a package from an error that a person reads.
func plain(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, prefix := range []string{"client: ", "policy: ", "room: ", "mimi: ", "clientapi: "} {
		text = strings.TrimPrefix(text, prefix)
	}
	if text == err.Error() {
		return err
	}
	return &plainError{text, err}
}

type plainError struct {
	text string
	err  error
}

func (e *plainError) Error() string { return e.text }
func (e *plainError) Unwrap() error { return e.err }

// show prints v as JSON if that is asked for, else by f.
func (c *Cmd) show(out io.Writer, v any, f func(w io.Writer)) error {
	if c.JSON {
		return json.NewEncoder(out).Encode(v)
	}
	f(out)
	return nil
}

// connect returns a client of the provider at a URL.
func connect(url string, roots []byte) (*clientapi.Client, error) {
	cfg := clientapi.ClientConfig{URL: url}
	if len(roots) > 0 {
		cfg.Roots = x509.NewCertPool()
		if !cfg.Roots.AppendCertsFromPEM(roots) {
			return nil, errors.New("the file of authorities holds no certificate in PEM")
		}
	}
	return clientapi.NewClient(cfg)
}

// room reads the name or URI of a room.
func (s *session) room(name string) (mimi.RoomURI, error) {
	uri, err := s.ParseRoom(name)
	return uri, plain(err)
}

// user reads a mimi: URI of a user; a bare name is somebody at the own provider.
func (s *session) user(name string) (mimi.UserURI, error) {
	if !strings.Contains(name, "://") {
		if local, domain, at := strings.Cut(name, "@"); at {
			return "", fmt.Errorf("%s is not how MIMI names people; did you mean mimi://%s/u/%s?", name, domain, local)
		}
		return mimi.NewUserURI(s.User().Host(), name)
	}
	return mimi.ParseUserURI(name)
}

// message reads a message ID, or as much of its beginning as is unique in the room.
func (s *session) message(ctx context.Context, uri mimi.RoomURI, text string) (content.MessageID, error) {
	if id, err := content.ParseMessageID(text); err == nil {
		return id, nil
	}
	var found []content.MessageID
	items, err := s.History(ctx, uri, client.HistoryOptions{Peek: true})
	if err != nil {
		return content.MessageID{}, err
	}
	for _, i := range items {
		if m := i.Message; m != nil && (strings.HasPrefix(m.ID.String(), text) || text == "last") && !slices.Contains(found, m.ID) {
			found = append(found, m.ID)
		}
	}
	switch {
	case text == "last" && len(found) > 0:
		return found[len(found)-1], nil
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0:
		return content.MessageID{}, fmt.Errorf("there is no message whose ID begins with %q; 'read --all' shows them", text)
	}
	return content.MessageID{}, fmt.Errorf("%d messages begin with %q; give more of the ID", len(found), text)
}
