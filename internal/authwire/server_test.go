package authwire

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

const hello = `
	S: VERSION 1 4
	S: MECH PLAIN plaintext
	S: MECH LOGIN plaintext
	S: MECH BIND private active mutual-auth channel-binding
	S: MECH FINAL dictionary
	S: MECH SLOW
	S: MECH DOWN
	S: MECH NOBODY
	S: SPID 77
	S: CUID $cuid
	S: COOKIE $cookie
	S: DONE
`

func newServer() *Server {
	return &Server{Authenticator: newMemory(), Mechanisms: testMechanisms, PID: 77, Tickets: new(Tickets)}
}

func TestDialogues(t *testing.T) {
	for name, lines := range map[string]string{
		// Exim waits for DONE before it says anything, and means "none" by an empty resp=.
		"as Exim": `
			C: VERSION 1 0
			C: CPID 4711
			C: AUTH 1 PLAIN service=smtp rip=192.0.2.7 lip=192.0.2.1 nologin resp=
			S: CONT 1 {}
			C: CONT 1 {^alice^secret}
			S: OK 1 user=alice uid=1000
		`,
		"an empty initial response is one from version 1.2 on": `
			C: VERSION 1 2
			C: CPID 4711
			C: AUTH 1 PLAIN service=smtp nologin resp=
			S: FAIL 1
			C: AUTH 2 PLAIN service=smtp nologin resp==
			S: FAIL 2
			C: AUTH 3 PLAIN service=smtp nologin
			S: CONT 3 {}
			C: CANCEL 3
		`,
		"wrong password, and the connection lives": `
			C: VERSION 1 1
			C: CPID 1
			C: AUTH 1 PLAIN service=smtp nologin resp={^alice^wrong}
			S: FAIL 1 user=alice
			C: AUTH 2 plain protocol=smtp nologin resp={^alice^secret}
			S: OK 2 user=alice uid=1000
		`,
		"LOGIN": `
			C: VERSION 1 2
			C: CPID 1
			C: AUTH 9 LOGIN service=smtp nologin
			S: CONT 9 {Username:}
			C: CONT 9 {bob}
			S: CONT 9 {Password:}
			C: CONT 9 {hidden}
			S: OK 9 user=bob uid=1000
		`,
		"replies in the order in which they are ready": `
			C: VERSION 1 4
			C: CPID 1
			C: AUTH 1 SLOW service=imap
			C: AUTH 2 PLAIN service=imap nologin resp={^alice^secret}
			S: OK 2 user=alice uid=1000
			C: AUTH 3 LOGIN service=imap
			S: CONT 3 {Username:}
			C: AUTH 4 PLAIN service=imap nologin resp={^bob^hidden}
			S: OK 4 user=bob uid=1000
			C: CANCEL 1
			S: CANCELLED 1
			C: CONT 3 {nobody}
			S: CONT 3 {Password:}
			C: CONT 3 {x}
			S: FAIL 3 user=nobody
		`,
		"final data as a challenge": `
			C: VERSION 1 2
			C: CPID 1
			C: AUTH 1 FINAL service=smtp nologin resp={n,,}
			S: CONT 1 {v=proof}
			C: CONT 1 {}
			S: OK 1 user=alice
		`,
		"final data with OK": `
			C: VERSION 1 2
			C: CPID 1
			C: AUTH 1 FINAL service=smtp nologin final-resp-ok resp={n,,}
			S: OK 1 user=alice resp={v=proof}
		`,
		"channel binding, asked out of band": `
			C: VERSION 1 3
			C: CPID 1
			C: AUTH 1 BIND service=smtp nologin secured=tls resp={alice}
			S: CONT 1 # channel_binding=tls-exporter
			C: CONT 1 # channel_binding={channel~of~alice}
			S: OK 1 user=alice
			C: AUTH 2 BIND service=smtp nologin secured=tls resp={alice}
			S: CONT 2 # channel_binding=tls-exporter
			C: CONT 2 # channel_binding={channel~of~mallory}
			S: FAIL 2
			C: AUTH 3 BIND service=smtp nologin secured=tls resp={alice}
			S: CONT 3 # channel_binding=tls-exporter
			C: CONT 3 {channel~of~alice}
			S: FAIL 3 temp code=temp_fail reason=Response~without~a~challenge
		`,
		"no channel binding before version 1.3": `
			C: VERSION 1 2
			C: CPID 1
			C: AUTH 1 BIND service=smtp nologin resp={alice}
			S: FAIL 1 reason=no~channel
		`,
		"what cannot be decided": `
			C: VERSION 1 1
			C: CPID 1
			C: AUTH 1 DOWN service=smtp
			S: FAIL 1 temp code=temp_fail
			C: AUTH 2 NOBODY service=smtp resp={x}
			S: FAIL 2 temp code=temp_fail
			C: AUTH 3 NOBODY service=smtp
			S: FAIL 3
		`,
		// Postfix and Exim: see refuse.
		"what cannot be decided, to a client that knows only yes and no": `
			C: VERSION 1 0
			C: CPID 1
			C: AUTH 1 DOWN service=smtp nologin
			S: <end>
		`,
		"requests that fail alone": `
			C: VERSION 1 2
			C: CPID 1
			C: AUTH 1 KERBEROS_V4 service=smtp resp=
			S: FAIL 1 code=auth_mech_invalid
			C: AUTH 2 PLAIN service=smtp resp=!!!
			S: FAIL 2 code=invalid_base64
			C: AUTH 3 LOGIN service=smtp
			S: CONT 3 {Username:}
			C: CONT 3 a
			S: FAIL 3 code=invalid_base64
			C: CONT 3 {alice}
			S: FAIL 3 temp code=temp_fail reason=Authentication~took~too~long
			C: AUTH 4 SLOW service=smtp
			C: CONT 4 {x}
			S: FAIL 4 temp code=temp_fail reason=Response~without~a~challenge
		`,
	} {
		t.Run(name, func(t *testing.T) {
			srv := newServer()
			path, ends := listen(t, srv.ServeConn)
			s := dial(t, path)
			s.run(hello + lines + "\nC: <end>")
			if err := <-ends; err != nil {
				t.Errorf("the connection ended with %v", err)
			}
			srv.Authenticator.(*memory).live.Wait() // every exchange was ended
		})
	}
}

func TestWhatEndsTheConnection(t *testing.T) {
	const begin = "C: VERSION 1 2\nC: CPID 1\n"
	for _, lines := range []string{
		"C: VERSION 2 0",
		"C: VERSION 1",
		"C: VERSION 1 -1",
		"C: CPID 1",
		"C: VERSION 1 2\nC: CPID 0",
		"C: VERSION 1 2\nC: CPID 4294967296",
		"C: VERSION 1 2\nC: AUTH 1 PLAIN service=smtp",
		"C: GET~/~HTTP/1.0",
		begin + "C: HELLO",
		begin + "C: AUTH",
		begin + "C: AUTH 1",
		begin + "C: AUTH 0 PLAIN service=smtp",
		begin + "C: AUTH +1 PLAIN service=smtp",
		begin + "C: AUTH 1 PLAIN resp=",
		begin + "C: AUTH 1 PLAIN service=smtp resp={x} secured",
		begin + "C: AUTH 1 SLOW service=smtp\nC: AUTH 1 SLOW service=smtp",
		begin + "C: AUTH 1 PLAIN service=sm\x00tp",
		begin + "C: CONT 1",
		begin + "C: CANCEL x",
	} {
		t.Run(strings.ReplaceAll(lines, "\n", "; "), func(t *testing.T) {
			path, ends := listen(t, newServer().ServeConn)
			s := dial(t, path)
			s.run(hello + lines + "\nS: <end>")
			if err := <-ends; err == nil {
				t.Error("the connection ended without an error")
			}
		})
	}
}

// A01: an initial response of a megabyte ends the connection that brings it, and costs no more memory than a line may.
func TestA01_LongLine(t *testing.T) {
	path, ends := listen(t, newServer().ServeConn)
	s := dial(t, path)
	s.run(hello + "C: VERSION 1 2\nC: CPID 1")
	fmt.Fprintf(s.c, "AUTH\t1\tPLAIN\tservice=smtp\tnologin\tresp=%s\n", strings.Repeat("A", 60000))
	s.run("S: FAIL 1")
	go fmt.Fprintf(s.c, "AUTH\t2\tPLAIN\tservice=smtp\tresp=%s\n", strings.Repeat("A", 1<<20))
	if err := <-ends; !errors.Is(err, errTooLong) {
		t.Errorf("ended with %v", err)
	}
}

func TestTooManyRequests(t *testing.T) {
	srv := newServer()
	srv.MaxRequests = 2
	path, _ := listen(t, srv.ServeConn)
	dial(t, path).run(hello + `
		C: VERSION 1 4
		C: CPID 1
		C: AUTH 1 SLOW service=smtp
		C: AUTH 2 LOGIN service=smtp nologin
		S: CONT 2 {Username:}
		C: AUTH 3 PLAIN service=smtp nologin resp={^alice^secret}
		S: FAIL 3 temp code=temp_fail
		# What is under way goes on, and makes room.
		C: CONT 2 {alice}
		S: CONT 2 {Password:}
		C: CONT 2 {secret}
		S: OK 2 user=alice uid=1000
		C: AUTH 3 PLAIN service=smtp nologin resp={^alice^secret}
		S: OK 3 user=alice uid=1000
	`)
}

// A back end that hangs is "later" after the lifetime of a request, and a person who does not respond is forgotten.
func TestLifetime(t *testing.T) {
	srv := newServer()
	srv.Lifetime = 2 * time.Second // in which a busy machine can send a challenge
	reports := make(chan error, 1)
	srv.Report = func(err error) { reports <- err }
	path, _ := listen(t, srv.ServeConn)
	s := dial(t, path)
	s.run(hello + `
		C: VERSION 1 2
		C: CPID 1
		C: AUTH 2 LOGIN service=smtp
		S: CONT 2 {Username:}
		C: AUTH 1 SLOW service=smtp
		S: FAIL 1 temp code=temp_fail
		C: CONT 2 {alice}
		S: FAIL 2 temp code=temp_fail reason=Authentication~took~too~long
	`)
	if err := <-reports; err != errLifetime {
		t.Errorf("reported %v", err)
	}
}

func TestRequestParameters(t *testing.T) {
	srv := newServer()
	m := srv.Authenticator.(*memory)
	m.seen = make(chan *Request, 1)
	path, _ := listen(t, srv.ServeConn)
	s := dial(t, path)
	s.run(hello + "C: VERSION 1 2\nC: CPID 1")
	s.run("C: AUTH 1 SLOW service=pop3 nologin final-resp-ok secured=tls no-penalty valid-client-cert cert_username=a\x01tb " +
		"session=s1 lip=::1 rip=192.0.2.7 lport=995 rport=40000 real_lip=10.0.0.1 real_rip=10.0.0.2 real_lport=110 real_rport=50000 " +
		"local_name=pop.example.org client_id=\x01nx\x01 colour=blue lights resp=")
	r := <-m.seen
	if r.ChannelBinding != nil {
		t.Error("version 1.2 was believed to know channel binding")
	}
	got := string(r.append(nil))
	want := "\tSLOW\tservice=pop3\tnologin\tfinal-resp-ok\tsecured=tls\tno-penalty\tvalid-client-cert\tcert_username=a\x01tb\tsession=s1" +
		"\tlip=::1\trip=192.0.2.7\tlport=995\trport=40000\treal_lip=10.0.0.1\treal_rip=10.0.0.2\treal_lport=110\treal_rport=50000" +
		"\tlocal_name=pop.example.org\tclient_id=\x01nx\tcolour=blue\tlights"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// The one-time ticket: a login that the client socket allowed is given out on the user socket once, to who knows the cookie.
func TestTicket(t *testing.T) {
	srv := newServer()
	users := &UserServer{Users: newMemory(), Tickets: srv.Tickets, PID: 77}
	path, ends := listen(t, srv.ServeConn)
	userPath, _ := listen(t, users.ServeConn)
	front, other, worker := dial(t, path), dial(t, path), dial(t, userPath)
	worker.vars = front.vars
	other.run(strings.ReplaceAll(hello, "$", "$other") + "C: VERSION 1 2\nC: CPID 500") // the same process, another cookie
	front.run(hello + `
		C: VERSION 1 2
		C: CPID 500
		C: AUTH 1 PLAIN service=imap rip=192.0.2.7 session=s1 resp={^alice^secret}
		S: OK 1 user=alice uid=1000
		C: AUTH 2 PLAIN service=imap resp={^bob^hidden}
		S: OK 2 user=bob uid=1000
		C: AUTH 3 PLAIN service=imap nologin resp={^bob^hidden}
		S: OK 3 user=bob uid=1000
		C: AUTH 4 PLAIN service=imap resp={^bob^wrong}
		S: FAIL 4 user=bob
		C: AUTH 5 LOGIN service=imap resp={alice}
		S: CONT 5 {Password:}
		C: AUTH 6 PLAIN service=imap resp={^bob^hidden}
		S: OK 6 user=bob uid=1000
		C: CANCEL 6
		C: AUTH 7 PLAIN service=imap resp={^bob^hidden}
		S: OK 7 user=bob uid=1000
	`)
	worker.vars["$wrong"] = other.vars["$othercookie"]
	worker.run(`
		S: VERSION 1 4
		S: SPID 77
		C: VERSION 1 1
		C: REQUEST 10 500 1 00000000000000000000000000000000
		S: FAIL 10
		C: REQUEST 11 500 1 $wrong
		S: FAIL 11
		C: REQUEST 12 501 1 $cookie
		S: FAIL 12
		C: REQUEST 13 500 1 $cookie session_pid=9
		S: USER 13 alice uid=1000 home=/home/alice auth_mech=PLAIN
		C: REQUEST 14 500 1 $cookie
		S: FAIL 14
		# nologin; a wrong password; not decided; cancelled; never asked for
		C: REQUEST 15 500 3 $cookie
		S: FAIL 15
		C: REQUEST 16 500 4 $cookie
		S: FAIL 16
		C: REQUEST 17 500 5 $cookie
		S: FAIL 17
		C: REQUEST 18 500 6 $cookie
		S: FAIL 18
		C: REQUEST 19 500 99 $cookie
		S: FAIL 19
		C: REQUEST 20 500 2 $cookie
		S: USER 20 bob uid=1000 home=/home/bob auth_mech=PLAIN
	`)
	front.run("C: <end>")
	if err := <-ends; err != nil {
		t.Error(err)
	}
	// 7 was allowed and not collected; it went with the connection.
	worker.run("C: REQUEST 21 500 7 $cookie\nS: FAIL 21")
	other.run("C: <end>")
	<-ends
	if len(srv.Tickets.sessions) != 0 {
		t.Errorf("tickets of %d processes remain", len(srv.Tickets.sessions))
	}
}

func TestUserDialogue(t *testing.T) {
	path, ends := listen(t, (&UserServer{Users: newMemory(), PID: 77}).ServeConn)
	s := dial(t, path)
	s.run("S: VERSION 1 4\nS: SPID 77\nC: VERSION 1 2\r")
	s.run("C: USER 1 alice service=lmtp\r") // Dovecot's client ends its lines with CRLF
	s.run(`
		S: USER 1 alice uid=1000 home=/home/alice
		C: USER 2 nobody service=lmtp
		S: NOTFOUND 2
		C: USER 3 broken service=lmtp
		S: FAIL 3
		C: USER 4 slow service=lmtp
		C: PASS 5 bob service=imap rip=::1
		S: PASS 5 user=bob uid=1000 home=/home/bob
		C: REQUEST 6 1 1 00
		S: FAIL 6
		C: LIST 7  user=broken
		S: DONE 7 fail
	`)
	// A05: no look-up sees such a name.
	s.run("C: USER 8 a\x01nb service=lmtp\nS: NOTFOUND 8\nC: USER 9 \x010 service=lmtp\nS: NOTFOUND 9\nC: USER 10  service=lmtp\nS: NOTFOUND 10")
	s.run("C: <end>")
	if err := <-ends; err != nil {
		t.Error(err)
	}
	for _, line := range []string{"USER 1 alice", "USER x alice service=lmtp", "CPID 1", "LIST", "REQUEST 1 2 3", "AUTH 1 PLAIN service=smtp"} {
		s := dial(t, path)
		s.run("S: VERSION 1 4\nS: SPID 77\nC: VERSION 1 2\nC: " + line + "\nS: <end>")
		if err := <-ends; err == nil {
			t.Errorf("%s: ended without an error", line)
		}
	}
}

// A login that nobody collects in time is void; until then it takes room.
func TestTicketTimeout(t *testing.T) {
	slow, quick := newServer(), newServer()
	slow.MaxRequests, slow.Collectable = 2, time.Hour
	quick.Tickets, quick.Collectable = slow.Tickets, time.Millisecond
	users := &UserServer{Users: newMemory(), Tickets: slow.Tickets, PID: 77}
	slowPath, _ := listen(t, slow.ServeConn)
	quickPath, _ := listen(t, quick.ServeConn)
	userPath, _ := listen(t, users.ServeConn)
	kept, lost, worker := dial(t, slowPath), dial(t, quickPath), dial(t, userPath)
	lost.run(hello + `
		C: VERSION 1 2
		C: CPID 501
		C: AUTH 1 PLAIN service=imap resp={^alice^secret}
		S: OK 1 user=alice uid=1000
	`)
	s := slow.Tickets.sessions[501][0]
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		n := len(s.requests)
		s.mu.Unlock()
		if n == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d logins wait", n)
		}
	}
	worker.vars = lost.vars
	worker.run(`
		S: VERSION 1 4
		S: SPID 77
		C: VERSION 1 1
		C: REQUEST 1 501 1 $cookie
		S: FAIL 1
	`)
	kept.run(hello + `
		C: VERSION 1 2
		C: CPID 500
		C: AUTH 1 PLAIN service=imap resp={^alice^secret}
		S: OK 1 user=alice uid=1000
		C: AUTH 2 LOGIN service=imap
		S: CONT 2 {Username:}
		C: AUTH 3 PLAIN service=imap resp={^alice^secret}
		S: FAIL 3 temp code=temp_fail
	`)
	worker.vars = kept.vars
	worker.run("C: REQUEST 2 500 1 $cookie\nS: USER 2 alice uid=1000 home=/home/alice auth_mech=PLAIN")
}

// What an APOP timestamp begins with is the same to both sides of a connection, and another one on each.
func TestOrigin(t *testing.T) {
	j := newMemory()
	j.seen = make(chan *Request, 1)
	srv := &Server{Authenticator: j, Mechanisms: testMechanisms, PID: 0x1234}
	path, _ := listen(t, srv.ServeConn)
	seen := map[string]bool{}
	for range 2 {
		c := newClient(t, path)
		o, err := c.Origin(t.Context())
		if err != nil || seen[o] || !strings.HasPrefix(o, "<1234.") || !strings.HasSuffix(o, ".") {
			t.Errorf("%q, %v", o, err)
		}
		seen[o] = true
		ask(c, "PLAIN", "\x00alice\x00secret")
		if got := (<-j.seen).Origin; got != o {
			t.Errorf("the server has %q, the client %q", got, o)
		}
	}
	if _, err := (&Client{Path: path + "x"}).Origin(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v", err)
	}
}

func TestTicketEncoding(t *testing.T) {
	k := Ticket{ServerPID: 1, ClientPID: 4294967295, ID: 3, Cookie: "0f5c5e0e3f7bb5fd5b4ae3ed95be0f1f"}
	if got, err := DecodeTicket(k.Encode()); got != k || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "1 2 3", "1 2 3 ", "1 2 3 x y", "-1 2 3 x", "1 2 4294967296 x", "1 2  3 x"} {
		if k, err := DecodeTicket([]byte(bad)); err == nil {
			t.Errorf("%q is %+v", bad, k)
		}
	}
}
