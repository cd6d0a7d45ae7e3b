package imapd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"postamt/internal/mailbox"
)

// asked are the answers to commands in one session, without the tagged ones, which are OK.
func asked(t *testing.T, open func(context.Context) (*mailbox.Account, error), commands ...string) (answers []string) {
	t.Helper()
	var in strings.Builder
	in.WriteString(enter + "a2 SELECT INBOX\r\n")
	for i, c := range commands {
		fmt.Fprintf(&in, "r%d %s\r\n", i, c)
	}
	in.WriteString("z LOGOUT\r\n")
	said := ""
	for line := range strings.Lines(answerTo(t, open, in.String())) {
		switch {
		case strings.HasPrefix(line, "a2 "):
			said = ""
		case strings.HasPrefix(line, fmt.Sprintf("r%d OK", len(answers))):
			answers, said = append(answers, said), ""
		default:
			said += line
		}
	}
	if len(answers) != len(commands) {
		t.Fatalf("%d answers to %d commands: %s", len(answers), len(commands), said)
	}
	return answers
}

// answerTo is what a session says to all of that.
func answerTo(t *testing.T, open func(context.Context) (*mailbox.Account, error), in string) string {
	t.Helper()
	s := NewServer(testConfig())
	c := &input{pieces: [][]byte{[]byte(in)}}
	l := s.Authorize(context.Background(), c, IMAP, testPeer)
	if l == nil {
		t.Fatal(c.out.String())
	}
	s.Serve(context.Background(), l.Conn, open, l.Note)
	return c.out.String()
}

// What is remembered of an order is what would be found out anew.
func TestKeptOrders(t *testing.T) {
	var messages []string
	for i := range 3 * sortAnew / 2 {
		k := i * 7919 % 1201
		messages = append(messages, fmt.Sprintf("Subject: %s%c%d\nFrom: <%c@example.test>\nDate: %d Jan 20%02d 10:00:00 +0000\nMessage-ID: <%d@a>\nIn-Reply-To: <%d@a>\n\nx\n",
			[]string{"", "Re: "}[k%2], 'a'+rune(k%26), k%90, 'a'+rune(k%7), 1+k%28, k%25, k, k/2))
	}
	orders := []string{"SORT (SUBJECT) UTF-8 ", "UID SORT (REVERSE FROM DATE) UTF-8 ", "THREAD REFERENCES UTF-8 ", "UID THREAD ORDEREDSUBJECT UTF-8 ", "UID THREAD REFS UTF-8 "}
	some := []string{"ALL", "ALL", "FROM b@", "NOT 100:400", "UID 300", "SUBJECT \"no such\"", "ALL"}
	const change = "STORE 5,50,500 +FLAGS.SILENT (\\Deleted)"
	for _, order := range orders {
		var commands, anew []string
		for i, s := range some {
			commands = append(commands, order+s)
			if i > 1 { // that of all is the last, so that none of them is remembered
				anew = append(anew, order+s)
			}
		}
		got := asked(t, openWith(t, messages), slices.Concat(commands, []string{change, "EXPUNGE"}, commands)...)
		want := asked(t, openWith(t, messages), anew...)
		changed := asked(t, openWith(t, messages), slices.Concat([]string{change, "EXPUNGE"}, anew)...)[2:]
		for i, c := range commands {
			k := slices.Index(anew, c)
			if got[i] != want[k] {
				t.Errorf("%s:\n%.300s\nand anew:\n%.300s", c, got[i], want[k])
			}
			if got := got[len(commands)+2+i]; got != changed[k] {
				t.Errorf("%s, after others have gone:\n%.300s\nand anew:\n%.300s", c, got, changed[k])
			}
		}
		if len(got[0]) < 3*sortAnew {
			t.Errorf("%s finds %.300s", order, got[0])
		}
	}
}

// A session that does not know yet that messages have gone, or come, has its own in their order.
func TestKeptOrderOfAnotherSession(t *testing.T) {
	if got := these([]uint32{7, 3, 9, 1 << 31, 5}, []uint32{1, 3, 5, 8, 1 << 31}); !slices.Equal(got, []uint32{3, 1 << 31, 5}) {
		t.Errorf("sparse: %d", got)
	}
	if got := these([]uint32{7, 3, 9, 5}, []uint32{3, 4, 5, 9}); !slices.Equal(got, []uint32{3, 9, 5}) {
		t.Errorf("dense: %d", got)
	}
	if got := these([]uint32{7}, nil); len(got) != 0 {
		t.Errorf("of nothing: %d", got)
	}
}
