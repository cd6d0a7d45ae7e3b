// Package alias reads aliases(5): what a name or an address stands for. It parses text and looks names up in it; following aliases to
// their end is the job of package route, and reading files that of package tables.
//
// The grammar is the union of what sendmail, Postfix and Exim read, so that a file of theirs can be used as it is. Where they
// differ, and where we do:
//
//   - A key is a local name, an address, or @domain for everything else of a domain. The colon may be missing (Exim, and the
//     virtual tables of Postfix); for a local name that is a warning.
//   - A line that begins with white space continues the one before, and so does what follows a backslash at the end of a line.
//     Blank and comment lines between do not matter (Postfix).
//   - "#" begins a comment at the start of a line, after a comma (Exim), and after white space (with a warning: others read on).
//   - An item in double quotes loses them (Exim, Postfix); \" and \\ are the only escapes, since "\bob" has a meaning of its own.
//   - Of two lines for one key the first holds at run time, and the second is reported.
//   - What stands in place of an address but is none makes the entry one that is answered with a temporary error: a slip in a file
//     must delay mail, never return it. A line whose key cannot be read is left out. The others live.
//   - A file does not parse at all if it is too large, contains NUL or an overlong line, or has errors and not one good entry.
//
// A Table keeps the text and an index of 32 to 40 octets an entry; targets are parsed again at each lookup, which takes less than the
// memory would cost. Or it looks up in a compiled file (Compile, OpenCompiled), which takes no memory and 3 µs more. Tables never change, so
// any number of goroutines may use one.
package alias

import (
	"strconv"

	"postamt/internal/addr"
)

// Limits of a file.
const (
	MaxFile = 256 << 20 // octets
	MaxLine = 1 << 20   // octets of a line as it stands in the file

	maxProblems = 200 // kept of one file; of more, only the number is told
)

// Pos is a place in a file, for people.
type Pos struct {
	File string // "" for what stands in no file
	Line int32  // from 1; 0 if there is none
	Col  int32  // in octets, from 1; 0 for the line as a whole
}

// String is "aliases:12" or "aliases:12:7".
func (p Pos) String() string {
	s := p.File
	if p.Line > 0 {
		s += ":" + strconv.Itoa(int(p.Line))
		if p.Col > 0 {
			s += ":" + strconv.Itoa(int(p.Col))
		}
	}
	return s
}

// Kind says what a target is.
type Kind uint8

const (
	Bad       Kind = iota // not a target; Text says why
	Address               // Addr
	Local                 // Addr.Local, a name in the domain of the alias
	Domain                // "@domain": Addr.Domain, with the local part of the address asked for
	Pipe                  // "|command": Text is the command
	File                  // "/path": Text
	Include               // ":include:/path": Text is the path
	Fail                  // ":fail: text", "error:550 text": Text
	Defer                 // ":defer: text", "error:450 text": Text
	Blackhole             // ":blackhole:", "/dev/null"
)

var kindNames = [...]string{"bad", "address", "local", "domain", "pipe", "file", "include", "fail", "defer", "blackhole"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "kind" + strconv.Itoa(int(k))
}

// Target is one of the things that an alias stands for.
type Target struct {
	Kind  Kind
	Final bool         // "\name": not looked up among the aliases again
	Addr  addr.Mailbox // Address; Local (no Domain); Domain (no Local)
	Text  string       // of the kinds that have one
	Pos   Pos
}

// Problem is something wrong, or only surprising, in a file.
type Problem struct {
	Pos     Pos
	Text    string
	Warning bool // it works, but perhaps not as meant, or not in other programs
}

func (p Problem) Error() string {
	if p.Warning {
		return p.Pos.String() + ": warning: " + p.Text
	}
	return p.Pos.String() + ": " + p.Text
}

// problems gathers what is found in one file, in bounded memory.
type problems struct {
	file   string
	list   []Problem
	errors int // of all, also of those not kept
	more   int
}

func (p *problems) add(line, col int, text string)  { p.put(line, col, text, false) }
func (p *problems) warn(line, col int, text string) { p.put(line, col, text, true) }

func (p *problems) put(line, col int, text string, warning bool) {
	if !warning {
		p.errors++
	}
	if len(p.list) >= maxProblems {
		p.more++
		return
	}
	p.list = append(p.list, Problem{Pos{p.file, int32(line), int32(col)}, text, warning})
}

func (p *problems) all() []Problem {
	if p.more == 0 {
		return p.list
	}
	return append(p.list, Problem{Pos: Pos{File: p.file}, Text: "and " + strconv.Itoa(p.more) + " more", Warning: p.errors == 0})
}
