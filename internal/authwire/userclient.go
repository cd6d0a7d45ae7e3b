package authwire

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// A UserClient looks users up on a server's user socket, and is a Users itself. Set the fields before the first use; the zero values of all but Path (or Dial) will do.
// Safe for concurrent use. Connections are made, kept and replaced as those of Client are.
//
// Errors are ErrNotFound, which is certain, or ErrUnavailable, wrapped. A name that no user can have (empty, longer than MaxUser, with a control
// character) is not asked for.
type UserClient struct {
	Path        string                                      // of the Unix socket
	Dial        func(ctx context.Context) (net.Conn, error) // instead of Path
	Connections int                                         // to keep; 0: one
	MaxLine     int                                         // octets of a line that the server takes; 0: the 1,024 of Dovecot
	DialLimit   time.Duration                               // for connection and handshake; 0: five seconds
	Limit       time.Duration                               // for a reply; 0: a minute

	once  sync.Once
	links links
}

func (c *UserClient) init() {
	c.once.Do(func() {
		c.links = links{dial: c.Dial, handshake: userHandshake, limit: cmp.Or(c.DialLimit, 5*time.Second), n: c.Connections}
		if c.Dial == nil {
			c.links.dial = dialUnix(c.Path)
		}
	})
}

// Close ends all connections; look-ups under way are ErrUnavailable.
func (c *UserClient) Close() error {
	c.init()
	c.links.close()
	return nil
}

// Lookup says who and where the user is.
func (c *UserClient) Lookup(ctx context.Context, q *Query) (User, error) {
	return c.named(ctx, "USER", q)
}

// Pass says how the user would log in. Dovecot grants it to root alone by default.
func (c *UserClient) Pass(ctx context.Context, q *Query) (User, error) {
	return c.named(ctx, "PASS", q)
}

// Collect gives a Ticket for the user it stands for; params are sent along (session_pid and the like). It is ErrUnavailable when the server that allowed the login is gone
// or does not know of it any more: the person must log in anew.
func (c *UserClient) Collect(ctx context.Context, t Ticket, params Fields) (User, error) {
	c.init()
	l, _, err := c.links.get(ctx)
	if err != nil {
		return User{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if l.hello.pid != t.ServerPID {
		return User{}, fmt.Errorf("%w: the login was allowed by process %d, and %d answers now", ErrUnavailable, t.ServerPID, l.hello.pid)
	}
	// Not tried again when the connection breaks: it may have been given out, and a ticket is good for once.
	return c.ask(ctx, l, "USER", func(id uint32) []byte {
		b := fmt.Appendf(command("REQUEST", id), "\t%d\t%d\t", t.ClientPID, t.ID)
		return params.append(appendEscaped(b, t.Cookie))
	})
}

// Redeem collects the login of an encoded Ticket, and returns whose it was. Every ticket that is not good is ErrUnavailable: it may have
// been good in its time.
func (c *UserClient) Redeem(ticket []byte) (user string, err error) {
	t, err := DecodeTicket(ticket)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	u, err := c.Collect(context.Background(), t, nil)
	return u.Name, err
}

func (c *UserClient) named(ctx context.Context, verb string, q *Query) (User, error) {
	if !plausible(q.User) {
		return User{}, fmt.Errorf("%w: no user can have that name", ErrNotFound)
	}
	c.init()
	for again := false; ; again = true {
		l, used, err := c.links.get(ctx)
		if err != nil {
			return User{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		u, err := c.ask(ctx, l, verb, func(id uint32) []byte {
			return q.append(appendEscaped(append(command(verb, id), '\t'), q.User))
		})
		if errors.Is(err, ErrUnavailable) && used && !again && l.over() && ctx.Err() == nil {
			continue
		}
		return u, err
	}
}

// ask sends the line that compose makes and reads the reply, which begins with verb when a user was found.
func (c *UserClient) ask(ctx context.Context, l *link, verb string, compose func(id uint32) []byte) (User, error) {
	call := l.call()
	defer call.drop()
	m, err := c.send(ctx, call, compose(call.id))
	if err != nil {
		return User{}, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	switch m.verb {
	case verb:
		u := User{}
		if verb == "PASS" {
			u.Fields = parseFields(m.words)
			u.Name, _ = u.Fields.Get("user")
		} else if len(m.words) > 0 {
			u = User{unescape(m.words[0]), parseFields(m.words[1:])}
		}
		if u.Name == "" {
			return User{}, fmt.Errorf("%w: %s without a name: %w", ErrUnavailable, verb, errProtocol)
		}
		return u, nil
	case "NOTFOUND":
		return User{}, ErrNotFound
	case "FAIL":
		if reason, ok := parseFields(m.words).Get("reason"); ok {
			return User{}, fmt.Errorf("%w: the look-up failed: %q", ErrUnavailable, reason)
		}
		return User{}, fmt.Errorf("%w: the look-up failed", ErrUnavailable)
	}
	return User{}, fmt.Errorf("%w: unknown reply: %w", ErrUnavailable, errProtocol)
}

func (c *UserClient) send(ctx context.Context, call *call, line []byte) (message, error) {
	line = append(line, '\n')
	if limit := cmp.Or(c.MaxLine, dovecotUser); len(line) > limit {
		return message{}, fmt.Errorf("%w: %d octets, the server takes %d", errTooLong, len(line), limit)
	}
	if err := context.Cause(ctx); err != nil {
		return message{}, err
	}
	if err := call.link.w.write(line); err != nil {
		<-call.link.done
		return message{}, err
	}
	return call.await(ctx, cmp.Or(c.Limit, time.Minute))
}

// List calls each for every user that the server lists. It has a connection of its own: names come faster than each may take them, and
// look-ups must not wait behind them.
func (c *UserClient) List(ctx context.Context, q *Query, each func(name string) error) error {
	c.init()
	err := c.list(ctx, q, each)
	var stopped stop
	if errors.As(err, &stopped) {
		return stopped.error
	}
	if err != nil {
		return fmt.Errorf("%w: list: %w", ErrUnavailable, err)
	}
	return nil
}

// stop is an error of each.
type stop struct{ error }

func (c *UserClient) list(ctx context.Context, q *Query, each func(name string) error) error {
	w, lines, _, err := c.links.greet(ctx)
	if err != nil {
		return err
	}
	defer w.c.Close()
	defer context.AfterFunc(ctx, func() { w.c.Close() })()
	b := command("LIST", 1)
	if q.User != "" {
		b = appendField(b, "user", q.User)
	}
	if err := w.write(append(q.append(b), '\n')); err != nil {
		return err
	}
	for {
		w.c.SetReadDeadline(time.Now().Add(cmp.Or(c.Limit, time.Minute)))
		line, err := lines.next()
		if err != nil {
			return cmp.Or(context.Cause(ctx), err)
		}
		switch words := words(line); {
		case len(words) < 2 || string(words[1]) != "1":
			return fmt.Errorf("reply without our id: %w", errProtocol)
		case string(words[0]) == "LIST" && len(words) > 2:
			if err := each(unescape(words[2])); err != nil {
				return stop{err}
			}
		case string(words[0]) == "DONE":
			if len(words) > 2 && string(words[2]) == "fail" {
				return errors.New("the server could not")
			}
			return nil
		default:
			return fmt.Errorf("unknown reply: %w", errProtocol)
		}
	}
}
