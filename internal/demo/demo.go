// Package demo plays the story of MIMI protocol §3 with three real providers:
// Alice on a.example creates the room clubhouse and adds Bob of b.example, Bob
// adds Cathy of c.example, Cathy writes, Bob leaves, Cathy's new device joins.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/internal/cluster"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
)

// Options say how to play.
type Options struct {
	Out     io.Writer
	JSON    bool     // one object a line
	Keep    bool     // leave everything running at the end, until ctx ends
	Dir     string   // where everything is kept; empty: a new folder, removed at the end
	Command []string // starts a provider; its config file's name is appended
	// Between is called between the steps, with the name of the one that was
	// just played; tests break things in it. May be nil.
	Between func(ctx context.Context, step string, c *cluster.Cluster) error
	// During is called when a step begins, and ends with its context; tests
	// break things in it. May be nil.
	During func(ctx context.Context, step string, c *cluster.Cluster)
}

// stepTime is how long one step may take.
const stepTime = 30 * time.Second

// A story is a play under way.
type story struct {
	Options
	print   printer
	cluster *cluster.Cluster
	people  []*person
	room    mimi.RoomURI
	sent    int
	reads   int
}

// Run plays the story once.
func Run(ctx context.Context, o Options) (err error) {
	if o.Dir == "" {
		dir, err := os.MkdirTemp("", "comity-demo-")
		if err != nil {
			return err
		}
		o.Dir = dir
		defer os.RemoveAll(dir)
	}
	s := &story{Options: o, print: newPrinter(o.Out, o.JSON)}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() {
		for _, p := range s.people {
			p.close()
		}
		if s.cluster != nil {
			s.cluster.Stop()
		}
	}()
	for _, step := range []struct {
		name, actor, title string
		play               func(context.Context) error
	}{
		{"providers", "", "Three messaging providers start, each with its own database and certificate.", s.start},
		{"register", "", "Three people get an account, each at their own provider.", s.register},
		{"create", "alice", "Alice creates the room clubhouse. Her provider a.example is its hub.", s.create},
		{"add-bob", "alice", "Alice adds Bob: one commit puts him on the participant list and his device into the group.", s.addBob},
		{"add-cathy", "bob", "Bob adds Cathy. He asks for her key package through the hub, and his commit goes there.", s.addCathy},
		{"message", "cathy", "Cathy says hello. The hub sees only that somebody of c.example may speak.", s.hello},
		{"leave", "bob", "Bob leaves. He can only propose it; the next member who is online commits it unasked.", s.leave},
		{"new-device", "cathy", "Cathy's new device joins by itself: its user is on the participant list.", s.newDevice},
		{"goodbye", "alice", "Alice writes once more. Bob is gone; both devices of Cathy read it.", s.goodbye},
	} {
		if err := s.step(ctx, step.name, step.actor, step.title, step.play); err != nil {
			return err
		}
	}
	s.done()
	if want := 2 * 3; s.reads != want {
		return fmt.Errorf("messages were read %d times; two messages and three devices at a time make %d: something was lost or shown twice", s.reads, want)
	}
	if o.Keep {
		s.explain()
		<-ctx.Done()
	}
	return nil
}

func (s *story) step(ctx context.Context, name, actor, title string, play func(context.Context) error) error {
	s.print.title(title)
	short, cancel := context.WithTimeoutCause(ctx, stepTime, fmt.Errorf("nothing more happened for %v", stepTime))
	defer cancel()
	if s.During != nil && s.cluster != nil {
		during, stop := context.WithCancel(short)
		var wg sync.WaitGroup
		wg.Go(func() { s.During(during, name, s.cluster) })
		defer wg.Wait()
		defer stop()
	}
	if err := play(short); err != nil {
		s.print.step(name, actor, false)
		return fmt.Errorf("step %s: %w (the logs are below %s)", name, err, s.Dir)
	}
	s.print.flush()
	s.print.step(name, actor, true)
	if s.Between != nil {
		if err := s.Between(ctx, name, s.cluster); err != nil {
			return fmt.Errorf("after step %s: %w", name, err)
		}
	}
	return nil
}

func (s *story) start(ctx context.Context) (err error) {
	s.cluster, err = cluster.Start(ctx, cluster.Options{Dir: s.Dir, Domains: []string{"a.example", "b.example", "c.example"}, Command: s.Command})
	if err != nil {
		return err
	}
	for _, p := range s.cluster.Providers {
		s.print.note("%s answers other providers at %s and its users at %s", p.Domain, p.Federation, p.ClientURL())
	}
	return s.cluster.Watch(context.WithoutCancel(ctx), s.print.request)
}

func (s *story) register(ctx context.Context) error {
	for _, who := range []struct{ name, domain string }{{"alice", "a.example"}, {"bob", "b.example"}, {"cathy", "c.example"}} {
		if _, err := s.enter(ctx, who.name, who.domain, "phone", true); err != nil {
			return err
		}
	}
	return nil
}

// enter opens a device of a person, new at its provider.
func (s *story) enter(ctx context.Context, name, domain, device string, register bool) (*person, error) {
	p := &person{name: name, device: device, story: s, dir: filepath.Join(s.Dir, name+"-"+device)}
	if err := p.open(ctx, s.cluster.Provider(domain), s.cluster, register); err != nil {
		return nil, err
	}
	s.people = append(s.people, p)
	s.print.note("%s is %s; this device is %s", p.title(), p.client.User(), p.client.Device())
	return p, nil
}

// person returns the first device of a person.
func (s *story) person(name string) *person {
	for _, p := range s.people {
		if p.name == name {
			return p
		}
	}
	return nil
}

func (s *story) create(ctx context.Context) (err error) {
	alice := s.person("alice")
	err = patiently(ctx, func() error {
		s.room, err = alice.client.CreateRoom(ctx, client.NewRoom{Name: "clubhouse", Title: "Clubhouse", Preset: policy.Cooperative})
		return err
	})
	if err != nil {
		return err
	}
	return s.epoch(ctx, alice)
}

// epoch notes the epoch that a person's device is in.
func (s *story) epoch(ctx context.Context, p *person) error {
	r, err := p.client.Room(ctx, s.room)
	if err != nil {
		return err
	}
	s.print.note("the room is in epoch %d; participants: %d, devices: %d", r.Epoch, r.Participants, r.Clients)
	return nil
}

// patiently repeats what fails because a provider can't be reached. A change
// that the hub took without our hearing of it is not made again: the client
// knows by then.
func patiently(ctx context.Context, f func() error) error {
	for {
		err := f()
		var e *clientapi.Error
		if !errors.As(err, &e) || e.Code != clientapi.CodeUnreachable && e.Code != clientapi.CodeFailed {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// add makes one person add another, and waits until that one is in and all agree.
func (s *story) add(ctx context.Context, by, who *person) error {
	if err := patiently(ctx, func() error { return by.client.Add(ctx, s.room, who.client.User(), "") }); err != nil {
		return err
	}
	if err := who.until(ctx, "is not in the room", func(e client.Event) bool { return e.Kind == client.EventJoined && e.Room == s.room }); err != nil {
		return err
	}
	if err := s.agree(ctx); err != nil {
		return err
	}
	return s.epoch(ctx, who)
}

func (s *story) addBob(ctx context.Context) error {
	return s.add(ctx, s.person("alice"), s.person("bob"))
}

func (s *story) addCathy(ctx context.Context) error {
	return s.add(ctx, s.person("bob"), s.person("cathy"))
}

func (s *story) hello(ctx context.Context) error {
	return s.say(ctx, s.person("cathy"), "Hello from c.example, everybody!")
}

func (s *story) goodbye(ctx context.Context) error {
	return s.say(ctx, s.person("alice"), "Good that you are here on both, Cathy.")
}

// say makes a person write, and waits until every device in the room has read
// it, once.
func (s *story) say(ctx context.Context, by *person, text string) error {
	id, err := by.client.Send(ctx, s.room, text)
	if err != nil {
		return err
	}
	if err := by.client.Sent(ctx, s.room, id); err != nil {
		return err
	}
	s.sent++
	for _, p := range s.people {
		if p.gone {
			continue
		}
		if err := p.until(ctx, fmt.Sprintf("has not read %q", text), func(client.Event) bool { return p.read[id] > 0 }); err != nil {
			return err
		}
		s.print.message(p, s.room, by.client.User(), text)
	}
	return nil
}

// agree waits until all devices in the room are in the same state of it.
func (s *story) agree(ctx context.Context) error {
	for {
		first := ""
		same := true
		for _, p := range s.people {
			r, err := p.client.Room(ctx, s.room)
			if err != nil || r.Standing != client.Joined {
				continue // not in the room, or not any more
			}
			if first == "" {
				first = r.Authenticator
			}
			same = same && first == r.Authenticator
		}
		if same && first != "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the devices do not agree on the room's state: %w", context.Cause(ctx))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s *story) leave(ctx context.Context) error {
	bob := s.person("bob")
	if err := patiently(ctx, func() error { return bob.client.Leave(ctx, s.room) }); err != nil {
		return err
	}
	if err := bob.until(ctx, "is still in the room", func(e client.Event) bool { return e.Kind == client.EventOut && e.Room == s.room }); err != nil {
		return err
	}
	bob.gone = true
	if err := s.agree(ctx); err != nil {
		return err
	}
	return s.epoch(ctx, s.person("alice"))
}

func (s *story) newDevice(ctx context.Context) error {
	p, err := s.enter(ctx, "cathy", "c.example", "laptop", false)
	if err != nil {
		return err
	}
	if err := p.until(ctx, "is not in the room", func(e client.Event) bool { return e.Kind == client.EventJoined && e.Room == s.room }); err != nil {
		return err
	}
	if err := s.agree(ctx); err != nil {
		return err
	}
	return s.epoch(ctx, p)
}

// done counts what was read and prints the sum.
func (s *story) done() {
	reads := 0
	for _, p := range s.people {
		p.mu.Lock()
		for _, n := range p.read {
			reads += n
		}
		p.mu.Unlock()
	}
	s.reads = reads
	s.print.done(s.sent, reads, len(s.people))
}

func (s *story) explain() {
	s.print.note("everything keeps running until Ctrl-C. In another terminal:")
	exe := "comity"
	if len(s.Command) > 0 {
		exe = s.Command[0]
	}
	for _, p := range s.people {
		p.close()
	}
	s.people = nil
	s.print.note("  %s client --dir %s rooms", exe, filepath.Join(s.Dir, "alice-phone"))
	s.print.note("  %s client --dir %s send clubhouse 'Hello again'", exe, filepath.Join(s.Dir, "alice-phone"))
	s.print.note("  %s client --dir %s read clubhouse --follow", exe, filepath.Join(s.Dir, "cathy-phone"))
	for _, p := range s.cluster.Providers {
		s.print.note("  %s admin --at %s status", exe, p.Admin)
	}
}
