package userdb

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// parseUser reads what follows the password: uid:gid:gecos:home:shell:extra fields. Each may be missing from the end.
func parseUser(name, rest string, line int) (User, error) {
	u := User{Name: name, UID: NoID, GID: NoID, Line: line}
	for i := range len(rest) {
		if c := rest[i]; c < ' ' && c != '\t' || c == 0x7f {
			return u, errors.New("a control character")
		}
	}
	// The extra fields are the rest of the line, colons and all.
	f := strings.SplitN(rest, ":", 6)
	for len(f) < 6 {
		f = append(f, "")
	}
	var err error
	if u.UID, err = parseID(f[0]); err != nil {
		return u, fmt.Errorf("uid: %w", err)
	}
	if u.GID, err = parseID(f[1]); err != nil {
		return u, fmt.Errorf("gid: %w", err)
	}
	if u.Home = f[3]; u.Home != "" {
		if !filepath.IsAbs(u.Home) || len(u.Home) > 4095 {
			return u, fmt.Errorf("home %s: not an absolute path", strconv.Quote(clip(u.Home)))
		}
		u.Home = filepath.Clean(u.Home)
	}
	maildir := "" // ours goes before Dovecot's
	for w := range strings.FieldsSeq(f[5]) {
		key, value, given := strings.Cut(w, "=")
		switch strings.TrimPrefix(key, "userdb_") {
		case "maildir":
			maildir = value
		case "mail":
			u.Maildir, err = dovecotMail(value)
		case "mail_path": // Dovecot 2.4
			u.Maildir = value
		case "quota", "quota_storage_size":
			u.Quota, err = parseQuota(value)
		case "quota_rule":
			u.Quota, err = dovecotQuota(value, u.Quota)
		case "nologin":
			// Dovecot: the field counts, whatever its value; only ours may say no.
			u.NoLogin = !given || value != "n" && value != "no"
		case "allow_nets":
			u.AllowNets, err = parseNets(value)
		}
		// Other fields are for other programs.
		if err != nil {
			return u, fmt.Errorf("%s: %w", key, err)
		}
	}
	if maildir != "" {
		u.Maildir = maildir
	}
	if u.Maildir != "" {
		if _, err := u.Place("", "example.org"); err != nil {
			return u, err
		}
	}
	return u, nil
}

func parseID(s string) (ID, error) {
	if s == "" {
		return NoID, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == math.MaxUint32 {
		// 2^32-1 is "no change" to the system calls that take an id.
		return NoID, fmt.Errorf("%s is not a number of a user or group", strconv.Quote(clip(s)))
	}
	return ID(n), nil
}

// dovecotMail reads "maildir:~/Maildir:LAYOUT=fs:…".
func dovecotMail(s string) (string, error) {
	path, ok := strings.CutPrefix(s, "maildir:")
	if !ok {
		return "", fmt.Errorf("%s: only maildir: is known", strconv.Quote(clip(s)))
	}
	path, options, _ := strings.Cut(path, ":")
	for o := range strings.SplitSeq(options, ":") {
		if strings.HasPrefix(o, "LAYOUT=") && o != "LAYOUT=Maildir++" && o != "LAYOUT=maildir++" || strings.HasPrefix(o, "INBOX=") {
			return "", fmt.Errorf("%s is not supported", o)
		}
	}
	if path == "" {
		path = "~/Maildir"
	}
	return path, nil
}

// parseQuota reads "1G", or "1000000S,500C" as it stands in a maildirsize file.
func parseQuota(s string) (Quota, error) {
	var q Quota
	for part := range strings.SplitSeq(s, ",") {
		var err error
		switch n := len(part) - 1; {
		case n > 0 && part[n] == 'C':
			q.Messages, err = parseSize(part[:n])
		case n > 0 && part[n] == 'S':
			q.Bytes, err = parseSize(part[:n])
		default:
			q.Bytes, err = parseSize(part)
		}
		if err != nil {
			return Quota{}, err
		}
	}
	return q, nil
}

// dovecotQuota reads "*:storage=1G:messages=500" or "*:bytes=…". Rules for other folders than * do not concern the whole mailbox.
func dovecotQuota(s string, q Quota) (Quota, error) {
	folder, limits, ok := strings.Cut(s, ":")
	if !ok {
		return q, errors.New("FOLDER:LIMIT is wanted")
	}
	if folder != "*" || limits == "ignore" {
		return q, nil
	}
	for part := range strings.SplitSeq(limits, ":") {
		key, value, _ := strings.Cut(part, "=")
		n, err := parseSize(value)
		if err != nil {
			return q, err
		}
		switch key {
		case "storage":
			// A number alone is in kilobytes here.
			if c := value[len(value)-1]; c >= '0' && c <= '9' {
				if n > math.MaxInt64/1024 {
					return q, errors.New("too large")
				}
				n *= 1024
			}
			q.Bytes = n
		case "bytes":
			q.Bytes = n
		case "messages":
			q.Messages = n
		default:
			return q, fmt.Errorf("%s is no limit", strconv.Quote(clip(key)))
		}
	}
	return q, nil
}

// parseSize reads 1000, 10k, 10M, 1G, 1T (powers of 1024; a B may follow).
func parseSize(s string) (int64, error) {
	digits := s
	shift := 0
	if d := strings.TrimSuffix(strings.TrimSuffix(s, "B"), "b"); d != "" {
		digits = d
		if i := strings.IndexByte("kmgt", d[len(d)-1]|0x20); i >= 0 {
			shift = 10 * (i + 1)
			digits = d[:len(d)-1]
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%s is not a size", strconv.Quote(clip(s)))
	}
	return n << shift, nil
}

func parseNets(s string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for w := range strings.SplitSeq(s, ",") {
		if w == "local" {
			continue // Unix sockets; they are not restricted here
		}
		if a, err := netip.ParseAddr(w); err == nil && a.Zone() == "" {
			list = append(list, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
			continue
		}
		n, err := netip.ParsePrefix(w)
		if err != nil {
			// Left out it would let in everyone.
			return nil, fmt.Errorf("%s is not a network", strconv.Quote(clip(w)))
		}
		list = append(list, n.Masked())
	}
	if list == nil {
		list = []netip.Prefix{}
	}
	return list, nil
}
