package queued

import (
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"postamt/internal/addr"
	"postamt/internal/dsn"
	"postamt/internal/queue"
	"postamt/internal/remote"
	"postamt/internal/route"
	"postamt/internal/smtp"
)

// expansion turns the recipients of one message that are aliases into child messages, in one pass.
//
// Each alias becomes one child, and one more for each list within it that has an owner of its own. Their ids are
// derived from the parent's: after a crash before the parent's mark, the second pass finds those of the first. What
// the message already reaches, directly or through an earlier alias, is left out, so that a person on two lists of one
// message gets one copy. (Should that be seen differently after a crash, the maildir name, which derives from the
// accepted message, still makes it one.)
//
// A user with a forward file is not reached by being a recipient: of two who send their mail to each other each would be left out of the other's, and
// nobody would get it.
type expansion struct {
	s      *Server
	m      *message
	tables *route.Tables
	seen   map[string]bool // route.Final.Key
	trace  *trace          // of the message; nil: its header has not been read
}

// targetKey is the key in seen of a recipient that is a command or a file. An alias's is the same by whatever way one comes to it.
func targetKey(r *queue.Rcpt) string {
	if strings.HasPrefix(r.Target, smtp.InAlias) {
		return r.Target
	}
	return r.Target + " " + r.Addr
}

const refused = "refused " // before a key in seen: no address, as the mailbox of that name may be reached another way

func (s *Server) newExpansion(m *message, tables *route.Tables) *expansion {
	e := &expansion{s: s, m: m, tables: tables, seen: make(map[string]bool)}
	resolve := tables.Resolve
	if m.env.Rcpts[0].Via != "" {
		resolve = tables.ResolveFinal
	}
	for i := range m.env.Rcpts {
		if m.env.Rcpts[i].State != queue.Expanded && m.results[i].forward == nil {
			e.see(m.env.Rcpts[i:i+1], resolve)
		}
	}
	return e
}

// see notes that rcpts get the message.
func (e *expansion) see(rcpts []queue.Rcpt, resolve func(addr.Mailbox) route.Verdict) {
	for i := range rcpts {
		a, err := addr.Parse(rcpts[i].Addr, true)
		switch {
		case err != nil:
		case rcpts[i].Target != "" && rcpts[i].Target != smtp.JustMailbox:
			e.seen[targetKey(&rcpts[i])] = true
		case rcpts[i].Refused != "":
			e.seen[refused+a.Key()] = true
		default:
			if f := (route.Final{Verdict: resolve(a)}); f.Kind == route.Mailbox || f.Kind == route.Remote {
				e.seen[f.Key()] = true
			}
		}
	}
}

// expand answers recipient i, an alias.
func (e *expansion) expand(i int, rcpt addr.Mailbox, v route.Verdict) {
	m, r := e.m, &e.m.results[i]
	x, err := e.tables.Expand(rcpt, e.limits())
	if err == nil {
		err = e.listLoop(x.Finals)
	}
	if err != nil {
		reply := asReply(err)
		*r = result{kind: kindOf(reply), reply: reply}
		return
	}
	lists := len(x.Finals) > 0
	for k := range x.Finals {
		f := &x.Finals[k]
		if f.Reply != nil && f.Reply.Temporary() {
			// A member that cannot be told now (an unreadable list file) puts the alias off as a whole:
			// the children are written once, and must name everyone.
			*r = result{kind: remote.Temp, reply: f.Reply}
			return
		}
		lists = lists && SenderFor(f, m.env.From) != m.env.From
	}
	*r = result{kind: remote.Done, expand: true, success: dsn.Expanded}
	switch {
	case lists:
		r.success = dsn.Delivered // RFC 3461 section 5.2.7.1: a mailing list is where delivery ends
	case len(x.Finals) == 1:
		r.success = "" // section 5.2.7.2: what was asked for goes on to the one that the alias stands for
	}
	members := make([]member, len(x.Finals))
	for k := range x.Finals {
		members[k] = memberOf(&x.Finals[k])
	}
	if err := e.spawn(&m.env.Rcpts[i], members, v.Source.String()); err != nil {
		e.s.log.Problem(string(m.id), "expand "+m.env.Rcpts[i].Addr, err)
		*r = result{kind: remote.Temp, reply: errLocal}
	}
}

// member is one who gets the message by an alias or a forward file.
type member struct {
	*route.Final
	target string // what of its address is meant, if not its mailbox
	away   bool   // a forward file sends it on
}

func memberOf(f *route.Final) member {
	if f.Kind == route.Command || f.Kind == route.File {
		return member{Final: f, target: smtp.InAlias + f.Target.Name()}
	}
	return member{Final: f}
}

// child is one envelope that an alias or forward file becomes.
type child struct {
	queue.Envelope
	keys []string // of its recipients, in seen
	kind string   // of several children of one alias for one sender, which it is
	head string   // stands above the message
	list bool     // and takes the place of such fields in it
}

// leaveOut takes out whom the message reaches already.
func (c *child) leaveOut(seen map[string]bool) {
	n := 0
	for i, key := range c.keys {
		if !seen[key] {
			c.keys[n], c.Rcpts[n] = key, c.Rcpts[i]
			n++
		}
	}
	c.keys, c.Rcpts = c.keys[:n], c.Rcpts[:n]
}

// children are the envelopes for finals, one for each sender, without ids.
func (e *expansion) children(parent *queue.Rcpt, members []member) (children []*child) {
	m := e.m
	type group struct{ from, kind string }
	groups := make(map[group]*child)
	taken := make(map[string]bool)
	for k := range members {
		f := &members[k]
		if f.Kind == route.Discard {
			continue
		}
		key, r := f.Key(), queue.Rcpt{State: queue.Pending, Addr: f.Addr.String(), Via: parent.Addr, Target: f.target}
		switch {
		case f.target != "" && f.target != smtp.JustMailbox:
			key = targetKey(&r)
		case f.Kind == route.Refuse:
			// It is named too: it fails in the child, and its report goes to the child's sender.
			r.Refused, key = f.Reply.Error(), refused+key
		}
		if taken[key] {
			continue
		}
		taken[key] = true
		from := SenderFor(f.Final, m.env.From)
		kind := ""
		if f.List != nil {
			kind = "list " + f.List.ID
		} else if f.away {
			kind = "away"
		}
		c := groups[group{from, kind}]
		if c == nil {
			c = &child{Envelope: queue.Envelope{Origin: m.env.Origin, Arrived: m.env.Arrived, From: from, Body: m.env.Body, UTF8: m.env.UTF8, Client: m.env.Client}}
			c.kind = kind
			if m.id != m.env.Origin {
				c.About = m.id
			}
			if f.away {
				c.head = deliveredTo + ": " + parent.Addr + "\r\n"
			}
			if f.List != nil {
				e.asList(c, f.Final)
			}
			groups[group{from, kind}], children = c, append(children, c)
		}
		if from == m.env.From { // an alias; a list asks for nothing
			c.Ret, c.EnvID = m.env.Ret, m.env.EnvID
			r.Notify, r.ORcpt = parent.Notify, parent.ORcpt
			if r.ORcpt == "" {
				r.ORcpt = "rfc822;" + parent.Addr
			}
			if len(members) > 1 {
				r.Notify = withoutSuccess(r.Notify) // section 5.2.7.3 (c)
			}
		}
		c.Rcpts, c.keys = append(c.Rcpts, r), append(c.keys, key)
	}
	return children
}

// spawn queues the children of one alias. The last of them has an id that follows from the alias alone: where it is
// there, from before a crash, all of them were written, and name whom the alias stood for then. Where only others are,
// each says whom it is for; who is in none of them gets one of those that are written now.
func (e *expansion) spawn(parent *queue.Rcpt, members []member, source string) error {
	m, before := e.m, len(e.m.spawned)
	spawned := func(id queue.ID, rcpts int) {
		m.spawned = append(m.spawned, id)
		e.s.log.Expanded(string(m.id), parent.Addr, string(id), rcpts, source)
	}
	last := m.id.Derive("expand", parent.Addr)
	if whole, _ := e.s.queue.Recover(last); whole {
		spawned(last, e.adopt(last))
		return nil
	}
	children := e.children(parent, members)
	for _, c := range children {
		for n := 0; ; n++ {
			c.ID = m.id.Derive("expand", parent.Addr, c.From, c.kind, strconv.Itoa(n))
			if whole, _ := e.s.queue.Recover(c.ID); !whole {
				break
			}
			spawned(c.ID, e.adopt(c.ID))
		}
	}
	children = slices.DeleteFunc(children, func(c *child) bool {
		c.leaveOut(e.seen)
		return len(c.Rcpts) == 0
	})
	if len(children) > 0 {
		children[len(children)-1].ID = last
	}
	for _, c := range children {
		adopted, err := e.s.spawn(&c.Envelope, func() io.Reader {
			text := m.file.Reader()
			if c.list {
				text = withoutFields(text, listFields[:])
			}
			return io.MultiReader(strings.NewReader(c.head), text)
		})
		if err != nil {
			m.spawned = m.spawned[:before] // they wait until their parent is marked
			return err
		}
		spawned(c.ID, len(c.Rcpts))
		if adopted { // it is held
			e.adopt(c.ID)
			continue
		}
		for _, key := range c.keys {
			e.seen[key] = true
		}
	}
	if len(m.spawned) == before {
		// Everyone it stands for gets the message another way, or nobody is meant to get it.
		e.s.log.Expanded(string(m.id), parent.Addr, "-", 0, source)
	}
	return nil
}

// adopt notes who gets the message by a child that was there, and returns their number. If that cannot be read now, some may
// get a second copy, but nobody none.
func (e *expansion) adopt(child queue.ID) int {
	file, err := e.s.queue.Message(child)
	if err != nil {
		return 0
	}
	defer file.Close()
	e.see(file.Envelope.Rcpts, e.tables.ResolveFinal)
	return len(file.Envelope.Rcpts)
}

// withoutSuccess is a NOTIFY parameter less its SUCCESS.
func withoutSuccess(notify string) string {
	words := slices.DeleteFunc(strings.Split(notify, ","), func(w string) bool { return w == "SUCCESS" })
	if len(words) == 0 {
		return "NEVER" // it asked for nothing else
	}
	return strings.Join(words, ",")
}

// refusal is the reply that a child names for one of its recipients. The alias refused it: by itself the address may well be a
// user's, whom the alias is there to hide.
func refusal(text string) *smtp.Reply {
	_, text, _ = strings.Cut(text, " ")
	enhanced, rest, _ := strings.Cut(text, " ")
	if _, ok := smtp.ParseEnhanced(enhanced); !ok {
		enhanced, rest = "5.1.1", text
	}
	return smtp.NewReply(550, enhanced, rest)
}

// spawn queues a message of our own making: a child or a report. Its id is derived, so the file may be
// there from before a crash: whole, then it is adopted; or cut short, then Recover removes it.
func (s *Server) spawn(e *queue.Envelope, body func() io.Reader) (adopted bool, err error) {
	err = s.write(e, body())
	if !errors.Is(err, queue.ErrExists) {
		return false, err
	}
	switch _, err := s.queue.Recover(e.ID); {
	case err == nil, errors.Is(err, queue.ErrNotExist):
	default:
		return false, err
	}
	if err = s.write(e, body()); errors.Is(err, queue.ErrExists) {
		return true, nil
	}
	return false, err
}

func (s *Server) write(e *queue.Envelope, body io.Reader) error {
	w, err := s.queue.Create(e)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, body); err != nil {
		w.Abort()
		return err
	}
	return w.Commit()
}
