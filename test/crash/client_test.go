package crash

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fate is what the client of a message knows of it.
type fate int

const (
	unsent       fate = iota // the end of the message never left the client: nobody may have it
	unknown                  // the end went out, no reply came back: once, or not at all
	refused                  // a reply other than 2xx: nobody may have it
	acknowledged             // 250 was read: everybody must have it
)

// sent is one message, as its client sees it.
type sent struct {
	number int
	to     int // index into load.targets
	fate   fate
	reply  string // if refused
}

func (s *sent) id() string { return fmt.Sprintf("crash-%06d", s.number) }

// target is a set of recipients that messages are sent to, and who must have them.
type target struct {
	rcpts     []string
	mailboxes []string // local users
	remote    bool     // the sink too
	away      []string // or exactly these, at any of several sinks
	bounced   bool     // and the sender is told that somebody could not be reached
}

// load is a number of clients that send messages as fast as they are taken. After a lost connection a client makes a new
// one and sends a new message: what became of the old one it does not ask.
type load struct {
	t       testing.TB
	addr    string
	from    string
	seed    uint64
	targets []target
	most    int         // messages, until stop is closed; 0: no limit
	sizes   map[int]int // of messages, by number; others are as large as chance has it
	told    func(*sent) // if not nil, is called when a client has read its 250

	next     atomic.Int64 // number of the next message
	finished atomic.Int64 // messages with a known or unknown fate
	stop     chan struct{}
	wg       sync.WaitGroup

	mu   sync.Mutex
	sent []sent
}

// start sets n clients to work.
func (l *load) start(n int) {
	l.stop = make(chan struct{})
	for range n {
		l.wg.Go(l.client)
	}
}

// wait returns when the clients have ended; with end they end after the message they are at.
func (l *load) wait(end bool) {
	if end {
		close(l.stop)
	}
	l.wg.Wait()
}

func (l *load) client() {
	var c *session
	for {
		select {
		case <-l.stop:
			if c != nil {
				c.Close()
			}
			return
		default:
		}
		if c == nil {
			var err error
			if c, err = dial(l.addr); err != nil {
				// Down for a moment. That it comes back is for the supervisor, and the test's own time limit, to say.
				c = nil
				time.Sleep(2 * time.Millisecond)
				continue
			}
		}
		number := int(l.next.Add(1)) - 1
		if l.most > 0 && number >= l.most {
			c.Close()
			return
		}
		m := sent{number: number, to: int(l.random(number).Uint64() % uint64(len(l.targets)))}
		alive, err := c.send(&m, l.from, l.targets[m.to].rcpts, l.text(number))
		if err != nil {
			l.t.Errorf("%s: %v", m.id(), err)
		}
		if m.fate == acknowledged && l.told != nil {
			l.told(&m)
		}
		l.mu.Lock()
		l.sent = append(l.sent, m)
		l.mu.Unlock()
		l.finished.Add(1)
		if !alive {
			c.Close()
			c = nil
		}
	}
}

// count is how many messages met that fate.
func (l *load) count(f fate) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for i := range l.sent {
		if l.sent[i].fate == f {
			n++
		}
	}
	return n
}

// acknowledged returns the numbers of the messages whose 250 has been read.
func (l *load) acknowledged() map[int]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	numbers := map[int]bool{}
	for i := range l.sent {
		if l.sent[i].fate == acknowledged {
			numbers[l.sent[i].number] = true
		}
	}
	return numbers
}

// random is the chance that belongs to one message: the same whenever it is asked.
func (l *load) random(number int) *rand.Rand { return rand.New(rand.NewPCG(l.seed, uint64(number))) }

// text is a message: most are small, some larger than what any of the programs keeps in memory. Some lines begin with dots.
func (l *load) text(number int) []byte {
	r := l.random(number)
	r.Uint64() // chose the target
	id := (&sent{number: number}).id()
	size := 200 + r.IntN(4000)
	if r.IntN(20) == 0 {
		size = 50<<10 + r.IntN(300<<10)
	}
	if n, ok := l.sizes[number]; ok {
		size = n
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: <%s>\r\nSubject: %s\r\n\r\n", l.from, id)
	for line := 0; b.Len() < size; line++ {
		if r.IntN(10) == 0 {
			b.WriteByte('.')
		}
		fmt.Fprintf(&b, "%s %d ", id, line)
		for range r.IntN(4) {
			b.WriteString(strconv.FormatUint(r.Uint64(), 36))
		}
		b.WriteString("\r\n")
	}
	fmt.Fprintf(&b, "end of %s\r\n", id)
	return b.Bytes()
}

// A session is one connection to smtpd. It sends what the protocol says and reads replies byte by byte; nothing of ours is in it.
type session struct {
	net.Conn
	r *bufio.Reader
}

// patience is longer than any reply may take; a program that hangs is an error, not an unknown fate.
const patience = 60 * time.Second

func dial(addr string) (*session, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(patience))
	s := &session{conn, bufio.NewReader(conn)}
	reply, err := s.reply()
	if err == nil && reply[0] == '2' {
		reply, err = s.command("EHLO client.test\r\n")
	}
	if err == nil && reply[0] != '2' {
		err = errors.New(reply)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

func (s *session) command(text string) (string, error) {
	if _, err := s.Write([]byte(text)); err != nil {
		return "", err
	}
	return s.reply()
}

// reply reads one reply, its lines joined. Only a whole line that ends it is one: a cut-off 250 is none.
func (s *session) reply() (string, error) {
	var all strings.Builder
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			return "", err
		}
		if len(line) < 6 || !strings.HasSuffix(line, "\r\n") {
			return "", fmt.Errorf("no SMTP reply: %q", line)
		}
		all.WriteString(line[:len(line)-2])
		if line[3] == ' ' {
			return all.String(), nil
		}
		all.WriteByte('\n')
	}
}

// send makes one transaction and notes the fate of the message. alive: the connection can be used again. The error is something
// that no crash explains.
func (s *session) send(m *sent, from string, rcpts []string, text []byte) (alive bool, err error) {
	s.SetDeadline(time.Now().Add(patience))
	lost := func(err error) (bool, error) {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			return false, err
		}
		return false, nil
	}
	commands := []string{"MAIL FROM:<" + from + ">\r\n"}
	for _, rcpt := range rcpts {
		commands = append(commands, "RCPT TO:<"+rcpt+">\r\n")
	}
	for _, c := range append(commands, "DATA\r\n") {
		reply, err := s.command(c)
		if err != nil {
			return lost(err)
		}
		if reply[0] != '2' && reply[0] != '3' {
			m.fate, m.reply = refused, reply
			reply, err := s.command("RSET\r\n")
			return err == nil && reply[0] == '2', nil
		}
	}
	// RFC 5321 section 4.5.2: a dot before each that begins a line. A line begins after CRLF only.
	stuffed := bytes.ReplaceAll(text, []byte("\r\n."), []byte("\r\n.."))
	if _, err := s.Write(append(stuffed, ".\r\n"...)); err != nil {
		return lost(err) // the end is among what was not written
	}
	m.fate = unknown
	reply, err := s.reply()
	if err != nil {
		return lost(err)
	}
	if strings.HasPrefix(reply, "250 ") {
		m.fate = acknowledged
	} else {
		m.fate, m.reply = refused, reply
	}
	return true, nil
}
