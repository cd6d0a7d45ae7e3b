package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"postamt/test/peers"
	"postamt/test/proc"
)

// dovecotFast is Dovecot with the login processes of its "high-performance mode": each serves many connections, and there is one for each processor.
const dovecotFast = "dovecot-fast"

var fastLogin = []string{"service imap-login {\n  service_count = 0\n  process_min_avail = 2\n  client_limit = 1000\n}"}

// imapServer is a running IMAP server.
type imapServer struct {
	kind  string
	m     *maildir
	plain string
	tls   string
	roots func() []int // its processes, but for their descendants
}

// letters returns a maildir of n letters, made once for all rows that leave it as it is but for flags.
func (b *bench) letters(n int) (*maildir, error) {
	if m := b.kept[n]; m != nil {
		return m, nil
	}
	m, err := b.makeMaildir("alice", n, func(i int) ([]byte, time.Time) { return letter(i), dateOf(i) })
	if err != nil {
		return nil, err
	}
	if b.kept == nil {
		b.kept = map[int]*maildir{}
	}
	b.kept[n] = m
	return m, nil
}

// withLetters calls f with a maildir of n letters of its own.
func (b *bench) withLetters(n int, f func(m *maildir) error) error {
	m, err := b.makeMaildir("alice", n, func(i int) ([]byte, time.Time) { return letter(i), dateOf(i) })
	if err != nil {
		return err
	}
	defer os.RemoveAll(m.dir)
	return f(m)
}

// forget removes what a server has learnt of the maildir, but for the list of UIDs.
func (m *maildir) forget() error {
	return errors.Join(m.remove("dovecot.index*")(), m.remove("postamt.index")(), m.remove("postamt.cache")(), m.remove("postamt.columns")())
}

// withIMAP starts a server on a maildir, calls f and ends the server.
func (b *bench) withIMAP(kind string, m *maildir, users []string, f func(s *imapServer) error) (err error) {
	s := &imapServer{kind: kind, m: m}
	if kind == "postamt" {
		const uid = 60001
		if m.owner != uid {
			if err := m.own(uid, uid); err != nil {
				return err
			}
			m.owner = uid
		}
		for _, addr := range []*string{&s.plain, &s.tls} {
			if *addr, err = peers.FreeAddr(); err != nil {
				return err
			}
		}
		etc := filepath.Join(m.dir, "etc")
		if err := os.Mkdir(etc, 0o755); err != nil {
			return err
		}
		defer func() { // the next server owns all that there is
			for _, d := range []string{"etc", "run", "state"} {
				os.RemoveAll(filepath.Join(m.dir, d))
			}
		}()
		cert, key, err := peers.WriteCert(etc, "mx.example.test")
		if err = errors.Join(err, os.Chmod(cert, 0o644)); err != nil { // for the front
			return err
		}
		p, err := b.access(m.dir, uid, users, []string{"keyd", "authd", "imapd"}, fmt.Sprintf("imapd_listen %s=imap %s=imaps\nimapd_client_limit 0\nimapd_user_limit 0\n"+
			"tls_cert %s\ntls_key %s\nkeyd_user\nkeyd_clients 60000\ntls_keys keyd\nauth_clear 127.0.0.0/8\n", s.plain, s.tls, cert, key))
		if err != nil {
			return err
		}
		defer p.stop()
		s.roots = func() []int { return []int{p[0].Process.Pid, p[1].Process.Pid, p[2].Process.Pid} }
		return f(s)
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		return err
	}
	uid, _ := strconv.Atoi(nobody.Uid)
	gid, _ := strconv.Atoi(nobody.Gid)
	if m.owner != uid {
		if err := m.own(uid, gid); err != nil {
			return err
		}
		m.owner = uid
	}
	c := peers.Config{Protocols: []string{"imap"}, Maildirs: m.dir, Users: users, TLS: true, Process: 1200}
	if kind == dovecotFast {
		c.Extra = fastLogin
	}
	d, err := peers.StartDovecot(c)
	if err != nil {
		return err
	}
	s.plain, s.tls = d.IMAP, d.IMAPS
	pid := d.Pid()
	s.roots = func() []int { return append(proc.Group(pid), pid) }
	defer func() { err = errors.Join(err, d.Stop()) }()
	return f(s)
}

// imapClient reads responses, and looks at no more of them than where they end.
type imapClient struct {
	net.Conn
	buf  []byte
	tail []byte // the last octets of what was read, up to 4 KiB of them
}

const imapTag = "zq1 "

func (s *imapServer) dial(secure bool) (*imapClient, error) {
	addr := s.plain
	if secure {
		addr = s.tls
	}
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	if secure {
		nc = tls.Client(nc, &tls.Config{InsecureSkipVerify: true}) // a full handshake each time; self-signed: what is measured is the server
	}
	nc.SetDeadline(time.Now().Add(10 * time.Minute))
	c := &imapClient{Conn: nc, buf: make([]byte, 256<<10)}
	_, err = c.until("* OK")
	return c, err
}

// until reads up to a last line that begins so.
func (c *imapClient) until(begin string) (octets int, err error) {
	const keep = 4 << 10
	have := 0
	for {
		n, err := c.Read(c.buf[have:])
		if err != nil {
			return octets, err
		}
		octets += n
		have += n
		if have > keep {
			have = copy(c.buf, c.buf[have-keep:have])
		}
		c.tail = c.buf[:have]
		if line, ok := bytes.CutSuffix(c.tail, []byte("\r\n")); ok {
			if line = line[bytes.LastIndexByte(line, '\n')+1:]; bytes.HasPrefix(line, []byte(begin)) {
				return octets, nil
			}
		}
	}
}

// say says a command and reads up to its OK.
func (c *imapClient) say(command string) (octets int, err error) {
	if _, err := c.Write([]byte(imapTag + command + "\r\n")); err != nil {
		return 0, err
	}
	return c.ok(command)
}

func (c *imapClient) ok(command string) (octets int, err error) {
	octets, err = c.until(imapTag)
	if err != nil {
		return octets, fmt.Errorf("%.40q: %w", command, err)
	}
	line := c.tail[:len(c.tail)-2]
	if line = line[bytes.LastIndexByte(line, '\n')+1:]; !bytes.HasPrefix(line, []byte(imapTag+"OK")) {
		return octets, fmt.Errorf("%.40q: %q", command, line)
	}
	return octets, nil
}

// timed is say with a clock. The response has to have some octets, so that nothing is measured that says nothing.
func (c *imapClient) timed(command string, octets int) (time.Duration, error) {
	begun := time.Now()
	n, err := c.say(command)
	took := time.Since(begun)
	if err == nil && n < octets {
		err = fmt.Errorf("%.40q: %d octets, want %d: %q", command, n, octets, c.tail)
	}
	return took, err
}

// often is the median of some times, in milliseconds.
func (c *imapClient) often(times int, command string, octets int) (float64, error) {
	var all []float64
	for range times {
		d, err := c.timed(command, octets)
		if err != nil {
			return 0, err
		}
		all = append(all, float64(d.Microseconds())/1000)
	}
	return median(all), nil
}

func (s *imapServer) login(secure bool) (*imapClient, error) { return s.loginAs("alice", secure) }

func (s *imapServer) loginAs(user string, secure bool) (*imapClient, error) {
	c, err := s.dial(secure)
	if err == nil {
		_, err = c.say("LOGIN " + user + " secret")
	}
	return c, err
}

// selected is a session of alice's with her INBOX.
func (s *imapServer) selected() (*imapClient, error) {
	c, err := s.login(false)
	if err == nil {
		_, err = c.say("SELECT INBOX")
	}
	return c, err
}

// number is what follows a word in the last octets that were read.
func (c *imapClient) number(word string) (string, error) {
	_, rest, ok := strings.Cut(string(c.tail), word)
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if !ok || end < 1 {
		return "", fmt.Errorf("no %q in %q", word, c.tail)
	}
	return rest[:end], nil
}

// deliver puts a message into new/ as another process does.
func (m *maildir) deliver(name string, text []byte) error {
	tmp := filepath.Join(m.path, "tmp", name)
	if err := os.WriteFile(tmp, text, 0o600); err != nil {
		return err
	}
	if err := os.Chown(tmp, m.owner, m.owner); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(m.path, "new", name))
}

// pss waits until the processes are quiet, and returns their memory in bytes.
func (s *imapServer) pss() (float64, error) {
	for before, tries := proc.CPU(s.roots()...), 0; tries < 60; tries++ {
		time.Sleep(500 * time.Millisecond)
		now := proc.CPU(s.roots()...)
		if now-before < 20*time.Millisecond {
			break
		}
		before = now
	}
	pids := proc.Tree(s.roots()...)
	slices.Sort(pids)
	sum, err := proc.PSS(slices.Compact(pids)...)
	return float64(sum), err
}
