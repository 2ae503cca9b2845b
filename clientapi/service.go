package clientapi

import (
	"context"
	"io"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// A Device is a client that proved who it is.
type Device struct {
	User   mimi.UserURI
	Client mimi.ClientURI
}

// Info is what anybody may know about a provider.
type Info struct {
	Domain       mimi.ProviderDomain `json:"domain"`
	Registration string              `json:"registration"` // "open", "invite" or "closed"
	Suites       []uint16            `json:"suites"`       // cipher suites the hub accepts, best first
	HubSenders   []HubSender         `json:"hub_senders"`  // one a suite
	// The bounds of a client's stock of KeyPackages: it refills to the ceiling
	// when it falls below the floor.
	StockFloor   int   `json:"stock_floor"`
	StockCeiling int   `json:"stock_ceiling"`
	MaxAsset     int64 `json:"max_asset"` // octets
	// Domains that the provider's users upload assets to.
	AssetDomains []string `json:"asset_domains,omitempty"`
}

// A HubSender is how the provider signs as a hub in rooms of one cipher suite:
// the entry for external_senders and, with the other key, the franking agent
// (Decisions 32, 47); and how it reads SemiPrivateMessages (Decision 120).
type HubSender struct {
	Suite          uint16 `json:"suite"`
	ExternalSender []byte `json:"external_sender"` // TLS(ExternalSender)
	FrankingAgent  []byte `json:"franking_agent"`  // TLS(FrankingAgentData)
	// TLS(ExternalReceiver); none from a provider without SemiPrivate rooms.
	ExternalReceiver []byte `json:"external_receiver,omitempty"`
}

// A Login asks for a session of one device.
type Login struct {
	User     string `json:"user"` // the name, not the URI
	Password string `json:"password"`
	Device   string `json:"device"`           // the device's name
	Invite   string `json:"invite,omitempty"` // where registration needs one
}

// A Session is what a device needs from then on.
type Session struct {
	User   mimi.UserURI   `json:"user"`
	Client mimi.ClientURI `json:"client"`
	Token  string         `json:"token"`
}

// A DeviceInfo describes one device of a user.
type DeviceInfo struct {
	Client        mimi.ClientURI `json:"client"`
	CreatedMillis int64          `json:"created_ms"`
	SeenMillis    int64          `json:"seen_ms"`
	Stock         int64          `json:"stock"` // KeyPackages left
}

// Issuers are the roots that may issue credentials for a domain.
type Issuers struct {
	Domain mimi.ProviderDomain `json:"domain"`
	Roots  [][]byte            `json:"roots"` // DER
}

// A Stock tells how many KeyPackages of a device are left.
type Stock struct {
	Left    int64 `json:"left"`
	Floor   int   `json:"floor"`
	Ceiling int   `json:"ceiling"`
}

// A RoomInfo is where a device stands in one room.
type RoomInfo struct {
	Room   mimi.RoomURI `json:"room"`
	Joined bool         `json:"joined"` // false: the user is listed, the device has not joined
	First  int64        `json:"first"`  // position of the first event for the device
	Read   int64        `json:"read"`   // position that was acknowledged; before First: none yet
	Newest int64        `json:"newest"`
}

// An Event is one entry of a room's log as its clients see it.
type Event struct {
	Room    mimi.RoomURI
	Seq     int64  // position in the room's log at this provider, from 1
	Fanout  []byte // FanoutMessage (MIMI protocol §5.5); empty: what came up to Seq is not for this device
	Invited bool   // no event: the user was listed in Room, the device may join it
}

// A Subscription hands out a device's events.
type Subscription interface {
	// Next waits for events, at least one, in the order of each room.
	Next(ctx context.Context) ([]Event, error)
	// Take is Next for who doesn't wait: it returns none if there are none.
	Take(ctx context.Context) ([]Event, error)
	// Watch makes f be called at once and whenever Take may have something. It
	// must not block nor call the Subscription.
	Watch(f func())
	// Ack records that everything in room up to seq is in the device's store.
	Ack(ctx context.Context, room mimi.RoomURI, seq int64) error
	Close()
}

// Consent is one entry of a user's consents: in or out by who asks whom.
type Consent struct {
	Requester     mimi.UserURI `json:"requester"`
	Target        mimi.UserURI `json:"target"`
	Room          mimi.RoomURI `json:"room,omitempty"` // empty: any room
	Asked         bool         `json:"asked"`
	Decision      string       `json:"decision"` // "", "granted" or "revoked"
	UpdatedMillis int64        `json:"updated_ms"`
	// KeyPackages came with a grant to this user, TLS-encoded.
	KeyPackages [][]byte `json:"key_packages,omitempty"`
}

// A ConsentChange is what a user says: "request" or "cancel" to a Peer whom it
// wants to reach, "grant" or "revoke" to one who wants to reach it.
type ConsentChange struct {
	Operation string       `json:"operation"`
	Peer      mimi.UserURI `json:"peer"`
	Room      mimi.RoomURI `json:"room,omitempty"`
	// KeyPackages sends one of each of the user's devices with a grant.
	KeyPackages bool `json:"key_packages,omitempty"`
}

// A ConsentReport tells the user's own provider of a request for consent that it
// did not want.
type ConsentReport struct {
	Requester mimi.UserURI `json:"requester"`
	Room      mimi.RoomURI `json:"room,omitempty"`
	Note      string       `json:"note,omitempty"`
}

// A ProfileField is something a user says about themselves, and who may use it.
type ProfileField struct {
	Source   uint8  `json:"source"` // search type (MIMI protocol §5.8)
	Name     string `json:"name,omitempty"`
	Value    string `json:"value"`
	Findable bool   `json:"findable"`
	Shown    bool   `json:"shown"`
}

// A JoinCode lets those who know it join a room.
type JoinCode struct {
	Code          string `json:"code"`
	ExpiresMillis int64  `json:"expires_ms,omitempty"`
	UsesLeft      int64  `json:"uses_left"` // -1: without limit
	CreatedMillis int64  `json:"created_ms,omitempty"`
	Listed        bool   `json:"listed,omitempty"` // in the room's join_links component, where every member sees it
}

// An Asset is an uploaded file.
type Asset struct {
	URL       string `json:"url"`
	MediaType string `json:"media_type"`
	Size      int64  `json:"size"`
}

// A Range of an asset, in octets; both zero is all of it.
type Range struct{ From, Length int64 }

// Service is what a provider offers its clients. Errors that a person can act
// on are *Error.
type Service interface {
	Info(ctx context.Context) (Info, error)
	Register(ctx context.Context, l Login) (Session, error)
	Login(ctx context.Context, l Login) (Session, error)
	Authenticate(ctx context.Context, token string) (Device, error)

	Devices(ctx context.Context, d Device) ([]DeviceInfo, error)
	RemoveDevice(ctx context.Context, d Device, client mimi.ClientURI) error
	// CheckPassword is a CodeUnauthorized error if it is not the user's password.
	CheckPassword(ctx context.Context, d Device, password string) error
	DeleteAccount(ctx context.Context, d Device, password string) error
	Certify(ctx context.Context, d Device, r *identity.CertificateRequest) (*mls.Credential, error)
	Issuers(ctx context.Context, d Device, domain mimi.ProviderDomain) (Issuers, error)
	Stock(ctx context.Context, d Device) (Stock, error)
	AddKeyPackages(ctx context.Context, d Device, list []mls.KeyPackage) (Stock, error)

	CreateRoom(ctx context.Context, d Device, room mimi.RoomURI, r *CreateRoomRequest) (*CreateRoomResponse, error)
	Rooms(ctx context.Context, d Device) ([]RoomInfo, error)
	// LeaveRoom says that the device wants no more events of a room, and that its
	// user does not follow an invitation to it. With read, not 0, it says that it is
	// out of the room as of that position of the log: a Welcome or an invitation
	// that came after it counts all the same.
	LeaveRoom(ctx context.Context, d Device, room mimi.RoomURI, read int64) error
	Subscribe(ctx context.Context, d Device) (Subscription, error)

	KeyMaterial(ctx context.Context, d Device, target mimi.UserURI, r *mimi.KeyMaterialRequest) (*mimi.KeyMaterialResponse, error)
	Update(ctx context.Context, d Device, room mimi.RoomURI, r *mimi.UpdateRequest) (*mimi.UpdateRoomResponse, error)
	SubmitMessage(ctx context.Context, d Device, room mimi.RoomURI, r *mimi.SubmitMessageRequest) (*mimi.SubmitMessageResponse, error)
	GroupInfo(ctx context.Context, d Device, room mimi.RoomURI, r *mimi.GroupInfoRequest) (*mimi.GroupInfoResponse, error)
	ReportAbuse(ctx context.Context, d Device, room mimi.RoomURI, r *mimi.AbuseReport) error
	IdentifierQuery(ctx context.Context, d Device, domain mimi.ProviderDomain, r *mimi.IdentifierRequest) (*mimi.IdentifierResponse, error)

	Consents(ctx context.Context, d Device) ([]Consent, error)
	ChangeConsent(ctx context.Context, d Device, c ConsentChange) error
	ReportConsent(ctx context.Context, d Device, r ConsentReport) error
	Profile(ctx context.Context, d Device) ([]ProfileField, error)
	SetProfileField(ctx context.Context, d Device, f ProfileField) error
	DropProfileField(ctx context.Context, d Device, source uint8, name string) error
	JoinCodes(ctx context.Context, d Device, room mimi.RoomURI) ([]JoinCode, error)
	CreateJoinCode(ctx context.Context, d Device, room mimi.RoomURI, c JoinCode) (JoinCode, error)
	RevokeJoinCode(ctx context.Context, d Device, room mimi.RoomURI, code string) error
	UploadAsset(ctx context.Context, d Device, mediaType string, size int64, body io.Reader) (Asset, error)
	DownloadAsset(ctx context.Context, d Device, room mimi.RoomURI, url string, r Range) (io.ReadCloser, error)
	// GatewayKeys fetches the OHTTP key configurations of a hub, and Relay sends
	// an encapsulated request to its gateway, without knowing what it asks for
	// (MIMI protocol §5.10.3).
	GatewayKeys(ctx context.Context, d Device, hub mimi.ProviderDomain) ([]byte, error)
	Relay(ctx context.Context, d Device, hub mimi.ProviderDomain, encapsulated []byte) ([]byte, error)
}
