package clientcmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
)

// Consent is comity client consent.
type Consent struct {
	List    ConsentList    `cmd:"" default:"1" help:"Who asked you, whom you asked, and what was answered."`
	Request ConsentRequest `cmd:"" help:"Ask somebody whether you may add them."`
	Cancel  ConsentCancel  `cmd:"" help:"Take that back."`
	Grant   ConsentGrant   `cmd:"" help:"Let somebody add you."`
	Revoke  ConsentRevoke  `cmd:"" help:"Don't let them, or not any more."`
	Report  ConsentReport  `cmd:"" help:"Report a request that you did not want, to your provider."`
}

// ConsentList is comity client consent list.
type ConsentList struct{}

// Run lists consents.
func (ConsentList) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return cmd.online(ctx, out, func(ctx context.Context, s *session) error {
		list, err := s.Consents(ctx)
		if err != nil {
			return err
		}
		return cmd.show(out, list, func(w io.Writer) {
			t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
			for _, c := range list {
				where := "any room"
				if c.Room != "" {
					where = string(c.Room)
				}
				if c.Target == s.User() {
					what := c.Decision
					if what == "" {
						what = "asks you: grant or revoke"
					}
					fmt.Fprintf(t, "in\t%s\t%s\t%s\n", c.Requester, where, what)
					continue
				}
				what := c.Decision
				if what == "" {
					what = "asked, no answer yet"
				}
				fmt.Fprintf(t, "out\t%s\t%s\t%s\n", c.Target, where, what)
			}
			t.Flush()
		})
	})
}

// peer is what the commands about consent take.
type peer struct {
	User string `arg:"" help:"Whom: a mimi: URI."`
	Room string `help:"Only for this room." placeholder:"ROOM"`
}

func (p *peer) change(ctx context.Context, cmd *Cmd, out io.Writer, operation, done string) error {
	return cmd.online(ctx, out, func(ctx context.Context, s *session) error {
		u, err := s.user(p.User)
		if err != nil {
			return err
		}
		change := clientapi.ConsentChange{Operation: operation, Peer: u}
		if p.Room != "" {
			if change.Room, err = s.room(p.Room); err != nil {
				return err
			}
		}
		if err := s.ChangeConsent(ctx, change); err != nil {
			return err
		}
		return cmd.show(out, change, func(w io.Writer) { fmt.Fprintf(w, done+"\n", u) })
	})
}

// ConsentRequest is comity client consent request.
type ConsentRequest struct{ peer }

// Run asks.
func (c *ConsentRequest) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return c.change(ctx, cmd, out, "request", "%s is asked, if there is such a user.")
}

// ConsentCancel is comity client consent cancel.
type ConsentCancel struct{ peer }

// Run takes a request back.
func (c *ConsentCancel) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return c.change(ctx, cmd, out, "cancel", "You don't ask %s any more.")
}

// ConsentGrant is comity client consent grant.
type ConsentGrant struct{ peer }

// Run grants.
func (c *ConsentGrant) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return c.change(ctx, cmd, out, "grant", "%s may add you.")
}

// ConsentReport is comity client consent report.
type ConsentReport struct {
	peer
	Note string `help:"What your provider's operator should know."`
}

// Run reports a request.
func (c *ConsentReport) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return cmd.online(ctx, out, func(ctx context.Context, s *session) error {
		report := clientapi.ConsentReport{Note: c.Note}
		var err error
		if report.Requester, err = s.user(c.User); err != nil {
			return err
		}
		if c.Room != "" {
			if report.Room, err = s.room(c.Room); err != nil {
				return err
			}
		}
		if err := s.ReportConsent(ctx, report); err != nil {
			return err
		}
		return cmd.show(out, report, func(w io.Writer) { fmt.Fprintf(w, "Reported to %s.\n", s.User().Host()) })
	})
}

// ConsentRevoke is comity client consent revoke.
type ConsentRevoke struct{ peer }

// Run revokes.
func (c *ConsentRevoke) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return c.change(ctx, cmd, out, "revoke", "%s may not add you.")
}

// Find is comity client find.
type Find struct {
	Domain string   `arg:"" help:"The provider to ask."`
	Handle string   `help:"By handle."`
	Nick   string   `help:"By nickname."`
	Email  string   `help:"By e-mail address."`
	Phone  string   `help:"By phone number."`
	Name   string   `help:"By part of a name, 3 letters at least."`
	Any    string   `help:"By anything in the profile."`
	OIDC   []string `help:"By an OpenID Connect claim." name:"oidc" placeholder:"CLAIM=VALUE"`
	VCard  []string `help:"By a vCard property." name:"vcard" placeholder:"PROPERTY=VALUE"`
}

func (f *Find) elements() ([]mimi.QueryElement, error) {
	var list []mimi.QueryElement
	for _, x := range []struct {
		kind  mimi.SearchIdentifierType
		value string
	}{
		{mimi.SearchHandle, f.Handle}, {mimi.SearchNick, f.Nick}, {mimi.SearchEmail, f.Email}, {mimi.SearchPhone, f.Phone},
		{mimi.SearchPartialName, f.Name}, {mimi.SearchWholeProfile, f.Any},
	} {
		if x.value != "" {
			list = append(list, mimi.QueryElement{SearchType: x.kind, SearchValue: x.value})
		}
	}
	for _, x := range f.OIDC {
		name, value, ok := strings.Cut(x, "=")
		if !ok {
			return nil, fmt.Errorf("--oidc %q is not of the form CLAIM=VALUE", x)
		}
		list = append(list, mimi.QueryElement{SearchType: mimi.SearchOIDCStdClaim, ClaimName: name, SearchValue: value})
	}
	for _, x := range f.VCard {
		name, value, ok := strings.Cut(x, "=")
		if !ok {
			return nil, fmt.Errorf("--vcard %q is not of the form PROPERTY=VALUE", x)
		}
		list = append(list, mimi.QueryElement{SearchType: mimi.SearchVCardField, PropertyName: name, SearchValue: value})
	}
	if len(list) == 0 {
		return nil, errors.New("say what to look for, such as --handle bob")
	}
	return list, nil
}

// Run looks for people.
func (f *Find) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	domain, err := mimi.ParseProviderDomain(f.Domain)
	if err != nil {
		return err
	}
	list, err := f.elements()
	if err != nil {
		return err
	}
	return cmd.online(ctx, out, func(ctx context.Context, s *session) error {
		resp, err := s.Client.Find(ctx, domain, list...)
		if err != nil {
			return err
		}
		type field struct {
			Source string `json:"source"`
			Name   string `json:"name"`
			Value  string `json:"value"`
		}
		type found struct {
			User   mimi.UserURI `json:"user"`
			Fields []field      `json:"fields,omitempty"`
		}
		v := struct {
			Code  string  `json:"code"`
			Found []found `json:"found"`
		}{Code: resp.ResponseCode.String(), Found: []found{}}
		for i, u := range resp.URI {
			x := found{User: u}
			if i < len(resp.FoundProfiles) {
				for _, p := range resp.FoundProfiles[i].Fields {
					x.Fields = append(x.Fields, field{p.FieldSource.String(), safe(p.FieldName), safe(string(p.FieldValue))})
				}
			}
			v.Found = append(v.Found, x)
		}
		return cmd.show(out, v, func(w io.Writer) {
			if resp.ResponseCode != mimi.QuerySuccess {
				fmt.Fprintf(w, "%s: %s.\n", domain, v.Code)
				return
			}
			for _, x := range v.Found {
				fmt.Fprint(w, x.User)
				for _, p := range x.Fields {
					fmt.Fprintf(w, "  %s: %s", p.Name, p.Value)
				}
				fmt.Fprintln(w)
			}
		})
	})
}

// Profile is comity client profile.
type Profile struct {
	List ProfileList `cmd:"" default:"1" help:"List your profile, and who may use it."`
	Set  ProfileSet  `cmd:"" help:"Say something of yourself."`
	Drop ProfileDrop `cmd:"" help:"Take it back."`
}

var sources = map[string]mimi.SearchIdentifierType{
	"handle": mimi.SearchHandle, "nick": mimi.SearchNick, "email": mimi.SearchEmail, "phone": mimi.SearchPhone, "name": mimi.SearchPartialName,
	"oidc": mimi.SearchOIDCStdClaim, "vcard": mimi.SearchVCardField,
}

// field reads handle, nick, email, phone, name, oidc:claim or vcard:property.
func field(s string) (uint8, string, error) {
	kind, name, _ := strings.Cut(s, ":")
	source, ok := sources[kind]
	if !ok {
		return 0, "", fmt.Errorf("%q is not handle, nick, email, phone, name, oidc:CLAIM or vcard:PROPERTY", s)
	}
	return uint8(source), name, nil
}

// ProfileList is comity client profile list.
type ProfileList struct{}

// Run lists the profile.
func (ProfileList) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return cmd.online(ctx, out, func(ctx context.Context, s *session) error {
		list, err := s.Client.Profile(ctx)
		if err != nil {
			return err
		}
		return cmd.show(out, list, func(w io.Writer) {
			t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
			for _, f := range list {
				who := []string{}
				if f.Findable {
					who = append(who, "others find you by it")
				}
				if f.Shown {
					who = append(who, "shown to those who find you")
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", mimi.SearchIdentifierType(f.Source), f.Name, safe(f.Value), strings.Join(who, ", "))
			}
			t.Flush()
		})
	})
}

// ProfileSet is comity client profile set.
type ProfileSet struct {
	Field    string `arg:"" help:"handle, nick, email, phone, name, oidc:CLAIM or vcard:PROPERTY."`
	Value    string `arg:"" help:"What it is."`
	Findable bool   `help:"Others may find you by it."`
	Shown    bool   `help:"It is shown to those who find you."`
}

// Run sets a field.
func (p *ProfileSet) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	source, name, err := field(p.Field)
	if err != nil {
		return err
	}
	return cmd.online(ctx, out, func(ctx context.Context, s *session) error {
		f := clientapi.ProfileField{Source: source, Name: name, Value: p.Value, Findable: p.Findable, Shown: p.Shown}
		if err := s.SetProfileField(ctx, f); err != nil {
			return err
		}
		return cmd.show(out, f, func(w io.Writer) { fmt.Fprintln(w, "Stored.") })
	})
}

// ProfileDrop is comity client profile drop.
type ProfileDrop struct {
	Field string `arg:"" help:"As for set."`
}

// Run drops a field.
func (p *ProfileDrop) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	source, name, err := field(p.Field)
	if err != nil {
		return err
	}
	return cmd.online(ctx, out, func(ctx context.Context, s *session) error {
		if err := s.DropProfileField(ctx, source, name); err != nil {
			return err
		}
		return cmd.show(out, map[string]any{"dropped": p.Field}, func(w io.Writer) { fmt.Fprintln(w, "Dropped.") })
	})
}
