package imapd

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The file of the keywords may have any names in it. Those that no flag can have are not said.
func TestKeywordsThatAreNone(t *testing.T) {
	c := newRude(t, testConfig())
	os.MkdirAll(filepath.Join(c.dir, "cur"), 0o700)
	for name, text := range map[string]string{"dovecot-keywords": "0 a) (b\n1 good\n2 {3}\n", "cur/1.x.localhost,S=8,W=11:2,Sabc": "A: b\n\nc\n"} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	io.WriteString(c, enter+"a2 SELECT INBOX\r\na3 FETCH 1 FLAGS\r\na4 STORE 1 +FLAGS (\\Answered)\r\na5 LOGOUT\r\n")
	b, _ := io.ReadAll(c.in)
	out := string(b)
	if strings.Contains(out, "a) (b") || strings.Contains(out, "{3}") || !strings.Contains(out, "* 1 FETCH (FLAGS (\\Seen \\Recent good))") && !strings.Contains(out, "* 1 FETCH (FLAGS (\\Seen good))") || !strings.Contains(out, "a5 OK") {
		t.Errorf("%s", out)
	}
}
