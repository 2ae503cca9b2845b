package serve

import (
	"reflect"
	"testing"
)

// Of n nodes each allows a share, so that all of them together allow no more than
// the config says; what is not counted in memory stays, and nothing becomes 0.
func TestLimitsAreShared(t *testing.T) {
	whole := Default().Limits
	if got := whole.share(); !reflect.DeepEqual(got, whole) {
		t.Errorf("one node does not allow what the config says: %+v", got)
	}
	whole.Nodes = 3
	whole.LoginBurst, whole.ClientConcurrent = 2, 0
	part := whole.share()
	if part.LoginBurst != 1 || part.ClientConcurrent != 0 {
		t.Errorf("small counts become %d and %d", part.LoginBurst, part.ClientConcurrent)
	}
	if part.PeerPerSecond*3 != whole.PeerPerSecond || part.SubmitsPerSecond*3 > whole.SubmitsPerSecond+1e-9 || part.KeysPerRequester*3 > whole.KeysPerRequester {
		t.Errorf("three nodes allow more than the config says: %+v", part)
	}
	if part.StockCeiling != whole.StockCeiling || part.MaxAsset != whole.MaxAsset || part.Retention != whole.Retention {
		t.Errorf("what every node has alike is divided: %+v", part)
	}
	// Each number is either divided or one of those that are known to stay.
	stay := map[string]bool{"StockFloor": true, "StockCeiling": true, "MaxAsset": true, "AssetQuota": true, "Nodes": true}
	whole.LoginBurst, whole.ClientConcurrent = 20, 64
	a, b := reflect.ValueOf(whole), reflect.ValueOf(whole.share())
	for i := range a.NumField() {
		name := a.Type().Field(i).Name
		if k := a.Field(i).Kind(); k != reflect.Int && k != reflect.Int64 && k != reflect.Float64 {
			continue
		}
		if same := a.Field(i).Equal(b.Field(i)); same != stay[name] {
			t.Errorf("%s: divided is %v", name, !same)
		}
	}
}
