package imapd

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The save date is the second in front of the file's name. Where that is none it is NIL, and searches go by the internal date (RFC 8514 section 4).
func TestSaveDate(t *testing.T) {
	c := newRude(t, testConfig())
	internal := time.Date(2001, 3, 4, 12, 0, 0, 0, time.Local)
	err := os.MkdirAll(filepath.Join(c.dir, "cur"), 0o700)
	for _, name := range []string{"1588766400.M1P2.h:2,", "12.x.h:2,", "odd:2,"} {
		if path := filepath.Join(c.dir, "cur", name); err == nil {
			if err = os.WriteFile(path, []byte("A: b\n\nc\n"), 0o600); err == nil {
				err = os.Chtimes(path, internal, internal)
			}
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, enter+"a2 SELECT INBOX\r\na3 FETCH 1:* SAVEDATE\r\na4 SEARCH SAVEDON 4-Mar-2001\r\na5 SEARCH SAVEDSINCE 1-Jan-2020\r\na6 SEARCH SAVEDATESUPPORTED\r\na7 LOGOUT\r\n")
	b, _ := io.ReadAll(c.in)
	_, out, _ := strings.Cut(string(b), "a2 OK")
	if strings.Count(out, "(SAVEDATE NIL)") != 2 || strings.Count(out, `(SAVEDATE " 6-May-2020 `)+strings.Count(out, `(SAVEDATE "07-May-2020 `) != 1 {
		t.Errorf("%s", out)
	}
	var found []string
	for line := range strings.Lines(out) {
		if numbers, ok := strings.CutPrefix(line, "* SEARCH"); ok {
			found = append(found, strings.TrimSpace(numbers))
		}
	}
	if len(found) != 3 || len(found[0]) != len("1 2") || len(found[1]) != len("1") || strings.Contains(found[0], found[1]) || found[2] != "1 2 3" {
		t.Errorf("%q", found)
	}
}
