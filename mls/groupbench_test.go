package mls

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"fmt"
	"testing"
	"time"

	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// A floor counts the primitives that an operation can't do without. Benchmarks report their CPU time, on all cores, as a
// multiple of it: "×floor" of the standard library's primitives, "×own" of those of package suite, whose X25519 is faster.
// All are measured in the same run, since the machine's speed differs from minute to minute.
type floor struct{ signs, verifies, seals, opens, keys int }

// primitives are the operations that a floor counts.
type primitives struct{ sign, verify, seal, open, key func() }

func standardPrimitives(b *testing.B) primitives {
	pub, key, _ := ed25519.GenerateKey(rand.Reader)
	sig := ed25519.Sign(key, floorMessage)
	hpkeKey := floorKey(b)
	sealed, err := hpke.Seal(hpkeKey.PublicKey(), hpke.HKDFSHA256(), hpke.AES128GCM(), floorMessage, floorMessage[:32])
	if err != nil {
		b.Fatal(err)
	}
	return primitives{
		sign:   func() { ed25519.Sign(key, floorMessage) },
		verify: func() { ed25519.Verify(pub, floorMessage, sig) },
		seal: func() {
			hpke.Seal(hpkeKey.PublicKey(), hpke.HKDFSHA256(), hpke.AES128GCM(), floorMessage, floorMessage[:32])
		},
		open: func() { hpke.Open(hpkeKey, hpke.HKDFSHA256(), hpke.AES128GCM(), floorMessage, sealed) },
		key: func() {
			k, _ := hpke.DHKEM(ecdh.X25519()).DeriveKeyPair(floorMessage[:32])
			k.PublicKey().Bytes()
		},
	}
}

func ownPrimitives(b *testing.B) primitives {
	s, _ := suite.Lookup(testSuite)
	signer, err := s.GenerateSigner(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	verifier, err := s.NewVerifier(signer.Public())
	if err != nil {
		b.Fatal(err)
	}
	sig, err := signer.SignWithLabel(rand.Reader, "", floorMessage)
	if err != nil {
		b.Fatal(err)
	}
	key, err := s.GenerateKeyPair(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	enc, sealed, err := s.SealWithLabel(key.Public(), "", floorMessage, floorMessage[:32])
	if err != nil {
		b.Fatal(err)
	}
	return primitives{
		sign:   func() { signer.SignWithLabel(rand.Reader, "", floorMessage) },
		verify: func() { verifier.VerifyWithLabel("", floorMessage, sig) },
		seal:   func() { s.SealWithLabel(key.Public(), "", floorMessage, floorMessage[:32]) },
		open:   func() { key.OpenWithLabel("", floorMessage, enc, sealed) },
		key:    func() { s.DeriveKeyPair(floorMessage[:32]) },
	}
}

func (f floor) duration(p primitives) (d time.Duration) {
	for _, part := range []struct {
		n  int
		op func()
	}{{f.signs, p.sign}, {f.verifies, p.verify}, {f.seals, p.seal}, {f.opens, p.open}, {f.keys, p.key}} {
		if part.n == 0 {
			continue
		}
		const runs = 64
		start := cpuTime()
		for range runs {
			part.op()
		}
		d += (cpuTime() - start) * time.Duration(part.n) / runs
	}
	return d
}

// loop measures op and reports it as a multiple of the floors, which are measured before, between and after.
func (f floor) loop(b *testing.B, op func()) { f.loopWith(b, func() {}, op) }

// together is how many operations are measured at once, as the floors are: asking for the time costs about what a
// message costs besides its signature.
const together = 32

// loopWith runs before, unmeasured, once for each operation, some of them ahead.
func (f floor) loopWith(b *testing.B, before, op func()) {
	b.ReportAllocs()
	standard, own := standardPrimitives(b), ownPrimitives(b)
	var floorStandard, floorOwn time.Duration
	floors := 0
	measure := func() {
		floorStandard += f.duration(standard)
		floorOwn += f.duration(own)
		floors++
	}
	measure()
	var took, start time.Duration
	ops, ready := 0, 0
	next := time.Now().Add(100 * time.Millisecond)
	for b.Loop() {
		if ready == 0 {
			if ops > 0 {
				took += cpuTime() - start
			}
			b.StopTimer()
			for ; ready < together; ready++ {
				before()
			}
			if time.Now().After(next) {
				measure()
				next = time.Now().Add(100 * time.Millisecond)
			}
			b.StartTimer()
			start = cpuTime()
		}
		op()
		ops++
		ready--
	}
	took += cpuTime() - start
	measure()
	mean := float64(took) / float64(ops)
	b.ReportMetric(mean/(float64(floorStandard)/float64(floors)), "×floor")
	b.ReportMetric(mean/(float64(floorOwn)/float64(floors)), "×own")
}

func forGroups(b *testing.B, sizes []int, f func(b *testing.B, n int)) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) { f(b, n) })
	}
}

var groupSizes = []int{2, 10, 100, 1000, 10000}

// fullGroups returns the groups of two members of a group whose tree is full, and of its hub: every parent has a key.
// Both members know the keys above them.
func fullGroups(b *testing.B, n int) (one, other *Group, hub *PublicGroup) {
	tree, members := fullTree(b, n)
	s := tree.Suite()
	at := [2]LeafIndex{LeafIndex(min(2, n-1)), LeafIndex(n - 2)}
	for _, i := range at {
		secrets, err := tree.NewPath(rand.Reader, i, *tree.Leaf(i), testGroupID, members[i].sign)
		if err != nil {
			b.Fatal(err)
		}
		members[i].priv = secrets.Private()
	}
	members[at[0]].priv.Sync(tree) // but the root's
	context := GroupContext{Version: MLS10, CipherSuite: s.ID(), GroupID: testGroupID, TreeHash: tree.TreeHash()}
	start := func() epochStart { return startEpochFromSecret(s, make([]byte, s.Nh())) }
	secrets := start().secrets
	st, err := newState(s, context, new(params), tree, secrets.confirmationTag(s, nil))
	if err != nil {
		b.Fatal(err)
	}
	group := func(m *treeMember) *Group {
		g := &Group{signer: m.signer, private: m.priv}
		g.enter(st, start())
		return g
	}
	return group(members[at[0]]), group(members[at[1]]), &PublicGroup{state: st}
}

// addAll returns a group whose creator has added everybody in one commit, with its Welcome and the last one's keys.
func addAll(b *testing.B, n int) (*client, *StagedCommit, *KeyPackageSecrets) {
	creator := newClient(b, "creator")
	creator.config.Rules = nil
	creator.create(b, nil)
	proposals := make([]Proposal, n-1)
	var last *client
	for i := range proposals {
		last = newClient(b, fmt.Sprint("member ", i))
		proposals[i] = add(last.keyPackage(b))
	}
	staged, err := creator.group.Stage(rand.Reader, CommitOptions{Proposals: proposals})
	if err != nil {
		b.Fatal(err)
	}
	if err := creator.group.Merge(staged); err != nil {
		b.Fatal(err)
	}
	return creator, staged, last.keys
}

func depthOf(n int) int { return treeDepth(uint32(n)) }

// BenchmarkCommit makes an empty commit in a full tree: log₂N key generations and seals, and signatures of the leaf, the
// commit and the GroupInfo, for which external_pub is derived.
func BenchmarkCommit(b *testing.B) {
	forGroups(b, groupSizes, func(b *testing.B, n int) {
		g, _, _ := fullGroups(b, n)
		floor{signs: 3, seals: depthOf(n), keys: depthOf(n) + 2}.loop(b, func() {
			if _, err := g.Stage(rand.Reader, CommitOptions{}); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// BenchmarkCommitEmptyTree makes the commit after the one that added everybody: N seals.
func BenchmarkCommitEmptyTree(b *testing.B) {
	forGroups(b, groupSizes[:4], func(b *testing.B, n int) {
		creator, _, _ := addAll(b, n)
		floor{signs: 3, seals: n - 1, keys: depthOf(n) + 2}.loop(b, func() {
			if _, err := creator.group.Stage(rand.Reader, CommitOptions{}); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// BenchmarkAddMany makes a commit that adds everybody: two verifications and a seal each.
func BenchmarkAddMany(b *testing.B) {
	forGroups(b, groupSizes[:4], func(b *testing.B, n int) {
		creator := newClient(b, "creator")
		creator.create(b, nil)
		proposals := make([]Proposal, n-1)
		for i := range proposals {
			proposals[i] = add(newClient(b, fmt.Sprint("member ", i)).keyPackage(b))
		}
		floor{signs: 3, verifies: 2 * (n - 1), seals: n - 1, keys: depthOf(n) + 2}.loop(b, func() {
			if _, err := creator.group.Stage(rand.Reader, CommitOptions{Proposals: proposals}); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// BenchmarkProcessCommit verifies and opens another's commit in a full tree: two verifications, one open, and as many keys as
// there are nodes above both.
func BenchmarkProcessCommit(b *testing.B) {
	forGroups(b, groupSizes, func(b *testing.B, n int) {
		one, other, _ := fullGroups(b, n)
		staged, err := one.Stage(rand.Reader, CommitOptions{})
		if err != nil {
			b.Fatal(err)
		}
		raw, err := tlspl.Marshal(staged.Message())
		if err != nil {
			b.Fatal(err)
		}
		floor{verifies: 2, opens: 1, keys: 1}.loop(b, func() {
			var m MLSMessage
			if err := tlspl.Unmarshal(raw, &m); err != nil {
				b.Fatal(err)
			}
			if _, err := other.StageReceived(&m); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// BenchmarkTrack follows a commit as a hub does: two verifications.
func BenchmarkTrack(b *testing.B) {
	forGroups(b, groupSizes, func(b *testing.B, n int) {
		one, _, hub := fullGroups(b, n)
		staged, err := one.Stage(rand.Reader, CommitOptions{})
		if err != nil {
			b.Fatal(err)
		}
		raw, err := tlspl.Marshal(staged.Message())
		if err != nil {
			b.Fatal(err)
		}
		floor{verifies: 2}.loop(b, func() {
			g := hub.Clone()
			var m MLSMessage
			if err := tlspl.Unmarshal(raw, &m); err != nil {
				b.Fatal(err)
			}
			staged, err := g.Stage(&m)
			if err != nil {
				b.Fatal(err)
			}
			if err := g.Merge(staged); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// BenchmarkTrackStored follows a commit and stores what changed.
func BenchmarkTrackStored(b *testing.B) {
	forGroups(b, groupSizes, func(b *testing.B, n int) {
		one, _, hub := fullGroups(b, n)
		if _, err := hub.Flush(); err != nil {
			b.Fatal(err)
		}
		staged, err := one.Stage(rand.Reader, CommitOptions{})
		if err != nil {
			b.Fatal(err)
		}
		written, times := 0, 0
		floor{verifies: 2}.loop(b, func() {
			g := hub.Clone()
			staged, err := g.Stage(staged.Message())
			if err != nil {
				b.Fatal(err)
			}
			if err := g.Merge(staged); err != nil {
				b.Fatal(err)
			}
			records, err := g.Flush()
			if err != nil {
				b.Fatal(err)
			}
			times++
			for _, r := range records {
				written += len(r.Key) + len(r.Value)
			}
		})
		b.ReportMetric(float64(written)/float64(times), "written-B/op")
	})
}

// BenchmarkLoad restores a hub's group from its records and follows the first commit.
func BenchmarkLoad(b *testing.B) {
	forGroups(b, groupSizes, func(b *testing.B, n int) {
		one, _, hub := fullGroups(b, n)
		records, err := hub.Flush()
		if err != nil {
			b.Fatal(err)
		}
		staged, err := one.Stage(rand.Reader, CommitOptions{})
		if err != nil {
			b.Fatal(err)
		}
		floor{verifies: 2}.loop(b, func() {
			g, err := LoadPublicGroup(Config{}, func(yield func(k, v []byte) bool) {
				for _, r := range records {
					if !yield(r.Key, r.Value) {
						return
					}
				}
			})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := g.Stage(staged.Message()); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// BenchmarkJoin enters a group by a Welcome: N verifications on all cores.
func BenchmarkJoin(b *testing.B) {
	forGroups(b, append(groupSizes[2:], 30000), func(b *testing.B, n int) {
		creator, staged, keys := addAll(b, n)
		tree := creator.group.Tree().Bytes()
		raw, err := tlspl.Marshal(staged.Welcome())
		if err != nil {
			b.Fatal(err)
		}
		floor{verifies: n + 1, opens: 1, keys: 1}.loop(b, func() {
			var w Welcome
			if err := tlspl.Unmarshal(raw, &w); err != nil {
				b.Fatal(err)
			}
			if _, err := JoinWelcome(Config{}, &w, keys, JoinOptions{RatchetTree: tree}); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// BenchmarkReceive opens an application message of 100 bytes.
func BenchmarkReceive(b *testing.B) {
	forGroups(b, []int{10000}, func(b *testing.B, n int) {
		one, other, _ := fullGroups(b, n)
		data := make([]byte, 100)
		var sent [][]byte
		floor{verifies: 1}.loopWith(b, func() {
			m, err := one.Encrypt(rand.Reader, data, nil)
			if err != nil {
				b.Fatal(err)
			}
			raw, err := tlspl.Marshal(m)
			if err != nil {
				b.Fatal(err)
			}
			sent = append(sent, raw)
		}, func() {
			var m MLSMessage
			raw := sent[0]
			sent = sent[1:]
			if err := tlspl.Unmarshal(raw, &m); err != nil {
				b.Fatal(err)
			}
			if _, err := other.Decrypt(&m); err != nil {
				b.Fatal(err)
			}
		})
	})
}

// BenchmarkSend protects an application message of 100 bytes.
func BenchmarkSend(b *testing.B) {
	forGroups(b, []int{10000}, func(b *testing.B, n int) {
		g, _, _ := fullGroups(b, n)
		data := make([]byte, 100)
		floor{signs: 1}.loop(b, func() {
			if _, err := g.Encrypt(rand.Reader, data, nil); err != nil {
				b.Fatal(err)
			}
		})
	})
}
