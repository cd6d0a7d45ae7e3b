package imapd

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// M12: a message is not what its name says, or is changed while it is sent. The octets that were announced come, or the session ends: nothing else is ever taken for
// the message's, neither the response to the command nor news.
func TestM12_ChangedMessage(t *testing.T) {
	const text = "A: b\n\nc\n" // 11 octets
	for _, x := range []struct {
		name string
		wire int
		item string
		ends bool // the session, before the literal is complete or right behind it
	}{
		{"as said", 11, "BODY.PEEK[]", false},
		{"shorter", 500, "BODY.PEEK[]", true},
		{"longer", 9, "BODY.PEEK[]", true},
		{"a part that is not there", 500, "BODY.PEEK[]<9.100>", true},
		{"known by its description", 500, "BODY.PEEK[HEADER] BODY.PEEK[]", false},
	} {
		c := newRude(t, testConfig())
		os.MkdirAll(filepath.Join(c.dir, "cur"), 0o700)
		if err := os.WriteFile(filepath.Join(c.dir, "cur", fmt.Sprintf("1.x.localhost,S=8,W=%d:2,S", x.wire)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, enter+"a2 SELECT INBOX\r\na3 FETCH 1 ("+x.item+")\r\na4 LOGOUT\r\n")
		b, err := io.ReadAll(c.in)
		if err != nil {
			t.Errorf("%s: %v", x.name, err)
		}
		_, out, _ := strings.Cut(string(b), "a2 OK")
		if !strings.Contains(out, "* 1 FETCH (") || strings.Contains(out, "a3 ") == x.ends || x.ends && strings.Contains(out, "BYE") {
			t.Errorf("%s: %q", x.name, out)
		}
		c.ended(t)
	}
}
