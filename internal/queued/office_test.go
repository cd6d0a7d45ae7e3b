package queued

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"postamt/internal/alias"
	"postamt/internal/maillog"
	"postamt/internal/queue"
	"postamt/internal/queue/queuetest"
	"postamt/internal/remote"
	"postamt/internal/retry"
	"postamt/internal/route"
	"postamt/internal/smtp"
)

// An office is a Server over a real queue, with a courier that does what the test says, and a clock that the test
// sets. Its steps run when the test calls them; nothing happens in between.
type office struct {
	t       testing.TB
	dir     string
	q       *queue.Queue
	s       *Server
	opt     Options
	now     time.Time
	tables  route.Tables
	courier *courier
	lists   lists
	log     *logBuffer
}

// call is one transaction as the courier saw it.
type call struct {
	to      Destination
	tx      *remote.Transaction
	rcpts   []string
	body    string
	suspect bool
	out     []remote.Outcome
}

// courier answers each recipient with what script says.
type courier struct {
	mu     sync.Mutex
	script func(to Destination, rcpt string) remote.Outcome
	answer func(to Destination, r remote.Rcpt) remote.Outcome // not nil: in place of script
	before func(to Destination)                               // called at the start of each transaction, by its goroutine
	hang   func(ctx context.Context, to Destination) error    // likewise; an error is the outcome
	calls  []call
}

func (c *courier) Deliver(ctx context.Context, to Destination, tx *remote.Transaction) []remote.Outcome {
	if c.before != nil {
		c.before(to)
	}
	if c.hang != nil {
		if err := c.hang(ctx, to); err != nil {
			out := make([]remote.Outcome, len(tx.Rcpts))
			for i := range out {
				out[i] = remote.Outcome{Reply: smtp.NewReply(451, "4.4.2", err.Error()), Local: true}
			}
			return out
		}
	}
	r, _ := tx.Open()
	body, _ := io.ReadAll(r)
	k := call{to: to, tx: tx, body: string(body), suspect: tx.Suspect}
	out := make([]remote.Outcome, len(tx.Rcpts))
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, rcpt := range tx.Rcpts {
		k.rcpts = append(k.rcpts, rcpt.Addr.String())
		if c.answer != nil {
			out[i] = c.answer(to, rcpt)
		} else {
			out[i] = c.script(to, rcpt.Addr.String())
		}
	}
	k.out = out
	c.calls = append(c.calls, k)
	return out
}

// took returns what was sent since the last call of took.
func (c *courier) took() []call {
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := c.calls
	c.calls = nil
	return calls
}

// each counts the recipients of calls.
func each(calls []call) map[string]int {
	n := make(map[string]int)
	for _, c := range calls {
		for _, r := range c.rcpts {
			n[r]++
		}
	}
	return n
}

// reports are the calls whose sender is null.
func reports(calls []call) (r []call) {
	for _, c := range calls {
		if c.tx.From.IsNull() {
			r = append(r, c)
		}
	}
	return r
}

var (
	peer = &remote.Endpoint{Name: "mx.elsewhere.example"}
	done = remote.Outcome{Kind: remote.Done, Stage: remote.StageData, Reply: smtp.NewReply(250, "2.0.0", "ok"), Peer: peer}
	temp = remote.Outcome{Kind: remote.Temp, Stage: remote.StageRcpt, Reply: smtp.NewReply(450, "4.2.0", "later"), Peer: peer}
	perm = remote.Outcome{Kind: remote.Perm, Stage: remote.StageRcpt, Reply: smtp.NewReply(550, "5.1.1", "no such user"), Peer: peer}
	dead = remote.Outcome{Kind: remote.Temp, Stage: remote.StageConnect, Reply: smtp.NewReply(451, "4.4.1", "connection refused"), Local: true}
	lost = remote.Outcome{Kind: remote.Temp, Stage: remote.StageData, Reply: smtp.NewReply(451, "4.4.2", "connection lost"), Local: true, MaybeDelivered: true}
)

// by answers by recipient; who is not named gets other.
func by(m map[string]remote.Outcome, other remote.Outcome) func(Destination, string) remote.Outcome {
	return func(_ Destination, rcpt string) remote.Outcome {
		if o, ok := m[rcpt]; ok {
			return o
		}
		return other
	}
}

func always(o remote.Outcome) func(Destination, string) remote.Outcome { return by(nil, o) }

type people []string

func (p people) User(local, domain string) (string, alias.Pos, bool, error) {
	if domain == "" && slices.Contains(p, local) {
		return local, alias.Pos{File: "users"}, true, nil
	}
	return "", alias.Pos{}, false, nil
}

// lists are the files of ":include:"; one that is missing cannot be read.
type lists map[string]string

func (l lists) List(path string) (*alias.List, error) {
	text, ok := l[path]
	if !ok {
		return nil, errors.New("no such file")
	}
	targets, _, err := alias.ParseList(path, text)
	return targets, err
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
	l  *maillog.Logger
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *logBuffer) String() string {
	b.l.Flush(10 * time.Second)
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

const (
	scanEvery = 5 * time.Minute
	warnAfter = 4 * time.Hour
	expire    = 5 * 24 * time.Hour
)

func newOffice(t testing.TB) *office { return newOfficeIn(t, t.TempDir()) }

func newOfficeIn(t testing.TB, dir string) *office {
	o := &office{
		// Ahead of the machine's clock, which sets the times of the files that the Server writes.
		t: t, dir: dir, now: time.Now().Truncate(time.Second).Add(time.Hour), lists: lists{}, log: &logBuffer{},
		courier: &courier{script: always(done)},
		opt: Options{
			Hostname: "mx.example.org", LocalTransport: route.Transport{Kind: "lmtp", Socket: "/nowhere"},
			Active: 100, Scan: scanEvery,
			Retry:        retry.Policy{Min: 5 * time.Minute, Max: 4 * time.Hour, Warn: warnAfter, Expire: expire},
			Limits:       Limits{Attempts: 20, Window: 4, WindowStart: 2, Local: 4, Recipients: 10, LocalRecipients: 10},
			ReportExpire: expire, Expansion: route.Limits{Depth: 10, Count: 1000},
		},
	}
	o.log.l = maillog.New(o.log, "queued")
	o.tables = route.Tables{
		LocalDomains: route.Domains{"example.org": {File: "conf"}}, LocalDomain: "example.org",
		Users: people{"alice", "bob", "carol", "dave"}, Lists: o.lists, Delimiters: "+",
	}
	o.open()
	t.Cleanup(func() {
		queuetest.Check(t, o.q)
		o.q.Close()
		o.log.l.Close()
		if t.Failed() {
			log := o.log.b.String()
			t.Logf("log:\n%s", log[max(0, len(log)-4<<10):])
		}
	})
	return o
}

func (o *office) open() {
	o.t.Helper()
	q, err := queue.Open(o.dir, queue.Options{})
	if err != nil {
		o.t.Fatal(err)
	}
	o.q = q
	o.start()
}

func (o *office) start() {
	o.s = New(o.opt, o.q, func() *route.Tables { t := o.tables; return &t }, o.courier, o.log.l)
	o.s.now = func() time.Time { return o.now }
	o.s.jitter = func() float64 { return 0 }
	o.s.start = o.now
	o.s.sched.ctx = context.Background()
}

// crash forgets everything but the directory, and starts anew.
func (o *office) crash() {
	o.t.Helper()
	o.q.Close()
	o.open()
}

// aliases sets the alias table.
func (o *office) aliases(text string) {
	o.t.Helper()
	table, _, err := alias.Parse("aliases", text)
	if err != nil {
		o.t.Fatal(err)
	}
	o.tables.Aliases = table
}

const sender = "alice@sender.example"

// put queues a message and does not tell the Server.
func (o *office) put(from string, rcpts ...string) queue.ID {
	o.t.Helper()
	e := queue.Envelope{From: from}
	for _, r := range rcpts {
		addr, notify, _ := strings.Cut(r, " ")
		e.Rcpts = append(e.Rcpts, queue.Rcpt{Addr: addr, Notify: notify})
	}
	return o.putEnvelope(e)
}

func (o *office) putEnvelope(e queue.Envelope) queue.ID {
	o.t.Helper()
	return o.putText(e, "")
}

// putText puts a message in the queue; of "" one whose subject is its id.

func (o *office) putText(e queue.Envelope, text string) queue.ID {
	o.t.Helper()
	e.ID, e.Arrived = queue.NewID(o.now), o.now.UTC()
	w, err := o.q.Create(&e)
	if err == nil {
		io.WriteString(w, cmp.Or(text, "Subject: "+string(e.ID)+"\r\n\r\nhello\r\n"))
		err = w.Commit()
	}
	if err != nil {
		o.t.Fatal(err)
	}
	if err := os.Chtimes(o.path(e.ID), o.now, o.now); err != nil { // by our clock
		o.t.Fatal(err)
	}
	return e.ID
}

// send queues a message and works until nothing more is due.
func (o *office) send(from string, rcpts ...string) queue.ID {
	o.t.Helper()
	id := o.put(from, rcpts...)
	o.s.Wake(id)
	o.work()
	return id
}

// work takes up what is announced or due, one message after the other, until there is no more now.
func (o *office) work() {
	o.t.Helper()
	for range 100_000 {
		if !o.one() {
			return
		}
	}
	o.t.Fatal("the work does not end")
}

// one makes one attempt, if one is due.
func (o *office) one() bool {
	var t task
	select {
	case t = <-o.s.fresh:
		t = o.s.doubt(t)
	default:
		var due bool
		if t, due, _ = o.s.index.due(o.now); !due {
			return false
		}
	}
	if o.s.claim(context.Background(), t.id, true) {
		o.s.take(t)
		if o.courier.hang == nil {
			o.s.sched.wg.Wait()
		}
	}
	return true
}

// next is when the Server will do something again, by its index.
func (o *office) next() time.Duration {
	_, due, wait := o.s.index.due(o.now)
	if due {
		o.t.Fatal("something is due")
	}
	return wait
}

func (o *office) scan() {
	o.t.Helper()
	if err := o.s.readQueue(context.Background()); err != nil {
		o.t.Fatal(err)
	}
}

// states are the recipients' states, "" if the message is gone.
func (o *office) states(id queue.ID) (states string) {
	o.t.Helper()
	m, err := o.q.Message(id)
	if errors.Is(err, queue.ErrNotExist) {
		return ""
	}
	if err != nil {
		o.t.Fatal(err)
	}
	defer m.Close()
	for _, r := range m.Envelope.Rcpts {
		states += string(r.State)
	}
	return states
}

func (o *office) wantStates(id queue.ID, want string) {
	o.t.Helper()
	if got := o.states(id); got != want {
		o.t.Errorf("states of %s: %q, want %q", id, got, want)
	}
}

// queued are the ids in active.
func (o *office) queued() (ids []queue.ID) {
	o.t.Helper()
	if err := o.q.Scan(func(e queue.Entry) bool { ids = append(ids, e.ID); return true }); err != nil {
		o.t.Fatal(err)
	}
	return ids
}

func (o *office) wantEmpty() {
	o.t.Helper()
	if ids := o.queued(); len(ids) > 0 {
		o.t.Errorf("left in the queue: %v", ids)
	}
	if n := len(o.s.active); n > 0 {
		o.t.Errorf("%d messages are still active", n)
	}
}

func (o *office) wantCalls(what string, got map[string]int, want map[string]int) {
	o.t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		o.t.Errorf("%s: sent %v, want %v", what, got, want)
	}
}

func (o *office) path(id queue.ID) string {
	return filepath.Join(o.dir, "active", string(id[len(id)-1:]), string(id))
}

func (o *office) mtime(id queue.ID) time.Time {
	o.t.Helper()
	st, err := os.Stat(o.path(id))
	if err != nil {
		o.t.Fatal(err)
	}
	return st.ModTime()
}

// message opens one as an attempt does.
func (o *office) message(id queue.ID, suspect bool) *message {
	o.t.Helper()
	f, err := o.q.Message(id)
	if err != nil {
		o.t.Fatal(err)
	}
	return &message{id: id, file: f, env: &f.Envelope, suspect: suspect, begun: o.now, results: make([]result, len(f.Envelope.Rcpts))}
}
