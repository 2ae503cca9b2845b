package policy

import (
	"fmt"
	"io"
	"strings"
)

// WriteTable writes who may do what in a room: a row for each registered capability that any role has, a column for each
// role, then for each role whom its holders may move from where to where, and how many of them there may be.
func WriteTable(w io.Writer, r *Roles) error {
	var b strings.Builder
	const first = "may"
	width := len(first)
	for i := range capabilities {
		if r.anyHas(capabilities[i].number) {
			width = max(width, len(capabilities[i].does))
		}
	}
	fmt.Fprintf(&b, "%-*s", width, first)
	for i := range r.list {
		fmt.Fprintf(&b, "  %s", r.list[i].label())
	}
	b.WriteByte('\n')
	for i := range capabilities {
		c := &capabilities[i]
		if !r.anyHas(c.number) {
			continue
		}
		fmt.Fprintf(&b, "%-*s", width, c.does)
		for k := range r.list {
			mark := "-"
			if r.list[k].has(c.number) {
				mark = "yes"
			}
			fmt.Fprintf(&b, "  %-*s", len(r.list[k].label()), mark)
		}
		b.WriteByte('\n')
	}
	for i := range r.list {
		x := &r.list[i]
		fmt.Fprintf(&b, "\n%s", x.label())
		if limits := x.limits(); limits != "" {
			fmt.Fprintf(&b, " (%s)", limits)
		}
		b.WriteByte('\n')
		for k := 0; k < len(x.changes); {
			f := x.changes[k].from
			var to []string
			for ; k < len(x.changes) && x.changes[k].from == f; k++ {
				to = append(to, r.place(x.changes[k].to))
			}
			fmt.Fprintf(&b, "  %s -> %s\n", r.place(f), strings.Join(to, ", "))
		}
	}
	// lines end where their last mark ends
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n"))
	return err
}

func (r *Roles) anyHas(c Capability) bool {
	for i := range r.list {
		if r.list[i].has(c) {
			return true
		}
	}
	return false
}

// label is a role's name, or its index where it has none.
func (r *role) label() string {
	if r.name != "" {
		return r.name
	}
	return fmt.Sprintf("role %d", r.index)
}

// place is where a role change starts or ends: a role, or outside of the list.
func (r *Roles) place(i RoleIndex) string {
	if i == NoRole {
		return "outside"
	}
	if x := r.get(i); x != nil {
		return x.label()
	}
	return fmt.Sprintf("role %d (not defined)", i)
}

// limits says how many holders there must and may be.
func (r *role) limits() string {
	var parts []string
	add := func(format string, n uint32) { parts = append(parts, fmt.Sprintf(format, n)) }
	if r.minAll > 0 {
		add("at least %d", r.minAll)
	}
	if r.maxAll != nil {
		add("at most %d", *r.maxAll)
	}
	if r.minActive > 0 {
		add("at least %d with a client", r.minActive)
	}
	if r.maxActive != nil && *r.maxActive == 0 {
		parts = append(parts, "without clients")
	} else if r.maxActive != nil {
		add("at most %d with a client", *r.maxActive)
	}
	return strings.Join(parts, ", ")
}
