package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"postamt/internal/addr"
	"postamt/internal/queue"
	"postamt/internal/smtp"
	"postamt/internal/submit"
)

// send takes a message from standard input, and hands it to smtpd.
func (x *call) send() int {
	to, wrong := x.addresses(x.operands)
	author, err := x.author()
	if err != nil {
		return fail(exUsage, err)
	}
	text, err := submit.Read(os.Stdin, submit.Input{IgnoreDots: x.ignoreDots, Limit: x.conf.MessageSizeLimit})
	if err != nil {
		return fail(readCode(err), err)
	}
	defer text.Body.Close()
	if x.mode == uucp && x.from == nil {
		if m, ok := x.uucpSender(text.From); ok {
			author.Sender, author.Name = m, x.name
		}
	}
	if wrong != nil { // cron(8) says what MAILTO has: the message is not to be lost for it
		code, err := x.giveBack(author, exUsage, wrong, []string{wrong.Error()}, text.Header, text.Body)
		return x.failed(code, err, author.Sender, text.Header, text.Body)
	}
	draft, err := submit.Prepare(text.Header, x.fromHeader, author)
	if err == nil && len(to)+len(draft.Recipients) == 0 {
		err = errors.New("the header names no recipients")
	}
	if err != nil {
		code, err := x.giveBack(author, exDataErr, err, []string{err.Error()}, text.Header, text.Body)
		return x.failed(code, err, author.Sender, text.Header, text.Body)
	}
	code, err := x.submit(author, append(to, draft.Recipients...), draft.Header, text.Body)
	return x.failed(code, err, author.Sender, draft.Header, text.Body)
}

// submit sends it to all, or to none.
func (x *call) submit(a submit.Author, to []string, header []byte, body *submit.Spool) (int, error) {
	e := &submit.Envelope{From: a.Sender.String(), To: to, Notify: x.notify, Return: x.ret, ID: x.envID, Size: int64(len(header)) + 2 + body.Size()}
	s, refused, err := x.begin(e)
	if err != nil && s != nil && ended(err) {
		s.Quit()
		s, refused, err = x.begin(e) // smtpd is started again, and the message has not begun
	}
	if s == nil {
		return x.unreachable(err)
	}
	defer s.Quit()
	switch {
	case len(refused) > 0:
		s.Quit() // another session may have to begin
		return x.refused(a, refused, header, body)
	case err != nil:
		return exitCode(err), err
	}
	reply, err := s.Send(bytes.NewReader(header), strings.NewReader("\r\n"), body.Reader())
	if err != nil {
		return exitCode(err), err
	}
	if x.verbose {
		fmt.Println(reply)
	}
	return 0, nil
}

// begin names sender and recipients to smtpd; there is no session if it does not answer.
func (x *call) begin(e *submit.Envelope) (*submit.Session, []submit.Refusal, error) {
	s, err := submit.Dial(x.socket, x.conf.Hostname)
	if err != nil {
		return nil, nil, err
	}
	refused, err := s.Begin(e)
	return s, refused, err
}

// ended: the session is over, by 421 or without a word.
func ended(err error) bool {
	r, ok := errors.AsType[*smtp.Reply](err)
	return !ok || r.Code == 421
}

// refused says who the message cannot be sent to.
func (x *call) refused(a submit.Author, refused []submit.Refusal, header []byte, body *submit.Spool) (int, error) {
	var errs []error
	var why []string
	for _, r := range refused {
		errs = append(errs, fmt.Errorf("%s: %w", r.To, r.Reply))
		why = append(why, "<"+r.To+">", "    "+r.Reply.Error())
	}
	return x.giveBack(a, recipientCode(refused[0].Reply), fmt.Errorf("not sent: %w", errors.Join(errs...)), why, header, body)
}

// giveBack ends with that code and error, or if that is wished by mail: a message that goes back as a whole is not lost, so cron(8) may say -oem and forget it.
func (x *call) giveBack(a submit.Author, code int, err error, why []string, header []byte, body *submit.Spool) (int, error) {
	if x.onError != mailError && x.onError != laterError {
		return code, err
	}
	if back := x.sendBack(a, why, header, body); back != nil {
		return exitCode(back), errors.Join(err, fmt.Errorf("returning it: %w", back))
	}
	if x.onError == laterError {
		return 0, nil
	}
	fmt.Fprintf(os.Stderr, "sendmail: %v\nsendmail: the message was returned to its sender\n", err)
	return code, nil
}

// sendBack returns the message to its sender, or if there is none, or he is refused, to the postmaster.
func (x *call) sendBack(a submit.Author, why []string, header []byte, body *submit.Spool) error {
	a.MessageID = string(queue.NewID(a.Now)) + "@" + x.conf.Hostname
	for _, to := range []string{a.Sender.String(), "postmaster"} {
		if to == "" {
			continue
		}
		s, refused, err := x.begin(&submit.Envelope{To: []string{to}})
		if s != nil {
			defer s.Quit()
		}
		switch {
		case err != nil:
			return err
		case len(refused) > 0:
			continue
		}
		before, after := submit.Returned(a, to, x.conf.Hostname, why)
		_, err = s.Send(bytes.NewReader(before), bytes.NewReader(header), strings.NewReader("\r\n"), body.Reader(), bytes.NewReader(after))
		return err
	}
	return errors.New("the postmaster is refused")
}

// failed tells why the message was not sent, and keeps it if that is wished. Without an error there is nothing to tell.
func (x *call) failed(code int, err error, from addr.Mailbox, header []byte, body *submit.Spool) int {
	if err == nil {
		return code
	}
	if x.onError != quietError {
		fail(code, err)
	}
	if path := os.Getenv("POSTAMT_DEAD_LETTER"); path != "" { // who only adds arguments cannot set it
		if err := keep(path, from.String(), header, body); err != nil {
			fail(code, fmt.Errorf("the message could not be kept: %w", err))
		} else if x.onError != quietError {
			fail(code, fmt.Errorf("the message is kept in %s", path))
		}
	}
	return code
}

// addresses reads those of the command line, each of which may be a list.
func (x *call) addresses(args []string) (to []string, err error) {
	for _, arg := range args {
		if x.mode == uucp {
			arg = strings.TrimSuffix(strings.TrimPrefix(arg, "("), ")")
		}
		found, err := submit.Addresses(arg)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("%q is not an address", arg)
		}
		for _, a := range found {
			m, err := a.Mailbox(x.conf.Origin)
			if err != nil {
				return nil, err
			}
			to = append(to, m.String())
		}
	}
	return to, nil
}

// author is who sends, by -f and -F or the user's entry in passwd(5).
func (x *call) author() (submit.Author, error) {
	now := time.Now()
	a := submit.Author{Name: x.name, Origin: x.conf.Origin, Now: now, MessageID: string(queue.NewID(now)) + "@" + x.conf.Hostname}
	if x.from != nil {
		found, err := submit.Addresses(*x.from)
		switch {
		case err != nil:
		case len(found) == 1:
			a.Sender, err = found[0].Mailbox(x.conf.Origin)
		case len(found) > 1:
			err = errors.New("is more than one address")
		}
		if err != nil {
			return a, fmt.Errorf("-f: %w", err)
		}
		return a, nil
	}
	uid := strconv.Itoa(os.Getuid())
	login := cmp.Or(os.Getenv("LOGNAME"), uid) // where passwd(5) is not all there is
	if u, err := user.LookupId(uid); err == nil {
		login = u.Username
		a.Name = cmp.Or(a.Name, u.Name)
	}
	var err error
	if a.Sender, err = addr.Parse(login+"@"+x.conf.Origin, true); err != nil {
		a.Sender, err = addr.Parse(uid+"@"+x.conf.Origin, true)
	}
	return a, err
}

// uucpSender is the sender that a "From " line names: "From host!user date", "From user date remote from host". RFC 976 section 2.4.
func (x *call) uucpSender(line string) (addr.Mailbox, bool) {
	f := strings.Fields(line)
	if len(f) < 2 {
		return addr.Mailbox{}, false
	}
	path := f[1]
	if n := len(f); n > 4 && f[n-3] == "remote" && f[n-2] == "from" {
		path = f[n-1] + "!" + path
	}
	hops := strings.Split(path, "!")
	spec := hops[len(hops)-1]
	if len(hops) > 1 && !strings.Contains(spec, "@") {
		spec += "@" + hops[len(hops)-2]
	}
	found, err := submit.Addresses(spec)
	if err != nil || len(found) != 1 {
		return addr.Mailbox{}, false
	}
	m, err := found[0].Mailbox(x.conf.Origin)
	return m, err == nil
}

func readCode(err error) int {
	switch {
	case errors.Is(err, submit.ErrInput):
		return exIOErr
	case errors.Is(err, submit.ErrSpool):
		return exTempFail // a full disk: later
	}
	return exDataErr
}

// exitCode is for an error of smtpd, which is temporary unless it says otherwise.
func exitCode(err error) int {
	r, ok := errors.AsType[*smtp.Reply](err)
	switch {
	case !ok || r.Code < 500:
		return exTempFail
	case r.Enhanced[1] == 7:
		return exNoPerm
	case r.Code == 501 || r.Code == 552 || r.Enhanced[1] == 5 || r.Enhanced[1] == 1:
		return exDataErr
	}
	return exUnavailable
}

// recipientCode is for a recipient that is refused for good.
func recipientCode(r *smtp.Reply) int {
	switch e := r.Enhanced; {
	case e[1] == 7:
		return exNoPerm
	case e == smtp.EnhancedCode{5, 1, 2}, e == smtp.EnhancedCode{5, 4, 4}:
		return exNoHost
	case e[1] <= 1 || e[1] == 5:
		return exNoUser
	}
	return exUnavailable
}
