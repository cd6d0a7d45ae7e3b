package authwire

import (
	"fmt"
	"strings"
)

// A Mechanism is a SASL mechanism as the handshake lists it.
type Mechanism struct {
	Name  string // upper case, as registered
	Flags Flag
}

// Flag is what a mechanism is, as the server says it. Who offers mechanisms to people chooses by these: none that is Plaintext without TLS, none that is Private at all.
type Flag uint16

const (
	Private        Flag = 1 << iota // not to be offered; see Server on channel binding
	Anonymous                       // nobody is authenticated
	Plaintext                       // the password itself is sent
	Dictionary                      // who listens can try passwords
	Active                          // who is in between can do more than listen
	ForwardSecrecy                  // a password that leaks later does not open old sessions
	MutualAuth                      // the server proves itself, too
	ChannelBinding                  // needs the data of the TLS channel (RFC 5056)
)

var flagNames = []struct {
	flag Flag
	name string
}{
	{Private, "private"}, {Anonymous, "anonymous"}, {Plaintext, "plaintext"}, {Dictionary, "dictionary"}, {Active, "active"},
	{ForwardSecrecy, "forward-secrecy"}, {MutualAuth, "mutual-auth"}, {ChannelBinding, "channel-binding"},
}

func (m Mechanism) append(b []byte) []byte {
	b = appendEscaped(append(b, "MECH\t"...), m.Name)
	for _, f := range flagNames {
		if m.Flags&f.flag != 0 {
			b = append(append(b, '\t'), f.name...)
		}
	}
	return append(b, '\n')
}

// parseMechanism reads the words of MECH. Unknown flags are ignored.
func parseMechanism(words [][]byte) (Mechanism, error) {
	if len(words) < 2 || len(words[1]) == 0 {
		return Mechanism{}, fmt.Errorf("MECH without a name: %w", errProtocol)
	}
	m := Mechanism{Name: strings.ToUpper(unescape(words[1]))}
	for _, w := range words[2:] {
		for _, f := range flagNames {
			if string(w) == f.name {
				m.Flags |= f.flag
			}
		}
	}
	return m, nil
}
