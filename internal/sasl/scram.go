package sasl

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"postamt/internal/password"
)

const (
	maxNonce = 512 // octets of a client's nonce: it comes back in our challenge, which must fit into a line, too
	ourNonce = 18  // octets of randomness in ours, 24 characters
)

// gs2 is the head of a client's first message (RFC 5801 section 4, RFC 5802 section 7): gs2-cbind-flag "," [ authzid ] ",".
type gs2 struct {
	header  string // as it came, with both commas
	flag    byte   // 'n', 'y' or 'p'
	binding string // of 'p'
	authzid string
}

func parseGS2(s string) (g gs2, rest string, err error) {
	bad := func(what string) (gs2, string, error) { return gs2{}, "", malformed(what) }
	flag, rest, ok1 := strings.Cut(s, ",")
	authzid, rest, ok2 := strings.Cut(rest, ",")
	if !ok1 || !ok2 || flag == "" {
		return bad("not a GS2 header")
	}
	g = gs2{header: s[:len(s)-len(rest)], flag: flag[0]}
	switch {
	case flag == "n", flag == "y":
	case strings.HasPrefix(flag, "p="):
		if g.binding = flag[2:]; g.binding == "" {
			return bad("no name of a channel binding")
		}
	default:
		return bad("not a channel binding flag")
	}
	if authzid != "" {
		name, ok := strings.CutPrefix(authzid, "a=")
		if g.authzid, err = saslname(name); !ok || err != nil {
			return bad("not an authorization identity")
		}
	}
	return g, rest, nil
}

// saslname undoes the two escapes of names. RFC 5802 section 5.1: any other "=" fails the authentication.
func saslname(s string) (string, error) {
	if s == "" || !utf8.ValidString(s) || strings.ContainsAny(s, ",\x00") {
		return "", malformed("not a name")
	}
	name := strings.ReplaceAll(strings.ReplaceAll(s, "=2C", ","), "=3D", "\x00")
	if strings.Contains(name, "=") {
		return "", malformed("a name with = that is not =2C or =3D")
	}
	return strings.ReplaceAll(name, "\x00", "="), nil
}

// scramExchange is one run of RFC 5802 section 5.
type scramExchange struct {
	*Exchange
	hash password.SCRAMHash
	plus bool

	gs2     gs2
	authzid string
	user    string
	bound   []byte // of the channel
	keys    password.Keys
	real    bool
	nonce   string // both halves
	first   string // client-first-message-bare, ",", server-first-message
}

func (x *Exchange) scram(h password.SCRAMHash, plus bool) state {
	s := &scramExchange{Exchange: x, hash: h, plus: plus}
	return s.clientFirst
}

// client-first-message = gs2-header [reserved-mext ","] username "," nonce ["," extensions]
func (s *scramExchange) clientFirst(ctx context.Context, response []byte) ([]byte, state, error) {
	g, bare, err := parseGS2(string(response))
	if err != nil {
		return nil, nil, err
	}
	s.gs2 = g
	if err := s.bind(); err != nil {
		return nil, nil, err
	}
	attrs, err := attributes(bare)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case len(attrs) < 2 || attrs[0].key != 'n' || attrs[1].key != 'r':
		return nil, nil, malformed("not n= and r=")
	case !printable(attrs[1].value) || len(attrs[1].value) > maxNonce:
		return nil, nil, malformed("not a nonce")
	}
	name, err := saslname(attrs[0].value)
	if err != nil {
		return nil, nil, err
	}
	if s.authzid, err = s.Exchange.authzid(g.authzid); err != nil {
		return nil, nil, err
	}
	if s.user, err = s.claim(name); err != nil {
		return nil, nil, err
	}
	var b [ourNonce]byte
	if _, err := io.ReadFull(s.o.Random, b[:]); err != nil {
		return nil, nil, fmt.Errorf("random numbers: %w", err)
	}
	s.nonce = attrs[1].value + base64.RawStdEncoding.EncodeToString(b[:])
	if s.keys, s.real, err = s.o.Credentials.SCRAM(ctx, s.user, s.hash); err != nil {
		return nil, nil, err
	}
	if s.keys.Hash != s.hash || s.keys.Iterations < 1 || len(s.keys.Salt) == 0 {
		return nil, nil, fmt.Errorf("no keys of %s for %s", s.hash, s.user)
	}
	server := "r=" + s.nonce + ",s=" + base64.StdEncoding.EncodeToString(s.keys.Salt) + ",i=" + strconv.Itoa(s.keys.Iterations)
	s.first = bare + "," + server
	return []byte(server), s.clientFinal, nil
}

// bind is RFC 5802 section 6.
func (s *scramExchange) bind() error {
	switch {
	case s.gs2.flag == 'y' && (s.o.PlusOffered || s.plus):
		// The client binds channels and believes that we do not: somebody changed our list on its way.
		return fmt.Errorf("%w: the client did not see that channel binding was offered", ErrCredentials)
	case s.plus && s.gs2.flag != 'p':
		return malformed("-PLUS without channel binding")
	case !s.plus && s.gs2.flag == 'p':
		return malformed("channel binding without -PLUS")
	case s.gs2.flag != 'p':
		return nil
	}
	for _, b := range s.o.Bindings {
		if b.Type == s.gs2.binding && len(b.Data) > 0 {
			s.bound = b.Data
			return nil
		}
	}
	return fmt.Errorf("%w: a channel binding that is not supported here", ErrCredentials)
}

// client-final-message = channel-binding "," nonce ["," extensions] "," proof
func (s *scramExchange) clientFinal(ctx context.Context, response []byte) ([]byte, state, error) {
	message := string(response)
	attrs, err := attributes(message)
	if err != nil {
		return nil, nil, err
	}
	n := len(attrs)
	if n < 3 || attrs[0].key != 'c' || attrs[1].key != 'r' || attrs[n-1].key != 'p' {
		return nil, nil, malformed("not c=, r= and p=")
	}
	proof, err := base64.StdEncoding.Strict().DecodeString(attrs[n-1].value)
	if err != nil || len(proof) != s.hash.Size() {
		return nil, nil, malformed("not a proof")
	}
	if attrs[1].value != s.nonce {
		return nil, nil, fmt.Errorf("%w: another nonce", ErrCredentials)
	}
	// The header again, so that nobody changed it in the first message, and the channel that the client sees.
	if attrs[0].value != base64.StdEncoding.EncodeToString(append([]byte(s.gs2.header), s.bound...)) {
		return nil, nil, fmt.Errorf("%w: the channel bindings differ", ErrCredentials)
	}
	auth := s.first + "," + strings.TrimSuffix(message, ",p="+attrs[n-1].value)
	// real is looked at last: for who does not exist all the same is computed.
	if !s.keys.Check(auth, proof) || !s.real {
		return nil, nil, ErrCredentials
	}
	if err := s.accept(ctx, s.user, s.authzid); err != nil {
		return nil, nil, err
	}
	return []byte("v=" + base64.StdEncoding.EncodeToString(s.keys.Sign(auth))), nil, nil
}

type attribute struct {
	key   byte
	value string
}

// attributes reads attr-val *("," attr-val); there is one at least. attr-val = ALPHA "=" value, and the value has neither NUL nor comma.
func attributes(s string) ([]attribute, error) {
	if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 || strings.Count(s, ",") > 100 {
		return nil, malformed("not attributes")
	}
	var list []attribute
	for a := range strings.SplitSeq(s, ",") {
		if len(a) < 3 || a[1] != '=' || a[0]|0x20 < 'a' || a[0]|0x20 > 'z' {
			return nil, malformed("not attributes")
		}
		if a[0] == 'm' {
			return nil, malformed("a mandatory extension") // RFC 5802 section 5.1: not one is known
		}
		list = append(list, attribute{a[0], a[2:]})
	}
	return list, nil
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < '!' || s[i] > '~' || s[i] == ',' {
			return false
		}
	}
	return s != ""
}
