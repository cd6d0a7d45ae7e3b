package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"postamt/internal/addr"
	"postamt/internal/config"
	"postamt/internal/lmtpd"
	"postamt/internal/maildir"
	"postamt/internal/queue"
	"postamt/internal/smtp"
)

// envelope is what the command line says about a message.
type envelope struct {
	user      string
	extension string
	from      string
	fromGiven bool
	to        string
}

// filter stores one message, read from in, and returns the exit code. What is
// wrong goes to errs, in one line: the mail server that ran us logs it.
func filter(file string, e envelope, in io.Reader, errs io.Writer) int {
	fail := func(code int, err error) int {
		fmt.Fprintln(errs, "deliver:", oneLine(err))
		return code
	}
	// What is wrong with our files will be mended, and is no fault of the message: with 78 whoever ran us would return it.
	c, err := config.Load(file)
	if err != nil {
		return fail(exTempFail, err)
	}
	// Without a users file nobody exists, which no message should be returned for.
	// Slips in the tables that are not this user's are for the log of the daemons.
	boxes, err := accounts(c, lmtpd.Self(os.Geteuid()), func(error) {})
	if err != nil {
		return fail(exTempFail, err)
	}
	box, to, err := e.mailbox(boxes, c)
	if err != nil {
		var r *smtp.Reply
		if errors.As(err, &r) && r.Permanent() {
			return fail(exNoUser, fmt.Errorf("user %q: %s", e.user, r.Lines[0]))
		}
		return fail(exTempFail, err)
	}
	if e.to != "" {
		m, err := addr.Parse(e.to, true)
		if err != nil {
			return fail(exData, fmt.Errorf("recipient: %w", err))
		}
		to = m.String()
	}
	r := bufio.NewReaderSize(in, 64<<10)
	unixFrom, err := dropFrom(r)
	if err != nil {
		return fail(exIOErr, fmt.Errorf("read message: %w", err))
	}
	if !e.fromGiven {
		// A mailbox's separator line is no command: what is not an address there is no sender.
		if m, err := addr.Parse(unixFrom, true); err == nil {
			e.from = m.String()
		}
	} else if e.from, err = sender(e.from, c.Origin); err != nil {
		return fail(exData, fmt.Errorf("sender: %w", err))
	}
	now := time.Now()
	m := maildir.Message{ID: string(queue.NewID(now)), Arrived: now}
	store := newStore(c)
	defer store.Close()
	d := store.Begin(m, []maildir.Copy{{Target: box.Target, Header: lmtpd.Header(e.from, to, "")}})
	if err := copyMessage(d, r, c.MessageSizeLimit); err != nil {
		d.Abort()
		if errors.Is(err, errTooBig) {
			return fail(exData, err)
		}
		return fail(exIOErr, fmt.Errorf("read message: %w", err))
	}
	if err := d.Commit()[0].Err; err != nil {
		return fail(exTempFail, err)
	}
	return exOK
}

// mailbox finds the user, who is named as in the users file or by address, and
// the address for Delivered-To.
func (e *envelope) mailbox(boxes *lmtpd.Accounts, c *config.Config) (lmtpd.Mailbox, string, error) {
	m := addr.Mailbox{Local: e.user}
	if strings.Contains(e.user, "@") {
		var err error
		if m, err = addr.Parse(e.user, true); err != nil {
			return lmtpd.Mailbox{}, "", smtp.NewReply(550, "5.1.3", err.Error())
		}
	}
	box, err := boxes.Mailbox(lmtpd.Rcpt{Addr: m})
	if err != nil {
		return box, "", err
	}
	if m.Domain == "" {
		m.Domain = c.Origin
	}
	if e.extension != "" {
		box.Target.Tag = e.extension
		if d := c.RecipientDelimiter; d != "" {
			tagged := addr.Mailbox{Local: m.Local + d[:1] + e.extension, Domain: m.Domain}
			// From a command line it may be anything; in a header field only an address.
			if p, err := addr.Parse(tagged.String(), true); err == nil {
				m = p
			}
		}
	}
	if _, err := addr.Parse(m.String(), true); err != nil {
		return box, "", fmt.Errorf("recipient: %w", err)
	}
	return box, m.String(), nil
}

// sender reads the argument of -f: an address, with or without brackets, a
// local name, or nothing for the null reverse-path, which Postfix writes as
// MAILER-DAEMON. Another server has accepted this mail already, so an address
// that is none by the grammar is written as it is, if it can do no harm there.
func sender(s, origin string) (string, error) {
	s = strings.TrimSuffix(strings.TrimPrefix(s, "<"), ">")
	if s == "" || strings.EqualFold(s, "MAILER-DAEMON") {
		return "", nil
	}
	if !strings.Contains(s, "@") {
		s += "@" + origin
	}
	m, err := addr.Parse(s, true)
	if err == nil {
		return m.String(), nil
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] == 0x7f || s[i] == '<' || s[i] == '>' {
			return "", err
		}
	}
	return s, nil
}

// dropFrom takes a line "From sender date" from the start, which some programs
// put there for mbox files, and returns its sender. It has no end within 64 KiB
// in no mbox.
func dropFrom(r *bufio.Reader) (sender string, err error) {
	head, err := r.Peek(len("From "))
	if err == io.EOF {
		return "", nil
	}
	if err != nil || string(head) != "From " {
		return "", err
	}
	line, err := r.ReadSlice('\n')
	if err != nil && err != io.EOF {
		return "", err
	}
	sender, _, _ = strings.Cut(strings.TrimSpace(string(line[len("From "):])), " ")
	return sender, nil
}

var errTooBig = errors.New("message is larger than message_size_limit")

func copyMessage(d *maildir.Delivery, r io.Reader, limit int64) error {
	if limit <= 0 {
		_, err := io.Copy(d, r)
		return err
	}
	n, err := io.Copy(d, io.LimitReader(r, limit+1))
	if err == nil && n > limit {
		err = errTooBig
	}
	return err
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
