// Package conform tries another provider from outside: whether it answers as the
// MIMI protocol says, and whether it refuses what it must. It needs no account
// there, and leaves nothing behind but lines in a log.
package conform

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"github.com/comity-im/comity/federation"
	"github.com/comity-im/comity/mimi"
)

// A Verdict is what a check found.
type Verdict string

// The verdicts.
const (
	Pass Verdict = "pass"
	Fail Verdict = "fail" // against the draft, or dangerous
	Warn Verdict = "warn" // allowed, but others will stumble over it
	Skip Verdict = "skip" // could not be tried
)

// A Finding is the result of one check.
type Finding struct {
	Check   string // what must be so, in a few words
	Section string // where that stands: of the MIMI protocol draft, or a decision of ours
	Verdict Verdict
	Text    string // what was seen
}

// A Config says who checks whom.
type Config struct {
	Own    mimi.ProviderDomain // who asks, as its certificate says
	Target mimi.ProviderDomain
	Client *federation.Client
	// User is somebody who exists at the target, or empty. With it, it is seen
	// whether the answers tell strangers that a user exists.
	User mimi.UserURI
}

// A checker runs the checks in order.
type checker struct {
	Config
	ctx  context.Context
	each func(Finding)
	seen map[Verdict]int

	offered map[string]bool
	random  string // a name that nobody has
}

// Run tries the target and tells each finding as it comes. It returns how many
// there were of each verdict; its error means that the checks broke off.
func Run(ctx context.Context, cfg Config, each func(Finding)) (map[Verdict]int, error) {
	var name [8]byte
	rand.Read(name[:])
	c := &checker{Config: cfg, ctx: ctx, each: each, seen: map[Verdict]int{}, offered: map[string]bool{}, random: "nobody-" + hex.EncodeToString(name[:])}
	if !c.reach() {
		return c.seen, nil
	}
	for _, check := range []func(){
		c.transport, c.impersonation, c.syntax, c.rooms, c.foreignActors, c.keyMaterial, c.discovery, c.consent, c.assets,
	} {
		if err := ctx.Err(); err != nil {
			return c.seen, fmt.Errorf("conform: broken off: %w", context.Cause(ctx))
		}
		check()
	}
	return c.seen, nil
}

func (c *checker) say(verdict Verdict, section, check, format string, args ...any) {
	c.seen[verdict]++
	c.each(Finding{check, section, verdict, fmt.Sprintf(format, args...)})
}

// reach finds the provider and its directory; without it nothing else can be tried.
func (c *checker) reach() bool {
	r := c.Client.Diagnose(c.ctx, c.Target)
	for _, step := range r.Checks {
		verdict := Pass
		if !step.OK {
			verdict = Fail
		}
		c.say(verdict, "§5.1", "reach: "+string(step.Step), "%s", step.Text)
	}
	d, err := c.Client.Directory(c.ctx, c.Target)
	if err != nil {
		return false
	}
	for _, e := range d.Endpoints() {
		if c.offered[e.Key] = e.Template != ""; e.Template != "" {
			continue
		}
		switch e.Key {
		case "keyMaterial", "update", "notify", "submitMessage", "groupInfo":
			c.say(Fail, "§5.1", "directory: "+e.Key, "not offered: no room can be shared without it")
		case "requestConsent", "updateConsent", "identifierQuery", "reportAbuse", "proxyDownload":
			c.say(Warn, "§5.1", "directory: "+e.Key, "not offered")
		}
	}
	return true
}

// room is a room that the target would host, if it were there.
func (c *checker) room() mimi.RoomURI {
	uri, err := mimi.NewRoomURI(c.Target, c.random)
	if err != nil {
		panic(err) // the name is ours
	}
	return uri
}

func user(domain mimi.ProviderDomain, name string) mimi.UserURI {
	uri, err := mimi.NewUserURI(domain, name)
	if err != nil {
		panic(err) // the domain was checked, the name is ours
	}
	return uri
}

// variables has all that any endpoint's path may want.
func (c *checker) variables() mimi.Variables {
	return mimi.Variables{
		TargetUser: user(c.Target, c.random), RequesterUser: user(c.Target, c.random), RoomID: c.room(),
		TargetDomain: c.Target, RequesterDomain: c.Own, Domain: c.Target, DownloadURL: "https://" + string(c.Target) + "/nothing",
	}
}

// send makes a request; false: nothing came back, which was said under the check.
func (c *checker) send(section, check string, r federation.RawRequest) (*federation.RawAnswer, bool) {
	if !c.offered[r.Endpoint] {
		c.say(Skip, section, check, "%s is not offered", r.Endpoint)
		return nil, false
	}
	if r.Variables == (mimi.Variables{}) {
		r.Variables = c.variables()
	}
	a, err := c.Client.Raw(c.ctx, c.Target, r)
	if err != nil {
		c.say(Fail, section, check, "no answer: %v", err)
		return nil, false
	}
	return a, true
}

// refused checks that a request is answered with one of the statuses, of which
// the first is what the draft says and the others will do.
func (c *checker) refused(section, check string, r federation.RawRequest, want ...int) {
	a, ok := c.send(section, check, r)
	if !ok {
		return
	}
	c.judge(section, check, a, want...)
}

func (c *checker) judge(section, check string, a *federation.RawAnswer, want ...int) {
	for i, status := range want {
		if a.Status != status {
			continue
		}
		if i == 0 {
			c.say(Pass, section, check, "refused with %s", words(a))
		} else {
			c.say(Warn, section, check, "refused with %s; %d says it better", words(a), want[0])
		}
		return
	}
	switch {
	case a.Status >= 500:
		c.say(Fail, section, check, "it failed with %s; expected %d", words(a), want[0])
	case a.Status < 300:
		c.say(Fail, section, check, "ACCEPTED with %s; expected %d", words(a), want[0])
	case a.Status == http.StatusTooManyRequests:
		c.say(Skip, section, check, "refused with %s: the check must go slower", words(a))
	default:
		c.say(Warn, section, check, "refused with %s; expected %d", words(a), want[0])
	}
}

// words is a status and what was said with it.
func words(a *federation.RawAnswer) string {
	text := fmt.Sprint(a.Status)
	if a.Status >= 400 && len(a.Body) > 0 {
		said := string(a.Body)
		if len(said) > 120 {
			said = said[:120] + "…"
		}
		text += fmt.Sprintf(" (%q)", said)
	}
	return text
}

// slow is from when a refusal is a danger: it holds a connection and memory.
const slow = 10 * time.Second
