package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"postamt/internal/addr"
	"postamt/internal/alias"
	"postamt/internal/config"
	"postamt/internal/forward"
	"postamt/internal/lmtpd"
	"postamt/internal/maildir"
	"postamt/internal/queue"
	"postamt/internal/queued"
	"postamt/internal/remote"
	"postamt/internal/resolver"
	"postamt/internal/route"
	"postamt/internal/smtp"
	"postamt/internal/userdb"
)

// walker follows addresses to where mail for them ends. It decides nothing: each step is asked of the package that takes it when there is a message.
type walker struct {
	c        *command
	conf     *config.Config
	tables   *route.Tables
	limits   route.Limits
	accounts *lmtpd.Accounts
	forwards forward.Files
	post     *queued.Post
	local    route.Transport
	tls      remote.Options
	lookup   *silence // not nil: name servers are not asked
	queue    *queue.Queue
	unseen   error // why queue, or what is paused, cannot be seen
	paused   map[string]string
	now      time.Time

	sender  string // "" the null path, or nobody asked
	outside bool
	json    bool
	end     byte
	asked   string
	from    string // the sender by the alias that we are in
	err     error  // of writing

	met  map[queued.Destination]bool
	told map[string]bool // pauses
	open []string        // keys of the mailboxes whose forward files we are in
	done map[string]bool // and were
}

func (w *walker) close() {
	w.post.Close()
	if w.queue != nil {
		w.queue.Close()
	}
}

// pauses reads what is paused.
func (w *walker) pauses() {
	list, err := w.queue.Pauses()
	w.unseen = err
	w.paused = make(map[string]string)
	for _, p := range list {
		w.paused[p.Destination] = p.Text
	}
}

// address tells everything about one.
func (w *walker) address(m addr.Mailbox) {
	w.met, w.told, w.done = make(map[queued.Destination]bool), make(map[string]bool), make(map[string]bool)
	w.from = w.sender
	if m.Domain == "" {
		m.Domain = w.tables.LocalDomain
	}
	w.reply(m)
	_, err := w.tables.Explain(m, w.limits, func(s route.Step) bool {
		w.step(&s, 0, s.Depth > 0, "")
		return w.err == nil
	})
	if route.TooMany(err) { // all else is in the steps
		var r *smtp.Reply
		errors.As(err, &r)
		w.refused(0, m.String(), r, "", "", false)
	}
}

// step tells one of an expansion that stands depth deep, and what lies behind it. away: an alias or a forward file has led here; from: what led to the expansion.
func (w *walker) step(s *route.Step, depth int, away bool, from string) {
	depth += s.Depth
	var r row
	r.name, r.kind, r.detail, r.at, r.from = s.Fields()
	if s.Depth == 0 {
		r.from = from
	}
	w.put(depth, r)
	if s.Again || s.List {
		return
	}
	switch s.Kind {
	case route.Refuse:
		w.count(s.Reply, false)
	case route.Remote:
		w.destination(&s.Verdict, depth+1, away)
	case route.Command, route.File:
		w.destination(&s.Verdict, depth+1, away)
		w.deed(s, depth+1)
	case route.Mailbox:
		to := queued.DestinationOf(&s.Verdict, w.local)
		w.destination(&s.Verdict, depth+1, away)
		w.full(s.Mailbox, depth+1)
		if to.Local {
			w.mailbox(&s.Verdict, depth+1)
		}
	}
}

// destination tells of the way to a recipient's next server.
func (w *walker) destination(v *route.Verdict, depth int, away bool) {
	to := queued.DestinationOf(v, w.local)
	if !to.Local {
		w.towards(v, depth, away)
	}
	name := queued.PausedBy(w.paused, to, v.Addr.String())
	if name != "" {
		w.c.code = max(w.c.code, exTempFail)
		if !w.told[name] {
			w.told[name] = true
			w.put(depth, row{name, "paused", w.paused[name], "", ""})
		}
	}
	if w.met[to] {
		return
	}
	w.met[to] = true
	if w.unseen != nil && !w.told[""] {
		w.told[""] = true
		w.put(depth, row{to.String(), "hidden", "what is paused: " + w.unseen.Error(), "", ""})
	}
	if to.Local {
		return
	}
	if w.lookup != nil {
		w.lookup.asked = false
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	hosts, err := w.post.Hosts(ctx, to)
	if w.lookup != nil && w.lookup.asked {
		w.put(depth, row{to.String(), "destination", "name servers are not asked", "", ""})
		return
	}
	var r *smtp.Reply
	if errors.As(err, &r) {
		w.refused(depth, to.String(), r, "", "", true)
		return
	}
	policy := "no TLS"
	if len(hosts) > 0 && hosts[0].Socket == "" {
		policy = "TLS " + w.tls.Policy(hosts[0]).String()
	}
	w.put(depth, row{to.String(), "destination", policy, "", ""})
	for _, h := range hosts {
		detail := ""
		if to.Domain != "" || to.Next.Kind == "mx" {
			detail = "preference " + strconv.Itoa(int(h.Pref))
		}
		w.put(depth+1, row{h.String(), "host", detail, "", ""})
	}
}

// towards tells as whose mail it goes to another server.
func (w *walker) towards(v *route.Verdict, depth int, away bool) {
	from := queued.SenderFor(&route.Final{Verdict: *v}, w.from)
	if v.Kind == route.Remote && away {
		if m := queued.SentOnAs(w.tables, from); !m.IsNull() {
			from = m.String()
		}
	}
	if from != w.sender {
		w.put(depth, row{from, "sender", "", "", ""})
	}
}

// full tells that a message did not fit.
func (w *walker) full(box addr.Mailbox, depth int) {
	if w.queue == nil {
		return
	}
	if size, fresh := w.queue.Full(box.Key(), w.now); fresh {
		w.put(depth, row{box.String(), "full", strconv.FormatInt(size, 10) + " bytes did not fit", "", ""})
	}
}

// deed tells of a command or file of an alias file.
func (w *walker) deed(s *route.Step, depth int) {
	at := s.Target.Pos.String()
	if err := lmtpd.Trusted(s.Target.Pos.File); err != nil {
		r := lmtpd.UntrustedAlias()
		w.put(depth, row{s.Addr.String(), "refuse", r.Error() + ": " + err.Error(), at, at})
		w.count(r, false)
		return
	}
	who, source := w.conf.AliasUser, "alias_user"
	if w.conf.LoginUser == "" {
		who, source = runner, "login_user"
	}
	w.put(depth, row{s.Target.String(), map[route.Kind]string{route.Command: "command", route.File: "file"}[s.Kind], "as " + who, source, at})
}

// runner is who does all in a deliver that is one process.
const runner = "whoever runs deliver"

// as is who stores a user's mail.
func (w *walker) as(uid userdb.ID) string {
	switch {
	case w.conf.LoginUser == "":
		return "as " + runner
	case uid == userdb.NoID:
		return "as " + w.conf.MailboxUser
	}
	return "as uid " + strconv.FormatInt(int64(uid), 10)
}

// mailbox tells what is done with mail for a user of ours.
func (w *walker) mailbox(v *route.Verdict, depth int) {
	box, err := w.accounts.Mailbox(lmtpd.Rcpt{Addr: v.Addr})
	if err != nil {
		r := smtp.NewReply(451, "4.3.0", err.Error())
		errors.As(err, &r)
		w.refused(depth, v.Addr.String(), r, v.Source.String(), "", false)
		return
	}
	key := v.Mailbox.Key()
	for _, k := range w.open {
		if k == key { // it has Delivered-To from there
			w.maildir(&box, v, depth)
			return
		}
	}
	if w.done[key] {
		w.put(depth, row{v.Addr.String(), "again", "", v.Source.String(), ""})
		return
	}
	w.open = append(w.open, key)
	was := w.from
	w.from = queued.SenderFor(&route.Final{Verdict: *v}, w.from)
	if !w.forward(v, &box, depth) {
		w.maildir(&box, v, depth)
	}
	w.open, w.from = w.open[:len(w.open)-1], was
	w.done[key] = true
}

// maildir tells where a message is stored.
func (w *walker) maildir(box *lmtpd.Mailbox, v *route.Verdict, depth int) {
	t := &box.Target
	folder, err := t.Folder()
	path := t.Path
	if folder != "" {
		path += "/" + folder
	}
	w.put(depth, row{path, "maildir", w.as(box.UID), v.Source.String(), ""})
	if err != nil {
		w.put(depth, row{path, "hidden", "the folder of the tag: " + err.Error(), "", ""})
		return
	}
	used, limit, err := maildir.Known(t.Path)
	if t.Quota != (maildir.Quota{}) {
		limit = t.Quota
	}
	known := err == nil
	if limit == (maildir.Quota{}) {
		return
	}
	of := func(used, limit int64, what string) string {
		switch {
		case limit == 0:
			return ""
		case !known:
			return fmt.Sprintf(" ? of %d %s", limit, what)
		}
		return fmt.Sprintf(" %d of %d %s", used, limit, what)
	}
	w.put(depth, row{t.Path, "quota", strings.TrimSpace(of(used.Bytes, limit.Bytes, "bytes") + of(used.Messages, limit.Messages, "messages")), "", ""})
}

// forward tells what the forward file of a user says. False: the mailbox is meant.
func (w *walker) forward(v *route.Verdict, box *lmtpd.Mailbox, depth int) bool {
	if box.Home == "" || len(w.forwards.Names) == 0 {
		return false
	}
	me := os.Geteuid()
	uid := int(box.UID)
	if box.UID == userdb.NoID {
		uid = me
	}
	if me != 0 && me != uid {
		w.put(depth, row{box.Home, "hidden", fmt.Sprintf("the forward file: root and uid %d may look at it", uid), v.Source.String(), ""})
		return false
	}
	f, err := w.forwards.LookFor(uid, box.Home, box.Target.Tag)
	if err != nil {
		w.refused(depth, v.Addr.String(), lmtpd.BadForward(err), "", "", false)
		return true
	}
	if f == nil {
		return false
	}
	lines, err := lmtpd.StandFor(f, v.Addr, box)
	if err != nil {
		r := smtp.NewReply(451, "4.3.0", err.Error())
		errors.As(err, &r)
		w.put(depth, row{f.Path, "forward", "", f.Path, ""})
		w.refused(depth+1, v.Addr.String(), r, f.Path, "", false)
		return true
	}
	if len(lines) == 1 && lines[0] == smtp.JustMailbox {
		return false
	}
	w.put(depth, row{f.Path, "forward", "", f.Path, v.Source.String()})
	w.says(f, lines, v, box, depth+1)
	return true
}

// says tells of each target of a forward file.
func (w *walker) says(f *forward.File, lines []string, v *route.Verdict, box *lmtpd.Mailbox, depth int) {
	for i := range f.Targets {
		t := &f.Targets[i]
		line := smtp.WholeFile
		if len(lines) == len(f.Targets) && lines[0] != smtp.WholeFile {
			line = lines[i]
		} else if one, err := lmtpd.StandFor(&forward.File{Targets: f.Targets[i : i+1]}, v.Addr, box); err == nil {
			line = one[0] // one step after the other
		}
		at := t.Pos.String()
		switch {
		case line == smtp.Discarded:
			w.put(depth, row{t.String(), "discard", "", at, at})
		case line == smtp.JustMailbox:
			w.put(depth, row{v.Addr.String(), "mailbox", box.User, v.Source.String(), at})
			w.maildir(box, v, depth+1)
		case strings.HasPrefix(line, smtp.InAddress):
			w.sent(t, line, v, depth)
		case box.UID == userdb.NoID && w.conf.LoginUser != "":
			w.refused(depth, t.String(), lmtpd.NoUserID(), v.Source.String(), at, false)
		default:
			kind := "command"
			if t.Kind == alias.File {
				kind = "file"
			}
			w.put(depth, row{t.String(), kind, w.as(box.UID), at, at})
		}
	}
}

// sent tells of an address in a forward file.
func (w *walker) sent(t *alias.Target, line string, own *route.Verdict, depth int) {
	at := t.Pos.String()
	_, r := queued.SendOn(w.tables, w.limits, line, own, func(s route.Step, itself bool) {
		if !itself {
			w.step(&s, depth, true, at)
			return
		}
		w.put(depth+s.Depth, row{s.Addr.String(), "mailbox", s.User, s.Source.String(), at})
		if box, err := w.accounts.Mailbox(lmtpd.Rcpt{Addr: own.Addr}); err == nil {
			w.maildir(&box, own, depth+s.Depth+1)
		}
	})
	if r != nil {
		w.refused(depth, own.Addr.String(), r, at, "", false)
	}
}

// silence is a name server that is not asked.
type silence struct{ asked bool }

var errSilence = errors.New("not asked")

func (s *silence) MX(context.Context, string) ([]resolver.MX, error) {
	s.asked = true
	return nil, errSilence
}

func (s *silence) Addrs(context.Context, string, bool, bool) ([]netip.Addr, error) {
	s.asked = true
	return nil, errSilence
}
