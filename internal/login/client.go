package login

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strings"

	"postamt/internal/lineio"
)

// Peer is who is at the other end.
type Peer struct {
	IP   netip.Addr // not valid for a local socket
	Port uint16
	TLS  string // version and cipher of TLS that ends before us; "" in clear
	// StartTLS has whoever passes the connection on begin with TLS on it, and returns version and cipher; nil: he cannot.
	StartTLS func() (string, error)
}

// Gate is how clients may come in. It is not changed while it is in use.
type Gate struct {
	TLS *tls.Config // nil: none of ours
	// BeginTLS is asked before each handshake on a listener of the kind. What it returns is used in the place of TLS; an
	// error says that a handshake would fail now. May be nil.
	BeginTLS    func(kind string) (*tls.Config, error)
	AuthInClear func(netip.Addr) bool // clients that may log in without TLS; nil: none
}

// Client is the connection of somebody who may log in, with TLS or without. It belongs to one goroutine.
type Client struct {
	Peer Peer
	Kind string // of the listener
	TLS  string // "TLSv1.3 TLS_AES_128_GCM_SHA256", ours or another's; "" in clear

	gate *Gate
	conn *lineio.Conn
	nc   net.Conn // as accepted; under TLS too
}

// NewClient is a client who was just accepted.
func NewClient(c *lineio.Conn, kind string, peer Peer, gate *Gate) Client {
	return Client{Peer: peer, Kind: kind, TLS: peer.TLS, gate: gate, conn: c, nc: c.Net()}
}

// MayLogIn: not in clear over a network.
func (c *Client) MayLogIn() bool {
	return c.TLS != "" || c.gate.AuthInClear != nil && c.Peer.IP.IsValid() && c.gate.AuthInClear(c.Peer.IP)
}

// Request begins an exchange of the client's.
func (c *Client) Request(session, mechanism string, initial []byte) Request {
	return Request{Mechanism: mechanism, Initial: initial, Remote: netip.AddrPortFrom(c.Peer.IP, c.Peer.Port), Local: c.local(), TLS: c.conn.TLS(), Session: session}
}

// local is our end of the connection, for those who keep a record of logins.
func (c *Client) local() netip.AddrPort {
	if l, ok := c.nc.LocalAddr().(interface{ AddrPort() netip.AddrPort }); ok {
		return l.AddrPort()
	}
	return netip.AddrPort{}
}

// OffersTLS says that the client may ask for TLS.
func (c *Client) OffersTLS() bool {
	return c.TLS == "" && (c.gate.TLS != nil || c.Peer.StartTLS != nil)
}

var errNoTLS = errors.New("login: no certificate")

// Handshake finds out whether one could succeed, and returns what makes it: with TLS of ours, which has channel bindings, else of who passes the connection on. It
// takes the time that StartTLS of lineio gives it (T04). After one that failed the connection is of no use.
func (c *Client) Handshake() (func() error, error) {
	if c.gate.TLS == nil && c.Peer.StartTLS != nil {
		return c.theirs, nil
	}
	conf := c.gate.TLS
	if conf == nil {
		return nil, errNoTLS
	}
	if c.gate.BeginTLS != nil {
		var err error
		if conf, err = c.gate.BeginTLS(c.Kind); err != nil {
			return nil, err
		}
	}
	return func() error { return c.ours(conf) }, nil
}

func (c *Client) ours(conf *tls.Config) error {
	if err := c.conn.StartTLS(conf, true); err != nil {
		return err
	}
	t := c.conn.TLS()
	c.TLS = strings.Replace(tls.VersionName(t.Version), "TLS ", "TLSv", 1) + " " + tls.CipherSuiteName(t.CipherSuite)
	return nil
}

func (c *Client) theirs() error {
	names, err := c.Peer.StartTLS()
	if err == nil {
		err = c.conn.Replace(c.nc) // other descriptors lie below, without the deadlines that were set
	}
	if err == nil {
		c.TLS = names
	}
	return err
}
