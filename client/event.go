package client

import (
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// An EventKind says what an Event tells.
type EventKind string

// The kinds of Event.
const (
	// EventMessage: a message came, or the hub accepted one of this device's. Message is set.
	EventMessage EventKind = "message"
	// EventFailed: a message of this device was refused for good. Message and Text are set.
	EventFailed EventKind = "failed"
	// EventJoined: this device came into a room.
	EventJoined EventKind = "joined"
	// EventOut: this device is out of a room. Text says why.
	EventOut EventKind = "out"
	// EventAdded, EventRemoved, EventRole: User became or ceased to be a participant, or has another role. By did it.
	EventAdded   EventKind = "added"
	EventRemoved EventKind = "removed"
	EventRole    EventKind = "role"
	// EventClients: devices of User came or went, while it stays a participant.
	EventClients EventKind = "clients"
	// EventChanged: the room's metadata or policy changed. Text names the components.
	EventChanged EventKind = "changed"
	// EventEpoch: the room is in a new epoch.
	EventEpoch EventKind = "epoch"
	// EventProposed: User proposes to leave, or the hub to remove somebody; a commit is to follow.
	EventProposed EventKind = "proposed"
	// EventRepaired: this device had got out of step with a room and is back. Text says what was wrong.
	EventRepaired EventKind = "repaired"
	// EventRefounded: this device gave the room a new MLS group; the others come into it by themselves.
	EventRefounded EventKind = "refounded"
	// EventProblem: something is wrong that the user should know. Text says what.
	EventProblem EventKind = "problem"
	// EventOnline, EventOffline: the connection to the provider. Text says why it is lost.
	EventOnline  EventKind = "online"
	EventOffline EventKind = "offline"
)

// An Event is something that happened. Fields that don't apply are empty.
type Event struct {
	Kind    EventKind          `json:"event"`
	Room    mimi.RoomURI       `json:"room,omitempty"`
	Epoch   mls.Epoch          `json:"epoch,omitempty"`
	User    mimi.IdentifierURI `json:"user,omitempty"`
	By      mimi.IdentifierURI `json:"by,omitempty"`
	Role    string             `json:"role,omitempty"` // name of User's role, now
	Clients int                `json:"clients,omitempty"`
	Message *Message           `json:"message,omitempty"`
	Text    string             `json:"text,omitempty"`
	Time    time.Time          `json:"time"`
}

// Line is the event as one line for a person, safe for a terminal.
func (e *Event) Line() string { return line(e) }
