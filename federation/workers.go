package federation

import (
	"net/http"
	"time"
)

// workerIdle is how long a worker waits for its next request.
const workerIdle = 5 * time.Second

// workers serve requests on goroutines that are used again: HTTP/2 starts a new
// one for each request, whose stack would have to grow anew for all that a
// request takes, which costs more than most of that.
type workers struct {
	jobs  chan *job
	serve func(http.ResponseWriter, *http.Request)
}

func newWorkers(serve func(http.ResponseWriter, *http.Request)) *workers {
	return &workers{jobs: make(chan *job), serve: serve}
}

type job struct {
	w    http.ResponseWriter
	r    *http.Request
	done chan any // what serve panicked with, or nil
}

// ServeHTTP has a worker serve the request, and waits for it.
func (s *workers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	j := &job{w, r, make(chan any, 1)}
	select {
	case s.jobs <- j:
	default:
		go s.work(j)
	}
	if v := <-j.done; v != nil {
		panic(v)
	}
}

// work serves requests until none comes for a while.
func (s *workers) work(j *job) {
	idle := time.NewTimer(workerIdle)
	defer idle.Stop()
	for {
		s.do(j)
		idle.Reset(workerIdle)
		select {
		case j = <-s.jobs:
		case <-idle.C:
			return
		}
	}
}

func (s *workers) do(j *job) {
	defer func() { j.done <- recover() }()
	s.serve(j.w, j.r)
}
