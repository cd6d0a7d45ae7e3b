package lineio

import (
	"crypto/tls"
	"net"
	"time"
)

// HandshakeTimeout bounds a TLS handshake as a whole; the deadline of the connection may come earlier.
const HandshakeTimeout = 30 * time.Second

// StartTLS exchanges the transport for TLS over it, and returns after the handshake; a server has written its go-ahead before, and what was gathered
// is sent. It is the way to begin a connection with TLS at once, too. ErrPlaintext if something is received and not consumed: nothing from before may be
// used (RFC 3207 section 4.2). After an error the connection can only be closed.
func (c *Conn) StartTLS(conf *tls.Config, server bool) error {
	if c.Buffered() > 0 {
		return ErrPlaintext
	}
	if err := c.Flush(); err != nil {
		return err
	}
	nc := c.Net()
	var t *tls.Conn
	if server {
		t = tls.Server(nc, conf)
	} else {
		t = tls.Client(nc, conf)
	}
	if err := nc.SetDeadline(c.Cap(HandshakeTimeout)); err != nil {
		return err
	}
	if err := t.Handshake(); err != nil {
		return err
	}
	if err := nc.SetDeadline(time.Time{}); err != nil {
		return err
	}
	return c.Replace(t)
}

// TLS is the state of TLS, nil when in clear. Something else may lie above it, which says with NetConn, as a tls.Conn does, what is below.
func (c *Conn) TLS() *tls.ConnectionState {
	for nc := c.Net(); ; {
		switch t := nc.(type) {
		case *tls.Conn:
			s := t.ConnectionState()
			return &s
		case interface{ NetConn() net.Conn }:
			nc = t.NetConn()
		default:
			return nil
		}
	}
}
