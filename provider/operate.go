package provider

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/provider/account"
	"github.com/comity-im/comity/provider/delivery"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/tlspl"
)

// Attributes are what the operator vouches for of a user.
type Attributes = account.Attributes

// SetAttributes replaces what the operator vouches for of a user.
func (p *Provider) SetAttributes(ctx context.Context, name string, at Attributes) error {
	user, err := mimi.NewUserURI(p.cfg.Domain, name)
	if err != nil {
		return err
	}
	return p.accounts.SetAttributes(ctx, user, at)
}

// IssuersDocument is what others fetch to know our credential issuers.
func (p *Provider) IssuersDocument() ([]byte, error) {
	return identity.MarshalIssuers(p.cfg.Domain, []*x509.Certificate{p.issuer.Root()})
}

// A Status sums up how a provider is.
type Status struct {
	Domain        mimi.ProviderDomain `json:"domain"`
	Engine        string              `json:"engine"`
	DatabaseBytes int64               `json:"database_bytes"`
	Users         int64               `json:"users"`
	Rooms         int64               `json:"rooms"`
	HostedRooms   int64               `json:"hosted_rooms"`
	RoomsInMemory int                 `json:"rooms_in_memory"`
	Connected     int                 `json:"connected_clients"`
	Queues        []Queue             `json:"queues"`
}

// A Queue is what waits for a follower.
type Queue struct {
	Follower mimi.ProviderDomain `json:"follower"`
	Rooms    int64               `json:"rooms"`
	Events   int64               `json:"events"`
	Oldest   time.Time           `json:"oldest,omitzero"`
	Failures int                 `json:"failures"`
	Failure  string              `json:"failure,omitempty"`
	RetryAt  time.Time           `json:"retry_at,omitzero"`
	Paused   bool                `json:"paused"`
}

// Status tells how the provider is.
func (p *Provider) Status(ctx context.Context) (s Status, err error) {
	s = Status{Domain: p.cfg.Domain, Engine: p.cfg.Store.Engine(), RoomsInMemory: p.hub.Loaded(), Connected: p.follower.Connected()}
	if s.DatabaseBytes, err = p.cfg.Store.Size(ctx); err != nil {
		return s, err
	}
	var queues []store.Queue
	err = p.cfg.Store.View(ctx, func(tx *store.Tx) error {
		if s.Users, err = tx.CountUsers(); err != nil {
			return err
		}
		if s.Rooms, err = tx.CountRooms(""); err != nil {
			return err
		}
		if s.HostedRooms, err = tx.CountRooms(string(p.cfg.Domain)); err != nil {
			return err
		}
		queues, err = tx.Queues()
		return err
	})
	for _, q := range queues {
		s.Queues = append(s.Queues, p.queue(q))
	}
	return s, err
}

// A Room is how large a room's log is, and who reads it.
type Room struct {
	Room      mimi.RoomURI        `json:"room"`
	Hub       mimi.ProviderDomain `json:"hub"`
	Events    int64               `json:"events"`          // kept in the log
	Newest    time.Time           `json:"newest,omitzero"` // when it was accepted
	Clients   int64               `json:"clients"`         // of this provider
	Behind    int64               `json:"clients_behind"`  // that have not read all
	Followers int64               `json:"followers"`       // providers, of a room that is hosted here
}

// Rooms returns up to limit rooms, those with the longest logs first.
func (p *Provider) Rooms(ctx context.Context, limit int) ([]Room, error) {
	var list []store.RoomSize
	err := p.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
		list, err = tx.RoomSizes(limit)
		return err
	})
	rooms := make([]Room, len(list))
	for i, r := range list {
		rooms[i] = Room{mimi.RoomURI(r.URI), mimi.ProviderDomain(r.Hub), r.Events, time.Time{}, r.Clients, r.Behind, r.Followers}
		if r.LastMillis > 0 {
			rooms[i].Newest = time.UnixMilli(r.LastMillis)
		}
	}
	return rooms, err
}

func (p *Provider) queue(q store.Queue) Queue {
	out := Queue{Follower: mimi.ProviderDomain(q.Domain), Rooms: q.Rooms, Events: q.Events}
	if q.OldestMillis > 0 {
		out.Oldest = time.UnixMilli(q.OldestMillis)
	}
	var st delivery.Status
	for _, s := range p.delivery.Status() {
		if s.Follower == out.Follower {
			st = s
		}
	}
	out.Failures, out.Failure, out.RetryAt, out.Paused = st.Failures, st.Failure, st.RetryAt, st.Paused
	return out
}

// Queue tells what waits for one follower.
func (p *Provider) Queue(ctx context.Context, d mimi.ProviderDomain) (Queue, error) {
	var queues []store.Queue
	err := p.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
		queues, err = tx.Queues()
		return err
	})
	for _, q := range queues {
		if q.Domain == string(d) {
			return p.queue(q), err
		}
	}
	return p.queue(store.Queue{Domain: string(d)}), err
}

// PeerQueue does what an operator asks for with a follower's queue: pause,
// resume, retry (at once) or drop (give up what waits).
func (p *Provider) PeerQueue(ctx context.Context, d mimi.ProviderDomain, action string) error {
	switch action {
	case "pause", "resume":
		p.delivery.Pause(d, action == "pause")
		return p.SetPeer(ctx, d, func(s *PeerSettings) { s.Paused = action == "pause" })
	case "retry":
		p.delivery.Retry(d)
	case "drop":
		return p.delivery.Drop(ctx, d)
	}
	return nil
}

// RotateFranking replaces the secret that messages are franked with, from some
// minutes on. The old ones are kept for reports.
func (p *Provider) RotateFranking(ctx context.Context) (from time.Time, err error) {
	from, _, err = p.hubKeys.Rotate(ctx, p.cfg.Now(), 0)
	return from, err
}

// A Report is an abuse report as an operator reads it.
type Report struct {
	ID       int64               `json:"id"`
	Room     mimi.RoomURI        `json:"room,omitempty"` // empty: of a request for consent to any
	Reporter mimi.UserURI        `json:"reporter,omitempty"`
	Provider mimi.ProviderDomain `json:"provider"`
	Abuser   mimi.UserURI        `json:"abuser"`
	Verdict  string              `json:"verdict"` // of each message
	Note     string              `json:"note,omitempty"`
	Received time.Time           `json:"received"`
	Messages []string            `json:"messages"`
}

// reportsShown is how many reports are listed.
const reportsShown = 100

// Reports lists the newest abuse reports.
func (p *Provider) Reports(ctx context.Context) (list []Report, err error) {
	var rows []store.Report
	err = p.cfg.Store.View(ctx, func(tx *store.Tx) error {
		rows, err = tx.Reports(0, reportsShown)
		return err
	})
	for _, r := range rows {
		out := Report{ID: r.ID, Room: mimi.RoomURI(r.Room), Reporter: mimi.UserURI(r.Reporter), Provider: mimi.ProviderDomain(r.Provider),
			Abuser: mimi.UserURI(r.Abuser), Verdict: r.Verdict, Received: time.UnixMilli(r.ReceivedMillis)}
		var report mimi.AbuseReport
		if tlspl.Unmarshal(r.Body, &report) == nil {
			out.Note = report.Note
			for i := range report.Messages {
				out.Messages = append(out.Messages, p.abuse.Text(report.Messages[i].MessageContent))
			}
		}
		list = append(list, out)
	}
	return list, err
}
