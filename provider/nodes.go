package provider

import (
	"context"
	"time"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/store"
)

const (
	// lookEvery is how often a node looks for what others did, if no hints arrive
	// that would tell it, and lookHearing if they do.
	lookEvery   = time.Second
	lookHearing = 15 * time.Second
	// trimLease is for how long one node alone removes what nobody needs.
	trimLease = 5 * time.Minute
)

// nodesLoop notices what other nodes on the same database do.
func (p *Provider) nodesLoop(ctx context.Context) {
	db := p.cfg.Store
	if !db.Shared() {
		return
	}
	look := make(chan struct{}, 1)
	heard := make(chan []store.Hint, 1024)
	everything := func() {
		select {
		case look <- struct{}{}:
		default:
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		db.Listen(ctx, func(list []store.Hint) {
			select {
			case heard <- list:
			default: // too much at once
				everything()
			}
		}, everything)
	}()
	defer func() { <-done }()
	last := time.Time{}
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		all := false
		var hints []store.Hint
		select {
		case <-ctx.Done():
			return
		case <-look:
			all = true
		case hints = <-heard:
		case <-t.C:
			all = !db.Hearing() || time.Since(last) > lookHearing
		}
		var err error
		if all {
			if err = p.follower.Look(ctx); err == nil {
				last = time.Now()
			}
		} else {
			err = p.heardHints(ctx, hints)
		}
		if err != nil && ctx.Err() == nil {
			p.cfg.Logger.Warn("can't look at what other nodes did yet", "error", err)
			last = time.Time{}
		}
	}
}

// heardHints does what the hints of other nodes ask for.
func (p *Provider) heardHints(ctx context.Context, hints []store.Hint) error {
	if err := p.follower.Heard(ctx, hints); err != nil {
		return err
	}
	for _, h := range hints {
		switch {
		case h.Peer != "":
			p.delivery.Heard(mimi.ProviderDomain(h.Peer))
		case h.Room != 0:
			if err := p.delivery.Appended(ctx, h.Room); err != nil {
				return err
			}
		}
	}
	return nil
}

// leads says whether this node is the one that has a duty at present.
func (p *Provider) leads(ctx context.Context, duty string, long time.Duration) (ok bool) {
	if !p.cfg.Store.Shared() {
		return true
	}
	err := p.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		clock, err := tx.Clock(p.cfg.Now().UnixMilli())
		if err != nil {
			return err
		}
		ok, err = tx.Lease(duty, p.cfg.Node, clock, clock+long.Milliseconds())
		return err
	})
	return ok && err == nil
}
