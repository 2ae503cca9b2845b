package mls

import (
	"errors"
	"iter"

	"github.com/comity-im/comity/mls/suite"
)

// exporterDepth gives the exporter tree one leaf for each ComponentID (MLS extensions §4.4, Decision 119).
const exporterDepth = 16

// exporterTree holds the secrets of SafeExportSecret that no component has taken yet in one epoch (MLS extensions §4.4).
type exporterTree struct{ nodes derivationTree }

// newExporterTree takes over an epoch's application_export_secret.
func newExporterTree(s suite.Suite, applicationExportSecret []byte) *exporterTree {
	return &exporterTree{newDerivationTree(s, exporterDepth, applicationExportSecret)}
}

// ErrExportConsumed: the component has taken its secret of this epoch before.
var ErrExportConsumed = errors.New("mls: the component's exported secret is consumed")

// export is SafeExportSecret: it gives a component its secret of KDF.Nh octets, once.
func (t *exporterTree) export(component ComponentID) ([]byte, error) {
	secret := t.nodes.take(LeafIndex(component))
	if secret == nil {
		return nil, ErrExportConsumed
	}
	return secret, nil
}

// flush emits what changed since the last flush, a nil value for what is gone.
func (t *exporterTree) flush(emit func(key, value []byte)) { t.nodes.flush(emit) }

// clear overwrites and forgets everything. A flush after it deletes all of the epoch's records.
func (t *exporterTree) clear() { t.nodes.clear() }

// loadExporterTree restores a tree from the records that it emitted and that were not deleted since.
func loadExporterTree(s suite.Suite, records iter.Seq2[[]byte, []byte]) (*exporterTree, error) {
	t := newExporterTree(s, nil)
	clear(t.nodes.secrets)
	clear(t.nodes.dirty)
	for key, value := range records {
		if err := t.nodes.loadNode(key, value); err != nil {
			return nil, err
		}
	}
	return t, nil
}
