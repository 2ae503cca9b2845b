package mimi

import (
	"crypto/sha256"
	"errors"
	"io"

	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// A KeyMaterialRequest claims a KeyPackage of every client of a user (MIMI
// protocol §5.2). The hub of RoomID forwards it unchanged. Decision 13
type KeyMaterialRequest struct {
	Protocol       Protocol
	RequestingUser UserURI
	TargetUser     UserURI
	RoomID         RoomURI // empty: not for a room. Decision 15

	AcceptableCiphersuites []suite.ID // the first fixes the signature scheme. Decision 14
	RequiredCapabilities   mls.RequiredCapabilities
	RequesterSignatureKey  []byte
	RequesterCredential    mls.Credential
	Signature              []byte // key_material_request_signature

	// Unknown holds what follows RoomID in a request for another protocol,
	// which is answered with IncompatibleProtocol. Decision 9
	Unknown []byte

	tbs []byte // as it arrived
}

// Code describes a KeyMaterialRequest (MIMI protocol §5.2).
func (r *KeyMaterialRequest) Code(c *tlspl.Codec) {
	tlspl.Raw(c, &r.tbs, func() { r.codeTBS(c) })
	if r.known() {
		c.Field("key_material_request_signature")
		tlspl.Opaque(c, &r.Signature)
	}
}

// known reports whether the request is for MLS 1.0; 0 is written as that.
func (r *KeyMaterialRequest) known() bool { return r.Protocol == MLS10 || r.Protocol == 0 }

func (r *KeyMaterialRequest) codeTBS(c *tlspl.Codec) {
	r.Protocol.octet(c)
	c.Field("requestingUser")
	r.RequestingUser.Code(c)
	c.Field("targetUser")
	r.TargetUser.Code(c)
	c.Field("roomId")
	codeOptionalURI(c, &r.RoomID, ParseRoomURI)
	if !r.known() {
		c.Field("unknown")
		tlspl.Remainder(c, &r.Unknown)
		return
	}
	c.Field("acceptableCiphersuites")
	tlspl.VectorFunc(c, &r.AcceptableCiphersuites, tlspl.Uint16[suite.ID])
	if len(r.AcceptableCiphersuites) == 0 {
		c.Fail(ErrNoCiphersuite)
	}
	tlspl.Struct(c, "requiredCapabilities", &r.RequiredCapabilities)
	c.Field("requesterSignatureKey")
	tlspl.Opaque(c, &r.RequesterSignatureKey)
	tlspl.Struct(c, "requesterCredential", &r.RequesterCredential)
}

// keyMaterialRequestTBS is what the signature covers: all but the signature.
type keyMaterialRequestTBS KeyMaterialRequest

// Code describes a KeyMaterialRequestTBS (MIMI protocol §5.2).
func (r *keyMaterialRequestTBS) Code(c *tlspl.Codec) { (*KeyMaterialRequest)(r).codeTBS(c) }

var (
	// ErrNoCiphersuite is the error of a request that accepts no cipher suite.
	// Decision 14
	ErrNoCiphersuite = errors.New("mimi: acceptableCiphersuites is empty")
	// ErrUnknownCiphersuite is the error of something signed or encrypted under
	// a cipher suite that this build does not have.
	ErrUnknownCiphersuite = errors.New("mimi: unknown cipher suite")
)

const keyMaterialRequestLabel = "KeyMaterialRequestTBS"

// Sign sets RequesterSignatureKey and Signature. The signer's suite must have
// the signature scheme of AcceptableCiphersuites[0]. Decision 14
func (r *KeyMaterialRequest) Sign(rand io.Reader, signer *suite.Signer) error {
	r.RequesterSignatureKey, r.tbs = signer.Public(), nil
	var err error
	r.Signature, err = signStruct(rand, signer, keyMaterialRequestLabel, (*keyMaterialRequestTBS)(r))
	return err
}

// Verify checks the signature under RequesterSignatureKey. It does not check
// that the key is the credential's, nor the credential.
func (r *KeyMaterialRequest) Verify() error {
	if !r.known() {
		return ErrProtocol
	}
	if len(r.AcceptableCiphersuites) == 0 {
		return ErrNoCiphersuite
	}
	return verifyStruct(r.AcceptableCiphersuites[0], r.RequesterSignatureKey, keyMaterialRequestLabel,
		r.tbs, (*keyMaterialRequestTBS)(r), r.Signature)
}

// Digest returns the SHA-256 of the encoded request, by which a target
// recognises repeats. Decision 20
func (r *KeyMaterialRequest) Digest() ([sha256.Size]byte, error) {
	b, err := tlspl.Marshal(r)
	return sha256.Sum256(b), err
}

// signStruct signs the encoding of v.
func signStruct(rand io.Reader, signer *suite.Signer, label string, v tlspl.Coder) ([]byte, error) {
	tbs, err := tlspl.Marshal(v)
	if err != nil {
		return nil, err
	}
	return signer.SignWithLabel(rand, label, tbs)
}

// verifyStruct verifies a signature over tbs, the octets that arrived, or over
// the encoding of v if it did not arrive.
func verifyStruct(id suite.ID, key []byte, label string, tbs []byte, v tlspl.Coder, signature []byte) error {
	s, ok := suite.Lookup(id)
	if !ok {
		return ErrUnknownCiphersuite
	}
	if tbs == nil {
		var err error
		if tbs, err = tlspl.Marshal(v); err != nil {
			return err
		}
	}
	return s.VerifyWithLabel(key, label, tbs, signature)
}

// A KeyMaterialUserCode says what became of a request as a whole (MIMI protocol
// §5.2). Values that are not known are failures. Decision 10
type KeyMaterialUserCode uint8

// The values of KeyMaterialUserCode.
const (
	KeyMaterialSuccess              KeyMaterialUserCode = 0
	KeyMaterialPartialSuccess       KeyMaterialUserCode = 1
	KeyMaterialIncompatibleProtocol KeyMaterialUserCode = 2
	KeyMaterialNoCompatible         KeyMaterialUserCode = 3
	KeyMaterialUserUnknown          KeyMaterialUserCode = 4
	KeyMaterialNoConsent            KeyMaterialUserCode = 5
	KeyMaterialNoConsentForThisRoom KeyMaterialUserCode = 6
	KeyMaterialUserDeleted          KeyMaterialUserCode = 7
)

// String returns the draft's word.
func (k KeyMaterialUserCode) String() string {
	return enumName(k, "success", "partialSuccess", "incompatibleProtocol", "noCompatibleMaterial",
		"userUnknown", "noConsent", "noConsentForThisRoom", "userDeleted")
}

// A KeyMaterialClientCode says what became of the request for one client (MIMI
// protocol §5.2).
type KeyMaterialClientCode uint8

// The values of KeyMaterialClientCode.
const (
	ClientSuccess              KeyMaterialClientCode = 0
	ClientKeyMaterialExhausted KeyMaterialClientCode = 1
	ClientNothingCompatible    KeyMaterialClientCode = 2
)

// String returns the draft's word.
func (k KeyMaterialClientCode) String() string {
	return enumName(k, "success", "keyMaterialExhausted", "nothingCompatible")
}

// ClientKeyMaterial is the outcome for one client (MIMI protocol §5.2, Decision
// 16).
type ClientKeyMaterial struct {
	ClientStatus       KeyMaterialClientCode
	ClientURI          ClientURI
	KeyPackage         *mls.KeyPackage   // ClientSuccess
	ClientCapabilities *mls.Capabilities // ClientNothingCompatible; may be nil
}

// Code describes a ClientKeyMaterial.
func (k *ClientKeyMaterial) Code(c *tlspl.Codec) {
	c.Field("clientStatus")
	codeEnum(c, &k.ClientStatus, ClientNothingCompatible)
	c.Field("clientUri")
	k.ClientURI.Code(c)
	switch k.ClientStatus {
	case ClientSuccess:
		codeCase(c, "keyPackage", &k.KeyPackage)
	case ClientNothingCompatible:
		c.Field("clientCapabilities")
		tlspl.Optional(c, &k.ClientCapabilities)
	}
}

// codeCase codes the struct of a select's case, which a pointer holds.
func codeCase[T any, P tlspl.Ptr[T]](c *tlspl.Codec, name string, p **T) {
	if c.Err() != nil {
		return
	}
	if c.Decoding() {
		*p = new(T)
	} else if *p == nil {
		c.Field(name)
		c.Fail(ErrMissing)
		return
	}
	tlspl.Struct(c, name, P(*p))
}

// ErrMissing is the error of encoding a struct that lacks the part its
// selector calls for.
var ErrMissing = errors.New("mimi: field is nil")

// A KeyMaterialResponse answers a KeyMaterialRequest (MIMI protocol §5.2).
type KeyMaterialResponse struct {
	Protocol   Protocol
	UserStatus KeyMaterialUserCode
	UserURI    UserURI
	Clients    []ClientKeyMaterial
}

// ErrUnexpectedClients is the error of a response that lists clients though
// its user code allows none.
var ErrUnexpectedClients = errors.New("mimi: user code does not allow clients")

// Code describes a KeyMaterialResponse.
func (r *KeyMaterialResponse) Code(c *tlspl.Codec) {
	r.Protocol.code(c)
	c.Field("userStatus")
	tlspl.Uint8(c, &r.UserStatus)
	c.Field("userUri")
	r.UserURI.Code(c)
	c.Field("clients")
	tlspl.Vector(c, &r.Clients)
	switch r.UserStatus {
	case KeyMaterialSuccess, KeyMaterialPartialSuccess, KeyMaterialNoCompatible:
	default:
		if len(r.Clients) > 0 {
			c.Fail(ErrUnexpectedClients)
		}
	}
}
