package maildir

import (
	"slices"
	"strings"
)

// FileName is the name of a message's file, taken apart:
//
//	1764000000.M1P2.host,S=10,W=12 :2, FS a ,x
//	base                               letters rest
//
// The base ends at the first ":", where Dovecot's list of UIDs ends it too. The
// letters are flags in upper case, keywords in lower case, and what is neither;
// what follows a comma behind them, and what stands between base and ":2,",
// belongs to other programs and stays.
type FileName struct {
	Base    string
	middle  string // ":1,something", or nothing
	letters string // sorted, each once
	rest    string // with its comma
}

// ParseFileName takes the name of a file in new/ or cur/ apart. It is not ok
// when that is no message: a name that begins with a dot or has no base.
func ParseFileName(name string) (f FileName, ok bool) {
	f.Base, _, _ = strings.Cut(name, ":")
	if f.Base == "" || f.Base[0] == '.' {
		return f, false
	}
	before, info, _ := strings.Cut(name, ":2,")
	f.middle = before[len(f.Base):]
	letters, _, _ := strings.Cut(info, ",")
	f.rest = info[len(letters):]
	f.letters = sorted(letters)
	return f, true
}

func sorted(letters string) string {
	b := []byte(letters)
	slices.Sort(b)
	return string(slices.Compact(b))
}

// Letters are those of flags and keywords, in the order of ASCII.
func (f FileName) Letters() string { return f.letters }

// Has reports whether a flag or keyword is set.
func (f FileName) Has(letter byte) bool { return strings.IndexByte(f.letters, letter) >= 0 }

// With returns the name with the letters set, and then without those to clear.
// All others stay, those that nobody knows too.
func (f FileName) With(set, clear string) FileName {
	var b []byte
	for _, c := range []byte(sorted(f.letters + set)) {
		if strings.IndexByte(clear, c) < 0 {
			b = append(b, c)
		}
	}
	f.letters = string(b)
	return f
}

// String is the name of the file in cur/.
func (f FileName) String() string { return f.Base + f.middle + ":2," + f.letters + f.rest }

// Size is what ",S=" says of the size of the file, -1: nothing. It is a claim of
// whoever made the name: no length that is announced may rest on it alone.
func (f FileName) Size() int64 { return sizeInName(f.Base) }

// WireSize is what ",W=" says of the size with CRLF line ends, -1: nothing.
func (f FileName) WireSize() int64 { return fieldInName(f.Base, ",W=") }
