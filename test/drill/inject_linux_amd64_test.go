package drill

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// captive is a running program whose first thread makes the system calls that we want: what code of a stranger in it would do, with the
// very account, descriptors, Landlock domain and filter that the program has. It is held by ptrace(2), as root from outside, and goes on
// as if nothing had been when it is let go.
type captive struct {
	pid     int
	saved   unix.PtraceRegs
	syscall uint64 // address of a syscall instruction
	scratch uint64 // memory for arguments
	mem     *os.File
}

const scratchSize = 1 << 16

// capture stops the program's first thread. The calling goroutine stays on its thread until release.
func capture(pid int) (*captive, error) {
	runtime.LockOSThread()
	c := &captive{pid: pid}
	err := c.capture()
	if err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("capture %d: %w", pid, err)
	}
	return c, nil
}

func (c *captive) capture() error {
	var err error
	if c.syscall, err = syscallInstruction(c.pid); err != nil {
		return err
	}
	if c.mem, err = os.OpenFile(fmt.Sprintf("/proc/%d/mem", c.pid), os.O_RDWR, 0); err != nil {
		return err
	}
	if err := unix.PtraceSeize(c.pid); err != nil {
		return fmt.Errorf("seize: %w", err)
	}
	if err := unix.PtraceInterrupt(c.pid); err != nil {
		return fmt.Errorf("interrupt: %w", err)
	}
	if _, err := c.wait(); err != nil {
		return err
	}
	if err := unix.PtraceSetOptions(c.pid, unix.PTRACE_O_TRACESYSGOOD); err != nil {
		return fmt.Errorf("options: %w", err)
	}
	if err := unix.PtraceGetRegs(c.pid, &c.saved); err != nil {
		return err
	}
	// What the thread waited in has been interrupted. The kernel would begin it anew on the way out of this stop; we leave by
	// another, so that it is EINTR, which the Go runtime knows.
	if r := int64(c.saved.Rax); int64(c.saved.Orig_rax) >= 0 && r <= -512 && r >= -516 {
		interrupted := -int64(unix.EINTR)
		c.saved.Rax = uint64(interrupted)
	}
	c.scratch, err = c.raw(unix.SYS_MMAP, 0, scratchSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uint64(0), 0)
	return err
}

// wait is the next stop.
func (c *captive) wait() (unix.WaitStatus, error) {
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(c.pid, &ws, unix.WALL, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return ws, fmt.Errorf("wait: %w", err)
		case !ws.Stopped():
			return ws, fmt.Errorf("it ended: %#x", ws)
		default:
			return ws, nil
		}
	}
}

// raw makes one system call.
func (c *captive) raw(nr uint64, args ...uint64) (uint64, error) {
	var a [6]uint64
	copy(a[:], args)
	r := c.saved
	r.Rip, r.Rax, r.Orig_rax = c.syscall, nr, ^uint64(0)
	r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9 = a[0], a[1], a[2], a[3], a[4], a[5]
	if err := unix.PtraceSetRegs(c.pid, &r); err != nil {
		return 0, err
	}
	for stops := 0; stops < 2; { // at its entry and its end
		if err := unix.PtraceSyscall(c.pid, 0); err != nil { // a signal that came is left out: the runtime's preemption
			return 0, err
		}
		ws, err := c.wait()
		if err != nil {
			return 0, err
		}
		if ws.StopSignal() == unix.SIGTRAP|0x80 {
			stops++
		}
	}
	if err := unix.PtraceGetRegs(c.pid, &r); err != nil {
		return 0, err
	}
	if e := int64(r.Rax); e < 0 && e > -4096 {
		return 0, unix.Errno(-e)
	}
	return r.Rax, nil
}

// do is raw for arguments of these types: int, uint64; string and []byte are put into the program's memory.
func (c *captive) do(nr int, args ...any) (int, error) {
	at := c.scratch
	var a []uint64
	for _, x := range args {
		switch x := x.(type) {
		case int:
			a = append(a, uint64(x))
		case uint64:
			a = append(a, x)
		case string:
			a = append(a, at)
			at += c.put(at, append([]byte(x), 0))
		case []byte:
			a = append(a, at)
			at += c.put(at, x)
		}
	}
	n, err := c.raw(uint64(nr), a...)
	return int(n), err
}

func (c *captive) put(at uint64, b []byte) uint64 {
	if _, err := c.mem.WriteAt(b, int64(at)); err != nil {
		panic(err) // the memory that mmap gave
	}
	return uint64(len(b)+15) &^ 15
}

// release lets it go on where it was.
func (c *captive) release() error {
	defer runtime.UnlockOSThread()
	defer c.mem.Close()
	c.raw(unix.SYS_MUNMAP, c.scratch, scratchSize)
	if err := unix.PtraceSetRegs(c.pid, &c.saved); err != nil {
		return err
	}
	return unix.PtraceDetach(c.pid)
}

// end kills it: it is another program meanwhile.
func (c *captive) end() {
	defer runtime.UnlockOSThread()
	c.mem.Close()
	unix.Kill(c.pid, unix.SIGKILL)
	for {
		if _, err := c.wait(); err != nil {
			return
		}
		unix.PtraceCont(c.pid, 0)
	}
}

// syscallInstruction finds one in the text of the program, which is not position independent.
func syscallInstruction(pid int) (uint64, error) {
	f, err := elf.Open(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if f.Type != elf.ET_EXEC {
		return 0, fmt.Errorf("%v, not an executable of fixed addresses", f.Type)
	}
	text := f.Section(".text")
	b, err := text.Data()
	if err != nil {
		return 0, err
	}
	// SYSCALL; CMPQ AX, $-4095
	i := bytes.Index(b, []byte{0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff})
	if i < 0 {
		return 0, fmt.Errorf("no syscall instruction")
	}
	return text.Addr + uint64(i), nil
}

// unixAddr is a struct sockaddr_un; a name that begins with "@" is an abstract one.
func unixAddr(path string) []byte {
	b := binary.LittleEndian.AppendUint16(nil, unix.AF_UNIX)
	if path[0] == '@' {
		return append(append(b, 0), path[1:]...)
	}
	return append(append(b, path...), 0)
}

// inetAddr is a struct sockaddr_in on loopback.
func inetAddr(port int) []byte {
	b := binary.LittleEndian.AppendUint16(nil, unix.AF_INET)
	b = binary.BigEndian.AppendUint16(b, uint16(port))
	return append(b, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0)
}
