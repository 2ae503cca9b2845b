package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A process is a load generator's process.
type process struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	enc  *json.Encoder
	dec  *json.Decoder
}

func startWorker(name string, command []string) (*process, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &process{name: name, cmd: cmd, in: in, enc: json.NewEncoder(in), dec: json.NewDecoder(bufio.NewReaderSize(out, 1<<20))}, nil
}

// do sends a command and waits for the answer.
func (p *process) do(c command) (*answer, error) {
	if err := p.enc.Encode(c); err != nil {
		return nil, fmt.Errorf("bench: %s: %w", p.name, err)
	}
	a := new(answer)
	if err := p.dec.Decode(a); err != nil {
		return nil, fmt.Errorf("bench: %s: %s: %w", p.name, c.Op, err)
	}
	if a.Error != "" {
		return nil, fmt.Errorf("%s: %s: %s", p.name, c.Op, a.Error)
	}
	return a, nil
}

func (p *process) stop() {
	p.in.Close()
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

func (p *process) usage() usage { return usageOf(p.cmd.Process.Pid) }

// A usage is what a process has used so far.
type usage struct {
	cpu time.Duration
	rss int64 // octets that are in memory now
}

// clockTick is the unit of /proc's CPU times: 100 a second on all Linux systems.
const clockTick = 10 * time.Millisecond

// usageOf reads a process's usage; zero where there is no /proc.
func usageOf(pid int) (u usage) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u
	}
	// The name in parentheses may hold anything.
	_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')'):]), " ")
	f := strings.Fields(rest)
	if len(f) < 22 {
		return u
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	pages, _ := strconv.ParseInt(f[21], 10, 64)
	return usage{time.Duration(user+system) * clockTick, pages * int64(os.Getpagesize())}
}

// scrape reads the metrics of a provider: the sums of all series of a name.
// None without an admin listener.
func scrape(ctx context.Context, admin string) (map[string]float64, error) {
	if admin == "" {
		return nil, nil
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, admin+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	sums := map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		series, value, ok := strings.Cut(lines.Text(), " ")
		if i := strings.LastIndexByte(lines.Text(), '}'); i >= 0 {
			series, value, ok = lines.Text()[:i+1], strings.TrimSpace(lines.Text()[i+1:]), true
		}
		if !ok || strings.HasPrefix(series, "#") {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		sums[series] += v
		if name, _, labels := strings.Cut(series, "{"); labels {
			sums[name] += v
		}
	}
	return sums, lines.Err()
}

// collected makes a provider collect its garbage, so that what it holds is what
// it needs.
func collected(ctx context.Context, admin string) {
	for range 2 {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, admin+"/debug/pprof/heap?gc=1", nil)
		if err != nil {
			return
		}
		if resp, err := http.DefaultClient.Do(r); err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
}

// fsyncs measures how long appending a page to a file durably takes.
func fsyncs(dir string, n int) (Quantiles, error) {
	f, err := os.Create(filepath.Join(dir, "fsync"))
	if err != nil {
		return Quantiles{}, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	page := randomBytes(4096)
	var times []time.Duration
	for range n {
		start := time.Now()
		_, err := f.Write(page)
		if err = errors.Join(err, f.Sync()); err != nil {
			return Quantiles{}, err
		}
		times = append(times, time.Since(start))
	}
	return quantiles(times), nil
}

// diskBytes is how large the files of a folder are.
func diskBytes(dir string) (n int64) {
	filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			if info, err := e.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	list = slices.Clone(list)
	slices.Sort(list)
	return list[len(list)/2]
}
