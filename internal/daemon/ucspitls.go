package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// TLS that a UCSPI server does for us: from the first octet, with names in the environment (s6-tlsserver, sslserver), or when we say so:
// UCSPI-TLS, in which the command goes over SSLCTLFD and the clear text then over SSLREADFD and SSLWRITEFD (s6-ucspitlsd, and sslserver with
// UCSPITLS). The variables are believed in UCSPI mode only: there whoever made the connection made the environment.

// handshakeTime is for the server's handshake with the client.
const handshakeTime = 30 * time.Second

// toldTLS is version and cipher; "" in clear.
func toldTLS(proto string, getenv func(string) string) string {
	if getenv("SSLCTLFD") != "" || !strings.HasPrefix(proto, "SSL") && getenv("SSL_PROTOCOL") == "" {
		return ""
	}
	return tlsNames(getenv)
}

func tlsNames(getenv func(string) string) string {
	version, cipher := word(getenv("SSL_PROTOCOL")), word(getenv("SSL_CIPHER"))
	if version == "" {
		version = "TLS"
	}
	return strings.TrimSpace(version + " " + cipher)
}

// word is s if it can stand in a header field and a log line, else "".
func word(s string) string {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '.' && c != '-' && c != '_' {
			return ""
		}
	}
	if len(s) > 64 {
		return ""
	}
	return s
}

// starttls is a connection in clear until start, and under the server's TLS from then on.
type starttls struct {
	now     atomic.Pointer[net.Conn]
	control *os.File
	tls     *pair
}

// withStartTLS is c with the descriptors of UCSPI-TLS; nil without them.
func withStartTLS(c net.Conn, getenv func(string) string) *starttls {
	var files [3]*os.File
	for i, name := range []string{"SSLCTLFD", "SSLREADFD", "SSLWRITEFD"} {
		fd, err := strconv.Atoi(getenv(name))
		if _, ferr := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || ferr != nil || fd < listenFD {
			return nil
		}
		unix.CloseOnExec(fd)
		unix.SetNonblock(fd, true) // else it has no deadlines
		files[i] = os.NewFile(uintptr(fd), name)
	}
	s := &starttls{control: files[0], tls: &pair{files[1], files[2]}}
	s.now.Store(&c)
	return s
}

// start has the server make the handshake, and returns version and cipher.
func (s *starttls) start() (string, error) {
	defer s.control.Close()
	s.control.SetDeadline(time.Now().Add(handshakeTime))
	if _, err := s.control.Write([]byte{'Y'}); err != nil {
		return "", fmt.Errorf("daemon: UCSPI-TLS: %w", cause(err))
	}
	var reply []byte
	for {
		b := make([]byte, 4096)
		n, err := s.control.Read(b)
		reply = append(reply, b[:n]...)
		// Strings that end in NUL, and an empty one at the end.
		if bytes.HasSuffix(reply, []byte{0, 0}) || len(reply) == 1 && reply[0] == 0 {
			break
		}
		if err != nil || len(reply) > 1<<16 {
			return "", errors.New("daemon: UCSPI-TLS: the server has not made the handshake")
		}
	}
	c := net.Conn(s.tls)
	clear := *s.now.Swap(&c)
	clear.Close()
	return tlsNames(func(name string) string {
		for v := range strings.SplitSeq(string(reply), "\x00") {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value
			}
		}
		return ""
	}), nil
}

func (s *starttls) conn() net.Conn                     { return *s.now.Load() }
func (s *starttls) Read(b []byte) (int, error)         { return s.conn().Read(b) }
func (s *starttls) Write(b []byte) (int, error)        { return s.conn().Write(b) }
func (s *starttls) Close() error                       { return s.conn().Close() }
func (s *starttls) LocalAddr() net.Addr                { return s.conn().LocalAddr() }
func (s *starttls) RemoteAddr() net.Addr               { return s.conn().RemoteAddr() }
func (s *starttls) SetDeadline(t time.Time) error      { return s.conn().SetDeadline(t) }
func (s *starttls) SetReadDeadline(t time.Time) error  { return s.conn().SetReadDeadline(t) }
func (s *starttls) SetWriteDeadline(t time.Time) error { return s.conn().SetWriteDeadline(t) }

// TLS says what a UCSPI server does for c: now is version and cipher of the TLS that ends before us, "" without; start has it
// begun, after which c carries what is under it. nil: the server has no TLS, or it has begun.
func TLS(c net.Conn) (now string, start func() (string, error)) {
	t, ok := c.(*told)
	if !ok {
		return "", nil
	}
	if t.starttls != nil {
		start = t.starttls.start
	}
	return t.tls, start
}
