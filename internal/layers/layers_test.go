package layers

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/comity-im/comity/"

// never says what the packages below a path must not reach, directly or through
// others. It is the architecture (and the end-to-end promise: a provider can't
// import what could read a message). Do not change it to fix a build.
var never = []struct {
	below string   // a package, or a folder of packages
	but   []string // packages that the rule does not hold for
	reach []string // packages, or folders of packages
}{
	// The pure core: no network, no files, no database.
	{"tlspl", nil, []string{"net", "os/exec", "database/sql", "mls", "mimi"}},
	{"mls", nil, []string{"net", "net/http", "os/exec", "database/sql", "mimi", "identity", "store", "provider", "client", "clientapi", "federation", "serve", "internal"}},
	{"mimi", nil, []string{"net", "net/http", "os/exec", "database/sql", "identity", "store", "provider", "client", "clientapi", "federation", "serve", "internal"}},
	{"mimi/policy", nil, []string{"mimi/room", "mimi/content"}},
	{"mimi/content", nil, []string{"mimi/room", "mimi/policy"}},
	{"identity", nil, []string{"net/http", "os/exec", "database/sql", "mimi/room", "store", "provider", "client", "clientapi", "federation", "serve", "internal"}},

	// Storage knows nothing of what it stores.
	{"store", nil, []string{"mls", "mimi", "tlspl", "identity", "provider", "client", "clientapi", "federation", "serve", "internal"}},

	// The end-to-end promise. provider/abuse is where a user hands text over.
	{"provider", []string{"provider", "provider/abuse"}, []string{"mimi/content"}},
	{"provider", nil, []string{"client", "federation", "serve", "internal"}},
	{"federation", nil, []string{"mimi/content", "mimi/room", "mimi/policy", "client", "clientapi", "provider", "store", "serve", "internal"}},
	{"clientapi", nil, []string{"mimi/content", "mimi/room", "store", "provider", "client", "federation", "serve", "internal"}},

	// A client knows its provider only by clientapi.
	{"client", []string{"client/clientdb"}, []string{"database/sql"}},
	{"client", nil, []string{"store", "provider", "federation", "serve", "internal"}},

	{"serve", nil, []string{"client", "internal"}},
}

func within(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}

type listed struct {
	ImportPath string
	Deps       []string
	GoFiles    []string
}

func list(t *testing.T) map[string]listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Deps,GoFiles", "./...")
	cmd.Dir = "../.."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := map[string]listed{}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages[strings.TrimPrefix(p.ImportPath, module)] = p
	}
}

func TestImportsPointDownwards(t *testing.T) {
	packages := list(t)
	for _, rule := range never {
		matched := false
		for path, p := range packages {
			if !within(path, rule.below) {
				continue
			}
			matched = true
			excepted := false
			for _, but := range rule.but {
				excepted = excepted || path == but
			}
			if excepted {
				continue
			}
			for _, dep := range p.Deps {
				ours := strings.HasPrefix(dep, module)
				name := strings.TrimPrefix(dep, module)
				for _, reach := range rule.reach {
					// The standard library's packages are meant as they are named.
					std := reach == "net" || reach == "net/http" || reach == "os/exec" || reach == "database/sql"
					if std && !ours && dep == reach || !std && ours && within(name, reach) {
						t.Errorf("%s reaches %s, which nothing below %s may", path, name, rule.below)
					}
				}
			}
		}
		if !matched {
			t.Errorf("no package is below %s any more: the rule protects nothing", rule.below)
		}
	}
}

// The provider's hub follows rooms from outside: it holds mls.PublicGroup, never
// the mls.Group of a member.
func TestProviderHoldsNoMemberGroup(t *testing.T) {
	members := map[string]bool{"Group": true, "LoadGroup": true, "CreateGroup": true, "JoinWelcome": true, "StageExternalCommit": true, "KeyPackageSecrets": true}
	files := 0
	for _, folder := range []string{"provider", "federation", "store", "clientapi"} {
		err := filepath.WalkDir("../../"+folder, func(name string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			files++
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, name, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					if x, ok := s.X.(*ast.Ident); ok && x.Name == "mls" && members[s.Sel.Name] {
						t.Errorf("%v: mls.%s is a member's, a provider must not hold it", set.Position(s.Pos()), s.Sel.Name)
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files == 0 {
		t.Error("no files were looked at")
	}
}

// The core and the client run in a browser too.
func TestBuildsForWasm(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: not built for js/wasm")
	}
	for _, path := range []string{"./mls", "./mimi/...", "./client"} {
		cmd := exec.Command("go", "build", path)
		cmd.Dir = "../.."
		cmd.Env = append(os.Environ(), "GOOS=js", "GOARCH=wasm")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s does not build for js/wasm: %v\n%s", path, err, out)
		}
	}
}
