// Package stub is a name server for end-to-end tests: it answers from a small zone text, by UDP and TCP, on a free port of
// 127.0.0.1 or where it is told to, and knows nothing else.
//
// The zone is lines of master-file syntax without TTL or class, names complete with or without the final dot, and
// two words for what a name server can do wrong:
//
//	example.test        MX    10 mx1.example.test.
//	mx1.example.test    A     127.0.0.1
//	null.test           MX    0 .
//	broken.test         SERVFAIL
//	silent.test         DROP
//
// A name with records, but none of the type asked for, answers NOERROR without records; so does a name that
// only has names below it. Every other name is NXDOMAIN. A CNAME is answered with its target's records.
package stub

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// A Server answers queries until Close. Its zone can be replaced meanwhile.
type Server struct {
	Addr string // "127.0.0.1:port", by UDP and TCP, or what ListenAt was given

	udp, tcp *dns.Server

	mu    sync.Mutex
	zone  zone
	asked map[string]int
}

type zone struct {
	records map[string][]dns.RR
	broken  map[string]string // name to SERVFAIL or DROP
}

// Start serves the zone and closes the server when the test ends.
func Start(t testing.TB, text string) *Server {
	t.Helper()
	s, err := Listen(text)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Listen serves the zone on a free port of 127.0.0.1; it is ready when Listen returns.
func Listen(text string) (*Server, error) { return ListenAt("127.0.0.1:0", text) }

// ListenAt is Listen for an address and port of the caller's choice: in a network namespace of its own, port 53 is free.
func ListenAt(addr, text string) (*Server, error) {
	s := &Server{asked: map[string]int{}}
	if err := s.Set(text); err != nil {
		return nil, err
	}
	// The two ports must be the same, and only one of them can be chosen by the kernel.
	for range 20 {
		packets, err := net.ListenPacket("udp", addr)
		if err != nil {
			return nil, err
		}
		s.Addr = packets.LocalAddr().String()
		listener, err := net.Listen("tcp", s.Addr)
		if err != nil {
			packets.Close()
			continue
		}
		s.udp = &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(s.answer)}
		s.tcp = &dns.Server{Listener: listener, Handler: dns.HandlerFunc(s.answer)}
		for _, server := range []*dns.Server{s.udp, s.tcp} {
			ready := make(chan struct{})
			server.NotifyStartedFunc = func() { close(ready) }
			go server.ActivateAndServe()
			<-ready
		}
		return s, nil
	}
	return nil, fmt.Errorf("stub: no port that is free for both UDP and TCP")
}

// Close ends the server.
func (s *Server) Close() {
	s.udp.Shutdown()
	s.tcp.Shutdown()
}

// Set replaces the zone for all later queries.
func (s *Server) Set(text string) error {
	z := zone{records: map[string][]dns.RR{}, broken: map[string]string{}}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) < 2 {
			return fmt.Errorf("stub: %q: no type", line)
		}
		name := dns.CanonicalName(f[0])
		if len(f) == 2 {
			if f[1] != "SERVFAIL" && f[1] != "DROP" {
				return fmt.Errorf("stub: %q: neither a record nor SERVFAIL or DROP", line)
			}
			z.broken[name] = f[1]
			continue
		}
		rr, err := dns.NewRR(name + " 60 IN " + strings.Join(f[1:], " "))
		if err != nil {
			return fmt.Errorf("stub: %q: %w", line, err)
		}
		z.records[name] = append(z.records[name], rr)
	}
	s.mu.Lock()
	s.zone = z
	s.mu.Unlock()
	return nil
}

// Asked returns how many queries for the name and type ("MX") have come so far.
func (s *Server) Asked(name, kind string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[dns.CanonicalName(name)+" "+kind]
}

func (s *Server) answer(w dns.ResponseWriter, query *dns.Msg) {
	reply := new(dns.Msg)
	if len(query.Question) != 1 {
		w.WriteMsg(reply.SetRcode(query, dns.RcodeFormatError))
		return
	}
	q := query.Question[0]
	name := dns.CanonicalName(q.Name)
	s.mu.Lock()
	z := s.zone
	s.asked[name+" "+dns.TypeToString[q.Qtype]]++
	s.mu.Unlock()

	reply.SetReply(query)
	reply.RecursionAvailable = true
	for range 8 { // as many CNAMEs as anyone follows
		if fault := z.broken[name]; fault == "DROP" {
			return
		} else if fault != "" {
			reply.Rcode = dns.RcodeServerFailure
			break
		}
		target := ""
		for _, rr := range z.records[name] {
			if rr.Header().Rrtype == q.Qtype {
				reply.Answer = append(reply.Answer, rr)
			} else if cname, ok := rr.(*dns.CNAME); ok {
				reply.Answer = append(reply.Answer, rr)
				target = dns.CanonicalName(cname.Target)
			}
		}
		if target == "" {
			if !z.exists(name) {
				reply.Rcode = dns.RcodeNameError
			}
			break
		}
		name = target
	}
	if _, ok := w.RemoteAddr().(*net.UDPAddr); ok {
		size := dns.MinMsgSize
		if opt := query.IsEdns0(); opt != nil {
			size = int(opt.UDPSize())
		}
		reply.Truncate(size)
	}
	w.WriteMsg(reply)
}

// exists reports whether the name has records, or names below it.
func (z zone) exists(name string) bool {
	for known := range z.records {
		if known == name || strings.HasSuffix(known, "."+name) {
			return true
		}
	}
	return false
}
