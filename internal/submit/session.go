package submit

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"postamt/internal/smtp"
)

// How long to wait for smtpd, which may be about to start again, or have too many clients just now.
const (
	waitForStart = 2 * time.Second
	waitForRoom  = time.Minute
	pause        = 50 * time.Millisecond
)

// Session is a session with smtpd. It is for one goroutine.
type Session struct{ c *gosmtp.Client }

// Envelope is what goes before a message. Addresses are in wire form.
type Envelope struct {
	From   string // "" null
	To     []string
	Notify []string // NOTIFY of RFC 3461, of every recipient
	Return string   // "FULL", "HDRS" or ""
	ID     string   // ENVID
	Size   int64    // of the message
}

// Refusal is a recipient that smtpd will not have.
type Refusal struct {
	To    string
	Reply *smtp.Reply
}

// told makes a *smtp.Reply of an error, if it is one.
func told(err error) error {
	if e, ok := errors.AsType[*gosmtp.SMTPError](err); ok {
		return &smtp.Reply{Code: e.Code, Enhanced: smtp.EnhancedCode(e.EnhancedCode), Lines: strings.Split(e.Message, "\n")}
	}
	return err
}

// Dial begins a session on a socket, as a client of that name.
func Dial(socket, name string) (*Session, error) {
	conn, err := Connect(socket)
	if err != nil {
		return nil, err
	}
	for begun := time.Now(); ; {
		s := &Session{gosmtp.NewClient(conn)}
		err := told(s.c.Hello(name))
		if err == nil {
			return s, nil
		}
		s.c.Close()
		r, ok := err.(*smtp.Reply)
		if !ok || r.Code != 421 || time.Since(begun) > waitForRoom {
			return nil, err
		}
		time.Sleep(pause)
		if conn, err = Connect(socket); err != nil {
			return nil, err
		}
	}
}

// Connect makes a connection to a socket.
func Connect(socket string) (*net.UnixConn, error) {
	for begun := time.Now(); ; time.Sleep(pause) {
		conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
		wait := waitForStart
		switch {
		case err == nil:
			return conn, nil
		case errors.Is(err, syscall.EAGAIN): // too many wait to be accepted
			wait = waitForRoom
		case !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, syscall.ENOENT):
			return nil, err
		}
		if time.Since(begun) > wait {
			return nil, err
		}
	}
}

// Begin names sender and recipients. Those that are refused for good are returned; after the first other error nothing can be said of the rest.
// The message may be sent, whatever was refused, if one was not; it is the caller who knows better.
func (s *Session) Begin(e *Envelope) (refused []Refusal, err error) {
	utf8 := !isASCII(e.From)
	for _, to := range e.To {
		utf8 = utf8 || !isASCII(to)
	}
	// The client adds BODY=8BITMIME by itself.
	err = s.c.Mail(e.From, &gosmtp.MailOptions{Size: e.Size, UTF8: utf8, Return: gosmtp.DSNReturn(e.Return), EnvelopeID: e.ID})
	if err != nil {
		return nil, told(err)
	}
	options := &gosmtp.RcptOptions{}
	for _, n := range e.Notify {
		options.Notify = append(options.Notify, gosmtp.DSNNotify(n))
	}
	for _, to := range e.To {
		err := told(s.c.Rcpt(to, options))
		r, ok := err.(*smtp.Reply)
		switch {
		case err == nil:
		case ok && r.Code >= 500:
			refused = append(refused, Refusal{to, r})
		default:
			return refused, fmt.Errorf("%s: %w", to, err)
		}
	}
	return refused, nil
}

// Send sends the message, which is complete when all readers have ended, in lines that end in CR LF, and returns what smtpd says about it. An error of a reader sends nothing,
// nor does a *smtp.Reply. When there is no reply to the final dot, smtpd may have the message.
func (s *Session) Send(message ...io.Reader) (string, error) {
	w, err := s.c.Data()
	if err != nil {
		return "", told(err)
	}
	if _, err := io.Copy(w, io.MultiReader(message...)); err != nil {
		s.c.Close() // before the final dot: nothing was sent
		return "", err
	}
	r, err := w.CloseWithResponse()
	switch err := told(err).(type) {
	case nil:
	case *smtp.Reply:
		return "", err
	default:
		return "", fmt.Errorf("whether the message was sent is not known: %w", err)
	}
	return r.StatusText, nil
}

// Reset takes a Begin back.
func (s *Session) Reset() error { return told(s.c.Reset()) }

// Quit ends the session. What smtpd says to that changes nothing.
func (s *Session) Quit() {
	s.c.Quit()
	s.c.Close()
}
