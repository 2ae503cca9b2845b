package mimi

import (
	"bytes"
	"math"
	"slices"

	"github.com/comity-im/comity/mls"
	"github.com/comity-im/comity/tlspl"
)

// An AssetUploadLocation says where clients put assets (room policy §6.4).
type AssetUploadLocation uint8

// The values of AssetUploadLocation.
const (
	UploadUnspecified   AssetUploadLocation = 0
	UploadLocalProvider AssetUploadLocation = 1
	UploadHub           AssetUploadLocation = 2
)

// String returns the draft's word.
func (l AssetUploadLocation) String() string {
	return enumName(l, "unspecified", "localProvider", "hub")
}

// A DownloadPrivacyType is a way to fetch assets (room policy §6.4).
type DownloadPrivacyType uint8

// The values of DownloadPrivacyType.
const (
	DownloadDirect   DownloadPrivacyType = 0
	DownloadHubProxy DownloadPrivacyType = 1
	DownloadOHTTP    DownloadPrivacyType = 2
)

// String returns the draft's word.
func (t DownloadPrivacyType) String() string { return enumName(t, "direct", "hubProxy", "ohttp") }

// Code describes a DownloadPrivacyType.
func (t *DownloadPrivacyType) Code(c *tlspl.Codec) { codeEnum(c, t, DownloadOHTTP) }

// Code describes a DomainName: opaque domain<V>, lower-case A-labels. Decision 79
func (d *ProviderDomain) Code(c *tlspl.Codec) { codeURI(c, d, ParseProviderDomain) }

// ProviderAssetUploadDomains lists the hosts that hold the assets of one
// provider (room policy §6.4).
type ProviderAssetUploadDomains struct {
	Provider                ProviderDomain
	AssetUploadDestinations []ProviderDomain
}

// Code describes a ProviderAssetUploadDomains.
func (d *ProviderAssetUploadDomains) Code(c *tlspl.Codec) {
	c.Field("provider")
	d.Provider.Code(c)
	c.Field("asset_upload_destinations")
	tlspl.Vector(c, &d.AssetUploadDestinations)
}

// DownloadPrivacy says how assets may be fetched (room policy §6.4).
type DownloadPrivacy struct {
	AllowedDownloadTypes   []DownloadPrivacyType
	ForbiddenDownloadTypes []DownloadPrivacyType
	DefaultDownloadType    DownloadPrivacyType
}

// Code describes a DownloadPrivacy.
func (p *DownloadPrivacy) Code(c *tlspl.Codec) {
	c.Field("allowed_download_types")
	tlspl.Vector(c, &p.AllowedDownloadTypes)
	c.Field("forbidden_download_types")
	tlspl.Vector(c, &p.ForbiddenDownloadTypes)
	c.Field("default_download_type")
	p.DefaultDownloadType.Code(c)
}

// NoAssetLimit is the value of a max_ field of AssetPolicy that sets no limit.
// Decision 92
const NoAssetLimit = math.MaxUint64

// AssetPolicy is the data of the asset_policy component, and the content of its
// updates (room policy §6.4). The maxima are in octets; 0 allows none.
type AssetPolicy struct {
	AssetUploadLocation AssetUploadLocation
	UploadDomains       []ProviderAssetUploadDomains
	DownloadPrivacy     DownloadPrivacy
	MaxImage            uint64
	MaxAudio            uint64
	MaxVideo            uint64
	MaxAttachment       uint64
	ForbiddenMediaTypes []mls.MediaType
	PermittedMediaTypes []mls.MediaType // empty: not limited
}

// Code describes an AssetPolicy. Each permitted media type has a presence octet
// of 1 before it. Decision 92
func (p *AssetPolicy) Code(c *tlspl.Codec) {
	c.Field("asset_upload_location")
	codeEnum(c, &p.AssetUploadLocation, UploadHub)
	c.Field("upload_domains")
	tlspl.Vector(c, &p.UploadDomains)
	tlspl.Struct(c, "download_privacy", &p.DownloadPrivacy)
	c.Field("max_image")
	tlspl.Uint64(c, &p.MaxImage)
	c.Field("max_audio")
	tlspl.Uint64(c, &p.MaxAudio)
	c.Field("max_video")
	tlspl.Uint64(c, &p.MaxVideo)
	c.Field("max_attachment")
	tlspl.Uint64(c, &p.MaxAttachment)
	c.Field("forbidden_media_types")
	tlspl.Vector(c, &p.ForbiddenMediaTypes)
	c.Field("permitted_media_types")
	tlspl.VectorFunc(c, &p.PermittedMediaTypes, func(c *tlspl.Codec, t *mls.MediaType) {
		present := true
		tlspl.Bool(c, &present)
		if !present {
			c.Fail(tlspl.ErrPresence)
		}
		t.Code(c)
	})
}

// AllowsHost reports whether an asset of sender's may lie on the host, in a
// room on the hub. Hosts match exactly. Decision 79
func (p *AssetPolicy) AllowsHost(host, sender, hub ProviderDomain) bool {
	var owner ProviderDomain
	switch p.AssetUploadLocation {
	case UploadUnspecified:
		return true
	case UploadLocalProvider:
		owner = sender
	case UploadHub:
		owner = hub
	}
	for i := range p.UploadDomains {
		d := &p.UploadDomains[i]
		if d.Provider == owner && slices.Contains(d.AssetUploadDestinations, host) {
			return true
		}
	}
	return false
}

// AllowsMediaType reports whether the room takes assets of the media type. An
// entry of the policy without parameters matches whatever parameters t has
// (room policy §6.4).
func (p *AssetPolicy) AllowsMediaType(t *mls.MediaType) bool {
	matches := func(entry mls.MediaType) bool {
		if !bytes.EqualFold(entry.Type, t.Type) {
			return false
		}
		return len(entry.Parameters) == 0 || slices.EqualFunc(entry.Parameters, t.Parameters, func(a, b mls.Parameter) bool {
			return bytes.EqualFold(a.ParameterName, b.ParameterName) && bytes.Equal(a.ParameterValue, b.ParameterValue)
		})
	}
	return !slices.ContainsFunc(p.ForbiddenMediaTypes, matches) &&
		(len(p.PermittedMediaTypes) == 0 || slices.ContainsFunc(p.PermittedMediaTypes, matches))
}

// AllowsDownload reports whether assets may be fetched in this way. If the
// policy names allowed ways, only they are.
func (p *DownloadPrivacy) AllowsDownload(t DownloadPrivacyType) bool {
	return !slices.Contains(p.ForbiddenDownloadTypes, t) &&
		(len(p.AllowedDownloadTypes) == 0 || slices.Contains(p.AllowedDownloadTypes, t))
}
