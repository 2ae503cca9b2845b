package mimi

import (
	"context"
	"io"
)

// A Hub is a provider as other providers see it: one method for each endpoint
// of MIMI protocol §5, and Gone, which is ours. The provider's own implementation, the client that
// speaks to a remote one over HTTPS, and the fakes of tests are all Hubs, so
// that a room is used in the same way wherever it is hosted. It carries what a
// provider answers as a follower too (Notify, the consent calls).
//
// From is the domain of the peer that calls. The caller has verified it against
// the peer's certificate; that it may act for the URIs in the request is for the
// Hub to check. A client of a remote Hub sends it as its own.
//
// An outcome that the response can express is a response with that code and a
// nil error. All else is an error: a *MalformedError, a *RefusedError, or a
// failure, which HTTPStatus maps to the wire. A request belongs to the Hub once
// passed and must not be changed.
//
// Implementations are safe for concurrent use.
type Hub interface {
	// KeyMaterial claims KeyPackages for the clients of target (§5.2).
	KeyMaterial(ctx context.Context, from ProviderDomain, target UserURI, req *KeyMaterialRequest) (*KeyMaterialResponse, error)

	// Update changes the room by a commit or proposals (§5.3).
	Update(ctx context.Context, from ProviderDomain, room RoomURI, req *UpdateRequest) (*UpdateRoomResponse, error)

	// SubmitMessage hands over an application message (§5.4).
	SubmitMessage(ctx context.Context, from ProviderDomain, room RoomURI, req *SubmitMessageRequest) (*SubmitMessageResponse, error)

	// Notify tells a follower of events in the room (§5.5). A nil error means
	// that it has them all, durably.
	Notify(ctx context.Context, from ProviderDomain, room RoomURI, req *NotifyRequest) error

	// GroupInfo asks for what an external join takes (§5.6).
	GroupInfo(ctx context.Context, from ProviderDomain, room RoomURI, req *GroupInfoRequest) (*GroupInfoResponse, error)

	// RequestConsent asks a user for consent, or takes the request back (§5.7).
	// A nil error says only that the entry arrived.
	RequestConsent(ctx context.Context, from ProviderDomain, entry *ConsentEntry) error

	// UpdateConsent says that a user grants or revokes consent (§5.7).
	UpdateConsent(ctx context.Context, from ProviderDomain, entry *ConsentEntry) error

	// IdentifierQuery looks for users of the domain (§5.8).
	IdentifierQuery(ctx context.Context, from ProviderDomain, domain ProviderDomain, req *IdentifierRequest) (*IdentifierResponse, error)

	// ReportAbuse reports messages of the room to its hub (§5.9). A nil error
	// says nothing of the verdict.
	ReportAbuse(ctx context.Context, from ProviderDomain, room RoomURI, report *AbuseReport) error

	// Gone says that a user of from, or some of its clients, are to be taken out
	// of the room because they exist no more (docs/wire.md). A nil error says only
	// that the notice arrived.
	Gone(ctx context.Context, from ProviderDomain, room RoomURI, notice *GoneNotice) error

	// ProxyDownload fetches an asset through the hub (§5.10.2). The caller
	// closes the download's Body. A status that the asset's server gave is no
	// error.
	ProxyDownload(ctx context.Context, from ProviderDomain, req *DownloadRequest) (*Download, error)
}

// A DownloadRequest names an asset, and what of the client's request is passed
// on with it. Decision 76
type DownloadRequest struct {
	URL         string // absolute https
	Range       string // the header field, empty for none
	IfNoneMatch string // the header field, empty for none
}

// A Download is what the asset's server answered. Decision 76
type Download struct {
	Status        int    // HTTP status
	ContentLength int64  // octets in Body, -1 if not known
	ContentRange  string // the header field, empty for none
	ETag          string // the header field, empty for none
	Body          io.ReadCloser
}
