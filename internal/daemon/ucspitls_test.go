package daemon

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestToldTLS(t *testing.T) {
	for _, c := range []struct {
		proto, env, want string
	}{
		{"TCP", "", ""},
		{"TCP", "SSL_CIPHER=x", ""},
		{"TCP", "SSL_PROTOCOL=TLSv1.2 SSL_CIPHER=ECDHE-RSA_X", "TLSv1.2 ECDHE-RSA_X"}, // s6-tlsserver
		{"SSL", "", "TLS"},
		{"SSL", "SSL_PROTOCOL=TLSv1.3", "TLSv1.3"}, // sslserver
		{"SSL6", "SSL_PROTOCOL=TLSv1.3 SSL_CIPHER=a\r\nX:y", "TLSv1.3"},
		{"SSL", "SSL_PROTOCOL=a;b SSL_CIPHER=" + strings.Repeat("x", 65), "TLS"},
		{"SSL", "SSL_PROTOCOL=TLSv1.3 SSLCTLFD=3", ""}, // not yet
	} {
		if got := toldTLS(c.proto, environ(c.env)); got != c.want {
			t.Errorf("%s %q: %q", c.proto, c.env, got)
		}
	}
}

func environ(s string) func(string) string {
	return func(name string) string {
		for v := range strings.SplitSeq(s, " ") {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value
			}
		}
		return ""
	}
}

// tlsServer is the other side of UCSPI-TLS, without the TLS: the ends that a server keeps, and the variables.
type tlsServer struct {
	control  net.Conn
	from, to *os.File // what the program says, and hears, under TLS
	env      string
	files    [3]*os.File
}

func newTLSServer(t *testing.T) *tlsServer {
	t.Helper()
	s := &tlsServer{}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[0]), "")
	if s.control, err = net.FileConn(f); err != nil {
		t.Fatal(err)
	}
	f.Close()
	s.files[0] = os.NewFile(uintptr(fds[1]), "")
	if s.files[1], s.to, err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	if s.from, s.files[2], err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.control.Close(); s.from.Close(); s.to.Close() })
	return s
}

// UCSPI-TLS: a connection changes over to the other descriptors when the server has made the handshake, and only then.
func TestUCSPITLS(t *testing.T) {
	ours, theirs := tcpPair(t)
	s := newTLSServer(t)
	p := run(t, []string{"PROTO=TCP", "TCPREMOTEIP=192.0.2.7", "TCPREMOTEPORT=4711", "SSLCTLFD=3", "SSLREADFD=4", "SSLWRITEFD=5"}, func(c *exec.Cmd) {
		c.Stdin, c.Stdout = theirs, theirs
		c.ExtraFiles = s.files[:]
	})
	theirs.Close()
	for _, f := range s.files {
		f.Close()
	}
	d := newPeer(t, ours)
	d.expect("220", "how=UCSPI", "remote=192.0.2.7:4711")
	d.say("hello")
	d.expect("250 hello")
	d.say("starttls")
	b := make([]byte, 10)
	if n, err := s.control.Read(b); string(b[:n]) != "Y" {
		t.Fatalf("%q %v", b[:n], err)
	}
	fmt.Fprint(s.control, "SSL_PROTOCOL=TLSv1.3\x00SSL_CIPHER=TLS_")
	fmt.Fprint(s.control, "X\x00A=\x00\x00")
	d.ends() // it has let the network go
	r := bufio.NewReader(s.from)
	line, err := r.ReadString('\n')
	if line != "250 TLSv1.3 TLS_X\r\n" {
		t.Errorf("%q %v", line, err)
	}
	fmt.Fprint(s.to, "wait\r\n") // deadlines work there too
	if line, err = r.ReadString('\n'); line != "250 true\r\n" {
		t.Errorf("%q %v", line, err)
	}
	s.to.Close()
	if rest, err := io.ReadAll(r); len(rest) > 0 || err != nil {
		t.Errorf("%q %v", rest, err)
	}
	if code := p.exit(); code != 0 {
		t.Errorf("exit %d", code)
	}
}

// A handshake that fails ends the server's side: an error, and no connection in clear instead.
func TestUCSPITLSFails(t *testing.T) {
	for _, reply := range []string{"", "SSL_PROTOCOL=TLSv1.3\x00"} {
		s := newTLSServer(t)
		a, b := net.Pipe()
		defer b.Close()
		var env []string
		for i, name := range []string{"SSLCTLFD", "SSLREADFD", "SSLWRITEFD"} {
			fd, err := unix.Dup(int(s.files[i].Fd()))
			if err != nil {
				t.Fatal(err)
			}
			s.files[i].Close()
			env = append(env, name+"="+strconv.Itoa(fd))
		}
		c := withStartTLS(a, environ(strings.Join(env, " ")))
		if c == nil {
			t.Fatal(env)
		}
		fmt.Fprint(s.control, reply)
		s.control.(*net.UnixConn).CloseWrite()
		if names, err := c.start(); err == nil {
			t.Errorf("%q: %q", reply, names)
		}
		c.tls.Close()
	}
	a, _ := net.Pipe()
	for _, env := range []string{"", "SSLCTLFD=1000 SSLREADFD=1001 SSLWRITEFD=1002", "SSLCTLFD=0 SSLREADFD=1 SSLWRITEFD=2", "SSLCTLFD=x"} {
		if withStartTLS(a, environ(env)) != nil {
			t.Errorf("%q is taken for UCSPI-TLS", env)
		}
	}
}

// A single connection is of the kind that its port has in the configuration.
func TestKindOfConnection(t *testing.T) {
	for _, how := range []string{"inetd", "UCSPI", "LISTEN_FDS"} {
		ours, theirs := tcpPair(t)
		env := []string{"CHILD_OWN=tcp4,0.0.0.0:" + strconv.Itoa(ours.RemoteAddr().(*net.TCPAddr).Port) + ",submission"}
		switch how {
		case "UCSPI":
			env = append(env, "PROTO=TCP", "TCPREMOTEIP=192.0.2.7")
		case "LISTEN_FDS":
			env = append(env, "LISTEN_PID=self", "LISTEN_FDS=1", "LISTEN_FDNAMES=connection")
		}
		p := run(t, env, func(c *exec.Cmd) {
			if how == "LISTEN_FDS" {
				c.ExtraFiles = []*os.File{theirs}
			} else {
				c.Stdin, c.Stdout = theirs, theirs
			}
		})
		theirs.Close()
		d := newPeer(t, ours)
		d.expect("kind=submission how=" + how)
		d.say("quit")
		d.ends()
		if code := p.exit(); code != 0 {
			t.Errorf("exit %d", code)
		}
	}
}
