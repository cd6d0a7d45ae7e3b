package smtp

import (
	"bytes"
	"strconv"
	"strings"

	"postamt/internal/addr"
)

// Command is one command line: Verb upper case, Args what follows the verb and one or more spaces, without trailing space.
type Command struct{ Verb, Args string }

// parseCommand divides a line. It may change it.
func parseCommand(line []byte) Command {
	// RFC 5321 section 4.1.1: trailing white space before the CRLF is tolerated.
	line = bytes.TrimRight(line, " \t")
	v, args := line, []byte(nil)
	if i := bytes.IndexByte(line, ' '); i >= 0 {
		v, args = line[:i], bytes.TrimLeft(line[i:], " ")
	}
	for i, c := range v {
		if 'a' <= c && c <= 'z' {
			v[i] = c - 'a' + 'A'
		}
	}
	return Command{verb(v), string(args)}
}

// verb is string(v), without an allocation for those that are sent much.
func verb(v []byte) string {
	switch string(v) {
	case "MAIL":
		return "MAIL"
	case "RCPT":
		return "RCPT"
	case "DATA":
		return "DATA"
	case "BDAT":
		return "BDAT"
	case "EHLO":
		return "EHLO"
	case "HELO":
		return "HELO"
	case "LHLO":
		return "LHLO"
	case "RSET":
		return "RSET"
	case "NOOP":
		return "NOOP"
	case "QUIT":
		return "QUIT"
	case "STARTTLS":
		return "STARTTLS"
	}
	return string(v)
}

// ParseHelo checks the argument of HELO, EHLO or LHLO (RFC 5321 section 4.1.1.1: Domain / address-literal) and returns it as it was sent, but for a final dot.
// The error is a *Reply, 501.
func ParseHelo(args string) (string, error) {
	const bad = "syntax: a host name or address literal is needed"
	if len(args) > addr.MaxDomain {
		return "", NewReply(501, "", bad)
	}
	if strings.HasPrefix(args, "[") {
		if _, err := addr.ParseLiteral(args); err != nil {
			return "", NewReply(501, "", bad)
		}
		return args, nil
	}
	name := strings.TrimSuffix(args, ".")
	// Many hosts are named so, and no harm comes of it here.
	if _, err := addr.ParseDomain(strings.ReplaceAll(name, "_", "x"), false); err != nil {
		return "", NewReply(501, "", bad)
	}
	return name, nil
}

// ParseBDAT reads the arguments of BDAT (RFC 3030 section 2: chunk-size [ SP end-marker ]), "1000" or "1000 LAST". The error is a *Reply, 501; what follows on the wire then
// cannot be told from commands, and the connection is to be closed.
func ParseBDAT(args string) (n int64, last bool, err error) {
	size, marker, found := strings.Cut(args, " ")
	n, ok := parseNumber(size)
	if found {
		last = strings.EqualFold(strings.TrimLeft(marker, " "), "LAST")
		ok = ok && last
	}
	if !ok {
		return 0, false, NewReply(501, "5.5.4", "syntax: BDAT size [LAST]")
	}
	return n, last, nil
}

// parseNumber reads 1*20DIGIT that fits into 63 bits.
func parseNumber(s string) (int64, bool) {
	if s == "" || len(s) > 20 || s[0] < '0' || s[0] > '9' { // no sign
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, false
	}
	return n, true
}
