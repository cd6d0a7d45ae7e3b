package monitor

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/maillog"
	"postamt/internal/privilege"
)

// The children are this binary again.
func TestMain(m *testing.M) {
	link, err := Inherited()
	if err != nil {
		os.Exit(71)
	}
	switch {
	case link == nil:
		os.Exit(m.Run())
	case link.Role == Front:
		testFront(link)
	default:
		testWorker(link)
	}
	os.Exit(0)
}

// testFront serves connections of one line each: a word, and a name or ticket.
func testFront(link *Link) {
	text, _ := link.Configuration()
	if args := strings.Fields(text); len(args) > 0 && args[0] == "login" {
		loginFront(link, args[2:])
		return
	}
	f := os.NewFile(3, "listener")
	l, err := net.FileListener(f)
	if err != nil {
		os.Exit(71)
	}
	link.Ready()
	go func() { // "bad": it cannot follow that; "slow": it takes long to
		for {
			text, ok := link.Configuration()
			if !ok {
				return
			}
			if text == "slow" {
				time.Sleep(300 * time.Millisecond)
			}
			link.Taken(text != "bad")
		}
	}()
	context.AfterFunc(link.Context(), func() { l.Close() })
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			var line []byte // by single bytes: what follows is for the worker
			for b := make([]byte, 1); ; line = append(line, b[0]) {
				if _, err := c.Read(b); err != nil || b[0] == '\n' {
					break
				}
			}
			word, arg, _ := strings.Cut(string(line), " ")
			switch word {
			case "text":
				io.WriteString(c, text)
			case "who":
				uid, err := link.Who(arg)
				fmt.Fprintln(c, uid, err)
			case "connect", "ticket":
				var ticket []byte
				if word == "ticket" {
					ticket, arg = []byte(arg), ""
				}
				w, err := link.Connect(arg, ticket)
				if err != nil {
					fmt.Fprintln(c, err)
					return
				}
				go func() {
					io.Copy(w, c)
					w.(*net.UnixConn).CloseWrite()
				}()
				io.Copy(c, w)
				w.Close()
			case "hand":
				f, _ := c.(*net.UnixConn).File()
				defer f.Close()
				if err := link.Hand("", []byte(arg), f); err != nil {
					fmt.Fprintln(c, err)
				}
			case "garbage":
				link.sock.send([]byte("garbage"), nil)
			case "forge": // a request that only a worker makes
				link.Mailbox("one")
			}
		}()
	}
}

// testWorker says who it is and whose session it is, and does what a line says.
func testWorker(link *Link) {
	if err := privilege.Became(privilege.Account{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}); err != nil {
		os.Exit(71)
	}
	text, _ := link.Configuration()
	if args := strings.Fields(text); len(args) > 1 {
		text = args[1]
	}
	idle, err := time.ParseDuration(text)
	if err != nil {
		idle = time.Minute
	}
	link.Serve(idle, time.Second, func(ctx context.Context, s Session) {
		if link.Role == Runner {
			fmt.Fprint(s.Conn, "runner, ")
		}
		fmt.Fprintf(s.Conn, "uid %d name %q\n", os.Geteuid(), s.Name)
		in := bufio.NewReader(s.Conn)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				fmt.Fprintln(s.Conn, "bye")
				return
			}
			word, arg, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			switch word {
			case "note":
				fmt.Fprintln(s.Conn, s.Note)
			case "value":
				fmt.Fprintf(s.Conn, "%q\n", s.Value)
			case "take": // so many octets, and say what they were
				n, _ := strconv.ParseInt(arg, 10, 64)
				h := sha256.New()
				io.CopyN(h, in, n)
				fmt.Fprintf(s.Conn, "%x\n", h.Sum(nil))
			case "give":
				n, _ := strconv.Atoi(arg)
				s.Conn.Write(pattern(n))
			case "halve": // say nothing more, and take notes
				s.Conn.(*net.UnixConn).CloseWrite()
				b, _ := io.ReadAll(in)
				os.WriteFile(arg, b, 0o600)
				return
			case "mailbox":
				value, err := link.Mailbox(arg)
				fmt.Fprintln(s.Conn, value, err)
			case "told":
				fmt.Fprintln(s.Conn, "to finish:", ctx.Err())
			case "die":
				os.Exit(1)
			case "sh":
				fmt.Fprintln(s.Conn, exec.Command("/bin/sh", "-c", arg).Run())
			case "garbage":
				link.sock.send([]byte("garbage"), nil)
				fmt.Fprintln(s.Conn, "sent")
			}
		}
	})
}

// tickets are good once.
type tickets struct {
	mu   sync.Mutex
	good map[string]string
}

func (t *tickets) Redeem(ticket []byte) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	user, ok := t.good[string(ticket)]
	delete(t.good, string(ticket))
	if !ok {
		return "", Refusal("no such ticket")
	}
	return user, nil
}

// host is a monitor with its children; one, two and three are users, and root is who he is.
type host struct {
	t    *testing.T
	m    *Monitor
	addr string
	log  *lockedBuffer
	stop func()
	end  chan error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newHost(t *testing.T, text string, tickets Tickets) *host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become users")
	}
	h := &host{t: t, log: &lockedBuffer{}, end: make(chan error, 1)}
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	h.addr = l.Addr().String()
	f, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	users := map[string]Account{"one": {UID: 60001, GID: 60001, Value: "first"}, "uno": {UID: 60001, GID: 60001, Value: "also first"}, "two": {UID: 60002, GID: 60002, Value: "second"},
		"of one": {UID: 60001, GID: 60001, Value: "first's command", Runs: true}, "of root": {Runs: true}, "of front": {UID: 60000, GID: 60000, Runs: true},
		"three": {UID: 60003, GID: 60003, Value: "third"}, "root": {UID: 0, GID: 0, Value: ""}, "long": {UID: 60001, GID: 60001, Value: strings.Repeat("v", MaxValue)}}
	h.run(Options{
		Program: "test", Front: privilege.Account{UID: 60000, GID: 60000}, MinUID: 100, Workers: 2, Grace: 5 * time.Second,
		Listeners: []*os.File{f}, Names: []string{"x"}, Tickets: tickets,
		Lookup: func(name string) (Account, error) {
			if a, ok := users[name]; ok {
				return a, nil
			}
			return Account{}, Refusal("no user " + name)
		},
	}, text)
	f.Close()
	t.Cleanup(func() { l.Close() })
	return h
}

// run starts the monitor, and waits for its front.
func (h *host) run(o Options, text string) {
	h.t.Helper()
	ready := make(chan struct{})
	o.Log, o.Ready = maillog.New(h.log, "test"), func() { close(ready) }
	var err error
	if h.m, err = Start(o, text); err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.stop = cancel
	go func() {
		h.end <- h.m.Run(ctx)
		o.Log.Close()
		close(h.end)
	}()
	h.t.Cleanup(func() {
		cancel()
		for range h.end {
		}
		if h.t.Failed() {
			h.t.Log(h.log.String())
		}
	})
	select {
	case <-ready:
	case err := <-h.end:
		h.t.Fatal(err)
	case <-time.After(20 * time.Second):
		h.t.Fatal("the front is not ready")
	}
}

type talk struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
}

// talk sends the first line to the front.
func (h *host) talk(line string) *talk {
	h.t.Helper()
	c, err := net.Dial("unix", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	x := &talk{h.t, c, bufio.NewReader(c)}
	x.say(line)
	return x
}

func (x *talk) say(line string) { fmt.Fprintln(x.c, line) }

func (x *talk) hear(want string) {
	x.t.Helper()
	line, err := x.r.ReadString('\n')
	if strings.TrimSuffix(line, "\n") != want && !(want == "" && err == io.EOF) {
		x.t.Errorf("heard %q, %v; want %q", line, err, want)
	}
}

func (x *talk) close() { x.c.Close() }

func TestNames(t *testing.T) {
	h := newHost(t, "a text", nil)
	x := h.talk("text")
	if b, _ := io.ReadAll(x.r); string(b) != "a text" {
		t.Errorf("configuration %q", b)
	}
	h.talk("who one").hear("60001 <nil>")
	h.talk("who nobody").hear("0 no user nobody")
	h.talk("who root").hear("0 not now (the monitor's log says why)")
	h.talk("connect root").hear("not now (the monitor's log says why)")

	one := h.talk("connect one")
	one.hear(`uid 60001 name ""`)
	one.say("mailbox one")
	one.hear("first <nil>")
	one.say("mailbox uno")
	one.hear("also first <nil>")
	// Another's name is nothing to it.
	one.say("mailbox two")
	one.hear(" not now (the monitor's log says why)")
	one.say("mailbox nobody")
	one.hear(" no user nobody")
	h.talk("connect uno").hear(`uid 60001 name ""`)
	if n := strings.Count(h.logged("state=started"), "state=started"); n != 1 {
		t.Errorf("%d workers for one uid", n)
	}
	h.stop()
	if err := <-h.end; err != nil {
		t.Error(err)
	}
}

// logged is the log once it says what.
func (h *host) logged(what string) string {
	h.t.Helper()
	for end := time.Now().Add(20 * time.Second); !strings.Contains(h.log.String(), what); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("the log does not say %q", what)
		}
	}
	return h.log.String()
}

// A mailbox is opened by the ticket of its user's login, once; a name alone opens nothing.
func TestTickets(t *testing.T) {
	h := newHost(t, "", &tickets{good: map[string]string{"t1": "one", "t2": "one", "t3": "two", "t4": "root", "t5": "gone", "t6": "long"}})
	h.talk("connect one").hear("no such ticket")
	h.talk("ticket guess").hear("no such ticket")
	x := h.talk("ticket t1")
	x.hear(`uid 60001 name "one"`)
	h.talk("ticket t1").hear("no such ticket")
	// The client itself goes to the worker, with all that it sends from then on.
	y := h.talk("hand t2\nvalue\nmailbox one")
	y.hear(`uid 60001 name "one"`)
	y.hear(`"first"`)
	y.hear("first <nil>")
	y.say("mailbox uno")
	y.hear("also first <nil>")
	h.talk("hand t3").hear(`uid 60002 name "two"`)
	h.talk("hand t3").hear("no such ticket")
	z := h.talk("hand t6\nvalue\nnote\nmailbox long") // what does not fit must be asked for
	z.hear(`uid 60001 name "long"`)
	z.hear(`""`)
	z.hear("")
	z.hear(strings.Repeat("v", MaxValue) + " <nil>")
	h.talk("hand t4").hear("not now (the monitor's log says why)")
	h.talk("hand t5").hear("no user gone")
}

// A ticket cannot be shown twice: who has one waits for room.
func TestTicketWaitsForRoom(t *testing.T) {
	h := newHost(t, "1h", &tickets{good: map[string]string{"t1": "one", "t2": "two", "t3": "three"}})
	one, two := h.talk("ticket t1"), h.talk("hand t2")
	one.hear(`uid 60001 name "one"`)
	two.hear(`uid 60002 name "two"`)
	three := h.talk("ticket t3")
	one.close()
	three.hear(`uid 60003 name "three"`)
}

// A worker's death ends its own sessions; the next is started after a pause that grows.
func TestWorkerDies(t *testing.T) {
	h := newHost(t, "", nil)
	two := h.talk("connect two")
	two.hear(`uid 60002 name ""`)
	for n := range 2 {
		one := h.talk("connect one")
		one.hear(`uid 60001 name ""`)
		one.say("die")
		one.hear("")
		h.await("death", func() bool { return strings.Count(h.log.String(), "state=died uid=60001") == n+1 })
		h.talk("connect one").hear("not now (the monitor's log says why)")
		h.await("another worker", func() bool {
			x := h.talk("connect one")
			defer x.close()
			line, _ := x.r.ReadString('\n')
			return strings.HasPrefix(line, "uid 60001")
		})
	}
	if d := h.m.deaths[post{uid: 60001}]; d.delay != 2*minDelay {
		t.Errorf("after two deaths the pause is %v", d.delay)
	}
	two.say("mailbox two")
	two.hear("second <nil>")
}

// A runner is beside the worker of its user: neither is told what the other is for, and neither's death is the other's. What it executes does not inherit that
// signals are for the monitor.
func TestRunner(t *testing.T) {
	h := newHost(t, "", nil)
	one := h.talk("connect one")
	one.hear(`uid 60001 name ""`)
	runner := h.talk("connect of one")
	runner.hear(`runner, uid 60001 name ""`)
	h.logged("state=started uid=60001 pid=")
	h.logged(" role=runner")

	runner.say("mailbox of one")
	runner.hear("first's command <nil>")
	runner.say("mailbox one")
	runner.hear(" not now (the monitor's log says why)")
	one.say("mailbox of one")
	one.hear(" not now (the monitor's log says why)")
	one.say("mailbox one")
	one.hear("first <nil>")
	for _, name := range []string{"of root", "of front"} {
		h.talk("connect " + name).hear("not now (the monitor's log says why)")
	}
	for signal, want := range map[string]string{"TERM": "terminated", "INT": "interrupt", "HUP": "hangup", "XFSZ": "file size limit exceeded", "PIPE": "broken pipe"} {
		runner.say("sh kill -" + signal + " $$; exit 1")
		runner.hear("signal: " + want)
	}

	runner.say("die")
	runner.hear("")
	h.await("death", func() bool { return strings.Contains(h.log.String(), "state=died uid=60001") })
	h.talk("connect of one").hear("not now (the monitor's log says why)") // it is given a pause
	one.say("mailbox one")
	one.hear("first <nil>")
	h.talk("connect one").hear(`uid 60001 name ""`)
	h.await("another runner", func() bool {
		x := h.talk("connect of one")
		defer x.close()
		line, _ := x.r.ReadString('\n')
		return strings.HasPrefix(line, "runner, uid 60001")
	})
	h.stop()
	if err := <-h.end; err != nil {
		t.Error(err)
	}
	if n := strings.Count(h.log.String(), "state=left"); n != 2 {
		t.Errorf("%d have left, want the worker and the runner", n)
	}
}

func (h *host) await(what string, f func() bool) {
	h.t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatal("no " + what)
		}
	}
}

// There are no more workers than there may be; those that are idle make room.
func TestFull(t *testing.T) {
	h := newHost(t, "1h", nil)
	one, two := h.talk("connect one"), h.talk("connect two")
	one.hear(`uid 60001 name ""`)
	two.hear(`uid 60002 name ""`)
	h.talk("connect three").hear("too many workers at the moment")
	one.say("mailbox one") // it works on
	one.hear("first <nil>")
	one.close()
	h.await("room", func() bool {
		x := h.talk("connect three")
		defer x.close()
		line, _ := x.r.ReadString('\n')
		return strings.HasPrefix(line, "uid 60003")
	})
}

// A worker that has nothing to do leaves; one that is given something at that moment does it first. Whoever asks never meets a closed door.
func TestLeave(t *testing.T) {
	h := newHost(t, "1ms", nil)
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		h.await("worker", func() bool {
			x := h.talk("connect one")
			defer x.close()
			line, err := x.r.ReadString('\n')
			if line == "uid 60001 name \"\"\n" {
				x.say("told")
				x.hear("to finish: <nil>") // it is not on its way out
				return true
			}
			// Those that leave count until they are gone.
			if line != "too many workers at the moment\n" {
				t.Fatalf("%q, %v", line, err)
			}
			return false
		})
		time.Sleep(time.Millisecond) // about when it leaves
	}
	h.logged("state=left")
	if strings.Contains(h.log.String(), "state=died") {
		t.Error("one died")
	}
}

// A child that sends what is no record, or what is not its to ask, is ended: the front with everything, a worker alone.
func TestGarbage(t *testing.T) {
	h := newHost(t, "", nil)
	two := h.talk("connect two")
	two.hear(`uid 60002 name ""`)
	one := h.talk("connect one")
	one.hear(`uid 60001 name ""`)
	one.say("garbage")
	h.logged("it is ended")
	h.logged("state=died uid=60001")
	two.say("mailbox two")
	two.hear("second <nil>")
	h.talk("garbage")
	if err := <-h.end; !errors.Is(err, errRecord) {
		t.Error(err)
	}

	h = newHost(t, "", nil)
	h.talk("forge")
	if err := <-h.end; !errors.Is(err, errRecord) {
		t.Error(err)
	}
}

func TestReload(t *testing.T) {
	h := newHost(t, "1h", nil)
	x := h.talk("connect one")
	x.hear(`uid 60001 name ""`)
	nobody := func(string) (Account, error) { return Account{}, Refusal("nobody at all") }
	if err := h.m.Reload("bad", nobody); err == nil {
		t.Error("what the front cannot follow is followed")
	}
	x.say("mailbox one")
	x.hear("first <nil>")
	if err := h.m.Reload("1h", nobody); err != nil {
		t.Error(err)
	}
	h.talk("who one").hear("0 nobody at all")
	x.say("mailbox one")
	x.hear(" nobody at all")
	// What it says of one that it was too late for is not said of the next.
	h.m.reloadTime = 20 * time.Millisecond
	if err := h.m.Reload("slow", nobody); err == nil || !strings.Contains(err.Error(), "has not said") {
		t.Error(err)
	}
	h.m.reloadTime = time.Minute
	if err := h.m.Reload("bad", nobody); err == nil || !strings.Contains(err.Error(), "kept") {
		t.Error(err)
	}
	if err := h.m.Reload("1h", nobody); err != nil {
		t.Error(err)
	}
}

// More than one descriptor with a record is no record, and none of them stays open.
func TestTooManyDescriptors(t *testing.T) {
	a, b, err := pair(seqpacket)
	if err != nil {
		t.Fatal(err)
	}
	from, _ := newSocket(a)
	to, err := newSocket(b)
	if err != nil {
		t.Fatal(err)
	}
	defer from.close()
	defer to.close()
	before := open(t)
	null, _ := os.Open("/dev/null")
	rights := unix.UnixRights(int(null.Fd()), int(null.Fd()))
	if _, _, err := from.c.WriteMsgUnix([]byte("x"), rights, nil); err != nil {
		t.Fatal(err)
	}
	null.Close()
	if _, _, err := to.receive(make([]byte, 10)); err == nil {
		t.Error("taken")
	}
	if after := open(t); after != before {
		t.Errorf("%d descriptors, then %d", before, after)
	}
}

func open(t *testing.T) int {
	l, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(l)
}
