package mimi_test

import (
	"errors"
	"fmt"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/tlspl"
)

// A room is one path segment of an endpoint's URL, and comes out of it again.
func ExampleTemplate() {
	room, err := mimi.NewRoomURI("a.example", "club house")
	if err != nil {
		panic(err)
	}
	t := mimi.Template("https://mimi.a.example/v1/update/{roomId}")
	url, err := t.Expand(mimi.Variables{RoomID: room})
	if err != nil {
		panic(err)
	}
	fmt.Println(url)

	values, ok := t.Match("/v1/update/mimi%3A%2F%2Fa.example%2Fr%2Fclub%2520house")
	fmt.Println(values["roomId"], ok)
	// Output:
	// https://mimi.a.example/v1/update/mimi%3A%2F%2Fa.example%2Fr%2Fclub%2520house
	// mimi://a.example/r/club%20house true
}

// Only the canonical spelling of a URI is one, and the error says what is wrong.
func ExampleParseUserURI() {
	_, err := mimi.ParseUserURI("mimi://A.example/u/alice")
	fmt.Println(err)
	_, err = mimi.ParseUserURI("mimi://a.example/r/clubhouse")
	fmt.Println(err, errors.Is(err, mimi.ErrURIKind))
	// Output:
	// mimi: "mimi://A.example/u/alice" is not a user URI: host is not a domain name in lower-case A-labels
	// mimi: "mimi://a.example/r/clubhouse" is not a user URI: wrong kind: room true
}

// An update gives list positions of before the Commit.
func ExampleParticipantListData_Apply() {
	roles := &mimi.RoleData{Roles: []mimi.Role{{RoleIndex: 2}, {RoleIndex: 4}}}
	list := mimi.ParticipantListData{Participants: []mimi.UserRolePair{
		{User: "mimi://a.example/u/alice", RoleIndex: 4},
		{User: "mimi://b.example/u/bob", RoleIndex: 2},
		{User: "mimi://c.example/u/cathy", RoleIndex: 2},
	}}
	next, changes, err := list.Apply(roles, []mimi.ParticipantListUpdate{
		{RemovedIndices: []uint32{1}},
		{ChangedRoleParticipants: []mimi.UserindexRolePair{{UserIndex: 2, RoleIndex: 4}}},
	})
	if err != nil {
		panic(err)
	}
	for _, c := range changes {
		fmt.Printf("%s: role %d to %d\n", c.User, c.From, c.To)
	}
	fmt.Println(len(next.Participants), "participants")
	// Output:
	// mimi://b.example/u/bob: role 2 to 0
	// mimi://c.example/u/cathy: role 2 to 4
	// 2 participants
}

// An error says in which field, and at which octet, reading stopped.
func ExampleConsentEntry() {
	entry := &mimi.ConsentEntry{
		ConsentOperation: mimi.ConsentRequest,
		ConsentScope:     mimi.ConsentScope{RequesterURI: "mimi://a.example/u/alice", TargetURI: "mimi://b.example/u/bob"},
	}
	b, err := tlspl.Marshal(entry)
	if err != nil {
		panic(err)
	}
	fmt.Println(len(b), "octets")
	fmt.Println(tlspl.Unmarshal(b[:30], new(mimi.ConsentEntry)))
	// Output:
	// 51 octets
	// tlspl: offset 26 (targetUri): input ends too early
}
