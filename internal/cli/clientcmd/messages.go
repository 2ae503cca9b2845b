package clientcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/content"
)

func safe(s string) string { return content.PrintableLine(s) }

// posted is a message that was written, on its way.
func (s *session) posted(ctx context.Context, uri mimi.RoomURI, id content.MessageID, err error) error {
	if err != nil {
		return err
	}
	state, when := client.Sent, "when the provider can be reached"
	if err := s.Sent(ctx, uri, id); err != nil {
		var failed *client.FailedError
		if errors.As(err, &failed) {
			return err
		}
		var none *client.NoRoomError
		if errors.As(err, &none) {
			when = "when the room is there again: " + none.Why
		}
		state = client.Sending
	}
	return s.cmd.show(s.out, map[string]any{"room": uri, "id": id, "state": state}, func(w io.Writer) {
		if state == client.Sending {
			fmt.Fprintf(w, "%s is kept, and sent %s.\n", short(id), safe(when))
			return
		}
		fmt.Fprintf(w, "%s sent.\n", short(id))
	})
}

func short(id content.MessageID) string { return id.String()[:10] }

// write runs f, which puts a message into the outbox; it need not be online.
func write(ctx context.Context, cmd *Cmd, out io.Writer, room string, f func(ctx context.Context, s *session, uri mimi.RoomURI) (content.MessageID, error)) error {
	return cmd.local(ctx, out, func(ctx context.Context, s *session) error {
		uri, err := s.room(room)
		if err != nil {
			return err
		}
		id, err := f(ctx, s, uri)
		wait := cmd.Timeout
		if !s.Online() {
			wait = time.Millisecond
		}
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		return s.posted(ctx, uri, id, err)
	})
}

// words is the text of a message: the arguments, or standard input.
func words(args []string) (string, error) {
	if len(args) > 0 && !(len(args) == 1 && args[0] == "-") {
		return strings.Join(args, " "), nil
	}
	b, err := io.ReadAll(io.LimitReader(os.Stdin, 1<<20))
	return strings.TrimRight(string(b), "\n"), err
}

// Send is comity client send.
type Send struct {
	Room    string        `arg:"" help:"The room's URI or name."`
	Text    []string      `arg:"" optional:"" help:"The message, in Markdown; without it or with - standard input."`
	Topic   string        `help:"The topic it is in."`
	Expires time.Duration `help:"Let it expire so long after it is read."`
	Plain   bool          `help:"Plain text instead of Markdown."`
}

// Run sends a message.
func (m *Send) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	text, err := words(m.Text)
	if err != nil {
		return err
	}
	return write(ctx, cmd, out, m.Room, func(ctx context.Context, s *session, uri mimi.RoomURI) (content.MessageID, error) {
		body := content.Markdown(text)
		if m.Plain {
			body = content.Plain(text)
		}
		c, err := s.Composer(uri).Compose(body)
		if err != nil {
			return content.MessageID{}, err
		}
		c.TopicID = []byte(m.Topic)
		if m.Expires > 0 {
			c.Expires = &content.Expiration{Relative: true, Time: uint32(m.Expires / time.Second)}
		}
		return s.SendContent(ctx, uri, c)
	})
}

// target is what the commands about a message take.
type target struct {
	Room    string `arg:"" help:"The room's URI or name."`
	Message string `arg:"" help:"The message's ID, its first digits, or 'last'."`
}

func (t *target) write(ctx context.Context, cmd *Cmd, out io.Writer, f func(ctx context.Context, s *session, uri mimi.RoomURI, id content.MessageID) (content.MessageID, error)) error {
	return write(ctx, cmd, out, t.Room, func(ctx context.Context, s *session, uri mimi.RoomURI) (content.MessageID, error) {
		id, err := s.message(ctx, uri, t.Message)
		if err != nil {
			return id, err
		}
		return f(ctx, s, uri, id)
	})
}

// Reply is comity client reply.
type Reply struct {
	target
	Text []string `arg:"" optional:"" help:"The answer; without it or with - standard input."`
}

// Run answers a message.
func (r *Reply) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	text, err := words(r.Text)
	if err != nil {
		return err
	}
	return r.write(ctx, cmd, out, func(ctx context.Context, s *session, uri mimi.RoomURI, id content.MessageID) (content.MessageID, error) {
		return s.Client.Reply(ctx, uri, id, text)
	})
}

// React is comity client react.
type React struct {
	target
	Emoji []string `arg:"" help:"One emoji or more."`
}

// Run reacts to a message.
func (r *React) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return r.write(ctx, cmd, out, func(ctx context.Context, s *session, uri mimi.RoomURI, id content.MessageID) (content.MessageID, error) {
		return s.Client.React(ctx, uri, id, r.Emoji...)
	})
}

// Edit is comity client edit.
type Edit struct {
	target
	Text []string `arg:"" optional:"" help:"The new text; without it or with - standard input."`
}

// Run edits a message.
func (e *Edit) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	text, err := words(e.Text)
	if err != nil {
		return err
	}
	return e.write(ctx, cmd, out, func(ctx context.Context, s *session, uri mimi.RoomURI, id content.MessageID) (content.MessageID, error) {
		return s.Client.Edit(ctx, uri, id, text)
	})
}

// Delete is comity client delete.
type Delete struct{ target }

// Run deletes a message.
func (d *Delete) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return d.write(ctx, cmd, out, func(ctx context.Context, s *session, uri mimi.RoomURI, id content.MessageID) (content.MessageID, error) {
		return s.Client.Delete(ctx, uri, id)
	})
}

// Read is comity client read.
type Read struct {
	Room   string `arg:"" optional:"" help:"The room's URI or name; without it, all rooms."`
	Follow bool   `help:"Go on as messages come, until interrupted." short:"f"`
	All    bool   `help:"Also what was read before." short:"a"`
	Last   int    `help:"Only so many of the end."`
	Events bool   `help:"Also who came, went, and what changed." short:"e"`
}

// Run reads messages.
func (r *Read) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	if r.Follow {
		return r.follow(ctx, cmd, out)
	}
	return cmd.local(ctx, out, func(ctx context.Context, s *session) error { return r.print(ctx, s) })
}

func (r *Read) rooms(ctx context.Context, s *session) ([]mimi.RoomURI, error) {
	if r.Room != "" {
		uri, err := s.room(r.Room)
		return []mimi.RoomURI{uri}, err
	}
	list, err := s.Rooms(ctx)
	var uris []mimi.RoomURI
	for _, x := range list {
		uris = append(uris, x.URI)
	}
	return uris, err
}

// print prints what is to be read now.
func (r *Read) print(ctx context.Context, s *session) error {
	uris, err := r.rooms(ctx, s)
	if err != nil {
		return err
	}
	for _, uri := range uris {
		items, err := s.History(ctx, uri, client.HistoryOptions{New: !r.All && r.Last == 0, Last: r.Last, Events: r.Events})
		if err != nil {
			return err
		}
		for i := range items {
			if err := r.item(s, uri, &items[i], len(uris) > 1); err != nil {
				return err
			}
		}
		if err := s.receipts(ctx, uri); err != nil {
			return err
		}
	}
	return nil
}

func (r *Read) item(s *session, uri mimi.RoomURI, i *client.Item, several bool) error {
	if s.cmd.JSON {
		if i.Message != nil {
			return s.cmd.show(s.out, i.Message, nil)
		}
		return s.cmd.show(s.out, i.Event, nil)
	}
	room := ""
	if several {
		room = "[" + uri.Name() + "] "
	}
	if m := i.Message; m != nil {
		_, err := fmt.Fprintf(s.out, "%s %s %s%s\n", short(m.ID), m.Time.Format("Jan _2 15:04"), room, m.Line())
		return err
	}
	_, err := fmt.Fprintf(s.out, "%10s %s %s\n", "*", i.Event.Time.Format("Jan _2 15:04"), i.Event.Line())
	return err
}

func (r *Read) follow(ctx context.Context, cmd *Cmd, out io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := cmd.open(ctx, out, true)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.synced(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "comity: not connected yet: %v\n", plain(err))
	}
	if err := r.print(ctx, s); err != nil {
		return plain(err)
	}
	uris, err := r.rooms(ctx, s)
	if err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.done:
			s.done <- err
			return plain(err)
		case e := <-s.events:
			if err := r.event(ctx, s, e, uris); err != nil {
				return plain(err)
			}
		}
	}
}

// event prints what happened. Messages that came while the history was read are
// not printed twice: reading is by what is new.
func (r *Read) event(ctx context.Context, s *session, e *client.Event, uris []mimi.RoomURI) error {
	if r.Room != "" && e.Room != uris[0] {
		return nil
	}
	if e.Kind == client.EventMessage {
		items, err := s.History(ctx, e.Room, client.HistoryOptions{New: true})
		if err != nil {
			return err
		}
		printed := false
		for i := range items {
			printed = printed || items[i].Message.ID == e.Message.ID
			if err := r.item(s, e.Room, &items[i], r.Room == ""); err != nil {
				return err
			}
		}
		if e.Message.Act == "say" || e.Message.Act == "reply" || e.Message.Own || printed {
			return nil
		}
		return r.item(s, e.Room, &client.Item{Message: e.Message}, r.Room == "") // an edit, a deletion, a reaction
	}
	if r.Events || e.Kind == client.EventProblem || e.Kind == client.EventRepaired || e.Kind == client.EventOut || e.Kind == client.EventFailed {
		return r.item(s, e.Room, &client.Item{Event: e}, false)
	}
	return nil
}

// Run is comity client run.
type Run struct{}

// Run stays connected and prints what happens.
func (Run) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := cmd.open(ctx, out, true)
	if err != nil {
		return err
	}
	defer s.close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.done:
			s.done <- err
			return plain(err)
		case e := <-s.events:
			if err := cmd.show(out, e, func(w io.Writer) { fmt.Fprintln(w, e.Line()) }); err != nil {
				return err
			}
		}
	}
}

// Asset is comity client asset.
type Asset struct {
	Send AssetSend `cmd:"" help:"Send a file, encrypted."`
	Get  AssetGet  `cmd:"" help:"Fetch a file that a message points to, and decrypt it."`
}

// AssetSend is comity client asset send.
type AssetSend struct {
	Room        string `arg:"" help:"The room's URI or name."`
	File        string `arg:"" help:"The file." type:"existingfile"`
	Type        string `help:"Its media type; without it, by its name and content."`
	Description string `help:"A word about it."`
	Inline      bool   `help:"To be shown with the message, not only offered."`
}

// Run sends a file.
func (a *AssetSend) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	data, err := os.ReadFile(a.File)
	if err != nil {
		return err
	}
	kind := a.Type
	if kind == "" {
		kind = mime.TypeByExtension(filepath.Ext(a.File))
	}
	if kind == "" {
		kind = http.DetectContentType(data)
	}
	return inRoom(ctx, cmd, out, a.Room, func(ctx context.Context, s *session, uri mimi.RoomURI) error {
		id, err := s.SendFile(ctx, uri, client.File{Name: filepath.Base(a.File), ContentType: kind, Description: a.Description, Data: data, Render: a.Inline})
		return s.posted(ctx, uri, id, err)
	})
}

// AssetGet is comity client asset get.
type AssetGet struct {
	target
	Out  string `help:"Where to; without it, the file's own name in this folder. - is standard output." short:"o" placeholder:"FILE"`
	Part int    `help:"Which part of the message, if it has several." default:"-1"`
	By   string `help:"How to download: proxy, ohttp or direct; without it, as the room's policy says." enum:",proxy,ohttp,direct" default:""`
}

// Run fetches a file.
func (a *AssetGet) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return inRoom(ctx, cmd, out, a.Room, func(ctx context.Context, s *session, uri mimi.RoomURI) error {
		id, err := s.message(ctx, uri, a.Message)
		if err != nil {
			return err
		}
		part, data, err := s.Fetch(ctx, uri, id, a.Part, client.Route(a.By), fetch)
		if err != nil {
			return err
		}
		if a.Out == "-" {
			_, err := out.Write(data)
			return err
		}
		name := a.Out
		if name == "" {
			// The name is somebody else's: only its last part, and nothing that is there is overwritten.
			name = filepath.Base(filepath.Clean("/" + strings.ReplaceAll(safe(part.Filename), "\\", "/")))
			if name == "/" || name == "." {
				name = short(id)
			}
			name = strings.TrimLeft(name, ".")
		}
		flags := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
		if a.Out == "" {
			flags |= os.O_EXCL
		}
		f, err := os.OpenFile(name, flags, 0o600)
		if err != nil {
			return err
		}
		if _, err := f.Write(data); err != nil {
			f.Close()
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
		v := map[string]any{"file": name, "size": len(data), "content_type": safe(part.ContentType)}
		return cmd.show(out, v, func(w io.Writer) { fmt.Fprintf(w, "%s: %d octets, %s.\n", name, len(data), safe(part.ContentType)) })
	})
}

// fetch downloads a URL directly.
func fetch(ctx context.Context, url string) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	c := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := c.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("the file's host answered %s", resp.Status)
	}
	return resp.Body, nil
}

// Report is comity client report.
type Report struct {
	Room     string   `arg:"" help:"The room's URI or name."`
	Messages []string `arg:"" help:"The messages' IDs, or their first digits; all of one user."`
	Note     string   `help:"What the hub's operator should know."`
}

// Run reports messages.
func (r *Report) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return inRoom(ctx, cmd, out, r.Room, func(ctx context.Context, s *session, uri mimi.RoomURI) error {
		var ids []content.MessageID
		for _, m := range r.Messages {
			id, err := s.message(ctx, uri, m)
			if err != nil {
				return err
			}
			ids = append(ids, id)
		}
		if err := s.ReportAbuse(ctx, uri, r.Note, ids...); err != nil {
			return err
		}
		return cmd.show(out, map[string]any{"room": uri, "reported": ids}, func(w io.Writer) {
			fmt.Fprintf(w, "Reported to %s, with the text and the hub's proof of who sent it.\n", uri.Host())
		})
	})
}
