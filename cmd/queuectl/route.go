package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"postamt/internal/addr"
	"postamt/internal/forward"
	"postamt/internal/lmtpd"
	"postamt/internal/maildir"
	"postamt/internal/post"
	"postamt/internal/queue"
	"postamt/internal/remote"
	"postamt/internal/route"
	"postamt/internal/smtp"
	"postamt/internal/tables"
	"postamt/internal/userdb"
)

// routeVerb says where mail for addresses would go.
func routeVerb(c *command) error {
	flags := c.flags()
	offline, outside := flags.Bool("n", false, ""), flags.Bool("outside", false, "")
	null, asJSON := flags.Bool("0", false, ""), flags.Bool("json", false, "")
	if err := c.parse(flags, 1, -1); err != nil {
		return err
	}
	var sender string
	if n := len(c.args); n >= 3 && c.args[n-2] == "from" {
		sender = strings.Trim(c.args[n-1], "<>")
		if sender != "" {
			m, err := tables.Mailbox(sender)
			if err != nil {
				return exit{exDataErr, err}
			}
			sender = m.String()
		}
		c.args = c.args[:n-2]
	}
	if *null && *asJSON {
		return errUsage
	}
	w, err := c.walker(*offline)
	if err != nil {
		return err
	}
	defer w.close()
	w.sender, w.outside = sender, *outside
	w.end, w.json = '\n', *asJSON
	if *null {
		w.end = 0
	}
	return c.words(*null, func(word string) error {
		m, err := tables.Mailbox(word)
		if err != nil {
			c.fail(exDataErr, err)
			return nil
		}
		w.asked = word
		w.address(m)
		return w.err
	})
}

// words calls f for each argument, and for each line of the standard input where "-" stands.
func (c *command) words(null bool, f func(string) error) error {
	for _, a := range c.args {
		if a != "-" {
			if err := f(a); err != nil {
				return err
			}
			continue
		}
		lines := bufio.NewScanner(c.in)
		if null {
			lines.Split(splitNull)
		}
		for lines.Scan() {
			if word := bytes.TrimSpace(lines.Bytes()); len(word) > 0 {
				if err := f(string(word)); err != nil {
					return err
				}
			}
		}
		if err := lines.Err(); err != nil {
			return fmt.Errorf("standard input: %w", err)
		}
	}
	return nil
}

// walker makes what route asks: the tables of smtpd and queued, the accounts of deliver, the name servers of queued, and what of the queue the caller may see.
func (c *command) walker(offline bool) (*walker, error) {
	conf, err := c.config()
	if err != nil {
		return nil, err
	}
	files := tables.Configured(conf)
	walking := false // before that, what is wrong in the files is for aliasctl check to tell
	report := func(err error) {
		if walking {
			fmt.Fprintln(os.Stderr, "queuectl:", err)
		}
	}
	set, errs := tables.Open(files, report)
	if errors.Is(errors.Join(errs...), fs.ErrPermission) && files.SRSKeys != "" {
		files.SRSKeys = ""
		if some, more := tables.Open(files, report); len(more) == 0 {
			fmt.Fprintln(os.Stderr, "queuectl: rewritten senders are not shown:", errors.Join(errs...))
			set, errs = some, nil
		}
	}
	if err := errors.Join(errs...); errors.Is(err, fs.ErrPermission) {
		return nil, exit{exNoPerm, conf.Where(err)}
	} else if err != nil {
		return nil, exit{exConfig, conf.Where(err)}
	}
	own, err := remote.OwnAddrs()
	if err != nil {
		return nil, err
	}
	p, err := post.New(conf, own)
	if err != nil {
		return nil, exit{exConfig, err}
	}
	w := &walker{c: c, conf: conf, tables: set.Current(), limits: route.Limits{Depth: conf.AliasDepth, Count: conf.AliasExpansion}, post: p, now: time.Now(),
		local: post.Local(conf), tls: remote.Options{TLS: post.TLS(conf)}}
	if offline {
		w.lookup = &silence{}
		p.Lookup = w.lookup
	}
	w.accounts = &lmtpd.Accounts{
		Resolve:    w.tables.ResolveFinal,
		Lookup:     func(name string) (userdb.User, bool, error) { return set.Users().Lookup(name) },
		MailboxDir: conf.MailboxDir, Maildir: conf.Maildir, Quota: maildir.Quota{Bytes: conf.QuotaDefault}, Actor: lmtpd.Anybody{}, MinUID: userdb.ID(conf.MinUID),
	}
	w.forwards = forward.Files{Names: conf.ForwardFiles, Delimiters: conf.RecipientDelimiter}
	if w.queue, err = queue.Open(conf.QueueDir, queue.Options{}); err == nil {
		w.pauses()
	} else {
		w.unseen = err
	}
	walking = true
	return w, nil
}

// row is a line of the answer.
type row struct{ name, kind, detail, at, from string }

// put writes a line.
func (w *walker) put(depth int, r row) {
	if w.err != nil {
		return
	}
	var b []byte
	if w.json {
		b = appendJSON(nil, struct {
			Asked   string `json:"asked"`
			Depth   int    `json:"depth"`
			Address string `json:"address"`
			Kind    string `json:"kind"`
			Detail  string `json:"detail,omitempty"`
			At      string `json:"at,omitempty"`
			From    string `json:"from,omitempty"`
		}{w.asked, depth, r.name, r.kind, r.detail, r.at, r.from})
	} else {
		b = append(b, strings.Repeat(" ", 2*depth)...)
		for i, f := range []string{r.name, r.kind, r.detail, r.at, r.from} {
			if i > 0 {
				b = append(b, '\t')
			}
			if f == "" {
				f = "-"
			}
			b = appendText(b, f)
		}
		b = append(b, w.end)
	}
	_, w.err = w.c.out.Write(b)
}

// refused tells a reply that stands in the way, and counts it. missing: name servers said so.
func (w *walker) refused(depth int, name string, r *smtp.Reply, at, from string, missing bool) {
	w.put(depth, row{name, "refuse", r.Error(), at, from})
	w.count(r, missing)
}

// count has the exit code say what a reply means.
func (w *walker) count(r *smtp.Reply, missing bool) {
	code := exNoUser
	switch {
	case r == nil || r.Positive():
		return
	case r.Temporary():
		code = exTempFail
	case missing, r.Enhanced[1] == 1 && r.Enhanced[2] == 2:
		code = exNoHost
	case r.Enhanced[1] == 7:
		code = exNoPerm
	}
	w.c.code = max(w.c.code, code)
}

// reply tells what clients are told at RCPT.
func (w *walker) reply(m addr.Mailbox) {
	answer := func(mayRelay bool) *smtp.Reply {
		v, r := w.tables.Accept(m, w.limits, mayRelay)
		if r == nil && v.Kind == route.Mailbox && w.queue != nil && !w.queue.Room(v.Mailbox.Key(), 0, w.now) {
			r = smtp.MailboxFull()
		}
		if r == nil {
			r = smtp.NewReply(250, "2.1.5", "ok")
		}
		return r
	}
	outside, inside := answer(false), answer(true)
	if outside.Error() == inside.Error() {
		w.put(0, row{m.String(), "reply", inside.Error(), "", ""})
	} else {
		w.put(0, row{m.String(), "reply-outside", outside.Error(), "", ""})
		w.put(0, row{m.String(), "reply-inside", inside.Error(), "", ""})
	}
	if w.outside {
		inside = outside
	}
	w.count(inside, false)
}
