package client_test

import (
	"context"
	"errors"
	"reflect"

	"github.com/comity-im/comity/mimi"
	"github.com/comity-im/comity/tlspl"
)

// peer is a provider as another one reaches it: unless it is down, and with what
// a hostile hub makes of its events on their way.
type peer struct {
	mimi.Hub
	w *world
	d mimi.ProviderDomain
}

func (w *world) setDown(d mimi.ProviderDomain, down bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down[d] = down
}

func (w *world) setForge(f func(to mimi.ProviderDomain, list []mimi.FanoutMessage) []mimi.FanoutMessage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forge = f
}

// setBend lets a function change what a provider answers others.
func (w *world) setBend(f func(of mimi.ProviderDomain, answer any)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bend = f
}

func (w *world) bendAnswer(of mimi.ProviderDomain, answer any) {
	w.mu.Lock()
	bend := w.bend
	w.mu.Unlock()
	if bend != nil && !reflect.ValueOf(answer).IsNil() {
		bend(of, answer)
	}
}

func (p *peer) reach() error {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if p.w.down[p.d] {
		return &mimi.FailedError{Err: errors.New("connection refused")}
	}
	return nil
}

func (p *peer) KeyMaterial(ctx context.Context, from mimi.ProviderDomain, target mimi.UserURI, req *mimi.KeyMaterialRequest) (*mimi.KeyMaterialResponse, error) {
	if err := p.reach(); err != nil {
		return nil, err
	}
	resp, err := p.Hub.KeyMaterial(ctx, from, target, req)
	p.w.bendAnswer(p.d, resp)
	return resp, err
}

func (p *peer) Update(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, req *mimi.UpdateRequest) (*mimi.UpdateRoomResponse, error) {
	if err := p.reach(); err != nil {
		return nil, err
	}
	resp, err := p.Hub.Update(ctx, from, room, req)
	p.w.bendAnswer(p.d, resp)
	return resp, err
}

func (p *peer) SubmitMessage(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, req *mimi.SubmitMessageRequest) (*mimi.SubmitMessageResponse, error) {
	if err := p.reach(); err != nil {
		return nil, err
	}
	resp, err := p.Hub.SubmitMessage(ctx, from, room, req)
	p.w.bendAnswer(p.d, resp)
	return resp, err
}

func (p *peer) GroupInfo(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, req *mimi.GroupInfoRequest) (*mimi.GroupInfoResponse, error) {
	if err := p.reach(); err != nil {
		return nil, err
	}
	resp, err := p.Hub.GroupInfo(ctx, from, room, req)
	p.w.bendAnswer(p.d, resp)
	return resp, err
}

func (p *peer) Gone(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, notice *mimi.GoneNotice) error {
	if err := p.reach(); err != nil {
		return err
	}
	return p.Hub.Gone(ctx, from, room, notice)
}

func (p *peer) Notify(ctx context.Context, from mimi.ProviderDomain, room mimi.RoomURI, req *mimi.NotifyRequest) error {
	if err := p.reach(); err != nil {
		return err
	}
	// As it is read at the other end.
	encoded, err := tlspl.Marshal(req)
	if err != nil {
		return err
	}
	req = new(mimi.NotifyRequest)
	if err := tlspl.Unmarshal(encoded, req); err != nil {
		return err
	}
	p.w.mu.Lock()
	forge, tap := p.w.forge, p.w.tap
	p.w.mu.Unlock()
	if tap != nil {
		tap(p.d, req)
	}
	if forge != nil {
		list := forge(p.d, req.Messages)
		if len(list) == 0 {
			return nil
		}
		req = new(mimi.NotifyRequest)
		for _, m := range list { // without the octets that were read before
			req.Messages = append(req.Messages, mimi.FanoutMessage{Timestamp: m.Timestamp, Message: m.Message, Frank: m.Frank,
				RatchetTreeOption: m.RatchetTreeOption, MoreProposals: m.MoreProposals, ExternalProposals: m.ExternalProposals})
		}
	}
	return p.Hub.Notify(ctx, from, room, req)
}
