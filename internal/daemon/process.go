// Package daemon is the process side of every program: how it finds its connections, says that it is ready, obeys
// signals and limits its sessions.
//
// Connections come in the first of these ways that applies:
//
//	LISTEN_FDS       sockets from fd 3 on (systemd, s6-fdholder); LISTEN_FDNAMES gives their kinds
//	PROTO            UCSPI: one connection on fd 0 and 1, its peer in ${PROTO}REMOTEIP
//	fd 0 is a socket inetd nowait: one connection; stderr is the client's socket too, so logs go to syslog
//	none of these    listeners of our own, from the configuration
//
// A UCSPI server may do TLS for us: function TLS. Under systemd's watchdog every loop that accepts has a Beat.
//
// A program's main calls Start before anything else, then Log, Open, Signals and Ready in this order.
//
// Promises: what a supervisor left in the environment for us is not seen by programs that we execute. A socket in the
// file system is removed only when nobody answers on it. Running out of descriptors slows accepting down and ends
// nothing (F10).
//
// It never goes into the background, writes no file with its number, and knows nothing of mail.
package daemon

import (
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"postamt/internal/maillog"
)

// Process is what the program that started us left: descriptors, variables, a way to say that we are ready.
type Process struct {
	env            environment
	stdin          stdinKind
	stderrIsClient bool
	watchdog       *watchdog // nil when nobody watches

	mu         sync.Mutex
	notifyFD   *os.File // s6; nil when there is none or it was used
	supervisor net.Conn // NOTIFY_SOCKET, connected; nil when there is none
}

// environment is what Start took out of the environment.
type environment struct {
	fds        int      // LISTEN_FDS if it was meant for us
	names      []string // LISTEN_FDNAMES
	notify     string   // NOTIFY_SOCKET
	watchdog   string   // WATCHDOG_USEC
	watched    string   // WATCHDOG_PID
	remoteAddr string   // REMOTE_ADDR and REMOTE_PORT of systemd's Accept=yes
	remotePort string
}

type stdinKind int

const (
	stdinOther     stdinKind = iota
	stdinConnected           // inetd nowait
	stdinListening           // inetd wait
)

// listenFD is the first descriptor of LISTEN_FDS: sd_listen_fds(3), SD_LISTEN_FDS_START.
const listenFD = 3

// maxListenFDs bounds LISTEN_FDS: no supervisor passes more, and the number is a stranger's.
const maxListenFDs = 256

// Start takes over from the program that executed us. It is the first call of main: it removes LISTEN_*,
// NOTIFY_SOCKET and WATCHDOG_* from the environment, keeps what is open from programs that we execute (commands of users among them), keeps a
// connection that is also stderr from getting our messages, and lets broken pipes be errors of write(2). notifyFD is a descriptor for s6's readiness, 0 or less for none.
//
// The limit on open files is at its hard value already: the Go runtime raises it, and gives commands that we execute
// the old one back.
func Start(notifyFD int) *Process {
	closeOnExec()
	p := &Process{env: takeEnvironment(os.Getpid())}
	p.watchdog = newWatchdog(p.env.watchdog, p.env.watched, os.Getpid(), func() { p.tell("WATCHDOG=1") })
	if notifyFD > 0 {
		p.notifyFD = os.NewFile(uintptr(notifyFD), "notification-fd")
	}
	// Now: later we may be in a sandbox out of which no new connection leads.
	if path := p.env.notify; path != "" && (path[0] == '/' || path[0] == '@') { // net writes '@' as the NUL of an abstract address
		if c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"}); err == nil {
			p.supervisor = c
		}
	}
	// Notify, not Ignore: programs that we execute would inherit that a signal is ignored. XFSZ is a limit on the size of files.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE, syscall.SIGXFSZ)

	p.stdin = kindOfStdin()
	if p.stdin == stdinConnected && sameFile(0, 2) {
		// From here on not even a panic is sent to the client.
		p.stderrIsClient = true
		toNull(2)
	}
	return p
}

// closeSomeOnExec is closeOnExec by one descriptor after the other: so many as a supervisor may have left open.
func closeSomeOnExec() {
	for fd := 3; fd < listenFD+maxListenFDs; fd++ {
		syscall.CloseOnExec(fd) // which may be none
	}
}

func takeEnvironment(pid int) environment {
	var e environment
	take := func(name string) string {
		s := os.Getenv(name)
		os.Unsetenv(name)
		return s
	}
	who, n, names := take("LISTEN_PID"), take("LISTEN_FDS"), take("LISTEN_FDNAMES")
	os.Unsetenv("LISTEN_PIDFDID")
	e.notify = take("NOTIFY_SOCKET")
	e.watchdog, e.watched = take("WATCHDOG_USEC"), take("WATCHDOG_PID")
	e.remoteAddr, e.remotePort = os.Getenv("REMOTE_ADDR"), os.Getenv("REMOTE_PORT")
	// sd_listen_fds(3): the variables are for the process of that number only; a child that inherited them by
	// accident has other things at fd 3. s6-fdholder's users have no LISTEN_PID to give: then it is unset.
	if who != "" && who != strconv.Itoa(pid) {
		return e
	}
	if k, err := strconv.Atoi(n); err == nil && k > 0 && k <= maxListenFDs {
		e.fds = k
		if names != "" {
			e.names = strings.Split(names, ":")
		}
	}
	return e
}

// kindOfStdin tells a socket on fd 0 from everything else.
func kindOfStdin() stdinKind {
	typ, err := unix.GetsockoptInt(0, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || typ != unix.SOCK_STREAM {
		return stdinOther
	}
	if l, err := unix.GetsockoptInt(0, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && l != 0 {
		return stdinListening
	}
	return stdinConnected
}

// sameFile reports whether two descriptors are open on one file or socket.
func sameFile(a, b int) bool {
	var x, y unix.Stat_t
	return unix.Fstat(a, &x) == nil && unix.Fstat(b, &y) == nil && x.Dev == y.Dev && x.Ino == y.Ino
}

// toNull makes fd the null device. The number stays in use: a descriptor opened later must not become our stderr.
func toNull(fd int) {
	n, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return // a chroot without devices: the connection stays open a little longer
	}
	dup(n, fd)
	if n != fd {
		unix.Close(n)
	}
}

// Log is the program's log as the key "log" says: "stderr", "syslog", or "auto", which is stderr unless that is the
// client's connection. Before the configuration is read, "auto" is right.
func (p *Process) Log(mode, program string) *maillog.Logger {
	if mode == "syslog" || p.stderrIsClient {
		return maillog.Syslog(program, os.Getpid())
	}
	return maillog.New(stderr{}, program)
}

// stderr writes to fd 2 as it is: os.Stderr would keep a descriptor that toNull replaced.
type stderr struct{}

func (stderr) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n, err := unix.Write(2, b[done:])
		if n > 0 {
			done += n
		}
		switch err {
		case nil, unix.EINTR:
		case unix.EAGAIN:
			// Somebody made the pipe that we share non-blocking. Wait as a blocking write would.
			fds := []unix.PollFd{{Fd: 2, Events: unix.POLLOUT}}
			unix.Poll(fds, -1)
		default:
			return done, err
		}
		if n == 0 && err == nil {
			return done, io.ErrShortWrite
		}
	}
	return done, nil
}
