package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	withDovecots  = []string{"dovecot", dovecotFast, "postamt"}
	withDovecot23 = []string{"dovecot", "postamt"}
	alice         = []string{"alice"}
)

// withSession calls f with a session that has its INBOX selected. Warm: what the server has learnt before is there.
func (b *bench) withSession(kind string, m *maildir, warm bool, f func(c *imapClient) error) error {
	if !warm {
		if err := m.forget(); err != nil {
			return err
		}
	}
	return b.withIMAP(kind, m, alice, func(s *imapServer) error {
		if !warm { // the list of UIDs is made; and what is measured is not the start of a process
			c, err := s.login(false)
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.say("SELECT INBOX"); err != nil {
				return err
			}
		}
		c, err := s.selected()
		if err != nil {
			return err
		}
		defer c.Close()
		return f(c)
	})
}

// selectTime is how long SELECT takes in a new session.
func (s *imapServer) selectTime(n int) (float64, error) {
	c, err := s.login(false)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	d, err := c.timed("SELECT INBOX", 100)
	if err == nil && !strings.Contains(string(c.tail), fmt.Sprintf("* %d EXISTS", n)) {
		err = fmt.Errorf("SELECT: %q, want %d messages", c.tail, n)
	}
	return float64(d.Microseconds()) / 1000, err
}

func imapSelect() experiment {
	return experiment{name: "imapselect", what: "IMAP: SELECT after LOGIN on a new connection; new process: of ours the worker has just been started, of Dovecot each is", kinds: withDovecot23,
		figures: []figure{
			{name: "SELECT, 1,000 messages, warm", unit: "ms", less: true, ratio: 0.15},
			{name: "SELECT, 100,000 messages, warm", unit: "ms", less: true, ratio: 0.15},
			{name: "SELECT, 100,000 messages, warm, new process", unit: "ms", less: true, ratio: 1},
			{name: "SELECT, 100,000 messages, no index", unit: "ms", less: true, ratio: 0.4}},
		run: func(b *bench, kind string) ([]float64, error) {
			var figures []float64
			for _, n := range []int{b.n(1000), b.n(100_000)} {
				m, err := b.letters(n)
				if err != nil {
					return nil, err
				}
				once := func() (v float64, err error) {
					err = b.withIMAP(kind, m, alice, func(s *imapServer) error {
						v, err = s.selectTime(n)
						return err
					})
					return v, err
				}
				if _, err := once(); err != nil { // the list of UIDs is made
					return nil, err
				}
				var all []float64
				if err := b.withIMAP(kind, m, alice, func(s *imapServer) error {
					for range 12 {
						v, err := s.selectTime(n)
						if err != nil {
							return err
						}
						all = append(all, v)
					}
					return nil
				}); err != nil {
					return nil, err
				}
				figures = append(figures, median(all[1:]))
				if len(figures) == 1 {
					continue
				}
				var started, cold []float64
				for i := range 6 {
					if i >= 3 {
						if err := m.forget(); err != nil {
							return nil, err
						}
					}
					v, err := once()
					if err != nil {
						return nil, err
					}
					if i < 3 {
						started = append(started, v)
					} else {
						cold = append(cold, v)
					}
				}
				figures = append(figures, median(started), median(cold))
			}
			return figures, nil
		}}
}

const (
	askEnvelope  = "FETCH 1:* (ENVELOPE INTERNALDATE RFC822.SIZE)"
	askStructure = "FETCH 1:* BODYSTRUCTURE"
	askHeader    = "FETCH 1:* BODY.PEEK[HEADER.FIELDS (From To Subject Date Message-Id References)]"
)

func imapFetch() experiment {
	less := func(name string, ratio float64) figure {
		return figure{name: name, unit: "ms", less: true, ratio: ratio}
	}
	return experiment{name: "imapfetch", what: "IMAP: FETCH 1:* of 100,000 messages; bodies of 20,000", kinds: withDovecot23,
		figures: []figure{less("FETCH FLAGS", 0.7), less("FETCH FLAGS, RFC822.SIZE", 0.7),
			less("FETCH ENVELOPE, INTERNALDATE, RFC822.SIZE, warm", 0.15), less("FETCH the same, cold", 0.25),
			less("FETCH BODYSTRUCTURE, warm", 0.5), less("FETCH BODYSTRUCTURE, cold", 0.3), less("FETCH BODYSTRUCTURE after a cold ENVELOPE", 0.3),
			less("FETCH six header fields, warm", 0.1), {name: "FETCH of bodies", unit: "MB/s", ratio: 1.5}},
		run: func(b *bench, kind string) ([]float64, error) {
			n := b.n(100_000)
			m, err := b.letters(n)
			if err != nil {
				return nil, err
			}
			v := make([]float64, 9)
			err = b.withSession(kind, m, false, func(c *imapClient) (err error) {
				if v[3], err = c.often(1, askEnvelope, 200*n); err == nil {
					v[6], err = c.often(1, askStructure, 100*n)
				}
				return err
			})
			if err != nil {
				return nil, err
			}
			if err := b.withSession(kind, m, false, func(c *imapClient) (err error) {
				v[5], err = c.often(1, askStructure, 100*n)
				return err
			}); err != nil {
				return nil, err
			}
			return v, b.withSession(kind, m, true, func(c *imapClient) error {
				for _, ask := range []struct {
					figure  int
					command string
					octets  int
				}{{0, "FETCH 1:* FLAGS", 20 * n}, {1, "FETCH 1:* (FLAGS RFC822.SIZE)", 30 * n}, {2, askEnvelope, 200 * n}, {4, askStructure, 100 * n}, {7, askHeader, 200 * n}} {
					if _, err := c.often(1, ask.command, ask.octets); err != nil { // what it needs is known now
						return err
					}
					if v[ask.figure], err = c.often(3, ask.command, ask.octets); err != nil {
						return err
					}
				}
				var rates []float64
				for range 3 {
					begun := time.Now()
					octets, err := c.say(fmt.Sprintf("FETCH 1:%d BODY.PEEK[]", (n+4)/5))
					if err != nil {
						return err
					}
					rates = append(rates, float64(octets)/1e6/time.Since(begun).Seconds())
				}
				v[8] = median(rates)
				return nil
			})
		}}
}

// askAll measures commands, each asked once before.
func (b *bench) askAll(kind string, n int, commands ...string) ([]float64, error) {
	m, err := b.letters(n)
	if err != nil {
		return nil, err
	}
	v := make([]float64, len(commands))
	return v, b.withSession(kind, m, true, func(c *imapClient) (err error) {
		for i, command := range commands {
			if _, err := c.say(command); err != nil {
				return err
			}
			if v[i], err = c.often(3, command, 30+n/200); err != nil {
				return err
			}
		}
		return nil
	})
}

func imapSearch() experiment {
	since := dateOf(90_000).Format("2-Jan-2006")
	commands := []string{"SEARCH SUBJECT " + rareWord, "SEARCH FROM person123@", "SEARCH SINCE " + since, "SORT (DATE) UTF-8 ALL", "SORT (SUBJECT) UTF-8 ALL", "THREAD REFERENCES UTF-8 ALL"}
	e := experiment{name: "imapsearch", what: "IMAP: " + strings.Join(commands, "; ") + "; 100,000 messages, each for the second time", kinds: withDovecot23,
		run: func(b *bench, kind string) ([]float64, error) { return b.askAll(kind, b.n(100_000), commands...) }}
	for _, name := range []string{"SEARCH SUBJECT", "SEARCH FROM", "SEARCH SINCE", "SORT DATE", "SORT SUBJECT", "THREAD REFERENCES"} {
		e.figures = append(e.figures, figure{name: name, unit: "ms", less: true, ratio: 0.2})
	}
	return e
}

func imapBody() experiment {
	return experiment{name: "imapbody", what: "IMAP: SEARCH BODY " + rareText + "; 10,000 messages", kinds: withDovecot23,
		figures: []figure{{name: "SEARCH BODY", unit: "ms", less: true, ratio: 0.4}},
		run: func(b *bench, kind string) ([]float64, error) {
			return b.askAll(kind, b.n(10_000), "SEARCH BODY "+rareText)
		}}
}

// appendBy has clients append messages of 4 KiB, and returns how many a second they could.
func (s *imapServer) appendBy(clients, messages int) (float64, error) {
	text := letter(1)
	for i := 2; len(text) < 4096; i++ {
		text = append(text, letter(i)...)
	}
	text = []byte(strings.ReplaceAll(string(text), "\n", "\r\n"))[:4096]
	command := append([]byte(imapTag+"APPEND Box {4096+}\r\n"), text...)
	command = append(command, "\r\n"...)
	all := make([]*imapClient, clients)
	for i := range all {
		c, err := s.login(false)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		all[i] = c
	}
	free := make(chan *imapClient, clients)
	for _, c := range all {
		free <- c
	}
	begun := time.Now()
	err := together(clients, messages, func() error {
		c := <-free
		defer func() { free <- c }()
		if _, err := c.Write(command); err != nil {
			return err
		}
		_, err := c.ok("APPEND")
		return err
	})
	return float64(messages) / time.Since(begun).Seconds(), err
}

func imapAppend() experiment {
	return experiment{name: "imapappend", what: "IMAP: APPEND of 4 KiB, by 1 client 1,000, by 10 clients 3,000", kinds: withDovecot23,
		figures: []figure{{name: "APPEND, 1 client", unit: "msg/s", ratio: 1.2}, {name: "APPEND, 10 clients", unit: "msg/s", ratio: 4}},
		run: func(b *bench, kind string) (v []float64, err error) {
			err = b.withLetters(10, func(m *maildir) error {
				return b.withIMAP(kind, m, alice, func(s *imapServer) error {
					c, err := s.login(false)
					if err != nil {
						return err
					}
					defer c.Close()
					if _, err := c.say("CREATE Box"); err != nil {
						return err
					}
					if _, err := s.appendBy(2, 20); err != nil { // warm
						return err
					}
					for _, x := range []struct{ clients, messages int }{{1, 1000}, {10, 3000}} {
						rate, err := s.appendBy(x.clients, b.n(x.messages))
						if err != nil {
							return err
						}
						v = append(v, rate)
					}
					return nil
				})
			})
			return v, err
		}}
}

func imapChange() experiment {
	e := experiment{name: "imapchange", what: "IMAP: STORE 1:* +FLAGS (\\Flagged), COPY 1:* Box, MOVE 1:* Other, EXPUNGE of all; 10,000 messages", kinds: withDovecot23}
	for _, name := range []string{"STORE", "COPY", "MOVE", "EXPUNGE"} {
		e.figures = append(e.figures, figure{name: name + " of 10,000", unit: "ms", less: true, ratio: 0.8})
	}
	e.run = func(b *bench, kind string) (v []float64, err error) {
		n := b.n(10_000)
		err = b.withLetters(n, func(m *maildir) error {
			return b.withSession(kind, m, false, func(c *imapClient) error {
				for _, command := range []string{"CREATE Box", "CREATE Other"} {
					if _, err := c.say(command); err != nil {
						return err
					}
				}
				syscall.Sync()
				for _, x := range []struct {
					command string
					octets  int
				}{{`STORE 1:* +FLAGS (\Flagged)`, 30 * n}, {"COPY 1:* Box", 30}, {"MOVE 1:* Other", 10 * n}} {
					ms, err := c.often(1, x.command, x.octets)
					if err != nil {
						return err
					}
					v = append(v, ms)
				}
				for _, command := range []string{"SELECT Box", `STORE 1:* +FLAGS.SILENT (\Deleted)`} {
					if _, err := c.say(command); err != nil {
						return err
					}
				}
				syscall.Sync()
				ms, err := c.often(1, "EXPUNGE", 10*n)
				v = append(v, ms)
				return err
			})
		})
		return v, err
	}
	return e
}

func imapResync() experiment {
	return experiment{name: "imapresync", what: "IMAP: SELECT with QRESYNC by a client that knows all but 10 changes of flags; 100,000 messages", kinds: withDovecot23,
		figures: []figure{{name: "QRESYNC, 10 changes in 100,000", unit: "ms", less: true, ratio: 0.1}},
		run: func(b *bench, kind string) ([]float64, error) {
			n := b.n(100_000)
			m, err := b.letters(n)
			if err != nil {
				return nil, err
			}
			var all []float64
			err = b.withIMAP(kind, m, alice, func(s *imapServer) error {
				c, err := s.login(false)
				if err != nil {
					return err
				}
				defer c.Close()
				for _, command := range []string{"ENABLE QRESYNC", `SELECT INBOX (QRESYNC (1 1))`, `STORE 1:* -FLAGS.SILENT (\Flagged)`, "SELECT INBOX"} {
					if _, err := c.say(command); err != nil {
						return err
					}
				}
				validity, err := c.number("UIDVALIDITY ")
				if err != nil {
					return err
				}
				modseq, err := c.number("HIGHESTMODSEQ ")
				if err != nil {
					return err
				}
				for i := range 10 {
					if _, err := c.say(fmt.Sprintf(`STORE %d +FLAGS (\Flagged)`, 1+i*(n/10))); err != nil {
						return err
					}
				}
				for range 7 {
					c, err := s.login(false)
					if err != nil {
						return err
					}
					defer c.Close()
					if _, err := c.say("ENABLE QRESYNC"); err != nil {
						return err
					}
					d, err := c.timed(fmt.Sprintf("SELECT INBOX (QRESYNC (%s %s))", validity, modseq), 100)
					if err != nil {
						return err
					}
					if got := strings.Count(string(c.tail), " FETCH ("); got != 10 {
						return fmt.Errorf("QRESYNC: %d changes of 10: %q", got, c.tail)
					}
					all = append(all, ms(d))
				}
				return nil
			})
			return []float64{median(all)}, err
		}}
}

func imapIdle() experiment {
	return experiment{name: "imapidle", what: "IMAP: from the rename into new/ by another process to EXISTS under IDLE; 1,000 messages", kinds: withDovecot23,
		figures: []figure{{name: "delivery to EXISTS under IDLE", unit: "ms", less: true, absolute: 5}},
		run: func(b *bench, kind string) ([]float64, error) {
			n := b.n(1000)
			var all []float64
			err := b.withLetters(n, func(m *maildir) error {
				return b.withSession(kind, m, false, func(c *imapClient) error {
					if _, err := c.Write([]byte(imapTag + "IDLE\r\n")); err != nil {
						return err
					}
					if _, err := c.until("+ "); err != nil {
						return err
					}
					for i := range 20 {
						time.Sleep(time.Duration(100+i*7) * time.Millisecond)
						if err := m.deliver(fmt.Sprintf("%d.M%dP1.bench", time.Now().Unix(), i), letter(i)); err != nil {
							return err
						}
						begun := time.Now()
						want := fmt.Sprintf("* %d EXISTS\r\n", n+i+1)
						for seen := false; !seen; seen = strings.Contains(string(c.tail), want) {
							if _, err := c.until("* "); err != nil {
								return err
							}
						}
						all = append(all, ms(time.Since(begun)))
					}
					return nil
				})
			})
			return []float64{median(all)}, err
		}}
}

func imapLogin(clients int, secure bool) experiment {
	name, label := fmt.Sprintf("imaplogin%d", clients), ""
	if secure {
		name, label = name+"tls", ", TLS"
	}
	return experiment{name: name, what: fmt.Sprintf("IMAP: connect, LOGIN, SELECT, LOGOUT; %d clients at a time; 1,000 messages", clients), kinds: withDovecots,
		figures: []figure{{name: fmt.Sprintf("connections, %d clients%s", clients, label), unit: "1/s", ratio: 1.5}},
		run: func(b *bench, kind string) ([]float64, error) {
			m, err := b.letters(1000)
			if err != nil {
				return nil, err
			}
			var rate float64
			err = b.withIMAP(kind, m, alice, func(s *imapServer) error {
				once := func() error {
					c, err := s.login(secure)
					if err != nil {
						return err
					}
					defer c.Close()
					if _, err := c.say("SELECT INBOX"); err != nil {
						return err
					}
					_, err = c.say("LOGOUT")
					return err
				}
				if err := together(clients, 2*clients, once); err != nil { // warm
					return err
				}
				n := b.n(2000)
				begun := time.Now()
				err := together(clients, n, once)
				rate = float64(n) / time.Since(begun).Seconds()
				return err
			})
			return []float64{rate}, err
		}}
}

// together calls f so many times, some at a time.
func together(clients, times int, f func() error) error {
	var left atomic.Int64
	left.Store(int64(times))
	errs := make(chan error, clients)
	for range clients {
		go func() {
			for left.Add(-1) >= 0 {
				if err := f(); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	var err error
	for range clients {
		err = errors.Join(err, <-errs)
	}
	return err
}

func imapMemory() experiment {
	e := experiment{name: "imapmemory", what: "IMAP: memory (PSS) of all processes by which it grows for each connection in IDLE, after 1,000 logins that have ended and 10 that have not", kinds: withDovecot23}
	for _, users := range []string{"one user", "a user each"} {
		for _, n := range []int{100, 1000} {
			e.figures = append(e.figures, figure{name: fmt.Sprintf("memory a connection, %d in IDLE, %s", n, users), unit: "KiB", less: true, absolute: 12})
		}
	}
	e.run = func(b *bench, kind string) (v []float64, err error) {
		m, err := b.letters(1000)
		if err != nil {
			return nil, err
		}
		users := []string{"alice"}
		for i := range 1010 {
			users = append(users, fmt.Sprintf("user%d", i))
			if err := fillMaildir(filepath.Join(m.dir, users[i+1], "Maildir"), 10, func(i int) ([]byte, time.Time) { return letter(i), dateOf(i) }); err != nil {
				return nil, err
			}
		}
		m.owner = 0
		defer func() {
			for _, u := range users[1:] {
				os.RemoveAll(filepath.Join(m.dir, u))
			}
		}()
		for _, of := range []func(i int) string{func(int) string { return users[0] }, func(i int) string { return users[i+1] }} {
			err := b.withIMAP(kind, m, users, func(s *imapServer) error {
				// What a process takes once, whoever logs in, is not of a connection: a heap grows to some size before it is ever collected.
				if err := together(10, 1000, func() error {
					c, err := s.login(false)
					if err != nil {
						return err
					}
					defer c.Close()
					_, err = c.say("LOGOUT")
					return err
				}); err != nil {
					return err
				}
				const before = 10
				base, open := 0.0, 0
				for _, n := range []int{before, before + 100, before + 1000} {
					for ; open < n; open++ {
						c, err := s.loginAs(of(open), false)
						if err != nil {
							return err
						}
						defer c.Close()
						if _, err := c.say("SELECT INBOX"); err != nil {
							return err
						}
						if _, err := c.Write([]byte(imapTag + "IDLE\r\n")); err != nil {
							return err
						}
						if _, err := c.until("+ "); err != nil {
							return err
						}
						c.buf, c.tail = nil, nil
					}
					used, err := s.pss()
					if err != nil {
						return err
					}
					if n == before {
						base = used
					} else {
						v = append(v, (used-base)/1024/float64(n-before))
					}
				}
				return nil
			})
			if err != nil {
				return nil, err
			}
		}
		return v, nil
	}
	return e
}
