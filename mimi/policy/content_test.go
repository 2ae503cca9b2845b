package policy

import (
	"strings"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
)

// What a client refuses to send, and marks when it receives it, in the moderated room: role 2 guest, 3 attendee, 4 speaker,
// 5 moderator.
func TestJudgeContent(t *testing.T) {
	png := mls.MediaType{Type: []byte("image/png")}
	exe := mls.MediaType{Type: []byte("application/x-msdownload")}
	p := &ContentPolicy{
		Roles: moderatedRoom(t).roles, Hub: "a.example",
		Status:      &mimi.StatusNotificationPolicy{ReadReceipts: mimi.Forbidden},
		LinkPreview: &mimi.LinkPreviewPolicy{SendLinkPreviews: mimi.Forbidden},
		Assets: &mimi.AssetPolicy{MaxImage: 1000, MaxAudio: 0, MaxVideo: mimi.NoAssetLimit, MaxAttachment: 10, ForbiddenMediaTypes: []mls.MediaType{exe},
			AssetUploadLocation: mimi.UploadLocalProvider, UploadDomains: []mimi.ProviderAssetUploadDomains{{Provider: "b.example", AssetUploadDestinations: []mimi.ProviderDomain{"files.b.example"}}}},
		Expiration: &mimi.MessageExpiration{ExpiringMessages: mimi.Optional, MinExpirationDuration: 60, MaxExpirationDuration: 3600},
	}
	bob := mimi.UserURI("mimi://b.example/u/bob")
	for _, test := range []struct {
		name string
		role RoleIndex
		m    Message
		want string
	}{
		{"a guest reacts", 2, Message{Act: React}, ""},
		{"a guest speaks", 2, Message{Act: Say}, `mimi://b.example/u/bob can't send a message: role "guest" lacks canSendMessage`},
		{"a guest unlikes", 2, Message{Act: DeleteReaction, OwnTarget: true}, ""},
		{"a guest replies", 2, Message{Act: Reply}, "lacks canReplyToMessage or canReplyInTopic"},
		{"an attendee replies in a topic", 3, Message{Act: Reply, Topic: "t", TargetTopic: "t"}, ""},
		{"an attendee replies where there is no topic", 3, Message{Act: Reply}, ""},
		{"an attendee starts a topic by a reply", 3, Message{Act: Reply, Topic: "u", TargetTopic: "t"}, "lacks canReplyToMessage"},
		{"a speaker starts a topic", 4, Message{Act: Say, Topic: "t"}, ""},
		{"a speaker edits", 4, Message{Act: EditMessage, OwnTarget: true}, ""},
		{"a speaker edits another's message", 4, Message{Act: EditMessage}, "it is another user's"},
		{"a moderator edits another's message", 5, Message{Act: EditMessage}, "it is another user's"},
		{"a moderator changes another's topic", 5, Message{Act: EditMessage, Topic: "x", TargetTopic: "y"}, ""},
		{"a speaker changes the own topic", 4, Message{Act: EditMessage, OwnTarget: true, Topic: "x"}, "lacks canEditOwnTopic"},
		{"a moderator deletes another's message", 5, Message{Act: DeleteMessage}, ""},
		{"a speaker deletes another's message", 4, Message{Act: DeleteMessage}, "lacks canDeleteOtherMessage"},
		{"a speaker replaces another's reaction", 4, Message{Act: EditReaction}, "it is another user's"},
		{"a link", 4, Message{Act: Say, Links: 1}, ""},
		{"a link with a preview", 4, Message{Act: Say, Links: 1, Previews: 1}, "link_preview_policy forbids it: send_link_previews is forbidden"},
		{"a link of an attendee", 3, Message{Act: Reply, Links: 1}, "lacks canSendLink"},
		{"an image", 4, Message{Act: Say, Assets: []Asset{{Kind: Image, MediaType: png, Size: 1000, Host: "files.b.example"}}}, ""},
		{"an image inside the message", 4, Message{Act: Say, Assets: []Asset{{Kind: Image, MediaType: png, Size: 1}}}, ""},
		{"too large an image", 4, Message{Act: Say, Assets: []Asset{{Kind: Image, MediaType: png, Size: 1001}}}, "asset_policy forbids it: 1001 octets where max_image is 1000"},
		{"a sound where there are none", 4, Message{Act: Say, Assets: []Asset{{Kind: Audio, Size: 0}}}, "max_audio is 0"},
		{"any video", 4, Message{Act: Say, Assets: []Asset{{Kind: Video, Size: 1 << 60}}}, ""},
		{"a forbidden type", 4, Message{Act: Say, Assets: []Asset{{MediaType: exe, Size: 1}}}, "media type application/x-msdownload"},
		{"a file elsewhere", 4, Message{Act: Say, Assets: []Asset{{Kind: Image, MediaType: png, Size: 1, Host: "evil.example"}}}, "evil.example is not an upload domain of the sender"},
		{"an image of an attendee", 3, Message{Act: Reply, Assets: []Asset{{Kind: Image}}}, "lacks canUploadImage"},
		{"a short life", 4, Message{Act: Say, Expires: true, ExpiresSeconds: 59}, "expiration after 59 s, allowed are 60 to 3600"},
		{"a life", 4, Message{Act: Say, Expires: true, ExpiresSeconds: 60}, ""},
		{"delivered", 2, Message{Act: Report, Delivered: true}, ""},
		{"read", 2, Message{Act: Report, Read: true}, "read_receipts are forbidden"},
		{"an act that does not exist", 5, Message{Act: 99}, "no capability allows it"},
		{"a role that does not exist", 42, Message{Act: Say}, "lacks canSendMessage"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.m.Sender = bob
			d := JudgeContent(p, test.role, &test.m)
			if (d == nil) != (test.want == "") || d != nil && !strings.Contains(d.Error(), test.want) {
				t.Errorf("got %v, want %q", d, test.want)
			}
		})
	}

	p.Expiration = &mimi.MessageExpiration{ExpiringMessages: mimi.Required, MaxExpirationDuration: 10}
	if JudgeContent(p, 4, &Message{Act: Say, Sender: bob}) == nil {
		t.Error("a message that must expire and does not")
	}
	if d := JudgeContent(p, 4, &Message{Act: DeleteMessage, OwnTarget: true, Sender: bob}); d != nil {
		t.Errorf("a deletion need not expire: %v", d)
	}
	p.Expiration = &mimi.MessageExpiration{ExpiringMessages: mimi.Forbidden}
	if JudgeContent(p, 4, &Message{Act: Say, Expires: true, Sender: bob}) == nil {
		t.Error("a message that must not expire and does")
	}
	p.LinkPreview = &mimi.LinkPreviewPolicy{SendLinkPreviews: mimi.Required}
	if JudgeContent(p, 4, &Message{Act: Say, Links: 2, Previews: 1, Expires: false, Sender: bob}) == nil {
		t.Error("a link without the preview that it must have")
	}
}
