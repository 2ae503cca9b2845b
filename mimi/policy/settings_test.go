package policy

import (
	"reflect"
	"strings"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/tlspl"
)

// Whatever a setting says of itself can be set to what it says, in rooms that have the component and in those that don't.
func TestSettingsRoundTrip(t *testing.T) {
	c, _, err := Build(Moderated, testParams)
	if err != nil {
		t.Fatal(err)
	}
	c.LinkPreview, c.History, c.Logging = &mimi.LinkPreviewPolicy{LinkPreviewProxy: "https://p.example"}, &mimi.HistoryPolicy{}, &mimi.LoggingPolicy{}
	if c.Value(Setting{Component: mimi.ComponentBotPolicy}) != "" {
		t.Error("a component that is not there has a value")
	}
	names := map[string]bool{}
	for _, s := range c.Settings() {
		if names[s.Name] || s.Help == "" || s.Values() == "" {
			t.Errorf("%+v", s)
		}
		names[s.Name] = true
		value := c.Value(s)
		id, data, err := c.Set(s.Name, value)
		if err != nil {
			t.Errorf("%s = %s: %v", s.Name, value, err)
			continue
		}
		if id != s.Component || !reflect.DeepEqual(mustMarshal(t, data), mustMarshal(t, c.Data(id))) {
			t.Errorf("%s: setting it to its own value changes it", s.Name)
		}
	}
	empty := &Components{Roles: c.Roles, Base: c.Base}
	for _, s := range settings {
		if _, data, err := empty.Set(s.Name, c.Value(s)); err != nil || data == nil {
			t.Errorf("%s in a room without the component: %v", s.Name, err)
		}
	}
}

func mustMarshal(t *testing.T, v tlspl.Coder) []byte {
	b, err := tlspl.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSet(t *testing.T) {
	c, _, err := Build(Moderated, testParams)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, value, is string }{
		{"base.max_users", "12", "12"},
		{"base.max_users", "none", "none"},
		{"base.discoverable", "on", "yes"},
		{"status.read", "forbidden", "forbidden"},
		{"expiration.max", "90m", "90m"},
		{"expiration.max", "120s", "2m"},
		{"expiration.default", "1h", "1h"},
		{"assets.max_image", "20M", "20M"},
		{"assets.max_image", "1500", "1500"},
		{"assets.max_video", "unlimited", "unlimited"},
		{"assets.max_audio", "0", "0"},
		{"assets.upload", "hub", "hub"},
		{"mls.epoch_tolerance", "5", "5"},
		{"role.banned.can", "canReceiveMessage,canCopyMessage", "canReceiveMessage canCopyMessage"},
		{"role.no_role.can", "+canOpenJoin -canUseJoinCode", "canOpenJoin"},
		{"role.speaker.max", "3", "3"},
		{"history.max", "7d", "7d"},
	} {
		id, data, err := c.Set(test.name, test.value)
		if err != nil {
			t.Errorf("%s = %s: %v", test.name, test.value, err)
			continue
		}
		next := *c
		if err := next.renew(id); err != nil {
			t.Fatal(err)
		}
		reflect.ValueOf(next.Data(id)).Elem().Set(reflect.ValueOf(data).Elem())
		for _, s := range next.Settings() {
			if s.Name == test.name && next.Value(s) != test.is {
				t.Errorf("%s = %s reads %s", test.name, test.value, next.Value(s))
			}
		}
	}
	before := c.Value(c.Settings()[1])
	for _, bad := range [][2]string{
		{"base.max_users", "many"}, {"base.max_users", "-1"}, {"base.max_users", "4294967296"}, {"base.discoverable", "perhaps"}, {"status.read", "never"},
		{"expiration.max", "10"}, {"expiration.max", "99999999d"}, {"assets.max_image", "big"}, {"assets.max_image", "99999999999G"}, {"mls.epoch_tolerance", "256"},
		{"role.guest.can", "canFly"}, {"role.nobody.max", "1"}, {"party", "yes"}, {"assets.upload", "moon"},
	} {
		if _, _, err := c.Set(bad[0], bad[1]); err == nil || !strings.HasPrefix(err.Error(), "policy: ") {
			t.Errorf("%s = %s: %v", bad[0], bad[1], err)
		}
	}
	if c.Value(c.Settings()[1]) != before {
		t.Error("Set changed what it was called on")
	}
}
