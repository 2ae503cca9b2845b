package interop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// A Foreign is a foreign peer that can be built and started here.
type Foreign struct {
	Name    string
	Tool    string // the toolchain's command
	build   func(ctx context.Context, log io.Writer, root string) error
	command func(root string) []string
}

// ErrNoToolchain says that a peer can't be built for want of its toolchain.
var ErrNoToolchain = errors.New("interop: toolchain missing")

// Foreigns gives the foreign peers, each Rust library and ts-mls.
func Foreigns() []Foreign {
	rust := func(binary string) Foreign {
		return Foreign{
			Tool: "cargo",
			build: func(ctx context.Context, log io.Writer, root string) error {
				return runIn(ctx, log, filepath.Join(root, "rust"), "cargo", "build", "--release", "--locked")
			},
			command: func(root string) []string {
				return []string{filepath.Join(root, "rust", "target", "release", binary)}
			},
		}
	}
	openmls, mlsrs := rust("openmls-peer"), rust("mls-rs-peer")
	openmls.Name, mlsrs.Name = "openmls", "mls-rs"
	tsmls := Foreign{
		Name: "ts-mls",
		Tool: "node",
		build: func(ctx context.Context, log io.Writer, root string) error {
			dir := filepath.Join(root, "node")
			lock, err := os.Stat(filepath.Join(dir, "package-lock.json"))
			if err != nil {
				return err
			}
			// npm writes this file last, so it is newer than the lock it installed from.
			installed, err := os.Stat(filepath.Join(dir, "node_modules", ".package-lock.json"))
			if err == nil && !installed.ModTime().Before(lock.ModTime()) {
				return nil
			}
			return runIn(ctx, log, dir, "npm", "ci", "--no-audit", "--no-fund")
		},
		command: func(root string) []string {
			return []string{"node", filepath.Join(root, "node", "main.mjs")}
		},
	}
	return []Foreign{openmls, mlsrs, tsmls}
}

func runIn(ctx context.Context, log io.Writer, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err() // not that the process was killed
		}
		return fmt.Errorf("interop: %s in %s: %w", name, dir, err)
	}
	return nil
}

// root is this directory: the peers' sources lie beside this file.
func root() (string, error) {
	_, file, _, ok := runtime.Caller(0)
	dir := filepath.Dir(file)
	if _, err := os.Stat(filepath.Join(dir, "rust", "Cargo.lock")); !ok || err != nil {
		return "", fmt.Errorf("interop: no peers' sources in %s", dir)
	}
	return dir, nil
}

// Build makes the peer ready to start; what the toolchain says goes to log. The first build of the
// Rust peers takes minutes, later ones a moment, and one that ctx ended goes on where it was.
// Errors: [ErrNoToolchain], ctx's.
func (f Foreign) Build(ctx context.Context, log io.Writer) error {
	if _, err := exec.LookPath(f.Tool); err != nil {
		return fmt.Errorf("%w: %s needs %s", ErrNoToolchain, f.Name, f.Tool)
	}
	dir, err := root()
	if err != nil {
		return err
	}
	start := time.Now()
	fmt.Fprintf(log, "interop: building peer %s\n", f.Name)
	if err := f.build(ctx, log, dir); err != nil {
		return err
	}
	fmt.Fprintf(log, "interop: peer %s ready after %s\n", f.Name, time.Since(start).Round(time.Millisecond))
	return nil
}

// Start starts a built peer.
func (f Foreign) Start(log io.Writer) (*Process, error) {
	dir, err := root()
	if err != nil {
		return nil, err
	}
	command := f.command(dir)
	return Start(log, dir, command[0], command[1:]...)
}

// Bench gives the command that measures a built peer and prints one JSON [Measurement] a line.
func (f Foreign) Bench(suite uint16, sizes []int) (*exec.Cmd, error) {
	dir, err := root()
	if err != nil {
		return nil, err
	}
	command := append(f.command(dir), "bench", fmt.Sprint(suite))
	for _, n := range sizes {
		command = append(command, fmt.Sprint(n))
	}
	return exec.Command(command[0], command[1:]...), nil
}
