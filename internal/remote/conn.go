package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"postamt/internal/smtp"
)

// Conn is a connection to one peer, ready for a transaction. Not safe for concurrent use.
type Conn struct {
	c   *smtp.Conn
	raw net.Conn // below TLS
	ep  Endpoint
	opt *Options
	ext smtp.Extensions

	tls    string
	tlsErr error     // why a peer that offers STARTTLS is spoken to in clear
	total  time.Time // ends the phase that goes on
	sent   int       // transactions begun
	dirty  bool      // a transaction is open at the peer: RSET goes first
	heard  bool      // the peer has said something in this Send
	broken error     // no more use
	buf    []byte    // a block of a message
}

// Dial connects to ep and negotiates. The error is an *Error. o may be shared by many; nil stands for the defaults.
func Dial(ctx context.Context, ep Endpoint, o *Options) (*Conn, error) {
	if o == nil {
		o = new(Options)
	}
	return dial(ctx, ep, o.withDefaults())
}

func dial(ctx context.Context, ep Endpoint, opt *Options) (*Conn, error) {
	total := time.Now().Add(opt.Timeouts.Total)
	c, err := open(ctx, ep, opt, total, opt.Policy(ep) != TLSNo)
	if err != nil && err.tls && opt.TLS == TLSMay && ctx.Err() == nil {
		// RFC 3207 section 4.1 leaves the choice. The connection is in no state to go on, so in clear means from the start.
		opt.Log(Event{Peer: ep, What: "tls", Err: err})
		why := err
		if c, err = open(ctx, ep, opt, total, false); err == nil {
			c.tlsErr = why
		}
	}
	if err != nil {
		if ctx.Err() != nil {
			err = localError("4.4.1", "connect to "+ep.String(), ctx.Err())
		}
		opt.Log(Event{Peer: ep, What: "connect", Err: err})
		return nil, err
	}
	opt.Log(Event{Peer: ep, What: "connect", TLS: c.tls})
	return c, nil
}

// open makes one connection and takes it to the end of EHLO.
func open(ctx context.Context, ep Endpoint, opt *Options, total time.Time, startTLS bool) (*Conn, *Error) {
	// Without keep-alive: every wait here has its end.
	d := net.Dialer{Timeout: opt.Timeouts.Connect, Deadline: total, KeepAlive: -1}
	network, address := "unix", ep.Socket
	if ep.Socket == "" {
		network, address = "tcp", ep.Addr.String()
		source := opt.Source6
		if ep.Addr.Addr().Unmap().Is4() {
			source = opt.Source4
		}
		if source.IsValid() {
			d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
		}
	}
	raw, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, localError("4.4.1", "connect to "+ep.String(), err)
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	c := &Conn{c: smtp.NewConn(raw), raw: raw, ep: ep, opt: opt, total: total}
	c.c.SetWriteTimeout(opt.Timeouts.Block)
	if err := c.begin(startTLS); err != nil {
		if err.Peer && c.broken == nil {
			c.Quit() // RFC 5321 section 3.1: QUIT even after 554
		} else {
			c.Close()
		}
		return nil, err
	}
	return c, nil
}

func (c *Conn) begin(startTLS bool) *Error {
	r, err := c.reply(c.opt.Timeouts.Greeting)
	if err != nil {
		return c.failure("4.4.1", "greeting of", err)
	}
	if r.Code/100 != 2 {
		return c.refused("greeting of", r)
	}
	if err := c.hello(); err != nil {
		return err
	}
	if !startTLS {
		return nil
	}
	if !c.ext.StartTLS {
		if c.opt.TLS == TLSEncrypt {
			// RFC 3207 section 6: an attacker in the middle can take the offer away, so its absence means later and not clear.
			return localError("4.7.4", "TLS is required and not offered by "+c.ep.String(), nil)
		}
		return nil
	}
	if err := c.startTLS(); err != nil {
		err.tls = true
		return err
	}
	// RFC 3207 section 4.2: what was learned in clear is forgotten.
	c.ext = smtp.Extensions{}
	herr := c.hello()
	if herr != nil && !herr.Peer {
		// In TLS 1.3 the server's alert about the handshake arrives only now.
		herr.tls = true
	}
	return herr
}

// hello says EHLO, LHLO, or HELO to those who know no better.
func (c *Conn) hello() *Error {
	verb := "EHLO "
	if c.ep.LMTP {
		verb = "LHLO "
	}
	r, err := c.command(verb, c.opt.Hostname)
	if err == nil && r.Permanent() && !c.ep.LMTP && c.broken == nil {
		// RFC 5321 section 3.2: HELO for a server that does not recognise EHLO. It may say so in several codes; one that does not want us says it again.
		if r, err = c.command("HELO ", c.opt.Hostname); err == nil && r.Code/100 == 2 {
			c.ext = smtp.Extensions{}
			return nil
		}
	}
	if err != nil {
		return c.failure("4.4.2", strings.TrimSpace(verb)+" to", err)
	}
	if r.Code/100 != 2 {
		return c.refused(strings.TrimSpace(verb)+" to", r)
	}
	_, c.ext = smtp.ParseEHLO(r)
	return nil
}

func (c *Conn) startTLS() *Error {
	r, err := c.command("STARTTLS")
	if err != nil {
		return c.failure("4.4.2", "STARTTLS to", err)
	}
	if r.Code != 220 {
		return &Error{Reply: smtp.NewReply(451, "4.7.4", "STARTTLS refused by "+c.ep.String()+": "+r.Error()), Err: r}
	}
	conf := &tls.Config{}
	if c.opt.TLSConfig != nil {
		conf = c.opt.TLSConfig.Clone()
	}
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
	conf.InsecureSkipVerify = true // see the package comment
	if _, err := netip.ParseAddr(c.ep.Name); err != nil {
		conf.ServerName = c.ep.Name
	}
	c.c.SetDeadline(c.until(c.opt.Timeouts.TLS))
	if err := c.c.StartTLS(conf, false); err != nil {
		c.broken = err
		return localError("4.7.5", "TLS with "+c.ep.String(), err)
	}
	s := c.c.TLS()
	c.tls = strings.Replace(tls.VersionName(s.Version), "TLS ", "TLSv", 1) + ":" + tls.CipherSuiteName(s.CipherSuite) + ":unverified"
	return nil
}

// until is d from now, or the end of all if that is earlier.
func (c *Conn) until(d time.Duration) time.Time {
	t := time.Now().Add(d)
	if !c.total.IsZero() && c.total.Before(t) {
		return c.total
	}
	return t
}

// reply reads one whole reply within d: a peer that sends a byte now and then gains no time by it.
func (c *Conn) reply(d time.Duration) (*smtp.Reply, error) {
	c.c.SetDeadline(c.until(d))
	r, err := c.c.ReadReply()
	if err != nil {
		c.broken = err
		return nil, err
	}
	c.heard = true
	if r.Code == 421 {
		c.broken = r // RFC 5321 section 3.8: the peer is closing the connection
	}
	return r, nil
}

func (c *Conn) command(parts ...string) (*smtp.Reply, error) {
	if err := c.c.WriteLine(parts...); err != nil {
		c.broken = err
		return nil, err
	}
	return c.reply(c.opt.Timeouts.Command)
}

// failure makes an Error of an I/O or protocol error.
func (c *Conn) failure(enhanced, what string, err error) *Error {
	if errors.Is(err, smtp.ErrProtocol) {
		enhanced = "4.5.0" // RFC 3463 section 3.6
	}
	return localError(enhanced, what+" "+c.ep.String(), err)
}

// refused makes an Error of a reply that is not positive; one that is neither 4yz nor 5yz has no meaning here.
func (c *Conn) refused(what string, r *smtp.Reply) *Error {
	if r.Temporary() || r.Permanent() {
		return &Error{Reply: r, Peer: true}
	}
	c.broken = errOutOfPlace
	return localError("4.5.0", what+" "+c.ep.String()+": unexpected reply: "+r.Error(), nil)
}

var errOutOfPlace = errors.New("reply out of place") // never assigned to

// TLS describes the encryption, "TLSv1.3:TLS_AES_128_GCM_SHA256:unverified"; "" in clear.
func (c *Conn) TLS() string { return c.tls }

// TLSError is why a peer that offers STARTTLS is spoken to in clear; nil otherwise.
func (c *Conn) TLSError() error { return c.tlsErr }

// Endpoint is what Dial was given.
func (c *Conn) Endpoint() Endpoint { return c.ep }

// Extensions is what the peer offers.
func (c *Conn) Extensions() smtp.Extensions { return c.ext }

// Sent is the number of transactions begun on the connection.
func (c *Conn) Sent() int { return c.sent }

// Usable reports whether another transaction may be tried: nothing has gone wrong, and the peer's MAILMAX (RFC 9422 section 4.1) is not reached.
func (c *Conn) Usable() bool {
	return c.broken == nil && (c.ext.MailMax <= 0 || c.sent < c.ext.MailMax)
}

// Alive reports whether an idle connection is still usable, by one system call: the peer has neither closed it nor said anything, as a 421 on leaving.
func (c *Conn) Alive() bool {
	if !c.Usable() || c.c.Buffered() > 0 {
		return false
	}
	sc, ok := c.raw.(syscall.Conn)
	if !ok {
		return true
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = rc.Read(func(fd uintptr) bool {
		var b [1]byte
		// The descriptor does not block. Whatever is there, data, its end, or an error: it was not asked for.
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		quiet = err == syscall.EAGAIN
		return true
	})
	return err == nil && quiet
}

// Quit says QUIT, waits for the reply no longer than Timeouts.Quit, and closes.
func (c *Conn) Quit() error {
	if c.broken == nil {
		c.total = time.Now().Add(c.opt.Timeouts.Quit)
		c.c.SetWriteTimeout(c.opt.Timeouts.Quit)
		c.command("QUIT") // whatever comes of it: all mail is settled
	}
	return c.Close()
}

// Close closes the connection at once.
func (c *Conn) Close() error {
	if c.broken == nil {
		c.broken = net.ErrClosed
	}
	c.buf = nil
	return c.c.Close()
}
