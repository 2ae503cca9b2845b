package clientcmd

import (
	"encoding/asn1"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
)

// attributes are those of a certificate's subject that a provider vouches for.
var attributes = map[string]asn1.ObjectIdentifier{
	"CN": {2, 5, 4, 3}, "C": {2, 5, 4, 6}, "L": {2, 5, 4, 7}, "O": {2, 5, 4, 10}, "OU": {2, 5, 4, 11}, "department": {2, 5, 4, 11},
}

// alternatives are the kinds of a certificate's subject alternative names, with their tags (RFC 5280 §4.2.1.6).
var alternatives = map[string]int{"email": 1, "dns": 2, "uri": 6}

// claimNames are what a preauthorization can name.
func claimNames() string {
	return strings.Join(append(slices.Sorted(maps.Keys(attributes)), slices.Sorted(maps.Keys(alternatives))...), ", ")
}

// claim reads NAME=VALUE as a claim of an X.509 credential. Decision 90
func claim(text string) (mimi.Claim, error) {
	name, value, ok := strings.Cut(text, "=")
	oid, isAttribute := attributes[name]
	tag, isAlternative := alternatives[name]
	octets := []byte(value)
	switch {
	case !ok || !isAttribute && !isAlternative:
		return mimi.Claim{}, fmt.Errorf("preauth: %q is not ATTRIBUTE=VALUE with one of %s", text, claimNames())
	case isAlternative:
		oid = asn1.ObjectIdentifier{2, 5, 29, 17}
		var err error
		if octets, err = asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: octets}); err != nil {
			return mimi.Claim{}, err
		}
	}
	id, err := asn1.Marshal(oid)
	return mimi.Claim{ClaimID: mimi.ClaimID{CredentialType: mls.CredentialX509, ID: id}, ClaimValue: octets}, err
}

// editPreauth adds or removes ATTRIBUTE=VALUE[,ATTRIBUTE=VALUE]:ROLE.
func editPreauth(c *policy.Components, add bool, text string) error {
	claims, to := text, ""
	if i := strings.LastIndexByte(text, ':'); add && i >= 0 { // URIs have colons too
		claims, to = text[:i], text[i+1:]
	}
	var set []mimi.Claim
	for x := range strings.SplitSeq(claims, ",") {
		one, err := claim(x)
		if err != nil {
			return err
		}
		set = append(set, one)
	}
	if c.Preauth == nil {
		c.Preauth = &mimi.PreAuthData{}
	}
	same := func(e mimi.PreAuthRoleEntry) bool {
		return slices.EqualFunc(e.Claimset, set, func(a, b mimi.Claim) bool {
			return string(a.ClaimID.ID) == string(b.ClaimID.ID) && string(a.ClaimValue) == string(b.ClaimValue)
		})
	}
	before := len(c.Preauth.PreauthorizedEntries)
	c.Preauth.PreauthorizedEntries = slices.DeleteFunc(c.Preauth.PreauthorizedEntries, same)
	if !add {
		if len(c.Preauth.PreauthorizedEntries) == before {
			return fmt.Errorf("preauth: there is no entry for %s", claims)
		}
		return nil
	}
	role, err := roleNamed(c, to)
	if err != nil {
		return fmt.Errorf("preauth: %w", err)
	}
	c.Preauth.PreauthorizedEntries = append(c.Preauth.PreauthorizedEntries, mimi.PreAuthRoleEntry{Claimset: set, TargetRole: *role})
	return nil
}

func roleNamed(c *policy.Components, name string) (*mimi.Role, error) {
	for i := range c.Roles.Roles {
		if r := &c.Roles.Roles[i]; r.RoleName == name || fmt.Sprint(r.RoleIndex) == name {
			return r, nil
		}
	}
	return nil, fmt.Errorf("the room has no role %q", name)
}

// editBots adds NAME[:ROLE][,local][,targets][,per-user][,homepage=URL][,description=TEXT] to the bots that the room allows, in
// place of one of the same name, or removes NAME. A bot without a role is no active participant (room policy §6.7).
func editBots(c *policy.Components, add bool, text string) error {
	fields := strings.Split(text, ",")
	name, role, hasRole := strings.Cut(fields[0], ":")
	if name == "" {
		return errors.New("bot: it has no name")
	}
	if c.Bots == nil {
		c.Bots = &mimi.BotPolicy{}
	}
	before := len(c.Bots.AllowedBots)
	c.Bots.AllowedBots = slices.DeleteFunc(c.Bots.AllowedBots, func(b mimi.Bot) bool { return b.Name == name })
	if !add {
		if len(c.Bots.AllowedBots) == before {
			return fmt.Errorf("bot: the room has no bot %q", name)
		}
		return nil
	}
	bot := mimi.Bot{Name: name}
	if hasRole {
		r, err := roleNamed(c, role)
		if err != nil {
			return fmt.Errorf("bot: %w", err)
		}
		bot.BotRoleIndex = r.RoleIndex
	}
	for _, f := range fields[1:] {
		key, value, _ := strings.Cut(f, "=")
		switch key {
		case "local":
			bot.LocalClientBot = true
		case "targets":
			bot.CanTargetMessageInGroup = true
		case "per-user":
			bot.PerUserContent = true
		case "homepage":
			bot.Homepage = mimi.URI(value)
		case "description":
			bot.Description = value
		default:
			return fmt.Errorf("bot: %q is none of local, targets, per-user, homepage=URL and description=TEXT", f)
		}
	}
	c.Bots.AllowedBots = append(c.Bots.AllowedBots, bot)
	return nil
}

// botLine is a bot in the words of editBots.
func botLine(c *policy.Components, b *mimi.Bot) string {
	var s strings.Builder
	s.WriteString(b.Name)
	if b.BotRoleIndex != policy.NoRole {
		name := fmt.Sprint(b.BotRoleIndex)
		if r := c.Roles.Find(b.BotRoleIndex); r != nil {
			name = r.RoleName
		}
		s.WriteString(":" + name)
	}
	for _, f := range []struct {
		is   bool
		text string
	}{
		{b.LocalClientBot, "local"}, {b.CanTargetMessageInGroup, "targets"}, {b.PerUserContent, "per-user"},
		{b.Homepage != "", "homepage=" + string(b.Homepage)}, {b.Description != "", "description=" + b.Description},
	} {
		if f.is {
			s.WriteString("," + f.text)
		}
	}
	return s.String()
}

// replaceComponent puts a whole component in place: VALUE is JSON, or @ and the name of a file that holds it.
func replaceComponent(c *policy.Components, name, value string) (mls.ComponentID, error) {
	document := []byte(value)
	if file, ok := strings.CutPrefix(value, "@"); ok {
		var err error
		if document, err = os.ReadFile(file); err != nil {
			return 0, err
		}
	}
	id, data, err := c.Replace(name, document)
	if err == nil {
		c.Put(data)
	}
	return id, err
}
