package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"postamt/internal/queue"
	"postamt/internal/queue/queuetest"
	"postamt/internal/smtpd/smtpdtest"
	"postamt/internal/transcript"
)

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "smtpd")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "smtpd")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s%v\n", out, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// system is a configuration with a queue, and perhaps a smtpd that runs on it.
type system struct {
	t     testing.TB
	dir   string
	queue *queue.Queue
	addr  net.Addr
	cmd   *exec.Cmd
	log   journal
	wrap  []string // runs the program
	ended bool
}

const world = `hostname mx.example
local_domains mx.example
message_size_limit 100000
recipient_limit 100
smtpd_error_soft 30
smtpd_error_hard 60
queue_dir queue
run_dir run
smtpd_user
tls_keys self
`

func newSystem(t testing.TB, conf string) *system {
	t.Helper()
	s := &system{t: t, dir: t.TempDir()}
	s.write("postamt.conf", world+conf)
	s.write("users", "user:\nalice:\nbob:\n")
	s.write("aliases", "team: alice, bob\npostmaster: alice\nbroken: :defer: for now\n")
	for _, d := range []string{"queue", "run"} {
		if err := os.Mkdir(filepath.Join(s.dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.queue = queuetest.Open(t, filepath.Join(s.dir, "queue"), queue.Options{})
	return s
}

func (s *system) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// command is smtpd, which is ended with the test.
func (s *system) command(arg ...string) *exec.Cmd {
	line := append(append([]string{}, s.wrap...), binary, "-C", filepath.Join(s.dir, "postamt.conf"))
	c := exec.Command(line[0], append(line[1:], arg...)...)
	c.Stderr = &s.log
	return c
}

// listener makes one, to be passed.
func (s *system) listener(kind string) *os.File {
	s.t.Helper()
	network, address := "tcp", "127.0.0.1:0"
	if kind == "local" {
		network, address = "unix", filepath.Join(s.dir, "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		s.t.Fatal(err)
	}
	defer l.Close()
	s.addr = l.Addr()
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		s.t.Fatal(err)
	}
	return f
}

// start runs it with a passed listener of the kind, or with its own if kind is "", and returns when it is ready.
func (s *system) start(kind string) {
	s.t.Helper()
	ready, tell, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	defer ready.Close()
	s.cmd = s.command("-notify", "3")
	s.cmd.ExtraFiles = []*os.File{tell}
	if kind != "" {
		f := s.listener(kind)
		defer f.Close()
		s.cmd = s.command("-notify", "4")
		s.cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES="+kind)
		s.cmd.ExtraFiles = []*os.File{f, tell}
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	tell.Close()
	s.t.Cleanup(s.stop)
	if _, err := bufio.NewReader(ready).ReadString('\n'); err != nil {
		s.ended = true
		s.cmd.Wait()
		s.t.Fatalf("not ready: %v\n%s", err, s.log.String())
	}
}

func (s *system) stop() {
	if s.ended {
		return
	}
	s.ended = true
	s.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(20*time.Second, func() { s.cmd.Process.Kill() })
	defer kill.Stop()
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("end: %v\n%s", err, s.log.String())
	}
}

func (s *system) Dial(string) (net.Conn, error) { return net.Dial(s.addr.Network(), s.addr.String()) }

func (s *system) ids() (ids []queue.ID, writing int) {
	err := s.queue.Scan(func(e queue.Entry) bool {
		if e.Writing {
			writing++
		} else {
			ids = append(ids, e.ID)
		}
		return true
	})
	if err != nil {
		s.t.Error(err)
	}
	return ids, writing
}

func (s *system) Check(title string, block []string, n transcript.Names) error {
	w := strings.Fields(title)
	if w[0] == "slept" {
		return transcript.ErrSkip
	}
	if w[0] == "queued" && len(w) == 2 {
		want, err := strconv.Atoi(w[1])
		if err != nil {
			return err
		}
		// Only a session whose client has left can be a little late.
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			ids, writing := s.ids()
			if len(ids) == want && writing == 0 {
				return nil
			}
			if time.Now().After(end) {
				return fmt.Errorf("%d messages are queued, %d unfinished", len(ids), writing)
			}
		}
	}
	id, err := queue.ParseID(strings.TrimSuffix(w[1], ","))
	if err != nil {
		return err
	}
	m, err := s.queue.Message(id)
	if err != nil {
		return err
	}
	defer m.Close()
	body, err := io.ReadAll(m.Reader())
	if err != nil {
		return err
	}
	return smtpdtest.Check(w[0], &m.Envelope, body, block, n)
}

// TestTranscripts plays the transcripts of internal/smtpd to the program, with a queue on disk.
func TestTranscripts(t *testing.T) {
	names, err := filepath.Glob("../../internal/smtpd/testdata/*.smtp")
	if err != nil || len(names) == 0 {
		t.Fatal("no transcripts")
	}
	certDir := t.TempDir()
	certificate(t, certDir)
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".smtp"), func(t *testing.T) {
			t.Parallel()
			script, err := transcript.Load(name)
			if err != nil {
				t.Fatal(err)
			}
			kind, conf, auth := "mx", "", false
			for _, h := range script.Head {
				switch {
				case h.Key == "listener":
					kind = h.Value
				case h.Key == "tls" && h.Value == "yes":
					conf += "tls_cert " + certDir + "/cert.pem\ntls_key " + certDir + "/key.pem\n"
				case h.Key == "auth" && h.Value == "yes":
					auth = true
					conf += "auth_clear 192.0.2.1\n" // so that loopback, too, needs TLS
				case h.Key == "set":
					conf += h.Value + "\n"
				}
			}
			s := newSystem(t, "")
			s.write("postamt.conf", override(world, conf))
			if auth {
				serveAuth(t, filepath.Join(s.dir, "run", "auth"))
			}
			s.start(kind)
			if err := script.Run(s, transcript.Options{}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// override puts lines in the place of those of the same key.
func override(base, lines string) string {
	keys := make(map[string]bool)
	var out strings.Builder
	for _, l := range strings.Split(lines, "\n") {
		if k, _, ok := strings.Cut(l, " "); ok {
			keys[k] = true
			out.WriteString(l + "\n")
		}
	}
	for _, l := range strings.Split(base, "\n") {
		if k, _, _ := strings.Cut(l, " "); !keys[k] {
			out.WriteString(l + "\n")
		}
	}
	return out.String()
}

func certificate(t testing.TB, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mx.example"}, DNSNames: []string{"mx.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestExitCodes(t *testing.T) {
	s := newSystem(t, "smtpd_listen 127.0.0.1:1=mx\n")
	bad := newSystem(t, "frobnicate yes\nrecipient_limit x\n")
	noQueue := newSystem(t, "")
	noQueue.write("postamt.conf", override(world, "queue_dir missing\n"))
	noCert := newSystem(t, "smtpd_listen 127.0.0.1:0=submissions\n")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	inUse := newSystem(t, "smtpd_listen "+taken.Addr().String()+"=mx\n")
	for name, c := range map[string]struct {
		s    *system
		arg  []string
		code int
		says string
	}{
		"bad flag":         {s, []string{"-frob"}, 64, "usage:"},
		"argument":         {s, []string{"x"}, 64, "usage:"},
		"bad key":          {bad, nil, 78, "frobnicate"},
		"all bad keys":     {bad, nil, 78, "recipient_limit"},
		"no queue":         {noQueue, nil, 71, "queue"},
		"no certificate":   {noCert, nil, 78, "tls_cert"},
		"port is in use":   {inUse, nil, 71, taken.Addr().String()},
		"no such file":     {s, []string{"-C", "/nonexistent"}, 78, "nonexistent"},
		"conf is a drawer": {s, []string{"-C", s.dir}, 78, "directory"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := c.s.command(c.arg...)
			var out bytes.Buffer
			cmd.Stderr = &out
			err := cmd.Run()
			if cmd.ProcessState.ExitCode() != c.code || !strings.Contains(out.String(), c.says) {
				t.Errorf("%v, want %d %q\n%s", err, c.code, c.says, out.String())
			}
		})
	}
}

const aMessage = "EHLO c.example\r\nMAIL FROM:<a@c.example>\r\nRCPT TO:<user@mx.example>\r\nDATA\r\nSubject: x\r\n\r\nbody\r\n.\r\nQUIT\r\n"

// One connection in the way of UCSPI, on pipes, and in the way of inetd, on a socket.
func TestOneConnection(t *testing.T) {
	t.Run("UCSPI", func(t *testing.T) {
		s := newSystem(t, "")
		c := s.command()
		c.Env = append(os.Environ(), "PROTO=TCP", "TCPREMOTEIP=192.0.2.9", "TCPREMOTEPORT=4711", "TCPLOCALIP=192.0.2.1", "TCPLOCALPORT=25")
		c.Stdin = strings.NewReader(aMessage)
		out, err := c.Output()
		if err != nil || !strings.Contains(string(out), "queued as") {
			t.Fatalf("%v\n%s\n%s", err, out, s.log.String())
		}
		s.wantTrace(t, "from c.example (unknown [192.0.2.9])")
	})
	t.Run("inetd", func(t *testing.T) {
		s := newSystem(t, "log stderr\n")
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		client, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		f, err := server.(*net.TCPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		server.Close()
		c := s.command()
		c.Stdin, c.Stdout, c.Stderr = f, f, f
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		f.Close()
		io.WriteString(client, aMessage)
		out, err := io.ReadAll(client)
		if err != nil || !strings.HasPrefix(string(out), "220 mx.example") || !strings.HasSuffix(string(out), "bye\r\n") || strings.Contains(string(out), "smtpd:") {
			t.Errorf("%v\n%s", err, out)
		}
		if err := c.Wait(); err != nil {
			t.Error(err)
		}
		s.wantTrace(t, "from c.example (unknown [127.0.0.1])")
	})
}

// A pair of sockets, as socat and stunnel give it to a program, tells nothing about who speaks: not the user who made it.
func TestSocketPairIsNobody(t *testing.T) {
	s := newSystem(t, "log stderr\n")
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	defer ours.Close()
	c := s.command()
	c.Stdin, c.Stdout = theirs, theirs
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	io.WriteString(ours, strings.Replace(aMessage, "user@mx.example", "victim@elsewhere.example", 1))
	out, err := io.ReadAll(ours)
	if err != nil || !strings.Contains(string(out), "550 5.7.1 ") {
		t.Errorf("%v\n%s", err, out)
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
	if ids, _ := s.ids(); len(ids) > 0 {
		t.Error("it was relayed")
	}
}

func (s *system) wantTrace(t *testing.T, want string) {
	t.Helper()
	ids, _ := s.ids()
	if len(ids) != 1 {
		t.Fatalf("%d messages", len(ids))
	}
	m, err := s.queue.Message(ids[0])
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	b, _ := io.ReadAll(m.Reader())
	if !bytes.Contains(b, []byte(want)) {
		t.Errorf("%q is not in %q", want, b)
	}
}

// queued is told of a message, by a datagram with its id, before the client gets its 250.
func TestWakesQueued(t *testing.T) {
	s := newSystem(t, "")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(s.dir, "run", "queued"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	w := queue.NewWakeups(conn)
	defer w.Close()
	s.start("mx")
	c, err := s.Dial("")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, aMessage)
	out, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	u, err := w.Receive()
	if err != nil || u.ID == "" || !strings.Contains(string(out), "queued as "+string(u.ID)) {
		t.Errorf("%+v %v\n%s", u, err, out)
	}
}

// HUP: new sessions see the new configuration, a bad one changes nothing. TERM: see internal/smtpd; here that it ends 0.
func TestSignals(t *testing.T) {
	s := newSystem(t, "")
	s.start("mx")
	size := func() string {
		c, err := s.Dial("")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, "EHLO c.example\r\nQUIT\r\n")
		b, _ := io.ReadAll(c)
		_, after, _ := strings.Cut(string(b), "250-SIZE ")
		n, _, _ := strings.Cut(after, "\r\n")
		return n
	}
	if got := size(); got != "100000" {
		t.Fatalf("SIZE %q", got)
	}
	hup := func(conf, want string) {
		t.Helper()
		s.write("postamt.conf", conf)
		if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(10 * time.Second); size() != want; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("SIZE %q, want %q", size(), want)
			}
		}
	}
	hup(override(world, "message_size_limit 5000\n"), "5000")
	hup("message_size_limit many\n", "5000")
	s.logged("many") // it looks as before
	hup(override(world, "message_size_limit 6000\n"), "6000")
	c, err := s.Dial("")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := bufio.NewReader(c)
	if l, err := r.ReadString('\n'); err != nil {
		t.Fatal(l, err)
	}
	s.stop()
	if b, _ := io.ReadAll(r); !strings.HasPrefix(string(b), "421 4.3.2 ") {
		t.Errorf("%q", b)
	}
	for _, want := range []string{": reload ", "many", ": stop "} {
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("%q is not in the log:\n%s", want, s.log.String())
		}
	}
}

// S26: too many connections at once from one client; F10 and the rate are daemon's tests.
func TestS26_ClientLimit(t *testing.T) {
	s := newSystem(t, "smtpd_client_limit 3\n")
	s.start("mx")
	var held []net.Conn
	greeting := func() string {
		c, err := s.Dial("")
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
		l, _ := bufio.NewReader(c).ReadString('\n')
		return l
	}
	for i := range 3 {
		if l := greeting(); !strings.HasPrefix(l, "220 ") {
			t.Fatalf("connection %d: %q", i, l)
		}
	}
	if l := greeting(); !strings.HasPrefix(l, "421 4.7.0 ") {
		t.Errorf("%q", l)
	}
	for _, c := range held {
		c.Close()
	}
	for end := time.Now().Add(10 * time.Second); !strings.HasPrefix(greeting(), "220 "); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("still refused")
		}
	}
}

// TestSystemCalls counts what one connection with one message costs.
func TestSystemCalls(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is missing")
	}
	// A listener of its own: one that is passed has keep-alive options set for each connection.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr()
	l.Close()
	s := newSystem(t, "smtpd_listen "+port.String()+"=mx\n")
	s.start("")
	s.addr = port
	send := func(lockstep bool) {
		c, err := s.Dial("")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if !lockstep {
			io.WriteString(c, aMessage)
			io.ReadAll(c)
			return
		}
		r := bufio.NewReader(c)
		reply := func() {
			for {
				l, err := r.ReadString('\n')
				if err != nil {
					t.Fatal(err)
				}
				if l[3] == ' ' {
					return
				}
			}
		}
		reply()
		for _, say := range []string{"EHLO c.example\r\n", "MAIL FROM:<a@c.example>\r\n", "RCPT TO:<user@mx.example>\r\n", "DATA\r\n", "Subject: x\r\n\r\nbody\r\n.\r\n", "QUIT\r\n"} {
			io.WriteString(c, say)
			reply()
		}
		r.ReadByte()
	}
	send(true) // what is made once is made now
	out := filepath.Join(s.dir, "strace")
	tr := exec.Command(strace, "-f", "-qq", "-e", "trace=!futex,sched_yield,nanosleep,epoll_pwait,tgkill,getpid,rt_sigreturn,madvise", "-o", out, "-p", strconv.Itoa(s.cmd.Process.Pid))
	if err := tr.Start(); err != nil {
		t.Skip("strace cannot run: ", err)
	}
	// It is attached when the first system call is seen.
	for end := time.Now().Add(10 * time.Second); ; {
		send(true)
		if st, err := os.Stat(out); err == nil && st.Size() > 0 {
			break
		}
		if time.Now().After(end) {
			tr.Process.Kill()
			tr.Wait()
			t.Skip("strace does not attach here")
		}
	}
	time.Sleep(200 * time.Millisecond) // the log's timer, and the rest of the session before
	before := countCalls(out)
	const n = 20
	for range n {
		send(true)
	}
	time.Sleep(200 * time.Millisecond)
	mid := countCalls(out)
	for range n {
		send(false)
	}
	time.Sleep(200 * time.Millisecond)
	after := countCalls(out)
	tr.Process.Signal(syscall.SIGTERM)
	tr.Wait()
	a, b := float64(mid-before)/n, float64(after-mid)/n
	t.Logf("%.1f system calls a connection with one message in lockstep, %.1f pipelined", a, b)
	if a > 45 || b > 30 { // 38 and 21 on an idle machine; a busy one wakes more threads for nothing
		text, _ := os.ReadFile(out)
		l := strings.Split(string(text), "\n")
		t.Errorf("too many:\n%s", strings.Join(l[max(0, len(l)-60):], "\n"))
	}
}

// countCalls counts the system calls in a trace. One that another thread interrupts stands there twice.
func countCalls(name string) int {
	b, _ := os.ReadFile(name)
	return bytes.Count(b, []byte("\n")) - bytes.Count(b, []byte(" resumed>"))
}

// A start is fast enough for one process a connection.
func BenchmarkOneConnection(b *testing.B) {
	s := newSystem(b, "")
	for b.Loop() {
		c := s.command()
		c.Env = append(os.Environ(), "PROTO=TCP", "TCPREMOTEIP=192.0.2.9")
		c.Stdin = strings.NewReader("QUIT\r\n")
		if out, err := c.Output(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
	}
}
