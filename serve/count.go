package serve

import (
	"net"

	"github.com/prometheus/client_golang/prometheus"
)

// networkBytes counts what goes over the listeners, TLS included.
func networkBytes(reg prometheus.Registerer) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "comity_network_bytes_total", Help: "Octets over connections that others opened, TLS included, by listener and direction."}, []string{"listener", "direction"})
	reg.MustRegister(c)
	return c
}

// counted is a listener whose connections are counted.
type counted struct {
	net.Listener
	in, out prometheus.Counter
}

func count(l net.Listener, c *prometheus.CounterVec, name string) net.Listener {
	return &counted{l, c.WithLabelValues(name, "in"), c.WithLabelValues(name, "out")}
}

// Accept waits for the next connection.
func (l *counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &countedConn{c, l}, nil
}

type countedConn struct {
	net.Conn
	l *counted
}

// Read counts what came.
func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.l.in.Add(float64(n))
	return n, err
}

// Write counts what went.
func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.l.out.Add(float64(n))
	return n, err
}
