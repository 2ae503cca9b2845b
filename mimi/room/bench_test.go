package room

import (
	"crypto/rand"
	"fmt"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/policy"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
)

// bigWorld is a room of n users with a client each, of whom only alice's follows.
func bigWorld(b *testing.B, n int) *world {
	w := newWorld(b, policy.Administered, nil)
	a := w.devices[0]
	var additions []Addition
	for i := range n - 1 {
		user := mimi.UserURI(fmt.Sprintf("mimi://b.example/u/user%d", i))
		d := w.device(user, "d")
		additions = append(additions, Addition{User: user, Role: 2, KeyPackages: []mls.KeyPackage{d.keyPackage()}})
		w.signers, w.devices = map[string]*suite.Signer{}, w.devices[:1]
	}
	if _, err := a.commit(a.room.AddUsers(rand.Reader, 0, additions...)); err != nil {
		b.Fatal(err)
	}
	return w
}

// BenchmarkHubUpdate is what a Commit costs the hub, without merging and storing it: an empty one with a path, and one that
// bans a user.
func BenchmarkHubUpdate(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 10_000} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			w := bigWorld(b, n)
			a := w.devices[0]
			for name, stage := range map[string]func() (*Staged, error){
				"path": func() (*Staged, error) { return a.room.Commit(rand.Reader, 0) },
				"ban":  func() (*Staged, error) { return a.room.Ban(rand.Reader, "mimi://b.example/u/user1") },
			} {
				b.Run(name, func(b *testing.B) {
					s, err := stage()
					if err != nil {
						b.Fatal(err)
					}
					b.ReportAllocs()
					for b.Loop() {
						next, err := w.hub.Update(UpdateInput{From: "a.example", Bundle: s.Bundle(), Now: w.now, Rand: rand.Reader})
						if err != nil {
							b.Fatal(err)
						}
						b.StopTimer()
						size := 0
						if records, err := next.Records(); err != nil {
							b.Fatal(err)
						} else {
							for _, r := range records {
								size += len(r.Key) + len(r.Value)
							}
						}
						b.ReportMetric(float64(size), "stored-B/op")
						b.StartTimer()
					}
				})
			}
		})
	}
}

// BenchmarkCommit is what the first Commit after everybody was added costs its client: a seal for each member, under a
// GroupContext that lists all participants.
func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 10_000} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			a := bigWorld(b, n).devices[0]
			b.ReportAllocs()
			for b.Loop() {
				if _, err := a.room.Commit(rand.Reader, 0); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "µs/member")
		})
	}
}

// BenchmarkSubmit is what an application message costs in the room: no cryptography.
func BenchmarkSubmit(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			w := bigWorld(b, n)
			m, err := w.devices[0].room.Encrypt(rand.Reader, []byte("hello"), make([]byte, 32))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.hub.Submit(SubmitInput{From: "a.example", Sending: alice, Message: m, Now: w.now}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkLoadHub is reading a room from its records.
func BenchmarkLoadHub(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			w := bigWorld(b, n)
			b.ReportAllocs()
			for b.Loop() {
				w.reload()
			}
		})
	}
}
