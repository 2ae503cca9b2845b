package client

import (
	"strings"
	"testing"

	"github.com/comity-im/comity/mimi/content"
)

func textPart(kind, text string) content.NestedPart {
	return content.NestedPart{Disposition: content.Render, Part: &content.SinglePart{ContentType: kind, Content: []byte(text)}}
}

// What policy is told of a message: links as a reader would see them, of alternatives one, previews apart; files with their
// whole media type.
func TestDescribe(t *testing.T) {
	multi := func(s content.PartSemantics, parts ...content.NestedPart) content.NestedPart {
		return content.NestedPart{Disposition: content.Render, Part: &content.MultiPart{PartSemantics: s, Parts: parts}}
	}
	preview := textPart("text/plain", "https://example.com: an example")
	preview.Disposition = content.Preview
	for _, test := range []struct {
		name            string
		part            content.NestedPart
		links, previews int
		assets          string
	}{
		{"Markdown without a scheme", textPart(content.MediaTypeMarkdown, "[x](example.com)"), 1, 0, ""},
		{"Markdown, reference", textPart("text/markdown", "[x][1]\n\n[1]: //example.com"), 1, 0, ""},
		{"Markdown, code", textPart(content.MediaTypeMarkdown, "`https://example.com`"), 0, 0, ""},
		{"plain text", textPart(content.MediaTypePlain, "`https://example.com` [x](example.org)"), 1, 0, ""},
		{"HTML", textPart("text/html;charset=utf-8", `<a href=example.com>x</a>`), 1, 0, ""},
		{"another text", textPart("text/vcard", "URL:https://example.com"), 1, 0, ""},
		{"alternatives", multi(content.ChooseOne, textPart(content.MediaTypePlain, "https://example.com"),
			textPart("text/html", "<a href=//example.com>x</a> <a href=//example.org>y</a>")), 2, 0, ""},
		{"a link and its preview", multi(content.ProcessAll, textPart(content.MediaTypeMarkdown, "<https://example.com>"), preview), 1, 1, ""},
		{"a file", textPart(`Image/SVG+xml;Charset="UTF-8"`, "<svg/>"), 0, 0, "image/svg+xml charset=utf-8"},
	} {
		m := &content.Message{SenderURI: "mimi://a.example/u/alice", Content: &content.Content{NestedPart: test.part}}
		got := describe(m, nil)
		var assets []string
		for _, a := range got.Assets {
			s := string(a.MediaType.Type)
			for _, p := range a.MediaType.Parameters {
				s += " " + string(p.ParameterName) + "=" + string(p.ParameterValue)
			}
			assets = append(assets, s)
		}
		if got.Links != test.links || got.Previews != test.previews || strings.Join(assets, ",") != test.assets {
			t.Errorf("%s: %d links, %d previews, assets %q", test.name, got.Links, got.Previews, assets)
		}
	}
}
