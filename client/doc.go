// Package client is a user's device: its keys, its rooms and messages, and the
// engine that keeps them in step with the rest of the world.
//
// A [Client] talks to one [Provider], its user's own, and keeps all that it has
// in one [Store]. It runs wherever Go does, a browser included: client/clientdb
// is a Store in one file, [NewMemory] one in memory.
//
//	dev, err := client.Register(ctx, store, provider, login)   // once
//	c, err := client.Open(ctx, client.Config{Store: store, Provider: provider})
//	go c.Run(ctx)                                              // receives, sends, repairs
//	room, err := c.CreateRoom(ctx, client.NewRoom{Name: "clubhouse"})
//	err = c.Add(ctx, room, "mimi://b.example/u/bob", "")
//	id, err := c.Send(ctx, room, "hello")
//
// # What is stored when
//
// A ratchet that encrypts is stored before its ciphertext leaves; a message that
// came is stored together with the key that it used up and with the position in
// the room's log. A Commit is stored with the state that it leads to before it is
// sent, and that state takes effect when the hub has accepted it: when its answer
// says so, or when the Commit comes back in the log. So a crash at any point loses
// nothing and shows nothing twice, and so does a write that fails though it was
// stored: after a failed write the Client forgets what it held in memory.
//
// # What happens by itself
//
// While it runs, a Client commits what others proposed, joins the rooms that its
// user is a participant of, fills up its stock of KeyPackages, renews its
// credentials, sends what was written while there was no connection, and, when it
// finds itself out of step with a room, comes back in by an external Commit. What
// it does and finds it tells as [Event].
package client
