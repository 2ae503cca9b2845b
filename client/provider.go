package client

import (
	"context"
	"io"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// A Provider is what a device needs of its user's provider, in a session of its
// own. [Over] makes one of a clientapi.Client.
type Provider interface {
	Info(ctx context.Context) (clientapi.Info, error)
	Devices(ctx context.Context) ([]clientapi.DeviceInfo, error)
	RemoveDevice(ctx context.Context, client mimi.ClientURI) error
	CheckPassword(ctx context.Context, password string) error
	DeleteAccount(ctx context.Context, password string) error
	Certify(ctx context.Context, r *identity.CertificateRequest) (*mls.Credential, error)
	Issuers(ctx context.Context, domain mimi.ProviderDomain) (clientapi.Issuers, error)
	Stock(ctx context.Context) (clientapi.Stock, error)
	AddKeyPackages(ctx context.Context, list []mls.KeyPackage) (clientapi.Stock, error)

	CreateRoom(ctx context.Context, room mimi.RoomURI, r *clientapi.CreateRoomRequest) (*clientapi.CreateRoomResponse, error)
	Rooms(ctx context.Context) ([]clientapi.RoomInfo, error)
	LeaveRoom(ctx context.Context, room mimi.RoomURI, read int64) error
	Connect(ctx context.Context) (Connection, error)

	KeyMaterial(ctx context.Context, target mimi.UserURI, r *mimi.KeyMaterialRequest) (*mimi.KeyMaterialResponse, error)
	Update(ctx context.Context, room mimi.RoomURI, r *mimi.UpdateRequest) (*mimi.UpdateRoomResponse, error)
	SubmitMessage(ctx context.Context, room mimi.RoomURI, r *mimi.SubmitMessageRequest) (*mimi.SubmitMessageResponse, error)
	GroupInfo(ctx context.Context, room mimi.RoomURI, r *mimi.GroupInfoRequest) (*mimi.GroupInfoResponse, error)
	ReportAbuse(ctx context.Context, room mimi.RoomURI, r *mimi.AbuseReport) error
	IdentifierQuery(ctx context.Context, domain mimi.ProviderDomain, r *mimi.IdentifierRequest) (*mimi.IdentifierResponse, error)

	Consents(ctx context.Context) ([]clientapi.Consent, error)
	ReportConsent(ctx context.Context, r clientapi.ConsentReport) error
	ChangeConsent(ctx context.Context, change clientapi.ConsentChange) error
	Profile(ctx context.Context) ([]clientapi.ProfileField, error)
	SetProfileField(ctx context.Context, f clientapi.ProfileField) error
	DropProfileField(ctx context.Context, source uint8, name string) error
	JoinCodes(ctx context.Context, room mimi.RoomURI) ([]clientapi.JoinCode, error)
	CreateJoinCode(ctx context.Context, room mimi.RoomURI, code clientapi.JoinCode) (clientapi.JoinCode, error)
	RevokeJoinCode(ctx context.Context, room mimi.RoomURI, code string) error
	UploadAsset(ctx context.Context, mediaType string, size int64, body io.Reader) (clientapi.Asset, error)
	DownloadAsset(ctx context.Context, room mimi.RoomURI, url string, part clientapi.Range) (io.ReadCloser, error)
	GatewayKeys(ctx context.Context, hub mimi.ProviderDomain) ([]byte, error)
	Relay(ctx context.Context, hub mimi.ProviderDomain, encapsulated []byte) ([]byte, error)
}

// A Connection brings a device its events.
type Connection interface {
	// Next waits for events; it is called in a loop.
	Next(ctx context.Context) ([]clientapi.Event, error)
	// Ack says that everything in room up to seq is stored.
	Ack(ctx context.Context, room mimi.RoomURI, seq int64) error
	// Submit submits a message, with less ado than SubmitMessage.
	Submit(ctx context.Context, room mimi.RoomURI, r *mimi.SubmitMessageRequest) (*mimi.SubmitMessageResponse, error)
	Close() error
}

// Over returns the provider at the other end of an HTTPS client.
func Over(c *clientapi.Client) Provider { return overHTTPS{c} }

type overHTTPS struct{ *clientapi.Client }

func (o overHTTPS) Connect(ctx context.Context) (Connection, error) {
	c, err := o.Client.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return c, nil
}
