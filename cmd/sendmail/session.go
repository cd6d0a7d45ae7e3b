package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"postamt/internal/submit"
)

// session joins standard input and output to smtpd: SMTP for mail programs that speak it (-bs).
func (x *call) session() int {
	// smtpd takes who connects to its local socket for this machine. An inetd that calls us would make every stranger one, and so would a
	// program that has TLS with strangers on one side and a pair of sockets on the other.
	if _, err := unix.Getsockname(0); err != unix.ENOTSOCK || os.Getenv("TCPREMOTEIP") != "" {
		return fail(exUsage, errors.New("-bs: a network server has called; smtpd(8) is made for that"))
	}
	conn, err := submit.Connect(x.socket)
	if err != nil {
		fmt.Printf("421 4.3.0 %s local submission is not available\r\n", x.conf.Hostname)
		return fail(x.unreachable(err))
	}
	defer conn.Close()
	go func() {
		io.Copy(conn, os.Stdin)
		conn.CloseWrite()
	}()
	// When smtpd ends the session, it is over: nobody listens to what else there is in standard input.
	if _, err := io.Copy(os.Stdout, conn); err != nil {
		if _, ok := errors.AsType[*net.OpError](err); ok {
			return fail(exTempFail, err)
		}
		return fail(exIOErr, err)
	}
	return 0
}

// verify asks smtpd about addresses, and sends nothing.
func (x *call) verify() int {
	to, err := x.addresses(x.operands)
	if err != nil {
		return fail(exUsage, err)
	}
	a, err := x.author()
	if err != nil {
		return fail(exUsage, err)
	}
	s, err := submit.Dial(x.socket, x.conf.Hostname)
	if err != nil {
		return fail(x.unreachable(err))
	}
	defer s.Quit()
	code := 0
	for _, t := range to {
		refused, err := s.Begin(&submit.Envelope{From: a.Sender.String(), To: []string{t}})
		if err == nil {
			err = s.Reset()
		}
		switch {
		case err != nil:
			return fail(exitCode(err), err)
		case len(refused) > 0:
			fmt.Printf("%s... %v\n", t, refused[0].Reply)
			if code == 0 {
				code = recipientCode(refused[0].Reply)
			}
		default:
			fmt.Printf("%s... deliverable\n", t)
		}
	}
	return code
}
