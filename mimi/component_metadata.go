package mimi

import (
	"errors"
	"fmt"
	"slices"

	"github.com/comity-im/comity/tlspl"
)

// A RichDescription describes a room in one language (MIMI protocol §7.6). An
// empty media type is text/plain;charset=utf-8.
type RichDescription struct {
	MediaType          string
	LanguageTag        string
	DescriptionContent []byte
}

// Code describes a RichDescription.
func (d *RichDescription) Code(c *tlspl.Codec) {
	c.Field("media_type")
	tlspl.String(c, &d.MediaType)
	c.Field("language_tag")
	tlspl.String(c, &d.LanguageTag)
	c.Field("description_content")
	tlspl.Opaque(c, &d.DescriptionContent)
}

func (d *RichDescription) equal(o *RichDescription) bool {
	return d.MediaType == o.MediaType && d.LanguageTag == o.LanguageTag &&
		string(d.DescriptionContent) == string(o.DescriptionContent)
}

// RoomMetaData is the data of the room_metadata component, and the content of
// its updates, which replace it (MIMI protocol §7.6).
type RoomMetaData struct {
	RoomURI          RoomURI
	RoomName         string
	RoomDescriptions []RichDescription
	RoomAvatar       URI // https, or empty
	RoomSubject      string
	RoomMood         string
}

// Code describes a RoomMetaData.
func (m *RoomMetaData) Code(c *tlspl.Codec) {
	c.Field("room_uri")
	m.RoomURI.Code(c)
	c.Field("room_name")
	codeUTF8(c, &m.RoomName)
	c.Field("room_descriptions")
	tlspl.Vector(c, &m.RoomDescriptions)
	c.Field("room_avatar")
	codeUTF8(c, &m.RoomAvatar)
	c.Field("room_subject")
	codeUTF8(c, &m.RoomSubject)
	c.Field("room_mood")
	codeUTF8(c, &m.RoomMood)
}

// What makes room metadata, or an update of it, invalid. Decision 84
var (
	ErrMetadataAvatar  = errors.New("avatar is not an https URL")
	ErrMetadataRoomURI = errors.New("room URI can't change")
)

// Validate reports whether m can be the metadata of a new room.
func (m *RoomMetaData) Validate() error {
	if m.RoomAvatar != "" && !m.RoomAvatar.HTTPS() {
		return fmt.Errorf("mimi: room metadata: %w: %q", ErrMetadataAvatar, m.RoomAvatar)
	}
	return nil
}

// Update checks that next can replace m, and returns the capabilities that the
// replacement takes: one for each field that differs. Decision 84
func (m *RoomMetaData) Update(next *RoomMetaData) ([]CapabilityType, error) {
	if next.RoomURI != m.RoomURI {
		return nil, fmt.Errorf("mimi: room metadata: %w from %s to %s", ErrMetadataRoomURI, m.RoomURI, next.RoomURI)
	}
	if err := next.Validate(); err != nil {
		return nil, err
	}
	var need []CapabilityType
	if next.RoomName != m.RoomName {
		need = append(need, CanChangeRoomName)
	}
	same := func(a, b RichDescription) bool { return a.equal(&b) }
	if !slices.EqualFunc(next.RoomDescriptions, m.RoomDescriptions, same) {
		need = append(need, CanChangeRoomDescription)
	}
	if next.RoomAvatar != m.RoomAvatar {
		need = append(need, CanChangeRoomAvatar)
	}
	if next.RoomSubject != m.RoomSubject {
		need = append(need, CanChangeRoomSubject)
	}
	if next.RoomMood != m.RoomMood {
		need = append(need, CanChangeRoomMood)
	}
	return need, nil
}
