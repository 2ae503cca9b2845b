package demo

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/client/clientdb"
	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/internal/cluster"
	"github.com/comity-im/comity/mimi/content"
)

// password is everybody's: nobody but the demo's own providers hears it.
const password = "a demo's password"

// A person is one device of somebody, with its own folder.
type person struct {
	name, device, dir string
	story             *story
	client            *client.Client
	store             *clientdb.DB
	log               *os.File
	stop              context.CancelFunc
	stopped           chan struct{}
	gone              bool // left the room

	mu      sync.Mutex
	events  []client.Event
	changed chan struct{}
	read    map[content.MessageID]int // how often each message was shown
}

func (p *person) title() string {
	t := string(p.name[0]-'a'+'A') + p.name[1:]
	if p.device != "phone" {
		t += " (" + p.device + ")"
	}
	return t
}

// open registers the device, or logs it in, and makes it work.
func (p *person) open(ctx context.Context, at *cluster.Provider, c *cluster.Cluster, register bool) error {
	api, err := clientapi.NewClient(clientapi.ClientConfig{URL: at.ClientURL(), Roots: c.Roots})
	if err != nil {
		return err
	}
	login := clientapi.Login{User: p.name, Password: password, Device: p.device}
	enter := api.Login
	if register {
		enter = api.Register
	}
	var session clientapi.Session
	err = patiently(ctx, func() (err error) {
		session, err = enter(ctx, login)
		return err
	})
	if err != nil {
		return err
	}
	if p.store, err = clientdb.Open(ctx, p.dir); err != nil {
		return err
	}
	roots, err := os.ReadFile(c.CAFile)
	if err != nil {
		return err
	}
	if err := client.SaveSession(ctx, p.store, client.Session{Session: session, URL: at.ClientURL(), Roots: roots}); err != nil {
		return err
	}
	if p.log, err = os.OpenFile(p.dir+".log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return err
	}
	p.changed, p.read = make(chan struct{}), map[content.MessageID]int{}
	p.client, err = client.Open(ctx, client.Config{Store: p.store, Provider: client.Over(api.WithToken(session.Token)), Notify: p.notify,
		Logger: slog.New(slog.NewJSONHandler(p.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		// The story does not wait as long as the room's policy lets devices wait.
		CommitDelay: func() time.Duration { return rand.N(time.Second) },
	})
	if err != nil {
		return err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	p.stop, p.stopped = stop, make(chan struct{})
	go func() {
		defer close(p.stopped)
		p.client.Run(run)
	}()
	return p.client.Synced(ctx)
}

// notify keeps what happens at the device.
func (p *person) notify(e client.Event) {
	fmt.Fprintf(p.log, "%s event %s %s\n", e.Time.Format(time.RFC3339Nano), e.Kind, e.Line())
	p.mu.Lock()
	p.events = append(p.events, e)
	if e.Kind == client.EventMessage && e.Message != nil {
		p.read[e.Message.ID]++
	}
	close(p.changed)
	p.changed = make(chan struct{})
	p.mu.Unlock()
	if e.Kind == client.EventProblem || e.Kind == client.EventRepaired {
		p.story.print.note("%s: %s", p.title(), e.Line())
	}
}

// until waits until an event of the device, from the beginning on, is the one.
func (p *person) until(ctx context.Context, missing string, ok func(client.Event) bool) error {
	seen := 0
	for {
		p.mu.Lock()
		for ; seen < len(p.events); seen++ {
			if ok(p.events[seen]) {
				p.mu.Unlock()
				return nil
			}
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s %s: %w", p.title(), missing, context.Cause(ctx))
		case <-changed:
		}
	}
}

func (p *person) close() {
	if p.stop != nil {
		p.stop()
		<-p.stopped
		p.stop = nil
	}
	if p.store != nil {
		p.store.Close()
		p.log.Close()
		p.store = nil
	}
}
