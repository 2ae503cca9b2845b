package mls

import (
	"cmp"
	"errors"
	"maps"
	"slices"
)

// ErrAckRange: a range of an AppAck ends before it begins.
var ErrAckRange = errors.New("mls: range of an AppAck ends before it begins")

// Check verifies what MLS extensions §6.1 says of the ranges.
func (a *AppAck) Check() error {
	for _, r := range a.ReceivedRanges {
		if r.LastGeneration < r.FirstGeneration {
			return ErrAckRange
		}
	}
	return nil
}

// Contains reports whether the AppAck acknowledges a message.
func (a *AppAck) Contains(sender LeafIndex, generation uint32) bool {
	return slices.ContainsFunc(a.ReceivedRanges, func(r MessageRange) bool {
		return r.Sender == sender && r.FirstGeneration <= generation && generation <= r.LastGeneration
	})
}

// Received collects which application messages came in one epoch, for the AppAck of a member and for finding what the
// delivery service dropped (MLS extensions §6.1, §8.2). The zero value is ready. Its size is the number of gaps.
type Received struct {
	ranges map[LeafIndex][]MessageRange // ascending, no two touch
}

// Add notes a message.
func (r *Received) Add(sender LeafIndex, generation uint32) {
	if r.ranges == nil {
		r.ranges = map[LeafIndex][]MessageRange{}
	}
	list := r.ranges[sender]
	i, found := find(list, generation)
	if found {
		return
	}
	joinsBefore := i > 0 && list[i-1].LastGeneration+1 == generation
	joinsAfter := i < len(list) && list[i].FirstGeneration-1 == generation
	switch {
	case joinsBefore && joinsAfter:
		list[i-1].LastGeneration = list[i].LastGeneration
		list = slices.Delete(list, i, i+1)
	case joinsBefore:
		list[i-1].LastGeneration = generation
	case joinsAfter:
		list[i].FirstGeneration = generation
	default:
		list = slices.Insert(list, i, MessageRange{sender, generation, generation})
	}
	r.ranges[sender] = list
}

// find returns the first range that doesn't end before generation, and whether it contains it.
func find(list []MessageRange, generation uint32) (int, bool) {
	i, _ := slices.BinarySearchFunc(list, generation, func(r MessageRange, g uint32) int {
		return cmp.Compare(r.LastGeneration, g)
	})
	return i, i < len(list) && list[i].FirstGeneration <= generation
}

// AppAck returns what came so far, ordered by sender and generation.
func (r *Received) AppAck() AppAck {
	var a AppAck
	for _, sender := range slices.Sorted(maps.Keys(r.ranges)) {
		a.ReceivedRanges = append(a.ReceivedRanges, r.ranges[sender]...)
	}
	return a
}

// Missing returns the messages that another member acknowledges, or that must have been sent before one that came, and
// that did not come themselves.
func (r *Received) Missing(ack *AppAck) []MessageRange {
	expected := map[LeafIndex][]MessageRange{}
	for sender, list := range r.ranges {
		if last := list[len(list)-1].LastGeneration; last > 0 {
			expected[sender] = append(expected[sender], MessageRange{sender, 0, last})
		}
	}
	if ack != nil {
		for _, a := range ack.ReceivedRanges {
			expected[a.Sender] = append(expected[a.Sender], MessageRange{a.Sender, 0, a.LastGeneration})
		}
	}
	var missing []MessageRange
	for _, sender := range slices.Sorted(maps.Keys(expected)) {
		var last uint32
		for _, e := range expected[sender] {
			last = max(last, e.LastGeneration)
		}
		missing = append(missing, gaps(sender, r.ranges[sender], last)...)
	}
	return missing
}

// gaps returns what of 0 to last the ranges leave out.
func gaps(sender LeafIndex, list []MessageRange, last uint32) (out []MessageRange) {
	next := uint64(0)
	for _, e := range list {
		if uint64(e.FirstGeneration) > next {
			out = append(out, MessageRange{sender, uint32(next), e.FirstGeneration - 1})
		}
		next = uint64(e.LastGeneration) + 1
	}
	if next <= uint64(last) {
		out = append(out, MessageRange{sender, uint32(next), last})
	}
	return out
}
