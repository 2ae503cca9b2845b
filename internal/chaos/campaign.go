package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/comity-im/comity/internal/pgserver"
)

// A Total is what several rounds did and found together.
type Total struct {
	Rounds   int            `json:"rounds"`
	Faults   time.Duration  `json:"faults_ns"` // for how long things were broken
	Took     time.Duration  `json:"took_ns"`
	Counts   map[string]int `json:"counts"` // faults, operations and checks
	Findings []string       `json:"findings"`
	Seeds    []uint64       `json:"seeds"`
}

// String is the report as text.
func (t *Total) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d rounds, %.2f h, %.2f h of them with faults; seeds %d to %d\n", t.Rounds, t.Took.Hours(), t.Faults.Hours(), t.Seeds[0], t.Seeds[len(t.Seeds)-1])
	kinds := [][2]string{{"fault: ", "faults"}, {"check: ", "checks"}, {"packets ", "packets between providers"}, {"", "operations"}}
	for i, kind := range kinds {
		sum, lines := 0, strings.Builder{}
		for _, k := range slices.Sorted(maps.Keys(t.Counts)) {
			other := strings.HasPrefix(k, kinds[0][0]) || strings.HasPrefix(k, kinds[1][0]) || strings.HasPrefix(k, kinds[2][0])
			if i < 3 && strings.HasPrefix(k, kind[0]) || i == 3 && !other {
				sum += t.Counts[k]
				fmt.Fprintf(&lines, "  %8d  %s\n", t.Counts[k], strings.TrimPrefix(k, kind[0]))
			}
		}
		fmt.Fprintf(&b, "%d %s\n%s", sum, kind[1], lines.String())
	}
	fmt.Fprintf(&b, "%d findings\n", len(t.Findings))
	for _, f := range t.Findings {
		fmt.Fprintf(&b, "  %s\n", f)
	}
	return b.String()
}

// Campaign does rounds of o.Time each, with o.Seed and the seeds after it, until
// they took as long as asked for or ctx ends, each with a PostgreSQL of its own
// where there is one. After each round the report so far is written to file, as
// JSON, if that is not empty. A round with findings leaves its folder behind.
func Campaign(ctx context.Context, o Options, most time.Duration, file string, progress io.Writer) (*Total, error) {
	t := &Total{Counts: map[string]int{}}
	base := o.Dir
	for begun := time.Now(); ctx.Err() == nil && (t.Rounds == 0 || time.Since(begun) < most); o.Seed++ {
		o.Dir = filepath.Join(base, fmt.Sprintf("seed-%d", o.Seed))
		if err := os.MkdirAll(o.Dir, 0o700); err != nil {
			return t, err
		}
		r, err := round(ctx, o)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return t, fmt.Errorf("seed %d: %w", o.Seed, err)
		}
		t.add(r, o.Time)
		t.Took = time.Since(begun)
		fmt.Fprint(progress, r)
		if len(r.Findings) == 0 {
			os.RemoveAll(o.Dir)
		}
		if file != "" {
			text, err := json.MarshalIndent(t, "", "  ")
			if err != nil {
				return t, err
			}
			if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
				return t, err
			}
		}
	}
	return t, nil
}

// round is one run, with a PostgreSQL if there is one.
func round(ctx context.Context, o Options) (*Report, error) {
	if pgserver.Binaries() != "" {
		server, err := pgserver.New("")
		if err != nil {
			return nil, err
		}
		defer server.Close()
		if o.Store, err = server.Create(ctx, "comity"); err != nil {
			return nil, err
		}
		o.Database = server
	}
	return Run(ctx, o)
}

func (t *Total) add(r *Report, faults time.Duration) {
	t.Rounds++
	t.Faults += faults
	t.Seeds = append(t.Seeds, r.Seed)
	for k, n := range r.Counts {
		t.Counts[k] += n
	}
	for _, f := range r.Findings {
		t.Findings = append(t.Findings, fmt.Sprintf("seed %d: %s", r.Seed, f))
	}
}
