package account

import (
	"context"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"

	"github.com/comity-im/comity/clientapi"
	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/store"
)

// Attributes are what the provider's operator vouches for of a user. They go
// into the subject of its certificates, where rooms may preauthorize by them.
type Attributes struct {
	CommonName         string   `json:"common_name,omitempty"`
	Organization       []string `json:"organization,omitempty"`
	OrganizationalUnit []string `json:"organizational_unit,omitempty"`
	Country            []string `json:"country,omitempty"`
	Locality           []string `json:"locality,omitempty"`
}

// Subject returns the attributes of a user for a certificate.
func (a *Accounts) Subject(ctx context.Context, user mimi.UserURI) (pkix.Name, error) {
	at, err := a.Attributes(ctx, user)
	return pkix.Name{
		CommonName: at.CommonName, Organization: at.Organization, OrganizationalUnit: at.OrganizationalUnit, Country: at.Country, Locality: at.Locality,
	}, err
}

// Attributes returns what is vouched for of a user.
func (a *Accounts) Attributes(ctx context.Context, user mimi.UserURI) (at Attributes, err error) {
	var u store.User
	err = a.cfg.Store.View(ctx, func(tx *store.Tx) (err error) {
		u, err = tx.User(string(user))
		return err
	})
	if err != nil || len(u.Settings) == 0 {
		return at, err
	}
	return at, json.Unmarshal(u.Settings, &at)
}

// SetAttributes replaces what is vouched for of a user. Certificates that were
// issued before keep what they say.
func (a *Accounts) SetAttributes(ctx context.Context, user mimi.UserURI, at Attributes) error {
	b, err := json.Marshal(at)
	if err != nil {
		return err
	}
	err = a.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		u, err := tx.User(string(user))
		if err != nil {
			return err
		}
		u.Settings = b
		return tx.UpdateUser(u)
	})
	if errors.Is(err, store.ErrNotFound) {
		return clientapi.Errorf(clientapi.CodeNotFound, "there is no user %s", user)
	}
	return err
}
