package mimi_test

import (
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/tlspl"
)

func BenchmarkUnmarshal(b *testing.B) {
	for _, s := range samples() {
		switch s.name {
		case "submit_message_request", "notify_application", "update_request_commit", "key_material_response":
			in := must(tlspl.Marshal(s.value))
			b.Run(s.name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(int64(len(in)))
				for b.Loop() {
					if err := tlspl.UnmarshalAlias(in, s.fresh()); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkMarshal(b *testing.B) {
	for _, s := range samples() {
		switch s.name {
		case "submit_message_request", "notify_application", "update_request_commit", "key_material_response":
			var buf []byte
			b.Run(s.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					buf = must(tlspl.Append(buf[:0], s.value))
				}
			})
		}
	}
}

// A list as long as a large room's: what a hub does for each change of it.
func BenchmarkParticipantListApply(b *testing.B) {
	roles := &mimi.RoleData{Roles: []mimi.Role{{RoleIndex: 2}}}
	var list mimi.ParticipantListData
	for i := range 10000 {
		u := must(mimi.NewUserURI("a.example", string(rune('a'+i%26))+string(rune('a'+i/26%26))+string(rune('a'+i/676))))
		list.Participants = append(list.Participants, mimi.UserRolePair{User: u.Identifier(), RoleIndex: 2})
	}
	updates := []mimi.ParticipantListUpdate{{RemovedIndices: []uint32{77}, AddedParticipants: []mimi.UserRolePair{{User: bob.Identifier(), RoleIndex: 2}}}}
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := list.Apply(roles, updates); err != nil {
			b.Fatal(err)
		}
	}
}
