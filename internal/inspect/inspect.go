// Package inspect shows the bytes of MIMI and MLS to a human: it decodes them
// as a named struct of the drafts, or finds out which one they are, and gives
// the fields in their order, each with its place. Where a field is opaque, but
// what it holds is known from its surroundings (an extension, a component, an
// update), it is decoded as well.
package inspect

import (
	"errors"
	"fmt"
	"strings"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/content"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// A Tree is a decoded value.
type Tree interface {
	String() string               // one field a line, with its offset
	MarshalJSON() ([]byte, error) // an object whose keys keep the order of the fields
}

// A structType is a struct that bytes can be decoded as.
type structType struct {
	name  string
	new   func() tlspl.Coder // nil for what is not in the presentation language
	guess bool               // tried for bytes of unknown type
}

func of[T any, P tlspl.Ptr[T]](name string) structType {
	return structType{name: name, new: func() tlspl.Coder { return P(new(T)) }, guess: true}
}

// only is a structType that is too loose to be guessed.
func only[T any, P tlspl.Ptr[T]](name string) structType {
	t := of[T, P](name)
	t.guess = false
	return t
}

const (
	mimiContent   = "MimiContent"
	messageStatus = "MessageStatusReport"
)

// structTypes are tried in this order: what is most exact comes first.
var structTypes = []structType{
	of[mls.MLSMessage]("MLSMessage"),
	of[mimi.KeyMaterialRequest]("KeyMaterialRequest"),
	of[mimi.KeyMaterialResponse]("KeyMaterialResponse"),
	of[mimi.UpdateRequest]("UpdateRequest"),
	of[mimi.SubmitMessageRequest]("SubmitMessageRequest"),
	of[mimi.NotifyRequest]("NotifyRequest"),
	of[mimi.GroupInfoRequest]("GroupInfoRequest"),
	of[mimi.GroupInfoResponse]("GroupInfoResponse"),
	of[mimi.GroupInfoRatchetTreeTBE]("GroupInfoRatchetTreeTBE"),
	of[mimi.ConsentEntry]("ConsentEntry"),
	of[mimi.AbuseReport]("AbuseReport"),
	of[mimi.GoneNotice]("GoneNotice"),
	of[mimi.IdentifierResponse]("IdentifierResponse"),
	of[mimi.IdentifierRequest]("IdentifierRequest"),
	of[mimi.SubmitMessageResponse]("SubmitMessageResponse"),
	of[mimi.UpdateRoomResponse]("UpdateRoomResponse"),
	of[mls.KeyPackage]("KeyPackage"),
	of[mls.GroupInfo]("GroupInfo"),
	of[mls.GroupContext]("GroupContext"),
	of[mls.Welcome]("Welcome"),
	of[mls.LeafNode]("LeafNode"),
	of[mls.RatchetTreeExtension]("RatchetTree"),
	of[mls.AppDataDictionary]("AppDataDictionary"),
	{name: mimiContent, guess: true},
	{name: messageStatus, guess: true},
	of[mls.ApplicationFraming]("ApplicationFraming"),
	of[mls.SafeAAD]("SafeAAD"),

	only[mls.Credential]("Credential"),
	only[mls.Proposal]("Proposal"),
	only[mimi.Frank]("Frank"),
	only[mimi.ParticipantListData]("ParticipantListData"),
	only[mimi.ParticipantListUpdate]("ParticipantListUpdate"),
	only[mimi.RoomMetaData]("RoomMetaData"),
	only[mimi.RoleData]("RoleData"),
	only[mimi.PreAuthData]("PreAuthData"),
	only[mimi.BaseRoomPolicy]("BaseRoomPolicy"),
	only[mimi.StatusNotificationPolicy]("StatusNotificationPolicy"),
	only[mimi.JoinLinkPolicy]("JoinLinkPolicy"),
	only[mimi.JoinLinksData]("JoinLinksData"),
	only[mimi.JoinLinksUpdate]("JoinLinksUpdate"),
	only[mimi.LinkPreviewPolicy]("LinkPreviewPolicy"),
	only[mimi.AssetPolicy]("AssetPolicy"),
	only[mimi.LoggingPolicy]("LoggingPolicy"),
	only[mimi.HistoryPolicy]("HistoryPolicy"),
	only[mimi.BotPolicy]("BotPolicy"),
	only[mimi.MessageExpiration]("MessageExpiration"),
	only[mimi.OperationalParameters]("OperationalParameters"),
	only[mimi.FrankingAgentData]("FrankingAgentData"),
	only[mimi.PseudonymousCredential]("PseudonymousCredential"),
	only[mimi.IdentityLinkTBE]("IdentityLinkTBE"),
}

// Types returns the names that Inspect takes.
func Types() []string {
	var names []string
	for _, t := range structTypes {
		names = append(names, t.name)
	}
	return names
}

// ErrType is the error for a name that is not among Types.
var ErrType = errors.New("inspect: unknown type")

// Inspect decodes b as the named type, without regard to case. The tree is what
// was read, also with an error, which then says at which offset, in which field
// and why reading stopped. ErrType comes without a tree.
func Inspect(as string, b []byte) (Tree, error) {
	for _, t := range structTypes {
		if strings.EqualFold(t.name, as) {
			return t.decode(b)
		}
	}
	return nil, fmt.Errorf("%w %q", ErrType, as)
}

func (t *structType) decode(b []byte) (Tree, error) {
	switch t.name {
	case mimiContent:
		return content.Dump(b)
	case messageStatus:
		return content.DumpStatus(b)
	}
	root, err := tlspl.Trace(t.name, b, t.new())
	deepen(root)
	return &tlsTree{root}, err
}

// Guess returns the names of the types that all of b can be read as, the most
// exact first. Short responses can be more than one.
func Guess(b []byte) []string {
	var names []string
	for i := range structTypes {
		t := &structTypes[i]
		if !t.guess {
			continue
		}
		if t.new != nil {
			v := t.new()
			if tlspl.Unmarshal(b, v) != nil {
				continue
			}
			if r, ok := v.(*mimi.KeyMaterialRequest); ok && r.Protocol != mimi.MLS10 {
				continue // of another protocol's request nothing but the head is known
			}
		} else if _, err := t.decode(b); err != nil {
			continue
		}
		names = append(names, t.name)
	}
	return names
}

// deepen decodes the opaque fields below n whose type their surroundings tell.
func deepen(n *tlspl.Node) {
	for _, k := range n.Children {
		deepen(k)
	}
	switch n.Kind {
	case tlspl.NodeStruct:
		deepenStruct(n)
	case tlspl.NodeValue:
		switch n.Name {
		case "authenticated_data":
			replace(n, new(mls.SafeAAD))
		case "application_data", "message_content":
			replace(n, new(mls.ApplicationFraming))
		case "ratchet_tree":
			// In a RatchetTreeOption: with its own length.
			if b, ok := n.Value.([]byte); ok && len(b) > 0 {
				if sub, err := tlspl.Trace("", prefixed(b), new(mls.RatchetTreeExtension)); err == nil {
					graft(n, sub, n.Offset)
				}
			}
		}
	}
}

// prefixed returns the content of a vector with the length in front again.
func prefixed(b []byte) []byte { return append(tlspl.AppendLength(nil, len(b)), b...) }

// child returns the child of a name.
func child(n *tlspl.Node, name string) *tlspl.Node {
	for _, k := range n.Children {
		if k.Name == name {
			return k
		}
	}
	return nil
}

func deepenStruct(n *tlspl.Node) {
	if data := child(n, "extension_data"); data != nil {
		if t := child(n, "extension_type"); t != nil {
			if typ, ok := t.Value.(mls.ExtensionType); ok {
				replace(data, newExtension(typ))
			}
		}
		return
	}
	id := child(n, "component_id")
	if id == nil {
		return
	}
	component, ok := id.Value.(mls.ComponentID)
	if !ok {
		return
	}
	if data := child(n, "data"); data != nil {
		replace(data, newComponentData(component))
	}
	if update := child(n, "update"); update != nil {
		v := mimi.NewComponentUpdate(component)
		if v == nil {
			v = newComponentData(component)
		}
		replace(update, v)
	}
	if item := child(n, "aad_item_data"); item != nil && component == mimi.ComponentFrankAAD {
		replace(item, new(mimi.FrankAAD))
	}
}

func newExtension(t mls.ExtensionType) tlspl.Coder {
	switch t {
	case mls.ExtensionRatchetTree:
		return new(mls.RatchetTreeExtension)
	case mls.ExtensionRequiredCapabilities:
		return new(mls.RequiredCapabilities)
	case mls.ExtensionExternalPub:
		return new(mls.ExternalPub)
	case mls.ExtensionExternalSenders:
		return new(mls.ExternalSenders)
	case mls.ExtensionAppDataDictionary:
		return new(mls.AppDataDictionary)
	case mls.ExtensionSupportedWireFormats, mls.ExtensionRequiredWireFormats:
		return new(mls.WireFormats)
	case mls.ExtensionExternalReceivers:
		return new(mls.ExternalReceivers)
	}
	return nil
}

func newComponentData(id mls.ComponentID) tlspl.Coder {
	switch id {
	case mls.ComponentAppComponents, mls.ComponentSafeAAD:
		return new(mls.ComponentsList)
	case mls.ComponentContentMediaTypes:
		return new(mls.MediaTypeList)
	case mls.ComponentAppAck:
		return new(mls.AppAck)
	}
	return mimi.NewComponentData(id)
}

// replace makes of an opaque value the struct that it holds, if it does.
func replace(n *tlspl.Node, v tlspl.Coder) {
	b, ok := n.Value.([]byte)
	if !ok || v == nil || len(b) == 0 {
		return
	}
	sub, err := tlspl.Trace("", b, v)
	if err != nil {
		return
	}
	graft(n, sub, n.Offset+n.Length-len(b))
}

// graft puts the children of sub, whose offsets begin at 0, in the place of n's
// value.
func graft(n, sub *tlspl.Node, at int) {
	shift(sub, at)
	deepen(sub)
	n.Kind, n.Value, n.Children = sub.Kind, sub.Value, sub.Children
	if len(n.Children) == 1 && n.Children[0].Name == n.Name {
		only := n.Children[0]
		n.Kind, n.Value, n.Children = only.Kind, only.Value, only.Children
	}
}

func shift(n *tlspl.Node, by int) {
	n.Offset += by
	for _, k := range n.Children {
		shift(k, by)
	}
}

// Auto decodes b as the first type that Guess gives, and returns the others
// that fit too. If none fits, as is the type as which b could be read furthest,
// and err says where that stopped.
func Auto(b []byte) (as string, also []string, t Tree, err error) {
	if names := Guess(b); len(names) > 0 {
		t, err = Inspect(names[0], b)
		return names[0], names[1:], t, err
	}
	furthest := -1
	for i := range structTypes {
		s := &structTypes[i]
		if !s.guess {
			continue
		}
		tree, e := s.decode(b)
		if e == nil { // a request of a protocol that is not known
			continue
		}
		if at := stopped(e); at > furthest {
			furthest, as, t, err = at, s.name, tree, e
		}
	}
	return as, nil, t, err
}

// stopped returns the offset of a decoder's error.
func stopped(err error) int {
	var wire *tlspl.SyntaxError
	var cbor *content.SyntaxError
	switch {
	case errors.As(err, &wire):
		return wire.Offset
	case errors.As(err, &cbor):
		return cbor.Offset
	}
	return 0
}
