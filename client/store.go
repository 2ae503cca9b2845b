package client

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"
)

// A Store keeps a device's records: octets under ordered keys. It belongs to one
// Client at a time. The secrets of the device are in it.
type Store interface {
	// View runs f on what is stored.
	View(ctx context.Context, f func(Tx) error) error
	// Update runs f and stores all that it wrote, durably, or none of it. After an
	// error it is unknown whether it did.
	Update(ctx context.Context, f func(Tx) error) error
}

// A Tx is a transaction of a Store. It sees its own writes. Keys and values that
// it gives and takes must not be changed.
type Tx interface {
	// Get returns the value of a key, nil if there is none.
	Get(key []byte) ([]byte, error)
	// Put stores a value, which is not nil.
	Put(key, value []byte) error
	// Delete removes a key, if it is there.
	Delete(key []byte) error
	// Scan calls f in ascending order for the keys that begin with prefix and are
	// greater than after, until f returns false or an error. f must not write.
	Scan(prefix, after []byte, f func(key, value []byte) (bool, error)) error
}

// Memory is a Store in memory, for tests and for where nothing need last.
type Memory struct {
	mu      sync.RWMutex
	records map[string][]byte
	keys    []string // sorted
}

// NewMemory returns an empty Store.
func NewMemory() *Memory { return &Memory{records: map[string][]byte{}} }

// View implements Store.
func (m *Memory) View(_ context.Context, f func(Tx) error) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return f(&memoryTx{m: m})
}

// Update implements Store.
func (m *Memory) Update(_ context.Context, f func(Tx) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	tx := &memoryTx{m: m}
	err := f(tx)
	if err != nil {
		for i := len(tx.undo) - 1; i >= 0; i-- {
			m.set(tx.undo[i].key, tx.undo[i].value)
		}
	}
	return err
}

func (m *Memory) set(key string, value []byte) {
	i, found := slices.BinarySearch(m.keys, key)
	switch {
	case value == nil && found:
		m.keys = slices.Delete(m.keys, i, i+1)
	case value != nil && !found:
		m.keys = slices.Insert(m.keys, i, key)
	}
	if value == nil {
		delete(m.records, key)
	} else {
		m.records[key] = value
	}
}

type memoryTx struct {
	m    *Memory
	undo []struct {
		key   string
		value []byte
	}
}

func (t *memoryTx) Get(key []byte) ([]byte, error) { return t.m.records[string(key)], nil }

func (t *memoryTx) write(key string, value []byte) {
	t.undo = append(t.undo, struct {
		key   string
		value []byte
	}{key, t.m.records[key]})
	t.m.set(key, value)
}

func (t *memoryTx) Put(key, value []byte) error {
	t.write(string(key), append([]byte{}, value...))
	return nil
}

func (t *memoryTx) Delete(key []byte) error {
	t.write(string(key), nil)
	return nil
}

func (t *memoryTx) Scan(prefix, after []byte, f func(key, value []byte) (bool, error)) error {
	from := string(prefix)
	if bytes.Compare(after, prefix) > 0 {
		from = string(after)
	}
	i, _ := slices.BinarySearch(t.m.keys, from)
	for ; i < len(t.m.keys) && strings.HasPrefix(t.m.keys[i], string(prefix)); i++ {
		if after != nil && t.m.keys[i] == string(after) {
			continue
		}
		if more, err := f([]byte(t.m.keys[i]), t.m.records[t.m.keys[i]]); err != nil || !more {
			return err
		}
	}
	return nil
}
