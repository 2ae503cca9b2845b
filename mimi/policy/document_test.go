package policy

import (
	"encoding/asn1"
	"strings"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// everything is a room that has every component, with something in every list.
func everything(t *testing.T) *Components {
	c, _, err := Build(Moderated, testParams)
	if err != nil {
		t.Fatal(err)
	}
	department, err := asn1.Marshal(asn1.ObjectIdentifier{2, 5, 4, 11})
	if err != nil {
		t.Fatal(err)
	}
	c.Preauth = &mimi.PreAuthData{PreauthorizedEntries: []mimi.PreAuthRoleEntry{{
		Claimset:   []mimi.Claim{{ClaimID: mimi.ClaimID{CredentialType: mls.CredentialX509, ID: department}, ClaimValue: []byte("HR")}},
		TargetRole: c.Roles.Roles[2],
	}}}
	c.LinkPreview = &mimi.LinkPreviewPolicy{LinkPreviewProxy: "https://p.example", SendLinkPreviews: mimi.Forbidden}
	c.History = &mimi.HistoryPolicy{RolesThatCanShare: []RoleIndex{2, 3}, MaxTimePeriod: 60}
	c.Logging = &mimi.LoggingPolicy{LoggingClients: []mimi.URI{"mimi://a.example/d/log"}}
	c.JoinLinkPolicy = &mimi.JoinLinkPolicy{Expiration: 5}
	c.Bots = &mimi.BotPolicy{AllowedBots: []mimi.Bot{{Name: "poker", Homepage: "https://poker.example", PerUserContent: true}}}
	c.Expiration = &mimi.MessageExpiration{MaxExpirationDuration: 9, DefaultExpirationDuration: ptr(uint32(3))}
	c.Assets = &mimi.AssetPolicy{
		UploadDomains:       []mimi.ProviderAssetUploadDomains{{Provider: "a.example", AssetUploadDestinations: []mimi.ProviderDomain{"files.a.example"}}},
		DownloadPrivacy:     mimi.DownloadPrivacy{ForbiddenDownloadTypes: []mimi.DownloadPrivacyType{mimi.DownloadDirect}},
		ForbiddenMediaTypes: []mls.MediaType{{Type: []byte("image/svg+xml"), Parameters: []mls.Parameter{{ParameterName: []byte("charset"), ParameterValue: []byte("utf-8")}}}},
	}
	c.Operational.PendingProposalPolicy = mimi.PendingProposalPolicy{PendingProposalStrategy: mimi.PendingImmediateCommit}
	return c
}

// A component comes back from its document as it was, to the octet.
func TestDocumentRoundTrip(t *testing.T) {
	c := everything(t)
	for _, name := range Documents() {
		document, err := c.Document(name)
		if err != nil || document == nil {
			t.Fatalf("%s: %s, %v", name, document, err)
		}
		id, data, err := c.Replace(name, document)
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, document)
			continue
		}
		if got, want := mustMarshal(t, data), mustMarshal(t, c.Data(id)); string(got) != string(want) {
			t.Errorf("%s:\n%x, want\n%x\n%s", name, got, want, document)
		}
		next := &Components{}
		next.Put(data)
		if again, err := next.Document(name); err != nil || string(again) != string(document) {
			t.Errorf("%s is put elsewhere: %s, %v", name, again, err)
		}
	}
	for name, want := range map[string]string{
		"roles_list": `"canSendMessage"`, "preauth_list": `"hex:060355040b"`, "bot_policy": `"per_user_content": true`,
		"mls_operational_policy": `"max_kp_lifetime"`, "base_room_policy": `"policy_component_ids"`, "asset_policy": `"hubProxy"`,
	} {
		if name == "asset_policy" {
			c.Assets.DownloadPrivacy.DefaultDownloadType = mimi.DownloadHubProxy
		}
		if document, err := c.Document(name); err != nil || !strings.Contains(string(document), want) {
			t.Errorf("%s lacks %s: %s", name, want, document)
		}
	}
	if document, err := (&Components{}).Document("bot_policy"); document != nil || err != nil {
		t.Errorf("a component that is not there: %s, %v", document, err)
	}
}

func TestReplaceRefuses(t *testing.T) {
	c := everything(t)
	for _, test := range []struct{ name, document, wants string }{
		{"party", "{}", "no component"},
		{"bot_policy", "{", "EOF"},
		{"bot_policy", "{} {}", "more than one"},
		{"bot_policy", "[]", "not an object"},
		{"bot_policy", `{"allowed_bots":3}`, "not a list"},
		{"bot_policy", `{"allowed_bots":[{"nmae":"x"}]}`, `allowed_bots[0]: there is no field "nmae"`},
		{"bot_policy", `{"allowed_bots":[{"name":3}]}`, "allowed_bots[0].name: 3 is not a text"},
		{"bot_policy", `{"allowed_bots":[{"bot_role_index":-1}]}`, "not a number from 0 to 4294967295"},
		{"bot_policy", `{"allowed_bots":[{"bot_role_index":"x"}]}`, "not a number"},
		{"bot_policy", `{"allowed_bots":[{"local_client_bot":1}]}`, "not true or false"},
		{"base_room_policy", `{"parent_room":"https://elsewhere"}`, "policy: base_room_policy"},
		{"roles_list", `{"roles":[{"role_capabilities":["canFly"]}]}`, "not a capability"},
		{"preauth_list", `{"preauthorized_entries":[{"claimset":[{"claim_value":"hex:0"}]}]}`, "hexadecimal"},
		{"preauth_list", `{"preauthorized_entries":[{"claimset":[{"claim_value":7}]}]}`, "not a text"},
		{"status_notification_policy", `{"read_receipts":"sometimes"}`, "optional, required, forbidden"},
	} {
		if _, _, err := c.Replace(test.name, []byte(test.document)); err == nil || !strings.Contains(err.Error(), test.wants) {
			t.Errorf("%s = %s: %v", test.name, test.document, err)
		}
	}
	_, data, err := c.Replace("roles_list", []byte(`{"roles":[{"role_index":4,"role_name":"x","role_capabilities":["canSendMessage",65535],"maximum_participants_constraint":null}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if r := data.(*mimi.RoleData).Roles[0]; r.RoleIndex != 4 || len(r.RoleCapabilities) != 2 || r.RoleCapabilities[1] != 65535 || r.MaximumParticipantsConstraint != nil {
		t.Errorf("%+v", r)
	}
}
