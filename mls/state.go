package mls

import (
	"fmt"
	"slices"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// A state is the public state of a group in one epoch. It never changes: a
// commit makes another.
type state struct {
	suite           suite.Suite
	context         GroupContext
	encoded         []byte // of context
	params          *params
	tree            *RatchetTree
	confirmationTag []byte
	interim         []byte // interim_transcript_hash
}

func newState(s suite.Suite, context GroupContext, p *params, tree *RatchetTree, tag []byte) (*state, error) {
	encoded, err := tlspl.Marshal(&context)
	if err != nil {
		return nil, err
	}
	return newStateEncoded(s, context, encoded, p, tree, tag), nil
}

func newStateEncoded(s suite.Suite, context GroupContext, encoded []byte, p *params, tree *RatchetTree, tag []byte) *state {
	return &state{
		suite: s, context: context, encoded: encoded, params: p, tree: tree, confirmationTag: tag,
		interim: interimTranscriptHash(s, context.ConfirmedTranscriptHash, tag),
	}
}

// params is what the extensions of a GroupContext say, decoded.
type params struct {
	required         *RequiredCapabilities // nil if there is none
	types            []ExtensionType
	externalSenders  ExternalSenders
	wireFormats      []WireFormat // required_wire_formats
	receivers        ExternalReceivers
	dictionary       AppDataDictionary
	appComponents    *ComponentsList // nil if the component is not in the dictionary
	safeAAD          *ComponentsList
	contentMediaType *MediaTypeList
}

// parseParams decodes the extensions of a GroupContext that this package
// understands.
func parseParams(e Extensions) (*params, error) {
	p := new(params)
	for i := range e {
		p.types = append(p.types, e[i].Type)
	}
	var r RequiredCapabilities
	ok, err := e.find(ExtensionRequiredCapabilities, &r)
	if err != nil {
		return nil, err
	}
	if ok {
		p.required = &r
	}
	if p.externalSenders, err = e.ExternalSenders(); err != nil {
		return nil, err
	}
	if p.wireFormats, err = e.wireFormats(ExtensionRequiredWireFormats); err != nil {
		return nil, err
	}
	if p.receivers, err = e.ExternalReceivers(); err != nil {
		return nil, err
	}
	if p.dictionary, _, err = e.AppDataDictionary(); err != nil {
		return nil, err
	}
	return p, p.parseComponents()
}

// parseComponents decodes the components that this package understands.
func (p *params) parseComponents() error {
	var err error
	if p.appComponents, err = component[ComponentsList](p.dictionary, ComponentAppComponents); err != nil {
		return err
	}
	if p.safeAAD, err = component[ComponentsList](p.dictionary, ComponentSafeAAD); err != nil {
		return err
	}
	p.contentMediaType, err = component[MediaTypeList](p.dictionary, ComponentContentMediaTypes)
	return err
}

func component[T any, P tlspl.Ptr[T]](d AppDataDictionary, id ComponentID) (*T, error) {
	data, ok := d.Find(id)
	if !ok {
		return nil, nil
	}
	v := new(T)
	if err := tlspl.UnmarshalAlias(data, P(v)); err != nil {
		return nil, fmt.Errorf("mls: component %#04x: %w", uint16(id), err)
	}
	return v, nil
}

// updatesDictionaryOnly reports whether every member must understand
// app_data_update, so that only such proposals may change the dictionary
// (MLS extensions §4.7).
func (p *params) updatesDictionaryOnly() bool {
	return p.required != nil && slices.Contains(p.required.ProposalTypes, ProposalAppDataUpdate)
}

// leafRules are what the group requires of a leaf.
func (p *params) leafRules(cfg *Config, groupID []byte, now uint64) *LeafRules {
	return &LeafRules{GroupID: groupID, Required: p.required, Extensions: p.types, Now: now, MaxLifetime: cfg.MaxLifetime}
}

// checkAAD verifies the authenticated_data of a message of this epoch
// (MLS extensions §4.9, Decision 117).
func (p *params) checkAAD(aad []byte) error {
	if p.safeAAD == nil {
		return nil
	}
	var s SafeAAD
	if err := tlspl.UnmarshalAlias(aad, &s); err != nil {
		return ruleError(RuleSafeAAD, err)
	}
	return nil
}

// signatureKey returns the key that a message of this epoch must be signed
// with (RFC 9420 §6.1). newMember is the key that the message itself brings.
func (s *state) signatureKey(sender Sender, newMember []byte) (*suite.Verifier, error) {
	switch sender.Type {
	case SenderMember:
		return s.tree.verifier(sender.LeafIndex)
	case SenderExternal:
		if int64(sender.SenderIndex) < int64(len(s.params.externalSenders)) {
			return s.suite.NewVerifier(s.params.externalSenders[sender.SenderIndex].SignatureKey)
		}
	default:
		if newMember != nil {
			return s.suite.NewVerifier(newMember)
		}
		return nil, ruleError(RulePathRequired, nil)
	}
	return nil, ErrNotMember
}

// member reports whether leaf i is occupied.
func (s *state) member(i LeafIndex) bool { return s.tree.LeafBytes(i) != nil }

// checkCapabilities verifies that all members support the extensions of the
// GroupContext and what they require (RFC 9420 §11.1, §13.4).
func (p *params) checkCapabilities(tree *RatchetTree) error {
	for _, t := range p.types {
		if !tree.SupportsExtension(t) {
			return ruleErrorf(RuleExtensions, "not all members support extension %s", t)
		}
	}
	if p.required != nil {
		if err := tree.CheckRequired(p.required); err != nil {
			return ruleError(RuleExtensions, err)
		}
	}
	return nil
}

// checkGroup verifies what holds between the GroupContext and all members,
// without looking at each (RFC 9420 §7.3, §11.1, §13.4; MLS extensions §5;
// Decisions 114, 115).
func (p *params) checkGroup(tree *RatchetTree) error {
	if err := p.checkCapabilities(tree); err != nil {
		return err
	}
	for _, w := range p.wireFormats {
		if !tree.SupportsWireFormat(w) {
			return ruleErrorf(RuleWireFormat, "not all members support wire format %s", w)
		}
	}
	for _, list := range []struct {
		in  ComponentID
		ids *ComponentsList
	}{{ComponentAppComponents, p.appComponents}, {ComponentSafeAAD, p.safeAAD}} {
		if list.ids == nil {
			continue
		}
		if !list.ids.Increasing() {
			return ruleErrorf(RuleComponent, "component %#04x: IDs are not increasing", uint16(list.in))
		}
		for _, id := range list.ids.ComponentIDs {
			if !tree.SupportsComponent(list.in, id) {
				return ruleErrorf(RuleComponent, "not all members list component %#04x in %#04x", uint16(id), uint16(list.in))
			}
		}
	}
	if p.contentMediaType != nil {
		for i := range p.contentMediaType.MediaTypeList {
			m := &p.contentMediaType.MediaTypeList[i]
			if !tree.SupportsMediaType(m) {
				return ruleErrorf(RuleMediaType, "not all members support media type %q", m.Type)
			}
		}
	}
	if p.appComponents == nil {
		return nil
	}
	// Every component with data is required, but for those that everybody
	// understands who has the dictionary (MLS extensions §4.6).
	for i := range p.dictionary {
		id := p.dictionary[i].ComponentID
		if id == ComponentAppComponents || id == ComponentSafeAAD {
			continue
		}
		if _, ok := slices.BinarySearch(p.appComponents.ComponentIDs, id); !ok {
			return ruleErrorf(RuleComponent, "component %#04x has data and is not required", uint16(id))
		}
	}
	return nil
}
