package chaos

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// newWire makes a wire, which takes the right to make network devices: root's, or
// that of a user in a network namespace of its own (unshare -rn).
func newWire(seed uint64) (*wire, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: /dev/net/tun: %w", errNoWire, err)
	}
	w := &wire{random: rand.New(rand.NewPCG(seed, 11))}
	if err := w.up(fd); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("%w: %w", errNoWire, err)
	}
	w.device = os.NewFile(uintptr(fd), "tun") // non-blocking, so that Close ends a Read
	w.wg.Go(w.run)
	return w, nil
}

// up makes the device of fd, and gives it an address that is free.
func (w *wire) up(fd int) error {
	r, err := unix.NewIfreq("comity%d")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, r); err != nil {
		return fmt.Errorf("making a TUN device: %w", err)
	}
	name := r.Name()
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	n, err := freeNetwork()
	if err != nil {
		return err
	}
	w.own, w.other = net.IPv4(198, 18, n, 1).To4(), net.IPv4(198, 18, n, 2).To4()
	for _, step := range []struct {
		request uint
		value   any
	}{{unix.SIOCSIFADDR, w.own}, {unix.SIOCSIFNETMASK, net.IP{255, 255, 255, 252}}, {unix.SIOCSIFFLAGS, uint16(unix.IFF_UP | unix.IFF_RUNNING)}} {
		if r, err = unix.NewIfreq(name); err != nil {
			return err
		}
		switch v := step.value.(type) {
		case net.IP:
			if err := r.SetInet4Addr(v); err != nil {
				return err
			}
		case uint16:
			r.SetUint16(v)
		}
		if err := unix.IoctlIfreq(s, step.request, r); err != nil {
			return fmt.Errorf("setting up %s: %w", name, err)
		}
	}
	return nil
}

// freeNetwork is an n of which no device has an address 198.18.n.x.
func freeNetwork() (byte, error) {
	taken, err := net.InterfaceAddrs()
	if err != nil {
		return 0, err
	}
	for range 1000 {
		n := byte(rand.IntN(256))
		free := true
		for _, a := range taken {
			if in, ok := a.(*net.IPNet); ok && in.Contains(net.IPv4(198, 18, n, 2)) {
				free = false
			}
		}
		if free {
			return n, nil
		}
	}
	return 0, fmt.Errorf("all of 198.18.0.0/16 is in use here")
}
