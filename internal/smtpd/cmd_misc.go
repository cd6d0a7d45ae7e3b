package smtpd

import "postamt/internal/smtp"

// RFC 5321 section 4.1.1.5: "RSET". Arguments are an error, as they are for QUIT and DATA.
func (s *session) cmdRset(args string) *smtp.Reply {
	if args != "" {
		return noArguments()
	}
	s.reset()
	return smtp.NewReply(250, "2.0.0", "ok")
}

// RFC 5321 section 4.1.1.9: "NOOP" [ SP String ]; the parameter is ignored.
func (s *session) cmdNoop(string) *smtp.Reply { return smtp.NewReply(250, "2.0.0", "ok") }

// RFC 5321 section 4.1.1.10: "QUIT". An unfinished transaction is dropped.
func (s *session) cmdQuit(args string) *smtp.Reply {
	if args != "" {
		return noArguments()
	}
	s.close("quit")
	return smtp.NewReply(221, "2.0.0", s.conf.Hostname+" bye")
}

// RFC 5321 section 4.1.1.6: "VRFY" SP String. Section 7.3: a site may answer 252 to all, so that nobody can read our
// list of users from the replies or, since nothing is looked up, from their time.
func (s *session) cmdVrfy(args string) *smtp.Reply {
	if args == "" {
		return smtp.NewReply(501, "5.5.4", "whom?")
	}
	return smtp.NewReply(252, "2.0.0", "send some mail, it may arrive")
}

// RFC 5321 section 4.1.1.8: "HELP" [ SP String ].
func (s *session) cmdHelp(string) *smtp.Reply {
	return &smtp.Reply{Code: 214, Enhanced: smtp.EnhancedCode{2, 0, 0}, Lines: []string{
		"commands: HELO EHLO STARTTLS MAIL RCPT DATA BDAT",
		"RSET NOOP QUIT VRFY HELP",
		"see RFC 5321",
	}}
}

// RFC 5321 section 4.2.4: 502 is for commands that are known and not implemented. EXPN would list our users; ETRN
// (RFC 1985) and TURN (RFC 5321 appendix F.1) are for hosts that fetch their mail; AUTH is for people's mail programs.
func (s *session) cmdNotHere(string) *smtp.Reply {
	return smtp.NewReply(502, "5.5.1", "command not offered here")
}

// wrongProtocol ends a session with a web browser, or with somebody who makes one speak to us (ALPACA).
func (s *session) cmdWrongProtocol(string) *smtp.Reply {
	s.close("protocol")
	return smtp.NewReply(421, "4.7.0", "this is a mail server")
}

func noArguments() *smtp.Reply { return smtp.NewReply(501, "5.5.4", "no parameters allowed") }

// asReply is the reply that err is, or the reply to a parser's error.
func asReply(err error) *smtp.Reply {
	if r, ok := err.(*smtp.Reply); ok {
		return r
	}
	return smtp.NewReply(501, "5.5.4", "syntax error in parameters")
}
