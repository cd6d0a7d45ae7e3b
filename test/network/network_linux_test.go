// Package network puts whole systems on hosts that are network namespaces, joined by an Ethernet of their own, and breaks that
// Ethernet: loss, resets, filters, routes that lead nowhere, floods.
//
// A host has port 25, real addresses, routes, a firewall and a name server to itself, so what runs there is configured as it
// would be on the Internet; nothing can leave the namespaces, and with the test's last descriptor and process they are gone.
// The tests need root, ip, iptables and nsenter, and skip themselves without.
package network

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"golang.org/x/sys/unix"

	"postamt/test/stub"
	"postamt/test/suite"
)

// limit is for whatever must happen soon; a machine under load may take its time.
const limit = 40 * time.Second

// programs are built once, not for each System.
var programs = sync.OnceValues(suite.Build)

// An ethernet joins hosts: a bridge in a namespace where nothing else is.
type ethernet struct {
	t     *testing.T
	bus   *host
	hosts int
}

// A host is a network namespace.
type host struct {
	t  *testing.T
	ns *os.File
}

// newEthernet makes a network without hosts, or skips the test.
func newEthernet(t *testing.T) *ethernet {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, name := range []string{"ip", "iptables", "ip6tables", "nsenter"} {
		tool(t, name)
	}
	e := &ethernet{t: t, bus: newNamespace(t)}
	e.bus.run("ip", "link", "add", "bus", "type", "bridge", "mcast_snooping", "0")
	e.bus.run("ip", "link", "set", "bus", "up")
	return e
}

// host makes a host with addresses ("192.0.2.1/24") on its eth0.
func (e *ethernet) host(addrs ...string) *host {
	e.t.Helper()
	h := newNamespace(e.t)
	e.hosts++
	port := fmt.Sprintf("port%d", e.hosts)
	h.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", e.bus.path())
	e.bus.run("ip", "link", "set", port, "master", "bus", "up")
	h.run("ip", "link", "set", "eth0", "up")
	for _, a := range addrs {
		h.address(a)
	}
	return h
}

// newNamespace makes a namespace with nothing but its loopback.
func newNamespace(t *testing.T) *host {
	t.Helper()
	type made struct {
		ns  *os.File
		err error
	}
	c := make(chan made)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		var ns *os.File
		if err == nil {
			ns, err = os.Open("/proc/thread-self/ns/net")
		}
		c <- made{ns, err}
	}()
	m := <-c
	if errors.Is(m.err, unix.EPERM) || errors.Is(m.err, unix.ENOSYS) || errors.Is(m.err, unix.EINVAL) {
		missing(t, "no network namespaces: "+m.err.Error())
	}
	if m.err != nil {
		t.Fatal(m.err)
	}
	t.Cleanup(func() { m.ns.Close() })
	h := &host{t, m.ns}
	h.run("ip", "link", "set", "lo", "up")
	return h
}

// path leads to the namespace, for programs that are told of one.
func (h *host) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), h.ns.Fd()) }

// in runs f on the host: sockets that f makes and programs that it starts are there and stay there. Goroutines that f
// starts are not.
func (h *host) in(f func()) {
	h.t.Helper()
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err == nil {
		defer home.Close()
		err = unix.Setns(int(h.ns.Fd()), unix.CLONE_NEWNET)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	defer func() {
		// A thread that cannot return must not run anything else: it stays locked and ends with the test.
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	f()
}

// run runs a program on the host to its end, and returns what it printed.
func (h *host) run(name string, args ...string) string {
	h.t.Helper()
	path := tool(h.t, name)
	var out []byte
	var err error
	h.in(func() { out, err = exec.Command(path, args...).CombinedOutput() })
	if err != nil {
		h.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// address gives eth0 an address, usable at once.
func (h *host) address(a string) {
	h.t.Helper()
	args := []string{"addr", "add", a, "dev", "eth0"}
	if strings.Contains(a, ":") {
		args = append(args, "nodad")
	}
	h.run("ip", args...)
}

// sysctl sets a kernel parameter of the host's network: "ipv4/ip_local_port_range".
func (h *host) sysctl(name, value string) {
	h.t.Helper()
	h.in(func() {
		if err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0); err != nil {
			h.t.Fatal(err)
		}
	})
}

// listen makes a listener on the host, closed when the test ends.
func (h *host) listen(addr string) net.Listener {
	h.t.Helper()
	var l net.Listener
	var err error
	h.in(func() { l, err = net.Listen("tcp", addr) })
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { l.Close() })
	return l
}

// dial connects from the host to addr. from is an address of the host to come from, or "".
func (h *host) dial(from, addr string) (conn net.Conn, err error) {
	d := net.Dialer{Timeout: limit}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	h.in(func() { conn, err = d.Dial("tcp", addr) })
	return conn, err
}

// names runs a name server on the host where its programs look for one: at 127.0.0.1, and, for those that read it, at the
// addresses in this machine's resolv.conf, which in the namespace are nobody else's.
func (h *host) names(zone string) {
	h.t.Helper()
	addrs := []string{"127.0.0.1"}
	conf, _ := os.ReadFile("/etc/resolv.conf") // without it, 127.0.0.1 is asked
	for line := range strings.Lines(string(conf)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" || f[1] == "127.0.0.1" {
			continue
		}
		ip := net.ParseIP(f[1])
		if ip == nil {
			continue // with a zone: not needed as long as another answers
		}
		if !ip.IsLoopback() {
			h.run("ip", "addr", "add", f[1], "dev", "lo")
		}
		addrs = append(addrs, f[1])
	}
	for _, a := range addrs {
		var s *stub.Server
		var err error
		h.in(func() { s, err = stub.ListenAt(net.JoinHostPort(a, "53"), zone) })
		if err != nil {
			h.t.Fatal(err)
		}
		h.t.Cleanup(s.Close)
	}
}

// serve runs a System on the host, on port 25 of addr, with the host's name server. That an MX record may name the loopback
// is not allowed here: it is never needed.
func (h *host) serve(addr string, c suite.Config) *suite.System {
	h.t.Helper()
	bin, err := programs()
	if err != nil {
		h.t.Fatal(err)
	}
	c.Bin, c.DNS = bin, "127.0.0.1:53"
	c.Prefix = []string{tool(h.t, "nsenter"), "--net=" + h.path()}
	c.Settings = "smtpd_listen " + addr + "=mx unix:smtpd.sock=local\nremote_loopback no\n" + c.Settings
	return suite.Start(h.t, c)
}

// tool returns the path of a program of the administrator. Where test/deps.sh has run, none may be missing.
func tool(t *testing.T, name string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path
		}
	}
	missing(t, name+" is not installed; run test/deps.sh")
	return ""
}

// missing skips the test by name, but fails it in CI, where nothing is missing.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" && os.Getenv("SKIP_MISSING") != "1" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// send hands a message to a server of ours over its local socket, by a client that is not ours.
func send(t *testing.T, s *suite.System, from, to, text string) {
	t.Helper()
	conn, err := net.Dial("unix", s.Socket)
	if err != nil {
		t.Fatal(err)
	}
	c := smtp.NewClient(conn)
	defer c.Close()
	if err := c.SendMail(from, []string{to}, strings.NewReader(text)); err != nil {
		t.Fatalf("from %s to %s: %v", from, to, err)
	}
	c.Quit()
}

// note is a small message. The subject tells one from another.
func note(subject string) string {
	return "From: <alice@ours.test>\r\nSubject: " + subject + "\r\n\r\nThis is " + subject + ".\r\n"
}

// subjects counts the messages of a user by their subjects.
func subjects(t *testing.T, s *suite.System, user string) map[string]int {
	t.Helper()
	count := map[string]int{}
	for _, path := range s.Delivered(user) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), "\nSubject: ")
		subject, _, _ := strings.Cut(rest, "\n")
		count[subject]++
	}
	return count
}

// await waits for a condition.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	if err := suite.Await(limit, what, condition); err != nil {
		t.Fatal(err)
	}
}

// descriptors returns the numbers of those that a process has open.
func descriptors(t *testing.T, pid int) map[int]bool {
	t.Helper()
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(names) == 0 {
		t.Fatalf("no descriptors of %d: %v", pid, err)
	}
	open := map[int]bool{}
	for _, name := range names {
		fd, _ := strconv.Atoi(filepath.Base(name))
		open[fd] = true
	}
	return open
}

// closed waits until queued has as few descriptors as before.
func closed(t *testing.T, s *suite.System, before int) {
	t.Helper()
	after := 0
	if err := suite.Await(limit, "descriptors to be closed", func() bool {
		after = len(descriptors(t, s.Pid("queued")))
		return after <= before
	}); err != nil {
		t.Errorf("%v: %d before, %d after", err, before, after)
	}
}

// greeting reads the first line of a connection.
func greeting(conn net.Conn) (string, error) {
	conn.SetReadDeadline(time.Now().Add(limit))
	var line []byte
	b := make([]byte, 1)
	for {
		if _, err := io.ReadFull(conn, b); err != nil {
			return string(line), err
		}
		if line = append(line, b[0]); b[0] == '\n' {
			return string(line), nil
		}
	}
}
