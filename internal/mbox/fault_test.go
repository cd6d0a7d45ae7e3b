package mbox

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"postamt/internal/durable"
)

// Every step fails, once and for good: the file is as it was, or it is said that nobody knows.
func TestEveryStepFails(t *testing.T) {
	body := strings.Repeat("0123456789abcde\n", 3*bufferSize/16)
	for _, old := range []string{"", "From x\nS: y\n\nolder\n\n"} {
		for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EIO, syscall.EDQUOT, syscall.EFBIG} {
			for _, always := range []bool{false, true} {
				for step := 0; ; step++ {
					path := t.TempDir() + "/box"
					if old != "" {
						must(t, os.WriteFile(path, []byte(old), 0o600))
					}
					n, failed := 0, durable.Op("")
					ops := &durable.Ops{Fault: func(op durable.Op, name string) error {
						n++
						// The lock's file is taken away in any case; what is left of it otherwise is dotlock's.
						if n-1 == step || always && n-1 > step && op != durable.OpUnlink {
							if failed == "" {
								failed = op
							}
							return errno
						}
						return nil
					}}
					err := Append(t.Context(), path, entry("id1", body), Options{Ops: ops})
					if n <= step {
						must(t, err)
						if step < 6 {
							t.Errorf("only %d steps", step)
						}
						break
					}
					got, _ := os.ReadFile(path)
					switch {
					case failed == durable.OpUnlink: // of the lock, when all is done
						must(t, err)
					case err == nil:
						t.Fatalf("step %d, %s: no error", step, failed)
					case !errors.Is(err, errno):
						t.Errorf("step %d, %s: %v", step, failed, err)
					case errors.Is(err, ErrUnknown) && !always:
						t.Errorf("step %d, %s: %v", step, failed, err)
					case string(got) != old:
						t.Errorf("step %d, %s, %v: %d octets are there", step, failed, err, len(got))
					}
					if failed == durable.OpUnlink {
						continue
					}
					again := entry("id1", body)
					again.Suspect = errors.Is(err, ErrUnknown)
					must(t, Append(t.Context(), path, again, Options{}))
					if got := text(t, path); got != old+whole("id1", body) {
						t.Errorf("step %d, %s: again: %d octets", step, failed, len(got))
					}
				}
			}
		}
	}
}

// The order in which a message becomes permanent.
func TestOrderOfSteps(t *testing.T) {
	path := t.TempDir() + "/box"
	var steps []string
	ops := &durable.Ops{Fault: func(op durable.Op, name string) error {
		steps = append(steps, string(op)+name[strings.LastIndexByte(name, '/'):])
		return nil
	}}
	dir := path[:len(path)-len("/box")]
	dir = dir[strings.LastIndexByte(dir, '/'):]
	for _, want := range []string{
		"create/box create/box.lock write/box.lock syncdir" + dir + " write/box sync/box unlink/box.lock",
		"create/box.lock write/box.lock write/box sync/box unlink/box.lock",
	} {
		steps = nil
		must(t, Append(t.Context(), path, entry("id1", "h\n"), Options{Ops: ops}))
		if got := strings.Join(steps, " "); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// What is cut back is so on disk, too: a power cut would bring a part of the message back.
func TestOrderOfStepsAfterAnError(t *testing.T) {
	path := t.TempDir() + "/box"
	must(t, os.WriteFile(path, []byte("old"), 0o600))
	var steps []string
	ops := &durable.Ops{Fault: func(op durable.Op, name string) error {
		steps = append(steps, string(op))
		if len(steps) == 4 {
			return syscall.EIO
		}
		return nil
	}}
	err := Append(t.Context(), path, entry("id1", "h\n"), Options{Ops: ops})
	if got := strings.Join(steps, " "); got != "create write write sync sync unlink" || !errors.Is(err, syscall.EIO) || errors.Is(err, ErrUnknown) || text(t, path) != "old" {
		t.Errorf("%s; %v", got, err)
	}
}

type brokenReader struct {
	*strings.Reader
	left int
}

func (r *brokenReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := r.Reader.Read(p[:min(len(p), r.left)])
	r.left -= n
	return n, err
}

func TestMessageThatCannotBeRead(t *testing.T) {
	path := t.TempDir() + "/box"
	must(t, os.WriteFile(path, []byte("old"), 0o600))
	e := entry("id1", strings.Repeat("x\n", 3*bufferSize))
	e.Message = &brokenReader{e.Message.(*strings.Reader), 4 * bufferSize}
	if err := Append(t.Context(), path, e, Options{}); !errors.Is(err, io.ErrUnexpectedEOF) || text(t, path) != "old" {
		t.Errorf("%v; %d octets", err, len(text(t, path)))
	}
}

// The limit of ulimit -f, as a system sets it.
func TestFileSizeLimit(t *testing.T) {
	path := t.TempDir() + "/box"
	must(t, os.WriteFile(path, []byte("old\n\n"), 0o600))
	self, err := os.Executable()
	must(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "MBOX_APPEND="+path)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "file too large") || text(t, path) != "old\n\n" {
		t.Errorf("%s, %v; %d octets", out, err, len(text(t, path)))
	}
}

// What earlier attempts may have left, as others have changed it since, and what becomes of it.
func TestSuspect(t *testing.T) {
	body := strings.Repeat("0123456789abcde\n", 3*bufferSize/16) + "From me\n"
	quoted := strings.Replace(body, "From", ">From", 1)
	const other = "From x\nS: y\n\nolder\n\n"
	mine := whole("id1", quoted)
	read := strings.Replace(mine, "\nSubject", "\nStatus: RO\nX-UID: 5\nSubject", 1)
	for _, c := range []struct{ name, there, want string }{
		{"nothing", "", mine},
		{"others", other, other + mine},
		{"it", other + mine, other + mine},
		{"it alone", mine, mine},
		{"it, and others after", other + mine + other, other + mine + other},
		{"it, read", other + read + other, other + read + other},
		{"it, without the last empty line", other + mine[:len(mine)-1], other + mine},
		{"half of it", other + mine[:len(mine)/2], other + mine},
		{"half of it alone", mine[:len(mine)/2], mine},
		{"half of its header", other + mine[:len(postmarkA)+40], other + mine},
		{"its header", other + mine[:strings.Index(mine, "\n\n")+1], other + mine},
		{"its header and the empty line", other + mine[:strings.Index(mine, "\n\n")+2], other + mine},
		{"half of it, others after", other + mine[:len(mine)/2] + "\n\n" + other, other + mine[:len(mine)/2] + "\n\n" + other + mine},
		{"half of it, and it", mine[:len(mine)/2] + "\n\n" + mine, mine[:len(mine)/2] + "\n\n" + mine},
		{"its name in a text", other + "From x\nS: y\n\nReceived: by mx.example; id id1\n\n", other + "From x\nS: y\n\nReceived: by mx.example; id id1\n\n" + mine},
		{"its beginning, quoted by another", other + "From x\nS: y\n\ntext\nFrom z\nid id1\n\n0123456789abcde\n", other + "From x\nS: y\n\ntext\nFrom z\nid id1\n\n0123456789abcde\n\n" + mine},
		{"its text under another header", strings.Replace(mine, "id id1", "id id2", 1), strings.Replace(mine, "id id1", "id id2", 1) + whole("id1", quoted)},
	} {
		path := t.TempDir() + "/box"
		must(t, os.WriteFile(path, []byte(c.there), 0o600))
		// Its first field is what the delivery has added.
		e := Entry{Sender: "alice@a.example", Date: arrived, ID: "id id1", Header: []byte("Received: by mx.example; id id1\n"),
			Message: strings.NewReader("Subject: s id1\n\n" + body), Suspect: true}
		synced := false
		ops := &durable.Ops{Fault: func(op durable.Op, name string) error {
			synced = synced || op == durable.OpSync
			return nil
		}}
		must(t, Append(t.Context(), path, e, Options{Ops: ops}))
		if got := text(t, path); got != c.want {
			t.Errorf("%s: %d octets, want %d", c.name, len(got), len(c.want))
		}
		if !synced {
			t.Errorf("%s: not synced", c.name)
		}
	}
	if err := Append(t.Context(), t.TempDir()+"/box", Entry{Message: strings.NewReader(""), Suspect: true}, Options{}); err != nil {
		t.Errorf("an empty file needs no search: %v", err)
	}
}

// A crash after any number of octets: the next attempt leaves one message.
func TestCrashAnywhere(t *testing.T) {
	const other = "From x\nS: y\n\nolder\n\n"
	mine := whole("id1", "one\n\ntwo\n")
	named := strings.Index(mine, "id1") + len("id1")
	for n := named; n <= len(mine); n++ {
		path := t.TempDir() + "/box"
		must(t, os.WriteFile(path, []byte(other+mine[:n]), 0o600))
		e := entry("id1", "one\n\ntwo\n")
		e.Suspect = true
		must(t, Append(t.Context(), path, e, Options{}))
		if got := text(t, path); got != other+mine {
			t.Errorf("after %d octets: %q", n, got)
		}
	}
}
