package mls

import "fmt"

// A TreeRule is a rule of RFC 9420 that a ratchet tree, a leaf or a path can break.
type TreeRule string

// The rules.
const (
	RuleSize         TreeRule = "a tree has at most 2^30 leaves"
	RuleNoMember     TreeRule = "the leaf must belong to a member"                                                                // §12.1.2, §12.1.3
	RuleDuplicateKey TreeRule = "signature and encryption keys must be unique in the tree"                                        // §7.3, §12.4.2, §12.4.3.1
	RuleKey          TreeRule = "an encryption key must be one of the cipher suite"                                               // §5.1.1
	RuleUnmerged     TreeRule = "an unmerged leaf must be a member below, unmerged all the way"                                   // §12.4.3.1
	RuleParentHash   TreeRule = "the parent hash must be valid"                                                                   // §7.9.2
	RuleTreeHash     TreeRule = "the tree hash must be that of the GroupContext"                                                  // §12.4.3.1
	RulePathLength   TreeRule = "a path must have a node for each of the filtered direct path and a ciphertext for each receiver" // §7.6
	RulePathSecret   TreeRule = "a path secret must give the public keys of the tree"                                             // §7.5, §12.4.3.1
	RuleNoKey        TreeRule = "the member must have the private key of its nodes"                                               // §7.5
	RuleStored       TreeRule = "a stored node appears once"

	RuleSignature    TreeRule = "the signature must be valid"                                      // §7.3, §10.1
	RuleSource       TreeRule = "the leaf node source must fit where the leaf appears"             // §7.3
	RuleVersion      TreeRule = "the protocol version and cipher suite must be those of the group" // §10.1, §11.1
	RuleCredential   TreeRule = "every member must support the credential types in use"            // §7.3
	RuleRequired     TreeRule = "required capabilities must be supported"                          // §7.3, §11.1
	RuleExtension    TreeRule = "the extensions of a leaf must be among its capabilities"          // §7.3, §10
	RuleGroupFeature TreeRule = "the extensions of the group must be supported by every member"    // §13.4
	RuleLifetime     TreeRule = "the time must be in the lifetime, and the lifetime not too long"  // §7.2, §7.3
	RuleInitKey      TreeRule = "init_key must differ from the leaf's encryption_key"              // §10.1
)

// A TreeError says which rule was broken, and where.
type TreeError struct {
	Rule TreeRule
	Node NodeIndex // 0 where the leaf is not in a tree
	Type uint16    // the extension, proposal, credential, version or cipher suite type that the rule is about, if it is about one
	Err  error     // the reason, if there is a further one
}

func (e *TreeError) Error() string {
	s := fmt.Sprintf("mls: node %d: %s", e.Node, string(e.Rule))
	if e.Type != 0 {
		s += fmt.Sprintf(" (type %#04x)", e.Type)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *TreeError) Unwrap() error { return e.Err }
