package federation

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/comity-im/comity/mimi"
)

// errPrivateAddress is returned for an address that only insiders can reach.
var errPrivateAddress = errors.New("federation: the name leads to an address that is not public")

// checkAddress reports what keeps s from being a host:port to connect to.
func checkAddress(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return fmt.Errorf("federation: the address %q is not host:port", s)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("federation: the address %q has no usable port", s)
	}
	return nil
}

// checkHostName reports what keeps s from being a host name as the certificates
// spell it.
func checkHostName(s string) error {
	if _, err := mimi.ParseProviderDomain(s); err != nil {
		return fmt.Errorf("%q is not a host name in lower case", s)
	}
	return nil
}

// notPublic is what IsGlobalUnicast and IsPrivate leave out.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),   // carrier NAT
	netip.MustParsePrefix("192.0.0.0/24"),    // protocol assignments
	netip.MustParsePrefix("192.0.2.0/24"),    // documentation
	netip.MustParsePrefix("192.88.99.0/24"),  // 6to4 relays
	netip.MustParsePrefix("198.18.0.0/15"),   // benchmarks
	netip.MustParsePrefix("198.51.100.0/24"), // documentation
	netip.MustParsePrefix("203.0.113.0/24"),  // documentation
	netip.MustParsePrefix("240.0.0.0/4"),     // reserved, broadcast
	netip.MustParsePrefix("::/96"),           // IPv4-compatible
	netip.MustParsePrefix("64:ff9b::/96"),    // NAT64: may lead to a private IPv4 address
	netip.MustParsePrefix("64:ff9b:1::/48"),  // local NAT64
	netip.MustParsePrefix("100::/64"),        // discard
	netip.MustParsePrefix("2001::/23"),       // protocol assignments, Teredo
	netip.MustParsePrefix("2001:db8::/32"),   // documentation
	netip.MustParsePrefix("2002::/16"),       // 6to4: may lead to a private IPv4 address
	netip.MustParsePrefix("fec0::/10"),       // site-local
}

// public reports whether an address can be reached from everywhere.
func public(ip netip.Addr) bool {
	ip = ip.Unmap()
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.Zone() != "" {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(ip) {
			return false
		}
	}
	return true
}

// dialer returns a dialer that refuses private addresses unless allowed. It
// looks at the very address it is about to connect to, so that no second
// answer of the name server can slip in between.
func dialer(timeout time.Duration, allowPrivate bool) *net.Dialer {
	d := &net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}
	if !allowPrivate {
		d.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err != nil {
				return fmt.Errorf("federation: %w", err)
			}
			if !public(ap.Addr()) {
				return fmt.Errorf("%w: %s", errPrivateAddress, ap.Addr())
			}
			return nil
		}
	}
	return d
}

// dialer returns the way to connect to the peer: to its Address if it has one,
// else to public addresses only.
func (n *peer) dialer(timeout time.Duration) func(ctx context.Context, network, address string) (net.Conn, error) {
	d := dialer(timeout, n.private || n.cfg.Address != "")
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if n.cfg.Address != "" {
			address = n.cfg.Address
		}
		c, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return newGathering(c), nil
	}
}
