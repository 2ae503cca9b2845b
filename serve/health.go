package serve

import (
	"log/slog"
	"sync"
	"time"

	"github.com/comity-im/comity/store"
)

// quietTime is how long nothing must have failed for a trouble to be over: commits
// that write nothing succeed on a full disk, too.
const quietTime = 30 * time.Second

// health says once when the database stops working, and once when it works again.
type health struct {
	logger *slog.Logger
	advise func(error) string
	now    func() time.Time

	work, checkpoints trouble
}

// A trouble is something that fails again and again until it does not.
type trouble struct {
	mu   sync.Mutex
	said bool
	last time.Time // when it failed last
}

// changed says whether the trouble began now, or is over.
func (t *trouble) changed(failed bool, now func() time.Time) (began, over bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case failed:
		began = !t.said
		t.said, t.last = true, now()
	case t.said && now().Sub(t.last) >= quietTime:
		t.said, over = false, true
	}
	return began, over
}

// committed hears of each commit.
func (h *health) committed(c store.Commit) {
	began, over := h.work.changed(c.Err != nil, h.now)
	if began {
		h.fails(c.Err)
	}
	if over {
		h.logger.Info("the database works again")
	}
}

// unread hears of what could not be read.
func (h *health) unread(err error) {
	if began, _ := h.work.changed(true, h.now); began {
		h.fails(err)
	}
}

func (h *health) fails(err error) {
	h.logger.Error("the database fails: requests are answered with 5xx and tried again by whoever sent them, nothing that was acknowledged is lost", "error", err, "advice", h.advise(err))
}

// checkpointed hears of each checkpoint.
func (h *health) checkpointed(c store.Checkpoint) {
	began, over := h.checkpoints.changed(c.Err != nil, h.now)
	if began {
		h.logger.Error("the write-ahead log can't be copied into the database: nothing is lost, but it grows with each message until the disk is full",
			"error", c.Err, "log_bytes", c.LogBytes, "advice", h.advise(c.Err))
	}
	if over {
		h.logger.Info("the write-ahead log is copied into the database again", "log_bytes", c.LogBytes)
	}
}
