package serve

import (
	"log/slog"
	"sync/atomic"

	"github.com/comity-im/comity/store"
)

// health says once when the database stops working, and once when it works again.
type health struct {
	logger      *slog.Logger
	advise      func(error) string
	broken      atomic.Bool // commits fail
	checkpoints atomic.Bool // checkpoints fail
}

// committed hears of each commit.
func (h *health) committed(c store.Commit) {
	switch broken := c.Err != nil; {
	case broken && h.broken.CompareAndSwap(false, true):
		h.logger.Error("the database did not take what was to be written: such requests are answered with 5xx and tried again by whoever sent them, nothing that was acknowledged is lost",
			"error", c.Err, "advice", h.advise(c.Err))
	case !broken && h.broken.CompareAndSwap(true, false):
		h.logger.Info("the database takes what is written again")
	}
}

// checkpointed hears of each checkpoint.
func (h *health) checkpointed(c store.Checkpoint) {
	switch broken := c.Err != nil; {
	case broken && h.checkpoints.CompareAndSwap(false, true):
		h.logger.Error("the write-ahead log can't be copied into the database: nothing is lost, but it grows with each message until the disk is full",
			"error", c.Err, "log_bytes", c.LogBytes, "advice", h.advise(c.Err))
	case !broken && h.checkpoints.CompareAndSwap(true, false):
		h.logger.Info("the write-ahead log is copied into the database again", "log_bytes", c.LogBytes)
	}
}
