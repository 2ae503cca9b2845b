package clientapi

import (
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// A CreateRoomRequest founds a room: the GroupInfo of the creator's new MLS
// group at epoch 0, with its tree.
type CreateRoomRequest struct {
	GroupInfo   mls.GroupInfo
	RatchetTree mls.RatchetTreeOption
}

// Code describes a CreateRoomRequest.
func (r *CreateRoomRequest) Code(c *tlspl.Codec) {
	tlspl.Struct(c, "groupInfo", &r.GroupInfo)
	tlspl.Struct(c, "ratchetTreeOption", &r.RatchetTree)
}

// A CreateRoomResponse says when the hub accepted the room.
type CreateRoomResponse struct {
	AcceptedMillis uint64
}

// Code describes a CreateRoomResponse.
func (r *CreateRoomResponse) Code(c *tlspl.Codec) { tlspl.Uint64(c, &r.AcceptedMillis) }

// A client that can't set headers, such as a browser, offers these subprotocols
// for its events connection: the API's, and its token behind a prefix.
const (
	subprotocol = "comity-client-v1"
	tokenPrefix = "bearer."
)

// A FrameType says what a Frame carries.
type FrameType uint8

const (
	FrameEvents FrameType = 1 // provider: events
	FrameAck    FrameType = 2 // client: position stored
	FrameSubmit FrameType = 3 // client: a message to submit
	FrameAnswer FrameType = 4 // provider: the answer to it
	FrameRefuse FrameType = 5 // provider: a submit that failed, in words
)

// A Frame is one message of the events connection.
type Frame struct {
	Type   FrameType
	Events []Event      // FrameEvents
	Room   mimi.RoomURI // FrameAck, FrameSubmit
	Seq    uint64       // FrameAck
	ID     uint64       // FrameSubmit, FrameAnswer, FrameRefuse: chosen by the client
	Body   []byte       // SubmitMessageRequest, SubmitMessageResponse, or UTF-8 text
	Reason Code         // FrameRefuse
}

// Code describes a Frame.
func (f *Frame) Code(c *tlspl.Codec) {
	tlspl.Uint8(c, &f.Type)
	switch f.Type {
	case FrameEvents:
		tlspl.VectorFunc(c, &f.Events, func(c *tlspl.Codec, e *Event) { e.Code(c) })
	case FrameAck:
		f.Room.Code(c)
		tlspl.Uint64(c, &f.Seq)
	case FrameSubmit:
		tlspl.Uint64(c, &f.ID)
		f.Room.Code(c)
		tlspl.Opaque(c, &f.Body)
	case FrameAnswer:
		tlspl.Uint64(c, &f.ID)
		tlspl.Opaque(c, &f.Body)
	case FrameRefuse:
		tlspl.Uint64(c, &f.ID)
		tlspl.String(c, &f.Reason)
		tlspl.Opaque(c, &f.Body)
	default:
		c.Fail(tlspl.ErrValue)
	}
}

// Code describes an Event.
func (e *Event) Code(c *tlspl.Codec) {
	e.Room.Code(c)
	seq := uint64(e.Seq)
	tlspl.Uint64(c, &seq)
	if seq > 1<<62 {
		c.Fail(tlspl.ErrValue)
	}
	e.Seq = int64(seq)
	tlspl.Bool(c, &e.Invited)
	tlspl.Opaque(c, &e.Fanout)
}

// keyPackages is the body of a KeyPackage upload.
type keyPackages struct{ list []mls.KeyPackage }

func (k *keyPackages) Code(c *tlspl.Codec) { tlspl.Vector(c, &k.list) }
