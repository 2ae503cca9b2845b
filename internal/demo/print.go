package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/comity-im/comity/internal/cluster"
	"github.com/comity-im/comity/mimi"
)

// A printer shows the story, to a person or to a program.
type printer struct {
	mu   *sync.Mutex
	out  io.Writer
	json bool
	n    *int // steps so far
	last *time.Time
}

func newPrinter(out io.Writer, json bool) printer {
	return printer{mu: new(sync.Mutex), out: out, json: json, n: new(int), last: new(time.Time)}
}

// object prints one JSON object.
func (p printer) object(v any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*p.last = time.Now()
	json.NewEncoder(p.out).Encode(v)
}

func (p printer) line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*p.last = time.Now()
	fmt.Fprintf(p.out, format+"\n", args...)
}

// title begins a step.
func (p printer) title(s string) {
	*p.n++
	if !p.json {
		p.line("\n%d. %s", *p.n, s)
	}
}

// step ends one.
func (p printer) step(name, actor string, ok bool) {
	if p.json {
		p.object(map[string]any{"step": name, "actor": actor, "ok": ok})
	} else if !ok {
		p.line("   FAILED")
	}
}

func (p printer) note(format string, args ...any) {
	if !p.json {
		p.line("   "+format, args...)
	} else {
		p.object(map[string]any{"note": strings.TrimSpace(fmt.Sprintf(format, args...))})
	}
}

// request shows a request between providers.
func (p printer) request(r cluster.Request) {
	if p.json {
		p.object(map[string]any{"request": r.Endpoint, "from": r.From, "to": r.To, "status": r.Status})
		return
	}
	p.line("   %s --> %s   %s (%d)", r.From, r.To, r.Endpoint, r.Status)
}

// message shows that a device read a message.
func (p printer) message(by *person, room mimi.RoomURI, sender mimi.UserURI, text string) {
	if p.json {
		p.object(map[string]any{"reader": by.title(), "actor": by.name, "device": by.device, "room": room, "sender": sender, "text": text, "ok": true, "step": "read"})
		return
	}
	p.line("   %s reads: %q from %s", by.title(), text, sender)
}

// flush waits until requests that were logged have been shown.
func (p printer) flush() {
	for range 20 {
		p.mu.Lock()
		quiet := time.Since(*p.last) > 60*time.Millisecond
		p.mu.Unlock()
		if quiet {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// done prints the sum.
func (p printer) done(sent, read, devices int) {
	if p.json {
		p.object(map[string]any{"step": "done", "actor": "", "ok": true, "sent": sent, "read": read, "clients": devices})
		return
	}
	p.line("\nDone: %d messages were sent and read %d times by %d devices at three providers.", sent, read, devices)
}
