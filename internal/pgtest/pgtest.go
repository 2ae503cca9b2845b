// Package pgtest gives tests a PostgreSQL: the one that COMITY_TEST_POSTGRES
// names, or one of their own that is started from the installed binaries and
// removed afterwards.
package pgtest

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// Env names an existing server, whose user may create databases.
const Env = "COMITY_TEST_POSTGRES"

// A Server is a running PostgreSQL.
type Server struct {
	admin string // URL of the database that others are created from
	dir   string
	bin   string
	port  int
	cmd   *exec.Cmd
	cred  *syscall.Credential
	count int
	mu    sync.Mutex
}

// Start returns a server for the time of a test, or skips the test with one
// line that says what is missing. In CI that is a failure.
func Start(t testing.TB) *Server {
	t.Helper()
	if url := os.Getenv(Env); url != "" {
		return &Server{admin: url}
	}
	bin := binaries()
	if bin == "" {
		if os.Getenv("CI") != "" {
			t.Fatalf("no PostgreSQL: neither %s is set nor are initdb and postgres installed", Env)
		}
		t.Skipf("skipped: no PostgreSQL (set %s, or install its server binaries)", Env)
	}
	s := &Server{bin: bin}
	if err := s.init(); err != nil {
		s.remove()
		t.Fatalf("PostgreSQL can't be started: %v", err)
	}
	t.Cleanup(func() {
		s.Kill(syscall.SIGQUIT)
		s.remove()
	})
	return s
}

// Available is Start for tests that can do without: nil if there is none.
func Available(t testing.TB) *Server {
	t.Helper()
	if os.Getenv(Env) == "" && os.Getenv("CI") == "" && binaries() == "" {
		return nil
	}
	return Start(t)
}

// Own says whether the server is this test's own, which it may kill.
func (s *Server) Own() bool { return s.dir != "" }

// binaries returns the folder of the newest installed server, if there is one.
func binaries() string {
	if p, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(p)
	}
	list, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(list) == 0 {
		return ""
	}
	slices.Sort(list)
	return filepath.Dir(list[len(list)-1])
}

// init makes a database cluster and starts the server. PostgreSQL does not run
// as root, so for root it runs as somebody else.
func (s *Server) init() error {
	dir, err := os.MkdirTemp("", "comity-postgres-")
	if err != nil {
		return err
	}
	s.dir = dir
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			if u, err = user.Lookup("nobody"); err != nil {
				return err
			}
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		s.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			return err
		}
	}
	if out, err := s.command("initdb", "-D", filepath.Join(dir, "data"), "-U", "comity", "-A", "trust", "-E", "UTF8", "--no-locale", "-N").CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	s.admin = s.url("postgres")
	return s.Restart()
}

func (s *Server) url(database string) string {
	return fmt.Sprintf("postgres://comity@127.0.0.1:%d/%s?sslmode=disable", s.port, database)
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "HOME="+s.dir, "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred, Setpgid: true}
	return cmd
}

// Restart starts the server, after Kill or for the first time, and waits until
// it answers.
func (s *Server) Restart() error {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := s.command("postgres", "-D", filepath.Join(s.dir, "data"), "-p", strconv.Itoa(s.port), "-h", "127.0.0.1", "-k", s.dir,
		"-c", "max_connections=200", "-c", "shared_buffers=64MB")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd = cmd
	db, err := sql.Open("pgx", s.admin)
	if err != nil {
		return err
	}
	defer db.Close()
	for range 600 {
		if err = db.Ping(); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return fmt.Errorf("no answer within 30 s: %w\n%s", err, text)
}

// Kill ends the server by a signal, SIGKILL for a crash, and waits for its end.
func (s *Server) Kill(sig syscall.Signal) {
	if s.cmd == nil {
		return
	}
	if sig == syscall.SIGKILL {
		// The whole group: a crash leaves no process behind.
		syscall.Kill(-s.cmd.Process.Pid, sig)
	} else {
		s.cmd.Process.Signal(sig)
	}
	s.cmd.Wait()
	s.cmd = nil
}

func (s *Server) remove() {
	if s.dir != "" {
		os.RemoveAll(s.dir)
	}
}

// Database creates an empty database and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	s.mu.Lock()
	s.count++
	name := fmt.Sprintf("comity_test_%d_%d", os.Getpid(), s.count)
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	db, err := sql.Open("pgx", s.admin)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	if s.cmd != nil {
		return s.url(name)
	}
	return withDatabase(s.admin, name)
}

// withDatabase replaces the database in a PostgreSQL URL.
func withDatabase(admin, name string) string {
	u, err := url.Parse(admin)
	if err != nil {
		return admin
	}
	u.Path = "/" + name
	return u.String()
}
