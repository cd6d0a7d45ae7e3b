package policy

import (
	"errors"
	"strings"
	"testing"

	"postamt/internal/addr"
	"postamt/internal/alias"
	"postamt/internal/route"
)

// users are names that exist; broken cannot be looked up now.
type users map[string]bool

func (u users) User(local, domain string) (string, alias.Pos, bool, error) {
	name := strings.ToLower(local)
	if domain != "" {
		return "", alias.Pos{}, false, nil
	}
	if name == "broken" {
		return "", alias.Pos{}, false, errors.New("the line is broken")
	}
	return name, alias.Pos{}, u[name], nil
}

func judge(t *testing.T, rules string) *Senders {
	t.Helper()
	aliases, problems, err := alias.Parse("aliases", "sales: alice, bob\ninfo: carol@elsewhere.test\n")
	if err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	r, err := ParseRules("senders", rules)
	if err != nil {
		t.Fatal(err)
	}
	return &Senders{Rules: r, Limits: route.Limits{Depth: 10, Count: 100}, Tables: &route.Tables{LocalDomains: route.Domains{"example.test": {}}, LocalDomain: "example.test",
		Aliases: aliases, Users: users{"alice": true, "bob": true}, Delimiters: "+",
		Postmaster: addr.Mailbox{Local: "alice", Domain: "example.test"}}}
}

func TestWhoMayWriteAsWhom(t *testing.T) {
	s := judge(t, "alice  boss@other.test @parts.test\n# bob is a gateway\nbob *\nCAROL@example.test @m\u00fcller.test\n")
	for _, c := range []struct {
		login, from string
		code        int // 0: may
	}{
		{"alice", "alice@example.test", 0},
		{"alice", "Alice@EXAMPLE.test", 0},
		{"alice", "alice+tag@example.test", 0},
		{"alice", "sales@example.test", 0},
		{"alice", "bob@example.test", 553},
		{"alice", "nobody@example.test", 553},
		{"alice", "info@example.test", 553},
		{"alice", "alice@elsewhere.test", 553},
		{"alice", "boss@other.test", 0},
		{"alice", "bosses@other.test", 553},
		{"alice", "any@PARTS.test", 0},
		{"alice", "any@sub.parts.test", 553},
		{"alice", "broken@example.test", 451},
		{"bob", "anybody@anywhere.test", 0},
		{"mallory", "alice@example.test", 553},
		{"carol@example.test", "x@m\u00fcller.test", 0},
		{"carol@example.test", "x@xn--mller-kva.test", 0},
	} {
		from, err := addr.Parse(c.from, true)
		if err != nil {
			t.Fatal(c.from, err)
		}
		code := 0
		if r := s.May(c.login, from); r != nil {
			code = r.Code
		}
		if code != c.code {
			t.Errorf("%s as %s: %d, want %d", c.login, c.from, code, c.code)
		}
	}
}

func TestRulesWithAnErrorAreRefusedAsAWhole(t *testing.T) {
	_, err := ParseRules("senders", "alice boss@other.test\nbob\n../x *\ncarol @not_a..domain\ndave dave@\neve nobody\n")
	if err == nil {
		t.Fatal("taken")
	}
	for _, line := range []string{"senders:2:", "senders:3:", "senders:4:", "senders:5:", "senders:6:"} {
		if !strings.Contains(err.Error(), line) {
			t.Errorf("%s is not in %v", line, err)
		}
	}
	if strings.Contains(err.Error(), "senders:1:") {
		t.Error(err)
	}
}
