package authwire

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Security says how the connection is protected that the credentials came over.
type Security uint8

const (
	Insecure Security = iota // anybody may listen
	Secured                  // it need not be protected (loopback), or a client of a version before 2.4 means TLS
	TLS
)

// A Request is what AUTH says about the login, but not its initial response.
type Request struct {
	Mechanism string // upper case
	Service   string // "smtp", "imap", "pop3"; required

	LocalIP, RemoteIP         netip.Addr // of the connection as the person made it; invalid: not known
	LocalPort, RemotePort     uint16
	RealLocalIP, RealRemoteIP netip.Addr // of the connection as it arrived here, where a proxy is in between
	RealLocalPort             uint16
	RealRemotePort            uint16

	Security        Security
	ValidClientCert bool   // the peer showed a certificate that was verified
	CertUsername    string // and this name is in it
	LocalName       string // the name that TLS asked for (SNI)
	ClientID        string // what the mail program says it is
	Session         string // id of the session, for logs
	NoPenalty       bool   // do not count or delay failures of this address
	NoLogin         bool   // nobody will collect this login: no Ticket
	Extra           Fields // parameters this package has no name for

	// Origin is what a timestamp of APOP begins with that was made for the connection on which an Authenticator finds it (see Client's). It is not on the wire.
	Origin string

	// ChannelBinding returns the data that binds to the TLS channel below the login, of a type such as "tls-exporter" (RFC 9266).
	// The asker of a Client sets it, nil where there is none. What an Authenticator finds there asks the client over the wire, is good for
	// the time of a Next, and is nil when the client's version cannot answer.
	ChannelBinding func(ctx context.Context, kind string) ([]byte, error)

	// finalOK: the client understands data that comes with OK or FAIL. Our client always does.
	finalOK bool
}

func (r *Request) append(b []byte) []byte {
	b = appendEscaped(append(b, '\t'), r.Mechanism)
	b = appendField(b, "service", r.Service)
	if r.NoLogin {
		b = append(b, "\tnologin"...)
	}
	if r.finalOK {
		b = append(b, "\tfinal-resp-ok"...)
	}
	switch r.Security {
	case Secured:
		b = append(b, "\tsecured"...)
	case TLS:
		b = append(b, "\tsecured=tls"...)
	}
	if r.NoPenalty {
		b = append(b, "\tno-penalty"...)
	}
	if r.ValidClientCert {
		b = append(b, "\tvalid-client-cert"...)
	}
	b = appendText(b, "cert_username", r.CertUsername)
	b = appendText(b, "session", r.Session)
	b = appendIP(b, "lip", r.LocalIP)
	b = appendIP(b, "rip", r.RemoteIP)
	b = appendPort(b, "lport", r.LocalPort)
	b = appendPort(b, "rport", r.RemotePort)
	b = appendIP(b, "real_lip", r.RealLocalIP)
	b = appendIP(b, "real_rip", r.RealRemoteIP)
	b = appendPort(b, "real_lport", r.RealLocalPort)
	b = appendPort(b, "real_rport", r.RealRemotePort)
	b = appendText(b, "local_name", r.LocalName)
	b = appendText(b, "client_id", r.ClientID)
	return r.Extra.append(b)
}

// appendText writes a field unless it has no value.
func appendText(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendField(b, name, value)
}

func appendIP(b []byte, name string, a netip.Addr) []byte {
	if !a.IsValid() {
		return b
	}
	return appendField(b, name, a.Unmap().String())
}

func appendPort(b []byte, name string, p uint16) []byte {
	if p == 0 {
		return b
	}
	return appendField(b, name, strconv.Itoa(int(p)))
}

// set stores a parameter that AUTH may carry.
func (r *Request) set(f Field) {
	switch f.Name {
	case "service", "protocol": // the second is Dovecot's new name for the first
		r.Service = f.Value
	case "lip":
		setIP(&r.LocalIP, f.Value)
	case "rip":
		setIP(&r.RemoteIP, f.Value)
	case "lport":
		setPort(&r.LocalPort, f.Value)
	case "rport":
		setPort(&r.RemotePort, f.Value)
	case "real_lip":
		setIP(&r.RealLocalIP, f.Value)
	case "real_rip":
		setIP(&r.RealRemoteIP, f.Value)
	case "real_lport":
		setPort(&r.RealLocalPort, f.Value)
	case "real_rport":
		setPort(&r.RealRemotePort, f.Value)
	case "secured":
		r.Security = Secured
		if f.Value == "tls" {
			r.Security = TLS
		}
	case "valid-client-cert":
		r.ValidClientCert = true
	case "cert_username":
		r.CertUsername = f.Value
	case "local_name":
		r.LocalName = f.Value
	case "client_id":
		r.ClientID = f.Value
	case "session":
		r.Session = f.Value
	case "no-penalty":
		r.NoPenalty = true
	case "nologin":
		r.NoLogin = true
	case "final-resp-ok":
		r.finalOK = true
	default:
		r.Extra = append(r.Extra, f)
	}
}

// An address or port that cannot be read is as good as none (Dovecot ignores it, too): a name service that is broken must not lock people out.
func setIP(a *netip.Addr, s string) {
	if x, err := netip.ParseAddr(s); err == nil {
		*a = x.Unmap()
	}
}

func setPort(p *uint16, s string) {
	if n, err := strconv.ParseUint(s, 10, 16); err == nil {
		*p = uint16(n)
	}
}

// parseAuth reads the words of AUTH: id, mechanism, parameters, and as the last one resp=, still in base64; resp is nil when there is none.
func parseAuth(w [][]byte) (id uint32, r *Request, resp []byte, err error) {
	if len(w) < 3 || len(w[2]) == 0 {
		return 0, nil, nil, fmt.Errorf("AUTH without id and mechanism: %w", errProtocol)
	}
	id, ok := parseID(w[1])
	if !ok || id == 0 {
		return 0, nil, nil, fmt.Errorf("AUTH without an id: %w", errProtocol)
	}
	// Clients pass on what people type (Postfix does), and in SMTP the case of a mechanism's name does not matter.
	r = &Request{Mechanism: strings.ToUpper(unescape(w[2]))}
	for i, word := range w[3:] {
		if len(word) == 0 {
			continue
		}
		if len(word) >= 5 && string(word[:5]) == "resp=" {
			if i != len(w)-4 {
				// What follows could be taken for a parameter by one reader and for a part of the response by another.
				return 0, nil, nil, fmt.Errorf("AUTH with parameters behind resp=: %w", errProtocol)
			}
			resp = word[5:]
			break
		}
		r.set(parseField(word))
	}
	if r.Service == "" {
		return 0, nil, nil, fmt.Errorf("AUTH without service=: %w", errProtocol)
	}
	return id, r, resp, nil
}

// decode reads base64 as RFC 4648 section 4 has it, padded. "=" alone is what SMTP and IMAP write for nothing at all (RFC 4954 section 4), and
// some clients pass it on.
func decode(b []byte) ([]byte, error) {
	if len(b) == 1 && b[0] == '=' {
		return []byte{}, nil
	}
	d := make([]byte, base64.StdEncoding.DecodedLen(len(b)))
	n, err := base64.StdEncoding.Decode(d, b)
	if err != nil {
		return nil, err
	}
	return d[:n], nil
}

func appendBase64(b, data []byte) []byte { return base64.StdEncoding.AppendEncode(b, data) }
