package pop3d

import (
	"cmp"
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"time"

	"postamt/internal/lineio"
	"postamt/internal/maillog"
	"postamt/internal/pop3"
)

// writeTime is how long the client may refuse to take what is sent at once, 64 KiB at most.
const writeTime = time.Minute

// session is what the two halves have in common.
type session struct {
	srv    *Server
	conf   *Config
	ctx    context.Context
	c      *pop3.Conn
	id     string
	client maillog.Client
	start  time.Time

	idle    lineio.Idle // for a command, and may be ended
	closing bool        // close after what was said
	why     string      // the session ends, for the log
	broken  error       // and more of it
	errors  int
}

// command is one keyword of one half.
type command[T any] struct {
	keyword string
	run     func(T, pop3.Command) *pop3.Response // nil: it has responded itself, or the connection is lost
}

func find[T any](table []command[T], keyword string) *command[T] {
	for i := range table {
		if table[i].keyword == keyword {
			return &table[i]
		}
	}
	return nil
}

// begin makes the session one that can be ended from outside; the function that it returns ends that.
func (s *session) begin() func() {
	s.c.SetWriteTimeout(cmp.Or(s.conf.writeTime, writeTime))
	stop := s.idle.EndWith(s.ctx, s.c.Net())
	return func() {
		stop()
		if s.why == "" {
			s.why = "lost"
		}
	}
}

var errStopping = errors.New("pop3d: stopping")

// read waits for a command line until the time that was set; idle says that the session may be ended meanwhile.
func (s *session) read(limit int, idle bool) (cmd pop3.Command, ok bool) {
	if idle {
		if s.ctx.Err() != nil && s.c.Buffered() == 0 {
			s.lost(errStopping)
			return cmd, false
		}
		s.idle.Set(true)
		defer s.idle.Set(false)
	}
	cmd, err := s.c.ReadCommand(limit)
	if err != nil {
		s.readError(err)
	}
	return cmd, err == nil
}

// readError responds to a command line that is none, or ends the session.
func (s *session) readError(err error) {
	switch {
	case errors.Is(err, pop3.ErrEndlessLine):
		s.respond(s.fault("line too long"))
		s.close("limit")
	case errors.Is(err, pop3.ErrLineTooLong):
		s.respond(s.fault("line too long"))
	case errors.Is(err, pop3.ErrBareNewline), errors.Is(err, pop3.ErrNUL):
		s.respond(s.fault("a line ends in CR LF, and has no other control characters"))
	default:
		s.lost(err)
	}
}

// lost ends the session because nothing more can be read from the client, or he shall not be waited for any more. RFC 1939 section 3: without a word.
func (s *session) lost(err error) {
	var ne net.Error
	switch {
	case err == errStopping || s.ctx.Err() != nil && errors.As(err, &ne) && ne.Timeout():
		s.close("shutdown")
	case errors.As(err, &ne) && ne.Timeout():
		s.close("timeout")
	case lineio.Ended(err):
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

// fault is the response to what is no command, or none here. One too many ends the session.
func (s *session) fault(text string) *pop3.Response {
	s.errors++
	if s.conf.ErrorLimit > 0 && s.errors >= s.conf.ErrorLimit && !s.closing {
		s.srv.Log.Limit(s.id, s.client, "errors", 0)
		s.close("limit")
		text += "; too many errors"
	}
	return pop3.Err("", text)
}

// respond says r, if there is one, together with the next ones if commands are waiting.
func (s *session) respond(r *pop3.Response) {
	if r != nil && s.c.WriteResponse(r) != nil {
		s.close("lost")
	}
}

// close ends the session after what was said. The first reason counts.
func (s *session) close(why string) {
	s.closing = true
	if s.why == "" {
		s.why = why
	}
}

// wrongProtocol ends a session with a web browser, or with somebody who makes one speak to us (ALPACA).
func (s *session) wrongProtocol() *pop3.Response {
	s.close("protocol")
	return pop3.Err("", "this is a mail server")
}

// elsewhere is the response to a command that this half has not: other says that the other one has it.
func (s *session) elsewhere(keyword string, other bool, text string) *pop3.Response {
	switch {
	case other:
		return s.fault(text)
	case hasWord("GET POST PUT HEAD OPTIONS CONNECT", keyword):
		return s.wrongProtocol()
	}
	return s.fault("command not recognized")
}

// lang is RFC 6856 section 3, LANG in both states: there is one language.
func (s *session) lang(cmd pop3.Command) *pop3.Response {
	w := cmd.Words()
	switch {
	case len(w) == 0:
		s.c.WriteResponse(pop3.OK("language list follows"))
		s.c.WriteLine("en English")
		s.c.End()
		return nil
	case len(w) > 1:
		return s.fault("syntax: LANG [language]")
	}
	if l := strings.ToLower(w[0]); l == "*" || l == "en" || strings.HasPrefix(l, "en-") {
		return pop3.OK("en this is English")
	}
	return pop3.Err("", "there is only en, which is English")
}

// hasWord says that one of the words of list, which are separated by spaces, is word.
func hasWord(list, word string) bool {
	for w := range strings.SplitSeq(list, " ") {
		if w == word {
			return word != ""
		}
	}
	return false
}
