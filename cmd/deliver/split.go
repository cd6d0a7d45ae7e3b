package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/config"
	"postamt/internal/daemon"
	"postamt/internal/lmtpd"
	"postamt/internal/maildir"
	"postamt/internal/maillog"
	"postamt/internal/monitor"
	"postamt/internal/privilege"
	"postamt/internal/privsep"
	"postamt/internal/smtp"
	"postamt/internal/userdb"
)

// Deliver as root is three kinds of processes (package monitor). The monitor has the tables and says whose an address is; the front
// speaks LMTP with clients and passes on what they send; a worker is the LMTP session that is the whole program without root, for
// one user id. The order is the same in each: configuration, listeners, what it is to be, sandbox, serve.

var split = privsep.Program{Name: "deliver", Lookup: lookup, Front: front, Worker: worker, Runner: runner}

// check looks at what the program is about to trust. Sockets that it inherits are the affair of whoever made them.
func check(c *config.Config, sockets *daemon.Sockets) error {
	var uses []privilege.Use
	for _, l := range c.DeliverListen {
		if l.Network != "unix" || sockets.How != "own" {
			continue
		}
		q, err := privilege.Find(c.QueueUser)
		if err != nil {
			return fmt.Errorf("queue_user: %w", err)
		}
		if dir := filepath.Dir(l.Address); dir != c.RunDir {
			uses = append(uses, privilege.Use{Path: dir, Type: fs.ModeDir, Owners: []uint32{q.UID}, Mode: 0o775})
		}
	}
	return privsep.Check(c, uses...)
}

// watch splits the program, and is its monitor from then on.
func watch(p *daemon.Process, c *config.Config, sockets *daemon.Sockets, log *maillog.Logger) int {
	defer sockets.Close()
	if err := check(c, sockets); err != nil {
		log.Problems("check", err)
		return exConfig
	}
	if sockets.Conn != nil {
		log.Problems("listen", errors.New("a single connection as root: let the super-server run deliver as the user whose mail it is"))
		return exConfig
	}
	files, names, err := hand(c, sockets)
	if err != nil {
		log.Problems("listen", err)
		return exOSErr
	}
	return split.Watch(p, c, sockets, monitor.Options{Listeners: files, Names: names}, log)
}

// hand makes copies of the listeners for the front, and gives sockets in the file system to the one who is to connect to them.
func hand(c *config.Config, sockets *daemon.Sockets) (files []*os.File, names []string, err error) {
	for _, l := range sockets.Listeners {
		if a := l.Addr(); sockets.How == "own" && a.Network() == "unix" {
			q, err := privilege.Find(c.QueueUser)
			if err == nil {
				err = os.Chown(a.String(), int(q.UID), 0) // not its group: smtpd is a member
			}
			if err != nil {
				return nil, nil, fmt.Errorf("queue_user: %w", err)
			}
		}
		f, err := l.Listener.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			return nil, nil, err
		}
		files = append(files, f)
		names = append(names, l.Kind)
	}
	return files, names, nil
}

// lookup is what the monitor knows of an address.
func lookup(c *config.Config, log *maillog.Logger) (privsep.Lookup, error) {
	boxes, err := accounts(c, lmtpd.Anybody{}, func(err error) { log.Problem("", "tables", err) }, usersByDefault(c))
	if err != nil {
		return nil, err
	}
	boxes.MinUID = userdb.ID(c.MinUID)
	return func(name string) (monitor.Account, error) {
		to, err := parseRcpt(name)
		var box lmtpd.Mailbox
		if err == nil {
			box, err = boxes.Mailbox(to)
		}
		var r *smtp.Reply
		if errors.As(err, &r) {
			return monitor.Account{}, monitor.Refusal(r.Error())
		}
		if err != nil {
			return monitor.Account{}, err
		}
		if to.Runs() && privilege.Root() && shared(c, box.UID) {
			return monitor.Account{}, monitor.Refusal(lmtpd.NoUserID().Error())
		}
		a, err := privsep.Account(c, box.User, box.UID, box.GID, box.Home, encode(box))
		a.Runs = to.Runs()
		return a, err
	}, nil
}

// shared tells of a user id that is that of users who have none.
func shared(c *config.Config, uid userdb.ID) bool {
	if uid == userdb.NoID {
		return true
	}
	u, err := privilege.Find(c.MailboxUser)
	return err == nil && uid == userdb.ID(u.UID)
}

// parseRcpt reads what lmtpd.Rcpt.String has written. Only a quoted local part has spaces.
func parseRcpt(name string) (r lmtpd.Rcpt, err error) {
	if target, rest, ok := strings.Cut(name, " "); ok && name[0] != '"' {
		r.Target, name = target, rest
	}
	r.Addr, _, err = smtp.ParseRcpt("TO:<"+name+">", smtp.Extensions{UTF8: true})
	return r, err
}

// front has no files: whose an address is, and connections to the workers, it asks the monitor for.
func front(p *daemon.Process, link *monitor.Link, c *config.Config, log *maillog.Logger) int {
	p.PingBy(func() { link.Alive() })
	sockets, err := p.Open(want(c))
	if err == nil {
		err = privsep.Became(c.LoginUser)
	}
	if err == nil {
		err = confine(c, privilege.Sandbox{})
	}
	if err != nil {
		log.Problems("start", err)
		return exOSErr
	}
	r := &lmtpd.Router{Hostname: c.Hostname, Patience: c.WorkerWait, Commands: c.CommandTimeout,
		Keep: max(min(c.WorkerIdle/2, keepIdle), time.Millisecond), Log: log}
	r.Connect = func(ctx context.Context, to lmtpd.Rcpt) (net.Conn, error) { return connect(ctx, link, r, to) }
	boxes := &asked{ask: func(name string) (lmtpd.Mailbox, error) {
		uid, err := link.Who(name)
		return lmtpd.Mailbox{UID: userdb.ID(uid)}, err
	}}
	s := &service{log: log, make: func(*config.Config) (*lmtpd.Server, error) { return &lmtpd.Server{Mailboxes: boxes, Router: r}, nil }}
	s.configure(c)
	go privsep.Follow(link, log, s.configure)
	if err := link.Ready(); err != nil {
		return exTempFail
	}
	s.serve(link.Context(), sockets, func() {})
	r.CloseIdle()
	return exOK
}

// worker is lmtpd for one user id.
func worker(link *monitor.Link, c *config.Config, log *maillog.Logger) int {
	return serveUser(link, c, log, func() error { return confine(c, privilege.Sandbox{Write: []string{"/"}}) })
}

// runner is a worker for what its user has executed: that cannot be told what it needs, so it has all that the user has, but no set-id programs.
func runner(link *monitor.Link, c *config.Config, log *maillog.Logger) int {
	return serveUser(link, c, log, privilege.NoNew)
}

func serveUser(link *monitor.Link, c *config.Config, log *maillog.Logger, confine func() error) int {
	store := newStore(c)
	err := privsep.BecameWorker()
	if err == nil {
		err = confine()
	}
	if err != nil {
		log.Problems("start", err)
		return exOSErr
	}
	boxes := &asked{ask: func(name string) (lmtpd.Mailbox, error) {
		value, err := link.Mailbox(name)
		if err != nil {
			return lmtpd.Mailbox{}, err
		}
		return decode(value)
	}}
	s := &service{log: log, make: func(c *config.Config) (*lmtpd.Server, error) {
		return &lmtpd.Server{Mailboxes: boxes, Store: store, Append: appendFile, Forwards: forwards(c)}, nil
	}}
	s.configure(c)
	go privsep.Follow(link, log, s.configure)
	sessions := &daemon.Server{Log: log, Handle: func(ctx context.Context, nc net.Conn, _ string) {
		v := *s.lmtp.Load()
		// The front holds messages to the limit, and puts a trace field above them.
		if v.Config.SizeLimit > 0 {
			v.Config.SizeLimit += traceRoom
		}
		v.Serve(ctx, nc, true)
	}}
	link.Serve(c.WorkerIdle, c.DrainTimeout, func(ctx context.Context, n monitor.Session) { sessions.ServeConn(ctx, n.Conn, "lmtp") })
	return exOK
}

// confine is the last step before strangers are heard.
func confine(c *config.Config, s privilege.Sandbox) error {
	l := privilege.Limits{}
	// A log that is a file is not to end at the size of a message.
	var st unix.Stat_t
	if unix.Fstat(2, &st) == nil && st.Mode&unix.S_IFMT != unix.S_IFREG && c.MessageSizeLimit > 0 {
		l.FileSize = uint64(c.MessageSizeLimit) + 1<<20
	}
	if c.Log != "stderr" {
		s.Sockets = append(s.Sockets, "/dev/log", "/run/systemd/journal")
	}
	err := l.Set()
	if err == nil {
		err = privilege.NoNew()
	}
	if err == nil {
		_, err = s.Enter()
	}
	return err
}

// encode is what a worker gets to know of a mailbox.
func encode(b lmtpd.Mailbox) string {
	t := b.Target
	return strings.Join([]string{b.User, b.Home, t.Owner, t.Base, t.Path, t.Tag, fmt.Sprint(t.Quota.Bytes), fmt.Sprint(t.Quota.Messages), b.Command, b.File}, "\x00")
}

func decode(value string) (b lmtpd.Mailbox, err error) {
	f := strings.Split(value, "\x00")
	if len(f) != 10 {
		return b, errors.New("the monitor speaks another version")
	}
	b = lmtpd.Mailbox{User: f[0], Home: f[1], Target: maildir.Target{Owner: f[2], Base: f[3], Path: f[4], Tag: f[5]}, Command: f[8], File: f[9]}
	_, err = fmt.Sscan(f[6]+" "+f[7], &b.Target.Quota.Bytes, &b.Target.Quota.Messages)
	return b, err
}
