package suite

import voi "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"

// A Batch verifies many signatures together, in about half the time that they
// take one by one. Only suites with Ed25519 have one.
//
// It accepts every batch of signatures that VerifyWithLabel accepts. The
// reverse doesn't hold: the equation of a batch is multiplied by the cofactor
// (ZIP 215), and whoever has a key can make a signature of its own that only
// this equation accepts. Nobody else can, so a batch says that the signers
// signed. It is for what was accepted one by one before, such as the leaves of a
// tree that its members have checked; what decides whether something enters a
// group goes through VerifyWithLabel, whose verdict is the same everywhere.
type Batch struct {
	v *voi.BatchVerifier
}

// batchOptions accept all that ed25519Options accept, as a batch must.
var batchOptions = &voi.Options{Verify: voi.VerifyOptionsZIP_215}

// NewBatch returns a batch with room for n signatures, and whether the suite has
// batches.
func (s Suite) NewBatch(n int) (*Batch, bool) {
	if _, ok := s.p.sig.(ed25519Scheme); !ok {
		return nil, false
	}
	return &Batch{voi.NewBatchVerifierWithCapacity(n)}, true
}

// AddWithLabel adds what [Suite.VerifyWithLabel] would verify. It keeps none of
// the slices.
func (b *Batch) AddWithLabel(public []byte, label string, content, signature []byte) {
	b.v.AddWithOptions(public, labelled(label, content), signature, batchOptions)
}

// Verify reports whether all signatures are valid, and that there was at least
// one. Which one is not, only [Suite.VerifyWithLabel] says.
func (b *Batch) Verify() bool { return b.v.VerifyBatchOnly(nil) }
