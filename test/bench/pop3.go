package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"postamt/test/peers"
)

var withDovecot = []string{"dovecot", "courier", "postamt"}

// maildir is one of the user alice.
type maildir struct {
	dir, path string
	owner     int // since withIMAP
}

// withMaildir makes a maildir of n messages of a size, calls f and removes it.
func (b *bench) withMaildir(n, size int, f func(m *maildir) error) error {
	body := message(size)
	text := append([]byte("From: alice@example.test\nSubject: bench\n"), body...)
	text = []byte(strings.ReplaceAll(string(text), "\r\n", "\n"))
	old := time.Now().Add(-time.Hour)
	m, err := b.makeMaildir("alice", n, func(int) ([]byte, time.Time) { return text, old })
	if err != nil {
		return err
	}
	defer os.RemoveAll(m.dir)
	return f(m)
}

// makeMaildir makes one of n messages, which text gives, with their internal dates.
func (b *bench) makeMaildir(user string, n int, text func(i int) ([]byte, time.Time)) (*maildir, error) {
	b.count++
	m := &maildir{dir: filepath.Join(b.base, fmt.Sprintf("mail%d", b.count))}
	m.path = filepath.Join(m.dir, user, "Maildir")
	if err := fillMaildir(m.path, n, text); err != nil {
		os.RemoveAll(m.dir)
		return nil, err
	}
	syscall.Sync()
	return m, nil
}

func fillMaildir(path string, n int, text func(i int) ([]byte, time.Time)) error {
	for _, d := range []string{"new", "cur", "tmp"} {
		if err := os.MkdirAll(filepath.Join(path, d), 0o755); err != nil {
			return err
		}
	}
	for i := range n {
		text, date := text(i)
		name := fmt.Sprintf("%d.Q0h2mc9x4rvk3t%06dX6b1f0c3a9d42.mx.example.test,S=%d,W=%d:2,S", 1764000000+i, i, len(text), len(text)+bytes.Count(text, []byte("\n")))
		file := filepath.Join(path, "cur", name)
		if err := errors.Join(os.WriteFile(file, text, 0o600), os.Chtimes(file, date, date)); err != nil {
			return err
		}
	}
	old := time.Now().Add(-time.Hour)
	return errors.Join(os.Chtimes(filepath.Join(path, "new"), old, old), os.Chtimes(filepath.Join(path, "cur"), old, old))
}

// own gives all of it to one owner.
func (m *maildir) own(uid, gid int) error {
	return filepath.WalkDir(m.dir, func(p string, _ os.DirEntry, err error) error { return errors.Join(err, os.Lchown(p, uid, gid)) })
}

// remove returns what removes files of a pattern.
func (m *maildir) remove(pattern string) func() error {
	return func() error {
		found, _ := filepath.Glob(filepath.Join(m.path, pattern))
		for _, f := range found {
			if err := os.Remove(f); err != nil {
				return err
			}
		}
		return nil
	}
}

// pop3Server is a running POP3 server with one maildir, of the user alice with the password secret.
type pop3Server struct {
	addr   string
	imap   string       // its IMAP server, if it has one
	forget func() error // removes what the server has learnt of the maildir, but for its list of UIDs; Courier's POP3 has that and the sizes in one file
}

// withPOP3 makes a maildir of n messages of a size, starts a server on it, calls f and ends the server.
func (b *bench) withPOP3(kind string, n, size int, f func(s *pop3Server) error) error {
	return b.withMaildir(n, size, func(m *maildir) (err error) {
		const uid = 60001
		var s pop3Server
		if kind == "postamt" {
			if err := m.own(uid, uid); err != nil {
				return err
			}
			stop, addr, err := b.pop3d(m.dir, uid)
			if err != nil {
				return err
			}
			defer stop()
			s.addr, s.forget = addr, m.remove("postamt.index")
			return f(&s)
		}
		nobody, err := user.Lookup("nobody")
		if err != nil {
			return err
		}
		nuid, _ := strconv.Atoi(nobody.Uid)
		ngid, _ := strconv.Atoi(nobody.Gid)
		if err := m.own(nuid, ngid); err != nil {
			return err
		}
		var p *peers.Server
		c := peers.Config{Protocols: []string{"imap", "pop3"}, Maildirs: m.dir, Users: []string{"alice"}}
		if kind == "courier" {
			d, err := peers.StartCourier(c)
			if err != nil {
				return err
			}
			p, s = d.Server, pop3Server{d.POP3, d.IMAP, m.remove("courierpop3dsizelist")}
		} else {
			d, err := peers.StartDovecot(c)
			if err != nil {
				return err
			}
			p, s = d.Server, pop3Server{d.POP3, d.IMAP, m.remove("dovecot.index*")}
		}
		defer func() { err = errors.Join(err, p.Stop()) }()
		return f(&s)
	})
}

// pop3d starts authd and pop3d, as root does: front, monitor and workers.
func (b *bench) pop3d(dir string, uid int) (stop func(), addr string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	addr = l.Addr().String()
	l.Close()
	p, err := b.access(dir, uid, []string{"alice"}, []string{"authd", "pop3d"}, "pop3d_listen "+addr+"=pop3\n")
	if err != nil {
		return nil, "", err
	}
	return p.stop, addr, nil
}

// programs are running programs of ours.
type programs []*exec.Cmd

func (p programs) stop() {
	for _, c := range p {
		c.Process.Signal(syscall.SIGTERM)
		c.Wait()
	}
}

// access starts programs for users whose homes are in a directory.
func (b *bench) access(dir string, uid int, users, names []string, settings string) (running programs, err error) {
	etc := filepath.Join(dir, "etc")
	for _, d := range []string{etc, dir + "/run", dir + "/state"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	conf := filepath.Join(etc, "postamt.conf")
	text := fmt.Sprintf("hostname mx.example.test\nlocal_domains example.test\nrun_dir %s/run\nstate_dir %[1]s/state\nmailbox_dir %[1]s\nlogin_user 60000:60000\n"+
		"auth_user\nsmtpd_user\nqueue_user\nmaildir ~/Maildir\nlog stderr\n%s", dir, settings)
	// "secret", with a hash that takes no time: what a login is worth to be slow is not measured here. (authd has who has no hash at all wait as
	// long as for one.)
	var table strings.Builder
	for _, user := range users {
		fmt.Fprintf(&table, "%s:{SHA256-CRYPT}%s:%d:%[3]d::%s/%[1]s::\n", user, cheap, uid, dir)
	}
	if err := errors.Join(os.WriteFile(conf, []byte(text), 0o644), os.WriteFile(filepath.Join(etc, "users"), []byte(table.String()), 0o600)); err != nil {
		return nil, err
	}
	for _, name := range names {
		ready, w, err := os.Pipe()
		if err != nil {
			running.stop()
			return nil, err
		}
		log, err := os.Create(filepath.Join(dir, name+".log"))
		if err != nil {
			running.stop()
			return nil, err
		}
		c := exec.Command(filepath.Join(b.bin, name), "-C", conf, "-notify", "3")
		c.ExtraFiles, c.Stderr = []*os.File{w}, log
		err = c.Start()
		w.Close()
		log.Close()
		if err == nil {
			running = append(running, c)
			if _, rerr := bufio.NewReader(ready).ReadString('\n'); rerr != nil {
				said, _ := os.ReadFile(log.Name())
				err = fmt.Errorf("%s is not ready: %s", name, said)
			}
		}
		ready.Close()
		if err != nil {
			running.stop()
			return nil, err
		}
	}
	return running, nil
}

const cheap = "$5$rounds=1000$abcdefgh$XIppta5rT8zJUu4vAOKQXrwq9uY4Ijlz6VjyOmkx5i4"

// popClient says one thing after the other.
type popClient struct {
	net.Conn
	r *bufio.Reader
}

// dialMail connects to a POP3 or IMAP server and reads its greeting.
func dialMail(addr string) (*popClient, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(time.Now().Add(10 * time.Minute))
	c := &popClient{nc, bufio.NewReaderSize(nc, 1<<20)}
	if _, err := c.line(); err != nil {
		return nil, err
	}
	return c, nil
}

func (s *pop3Server) login() (*popClient, error) {
	c, err := dialMail(s.addr)
	if err != nil {
		return nil, err
	}
	return c, errors.Join(c.say("USER alice"), c.say("PASS secret"))
}

func (c *popClient) line() (string, error) {
	b, err := c.r.ReadSlice('\n')
	return string(b), err
}

func (c *popClient) ok() error {
	s, err := c.line()
	if err == nil && !strings.HasPrefix(s, "+OK") {
		err = errors.New(s)
	}
	return err
}

func (c *popClient) say(line string) error {
	if _, err := c.Write([]byte(line + "\r\n")); err != nil {
		return err
	}
	return c.ok()
}

// many reads a response of several lines, and returns how many octets they have.
func (c *popClient) many() (octets int, err error) {
	if err := c.ok(); err != nil {
		return 0, err
	}
	for {
		b, err := c.r.ReadSlice('\n')
		if err != nil {
			return octets, err
		}
		if len(b) == 3 && b[0] == '.' {
			return octets, nil
		}
		octets += len(b)
	}
}

func (c *popClient) list(command string) error {
	if _, err := c.Write([]byte(command + "\r\n")); err != nil {
		return err
	}
	_, err := c.many()
	return err
}

// look is what a mail program does that finds nothing new.
func (s *pop3Server) look() (time.Duration, error) {
	begun := time.Now()
	c, err := s.login()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	err = errors.Join(c.say("STAT"), c.list("UIDL"), c.list("LIST"), c.say("QUIT"))
	return time.Since(begun), err
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func pop3Look(n int, warm, cold float64) experiment {
	return experiment{name: fmt.Sprintf("pop3look%d", n), what: fmt.Sprintf("POP3: connect, log in, STAT, UIDL, LIST, QUIT; %d messages", n), kinds: withDovecot,
		figures: []figure{{name: fmt.Sprintf("POP3 look, %d messages, warm", n), unit: "ms", less: true, ratio: warm},
			{name: fmt.Sprintf("POP3 look, %d messages, no index", n), unit: "ms", less: true, ratio: cold}},
		run: func(b *bench, kind string) ([]float64, error) {
			var warm, cold time.Duration
			err := b.withPOP3(kind, b.n(n), 500, func(s *pop3Server) error {
				if _, err := s.look(); err != nil { // the list of UIDs is made
					return err
				}
				var all []float64
				for range 3 {
					d, err := s.look()
					if err != nil {
						return err
					}
					all = append(all, float64(d))
				}
				warm = time.Duration(median(all))
				all = nil
				for range 3 {
					if err := s.forget(); err != nil {
						return err
					}
					d, err := s.look()
					if err != nil {
						return err
					}
					all = append(all, float64(d))
				}
				cold = time.Duration(median(all))
				return nil
			})
			return []float64{ms(warm), ms(cold)}, err
		}}
}

func pop3Fetch() experiment {
	return experiment{name: "pop3fetch", what: "POP3: RETR of everything, then DELE of everything and QUIT; 10,000 messages of 8 KiB", kinds: withDovecot,
		figures: []figure{{name: "POP3 RETR, one by one", unit: "MB/s", ratio: 1.5}, {name: "POP3 RETR, pipelined", unit: "MB/s", ratio: 1.5},
			{name: "POP3 DELE of all and QUIT", unit: "ms", less: true, ratio: 0.8}},
		run: func(b *bench, kind string) ([]float64, error) {
			n := b.n(10_000)
			rates := [2]float64{math.NaN(), math.NaN()}
			var deleted time.Duration
			err := b.withPOP3(kind, n, 8<<10, func(s *pop3Server) error {
				if _, err := s.look(); err != nil {
					return err
				}
				for k, pipelined := range []bool{false, true} {
					if kind == "courier" && !pipelined {
						continue // 44 ms a message: it waits for our ACK with the last segment, we for its data with the ACK
					}
					c, err := s.login()
					if err != nil {
						return err
					}
					begun, octets := time.Now(), 0
					if pipelined {
						go func() {
							w := bufio.NewWriter(c)
							for i := range n {
								fmt.Fprintf(w, "RETR %d\r\n", i+1)
							}
							w.Flush()
						}()
					}
					for i := range n {
						if !pipelined {
							fmt.Fprintf(c, "RETR %d\r\n", i+1)
						}
						got, err := c.many()
						if err != nil {
							return err
						}
						octets += got
					}
					rates[k] = float64(octets) / 1e6 / time.Since(begun).Seconds()
					if err := c.say("QUIT"); err != nil {
						return err
					}
					c.Close()
				}
				c, err := s.login()
				if err != nil {
					return err
				}
				defer c.Close()
				begun := time.Now()
				go func() {
					w := bufio.NewWriter(c)
					for i := range n {
						fmt.Fprintf(w, "DELE %d\r\n", i+1)
					}
					w.Flush()
				}()
				for range n {
					if err := c.ok(); err != nil {
						return err
					}
				}
				err = c.say("QUIT")
				deleted = time.Since(begun)
				return err
			})
			return []float64{rates[0], rates[1], ms(deleted)}, err
		}}
}
