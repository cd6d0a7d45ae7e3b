package daemon

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestListenFDs(t *testing.T) {
	l1, f1 := listenTCP(t)
	l2, f2 := listenTCP(t)
	l3, f3 := listenTCP(t)
	path := filepath.Join(t.TempDir(), "s")
	lu, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer lu.Close()
	fu, err := lu.File()
	if err != nil {
		t.Fatal(err)
	}
	defer fu.Close()
	own := fmt.Sprintf("CHILD_OWN=tcp4,0.0.0.0:%d,submission tcp4,127.0.0.1:1,mx", l3.Addr().(*net.TCPAddr).Port)
	p := run(t, []string{"LISTEN_PID=self", "LISTEN_FDS=4", "LISTEN_FDNAMES=submission:smtpd-mx.socket:smtpd.socket:local", own}, func(c *exec.Cmd) {
		c.ExtraFiles = []*os.File{f1, f2, f3, fu}
	})
	for _, c := range []struct {
		network, address, kind string
	}{
		{"tcp", l1.Addr().String(), "submission"}, // by name
		{"tcp", l2.Addr().String(), "mx"},         // by the name of its unit
		{"tcp", l3.Addr().String(), "submission"}, // by its port
		{"unix", path, "local"},
	} {
		d := dial(t, c.network, c.address)
		d.expect("kind="+c.kind+" ", "how=LISTEN_FDS", `left=""`, "full=true")
		d.say("quit")
		d.ends()
	}
	p.Process.Signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit %d", code)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("an inherited socket was removed: %v", err)
	}
}

// The variables of another process are not for us; they are gone all the same.
func TestListenPIDOfAnother(t *testing.T) {
	_, f := listenTCP(t)
	path := filepath.Join(t.TempDir(), "s")
	p := run(t, []string{"LISTEN_PID=1", "LISTEN_FDS=1", "CHILD_OWN=unix," + path + ",local"}, func(c *exec.Cmd) { c.ExtraFiles = []*os.File{f} })
	p.saw("start")
	dial(t, "unix", path).expect("how=own", "kind=local", `left=""`, fmt.Sprintf("uid=%d", os.Getuid()))
}

// systemd.socket(5), Accept=yes: one connection at fd 3.
func TestListenFDsOneConnection(t *testing.T) {
	ours, theirs := tcpPair(t)
	p := run(t, []string{"LISTEN_PID=self", "LISTEN_FDS=1", "LISTEN_FDNAMES=connection"}, func(c *exec.Cmd) { c.ExtraFiles = []*os.File{theirs} })
	theirs.Close()
	d := newPeer(t, ours)
	d.expect("how=LISTEN_FDS", "kind=mx", "remote="+ours.LocalAddr().String())
	d.say("quit")
	d.ends()
	if code := p.exit(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

func TestListenFDsBad(t *testing.T) {
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := run(t, []string{"LISTEN_PID=self", "LISTEN_FDS=1"}, func(c *exec.Cmd) { c.ExtraFiles = []*os.File{f} })
	p.saw("LISTEN_FDS: fd 3")
	if code := p.exit(); code != 75 {
		t.Errorf("exit %d", code)
	}
}

// inetd nowait: fd 0, 1 and 2 are the connection; nothing but the session reaches it.
func TestInetd(t *testing.T) {
	ours, theirs := tcpPair(t)
	p := run(t, nil, func(c *exec.Cmd) { c.Stdin, c.Stdout, c.Stderr = theirs, theirs, theirs })
	theirs.Close()
	d := newPeer(t, ours)
	d.expect("220 kind=mx how=inetd", "remote="+ours.LocalAddr().String())
	d.say("hello")
	d.expect("250 hello")
	d.say("wait")
	d.expect("250 true")
	d.say("quit")
	d.ends()
	if code := p.exit(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// A panic in inetd's process does not show its insides to the client.
func TestInetdPanic(t *testing.T) {
	ours, theirs := tcpPair(t)
	p := run(t, nil, func(c *exec.Cmd) { c.Stdin, c.Stdout, c.Stderr = theirs, theirs, theirs })
	theirs.Close()
	d := newPeer(t, ours)
	d.expect("220")
	d.say("panic")
	d.ends()
	p.exit()
}

func TestUCSPI(t *testing.T) {
	tcp := []string{"TCPREMOTEIP=192.0.2.7", "TCPREMOTEPORT=4711", "TCPLOCALIP=192.0.2.1", "TCPLOCALPORT=25"}
	for _, c := range []struct {
		name string
		env  []string
		want string
	}{
		{"tcp", append([]string{"PROTO=TCP"}, tcp...), "remote=192.0.2.7:4711 local=192.0.2.1:25 uid=none"},
		{"tcp6", []string{"PROTO=TCP6", "TCP6REMOTEIP=2001:db8::7", "TCP6REMOTEPORT=4711", "TCP6LOCALIP=2001:db8::1", "TCP6LOCALPORT=25"},
			"remote=[2001:db8::7]:4711 local=[2001:db8::1]:25"},
		{"s6 with an IPv6 client", []string{"PROTO=TCP", "TCPREMOTEIP=2001:db8::7"}, "remote=[2001:db8::7]:0"},
		{"sslserver", append([]string{"PROTO=SSL", "SSLREMOTEIP=192.0.2.7", "SSLREMOTEPORT=1"}, tcp...), "remote=192.0.2.7:1 "},
		{"unix", []string{"PROTO=UNIX", "UNIXLOCALPATH=/run/x", "UNIXREMOTEEUID=1234", "UNIXREMOTEEGID=5"}, "remote=/run/x local=/run/x uid=1234"},
		{"s6-ipcserver", []string{"PROTO=IPC", "IPCREMOTEEUID=77", "IPCREMOTEEGID=5"}, "uid=77"},
	} {
		t.Run(c.name, func(t *testing.T) {
			// One socket for both directions, as tcpserver has it.
			ours, theirs := tcpPair(t)
			p := run(t, c.env, func(c *exec.Cmd) { c.Stdin, c.Stdout = theirs, theirs })
			theirs.Close()
			d := newPeer(t, ours)
			d.expect("220 kind=mx how=UCSPI", c.want)
			d.say("hello")
			d.expect("250 hello")
			d.say("quit")
			d.ends()
			p.saw("nor this, with inetd") // stderr is a log here
			if code := p.exit(); code != 0 {
				t.Errorf("exit %d", code)
			}
		})
	}
	t.Run("pipes", func(t *testing.T) {
		var in, out [2]*os.File
		for _, f := range []*[2]*os.File{&in, &out} {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			f[0], f[1] = r, w
		}
		p := run(t, append([]string{"PROTO=TCP"}, tcp...), func(c *exec.Cmd) { c.Stdin, c.Stdout = in[0], out[1] })
		in[0].Close()
		out[1].Close()
		r := bufio.NewReader(out[0])
		fmt.Fprint(in[1], "hello\nwait\n")
		time.AfterFunc(time.Minute, func() { out[0].Close() })
		var all string
		for range 4 { // with pipes, what a program prints is what the client gets; ours print nothing
			s, err := r.ReadString('\n')
			if err != nil {
				t.Fatalf("%q %v", all, err)
			}
			all += s
		}
		if !strings.Contains(all, "remote=192.0.2.7:4711") || !strings.Contains(all, "250 hello") || !strings.Contains(all, "250 true") {
			t.Errorf("%q", all)
		}
		in[1].Close() // end of file ends the session
		if code := p.exit(); code != 0 {
			t.Errorf("exit %d", code)
		}
	})
	for _, env := range []map[string]string{
		{}, {"PROTO": "TCP"}, {"PROTO": "TCP", "TCPREMOTEIP": "nonsense"}, {"TCPREMOTEIP": "192.0.2.1"}, {"PROTO": "UNIX"},
	} {
		if u, ok := ucspi(func(k string) string { return env[k] }); ok {
			t.Errorf("%v is taken for UCSPI: %+v", env, u)
		}
	}
}

// TERM: no new connections, sessions are told, exit 0 when they have ended.
func TestDrain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	p := run(t, []string{"CHILD_OWN=tcp4,127.0.0.1:0,mx unix," + path + ",local"}, nil)
	start := p.saw("start")
	_, addr, _ := strings.Cut(start, `on="`)
	addr, _, _ = strings.Cut(addr, `\x3d`)
	a, b := dial(t, "tcp", addr), dial(t, "unix", path)
	a.expect("220")
	b.expect("220")
	p.Process.Signal(syscall.SIGTERM)
	a.expect("421 bye")
	b.expect("421 bye")
	a.ends()
	p.saw("stop why=signal left=0")
	if code := p.exit(); code != 0 {
		t.Errorf("exit %d", code)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("our own socket is still there")
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("somebody still listens")
	}
}

// A session that does not listen is left behind after the grace period.
func TestDrainGrace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	p := run(t, []string{"CHILD_GRACE=50ms", "CHILD_OWN=unix," + path + ",local"}, nil)
	p.saw("start")
	d := dial(t, "unix", path)
	d.expect("220")
	d.say("x\r\nhang")
	d.expect("250 x")
	p.Process.Signal(syscall.SIGINT)
	p.saw("stop why=signal left=1")
	if code := p.exit(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// A second TERM does not wait for anybody.
func TestSecondTerm(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	notify := listenNotify(t, dir)
	p := run(t, []string{"CHILD_OWN=unix," + path + ",local", "NOTIFY_SOCKET=" + notify.path}, nil)
	p.saw("start")
	d := dial(t, "unix", path)
	d.expect("220")
	d.say("x\r\nhang")
	d.expect("250 x")
	p.Process.Signal(syscall.SIGTERM)
	notify.expect("READY=1")
	notify.expect("STOPPING=1") // the first one has arrived
	p.Process.Signal(syscall.SIGTERM)
	p.exit()
	if s := p.ProcessState.Sys().(syscall.WaitStatus); !s.Signaled() || s.Signal() != syscall.SIGTERM {
		t.Errorf("%v", p.ProcessState)
	}
}

type notifySocket struct {
	*net.UnixConn
	path string
	t    *testing.T
}

func listenNotify(t *testing.T, dir string) notifySocket {
	path := filepath.Join(dir, "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetReadDeadline(time.Now().Add(60 * time.Second))
	return notifySocket{c, path, t}
}

func (n notifySocket) expect(want string) {
	n.t.Helper()
	b := make([]byte, 1000)
	k, err := n.Read(b)
	if err != nil || !strings.HasPrefix(string(b[:k]), want) {
		n.t.Errorf("notified %q %v, want %q", b[:k], err, want)
	}
}

// HUP, USR1, ALRM, and what the supervisors are told.
func TestSignalsAndReadiness(t *testing.T) {
	dir := t.TempDir()
	notify := listenNotify(t, dir)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	p := run(t, []string{"CHILD_OWN=unix," + path + ",local", "CHILD_NOTIFY=3", "NOTIFY_SOCKET=" + notify.path}, func(c *exec.Cmd) {
		c.ExtraFiles = []*os.File{w}
	})
	w.Close()
	notify.expect("READY=1")
	b := make([]byte, 10)
	if n, err := r.Read(b); n != 1 || b[0] != '\n' {
		t.Errorf("on the notification-fd: %q %v", b[:n], err)
	}
	if n, err := r.Read(b); n != 0 {
		t.Errorf("the notification-fd is still open: %q %v", b[:n], err)
	}
	// Ready means ready.
	d := dial(t, "unix", path)
	d.expect("220", `left=""`)
	for range 2 {
		p.Process.Signal(syscall.SIGHUP)
		notify.expect("RELOADING=1\nMONOTONIC_USEC=")
		notify.expect("READY=1")
		p.saw("reload what=configuration")
	}
	p.Process.Signal(syscall.SIGUSR1)
	p.saw("-: state")
	p.Process.Signal(syscall.SIGALRM)
	p.saw("-: flush")
	d.say("still here")
	d.expect("250 still here")
	p.Process.Signal(syscall.SIGTERM)
	notify.expect("STOPPING=1")
	if code := p.exit(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// The watchdog is told as long as each listener accepts, idle or busy, and not when one does not any more, whatever the others do.
func TestWatchdog(t *testing.T) {
	dir := t.TempDir()
	notify := listenNotify(t, dir)
	path := filepath.Join(dir, "s")
	p := run(t, []string{"CHILD_OWN=tcp4,127.0.0.1:0,mx unix," + path + ",local", "CHILD_STUCK=1", "NOTIFY_SOCKET=" + notify.path, "WATCHDOG_USEC=200000"}, nil)
	_, addr, _ := strings.Cut(p.saw("start"), `on="`)
	addr, _, _ = strings.Cut(addr, `\x3d`)
	for got := ""; got != "READY=1"; { // a listener may go round before the program is ready
		b := make([]byte, 100)
		n, err := notify.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		got = string(b[:n])
	}
	for range 5 {
		notify.expect("WATCHDOG=1")
	}
	for range 3 {
		d := dial(t, "tcp", addr)
		d.expect("220", `left=""`)
		notify.expect("WATCHDOG=1")
	}
	d := dial(t, "tcp", addr)
	d.expect("421 mx client") // and its listener hangs now
	notify.SetReadDeadline(time.Now().Add(time.Second))
	b := make([]byte, 100)
	n := 0
	for ; n < 1000; n++ {
		if _, err := notify.Read(b); err != nil {
			break
		}
	}
	if n > 3 { // under way before
		t.Errorf("%d pings of a program that hangs", n)
	}
	dial(t, "unix", path).expect("220")
}

// WATCHDOG_PID of another process is not for us.
func TestWatchdogOfAnother(t *testing.T) {
	for _, c := range []struct {
		usec, pid string
		every     time.Duration
	}{{"4000000", "", time.Second}, {"4000000", "7", time.Second}, {"4000000", "8", 0}, {"0", "", 0}, {"-1", "", 0}, {"", "7", 0}, {"x", "", 0}} {
		p := &Process{watchdog: newWatchdog(c.usec, c.pid, 7, func() {})}
		b := p.Beat()
		if b.Every() != c.every {
			t.Errorf("%q of %q: %v", c.usec, c.pid, b.Every())
		}
		b.Round()
	}
}

// F17: nobody reads stderr any more. SIGPIPE does not kill us, and mail goes on.
func TestF17_BrokenStderr(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := run(t, []string{"CHILD_OWN=unix," + path + ",local"}, func(c *exec.Cmd) { c.Stderr = w })
	w.Close()
	scan := bufio.NewScanner(r)
	if !scan.Scan() {
		t.Fatal("no start")
	}
	r.Close()
	d := dial(t, "unix", path)
	d.expect("220")
	p.Process.Signal(syscall.SIGUSR1) // writes to the broken pipe
	p.Process.Signal(syscall.SIGHUP)
	d.say("hello")
	d.expect("250 hello")
	p.Process.Signal(syscall.SIGTERM)
	d.expect("421")
	if code := p.exit(); code != 0 {
		t.Errorf("exit %d: %v", code, p.ProcessState)
	}
}

// F10: out of descriptors: accepting waits, does not spin, what is there goes on, and it recovers.
func TestF10_OutOfDescriptors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	p := run(t, []string{"CHILD_FEW_FILES=1", "CHILD_OWN=unix," + path + ",local"}, nil)
	p.saw("start")
	var served, waiting []*peer
	for range 60 {
		d := dial(t, "unix", path)
		if len(waiting) == 0 {
			d.SetReadDeadline(time.Now().Add(2 * time.Second))
			if s, err := d.r.ReadString('\n'); err == nil && strings.HasPrefix(s, "220") {
				served = append(served, d)
				continue
			}
			d.SetReadDeadline(time.Now().Add(60 * time.Second))
		}
		waiting = append(waiting, d)
	}
	if len(served) < 5 || len(waiting) < 30 {
		t.Fatalf("%d served, %d wait", len(served), len(waiting))
	}
	p.saw("op=accept error=\"too many open files")
	served[0].SetDeadline(time.Now().Add(60 * time.Second))
	served[0].say("still here")
	served[0].expect("250 still here")
	for _, d := range served {
		d.Close()
	}
	for _, d := range waiting[:5] {
		d.expect("220")
	}
	for _, d := range waiting {
		d.Close()
	}
	last := dial(t, "unix", path)
	last.expect("220")
	p.Process.Signal(syscall.SIGTERM)
	last.expect("421")
	if code := p.exit(); code != 0 {
		t.Errorf("exit %d", code)
	}
	// A spinning accept loop would have burnt the two seconds that one connection waited above.
	if cpu := p.ProcessState.UserTime() + p.ProcessState.SystemTime(); cpu > time.Second {
		t.Errorf("%v of CPU", cpu)
	}
}

func TestLimitsOfServer(t *testing.T) {
	p := run(t, []string{"CHILD_OWN=tcp4,127.0.0.1:0,mx"}, nil)
	_, addr, _ := strings.Cut(p.saw("start"), ` on=`)
	addr, _, _ = strings.Cut(addr, "=mx")
	var in []*peer
	for range 3 {
		d := dial(t, "tcp", addr)
		d.expect("220")
		in = append(in, d)
	}
	d := dial(t, "tcp", addr)
	d.expect("421 mx client")
	d.ends()
	in[0].say("panic") // one session less, not all
	in[0].ends()
	p.saw("panic: on request")
	in[1].say("hello")
	in[1].expect("250 hello")
	dial(t, "tcp", addr).expect("220")
}
