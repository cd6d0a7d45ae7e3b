package network

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postamt/test/proc"
	"postamt/test/suite"
)

// F10: smtpd has no descriptor left. It waits and does not spin, the message that has its file arrives, one that still needs one
// (those below 64 KiB are written at their end) is for later, and when descriptors are free again everything goes on.
func TestF10_SmtpdOutOfDescriptors(t *testing.T) {
	t.Parallel()
	s := local(t, suite.Config{Settings: "smtpd_client_limit 0\n"})
	pid := s.Pid("smtpd")
	inside := talk(t, s.Addr)
	inside.say("250", "EHLO client.test")
	inside.say("250", "MAIL FROM:<x@client.test>")
	inside.say("250", "RCPT TO:<alice@example.test>")
	inside.say("354", "DATA")
	half := strings.Repeat(strings.Repeat("0123456789", 7)+"\r\n", 1400) // 100 kB
	inside.write("Subject: inside\r\n\r\n" + half)
	await(t, "the file of a message", func() bool { return len(s.Queued()) == 1 })
	before := talk(t, s.Addr)
	before.say("250", "EHLO client.test")

	const spare, crowd = 6, 40
	restore := fewFiles(t, pid, spare)
	var waiting []*dialogue
	for range crowd {
		conn, err := net.Dial("tcp", s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		waiting = append(waiting, &dialogue{t, conn, bufio.NewReader(conn)})
	}
	await(t, "smtpd to say that it cannot accept", func() bool {
		return strings.Contains(s.Log("smtpd"), `op=accept error="too many open files`)
	})
	idle(t, pid)

	before.say("250", "MAIL FROM:<x@client.test>")
	before.say("250", "RCPT TO:<bob@example.test>")
	before.say("354", "DATA")
	before.say("451", "Subject: early\r\n\r\nThis is early.\r\n.")
	before.say("250", "NOOP")
	inside.write(half + ".\r\n")
	inside.expect("250")
	if _, err := s.AwaitDelivered("alice", 1, limit); err != nil {
		t.Error(err)
	}

	// The crowd leaves: of those who were served the places, of those who were not the line.
	for _, w := range waiting[:crowd/2] {
		w.conn.Close()
	}
	restore()
	for _, w := range waiting[crowd/2:] {
		w.expect("220") // also those who have waited
	}
	before.message("bob@example.test", "later")
	last := talk(t, s.Addr)
	last.say("250", "EHLO client.test")
	last.message("bob@example.test", "new")
	if _, err := s.AwaitDelivered("bob", 2, limit); err != nil {
		t.Error(err)
	}
	if got := subjects(t, s, "alice"); len(got) != 1 || got["inside"] != 1 {
		t.Errorf("alice has %v", got)
	}
	body, err := suite.Body(s.Delivered("alice")[0])
	if want := strings.ReplaceAll(half+half, "\r\n", "\n"); err != nil || string(body) != want {
		t.Errorf("stored %d octets, want %d; %v", len(body), len(want), err)
	}
	if got := subjects(t, s, "bob"); len(got) != 2 || got["later"] != 1 || got["new"] != 1 {
		t.Errorf("bob has %v", got)
	}
}

// F10: queued, or deliver, has descriptors for a few messages only while many wait. No message is lost, damaged or sent twice, nothing
// spins, and what waits is delivered when there are descriptors.
func TestF10_QueueOutOfDescriptors(t *testing.T) {
	for _, name := range []string{"queued", "deliver"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const many = 120
			far := local(t, suite.Config{Domain: "far.test"})
			s := local(t, suite.Config{Domain: "ours.test", Routes: "far.test [127.0.0.1]:" + far.Addr[strings.LastIndexByte(far.Addr, ':')+1:] + "\n",
				Settings: "retry_min 1s\nretry_max 1s\nconnection_idle 1s\nwarn_after 0\n"})
			pid := s.Pid(name)
			s.Signal(name, unix.SIGSTOP) // all find it without descriptors at the same time
			defer s.Signal(name, unix.SIGCONT)
			d := talk(t, s.Socket)
			d.say("250", "EHLO client.test")
			for n := range many {
				d.message("alice@ours.test", fmt.Sprintf("near %d", n))
				d.message("bob@far.test", fmt.Sprintf("far %d", n))
			}
			restore := fewFiles(t, pid, 0)
			s.Signal(name, unix.SIGCONT)
			await(t, name+" to run out of descriptors", func() bool {
				return strings.Contains(s.Log("queued")+s.Log("deliver"), "too many open files")
			})
			if name == "queued" {
				// Its socket did not hold so many wakeups. The directory would tell, and cannot be read: that is tried again soon,
				// not in five minutes.
				await(t, "queued to fail to read the queue", func() bool {
					if err := s.Wake("scan"); err != nil { // again: a scan may find the descriptors that an attempt has just closed
						t.Log(err)
					}
					return strings.Contains(s.Log("queued"), `problem op="read queue"`)
				})
			}
			idle(t, pid)
			if len(s.Queued()) == 0 {
				t.Error("nothing is queued: there was no want")
			}
			restore()
			for _, program := range []*suite.System{s, far} {
				if err := program.AwaitEmpty(limit); err != nil {
					t.Fatal(err)
				}
			}
			near, sent := subjects(t, s, "alice"), subjects(t, far, "bob")
			for n := range many {
				if a, b := near[fmt.Sprintf("near %d", n)], sent[fmt.Sprintf("far %d", n)]; a != 1 || b != 1 {
					t.Errorf("message %d: %d here, %d there, want one each", n, a, b)
				}
			}
		})
	}
}

// local runs a System on free ports of the loopback: descriptors need no namespace.
func local(t *testing.T, c suite.Config) *suite.System {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	c.Bin = bin
	return suite.Start(t, c)
}

// fewFiles lets a process have spare descriptors more than it has. restore takes that back.
func fewFiles(t *testing.T, pid, spare int) (restore func()) {
	t.Helper()
	// The limit is on the number of a new descriptor, not on how many there are, and the numbers have gaps.
	used := descriptors(t, pid)
	most := 0
	for ; used[most] || spare > 0; most++ {
		if !used[most] {
			spare--
		}
	}
	var old unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old); err != nil {
		t.Fatal(err)
	}
	few := old
	few.Cur = uint64(most)
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &few, nil); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &old, nil); err != nil {
			t.Error(err)
		}
	}
}

// idle measures a second of a process that can do nothing but wait.
func idle(t *testing.T, pid int) {
	t.Helper()
	before := proc.CPU(pid)
	time.Sleep(time.Second)
	if used := proc.CPU(pid) - before; used > 150*time.Millisecond {
		t.Errorf("%v of CPU in a second without descriptors", used)
	} else {
		t.Logf("%v of CPU in a second without descriptors", used)
	}
}

// A dialogue is a connection on which a test says what it likes.
type dialogue struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

// talk connects to host:port or to the path of a socket, and reads the greeting.
func talk(t *testing.T, addr string) *dialogue {
	t.Helper()
	kind := "tcp"
	if strings.HasPrefix(addr, "/") {
		kind = "unix"
	}
	conn, err := net.Dial(kind, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	d := &dialogue{t, conn, bufio.NewReader(conn)}
	d.expect("220")
	return d
}

func (d *dialogue) write(text string) {
	d.t.Helper()
	if _, err := d.conn.Write([]byte(text)); err != nil {
		d.t.Fatal(err)
	}
}

// expect reads a reply that begins with code.
func (d *dialogue) expect(code string) {
	d.t.Helper()
	d.conn.SetReadDeadline(time.Now().Add(limit))
	for {
		line, err := d.r.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, code) {
			d.t.Fatalf("got %q, %v, want %s", line, err, code)
		}
		if len(line) > 3 && line[3] == ' ' {
			return
		}
	}
}

func (d *dialogue) say(code, command string) {
	d.t.Helper()
	d.write(command + "\r\n")
	d.expect(code)
}

func (d *dialogue) message(to, subject string) {
	d.t.Helper()
	d.say("250", "MAIL FROM:<bob@ours.test>")
	d.say("250", "RCPT TO:<"+to+">")
	d.say("354", "DATA")
	d.write("Subject: " + subject + "\r\n\r\nThis is " + subject + ".\r\n.\r\n")
	d.expect("250")
}
