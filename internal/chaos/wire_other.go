//go:build !linux

package chaos

func newWire(uint64) (*wire, error) { return nil, errNoWire }
