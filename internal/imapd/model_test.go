package imapd

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"postamt/internal/facts"
	"postamt/internal/imap"
	"postamt/internal/mailbox"
	"postamt/internal/watch"
)

// TestModel has sessions on one account do at random what RFC 9051 lets them do, and a model of it in memory. After each command the form of all responses, the view that the
// client has got from them, and the model must agree; so must, of what other programs do with the files, what is told of it.
//
//	POSTAMT_MODEL_TIME=10m  how long; else 8 s, or 2 s with -short
//	POSTAMT_MODEL_SEED=17   that one alone
//	POSTAMT_MODEL_STEPS=40  so many steps of it
func TestModel(t *testing.T) {
	run := func(seed uint64) {
		if !t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { runModel(t, seed) }) {
			t.Fatalf("POSTAMT_MODEL_SEED=%d does it again", seed)
		}
	}
	if s := os.Getenv("POSTAMT_MODEL_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		run(seed)
		return
	}
	length := 8 * time.Second
	if testing.Short() {
		length = 2 * time.Second
	}
	if s := os.Getenv("POSTAMT_MODEL_TIME"); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	if flag.Lookup("test.count").Value.String() == "0" {
		return
	}
	seed := uint64(time.Now().UnixMicro())
	for end := time.Now().Add(length); time.Now().Before(end); seed++ {
		run(seed)
	}
}

const modelSteps = 150

func runModel(t *testing.T, seed uint64) {
	steps := modelSteps
	if s := os.Getenv("POSTAMT_MODEL_STEPS"); s != "" {
		steps, _ = strconv.Atoi(s)
	}
	m := &model{t: t, r: rand.New(rand.NewPCG(seed, 0)), path: t.TempDir(), folders: make(map[string]*modelFolder), validities: make(map[nameValidity]*modelFolder)}
	m.begin()
	defer func() { m.end() }()
	for m.step = 0; m.step < steps; m.step++ {
		m.act()
	}
	m.last()
}

// model is the account as it should be.
type model struct {
	t     *testing.T
	r     *rand.Rand
	path  string
	step  int
	log   []string
	files int // that were delivered from outside

	folders    map[string]*modelFolder
	validities map[nameValidity]*modelFolder
	clients    []*client

	// The server.
	all     *mailbox.Accounts
	watcher *watch.Watcher
	l       net.Listener
	end     func()
}

type nameValidity struct {
	name     string
	validity uint32
}

type modelFolder struct {
	m         *model
	name, dir string
	validity  uint32
	next      uint32
	messages  []*modelMessage // all that have been, ascending by UID
	pending   []*modelMessage // that are there, and have no UID yet
	dirty     bool            // other programs have changed files since the server looked

	high    uint64 // the highest mod-sequence that was seen
	status  uint64 // HIGHESTMODSEQ when it was last asked for
	changed bool   // since then
}

type modelMessage struct {
	f      *modelFolder
	uid    uint32
	flags  string
	gone   bool
	modseq uint64 // 0: not seen since it has changed
	after  uint64 // it is above that
	was    uint64 // mod-sequence before the last change
	text   string
	date   int64 // 0: not known
	saved  int64 // likewise
	base   string

	between int    // changes by other programs that may be told of one by one
	seen    string // the flags that the server has last seen, if another program has renamed or removed the file since
}

func (m *modelMessage) String() string { return fmt.Sprintf("%s %d", m.f.name, m.uid) }

func (m *modelMessage) has(flag string) bool { return strings.Contains(m.flags, " "+flag+" ") }

// observe: a client was told this mod-sequence.
func (m *modelMessage) observe(c *client, n uint64) {
	if c.late && (n < m.modseq || m.modseq == 0 && n <= m.after) {
		return // it was sent before others were told of a later change
	}
	switch {
	case n == m.modseq:
	case m.between > 0 && n > m.modseq && m.modseq != 0: // what was told before was between two of these changes
		m.between--
	case m.modseq != 0:
		c.fail("%v has the mod-sequence %d, and had %d without a change", m, n, m.modseq)
	case m.f.dirty && m.seen != "" || m.gone: // the server may not have looked yet
		return
	case n <= m.after:
		c.fail("%v has the mod-sequence %d, not above %d", m, n, m.after)
	}
	if !c.late && !m.f.dirty {
		m.between = 0
	}
	m.modseq = n
	m.f.high = max(m.f.high, n)
}

// set changes flags.
func (m *modelMessage) set(flags string) {
	if flags == m.flags {
		return
	}
	if m.modseq != 0 {
		m.was = m.modseq
	}
	m.flags, m.modseq, m.after = flags, 0, m.f.high
	m.f.changed = m.f.changed || m.uid != 0 // before it has a UID nobody has seen it
}

func (m *modelMessage) remove() {
	m.gone, m.after, m.f.changed = true, m.f.high, true
}

// add makes a message of the next UID.
func (f *modelFolder) add(m *modelMessage) {
	m.f, m.uid, m.after, m.modseq, m.was = f, f.next, f.high, 0, 0
	f.next++
	f.messages = append(f.messages, m)
	f.changed = true
}

// settle: the server has looked, and those that were delivered have UIDs.
func (f *modelFolder) settle() {
	for _, m := range f.pending {
		f.add(m)
	}
	f.pending = nil
}

// looked: the server knows what other programs have done.
func (f *modelFolder) looked() {
	f.dirty = false
	for _, x := range f.messages {
		x.seen = ""
	}
}

// bounded: HIGHESTMODSEQ was told.
func (f *modelFolder) bounded(c *client, n uint64) { f.high = max(f.high, n) }

// asked: HIGHESTMODSEQ was asked for.
func (f *modelFolder) asked(c *client, n uint64) {
	if n < f.high || f.changed && n <= f.status {
		c.fail("HIGHESTMODSEQ of %s is %d; %d was seen, it was %d, changed: %v", f.name, n, f.high, f.status, f.changed)
	}
	f.high, f.status, f.changed = n, n, false
}

func (f *modelFolder) alive() (list []*modelMessage) {
	for _, m := range f.messages {
		if !m.gone {
			list = append(list, m)
		}
	}
	return list
}

func (m *model) note(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf("%3d ", m.step)+fmt.Sprintf(format, args...))
}

func (m *model) fail(format string, args ...any) {
	m.t.Helper()
	for _, l := range m.log[max(0, len(m.log)-120):] {
		m.t.Log(l)
	}
	m.t.Fatalf("step %d: "+format, append([]any{m.step}, args...)...)
}

func (m *model) chance(percent int) bool { return m.r.IntN(100) < percent }

func pick[T any](m *model, list []T) T { return list[m.r.IntN(len(list))] }

// begin makes the account and its sessions.
func (m *model) begin() {
	for _, d := range []string{"cur", "new", "tmp"} {
		if err := os.Mkdir(filepath.Join(m.path, d), 0o700); err != nil {
			m.t.Fatal(err)
		}
	}
	m.folders["INBOX"] = &modelFolder{m: m, name: "INBOX", dir: m.path, next: 1}
	m.serve()
	for i := range 2 + m.r.IntN(2) {
		c := &client{m: m, name: string(rune('A' + i)), caches: make(map[string]cache)}
		m.clients = append(m.clients, c)
		m.connect(c)
	}
	m.do(m.clients[0], "CREATE A", true)
	m.folders["A"] = m.newFolder("A")
	for range m.r.IntN(5) {
		m.deliver(m.folders["INBOX"])
	}
}

func (m *model) newFolder(name string) *modelFolder {
	return &modelFolder{m: m, name: name, dir: filepath.Join(m.path, "."+name), next: 1, changed: true}
}

// serve starts a server.
func (m *model) serve() {
	w, err := watch.New()
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		m.t.Fatal(err)
	}
	var ds facts.Describer
	m.watcher = w
	m.all = mailbox.NewAccounts(w, mailbox.Options{Describe: ds.Describe, Form: facts.Form, Columns: facts.Columns, Column: facts.AppendColumn, Report: func(err error) { m.t.Errorf("report: %v", err) }})
	if m.l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		m.t.Fatal(err)
	}
	s := NewServer(&Config{TimeoutIdle: time.Minute, MessageLimit: 1 << 20})
	l, all := m.l, m.all
	done := make(chan struct{})
	go func() {
		defer close(done)
		running := make(chan struct{}, 100)
		n := 0
		for ; ; n++ {
			c, err := l.Accept()
			if err != nil {
				break
			}
			go func() {
				defer func() { running <- struct{}{} }()
				defer c.Close()
				s.Serve(context.Background(), imap.NewConn(c), func(context.Context) (*mailbox.Account, error) { return all.Open(m.path) }, Note{Tag: "login"})
			}()
		}
		for range n {
			<-running
		}
	}()
	m.end = func() {
		for _, c := range m.clients {
			c.c.Close()
		}
		l.Close()
		<-done
		all.End()
		if w != nil {
			w.Close()
		}
	}
}

// connect begins a session, in some mode.
func (m *model) connect(c *client) {
	var err error
	if c.c, err = net.Dial("tcp", m.l.Addr().String()); err != nil {
		m.t.Fatal(err)
	}
	c.r = bufio.NewReader(c.c)
	c.rev2, c.condstore, c.qresync, c.uidOnly = false, false, false, false
	if r := c.finish("login"); r.kind != "OK" || r.code != "CAPABILITY" {
		c.fail("login: %q", r.raw)
	}
	if m.chance(40) {
		m.enable(c, "IMAP4rev2", &c.rev2)
	}
	if m.chance(25) {
		m.enable(c, "CONDSTORE", &c.condstore)
	}
	if m.chance(40) {
		c.condstore = true
		m.enable(c, "QRESYNC", &c.qresync)
	}
	if m.chance(15) {
		m.enable(c, "UIDONLY", &c.uidOnly)
	}
}

func (m *model) enable(c *client, name string, on *bool) {
	*on = true
	m.do(c, "ENABLE "+name, true)
	if len(c.others) != 1 || c.others[0].kind != "ENABLED" || len(c.others[0].values) != 1 || !strings.EqualFold(c.others[0].values[0].text, name) {
		c.fail("ENABLE %s: %v", name, c.others)
	}
}

// do runs a command that must succeed.
func (m *model) do(c *client, command string, expunge bool, literals ...string) response1 {
	r := m.run(c, command, expunge, literals...)
	if r.kind != "OK" {
		c.fail("%s: %q", command, r.raw)
	}
	return r
}

// run runs a command, and compares. The model has its effects already.
func (m *model) run(c *client, command string, expunge bool, literals ...string) response1 {
	if c.folder != nil {
		c.folder.settle()
	}
	c.expunge = expunge
	r := c.do(command, literals...)
	m.compare(c)
	return r
}

// compare looks at the views of all whom the last command should have told.
func (m *model) compare(c *client) {
	if c.folder != nil {
		c.folder.looked()
	}
	c.check(c.expunge)
	m.idlers()
}

// idlers are to be told soon of what others have done.
func (m *model) idlers() {
	for _, c := range m.clients {
		if c.idle == "" || c.folder == nil {
			continue
		}
		c.folder.settle()
		c.late = true
		for !c.current() {
			r := c.next(5 * time.Second)
			if r.tag != "*" {
				c.fail("%q while idle", r.raw)
			}
			c.apply(r)
		}
		c.late = false
		// Who has not asked for the flags of a message cannot tell whether the server has seen that they have changed.
		if !slices.ContainsFunc(c.view, func(e *modelEntry) bool { return e.flags == "" && e.m.seen != "" }) {
			c.folder.looked()
		}
	}
}

// last compares what a client who comes anew sees, and what is on disk.
func (m *model) last() {
	c := &client{m: m, name: "Z", caches: make(map[string]cache)}
	for _, c := range m.clients {
		if c.idle != "" {
			m.done(c)
		}
	}
	m.clients = append(m.clients, c)
	m.connect(c)
	for _, f := range m.folders {
		m.selectFolder(c, f, true)
		if n := len(f.alive()); n > 0 {
			c.condstore = true
			m.do(c, "UID FETCH 1:* (FLAGS UID BODY.PEEK[] MODSEQ RFC822.SIZE)", true)
			if len(c.fetched) != n {
				c.fail("%d of %d messages", len(c.fetched), n)
			}
			m.contents(c)
		}
		n := 0
		for _, d := range []string{"cur", "new"} {
			list, err := os.ReadDir(filepath.Join(f.dir, d))
			if err != nil {
				m.fail("%v", err)
			}
			n += len(list)
		}
		if n != len(f.alive()) {
			m.fail("%s has %d files, and %d messages", f.name, n, len(f.alive()))
		}
	}
}

// contents compares what was fetched.
func (m *model) contents(c *client) {
	for x, r := range c.fetched {
		for name, v := range r.items {
			switch name {
			case "RFC822.SIZE":
				if v.text != strconv.Itoa(len(x.text)) {
					c.fail("%v: RFC822.SIZE %s, not %d", x, v.text, len(x.text))
				}
			case "BODY[]":
				if v.kind != 's' || v.text != x.text {
					c.fail("%v: %q is not %q", x, v.text, x.text)
				}
			case "SAVEDATE": // RFC 8514 section 3: it does not change
				t, err := time.Parse("_2-Jan-2006 15:04:05 -0700", v.text)
				if err != nil || x.saved != 0 && t.Unix() != x.saved || time.Since(t).Abs() > time.Hour {
					c.fail("%v: SAVEDATE %q, was %v", x, v.text, time.Unix(x.saved, 0))
				}
				x.saved = t.Unix()
			case "INTERNALDATE":
				t, err := time.Parse("_2-Jan-2006 15:04:05 -0700", v.text)
				if err != nil || len(v.text) != 26 || x.date != 0 && t.Unix() != x.date {
					c.fail("%v: INTERNALDATE %q, not %v", x, v.text, time.Unix(x.date, 0))
				}
			}
		}
	}
}

// restart has all sessions lose their connections, and another server come, sometimes without its caches.
func (m *model) restart() {
	m.note("restart")
	for _, c := range m.clients {
		if c.idle != "" {
			m.done(c)
		}
		m.resolve(c)
		c.leave()
	}
	m.end()
	if m.chance(30) {
		m.note("the caches are lost")
		filepath.WalkDir(m.path, func(path string, d fs.DirEntry, err error) error {
			if err == nil && strings.HasPrefix(d.Name(), "postamt.") && m.chance(70) {
				os.Remove(path)
			}
			return err
		})
		for _, f := range m.folders {
			for _, x := range f.messages {
				x.modseq, x.after, x.was = 0, 0, 0 // another, or the same
			}
			f.changed = false
		}
	}
	m.serve()
	for _, c := range m.clients {
		m.connect(c)
	}
}

// resolve asks for what a client must know to resynchronize.
func (m *model) resolve(c *client) {
	if c.folder == nil || c.idle != "" || !c.qresync && !c.uidOnly {
		return
	}
	last := uint32(0)
	for _, e := range c.view {
		if e.uid == 0 || e.flags == "" {
			m.do(c, fmt.Sprintf("UID FETCH %d:* (FLAGS)", last+1), true)
			break
		}
		last = e.uid
	}
	for i, e := range c.view {
		if e.uid == 0 || e.flags == "" {
			c.fail("message %d is still not known", i+1)
		}
	}
}

func (m *model) done(c *client) {
	c.write("DONE\r\n")
	m.note("%s> DONE", c.name)
	tag := c.idle
	c.idle, c.late = "", true
	if r := c.finish(tag); r.kind != "OK" {
		c.fail("IDLE: %q", r.raw)
	}
	c.late = false
	m.compare(c)
}

// act is one step of somebody.
func (m *model) act() {
	if m.chance(15) {
		m.outside()
		m.idlers()
		return
	}
	if m.r.IntN(400) == 0 {
		m.restart()
		return
	}
	c := pick(m, m.clients)
	if m.r.IntN(80) == 0 { // its connection is lost
		m.note("%s is lost", c.name)
		c.idle = ""
		c.c.Close()
		c.leave()
		m.connect(c)
		return
	}
	switch {
	case c.idle != "":
		m.done(c)
	case c.folder == nil:
		m.authenticated(c)
	case m.chance(15):
		m.authenticated(c)
	default:
		m.inSelected(c)
	}
	m.resolve(c)
	runtime.Gosched()
}
