package content_test

import (
	"crypto/rand"
	"fmt"

	"github.com/comity-im/comity/mimi/content"
)

// Alice writes, Bob answers and reacts, Alice corrects herself: what Cathy sees.
func Example() {
	const (
		room  = "mimi://a.example/r/clubhouse"
		alice = "mimi://a.example/u/alice"
		bob   = "mimi://b.example/u/bob"
	)
	seen := content.NewTimeline(room, content.Policy{})
	now := uint64(1_764_100_000_000)

	// send stands for MLS, hub and delivery.
	send := func(c *content.Content, err error) *content.Message {
		if err != nil {
			panic(err)
		}
		octets, err := c.Marshal()
		if err != nil {
			panic(err)
		}
		now += 1000
		m, err := content.Verify(octets, content.Envelope{SenderURI: c.SenderURI(), RoomURI: room, AcceptedMillis: now})
		if err != nil {
			panic(err)
		}
		if err := seen.Add(m); err != nil {
			panic(err)
		}
		return m
	}

	a := content.Composer{SenderURI: alice, RoomURI: room, Rand: rand.Reader}
	b := content.Composer{SenderURI: bob, RoomURI: room, Rand: rand.Reader}
	question := send(a.Text("Could I borow a pen?"))
	send(b.Reply(question.ID, content.Markdown("_Sure_")))
	send(b.React(question.ID, "👍"))
	send(a.Edit(question.ID, question.Content, content.Markdown("Could I borrow a pen?")))
	send(b.Report(content.PerMessageStatus{MessageID: question.ID, Status: content.StatusRead}))

	for _, e := range seen.Entries(now) {
		fmt.Println(e.SenderURI, e.Body.Display(), e.Edited(), e.EmojiCounts(), len(e.Statuses))
	}
	// Output:
	// mimi://a.example/u/alice Could I borrow a pen? true [{👍 1}] 1
	// mimi://b.example/u/bob _Sure_ false [] 0
}
