package route

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"postamt/internal/addr"
)

// Transport is a way to another program. It is comparable. The zero value is none.
type Transport struct {
	Kind   string // "mx", "host", "lmtp"
	Host   string // "mx": whose MX records, "" for the recipient's domain; "host", "lmtp": name or address, without brackets
	Port   string // "" for the port of the protocol, or remote_port
	Socket string // "lmtp": path of a Unix socket, instead of Host and Port
}

// ByMX is the way of the MX records of the recipient's domain.
var ByMX = Transport{Kind: "mx"}

// IsZero: there is no transport.
func (t Transport) IsZero() bool { return t == Transport{} }

// ByDomain: where it leads depends on the recipient's domain.
func (t Transport) ByDomain() bool { return t.Kind == "mx" && t.Host == "" }

// String is the form that ParseTransport reads; "mx" for ByMX.
func (t Transport) String() string {
	host := t.Host
	switch {
	case t.ByDomain():
		return "mx"
	case t.Socket != "":
		return "lmtp:unix:" + t.Socket
	case t.Kind == "host" || strings.Contains(host, ":"):
		host = "[" + host + "]"
	}
	if t.Port != "" {
		host += ":" + t.Port
	}
	if t.Kind == "lmtp" {
		return "lmtp:" + host
	}
	return host
}

// ParseTransport reads "host", "host:port" (by the MX records of host), "[host]:port" (host itself), "lmtp:/socket",
// "lmtp:unix:/socket", "lmtp:host:port", "mx"; "smtp:" may stand before what needs no "lmtp:".
func ParseTransport(s string) (Transport, error) {
	if s == "mx" {
		return ByMX, nil
	}
	if rest, ok := strings.CutPrefix(s, "lmtp:"); ok {
		socket, unix := strings.CutPrefix(rest, "unix:")
		if unix || strings.HasPrefix(socket, "/") {
			if socket == "" || strings.ContainsAny(socket, " \t\x00") {
				return Transport{}, fmt.Errorf("%q: a path is wanted after lmtp:unix:", s)
			}
			return Transport{Kind: "lmtp", Socket: socket}, nil
		}
		t, err := parseHost(rest)
		t.Kind = "lmtp"
		return t, err
	}
	t, err := parseHost(strings.TrimPrefix(s, "smtp:"))
	if t.Kind == "mx" && err == nil {
		if _, ipErr := netip.ParseAddr(t.Host); ipErr == nil {
			return Transport{}, fmt.Errorf("%q: an address has no MX records: write [%s]", s, t.Host)
		}
	}
	return t, err
}

// parseHost reads host, host:port, [host], [host]:port; Kind is "host" with brackets and "mx" without.
func parseHost(s string) (Transport, error) {
	var t Transport
	if rest, ok := strings.CutPrefix(s, "["); ok {
		host, rest, ok := strings.Cut(rest, "]")
		if !ok || rest != "" && rest[0] != ':' {
			return t, fmt.Errorf("%q: [host] or [host]:port is wanted", s)
		}
		host = strings.TrimPrefix(host, "IPv6:")
		t = Transport{Kind: "host", Host: host}
		s = rest
	} else {
		host, rest := s, ""
		if i := strings.IndexByte(s, ':'); i >= 0 {
			host, rest = s[:i], s[i:]
		}
		t = Transport{Kind: "mx", Host: host}
		s = rest
	}
	host, err := parseHostName(t.Host)
	if err != nil {
		return Transport{}, err
	}
	t.Host = host
	if s != "" {
		n, err := strconv.ParseUint(s[1:], 10, 16)
		if err != nil || n == 0 {
			return Transport{}, fmt.Errorf("%q is not a port", s[1:])
		}
		t.Port = strconv.FormatUint(n, 10)
	}
	return t, nil
}

func parseHostName(s string) (string, error) {
	if s == "" {
		return "", errors.New("a host is wanted")
	}
	if ip, err := netip.ParseAddr(s); err == nil {
		return ip.String(), nil
	}
	d, err := addr.ParseDomain(s, true)
	if err == nil {
		d, err = addr.ASCIIDomain(d)
	}
	if err != nil {
		return "", fmt.Errorf("%q is not a host", s)
	}
	return d, nil
}
