package mls

import "github.com/comity-im/comity/tlspl"

// A SemiPrivateMessage is a PrivateMessage that a list of external receivers
// can read too (SemiPrivateMessage §3.1). It carries proposals and commits
// only.
type SemiPrivateMessage struct {
	GroupID                  []byte
	Epoch                    Epoch
	ContentType              ContentType
	AuthenticatedData        []byte
	PartialContextHash       []byte
	KeysForExternalReceivers []KeyForExternalReceiver
	FramedContentTBSHash     []byte
	EncryptedSenderData      []byte
	Ciphertext               []byte
}

// Code describes a SemiPrivateMessage (SemiPrivateMessage §3.1).
func (m *SemiPrivateMessage) Code(c *tlspl.Codec) {
	m.codeAAD(c)
	c.Field("encrypted_sender_data")
	tlspl.Opaque(c, &m.EncryptedSenderData)
	c.Field("ciphertext")
	tlspl.Opaque(c, &m.Ciphertext)
}

// codeAAD codes the fields that SemiPrivateContentAAD repeats
// (SemiPrivateMessage §3.1).
func (m *SemiPrivateMessage) codeAAD(c *tlspl.Codec) {
	codeMessageHead(c, &m.GroupID, &m.Epoch, &m.ContentType)
	if m.ContentType == ContentApplication {
		c.Fail(ErrContentType)
	}
	c.Field("authenticated_data")
	tlspl.Opaque(c, &m.AuthenticatedData)
	c.Field("partial_context_hash")
	tlspl.Opaque(c, &m.PartialContextHash)
	c.Field("keys_for_external_receivers")
	tlspl.Vector(c, &m.KeysForExternalReceivers)
	c.Field("framed_content_tbs_hash")
	tlspl.Opaque(c, &m.FramedContentTBSHash)
}

// semiPrivateContentAAD is the additional data of the ciphertext
// (SemiPrivateMessage §3.1).
type semiPrivateContentAAD SemiPrivateMessage

// Code describes a SemiPrivateContentAAD (SemiPrivateMessage §3.1).
func (a *semiPrivateContentAAD) Code(c *tlspl.Codec) { (*SemiPrivateMessage)(a).codeAAD(c) }

// An ExternalReceiverRef is the hash of an ExternalReceiver
// (SemiPrivateMessage §3.1, Decision 120).
type ExternalReceiverRef []byte

// A KeyForExternalReceiver holds the PerMessageKeyAndNonces for one external
// receiver (SemiPrivateMessage §3.1).
type KeyForExternalReceiver struct {
	ExternalReceiverRef    ExternalReceiverRef
	EncryptedKeysAndNonces HPKECiphertext
}

// Code describes a KeyForExternalReceiver (SemiPrivateMessage §3.1).
func (k *KeyForExternalReceiver) Code(c *tlspl.Codec) {
	c.Field("external_receiver_ref")
	tlspl.Opaque(c, &k.ExternalReceiverRef)
	tlspl.Struct(c, "encrypted_keys_and_nonces", &k.EncryptedKeysAndNonces)
}

// perMessageKeyAndNonces is what an external receiver needs to read one
// message (SemiPrivateMessage §3.1).
type perMessageKeyAndNonces struct {
	Key             []byte
	Nonce           []byte
	ReuseGuard      [4]byte
	SenderLeafIndex LeafIndex
}

// Code describes a PerMessageKeyAndNonces (SemiPrivateMessage §3.1).
func (k *perMessageKeyAndNonces) Code(c *tlspl.Codec) {
	c.Field("key")
	tlspl.Opaque(c, &k.Key)
	c.Field("nonce")
	tlspl.Opaque(c, &k.Nonce)
	c.Field("reuse_guard")
	tlspl.Fixed(c, k.ReuseGuard[:])
	c.Field("sender_leaf_index")
	tlspl.Uint32(c, &k.SenderLeafIndex)
}

// semiPrivateMessageContext is the context of the encryption to external
// receivers (SemiPrivateMessage §3.1).
type semiPrivateMessageContext struct {
	GroupID            []byte
	Epoch              Epoch
	PartialContextHash []byte
}

// Code describes a SemiPrivateMessageContext (SemiPrivateMessage §3.1).
func (s *semiPrivateMessageContext) Code(c *tlspl.Codec) {
	c.Field("group_id")
	tlspl.Opaque(c, &s.GroupID)
	c.Field("epoch")
	tlspl.Uint64(c, &s.Epoch)
	c.Field("partial_context_hash")
	tlspl.Opaque(c, &s.PartialContextHash)
}
