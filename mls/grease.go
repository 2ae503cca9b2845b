package mls

import (
	"io"
	"slices"
)

// GREASE returns a random one of the 15 values that name nothing and keep peers from choking on what they don't know
// (RFC 9420 §13.5). They may stand in capabilities, and as extensions of a LeafNode, KeyPackage or GroupInfo; nowhere
// else.
func GREASE[T ~uint16](rand io.Reader) (T, error) {
	n, err := below(rand, 15)
	return T(0x0A0A + 0x1010*uint16(n)), err
}

// GREASEComponent returns a random one of the 8 component IDs for the same purpose. They may stand in the dictionary, the
// app_components and the safe_aad of a LeafNode, and in the dictionary of a KeyPackage or GroupInfo
// (MLS extensions §5.1).
func GREASEComponent(rand io.Reader) (ComponentID, error) {
	n, err := below(rand, 8)
	return ComponentID(0x0A0A + 0x1010*uint16(n)), err
}

// below draws a number in [0, n), n at most 128, without bias.
func below(rand io.Reader, n byte) (byte, error) {
	for {
		var b [1]byte
		if _, err := io.ReadFull(rand, b[:]); err != nil {
			return 0, err
		}
		if v := b[0]; v < 255/n*n {
			return v % n, nil
		}
	}
}

// WithGREASE returns capabilities that list one GREASE value more in each of their fields but the versions
// (RFC 9420 §13.5). They are only for sending: what a client supports itself, it knows without them.
func (c Capabilities) WithGREASE(rand io.Reader) (Capabilities, error) {
	var err error
	c.CipherSuites = withGREASE(rand, c.CipherSuites, &err)
	c.Extensions = withGREASE(rand, c.Extensions, &err)
	c.Proposals = withGREASE(rand, c.Proposals, &err)
	c.Credentials = withGREASE(rand, c.Credentials, &err)
	return c, err
}

func withGREASE[T ~uint16](rand io.Reader, list []T, err *error) []T {
	v, e := GREASE[T](rand)
	if e != nil {
		*err = e
		return list
	}
	return append(slices.Clip(list), v)
}
