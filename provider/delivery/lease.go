package delivery

import (
	"context"
	"time"

	"github.com/comity-im/comity/store"
)

// A lease is the right to deliver to one follower, which one node has at a time.
// Its times are of the machine's steady clock; in the database it is kept by the
// database's. Only the goroutine of the peer uses it.
type lease struct {
	d      *Deliverer
	name   string
	had    bool
	asked  time.Time // when it was last asked for
	notYet bool      // it was refused then
}

// hold makes sure that the node has the lease, and asks for it if need be.
func (l *lease) hold(ctx context.Context) bool {
	now := time.Now()
	since := now.Sub(l.asked)
	switch {
	case l.had && since < leaseTime/2:
		return true
	case l.notYet && since < leaseAgain:
		return false
	}
	ok := false
	err := l.d.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		clock, err := tx.Clock(l.d.cfg.Now().UnixMilli())
		if err != nil {
			return err
		}
		ok, err = tx.Lease(l.name, l.d.cfg.Node, clock, clock+leaseTime.Milliseconds())
		return err
	})
	if err != nil {
		if ctx.Err() == nil {
			l.d.cfg.Logger.Error("can't lease a delivery", "lease", l.name, "error", err)
		}
		ok = l.had && since < leaseTime
		if ok {
			return true
		}
	}
	l.asked, l.had, l.notYet = now, ok, !ok
	return ok
}

func (l *lease) release(ctx context.Context) {
	if !l.had {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	l.d.cfg.Store.Update(ctx, func(tx *store.Tx) error { return tx.Release(l.name, l.d.cfg.Node) })
}
