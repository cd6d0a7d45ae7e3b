package main

import (
	"fmt"
	"io"
	"time"

	"postamt/test/peers"
)

// An experiment is one way of loading a server, and the figures that it gives.
type experiment struct {
	name    string
	what    string // the load, for the reader
	kinds   []string
	figures []figure
	run     func(b *bench, kind string) ([]float64, error) // one value for each figure
}

var (
	withPostfix = []string{"postfix", "postamt"}
	withExim    = []string{"postfix", "exim", "postamt"}
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

// experiments returns the rows of the table.
func experiments() []experiment {
	return []experiment{
		accept(1, 1000, false, 2),
		accept(10, 3000, false, 4),
		accept(100, 3000, false, 4),
		accept(1, 1000, true, 2),
		accept(10, 3000, true, 3.5),
		accept(100, 3000, true, 4),
		latency(),
		startTLS(1, 1000),
		startTLS(100, 3000),
		oneMailbox(),
		manyMailboxes(),
		relay(),
		large(),
		manyRecipients(),
		deadHost(),
		idle(),
		calls(),
		startUp(),
		pop3Look(1000, 0.2, 0),
		pop3Look(100_000, 0.4, 0.4),
		pop3Fetch(),
		openMaildir(),
		imapSelect(),
		imapFetch(),
		imapSearch(),
		imapBody(),
		imapAppend(),
		imapChange(),
		imapResync(),
		imapIdle(),
		imapLogin(1, false),
		imapLogin(50, false),
		imapLogin(1, true),
		imapLogin(50, true),
		imapMemory(),
	}
}

// accept measures how fast mail is taken in when nothing else goes on.
func accept(sessions, messages int, kept bool, ratio float64) experiment {
	name, label, kinds := fmt.Sprintf("accept%d", sessions), "one message a session", withPostfix
	var more []string
	option := ""
	if kept {
		name, label, option = fmt.Sprintf("kept%d", sessions), "kept open", " -d"
		more = []string{"-d"}
	}
	if kept && sessions == 10 {
		kinds = withExim
	}
	return experiment{
		name:    name,
		what:    fmt.Sprintf("smtp-source -s %d -m %d -l 4096%s; no delivery", sessions, messages, option),
		kinds:   kinds,
		figures: []figure{{name: fmt.Sprintf("accept, %d sessions, %s", sessions, label), unit: "msg/s", ratio: ratio}},
		run: func(b *bench, kind string) ([]float64, error) {
			n := b.n(messages)
			var took time.Duration
			err := b.with(kind, setup{sessions: sessions, accept: true}, func(s *server) (err error) {
				if _, err = b.smtpSource(s, "user@"+domain, sessions, 2*sessions, 4096); err != nil {
					return err
				}
				took, err = b.smtpSource(s, "user@"+domain, sessions, n, 4096, more...)
				return err
			})
			return []float64{float64(n) / took.Seconds()}, err
		},
	}
}

// latency measures how long a client waits for a message to be taken.
func latency() experiment {
	const sessions, messages = 10, 3000
	return experiment{
		name:  "latency",
		what:  fmt.Sprintf("own source, %d sessions kept open, %d messages of 4096; from MAIL to the last 250; no delivery", sessions, messages),
		kinds: withPostfix,
		figures: []figure{
			{name: "time to accept, median", unit: "ms", less: true},
			{name: "time to accept, 99th percentile", unit: "ms", less: true, ratio: 1},
			{name: "time to accept, longest", unit: "ms", less: true},
		},
		run: func(b *bench, kind string) ([]float64, error) {
			load := source{sessions: sessions, messages: 2 * sessions, size: 4096, to: []string{"user@" + domain}}
			var took []time.Duration
			err := b.with(kind, setup{sessions: sessions, accept: true}, func(s *server) (err error) {
				load.addr = s.addr
				if _, err = load.send(b.ctx); err != nil {
					return err
				}
				load.messages = b.n(messages)
				took, err = load.send(b.ctx)
				return err
			})
			if err != nil {
				return nil, err
			}
			ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
			return []float64{ms(percentile(took, 0.5)), ms(percentile(took, 0.99)), ms(took[len(took)-1])}, nil
		},
	}
}

// startTLS measures how fast mail is taken in over TLS, with each messages a session.
func startTLS(each, messages int) experiment {
	const sessions = 10
	return experiment{
		name:    fmt.Sprintf("tls%d", each),
		what:    fmt.Sprintf("own source, %d sessions, STARTTLS (ECDSA P-256, full handshake), %d messages a session, %d of 4096; no delivery", sessions, each, messages),
		kinds:   withExim,
		figures: []figure{{name: fmt.Sprintf("accept by STARTTLS, %d messages a session", each), unit: "msg/s", ratio: 2}},
		run: func(b *bench, kind string) ([]float64, error) {
			n := b.n(messages)
			load := source{sessions: sessions, messages: 2 * sessions, each: each, size: 4096, tls: true, to: []string{"user@" + domain}}
			var took time.Duration
			err := b.with(kind, setup{sessions: sessions, accept: true, tls: true}, func(s *server) error {
				load.addr = s.addr
				if _, err := load.send(b.ctx); err != nil {
					return err
				}
				load.messages = n
				start := time.Now()
				_, err := load.send(b.ctx)
				took = time.Since(start)
				return err
			})
			return []float64{float64(n) / took.Seconds()}, err
		},
	}
}

// stored measures from the first connection until the last file is in a maildir, and the CPU time of the server until it rests.
func (b *bench) stored(kind string, c setup, n int, load func(s *server, n int) error) (rate, cpu float64, err error) {
	err = b.with(kind, c, func(s *server) error {
		w, err := s.watch()
		if err != nil {
			return err
		}
		defer w.close()
		warm := 2 * c.sessions
		if err := load(s, warm); err != nil {
			return err
		}
		if err := w.await(b.ctx, warm); err != nil {
			return err
		}
		pause(b.ctx, 200*time.Millisecond)
		before, start := s.cpu(), time.Now()
		if err := load(s, n); err != nil {
			return err
		}
		if err := w.await(b.ctx, n); err != nil {
			return err
		}
		took := time.Since(start)
		pause(b.ctx, 300*time.Millisecond)
		rate = float64(n) / took.Seconds()
		cpu = (s.cpu() - before).Seconds() * 1000 / float64(n)
		return nil
	})
	return rate, cpu, err
}

func oneMailbox() experiment {
	const sessions, messages = 10, 2000
	return experiment{
		name:  "maildir1",
		what:  fmt.Sprintf("smtp-source -s %d -m %d -l 4096, until the last file is in new/", sessions, messages),
		kinds: withPostfix,
		figures: []figure{
			{name: "SMTP to maildir, 1 mailbox", unit: "msg/s", ratio: 5},
			{name: "CPU of the server for it", unit: "ms/msg", less: true, ratio: 0.2},
		},
		run: func(b *bench, kind string) ([]float64, error) {
			rate, cpu, err := b.stored(kind, setup{sessions: sessions}, b.n(messages), func(s *server, n int) error {
				_, err := b.smtpSource(s, "user@"+domain, sessions, n, 4096)
				return err
			})
			return []float64{rate, cpu}, err
		},
	}
}

func manyMailboxes() experiment {
	const sessions, messages, mailboxes = 10, 2000, 100
	return experiment{
		name:  "maildir100",
		what:  fmt.Sprintf("own source, %d sessions, one message a session, %d of 4096 to %d users in turn, until the last file is in new/", sessions, messages, mailboxes),
		kinds: withPostfix,
		figures: []figure{
			{name: "SMTP to maildir, 100 mailboxes", unit: "msg/s", ratio: 5},
			{name: "CPU of the server for it", unit: "ms/msg", less: true, ratio: 0.2},
		},
		run: func(b *bench, kind string) ([]float64, error) {
			var users, to []string
			for i := range mailboxes {
				users = append(users, fmt.Sprintf("user%d", i))
				to = append(to, users[i]+"@"+domain)
			}
			rate, cpu, err := b.stored(kind, setup{sessions: sessions, users: users}, b.n(messages), func(s *server, n int) error {
				_, err := source{addr: s.addr, sessions: sessions, messages: n, each: 1, size: 4096, to: to}.send(b.ctx)
				return err
			})
			return []float64{rate, cpu}, err
		},
	}
}

func relay() experiment {
	const sessions, messages = 10, 2000
	return experiment{
		name:    "relay",
		what:    fmt.Sprintf("smtp-source -s %d -m %d -l 4096 to another domain, through a fixed host, until smtp-sink has all", sessions, messages),
		kinds:   withPostfix,
		figures: []figure{{name: "relay to smtp-sink", unit: "msg/s", ratio: 4}},
		run: func(b *bench, kind string) ([]float64, error) {
			addr, err := peers.FreeAddr()
			if err != nil {
				return nil, err
			}
			n := b.n(messages)
			var took time.Duration
			err = b.with(kind, setup{sessions: sessions, relayTo: addr}, func(s *server) error {
				// One sink for the warm-up, another for the measured run: each ends after its last message.
				for _, n := range []int{2 * sessions, n} {
					k, err := smtpSink(addr, n)
					if err != nil {
						return err
					}
					defer k.stop()
					start := time.Now()
					if _, err := b.smtpSource(s, "user@elsewhere.test", sessions, n, 4096); err != nil {
						return err
					}
					if err := k.wait(b.ctx); err != nil {
						return err
					}
					took = time.Since(start)
				}
				return nil
			})
			return []float64{float64(n) / took.Seconds()}, err
		},
	}
}

func large() experiment {
	const sessions, messages, size = 2, 40, 10 * mib
	return experiment{
		name:    "large",
		what:    fmt.Sprintf("smtp-source -s %d -m %d -l %d, until the last file is in new/", sessions, messages, size),
		kinds:   withPostfix,
		figures: []figure{{name: "10 MiB messages to maildir", unit: "MiB/s", ratio: 1.3}},
		run: func(b *bench, kind string) ([]float64, error) {
			rate, _, err := b.stored(kind, setup{sessions: sessions}, b.n(messages), func(s *server, n int) error {
				_, err := b.smtpSource(s, "user@"+domain, sessions, n, size)
				return err
			})
			return []float64{rate * size / mib}, err
		},
	}
}

func manyRecipients() experiment {
	const recipients = 1000
	return experiment{
		name:    "recipients",
		what:    fmt.Sprintf("smtp-source -s 1 -m 1 -l 4096 -r %d, until the last file is in a new/", recipients),
		kinds:   withPostfix,
		figures: []figure{{name: "one message to 1000 mailboxes", unit: "s", less: true, ratio: 0.3}},
		run: func(b *bench, kind string) ([]float64, error) {
			// smtp-source counts down, and writes no number before the last one.
			users := []string{"user"}
			for i := 2; i <= recipients; i++ {
				users = append(users, fmt.Sprintf("%duser", i))
			}
			var took time.Duration
			err := b.with(kind, setup{sessions: 1, users: users}, func(s *server) error {
				w, err := s.watch()
				if err != nil {
					return err
				}
				defer w.close()
				for _, n := range []int{1, recipients} { // first to warm up
					start := time.Now()
					if _, err := b.smtpSource(s, "user@"+domain, 1, 1, 4096, "-r", fmt.Sprint(n)); err != nil {
						return err
					}
					if err := w.await(b.ctx, n); err != nil {
						return err
					}
					took = time.Since(start)
				}
				return nil
			})
			return []float64{took.Seconds()}, err
		},
	}
}

func deadHost() experiment {
	const sessions, messages = 10, 10000
	return experiment{
		name:  "dead",
		what:  fmt.Sprintf("smtp-source -s %d -d -m %d -l 4096 for a host that refuses; list; start smtp-sink, flush, until it has all", sessions, messages),
		kinds: withPostfix,
		figures: []figure{
			{name: "10000 messages for a dead host: enqueue", unit: "msg/s", ratio: 3},
			{name: "memory of the server then", unit: "MiB", less: true, ratio: 0.5},
			{name: "list them", unit: "s", less: true, ratio: 1.0 / 3},
			{name: "flush", unit: "msg/s", ratio: 3},
		},
		run: func(b *bench, kind string) ([]float64, error) {
			addr, err := peers.FreeAddr()
			if err != nil {
				return nil, err
			}
			n := b.n(messages)
			values := make([]float64, 4)
			err = b.with(kind, setup{sessions: sessions, relayTo: addr}, func(s *server) error {
				took, err := b.smtpSource(s, "user@elsewhere.test", sessions, n, 4096, "-d")
				if err != nil {
					return err
				}
				values[0] = float64(n) / took.Seconds()
				if err := s.settle(b.ctx); err != nil {
					return err
				}
				if values[1], err = s.pss(); err != nil {
					return err
				}
				values[1] /= mib
				if values[2], err = b.listed(s); err != nil {
					return err
				}
				k, err := smtpSink(addr, n)
				if err != nil {
					return err
				}
				defer k.stop()
				start := time.Now()
				if err := s.flush(); err != nil {
					return err
				}
				if err := k.wait(b.ctx); err != nil {
					return err
				}
				values[3] = float64(n) / time.Since(start).Seconds()
				return nil
			})
			return values, err
		},
	}
}

// listed returns the seconds that listing the queue takes.
func (b *bench) listed(s *server) (float64, error) {
	cmd, err := s.list()
	if err != nil {
		return 0, err
	}
	cmd.Stdout = io.Discard
	took, err := b.timed(cmd)
	return took.Seconds(), err
}

func idle() experiment {
	const connections = 1000
	return experiment{
		name:    "idle",
		what:    fmt.Sprintf("%d connections that have said EHLO", connections),
		kinds:   withExim,
		figures: []figure{{name: "memory (PSS) of an idle connection", unit: "KiB", less: true, absolute: 10}},
		run: func(b *bench, kind string) ([]float64, error) {
			var each float64
			err := b.with(kind, setup{sessions: connections}, func(s *server) error {
				if _, err := b.smtpSource(s, "user@"+domain, 1, 1, 4096); err != nil {
					return err
				}
				if err := s.settle(b.ctx); err != nil {
					return err
				}
				before, err := s.pss()
				if err != nil {
					return err
				}
				for range connections {
					c, err := dial(b.ctx, s.addr)
					if err != nil {
						return err
					}
					defer c.conn.Close()
					if err := c.command("250", "EHLO source.bench.test\r\n"); err != nil {
						return err
					}
				}
				if err := s.settle(b.ctx); err != nil {
					return err
				}
				after, err := s.pss()
				each = (after - before) / connections / kib
				return err
			})
			return []float64{each}, err
		},
	}
}

func calls() experiment {
	const sessions, messages = 10, 300
	return experiment{
		name:  "calls",
		what:  fmt.Sprintf("strace -f -c of every process during smtp-source -s %d -m %d -l 4096, after a warm-up", sessions, messages),
		kinds: withPostfix,
		figures: []figure{
			{name: "system calls a message: accept", unit: "calls", less: true, absolute: 40},
			{name: "system calls a message: accept and store", unit: "calls", less: true, absolute: 120},
		},
		run: func(b *bench, kind string) ([]float64, error) {
			n := b.n(messages)
			values := make([]float64, 2)
			for i, accept := range []bool{true, false} {
				err := b.with(kind, setup{sessions: sessions, accept: accept}, func(s *server) error {
					w, err := s.watch()
					if err != nil {
						return err
					}
					defer w.close()
					send := func(n int) error {
						if _, err := b.smtpSource(s, "user@"+domain, sessions, n, 4096); err != nil || accept {
							return err
						}
						return w.await(b.ctx, n)
					}
					if err := send(2 * sessions); err != nil {
						return err
					}
					pause(b.ctx, 300*time.Millisecond)
					made, err := b.syscalls(s, func() error {
						err := send(n)
						pause(b.ctx, 300*time.Millisecond) // what is done after the last file counts too
						return err
					})
					values[i] = made / float64(n)
					return err
				})
				if err != nil {
					return nil, err
				}
			}
			return values, nil
		},
	}
}

func startUp() experiment {
	return experiment{
		name:  "start",
		what:  "from the first process to the first banner; then ten messages stored, and rest",
		kinds: withPostfix,
		figures: []figure{
			{name: "start of the suite until its banner", unit: "s", less: true, absolute: 0.2},
			{name: "memory (PSS) of the idle suite", unit: "MiB", less: true, absolute: 30},
		},
		run: func(b *bench, kind string) ([]float64, error) {
			values := make([]float64, 2)
			err := b.with(kind, setup{sessions: 1}, func(s *server) error {
				w, err := s.watch()
				if err != nil {
					return err
				}
				defer w.close()
				if _, err := b.smtpSource(s, "user@"+domain, 1, 10, 4096); err != nil {
					return err
				}
				if err := w.await(b.ctx, 10); err != nil {
					return err
				}
				if err := s.settle(b.ctx); err != nil {
					return err
				}
				memory, err := s.pss()
				values = []float64{s.startup.Seconds(), memory / mib}
				return err
			})
			return values, err
		},
	}
}
