package pop3d

import "postamt/internal/pop3"

// RFC 2449 section 5: "CAPA". STLS is announced where it may be said (RFC 2595 section 8).
func (a *authorization) cmdCapa(cmd pop3.Command) *pop3.Response {
	if len(cmd.Words()) > 0 {
		return a.fault("no arguments")
	}
	list := a.conf.capabilities(a.mechanisms())
	if a.OffersTLS() && !a.utf8 {
		list = append(list, "STLS")
	}
	capa(a.c, list)
	return nil
}

// RFC 1939 section 4: "QUIT". There is no UPDATE.
func (a *authorization) cmdQuit(cmd pop3.Command) *pop3.Response {
	if len(cmd.Words()) > 0 {
		return a.fault("no arguments")
	}
	a.close("quit")
	return pop3.OK("bye")
}

// RFC 6856 section 2.1: "UTF8". Messages are sent as they are with it and without it; see the package comment.
func (a *authorization) cmdUTF8(cmd pop3.Command) *pop3.Response {
	if len(cmd.Words()) > 0 {
		return a.fault("no arguments")
	}
	a.utf8 = true
	return pop3.OK("UTF-8 it is")
}

func (a *authorization) cmdLang(cmd pop3.Command) *pop3.Response { return a.lang(cmd) }
