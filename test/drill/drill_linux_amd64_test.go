// Package drill is what happens when a program of the suite is captured. The real programs run as root starts them, with their accounts; in
// each, system calls of ours are made, as a stranger's code in it would make them, and each deed that is not the program's business must be
// denied. Which wall denies it is found by taking the others away: the table in ARCHITECTURE.md has it, and is what the test compares with.
// Nothing imports this package.
package drill

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"postamt/test/peers"
)

// programs are the columns of the table.
var programs = []string{"smtpd", "queued", "authd", "keyd", "front", "worker"}

// deed is something that a captured program tries. It returns whether the system denied it, and an error if that cannot be told.
type deed struct {
	name string
	not  string // whose business it is
	// power: root may, and nobody else. The parts of deliver, which are not root in any realm, tell nothing of the other walls then.
	power bool
	do    func(*attack) error
}

// attack is one captive in one realm.
type attack struct {
	*captive
	r       *realm
	tcp     int // port on loopback
	sibling int // another process: of another account, or of one that only Landlock and seccomp keep away
}

func (a *attack) open(flags int, path string) error {
	fd, err := a.do(unix.SYS_OPENAT, -100&int(^uint32(0)), path, flags|unix.O_CLOEXEC, 0o600)
	if err == nil {
		a.do(unix.SYS_CLOSE, fd)
	}
	return err
}

func (a *attack) read(path string) error { return a.open(unix.O_RDONLY, path) }

func (a *attack) create(path string) error {
	defer os.Remove(path)
	return a.open(unix.O_WRONLY|unix.O_CREAT, path)
}

func (a *attack) connect(family, kind int, addr []byte) error {
	fd, err := a.do(unix.SYS_SOCKET, family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil || addr == nil {
		return err
	}
	defer a.do(unix.SYS_CLOSE, fd)
	_, err = a.do(unix.SYS_CONNECT, fd, addr, len(addr))
	return err
}

func (a *attack) path(name string) string { return a.r.dir + "/" + name }

var deeds = []deed{
	{name: "read the passwords", not: "authd", do: func(a *attack) error { return a.read(a.path("etc/passwords")) }},
	{name: "read a private key", not: "keyd", do: func(a *attack) error { return a.read(a.path("tls/key.pem")) }},
	{name: "read another user's mail", do: func(a *attack) error {
		l, _ := filepath.Glob(a.path("home/u2/Maildir/new/*"))
		if len(l) == 0 {
			return errors.New("there is no mail")
		}
		return a.read(l[0])
	}},
	{name: "read a shared mailbox of others", do: func(a *attack) error { return a.read(a.path("shared/team/new/1.m")) }},
	{name: "list the queue", not: "queued", do: func(a *attack) error { return a.open(unix.O_RDONLY|unix.O_DIRECTORY, a.path("queue/active/0")) }},
	{name: "read queued mail", not: "queued smtpd", do: func(a *attack) error { return a.read(a.path("queue/active/0/00000000000000000000")) }},
	{name: "write beside the configuration", do: func(a *attack) error { return a.create(a.path("etc/new")) }},
	{name: "make a file in run_dir", do: func(a *attack) error { return a.create(a.path("run/new")) }},
	{name: "make a file in /tmp", not: "worker", do: func(a *attack) error { return a.create("/tmp/" + filepath.Base(a.r.dir) + ".new") }},
	{name: "connect to authd", not: "smtpd", do: func(a *attack) error { return a.connect(unix.AF_UNIX, unix.SOCK_STREAM, unixAddr(a.path("run/auth"))) }},
	{name: "connect to deliver", not: "queued", do: func(a *attack) error {
		return a.connect(unix.AF_UNIX, unix.SOCK_STREAM, unixAddr(a.path("run/deliver.sock")))
	}},
	{name: "wake queued", not: "queued smtpd", do: func(a *attack) error { return a.connect(unix.AF_UNIX, unix.SOCK_DGRAM, unixAddr(a.path("run/queued"))) }},
	{name: "connect to an abstract socket", do: func(a *attack) error {
		name := "@" + filepath.Base(a.r.dir)
		l, err := net.Listen("unix", name)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		defer l.Close()
		return a.connect(unix.AF_UNIX, unix.SOCK_STREAM, unixAddr(name))
	}},
	{name: "connect by TCP", not: "queued", do: func(a *attack) error { return a.connect(unix.AF_INET, unix.SOCK_STREAM, inetAddr(a.tcp)) }},
	{name: "send by UDP", not: "queued", do: func(a *attack) error { return a.connect(unix.AF_INET, unix.SOCK_DGRAM, inetAddr(9)) }},
	{name: "netlink", do: func(a *attack) error { return a.connect(unix.AF_NETLINK, unix.SOCK_RAW, nil) }},
	{name: "signal another process", do: func(a *attack) error { _, err := a.do(unix.SYS_KILL, a.sibling, int(unix.SIGWINCH)); return err }},
	{name: "trace another process", do: func(a *attack) error { _, err := a.do(unix.SYS_PTRACE, unix.PTRACE_SEIZE, a.sibling, 0, 0); return err }},
	{name: "read another process's memory", do: func(a *attack) error {
		one := make([]byte, 16) // struct iovec: nowhere, one octet
		one[8] = 1
		if _, err := a.do(unix.SYS_PROCESS_VM_READV, a.sibling, one, 1, one, 1, 0); err != unix.EFAULT {
			return err
		}
		return nil
	}},
	{name: "a network namespace of its own", power: true, do: func(a *attack) error { _, err := a.do(unix.SYS_UNSHARE, unix.CLONE_NEWNET); return err }},
	{name: "become root", power: true, do: func(a *attack) error {
		if !a.r.walls.account {
			return nil // it is, or is not for another reason
		}
		_, err := a.do(unix.SYS_SETRESUID, 0, 0, 0)
		return err
	}},
	// The last: a program that did it is another.
	{name: "execute a program", do: func(a *attack) error { _, err := a.do(unix.SYS_EXECVE, "/bin/true", 0, 0); return err }},
}

// denied tells a wall from success; everything else is a mistake of ours.
func denied(err error) (bool, error) {
	switch {
	case err == nil:
		return false, nil
	case err == unix.EACCES || err == unix.EPERM:
		return true, nil
	}
	return false, err
}

// TestDrill: with all walls up each deed is denied, and each wall alone denies what the table says. Its front and worker are deliver's.
func TestDrill(t *testing.T) {
	t.Parallel()
	drill(t, "deliver", programs)
}

// The two halves of pop3d and of imapd are denied the same as those of deliver, and by the same walls.
func TestDrillReaders(t *testing.T) {
	for _, program := range []string{"pop3d", "imapd"} {
		t.Run(program, func(t *testing.T) { t.Parallel(); drill(t, program, []string{"front", "worker"}) })
	}
}

// drill tries all in some of the programs; of whose front and worker are meant.
func drill(t *testing.T, of string, captured []string) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to start the programs as root does")
	}
	abi, _, e := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if e != 0 || abi < 6 {
		t.Skipf("this kernel has no Landlock that scopes signals (ABI 6): %d %v", abi, e)
	}
	for _, tool := range []string{"/bin/sleep", "/bin/true"} {
		if _, err := os.Stat(tool); err != nil {
			t.Skip(err)
		}
	}
	found := map[string]map[string]bool{}
	for _, w := range []struct {
		letter string
		walls
	}{{"", walls{true, true, true}}, {"A", walls{account: true}}, {"L", walls{landlock: true}}, {"S", walls{seccomp: true}}} {
		found[w.letter] = map[string]bool{}
		t.Run("walls="+w.letter, func(t *testing.T) { storm(t, w.walls, of, captured, found[w.letter]) })
		if t.Failed() || t.Skipped() {
			return
		}
	}
	want := table(t)
	if len(want) != len(deeds) {
		t.Errorf("ARCHITECTURE.md has %d rows of %d deeds", len(want), len(deeds))
	}
	var b strings.Builder
	for _, d := range deeds {
		b.WriteString("| " + d.name)
		for _, p := range captured {
			i := slices.Index(programs, p)
			cell := ""
			if slices.Contains(strings.Fields(d.not), p) {
				cell = "-"
			} else if !found[""][d.name+p] {
				t.Errorf("%s %s: %s: NOT DENIED", of, p, d.name)
			}
			for _, l := range []string{"A", "L", "S"} {
				if found[l][d.name+p] && (l == "A" || !d.power || i < 4) {
					cell += l
				}
			}
			doc := ""
			if i < len(want[d.name]) {
				doc = want[d.name][i]
			}
			if of != "deliver" && p == "front" && d.name == "read the passwords" { // a configuration that it reads again, and certificates, are beside them
				doc = "A"
			}
			// From ABI 9 on Landlock has more: it knows of sockets in the file system.
			if cell != doc && !(abi >= 9 && strings.ReplaceAll(cell, "L", "") == strings.ReplaceAll(doc, "L", "") && strings.Contains(cell, "L")) {
				t.Errorf("%s %s: %s: denied by %q, ARCHITECTURE.md has %q", of, p, d.name, cell, doc)
			}
			b.WriteString(" | " + cell)
		}
		b.WriteString(" |\n")
	}
	t.Logf("A: the account; L: Landlock; S: seccomp\n%s", b.String())
}

// storm tries everything in every program of a realm with those walls, and notes what was denied.
func storm(t *testing.T, w walls, of string, captured []string, found map[string]bool) {
	r := newRealm(t, w, of)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, p := range captured {
		if r.pids[p] == 0 {
			t.Fatal("there is no ", p)
		}
		uid := owner(t, fmt.Sprint("/proc/", r.pids[p], "/task"))
		if w.account && uid == 0 || !w.account && uid != 0 && p != "front" && p != "worker" {
			t.Fatalf("%s runs as %d", p, uid)
		}
	}
	last := len(deeds) - 1
	for _, p := range captured {
		attackWith(r, p, l, deeds[:last], found)
	}
	// Who has executed something is another program, and who depends on it ends.
	for _, p := range slices.Backward(captured) {
		attackWith(r, p, l, deeds[last:], found)
	}
}

// attackWith tries the deeds in one program.
func attackWith(r *realm, p string, l net.Listener, deeds []deed, found map[string]bool) {
	t := r.t
	t.Helper()
	// Another account's, or the same one's where that is not to be the wall.
	other := owner(t, fmt.Sprint("/proc/", r.pids[p], "/task"))
	if r.walls.account {
		other = accounts["pa-smtpd"]
		if p == "smtpd" {
			other = accounts["pa-queue"]
		}
	}
	sibling := sleeper(t, other)
	c, err := capture(r.pids[p])
	if err != nil {
		t.Fatal(p, ": ", err)
	}
	a := &attack{captive: c, r: r, tcp: l.Addr().(*net.TCPAddr).Port, sibling: sibling}
	executed := false
	for _, d := range deeds {
		if slices.Contains(strings.Fields(d.not), p) {
			continue
		}
		yes, err := denied(d.do(a))
		if err != nil {
			t.Errorf("%s: %s: %v", p, d.name, err)
		}
		found[d.name+p] = yes
		executed = !yes && d.name == "execute a program"
	}
	if executed {
		c.end()
	} else if err := c.release(); err != nil {
		t.Errorf("%s: release: %v", p, err)
	}
}

// sleeper is a process that does nothing.
func sleeper(t *testing.T, uid int) int {
	t.Helper()
	c := exec.Command("/bin/sleep", "600")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	return c.Process.Pid
}

// table reads the rows of ARCHITECTURE.md: the deed, then a cell for each program.
func table(t *testing.T) map[string][]string {
	t.Helper()
	root, err := peers.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	_, rest, _ := strings.Cut(string(b), "| deed | "+strings.Join(programs, " | ")+" |\n|---|---|---|---|---|---|---|\n")
	for line := range strings.Lines(rest) {
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		if len(cells) != 1+len(programs) {
			break
		}
		rows[cells[0]] = cells[1:]
	}
	return rows
}

func setFilter(f []unix.SockFilter) error {
	p := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&p)), 0, 0)
}
