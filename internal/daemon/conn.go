package daemon

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// ucspiPeer is what a UCSPI server says about the connection (http://cr.yp.to/proto/ucspi.txt).
type ucspiPeer struct {
	proto  string
	remote netip.AddrPort // not valid for sockets of the file system
	local  netip.AddrPort
	path   string
	cred   Cred
	known  bool // cred was told
	tls    string
}

// ucspi reads the variables. PROTO alone is not enough: people have variables of that name.
func ucspi(getenv func(string) string) (ucspiPeer, bool) {
	u := ucspiPeer{proto: getenv("PROTO")}
	if u.proto == "" {
		return u, false
	}
	u.tls = toldTLS(u.proto, getenv)
	// ucspi-tcp6 says PROTO=TCP6 and sets TCP6REMOTEIP and TCPREMOTEIP; sslserver says SSL and sets both too.
	get := func(name string) string {
		if s := getenv(u.proto + name); s != "" {
			return s
		}
		return getenv("TCP" + name)
	}
	if ip := get("REMOTEIP"); ip != "" {
		u.remote = addrPort(ip, get("REMOTEPORT"))
		u.local = addrPort(get("LOCALIP"), get("LOCALPORT"))
		return u, u.remote.IsValid()
	}
	u.path = getenv(u.proto + "LOCALPATH")
	uid, err1 := strconv.Atoi(getenv(u.proto + "REMOTEEUID"))
	gid, err2 := strconv.Atoi(getenv(u.proto + "REMOTEEGID"))
	pid, _ := strconv.Atoi(getenv(u.proto + "REMOTEPID"))
	if err1 == nil && err2 == nil {
		u.cred, u.known = Cred{UID: uid, GID: gid, PID: pid}, true
	}
	return u, u.known || u.path != ""
}

// addrPort is the zero value unless ip is an address; a port that is none is 0.
func addrPort(ip, port string) netip.AddrPort {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return netip.AddrPort{}
	}
	n, _ := strconv.ParseUint(port, 10, 16)
	return netip.AddrPortFrom(a.Unmap(), uint16(n))
}

// conn is the connection on fd 0 and 1.
func (u ucspiPeer) conn() (net.Conn, error) {
	var c net.Conn
	if kindOfStdin() == stdinConnected && sameFile(0, 1) {
		s, err := fileConn(0)
		if err != nil {
			return nil, errors.New("connection on fd 0: " + err.Error())
		}
		toNull(1)
		toNull(0)
		c = s
	} else {
		c = newPair()
	}
	switch {
	case u.remote.IsValid():
		t := &told{Conn: c, remote: net.TCPAddrFromAddrPort(u.remote), local: localAddr(c, u.local), tls: u.tls}
		if t.starttls = withStartTLS(c, os.Getenv); t.starttls != nil {
			t.Conn = t.starttls
		}
		return t, nil
	case u.known:
		a := &net.UnixAddr{Name: u.path, Net: "unix"}
		return &told{Conn: c, remote: a, local: a, cred: &u.cred}, nil
	}
	return c, nil
}

func localAddr(c net.Conn, a netip.AddrPort) net.Addr {
	if a.IsValid() {
		return net.TCPAddrFromAddrPort(a)
	}
	return c.LocalAddr()
}

// withRemote is c with another remote address.
func withRemote(c net.Conn, remote netip.AddrPort) net.Conn {
	if t, ok := c.RemoteAddr().(*net.TCPAddr); ok && netip.AddrPortFrom(t.AddrPort().Addr().Unmap(), t.AddrPort().Port()) == remote {
		return c
	}
	return &told{Conn: c, remote: net.TCPAddrFromAddrPort(remote), local: c.LocalAddr()}
}

// told is a connection about which somebody else told us.
type told struct {
	net.Conn
	remote, local net.Addr
	cred          *Cred
	tls           string
	starttls      *starttls
}

func (t *told) RemoteAddr() net.Addr { return t.remote }
func (t *told) LocalAddr() net.Addr  { return t.local }

// File is for who passes the connection on to another process, which learns of it what the kernel knows and not what we were told.
func (t *told) File() (*os.File, error) {
	if c, ok := t.Conn.(interface{ File() (*os.File, error) }); ok && t.tls == "" {
		return c.File()
	}
	return nil, errors.New("the server's own TLS, or pipes, cannot be passed on")
}

// pair is a connection over two descriptors, which may be pipes.
type pair struct {
	in, out *os.File
}

// Standard is the connection that a program has with who executed it, standard input and output.
func Standard() net.Conn { return newPair() }

// newPair takes over fd 0 and 1. Pipes and sockets become non-blocking, without which they have no deadlines; a
// terminal is left as it is, because that would outlive us in the shell.
func newPair() *pair {
	for fd := range 2 {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil {
			switch st.Mode & unix.S_IFMT {
			case unix.S_IFIFO, unix.S_IFSOCK:
				unix.SetNonblock(fd, true)
			}
		}
	}
	return &pair{os.NewFile(0, "stdin"), os.NewFile(1, "stdout")}
}

func (p *pair) Read(b []byte) (int, error) {
	n, err := p.in.Read(b)
	if err != nil && err != io.EOF {
		return n, &net.OpError{Op: "read", Net: "stdio", Err: err}
	}
	return n, err
}

func (p *pair) Write(b []byte) (int, error) {
	n, err := p.out.Write(b)
	if err != nil {
		return n, &net.OpError{Op: "write", Net: "stdio", Err: err}
	}
	return n, nil
}

func (p *pair) Close() error {
	return errors.Join(p.in.Close(), p.out.Close())
}

func (p *pair) SetDeadline(t time.Time) error {
	return errors.Join(p.SetReadDeadline(t), p.SetWriteDeadline(t))
}
func (p *pair) SetReadDeadline(t time.Time) error  { return noDeadline(p.in.SetReadDeadline(t)) }
func (p *pair) SetWriteDeadline(t time.Time) error { return noDeadline(p.out.SetWriteDeadline(t)) }

// noDeadline forgives files that have none: a person at a terminal, a regular file in a test.
func noDeadline(err error) error {
	if errors.Is(err, os.ErrNoDeadline) {
		return nil
	}
	return err
}

func (p *pair) LocalAddr() net.Addr  { return stdio{} }
func (p *pair) RemoteAddr() net.Addr { return stdio{} }

type stdio struct{}

func (stdio) Network() string { return "stdio" }
func (stdio) String() string  { return "stdio" }

// Cred says who is at the other end of a local socket.
type Cred struct {
	UID, GID int
	PID      int // 0 when not known
}

// PeerCred asks the kernel, or remembers what the UCSPI server said. The error says that the connection has none.
func PeerCred(c net.Conn) (Cred, error) {
	if t, ok := c.(*told); ok {
		if t.cred != nil {
			return *t.cred, nil
		}
		return Cred{}, errors.New("daemon: peer credentials: not a local socket")
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return Cred{}, errors.New("daemon: peer credentials: not a local socket")
	}
	// Who came to a socket with a name, or has one, is who speaks. The other end of a pair is whoever made it: socat, or stunnel, which pass
	// on what strangers say.
	if !named(u.LocalAddr()) && !named(u.RemoteAddr()) {
		return Cred{}, errors.New("daemon: peer credentials: the socket has no name")
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return Cred{}, err
	}
	var cred Cred
	var cerr error
	if err := raw.Control(func(fd uintptr) { cred, cerr = peerCred(int(fd)) }); err != nil {
		return Cred{}, err
	}
	if cerr != nil {
		return Cred{}, errors.New("daemon: peer credentials: " + cerr.Error())
	}
	return cred, nil
}

// named: the socket was bound to a path, or to a name of the abstract kind.
func named(a net.Addr) bool { return a != nil && a.String() != "" && a.String() != "@" }

// RemoteIP is the address of the peer, not valid if it has none (a local socket).
func RemoteIP(c net.Conn) netip.Addr {
	if t, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
