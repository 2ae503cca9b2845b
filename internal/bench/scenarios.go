package bench

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/store"
	"github.com/comity-im/comity/store/sqlite"
)

func cpus() int { return runtime.GOMAXPROCS(0) }

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// prepared bounds how many messages are encrypted beforehand for a second.
const prepared = 20000

// floors measures what nothing can be faster than.
func (r *run) floors() (err error) {
	r.say("floors")
	if r.fsync, err = fsyncs(r.Dir, 300); err != nil {
		return err
	}
	r.add(Figure{Scenario: "floor", What: "fsync of a 4 KiB append, p50", Value: r.fsync.P50, Unit: "ms"})
	r.add(Figure{Scenario: "floor", What: "fsync of a 4 KiB append, p99", Value: r.fsync.P99, Unit: "ms"})
	if err := r.start(0, -1); err != nil {
		return err
	}
	if err := r.emptyHandler(); err != nil {
		return err
	}
	r.add(Figure{Scenario: "floor", What: "empty HTTPS handler", Value: r.handle, Unit: "posts/s"})
	r.add(Figure{Scenario: "floor", What: "CPU time of the empty handler's server", Value: r.handleCPU, Unit: "µs/post"})
	r.add(Figure{Scenario: "floor", What: "CPU time of its client", Value: r.handleClientCPU, Unit: "µs/post"})
	return nil
}

// emptyHandler measures the empty handler, with its client.
func (r *run) emptyHandler() error {
	server, err := r.worker("empty")
	if err != nil {
		return err
	}
	at, err := server.do(command{Op: "empty", Dir: filepath.Join(filepath.Dir(r.hub.Dir), "load")})
	if err != nil {
		return err
	}
	var rates, serverCPU, clientCPU []float64
	for range r.Repeat {
		before := usageOf(server.cmd.Process.Pid).cpu
		a, err := r.foreignLoad().do(command{Op: "floor", URL: "https://" + at.Address + "/", Size: 500, Window: 64, Count: int(prepared * r.Seconds), Seconds: r.Seconds})
		if err != nil {
			return err
		}
		rates = append(rates, float64(a.N)/a.Seconds)
		serverCPU = append(serverCPU, float64((usageOf(server.cmd.Process.Pid).cpu-before).Microseconds())/float64(a.N))
		clientCPU = append(clientCPU, 1e6*a.CPU/float64(a.N))
	}
	r.handleCPU, r.handleClientCPU = median(serverCPU), median(clientCPU)
	r.handle = median(rates)
	server.stop()
	delete(r.byName, "empty")
	return nil
}

// measured runs f and notes what each process used meanwhile. It returns the
// seconds of CPU time by the process's name.
func (r *run) measured(scenario string, f func() error) (map[string]float64, error) {
	type one struct {
		name string
		now  func() usage
		u    usage
	}
	var list []one
	for _, t := range r.targets {
		list = append(list, one{"provider " + t.domain, func() usage { return t.usage(r.ctx) }, t.usage(r.ctx)})
	}
	for _, p := range r.workers {
		list = append(list, one{"load of " + p.name, p.usage, p.usage()})
	}
	done := r.profile(scenario)
	start := time.Now()
	err := f()
	took := time.Since(start).Seconds()
	done()
	used := map[string]float64{}
	for _, o := range list {
		u := o.now()
		used[o.name] = (u.cpu - o.u.cpu).Seconds()
		r.report.Uses = append(r.report.Uses, Use{scenario, o.name, 100 * (u.cpu - o.u.cpu).Seconds() / took, float64(u.rss) / (1 << 20)})
	}
	return used, err
}

// profile takes CPU profiles of the hub and the first follower until done is
// called.
func (r *run) profile(scenario string) (done func()) {
	if r.Profile == "" {
		return func() {}
	}
	var wg sync.WaitGroup
	one := func(admin, name string) {
		resp, err := http.Get(fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", admin, max(1, int(r.Seconds))))
		if err != nil {
			return
		}
		defer resp.Body.Close()
		f, err := os.Create(filepath.Join(r.Profile, name))
		if err != nil {
			return
		}
		defer f.Close()
		io.Copy(f, resp.Body)
	}
	wg.Go(func() { one(r.hub.admin, scenario+".pprof") })
	if len(r.targets) > 1 && r.targets[1].admin != "" {
		wg.Go(func() { one(r.targets[1].admin, scenario+" follower.pprof") })
	}
	return wg.Wait
}

// delivered waits until each reader has counted n messages, or nothing comes any
// more, and returns the sum.
func (r *run) delivered(names []string, n int64) (total int64, err error) {
	have := make([]int64, len(names))
	quiet := time.Now()
	for {
		least := n
		for i, name := range names {
			a, err := r.byName[name].do(command{Op: "count"})
			if err != nil {
				return 0, err
			}
			if a.N > 0 {
				quiet = time.Now()
			}
			have[i] += a.N
			total += a.N
			least = min(least, have[i])
		}
		if least >= n {
			return total, nil
		}
		if time.Since(quiet) > 10*time.Second {
			return total, fmt.Errorf("only %d of %d messages arrived", least, n)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// again names the repetition of a scenario.
func again(scenario string, i int) string {
	if i == 0 {
		return scenario
	}
	return fmt.Sprintf("%s %d", scenario, i+1)
}

// send makes the hub's clients encrypt messages and then send them while they
// are measured; they are counted until each reader has them all.
func (r *run) send(scenario string, c command, readers []string) (s sent, err error) {
	prepare := c
	prepare.Op = "prepare"
	load := r.hubLoad()
	if c.Op == "federate" {
		prepare.Op, load = "prepareForeign", r.foreignLoad()
	}
	if r.Profile != "" {
		c.Profile = filepath.Join(r.Profile, scenario+" senders.pprof")
	}
	if _, err := load.do(prepare); err != nil {
		return s, err
	}
	for _, name := range append(slices.Clone(readers), r.hub.domain) {
		if _, err := r.byName[name].do(command{Op: "count"}); err != nil {
			return s, err
		}
	}
	used, err := r.measured(scenario, func() error {
		start := time.Now()
		a, err := load.do(c)
		if err != nil {
			return err
		}
		s.answer = a
		total, err := r.delivered(readers, a.N)
		s.fan = float64(total) / time.Since(start).Seconds()
		return err
	})
	if err != nil {
		return s, err
	}
	s.rate = float64(s.N) / s.Seconds
	for name, cpu := range used {
		us := 1e6 * cpu / float64(s.N)
		switch {
		case name == "provider "+r.hub.domain:
			s.hub = us
		case strings.HasPrefix(name, "provider "):
			s.followers += us
		case name == "load of "+load.name:
			s.load += 1e6 * s.CPU / float64(s.N)
		default:
			s.load += us
		}
	}
	return s, nil
}

// sent is what came of messages that were sent.
type sent struct {
	*answer
	rate, fan            float64 // messages a second: accepted, delivered
	hub, followers, load float64 // µs of CPU time a message
}

// cost adds what a message costs in CPU time, which other processes of the
// machine change less than rates, and what that comes to on these cores alone.
func (r *run) cost(scenario string, followers int, list []sent) {
	of := func(f func(sent) float64) float64 {
		var values []float64
		for _, s := range list {
			values = append(values, f(s))
		}
		return median(values)
	}
	h, f, l := of(func(s sent) float64 { return s.hub }), of(func(s sent) float64 { return s.followers }), of(func(s sent) float64 { return s.load })
	if h > 0 {
		r.add(Figure{Scenario: scenario, What: "CPU time of the hub", Value: h, Unit: "µs/message", Floor: r.handleCPU, FloorIs: "empty handler's server"})
	}
	if f > 0 {
		r.add(Figure{Scenario: scenario, What: "CPU time of one follower", Value: f / float64(followers), Unit: "µs/message", Floor: r.handleCPU, FloorIs: "empty handler's server"})
	}
	r.add(Figure{Scenario: scenario, What: "CPU time of the load generator, senders and readers", Value: l, Unit: "µs/message"})
	if r.handleCPU > 0 {
		r.add(Figure{Scenario: scenario, What: fmt.Sprintf("what %d cores with nothing else to do would take, by CPU time of all", r.report.CPUs), Value: 1e6 * float64(r.report.CPUs) / (h + f + l),
			Unit: "messages/s", Floor: 1e6 * float64(r.report.CPUs) / (r.handleCPU + r.handleClientCPU), FloorIs: "empty handler, by CPU time"})
	}
}

// hot: four clients of the hub send to one room with two followers.
func (r *run) hot() error {
	n := r.pair()
	if err := r.start(n, n); err != nil {
		return err
	}
	uri, _, err := r.hotRoom(n, false)
	if err != nil {
		return err
	}
	readers := r.readers(n)
	var accepted, delivered, p50, p99 []float64
	before, err := scrape(r.ctx, r.hub.admin)
	if err != nil {
		return err
	}
	disk := diskBytes(r.hub.data)
	var messages float64
	var list []sent
	for i := range r.Repeat {
		s, err := r.send(again("hot", i), command{Op: "send", Devices: r.senders, Room: uri, Size: r.Size, Count: int(prepared * r.Seconds), Window: 64, Seconds: r.Seconds}, readers)
		if err != nil {
			return err
		}
		list = append(list, s)
		messages += float64(s.N)
		accepted, delivered = append(accepted, s.rate), append(delivered, s.fan)
		p50, p99 = append(p50, s.Times.P50), append(p99, s.Times.P99)
	}
	r.top = median(accepted)
	r.cost("hot", n, list)
	r.add(Figure{Scenario: "hot", What: fmt.Sprintf("accepted, durable, from the hub's clients, fanned out to %d followers", n), Value: r.top, Unit: "messages/s", Floor: r.handle, FloorIs: "empty handler", Aim: "10,000"})
	r.add(Figure{Scenario: "hot", What: "delivered to the followers' clients until the last one", Value: median(delivered), Unit: "messages/s", Floor: r.handle, FloorIs: "empty handler"})
	r.add(Figure{Scenario: "hot", What: "from submit to acceptance at full load, 256 under way, p50", Value: median(p50), Unit: "ms", Floor: r.fsync.P50, FloorIs: "fsync p50"})
	r.add(Figure{Scenario: "hot", What: "from submit to acceptance at full load, 256 under way, p99", Value: median(p99), Unit: "ms", Floor: r.fsync.P99, FloorIs: "fsync p99"})
	after, err := scrape(r.ctx, r.hub.admin)
	if err != nil {
		return err
	}
	if r.hub.data != "" {
		r.add(Figure{Scenario: "hot", What: "octets on disk at the hub", Value: float64(diskBytes(r.hub.data)-disk) / messages, Unit: "B/message"})
	}
	if b := after["comity_network_bytes_total"] - before["comity_network_bytes_total"]; b > 0 {
		r.add(Figure{Scenario: "hot", What: "octets to and from the hub's 4 senders, answers and events included", Value: b / messages, Unit: "B/message"})
		f, err := scrape(r.ctx, r.targets[1].admin)
		if err != nil {
			return err
		}
		if f != nil {
			r.add(Figure{Scenario: "hot", What: "octets between hub and one follower", Value: f[`comity_network_bytes_total{direction="in",listener="federation"}`] / messages, Unit: "B/message"})
		}
	}
	r.shared("hot", messages, before, after)
	return nil
}

// shared adds how many messages share a commit, and a request to a follower.
func (r *run) shared(scenario string, messages float64, before, after map[string]float64) {
	if n := after["comity_store_commits_total"] - before["comity_store_commits_total"]; n > 0 {
		r.add(Figure{Scenario: scenario, What: "messages that share a commit at the hub", Value: messages / n, Unit: "messages"})
	}
	series := fmt.Sprintf("comity_delivery_requests_total{peer=%q,result=\"ok\"}", r.follower(1))
	if n := after[series] - before[series]; n > 0 {
		r.add(Figure{Scenario: scenario, What: "messages that share a request to a follower", Value: messages / n, Unit: "messages"})
	}
}

// federate: a follower submits, one request a message.
func (r *run) federate() error {
	if err := r.start(1, 1); err != nil {
		return err
	}
	uri, foreign, err := r.hotRoom(1, true)
	if err != nil {
		return err
	}
	var rates, fan []float64
	var list []sent
	var messages float64
	before, err := scrape(r.ctx, r.hub.admin)
	if err != nil {
		return err
	}
	for i := range r.Repeat {
		if err := r.emptyHandler(); err != nil {
			return err
		}
		s, err := r.send(again("federate", i), command{Op: "federate", Users: foreign, Room: uri, Size: r.Size, Count: int(prepared / 2 * r.Seconds), Window: 64, Seconds: r.Seconds}, []string{r.follower(1)})
		if err != nil {
			return err
		}
		list = append(list, s)
		messages += float64(s.N)
		rates, fan = append(rates, s.rate), append(fan, s.fan)
	}
	r.cost("federate", 1, list)
	after, err := scrape(r.ctx, r.hub.admin)
	if err != nil {
		return err
	}
	r.shared("federate", messages, before, after)
	r.add(Figure{Scenario: "federate", What: "accepted, durable, from a follower, one request a message", Value: median(rates), Unit: "messages/s", Floor: r.handle, FloorIs: "empty handler", Aim: "0.6 × floor"})
	r.add(Figure{Scenario: "federate", What: "delivered to another follower's client meanwhile", Value: median(fan), Unit: "messages/s", Floor: r.handle, FloorIs: "empty handler", Aim: "0.5 × floor"})
	return nil
}

// latency: at a tenth of the top rate, from sending to decrypted at another
// provider.
func (r *run) latency() error {
	n := r.pair()
	if err := r.start(n, n); err != nil {
		return err
	}
	uri, _, err := r.hotRoom(n, false)
	if err != nil {
		return err
	}
	rate := max(r.top/10, 100)
	var submit, end Quantiles
	for _, name := range r.readers(n) {
		if _, err := r.byName[name].do(command{Op: "count", Decrypt: true}); err != nil {
			return err
		}
	}
	var before [2]map[string]float64
	for i := range before {
		if before[i], err = scrape(r.ctx, r.targets[i].admin); err != nil {
			return err
		}
	}
	_, err = r.measured("latency", func() error {
		a, err := r.hubLoad().do(command{Op: "paced", Devices: r.senders[:1], Room: uri, Size: r.Size, Rate: rate, Seconds: r.Seconds})
		if err != nil {
			return err
		}
		submit = a.Times
		b, err := r.byName[r.follower(1)].do(command{Op: "count", Count: int(a.N)})
		if err != nil {
			return err
		}
		end = b.Times
		if int64(end.Count) != a.N {
			return fmt.Errorf("%d of %d messages were decrypted", end.Count, a.N)
		}
		return nil
	})
	if err != nil {
		return err
	}
	what := fmt.Sprintf("from sending to decrypted at a follower's client, at %.0f messages/s, ", rate)
	r.add(Figure{Scenario: "latency", What: what + "p50", Value: end.P50, Unit: "ms", Floor: r.fsync.P50, FloorIs: "fsync p50", Aim: "< 5"})
	r.add(Figure{Scenario: "latency", What: what + "p95", Value: end.P95, Unit: "ms"})
	r.add(Figure{Scenario: "latency", What: what + "p99", Value: end.P99, Unit: "ms", Floor: r.fsync.P99, FloorIs: "fsync p99", Aim: "< 25"})
	r.add(Figure{Scenario: "latency", What: "from sending to accepted, p50", Value: submit.P50, Unit: "ms", Floor: r.fsync.P50, FloorIs: "fsync p50"})
	for i, who := range []string{"the hub", "one follower"} {
		after, err := scrape(r.ctx, r.targets[i].admin)
		if err != nil {
			return err
		}
		const name = "comity_store_sync_seconds_"
		if n := after[name+"count"] - before[i][name+"count"]; n > 0 {
			r.add(Figure{Scenario: "latency", What: fmt.Sprintf("of that, making a commit durable at %s, %.0f of them, mean", who, n), Value: 1e3 * (after[name+"sum"] - before[i][name+"sum"]) / n, Unit: "ms", Floor: r.fsync.P50, FloorIs: "fsync p50"})
		}
	}
	return nil
}

// fanout: the hub's clients send to rooms with ever more followers.
func (r *run) fanout() error {
	for _, n := range r.Fanout {
		if err := r.start(n, n); err != nil {
			return err
		}
		uri, _, err := r.hotRoom(n, false)
		if err != nil {
			return err
		}
		names := r.readers(n)
		s, err := r.send(fmt.Sprintf("fanout %d", n), command{Op: "send", Devices: r.senders, Room: uri, Size: r.Size, Count: int(prepared * r.Seconds / 2), Window: 64, Seconds: r.Seconds / 2}, names)
		if err != nil {
			return err
		}
		r.add(Figure{Scenario: "fanout", What: fmt.Sprintf("accepted with %d followers", n), Value: s.rate, Unit: "messages/s", Floor: r.handle, FloorIs: "empty handler"})
		r.add(Figure{Scenario: "fanout", What: fmt.Sprintf("delivered to %d followers' clients until the last one", n), Value: s.fan, Unit: "messages/s", Floor: r.handle, FloorIs: "empty handler"})
		r.cost("fanout", n, []sent{s})
	}
	return nil
}

const (
	// foundFor and openFor are how many seconds rooms are founded for, and
	// connections opened, at most.
	foundFor = 90
	openFor  = 120
	// calm is after how long a hub has put away the rooms in which nothing
	// happens, with some seconds for its memory to be given back.
	calm = 26 * time.Second
)

// quiet: many rooms in which little happens.
func (r *run) quiet() error {
	if err := r.start(0, 0); err != nil {
		return err
	}
	if _, err := r.hubLoad().do(command{Op: "devices", Devices: r.senders[:1], Count: 1}); err != nil {
		return err
	}
	collected(r.ctx, r.hub.admin)
	before := r.hub.usage(r.ctx).rss
	var rooms []mimi.RoomURI
	for range r.Rooms {
		rooms = append(rooms, r.room())
	}
	made, err := r.hubLoad().do(command{Op: "rooms", Devices: r.senders[:1], Rooms: rooms, Seconds: foundFor})
	if err != nil {
		return err
	}
	rooms = rooms[:made.N]
	what := fmt.Sprintf("%d rooms founded, %d at a time", made.N, foundAtOnce)
	if len(rooms) < r.Rooms {
		what += fmt.Sprintf(" (no more within %d s, of %d asked for)", foundFor, r.Rooms)
	}
	r.add(Figure{Scenario: "quiet", What: what, Value: float64(made.N) / made.Seconds, Unit: "rooms/s", Floor: perSecond(r.fsync.P50), FloorIs: "fsyncs"})
	s, err := r.send("quiet", command{Op: "send", Devices: r.senders[:1], Rooms: rooms, Size: r.Size, Count: min(10*len(rooms), 30000), Window: 64, Seconds: 2 * r.Seconds}, nil)
	if err != nil {
		return err
	}
	r.add(Figure{Scenario: "quiet", What: fmt.Sprintf("accepted, in turn in %d rooms, 64 under way", len(rooms)), Value: s.rate, Unit: "messages/s", Floor: r.handle, FloorIs: "empty handler"})
	loaded := func(when, aim string) error {
		collected(r.ctx, r.hub.admin)
		m, err := scrape(r.ctx, r.hub.admin)
		if err != nil || m == nil {
			return err
		}
		r.add(Figure{Scenario: "quiet", What: "rooms that the hub holds in memory " + when, Value: m["comity_rooms_loaded"], Unit: "rooms"})
		r.add(Figure{Scenario: "quiet", What: "the hub's memory per room " + when, Value: max(0, float64(r.hub.usage(r.ctx).rss-before)) / 1024 / float64(len(rooms)), Unit: "KiB", Aim: aim})
		return nil
	}
	if err := loaded("right after", ""); err != nil {
		return err
	}
	if r.hub.admin != "" {
		wait := calm
		if r.calm > 0 {
			wait = r.calm
		}
		time.Sleep(wait)
	}
	if err := loaded("when nothing happens", "≤ 5"); err != nil {
		return err
	}
	if r.hub.data != "" {
		r.add(Figure{Scenario: "quiet", What: "disk per room", Value: float64(diskBytes(r.hub.data)) / 1024 / float64(len(rooms)), Unit: "KiB"})
	}
	return nil
}

// perSecond is how often something happens a second that takes so many
// milliseconds; 0 if that is not known.
func perSecond(ms float64) float64 {
	if ms == 0 {
		return 0
	}
	return 1000 / ms
}

// commits: one client of a room commits, and others are added to it.
func (r *run) commits() error {
	if err := r.start(1, 1); err != nil {
		return err
	}
	if _, err := r.hubLoad().do(command{Op: "devices", Devices: r.senders[:1], Count: 1}); err != nil {
		return err
	}
	for i, n := range r.Members {
		uri := r.room()
		if _, err := r.hubLoad().do(command{Op: "rooms", Devices: r.senders[:1], Rooms: []mimi.RoomURI{uri}}); err != nil {
			return err
		}
		f, err := r.foreignLoad().do(command{Op: "users", Count: n - 1})
		if err != nil {
			return err
		}
		// In parts: a Welcome is at most as long as a request may be.
		var added float64
		for from := 0; from < len(f.Users); from += 1000 {
			to := min(from+1000, len(f.Users))
			a, err := r.hubLoad().do(command{Op: "add", Devices: r.senders[:1], Room: uri, Users: f.Users[from:to], Packages: f.Packages[from:to]})
			if err != nil {
				return err
			}
			added += a.Seconds
		}
		r.add(Figure{Scenario: "commits", What: fmt.Sprintf("adding all of %d clients, with the client's work", n), Value: added * 1000, Unit: "ms"})
		var a *answer
		before := r.hub.usage(r.ctx).cpu
		_, err = r.measured(fmt.Sprintf("commits %d", n), func() (err error) {
			a, err = r.hubLoad().do(command{Op: "commits", Devices: r.senders[:1], Room: uri, Seconds: r.Seconds, Count: 2000})
			return err
		})
		if err != nil {
			return err
		}
		cpu := (r.hub.usage(r.ctx).cpu - before).Seconds()
		r.add(Figure{Scenario: "commits", What: fmt.Sprintf("commits, room of %d clients, one committer, with its work", n), Value: float64(a.N) / a.Seconds, Unit: "commits/s", Floor: perSecond(r.fsync.P50), FloorIs: "fsyncs"})
		r.add(Figure{Scenario: "commits", What: fmt.Sprintf("request to answer, room of %d clients (%d octets), p50", n, a.Bytes), Value: a.Times.P50, Unit: "ms", Floor: r.fsync.P50, FloorIs: "fsync p50"})
		r.add(Figure{Scenario: "commits", What: fmt.Sprintf("the hub's CPU time per commit, room of %d clients", n), Value: 1000 * cpu / float64(a.N), Unit: "ms"})
		name := fmt.Sprintf("joiner%d", i)
		j, err := r.byName[r.follower(1)].do(command{Op: "devices", Devices: []string{name}, Count: 2})
		if err != nil {
			return err
		}
		start := time.Now()
		if _, err := r.hubLoad().do(command{Op: "add", Devices: r.senders[:1], Room: uri, Users: j.Users}); err != nil {
			return err
		}
		if _, err := r.byName[r.follower(1)].do(command{Op: "joined", Devices: []string{name}, Room: uri}); err != nil {
			return err
		}
		r.add(Figure{Scenario: "commits", What: fmt.Sprintf("from claiming a KeyPackage to joined at a follower, room of %d clients", n), Value: float64(time.Since(start).Microseconds()) / 1000, Unit: "ms"})
	}
	return nil
}

// cold: a provider starts with many rooms on disk.
func (r *run) cold() error {
	if err := r.start(1, 1); err != nil {
		return err
	}
	uri, _, err := r.hotRoom(1, false)
	if err != nil {
		return err
	}
	if _, err := r.send("cold", command{Op: "send", Devices: r.senders[:1], Room: uri, Size: r.Size, Count: 10, Window: 1, Seconds: r.Seconds}, []string{r.follower(1)}); err != nil {
		return err
	}
	time.Sleep(100 * time.Millisecond)
	r.hub.Stop()
	if err := r.multiply(filepath.Join(r.hub.data, "comity.db"), string(uri), r.Cold); err != nil {
		return err
	}
	var times []float64
	for range max(r.Repeat, 3) {
		start := time.Now()
		if err := r.hub.Restart(r.ctx); err != nil {
			return err
		}
		times = append(times, float64(time.Since(start).Microseconds())/1000)
		time.Sleep(500 * time.Millisecond)
		if len(times) < max(r.Repeat, 3) {
			r.hub.Stop()
		}
	}
	r.add(Figure{Scenario: "cold", What: fmt.Sprintf("from starting the process to ready, %d rooms on disk", r.Cold), Value: median(times), Unit: "ms", Aim: "< 300"})
	_, err = r.measured("cold", func() error {
		time.Sleep(time.Duration(r.Seconds * float64(time.Second)))
		return nil
	})
	r.add(Figure{Scenario: "cold", What: "the hub's memory then", Value: float64(r.hub.usage(r.ctx).rss) / (1 << 20), Unit: "MiB"})
	return err
}

// multiply copies a room of a database that no provider has open. The copies are
// rooms as far as the database knows.
func (r *run) multiply(path, uri string, n int) error {
	s, err := sqlite.Open(r.ctx, path)
	if err != nil {
		return err
	}
	defer s.Close()
	var room store.Room
	var records []store.Record
	var events []store.Event
	var followers []store.Follower
	var clients []string
	err = s.View(r.ctx, func(tx *store.Tx) error {
		if room, err = tx.Room(uri); err != nil {
			return err
		}
		if records, err = tx.RoomRecords(room.ID); err != nil {
			return err
		}
		if events, err = tx.Events(room.ID, 0, 10); err != nil {
			return err
		}
		if followers, err = tx.Followers(room.ID); err != nil {
			return err
		}
		clients, err = tx.Members(room.ID)
		return err
	})
	if err != nil {
		return err
	}
	for done := 0; done < n; {
		err := s.Update(r.ctx, func(tx *store.Tx) error {
			for range min(2000, n-done) {
				done++
				id, err := tx.CreateRoom(store.Room{URI: fmt.Sprintf("%s-%d", uri, done), Hub: room.Hub, Head: room.Head, CreatedMillis: room.CreatedMillis})
				if err = errors.Join(err, tx.PutRecords(id, records), tx.AppendEvents(id, 1, events)); err != nil {
					return err
				}
				for _, f := range followers {
					if err := tx.FollowRoom(id, f.Domain, int64(len(events))+1); err != nil {
						return err
					}
				}
				for _, c := range clients[:1] {
					if err := tx.JoinRoom(c, id, int64(len(events))+1); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
