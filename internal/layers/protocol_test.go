package layers

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each test that docs/protocol.md names is there, in the package, or as the script, that it names.
func TestProtocolTable(t *testing.T) {
	root := filepath.Join("..", "..")
	table, err := os.ReadFile(filepath.Join(root, "docs", "protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		dir, _ := filepath.Rel(root, filepath.Dir(path))
		for _, m := range declared.FindAllSubmatch(source, -1) {
			have[filepath.ToSlash(dir)+" "+string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	word := regexp.MustCompile("`([a-z/]+)`|\\b(Test\\w+)|script (\\w+)|(client/\\w+_test\\.go)")
	for _, line := range strings.Split(string(table), "\n") {
		cells := strings.Split(line, " | ")
		if len(cells) != 3 || !strings.HasPrefix(line, "| ") {
			continue
		}
		in := ""
		for _, m := range word.FindAllStringSubmatch(cells[2], -1) {
			switch {
			case m[1] != "":
				in = m[1]
			case m[2] != "":
				if named++; !have[in+" "+m[2]] {
					t.Errorf("docs/protocol.md names %s in %s, which is not there", m[2], in)
				}
			case m[3] != "":
				if _, err := os.Stat(filepath.Join(root, "cmd", "comity", "testdata", m[3]+".txt")); err != nil {
					t.Error(err)
				}
			}
		}
	}
	if named < 100 {
		t.Errorf("only %d tests are named", named)
	}
}
