package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Each type here parses one type of value into the field it points to. A value sets its field only when it is right.

type word struct{ p *string }

func (v word) set(s string) error {
	if strings.ContainsAny(s, " \t") {
		return fmt.Errorf("%q: one word is wanted", s)
	}
	*v.p = s
	return nil
}

type words struct{ p *[]string }

func (v words) set(s string) error {
	*v.p = strings.Fields(s)
	return nil
}

// hostname is a domain name or empty.
type hostname struct{ p *string }

func (v hostname) set(s string) error {
	if s != "" {
		d, err := domain(s)
		if err != nil {
			return err
		}
		s = d
	}
	*v.p = s
	return nil
}

// domain folds and checks a name: RFC 1035 section 2.3.4 for the lengths, letters, digits, hyphens and
// underscores, or UTF-8 (RFC 6531 section 3.3), for the characters.
func domain(s string) (string, error) {
	if len(s) > 253 {
		return "", fmt.Errorf("%.40q...: a domain has at most 253 bytes", s)
	}
	s = strings.ToLower(s)
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "", fmt.Errorf("%q is not a domain", s)
		}
		for i := 0; i < len(label); i++ {
			b := label[i]
			if !(b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b == '-' || b == '_' || b >= 0x80) {
				return "", fmt.Errorf("%q is not a domain", s)
			}
		}
	}
	return s, nil
}

// forwardFiles are the names of forward files that are looked at: ".forward", ".qmail", both or none.
type forwardFiles struct{ p *[]string }

func (v forwardFiles) set(s string) error {
	*v.p = strings.Fields(s)
	for _, name := range *v.p {
		if name != ".forward" && name != ".qmail" {
			return fmt.Errorf("%q is none of .forward and .qmail", name)
		}
	}
	return nil
}

// domains is a list of domains, and of files (a word with a slash in it) that name them.
type domains struct {
	p   *Domains
	dir string
}

func (v domains) set(s string) error {
	var d Domains
	for w := range strings.FieldsSeq(s) {
		if strings.Contains(w, "/") {
			d.Files = append(d.Files, below(v.dir, w))
			continue
		}
		n, err := domain(w)
		if err != nil {
			return err
		}
		d.Names = append(d.Names, n)
	}
	*v.p = d
	return nil
}

func (v domains) files() []string { return v.p.Files }

type prefixes struct{ p *Prefixes }

func (v prefixes) set(s string) error {
	var l Prefixes
	for w := range strings.FieldsSeq(s) {
		var n netip.Prefix
		if a, err := netip.ParseAddr(w); err == nil && a.Zone() == "" {
			a = a.Unmap()
			n = netip.PrefixFrom(a, a.BitLen())
		} else if n, err = netip.ParsePrefix(w); err != nil {
			return fmt.Errorf("%q is not a network (192.0.2.0/24) or address", w)
		}
		if n != n.Masked() {
			// 10.1.2.3/8 is as often a slip of the length as of the address.
			return fmt.Errorf("%q has bits after the prefix (%s is the network)", w, n.Masked())
		}
		l = append(l, n)
	}
	*v.p = l
	return nil
}

// chosen are some words of a list, each once, in capitals. The empty value is none of them.
type chosen struct {
	p     *[]string
	known string
}

func (v chosen) set(s string) error {
	var l []string
	for w := range strings.FieldsSeq(s) {
		w = strings.ToUpper(w)
		if err := (choice{new(string), v.known}).set(w); err != nil {
			return err
		}
		if !slices.Contains(l, w) {
			l = append(l, w)
		}
	}
	*v.p = l
	return nil
}

// sources are those of authd.
type sources struct{ p *[]string }

func (v sources) set(s string) error {
	var l []string
	for w := range strings.FieldsSeq(s) {
		kind, where, _ := strings.Cut(w, ":")
		switch kind {
		case "users", "system":
			if w != kind {
				return fmt.Errorf("%q: %s has no path here", w, kind)
			}
		case "checkpassword", "server":
			for p := range strings.SplitSeq(where, ",") {
				if !filepath.IsAbs(p) {
					return fmt.Errorf("%q: %s:/ABSOLUTE/PATH is wanted", w, kind)
				}
			}
		default:
			return fmt.Errorf("%q is none of users, system, checkpassword:PATH, server:PATH", w)
		}
		if slices.Contains(l, w) {
			return fmt.Errorf("%q is there twice", w)
		}
		l = append(l, w)
	}
	if len(l) == 0 {
		return errors.New("at least one source is wanted")
	}
	*v.p = l
	return nil
}

// below is name, below dir when it is relative.
func below(dir, name string) string {
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(dir, name)
}

// path is a file, or empty.
type path struct {
	p   *string
	dir string
}

func (v path) set(s string) error {
	if strings.ContainsAny(s, " \t") {
		return fmt.Errorf("%q: one file is wanted", s)
	}
	if s != "" {
		s = below(v.dir, s)
	}
	*v.p = s
	return nil
}

func (v path) files() []string { return []string{*v.p} }

// place is a directory that must be named.
type place struct {
	p   *string
	dir string
}

func (v place) set(s string) error {
	if s == "" {
		return errors.New("a directory is wanted")
	}
	return path(v).set(s)
}

func (v place) files() []string { return []string{*v.p} }

type paths struct {
	p   *[]string
	dir string
}

func (v paths) set(s string) error {
	var l []string
	for w := range strings.FieldsSeq(s) {
		l = append(l, below(v.dir, w))
	}
	*v.p = l
	return nil
}

func (v paths) files() []string { return *v.p }

// pattern is a maildir: "~/Maildir", "/var/mail/%d/%n".
type pattern struct{ p *string }

func (v pattern) set(s string) error {
	if s != "~" && !strings.HasPrefix(s, "~/") && !strings.HasPrefix(s, "/") {
		return fmt.Errorf("%q begins neither with ~/ nor with /", s)
	}
	if strings.ContainsAny(s, " \t") {
		return fmt.Errorf("%q: one directory is wanted", s)
	}
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			continue
		}
		i++
		if i == len(s) || !strings.Contains("und%", s[i:i+1]) {
			return fmt.Errorf("%q: only %%u, %%n, %%d and %%%% are known", s)
		}
	}
	*v.p = s
	return nil
}

// delimiter is a set of characters that may stand between a name and its tag.
type delimiter struct{ p *string }

func (v delimiter) set(s string) error {
	for i := 0; i < len(s); i++ {
		// Characters of an atom (RFC 5321 section 4.1.2) that are not letters or digits.
		if !strings.Contains("!#$%&'*+-/=?^_`{|}~", s[i:i+1]) {
			return fmt.Errorf("%q cannot be a delimiter", s)
		}
	}
	*v.p = s
	return nil
}

type choice struct {
	p    *string
	list string // separated by spaces
}

func (v choice) set(s string) error {
	for w := range strings.FieldsSeq(v.list) {
		if s == w {
			*v.p = s
			return nil
		}
	}
	return fmt.Errorf("%q is none of: %s", s, v.list)
}

type flag struct{ p *bool }

func (v flag) set(s string) error {
	switch s {
	case "yes":
		*v.p = true
	case "no":
		*v.p = false
	default:
		return fmt.Errorf("%q is neither yes nor no", s)
	}
	return nil
}

type count struct {
	p   *int
	min int
}

func (v count) set(s string) error {
	n, err := number(s)
	if err != nil || n > math.MaxInt32 {
		return fmt.Errorf("%q is not a number", s)
	}
	if n < int64(v.min) {
		return fmt.Errorf("%s is too small (at least %d)", s, v.min)
	}
	*v.p = int(n)
	return nil
}

type port struct{ p *int }

func (v port) set(s string) error {
	n, err := number(s)
	if err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("%q is not a port", s)
	}
	*v.p = int(n)
	return nil
}

// number reads plain decimal digits: no sign, no "0x", no "_".
func number(s string) (int64, error) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseInt(s, 10, 64)
}

// scaled reads a number with a unit of one letter; mul gives what the unit stands for, 0 for unknown ones.
func scaled(s string, mul func(unit byte) int64) (int64, bool) {
	unit := byte(0)
	if s != "" && (s[len(s)-1] < '0' || s[len(s)-1] > '9') {
		unit = s[len(s)-1] | 0x20
		s = s[:len(s)-1]
	}
	n, err := number(s)
	m := mul(unit)
	if err != nil || m == 0 || n > math.MaxInt64/m {
		// A bare zero needs no unit.
		return 0, err == nil && n == 0 && unit == 0
	}
	return n * m, true
}

// duration is "30s", "5m", "4h", "5d", "1w", or "0".
type duration struct {
	p   *time.Duration
	min time.Duration // 0: zero is allowed; 1: it is not
}

func (v duration) set(s string) error {
	n, ok := scaled(s, func(unit byte) int64 {
		switch unit {
		case 's':
			return int64(time.Second)
		case 'm':
			return int64(time.Minute)
		case 'h':
			return int64(time.Hour)
		case 'd':
			return 24 * int64(time.Hour)
		case 'w':
			return 7 * 24 * int64(time.Hour)
		}
		return 0
	})
	// A limit far below the 292 years of a time.Duration, so that sums of durations cannot overflow.
	const most = 10 * 365 * 24 * time.Hour
	switch d := time.Duration(n); {
	case !ok:
		return fmt.Errorf("%q is not a time (30s, 5m, 4h, 5d, 1w)", s)
	case d < v.min:
		return errors.New("must be more than 0")
	case d > most:
		return fmt.Errorf("%s is too long (at most ten years)", s)
	default:
		*v.p = d
	}
	return nil
}

// size is bytes: "1000", "10k", "25m", "2g", in units of 1,024.
type size struct{ p *int64 }

func (v size) set(s string) error {
	n, ok := scaled(s, func(unit byte) int64 {
		switch unit {
		case 0:
			return 1
		case 'k':
			return 1 << 10
		case 'm':
			return 1 << 20
		case 'g':
			return 1 << 30
		}
		return 0
	})
	if !ok {
		return fmt.Errorf("%q is not a size (1000, 10k, 25m, 2g)", s)
	}
	*v.p = n
	return nil
}

type tlsVersion struct{ p *uint16 }

func (v tlsVersion) set(s string) error {
	// The numbers of RFC 8446 section 4.2.1, so that reading a configuration does not link crypto/tls.
	switch s {
	case "1.0":
		*v.p = 0x0301
	case "1.1":
		*v.p = 0x0302
	case "1.2":
		*v.p = 0x0303
	case "1.3":
		*v.p = 0x0304
	default:
		return fmt.Errorf("%q is none of: 1.0 1.1 1.2 1.3", s)
	}
	return nil
}

// listeners is a list of "ADDRESS:PORT=KIND" and "unix:PATH=KIND". Relative paths stay so: they are below run_dir,
// which may come later in the file (derive).
type listeners struct {
	p     *[]Listener
	def   string // the kind when none is named; "" it must be named
	kinds string
}

func (v listeners) set(s string) error {
	var l []Listener
	for w := range strings.FieldsSeq(s) {
		where, kind, ok := cutLast(w, '=')
		if !ok {
			where, kind = w, v.def
		}
		if kind == "" {
			return fmt.Errorf("%q: which kind? %s=KIND with one of: %s", w, where, v.kinds)
		}
		if err := (choice{new(string), v.kinds}).set(kind); err != nil {
			return fmt.Errorf("%q: kind %w", w, err)
		}
		n := Listener{Network: "unix", Kind: kind}
		if p, ok := strings.CutPrefix(where, "unix:"); ok {
			if p == "" {
				return fmt.Errorf("%q: a path is wanted", w)
			}
			n.Address = p
		} else {
			a, err := netip.ParseAddrPort(where)
			if err != nil {
				return fmt.Errorf("%q is neither ADDRESS:PORT=KIND nor unix:PATH=KIND", w)
			}
			n.Network, n.Address = "tcp6", a.String()
			if a.Addr().Is4() {
				n.Network = "tcp4"
			}
		}
		for _, o := range l {
			// Port 0 is any free one: two of them are two.
			if o.Network == n.Network && o.Address == n.Address && !strings.HasSuffix(n.Address, ":0") {
				return fmt.Errorf("%q is there twice", where)
			}
		}
		l = append(l, n)
	}
	*v.p = l
	return nil
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// lmtp is where mailboxes are delivered: "lmtp:unix:PATH", "lmtp:/PATH" or "lmtp:[HOST]:PORT".
type lmtp struct{ p *Endpoint }

func (v lmtp) set(s string) error {
	where, ok := strings.CutPrefix(s, "lmtp:")
	if !ok || strings.ContainsAny(s, " \t") {
		return fmt.Errorf("%q is neither lmtp:unix:PATH nor lmtp:[HOST]:PORT", s)
	}
	if p, ok := strings.CutPrefix(where, "unix:"); ok && p != "" {
		*v.p = Endpoint{"unix", p}
		return nil
	}
	if strings.HasPrefix(where, "/") {
		*v.p = Endpoint{"unix", where}
		return nil
	}
	host, prt, err := hostPort(where)
	if err != nil || prt == "" {
		return fmt.Errorf("%q is neither lmtp:unix:PATH nor lmtp:[HOST]:PORT", s)
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	*v.p = Endpoint{"tcp", host + ":" + prt}
	return nil
}

// nexthop is "host", "host:port", "[host]", "[host]:port" with a name or an address, or empty.
type nexthop struct{ p *string }

func (v nexthop) set(s string) error {
	if s != "" {
		if _, _, err := hostPort(s); err != nil {
			return err
		}
	}
	*v.p = s
	return nil
}

func hostPort(s string) (host, prt string, err error) {
	bad := fmt.Errorf("%q is neither HOST, HOST:PORT, [HOST] nor [HOST]:PORT", s)
	rest := ""
	if in, ok := strings.CutPrefix(s, "["); ok {
		if host, rest, ok = strings.Cut(in, "]"); !ok {
			return "", "", bad
		}
	} else if i := strings.IndexByte(s, ':'); i >= 0 {
		host, rest = s[:i], s[i:]
	} else {
		host = s
	}
	if rest != "" {
		var n int
		prt = rest[1:]
		if rest[0] != ':' || (port{&n}).set(prt) != nil {
			return "", "", bad
		}
	}
	if _, err := netip.ParseAddr(host); err != nil {
		if _, err := domain(host); err != nil {
			return "", "", bad
		}
	}
	return host, prt, nil
}

// addrs is at most one address of each family.
type addrs struct{ p *[]netip.Addr }

func (v addrs) set(s string) error {
	var l []netip.Addr
	for w := range strings.FieldsSeq(s) {
		a, err := netip.ParseAddr(w)
		if err != nil {
			return fmt.Errorf("%q is not an address", w)
		}
		a = a.Unmap()
		for _, o := range l {
			if o.Is4() == a.Is4() {
				return fmt.Errorf("%s and %s: one address of a family at most", o, a)
			}
		}
		l = append(l, a)
	}
	*v.p = l
	return nil
}

// addrPorts is a list of "ADDRESS" or "ADDRESS:PORT".
type addrPorts struct {
	p   *[]netip.AddrPort
	def uint16
}

func (v addrPorts) set(s string) error {
	var l []netip.AddrPort
	for w := range strings.FieldsSeq(s) {
		ap, err := netip.ParseAddrPort(w)
		if err != nil {
			a, err := netip.ParseAddr(w)
			if err != nil {
				return fmt.Errorf("%q is neither ADDRESS nor ADDRESS:PORT", w)
			}
			ap = netip.AddrPortFrom(a, v.def)
		}
		l = append(l, ap)
	}
	*v.p = l
	return nil
}
