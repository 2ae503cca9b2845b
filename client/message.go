package client

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/comity-im/comity/client/links"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/content"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mimi/room"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// marks say what is not as it should be with a message that is shown all the same.
type marks uint8

const (
	// notFranked: there is a frank, but it proves nothing. Decision 48
	notFranked marks = 1 << iota
	// frankMissing: the room has franking, the message no frank. Decision 49
	frankMissing
	// frankUnverified: the frank may be another message's. Decision 45
	frankUnverified
)

func (m marks) words() []string {
	var out []string
	for _, w := range []struct {
		is   marks
		word string
	}{{notFranked, "not franked"}, {frankMissing, "frank missing"}, {frankUnverified, "frank unverified"}} {
		if m&w.is != 0 {
			out = append(out, w.word)
		}
	}
	return out
}

// verdict is what the room's policy said of a message in its epoch.
type verdict struct {
	caps uint32 // bit n: the sender's role had capability 0x0100 + n
	rule string
}

// contentCaps is the first capability about messages, of which there are 32 at most.
const contentCaps = mimi.CanSendMessage

func capsOf(roles *policy.Roles, role policy.RoleIndex) uint32 {
	var caps uint32
	for n := range policy.Capability(32) {
		if roles.Has(role, contentCaps+n) {
			caps |= 1 << n
		}
	}
	return caps
}

// A DiscardError says why a message is not shown at all.
type DiscardError struct{ Reason string }

func (e *DiscardError) Error() string { return "client: message discarded: " + e.Reason }

func discard(format string, args ...any) error { return &DiscardError{fmt.Sprintf(format, args...)} }

// application takes up an application message.
func (b *batch) application(r *roomState, m *mimi.FanoutMessage, seq uint64) error {
	digest, err := m.Message.Digest()
	if err != nil {
		return err
	}
	if own, err := b.echo(r, m, digest[:], seq); own || err != nil {
		return err
	}
	epoch := m.Message.PrivateMessage.Epoch
	if r.group == nil || r.group.Group().Removed() {
		return nil
	}
	if other, err := b.elsewhere(r, &m.Message, m.Timestamp); other {
		return err
	}
	if now := r.group.View().Epoch(); epoch > now {
		_, err := b.behind(r, epoch)
		return err
	}
	if m.Frank != nil {
		if _, err := b.agent(r.group, epoch); b.missing(err) != "" {
			return err // before the message's key is used up
		}
	}
	got, err := r.group.Decrypt(&m.Message)
	if err != nil {
		return b.unreadable(r, epoch, m.Timestamp, err)
	}
	r.repairs = 0
	rec, id, err := b.verify(r, m, got)
	if err != nil {
		var gone *DiscardError
		if errors.As(err, &gone) {
			return b.problem(r, "a message of %s was discarded: %s", got.Sender.User, gone.Reason)
		}
		return err
	}
	rec.seq = seq
	return b.record(r, rec, id, m.Timestamp)
}

// unreadable decides about a message that does not decrypt.
func (b *batch) unreadable(r *roomState, epoch mls.Epoch, at mimi.Millis, err error) error {
	var old *mls.EpochError
	var generation *mls.GenerationError
	switch {
	case errors.As(err, &old):
		return nil // from before this device's time, or later than it keeps keys for
	case errors.Is(err, mls.ErrOwnMessage):
		return b.repair(r, "a message of this device is in the room that it did not send: its state is old, or there is a copy of it")
	case errors.As(err, &generation):
		return b.problem(r, "a message can't be read: %v", err)
	case epoch == r.group.View().Epoch() && r.suspect == "":
		r.suspect = fmt.Sprintf("a message of epoch %d can't be read: %v", epoch, err)
		b.touch(r)
		return nil
	}
	return b.problem(r, "a message of epoch %d can't be read: %v", epoch, err)
}

// agent returns the key that franks of the room's messages of an epoch are signed with, nil if it has
// none; the error says that it is not the hub's.
func (b *batch) agent(g *room.Room, epoch mls.Epoch) ([]byte, error) {
	agent := g.TermsIn(epoch).Franking
	if agent == nil {
		return nil, nil
	}
	err := b.c.trust.verifier.VerifyHub(&agent.Credential, agent.FrankingSignatureKey, g.View().Hub(), b.c.cfg.Now())
	return agent.FrankingSignatureKey, err
}

// verify checks a decrypted message: first its frank (MIMI protocol §5.4.1.3),
// then its content. A *DiscardError says that it must not be shown.
func (b *batch) verify(r *roomState, m *mimi.FanoutMessage, got *room.Received) (*messageRecord, content.MessageID, error) {
	rec := &messageRecord{
		sender: got.Sender.User, client: got.Sender.Client, epoch: got.Epoch, gen: got.Generation, data: got.Data, frank: m.Frank,
	}
	body, kind, err := unframe(got.Terms.Framed, got.Data)
	if err != nil {
		return nil, content.MessageID{}, err
	}
	envelope := content.Envelope{SenderURI: string(got.Sender.User), RoomURI: string(r.uri), AcceptedMillis: uint64(m.Timestamp), NowMillis: uint64(b.c.cfg.Now().UnixMilli())}
	msg, err := parse(body, kind, envelope)
	if err != nil {
		return nil, content.MessageID{}, discard("%v", err)
	}
	if rec.marks, err = b.frank(r, m, got, msg); err != nil {
		return nil, msg.ID, err
	}
	rec.caps = capsOf(got.Terms.Content.Roles, got.Role)
	if rec.rule, err = b.judge(r, msg, got); err != nil {
		return nil, msg.ID, err
	}
	return rec, msg.ID, nil
}

// unframe takes application data out of its ApplicationFraming (MLS extensions
// §6.2.4), if the room has that, and says what it is.
func unframe(framed bool, data []byte) (body []byte, kind string, err error) {
	if !framed {
		return data, room.ContentMediaType, nil
	}
	var f mls.ApplicationFraming
	if err := tlspl.Unmarshal(data, &f); err != nil {
		return nil, "", discard("its framing can't be read: %v", err)
	}
	switch kind := strings.ToLower(string(f.MediaType.Type)); kind {
	case "", room.ContentMediaType:
		return f.InnerApplicationContent, room.ContentMediaType, nil
	case content.MediaTypeStatus:
		return f.InnerApplicationContent, kind, nil
	default:
		return nil, "", discard("its media type is %q", kind)
	}
}

// parse reads and checks a message's content.
func parse(body []byte, kind string, e content.Envelope) (*content.Message, error) {
	if kind == content.MediaTypeStatus {
		return content.VerifyBareStatus(body, e)
	}
	return content.Verify(body, e)
}

// frank verifies the frank of a message as MIMI protocol §5.4.1.3 lists it. What
// contradicts the sender's commitment is discarded; what merely proves nothing is
// marked (Decisions 45, 48, 49).
func (b *batch) frank(r *roomState, m *mimi.FanoutMessage, got *room.Received, msg *content.Message) (marks, error) {
	if got.FrankingTag != nil {
		if msg.Content == nil {
			return 0, discard("a bare status report can't be franked")
		}
		tag := mimi.NewFrankingTag(msg.Content.Salt[:], got.Data)
		if !bytes.Equal(tag[:], got.FrankingTag) {
			return 0, discard("its franking tag is not that of its content")
		}
	}
	key, agent := b.agent(r.group, got.Epoch)
	switch {
	case key == nil:
		return 0, nil
	case got.FrankingTag == nil || m.Frank == nil:
		return frankMissing, nil
	case agent != nil, m.Frank.FrankingSignatureCiphersuite != r.group.Group().Suite().ID():
		return notFranked, nil
	}
	context := mimi.ServerFrankingContext{SenderURI: got.Sender.User, RoomURI: r.uri, AcceptedTimestamp: m.Timestamp}
	if m.Frank.Verify(key, &context) != nil {
		return notFranked, nil
	}
	seen, err := b.tx.Get(keyOfFrank(r, m.Frank))
	if err != nil {
		return 0, err
	}
	disordered, err := b.disordered(r, got, m.Timestamp)
	if err != nil {
		return 0, err
	}
	if seen != nil && !bytes.Equal(seen, msg.ID[:]) || disordered {
		return frankUnverified, nil
	}
	return 0, b.tx.Put(keyOfFrank(r, m.Frank), msg.ID[:])
}

func keyOfFrank(r *roomState, f *mimi.Frank) []byte {
	return key(keyFrank, r.rec.number, f.ServerFrank[:])
}

// disordered reports whether the hub's times contradict the order in which a
// client sent its messages within an epoch. Decision 45
func (b *batch) disordered(r *roomState, got *room.Received, at mimi.Millis) (bool, error) {
	k := key(keyGeneration, r.rec.number, counter(uint64(got.Epoch)), []byte(got.Sender.Client))
	var last generationRecord
	found, err := get(b.tx, k, &last)
	if err != nil {
		return false, err
	}
	if found && got.Generation < last.generation {
		return at > last.at, nil
	}
	if err := put(b.tx, k, &generationRecord{got.Generation, at}); err != nil {
		return false, err
	}
	return found && at < last.at, nil
}

// judge says how a message breaks the rules for content that the room had when it was sent; empty: it does not.
func (b *batch) judge(r *roomState, m *content.Message, got *room.Received) (string, error) {
	target, err := b.target(r, m)
	if err != nil {
		return "", err
	}
	if d := policy.JudgeContent(got.Terms.Content, got.Role, describe(m, target)); d != nil {
		return d.Error(), nil
	}
	return "", nil
}

// target is the message that one edits, deletes or answers; nil if it is not here.
func (b *batch) target(r *roomState, m *content.Message) (*content.Message, error) {
	if m.Content == nil {
		return nil, nil
	}
	id := m.Content.Replaces
	if id == nil {
		id = m.Content.InReplyTo
	}
	if id == nil {
		return nil, nil
	}
	_, target, err := find(b.tx, r, *id)
	return target, err
}

// find reads a stored message.
func find(tx Tx, r *roomState, id content.MessageID) (*messageRecord, *content.Message, error) {
	k, err := tx.Get(key(keyIndex, r.rec.number, id[:]))
	if err != nil || len(k) == 0 {
		return nil, nil, err
	}
	return read(tx, r, k)
}

// read reads the message at a key.
func read(tx Tx, r *roomState, k []byte) (*messageRecord, *content.Message, error) {
	rec := new(messageRecord)
	found, err := get(tx, k, rec)
	if err != nil || !found {
		return nil, nil, err
	}
	m, err := rec.parse(r.uri, timeOf(k))
	if err != nil {
		return nil, nil, &CorruptError{keyMessage, err}
	}
	return rec, m, nil
}

// timeOf is the hub's time in the key of a message.
func timeOf(k []byte) mimi.Millis {
	var at mimi.Millis
	for _, b := range k[5:13] {
		at = at<<8 | mimi.Millis(b)
	}
	return at
}

// parse gives the content of a stored message.
func (m *messageRecord) parse(uri mimi.RoomURI, at mimi.Millis) (*content.Message, error) {
	e := content.Envelope{SenderURI: string(m.sender), RoomURI: string(uri), AcceptedMillis: uint64(at)}
	body, kind := m.data, room.ContentMediaType
	var f mls.ApplicationFraming
	if tlspl.Unmarshal(m.data, &f) == nil {
		body = f.InnerApplicationContent
		if len(f.MediaType.Type) > 0 {
			kind = strings.ToLower(string(f.MediaType.Type))
		}
	}
	return parse(body, kind, e)
}

// record stores a message and tells of it. The same message again changes nothing.
func (b *batch) record(r *roomState, rec *messageRecord, id content.MessageID, at mimi.Millis) error {
	index := key(keyIndex, r.rec.number, id[:])
	if have, err := b.tx.Get(index); err != nil || have != nil {
		return err
	}
	k := messageKey(r.rec.number, at, id)
	if err := put(b.tx, k, rec); err != nil {
		return err
	}
	if err := b.tx.Put(index, k); err != nil {
		return err
	}
	m, err := rec.parse(r.uri, at)
	if err != nil {
		return err
	}
	if err := b.came(r, rec, m); err != nil {
		return err
	}
	if r.timeline != nil {
		r.verdicts[m.ID] = verdict{rec.caps, rec.rule}
		if err := r.timeline.Add(m); err != nil {
			return err
		}
	}
	return b.raise(r, Event{Kind: EventMessage, Epoch: rec.epoch, Message: single(r.uri, rec, m, b.c.self.client), Time: millis(at)})
}

// echo takes up a message of this device that comes back in the log, and reports
// whether it is one.
func (b *batch) echo(r *roomState, m *mimi.FanoutMessage, digest []byte, seq uint64) (bool, error) {
	known := key(keyOwn, r.rec.number, digest)
	k, err := b.tx.Get(known)
	if err != nil {
		return false, err
	}
	if k != nil { // the hub's answer came first
		var rec messageRecord
		found, err := get(b.tx, k, &rec)
		if err != nil || !found {
			return true, err
		}
		rec.seq = seq
		if err := put(b.tx, k, &rec); err != nil {
			return true, err
		}
		return true, b.tx.Delete(known)
	}
	var mine []byte
	var o outboxRecord
	err = b.tx.Scan(key(keyOutbox, r.rec.number), nil, func(k, _ []byte) (bool, error) {
		var entry outboxRecord
		if _, err := get(b.tx, k, &entry); err != nil {
			return false, err
		}
		if bytes.Equal(entry.digest, digest) {
			mine, o = bytes.Clone(k), entry
		}
		return mine == nil, nil
	})
	if err != nil || mine == nil {
		return false, err
	}
	return true, b.accepted(r, mine, &o, m.Timestamp, m.Frank, seq)
}

// accepted turns an entry of the outbox into a message: the hub took it.
func (b *batch) accepted(r *roomState, k []byte, o *outboxRecord, at mimi.Millis, frank *mimi.Frank, seq uint64) error {
	if err := b.tx.Delete(k); err != nil {
		return err
	}
	if o.failed == "" {
		r.outbox = max(0, r.outbox-1)
	}
	b.touch(r)
	rec := &messageRecord{seq: seq, sender: b.c.self.user, client: b.c.self.client, epoch: o.epoch, data: o.data, frank: frank, caps: ^uint32(0)}
	if r.group != nil {
		rec.caps = capsOf(r.group.TermsIn(o.epoch).Content.Roles, r.group.RoleIn(o.epoch, b.c.self.user))
		if r.group.TermsIn(o.epoch).Franking != nil && frank == nil {
			rec.marks |= frankMissing
		}
	}
	if seq == 0 {
		if err := b.tx.Put(key(keyOwn, r.rec.number, o.digest), messageKey(r.rec.number, at, o.id)); err != nil {
			return err
		}
	}
	return b.record(r, rec, o.id, at)
}

// describe is what policy must know of a message. Of a target that is not here
// it is assumed that it was the sender's own and in the same topic.
func describe(m *content.Message, target *content.Message) *policy.Message {
	p := &policy.Message{Act: act(m, target), Sender: mimi.UserURI(m.SenderURI), OwnTarget: true}
	if m.Status != nil {
		for _, s := range m.Status.Statuses {
			p.Delivered = p.Delivered || s.Status == content.StatusDelivered
			p.Read = p.Read || s.Status == content.StatusRead
		}
	}
	if m.Content == nil {
		return p
	}
	p.Topic, p.TargetTopic = string(m.Content.TopicID), string(m.Content.TopicID)
	if target != nil {
		p.OwnTarget = target.SenderURI == m.SenderURI
		if target.Content != nil {
			p.TargetTopic = string(target.Content.TopicID)
		}
	}
	if e := m.Content.Expires; e != nil {
		p.Expires, p.ExpiresSeconds = true, uint64(e.Time)
		if !e.Relative {
			p.ExpiresSeconds -= min(uint64(e.Time), m.AcceptedMillis/1000)
		}
	}
	m.Content.NestedPart.Walk(func(_ int, part *content.NestedPart) bool {
		describePart(p, part)
		return true
	})
	p.Links = linksIn(new(links.Counter), &m.Content.NestedPart)
	return p
}

// act says what a message is.
func act(m, target *content.Message) policy.Act {
	if m.Status != nil {
		return policy.Report
	}
	c := m.Content
	_, null := c.NestedPart.Part.(content.NullPart)
	reaction := c.NestedPart.Disposition == content.Reaction
	if target != nil && target.Content != nil && c.Replaces != nil {
		reaction = target.Content.NestedPart.Disposition == content.Reaction
	}
	switch {
	case c.Replaces != nil && null && reaction:
		return policy.DeleteReaction
	case c.Replaces != nil && null:
		return policy.DeleteMessage
	case c.Replaces != nil && reaction:
		return policy.EditReaction
	case c.Replaces != nil:
		return policy.EditMessage
	case c.InReplyTo != nil && reaction:
		return policy.React
	case c.InReplyTo != nil:
		return policy.Reply
	}
	return policy.Say
}

func describePart(p *policy.Message, part *content.NestedPart) {
	var asset policy.Asset
	var kind content.MediaType
	switch x := part.Part.(type) {
	case *content.SinglePart:
		kind = content.ParseMediaType(x.ContentType)
		if kind.IsText() {
			if part.Disposition == content.Preview {
				p.Previews++
			}
			return
		}
		if kind.Is(content.MediaTypeStatus) {
			return
		}
		asset.Size = uint64(len(x.Content))
	case *content.ExternalPart:
		kind = content.ParseMediaType(x.ContentType)
		asset.Size, asset.Host = x.Size, hostOf(x.URL)
	default:
		return
	}
	asset.MediaType = mls.MediaType{Type: []byte(kind.Type)}
	for _, name := range slices.Sorted(maps.Keys(kind.Parameters)) {
		asset.MediaType.Parameters = append(asset.MediaType.Parameters, mls.Parameter{ParameterName: []byte(name), ParameterValue: []byte(kind.Parameters[name])})
	}
	if part.Disposition == content.Render {
		switch top, _, _ := strings.Cut(kind.Type, "/"); top {
		case "image":
			asset.Kind = policy.Image
		case "audio":
			asset.Kind = policy.Audio
		case "video":
			asset.Kind = policy.Video
		}
	}
	p.Assets = append(p.Assets, asset)
}

// linksIn counts the links in the texts of a part. Of alternatives people see one: the one with the most counts.
func linksIn(c *links.Counter, part *content.NestedPart) int {
	switch x := part.Part.(type) {
	case *content.SinglePart:
		kind := content.ParseMediaType(x.ContentType)
		_, markdown := kind.Markdown()
		switch {
		case part.Disposition == content.Preview || !kind.IsText():
			return 0
		case markdown:
			return c.Markdown(x.Content)
		case kind.Is("text/html"):
			return c.HTML(x.Content)
		}
		return links.Plain(x.Content)
	case *content.MultiPart:
		sum, most := 0, 0
		for i := range x.Parts {
			n := linksIn(c, &x.Parts[i])
			sum, most = sum+n, max(most, n)
		}
		if x.PartSemantics == content.ChooseOne {
			return most
		}
		return sum
	}
	return 0
}

// hostOf is the host of an https URL, without a port; empty if there is none.
func hostOf(url string) mimi.ProviderDomain {
	rest, ok := strings.CutPrefix(url, "https://")
	if !ok {
		return ""
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		rest = rest[:i]
	}
	return mimi.ProviderDomain(strings.ToLower(rest))
}

// suiteOf is the cipher suite of a room.
func suiteOf(g *room.Room) suite.ID { return g.View().Context().CipherSuite }

// A State says how far a message is.
type State string

// The states.
const (
	Sending State = "sending" // in the outbox
	Failed  State = "failed"  // the hub does not take it
	Sent    State = "sent"    // the hub accepted it
	Deleted State = "deleted"
	Expired State = "expired"
)

// A Message is a message as a person sees it.
type Message struct {
	ID        content.MessageID    `json:"id"`
	Room      mimi.RoomURI         `json:"room"`
	Sender    mimi.UserURI         `json:"sender"`
	Client    mimi.ClientURI       `json:"client,omitempty"`
	Time      time.Time            `json:"time"` // when the hub accepted it
	Act       string               `json:"act"`  // say, reply, react, edit, delete, report
	Text      string               `json:"text"` // safe for a terminal
	State     State                `json:"state"`
	Own       bool                 `json:"own,omitempty"` // of this device
	Edited    bool                 `json:"edited,omitempty"`
	InReplyTo *content.MessageID   `json:"in_reply_to,omitempty"`
	Replaces  *content.MessageID   `json:"replaces,omitempty"`
	Topic     string               `json:"topic,omitempty"`
	Reactions []content.EmojiCount `json:"reactions,omitempty"`
	Statuses  map[string]string    `json:"statuses,omitempty"` // by user
	Marks     []string             `json:"marks,omitempty"`    // what is wrong with its frank
	Broke     string               `json:"broke,omitempty"`    // the rule of the room that it broke
	Why       string               `json:"why,omitempty"`      // why it failed
	Franked   bool                 `json:"franked,omitempty"`  // it can be reported
	Assets    []Attached           `json:"assets,omitempty"`
	ExpiresAt *time.Time           `json:"expires_at,omitempty"`
}

// Attached is a file that a message points to.
type Attached struct {
	Part        int    `json:"part"` // its index in the message (content §4.4)
	URL         string `json:"url"`
	ContentType string `json:"content_type,omitempty"`
	Size        uint64 `json:"size,omitempty"`
	Filename    string `json:"filename,omitempty"`
	Problem     string `json:"problem,omitempty"` // why it can't be downloaded
}

// Line is the message as one paragraph for a person, safe for a terminal.
func (m *Message) Line() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s: ", m.Sender)
	switch m.Act {
	case "react":
		s.WriteString("reacts ")
	case "edit":
		s.WriteString("edits: ")
	case "delete":
		s.WriteString("deletes a message")
	case "reply":
		s.WriteString("> ")
	}
	s.WriteString(m.Text)
	for _, r := range m.Reactions {
		fmt.Fprintf(&s, " [%s %d]", content.PrintableLine(r.Emoji), r.Users)
	}
	if m.Edited {
		s.WriteString(" (edited)")
	}
	if m.State != Sent {
		fmt.Fprintf(&s, " (%s)", m.State)
	}
	for _, w := range m.Marks {
		fmt.Fprintf(&s, " (%s)", w)
	}
	if m.Broke != "" {
		fmt.Fprintf(&s, " (against the room's rules: %s)", content.PrintableLine(m.Broke))
	}
	return s.String()
}

var actWords = map[policy.Act]string{
	policy.Say: "say", policy.Reply: "reply", policy.React: "react", policy.EditMessage: "edit", policy.EditReaction: "react",
	policy.DeleteMessage: "delete", policy.DeleteReaction: "delete", policy.Report: "report",
}

// single is one message by itself, without what became of it.
func single(uri mimi.RoomURI, rec *messageRecord, m *content.Message, self mimi.ClientURI) *Message {
	v := &Message{
		ID: m.ID, Room: uri, Sender: rec.sender, Client: rec.client, Time: millis(mimi.Millis(m.AcceptedMillis)),
		Act: actWords[act(m, nil)], State: Sent, Own: rec.client == self, Marks: rec.marks.words(), Broke: rec.rule,
		Franked: rec.frank != nil && rec.marks == 0,
	}
	if m.Content != nil {
		v.fill(m.Content)
	}
	return v
}

func (v *Message) fill(c *content.Content) {
	v.InReplyTo, v.Replaces, v.Topic = c.InReplyTo, c.Replaces, content.PrintableLine(string(c.TopicID))
	v.Text = c.NestedPart.Display()
	v.Assets = attached(&c.NestedPart)
}

func attached(p *content.NestedPart) (list []Attached) {
	p.Walk(func(i int, part *content.NestedPart) bool {
		x, ok := part.Part.(*content.ExternalPart)
		if !ok {
			return true
		}
		a := Attached{Part: i, URL: content.PrintableLine(x.URL), ContentType: content.PrintableLine(x.ContentType), Size: x.Size,
			Filename: content.PrintableLine(x.Filename)}
		if err := x.Check(); err != nil {
			a.Problem = err.Error()
		}
		list = append(list, a)
		return true
	})
	return list
}
