package mimi

import (
	"encoding/json"
	"fmt"
)

// DirectoryPath is where a provider serves its directory, over https on its own
// domain, as application/json (MIMI protocol §5.1, Decision 4).
const DirectoryPath = "/.well-known/mimi-protocol-directory"

// A Directory says at which URLs a provider serves the endpoints of the
// protocol (MIMI protocol §5.1). An empty template is an endpoint that is not
// offered.
type Directory struct {
	KeyMaterial     Template `json:"keyMaterial,omitempty"`
	Update          Template `json:"update,omitempty"`
	Notify          Template `json:"notify,omitempty"`
	SubmitMessage   Template `json:"submitMessage,omitempty"`
	GroupInfo       Template `json:"groupInfo,omitempty"`
	RequestConsent  Template `json:"requestConsent,omitempty"`
	UpdateConsent   Template `json:"updateConsent,omitempty"`
	IdentifierQuery Template `json:"identifierQuery,omitempty"`
	ReportAbuse     Template `json:"reportAbuse,omitempty"`
	ProxyDownload   Template `json:"proxyDownload,omitempty"`

	// Issuers is the URL of the provider's credential issuers, a key of ours
	// that others ignore (docs/design/identity.md).
	Issuers Template `json:"comityIssuers,omitempty"`
	// Gone takes a GoneNotice, a key of ours too.
	Gone Template `json:"comityGone,omitempty"`
}

// NewDirectory returns the directory of a provider that serves every endpoint
// below base, an https URL without a trailing slash such as
// https://mimi.a.example/v1, with the paths of MIMI protocol §5.1.
func NewDirectory(base string) (Directory, error) {
	d := Directory{
		KeyMaterial:     Template(base + "/keyMaterial/{targetUser}"),
		Update:          Template(base + "/update/{roomId}"),
		Notify:          Template(base + "/notify/{roomId}"),
		SubmitMessage:   Template(base + "/submitMessage/{roomId}"),
		GroupInfo:       Template(base + "/groupInfo/{roomId}"),
		RequestConsent:  Template(base + "/requestConsent/{targetUser}"),
		UpdateConsent:   Template(base + "/updateConsent/{requesterUser}"),
		IdentifierQuery: Template(base + "/identifierQuery/{domain}"),
		ReportAbuse:     Template(base + "/reportAbuse/{roomId}"),
		ProxyDownload:   Template(base + "/proxyDownload/{downloadUrl}"),
		Issuers:         Template(base + "/issuers"),
		Gone:            Template(base + "/gone/{roomId}"),
	}
	return d, d.Validate()
}

// Endpoints returns the directory's keys with their templates, in the order of
// MIMI protocol §5.1.
func (d *Directory) Endpoints() []Endpoint {
	return []Endpoint{
		{"keyMaterial", d.KeyMaterial},
		{"update", d.Update},
		{"notify", d.Notify},
		{"submitMessage", d.SubmitMessage},
		{"groupInfo", d.GroupInfo},
		{"requestConsent", d.RequestConsent},
		{"updateConsent", d.UpdateConsent},
		{"identifierQuery", d.IdentifierQuery},
		{"reportAbuse", d.ReportAbuse},
		{"proxyDownload", d.ProxyDownload},
		{"comityIssuers", d.Issuers},
		{GoneKey, d.Gone},
	}
}

// An Endpoint is one entry of a directory.
type Endpoint struct {
	Key      string
	Template Template
}

// Validate reports the first endpoint whose template can't be used, as a
// *TemplateError in an error that names the key.
func (d *Directory) Validate() error {
	for _, e := range d.Endpoints() {
		if e.Template == "" {
			continue
		}
		if _, err := ParseTemplate(string(e.Template)); err != nil {
			return fmt.Errorf("mimi: directory key %s: %w", e.Key, err)
		}
	}
	return nil
}

// ParseDirectory decodes a directory document. Keys that it does not know are
// ignored; a template that can't be used makes the document malformed.
func ParseDirectory(b []byte) (Directory, error) {
	var d Directory
	if err := json.Unmarshal(b, &d); err != nil {
		return Directory{}, fmt.Errorf("mimi: directory: %w", err)
	}
	if err := d.Validate(); err != nil {
		return Directory{}, err
	}
	return d, nil
}

// Marshal encodes the directory document as JSON.
func (d *Directory) Marshal() ([]byte, error) { return json.MarshalIndent(d, "", "  ") }
