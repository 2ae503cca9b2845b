// Package federation carries the MIMI protocol between providers: HTTPS with
// certificates on both sides (MIMI protocol §4.1).
//
// Four values make up one provider's side of it:
//
//   - a [Certificate], our own, for both the server's and the client's role;
//   - [Peers], which says whom we talk to, how each is known (public web PKI, its
//     own authority, a pinned key), and how much it may ask; all of it may change
//     while the program runs;
//   - a [Server], which takes the requests of others, makes sure who is asking,
//     bounds what they can spend, decodes, and hands over to a [mimi.Hub];
//   - a [Client], whose Peer method gives another provider as a [mimi.Hub].
//
// So a room is used through mimi.Hub wherever it is hosted. The package decides
// no policy: it makes sure that From, the certificate and the URIs that act in a
// request agree, and nothing else about what is asked.
//
// What a Server refuses it counts and logs, each request in one line, with a
// [Reason]. Why these trust decisions and not others: docs/design/federation.md.
package federation
