package tlspl

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

type traced struct {
	kind  uint16
	flag  bool
	names []string
	pair  *tracedPair
	none  *tracedPair
	ids   []uint32
	fixed [2]byte
	rest  []byte
}

type tracedPair struct {
	a uint8
	b []byte
}

func (p *tracedPair) Code(c *Codec) {
	c.Field("a")
	Uint8(c, &p.a)
	c.Field("b")
	Opaque(c, &p.b)
}

func (v *traced) Code(c *Codec) {
	c.Field("kind")
	Uint16(c, &v.kind)
	c.Field("flag")
	Bool(c, &v.flag)
	c.Field("names")
	VectorFunc(c, &v.names, String[string])
	c.Field("pair")
	Optional(c, &v.pair)
	c.Field("none")
	Optional(c, &v.none)
	c.Field("ids")
	VectorFunc(c, &v.ids, Uint32[uint32])
	c.Field("fixed")
	Fixed(c, v.fixed[:])
	c.Field("rest")
	Remainder(c, &v.rest)
}

func dump(n *Node, depth int, s *strings.Builder) {
	fmt.Fprintf(s, "%d+%d %s%s", n.Offset, n.Length, strings.Repeat(".", depth), n.Name)
	if n.Kind == NodeValue {
		fmt.Fprintf(s, "=%v", n.Value)
	}
	s.WriteString("\n")
	for _, k := range n.Children {
		dump(k, depth+1, s)
	}
}

func TestTrace(t *testing.T) {
	in := &traced{7, true, []string{"x", "yz"}, &tracedPair{1, []byte{9}}, nil, []uint32{5}, [2]byte{1, 2}, []byte{3}}
	b, err := Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	root, err := Trace("traced", b, new(traced))
	if err != nil {
		t.Fatal(err)
	}
	var s strings.Builder
	dump(root, 0, &s)
	want := `0+23 traced
0+2 .kind=7
2+1 .flag=true
3+6 .names
4+2 ..=x
6+3 ..=yz
10+3 .pair
10+1 ..a=1
11+2 ..b=[9]
13+1 .none=<nil>
14+5 .ids
15+4 ..=5
19+2 .fixed=[1 2]
21+1 .rest=[3]
`
	want = strings.Replace(want, "0+23", fmt.Sprintf("0+%d", len(b)), 1)
	want = strings.Replace(want, "21+1 .rest", fmt.Sprintf("%d+1 .rest", len(b)-1), 1)
	if s.String() != want {
		t.Errorf("got\n%swant\n%s", s.String(), want)
	}

	// Cut short, the tree holds what came before.
	root, err = Trace("traced", b[:12], new(traced))
	var se *SyntaxError
	if !errors.As(err, &se) || se.Field != "pair.b" {
		t.Fatalf("error %v", err)
	}
	last := root.Children[len(root.Children)-1]
	if last.Name != "pair" || len(last.Children) != 1 || root.Length != se.Offset {
		t.Errorf("tree ends with %+v, length %d", last, root.Length)
	}
	if _, err = Trace("pair", []byte{1, 0, 0}, new(tracedPair)); !errors.Is(err, ErrTrailing) {
		t.Errorf("trailing octet: %v", err)
	}
}
