package content

import (
	"errors"
	"strings"
	"testing"
	"testing/quick"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain, naïve 漢字 👩🏽‍⚕️\n\ttab": "plain, naïve 漢字 👩🏽‍⚕️\n\ttab",
		"\x1b[2J\x1b]0;title\a":        "�[2J�]0;title�",
		"\u009b31m":                    "�31m", // CSI as one C1 character
		"a\rb\r\nc":                    "a�b\nc",
		"user\u202egnp.exe":            "user�gnp.exe",
		"\xff\xfe":                     "��",
		"x\x00\x7f\x08":                "x���",
		"\u2066iso\u2069":              "�iso�",
	} {
		if got := Printable(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
	if got := PrintableLine("a\nb\tc\x1b"); got != "a b c�" {
		t.Errorf("line %q", got)
	}
	if err := quick.Check(func(b []byte) bool {
		s := Printable(string(b))
		return printable(s) && Printable(s) == s && !strings.ContainsAny(PrintableLine(s), "\n\t")
	}, nil); err != nil {
		t.Error(err)
	}
}

func TestDisplay(t *testing.T) {
	all := examples(t)
	for name, want := range map[string]string{
		"original":     "Hi everyone, we just shipped release 2.0. __Good  work__!",
		"delete":       "",
		"attachment":   "[bigfile.mp4, 2 hours of key signing video, video/mp4, 708234961 octets]",
		"conferencing": "[https://example.com/join/12345, Join the Foo 118 conference]",
		"multipart-1":  "# Welcome!",
		"multipart-2":  "❤\n🥳\n🤞",
		// the GIF is named by the HTML, so it is not shown again
		"multipart-3": "<html><body><h1>Welcome!</h1>\n<img src=\"cid:5@local.invalid\" alt=\"Welcome image\"/>\n</body></html>",
	} {
		c, err := Unmarshal(all[name])
		if err != nil {
			t.Fatal(err)
		}
		if got := c.NestedPart.Display(); got != want {
			t.Errorf("%s is\n%q, want\n%q", name, got, want)
		}
	}

	image := NestedPart{Part: &SinglePart{ContentType: "image/png\x1b", Content: make([]byte, 7)}}
	evil := NestedPart{Part: &ExternalPart{URL: "file:///\x1b[2J", Filename: "a\nb"}}
	multi := func(s PartSemantics, parts ...NestedPart) *NestedPart {
		return &NestedPart{Part: &MultiPart{PartSemantics: s, Parts: parts}}
	}
	for _, test := range []struct {
		p    *NestedPart
		want string
	}{
		{multi(ProcessAll, Markdown("a"), image, evil), "a\n[image/png�, 7 octets]\n[a b, can't be downloaded]"},
		{multi(SingleUnit, Markdown("a"), image), "[2 parts that can't be shown as text]"},
		{multi(SingleUnit, Markdown("a"), Markdown("b")), "a\nb"},
		{multi(ChooseOne, image, Plain("p"), Markdown("m")), "m"},
		{multi(ChooseOne, image, image), "[image/png�, 7 octets]"},
		{multi(ChooseOne, image, *multi(SingleUnit, Plain("x"), Plain("y"))), "x\ny"},
	} {
		if got := test.p.Display(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

func TestRefer(t *testing.T) {
	c, err := Unmarshal(readVector(t, "mimi-content", "multipart-3.cbor"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Refer("cid:5@local.invalid")
	if err != nil || p.Part.(*SinglePart).ContentType != "image/gif" {
		t.Errorf("part 5 is %v, %v", p, err)
	}
	for _, uri := range []string{"cid:0@local.invalid", "cid:11@local.invalid", "cid:05@local.invalid", "cid:5@example.com", "5@local.invalid", "cid:-1@local.invalid", ""} {
		if _, err := c.Refer(uri); !errors.Is(err, ErrPartReference) {
			t.Errorf("%q: %v", uri, err)
		}
	}
}
