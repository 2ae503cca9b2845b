package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/comity-im/comity/internal/cluster"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"comity": main})
}

// TestScripts plays sessions at a terminal, with two providers at the other end:
// testdata/*.txt. CA, A and B are the file of their authority and their
// addresses, ADIR the first one's folder, BADMIN and BFEDERATION the second one's
// addresses for its operator and for providers.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			comity, err := exec.LookPath("comity")
			if err != nil {
				return err
			}
			dir := filepath.Join(e.WorkDir, "providers")
			for try := range 3 {
				if err := os.MkdirAll(filepath.Join(dir, strconv.Itoa(try)), 0o700); err != nil {
					return err
				}
			}
			var c *cluster.Cluster
			for try := range 3 { // a free port may be taken before a provider listens on it
				c, err = cluster.Start(t.Context(), cluster.Options{Dir: filepath.Join(dir, strconv.Itoa(try)), Domains: []string{"a.example", "b.example"},
					Command: []string{comity, "serve", "--config"}})
				if err == nil {
					break
				}
			}
			if err != nil {
				return err
			}
			e.Defer(c.Stop)
			e.Setenv("CA", c.CAFile)
			e.Setenv("A", c.Provider("a.example").ClientURL())
			e.Setenv("B", c.Provider("b.example").ClientURL())
			e.Values["cluster"] = c
			e.Setenv("AADMIN", c.Provider("a.example").Admin)
			e.Setenv("BADMIN", c.Provider("b.example").Admin)
			e.Setenv("ADIR", c.Provider("a.example").Dir)
			e.Setenv("BFEDERATION", c.Provider("b.example").Federation)
			e.Setenv("COMITY_CA", c.CAFile)
			e.Setenv("COMITY_PASSWORD", "correct horse")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// eventually PATTERN COMMAND: until its output matches, for a while.
			"eventually": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 2 {
					ts.Fatalf("usage: eventually PATTERN COMMAND")
				}
				pattern := regexp.MustCompile(args[0])
				for deadline := time.Now().Add(40 * time.Second); ; time.Sleep(200 * time.Millisecond) {
					// What it says on standard output is in the script's log.
					if err := ts.Exec(args[1], args[2:]...); err == nil && pattern.MatchString(ts.ReadFile("stdout")) {
						return
					}
					if time.Now().After(deadline) {
						ts.Fatalf("waited in vain for %q", args[0])
					}
				}
			},
			// provider stop|start|restart DOMAIN
			"provider": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) != 2 {
					ts.Fatalf("usage: provider stop|start|restart DOMAIN")
				}
				p := ts.Value("cluster").(*cluster.Cluster).Provider(args[1])
				if args[0] != "start" {
					p.Stop()
				}
				if args[0] != "stop" {
					ts.Check(p.Start(t.Context()))
					ts.Check(p.Ready(t.Context()))
				}
			},
		},
	})
}
