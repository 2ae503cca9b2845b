package chaos

import (
	"context"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/comity-im/comity/serve"
)

// Provide runs a provider by a config file, as a process that the harness starts,
// until it gets a SIGTERM. Its clock is ahead by the duration in the file with
// ".clock" appended, each of its commits takes longer by that in ".disk", and a
// write beyond the limit that the kernel has for its files fails, as on a full disk.
func Provide(ctx context.Context, file string) error {
	signal.Ignore(syscall.SIGXFSZ)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	cfg, err := serve.Load(file)
	if err != nil {
		return err
	}
	clock, disk := follow(ctx, file+".clock"), follow(ctx, file+".disk")
	cfg.Now = func() time.Time { return time.Now().Add(time.Duration(clock.Load())) }
	cfg.Committed = func() { time.Sleep(time.Duration(disk.Load())) }
	s, err := serve.Open(ctx, cfg, serve.NewLogger(os.Stderr, cfg.Log))
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// follow is the duration in a file, which is read ten times a second.
func follow(ctx context.Context, file string) *atomic.Int64 {
	v := new(atomic.Int64)
	read := func() {
		b, _ := os.ReadFile(file) // none: 0
		d, _ := time.ParseDuration(string(b))
		v.Store(int64(d))
	}
	read()
	go func() {
		t := time.NewTicker(100 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				read()
			}
		}
	}()
	return v
}
