package monitor

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"postamt/internal/authwire"
	"postamt/internal/privilege"
	"postamt/test/peers"
	"postamt/test/suite"
)

// The tests of this file are a mail program in small: a front that logs people in at a real authd, on a plain listener and one with TLS,
// and workers that serve them.

// loginFront takes "login USER PASSWORD" and gives the client to a worker. What else it takes is what a captured one might try.
func loginFront(link *Link, args []string) {
	auth := &authwire.Client{Path: args[0]}
	pair, err := tls.LoadX509KeyPair(args[1], args[2])
	if err != nil {
		os.Exit(71)
	}
	for i := range 2 {
		l, err := net.FileListener(os.NewFile(uintptr(firstFD+i), "listener"))
		if err != nil {
			os.Exit(71)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				if i == 1 {
					c = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}})
				}
				go login(link, auth, c, []string{"plain", "tls"}[i])
			}
		}()
	}
	link.Ready()
	<-link.Context().Done()
}

func login(link *Link, auth *authwire.Client, c net.Conn, note string) {
	in := bufio.NewReader(c)
	line, _ := in.ReadString('\n')
	w := strings.Fields(line)
	if len(w) != 3 {
		c.Close()
		return
	}
	ask, own := auth, &ownConn{path: auth.Path, gone: make(chan struct{})}
	if w[0] == "lost" {
		ask = &authwire.Client{Dial: own.dial}
	}
	x := ask.Begin(context.Background(), &authwire.Request{Mechanism: "PLAIN", Service: "imap"})
	r := x.Next(context.Background(), []byte("\x00"+w[1]+"\x00"+w[2]))
	if r.Status != authwire.OK {
		fmt.Fprintln(c, "wrong")
		c.Close()
		return
	}
	k := *r.Ticket
	switch w[0] {
	case "guess":
		k.Cookie = strings.Repeat("0", len(k.Cookie))
	case "other": // of another request
		k.ID++
	case "twice":
		if first, err := link.Connect("", k.Encode()); err == nil {
			first.Close()
		}
	case "lost":
		own.CloseWrite()
		<-own.gone // authd has hung up, too
	}
	ahead, _ := in.Peek(in.Buffered())
	if err := link.Pass(k.Encode(), Client{c, ahead, note}); err != nil {
		fmt.Fprintln(c, err)
		c.Close()
	}
}

// ownConn is a connection to authd that is seen to end.
type ownConn struct {
	*net.UnixConn
	path string
	gone chan struct{}
}

func (o *ownConn) dial(context.Context) (net.Conn, error) {
	c, err := net.Dial("unix", o.path)
	if err == nil {
		o.UnixConn = c.(*net.UnixConn)
	}
	return o, err
}

func (o *ownConn) Read(b []byte) (int, error) {
	n, err := o.UnixConn.Read(b)
	if err != nil {
		close(o.gone)
	}
	return n, err
}

// inn is a monitor with an authd.
type inn struct {
	*host
	secure string // address of the listener with TLS
	dir    string
}

// newInn has the users one and two; one has the uid first.
func newInn(t *testing.T, first uint32, idle string) *inn {
	t.Helper()
	bin := os.Getenv("TEST_AUTHD")
	if bin == "" {
		dir, err := suite.Build()
		if err != nil {
			t.Fatal(err)
		}
		bin = dir + "/authd"
	}
	// Not t.TempDir: its parents are closed to everyone but us.
	dir, err := os.MkdirTemp("", "pa-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	cert, key, err := peers.WriteCert(dir, "mx.example.org")
	if err != nil {
		t.Fatal(err)
	}
	n := &inn{dir: dir}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("postamt.conf", "hostname mx.example.org\norigin example.org\nlocal_domains example.org\nrun_dir run\nstate_dir state\nlog stderr\n")
	write("users", "one:{PLAIN}secret::::::\ntwo:{PLAIN}hidden::::::\nroot:{PLAIN}toor::::::\n")
	os.Mkdir(dir+"/run", 0o755)
	os.Mkdir(dir+"/state", 0o755)
	const authID, frontID = 60008, 60000
	if privilege.Root() {
		filepath.Walk(dir, func(path string, _ os.FileInfo, _ error) error { return os.Chown(path, authID, frontID) })
		os.Chown(key, frontID, frontID)
		os.Chown(cert, frontID, frontID)
	}
	n.runAuthd(t, bin, credential(authID, frontID, []uint32{frontID}))

	h := &host{t: t, log: &lockedBuffer{}, end: make(chan error, 1)}
	n.host = h
	var files []*os.File
	for _, addr := range []*string{&h.addr, &n.secure} {
		l, err := net.Listen("unix", fmt.Sprintf("%s/s%d", dir, len(files)))
		if err != nil {
			t.Fatal(err)
		}
		f, _ := l.(*net.UnixListener).File()
		files = append(files, f)
		*addr = l.Addr().String()
		defer f.Close()
		t.Cleanup(func() { l.Close() })
	}
	users := map[string]Account{"one": {UID: first, GID: first, Value: "first"}, "two": {UID: 60002, GID: 60002, Value: "second"}, "root": {UID: 0, GID: 0, Value: ""}}
	h.run(Options{
		Program: "test", Front: privilege.Account{UID: frontID, GID: frontID}, MinUID: 100, Workers: 2, Grace: 5 * time.Second,
		Listeners: files, Names: []string{"plain", "tls"}, Tickets: &authwire.UserClient{Path: dir + "/run/auth-users"},
		Lookup: func(name string) (Account, error) {
			if a, ok := users[name]; ok {
				return a, nil
			}
			return Account{}, Refusal("no user " + name)
		},
	}, strings.Join([]string{"login", idle, dir + "/run/auth", cert, key}, " "))
	return n
}

func (n *inn) runAuthd(t *testing.T, bin string, as *syscall.Credential) {
	ready, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	log := &lockedBuffer{}
	f, err := os.Open(bin) // its directory may be closed to whom it is executed as
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := exec.Command("/proc/self/fd/4", "-C", n.dir+"/postamt.conf", "-notify", "3")
	c.Dir, c.ExtraFiles, c.Stderr, c.SysProcAttr = "/", []*os.File{w, f}, log, &syscall.SysProcAttr{Credential: as}
	err = c.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	ready.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := bufio.NewReader(ready).ReadString('\n'); err != nil {
		t.Fatalf("authd: not ready: %v\n%s", err, log)
	}
}

// ways are both ways in.
func (n *inn) ways(f func(way string, talk func(line string) *talk)) {
	f("plain", n.talk)
	f("tls", func(line string) *talk {
		n.t.Helper()
		c, err := net.Dial("unix", n.secure)
		if err != nil {
			n.t.Fatal(err)
		}
		t := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		n.t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(20 * time.Second))
		x := &talk{n.t, t, bufio.NewReader(t)}
		x.say(line)
		return x
	})
}

// pattern is n octets that are not the same at any two places near each other.
func pattern(n int) []byte {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

const notNow = "not now (the monitor's log says why)"

// Who logs in has the mailbox, by the way that fits, and with all that was sent before the front knew.
func TestLogin(t *testing.T) {
	if !privilege.Root() {
		t.Skip("needs root, to become users")
	}
	n := newInn(t, 60001, "1h")
	n.ways(func(way string, talk func(string) *talk) {
		one, two := talk("login one secret"), talk("login two hidden\nnote\nvalue\nmailbox two")
		one.hear(`uid 60001 name "one"`)
		two.hear(`uid 60002 name "two"`)
		two.hear(way)
		two.hear(`"second"`)
		two.hear("second <nil>")
		one.say("mailbox two")
		one.hear(" " + notNow)
		one.exchange()
		// The end of what is asked for is not the end of the answers.
		two.say("mailbox two")
		two.finish()
		two.hear("second <nil>")
		two.hear("bye")
		two.hear("")

		talk("login one wrong").hear("wrong")
		talk("login root toor").hear(notNow)
		for _, trick := range []string{"guess", "other", "twice", "lost"} {
			talk(trick + " one secret").hear(notNow)
		}

		// A worker's last words arrive, even if its client goes on talking and it does not listen any more.
		file := n.dir + "/taken " + way
		two = talk("login two hidden\nmailbox two")
		two.hear(`uid 60002 name "two"`)
		two.hear("second <nil>")
		os.WriteFile(file, nil, 0o600)
		os.Chown(file, 60002, 60002)
		two.say("halve " + file)
		two.hear("")
		two.say("to the end")
		two.finish()
		n.await("what was sent to the end", func() bool { b, _ := os.ReadFile(file); return string(b) == "to the end\n" })

		// Its death is its clients' end, and nobody else's.
		two = talk("login two hidden")
		two.hear(`uid 60002 name "two"`)
		two.say("die")
		two.hear("")
		one.exchange()
		n.await("another worker", func() bool {
			x := talk("login two hidden")
			defer x.close()
			line, _ := x.r.ReadString('\n')
			return strings.HasPrefix(line, "uid 60002")
		})
	})
}

// exchange sends and gets more than fits into any buffer.
func (x *talk) exchange() {
	x.t.Helper()
	const size = 3<<20 + 17
	sent := pattern(size)
	x.say(fmt.Sprint("take ", size))
	x.c.Write(sent)
	x.hear(fmt.Sprintf("%x", sha256.Sum256(sent)))
	x.say(fmt.Sprint("give ", size))
	got := make([]byte, size)
	if _, err := io.ReadFull(x.r, got); err != nil || !bytes.Equal(got, sent) {
		x.t.Errorf("not what was given, or: %v", err)
	}
}

func (x *talk) finish() {
	switch c := x.c.(type) {
	case *tls.Conn:
		c.CloseWrite()
	case *net.UnixConn:
		c.CloseWrite()
	}
}

// A worker that has nobody to serve leaves, by either way; the next login has a new one.
func TestLoginIdle(t *testing.T) {
	if !privilege.Root() {
		t.Skip("needs root, to become users")
	}
	n := newInn(t, 60001, "1ms")
	n.ways(func(way string, talk func(string) *talk) {
		before := strings.Count(n.log.String(), "state=left")
		x := talk("login one secret")
		x.hear(`uid 60001 name "one"`)
		x.say("mailbox one")
		x.hear("first <nil>")
		x.finish()
		x.hear("bye")
		x.hear("")
		n.await("leave", func() bool { return strings.Count(n.log.String(), "state=left") > before })
	})
	if strings.Contains(n.log.String(), "state=died") {
		t.Error("one died")
	}
}

// Without root the same processes do the same for the one user who they are, and nothing for others.
func TestLoginAlone(t *testing.T) {
	if privilege.Root() {
		dir, err := suite.Build()
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(dir + "/authd")
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.CreateTemp("", "pa-authd-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.Remove(f.Name())
		f.Write(b)
		f.Chmod(0o755)
		f.Close()
		c := exec.Command("/proc/self/exe", "-test.run", "^TestLoginAlone$", "-test.v")
		c.Dir, c.Env = "/", append(os.Environ(), "TEST_AUTHD="+f.Name())
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 60007, Gid: 60007}}
		if out, err := c.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestLoginAlone")) {
			t.Errorf("as uid 60007: %v\n%s", err, out)
		}
		return
	}
	n := newInn(t, uint32(os.Getuid()), "1h")
	n.ways(func(way string, talk func(string) *talk) {
		one := talk("login one secret")
		one.hear(fmt.Sprintf("uid %d name %q", os.Getuid(), "one"))
		one.say("note")
		one.hear(way)
		one.exchange()
		talk("login two hidden").hear(notNow)
		talk("login root toor").hear(notNow)
	})
	n.logged("uid 60002: " + ErrOther.Error())
}
