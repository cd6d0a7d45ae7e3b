// Package dnstest is a DNS server for tests: a few records on a free loopback port, by UDP and TCP, and every fault a resolver has to live with.
// No type of the DNS library shows, so tests anywhere can use it.
package dnstest

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Fault is a way to answer wrongly or not at all.
type Fault int

const (
	None           Fault = iota
	ServFail             // SERVFAIL
	Refused              // REFUSED
	FormErr              // FORMERR, whatever is asked
	NoEDNS               // FORMERR when the question has EDNS, a true answer else
	Drop                 // no answer
	Truncate             // an empty datagram with TC; by TCP the true answer
	TruncateNoTCP        // TC, and by TCP the connection is closed without an answer
	TruncateAlways       // TC by TCP too
	Lame                 // a referral to other servers instead of an answer
	NoSOA                // no data, without the SOA that makes it cacheable
	WrongID              // an answer with another id, then silence
	WrongName            // an answer to another question, then silence
	WrongCase            // the true answer, the name in lower case
	Garbage              // the id and then bytes that are no message
	Forged               // first a wrong id, a wrong question and a short datagram, then the true answer
	Partial              // of a chain of aliases the first one only
)

// Server answers what it was told; for a name it knows nothing of, NXDOMAIN with a SOA (TTL and minimum 300 s). Safe for concurrent use.
type Server struct {
	Addr string // "127.0.0.1:PORT"

	mu      sync.Mutex
	records map[string][]dns.RR // by lower-case name
	faults  map[string][]Fault  // by name, or name/TYPE
	count   map[string]int
	secure  bool
	udp     *dns.Server
	tcp     *dns.Server
}

// New starts a server that ends with the test.
func New(t testing.TB, zone ...string) *Server {
	t.Helper()
	s, err := Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.Add(zone...); err != nil {
		t.Fatal(err)
	}
	return s
}

// Start starts a server on addr, "127.0.0.1:0" for a free port.
func Start(addr string) (*Server, error) {
	s := &Server{records: map[string][]dns.RR{}, faults: map[string][]Fault{}, count: map[string]int{}}
	for try := 0; ; try++ {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("dnstest: %w", err)
		}
		pc, err := net.ListenPacket("udp", l.Addr().String())
		if err != nil {
			l.Close()
			if try < 20 {
				continue // another process has the port for UDP
			}
			return nil, fmt.Errorf("dnstest: %w", err)
		}
		s.Addr = l.Addr().String()
		s.udp = &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(s.serve)}
		s.tcp = &dns.Server{Listener: l, Handler: dns.HandlerFunc(s.serve), IdleTimeout: func() time.Duration { return time.Second }}
		break
	}
	var started sync.WaitGroup
	for _, d := range []*dns.Server{s.udp, s.tcp} {
		started.Add(1)
		d.NotifyStartedFunc = started.Done
		go d.ActivateAndServe()
	}
	started.Wait()
	return s, nil
}

// Close ends the server.
func (s *Server) Close() {
	s.udp.Shutdown()
	s.tcp.Shutdown()
}

// CloseTCP ends the TCP half: connections to it are refused.
func (s *Server) CloseTCP() { s.tcp.Shutdown() }

// Add adds records in the text form of RFC 1035 section 5, each on a line of its own: "example.net. 300 IN MX 10 mx.example.net.".
// A record with the owner alone ("name. IN TXT x") makes a name that exists.
func (s *Server) Add(zone ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	zp := dns.NewZoneParser(strings.NewReader(strings.Join(zone, "\n")+"\n"), ".", "dnstest")
	zp.SetDefaultTTL(300)
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		name := strings.ToLower(rr.Header().Name)
		s.records[name] = append(s.records[name], rr)
	}
	return zp.Err()
}

// Remove forgets all records of name.
func (s *Server) Remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.records, strings.ToLower(dns.Fqdn(name)))
}

// Fail makes questions for name ("example.net", or "example.net/MX" for one type) meet the faults, one each; the last one stays.
// End the list with None for a server that recovers.
func (s *Server) Fail(name string, faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, qtype, _ := strings.Cut(name, "/")
	s.faults[strings.ToLower(dns.Fqdn(name))+"/"+qtype] = faults
}

// Secure sets the AD bit in what follows.
func (s *Server) Secure(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secure = on
}

// Queries says how many questions for name and type ("MX") came, UDP and TCP each counted.
func (s *Server) Queries(name, qtype string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count[strings.ToLower(dns.Fqdn(name))+"/"+qtype]
}

// fault is the fault for the question, and steps to the next one if asked.
func (s *Server) fault(name, qtype string, step bool) Fault {
	for _, k := range []string{name + "/" + qtype, name + "/"} {
		if f := s.faults[k]; len(f) > 0 {
			if step && len(f) > 1 && f[0] != Truncate {
				s.faults[k] = f[1:]
			}
			return f[0]
		}
	}
	return None
}

func (s *Server) serve(w dns.ResponseWriter, q *dns.Msg) {
	if len(q.Question) != 1 {
		return
	}
	_, tcp := w.RemoteAddr().(*net.TCPAddr)
	name := strings.ToLower(q.Question[0].Name)
	qtype := dns.TypeToString[q.Question[0].Qtype]

	s.mu.Lock()
	s.count[name+"/"+qtype]++
	f := s.fault(name, qtype, !tcp) // TCP meets the fault that sent it there
	m := s.answer(q)
	s.mu.Unlock()

	switch f {
	case ServFail:
		m = rcode(q, dns.RcodeServerFailure)
	case Refused:
		m = rcode(q, dns.RcodeRefused)
	case FormErr:
		m = rcode(q, dns.RcodeFormatError)
	case NoEDNS:
		if q.IsEdns0() != nil {
			m = rcode(q, dns.RcodeFormatError)
		}
	case Drop:
		return
	case Truncate, TruncateNoTCP, TruncateAlways:
		if tcp && f == TruncateNoTCP {
			w.Close()
			return
		}
		if !tcp || f == TruncateAlways {
			m.Answer, m.Ns, m.Truncated = nil, nil, true
		}
	case Lame:
		m.Answer, m.Rcode, m.Authoritative, m.RecursionAvailable = nil, dns.RcodeSuccess, false, false
		m.Ns = []dns.RR{mustRR("net. 300 IN NS a.gtld-servers.net.")}
	case NoSOA:
		m.Answer, m.Ns, m.Rcode = nil, nil, dns.RcodeSuccess
	case WrongID:
		m.Id ^= 0x5555
	case WrongName:
		m.Question[0].Name = "other.example."
	case WrongCase:
		m.Question[0].Name = strings.ToLower(m.Question[0].Name)
	case Partial:
		m.Answer, m.Ns, m.Rcode = m.Answer[:min(1, len(m.Answer))], nil, dns.RcodeSuccess
	case Garbage:
		w.Write([]byte{byte(q.Id >> 8), byte(q.Id), 0x84, 0, 0, 1, 0, 9, 0, 9, 0, 9, 0xc0, 0x0c, 0xc0})
		return
	case Forged:
		bad := m.Copy()
		bad.Id++
		bad.Answer = nil
		w.WriteMsg(bad)
		bad.Id--
		bad.Question[0].Name = "other.example."
		w.WriteMsg(bad)
		w.Write([]byte{byte(q.Id >> 8), byte(q.Id)})
	}
	if !tcp && f != Truncate && f != TruncateNoTCP && f != TruncateAlways {
		size := dns.MinMsgSize
		if o := q.IsEdns0(); o != nil {
			size = int(o.UDPSize())
		}
		m.Truncate(size)
	}
	w.WriteMsg(m)
}

// answer is the true answer, aliases followed as a recursive server does. Under s.mu.
func (s *Server) answer(q *dns.Msg) *dns.Msg {
	m := rcode(q, dns.RcodeSuccess)
	m.RecursionAvailable = true
	m.AuthenticatedData = s.secure
	m.Compress = true
	if o := q.IsEdns0(); o != nil {
		m.SetEdns0(1232, false)
	}
	name := strings.ToLower(q.Question[0].Name)
	for range 32 {
		rrs, exists := s.records[name]
		var alias string
		for _, rr := range rrs {
			rr = dns.Copy(rr)
			if rr.Header().Name = name; name == strings.ToLower(q.Question[0].Name) {
				rr.Header().Name = q.Question[0].Name
			}
			if c, ok := rr.(*dns.CNAME); ok {
				alias = strings.ToLower(c.Target)
				m.Answer = append(m.Answer, rr)
			} else if rr.Header().Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
		if alias != "" {
			name = alias
			continue
		}
		if !exists {
			m.Rcode = dns.RcodeNameError
		}
		if len(m.Answer) == 0 || m.Answer[len(m.Answer)-1].Header().Rrtype != q.Question[0].Qtype {
			m.Ns = []dns.RR{mustRR(". 300 IN SOA ns.test. hostmaster.test. 1 7200 3600 1209600 300")}
		}
		break
	}
	return m
}

func rcode(q *dns.Msg, code int) *dns.Msg {
	m := new(dns.Msg)
	m.SetRcode(q, code)
	return m
}

func mustRR(s string) dns.RR {
	rr, err := dns.NewRR(s)
	if err != nil {
		panic(err)
	}
	return rr
}
