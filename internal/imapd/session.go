package imapd

import (
	"cmp"
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"time"

	"postamt/internal/imap"
	"postamt/internal/inflate"
	"postamt/internal/lineio"
	"postamt/internal/maillog"
)

const (
	// writeTime is how long the client may refuse to take what is sent at once, 64 KiB at most.
	writeTime = time.Minute
	// byeTime is how long he may refuse to take the last word.
	byeTime = time.Second
)

// session is what the two halves have in common.
type session struct {
	srv    *Server
	conf   *Config
	ctx    context.Context
	c      *imap.Conn
	id     string
	client maillog.Client
	start  time.Time

	idle    lineio.Idle // for a command, and may be ended
	closing bool        // close after what was said
	why     string      // the session ends, for the log
	broken  error       // and more of it
	faults  int
}

// begin makes the session one that can be ended from outside; the function that it returns ends that.
func (s *session) begin() func() {
	s.c.SetWriteTimeout(cmp.Or(s.conf.writeTime, writeTime))
	nc := s.c.Net() // TLS or compression may come over it: then its deadline is still theirs
	stop := s.idle.EndWith(s.ctx, nc)
	return func() {
		stop()
		if s.why == "" {
			s.why = "lost"
		}
	}
}

var errStopping = errors.New("imapd: stopping")

// read waits for a command until the time that was set. When ok is false there is none to execute: the session has ended (closing), or the
// client was told what is wrong.
func (s *session) read() (cmd imap.Command, d *imap.Decoder, ok bool) {
	if s.ctx.Err() != nil && s.c.Buffered() == 0 {
		s.lost(errStopping)
		return cmd, nil, false
	}
	s.idle.Set(true)
	cmd, d, err := s.c.ReadCommand()
	s.idle.Set(false)
	var status *imap.Status
	switch {
	case err == nil:
		return cmd, d, true
	case errors.As(err, &status):
		s.wrong(cmd, status)
	default:
		s.lost(err)
	}
	return cmd, nil, false
}

// wrong responds to a line that is no command.
func (s *session) wrong(cmd imap.Command, status *imap.Status) {
	if isBrowser(cmd.Tag) {
		s.bye("protocol", "", "this is a mail server")
		return
	}
	s.respond(cmd.Tag, status)
}

// isBrowser: what stands where a tag should is what a web browser says, or somebody who makes one speak to us (ALPACA).
func isBrowser(tag string) bool {
	switch tag {
	case "GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH", "TRACE":
		return true
	}
	return false
}

// lost ends the session because nothing more can be read from the client, or he shall not be waited for any more.
func (s *session) lost(err error) {
	var ne net.Error
	switch {
	case err == errStopping || s.ctx.Err() != nil && errors.As(err, &ne) && ne.Timeout():
		s.bye("shutdown", imap.Unavailable, "the server stops, come back later")
	case errors.As(err, &ne) && ne.Timeout():
		s.bye("timeout", "", "idle for too long")
	case errors.Is(err, imap.ErrLineTooLong), errors.Is(err, imap.ErrTooMuchToSkip):
		s.bye("limit", imap.TooBig, "the command is too long")
	case errors.Is(err, inflate.ErrCorrupt):
		s.bye("protocol", "", "this is not DEFLATE")
	case lineio.Ended(err), errors.Is(err, inflate.ErrEnd), errors.Is(err, errLost):
		s.close("lost")
	case s.c.TLS() != nil && !errors.As(err, new(syscall.Errno)):
		// An alert of the client's, or records that are none: nothing that anybody here could mend.
		s.broken = err
		s.close("tls")
	default:
		s.srv.Log.Problem(s.id, "read", err)
		s.close("lost")
	}
}

// respond says a response, if there is one, tagged unless the tag is "", together with the next ones if commands are waiting. One BAD too many ends the session.
func (s *session) respond(tag string, r *imap.Status) {
	if r == nil {
		return
	}
	if s.c.WriteStatus(tag, r) != nil {
		s.close("lost")
		return
	}
	if r.Condition != imap.ConditionBAD || s.closing {
		return
	}
	s.faults++
	if s.conf.ErrorLimit > 0 && s.faults >= s.conf.ErrorLimit {
		s.srv.Log.Limit(s.id, s.client, "errors", 0)
		s.bye("limit", "", "too many errors")
	}
}

// untagged says an untagged response, without its "* ".
func (s *session) untagged(text string) {
	if _, err := s.c.Write([]byte("* " + text + "\r\n")); err != nil {
		s.close("lost")
	}
}

// bye ends the session with the last word (RFC 9051 section 7.1.5). A client who does not take it is not waited for.
func (s *session) bye(why, code, text string) {
	if s.closing {
		return
	}
	s.close(why)
	s.c.SetDeadline(time.Now().Add(byeTime))
	s.c.WriteStatus("", imap.Bye(code, text))
	s.c.Flush()
}

// close ends the session after what was said. The first reason counts.
func (s *session) close(why string) {
	s.closing = true
	if s.why == "" {
		s.why = why
	}
}

// capabilities are those that both halves announce (RFC 9051 section 7.2.2): the revisions, and what a client may do whether he has logged in or not. What
// a stranger may send unasked is little.
func (s *session) capabilities(literal string) []string {
	return []string{"IMAP4rev1", "IMAP4rev2", literal, "ID", "ENABLE"}
}

// logout is RFC 9051 section 6.1.3, LOGOUT: BYE, then OK.
func (s *session) logout(d *imap.Decoder) *imap.Status {
	if err := d.End(); err != nil {
		return s.wire(err)
	}
	s.respond("", imap.Bye("", "goodbye"))
	s.close("logout")
	return imap.OK("", "LOGOUT completed")
}

// capability is RFC 9051 section 6.1.1, CAPABILITY.
func (s *session) capability(d *imap.Decoder, list []string) *imap.Status {
	if err := d.End(); err != nil {
		return s.wire(err)
	}
	s.untagged("CAPABILITY " + strings.Join(list, " "))
	return imap.OK("", "CAPABILITY completed")
}

// ident is RFC 2971 section 3.1, ID. What the client says of himself decides nothing.
func (s *session) ident(d *imap.Decoder) *imap.Status {
	d.SP().ID()
	if err := d.End(); err != nil {
		return s.wire(err)
	}
	s.untagged(`ID ("name" "postamt")`)
	return imap.OK("", "ID completed")
}

// wire is the response to a command whose arguments are wrong; nil after the end of the session, if it is the connection that is.
func (s *session) wire(err error) *imap.Status {
	var status *imap.Status
	if errors.As(err, &status) {
		return status
	}
	s.lost(err)
	return nil
}
