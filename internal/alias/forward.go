package alias

import (
	"strings"
)

// ParseForward reads the text of a .forward file: targets, one a line or with commas, and comments, as on the right-hand side of an alias. ":include:" is Bad in it.
// The error is that of a text that cannot be one.
func ParseForward(file, text string) ([]Target, error) {
	if err := checkText(file, text); err != nil {
		return nil, err
	}
	var list []Target
	s := scanner{s: text, line: 1, list: true, file: file}
	s.emit = func(t Target) {
		if t.Kind == Include {
			t = Target{Kind: Bad, Text: ":include: in a forward file", Pos: t.Pos}
		}
		list = append(list, t)
	}
	s.run()
	return list, nil
}

// ParseQMail reads the text of a .qmail file, whose relative paths are below home (dot-qmail(5)): "#" and a comment, "|" and a command, a path that begins with "/" or
// ".", or an address, with or without "&" before it.
func ParseQMail(file, text, home string) ([]Target, error) {
	if err := checkText(file, text); err != nil {
		return nil, err
	}
	var list []Target
	n := int32(0)
	for line := range strings.SplitSeq(text, "\n") {
		n++
		line = strings.TrimRight(line, " \t\r")
		if line == "" || line[0] == '#' {
			continue
		}
		var t Target
		switch line[0] {
		case '.':
			t = item(strings.TrimRight(home, "/")+"/"+strings.TrimPrefix(line, "./"), false)
		case '&':
			t = mailbox(strings.TrimSpace(line[1:]), false)
		case '|', '/':
			t = item(line, false)
		default:
			t = mailbox(line, false)
		}
		t.Pos = Pos{file, n, 1}
		list = append(list, t)
	}
	return list, nil
}
