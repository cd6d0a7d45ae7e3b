package addr

// class is a set of character classes of RFC 5321 section 4.1.2 (atext: RFC 5322 section 3.2.3). None holds a byte of 0x80 or more.
type class uint8

const (
	atext        class = 1 << iota // ALPHA / DIGIT / !#$%&'*+-/=?^_`{|}~
	qtext                          // %d32-33 / %d35-91 / %d93-126
	letDigHyphen                   // ALPHA / DIGIT / "-"

	alnum = atext | qtext | letDigHyphen
	punct = atext | qtext
)

func is(c byte, k class) bool { return classes[c]&k != 0 }

// classes is written out so that nothing runs at start-up and a reader can check it against the page.
var classes = [256]class{
	' ': qtext, '!': punct, '#': punct, '$': punct, '%': punct, '&': punct, '\'': punct, '(': qtext, ')': qtext, '*': punct, '+': punct, ',': qtext,
	'-': alnum, '.': qtext, '/': punct,
	'0': alnum, '1': alnum, '2': alnum, '3': alnum, '4': alnum, '5': alnum, '6': alnum, '7': alnum, '8': alnum, '9': alnum,
	':': qtext, ';': qtext, '<': qtext, '=': punct, '>': qtext, '?': punct, '@': qtext,
	'A': alnum, 'B': alnum, 'C': alnum, 'D': alnum, 'E': alnum, 'F': alnum, 'G': alnum, 'H': alnum, 'I': alnum, 'J': alnum, 'K': alnum, 'L': alnum,
	'M': alnum, 'N': alnum, 'O': alnum, 'P': alnum, 'Q': alnum, 'R': alnum, 'S': alnum, 'T': alnum, 'U': alnum, 'V': alnum, 'W': alnum, 'X': alnum,
	'Y': alnum, 'Z': alnum,
	'[': qtext, ']': qtext, '^': punct, '_': punct, '`': punct,
	'a': alnum, 'b': alnum, 'c': alnum, 'd': alnum, 'e': alnum, 'f': alnum, 'g': alnum, 'h': alnum, 'i': alnum, 'j': alnum, 'k': alnum, 'l': alnum,
	'm': alnum, 'n': alnum, 'o': alnum, 'p': alnum, 'q': alnum, 'r': alnum, 's': alnum, 't': alnum, 'u': alnum, 'v': alnum, 'w': alnum, 'x': alnum,
	'y': alnum, 'z': alnum,
	'{': punct, '|': punct, '}': punct, '~': punct,
}
