package mls

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// declared returns the names that the Go files of a directory declare: functions, types, constants, variables, fields, and
// methods as Type.Method.
func declared(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatal("no Go files in ", dir)
	}
	names := make(map[string]bool)
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				names[receiver(d)+d.Name.Name] = true
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch spec := spec.(type) {
					case *ast.TypeSpec:
						names[spec.Name.Name] = true
						if s, ok := spec.Type.(*ast.StructType); ok {
							for _, field := range s.Fields.List {
								for _, n := range field.Names {
									names[spec.Name.Name+"."+n.Name] = true
								}
							}
						}
					case *ast.ValueSpec:
						for _, n := range spec.Names {
							names[n.Name] = true
						}
					}
				}
			}
		}
	}
	return names
}

func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	x := d.Recv.List[0].Type
	if star, ok := x.(*ast.StarExpr); ok {
		x = star.X
	}
	if generic, ok := x.(*ast.IndexExpr); ok {
		x = generic.X
	}
	return x.(*ast.Ident).Name + "."
}

// TestRFC9420Table holds docs/rfc9420.md against the code: what it names exists.
func TestRFC9420Table(t *testing.T) {
	doc, err := os.ReadFile("../docs/rfc9420.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]map[string]bool{
		"mls": declared(t, "."), "suite": declared(t, "suite"), "tlspl": declared(t, "../tlspl"), "identity": declared(t, "../identity"),
	}
	rows, names := 0, 0
	for line := range strings.Lines(string(doc)) {
		cells := strings.Split(line, "|")
		if len(cells) != 6 || strings.HasPrefix(cells[1], " ---") {
			continue
		}
		rows++
		for _, m := range regexp.MustCompile("`([A-Za-z0-9.]+)`").FindAllStringSubmatch(cells[3]+cells[4], -1) {
			names++
			in, name := "mls", m[1]
			if pkg, rest, ok := strings.Cut(name, "."); ok && known[pkg] != nil {
				in, name = pkg, rest
			}
			if !known[in][name] && name != "client" {
				t.Errorf("%q is named by the table and does not exist", m[1])
			}
		}
	}
	if rows < 80 || names < 150 {
		t.Errorf("only %d rows with %d names found", rows, names)
	}
}
