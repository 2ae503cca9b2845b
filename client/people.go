package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mimi/content"
)

// Consents lists where the user stands with others.
func (c *Client) Consents(ctx context.Context) ([]clientapi.Consent, error) {
	return c.provider.Consents(ctx)
}

// ChangeConsent requests, cancels, grants or revokes consent (MIMI protocol §5.7).
func (c *Client) ChangeConsent(ctx context.Context, change clientapi.ConsentChange) error {
	return c.provider.ChangeConsent(ctx, change)
}

// ReportConsent reports an unwanted request for consent to the user's own provider.
func (c *Client) ReportConsent(ctx context.Context, report clientapi.ConsentReport) error {
	return c.provider.ReportConsent(ctx, report)
}

// Find looks for users of a provider who meet all conditions (MIMI protocol §5.8).
func (c *Client) Find(ctx context.Context, domain mimi.ProviderDomain, conditions ...mimi.QueryElement) (*mimi.IdentifierResponse, error) {
	return c.provider.IdentifierQuery(ctx, domain, &mimi.IdentifierRequest{QueryElements: conditions})
}

// Profile lists what the user says of themselves, and who may use it.
func (c *Client) Profile(ctx context.Context) ([]clientapi.ProfileField, error) {
	return c.provider.Profile(ctx)
}

// SetProfileField says something of the user.
func (c *Client) SetProfileField(ctx context.Context, f clientapi.ProfileField) error {
	return c.provider.SetProfileField(ctx, f)
}

// DropProfileField takes it back.
func (c *Client) DropProfileField(ctx context.Context, source uint8, name string) error {
	return c.provider.DropProfileField(ctx, source, name)
}

// ReportAbuse reports messages of one user to the room's hub, with the hub's
// franks that prove them (MIMI protocol §5.9). A message whose frank proves
// nothing can't be reported.
func (c *Client) ReportAbuse(ctx context.Context, uri mimi.RoomURI, note string, ids ...content.MessageID) error {
	report, err := c.abuseReport(ctx, uri, note, ids)
	if err != nil {
		return err
	}
	return c.provider.ReportAbuse(ctx, uri, report)
}

func (c *Client) abuseReport(ctx context.Context, uri mimi.RoomURI, note string, ids []content.MessageID) (*mimi.AbuseReport, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rooms[uri]
	if r == nil {
		return nil, &NoRoomError{Room: uri}
	}
	if len(ids) == 0 {
		return nil, errors.New("client: name the messages to report")
	}
	report := &mimi.AbuseReport{ReportingUser: c.self.user, ReasonCode: mimi.AbuseUnspecified, Note: note}
	err := c.store.View(ctx, func(tx Tx) error {
		for _, id := range ids {
			rec, k, err := c.recordOf(tx, r, id)
			if err != nil {
				return err
			}
			switch {
			case rec == nil:
				return &NoMessageError{uri, id}
			case rec.frank == nil || rec.marks != 0:
				return fmt.Errorf("client: message %s can't be reported: its hub does not vouch for it", id)
			case report.AllegedAbuserURI != "" && report.AllegedAbuserURI != rec.sender:
				return errors.New("client: one report is about one user")
			}
			report.AllegedAbuserURI = rec.sender
			report.Messages = append(report.Messages, mimi.AbusiveMessage{MessageContent: rec.data, Frank: *rec.frank, AcceptedTimestamp: timeOf(k)})
		}
		return nil
	})
	return report, err
}
