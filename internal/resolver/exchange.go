package resolver

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// udpSize is the EDNS buffer that passes without fragments everywhere that matters (RFC 9715 section 3.1, 2020 flag day).
const udpSize = 1232

// exchange asks one question until a server gives a clear answer: NOERROR or NXDOMAIN, parsed, for this question.
func (r *Resolver) exchange(ctx context.Context, name string, qtype uint16) (msg *dns.Msg, trusted bool, err error) {
	set, err := r.conf.get(r.now())
	if err != nil {
		return nil, false, err
	}
	for range set.attempts {
		for _, srv := range set.order(r.now()) {
			msg, err = ask(ctx, srv, name, qtype, set.timeout)
			if err == nil {
				srv.bad.Store(0)
				return msg, srv.trust, nil
			}
			err = fmt.Errorf("server %s: %w", srv.addr, err)
			var ne net.Error
			if errors.As(err, &ne) {
				srv.bad.Store(r.now().Add(badFor).UnixNano())
			}
			if ctx.Err() != nil {
				return nil, false, err
			}
		}
	}
	return nil, false, err
}

// errRetryTCP: the datagram was cut short or not quite right. Never assigned to.
var errRetryTCP = errors.New("truncated")

// rcodeError is a reply that is neither NOERROR nor NXDOMAIN.
type rcodeError int

func (e rcodeError) Error() string {
	if s, ok := dns.RcodeToString[int(e)]; ok {
		return s
	}
	return fmt.Sprintf("rcode %d", int(e))
}

// ask asks one server: by UDP, by TCP if the datagram was cut short or not quite right, without EDNS if the server seems to be
// older than that (RFC 6891 section 6.2.2).
func ask(ctx context.Context, srv *server, name string, qtype uint16, timeout time.Duration) (*dns.Msg, error) {
	edns := true
	for {
		msg, err := try(ctx, srv, "udp", name, qtype, edns, timeout)
		if err == errRetryTCP {
			msg, err = try(ctx, srv, "tcp", name, qtype, edns, timeout)
		}
		if edns && (err == rcodeError(dns.RcodeFormatError) || err == rcodeError(dns.RcodeNotImplemented) || err == rcodeError(dns.RcodeBadVers)) {
			edns = false
			continue
		}
		return msg, err
	}
}

func try(ctx context.Context, srv *server, network, name string, qtype uint16, edns bool, timeout time.Duration) (*dns.Msg, error) {
	deadline := time.Now().Add(timeout)
	// A connected socket of its own: the kernel picks a random port and drops what other hosts send.
	d := net.Dialer{Deadline: deadline, KeepAlive: -1}
	nc, err := d.DialContext(ctx, network, srv.addr.String())
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	if err := nc.SetDeadline(deadline); err != nil {
		return nil, err
	}
	q := newQuery(name, qtype, edns)
	wire, err := q.Pack()
	if err != nil {
		return nil, fmt.Errorf("question: %w", err)
	}
	if network == "tcp" {
		return tryTCP(nc, q, wire)
	}
	if _, err := nc.Write(wire); err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	for {
		n, err := nc.Read(buf)
		if err != nil {
			return nil, err
		}
		// What does not carry our id and question was not sent by the server, or long ago: keep listening for the true answer.
		if n < 12 || binary.BigEndian.Uint16(buf) != q.Id || buf[2]&0x80 == 0 {
			continue
		}
		msg := new(dns.Msg)
		if err := msg.Unpack(buf[:n]); err != nil {
			// The id is ours: perhaps cut short without the mark for it.
			return nil, errRetryTCP
		}
		if !sameQuestion(msg, q) {
			continue
		}
		if msg.Truncated || len(msg.Question) == 1 && msg.Question[0].Name != q.Question[0].Name {
			// The name came back spelled otherwise: an old server, or a forger who guessed id and port. TCP tells.
			return nil, errRetryTCP
		}
		return check(msg)
	}
}

func tryTCP(nc net.Conn, q *dns.Msg, wire []byte) (*dns.Msg, error) {
	// RFC 7766 section 8: length and message in one segment.
	if _, err := nc.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(wire))), wire...)); err != nil {
		return nil, err
	}
	var head [2]byte
	if _, err := io.ReadFull(nc, head[:]); err != nil {
		return nil, err
	}
	buf := make([]byte, binary.BigEndian.Uint16(head[:]))
	if _, err := io.ReadFull(nc, buf); err != nil {
		return nil, err
	}
	msg := new(dns.Msg)
	if err := msg.Unpack(buf); err != nil {
		return nil, fmt.Errorf("reply: %w", err)
	}
	if msg.Id != q.Id || !msg.Response || !sameQuestion(msg, q) {
		return nil, errors.New("reply to another question")
	}
	if msg.Truncated {
		return nil, errors.New("reply truncated, by TCP too")
	}
	return check(msg)
}

// newQuery makes a question with a random id and, as draft-vixie-dnsext-dns0x20 proposes, a random mix of capitals.
// AD asks for the AD bit without the signatures (RFC 6840 section 5.7).
func newQuery(name string, qtype uint16, edns bool) *dns.Msg {
	b := make([]byte, 2+(len(name)+7)/8)
	crand.Read(b) // never fails: crypto/rand ends the program instead
	q := new(dns.Msg)
	q.Id = binary.BigEndian.Uint16(b)
	q.RecursionDesired = true
	q.AuthenticatedData = true
	spelled := []byte(name)
	for i, c := range spelled {
		if b[2+i/8]>>(i%8)&1 == 0 {
			continue
		}
		if 'a' <= c && c <= 'z' {
			spelled[i] = c - 'a' + 'A'
		}
	}
	q.Question = []dns.Question{{Name: string(spelled), Qtype: qtype, Qclass: dns.ClassINET}}
	if edns {
		q.SetEdns0(udpSize, false)
	}
	return q
}

func sameQuestion(msg, q *dns.Msg) bool {
	if len(msg.Question) == 0 {
		// Some servers refuse without repeating what they refuse.
		return msg.Rcode != dns.RcodeSuccess && msg.Rcode != dns.RcodeNameError
	}
	a, b := msg.Question[0], q.Question[0]
	return len(msg.Question) == 1 && a.Qtype == b.Qtype && a.Qclass == b.Qclass && strings.EqualFold(a.Name, b.Name)
}

// check lets clear answers through.
func check(msg *dns.Msg) (*dns.Msg, error) {
	switch msg.Rcode {
	case dns.RcodeNameError:
		return msg, nil
	case dns.RcodeSuccess:
		if len(msg.Answer) > 0 || msg.Authoritative {
			return msg, nil
		}
		// A referral is no answer: the server does not recurse for us (lame). RFC 2308 section 2.2 tells it from "no data".
		referral := false
		for _, rr := range msg.Ns {
			switch rr.(type) {
			case *dns.SOA:
				return msg, nil
			case *dns.NS:
				referral = true
			}
		}
		if referral {
			return nil, errors.New("referral instead of an answer")
		}
		return msg, nil
	}
	return nil, rcodeError(msg.Rcode)
}
