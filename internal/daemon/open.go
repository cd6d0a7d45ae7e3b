package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"postamt/internal/config"
)

// Want is what a program wants to serve.
type Want struct {
	Own        []config.Listener // when nothing is inherited
	Kinds      []string          // kinds that LISTEN_FDNAMES may name
	Kind       string            // of a single connection, and of an inherited listener of which nothing tells
	SocketMode fs.FileMode       // of unix sockets; 0 is 0600
	OwnOnly    bool              // take nothing over: stdin is not for this program
}

// Listener is a listener that knows what it is for.
type Listener struct {
	net.Listener
	Kind string
	beat *Beat
}

// Sockets is what there is to serve: either listeners, or one connection.
type Sockets struct {
	How       string // "LISTEN_FDS", "UCSPI", "inetd", "own"
	Listeners []Listener
	Conn      net.Conn // one connection; nil when there are listeners
	Kind      string   // of Conn
	Skipped   []error  // wildcard listeners of a family that this machine has not
}

// Addrs lists the listeners for people: "0.0.0.0:25=mx /run/postamt/smtpd.sock=local".
func (s *Sockets) Addrs() string {
	var b strings.Builder
	for i, l := range s.Listeners {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(l.Addr().String() + "=" + l.Kind)
	}
	if s.Conn != nil {
		b.WriteString(s.How)
	}
	return b.String()
}

// Close closes everything.
func (s *Sockets) Close() {
	for _, l := range s.Listeners {
		l.Close()
	}
	if s.Conn != nil {
		s.Conn.Close()
	}
}

// Open finds or makes the sockets. It is called once. On error nothing stays open.
func (p *Process) Open(w Want) (*Sockets, error) {
	s, err := p.open(w)
	if err != nil {
		if s != nil {
			s.Close()
		}
		return nil, fmt.Errorf("daemon: %w", err)
	}
	for i := range s.Listeners {
		s.Listeners[i].beat = p.Beat()
	}
	return s, nil
}

func (p *Process) open(w Want) (*Sockets, error) {
	if !w.OwnOnly {
		if p.env.fds > 0 {
			return p.inherit(w)
		}
		if u, ok := ucspi(os.Getenv); ok {
			c, err := u.conn()
			return single("UCSPI", w, c, "", err)
		}
		switch p.stdin {
		case stdinConnected:
			c, err := p.inetd()
			return single("inetd", w, c, "", err)
		case stdinListening:
			l, err := fileListener(0, w, "")
			if err != nil {
				return nil, err
			}
			toNull(0)
			return &Sockets{How: "inetd", Listeners: []Listener{l}}, nil
		}
	}
	return listenAll(w)
}

// single is one connection to serve.
func single(how string, w Want, c net.Conn, name string, err error) (*Sockets, error) {
	if err != nil {
		return nil, err
	}
	return &Sockets{How: how, Conn: c, Kind: kindOf(w, name, c.LocalAddr().String())}, nil
}

// inherit takes over the descriptors of LISTEN_FDS.
func (p *Process) inherit(w Want) (*Sockets, error) {
	s := &Sockets{How: "LISTEN_FDS"}
	for i := range p.env.fds {
		fd, name := listenFD+i, ""
		if i < len(p.env.names) {
			name = p.env.names[i]
		}
		typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
		if err != nil {
			return s, fmt.Errorf("LISTEN_FDS: fd %d: %w", fd, err)
		}
		if typ != unix.SOCK_STREAM {
			return s, fmt.Errorf("LISTEN_FDS: fd %d (%s) is not a stream socket", fd, name)
		}
		if on, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); on == 0 {
			// systemd.socket(5), Accept=yes: one connection.
			if p.env.fds > 1 {
				return s, fmt.Errorf("LISTEN_FDS: fd %d (%s) is a connection, and not the only descriptor", fd, name)
			}
			c, err := fileConn(fd)
			if err != nil {
				err = fmt.Errorf("LISTEN_FDS: fd %d: %w", fd, err)
			}
			return single(s.How, w, c, name, err)
		}
		l, err := fileListener(fd, w, name)
		if err != nil {
			return s, fmt.Errorf("LISTEN_FDS: fd %d: %w", fd, err)
		}
		unix.Close(fd)
		s.Listeners = append(s.Listeners, l)
	}
	return s, nil
}

// fileListener makes a listener of a copy of fd.
func fileListener(fd int, w Want, name string) (Listener, error) {
	// os.NewFile would close fd when its File is collected: a copy is handed to it.
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, listenFD)
	if err != nil {
		return Listener{}, err
	}
	f := os.NewFile(uintptr(n), "listener")
	l, err := net.FileListener(f)
	f.Close()
	if err != nil {
		return Listener{}, err
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // whoever bound it owns the name
	}
	return Listener{Listener: l, Kind: kindOf(w, name, l.Addr().String())}, nil
}

// fileConn makes a connection of fd and closes fd.
func fileConn(fd int) (net.Conn, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, listenFD)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(n), "connection")
	c, err := net.FileConn(f)
	f.Close()
	if err == nil && fd >= listenFD {
		unix.Close(fd)
	}
	return c, err
}

// kindOf says what an inherited socket is for: its name if that is a kind ("mx"; systemd's default name is that of
// the unit, so "smtpd-mx.socket" is too), else the kind of the configured listener with the same port or path.
func kindOf(w Want, name, address string) string {
	name = strings.TrimSuffix(name, ".socket")
	if slices.Contains(w.Kinds, name) {
		return name
	}
	if i := strings.LastIndexByte(name, '-'); i >= 0 && slices.Contains(w.Kinds, name[i+1:]) {
		return name[i+1:]
	}
	for _, o := range w.Own {
		if o.Address == address && address != "" {
			return o.Kind
		}
	}
	if a, err := netip.ParseAddrPort(address); err == nil {
		for _, o := range w.Own {
			if b, err := netip.ParseAddrPort(o.Address); err == nil && a.Port() == b.Port() {
				return o.Kind
			}
		}
	}
	return w.Kind
}

// inetd is the connection on fd 0. The descriptors become the null device, so that closing the connection ends it.
func (p *Process) inetd() (net.Conn, error) {
	c, err := fileConn(0)
	if err != nil {
		return nil, fmt.Errorf("connection on fd 0: %w", err)
	}
	if sameFile(0, 1) {
		toNull(1)
	}
	toNull(0)
	// systemd with Accept=yes and StandardInput=socket knows the peer even where a proxy hides it.
	if a, err := netip.ParseAddr(p.env.remoteAddr); err == nil {
		port, _ := strconv.ParseUint(p.env.remotePort, 10, 16)
		return withRemote(c, netip.AddrPortFrom(a.Unmap(), uint16(port))), nil
	}
	return c, nil
}

// ErrInUse means that a socket in the file system has its server.
var ErrInUse = errors.New("another process answers there")
