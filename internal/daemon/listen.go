package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"postamt/internal/config"
)

// listenAll makes the listeners of the configuration.
func listenAll(w Want) (*Sockets, error) {
	s := &Sockets{How: "own"}
	for _, o := range w.Own {
		l, err := listen(o, w.SocketMode)
		if err != nil {
			// "[::]:25" on a machine without IPv6 is what the default configuration says there. An address that
			// someone wrote down must exist.
			if a, perr := netip.ParseAddrPort(o.Address); perr == nil && a.Addr().IsUnspecified() && noFamily(err) {
				s.Skipped = append(s.Skipped, err)
				continue
			}
			return s, err
		}
		s.Listeners = append(s.Listeners, Listener{Listener: l, Kind: o.Kind})
	}
	if len(s.Listeners) == 0 {
		if len(s.Skipped) > 0 {
			return s, errors.Join(s.Skipped...)
		}
		return s, errors.New("nothing to listen on")
	}
	return s, nil
}

func noFamily(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)
}

func listen(o config.Listener, mode fs.FileMode) (net.Listener, error) {
	if o.Network == "unix" {
		l, err := ListenUnix(o.Address, mode)
		if err != nil {
			return nil, err
		}
		return l, nil
	}
	// Keep-alive probes are off: our sessions have timeouts of their own, and each option is a system call for
	// each connection. SO_REUSEADDR is Go's default.
	lc := net.ListenConfig{KeepAlive: -1}
	l, err := lc.Listen(context.Background(), o.Network, o.Address)
	if err != nil {
		return nil, fmt.Errorf("listen %s: %w", o.Address, cause(err))
	}
	return l, nil
}

// ListenUnix listens on a stream socket at path, with the given mode (0 is 0600). A directory that is missing is made.
// A socket that is there already is removed if nobody answers on it; anything else is left alone and is an error.
// It changes the umask for a moment: call it before other goroutines make files.
func ListenUnix(path string, mode fs.FileMode) (*net.UnixListener, error) {
	var l *net.UnixListener
	err := bindUnix("unix", path, mode, func(a *net.UnixAddr) (err error) {
		l, err = net.ListenUnix("unix", a)
		return err
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

// ListenDatagram is ListenUnix for a datagram socket.
func ListenDatagram(path string, mode fs.FileMode) (*net.UnixConn, error) {
	var c *net.UnixConn
	err := bindUnix("unixgram", path, mode, func(a *net.UnixAddr) (err error) {
		c, err = net.ListenUnixgram("unixgram", a)
		return err
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

func bindUnix(network, path string, mode fs.FileMode, bind func(*net.UnixAddr) error) error {
	fail := func(err error) error { return fmt.Errorf("listen %s: %w", path, cause(err)) }
	if mode == 0 {
		mode = 0600
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0755); err != nil {
		return fail(err)
	}
	// Two that start at once would both find the socket dead, and the second remove the first one's new one. The
	// lock is on the directory and ends with the descriptor. Where it cannot be had (a directory that we may
	// not read) we do without.
	if d, err := os.Open(dir); err == nil {
		defer d.Close()
		unix.Flock(int(d.Fd()), unix.LOCK_EX)
	}
	if err := removeStale(network, path); err != nil {
		return fail(err)
	}
	// Between bind and chmod the socket is for us alone.
	old := unix.Umask(0177)
	err := bind(&net.UnixAddr{Name: path, Net: network})
	unix.Umask(old)
	if err != nil {
		return fail(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return fail(err)
	}
	return nil
}

// removeStale removes a socket on which nobody answers.
func removeStale(network, path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file that is not a socket")
	}
	c, err := net.Dial(network, path)
	switch {
	case err == nil:
		c.Close()
		return ErrInUse
	case errors.Is(err, unix.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return err // EACCES, EAGAIN (its backlog is full), EPROTOTYPE: somebody else's, or alive
}

// cause is the innermost error of what net and os wrap: operation and object are named by us.
func cause(err error) error {
	var e unix.Errno
	if errors.As(err, &e) {
		return e
	}
	return err
}
