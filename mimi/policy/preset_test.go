package policy

import (
	"errors"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/tlspl"
)

var testParams = Params{
	Hub:           "a.example",
	Creator:       "mimi://a.example/u/alice",
	Organizations: []mimi.ProviderDomain{"a.example", "b.example", "c.example"},
}

// Every preset is a valid room whose components survive their codecs, lists the hub as policy enforcer (Decision 97), and
// whose creator may change roles.
func TestPresets(t *testing.T) {
	for _, p := range Presets() {
		t.Run(string(p), func(t *testing.T) {
			if p.Does() == "" {
				t.Error("no description")
			}
			c, list, err := Build(p, testParams)
			if err != nil {
				t.Fatal(err)
			}
			data, err := tlspl.Marshal(c.Roles)
			if err != nil {
				t.Fatal(err)
			}
			var back mimi.RoleData
			if err := tlspl.Unmarshal(data, &back); err != nil {
				t.Fatal(err)
			}
			roles, err := NewRoles(&back)
			if err != nil {
				t.Fatal(err)
			}
			hub := list[len(list)-1]
			if hub.User != "mimi://a.example" || roles.Name(hub.RoleIndex) != "policy_enforcer" || roles.MayBeActive(hub.RoleIndex) {
				t.Errorf("the hub is listed as %+v", hub)
			}
			if !roles.Banned(BannedRole) || !roles.Defined(NoRole) {
				t.Error("role 0 or the banned role is missing")
			}
			if list[0].User != testParams.Creator.Identifier() || !roles.MayBeActive(list[0].RoleIndex) || !roles.MaySubmit(list[0].RoleIndex) {
				t.Errorf("the creator is listed as %+v", list[0])
			}
			if p != Direct && !roles.Has(list[0].RoleIndex, mimi.CanChangeRoleDefinitions) {
				t.Error("the creator can't change roles")
			}
		})
	}
}

func TestBuildRefuses(t *testing.T) {
	for name, f := range map[string]func() (Preset, Params){
		"unknown": func() (Preset, Params) { return "party", testParams },
		"no hub":  func() (Preset, Params) { p := testParams; p.Hub = ""; return Cooperative, p },
		"others outside direct": func() (Preset, Params) {
			p := testParams
			p.Others = []mimi.UserURI{"mimi://b.example/u/bob"}
			return Channel, p
		},
		"without organizations": func() (Preset, Params) { p := testParams; p.Organizations = nil; return MultiOrganization, p },
	} {
		if _, _, err := Build(f()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestCheckComponents(t *testing.T) {
	for name, breakIt := range map[string]func(*Components){
		"roles missing": func(c *Components) { c.Roles = nil },
		"base missing":  func(c *Components) { c.Base = nil },
		"role twice":    func(c *Components) { c.Roles.Roles = append(c.Roles.Roles, c.Roles.Roles[2]) },
		"open join for role": func(c *Components) {
			c.Roles.Roles[2].RoleCapabilities = append(c.Roles.Roles[2].RoleCapabilities, mimi.CanOpenJoin)
		},
		"fixed but canAdd":          func(c *Components) { c.Base.FixedMembership = true },
		"parent without dependence": func(c *Components) { c.Base.ParentRoom = "mimi://a.example/r/parent" },
		"parent elsewhere": func(c *Components) {
			c.Base.ParentRoom, c.Base.ParentDependant = "mimi://b.example/r/parent", true
		},
		"preauth of an unknown role": func(c *Components) {
			c.Preauth = &mimi.PreAuthData{PreauthorizedEntries: []mimi.PreAuthRoleEntry{{TargetRole: mimi.Role{RoleIndex: 99}}}}
		},
		"history by banned":                 func(c *Components) { c.History = &mimi.HistoryPolicy{RolesThatCanShare: []RoleIndex{1}} },
		"history by a role without clients": func(c *Components) { c.History = &mimi.HistoryPolicy{RolesThatCanShare: []RoleIndex{5}} },
		"local bot with a role": func(c *Components) {
			c.Bots = &mimi.BotPolicy{AllowedBots: []mimi.Bot{{LocalClientBot: true, BotRoleIndex: 2}}}
		},
		"bot with an unknown role": func(c *Components) { c.Bots = &mimi.BotPolicy{AllowedBots: []mimi.Bot{{BotRoleIndex: 77}}} },
		"logging by nobody":        func(c *Components) { c.Logging = &mimi.LoggingPolicy{Logging: mimi.Required} },
		"links must be detected": func(c *Components) {
			c.LinkPreview = &mimi.LinkPreviewPolicy{AutodetectHyperlinksInText: mimi.Required}
		},
		"durations out of order": func(c *Components) {
			c.Expiration = &mimi.MessageExpiration{MinExpirationDuration: 2, MaxExpirationDuration: 1}
		},
		"default too long": func(c *Components) {
			c.Expiration = &mimi.MessageExpiration{MaxExpirationDuration: 1, DefaultExpirationDuration: ptr(2)}
		},
		"two links on request": func(c *Components) {
			c.JoinLinkPolicy = &mimi.JoinLinkPolicy{OnRequest: true}
			c.JoinLinks = &mimi.JoinLinksData{Links: []mimi.JoinLink{[]byte("a"), []byte("b")}}
		},
		"one link twice": func(c *Components) {
			c.JoinLinks = &mimi.JoinLinksData{Links: []mimi.JoinLink{[]byte("a"), []byte("a")}}
		},
	} {
		c, _, err := Build(Cooperative, testParams)
		if err != nil {
			t.Fatal(err)
		}
		breakIt(c)
		var bad *PolicyError
		if err := CheckComponents(c, "a.example"); !errors.As(err, &bad) {
			t.Errorf("%s: %v", name, err)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}
