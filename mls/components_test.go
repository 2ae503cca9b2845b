package mls

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// supporting gives a client's leaves the component lists of a MIMI client.
func supporting(c *client, components ...ComponentID) {
	d := AppDataDictionary{
		{ComponentAppComponents, marshal(&ComponentsList{components})},
		{ComponentSafeAAD, marshal(&ComponentsList{[]ComponentID{0x20, 0x0a0a}})},
		{ComponentContentMediaTypes, marshal(&MediaTypeList{[]MediaType{{Type: []byte("text/plain")}, {Type: []byte("application/mimi-content")}}})},
	}
	c.leaf.Extensions = Extensions{{ExtensionAppDataDictionary, marshal(&d)}}
}

// orderRules notes in which order components are updated.
type orderRules struct {
	testRules
	calls *[]string
}

func (r orderRules) UpdateComponent(id ComponentID, old []byte, exists bool, updates []ResolvedProposal, c *Changes) ([]byte, error) {
	var text []string
	for _, u := range updates {
		text = append(text, string(u.AppDataUpdate.Update))
	}
	*r.calls = append(*r.calls, fmt.Sprintf("%x=%s", id, strings.Join(text, "")))
	if c.Old == nil || len(c.Proposals) == 0 {
		return nil, errors.New("the commit is not known")
	}
	return r.testRules.UpdateComponent(id, old, exists, updates, c)
}

// TestComponents goes through Decisions 114, 115, 117 and 118.
func TestComponents(t *testing.T) {
	var calls []string
	clients := []*client{newClient(t, "alice"), newClient(t, "bob"), newClient(t, "carol")}
	for _, c := range clients {
		supporting(c, 0x0003, 0xf000, 0xf001, 0xf002)
		c.config.Rules = orderRules{calls: &calls}
	}
	alice, bob, carol := clients[0], clients[1], clients[2]
	d := AppDataDictionary{
		{ComponentAppComponents, marshal(&ComponentsList{[]ComponentID{0x0003, 0xf000, 0xf001}})},
		{ComponentSafeAAD, marshal(&ComponentsList{[]ComponentID{0x20}})},
		{ComponentContentMediaTypes, marshal(&MediaTypeList{[]MediaType{{Type: []byte("application/mimi-content")}}})},
		{0xf000, []byte("start")},
	}
	alice.create(t, Extensions{{ExtensionAppDataDictionary, marshal(&d)}})
	info, err := alice.group.GroupInfo(rand.Reader, true)
	if err != nil {
		t.Fatal(err)
	}
	r := &room{t: t, clients: []*client{alice}}
	if r.hub, err = NewPublicGroup(alice.config, info, nil); err != nil {
		t.Fatal(err)
	}
	empty := []byte{0}
	r.commit(alice, CommitOptions{Proposals: []Proposal{add(bob.keyPackage(t)), add(carol.keyPackage(t))}, AuthenticatedData: empty}, bob, carol)

	// Every message carries a SafeAAD.
	if _, err := alice.group.Encrypt(rand.Reader, []byte("x"), nil); ruleOf(err) != RuleSafeAAD {
		t.Errorf("no SafeAAD: %v", err)
	}
	unsorted := marshal(&opaque{0x00, 0x21, 0, 0x00, 0x20, 0})
	if _, err := alice.group.Encrypt(rand.Reader, []byte("x"), unsorted); ruleOf(err) != RuleSafeAAD {
		t.Errorf("unsorted SafeAAD: %v", err)
	}
	aad := marshal(&SafeAAD{[]SafeAADItem{{0x20, []byte("tag")}, {0x7777, nil}}})
	m, err := alice.group.Encrypt(rand.Reader, []byte("x"), aad)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := bob.group.Decrypt(wire(t, m)); err != nil || string(got.AuthenticatedData) != string(aad) {
		t.Errorf("SafeAAD: %v", err)
	}

	// Components are updated in ascending order, each in the order of the
	// commit, after the built-in lists.
	calls = nil
	lists := appData(ComponentAppComponents, AppDataOpUpdate, string(marshal(&ComponentsList{[]ComponentID{0x0003, 0xf000, 0xf001, 0xf002}})))
	staged, err := alice.group.Stage(rand.Reader, CommitOptions{AuthenticatedData: empty, Proposals: []Proposal{
		appData(0xf002, AppDataOpUpdate, "a"), appData(0xf001, AppDataOpUpdate, "b"), lists, appData(0xf002, AppDataOpUpdate, "c"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"f001=b", "f002=ac"}; !slices.Equal(calls, want) {
		t.Errorf("updated %v, want %v", calls, want)
	}
	staged.Drop()
	r.commit(bob, CommitOptions{AuthenticatedData: empty, Proposals: []Proposal{lists, appData(0xf002, AppDataOpUpdate, "a")}})

	refused := func(name string, rule Rule, p ...Proposal) {
		t.Helper()
		if _, err := alice.group.Stage(rand.Reader, CommitOptions{AuthenticatedData: empty, Proposals: p}); ruleOf(err) != rule {
			t.Errorf("%s: %v, want rule %s", name, err, rule)
		}
	}
	// A component leaves the list only together with its data.
	shorter := appData(ComponentAppComponents, AppDataOpUpdate, string(marshal(&ComponentsList{[]ComponentID{0x0003, 0xf001, 0xf002}})))
	refused("data stays", RuleComponent, shorter)
	r.commit(carol, CommitOptions{AuthenticatedData: empty, Proposals: []Proposal{shorter, appData(0xf000, AppDataOpRemove, "")}})

	// A leaf that does not cover the lists does not get in.
	dave := newClient(t, "dave")
	refused("no lists", RuleComponent, add(dave.keyPackage(t)))
	supporting(dave, 0x0003, 0xf001)
	refused("a component is missing", RuleComponent, add(dave.keyPackage(t)))
	supporting(dave, 0x0003, 0xf001, 0xf002, 0x0a0a)
	dave.config.Rules = orderRules{calls: &calls}
	r.commit(alice, CommitOptions{AuthenticatedData: empty, Proposals: []Proposal{add(dave.keyPackage(t))}}, dave)
	// Nor does one shrink.
	small := dave.leaf
	supporting(dave, 0x0003, 0xf001)
	small.Extensions = dave.leaf.Extensions
	if _, err := dave.group.Stage(rand.Reader, CommitOptions{AuthenticatedData: empty, Leaf: &small}); ruleOf(err) != RuleComponent {
		t.Errorf("a leaf shrinks: %v", err)
	}
	refused("not all support it", RuleMediaType, appData(ComponentContentMediaTypes, AppDataOpUpdate,
		string(marshal(&MediaTypeList{[]MediaType{{Type: []byte("image/png")}}}))))
}
