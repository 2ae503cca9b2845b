package mimi

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// Every error that crosses the wire as a status comes back as itself.
func TestHTTPStatusInverse(t *testing.T) {
	for _, err := range []error{
		&RefusedError{Refusal: RefusedForbidden, Reason: "r"},
		&RefusedError{Refusal: RefusedNotFound, Reason: "r"},
		&RefusedError{Refusal: RefusedTooLarge, Reason: "r"},
		&RefusedError{Refusal: RefusedTooMany, Reason: "r", RetryAfter: 7 * time.Second},
		&RefusedError{Refusal: RefusedTooMany, Reason: "r"},
		&MalformedError{Err: errors.New("r")},
		&FailedError{Status: 503, RetryAfter: time.Minute, Err: errors.New("r")},
		&FailedError{Status: 500, Err: errors.New("r")},
	} {
		for _, wrapped := range []error{err, fmt.Errorf("deep: %w", err)} {
			status, after := HTTPStatus(wrapped)
			got := ErrorFromStatus(status, after, "r")
			if !reflect.DeepEqual(got, err) {
				t.Errorf("%#v is status %d, which is %#v", err, status, got)
			}
		}
	}
	for _, tt := range []struct {
		err    error
		status int
	}{
		{nil, 200},
		{errors.New("disk is full"), 500},
		{tlspl.Unmarshal(nil, new(UpdateRequest)), 400},
		{&RefusedError{Refusal: 77}, 500},
		{&RefusedError{}, 500},
	} {
		if status, _ := HTTPStatus(tt.err); status != tt.status {
			t.Errorf("%v is status %d, want %d", tt.err, status, tt.status)
		}
	}
	for _, status := range []int{200, 201, 202, 204} {
		if err := ErrorFromStatus(status, 0, ""); err != nil {
			t.Errorf("status %d: %v", status, err)
		}
	}
	for _, status := range []int{0, 100, 301, 302, 401, 405, 409, 418, 500, 502, 504} {
		var failed *FailedError
		if err := ErrorFromStatus(status, 0, ""); !errors.As(err, &failed) || failed.Status != status {
			t.Errorf("status %d: %#v", status, err)
		}
	}
	if err := ErrorFromStatus(400, 0, ""); err.Error() == "" {
		t.Error("no words")
	}
}

func TestResponseErrorsInverse(t *testing.T) {
	refs := []mls.ProposalRef{{1, 2}, {3}}
	for _, err := range []error{
		&EpochError{Current: 9},
		&NotAllowedError{Reason: ReasonPending},
		&InvalidProposalError{Proposals: refs, Reason: "p"},
	} {
		r, ok := UpdateResponse(fmt.Errorf("deep: %w", err))
		if !ok || !reflect.DeepEqual(r.Err(), err) {
			t.Errorf("%#v is %+v, which is %#v", err, r, r.Err())
		}
		if b, e := tlspl.Marshal(r); e != nil {
			t.Errorf("%+v: %v", r, e)
		} else if e := tlspl.Unmarshal(b, new(UpdateRoomResponse)); e != nil {
			t.Errorf("%+v: %v", r, e)
		}
	}
	for _, err := range []error{&EpochError{Current: 9}, &NotAllowedError{}} {
		r, ok := SubmitResponse(fmt.Errorf("deep: %w", err))
		if !ok || !reflect.DeepEqual(r.Err(), err) {
			t.Errorf("%#v is %+v, which is %#v", err, r, r.Err())
		}
	}
	for _, err := range []error{errors.New("x"), &RefusedError{Refusal: RefusedNotFound}, nil} {
		if r, ok := UpdateResponse(err); ok {
			t.Errorf("%v is %+v", err, r)
		}
		if r, ok := SubmitResponse(err); ok {
			t.Errorf("%v is %+v", err, r)
		}
	}
	if _, ok := SubmitResponse(&InvalidProposalError{}); ok {
		t.Error("a message has no proposals")
	}
	if err := (&UpdateRoomResponse{}).Err(); err != nil {
		t.Error(err)
	}
	if err := (&SubmitMessageResponse{}).Err(); err != nil {
		t.Error(err)
	}
	for code := range KeyMaterialUserCode(10) {
		r := KeyMaterialResponse{UserStatus: code}
		if got, want := r.Err() == nil, code < 2; got != want {
			t.Errorf("%v is success: %v", code, got)
		}
	}
	if (&GroupInfoResponse{}).Err() == nil || (&GroupInfoResponse{Status: GroupInfoSuccess}).Err() != nil {
		t.Error("group info codes are mixed up")
	}
}

func TestAssetPolicy(t *testing.T) {
	p := AssetPolicy{
		AssetUploadLocation: UploadLocalProvider,
		UploadDomains: []ProviderAssetUploadDomains{
			{"b.example", []ProviderDomain{"assets.b.example"}}, {"a.example", []ProviderDomain{"cdn.a.example"}}},
		ForbiddenMediaTypes: []mls.MediaType{{Type: []byte("image/svg+xml")}},
		PermittedMediaTypes: []mls.MediaType{{Type: []byte("image/png")}, {Type: []byte("image/svg+xml")}, {Type: []byte("text/plain"), Parameters: []mls.Parameter{{ParameterName: []byte("charset"), ParameterValue: []byte("utf-8")}}}},
	}
	for _, tt := range []struct {
		location          AssetUploadLocation
		host, sender, hub ProviderDomain
		want              bool
	}{
		{UploadLocalProvider, "assets.b.example", "b.example", "a.example", true},
		{UploadLocalProvider, "cdn.a.example", "b.example", "a.example", false},
		{UploadLocalProvider, "x.assets.b.example", "b.example", "a.example", false},
		{UploadLocalProvider, "assets.b.example", "c.example", "a.example", false},
		{UploadHub, "cdn.a.example", "b.example", "a.example", true},
		{UploadHub, "assets.b.example", "b.example", "a.example", false},
		{UploadUnspecified, "anywhere.example", "b.example", "a.example", true},
	} {
		p.AssetUploadLocation = tt.location
		if got := p.AllowsHost(tt.host, tt.sender, tt.hub); got != tt.want {
			t.Errorf("%v: %s of %s in %s: %v", tt.location, tt.host, tt.sender, tt.hub, got)
		}
	}
	utf8 := []mls.Parameter{{ParameterName: []byte("Charset"), ParameterValue: []byte("utf-8")}}
	for _, tt := range []struct {
		t    mls.MediaType
		want bool
	}{
		{mls.MediaType{Type: []byte("image/png")}, true},
		{mls.MediaType{Type: []byte("IMAGE/PNG"), Parameters: utf8}, true},
		{mls.MediaType{Type: []byte("image/svg+xml")}, false},
		{mls.MediaType{Type: []byte("image/gif")}, false},
		{mls.MediaType{Type: []byte("text/plain")}, false},
		{mls.MediaType{Type: []byte("text/plain"), Parameters: utf8}, true},
	} {
		if got := p.AllowsMediaType(&tt.t); got != tt.want {
			t.Errorf("%s: %v", tt.t.Type, got)
		}
	}
	p.PermittedMediaTypes = nil
	if !p.AllowsMediaType(&mls.MediaType{Type: []byte("image/gif")}) {
		t.Error("an empty list permits nothing")
	}
	d := DownloadPrivacy{AllowedDownloadTypes: []DownloadPrivacyType{DownloadOHTTP}, ForbiddenDownloadTypes: []DownloadPrivacyType{DownloadDirect}}
	if !d.AllowsDownload(DownloadOHTTP) || d.AllowsDownload(DownloadDirect) || d.AllowsDownload(DownloadHubProxy) {
		t.Error("download types are mixed up")
	}
	if d := (DownloadPrivacy{}); !d.AllowsDownload(DownloadDirect) {
		t.Error("no policy allows nothing")
	}
}

func TestJoinLinksApply(t *testing.T) {
	d := JoinLinksData{[]JoinLink{[]byte("a"), []byte("b"), []byte("c")}}
	got, err := d.Apply([]JoinLinksUpdate{
		{RemovedIndices: []uint32{2}, AddedLinks: []JoinLink{[]byte("d")}},
		{RemovedIndices: []uint32{0}, AddedLinks: []JoinLink{[]byte("e")}},
	})
	if s := fmt.Sprintf("%s", got.Links); err != nil || s != "[b d e]" {
		t.Errorf("%s, %v", s, err)
	}
	if s := fmt.Sprintf("%s", d.Links); s != "[a b c]" {
		t.Errorf("the links before changed: %s", s)
	}
	for _, u := range [][]JoinLinksUpdate{
		{{RemovedIndices: []uint32{3}}},
		{{RemovedIndices: []uint32{1, 1}}},
		{{RemovedIndices: []uint32{1}}, {RemovedIndices: []uint32{1}}},
	} {
		if _, err := d.Apply(u); !errors.Is(err, ErrJoinLinkIndex) {
			t.Errorf("%v: %v", u, err)
		}
	}
}

func TestPolicyValidate(t *testing.T) {
	for _, tt := range []struct {
		p  BaseRoomPolicy
		ok bool
	}{
		{BaseRoomPolicy{}, true},
		{BaseRoomPolicy{ParentDependant: true, ParentRoom: "mimi://a.example/r/x"}, true},
		{BaseRoomPolicy{ParentDependant: true}, false},
		{BaseRoomPolicy{ParentRoom: "mimi://a.example/r/x"}, false},
		{BaseRoomPolicy{ParentDependant: true, ParentRoom: "mimi://b.example/r/x"}, false},
	} {
		if err := tt.p.Validate("a.example"); (err == nil) != tt.ok {
			t.Errorf("%+v: %v", tt.p, err)
		}
	}
	if (&LinkPreviewPolicy{AutodetectHyperlinksInText: Required}).Validate() == nil || (&LinkPreviewPolicy{}).Validate() != nil {
		t.Error("autodetect_hyperlinks_in_text is not checked")
	}
}

func TestComponents(t *testing.T) {
	permanent := 0
	for id := range mls.ComponentID(0x40) {
		data, update := NewComponentData(id), NewComponentUpdate(id)
		if (data == nil) != (update == nil) {
			t.Errorf("%s has data %v, update %v", ComponentName(id), data, update)
		}
		if known := id >= 0x21 && id <= 0x30; known != (data != nil) {
			t.Errorf("component %04x: %T", id, data)
		}
		if own := reflect.TypeOf(data) != reflect.TypeOf(update); own != (id == ComponentParticipantList || id == ComponentJoinLinks) {
			t.Errorf("%s is updated by %T", ComponentName(id), update)
		}
		if PermanentComponent(id) {
			permanent++
		}
	}
	if permanent != 4 || !PermanentComponent(ComponentParticipantList) || PermanentComponent(ComponentFrankingAgent) {
		t.Errorf("%d permanent components, want 4 (Decision 83)", permanent)
	}
	if s := ComponentName(ComponentBotPolicy); s != "bot_policy" {
		t.Error(s)
	}
	if s := ComponentName(0xFF00); s != "0xff00" {
		t.Error(s)
	}
}
