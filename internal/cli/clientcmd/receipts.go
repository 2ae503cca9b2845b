package clientcmd

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/comity-im/comity/client"
	"github.com/comity-im/comity/mimi"
)

// Receipts is comity client receipts.
type Receipts struct {
	Delivery string `help:"That messages reached this device: on, off (only where the room requires it), or never." enum:",on,off,never" default:""`
	Read     string `help:"That they were read: on, off or never." enum:",on,off,never" default:""`
}

// Run shows or changes the setting.
func (r *Receipts) Run(ctx context.Context, cmd *Cmd, out io.Writer) error {
	return cmd.local(ctx, out, func(ctx context.Context, s *session) error {
		set, err := s.Client.Receipts(ctx)
		if err != nil {
			return err
		}
		for _, x := range []struct {
			word string
			mode *client.ReceiptMode
		}{{r.Delivery, &set.Delivery}, {r.Read, &set.Read}} {
			if x.word == "" {
				continue
			}
			if err := x.mode.UnmarshalText([]byte(x.word)); err != nil {
				return err
			}
		}
		if r.Delivery != "" || r.Read != "" {
			if err := s.SetReceipts(ctx, set); err != nil {
				return err
			}
		}
		return cmd.show(out, set, func(w io.Writer) {
			fmt.Fprintf(w, "Delivery notifications: %s. Read receipts: %s.\n", set.Delivery, set.Read)
		})
	})
}

// receipts sends what a room is to hear of what was just read, since the command ends soon.
func (s *session) receipts(ctx context.Context, uri mimi.RoomURI) error {
	any, err := s.SendReceipts(ctx, uri)
	if err != nil || !any || !s.Online() {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, min(s.cmd.Timeout, 10*time.Second))
	defer cancel()
	_ = s.Idle(ctx) // what is not sent by then is sent next time
	return nil
}
