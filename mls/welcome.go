package mls

import "github.com/comity-im/comity/tlspl"

// A GroupContext is what all members agree on (RFC 9420 §8.1).
type GroupContext struct {
	Version                 ProtocolVersion
	CipherSuite             CipherSuite
	GroupID                 []byte
	Epoch                   Epoch
	TreeHash                []byte
	ConfirmedTranscriptHash []byte
	Extensions              Extensions
}

// Code describes a GroupContext (RFC 9420 §8.1).
func (g *GroupContext) Code(c *tlspl.Codec) {
	g.Version.code(c)
	c.Field("cipher_suite")
	tlspl.Uint16(c, &g.CipherSuite)
	c.Field("group_id")
	tlspl.Opaque(c, &g.GroupID)
	c.Field("epoch")
	tlspl.Uint64(c, &g.Epoch)
	c.Field("tree_hash")
	tlspl.Opaque(c, &g.TreeHash)
	c.Field("confirmed_transcript_hash")
	tlspl.Opaque(c, &g.ConfirmedTranscriptHash)
	g.Extensions.Code(c)
}

// A GroupInfo lets a client enter the group (RFC 9420 §12.4.3).
type GroupInfo struct {
	GroupContext    GroupContext
	Extensions      Extensions
	ConfirmationTag []byte
	Signer          LeafIndex
	Signature       []byte // SignWithLabel(., "GroupInfoTBS", GroupInfoTBS)

	tbs []byte // the octets before signature, as they arrived
}

// Code describes a GroupInfo (RFC 9420 §12.4.3).
func (g *GroupInfo) Code(c *tlspl.Codec) {
	tlspl.Raw(c, &g.tbs, func() { g.codeTBS(c) })
	c.Field("signature")
	tlspl.Opaque(c, &g.Signature)
}

func (g *GroupInfo) codeTBS(c *tlspl.Codec) {
	tlspl.Struct(c, "group_context", &g.GroupContext)
	g.Extensions.Code(c)
	c.Field("confirmation_tag")
	tlspl.Opaque(c, &g.ConfirmationTag)
	c.Field("signer")
	tlspl.Uint32(c, &g.Signer)
}

// tbsBytes returns GroupInfoTBS (RFC 9420 §12.4.3).
func (g *GroupInfo) tbsBytes() ([]byte, error) {
	if g.tbs != nil {
		return g.tbs, nil
	}
	return tlspl.Marshal((*groupInfoTBS)(g))
}

type groupInfoTBS GroupInfo

// Code describes a GroupInfoTBS (RFC 9420 §12.4.3).
func (g *groupInfoTBS) Code(c *tlspl.Codec) { (*GroupInfo)(g).codeTBS(c) }

// A PathSecret is the secret of one node of a committer's path (RFC 9420
// §12.4.3).
type PathSecret struct {
	PathSecret []byte
}

// Code describes a PathSecret (RFC 9420 §12.4.3).
func (p *PathSecret) Code(c *tlspl.Codec) {
	c.Field("path_secret")
	tlspl.Opaque(c, &p.PathSecret)
}

// GroupSecrets is what a Welcome encrypts to one new member (RFC 9420
// §12.4.3).
type GroupSecrets struct {
	JoinerSecret []byte
	PathSecret   *PathSecret
	PSKs         []PreSharedKeyID
}

// Code describes GroupSecrets (RFC 9420 §12.4.3).
func (g *GroupSecrets) Code(c *tlspl.Codec) {
	c.Field("joiner_secret")
	tlspl.Opaque(c, &g.JoinerSecret)
	c.Field("path_secret")
	tlspl.Optional(c, &g.PathSecret)
	c.Field("psks")
	tlspl.Vector(c, &g.PSKs)
}

// String hides the secrets.
func (GroupSecrets) String() string { return "GroupSecrets(redacted)" }

// GoString hides the secrets.
func (GroupSecrets) GoString() string { return "GroupSecrets(redacted)" }

// A KeyPackageRef is the hash of a KeyPackage (RFC 9420 §5.2).
type KeyPackageRef []byte

// EncryptedGroupSecrets holds the GroupSecrets of one new member (RFC 9420
// §12.4.3).
type EncryptedGroupSecrets struct {
	NewMember             KeyPackageRef
	EncryptedGroupSecrets HPKECiphertext
}

// Code describes EncryptedGroupSecrets (RFC 9420 §12.4.3).
func (e *EncryptedGroupSecrets) Code(c *tlspl.Codec) {
	c.Field("new_member")
	tlspl.Opaque(c, &e.NewMember)
	tlspl.Struct(c, "encrypted_group_secrets", &e.EncryptedGroupSecrets)
}

// A Welcome brings new members into the group (RFC 9420 §12.4.3).
type Welcome struct {
	CipherSuite        CipherSuite
	Secrets            []EncryptedGroupSecrets
	EncryptedGroupInfo []byte
}

// Code describes a Welcome (RFC 9420 §12.4.3).
func (w *Welcome) Code(c *tlspl.Codec) {
	c.Field("cipher_suite")
	tlspl.Uint16(c, &w.CipherSuite)
	c.Field("secrets")
	tlspl.Vector(c, &w.Secrets)
	c.Field("encrypted_group_info")
	tlspl.Opaque(c, &w.EncryptedGroupInfo)
}
