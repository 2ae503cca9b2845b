package clientapi

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"

	"github.com/comity-im/comity/identity"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// A ClientConfig configures a Client.
type ClientConfig struct {
	// URL of the provider's client address, such as https://a.example:8443.
	URL string
	// Token of the session, once there is one.
	Token string
	// Roots that vouch for the provider's certificate; nil means the system's.
	Roots *x509.CertPool
	// ServerName is the name in the provider's certificate; empty means the
	// host of URL.
	ServerName string
	// Dial makes connections in place of a net.Dialer, such as from a certain
	// address; nil means the default.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// A Client speaks to a provider. It is safe for concurrent use.
type Client struct {
	base  string
	token string
	http  *http.Client
}

// NewClient returns a Client. It does not connect yet.
func NewClient(cfg ClientConfig) (*Client, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, Errorf(CodeBadRequest, "the provider's address %q is not of the form https://host:port", cfg.URL)
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: cfg.Roots, ServerName: cfg.ServerName, MinVersion: tls.VersionTLS13}
	t.ForceAttemptHTTP2 = true
	t.MaxIdleConnsPerHost = 16
	if cfg.Dial != nil {
		t.DialContext = cfg.Dial
	}
	return &Client{base: strings.TrimSuffix(u.String(), "/") + Prefix, token: cfg.Token, http: &http.Client{Transport: t}}, nil
}

// WithToken returns a Client with the session of a token, sharing connections
// with c.
func (c *Client) WithToken(token string) *Client {
	return &Client{base: c.base, token: token, http: c.http}
}

// Token is the session's; empty: none.
func (c *Client) Token() string { return c.token }

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// do sends a request and returns its answer's body if the status is 2xx.
func (c *Client) do(ctx context.Context, method, path, kind string, body io.Reader, set func(*http.Request)) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	otel.GetTextMapPropagator().Inject(ctx, propagation.HeaderCarrier(r.Header))
	if set != nil {
		set(r)
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, unreachable(ctx, c.base, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	return nil, responseError(resp)
}

// unreachable says in words why a connection failed.
func unreachable(ctx context.Context, base string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	host := strings.TrimSuffix(base, Prefix)
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &dns):
		return Errorf(CodeUnreachable, "there is no host %s: check the provider's address", dns.Name)
	case errors.As(err, &unknown):
		return Errorf(CodeUnreachable, "%s: its certificate is from an authority that isn't trusted here; name the authority's file with --ca", host)
	case errors.As(err, &name), errors.As(err, &invalid):
		return Errorf(CodeUnreachable, "%s: its certificate is not valid: %v", host, err)
	}
	return Errorf(CodeUnreachable, "%s doesn't answer: %v", host, errors.Unwrap(err))
}

func responseError(resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, MaxJSON))
	e := &Error{}
	if json.Unmarshal(b, e) != nil || statuses[e.Code] == 0 {
		e = Errorf(CodeFailed, "the provider answered %s: %s", resp.Status, strings.TrimSpace(string(b)))
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s >= 0 {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	return e
}

// json sends a JSON request and decodes the JSON answer into out.
func (c *Client) json(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	kind := ""
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body, kind = bytes.NewReader(b), "application/json"
	}
	return c.answer(out)(c.do(ctx, method, path, kind, body, nil))
}

func (c *Client) answer(out any) func(io.ReadCloser, error) error {
	return func(body io.ReadCloser, err error) error {
		if err != nil {
			return err
		}
		defer body.Close()
		if out == nil {
			return nil
		}
		if err := json.NewDecoder(io.LimitReader(body, MaxUpdate)).Decode(out); err != nil {
			return fmt.Errorf("clientapi: the provider's answer can't be read: %w", err)
		}
		return nil
	}
}

// post sends a TLS-encoded request and decodes the answer into out.
func (c *Client) post(ctx context.Context, path string, in, out tlspl.Coder) error {
	b, err := tlspl.Marshal(in)
	if err != nil {
		return err
	}
	body, err := c.do(ctx, http.MethodPost, path, "application/octet-stream", bytes.NewReader(b), nil)
	if err != nil {
		return err
	}
	defer body.Close()
	if out == nil {
		return nil
	}
	if b, err = io.ReadAll(io.LimitReader(body, MaxUpdate+1)); err != nil {
		return unreachable(ctx, c.base, err)
	}
	if err := tlspl.UnmarshalAlias(b, out); err != nil {
		return fmt.Errorf("clientapi: the provider's answer can't be read: %w", err)
	}
	return nil
}

// Info returns what anybody may know about the provider.
func (c *Client) Info(ctx context.Context) (v Info, err error) {
	return v, c.json(ctx, http.MethodGet, "info", nil, &v)
}

// Register creates an account with its first device.
func (c *Client) Register(ctx context.Context, l Login) (v Session, err error) {
	return v, c.json(ctx, http.MethodPost, "register", l, &v)
}

// Login adds a device to an account.
func (c *Client) Login(ctx context.Context, l Login) (v Session, err error) {
	return v, c.json(ctx, http.MethodPost, "login", l, &v)
}

// Devices lists the user's devices.
func (c *Client) Devices(ctx context.Context) (v []DeviceInfo, err error) {
	return v, c.json(ctx, http.MethodGet, "devices", nil, &v)
}

// RemoveDevice ends the session of one of the user's devices.
func (c *Client) RemoveDevice(ctx context.Context, client mimi.ClientURI) error {
	return c.json(ctx, http.MethodDelete, "devices/"+mimi.Escape(string(client)), nil, nil)
}

// CheckPassword is a CodeUnauthorized error if it is not the user's password.
func (c *Client) CheckPassword(ctx context.Context, password string) error {
	return c.json(ctx, http.MethodPost, "account", Login{Password: password}, nil)
}

// DeleteAccount deletes the user.
func (c *Client) DeleteAccount(ctx context.Context, password string) error {
	return c.json(ctx, http.MethodDelete, "account", Login{Password: password}, nil)
}

// Certify gets the credential of a signature key.
func (c *Client) Certify(ctx context.Context, r *identity.CertificateRequest) (*mls.Credential, error) {
	v := new(mls.Credential)
	return v, c.post(ctx, "certificate", r, v)
}

// Issuers returns the roots that may issue credentials for a domain.
func (c *Client) Issuers(ctx context.Context, domain mimi.ProviderDomain) (v Issuers, err error) {
	return v, c.json(ctx, http.MethodGet, "issuers/"+string(domain), nil, &v)
}

// Stock tells how many KeyPackages of this device are left.
func (c *Client) Stock(ctx context.Context) (v Stock, err error) {
	return v, c.json(ctx, http.MethodGet, "keyPackages", nil, &v)
}

// AddKeyPackages puts KeyPackages into this device's stock.
func (c *Client) AddKeyPackages(ctx context.Context, list []mls.KeyPackage) (v Stock, err error) {
	b, err := tlspl.Marshal(&keyPackages{list})
	if err != nil {
		return v, err
	}
	return v, c.answer(&v)(c.do(ctx, http.MethodPost, "keyPackages", "application/octet-stream", bytes.NewReader(b), nil))
}

// CreateRoom founds a room at this provider.
func (c *Client) CreateRoom(ctx context.Context, room mimi.RoomURI, r *CreateRoomRequest) (*CreateRoomResponse, error) {
	v := new(CreateRoomResponse)
	return v, c.post(ctx, "rooms/"+mimi.Escape(string(room)), r, v)
}

// Rooms lists where this device stands in its rooms.
func (c *Client) Rooms(ctx context.Context) (v []RoomInfo, err error) {
	return v, c.json(ctx, http.MethodGet, "rooms", nil, &v)
}

// LeaveRoom says that this device wants no more events of a room; see [Service].
func (c *Client) LeaveRoom(ctx context.Context, room mimi.RoomURI, read int64) error {
	path := "rooms/" + mimi.Escape(string(room))
	if read != 0 {
		path += "?read=" + strconv.FormatInt(read, 10)
	}
	return c.json(ctx, http.MethodDelete, path, nil, nil)
}

// KeyMaterial claims KeyPackages of a user (MIMI protocol §5.2).
func (c *Client) KeyMaterial(ctx context.Context, target mimi.UserURI, r *mimi.KeyMaterialRequest) (*mimi.KeyMaterialResponse, error) {
	v := new(mimi.KeyMaterialResponse)
	return v, c.post(ctx, "keyMaterial/"+mimi.Escape(string(target)), r, v)
}

// Update submits a handshake (MIMI protocol §5.3).
func (c *Client) Update(ctx context.Context, room mimi.RoomURI, r *mimi.UpdateRequest) (*mimi.UpdateRoomResponse, error) {
	v := new(mimi.UpdateRoomResponse)
	return v, c.post(ctx, "update/"+mimi.Escape(string(room)), r, v)
}

// SubmitMessage submits an application message (MIMI protocol §5.4).
func (c *Client) SubmitMessage(ctx context.Context, room mimi.RoomURI, r *mimi.SubmitMessageRequest) (*mimi.SubmitMessageResponse, error) {
	v := new(mimi.SubmitMessageResponse)
	return v, c.post(ctx, "submitMessage/"+mimi.Escape(string(room)), r, v)
}

// GroupInfo asks for what an external commit needs (MIMI protocol §5.6).
func (c *Client) GroupInfo(ctx context.Context, room mimi.RoomURI, r *mimi.GroupInfoRequest) (*mimi.GroupInfoResponse, error) {
	v := new(mimi.GroupInfoResponse)
	return v, c.post(ctx, "groupInfo/"+mimi.Escape(string(room)), r, v)
}

// ReportAbuse reports messages of a room (MIMI protocol §5.9).
func (c *Client) ReportAbuse(ctx context.Context, room mimi.RoomURI, r *mimi.AbuseReport) error {
	return c.post(ctx, "reportAbuse/"+mimi.Escape(string(room)), r, nil)
}

// IdentifierQuery looks for users of a provider (MIMI protocol §5.8).
func (c *Client) IdentifierQuery(ctx context.Context, domain mimi.ProviderDomain, r *mimi.IdentifierRequest) (*mimi.IdentifierResponse, error) {
	v := new(mimi.IdentifierResponse)
	return v, c.post(ctx, "identifierQuery/"+string(domain), r, v)
}

// Consents lists where the user stands with others.
func (c *Client) Consents(ctx context.Context) (v []Consent, err error) {
	return v, c.json(ctx, http.MethodGet, "consents", nil, &v)
}

// ChangeConsent requests, cancels, grants or revokes.
func (c *Client) ChangeConsent(ctx context.Context, change ConsentChange) error {
	return c.json(ctx, http.MethodPost, "consents", change, nil)
}

// ReportConsent reports a request for consent that the user did not want, to its
// own provider.
func (c *Client) ReportConsent(ctx context.Context, r ConsentReport) error {
	return c.json(ctx, http.MethodPost, "consents/report", r, nil)
}

// Profile lists the user's profile fields.
func (c *Client) Profile(ctx context.Context) (v []ProfileField, err error) {
	return v, c.json(ctx, http.MethodGet, "profile", nil, &v)
}

// SetProfileField stores one.
func (c *Client) SetProfileField(ctx context.Context, f ProfileField) error {
	return c.json(ctx, http.MethodPost, "profile", f, nil)
}

// DropProfileField removes one.
func (c *Client) DropProfileField(ctx context.Context, source uint8, name string) error {
	return c.json(ctx, http.MethodDelete, fmt.Sprintf("profile/%d/%s", source, mimi.Escape(name)), nil, nil)
}

// JoinCodes lists a room's joining codes.
func (c *Client) JoinCodes(ctx context.Context, room mimi.RoomURI) (v []JoinCode, err error) {
	return v, c.json(ctx, http.MethodGet, "joinCodes/"+mimi.Escape(string(room)), nil, &v)
}

// CreateJoinCode makes one; an empty Code lets the provider choose it.
func (c *Client) CreateJoinCode(ctx context.Context, room mimi.RoomURI, code JoinCode) (v JoinCode, err error) {
	return v, c.json(ctx, http.MethodPost, "joinCodes/"+mimi.Escape(string(room)), code, &v)
}

// RevokeJoinCode removes one.
func (c *Client) RevokeJoinCode(ctx context.Context, room mimi.RoomURI, code string) error {
	return c.json(ctx, http.MethodDelete, "joinCodes/"+mimi.Escape(string(room))+"/"+mimi.Escape(code), nil, nil)
}

// UploadAsset uploads size octets.
func (c *Client) UploadAsset(ctx context.Context, mediaType string, size int64, body io.Reader) (v Asset, err error) {
	return v, c.answer(&v)(c.do(ctx, http.MethodPost, "assets", mediaType, body, func(r *http.Request) { r.ContentLength = size }))
}

// DownloadAsset fetches what a message of a room links to, as the room's policy
// says it is to be fetched.
func (c *Client) DownloadAsset(ctx context.Context, room mimi.RoomURI, url string, part Range) (io.ReadCloser, error) {
	return c.do(ctx, http.MethodGet, "assets/"+mimi.Escape(string(room))+"/"+mimi.Escape(url), "", nil, func(r *http.Request) {
		if part != (Range{}) {
			r.Header.Set("Range", part.header())
		}
	})
}

// GatewayKeys returns the OHTTP key configurations of a hub.
func (c *Client) GatewayKeys(ctx context.Context, hub mimi.ProviderDomain) ([]byte, error) {
	return c.bytes(c.do(ctx, http.MethodGet, "relay/"+string(hub), "", nil, nil))
}

// Relay sends an encapsulated request to a hub's OHTTP gateway.
func (c *Client) Relay(ctx context.Context, hub mimi.ProviderDomain, encapsulated []byte) ([]byte, error) {
	return c.bytes(c.do(ctx, http.MethodPost, "relay/"+string(hub), "message/ohttp-req", bytes.NewReader(encapsulated), nil))
}

func (c *Client) bytes(body io.ReadCloser, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(io.LimitReader(body, MaxUpdate))
}
