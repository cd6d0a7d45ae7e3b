package imapd

import (
	"fmt"
	"strings"
	"testing"
)

// The first time that many are asked it is by their facts, then by columns, which are made at the second time: the answers are the same.
func TestColumns(t *testing.T) {
	var messages []string
	for i := range 700 {
		k := i * 7919 % 701
		var b strings.Builder
		if k%5 > 0 {
			fmt.Fprintf(&b, "Subject: %s=?utf-8?q?=C3=BCbung_%d?= %c\n", []string{"", "Re: ", "Fwd: [list] "}[k%3], k%50, 'a'+rune(k%26))
		}
		fmt.Fprintf(&b, "From: Person %d <%c%d@example.test>\nTo: all:;, x%d@example.test\nCc: y@example.test\n", k, 'a'+rune(k%7), k%30, k%11)
		if k%4 > 0 {
			fmt.Fprintf(&b, "Date: %d Jan 20%02d 10:%02d:00 +0%d00\n", 1+k%28, k%25, k%60, k%9)
		}
		fmt.Fprintf(&b, "Message-ID: <%d@a>\nReferences: <%d@a> <%d@a>\n\nbody %d\n", k, k/2, k/3, k)
		messages = append(messages, b.String())
	}
	// One whose header is longer than facts are: its file is asked.
	messages = append(messages, "From: first@example.test\n"+strings.Repeat("X-Filler: "+strings.Repeat("x", 60)+"\n", 6000)+"Subject: behind it all\n\n")
	open := openWith(t, messages)
	var in strings.Builder
	in.WriteString(enter + "a2 SELECT INBOX\r\n")
	commands := []string{"NOOP",
		"SEARCH SUBJECT \xc3\x9cBUNG", "SEARCH NOT FROM person", "SEARCH OR SUBJECT \"7 b\" TO x3@", "SEARCH SUBJECT \"\" FROM b2 SENTSINCE 3-Feb-2010", "SEARCH SUBJECT behind", "SEARCH SENTON 6-Jan-2008",
		"SEARCH SUBJECT 13 BODY \"body 1\"", "SEARCH 100:400 FROM a LARGER 200", "SEARCH CC y@ SUBJECT 9", "SEARCH HEADER Message-ID 77 TO x", "UID SEARCH RETURN (MIN MAX COUNT) SEEN NOT SUBJECT list",
		"SORT (SUBJECT) UTF-8 ALL", "SORT (REVERSE FROM DATE) UTF-8 SUBJECT bung", "SORT (TO REVERSE DATE) UTF-8 ALL", "SORT (CC DISPLAYFROM) UTF-8 ALL", "SORT (DATE) UTF-8 1:*", "SORT (SIZE SUBJECT) UTF-8 ALL",
		"THREAD REFERENCES UTF-8 ALL", "THREAD ORDEREDSUBJECT UTF-8 ALL", "THREAD REFS UTF-8 FROM person",
	}
	const rounds = 4
	for round := range rounds {
		for i, c := range commands {
			if strings.Contains(c, "\xc3") {
				c = strings.Replace(c, "SEARCH", "SEARCH CHARSET UTF-8", 1)
				c = strings.Replace(c, "\xc3\x9cBUNG", "{6+}\r\n\xc3\x9cBUNG", 1)
			}
			fmt.Fprintf(&in, "r%d.%d %s\r\n", round, i, c)
		}
	}
	in.WriteString("z LOGOUT\r\n")
	answers := make([][]string, rounds)
	said := ""
	for line := range strings.Lines(answerTo(t, open, in.String())) {
		var round, i int
		if n, _ := fmt.Sscanf(line, "r%d.%d ", &round, &i); n < 2 {
			said += line
			continue
		}
		if !strings.Contains(line, " OK ") {
			t.Fatalf("%s: %s", commands[i], line)
		}
		answers[round], said = append(answers[round], strings.ReplaceAll(said, fmt.Sprintf("(TAG \"r%d.", round), "(TAG \"")), ""
	}
	for i, command := range commands[1:] {
		is := answers[0][i+1]
		for round := range answers {
			if again := answers[round][i+1]; again != is {
				t.Errorf("%s, for the time %d:\n%.300s\nand for the first:\n%.300s", command, round+1, again, is)
			}
		}
		if n := len(strings.Fields(is)); n < 3 || n > 700 && strings.Contains(command, "SEARCH") {
			t.Errorf("%s finds nothing, or all: %.300s", command, is)
		}
		if command == "SEARCH SUBJECT behind" && !strings.HasSuffix(is, " 701\r\n") {
			t.Errorf("what is behind a long header is not found: %q", is)
		}
	}
}
