package mimi_test

import (
	"bytes"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// fuzzStruct feeds octets to the decoder of T, with the samples of that type
// as seeds. What is accepted must be encoded as it came.
func fuzzStruct[T any, P tlspl.Ptr[T]](f *testing.F) {
	seeds := 0
	for _, s := range all(f) {
		if _, ok := s.value.(P); ok {
			f.Add(must(tlspl.Marshal(s.value)))
			seeds++
		}
	}
	if seeds == 0 {
		f.Fatal("no sample of this type")
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v := P(new(T))
		if err := tlspl.Unmarshal(b, v); err != nil {
			return
		}
		again, err := tlspl.Marshal(v)
		if err != nil {
			t.Fatalf("accepted, but not encoded: %v", err)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("encoded again as\n%x\nwant\n%x", again, b)
		}
	})
}

func FuzzKeyMaterialRequest(f *testing.F)      { fuzzStruct[mimi.KeyMaterialRequest](f) }
func FuzzKeyMaterialResponse(f *testing.F)     { fuzzStruct[mimi.KeyMaterialResponse](f) }
func FuzzUpdateRequest(f *testing.F)           { fuzzStruct[mimi.UpdateRequest](f) }
func FuzzUpdateRoomResponse(f *testing.F)      { fuzzStruct[mimi.UpdateRoomResponse](f) }
func FuzzSubmitMessageRequest(f *testing.F)    { fuzzStruct[mimi.SubmitMessageRequest](f) }
func FuzzSubmitMessageResponse(f *testing.F)   { fuzzStruct[mimi.SubmitMessageResponse](f) }
func FuzzNotifyRequest(f *testing.F)           { fuzzStruct[mimi.NotifyRequest](f) }
func FuzzGroupInfoRequest(f *testing.F)        { fuzzStruct[mimi.GroupInfoRequest](f) }
func FuzzGroupInfoResponse(f *testing.F)       { fuzzStruct[mimi.GroupInfoResponse](f) }
func FuzzGroupInfoRatchetTreeTBE(f *testing.F) { fuzzStruct[mimi.GroupInfoRatchetTreeTBE](f) }
func FuzzConsentEntry(f *testing.F)            { fuzzStruct[mimi.ConsentEntry](f) }
func FuzzIdentifierRequest(f *testing.F)       { fuzzStruct[mimi.IdentifierRequest](f) }
func FuzzIdentifierResponse(f *testing.F)      { fuzzStruct[mimi.IdentifierResponse](f) }
func FuzzAbuseReport(f *testing.F)             { fuzzStruct[mimi.AbuseReport](f) }
func FuzzGoneNotice(f *testing.F)              { fuzzStruct[mimi.GoneNotice](f) }

// FuzzComponent feeds octets to the data and the update of every component.
func FuzzComponent(f *testing.F) {
	for _, k := range componentSamples() {
		f.Add(uint16(k.id), k.update, must(tlspl.Marshal(k.value)))
	}
	f.Fuzz(func(t *testing.T, id uint16, update bool, b []byte) {
		v := mimi.NewComponentData(mls.ComponentID(id))
		if update {
			v = mimi.NewComponentUpdate(mls.ComponentID(id))
		}
		if v == nil || tlspl.Unmarshal(b, v) != nil {
			return
		}
		again, err := tlspl.Marshal(v)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("encoded again as\n%x, %v\nwant\n%x", again, err, b)
		}
	})
}
