package content

import "fmt"

// Status is what became of a message at its reader (M §3). 7 to 255 are
// unassigned and ignored (Decision 112).
type Status uint8

const (
	StatusUnread    Status = 0
	StatusDelivered Status = 1
	StatusRead      Status = 2
	StatusExpired   Status = 3
	StatusDeleted   Status = 4
	StatusHidden    Status = 5
	StatusError     Status = 6
)

var statusNames = []string{"unread", "delivered", "read", "expired", "deleted", "hidden", "error"}

func (s Status) String() string {
	if s.Known() {
		return statusNames[s]
	}
	return fmt.Sprintf("unknown(%d)", uint8(s))
}

// Known reports whether M assigns the value.
func (s Status) Known() bool { return int(s) < len(statusNames) }

// StatusReport is a MessageStatusReport (M §4). It speaks for the user who sent
// it. Of two entries for one message the last counts.
type StatusReport struct {
	Statuses []PerMessageStatus
}

// PerMessageStatus is the status of one message.
type PerMessageStatus struct {
	MessageID MessageID
	Status    Status
}

// statusLength is the encoded length of a PerMessageStatus with a status below 24.
const statusLength = 1 + 2 + 32 + 1

// UnmarshalStatus decodes an application/mimi-message-status. Every error is a
// *SyntaxError.
func UnmarshalStatus(b []byte) (*StatusReport, error) {
	if len(b) > MaxLength {
		return nil, &SyntaxError{Err: broken(ErrTooLong, fmt.Sprintf("at most %d octets", MaxLength), len(b))}
	}
	r := cursor{b: b}
	s := r.status()
	if err := r.result(); err != nil {
		return nil, err
	}
	return s, nil
}

func (c *cursor) status() *StatusReport {
	start := c.off
	n := c.want(majorArray)
	if n > uint64(c.left()/statusLength) {
		c.failAt(start, ErrTruncated)
	}
	if c.err != nil {
		return nil
	}
	c.kind(List)
	s := &StatusReport{Statuses: make([]PerMessageStatus, n)}
	for i := range s.Statuses {
		c.at(i, func() {
			c.array(2)
			c.in("messageId", func() { s.Statuses[i].MessageID = c.messageID() })
			c.in("status", func() {
				s.Statuses[i].Status = Status(c.uint(255))
				c.note(s.Statuses[i].Status.String())
			})
		})
	}
	return s
}

// Marshal encodes the report.
func (s *StatusReport) Marshal() ([]byte, error) {
	report := make([]any, len(s.Statuses))
	for i := range s.Statuses {
		report[i] = []any{s.Statuses[i].MessageID[:], uint8(s.Statuses[i].Status)}
	}
	b, err := encoding.Marshal(report)
	if err != nil {
		return nil, fmt.Errorf("content: status: %w", err)
	}
	if _, err := UnmarshalStatus(b); err != nil {
		return nil, err
	}
	return b, nil
}

// Latest gives the status that the report leaves each message with, in the order
// of first mention; unknown values are left out.
func (s *StatusReport) Latest() []PerMessageStatus {
	var last []PerMessageStatus
	place := make(map[MessageID]int, len(s.Statuses))
	for _, p := range s.Statuses {
		if !p.Status.Known() {
			continue
		}
		if i, ok := place[p.MessageID]; ok {
			last[i] = p
			continue
		}
		place[p.MessageID] = len(last)
		last = append(last, p)
	}
	return last
}
