// Package abuse takes reports of messages from those who received them (MIMI
// protocol §5.9). It is the one place of a provider where message text is seen:
// a user has handed it over, with the hub's own frank as the proof of who sent
// it.
package abuse

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/content"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/tlspl"
)

// A Verdict is what the hub found about one reported message.
type Verdict string

const (
	// Valid: the frank is this hub's, for this text of this sender in this room
	// at this time.
	Valid Verdict = "valid"
	// Forged: the frank is not for what was reported.
	Forged Verdict = "forged"
	// NotOurs: the message is of another room, or this hub did not frank at that
	// time.
	NotOurs Verdict = "not ours"
)

// MaxMessages bounds one report.
const MaxMessages = 100

// A Config configures Abuse.
type Config struct {
	Domain mimi.ProviderDomain
	Store  *store.Store
	Now    func() time.Time
	// HubKeys are the franking keys of a room for a time of acceptance.
	HubKeys func(room mimi.RoomURI, acceptedMillis uint64) ([][]byte, error)
	// PerHour is how many reports of one reporter (of one peer, if it reports
	// anonymously) are taken in an hour.
	PerHour int
	// Allowed says whether reports about a room are taken from a peer, and from
	// this user of it (empty: anonymous).
	Allowed func(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, reporter mimi.UserURI) error
}

// Abuse takes the reports of one hub. Safe for concurrent use.
type Abuse struct {
	cfg Config

	mu    sync.Mutex
	since time.Time // when counting began
	count map[string]int
}

// New returns the reports of a hub.
func New(cfg Config) *Abuse { return &Abuse{cfg: cfg, count: map[string]int{}} }

// perPeer is how many times PerHour all reporters of one peer together may
// report: the peer can name as many as it likes.
const perPeer = 20

// allow counts a report of who, one of several reporters of a peer.
func (a *Abuse) allow(who string, peer mimi.ProviderDomain) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.cfg.Now()
	if now.Sub(a.since) >= time.Hour || len(a.count) > 100000 {
		a.since = now
		clear(a.count)
	}
	all := "all of " + string(peer)
	if a.count[who] >= a.cfg.PerHour || a.count[all] >= perPeer*a.cfg.PerHour {
		return &mimi.RefusedError{Refusal: mimi.RefusedTooMany, Reason: "too many reports of " + who, RetryAfter: max(time.Second, time.Hour-now.Sub(a.since))}
	}
	a.count[who]++
	a.count[all]++
	return nil
}

// ConsentVerdict is what stands as the verdict of a report of a request for
// consent, which a user of ours makes to us.
const ConsentVerdict = "unwanted request for consent"

// ReportConsent keeps a user's report of somebody's request for consent.
func (a *Abuse) ReportConsent(ctx context.Context, user, requester mimi.UserURI, room mimi.RoomURI, note string) error {
	if err := a.allow(string(user), a.cfg.Domain); err != nil {
		return err
	}
	body, err := tlspl.Marshal(&mimi.AbuseReport{ReportingUser: user, AllegedAbuserURI: requester, Note: note})
	if err != nil {
		return err
	}
	return a.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		if e, err := tx.Consent(string(requester), string(user), string(room)); errors.Is(err, store.ErrNotFound) || err == nil && !e.Asked {
			return &mimi.RefusedError{Refusal: mimi.RefusedNotFound, Reason: fmt.Sprintf("there is no request of %s to report", requester)}
		} else if err != nil {
			return err
		}
		_, err := tx.PutReport(store.Report{
			Room: string(room), Reporter: string(user), Provider: string(a.cfg.Domain), Abuser: string(requester),
			Verdict: ConsentVerdict, ReceivedMillis: a.cfg.Now().UnixMilli(), Body: body,
		})
		return err
	})
}

// Report verifies and keeps a report. Whether it was found true is not told.
func (a *Abuse) Report(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, r *mimi.AbuseReport) error {
	if room.Host() != a.cfg.Domain {
		return &mimi.RefusedError{Refusal: mimi.RefusedNotFound, Reason: string(room) + " is not hosted here"}
	}
	if r.ReportingUser != "" && r.ReportingUser.Host() != from {
		return &mimi.RefusedError{Refusal: mimi.RefusedForbidden, Reason: fmt.Sprintf("%s may not report for %s", from, r.ReportingUser)}
	}
	if len(r.Messages) > MaxMessages {
		return &mimi.RefusedError{Refusal: mimi.RefusedTooLarge, Reason: fmt.Sprintf("%d messages; a report has at most %d", len(r.Messages), MaxMessages)}
	}
	who := string(r.ReportingUser)
	if who == "" {
		who = string(from)
	}
	if err := a.allow(who, from); err != nil {
		return err
	}
	if err := a.cfg.Allowed(ctx, from, room, r.ReportingUser); err != nil {
		return err
	}
	body, err := tlspl.Marshal(r)
	if err != nil {
		return err
	}
	verdicts := make([]string, 0, len(r.Messages))
	for i := range r.Messages {
		v, err := a.Judge(room, r.AllegedAbuserURI, &r.Messages[i])
		if err != nil {
			return err
		}
		verdicts = append(verdicts, string(v))
	}
	digest := sha256.Sum256(slices.Concat([]byte("report of "+string(from)+" about "+string(room)+" "), body))
	return a.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		// One that is repeated, because the answer was lost, is one report.
		if _, _, err := tx.Answer(digest); err == nil {
			return nil
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err := tx.PutAnswer(digest, nil, a.cfg.Now().UnixMilli()); err != nil {
			return err
		}
		_, err := tx.PutReport(store.Report{
			Room: string(room), Reporter: string(r.ReportingUser), Provider: string(from), Abuser: string(r.AllegedAbuserURI),
			Verdict: strings.Join(verdicts, ", "), ReceivedMillis: a.cfg.Now().UnixMilli(), Body: body,
		})
		return err
	})
}

// Judge says whether this hub franked a message as it is reported (Decisions
// 73, 75).
func (a *Abuse) Judge(room mimi.RoomURI, abuser mimi.UserURI, m *mimi.AbusiveMessage) (Verdict, error) {
	keys, err := a.cfg.HubKeys(room, uint64(m.AcceptedTimestamp))
	if err != nil {
		return "", err
	}
	x := &mimi.ServerFrankingContext{SenderURI: abuser, RoomURI: room, AcceptedTimestamp: m.AcceptedTimestamp}
	c, framed, err := open(m.MessageContent)
	if err != nil {
		return Forged, nil
	}
	if c.RoomURI() != string(room) {
		return NotOurs, nil
	}
	if c.SenderURI() != string(abuser) {
		return Forged, nil
	}
	for _, data := range framed {
		tag := mimi.NewFrankingTag(c.Salt[:], data)
		for _, key := range keys {
			if m.Frank.Matches(key, tag, x) {
				return Valid, nil
			}
		}
	}
	return Forged, nil
}

// open reads the reported octets as ApplicationFraming or as bare MIMI content,
// and returns what may have been the application_data that was franked.
func open(b []byte) (*content.Content, [][]byte, error) {
	var f mls.ApplicationFraming
	if err := tlspl.Unmarshal(b, &f); err == nil {
		if c, err := content.Unmarshal(f.InnerApplicationContent); err == nil {
			return c, [][]byte{b}, nil
		}
	}
	c, err := content.Unmarshal(b)
	if err != nil {
		return nil, nil, errors.Join(errors.New("abuse: the reported octets are not MIMI content"), err)
	}
	list := [][]byte{b}
	for _, media := range []string{"application/mimi-content", ""} {
		framed, err := tlspl.Marshal(&mls.ApplicationFraming{MediaType: mls.MediaType{Type: []byte(media)}, InnerApplicationContent: b})
		if err != nil {
			return nil, nil, err
		}
		list = append(list, framed)
	}
	return c, list, nil
}

// Text is what a reported message says, fit for a terminal.
func (a *Abuse) Text(messageContent []byte) string {
	c, _, err := open(messageContent)
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	return c.NestedPart.Display()
}
