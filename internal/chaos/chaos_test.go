package chaos_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/comity-im/comity/internal/chaos"
	"github.com/comity-im/comity/internal/pgtest"
)

// The test binary is also the provider that it starts, with a clock that jumps
// and a disk that may be full.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "provider-for-chaos" {
		if err := chaos.Provide(context.Background(), os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestChaos runs when COMITY_CHAOS_TIME says for how long to break things (docs/chaos.md). COMITY_CHAOS_SEED
// repeats the schedule of a run.
func TestChaos(t *testing.T) {
	if os.Getenv("COMITY_CHAOS_TIME") == "" {
		t.Skip("skipped: COMITY_CHAOS_TIME is not set, for how long to break things")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := chaos.Options{Dir: t.TempDir(), Command: []string{exe, "provider-for-chaos"}, Seed: uint64(time.Now().UnixNano()), Time: 40 * time.Second, Log: t.Logf}
	if s := os.Getenv("COMITY_CHAOS_SEED"); s != "" {
		if o.Seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	if s := os.Getenv("COMITY_CHAOS_TIME"); s != "" {
		if o.Time, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	if s := os.Getenv("COMITY_CHAOS_DIR"); s != "" {
		o.Dir = s // kept
	}
	t.Logf("COMITY_CHAOS_SEED=%d COMITY_CHAOS_TIME=%v", o.Seed, o.Time)
	if server := pgtest.Available(t); server != nil {
		o.Store = server.Database(t)
		if server.Own() {
			o.Database = server.Server
		}
	}
	r, err := chaos.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r)
	for _, f := range r.Findings {
		t.Error(f)
	}
}

// options are those of a test that does not break things at random.
func options(t *testing.T) chaos.Options {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := chaos.Options{Dir: t.TempDir(), Command: []string{exe, "provider-for-chaos"}, Seed: 1, Log: t.Logf}
	if s := os.Getenv("COMITY_CHAOS_DIR"); s != "" {
		o.Dir = s // kept
	}
	return o
}

// postgres gives the first provider a PostgreSQL of the test's own.
func postgres(t *testing.T, o *chaos.Options) {
	t.Helper()
	server := pgtest.Start(t)
	if !server.Own() {
		t.Skipf("skipped: the PostgreSQL of %s is not the test's own", pgtest.Env)
	}
	o.Store, o.Database = server.Database(t), server.Server
}

func report(t *testing.T, r *chaos.Report, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r)
	for _, f := range r.Findings {
		t.Error(f)
	}
}

// A provider that is restored from a backup, taken while it ran, federates on.
func TestRestoredBackup(t *testing.T) {
	r, err := chaos.Restore(t.Context(), options(t))
	report(t, r, err)
}

// The same with pg_dump and pg_restore, and two nodes.
func TestRestoredDump(t *testing.T) {
	o := options(t)
	postgres(t, &o)
	r, err := chaos.Restore(t.Context(), o)
	report(t, r, err)
}

// Nodes come and go while their users talk: killed, one's deliveries are the
// others' within seconds; started anew one after the other, nothing is lost and
// nothing comes twice.
func TestNodesComeAndGo(t *testing.T) {
	o := options(t)
	postgres(t, &o)
	r, err := chaos.Nodes(t.Context(), o)
	report(t, r, err)
}
