package tlspl

// A NodeKind says what a [Node] is.
type NodeKind uint8

const (
	NodeValue  NodeKind = iota // an integer, a string, octets, or an absent optional
	NodeStruct                 // named children
	NodeVector                 // unnamed children
)

// A Node is a part of a value that was read, with its place in the input. Its
// names are those that the Code methods give to [Codec.Field].
type Node struct {
	Name     string // empty for an element of a vector
	Kind     NodeKind
	Offset   int // octets from the start of the input
	Length   int // octets, with the length or presence octet in front
	Value    any // of a NodeValue: the integer or enum in its own type, bool, string, []byte, or nil if absent
	Children []*Node
}

// Trace reads v from b like [Unmarshal] and returns what it saw as a tree. With
// an error, a *[SyntaxError], the tree holds what was read before it. The
// values alias b.
func Trace(name string, b []byte, v Coder) (*Node, error) {
	root := &Node{Name: name, Kind: NodeStruct}
	c := Codec{buf: b, end: len(b), decoding: true, trace: &tracer{open: []*Node{root}}}
	c.frames[0].index = -1
	v.Code(&c)
	if c.err == nil && c.pos != c.end {
		c.Fail(ErrTrailing)
	}
	at := c.pos
	if c.err != nil {
		at = c.err.(*SyntaxError).Offset
	}
	for _, n := range c.trace.open {
		n.Length = at - n.Offset
	}
	if c.err == nil {
		root.collapse()
	}
	return root, c.err
}

// A tracer builds the tree. Its methods do nothing on a nil tracer.
type tracer struct {
	open []*Node // from the root to the innermost
}

func (t *tracer) begin(kind NodeKind, name string, offset int) {
	if t != nil {
		n := &Node{Name: name, Kind: kind, Offset: offset}
		t.add(n)
		t.open = append(t.open, n)
	}
}

func (t *tracer) add(n *Node) {
	in := t.open[len(t.open)-1]
	in.Children = append(in.Children, n)
}

func (t *tracer) end(at int) {
	if t != nil {
		last := len(t.open) - 1
		n := t.open[last]
		n.Length = at - n.Offset
		n.collapse()
		t.open = t.open[:last]
	}
}

// collapse makes of a struct that is nothing but one unnamed value that value:
// an element of a vector of integers, say.
func (n *Node) collapse() {
	if n.Kind == NodeStruct && len(n.Children) == 1 && n.Children[0].Name == "" {
		only := n.Children[0]
		n.Kind, n.Value, n.Children = only.Kind, only.Value, only.Children
	}
}

// value records a value that began at offset.
func (c *Codec) value(offset int, v any) {
	c.trace.add(&Node{Name: c.frame(c.depth).field, Offset: offset, Length: c.pos - offset, Value: v})
}
