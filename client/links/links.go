// Package links counts the links in the text of a message, which is all that room policy asks of a text (canSendLink,
// send_link_previews; room policy §6.3, §8.4). Markdown is parsed by goldmark and HTML by golang.org/x/net/html, so a link is
// what a reader would see as one, however it is written.
//
// What counts: inline and reference links, autolinks and images in Markdown; elements with an address in HTML, and in the raw
// HTML of Markdown, which a client may render although GFM-MIMI says otherwise; in plain text, and in the text of the other two
// outside links and code, what readers' clients detect as a link. Mentions (mimi and im URIs), parts of the message itself (cid)
// and places in it (#) are not links.
package links

import (
	"bytes"
	"strings"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
	"golang.org/x/net/html"
)

// MaxParsed is how many octets of Markdown and HTML a Counter parses. A person's message has a hundredth of this.
const MaxParsed = 64 << 10

// maxCost bounds the product of a text's length and its signs that open something. What Markdown costs grows with that product
// where an enemy wrote it; at this bound that is a tenth of a second.
const maxCost = 16 << 20

// A Counter counts links in the texts of one message.
type Counter struct {
	parsed int
}

// Markdown counts the links of a text in Markdown, of any variant. What is too long or too costly it does not parse, and counts
// everything in it that could be a link.
func (c *Counter) Markdown(b []byte) int {
	if len(b)*(bytes.Count(b, []byte("["))+bytes.Count(b, []byte(">"))) > maxCost || !c.take(b) {
		return suspects(b)
	}
	p := parser.NewParser(parser.WithBlockParsers(parser.DefaultBlockParsers()...), parser.WithInlineParsers(parser.DefaultInlineParsers()...),
		parser.WithParagraphTransformers(parser.DefaultParagraphTransformers()...))
	n := 0
	var raw, plain bytes.Buffer // what stands between two links
	flush := func() {
		n += elements(raw.Bytes()) + Plain(plain.Bytes())
		raw.Reset()
		plain.Reset()
	}
	count := func(destination []byte) {
		if isLink(string(destination)) {
			n++
		}
	}
	// The error is that of the function, which has none.
	_ = ast.Walk(p.Parse(text.NewReader(b)), func(node ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			if node.Type() == ast.TypeBlock {
				flush()
			}
			return ast.WalkContinue, nil
		}
		switch x := node.(type) {
		case *ast.Link:
			count(x.Destination)
			nested(x, count)
			return ast.WalkSkipChildren, nil
		case *ast.Image:
			count(x.Destination)
			nested(x, count)
			return ast.WalkSkipChildren, nil
		case *ast.AutoLink:
			if x.AutoLinkType == ast.AutoLinkURL {
				count(x.URL(b))
			}
		case *ast.CodeSpan, *ast.CodeBlock, *ast.FencedCodeBlock:
			plain.WriteByte(' ')
			return ast.WalkSkipChildren, nil
		case *ast.RawHTML:
			write(&raw, x.Segments, b)
		case *ast.HTMLBlock:
			write(&raw, x.Lines(), b)
			if x.HasClosure() {
				raw.Write(x.ClosureLine.Value(b))
			}
		case *ast.Text:
			plain.Write(util.ResolveEntityNames(util.ResolveNumericReferences(util.UnescapePunctuations(x.Segment.Value(b)))))
			if x.SoftLineBreak() || x.HardLineBreak() {
				plain.WriteByte('\n')
			}
		case *ast.String:
			plain.Write(x.Value)
		}
		return ast.WalkContinue, nil
	})
	flush()
	return n
}

func write(to *bytes.Buffer, lines *text.Segments, source []byte) {
	for i := range lines.Len() {
		s := lines.At(i)
		to.Write(s.Value(source))
	}
}

// nested counts the images within a link, and the links within the description of an image.
func nested(node ast.Node, count func([]byte)) {
	for child := node.FirstChild(); child != nil; child = child.NextSibling() {
		_ = ast.Walk(child, func(node ast.Node, entering bool) (ast.WalkStatus, error) {
			switch x := node.(type) {
			case *ast.Link:
				if entering {
					count(x.Destination)
				}
			case *ast.Image:
				if entering {
					count(x.Destination)
				}
			}
			return ast.WalkContinue, nil
		})
	}
}

// HTML counts the links of a text in HTML. Beyond MaxParsed it does not parse, and counts everything that could be a link.
func (c *Counter) HTML(b []byte) int {
	if !c.take(b) {
		return suspects(b)
	}
	return elements(b)
}

func (c *Counter) take(b []byte) bool {
	if len(b) > MaxParsed-c.parsed {
		return false
	}
	c.parsed += len(b)
	return true
}

// addresses are the attributes by which elements of HTML point elsewhere.
var addresses = map[string]bool{
	"href": true, "xlink:href": true, "src": true, "srcset": true, "action": true, "formaction": true, "data": true, "poster": true, "background": true, "cite": true, "ping": true,
}

// elements counts the elements that point elsewhere, and what stands in the text outside anchors.
func elements(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	n, anchors := 0, 0
	z := html.NewTokenizer(bytes.NewReader(b))
	for {
		switch z.Next() {
		case html.ErrorToken:
			return n
		case html.TextToken:
			if anchors == 0 {
				n += Plain(z.Text())
			}
		case html.StartTagToken, html.SelfClosingTagToken:
			name, more := z.TagName()
			if string(name) == "a" {
				anchors++
			}
			points := false
			for more {
				var key, value []byte
				key, value, more = z.TagAttr()
				// <meta http-equiv=refresh content="0;url=…"> leads elsewhere too.
				points = points || addresses[string(key)] && isLink(string(value)) ||
					string(name) == "meta" && string(key) == "content" && bytes.Contains(bytes.ToLower(value), []byte("url="))
			}
			if points {
				n++
			}
		case html.EndTagToken:
			if name, _ := z.TagName(); string(name) == "a" && anchors > 0 {
				anchors--
			}
		}
	}
}

// isLink says whether a destination leads out of the room.
func isLink(destination string) bool {
	// Browsers skip control characters and spaces before and in a scheme.
	d := strings.ToLower(strings.Map(func(r rune) rune {
		if r <= ' ' {
			return -1
		}
		return r
	}, destination))
	if d == "" || d[0] == '#' {
		return false
	}
	for _, inside := range []string{"mimi:", "im:", "cid:"} {
		if strings.HasPrefix(d, inside) {
			return false
		}
	}
	return true
}

// Plain counts what clients detect as links in plain text: words that begin like http, https and ftp URLs, or with "www.".
// It takes time that grows with the text.
func Plain(b []byte) int {
	n := 0
	for i := 0; i < len(b); i++ {
		if i > 0 && letter(b[i-1]) {
			continue
		}
		for _, start := range [...]string{"http://", "https://", "ftp://", "www."} {
			rest := b[i:]
			if len(rest) > len(start) && strings.EqualFold(string(rest[:len(start)]), start) && (letter(rest[len(start)]) || rest[len(start)] == '[' || rest[len(start)] >= 0x80) {
				n++
				i += len(start)
				break
			}
		}
	}
	return n
}

func letter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' }

// suspects counts everything that could be a link in Markdown or HTML that is not parsed: never fewer than there are.
func suspects(b []byte) int {
	lower := bytes.ToLower(b)
	n := Plain(b)
	for _, sign := range []string{"](", "][", "]:", "<", "="} {
		n += bytes.Count(lower, []byte(sign))
	}
	return n
}
