package mls

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strconv"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// messageKeys protect and open the messages of one epoch (RFC 9420 §6).
type messageKeys struct {
	suite        suite.Suite
	groupID      []byte
	epoch        Epoch
	groupContext []byte // encoded
	senderData   []byte // sender_data_secret
	membership   []byte // membership_key
	tree         *secretTree
}

// Errors of a message's protection.
var (
	// ErrGroupID: the message belongs to another group.
	ErrGroupID = errors.New("mls: the message is for another group")
	// ErrMembershipTag: a PublicMessage of a member has a wrong membership_tag (RFC 9420 §6.2).
	ErrMembershipTag = errors.New("mls: membership_tag is not valid")
	// ErrDecrypt: a message doesn't decrypt with the keys of its epoch and generation.
	ErrDecrypt = errors.New("mls: message does not decrypt")
	// ErrNotMember: the sender's leaf is blank or outside the tree (RFC 9420 §6.3.2).
	ErrNotMember = errors.New("mls: the sender is not a member")
	// ErrFramedContentTBSHash: a SemiPrivateMessage has another content for its external receivers than for its
	// members (SemiPrivateMessage §3).
	ErrFramedContentTBSHash = errors.New("mls: framed_content_tbs_hash is not valid")
	// ErrPartialContextHash: a SemiPrivateMessage's partial_context_hash isn't the one of its sender and nonce.
	ErrPartialContextHash = errors.New("mls: partial_context_hash is not valid")
	// ErrNotReceiver: a SemiPrivateMessage has no key for this external receiver.
	ErrNotReceiver = errors.New("mls: the message is not for this external receiver")
)

// An EpochError refuses a message of another epoch than the one that is needed.
type EpochError struct {
	Got, Want Epoch
}

func (e *EpochError) Error() string {
	return "mls: message of epoch " + strconv.FormatUint(uint64(e.Got), 10) + ", want " + strconv.FormatUint(uint64(e.Want), 10)
}

// A SenderError refuses a content that this type of sender must not send (RFC 9420 §6.1).
type SenderError struct {
	Sender      SenderType
	ContentType ContentType
}

func (e *SenderError) Error() string {
	return "mls: sender type " + e.Sender.String() + " must not send this " + e.ContentType.String()
}

// checkSender refuses contents that a sender of the content's type must not send (RFC 9420 §6.1).
func checkSender(f *FramedContent) error {
	ok := true
	switch f.Sender.Type {
	case SenderMember:
	case SenderExternal:
		ok = f.ContentType == ContentProposal
	case SenderNewMemberProposal:
		ok = f.ContentType == ContentProposal && f.Proposal != nil && f.Proposal.Type == ProposalAdd
	case SenderNewMemberCommit:
		ok = f.ContentType == ContentCommit
	default:
		ok = false
	}
	if !ok {
		return &SenderError{f.Sender.Type, f.ContentType}
	}
	return nil
}

// signsContext reports whether FramedContentTBS ends with the GroupContext (RFC 9420 §6.1).
func signsContext(t SenderType) bool {
	return t == SenderMember || t == SenderNewMemberCommit
}

// framedContentTBS encodes FramedContentTBS (RFC 9420 §6.1). content is the part of it that FramedContent takes.
func framedContentTBS(w WireFormat, f *FramedContent, groupContext []byte) (tbs, content []byte, err error) {
	size := 4 + len(f.raw) + len(groupContext)
	if f.raw == nil {
		size += 64 + len(f.GroupID) + len(f.AuthenticatedData) + len(f.ApplicationData)
	}
	tbs = make([]byte, 4, size)
	binary.BigEndian.PutUint16(tbs, uint16(MLS10))
	binary.BigEndian.PutUint16(tbs[2:], uint16(w))
	if f.raw == nil && f.ContentType == ContentApplication && f.Sender.Type == SenderMember {
		tbs = appendOpaque(f.appendMemberHead(tbs), f.ApplicationData)
	} else if tbs, err = f.appendTo(tbs); err != nil {
		return nil, nil, err
	}
	end := len(tbs)
	if signsContext(f.Sender.Type) {
		tbs = append(tbs, groupContext...)
	}
	return tbs, tbs[4:end:end], nil
}

// signContent signs a content for the wire format that it will travel in (RFC 9420 §6.1). groupContext is the encoded
// GroupContext of the content's epoch; it is not used for senders that don't sign it. The content of the result keeps
// the octets that were signed. A Commit still needs its confirmation_tag.
func signContent(rand io.Reader, signer *suite.Signer, w WireFormat, f FramedContent, groupContext []byte) (*AuthenticatedContent, error) {
	if err := checkSender(&f); err != nil {
		return nil, err
	}
	f.raw = nil
	tbs, raw, err := framedContentTBS(w, &f, groupContext)
	if err != nil {
		return nil, err
	}
	signature, err := signer.SignWithLabel(rand, "FramedContentTBS", tbs)
	if err != nil {
		return nil, err
	}
	f.raw = raw
	return &AuthenticatedContent{WireFormat: w, Content: f, Auth: FramedContentAuthData{Signature: signature}}, nil
}

// confirmedTranscriptHashInput is ConfirmedTranscriptHashInput (RFC 9420 §8.2).
func (a *AuthenticatedContent) confirmedTranscriptHashInput() ([]byte, error) {
	b := binary.BigEndian.AppendUint16(nil, uint16(a.WireFormat))
	b, err := a.Content.appendTo(b)
	if err != nil {
		return nil, err
	}
	return appendOpaque(b, a.Auth.Signature), nil
}

// appendAuth appends FramedContentAuthData (RFC 9420 §6.1).
func appendAuth(dst []byte, a *AuthenticatedContent) []byte {
	dst = appendOpaque(dst, a.Auth.Signature)
	if a.Content.ContentType == ContentCommit {
		dst = appendOpaque(dst, a.Auth.ConfirmationTag)
	}
	return dst
}

// membershipTagInput is AuthenticatedContentTBM (RFC 9420 §6.2).
func (k *messageKeys) membershipTagInput(tbs []byte, a *AuthenticatedContent) []byte {
	return appendAuth(bytes.Clone(tbs), a)
}

// protectPublic frames a signed content as a PublicMessage (RFC 9420 §6.2).
func (k *messageKeys) protectPublic(a *AuthenticatedContent) (*PublicMessage, error) {
	if a.Content.ContentType == ContentApplication {
		return nil, ErrContentType
	}
	m := &PublicMessage{Content: a.Content, Auth: a.Auth}
	if a.Content.Sender.Type == SenderMember {
		tbs, _, err := framedContentTBS(WireFormatPublicMessage, &a.Content, k.groupContext)
		if err != nil {
			return nil, err
		}
		m.MembershipTag = k.suite.MAC(k.membership, k.membershipTagInput(tbs, a))
	}
	return m, nil
}

// ratchetFor says which ratchet of a leaf protects a content.
func ratchetFor(i LeafIndex, t ContentType) ratchetID {
	if t == ContentApplication {
		return ratchetID{i, applicationRatchet}
	}
	return ratchetID{i, handshakeRatchet}
}

// appendMessageHead appends the fields that PrivateMessage, SemiPrivateMessage and all their additional data begin
// with: SenderDataAAD (RFC 9420 §6.3.2).
func appendMessageHead(dst, groupID []byte, epoch Epoch, t ContentType) []byte {
	dst = appendOpaque(dst, groupID)
	dst = binary.BigEndian.AppendUint64(dst, uint64(epoch))
	return append(dst, byte(t))
}

// appendPrivateContent appends PrivateMessageContent (RFC 9420 §6.3.1) with as much padding as makes its length a
// multiple of padTo, none if padTo is 0.
func appendPrivateContent(dst []byte, a *AuthenticatedContent, padTo int) ([]byte, error) {
	f := &a.Content
	if f.raw == nil {
		return nil, errUnsigned
	}
	// What precedes the body in FramedContent, from a member: group_id, epoch, sender, authenticated_data, type.
	var prefix [4]byte
	head := len(tlspl.AppendLength(prefix[:0], len(f.GroupID))) + len(f.GroupID) + 8 + 5 +
		len(tlspl.AppendLength(prefix[:0], len(f.AuthenticatedData))) + len(f.AuthenticatedData) + 1
	dst = append(dst, f.raw[head:]...)
	dst = appendAuth(dst, a)
	if padTo > 1 {
		if rest := len(dst) % padTo; rest != 0 {
			dst = append(dst, make([]byte, padTo-rest)...)
		}
	}
	return dst, nil
}

var errUnsigned = errors.New("mls: content was not signed")

// A sealedContent is what PrivateMessage and SemiPrivateMessage have in common.
type sealedContent struct {
	key                 messageKey // as derived, before the reuse guard
	guarded             [maxNn]byte
	dataKey             messageKey
	data                senderData
	encryptedSenderData []byte
	ciphertext          []byte
}

// newKey takes the next key of the sender's ratchet and draws a reuse guard (RFC 9420 §6.3.1).
func (k *messageKeys) newKey(rand io.Reader, a *AuthenticatedContent) (c sealedContent, err error) {
	if a.Content.Sender.Type != SenderMember {
		return c, &SenderError{a.Content.Sender.Type, a.Content.ContentType}
	}
	leaf := a.Content.Sender.LeafIndex
	var guard [4]byte
	if _, err := io.ReadFull(rand, guard[:]); err != nil {
		return c, err
	}
	generation, key, err := k.tree.send(ratchetFor(leaf, a.Content.ContentType))
	if err != nil {
		return c, err
	}
	c.key = key
	c.data = senderData{LeafIndex: leaf, Generation: generation, ReuseGuard: guard}
	return c, nil
}

// seal encrypts the content and then the sender data (RFC 9420 §6.3). The head is SenderDataAAD.
func (k *messageKeys) seal(c *sealedContent, a *AuthenticatedContent, head, aad []byte, padTo int) error {
	s := k.suite
	aead, err := s.AEAD(c.key.key[:s.Nk()])
	if err != nil {
		return err
	}
	size := len(a.Content.raw) + len(a.Auth.Signature) + len(a.Auth.ConfirmationTag) + 8 + s.Nt() + max(padTo, 0)
	plaintext, err := appendPrivateContent(make([]byte, 0, size), a, padTo)
	if err != nil {
		return err
	}
	c.guarded = guardedNonce(c.key.nonce, c.data.ReuseGuard)
	c.ciphertext = aead.Seal(plaintext[:0], c.guarded[:s.Nn()], plaintext, aad)

	c.dataKey = senderDataKey(s, k.senderData, c.ciphertext)
	if aead, err = s.AEAD(c.dataKey.key[:s.Nk()]); err != nil {
		return err
	}
	data := c.data.append(make([]byte, 0, senderDataSize+s.Nt()))
	c.encryptedSenderData = aead.Seal(data[:0], c.dataKey.nonce[:s.Nn()], data, head)
	return nil
}

// guardedNonce is the nonce XORed with the reuse guard in its first four octets (RFC 9420 §6.3.1).
func guardedNonce(nonce [maxNn]byte, guard [4]byte) [maxNn]byte {
	for i := range guard {
		nonce[i] ^= guard[i]
	}
	return nonce
}

// senderDataKey derives the key and nonce of the sender data from a sample of the ciphertext (RFC 9420 §6.3.2).
func senderDataKey(s suite.Suite, senderDataSecret, ciphertext []byte) (k messageKey) {
	sample := ciphertext[:min(s.Nh(), len(ciphertext))]
	s.ExpandWithLabelInto(k.key[:s.Nk()], senderDataSecret, "key", sample)
	s.ExpandWithLabelInto(k.nonce[:s.Nn()], senderDataSecret, "nonce", sample)
	return k
}

// senderDataSize is the length in octets of an encoded SenderData.
const senderDataSize = 12

// append encodes SenderData (RFC 9420 §6.3.2).
func (d *senderData) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(d.LeafIndex))
	dst = binary.BigEndian.AppendUint32(dst, d.Generation)
	return append(dst, d.ReuseGuard[:]...)
}

// protectPrivate encrypts a signed content (RFC 9420 §6.3), padded to a multiple of padTo octets. The ratchet's change
// has to be stored before the message leaves.
func (k *messageKeys) protectPrivate(rand io.Reader, a *AuthenticatedContent, padTo int) (*PrivateMessage, error) {
	c, err := k.newKey(rand, a)
	if err != nil {
		return nil, err
	}
	f := &a.Content
	head := appendMessageHead(make([]byte, 0, 32+len(k.groupID)+len(f.AuthenticatedData)), k.groupID, k.epoch, f.ContentType)
	aad := appendOpaque(head, f.AuthenticatedData) // PrivateContentAAD
	if err := k.seal(&c, a, head, aad, padTo); err != nil {
		return nil, err
	}
	return &PrivateMessage{
		GroupID:             k.groupID,
		Epoch:               k.epoch,
		ContentType:         f.ContentType,
		AuthenticatedData:   f.AuthenticatedData,
		EncryptedSenderData: c.encryptedSenderData,
		Ciphertext:          c.ciphertext,
	}, nil
}

// A verifiableContent is a message without its protection whose signature nobody has checked yet. It gives its sender
// away, so that the right key can be found, and its content only to verify.
type verifiableContent struct {
	suite suite.Suite
	auth  AuthenticatedContent
	tbs   []byte
	nonce [maxNn]byte
	tree  *secretTree // nil: no ratchet
	key   foundKey    // to consume in tree
}

// sender names who claims to have sent the message.
func (v *verifiableContent) sender() Sender { return v.auth.Content.Sender }

// newMemberKey returns the signature key that the message itself brings: the one in the path of an external Commit, or
// in the KeyPackage of a new member's Add proposal (RFC 9420 §6.1); nil for other senders.
func (v *verifiableContent) newMemberKey() []byte {
	f := &v.auth.Content
	switch f.Sender.Type {
	case SenderNewMemberCommit:
		if f.Commit.Path != nil {
			return f.Commit.Path.LeafNode.SignatureKey
		}
	case SenderNewMemberProposal:
		return f.Proposal.Add.KeyPackage.LeafNode.SignatureKey
	}
	return nil
}

// A verifiedContent is a content whose signature, and membership_tag or encryption, was verified.
type verifiedContent struct {
	*AuthenticatedContent
	Generation uint32 // of an encrypted message, else 0
}

// verify checks the signature with the sender's key and consumes the message's key. The error is suite.ErrSignature or
// ErrGenerationConsumed; after an error the message can be tried again.
func (v *verifiableContent) verify(signatureKey *suite.Verifier) (verifiedContent, error) {
	if err := signatureKey.VerifyWithLabel("FramedContentTBS", v.tbs, v.auth.Auth.Signature); err != nil {
		return verifiedContent{}, err
	}
	if v.tree != nil {
		if err := v.tree.consume(&v.key); err != nil {
			return verifiedContent{}, err
		}
	}
	return verifiedContent{&v.auth, v.key.generation}, nil
}

// checkPlace refuses a message of another group or epoch.
func checkPlace(groupID []byte, epoch Epoch, wantGroup []byte, wantEpoch Epoch) error {
	if !bytes.Equal(groupID, wantGroup) {
		return ErrGroupID
	}
	if epoch != wantEpoch {
		return &EpochError{epoch, wantEpoch}
	}
	return nil
}

// openPublic takes a PublicMessage apart and verifies the membership_tag of a member (RFC 9420 §6.2).
func (k *messageKeys) openPublic(m *PublicMessage) (*verifiableContent, error) {
	v, err := openPublicAsFollower(k.suite, k.groupID, k.epoch, k.groupContext, m)
	if err != nil {
		return nil, err
	}
	if m.Content.Sender.Type == SenderMember &&
		!k.suite.VerifyMAC(k.membership, m.MembershipTag, k.membershipTagInput(v.tbs, &v.auth)) {
		return nil, ErrMembershipTag
	}
	return v, nil
}

// openPublicAsFollower takes a PublicMessage apart without its membership_tag, which only members can check.
func openPublicAsFollower(s suite.Suite, groupID []byte, epoch Epoch, groupContext []byte, m *PublicMessage) (*verifiableContent, error) {
	f := &m.Content
	if err := checkPlace(f.GroupID, f.Epoch, groupID, epoch); err != nil {
		return nil, err
	}
	if f.ContentType == ContentApplication {
		return nil, ErrContentType
	}
	if err := checkSender(f); err != nil {
		return nil, err
	}
	tbs, _, err := framedContentTBS(WireFormatPublicMessage, f, groupContext)
	if err != nil {
		return nil, err
	}
	return &verifiableContent{
		suite: s,
		auth:  AuthenticatedContent{WireFormat: WireFormatPublicMessage, Content: *f, Auth: m.Auth},
		tbs:   tbs,
	}, nil
}

// openSenderData decrypts the sender data (RFC 9420 §6.3.2).
func (k *messageKeys) openSenderData(encrypted, ciphertext, head []byte) (d senderData, err error) {
	s := k.suite
	if len(encrypted) != senderDataSize+s.Nt() {
		return d, ErrDecrypt
	}
	key := senderDataKey(s, k.senderData, ciphertext)
	aead, err := s.AEAD(key.key[:s.Nk()])
	if err != nil {
		return d, err
	}
	b, err := aead.Open(nil, key.nonce[:s.Nn()], encrypted, head)
	if err != nil {
		return d, ErrDecrypt
	}
	d.LeafIndex = LeafIndex(binary.BigEndian.Uint32(b))
	d.Generation = binary.BigEndian.Uint32(b[4:])
	d.ReuseGuard = [4]byte(b[8:])
	return d, nil
}

// authSize is the encoded length of FramedContentAuthData.
func authSize(t ContentType, a *FramedContentAuthData) int {
	var prefix [4]byte
	n := len(tlspl.AppendLength(prefix[:0], len(a.Signature))) + len(a.Signature)
	if t == ContentCommit {
		n += len(tlspl.AppendLength(prefix[:0], len(a.ConfirmationTag))) + len(a.ConfirmationTag)
	}
	return n
}

// appendMemberHead appends a member's FramedContent up to its body. It is written by hand since every message needs it.
func (f *FramedContent) appendMemberHead(dst []byte) []byte {
	dst = appendOpaque(dst, f.GroupID)
	dst = binary.BigEndian.AppendUint64(dst, uint64(f.Epoch))
	dst = append(dst, byte(SenderMember))
	dst = binary.BigEndian.AppendUint32(dst, uint32(f.Sender.LeafIndex))
	dst = appendOpaque(dst, f.AuthenticatedData)
	return append(dst, byte(f.ContentType))
}

// setBody gives a decrypted content the octets that it would have in the clear, with the body as it arrived, and returns
// its FramedContentTBS.
func (f *FramedContent) setBody(w WireFormat, body, groupContext []byte) (tbs []byte) {
	b := make([]byte, 4, 48+len(f.GroupID)+len(f.AuthenticatedData)+len(body)+len(groupContext))
	binary.BigEndian.PutUint16(b, uint16(MLS10))
	binary.BigEndian.PutUint16(b[2:], uint16(w))
	b = append(f.appendMemberHead(b), body...)
	f.raw = b[4:len(b):len(b)]
	return append(b, groupContext...)
}

// openPrivate decrypts a PrivateMessage (RFC 9420 §6.3). member says whether a leaf was occupied in the message's
// epoch. The message's key stays in place until the content is verified.
func (k *messageKeys) openPrivate(m *PrivateMessage, member func(LeafIndex) bool) (*verifiableContent, error) {
	if err := checkPlace(m.GroupID, m.Epoch, k.groupID, k.epoch); err != nil {
		return nil, err
	}
	head := appendMessageHead(make([]byte, 0, 32+len(k.groupID)+len(m.AuthenticatedData)), m.GroupID, m.Epoch, m.ContentType)
	d, err := k.openSenderData(m.EncryptedSenderData, m.Ciphertext, head)
	if err != nil {
		return nil, err
	}
	if !member(d.LeafIndex) {
		return nil, ErrNotMember
	}
	v := &verifiableContent{suite: k.suite, tree: k.tree}
	if v.key, err = k.tree.find(ratchetFor(d.LeafIndex, m.ContentType), d.Generation); err != nil {
		return nil, err
	}
	v.auth.WireFormat = WireFormatPrivateMessage
	v.auth.Content = FramedContent{
		GroupID:           m.GroupID,
		Epoch:             m.Epoch,
		Sender:            MemberSender(d.LeafIndex),
		AuthenticatedData: m.AuthenticatedData,
		ContentType:       m.ContentType,
	}
	aad := appendOpaque(head, m.AuthenticatedData) // PrivateContentAAD
	if err := v.open(&v.key.messageKey, d.ReuseGuard, m.Ciphertext, aad, k.groupContext); err != nil {
		return nil, err
	}
	return v, nil
}

// open decrypts the content and prepares its verification. Its head fields and wire format are set.
func (v *verifiableContent) open(key *messageKey, guard [4]byte, ciphertext, aad, groupContext []byte) error {
	s, f := v.suite, &v.auth.Content
	aead, err := s.AEAD(key.key[:s.Nk()])
	if err != nil {
		return err
	}
	v.nonce = guardedNonce(key.nonce, guard)
	plaintext, err := aead.Open(nil, v.nonce[:s.Nn()], ciphertext, aad)
	if err != nil {
		return ErrDecrypt
	}
	p := privateMessageContent{Content: f, Auth: &v.auth.Auth}
	if err := tlspl.UnmarshalAlias(plaintext, &p); err != nil {
		return err
	}
	body := plaintext[:len(plaintext)-p.Padding-authSize(f.ContentType, &v.auth.Auth)]
	v.tbs = f.setBody(v.auth.WireFormat, body, groupContext)
	return nil
}
