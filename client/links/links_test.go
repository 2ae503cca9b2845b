package links

import (
	"strings"
	"testing"
	"time"
)

func TestMarkdown(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       int
	}{
		{"none", "Hello, **world**. a/b, e.g. x:y, 3 < 4", 0},
		{"inline", "see [this](https://example.com/a) and [that](<https://example.com/b> \"title\")", 2},
		{"inline without a scheme", "see [this](example.com)", 1},
		{"text is the address", "[https://example.com](https://example.com)", 1},
		{"reference", "see [this][1] and [1] and [That][]\n\n[1]: https://example.com\n[that]: https://example.org", 3},
		{"definition that nothing refers to", "nothing\n\n[1]: https://example.com", 0},
		{"reference without definition", "[x][y] [z]", 0},
		{"autolink", "<https://example.com> <HTTPS://EXAMPLE.COM>", 2},
		{"autolink of another scheme", "<tel:+123> <ssh://host>", 2},
		{"email address", "<a@example.com>", 0},
		{"bare", "https://example.com, http://10.0.0.1/x and www.example.com", 3},
		{"bare in capitals", "HTTPS://EXAMPLE.COM", 1},
		{"bare with emphasis about it", "**https://example.com** _www.example.com_", 2},
		{"bare written with escapes", `https\://example.com http&#58;//example.com`, 2},
		{"in a table", "| a | b |\n|---|---|\n| [x](https://example.com) | https://example.org |", 2},
		{"image", "![x](https://example.com/x.png)", 1},
		{"image by reference", "![x][y]\n\n[y]: https://example.com/x.png", 1},
		{"image in a link", "[![x](https://example.com/x.png)](https://example.com)", 2},
		{"image in the message", "![x](cid:part1@local.invalid)", 0},
		{"mentions", "[@Alice](mimi://a.example/u/alice) [Bob](im:bob@example.com)", 0},
		{"a place in the message", "[up](#top) [nothing]()", 0},
		{"code", "`https://example.com` and `[x](https://example.com)`\n\n    https://example.com\n\n```\nhttps://example.com\n```", 0},
		{"escaped", `\[x\](example.com)`, 0},
		{"HTML anchor", `<a href="https://example.com">x</a> <A HREF='javascript:alert(1)'>y</A>`, 2},
		{"HTML block", "<div>\n<a href=https://example.com>https://example.com</a>\n<img src=//example.com/x.png>\n</div>", 2},
		{"HTML without address", "<b>x</b> <a name=top>y</a>", 0},
		{"HTML comment", "<!-- <a href=https://example.com> -->", 0},
		{"script scheme", "[x](javascript:alert(1))", 1},
		{"scheme with control characters", "<a href='java&#x0a;script:alert(1)'>x</a>", 1},
	} {
		if got := new(Counter).Markdown([]byte(test.text)); got != test.want {
			t.Errorf("%s: %d links in %q, want %d", test.name, got, test.text, test.want)
		}
	}
}

func TestHTML(t *testing.T) {
	for _, test := range []struct {
		text string
		want int
	}{
		{"<p>Hello</p>", 0},
		{`<a href="https://example.com">https://example.com</a> https://example.org`, 2},
		{`<a href="mimi://a.example/u/alice">@Alice</a> <img src="cid:x">`, 0},
		{`<form action="https://example.com"><button formaction="x">`, 2},
		{`<meta http-equiv=refresh content="0;URL=https://example.com">`, 1},
		{`<svg><a xlink:href="https://example.com">x</a></svg>`, 1},
		{`<iframe src=https://example.com>`, 1},
		{`<a href=https://example.com`, 0}, // no tag: it never ends
	} {
		if got := new(Counter).HTML([]byte(test.text)); got != test.want {
			t.Errorf("%d links in %q, want %d", got, test.text, test.want)
		}
	}
}

func TestPlain(t *testing.T) {
	for _, test := range []struct {
		text string
		want int
	}{
		{"", 0}, {"http://", 0}, {"https:// is a scheme", 0}, {"http://example.com", 1}, {"(https://example.com)", 1}, {"xhttp://example.com", 0},
		{"www.example.com www.", 1}, {"ftp://[::1]/", 1}, {"https://пример.example", 1}, {"a.www.b", 1}, {"[x](example.com)", 0},
	} {
		if got := Plain([]byte(test.text)); got != test.want {
			t.Errorf("%d links in %q, want %d", got, test.text, test.want)
		}
	}
}

// hostile are texts that are known to cost parsers of Markdown more than their length.
var hostile = map[string]string{
	"brackets":      strings.Repeat("[", MaxParsed),
	"open links":    strings.Repeat("[a](", MaxParsed/4),
	"open images":   strings.Repeat("![a](b", MaxParsed/6),
	"nested images": strings.Repeat("![", MaxParsed/8) + strings.Repeat("](b)", MaxParsed/8),
	"angles":        strings.Repeat("<", MaxParsed),
	"tags":          strings.Repeat("<a ", MaxParsed/3),
	"comments":      strings.Repeat("<!--", MaxParsed/4),
	"cdata":         strings.Repeat("x <![CDATA[", MaxParsed/11),
	"backticks":     backticks(),
	"emphasis":      strings.Repeat("*a _b ", MaxParsed/6),
	"strong":        strings.Repeat("a**b", MaxParsed/4) + "c",
	"quotes":        strings.Repeat(">", MaxParsed),
	"quoted lines":  strings.Repeat(strings.Repeat("> ", 100)+"a\n", MaxParsed/202),
	"lists":         strings.Repeat("- ", MaxParsed/2),
	"deep lists":    deepLists(),
	"references":    strings.Repeat("[a]: b\n", MaxParsed/14) + "\n" + strings.Repeat("[a] ", MaxParsed/8),
	"definitions":   strings.Repeat("[a]: <b> 'c\n", MaxParsed/12),
	"entities":      strings.Repeat("&#x41;", MaxParsed/6),
	"pipes":         strings.Repeat("|", MaxParsed/2) + "\n" + strings.Repeat("|-", MaxParsed/4),
}

func backticks() string {
	var s strings.Builder
	for n := 1; s.Len()+n+1 < MaxParsed; n++ {
		s.WriteString(strings.Repeat("`", n) + " ")
	}
	return s.String()
}

func deepLists() string {
	var s strings.Builder
	for n := 0; s.Len()+2*n+4 < MaxParsed; n++ {
		s.WriteString(strings.Repeat("  ", n) + "- a\n")
	}
	return s.String()
}

func BenchmarkHostile(b *testing.B) {
	for name, text := range hostile {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				new(Counter).Markdown([]byte(text))
			}
		})
	}
}

// Hostile texts are counted in bounded time, never fewer links than there are; what is over the limit is not parsed.
func TestHostile(t *testing.T) {
	for name, text := range hostile {
		start := time.Now()
		n := new(Counter).Markdown([]byte(text))
		if took := time.Since(start); took > 5*time.Second { // without maxCost some take longer
			t.Errorf("%s takes %v", name, took)
		}
		if n > len(text) {
			t.Errorf("%s: %d links", name, n)
		}
	}
	for _, text := range []string{"[x](example.com)", "[x]\n\n[x]: y", "<a href=x>", "https://example.com"} {
		if n := new(Counter).Markdown([]byte(strings.Repeat("> ", MaxParsed/4) + "\n\n" + text)); n < 1 {
			t.Errorf("%q hides behind signs", text)
		}
	}
	var c Counter
	big := []byte("[x](example.com) " + strings.Repeat("a", MaxParsed))
	if n := c.Markdown(big); n < 1 || c.parsed != 0 {
		t.Errorf("%d links, %d octets parsed", n, c.parsed)
	}
	if n := c.HTML(big); n < 1 || c.parsed != 0 {
		t.Errorf("%d links, %d octets parsed", n, c.parsed)
	}
	for range 3 {
		c.Markdown([]byte(strings.Repeat("a", MaxParsed/2)))
	}
	if c.parsed != MaxParsed {
		t.Errorf("%d octets parsed", c.parsed)
	}
}

// FuzzMarkdown: any text is counted, the same each time, never more links than octets; over the limit never fewer.
func FuzzMarkdown(f *testing.F) {
	for _, text := range []string{"[a](b)", "[a]: b\n\n[a]", "<https://a.example>", "![x](cid:y)", "<a href=x>", "`https://a.example`", "https://a.example"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4096 {
			return
		}
		n := new(Counter).Markdown(b)
		if n < 0 || n > len(b) || n != new(Counter).Markdown(b) {
			t.Fatalf("%d links in %q", n, b)
		}
		h := new(Counter).HTML(b)
		if h < 0 || h > len(b) {
			t.Fatalf("%d links in %q as HTML", h, b)
		}
	})
}
