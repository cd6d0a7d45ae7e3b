// Package resolver asks recursive DNS servers what mail needs to know: mail hosts, addresses, names of addresses.
//
// It promises:
//   - "the name does not exist", "it has no such record" and "nobody could say" are three different errors (Kind).
//     Everything that is not a clear answer is Temporary: SERVFAIL, REFUSED, FORMERR, a timeout, a referral, a reply
//     that does not parse, a truncated one that TCP did not complete, a chain of aliases without an end.
//   - Bounded work: Attempts rounds over the servers of Timeout each, at most 16 aliases, at most MaxRecords records of a reply.
//   - Bounded memory: CacheEntries answers. An answer lives as long as its smallest TTL says and at most a day, a
//     negative one as long as its SOA says (RFC 2308 section 5) and at most an hour, a temporary failure not at all.
//   - Equal questions at the same time are asked once.
//   - A question goes out from a fresh socket with a random port, a random id and a random spelling (0x20), and
//     a datagram that does not repeat all of them is not an answer.
//
// It validates no signatures. Secure in an answer repeats the AD bit of a server that is trusted: one on loopback, or
// all when resolv.conf says "options trust-ad" or Options.TrustAD is set (RFC 6840 section 5.8).
//
// No search list is applied and /etc/hosts is not read: the name in a mail address is complete.
package resolver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Kind says what an Error means for mail. A Kind is an error, so errors.Is(err, resolver.NXDomain) works on whatever this package returns.
type Kind int

const (
	Temporary  Kind = iota // no clear answer: try again later, never bounce
	NXDomain               // the name does not exist
	NoData                 // the name exists without a record of the type
	NullMX                 // RFC 7505: the domain takes no mail
	BadName                // not a name that DNS can be asked for
	Unverified             // VerifiedPTR: no name of the address leads back to it
)

func (k Kind) Error() string {
	switch k {
	case NXDomain:
		return "no such domain"
	case NoData:
		return "no such record"
	case NullMX:
		return "the domain accepts no mail (null MX)"
	case BadName:
		return "not a domain name"
	case Unverified:
		return "name does not lead back to the address"
	}
	return "temporary failure"
}

// Error is the error of every look-up here.
type Error struct {
	Type string // "MX", "A", "AAAA", "PTR"
	Name string // what was asked for
	Kind Kind
	Err  error // why, for a temporary failure; else nil
}

func (e *Error) Error() string {
	s := "resolver: " + e.Type + " " + e.Name + ": "
	if e.Err != nil {
		return s + e.Err.Error()
	}
	return s + e.Kind.Error()
}

// Unwrap gives the Kind and, where there is one, the cause.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Err}
}

// KindOf is the Kind of err; Temporary when it has none, for what is not understood is not final.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Temporary
}

// Options of a Resolver. The zero value uses /etc/resolv.conf and the defaults named here.
type Options struct {
	Servers      []string      // "192.0.2.1:5353", "192.0.2.1", "[::1]:53", "::1"; empty: from Conf
	Conf         string        // resolv.conf(5) to read, and to read again when it changed; default /etc/resolv.conf
	Timeout      time.Duration // for one try of one server; default: resolv.conf's, or 5 s
	Attempts     int           // rounds over the servers; default: resolv.conf's, or 2
	CacheEntries int           // default 4096; negative: no cache
	MaxRecords   int           // of one reply; default 100
	TrustAD      bool          // believe the AD bit of every server, not only of those on loopback
}

// MX is one mail host of a domain. Host is lower case without a final dot and has been checked to be a plain host name.
type MX struct {
	Pref   uint16
	Host   string
	Secure bool // the answer was validated by a server that is trusted
}

const (
	maxTTL      = 24 * time.Hour
	maxNegative = time.Hour
	maxAliases  = 16
)

// Resolver is safe for concurrent use.
type Resolver struct {
	opt  Options
	conf conf
	now  func() time.Time

	mu      sync.Mutex
	cache   map[key]*answer
	flights map[key]*flight
}

type key struct {
	name  string
	qtype uint16
}

// answer is what was found for a key: records or a final negative. Never changed after it was made.
type answer struct {
	records []dns.RR
	kind    Kind // NXDomain, NoData; meaningful without records
	secure  bool
	ttl     time.Duration
	expires time.Time
}

type flight struct {
	done chan struct{}
	ans  *answer
	err  error
}

// New makes a Resolver. The only error is a server in o that is no address. A missing resolv.conf means 127.0.0.1, as in the C library.
func New(o Options) (*Resolver, error) {
	if o.Conf == "" {
		o.Conf = "/etc/resolv.conf"
	}
	if o.CacheEntries == 0 {
		o.CacheEntries = 4096
	}
	if o.MaxRecords <= 0 {
		o.MaxRecords = 100
	}
	r := &Resolver{opt: o, now: time.Now, cache: make(map[key]*answer), flights: make(map[key]*flight)}
	if err := r.conf.init(o); err != nil {
		return nil, err
	}
	return r, nil
}

// MX finds the mail hosts of domain, lowest preference value first, in random order among equals, at most MaxRecords.
// Kinds of error: NXDomain; NoData (the caller then takes the addresses of the domain itself, RFC 5321 section 5.1); NullMX;
// BadName; Temporary, also when there are records and none of them names a host.
func (r *Resolver) MX(ctx context.Context, domain string) ([]MX, error) {
	ans, err := r.lookup(ctx, domain, dns.TypeMX)
	if err != nil {
		return nil, err
	}
	mxs := make([]MX, 0, len(ans.records))
	null := false
	for _, rr := range ans.records {
		mx := rr.(*dns.MX)
		if mx.Mx == "." {
			null = true
			continue
		}
		// A host that is no host name cannot be reached, whatever it is; the others can. RFC 2181 section 11 lets any bytes
		// stand in a name, and this one goes into log lines and TLS.
		host, err := ToASCII(mx.Mx)
		if err != nil {
			continue
		}
		mxs = append(mxs, MX{mx.Preference, host, ans.secure})
	}
	if len(mxs) == 0 {
		// RFC 7505 section 3: "." alone. Beside others it is a mistake and the others count.
		if null {
			return nil, &Error{"MX", domain, NullMX, nil}
		}
		return nil, &Error{"MX", domain, Temporary, errors.New("no MX record names a host")}
	}
	rand.Shuffle(len(mxs), func(i, j int) { mxs[i], mxs[j] = mxs[j], mxs[i] })
	slices.SortStableFunc(mxs, func(a, b MX) int { return cmp.Compare(a.Pref, b.Pref) })
	return mxs[:min(len(mxs), r.opt.MaxRecords)], nil
}

// Addrs finds the addresses of host: IPv6 ones if v6, IPv4 ones if v4, in the order the server gave them, IPv6 first.
// The two questions are asked at the same time, and what one of them finds is returned when the other fails.
// A host that is the text of an IP address is BadName: such an MX is a mistake (RFC 5321 section 2.3.5), and no question.
func (r *Resolver) Addrs(ctx context.Context, host string, v4, v6 bool) ([]netip.Addr, error) {
	var a4, a6 []netip.Addr
	var err4, err6 error
	var wg sync.WaitGroup
	if v6 && v4 {
		wg.Go(func() { a6, err6 = r.addrs(ctx, host, dns.TypeAAAA) })
	} else if v6 {
		a6, err6 = r.addrs(ctx, host, dns.TypeAAAA)
	}
	if v4 {
		a4, err4 = r.addrs(ctx, host, dns.TypeA)
	}
	wg.Wait()
	if all := append(a6, a4...); len(all) > 0 {
		return all, nil
	}
	// Of two failures the less final one counts: a timeout for A beside "no such name" for AAAA has not shown that there is no A,
	// and servers exist that deny a whole name when asked for AAAA (RFC 4074 section 4.2).
	switch {
	case err4 == nil && err6 == nil:
		return nil, &Error{"A", host, NoData, nil}
	case err4 == nil:
		return nil, err6
	case err6 == nil || KindOf(err4) == Temporary:
		return nil, err4
	case KindOf(err6) == Temporary || KindOf(err6) == NoData:
		return nil, err6
	}
	return nil, err4
}

func (r *Resolver) addrs(ctx context.Context, host string, qtype uint16) ([]netip.Addr, error) {
	if _, err := netip.ParseAddr(host); err == nil {
		return nil, &Error{dns.TypeToString[qtype], host, BadName, nil}
	}
	ans, err := r.lookup(ctx, host, qtype)
	if err != nil {
		return nil, err
	}
	addrs := make([]netip.Addr, 0, len(ans.records))
	for _, rr := range ans.records {
		var a netip.Addr
		switch rr := rr.(type) {
		case *dns.A:
			a, _ = netip.AddrFromSlice(rr.A)
			a = a.Unmap()
		case *dns.AAAA:
			// A mapped address stays one: the caller is to see that it is, and to refuse it.
			a, _ = netip.AddrFromSlice(rr.AAAA)
		}
		if a.IsValid() && !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	if len(addrs) == 0 {
		return nil, &Error{dns.TypeToString[qtype], host, NoData, nil}
	}
	return addrs, nil
}

// PTR finds the name of ip, unverified: whoever has the address can claim any name. The first usable one is returned.
func (r *Resolver) PTR(ctx context.Context, ip netip.Addr) (string, error) {
	names, err := r.ptr(ctx, ip)
	if err != nil {
		return "", err
	}
	return names[0], nil
}

// VerifiedPTR finds a name of ip that leads back to it; of several names the first five are tried.
// Unverified when all of them were looked up and none does, Temporary when that could not be found out.
func (r *Resolver) VerifiedPTR(ctx context.Context, ip netip.Addr) (string, error) {
	ip = ip.Unmap().WithZone("")
	names, err := r.ptr(ctx, ip)
	if err != nil {
		return "", err
	}
	var last error = &Error{"PTR", ip.String(), Unverified, nil}
	for _, name := range names[:min(len(names), 5)] {
		addrs, err := r.Addrs(ctx, name, ip.Is4(), ip.Is6())
		if slices.Contains(addrs, ip) {
			return name, nil
		}
		if err != nil && KindOf(err) == Temporary {
			last = err
		}
	}
	return "", last
}

func (r *Resolver) ptr(ctx context.Context, ip netip.Addr) ([]string, error) {
	ip = ip.Unmap().WithZone("")
	arpa, err := dns.ReverseAddr(ip.String())
	if err != nil {
		return nil, &Error{"PTR", ip.String(), BadName, nil}
	}
	ans, err := r.lookup(ctx, arpa, dns.TypePTR)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, rr := range ans.records {
		if name, err := ToASCII(rr.(*dns.PTR).Ptr); err == nil {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, &Error{"PTR", ip.String(), NoData, nil}
	}
	return names, nil
}

// lookup is the cache and the gathering of equal questions around ask.
func (r *Resolver) lookup(ctx context.Context, name string, qtype uint16) (*answer, error) {
	ascii, err := ToASCII(name)
	if err != nil {
		return nil, &Error{dns.TypeToString[qtype], name, BadName, nil}
	}
	k := key{ascii, qtype}
	now := r.now()

	r.mu.Lock()
	if a := r.cache[k]; a != nil {
		if now.Before(a.expires) {
			r.mu.Unlock()
			return a.result(k)
		}
		delete(r.cache, k)
	}
	f := r.flights[k]
	if f == nil {
		f = &flight{done: make(chan struct{})}
		r.flights[k] = f
		// The question outlives the caller that asked it first: others may wait for the answer, and the next will find it in the cache.
		go r.fly(context.WithoutCancel(ctx), k, f)
	}
	r.mu.Unlock()

	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, &Error{dns.TypeToString[qtype], name, Temporary, ctx.Err()}
	}
	if f.err != nil {
		return nil, f.err
	}
	return f.ans.result(k)
}

func (r *Resolver) fly(ctx context.Context, k key, f *flight) {
	ans, err := r.ask(ctx, k)
	if err != nil {
		err = &Error{dns.TypeToString[k.qtype], k.name, Temporary, err}
	}
	f.ans, f.err = ans, err
	r.mu.Lock()
	delete(r.flights, k)
	if ans != nil && ans.ttl > 0 && r.opt.CacheEntries > 0 {
		ans.expires = r.now().Add(ans.ttl)
		r.evict()
		r.cache[k] = ans
	}
	r.mu.Unlock()
	close(f.done)
}

// evict makes room for one more: of eight entries that the map's random order offers those that have expired, else one.
func (r *Resolver) evict() {
	if len(r.cache) < r.opt.CacheEntries {
		return
	}
	now, n := r.now(), 0
	var victim key
	for k, a := range r.cache {
		if victim = k; !now.Before(a.expires) {
			delete(r.cache, k)
		}
		if n++; n == 8 {
			break
		}
	}
	if len(r.cache) >= r.opt.CacheEntries {
		delete(r.cache, victim)
	}
}

func (a *answer) result(k key) (*answer, error) {
	if len(a.records) == 0 {
		return nil, &Error{dns.TypeToString[k.qtype], k.name, a.kind, nil}
	}
	return a, nil
}

// ask follows k to its records, through aliases, over as many questions as the servers need. Its error is always a temporary failure.
func (r *Resolver) ask(ctx context.Context, k key) (*answer, error) {
	name := dns.Fqdn(k.name)
	total := &answer{secure: true, ttl: maxTTL}
	for aliases := 0; ; {
		msg, trusted, err := r.exchange(ctx, name, k.qtype)
		if err != nil {
			return nil, err
		}
		total.secure = total.secure && trusted && msg.AuthenticatedData
		// RFC 1034 section 3.6.2: aliases are in the answer, in any order.
		for {
			alias := findAlias(msg, name, k.qtype)
			if alias == nil {
				break
			}
			if aliases++; aliases > maxAliases {
				return nil, fmt.Errorf("more than %d aliases, the last %s", maxAliases, name)
			}
			total.lower(alias.Hdr.Ttl)
			name = alias.Target
		}
		for _, rr := range msg.Answer {
			h := rr.Header()
			if h.Rrtype == k.qtype && h.Class == dns.ClassINET && strings.EqualFold(h.Name, name) {
				total.records = append(total.records, rr)
				total.lower(h.Ttl)
			}
		}
		if len(total.records) > 0 {
			total.trim(r.opt.MaxRecords)
			return total, nil
		}
		soa := findSOA(msg)
		switch {
		case msg.Rcode == dns.RcodeNameError:
			// RFC 2308 section 2.1: after aliases it is the last name that does not exist.
			total.kind = NXDomain
		case soa == nil && strings.EqualFold(name, msg.Question[0].Name):
			// RFC 2308 section 2.2: no data, type 3. A referral was refused by check.
			total.kind = NoData
		case soa == nil:
			continue // aliases whose end the server did not give: ask for it
		default:
			total.kind = NoData
		}
		if soa == nil {
			total.ttl = 0 // RFC 2308 section 5: without a SOA it is not to be cached
		} else {
			total.lower(min(soa.Hdr.Ttl, soa.Minttl))
			total.ttl = min(total.ttl, maxNegative)
		}
		return total, nil
	}
}

// trim keeps at most n records, of MX the preferred ones.
func (a *answer) trim(n int) {
	if len(a.records) <= n {
		return
	}
	slices.SortStableFunc(a.records, func(x, y dns.RR) int {
		mx, ok := x.(*dns.MX)
		my, ok2 := y.(*dns.MX)
		if !ok || !ok2 {
			return 0
		}
		return cmp.Compare(mx.Preference, my.Preference)
	})
	a.records = slices.Clone(a.records[:n])
}

// lower makes the answer live at most ttl seconds. RFC 2181 section 8: a ttl with the top bit set is 0.
func (a *answer) lower(ttl uint32) {
	if ttl > 1<<31-1 {
		ttl = 0
	}
	a.ttl = min(a.ttl, time.Duration(ttl)*time.Second)
}

func findAlias(msg *dns.Msg, name string, qtype uint16) *dns.CNAME {
	var found *dns.CNAME
	for _, rr := range msg.Answer {
		if !strings.EqualFold(rr.Header().Name, name) {
			continue
		}
		if rr.Header().Rrtype == qtype {
			return nil // data beside an alias is against RFC 1034 section 3.6.2, and data
		}
		if c, ok := rr.(*dns.CNAME); ok && found == nil {
			found = c
		}
	}
	return found
}

func findSOA(msg *dns.Msg) *dns.SOA {
	for _, rr := range msg.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return soa
		}
	}
	return nil
}
