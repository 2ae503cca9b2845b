package interop

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// A Measurement is one row of a peer's benchmark. README.md says what each operation is.
type Measurement struct {
	Peer     string `json:"peer"`
	Version  string `json:"version"`
	Crypto   string `json:"crypto"`
	Suite    uint16 `json:"suite"`
	Op       string `json:"op"`
	Members  int    `json:"members"`
	Rounds   int    `json:"rounds"`
	CPUNS    int64  `json:"cpu_ns"` // mean, on all cores
	MinNS    int64  `json:"min_ns"`
	MedianNS int64  `json:"median_ns"`
}

// Operations are the benchmark's rows in order.
var Operations = []string{
	"create_add", "join_after_add", "commit_after_add", "join", "commit_full", "process", "send", "receive",
}

// Limits of one row: at least minRounds, then until the budget is spent, at most maxRounds.
const (
	minRounds = 3
	maxRounds = 100
	budget    = 1500 * time.Millisecond
)

type row struct {
	samples []time.Duration
	cpu     time.Duration // of all samples, on all cores
	started time.Time
}

func newRow() *row { return &row{started: time.Now()} }

func (r *row) more() bool {
	n := len(r.samples)
	return n < minRounds || n < maxRounds && time.Since(r.started) < budget
}

func (r *row) time(f func() error) error {
	used, start := cpuTime(), time.Now()
	err := f()
	r.samples = append(r.samples, time.Since(start))
	r.cpu += cpuTime() - used
	return err
}

// Measure does the benchmark's work with a peer in this process, at one group size of two or more,
// and hands each row to emit.
func Measure(p Peer, suite uint16, members int, emit func(Measurement)) error {
	c, err := p.Capabilities()
	if err != nil {
		return err
	}
	done := func(r *row, op string) {
		slices.Sort(r.samples)
		emit(Measurement{
			Peer: c.Name, Version: c.Version, Crypto: c.Crypto, Suite: suite, Op: op, Members: members,
			Rounds: len(r.samples), CPUNS: r.cpu.Nanoseconds() / int64(len(r.samples)),
			MinNS: r.samples[0].Nanoseconds(), MedianNS: r.samples[len(r.samples)/2].Nanoseconds(),
		})
	}
	name := func(i int) string { return fmt.Sprintf("member-%d", i) }
	for i := range members {
		if err := p.NewClient(name(i), suite, ClientOptions{TreeExtension: true}); err != nil {
			return err
		}
	}
	founder, last := name(0), name(members-1)

	adds := make([]Proposal, members-1)
	for i := range adds {
		kp, err := p.KeyPackage(name(i + 1))
		if err != nil {
			return err
		}
		adds[i] = Proposal{Kind: KindAdd, KeyPackage: kp}
	}
	r := newRow()
	for r.more() {
		if err := p.Forget(founder); err != nil {
			return err
		}
		err := r.time(func() error {
			_, err := found(p, founder, fmt.Appendf(nil, "group-%d", len(r.samples)), adds)
			return err
		})
		if err != nil {
			return err
		}
	}
	done(r, "create_add")

	r = newRow()
	for r.more() {
		if err := p.Forget(founder); err != nil {
			return err
		}
		out, err := found(p, founder, fmt.Appendf(nil, "joined-%d", len(r.samples)), adds)
		if err != nil {
			return err
		}
		if err := r.time(func() error { return p.Join(name(1), out.Welcome, nil) }); err != nil {
			return err
		}
		if err := p.Forget(name(1)); err != nil {
			return err
		}
		kp, err := p.KeyPackage(name(1))
		if err != nil {
			return err
		}
		adds[0].KeyPackage = kp
	}
	done(r, "join_after_add")

	r = newRow()
	for r.more() {
		err := r.time(func() error { _, err := p.Commit(founder, nil); return err })
		if err != nil {
			return err
		}
		if err := p.Discard(founder); err != nil {
			return err
		}
	}
	done(r, "commit_after_add")

	if err := p.Forget(founder); err != nil {
		return err
	}
	if err := p.CreateGroup(founder, []byte("full")); err != nil {
		return err
	}
	for i := 1; i < members-1; i++ {
		if err := enterAlone(p, founder, name(i)); err != nil {
			return err
		}
	}
	r = newRow()
	for r.more() {
		kp, err := p.KeyPackage(last)
		if err != nil {
			return err
		}
		out, err := p.Commit(founder, []Proposal{{Kind: KindAdd, KeyPackage: kp}})
		if err != nil {
			return err
		}
		if err := r.time(func() error { return p.Join(last, out.Welcome, nil) }); err != nil {
			return err
		}
		if err := p.Forget(last); err != nil {
			return err
		}
		if err := p.Discard(founder); err != nil {
			return err
		}
	}
	done(r, "join")
	if err := enterAlone(p, founder, last); err != nil {
		return err
	}

	commits, processes := newRow(), newRow()
	for commits.more() {
		var out Committed
		err := commits.time(func() error {
			var err error
			if out, err = p.Commit(founder, nil); err != nil {
				return err
			}
			return p.Merge(founder)
		})
		if err != nil {
			return err
		}
		if err := processes.time(func() error { _, err := p.Process(last, out.Commit); return err }); err != nil {
			return err
		}
	}
	done(commits, "commit_full")
	done(processes, "process")

	sends, receives := newRow(), newRow()
	data := bytes.Repeat([]byte{0x5a}, 100)
	for sends.more() {
		var message []byte
		err := sends.time(func() error {
			var err error
			message, err = p.Encrypt(founder, data, nil)
			return err
		})
		if err != nil {
			return err
		}
		if err := receives.time(func() error { _, err := p.Process(last, message); return err }); err != nil {
			return err
		}
	}
	done(sends, "send")
	done(receives, "receive")
	return nil
}

// found creates a group and adds members.
func found(p Peer, founder string, groupID []byte, adds []Proposal) (Committed, error) {
	if err := p.CreateGroup(founder, groupID); err != nil {
		return Committed{}, err
	}
	out, err := p.Commit(founder, adds)
	if err != nil {
		return Committed{}, err
	}
	return out, p.Merge(founder)
}

// enterAlone has a client join by a commit of its own, which fills its path in the tree.
func enterAlone(p Peer, founder, joiner string) error {
	info, err := p.GroupInfo(founder)
	if err != nil {
		return err
	}
	commit, err := p.JoinExternal(joiner, info.GroupInfo, info.RatchetTree, nil)
	if err != nil {
		return err
	}
	_, err = p.Process(founder, commit)
	return err
}

// MeasureForeign runs a built foreign peer's own benchmark.
func MeasureForeign(log io.Writer, f Foreign, suite uint16, sizes []int, emit func(Measurement)) error {
	cmd, err := f.Bench(suite, sizes)
	if err != nil {
		return err
	}
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("interop: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("interop: %w", err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var m Measurement
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return fmt.Errorf("interop: %s printed %q: %w", f.Name, lines.Text(), err)
		}
		emit(m)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("interop: benchmark of %s: %w", f.Name, err)
	}
	return lines.Err()
}

// A Figure picks what to compare of a row.
type Figure func(Measurement) int64

// Figures are the choices: the median and the minimum of the time that went by, and the mean of the
// processor time on all cores, which other work on the machine disturbs least.
var Figures = map[string]Figure{
	"median": func(m Measurement) int64 { return m.MedianNS },
	"min":    func(m Measurement) int64 { return m.MinNS },
	"cpu":    func(m Measurement) int64 { return m.CPUNS },
}

// WriteTable prints one line for each operation and size: a figure of each peer in
// milliseconds, and behind it how often the first peer's fits in.
func WriteTable(out io.Writer, all []Measurement, figure Figure) error {
	var peers []string
	var sizes []int
	value := map[string]int64{}
	key := func(peer, op string, members int) string { return fmt.Sprintf("%s/%s/%d", peer, op, members) }
	for _, m := range all {
		if !slices.Contains(peers, m.Peer) {
			peers = append(peers, m.Peer)
		}
		if !slices.Contains(sizes, m.Members) {
			sizes = append(sizes, m.Members)
		}
		value[key(m.Peer, m.Op, m.Members)] = figure(m)
	}
	slices.SortFunc(sizes, cmp.Compare[int])
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "operation\tmembers\t")
	for _, p := range peers {
		fmt.Fprintf(w, "%s ms\t\t", p)
	}
	fmt.Fprintln(w)
	for _, op := range Operations {
		for _, n := range sizes {
			fmt.Fprintf(w, "%s\t%d\t", op, n)
			base := value[key(peers[0], op, n)]
			for _, p := range peers {
				ns, ok := value[key(p, op, n)]
				switch {
				case !ok:
					fmt.Fprint(w, "-\t\t")
				case p == peers[0] || base == 0:
					fmt.Fprintf(w, "%.3f\t\t", float64(ns)/1e6)
				default:
					fmt.Fprintf(w, "%.3f\t%.1fx\t", float64(ns)/1e6, float64(ns)/float64(base))
				}
			}
			fmt.Fprintln(w)
		}
	}
	return w.Flush()
}
