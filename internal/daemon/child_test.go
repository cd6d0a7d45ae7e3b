package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/config"
)

// The test binary executed again with CHILD=serve is a program as cmd/ has them: it starts, finds its sockets, obeys
// signals, drains. Tests talk to it over its connections.
func TestMain(m *testing.M) {
	switch os.Getenv("CHILD") {
	case "":
		os.Exit(m.Run())
	case "serve":
		os.Exit(child())
	}
	os.Exit(2)
}

func child() int {
	notify, _ := strconv.Atoi(os.Getenv("CHILD_NOTIFY"))
	p := Start(notify)
	log := p.Log("auto", "child")
	defer log.Close()
	w := Want{Kinds: []string{"mx", "submission", "local"}, Kind: "mx", SocketMode: 0o666}
	for _, l := range strings.Fields(os.Getenv("CHILD_OWN")) {
		f := strings.Split(l, ",")
		w.Own = append(w.Own, config.Listener{Network: f[0], Address: f[1], Kind: f[2]})
	}
	s, err := p.Open(w)
	if err != nil {
		log.Problem("", "open", err)
		return 75
	}
	ctx := p.Signals(Hooks{
		Reload: func() { log.Reload("configuration", nil) },
		Dump:   func() { log.Event("", "state") },
		Flush:  func() { log.Event("", "flush") },
	})
	srv := &Server{
		Log:     log,
		Limiter: NewLimiter(Limits{Client: 3}),
		Refuse: func(c net.Conn, kind string, met Limit) {
			fmt.Fprintf(c, "421 %s %v\r\n", kind, met)
			if os.Getenv("CHILD_STUCK") != "" {
				select {}
			}
		},
		Handle: func(ctx context.Context, c net.Conn, kind string) {
			session(ctx, c, kind, s.How)
		},
	}
	if os.Getenv("CHILD_FEW_FILES") != "" {
		srv.Limiter = nil
		unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 24, Max: 24})
	}
	if s.Conn != nil {
		fmt.Fprintln(os.Stdout, "this must not reach the client")
		fmt.Fprintln(os.Stderr, "nor this, with inetd")
	}
	grace := 20 * time.Second
	if d, err := time.ParseDuration(os.Getenv("CHILD_GRACE")); err == nil {
		grace = d
	}
	p.Ready()
	log.Stop("signal", srv.Run(ctx, s, p.Stopping, func() time.Duration { return grace }))
	return 0
}

// session greets with what it knows, answers lines, and says 421 when the program ends.
func session(ctx context.Context, c net.Conn, kind, how string) {
	cred := "none"
	if u, err := PeerCred(c); err == nil {
		cred = strconv.Itoa(u.UID)
	}
	var nofile unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &nofile)
	fmt.Fprintf(c, "220 kind=%s how=%s remote=%s local=%s uid=%s full=%v left=%q\r\n", kind, how, c.RemoteAddr(), c.LocalAddr(), cred,
		nofile.Cur == nofile.Max, os.Getenv("LISTEN_FDS")+os.Getenv("LISTEN_PID")+os.Getenv("LISTEN_FDNAMES")+os.Getenv("NOTIFY_SOCKET")+os.Getenv("WATCHDOG_USEC"))
	stop := context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		switch {
		case err != nil && ctx.Err() != nil:
			fmt.Fprint(c, "421 bye\r\n")
			return
		case err != nil:
			return
		}
		switch strings.TrimSpace(line) {
		case "quit":
			return
		case "panic":
			panic("on request")
		case "hang":
			select {}
		case "starttls":
			_, start := TLS(c)
			names, err := start()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "250 %s\r\n", names)
		case "wait":
			c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			_, err := r.ReadString('\n')
			fmt.Fprintf(c, "250 %v\r\n", os.IsTimeout(err) || isTimeout(err))
			c.SetReadDeadline(time.Time{})
		default:
			fmt.Fprintf(c, "250 %s\r\n", strings.TrimSpace(line))
		}
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout() || errors.Is(err, os.ErrDeadlineExceeded)
}

// program is a running child.
type program struct {
	*exec.Cmd
	t      *testing.T
	stderr *bufio.Scanner
	waited bool
}

// run starts a child. LISTEN_PID=self stands for its own process id.
func run(t *testing.T, env []string, change func(*exec.Cmd)) *program {
	t.Helper()
	c := exec.Command(os.Args[0])
	for i, e := range env {
		if e == "LISTEN_PID=self" {
			c = exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0"`, os.Args[0])
			env = append(env[:i:i], env[i+1:]...)
			break
		}
	}
	c.Env = append([]string{"CHILD=serve", "PATH=" + os.Getenv("PATH")}, env...)
	for _, v := range []string{"GOCOVERDIR", "GORACE"} {
		if s := os.Getenv(v); s != "" {
			c.Env = append(c.Env, v+"="+s)
		}
	}
	p := &program{Cmd: c, t: t}
	if change != nil {
		change(c)
	}
	if c.Stderr == nil {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		c.Stderr = w
		defer w.Close()
		t.Cleanup(func() { r.Close() })
		p.stderr = bufio.NewScanner(r)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !p.waited {
			c.Process.Kill()
			c.Wait()
		}
	})
	return p
}

// saw reads the log up to a line that contains s.
func (p *program) saw(s string) string {
	p.t.Helper()
	var all []string
	for p.stderr.Scan() {
		all = append(all, p.stderr.Text())
		if strings.Contains(p.stderr.Text(), s) {
			return p.stderr.Text()
		}
	}
	p.t.Fatalf("no line with %q in the log: %q", s, all)
	return ""
}

// exit waits for the end and returns the exit code.
func (p *program) exit() int {
	p.t.Helper()
	p.waited = true
	timer := time.AfterFunc(60*time.Second, func() { p.Process.Kill() })
	defer timer.Stop()
	err := p.Wait()
	var e *exec.ExitError
	if err != nil && !errors.As(err, &e) {
		p.t.Fatal(err)
	}
	return p.ProcessState.ExitCode()
}

// peer is the client's side of a connection.
type peer struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func dial(t *testing.T, network, address string) *peer {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	return newPeer(t, c)
}

func newPeer(t *testing.T, c net.Conn) *peer {
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(60 * time.Second))
	return &peer{c, t, bufio.NewReader(c)}
}

func (p *peer) line() string {
	p.t.Helper()
	s, err := p.r.ReadString('\n')
	if err != nil {
		p.t.Fatalf("%q %v", s, err)
	}
	return strings.TrimSuffix(s, "\r\n")
}

func (p *peer) expect(parts ...string) {
	p.t.Helper()
	s := p.line()
	for _, want := range parts {
		if !strings.Contains(s, want) {
			p.t.Errorf("%q has no %q", s, want)
		}
	}
}

func (p *peer) say(s string) { fmt.Fprint(p, s+"\r\n") }

// ends checks that the other side closes, with nothing more.
func (p *peer) ends() {
	p.t.Helper()
	if s, err := p.r.ReadString('\n'); err == nil || s != "" || isTimeout(err) {
		p.t.Errorf("the connection goes on: %q %v", s, err)
	}
}

func listenTCP(t *testing.T) (net.Listener, *os.File) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); f.Close() })
	return l, f
}

func tcpPair(t *testing.T) (net.Conn, *os.File) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ours, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return ours, f
}
