package mimi

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"io"

	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// FrankLen is the length in octets of a franking tag and of a server frank.
const FrankLen = sha256.Size

// A FrankingTag is a sender's commitment to what it sent (MIMI protocol
// §5.4.1.1).
type FrankingTag [FrankLen]byte

// NewFrankingTag returns HMAC-SHA256(salt, applicationData). The data is the
// whole application_data of the MLS message, that is, with its
// ApplicationFraming; the salt the 16 octets of the MIMI content. Decision 42
func NewFrankingTag(salt, applicationData []byte) FrankingTag {
	h := hmac.New(sha256.New, salt)
	h.Write(applicationData)
	return FrankingTag(h.Sum(nil))
}

// FrankAAD is the data of the frank_aad component in a SafeAAD (MIMI protocol
// §5.4.1): the 32 octets of the tag, without a length. Decision 43
type FrankAAD struct {
	FrankingTag FrankingTag
}

// Code describes a FrankAAD.
func (f *FrankAAD) Code(c *tlspl.Codec) {
	c.Field("franking_tag")
	tlspl.Fixed(c, f.FrankingTag[:])
}

// SafeAADItem returns the item that carries the tag in a message's
// authenticated_data.
func (t FrankingTag) SafeAADItem() mls.SafeAADItem {
	return mls.SafeAADItem{ComponentID: ComponentFrankAAD, AADItemData: t[:]}
}

// ErrFrankAAD is the error of a frank_aad item that is not 32 octets long.
// Decision 43
var ErrFrankAAD = errors.New("mimi: frank_aad is not 32 octets long")

// FrankingTagOf returns the tag in a message's authenticated_data, which is a
// SafeAAD; nil if it has none.
func FrankingTagOf(authenticatedData []byte) (*FrankingTag, error) {
	var aad mls.SafeAAD
	if err := tlspl.UnmarshalAlias(authenticatedData, &aad); err != nil {
		return nil, err
	}
	item, ok := aad.Find(ComponentFrankAAD)
	if !ok {
		return nil, nil
	}
	if len(item) != FrankLen {
		return nil, ErrFrankAAD
	}
	tag := FrankingTag(item)
	return &tag, nil
}

// FrankingAgentData is the data of the franking_agent component, and the
// content of its updates (MIMI protocol §5.4.1): the key with which the hub
// signs franks. Decision 47
type FrankingAgentData struct {
	FrankingSignatureKey []byte
	Credential           mls.Credential
}

// Code describes a FrankingAgentData.
func (d *FrankingAgentData) Code(c *tlspl.Codec) {
	c.Field("franking_signature_key")
	tlspl.Opaque(c, &d.FrankingSignatureKey)
	tlspl.Struct(c, "credential", &d.Credential)
}

// A Frank is the hub's stamp on a message (MIMI protocol §5.4).
type Frank struct {
	ServerFrank                  [FrankLen]byte
	FrankingSignatureCiphersuite suite.ID
	FrankingIntegritySignature   []byte
}

// Code describes a Frank.
func (f *Frank) Code(c *tlspl.Codec) {
	c.Field("server_frank")
	tlspl.Fixed(c, f.ServerFrank[:])
	c.Field("franking_signature_ciphersuite")
	tlspl.Uint16(c, &f.FrankingSignatureCiphersuite)
	c.Field("franking_integrity_signature")
	tlspl.Opaque(c, &f.FrankingIntegritySignature)
}

// A ServerFrankingContext is what a hub's frank vouches for (MIMI protocol
// §5.4.1.2).
type ServerFrankingContext struct {
	SenderURI         UserURI
	RoomURI           RoomURI
	AcceptedTimestamp Millis
}

// Code describes a ServerFrankingContext.
func (x *ServerFrankingContext) Code(c *tlspl.Codec) {
	c.Field("sender_uri")
	x.SenderURI.Code(c)
	c.Field("room_uri")
	x.RoomURI.Code(c)
	c.Field("accepted_timestamp")
	tlspl.Uint64(c, &x.AcceptedTimestamp)
}

// FrankingIntegrityTBS is what the hub signs (MIMI protocol §5.4.1.2). It does
// not cover the franking tag, so a frank whose ServerFrank was seen before in
// the room proves nothing. Decision 45
type FrankingIntegrityTBS struct {
	ServerFrank                  [FrankLen]byte
	FrankingSignatureCiphersuite suite.ID
	Context                      ServerFrankingContext
}

// Code describes a FrankingIntegrityTBS.
func (t *FrankingIntegrityTBS) Code(c *tlspl.Codec) {
	c.Field("server_frank")
	tlspl.Fixed(c, t.ServerFrank[:])
	c.Field("franking_signature_ciphersuite")
	tlspl.Uint16(c, &t.FrankingSignatureCiphersuite)
	tlspl.Struct(c, "context", &t.Context)
}

const frankingIntegrityLabel = "FrankingIntegrityTBS"

// HubKey derives the key of a room's server franks from a secret of the hub:
// HKDF-SHA256 without salt, the room URI as info, 32 octets. Decision 46
func HubKey(master []byte, room RoomURI) ([]byte, error) {
	return hkdf.Key(sha256.New, master, nil, string(room), sha256.Size)
}

// ServerFrank returns HMAC-SHA256(hubKey, tag || context) (MIMI protocol
// §5.4.1.2, Decision 44).
func ServerFrank(hubKey []byte, tag FrankingTag, context *ServerFrankingContext) ([FrankLen]byte, error) {
	b, err := tlspl.Append(tag[:], context)
	if err != nil {
		return [FrankLen]byte{}, err
	}
	h := hmac.New(sha256.New, hubKey)
	h.Write(b)
	return [FrankLen]byte(h.Sum(nil)), nil
}

// NewFrank stamps a message as the hub. The agent's suite must be the group's.
func NewFrank(rand io.Reader, agent *suite.Signer, hubKey []byte, tag FrankingTag, context *ServerFrankingContext) (*Frank, error) {
	frank, err := ServerFrank(hubKey, tag, context)
	if err != nil {
		return nil, err
	}
	f := &Frank{ServerFrank: frank, FrankingSignatureCiphersuite: agent.Suite().ID()}
	f.FrankingIntegritySignature, err = signStruct(rand, agent, frankingIntegrityLabel, f.tbs(context))
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (f *Frank) tbs(context *ServerFrankingContext) *FrankingIntegrityTBS {
	return &FrankingIntegrityTBS{f.ServerFrank, f.FrankingSignatureCiphersuite, *context}
}

// Verify checks, as a receiver, the hub's signature under the key of the
// room's franking agent. That the suite is the group's, that the agent is the
// hub, and that the context is the message's is for the caller to check
// (MIMI protocol §5.4.1.3, Decision 48).
func (f *Frank) Verify(agentKey []byte, context *ServerFrankingContext) error {
	return verifyStruct(f.FrankingSignatureCiphersuite, agentKey, frankingIntegrityLabel, nil, f.tbs(context), f.FrankingIntegritySignature)
}

// Matches reports, as the hub, whether the server frank is the one that it gave
// for the tag and context (MIMI protocol §5.9, Decision 75). It takes constant
// time.
func (f *Frank) Matches(hubKey []byte, tag FrankingTag, context *ServerFrankingContext) bool {
	want, err := ServerFrank(hubKey, tag, context)
	return err == nil && hmac.Equal(want[:], f.ServerFrank[:])
}
