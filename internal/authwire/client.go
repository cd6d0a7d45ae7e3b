package authwire

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// A Client has credentials judged by a server's client socket. It is an Authenticator. Set the fields before the first use; the zero
// values of all but Path (or Dial) will do. Safe for concurrent use.
//
// Connections are made when needed, kept while they are used (a minute longer), and shared by all exchanges. When one breaks, the exchanges on it fail temporarily, and the next makes a new one. An
// exchange whose first step finds that a connection which was idle is gone tries once more with a new one, so that a server that was restarted costs nobody a login.
type Client struct {
	Path        string                                      // of the Unix socket
	Dial        func(ctx context.Context) (net.Conn, error) // instead of Path
	Connections int                                         // to keep; 0: one
	PID         int                                         // CPID; 0: this process. Dovecot's login sockets want a different one for each connection
	MaxLine     int                                         // octets of a line that the server takes; 0: DovecotLine. Longer ones are refused here: Dovecot would cut the connection, and with it everybody else's exchanges
	DialLimit   time.Duration                               // for connection and handshake; 0: five seconds
	Limit       time.Duration                               // for the server's reply to one step; 0: a minute

	once  sync.Once
	links links
	mu    sync.Mutex
	known []Mechanism // of the last handshake
}

func (c *Client) init() {
	c.once.Do(func() {
		c.links = links{dial: c.Dial, handshake: clientHandshake(c.pid()), limit: cmp.Or(c.DialLimit, 5*time.Second), n: c.Connections}
		if c.Dial == nil {
			c.links.dial = dialUnix(c.Path)
		}
	})
}

func (c *Client) pid() int { return cmp.Or(c.PID, os.Getpid()) }

// Close ends all connections; exchanges under way fail temporarily.
func (c *Client) Close() error {
	c.init()
	c.links.close()
	return nil
}

// Mechanisms returns what the server offers, Private ones included. When there is no server now, it returns what the last one offered together with the error: so a server of
// ours can go on to offer logins, and answer "later", where a shorter list would be taken for "never".
func (c *Client) Mechanisms(ctx context.Context) ([]Mechanism, error) {
	l, err := c.link(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		return c.known, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return l.hello.mechanisms, nil
}

// Origin is what the timestamp of an APOP greeting begins with, whose login then begins here: it names the server's process and our connection, as
// Dovecot wants it. With several connections, and when the one there is breaks, a login may come to another one, which will not know.
func (c *Client) Origin(ctx context.Context) (string, error) {
	l, err := c.link(ctx)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return origin(l.hello.pid, l.hello.connection), nil
}

func origin(pid, connection uint32) string { return fmt.Sprintf("<%x.%x.", pid, connection) }

func (c *Client) link(ctx context.Context) (*link, error) {
	l, _, err := c.get(ctx)
	return l, err
}

func (c *Client) get(ctx context.Context) (l *link, used bool, err error) {
	c.init()
	l, used, err = c.links.get(ctx)
	if err == nil && !used {
		c.mu.Lock()
		c.known = l.hello.mechanisms
		c.mu.Unlock()
	}
	return l, used, err
}

// Begin opens an exchange. Nothing is sent before its first Next. See Authenticator and Exchange; a failed context, a dead server, and whatever else is no
// answer of the server make a Reply that is Temporary, with Err. End cancels what is not finished.
func (c *Client) Begin(_ context.Context, r *Request) Exchange {
	q := *r
	q.finalOK = true
	return &clientExchange{c: c, r: &q}
}

// clientExchange is an Exchange of a Client.
type clientExchange struct {
	c       *Client
	r       *Request
	call    *call  // from the first Next until the last reply
	final   *Reply // what to say after the response to final data
	binding []byte // channel data that goes with the next response
	asked   int    // times that the server wanted it
	over    bool
}

// No mechanism needs the data of more than one type of channel, but a server may try several.
const maxAsked = 4

var errOver = errors.New("exchange is over")

func (x *clientExchange) Next(ctx context.Context, response []byte) Reply {
	if x.over {
		return unavailable(errOver)
	}
	if x.final != nil {
		x.over = true
		return *x.final
	}
	var m message
	var err error
	if x.call == nil {
		m, err = x.first(ctx, response)
	} else {
		m, err = x.send(ctx, x.cont(response))
	}
	for err == nil {
		reply, more, err2 := x.read(ctx, m)
		if err2 != nil {
			err = err2
			break
		}
		if !more {
			return reply
		}
		// The server asked for the channel's data out of band; that is no challenge for the person.
		m, err = x.send(ctx, x.cont(nil, '#'))
	}
	x.End()
	return unavailable(err)
}

// first sends AUTH.
func (x *clientExchange) first(ctx context.Context, initial []byte) (message, error) {
	if x.r.Service == "" || x.r.Mechanism == "" {
		return message{}, errors.New("request without service or mechanism")
	}
	for again := false; ; again = true {
		l, used, err := x.c.get(ctx)
		if err != nil {
			return message{}, err
		}
		x.call = l.call()
		b := x.r.append(command("AUTH", x.call.id))
		if initial != nil {
			b = appendBase64(append(b, "\tresp="...), initial)
		}
		m, err := x.send(ctx, append(b, '\n'))
		if err != nil && used && !again && l.over() {
			x.call.drop()
			x.call = nil
			continue
		}
		return m, err
	}
}

// cont composes CONT; a verbatim response stands for the base64 of none.
func (x *clientExchange) cont(response []byte, verbatim ...byte) []byte {
	b := append(command("CONT", x.call.id), '\t')
	b = append(appendBase64(b, response), verbatim...)
	if x.binding != nil {
		b = appendBase64(append(b, "\tchannel_binding="...), x.binding)
		x.binding = nil
	}
	return append(b, '\n')
}

func (x *clientExchange) send(ctx context.Context, line []byte) (message, error) {
	if limit := cmp.Or(x.c.MaxLine, DovecotLine); len(line) > limit {
		return message{}, fmt.Errorf("%w: %d octets, the server takes %d", errTooLong, len(line), limit)
	}
	if err := context.Cause(ctx); err != nil {
		return message{}, err
	}
	if err := x.call.link.w.write(line); err != nil {
		<-x.call.link.done // soon: the failed write closed the connection
		return message{}, err
	}
	return x.call.await(ctx, cmp.Or(x.c.Limit, time.Minute))
}

// read makes a Reply of a message. more: none, but the server waits for channel data in x.binding.
func (x *clientExchange) read(ctx context.Context, m message) (r Reply, more bool, err error) {
	switch m.verb {
	case "CONT":
		return x.challenge(ctx, m.words)
	case "OK", "FAIL":
		r = parseReply(m.verb == "OK", m.words)
		if r.Status == OK && !x.r.NoLogin && !r.Fields.Has("nologin") {
			l := x.call.link
			r.Ticket = &Ticket{ServerPID: l.hello.pid, ClientPID: uint32(x.c.pid()), ID: x.call.id, Cookie: l.hello.cookie}
		}
		x.call.drop()
		x.call = nil
		if len(r.Data) > 0 {
			// SMTP, IMAP and POP3 have no place for it in their last reply either, so it is a challenge now and the reply comes after the response.
			last := r
			last.Data = nil
			x.final = &last
			return Reply{Status: Continue, Data: r.Data}, false, nil
		}
		x.over = true
		return r, false, nil
	case "CANCELLED":
		return r, false, errors.New("cancelled by the server")
	}
	return r, false, fmt.Errorf("unknown reply: %w", errProtocol)
}

func (x *clientExchange) challenge(ctx context.Context, w [][]byte) (r Reply, more bool, err error) {
	if len(w) == 0 {
		return r, false, fmt.Errorf("CONT without a challenge: %w", errProtocol)
	}
	if kind, ok := parseFields(w[1:]).Get("channel_binding"); ok {
		if x.r.ChannelBinding == nil {
			return r, false, errors.New("the server asks for channel binding data where there is no channel")
		}
		if x.asked++; x.asked > maxAsked {
			return r, false, fmt.Errorf("channel binding data asked for again and again: %w", errProtocol)
		}
		if x.binding, err = x.r.ChannelBinding(ctx, kind); err != nil {
			return r, false, fmt.Errorf("channel binding: %w", err)
		}
	}
	if string(w[0]) == "#" {
		if x.binding == nil {
			return r, false, fmt.Errorf("CONT that asks for nothing: %w", errProtocol)
		}
		return r, true, nil
	}
	data, err := decode(w[0])
	if err != nil {
		return r, false, fmt.Errorf("challenge that is not base64: %w", errProtocol)
	}
	return Reply{Status: Continue, Data: data}, false, nil
}

// End gives the exchange up when it is not finished: the server is told, and whatever it still says is not heard.
func (x *clientExchange) End() {
	x.over = true
	if x.call == nil {
		return
	}
	l := x.call.link
	x.call.drop()
	if !l.over() {
		go l.w.write(append(command("CANCEL", x.call.id), '\n')) // whoever gives up does not want to wait
	}
	x.call = nil
}
