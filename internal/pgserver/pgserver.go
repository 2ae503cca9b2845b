// Package pgserver runs a PostgreSQL of its own from the installed binaries, for
// tests and for what breaks it on purpose.
package pgserver

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
)

// A Server is a running PostgreSQL.
type Server struct {
	admin string // URL of the database that others are created from
	dir   string
	bin   string
	port  int
	cmd   *exec.Cmd
	done  chan struct{} // closed when cmd has ended
	cred  *syscall.Credential
}

// New starts a server, whose files are in a folder of their own; below parent,
// or where temporary files are if that is empty.
func New(parent string) (*Server, error) {
	s := &Server{bin: Binaries()}
	if s.bin == "" {
		return nil, errors.New("PostgreSQL is not installed: there is no initdb")
	}
	if err := s.init(parent); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// At is a server that somebody else runs, whose user may create databases.
func At(url string) *Server { return &Server{admin: url} }

// Close ends a server of one's own and removes its files.
func (s *Server) Close() {
	s.Kill(syscall.SIGQUIT)
	if s.dir != "" {
		os.RemoveAll(s.dir)
	}
}

// Dir is where a server of one's own has its files.
func (s *Server) Dir() string { return s.dir }

// Own says whether the server is one's own, which may be killed.
func (s *Server) Own() bool { return s.dir != "" }

// Binaries returns the folder of the newest installed server, if there is one.
func Binaries() string {
	if p, err := exec.LookPath("initdb"); err == nil {
		if real, err := filepath.EvalSymlinks(p); err == nil {
			p = real
		}
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
func (s *Server) init(parent string) error {
	dir, err := os.MkdirTemp(parent, "comity-postgres-")
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
// it answers. It ends at once while processes of one that was killed are still
// there; then it is started again.
func (s *Server) Restart() error {
	file := filepath.Join(s.dir, "log")
	log, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	db, err := sql.Open("pgx", s.admin)
	if err != nil {
		return err
	}
	defer db.Close()
	for begun := time.Now(); time.Since(begun) < startTime; time.Sleep(50 * time.Millisecond) {
		if s.ended() {
			cmd := s.command("postgres", "-D", filepath.Join(s.dir, "data"), "-p", strconv.Itoa(s.port), "-h", "127.0.0.1", "-k", s.dir,
				"-c", "max_connections=200", "-c", "shared_buffers=64MB", "-c", "max_wal_size=256MB")
			cmd.Stdout, cmd.Stderr = log, log
			if err := cmd.Start(); err != nil {
				return err
			}
			s.cmd, s.done = cmd, make(chan struct{})
			go func(done chan struct{}) {
				cmd.Wait()
				close(done)
			}(s.done)
		}
		if err = db.Ping(); err == nil {
			return nil
		}
	}
	text, _ := os.ReadFile(file)
	return fmt.Errorf("no answer within %v: %w\n%s", startTime, err, text[max(0, len(text)-2000):])
}

// startTime is how long a server may take to recover and start.
const startTime = 60 * time.Second

// ended says whether the process is gone.
func (s *Server) ended() bool {
	if s.cmd == nil {
		return true
	}
	select {
	case <-s.done:
		return true
	default:
		return false
	}
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
	<-s.done
	s.cmd = nil
}

// Create creates an empty database and returns its URL.
func (s *Server) Create(ctx context.Context, name string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := s.do(ctx, "CREATE DATABASE "+name); err != nil {
		return "", err
	}
	if s.cmd != nil {
		return s.url(name), nil
	}
	return withDatabase(s.admin, name), nil
}

// Drop removes a database, even while it is used.
func (s *Server) Drop(ctx context.Context, name string) error {
	return s.do(ctx, "DROP DATABASE "+name+" WITH (FORCE)")
}

// CutListeners ends the connections that LISTEN, as a pooler or an engine without
// notifications would.
func (s *Server) CutListeners(ctx context.Context) error {
	return s.do(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ILIKE 'LISTEN%'")
}

// Processes are the server's processes, the first of which starts the others.
func (s *Server) Processes() []int {
	if s.ended() {
		return nil
	}
	list := []int{s.cmd.Process.Pid}
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", list[0], list[0]))
	for _, f := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(f); err == nil {
			list = append(list, pid)
		}
	}
	return list
}

func (s *Server) do(ctx context.Context, statement string) error {
	db, err := sql.Open("pgx", s.admin)
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, statement)
	return err
}

// Tool is one of PostgreSQL's programs, such as pg_dump, of the server's version.
func (s *Server) Tool(ctx context.Context, name string, args ...string) *exec.Cmd {
	path := filepath.Join(s.bin, name)
	if _, err := os.Stat(path); err != nil {
		path = name // elsewhere, perhaps
	}
	return exec.CommandContext(ctx, path, args...)
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
