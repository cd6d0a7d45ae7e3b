package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"postamt/internal/resolver"
	"postamt/internal/smtp"
)

// Lookup is what Find asks; *resolver.Resolver is one.
type Lookup interface {
	MX(ctx context.Context, domain string) ([]resolver.MX, error)
	Addrs(ctx context.Context, host string, v4, v6 bool) ([]netip.Addr, error)
}

// Hop names where mail goes next, before any look-up.
type Hop struct {
	Host       string // a domain, a host, or an address with or without brackets: "example.net", "[192.0.2.1]", "[IPv6:2001:db8::1]", "::1"
	Port       uint16 // 0: FindOptions.Port
	MX         bool   // Host has MX records to look for; else its own addresses are meant
	Socket     string // instead of Host: a Unix socket
	LMTP       bool
	Configured bool // the administrator named it: that it cannot be found is temporary, and loopback is meant
}

// FindOptions bound and guide Find.
type FindOptions struct {
	Names         []string     // our own names: a host that is one of them is us
	Addrs         []netip.Addr // our own addresses, likewise; see OwnAddrs
	AllowLoopback bool         // addresses of loopback and of our own are ordinary targets (tests, demonstrations)
	V4, V6        bool         // families to use; neither: both
	Port          uint16       // default 25
	MaxHosts      int          // hosts to give; default 5
	MaxAddrs      int          // addresses of each; default 2, one of each family where there are both
}

// Find gives the endpoints for hop in the order to try them (RFC 5321 section 5.1): by preference, at random among equals, of each host
// the families in turn. The error is a *smtp.Reply that says what to tell the sender, 4yz or 5yz:
// 5.1.2 no such domain, 5.1.10 null MX, 5.4.4 no usable host, 5.4.6 the mail would come back to us, 4.4.3 DNS failed, 4.3.5 Configured and not found.
func Find(ctx context.Context, r Lookup, hop Hop, o FindOptions) ([]Endpoint, error) {
	if hop.Socket != "" {
		return []Endpoint{{Socket: hop.Socket, LMTP: hop.LMTP}}, nil
	}
	if !o.V4 && !o.V6 {
		o.V4, o.V6 = true, true
	}
	if o.MaxHosts <= 0 {
		o.MaxHosts = 5
	}
	if o.MaxAddrs <= 0 {
		o.MaxAddrs = 2
	}
	if hop.Port == 0 {
		hop.Port = o.Port
	}
	if hop.Port == 0 {
		hop.Port = 25
	}
	eps, err := find(ctx, r, hop, &o)
	if reply, ok := errors.AsType[*smtp.Reply](err); ok && hop.Configured && reply.Permanent() {
		return nil, smtp.NewReply(451, "4.3.5", "configured next hop: "+reply.Lines[0])
	}
	return eps, err
}

func find(ctx context.Context, r Lookup, hop Hop, o *FindOptions) ([]Endpoint, error) {
	if a, ok := literal(hop.Host); ok {
		// RFC 5321 section 5.1: no look-up for an address literal.
		switch {
		case hop.Configured || o.AllowLoopback:
		case slices.Contains(o.Addrs, a.Unmap()):
			return nil, looped(hop.Host)
		case !target(a):
			return nil, noHost("address " + a.String() + " is not on the Internet")
		}
		return []Endpoint{{Name: a.String(), Addr: netip.AddrPortFrom(a, hop.Port), LMTP: hop.LMTP}}, nil
	}
	hosts, itself := []resolver.MX{{Host: hop.Host}}, true
	if hop.MX {
		mx, err := r.MX(ctx, hop.Host)
		switch {
		case err == nil:
			hosts, itself = mx, false
		case errors.Is(err, resolver.NoData): // RFC 5321 section 5.1: the domain is its own host
		default:
			return nil, lookupReply(hop.Host, err)
		}
	}
	hosts, cut := cutNames(hosts, o.Names)
	if len(hosts) == 0 {
		return nil, looped(hop.Host)
	}
	eps, failed, cut2 := resolve(ctx, r, hosts, hop, o)
	switch {
	case len(eps) > 0:
		return eps, nil
	case failed != nil && resolver.KindOf(failed) == resolver.Temporary:
		return nil, lookupReply(hop.Host, failed)
	case cut || cut2:
		return nil, looped(hop.Host)
	case itself && failed != nil:
		return nil, lookupReply(hop.Host, failed)
	case failed != nil:
		return nil, noHost(hop.Host + ": no usable mail host: " + failed.Error())
	}
	return nil, noHost(hop.Host + ": the addresses of its mail hosts are not on the Internet")
}

// cutNames is the pure half of loop detection by name. RFC 5321 section 5.1: when we are among the hosts, only those that are preferred to us may get the
// mail; the others would send it to us. hosts is sorted.
func cutNames(hosts []resolver.MX, own []string) ([]resolver.MX, bool) {
	for i := range hosts {
		if slices.ContainsFunc(own, func(n string) bool { return strings.EqualFold(strings.TrimSuffix(n, "."), hosts[i].Host) }) {
			return cutPref(hosts, hosts[i].Pref), true
		}
	}
	return hosts, false
}

func cutPref(hosts []resolver.MX, pref uint16) []resolver.MX {
	for i := range hosts {
		if hosts[i].Pref >= pref {
			return hosts[:i]
		}
	}
	return hosts
}

// resolve looks up hosts until it has enough. failed is a temporary error if there was one, else the first; nil if all hosts had addresses; cut: one of the addresses was ours.
func resolve(ctx context.Context, r Lookup, hosts []resolver.MX, hop Hop, o *FindOptions) (eps []Endpoint, failed error, cut bool) {
	used := 0
	for k, h := range hosts {
		// Hosts without an address cost a question each; so there is a bound on them too.
		if used == o.MaxHosts || k == 4*o.MaxHosts {
			break
		}
		addrs, err := r.Addrs(ctx, h.Host, o.V4, o.V6)
		if err != nil {
			if failed == nil || resolver.KindOf(err) == resolver.Temporary {
				failed = err
			}
			continue
		}
		if !hop.Configured && !o.AllowLoopback {
			if slices.ContainsFunc(addrs, func(a netip.Addr) bool { return slices.Contains(o.Addrs, a.Unmap()) }) {
				n := slices.IndexFunc(eps, func(e Endpoint) bool { return e.Pref >= h.Pref })
				if n >= 0 {
					eps = eps[:n]
				}
				return eps, failed, true
			}
			addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool { return !target(a) })
		}
		if len(addrs) > 0 {
			used++
		}
		for _, a := range interleave(addrs, o.MaxAddrs) {
			eps = append(eps, Endpoint{Name: h.Host, Addr: netip.AddrPortFrom(a, hop.Port), LMTP: hop.LMTP, Pref: h.Pref})
		}
	}
	return eps, failed, false
}

// interleave takes at most n of addrs, the families in turn, IPv6 first, so that one that does not work costs one attempt.
func interleave(addrs []netip.Addr, n int) []netip.Addr {
	var v4, v6, out []netip.Addr
	for _, a := range addrs {
		if a.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}
	for len(out) < n && len(v4)+len(v6) > 0 {
		if len(v6) > 0 {
			out, v6 = append(out, v6[0]), v6[1:]
		}
		if len(v4) > 0 && len(out) < n {
			out, v4 = append(out, v4[0]), v4[1:]
		}
	}
	return out
}

// target reports whether a can be the address of another mail host: not loopback, "this host", link-local or multicast, and no IPv4 address
// dressed up as IPv6 to look otherwise.
func target(a netip.Addr) bool {
	if a.Is4In6() {
		return false
	}
	// 0.0.0.0/8 (RFC 1122 section 3.2.1.3) and 240.0.0.0/4 with the broadcast address.
	if a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 240) {
		return false
	}
	return a.IsValid() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !a.IsMulticast()
}

// literal reads "[192.0.2.1]", "[IPv6:2001:db8::1]" (RFC 5321 section 4.1.3), "[::1]", and bare addresses.
func literal(s string) (netip.Addr, bool) {
	if in, ok := strings.CutPrefix(s, "["); ok {
		if s, ok = strings.CutSuffix(in, "]"); !ok {
			return netip.Addr{}, false
		}
		if len(s) > 5 && strings.EqualFold(s[:5], "IPv6:") {
			s = s[5:]
		}
	}
	a, err := netip.ParseAddr(s)
	return a, err == nil
}

// OwnAddrs is the addresses of this machine's interfaces, for FindOptions.Addrs.
func OwnAddrs() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("remote: own addresses: %w", err)
	}
	var out []netip.Addr
	for _, n := range list {
		if ipn, ok := n.(*net.IPNet); ok {
			if a, ok := netip.AddrFromSlice(ipn.IP); ok {
				out = append(out, a.Unmap())
			}
		}
	}
	return out, nil
}

func looped(domain string) *smtp.Reply {
	return smtp.NewReply(550, "5.4.6", "mail for "+domain+" loops back to this host")
}

func noHost(text string) *smtp.Reply { return smtp.NewReply(550, "5.4.4", text) }

// lookupReply says what a failed look-up of a domain means for the sender.
func lookupReply(domain string, err error) *smtp.Reply {
	switch resolver.KindOf(err) {
	case resolver.NXDomain:
		return smtp.NewReply(550, "5.1.2", "domain "+domain+" does not exist")
	case resolver.BadName:
		return smtp.NewReply(550, "5.1.2", domain+" is not a domain")
	case resolver.NullMX:
		return smtp.NewReply(556, "5.1.10", "domain "+domain+" accepts no mail") // RFC 7505 section 4
	case resolver.NoData:
		return noHost("domain " + domain + " has no mail host and no address")
	}
	return smtp.NewReply(451, "4.4.3", "look-up of "+domain+" failed: "+err.Error())
}
