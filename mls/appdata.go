package mls

import (
	"errors"
	"slices"

	"github.com/comity-im/comity/tlspl"
)

// A ComponentID numbers a part of the application that uses the group
// (MLS extensions §4.1).
type ComponentID uint16

// The components of MLS extensions §7.5.
const (
	ComponentAppComponents        ComponentID = 0x0001
	ComponentSafeAAD              ComponentID = 0x0002
	ComponentContentMediaTypes    ComponentID = 0x0003
	ComponentLastResortKeyPackage ComponentID = 0x0004
	ComponentAppAck               ComponentID = 0x0005
)

// A ComponentOperationLabel separates what components do with the group's
// keys (MLS extensions §4.1, Decision 113).
type ComponentOperationLabel struct {
	ComponentID ComponentID
	Label       []byte
}

var componentBaseLabel = []byte("MLS Component")

// Code describes a ComponentOperationLabel (MLS extensions §4.1).
func (l *ComponentOperationLabel) Code(c *tlspl.Codec) {
	base := componentBaseLabel
	c.Field("base_label")
	tlspl.Opaque(c, &base)
	if string(base) != string(componentBaseLabel) {
		c.Fail(tlspl.ErrValue)
	}
	c.Field("component_id")
	tlspl.Uint16(c, &l.ComponentID)
	c.Field("label")
	tlspl.Opaque(c, &l.Label)
}

// ComponentData is the data of one component (MLS extensions §4.6).
type ComponentData struct {
	ComponentID ComponentID
	Data        []byte
}

// Code describes a ComponentData (MLS extensions §4.6).
func (d *ComponentData) Code(c *tlspl.Codec) {
	c.Field("component_id")
	tlspl.Uint16(c, &d.ComponentID)
	c.Field("data")
	tlspl.Opaque(c, &d.Data)
}

// An AppDataDictionary holds the data of components, ordered by component
// (MLS extensions §4.6).
type AppDataDictionary []ComponentData

// Code describes an AppDataDictionary (MLS extensions §4.6): strictly
// increasing component IDs.
func (d *AppDataDictionary) Code(c *tlspl.Codec) {
	c.Field("component_data")
	tlspl.Vector(c, (*[]ComponentData)(d))
	for i := 1; i < len(*d); i++ {
		if (*d)[i-1].ComponentID >= (*d)[i].ComponentID {
			c.Fail(tlspl.ErrOrder)
			return
		}
	}
}

// Find returns the data of a component, and whether there is any.
func (d AppDataDictionary) Find(id ComponentID) ([]byte, bool) {
	i, ok := d.search(id)
	if !ok {
		return nil, false
	}
	return d[i].Data, true
}

func (d AppDataDictionary) search(id ComponentID) (int, bool) {
	return slices.BinarySearchFunc(d, id, func(e ComponentData, id ComponentID) int {
		return int(e.ComponentID) - int(id)
	})
}

// With returns a copy of d in which a component has the given data.
func (d AppDataDictionary) With(id ComponentID, data []byte) AppDataDictionary {
	i, ok := d.search(id)
	if !ok {
		return slices.Insert(slices.Clone(d), i, ComponentData{id, data})
	}
	out := slices.Clone(d)
	out[i].Data = data
	return out
}

// Without returns a copy of d that has no data of a component.
func (d AppDataDictionary) Without(id ComponentID) AppDataDictionary {
	i, ok := d.search(id)
	if !ok {
		return d
	}
	return slices.Delete(slices.Clone(d), i, i+1)
}

// An AppDataUpdateOperation says what an AppDataUpdate does (MLS extensions
// §4.7).
type AppDataUpdateOperation uint8

// The operations of MLS extensions §4.7.
const (
	AppDataOpUpdate AppDataUpdateOperation = 1
	AppDataOpRemove AppDataUpdateOperation = 2
)

// An AppDataUpdate changes or removes the data of one component in the
// GroupContext (MLS extensions §4.7).
type AppDataUpdate struct {
	ComponentID ComponentID
	Op          AppDataUpdateOperation
	Update      []byte // AppDataOpUpdate; the component says what it means
}

// Code describes an AppDataUpdate (MLS extensions §4.7).
func (u *AppDataUpdate) Code(c *tlspl.Codec) {
	c.Field("component_id")
	tlspl.Uint16(c, &u.ComponentID)
	c.Field("op")
	tlspl.Uint8(c, &u.Op)
	switch u.Op {
	case AppDataOpUpdate:
		c.Field("update")
		tlspl.Opaque(c, &u.Update)
	case AppDataOpRemove:
	default:
		c.Fail(tlspl.ErrValue)
	}
}

// An AppEphemeral hands data to a component together with a commit
// (MLS extensions §4.8).
type AppEphemeral struct {
	ComponentID ComponentID
	Data        []byte
}

// Code describes an AppEphemeral (MLS extensions §4.8).
func (e *AppEphemeral) Code(c *tlspl.Codec) {
	c.Field("component_id")
	tlspl.Uint16(c, &e.ComponentID)
	c.Field("data")
	tlspl.Opaque(c, &e.Data)
}

// A SafeAADItem is one component's share of authenticated_data
// (MLS extensions §4.9).
type SafeAADItem struct {
	ComponentID ComponentID
	AADItemData []byte
}

// Code describes a SafeAADItem (MLS extensions §4.9).
func (i *SafeAADItem) Code(c *tlspl.Codec) {
	c.Field("component_id")
	tlspl.Uint16(c, &i.ComponentID)
	c.Field("aad_item_data")
	tlspl.Opaque(c, &i.AADItemData)
}

// SafeAAD is the content of authenticated_data in a group whose GroupContext
// has the safe_aad component (MLS extensions §4.9, Decision 117).
type SafeAAD struct {
	AADItems []SafeAADItem // increasing component IDs
}

// Code describes SafeAAD (MLS extensions §4.9): strictly increasing component
// IDs.
func (s *SafeAAD) Code(c *tlspl.Codec) {
	c.Field("aad_items")
	tlspl.Vector(c, &s.AADItems)
	for i := 1; i < len(s.AADItems); i++ {
		if s.AADItems[i-1].ComponentID >= s.AADItems[i].ComponentID {
			c.Fail(tlspl.ErrOrder)
			return
		}
	}
}

// Find returns the data of a component, and whether there is any.
func (s *SafeAAD) Find(id ComponentID) ([]byte, bool) {
	for i := range s.AADItems {
		if s.AADItems[i].ComponentID == id {
			return s.AADItems[i].AADItemData, true
		}
	}
	return nil, false
}

// A ComponentsList lists components: the data of safe_aad and app_components
// (MLS extensions §5).
type ComponentsList struct {
	ComponentIDs []ComponentID
}

// Code describes a ComponentsList (MLS extensions §5).
func (l *ComponentsList) Code(c *tlspl.Codec) {
	c.Field("component_ids")
	tlspl.VectorFunc(c, &l.ComponentIDs, tlspl.Uint16)
}

// Increasing reports whether the IDs are strictly increasing, as in a
// GroupContext they must be (Decision 114).
func (l *ComponentsList) Increasing() bool {
	for i := 1; i < len(l.ComponentIDs); i++ {
		if l.ComponentIDs[i-1] >= l.ComponentIDs[i] {
			return false
		}
	}
	return true
}

// A Parameter is a parameter of a media type (MLS extensions §6.2.2).
type Parameter struct {
	ParameterName  []byte
	ParameterValue []byte // without quotation marks or escapes
}

// Code describes a Parameter (MLS extensions §6.2.2).
func (p *Parameter) Code(c *tlspl.Codec) {
	c.Field("parameter_name")
	tlspl.Opaque(c, &p.ParameterName)
	c.Field("parameter_value")
	tlspl.Opaque(c, &p.ParameterValue)
}

// A MediaType is an IANA media type with its parameters (MLS extensions
// §6.2.2).
type MediaType struct {
	Type       []byte // "type/subtype"
	Parameters []Parameter
}

// Code describes a MediaType (MLS extensions §6.2.2).
func (m *MediaType) Code(c *tlspl.Codec) {
	c.Field("type")
	tlspl.Opaque(c, &m.Type)
	c.Field("parameters")
	tlspl.Vector(c, &m.Parameters)
}

// A MediaTypeList is the data of the content_media_types component
// (MLS extensions §6.2.2).
type MediaTypeList struct {
	MediaTypeList []MediaType // at least one
}

// ErrNoMediaType says that a MediaTypeList is empty.
var ErrNoMediaType = errors.New("mls: media type list is empty")

// Code describes a MediaTypeList (MLS extensions §6.2.2).
func (l *MediaTypeList) Code(c *tlspl.Codec) {
	c.Field("media_type_list")
	tlspl.Vector(c, &l.MediaTypeList)
	if len(l.MediaTypeList) == 0 {
		c.Fail(ErrNoMediaType)
	}
}

// ErrMediaTypeParameters says that a media type of zero length has parameters
// (Decision 119).
var ErrMediaTypeParameters = errors.New("mls: parameters without a media type")

// An ApplicationFraming says of which media type application data is
// (MLS extensions §6.2.4). A media type of zero length means the first entry
// of content_media_types and has no parameters (Decision 119).
type ApplicationFraming struct {
	MediaType               MediaType
	InnerApplicationContent []byte
}

// Code describes an ApplicationFraming (MLS extensions §6.2.4).
func (f *ApplicationFraming) Code(c *tlspl.Codec) {
	tlspl.Struct(c, "media_type", &f.MediaType)
	if len(f.MediaType.Type) == 0 && len(f.MediaType.Parameters) != 0 {
		c.Fail(ErrMediaTypeParameters)
	}
	c.Field("inner_application_content")
	tlspl.Opaque(c, &f.InnerApplicationContent)
}

// A MessageRange is a run of messages of one sender (MLS extensions §6.1).
type MessageRange struct {
	Sender          LeafIndex
	FirstGeneration uint32
	LastGeneration  uint32
}

// Code describes a MessageRange (MLS extensions §6.1).
func (r *MessageRange) Code(c *tlspl.Codec) {
	c.Field("sender")
	tlspl.Uint32(c, &r.Sender)
	c.Field("first_generation")
	tlspl.Uint32(c, &r.FirstGeneration)
	c.Field("last_generation")
	tlspl.Uint32(c, &r.LastGeneration)
}

// An AppAck is the data of the app_ack component in an AppEphemeral: which
// messages the sender received (MLS extensions §6.1).
type AppAck struct {
	ReceivedRanges []MessageRange
}

// Code describes an AppAck (MLS extensions §6.1).
func (a *AppAck) Code(c *tlspl.Codec) {
	c.Field("received_ranges")
	tlspl.Vector(c, &a.ReceivedRanges)
}

// IsLastResort reports whether a KeyPackage is marked as one that may be used
// again when no other is left (MLS extensions §6.4).
func (k *KeyPackage) IsLastResort() bool {
	d, _, err := k.Extensions.AppDataDictionary()
	if err != nil {
		return false
	}
	_, ok := d.Find(ComponentLastResortKeyPackage)
	return ok
}
