package privilege

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What is given away is gone for the whole process: the tests do it in a child, which is this binary.
func TestMain(m *testing.M) {
	if what := os.Getenv("PRIVILEGE_CHILD"); what != "" {
		manyThreads()
		children[what]()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

var children = map[string]func(){"drop": dropped, "sandbox": sandboxed, "connect": connecting, "limits": limited}

// manyThreads is what a program may have before it drops.
func manyThreads() {
	var up sync.WaitGroup
	for range 10 {
		up.Add(1)
		go func() {
			runtime.LockOSThread()
			up.Done()
			select {}
		}()
	}
	up.Wait()
}

func child(t *testing.T, what string, args ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, args...)
	c.Env = append(os.Environ(), "PRIVILEGE_CHILD="+what)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// said fails the test for each line of the child that is not "ok".
func said(t *testing.T, out string, want int) {
	t.Helper()
	n := 0
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "skip: ") {
			t.Skip(line[6:])
		}
		if !strings.HasSuffix(line, ": ok\n") {
			t.Error(line)
		}
		n++
	}
	if n != want {
		t.Errorf("%d lines, want %d:\n%s", n, want, out)
	}
}

func expect(what string, ok bool, detail any) {
	if ok {
		fmt.Println(what + ": ok")
	} else {
		fmt.Println(what+":", detail)
	}
}

func TestDrop(t *testing.T) {
	if os.Geteuid() != 0 {
		if err := Drop(Account{Name: "x", UID: 1, GID: 1}); err != nil {
			t.Error("without root:", err)
		}
		t.Skip("needs root, to drop it")
	}
	said(t, child(t, "drop"), 6)
}

func dropped() {
	expect("to root", Drop(Account{Name: "root"}) != nil, "accepted")
	a := Account{Name: "x", UID: 60001, GID: 60002, Groups: []uint32{60002, 60003}}
	err := Drop(a)
	expect("drop", err == nil, err)
	err = Became(a)
	expect("became", err == nil, err)
	expect("became another", Became(Account{Name: "y", UID: 60002, GID: 60002}) != nil, "accepted")
	bad := ""
	tasks, _ := filepath.Glob("/proc/self/task/*/status")
	for _, f := range tasks {
		b, _ := os.ReadFile(f)
		for _, want := range []string{"\nUid:\t60001\t60001\t60001\t60001\n", "\nGid:\t60002\t60002\t60002\t60002\n", "\nGroups:\t60002 60003 \n", "\nCapEff:\t0000000000000000\n"} {
			if !bytes.Contains(b, []byte(want)) {
				bad = f + ": " + string(b)
			}
		}
	}
	expect("every thread", bad == "" && len(tasks) > 10, bad)
	expect("regain", syscall.Setresuid(0, 0, 0) != nil && syscall.Setresgid(0, 0, 0) != nil && syscall.Setgroups([]int{0}) != nil, "had back")
}

func TestLimits(t *testing.T) { said(t, child(t, "limits"), 5) }

func limited() {
	err := Limits{Files: 100, FileSize: 5000}.Set()
	expect("set", err == nil, err)
	for _, l := range []struct {
		what int
		max  uint64
	}{{unix.RLIMIT_CORE, 0}, {unix.RLIMIT_NOFILE, 100}, {unix.RLIMIT_FSIZE, 5000}} {
		var r unix.Rlimit
		unix.Getrlimit(l.what, &r)
		expect(strconv.Itoa(l.what), r.Cur == l.max && r.Max == l.max, r)
	}
	err = Limits{Files: 1000}.Set() // never raised
	var r unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &r)
	expect("raised", err == nil && r.Max == 100, r)
}

// What a sandbox allows and denies, in every thread. Root is denied too.
func TestSandbox(t *testing.T) {
	dir := t.TempDir()
	os.Chmod(dir, 0o777)
	for _, d := range []string{"read", "write", "none"} {
		os.Mkdir(filepath.Join(dir, d), 0o777)
		os.WriteFile(filepath.Join(dir, d, "f"), []byte("x"), 0o666)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	victim := exec.Command("sleep", "60")
	if err := victim.Start(); err != nil {
		t.Skip("sleep: ", err)
	}
	defer victim.Wait()
	defer victim.Process.Kill()
	said(t, child(t, "sandbox", dir, l.Addr().String(), strconv.Itoa(victim.Process.Pid)), 24)
}

// What may be used of the Internet is TCP and UDP, and nothing that Landlock does not know.
func TestSandboxConnect(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	said(t, child(t, "connect", l.Addr().String()), 5)
}

func connecting() {
	NoNew()
	by, err := Sandbox{Connect: true}.Enter()
	if !strings.Contains(by, "seccomp") && err == nil {
		fmt.Println("skip: no seccomp:", by)
		return
	}
	c, err := net.Dial("tcp", os.Args[1])
	expect("connect", err == nil, err)
	if err == nil {
		c.Close()
	}
	_, err = net.Dial("udp", "[::1]:53")
	expect("UDP", err == nil, err)
	for _, s := range []struct{ family, typ, protocol int }{{unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_MPTCP},
		{unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP}, {unix.AF_PACKET, unix.SOCK_RAW, 0}} {
		_, err := unix.Socket(s.family, s.typ, s.protocol)
		expect(fmt.Sprint("socket ", s), err == unix.EACCES, err)
	}
}

// inMemory executes a program that no path leads to.
func inMemory(program []byte) error {
	fd, err := unix.MemfdCreate("x", 0)
	if err != nil {
		return err
	}
	if _, err := unix.Write(fd, program); err != nil {
		return err
	}
	empty, _ := unix.BytePtrFromString("")
	argv := []*byte{empty, nil}
	_, _, e := unix.Syscall6(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(empty)), uintptr(unsafe.Pointer(&argv[0])), 0, unix.AT_EMPTY_PATH, 0)
	return e
}

// x32 asks for its user id as x32 programs do.
func x32() error {
	if runtime.GOARCH != "amd64" {
		return unix.EPERM
	}
	_, _, e := unix.Syscall(0x40000000|unix.SYS_GETUID, 0, 0, 0)
	return e
}

func sandboxed() {
	dir, addr := os.Args[1], os.Args[2]
	pid, _ := strconv.Atoi(os.Args[3])
	opened, err := os.Open(filepath.Join(dir, "none", "f"))
	if err != nil {
		fmt.Println(err)
		return
	}
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := NoNew(); err != nil {
		fmt.Println("no_new_privs:", err)
	}
	by, err := Sandbox{Read: []string{filepath.Join(dir, "read"), "/no/such/file", "/proc"}, Write: []string{filepath.Join(dir, "write")}}.Enter()
	abi := 0
	if n, _ := fmt.Sscanf(by, "landlock %d, seccomp", &abi); n == 0 && err == nil {
		fmt.Println("skip: no Landlock or seccomp, or a program with cgo:", by)
		return
	}
	expect("enter", err == nil, err)
	denied := func(err error) bool { return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) }
	at := func(d, f string) string { return filepath.Join(dir, d, f) }
	allowed := func(what string, err error) { expect(what, err == nil, err) }
	refused := func(what string, err error) { expect(what, denied(err), fmt.Sprint("not denied: ", err)) }

	_, err = os.ReadFile(at("read", "f"))
	allowed("read", err)
	refused("write what is for reading", os.WriteFile(at("read", "f"), nil, 0o600))
	refused("make what is for reading", os.WriteFile(at("read", "g"), nil, 0o600))
	allowed("write", os.WriteFile(at("write", "f"), []byte("y"), 0o600))
	allowed("make and rename", errors.Join(os.Mkdir(at("write", "d"), 0o700), os.WriteFile(at("write", "d/g"), nil, 0o600), os.Rename(at("write", "d/g"), at("write", "h"))))
	refused("make a FIFO", unix.Mkfifo(at("write", "fifo"), 0o600))
	refused("make a link", os.Symlink("/", at("write", "link")))
	_, err = os.ReadFile(at("none", "f"))
	refused("read another", err)
	_, err = opened.Read(make([]byte, 1))
	allowed("read what was open", err)
	refused("execute", exec.Command("/bin/true").Run())
	refused("execute a program in memory", inMemory(program))
	_, err = net.DialTimeout("tcp", addr, time.Second)
	refused("connect", err)
	_, err = net.Listen("tcp", "127.0.0.1:0") // Multipath TCP first, which Landlock lets through
	refused("bind", err)
	_, err = net.Dial("udp", addr)
	refused("UDP", err)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	allowed("Unix socket", err)
	unix.Close(fd)
	_, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW, 0)
	refused("netlink", err)
	refused("namespace", unix.Unshare(unix.CLONE_NEWUSER))
	_, _, e := unix.RawSyscall6(unix.SYS_CLONE, unix.CLONE_NEWUSER|unix.CLONE_NEWNET|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if e == 0 { // in either of both
		os.Exit(0)
	}
	refused("process in a namespace", e)
	_, _, e = unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&[32]uint64{})), 0)
	refused("io_uring", e)
	refused("trace", unix.PtraceAttach(pid))
	refused("another machine's call", x32())
	if abi >= 6 {
		refused("signal", syscall.Kill(pid, syscall.SIGKILL))
	} else {
		fmt.Println("old kernel: signal: ok")
	}
	bad := ""
	tasks, _ := filepath.Glob("/proc/self/task/*/status")
	for _, f := range tasks {
		b, _ := os.ReadFile(f)
		if !bytes.Contains(b, []byte("\nNoNewPrivs:\t1\n")) {
			bad = f
		}
	}
	// Threads are told apart by who makes the call: ask in each of many.
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			runtime.LockOSThread()
			path, _ := unix.BytePtrFromString(at("none", "f"))
			at := unix.AT_FDCWD
			_, _, e := unix.Syscall6(unix.SYS_OPENAT, uintptr(at), uintptr(unsafe.Pointer(path)), unix.O_RDONLY, 0, 0, 0)
			if e != unix.EACCES {
				mu.Lock()
				bad = "a thread may open it"
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	expect("every thread", bad == "" && len(tasks) > 10, bad)
}
