package policy

import (
	"fmt"
	"testing"

	"github.com/comity-im/comity/mimi"
)

// bigRoom is a moderated room with n attendees.
func bigRoom(t testing.TB, n int) *testState {
	s := moderatedRoom(t)
	for i := range n {
		u := mimi.IdentifierURI(fmt.Sprintf("mimi://b.example/u/user%d", i))
		s.list[u], s.clients[u] = 3, 1
	}
	return s.recount()
}

// counted hides that testState counts by walking its lists: a real state has the numbers at hand.
type counted struct {
	*testState
	users, clients uint32
}

func (c *counted) Users() uint32   { return c.users }
func (c *counted) Clients() uint32 { return c.clients }

func judgeOnce(s State, e *Effect) *Denial {
	if d := Authorize(s, Actor{URI: dave}, Change{Kind: Add, User: zoe, To: 4}); d != nil {
		return d
	}
	if d := Authorize(s, Actor{URI: dave}, Change{Kind: Ban, User: bob, From: 2, To: 1, RemovesClients: true}); d != nil {
		return d
	}
	return CheckCommit(s, e)
}

func BenchmarkAuthorize(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprintf("participants=%d", n), func(b *testing.B) {
			r := bigRoom(b, n)
			s := &counted{r, r.Users(), r.Clients()}
			e := r.effect(Change{Kind: Add, User: zoe, To: 4})
			b.ReportAllocs()
			for b.Loop() {
				if d := judgeOnce(s, e); d != nil {
					b.Fatal(d)
				}
			}
		})
	}
}

// Judging what is allowed allocates nothing, in a room of any size.
func TestAuthorizeAllocatesNothing(t *testing.T) {
	for _, n := range []int{10, 10_000} {
		r := bigRoom(t, n)
		s := &counted{r, r.Users(), r.Clients()}
		e := r.effect(Change{Kind: Add, User: zoe, To: 4})
		if got := testing.AllocsPerRun(100, func() {
			if d := judgeOnce(s, e); d != nil {
				t.Fatal(d)
			}
		}); got != 0 {
			t.Errorf("%d participants: %v allocations", n, got)
		}
	}
}
