package mls

import (
	"errors"
	"fmt"
)

// A Rule is a rule for proposals, commits and joins. Its value names it in
// code, tests and documentation.
type Rule string

// The rules for single proposals (RFC 9420 §12.1, MLS extensions §4, §6).
const (
	RuleProposalSender     Rule = "proposal-sender"     // §12.1.8: the type may not come from this kind of sender
	RuleProposalUnknown    Rule = "proposal-unknown"    // §12.1: the type is neither defined nor registered
	RuleProposalCapability Rule = "proposal-capability" // §12.2: not all members support a non-default type
	RuleProposalReference  Rule = "proposal-reference"  // §12.4: a reference to a proposal that was not received
	RuleAdd                Rule = "add"                 // §12.1.1, §10.1: the KeyPackage is not valid
	RuleAddClient          Rule = "add-client"          // §12.2: the client is in the group, or added twice
	RuleUpdate             Rule = "update"              // §12.1.2: the leaf is not valid, or not of the same client
	RuleRemove             Rule = "remove"              // §12.1.3: there is no such member
	RulePSK                Rule = "psk"                 // §12.1.4, §8.4: nonce of another length, or usage not allowed
	RulePSKUnknown         Rule = "psk-unknown"         // §12.4.2: the PSK is not known
	RuleReInit             Rule = "reinit"              // §12.1.5: older version, or cipher suite not known
	RuleExtensions         Rule = "extensions"          // §12.1.7, §13.4: not all members support an extension, or one does not decode
	RuleSelfRemove         Rule = "self-remove"         // MLS extensions §6.3: by value, not from a member, or encrypted
	RuleAppData            Rule = "app-data"            // MLS extensions §4.7: component not known, nothing to remove, or update refused
	RuleAppDataMix         Rule = "app-data-mix"        // MLS extensions §4.7: remove together with another operation on one component
	RuleAppEphemeral       Rule = "app-ephemeral"       // MLS extensions §4.8: component not known
	RuleDictionary         Rule = "dictionary"          // MLS extensions §4.7: GroupContextExtensions changes app_data_dictionary
	RuleComponent          Rule = "component"           // MLS extensions §5, Decisions 114, 115: component lists and data disagree
	RuleMediaType          Rule = "media-type"          // MLS extensions §6.2: not all members support a required media type
	RuleWireFormat         Rule = "wire-format"         // MLS extensions §5: not all members support a required wire format
	RuleSafeAAD            Rule = "safe-aad"            // MLS extensions §4.9, Decision 117: authenticated_data is no SafeAAD
	RuleCredentialInvalid  Rule = "credential"          // §5.3.1: the application does not believe the credential
)

// The rules for lists of proposals and for commits (RFC 9420 §12.2, §12.4).
const (
	RuleCommitterUpdate  Rule = "committer-update"  // §12.2: an Update of the committer
	RuleCommitterRemove  Rule = "committer-remove"  // §12.2: removes the committer
	RuleSameLeaf         Rule = "same-leaf"         // §12.2: several Updates or Removes of one leaf
	RuleSamePSK          Rule = "same-psk"          // §12.2: one PreSharedKeyID twice
	RuleSameExtensions   Rule = "same-extensions"   // §12.2: several GroupContextExtensions
	RuleReInitAlone      Rule = "reinit-alone"      // §12.2: ReInit together with another proposal
	RuleExternalInit     Rule = "external-init"     // §12.2: ExternalInit in a commit of a member, or not exactly one in an external one
	RuleExternalProposal Rule = "external-proposal" // §12.2, Decision 33: an external commit has a proposal that it may not have
	RuleExternalRemove   Rule = "external-remove"   // §12.2: an external commit removes another client than its own
	RulePathRequired     Rule = "path-required"     // §12.4: the commit has no path and needs one
	RulePath             Rule = "path"              // §12.4.2: the path or its leaf is not valid
	RuleConfirmationTag  Rule = "confirmation-tag"  // §12.4.2: the confirmation_tag is not valid
	RuleApplication      Rule = "application"       // §12.2: the application refuses
)

// The rules for joining (RFC 9420 §12.4.3, §11.2, §11.3).
const (
	RuleWelcome       Rule = "welcome"        // §12.4.3.1: not for this KeyPackage
	RuleWelcomePSK    Rule = "welcome-psk"    // §12.4.3.1: reinit or branch PSK beside another
	RuleGroupInfo     Rule = "group-info"     // §12.4.3: signature or signer of the GroupInfo
	RuleRatchetTree   Rule = "ratchet-tree"   // §12.4.3.1: the tree is missing or not valid
	RuleReInitWelcome Rule = "reinit-welcome" // §11.2: the new group does not match the ReInit
	RuleBranchWelcome Rule = "branch-welcome" // §11.3: the new group is no subgroup of the old one
)

// A RuleError says which rule a message breaks.
type RuleError struct {
	Rule     Rule
	Proposal int         // position in the commit, -1 if it is not about one proposal
	Ref      ProposalRef // of that proposal, nil if it was by value
	Err      error       // more, may be nil
}

func (e *RuleError) Error() string {
	s := "mls: rule " + string(e.Rule)
	if e.Proposal >= 0 {
		s += fmt.Sprintf(" (proposal %d)", e.Proposal)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *RuleError) Unwrap() error { return e.Err }

func ruleError(rule Rule, err error) error {
	return &RuleError{Rule: rule, Proposal: -1, Err: err}
}

func ruleErrorf(rule Rule, format string, args ...any) error {
	return ruleError(rule, fmt.Errorf(format, args...))
}

// Errors of using a group.
var (
	ErrStale       = errors.New("mls: the commit was staged in another epoch")
	ErrOwnMessage  = errors.New("mls: the message is this member's own")
	ErrGroupClosed = errors.New("mls: the group was left or reinitialized")
	ErrCipherSuite = errors.New("mls: cipher suite is not supported")
	ErrUnexpected  = errors.New("mls: not a message of this kind")
	ErrPending     = errors.New("mls: pending proposals must be committed first")

	errUnknownComponent = errors.New("component is not known")
)
