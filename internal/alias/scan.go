package alias

import (
	"cmp"
	"slices"
	"strings"
)

const afterItem = "a comment after an item"

// scanner cuts the right-hand side of an entry, or a list file, into targets.
type scanner struct {
	s    string // text[:end]: what follows the entry is out of sight
	i    int
	line int
	bol  int  // where the line of i begins
	list bool // a list file: the end of a line ends an item

	pieces []piece // of the chunk at hand

	emit func(Target)
	warn func(line, col int, text string) // nil: do not tell
	file string
}

// piece is a part of a chunk that stands in one line: off is where in the chunk it begins, at where in the text.
type piece struct{ off, at, line, bol int }

// pos is the place of an offset into the chunk.
func (s *scanner) pos(off int) Pos {
	i, _ := slices.BinarySearchFunc(s.pieces, off+1, func(p piece, off int) int { return cmp.Compare(p.off, off) }) // the first behind it
	p := s.pieces[i-1]
	return Pos{s.file, int32(p.line), int32(p.at + off - p.off - p.bol + 1)}
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' }

// newline steps over the '\n' at i.
func (s *scanner) newline() {
	s.i++
	s.line++
	s.bol = s.i
}

// skip moves to the start of the next item: over white space, commas, ends of lines and comments.
func (s *scanner) skip() {
	for s.i < len(s.s) {
		switch c := s.s[s.i]; {
		case c == '\n':
			s.newline()
		case isBlank(c), c == ',':
			s.i++
		case c == '\\' && s.joins():
			s.join()
		case c == '#':
			// At the start of a line, after the comma, or in place of the first item: in all of them nothing else can be meant.
			s.comment()
		default:
			return
		}
	}
}

func (s *scanner) comment() {
	if n := strings.IndexByte(s.s[s.i:], '\n'); n >= 0 {
		s.i += n
		return
	}
	s.i = len(s.s)
}

// joins: the backslash at i ends its line.
func (s *scanner) joins() bool {
	rest := s.s[s.i+1:]
	return rest == "" || rest[0] == '\n' || strings.HasPrefix(rest, "\r\n") || rest == "\r"
}

// join steps over a backslash and the end of its line.
func (s *scanner) join() {
	for s.i++; s.i < len(s.s); s.i++ {
		if s.s[s.i] == '\n' {
			s.newline()
			return
		}
	}
}

// run emits every target.
func (s *scanner) run() {
	for {
		s.skip()
		if s.i >= len(s.s) {
			return
		}
		s.pieces = append(s.pieces[:0], piece{0, s.i, s.line, s.bol})
		chunk, err := s.chunk()
		s.classify(chunk, err)
	}
}

// chunk reads up to the next comma that is not quoted, the end of the entry, or, in a list, of the line; without white space at
// the end. Ends of lines within it are replaced.
func (s *scanner) chunk() (text, err string) {
	rest := s.s[s.i:]
	// RFC 822 quoting does not hold in the text of a reply, and its commas are its own (Exim). A command keeps its "#".
	words := isReplyText(rest)
	command := rest[0] == '|'
	var b []byte
	from, cut := s.i, false
	flush := func() {
		b = append(b, s.s[from:s.i]...)
		cut = true
	}
	next := func() {
		from = s.i
		s.pieces = append(s.pieces, piece{len(b), s.i, s.line, s.bol})
	}
	quoted, angle := false, false
loop:
	for s.i < len(s.s) {
		c := s.s[s.i]
		switch {
		case c == '\n':
			if s.list {
				break loop
			}
			flush()
			b = append(b, ' ')
			s.newline()
			// What is indented, or commented out, below.
			for s.i < len(s.s) && isBlank(s.s[s.i]) {
				s.i++
			}
			if s.i < len(s.s) && s.s[s.i] == '#' {
				s.comment()
			}
			next()
			continue
		case c == '\\' && s.joins():
			flush()
			s.join()
			next()
			continue
		case words:
		case quoted:
			if c == '\\' {
				s.i++ // and the character after it, below
			} else if c == '"' {
				quoted = false
			}
		case c == '"':
			quoted = true
		case c == '<' && !command:
			angle = true
		case c == '>':
			angle = false
		case c == ',' && !angle:
			break loop
		case c == '#' && !command && isBlank(s.s[s.i-1]):
			if s.warn != nil {
				s.warn(s.line, s.i-s.bol+1, afterItem+": other programs read it as part of the list")
			}
			flush()
			s.comment()
			from = s.i
			// Nothing of the item is below, as if a comma stood before the comment.
			break loop
		}
		s.i++
	}
	if quoted {
		err = "a quote (\") without its end"
	}
	if !cut {
		return strings.TrimRight(s.s[from:s.i], " \t\r"), err
	}
	flush()
	return strings.TrimRight(string(b), " \t\r"), err
}
