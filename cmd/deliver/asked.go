package main

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"postamt/internal/lmtpd"
	"postamt/internal/monitor"
	"postamt/internal/smtp"
)

const (
	keepIdle   = 5 * time.Second // an idle connection from the front to a worker
	traceRoom  = 4096
	answerTime = time.Second // how long an answer of the monitor holds: so often it looks at the tables
	maxAnswers = 10000
)

// asked is the Mailboxes of a part that has no tables: it asks the monitor, and remembers the answers for a moment.
type asked struct {
	ask func(name string) (lmtpd.Mailbox, error)

	mu      sync.Mutex
	answers map[string]answer
}

type answer struct {
	box lmtpd.Mailbox
	at  time.Time
}

// Mailbox implements lmtpd.Mailboxes.
func (a *asked) Mailbox(to lmtpd.Rcpt) (lmtpd.Mailbox, error) {
	name := to.String()
	now := time.Now()
	a.mu.Lock()
	known, ok := a.answers[name]
	a.mu.Unlock()
	if ok && now.Sub(known.at) < answerTime {
		return known.box, nil
	}
	box, err := a.ask(name)
	if err != nil {
		return lmtpd.Mailbox{}, told(err)
	}
	a.mu.Lock()
	if a.answers == nil || len(a.answers) >= maxAnswers {
		a.answers = make(map[string]answer)
	}
	a.answers[name] = answer{box, now}
	a.mu.Unlock()
	return box, nil
}

// told turns a refusal, "550 5.1.1 No such user here", into the reply that it was. What the monitor has logged needs no second line.
func told(err error) error {
	if errors.Is(err, monitor.ErrFailed) {
		return smtp.NewReply(451, "4.3.0", "Mailbox not available now")
	}
	r, ok := errors.AsType[monitor.Refusal](err)
	if !ok {
		return err
	}
	code, rest, _ := strings.Cut(string(r), " ")
	n, nerr := strconv.Atoi(code)
	if nerr != nil {
		return err
	}
	enhanced, text, _ := strings.Cut(rest, " ")
	if _, ok := smtp.ParseEnhanced(enhanced); !ok {
		enhanced, text = "", rest
	}
	return smtp.NewReply(n, enhanced, text)
}

// connect makes a connection to the worker of a recipient's user. When there are as many workers as there may be, those that are
// idle end once nobody holds a connection to them: it waits for that.
func connect(ctx context.Context, link *monitor.Link, r *lmtpd.Router, to lmtpd.Rcpt) (net.Conn, error) {
	for {
		c, err := link.Connect(to.String(), nil)
		if !errors.Is(err, monitor.ErrFull) {
			return c, told(err)
		}
		r.CloseIdle()
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}
