package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"syscall"
	"time"

	"github.com/comity-im/comity/clientapi"
)

const (
	// portsOfAddress is how many connections go from one address: there are about
	// 28,000 ports to go from.
	portsOfAddress = 20_000
	// keptFiles is how many of the files that a process may have open are not for
	// connections.
	keptFiles = 200
	// openAtOnce is how many connections are opened at a time.
	openAtOnce = 32
)

// openFiles is how many files a process may have open; the Go runtime raises its
// own limit to the hard one. 0: not known.
func openFiles() int {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return 0
	}
	return int(min(l.Max, 1<<30))
}

// connections opens connections of the first device that do nothing, as many as
// are asked for, or as the limit of open files and the time allow.
func (w *worker) connections(ctx context.Context, c *command) (*answer, error) {
	d, err := w.device(c.Devices[0])
	if err != nil {
		return nil, err
	}
	a := &answer{}
	count := c.Count
	if files := openFiles(); files > 0 && count > files-keptFiles {
		count = max(files-keptFiles, 1)
		a.Why = fmt.Sprintf("a process may have %d files open here", files)
	}
	start := time.Now()
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed error
	slots := make(chan struct{}, openAtOnce)
	var api *clientapi.Client
	for i := range count {
		if i%portsOfAddress == 0 {
			if api, err = w.from(d.api, i/portsOfAddress); err != nil {
				return nil, err
			}
		}
		slots <- struct{}{}
		mu.Lock()
		stop := failed != nil
		mu.Unlock()
		if stop {
			break
		}
		if c.Seconds > 0 && time.Since(start).Seconds() > c.Seconds {
			a.Why = fmt.Sprintf("no more were opened within %.0f s", c.Seconds)
			break
		}
		api := api
		wg.Go(func() {
			defer func() { <-slots }()
			conn, err := api.Connect(ctx)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
				return
			}
			w.idle = append(w.idle, conn)
			go func() {
				for {
					if _, err := conn.Next(ctx); err != nil {
						return
					}
				}
			}()
		})
	}
	wg.Wait()
	a.N, a.Seconds = int64(len(w.idle)), time.Since(start).Seconds()
	if failed != nil && a.N > 0 {
		a.Why, failed = failed.Error(), nil
	}
	return a, failed
}

// from is a client that connects from the n-th loopback address, so that each has
// its own ports; the client itself where the provider is on another machine.
func (w *worker) from(api *clientapi.Client, n int) (*clientapi.Client, error) {
	u, err := url.Parse(w.url)
	if err != nil {
		return nil, err
	}
	ip := net.ParseIP(u.Hostname())
	if u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) || n == 0 {
		return api, nil
	}
	if n > 250 {
		return nil, errors.New("bench: more connections than loopback addresses that are used")
	}
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(n+1))}}
	other, err := clientapi.NewClient(clientapi.ClientConfig{URL: w.url, Roots: w.tls.RootCAs, Dial: dialer.DialContext})
	if err != nil {
		return nil, err
	}
	return other.WithToken(api.Token()), nil
}
