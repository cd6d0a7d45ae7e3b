package mailbox

import (
	"strings"

	"postamt/internal/maildir"
)

// The letters of flags in file names, in the order of their bits, which is that of ASCII.
const flagLetters = "DFPRST"

// baseOf is what names a message for good: its file name up to the first colon.
func baseOf(name string) string {
	if i := strings.IndexByte(name, ':'); i >= 0 {
		return name[:i]
	}
	return name
}

// parseName reads flags and keywords, the same as maildir.ParseFileName without its memory: a hundred thousand are read at once.
func parseName(name string) (base string, f Flags, keywords uint32) {
	base = baseOf(name)
	_, info, _ := strings.Cut(name[len(base):], ":2,")
	for i := 0; i < len(info) && info[i] != ','; i++ {
		if k := strings.IndexByte(flagLetters, info[i]); k >= 0 {
			f |= 1 << k
		} else if c := info[i]; 'a' <= c && c <= 'z' {
			keywords |= 1 << (c - 'a')
		}
	}
	return base, f, keywords
}

// rename is the file name with other flags and keywords. What is neither stays.
func rename(name string, f Flags, keywords uint32) string {
	var set, clear []byte
	for k := range len(flagLetters) {
		if f>>k&1 != 0 {
			set = append(set, flagLetters[k])
		} else {
			clear = append(clear, flagLetters[k])
		}
	}
	for k := range 26 {
		if keywords>>k&1 != 0 {
			set = append(set, byte('a'+k))
		} else {
			clear = append(clear, byte('a'+k))
		}
	}
	n, _ := maildir.ParseFileName(name)
	return n.With(string(set), string(clear)).String()
}

// sizeIn reads a size that stands in a base name: ",S=" octets of the file, ",W=" octets of its wire form.
func sizeIn(base, key string) uint64 {
	_, s, ok := strings.Cut(base, key)
	if !ok {
		return unknown
	}
	n, digits := uint64(0), 0
	for ; digits < len(s) && '0' <= s[digits] && s[digits] <= '9'; digits++ {
		if n > 1<<50 {
			return unknown
		}
		n = n*10 + uint64(s[digits]-'0')
	}
	if digits == 0 || digits < len(s) && s[digits] != ',' {
		return unknown
	}
	return n
}
