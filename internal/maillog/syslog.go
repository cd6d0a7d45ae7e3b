package maillog

import (
	"net"
	"strconv"
	"time"
)

// syslogPath is where syslogd listens.
const syslogPath = "/dev/log"

// Syslog returns a logger that sends each line to the syslog daemon of this machine, with facility mail and level
// info (RFC 3164 section 4.1.1). A daemon that is not there yet, or is started anew, is found again by later lines; what
// comes meanwhile is dropped and counted.
func Syslog(program string, pid int) *Logger {
	return newSyslog(syslogPath, program, pid)
}

func newSyslog(path, program string, pid int) *Logger {
	const mailInfo = 2<<3 | 6
	l := New(&syslogWriter{path: path}, program)
	l.syslog = true
	l.prefix = "<" + strconv.Itoa(mailInfo) + ">" + program + "[" + strconv.Itoa(pid) + "]: "
	return l
}

// syslogWriter sends datagrams. Only the writing goroutine uses it.
type syslogWriter struct {
	path string
	conn net.Conn
	next time.Time // when to dial again
}

func (w *syslogWriter) Write(p []byte) (int, error) {
	n := len(p)
	if n > 0 && p[n-1] == '\n' {
		p = p[:n-1]
	}
	for try := 0; ; try++ {
		if w.conn == nil {
			if err := w.dial(); err != nil {
				return 0, err
			}
		}
		// A syslogd that does not read must not hold up the lines of a program that wants to end.
		w.conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, err := w.conn.Write(p)
		if err == nil {
			return n, nil
		}
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			return 0, err
		}
		// ECONNREFUSED, ENOTCONN: the daemon was started anew.
		w.conn.Close()
		w.conn = nil
		w.next = time.Time{}
		if try > 0 {
			return 0, err
		}
	}
}

func (w *syslogWriter) dial() error {
	now := time.Now()
	if now.Before(w.next) {
		return net.ErrClosed
	}
	c, err := net.Dial("unixgram", w.path)
	if err != nil {
		w.next = now.Add(time.Second)
		return err
	}
	w.conn = c
	return nil
}
