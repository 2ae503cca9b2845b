// Package pgtest gives tests a PostgreSQL: the one that COMITY_TEST_POSTGRES
// names, or one of their own that is started from the installed binaries and
// removed afterwards.
package pgtest

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/comity-im/comity/internal/pgserver"
)

// Env names an existing server, whose user may create databases.
const Env = "COMITY_TEST_POSTGRES"

// A Server is a running PostgreSQL.
type Server struct {
	*pgserver.Server
	count atomic.Int32
}

// Start returns a server for the time of a test, or skips the test with one
// line that says what is missing. In CI that is a failure.
func Start(t testing.TB) *Server {
	t.Helper()
	if url := os.Getenv(Env); url != "" {
		return &Server{Server: pgserver.At(url)}
	}
	if pgserver.Binaries() == "" {
		if os.Getenv("CI") != "" {
			t.Fatalf("no PostgreSQL: neither %s is set nor are initdb and postgres installed", Env)
		}
		t.Skipf("skipped: no PostgreSQL (set %s, or install its server binaries)", Env)
	}
	s, err := pgserver.New("")
	if err != nil {
		t.Fatalf("PostgreSQL can't be started: %v", err)
	}
	t.Cleanup(s.Close)
	return &Server{Server: s}
}

// Available is Start for tests that can do without: nil if there is none.
func Available(t testing.TB) *Server {
	t.Helper()
	if os.Getenv(Env) == "" && os.Getenv("CI") == "" && pgserver.Binaries() == "" {
		return nil
	}
	return Start(t)
}

// Database creates an empty database and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	url, err := s.Create(context.Background(), fmt.Sprintf("comity_test_%d_%d", os.Getpid(), s.count.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	return url
}
