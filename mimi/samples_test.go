package mimi_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/mls/suite"
	"github.com/comity-im/comity/tlspl"
)

// The samples are one or more values of every struct that travels, from fixed
// seeds. What MIMI signs is really signed; the MLS objects inside are
// well-formed, but of no live group.

const (
	hub   = mimi.ProviderDomain("a.example")
	room  = mimi.RoomURI("mimi://a.example/r/clubhouse")
	alice = mimi.UserURI("mimi://a.example/u/alice")
	bob   = mimi.UserURI("mimi://b.example/u/bob")
	cathy = mimi.UserURI("mimi://c.example/u/cathy")
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func ptr[T any](v T) *T { return &v }

// fill returns n octets that say where they come from.
func fill(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }

func suite1() suite.Suite {
	s, _ := suite.Lookup(suite.X25519AES128GCMSHA256Ed25519)
	return s
}

func signer(seed byte) *suite.Signer      { return must(suite1().NewSigner(fill(seed, 32))) }
func hpkeKey(seed byte) *suite.PrivateKey { return must(suite1().DeriveKeyPair(fill(seed, 32))) }

// signed encodes v, whose last field is an empty signature, without it, and
// signs that.
func signed(key *suite.Signer, label string, v tlspl.Coder) []byte {
	b := must(tlspl.Marshal(v))
	return must(key.SignWithLabel(nil, label, b[:len(b)-1]))
}

func basic(identity string) mls.Credential { return mls.BasicCredential([]byte(identity)) }

func dictionary() mls.AppDataDictionary {
	return mls.AppDataDictionary{
		{ComponentID: mls.ComponentAppComponents, Data: must(tlspl.Marshal(&mls.ComponentsList{ComponentIDs: []mls.ComponentID{0x20, 0x21, 0x22, 0x23, 0x25, 0x27}}))},
		{ComponentID: mls.ComponentSafeAAD, Data: must(tlspl.Marshal(&mls.ComponentsList{ComponentIDs: []mls.ComponentID{0x20}}))},
		{ComponentID: mls.ComponentContentMediaTypes, Data: must(tlspl.Marshal(&mls.MediaTypeList{MediaTypeList: []mls.MediaType{{Type: []byte("application/mimi-content")}}}))},
	}
}

func keyPackage(seed byte, identity string) mls.KeyPackage {
	key := signer(seed)
	k := mls.KeyPackage{
		Version:     mls.MLS10,
		CipherSuite: suite.X25519AES128GCMSHA256Ed25519,
		InitKey:     hpkeKey(seed).Public(),
		LeafNode: mls.LeafNode{
			EncryptionKey: hpkeKey(seed + 1).Public(),
			SignatureKey:  key.Public(),
			Credential:    basic(identity),
			Capabilities: mls.Capabilities{
				Versions:     []mls.ProtocolVersion{mls.MLS10},
				CipherSuites: []mls.CipherSuite{suite.X25519AES128GCMSHA256Ed25519},
				Extensions:   []mls.ExtensionType{mls.ExtensionAppDataDictionary},
				Proposals:    []mls.ProposalType{mls.ProposalAppDataUpdate, mls.ProposalSelfRemove},
				Credentials:  []mls.CredentialType{mls.CredentialBasic, mls.CredentialX509},
			},
			Source:     mls.SourceKeyPackage,
			Lifetime:   mls.Lifetime{NotBefore: 1795000000, NotAfter: 1802000000},
			Extensions: mls.Extensions{{Type: mls.ExtensionAppDataDictionary, Data: must(tlspl.Marshal(ptr(dictionary())))}},
		},
	}
	k.LeafNode.Signature = signed(key, "LeafNodeTBS", &k.LeafNode)
	k.Signature = signed(key, "KeyPackageTBS", &k)
	return k
}

func message(v tlspl.Coder) mimi.Message { return must(mimi.NewMessage(mls.Message(v))) }

func safeAAD(items ...mls.SafeAADItem) []byte {
	return must(tlspl.Marshal(&mls.SafeAAD{AADItems: items}))
}

func publicMessage(content mls.FramedContent) mimi.Message {
	content.GroupID = []byte("mimi://a.example/g/1b9d")
	content.Epoch = 7
	content.AuthenticatedData = safeAAD()
	m := &mls.PublicMessage{Content: content, Auth: mls.FramedContentAuthData{Signature: fill(0x51, 64)}}
	if content.ContentType == mls.ContentCommit {
		m.Auth.ConfirmationTag = fill(0xC7, 32)
	}
	if content.Sender.Type == mls.SenderMember {
		m.MembershipTag = fill(0x37, 32)
	}
	return message(m)
}

func proposal(sender mls.Sender, p mls.Proposal) mimi.Message {
	return publicMessage(mls.FramedContent{Sender: sender, ContentType: mls.ContentProposal, Proposal: &p})
}

func participantUpdate() *mimi.ParticipantListUpdate {
	return &mimi.ParticipantListUpdate{
		ChangedRoleParticipants: []mimi.UserindexRolePair{{UserIndex: 1, RoleIndex: 3}},
		RemovedIndices:          []uint32{2},
		AddedParticipants:       []mimi.UserRolePair{{User: cathy.Identifier(), RoleIndex: 2}},
	}
}

func appDataUpdate(id mls.ComponentID, v tlspl.Coder) mls.Proposal {
	return mls.Proposal{Type: mls.ProposalAppDataUpdate, AppDataUpdate: &mls.AppDataUpdate{
		ComponentID: id, Op: mls.AppDataOpUpdate, Update: must(tlspl.Marshal(v)),
	}}
}

func commit() mimi.Message {
	add := mls.Proposal{Type: mls.ProposalAdd, Add: &mls.Add{KeyPackage: keyPackage(0x20, "mimi://c.example/d/cathy/1")}}
	update := appDataUpdate(mimi.ComponentParticipantList, participantUpdate())
	return publicMessage(mls.FramedContent{Sender: mls.MemberSender(1), ContentType: mls.ContentCommit, Commit: &mls.Commit{
		Proposals: []mls.ProposalOrRef{{Proposal: &update}, {Proposal: &add}, {Reference: fill(0x9F, 32)}},
	}})
}

// semiPrivate is a handshake message that the hub can read, and followers can't.
func semiPrivate(t mls.ContentType) mimi.Message {
	return message(&mls.SemiPrivateMessage{
		GroupID: []byte("mimi://a.example/g/1b9d"), Epoch: 7, ContentType: t, AuthenticatedData: []byte{0}, PartialContextHash: fill(0xC1, 32),
		KeysForExternalReceivers: []mls.KeyForExternalReceiver{{ExternalReceiverRef: fill(0xC2, 32),
			EncryptedKeysAndNonces: mls.HPKECiphertext{KEMOutput: fill(0xC3, 32), Ciphertext: fill(0xC4, 54)}}},
		FramedContentTBSHash: fill(0xC5, 32), EncryptedSenderData: fill(0xC6, 28), Ciphertext: fill(0xC7, 144)})
}

func selfRemove() mimi.Message {
	return proposal(mls.MemberSender(2), mls.Proposal{Type: mls.ProposalSelfRemove})
}

func externalRemove() mimi.Message {
	return proposal(mls.Sender{Type: mls.SenderExternal}, mls.Proposal{Type: mls.ProposalRemove, Remove: &mls.Remove{Removed: 4}})
}

func welcome() *mls.Welcome {
	return &mls.Welcome{
		CipherSuite: suite.X25519AES128GCMSHA256Ed25519,
		Secrets: []mls.EncryptedGroupSecrets{{
			NewMember:             fill(0x4E, 32),
			EncryptedGroupSecrets: mls.HPKECiphertext{KEMOutput: fill(0x4B, 32), Ciphertext: fill(0x5C, 96)},
		}},
		EncryptedGroupInfo: fill(0x6D, 120),
	}
}

func ratchetTree() mls.RatchetTreeOption {
	k := keyPackage(0x20, "mimi://c.example/d/cathy/1")
	tree := mls.RatchetTreeExtension{{Leaf: &k.LeafNode}, {}, {Leaf: &k.LeafNode}}
	return mls.RatchetTreeOption{Representation: mls.RatchetTreeFull, RatchetTree: must(tlspl.Marshal(&tree))}
}

func groupInfo() *mls.GroupInfo {
	g := &mls.GroupInfo{
		GroupContext: mls.GroupContext{
			Version:                 mls.MLS10,
			CipherSuite:             suite.X25519AES128GCMSHA256Ed25519,
			GroupID:                 []byte("mimi://a.example/g/1b9d"),
			Epoch:                   7,
			TreeHash:                fill(0x77, 32),
			ConfirmedTranscriptHash: fill(0x78, 32),
			Extensions: mls.Extensions{
				{Type: mls.ExtensionExternalSenders, Data: must(tlspl.Marshal(&mls.ExternalSenders{{SignatureKey: signer(0xA0).Public(), Credential: basic("mimi://a.example")}}))},
				{Type: mls.ExtensionAppDataDictionary, Data: must(tlspl.Marshal(ptr(roomDictionary())))},
			},
		},
		Extensions:      mls.Extensions{{Type: mls.ExtensionExternalPub, Data: must(tlspl.Marshal(&mls.ExternalPub{ExternalPub: hpkeKey(0x60).Public()}))}},
		ConfirmationTag: fill(0xC7, 32),
		Signer:          1,
	}
	g.Signature = signed(signer(0x10), "GroupInfoTBS", g)
	return g
}

// roomDictionary is what a room has in its GroupContext.
func roomDictionary() mls.AppDataDictionary {
	d := dictionary()
	for _, k := range componentSamples() {
		if k.update {
			continue
		}
		d = d.With(k.id, must(tlspl.Marshal(k.value)))
	}
	return d
}

type componentSample struct {
	id     mls.ComponentID
	update bool
	value  tlspl.Coder
}

func componentSamples() []componentSample {
	media := func(s string) mls.MediaType { return mls.MediaType{Type: []byte(s)} }
	return []componentSample{
		{mimi.ComponentFrankingAgent, false, &mimi.FrankingAgentData{FrankingSignatureKey: signer(0xA1).Public(), Credential: basic("mimi://a.example")}},
		{mimi.ComponentParticipantList, false, &mimi.ParticipantListData{Participants: []mimi.UserRolePair{
			{User: alice.Identifier(), RoleIndex: 4}, {User: bob.Identifier(), RoleIndex: 2}, {User: hub.URI().Identifier(), RoleIndex: 5}}}},
		{mimi.ComponentParticipantList, true, participantUpdate()},
		{mimi.ComponentRoomMetadata, false, &mimi.RoomMetaData{
			RoomURI: room, RoomName: "Clubhouse", RoomAvatar: "https://a.example/club.png", RoomSubject: "Everything", RoomMood: "☀",
			RoomDescriptions: []mimi.RichDescription{
				{LanguageTag: "en", DescriptionContent: []byte("Where we meet")},
				{MediaType: "text/markdown", LanguageTag: "de", DescriptionContent: []byte("Wo wir uns *treffen*")}},
		}},
		{mimi.ComponentMLSOperationalPolicy, false, &mimi.OperationalParameters{
			MandatoryCapabilities: mimi.ExtendedCapabilities{
				Versions: []mls.ProtocolVersion{mls.MLS10}, CipherSuites: []suite.ID{1, 2},
				Extensions: []mls.ExtensionType{mls.ExtensionAppDataDictionary}, Proposals: []mls.ProposalType{mls.ProposalSelfRemove},
				Credentials: []mls.CredentialType{mls.CredentialX509}, WireFormats: []mls.WireFormat{mls.WireFormatPublicMessage},
				ComponentIDs: []mls.ComponentID{0x22, 0x23}, SafeAADTypes: []mls.ComponentID{0x20},
				MediaTypes: []mls.MediaType{media("application/mimi-content")}, ContentTypes: []mls.ContentType{mls.ContentApplication}},
			HandshakeFormats: []mls.WireFormat{mls.WireFormatPublicMessage}, ExternalProposalAllowed: true, ExternalCommitAllowed: true,
			PendingProposalPolicy:      mimi.PendingProposalPolicy{PendingProposalStrategy: mimi.PendingRandomDelay, MinimumDelayMillis: 100, MaximumDelayMillis: 5000},
			LeafNodeUpdateTime:         mimi.MinDefaultMaxTime{MinimumTime: 3600, DefaultTime: 86400, MaximumTime: 2592000},
			AppMessagePolicy:           mimi.AppMessagePolicy{EpochTolerance: 3, PadToSize: 256, MaxGenerationsSkipahead: 1000},
			MaxKPLifetime:              7776000,
			MaxCredentialLifetime:      31536000,
			ResumptionPSKLifetime:      86400,
			SenderNonceKeypairLifetime: mimi.MinDefaultMaxTime{MinimumTime: 60, DefaultTime: 600, MaximumTime: 3600},
			MaxKeypairs:                1000,
			BufferIncomingMessageTime:  mimi.MinDefaultMaxTime{MinimumTime: 1, DefaultTime: 10, MaximumTime: 60},
			MaxBufferedMessages:        256,
		}},
		{mimi.ComponentRolesList, false, &mimi.RoleData{Roles: []mimi.Role{
			{RoleIndex: 0, RoleName: "outsider", RoleCapabilities: []mimi.CapabilityType{mimi.CanJoinIfPreauthorized}},
			{RoleIndex: 1, RoleName: "banned", MaximumActiveParticipantsConstraint: ptr(uint32(0))},
			{RoleIndex: 4, RoleName: "admin", RoleDescription: "runs the room", MinimumParticipantsConstraint: 1, MinimumActiveParticipantsConstraint: 1,
				RoleCapabilities:              []mimi.CapabilityType{mimi.CanAddParticipant, mimi.CanSendMessage, 0xF00D},
				MaximumParticipantsConstraint: ptr(uint32(3)),
				AuthorizedRoleChanges:         []mimi.SingleSourceRoleChangeTargets{{FromRoleIndex: 0, TargetRoleIndexes: []mimi.RoleIndex{1, 2}}, {FromRoleIndex: 2, TargetRoleIndexes: []mimi.RoleIndex{0}}}},
		}}},
		{mimi.ComponentPreauthList, false, &mimi.PreAuthData{PreauthorizedEntries: []mimi.PreAuthRoleEntry{{
			Claimset:   []mimi.Claim{{ClaimID: mimi.ClaimID{CredentialType: mls.CredentialX509, ID: []byte("\x06\x03\x55\x04\x0a")}, ClaimValue: []byte("Acme")}},
			TargetRole: mimi.Role{RoleIndex: 2},
		}}}},
		{mimi.ComponentBaseRoomPolicy, false, &mimi.BaseRoomPolicy{
			ParentDependant: true, ParentRoom: "mimi://a.example/r/parent", MultiDevice: true, MaxUsers: ptr(uint32(100)),
			PersistentRoom: true, PolicyComponentIDs: []mls.ComponentID{0x25, 0x26}}},
		{mimi.ComponentStatusNotificationPolicy, false, &mimi.StatusNotificationPolicy{DeliveryNotifications: mimi.Required, ReadReceipts: mimi.Forbidden}},
		{mimi.ComponentJoinLinkPolicy, false, &mimi.JoinLinkPolicy{OnRequest: true, JoinLink: "https://a.example/join", Multiuser: true, Expiration: 86400}},
		{mimi.ComponentJoinLinks, false, &mimi.JoinLinksData{Links: []mimi.JoinLink{[]byte("https://a.example/j/1"), []byte("https://a.example/j/2")}}},
		{mimi.ComponentJoinLinks, true, &mimi.JoinLinksUpdate{RemovedIndices: []uint32{1}, AddedLinks: []mimi.JoinLink{[]byte("https://a.example/j/3")}}},
		{mimi.ComponentLinkPreviewPolicy, false, &mimi.LinkPreviewPolicy{SendLinkPreviews: mimi.Required, LinkPreviewProxyUse: mimi.Required, LinkPreviewProxy: "https://a.example/preview"}},
		{mimi.ComponentAssetPolicy, false, &mimi.AssetPolicy{
			AssetUploadLocation: mimi.UploadLocalProvider,
			UploadDomains:       []mimi.ProviderAssetUploadDomains{{Provider: "b.example", AssetUploadDestinations: []mimi.ProviderDomain{"assets.b.example"}}},
			DownloadPrivacy: mimi.DownloadPrivacy{AllowedDownloadTypes: []mimi.DownloadPrivacyType{mimi.DownloadHubProxy, mimi.DownloadOHTTP},
				ForbiddenDownloadTypes: []mimi.DownloadPrivacyType{mimi.DownloadDirect}, DefaultDownloadType: mimi.DownloadOHTTP},
			MaxImage: 10 << 20, MaxAudio: 20 << 20, MaxVideo: 200 << 20, MaxAttachment: mimi.NoAssetLimit,
			ForbiddenMediaTypes: []mls.MediaType{media("image/svg+xml")},
			PermittedMediaTypes: []mls.MediaType{media("image/png"), {Type: []byte("text/plain"), Parameters: []mls.Parameter{{ParameterName: []byte("charset"), ParameterValue: []byte("utf-8")}}}}}},
		{mimi.ComponentLoggingPolicy, false, &mimi.LoggingPolicy{LoggingClients: []mimi.URI{"mimi://a.example/d/logger"}, MachineReadablePolicy: "https://a.example/log.json", HumanReadablePolicy: "https://a.example/log"}},
		{mimi.ComponentChatHistoryPolicy, false, &mimi.HistoryPolicy{HistorySharing: mimi.Required, RolesThatCanShare: []mimi.RoleIndex{2, 4}, AutomaticallyShare: true, MaxTimePeriod: 604800}},
		{mimi.ComponentBotPolicy, false, &mimi.BotPolicy{AllowedBots: []mimi.Bot{{Name: "mimi://a.example/u/bot", Description: "counts", Homepage: "https://a.example/bot", LocalClientBot: true, BotRoleIndex: 6, PerUserContent: true}}}},
		{mimi.ComponentMessageExpirationPolicy, false, &mimi.MessageExpiration{MinExpirationDuration: 60, MaxExpirationDuration: 604800, DefaultExpirationDuration: ptr(uint32(86400))}},
	}
}

func applicationMessage() mimi.Message {
	tag := mimi.NewFrankingTag(fill(0x5A, 16), []byte("application_data"))
	return message(&mls.PrivateMessage{
		GroupID: []byte("mimi://a.example/g/1b9d"), Epoch: 7, ContentType: mls.ContentApplication,
		AuthenticatedData:   safeAAD(tag.SafeAADItem()),
		EncryptedSenderData: fill(0xE5, 28), Ciphertext: fill(0xC1, 180),
	})
}

func frank() *mimi.Frank {
	tag := mimi.NewFrankingTag(fill(0x5A, 16), []byte("application_data"))
	hubKey := must(mimi.HubKey(fill(0x4D, 32), room))
	return must(mimi.NewFrank(nil, signer(0xA1), hubKey, tag,
		&mimi.ServerFrankingContext{SenderURI: bob, RoomURI: room, AcceptedTimestamp: 1796000000123}))
}

func keyMaterialRequest() *mimi.KeyMaterialRequest {
	r := &mimi.KeyMaterialRequest{
		RequestingUser: bob, TargetUser: cathy, RoomID: room,
		AcceptableCiphersuites: []suite.ID{1, 0x0a0a},
		RequiredCapabilities: mls.RequiredCapabilities{
			ExtensionTypes:  []mls.ExtensionType{mls.ExtensionAppDataDictionary},
			ProposalTypes:   []mls.ProposalType{mls.ProposalAppDataUpdate, mls.ProposalSelfRemove},
			CredentialTypes: []mls.CredentialType{mls.CredentialX509},
		},
		RequesterCredential: basic("mimi://b.example/d/bob/1"),
	}
	if err := r.Sign(nil, signer(0x11)); err != nil {
		panic(err)
	}
	return r
}

func groupInfoRequest(code []byte) *mimi.GroupInfoRequest {
	r := &mimi.GroupInfoRequest{
		RequestingCredential: basic("mimi://c.example/d/cathy/2"),
		GroupInfoPublicKey:   hpkeKey(0x61).Public(),
		JoiningCode:          code,
	}
	if err := r.Sign(nil, signer(0x12)); err != nil {
		panic(err)
	}
	return r
}

func groupInfoTBE() *mimi.GroupInfoRatchetTreeTBE {
	return &mimi.GroupInfoRatchetTreeTBE{
		GroupInfo: *groupInfo(), RatchetTreeOption: ratchetTree(),
		PendingProposals: []mimi.PendingProposal{{Proposal: selfRemove(), HubAcceptedTime: 1796000000000}},
	}
}

type sample struct {
	name  string // of the golden file
	as    string // the type, as the inspect package names it
	value tlspl.Coder
	fresh func() tlspl.Coder
}

func of[T any, P tlspl.Ptr[T]](name, as string, v P) sample {
	return sample{name, as, v, func() tlspl.Coder { return P(new(T)) }}
}

func samples() []sample {
	cathyKP := keyPackage(0x20, "mimi://c.example/d/cathy/1")
	return []sample{
		of("key_material_request", "KeyMaterialRequest", keyMaterialRequest()),
		of("key_material_response", "KeyMaterialResponse", &mimi.KeyMaterialResponse{
			UserStatus: mimi.KeyMaterialPartialSuccess, UserURI: cathy,
			Clients: []mimi.ClientKeyMaterial{
				{ClientStatus: mimi.ClientSuccess, ClientURI: "mimi://c.example/d/cathy/1", KeyPackage: &cathyKP},
				{ClientStatus: mimi.ClientKeyMaterialExhausted, ClientURI: "mimi://c.example/d/cathy/2"},
				{ClientStatus: mimi.ClientNothingCompatible, ClientURI: "mimi://c.example/d/cathy/3", ClientCapabilities: &cathyKP.LeafNode.Capabilities},
				{ClientStatus: mimi.ClientNothingCompatible, ClientURI: "mimi://c.example/d/cathy/4"},
			}}),
		of("key_material_response_success", "KeyMaterialResponse", &mimi.KeyMaterialResponse{
			UserStatus: mimi.KeyMaterialSuccess, UserURI: cathy,
			Clients: []mimi.ClientKeyMaterial{{ClientStatus: mimi.ClientSuccess, ClientURI: "mimi://c.example/d/cathy/1", KeyPackage: &cathyKP}}}),
		of("key_material_response_no_compatible_material", "KeyMaterialResponse", &mimi.KeyMaterialResponse{
			UserStatus: mimi.KeyMaterialNoCompatible, UserURI: cathy,
			Clients: []mimi.ClientKeyMaterial{{ClientStatus: mimi.ClientNothingCompatible, ClientURI: "mimi://c.example/d/cathy/3", ClientCapabilities: &cathyKP.LeafNode.Capabilities}}}),
		of("key_material_response_incompatible_protocol", "KeyMaterialResponse", &mimi.KeyMaterialResponse{UserStatus: mimi.KeyMaterialIncompatibleProtocol, UserURI: cathy}),
		of("key_material_response_user_unknown", "KeyMaterialResponse", &mimi.KeyMaterialResponse{UserStatus: mimi.KeyMaterialUserUnknown, UserURI: cathy}),
		of("key_material_response_no_consent", "KeyMaterialResponse", &mimi.KeyMaterialResponse{UserStatus: mimi.KeyMaterialNoConsent, UserURI: cathy}),
		of("key_material_response_no_consent_for_this_room", "KeyMaterialResponse", &mimi.KeyMaterialResponse{UserStatus: mimi.KeyMaterialNoConsentForThisRoom, UserURI: cathy}),
		of("key_material_response_user_deleted", "KeyMaterialResponse", &mimi.KeyMaterialResponse{UserStatus: mimi.KeyMaterialUserDeleted, UserURI: cathy}),
		of("update_request_commit", "UpdateRequest", &mimi.UpdateRequest{Bundle: mimi.HandshakeBundle{
			ProposalOrCommit: commit(), Welcome: welcome(),
			GroupInfoOption: mimi.FullGroupInfo(groupInfo()), RatchetTreeOption: ratchetTree()}}),
		of("update_request_commit_partial", "UpdateRequest", &mimi.UpdateRequest{Bundle: mimi.HandshakeBundle{
			ProposalOrCommit:  commit(),
			GroupInfoOption:   mimi.PartialGroupInfo(&mls.PartialGroupInfo{GroupInfoExtensions: groupInfo().Extensions, Signature: fill(0x51, 64)}),
			RatchetTreeOption: mls.RatchetTreeOption{Representation: mls.RatchetTreeDistributionService}}}),
		of("update_request_leave", "UpdateRequest", &mimi.UpdateRequest{Bundle: mimi.HandshakeBundle{
			ProposalOrCommit: selfRemove(),
			MoreProposals: []mimi.Message{
				proposal(mls.MemberSender(2), mls.Proposal{Type: mls.ProposalRemove, Remove: &mls.Remove{Removed: 3}}),
				proposal(mls.MemberSender(2), appDataUpdate(mimi.ComponentParticipantList, &mimi.ParticipantListUpdate{RemovedIndices: []uint32{1}}))}}}),
		of("update_request_commit_semiprivate", "UpdateRequest", &mimi.UpdateRequest{Bundle: mimi.HandshakeBundle{
			ProposalOrCommit:  semiPrivate(mls.ContentCommit),
			GroupInfoOption:   mimi.PartialGroupInfo(&mls.PartialGroupInfo{GroupInfoExtensions: groupInfo().Extensions, Signature: fill(0x51, 64)}),
			RatchetTreeOption: mls.RatchetTreeOption{Representation: mls.RatchetTreeDistributionService}}}),
		of("update_response_success", "UpdateRoomResponse", &mimi.UpdateRoomResponse{AcceptedTimestamp: 1796000000123}),
		of("update_response_wrong_epoch", "UpdateRoomResponse", &mimi.UpdateRoomResponse{ResponseCode: mimi.UpdateWrongEpoch, ErrorDescription: "epoch 8", CurrentEpoch: 8}),
		of("update_response_not_allowed", "UpdateRoomResponse", &mimi.UpdateRoomResponse{ResponseCode: mimi.UpdateNotAllowed, ErrorDescription: mimi.ReasonPending}),
		of("update_response_invalid_proposal", "UpdateRoomResponse", &mimi.UpdateRoomResponse{ResponseCode: mimi.UpdateInvalidProposal, ErrorDescription: "proposal 0", InvalidProposals: []mls.ProposalRef{fill(0x9F, 32)}}),
		of("submit_message_request", "SubmitMessageRequest", &mimi.SubmitMessageRequest{AppMessage: applicationMessage(), SendingURI: bob}),
		of("submit_message_response", "SubmitMessageResponse", &mimi.SubmitMessageResponse{AcceptedTimestamp: 1796000000123, Frank: frank()}),
		of("submit_message_response_not_allowed", "SubmitMessageResponse", &mimi.SubmitMessageResponse{StatusCode: mimi.SubmitNotAllowed}),
		of("submit_message_response_epoch_too_old", "SubmitMessageResponse", &mimi.SubmitMessageResponse{StatusCode: mimi.SubmitEpochTooOld, CurrentEpoch: 8}),
		of("notify_application", "NotifyRequest", &mimi.NotifyRequest{Messages: []mimi.FanoutMessage{{Timestamp: 1796000000123, Message: applicationMessage(), Frank: frank()}}}),
		of("notify_welcome", "NotifyRequest", &mimi.NotifyRequest{Messages: []mimi.FanoutMessage{{Timestamp: 1796000000124, Message: message(welcome()), RatchetTreeOption: ratchetTree()}}}),
		of("notify_batch", "NotifyRequest", &mimi.NotifyRequest{Messages: []mimi.FanoutMessage{
			{Timestamp: 1796000000125, Message: selfRemove(), MoreProposals: []mimi.Message{externalRemove()}},
			{Timestamp: 1796000000126, Message: commit(), ExternalProposals: []mimi.Message{externalRemove()}},
			{Timestamp: 1796000000127, Message: applicationMessage()}}}),
		of("notify_semiprivate", "NotifyRequest", &mimi.NotifyRequest{Messages: []mimi.FanoutMessage{
			{Timestamp: 1796000000128, Message: semiPrivate(mls.ContentProposal)},
			{Timestamp: 1796000000129, Message: semiPrivate(mls.ContentCommit)}}}),
		of("group_info_request", "GroupInfoRequest", groupInfoRequest(nil)),
		of("group_info_request_code", "GroupInfoRequest", groupInfoRequest([]byte("f4Xw"))),
		of("group_info_ratchet_tree_tbe", "GroupInfoRatchetTreeTBE", groupInfoTBE()),
		of("group_info_response_no_such_room", "GroupInfoResponse", &mimi.GroupInfoResponse{RoomID: room, Status: mimi.GroupInfoNoSuchRoom}),
		of("group_info_response_not_authorized", "GroupInfoResponse", &mimi.GroupInfoResponse{RoomID: room, Status: mimi.GroupInfoNotAuthorized}),
		of("request_consent", "ConsentEntry", &mimi.ConsentEntry{ConsentOperation: mimi.ConsentRequest, ConsentScope: mimi.ConsentScope{RequesterURI: alice, TargetURI: bob, RoomID: room}}),
		of("request_consent_cancel", "ConsentEntry", &mimi.ConsentEntry{ConsentOperation: mimi.ConsentCancel, ConsentScope: mimi.ConsentScope{RequesterURI: alice, TargetURI: bob}}),
		of("update_consent_grant", "ConsentEntry", &mimi.ConsentEntry{ConsentOperation: mimi.ConsentGrant, ConsentScope: mimi.ConsentScope{RequesterURI: alice, TargetURI: cathy}, ClientKeyPackages: []mls.KeyPackage{cathyKP}}),
		of("update_consent_revoke", "ConsentEntry", &mimi.ConsentEntry{ConsentOperation: mimi.ConsentRevoke, ConsentScope: mimi.ConsentScope{RequesterURI: alice, TargetURI: cathy}, ConsentExtensions: mls.AppDataDictionary{{ComponentID: 0xFF01, Data: []byte{1}}}}),
		of("identifier_query_request", "IdentifierRequest", &mimi.IdentifierRequest{QueryElements: []mimi.QueryElement{
			{SearchType: mimi.SearchHandle, SearchValue: "im:alice.smith@a.example"},
			{SearchType: mimi.SearchOIDCStdClaim, ClaimName: "given_name", SearchValue: "Alice"},
			{SearchType: mimi.SearchVCardField, PropertyName: "ORG", SearchValue: "Acme"}}}),
		of("identifier_query_response", "IdentifierResponse", &mimi.IdentifierResponse{URI: []mimi.UserURI{alice}, FoundProfiles: []mimi.UserProfile{{StableURI: alice, Fields: []mimi.ProfileField{{FieldSource: mimi.SourceVCardField, FieldName: "FN", FieldValue: []byte("Alice Smith")}}}}}),
		of("identifier_query_response_ambiguous", "IdentifierResponse", &mimi.IdentifierResponse{ResponseCode: mimi.QueryAmbiguous}),
		of("identifier_query_response_forbidden", "IdentifierResponse", &mimi.IdentifierResponse{ResponseCode: mimi.QueryForbidden}),
		of("identifier_query_response_unsupported_field", "IdentifierResponse", &mimi.IdentifierResponse{ResponseCode: mimi.QueryUnsupportedField}),
		of("identifier_query_response_not_found", "IdentifierResponse", &mimi.IdentifierResponse{ResponseCode: mimi.QueryNotFound}),
		of("report_abuse", "AbuseReport", &mimi.AbuseReport{ReportingUser: cathy, AllegedAbuserURI: bob, Note: "unkind", Messages: []mimi.AbusiveMessage{{MessageContent: []byte("application_data"), Frank: *frank(), AcceptedTimestamp: 1796000000123}}}),
		of("report_abuse_anonymous", "AbuseReport", &mimi.AbuseReport{AllegedAbuserURI: bob}),
		of("pseudonymous_credential", "PseudonymousCredential", &mimi.PseudonymousCredential{
			ClientPseudonym: "mimi://a.example/d/6f1a3c52-9d0e-4b7a-8c21-5e4f0d9b7a16", UserPseudonym: "mimi://a.example/p/0b9e7c1d-24f8-4e53-a6d1-93c8f2b05e74",
			SignaturePublicKey: fill(0x31, 32), IdentityLinkCiphertext: fill(0x32, 140)}),
		of("identity_link_tbe", "IdentityLinkTBE", &mimi.IdentityLinkTBE{PseudonymousCredentialSignature: fill(0x33, 64), ClientCredential: basic("mimi://a.example/d/alice/1")}),
		of("gone_user", "GoneNotice", &mimi.GoneNotice{User: bob}),
		of("gone_client", "GoneNotice", &mimi.GoneNotice{User: bob, Clients: []mimi.ClientURI{"mimi://b.example/d/bob/1"}}),
	}
}

// all is every sample and component.
func all(t testing.TB) []sample {
	t.Helper()
	list := samples()
	for _, k := range componentSamples() {
		name, fresh := "component_"+mimi.ComponentName(k.id), mimi.NewComponentData
		if k.update {
			name, fresh = name+"_update", mimi.NewComponentUpdate
		}
		list = append(list, sample{name: name, as: reflect.TypeOf(k.value).Elem().Name(), value: k.value, fresh: func() tlspl.Coder { return fresh(k.id) }})
	}
	return list
}
