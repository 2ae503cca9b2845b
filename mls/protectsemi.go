package mls

import (
	"bytes"
	"encoding/binary"
	"io"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// semiPrivateLabel is the label of the encryption to external receivers (SemiPrivateMessage §3).
const semiPrivateLabel = "SemiPrivateMessageReceiver"

// ref is hash(ExternalReceiver) (SemiPrivateMessage §3, Decision 120).
func (e *ExternalReceiver) ref(s suite.Suite) (ExternalReceiverRef, error) {
	b, err := tlspl.Marshal(e)
	if err != nil {
		return nil, err
	}
	return s.Hash(b), nil
}

// partialContextHash is hash(sender_leaf_index || nonce), with the nonce as it was before the reuse guard
// (SemiPrivateMessage §3, Decision 120).
func partialContextHash(s suite.Suite, leaf LeafIndex, nonce []byte) []byte {
	return s.Hash(append(binary.BigEndian.AppendUint32(nil, uint32(leaf)), nonce...))
}

// protectSemiPrivate encrypts a signed Commit or proposal to the members and to a list of external receivers
// (SemiPrivateMessage §3). It has to be signed for that wire format. The ratchet's change has to be stored before the
// message leaves.
func (k *messageKeys) protectSemiPrivate(rand io.Reader, a *AuthenticatedContent, receivers []ExternalReceiver, padTo int) (*SemiPrivateMessage, error) {
	f, s := &a.Content, k.suite
	if f.ContentType == ContentApplication {
		return nil, ErrContentType
	}
	if len(receivers) == 0 {
		return nil, ErrNotReceiver
	}
	tbs, _, err := framedContentTBS(WireFormatSemiPrivateMessage, f, k.groupContext)
	if err != nil {
		return nil, err
	}
	c, err := k.newKey(rand, a)
	if err != nil {
		return nil, err
	}
	m := &SemiPrivateMessage{
		GroupID:              k.groupID,
		Epoch:                k.epoch,
		ContentType:          f.ContentType,
		AuthenticatedData:    f.AuthenticatedData,
		PartialContextHash:   partialContextHash(s, c.data.LeafIndex, c.key.nonce[:s.Nn()]),
		FramedContentTBSHash: s.Hash(tbs),
	}
	context, err := m.receiverContext()
	if err != nil {
		return nil, err
	}
	secret, err := tlspl.Marshal(&perMessageKeyAndNonces{c.key.key[:s.Nk()], c.key.nonce[:s.Nn()], c.data.ReuseGuard, c.data.LeafIndex})
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	sealer := s.NewSealer(semiPrivateLabel, context)
	for i := range receivers {
		ref, err := receivers[i].ref(s)
		if err != nil {
			return nil, err
		}
		kemOutput, ciphertext, err := sealer.Seal(receivers[i].PublicKey, secret)
		if err != nil {
			return nil, err
		}
		m.KeysForExternalReceivers = append(m.KeysForExternalReceivers, KeyForExternalReceiver{ref, HPKECiphertext{kemOutput, ciphertext}})
	}
	aad, err := tlspl.Marshal((*semiPrivateContentAAD)(m))
	if err != nil {
		return nil, err
	}
	head := appendMessageHead(nil, k.groupID, k.epoch, f.ContentType)
	if err := k.seal(&c, a, head, aad, padTo); err != nil {
		return nil, err
	}
	m.EncryptedSenderData, m.Ciphertext = c.encryptedSenderData, c.ciphertext
	return m, nil
}

// receiverContext encodes the message's SemiPrivateMessageContext (SemiPrivateMessage §3).
func (m *SemiPrivateMessage) receiverContext() ([]byte, error) {
	return tlspl.Marshal(&semiPrivateMessageContext{m.GroupID, m.Epoch, m.PartialContextHash})
}

// openSemiPrivate decrypts a SemiPrivateMessage as a member (SemiPrivateMessage §3.2). member says whether a leaf was
// occupied in the message's epoch. The message's key stays in place until the content is verified.
func (k *messageKeys) openSemiPrivate(m *SemiPrivateMessage, member func(LeafIndex) bool) (*verifiableContent, error) {
	if err := checkPlace(m.GroupID, m.Epoch, k.groupID, k.epoch); err != nil {
		return nil, err
	}
	head := appendMessageHead(nil, m.GroupID, m.Epoch, m.ContentType)
	d, err := k.openSenderData(m.EncryptedSenderData, m.Ciphertext, head)
	if err != nil {
		return nil, err
	}
	if !member(d.LeafIndex) {
		return nil, ErrNotMember
	}
	key, err := k.tree.find(ratchetFor(d.LeafIndex, m.ContentType), d.Generation)
	if err != nil {
		return nil, err
	}
	v := &verifiableContent{suite: k.suite, tree: k.tree, key: key}
	if err := v.openSemiPrivate(m, &key.messageKey, d.LeafIndex, d.ReuseGuard, k.groupContext); err != nil {
		return nil, err
	}
	return v, nil
}

// openSemiPrivateAsReceiver decrypts a SemiPrivateMessage as the external receiver that holds key, and has the group's
// encoded GroupContext (SemiPrivateMessage §3.3). The caller has to check that the sender's leaf is occupied, as it must
// to find the signature key (Decision 120).
func openSemiPrivateAsReceiver(s suite.Suite, groupID []byte, epoch Epoch, groupContext []byte, receiver *ExternalReceiver, key *suite.PrivateKey, m *SemiPrivateMessage) (*verifiableContent, error) {
	if err := checkPlace(m.GroupID, m.Epoch, groupID, epoch); err != nil {
		return nil, err
	}
	ref, err := receiver.ref(s)
	if err != nil {
		return nil, err
	}
	var sealed *HPKECiphertext
	for i := range m.KeysForExternalReceivers {
		if bytes.Equal(m.KeysForExternalReceivers[i].ExternalReceiverRef, ref) {
			sealed = &m.KeysForExternalReceivers[i].EncryptedKeysAndNonces
			break
		}
	}
	if sealed == nil {
		return nil, ErrNotReceiver
	}
	context, err := m.receiverContext()
	if err != nil {
		return nil, err
	}
	b, err := key.OpenWithLabel(semiPrivateLabel, context, sealed.KEMOutput, sealed.Ciphertext)
	if err != nil {
		return nil, ErrDecrypt
	}
	defer clear(b)
	var p perMessageKeyAndNonces
	if err := tlspl.UnmarshalAlias(b, &p); err != nil {
		return nil, err
	}
	if len(p.Key) != s.Nk() || len(p.Nonce) != s.Nn() {
		return nil, ErrDecrypt
	}
	var k messageKey
	copy(k.key[:], p.Key)
	copy(k.nonce[:], p.Nonce)
	v := &verifiableContent{suite: s}
	if err := v.openSemiPrivate(m, &k, p.SenderLeafIndex, p.ReuseGuard, groupContext); err != nil {
		return nil, err
	}
	return v, nil
}

// openSemiPrivate is what members and external receivers do alike once they have the key (SemiPrivateMessage §3.2, §3.3).
func (v *verifiableContent) openSemiPrivate(m *SemiPrivateMessage, key *messageKey, leaf LeafIndex, guard [4]byte, groupContext []byte) error {
	s := v.suite
	if !bytes.Equal(m.PartialContextHash, partialContextHash(s, leaf, key.nonce[:s.Nn()])) {
		return ErrPartialContextHash
	}
	aad, err := tlspl.Marshal((*semiPrivateContentAAD)(m))
	if err != nil {
		return err
	}
	v.auth.WireFormat = WireFormatSemiPrivateMessage
	v.auth.Content = FramedContent{
		GroupID:           m.GroupID,
		Epoch:             m.Epoch,
		Sender:            MemberSender(leaf),
		AuthenticatedData: m.AuthenticatedData,
		ContentType:       m.ContentType,
	}
	if err := v.open(key, guard, m.Ciphertext, aad, groupContext); err != nil {
		return err
	}
	if !bytes.Equal(m.FramedContentTBSHash, s.Hash(v.tbs)) {
		return ErrFramedContentTBSHash
	}
	return nil
}
