package demo_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/comity-im/comity/internal/cli"
	"github.com/comity-im/comity/internal/cluster"
	"github.com/comity-im/comity/internal/demo"
)

// The test binary is also the provider that it starts.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "serve-for-test" {
		s := cli.Serve{Config: os.Args[2]}
		if err := s.Run(context.Background(), os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func options(t *testing.T, out io.Writer) demo.Options {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := os.Getenv("COMITY_DEMO_DIR") // to look at the logs afterwards
	if dir == "" {
		dir = t.TempDir()
	} else if dir, err = os.MkdirTemp(dir, "story-"); err != nil {
		t.Fatal(err)
	}
	return demo.Options{Out: out, Dir: dir, Command: []string{exe, "serve-for-test"}}
}

func play(t *testing.T, o demo.Options) {
	t.Helper()
	var out bytes.Buffer
	if o.Out == nil {
		o.Out = &out
	}
	if err := demo.Run(t.Context(), o); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
}

func TestStory(t *testing.T) {
	var out bytes.Buffer
	o := options(t, &out)
	o.JSON = true
	play(t, o)
	var steps []string
	var last struct {
		Step                string
		OK                  bool
		Sent, Read, Clients int
	}
	reads := 0
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		var line struct {
			Step, Room, Sender, Text string
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		switch line.Step {
		case "":
		case "read":
			reads++
			if line.Room != "mimi://a.example/r/clubhouse" || line.Sender == "" || line.Text == "" {
				t.Errorf("a read message is %s", lines.Text())
			}
		default:
			steps = append(steps, line.Step)
		}
		if err := json.Unmarshal(lines.Bytes(), &last); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"providers", "register", "create", "add-bob", "add-cathy", "message", "leave", "new-device", "goodbye", "done"}
	if !slices.Equal(steps, want) {
		t.Errorf("steps are %v, want %v", steps, want)
	}
	if last.Step != "done" || !last.OK || last.Sent != 2 || last.Read != 6 || last.Clients != 4 || reads != 6 {
		t.Errorf("the last line says %+v, %d reads were printed", last, reads)
	}
}

var domains = []string{"a.example", "b.example", "c.example"}

// kill -9 of any provider between the steps of the story, and a restart, loses
// nothing and shows nothing twice.
func TestKillBetweenSteps(t *testing.T) {
	for _, domain := range domains {
		t.Run(domain, func(t *testing.T) {
			o := options(t, nil)
			o.Between = func(ctx context.Context, step string, c *cluster.Cluster) error {
				p := c.Provider(domain)
				p.Kill()
				return p.Restart(ctx)
			}
			play(t, o)
		})
	}
}

// kill -9 of any provider in the middle of every step, and a restart.
func TestKillDuringSteps(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("COMITY_DEMO_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("COMITY_DEMO_SEED=%d", seed)
	for i, domain := range domains {
		t.Run(domain, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			o := options(t, nil)
			o.During = func(ctx context.Context, step string, c *cluster.Cluster) {
				// A step takes a quarter of a second or so when nothing is killed.
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Duration(r.IntN(60)) * time.Millisecond):
				}
				p := c.Provider(domain)
				p.Kill()
				time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
				if err := p.Restart(context.WithoutCancel(ctx)); err != nil {
					t.Errorf("%s: %v", step, err)
				}
			}
			play(t, o)
		})
	}
}
