package clientapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/comity-im/comity/mimi"
)

// busy is a provider whose answers take as long as the test says.
type busy struct {
	Service
	enter chan struct{}
	leave chan struct{}
	list  []DeviceInfo
}

func (b *busy) Authenticate(_ context.Context, token string) (Device, error) {
	user, err := mimi.NewUserURI("a.example", token)
	return Device{User: user}, err
}

func (b *busy) Devices(context.Context, Device) ([]DeviceInfo, error) {
	if b.enter != nil {
		b.enter <- struct{}{}
		<-b.leave
	}
	return b.list, nil
}

func (b *busy) Login(context.Context, Login) (Session, error) {
	return Session{}, Errorf(CodeUnauthorized, "the user name or the password is wrong")
}

type refusals struct {
	mu   sync.Mutex
	list []string
}

func (r *refusals) add(operation string, code Code) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, operation+" "+string(code))
}

func request(h http.Handler, method, path, user, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, Prefix+path, strings.NewReader(body))
	if user != "" {
		r.Header.Set("Authorization", "Bearer "+user)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestRequestsAreLimitedPerUser(t *testing.T) {
	var log bytes.Buffer
	var no refusals
	h := NewHandler(HandlerConfig{Service: &busy{}, Logger: slog.New(slog.NewTextHandler(&log, nil)), Limits: Limits{PerSecond: 0.001, Burst: 3}, Refused: no.add})
	for i, want := range []int{200, 200, 200, 429} {
		w := request(h, "GET", "devices", "alice", "")
		if w.Code != want {
			t.Errorf("request %d: %d, not %d", i, w.Code, want)
		}
		if want == 429 && w.Header().Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	if w := request(h, "GET", "devices", "bob", ""); w.Code != 200 {
		t.Errorf("bob pays for alice: %d", w.Code)
	}
	if len(no.list) != 1 || no.list[0] != "devices too_many" || strings.Count(log.String(), "client request refused") != 1 {
		t.Errorf("refusals: %q, log %q", no.list, log.String())
	}
	for _, x := range [][3]string{{"GET", "devices", "devices unauthorized"}, {"PUT", "devices", "devices bad_request"}, {"GET", "nothing", "unknown not_found"}} {
		request(h, x[0], x[1], "", "")
		if last := no.list[len(no.list)-1]; last != x[2] {
			t.Errorf("%s %s counts as %q", x[0], x[1], last)
		}
	}
}

func TestRequestsAtATime(t *testing.T) {
	b := &busy{enter: make(chan struct{}), leave: make(chan struct{})}
	h := NewHandler(HandlerConfig{Service: b, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Limits: Limits{Concurrent: 2}})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if w := request(h, "GET", "devices", "alice", ""); w.Code != 200 {
				t.Error(w.Code)
			}
		})
		<-b.enter
	}
	if w := request(h, "GET", "devices", "alice", ""); w.Code != 429 {
		t.Errorf("a third at the same time: %d", w.Code)
	}
	close(b.leave)
	wg.Wait()
	b.enter = nil
	if w := request(h, "GET", "devices", "alice", ""); w.Code != 200 {
		t.Errorf("afterwards: %d", w.Code)
	}
}

func TestLoginsAreLimitedByName(t *testing.T) {
	h := NewHandler(HandlerConfig{Service: &busy{}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Limits: Limits{LoginsPerSecond: 0.001, LoginBurst: 2}})
	for i, want := range []int{401, 401, 429} {
		if w := request(h, "POST", "login", "", `{"user":"alice","password":"guess","device":"d"}`); w.Code != want {
			t.Errorf("guess %d: %d, not %d", i, w.Code, want)
		}
	}
	if w := request(h, "POST", "login", "", `{"user":"bob","password":"guess","device":"d"}`); w.Code != 401 {
		t.Errorf("another name: %d", w.Code)
	}
}

func TestLoginsAreLimitedByAddress(t *testing.T) {
	h := NewHandler(HandlerConfig{Service: &busy{}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Limits: Limits{AddressPerSecond: 0.001, AddressBurst: 2}})
	for i, x := range []struct {
		from string
		want int
	}{{"192.0.2.1:1", 401}, {"192.0.2.1:2", 401}, {"192.0.2.1:3", 429}, {"[::ffff:192.0.2.1]:3", 429}, {"192.0.2.2:1", 401},
		{"[2001:db8::1]:1", 401}, {"[2001:db8::2]:1", 401}, {"[2001:db8::3]:1", 429}, {"[2001:db8:0:1::3]:1", 401},
		{"127.0.0.1:1", 401}, {"127.0.0.1:2", 401}, {"127.0.0.1:3", 401}} {
		r := httptest.NewRequest("POST", Prefix+"login", strings.NewReader(fmt.Sprintf(`{"user":"user%d","password":"guess","device":"d"}`, i)))
		r.RemoteAddr = x.from
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != x.want || (w.Code == 429 && w.Header().Get("Retry-After") == "") {
			t.Errorf("log-in %d from %s: %d, not %d", i, x.from, w.Code, x.want)
		}
	}
}

// A body that trickles in is cut off.
func TestSlowBody(t *testing.T) {
	h := NewHandler(HandlerConfig{Service: &busy{}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	var deadline time.Time
	r := httptest.NewRequest("POST", Prefix+"login", strings.NewReader("{}"))
	h.ServeHTTP(&deadlines{httptest.NewRecorder(), &deadline}, r)
	if left := time.Until(deadline); left < bodyTime/2 || left > bodyTime {
		t.Errorf("the body of a log-in may take %v", left)
	}
}

type deadlines struct {
	*httptest.ResponseRecorder
	read *time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	*d.read = t
	return nil
}

// A slowWriter is a client that reads nothing until it is let go.
type slowWriter struct {
	*httptest.ResponseRecorder
	writes, goOn chan struct{}
}

func (w *slowWriter) Write(b []byte) (int, error) {
	close(w.writes)
	<-w.goOn
	return w.ResponseRecorder.Write(b)
}

// Answers that clients are slow to take are counted as well.
func TestAnswersAreBounded(t *testing.T) {
	list := make([]DeviceInfo, 5)
	b, _ := json.Marshal(list)
	size := int64(len(b)) + 1
	h := NewHandler(HandlerConfig{Service: &busy{list: list}, Logger: slog.New(slog.DiscardHandler), Limits: Limits{UserMemory: size * 3 / 2, Memory: size * 5 / 2}})
	ask := func(user string) *httptest.ResponseRecorder { return request(h, "GET", "devices", user, "") }
	slow := &slowWriter{httptest.NewRecorder(), make(chan struct{}), make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r := httptest.NewRequest("GET", Prefix+"devices", nil)
		r.Header.Set("Authorization", "Bearer alice")
		h.ServeHTTP(slow, r)
	}()
	<-slow.writes
	if w := ask("alice"); w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
		t.Errorf("alice, beside an answer that she does not take: %d", w.Code)
	}
	if w := ask("bob"); w.Code != http.StatusOK {
		t.Errorf("bob: %d", w.Code)
	}
	close(slow.goOn)
	<-done
	if w := ask("alice"); w.Code != http.StatusOK || slow.Code != http.StatusOK {
		t.Errorf("alice, afterwards: %d, and %d", w.Code, slow.Code)
	}
	h.users.mu.Lock()
	defer h.users.mu.Unlock()
	if h.users.held != 0 {
		t.Errorf("%d octets are counted still", h.users.held)
	}
}

// Bodies that are under way take no more memory than they may: for one user, and
// for all.
func TestBodiesAreBounded(t *testing.T) {
	h := NewHandler(HandlerConfig{Service: &busy{}, Logger: slog.New(slog.DiscardHandler), Limits: Limits{UserMemory: 1000, Memory: 1500}})
	post := func(path, user string, n int) *httptest.ResponseRecorder {
		return request(h, "POST", path, user, strings.Repeat("x", n))
	}
	const update = "update/mimi%3A%2F%2Fa.example%2Fr%2Fx"
	// Garbage is refused as such, once all of it was read.
	if w := post(update, "alice", 900); w.Code != http.StatusBadRequest {
		t.Fatalf("alone: %d", w.Code)
	}
	in, out := io.Pipe()
	done := make(chan int)
	go func() {
		r := httptest.NewRequest("POST", Prefix+update, in)
		r.Header.Set("Authorization", "Bearer alice")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		done <- w.Code
	}()
	out.Write(make([]byte, 899))
	out.Write([]byte{1}) // when this is taken the others are counted
	for _, c := range []struct {
		path, user string
		n, want    int
	}{
		{update, "alice", 200, http.StatusTooManyRequests},
		{"keyPackages", "alice", 200, http.StatusTooManyRequests},
		{update, "bob", 500, http.StatusBadRequest},
		{update, "bob", 700, http.StatusTooManyRequests},
		{update, "bob", 500, http.StatusBadRequest}, // what was refused is not held
	} {
		w := post(c.path, c.user, c.n)
		if w.Code != c.want || (w.Code != http.StatusBadRequest) != (w.Header().Get("Retry-After") != "") {
			t.Errorf("%d octets of %s to %s beside 900 of alice's: %d, Retry-After %q, want %d", c.n, c.user, c.path, w.Code, w.Header().Get("Retry-After"), c.want)
		}
	}
	out.Close()
	if code := <-done; code != http.StatusBadRequest {
		t.Errorf("the request that was under way: %d", code)
	}
	if w := post(update, "alice", 900); w.Code != http.StatusBadRequest {
		t.Errorf("afterwards: %d", w.Code)
	}
	h.users.mu.Lock()
	defer h.users.mu.Unlock()
	if h.users.held != 0 {
		t.Errorf("%d octets are counted still", h.users.held)
	}
}
