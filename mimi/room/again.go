package room

import (
	"bytes"
	"fmt"
	"io"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// Again makes the room's group anew, in its first epoch, from what this client holds of it: for a hub that has lost the room,
// and takes it up like one that was just created (First). Participants whom pending proposals take out stay out. Members and
// Now of p don't count. Decision 123
func (r *Room) Again(rand io.Reader, p RefoundParams) (*Room, error) {
	var gone *plan
	if items := r.group.Pending(); len(items) > 0 {
		list, err := readParticipants(r.View(), items)
		if err != nil {
			return nil, err
		}
		if gone, err = newPlan(r.rules.room, r.verifier, items, list, nil); err != nil {
			return nil, err
		}
	}
	extensions, err := refoundExtensions(r.View(), effectiveList(r.View(), gone), &p)
	if err != nil {
		return nil, err
	}
	next := newRoom(Config{Verifier: r.verifier, MLS: r.mls})
	group, err := mls.CreateGroup(rand, next.mls, mls.GroupOptions{GroupID: p.GroupID, CipherSuite: p.CipherSuite, Extensions: extensions, Leaf: p.Leaf, Lifetime: p.Lifetime})
	if err != nil {
		return nil, err
	}
	return next.enter(group, r.View().Room())
}

// Continues says why another group is not plainly the same room as this client knows it, or nil if it is: nobody is on its
// participant list whom this one has not, each has the role that it has here, and the components are the same that say who
// may do what. Decision 123
func (r *Room) Continues(theirs *View) error {
	mine := r.View()
	for _, p := range theirs.Participants() {
		role, listed := mine.RoleOf(p.User)
		switch {
		case theirs.Roles().Banned(p.RoleIndex):
		case !listed || mine.Roles().Banned(role):
			return &StateError{mimi.ComponentParticipantList, fmt.Errorf("%s is a participant of it, and was none as far as this device knows", p.User)}
		case role != p.RoleIndex:
			return &StateError{mimi.ComponentParticipantList, fmt.Errorf("%s is %s in it, and was %s as far as this device knows", p.User, theirs.Roles().Name(p.RoleIndex), mine.Roles().Name(role))}
		}
	}
	for _, id := range []mls.ComponentID{mimi.ComponentMLSOperationalPolicy, mimi.ComponentRolesList, mimi.ComponentPreauthList, mimi.ComponentBaseRoomPolicy} {
		a, had := mine.dictionary.Find(id)
		b, has := theirs.dictionary.Find(id)
		if had != has || !bytes.Equal(a, b) {
			return &StateError{id, fmt.Errorf("it is another than this device knows")}
		}
	}
	return nil
}
