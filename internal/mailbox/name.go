package mailbox

import "strings"

// The letters of flags in file names, in the order of their bits, which is that of ASCII.
const flagLetters = "DFPRST"

// parseName cuts a file name at its last colon (maildir(5)): what is before it names the message for good. Letters that are neither
// flags nor keywords stay in the name and are none of ours.
func parseName(name string) (base string, f Flags, keywords uint32) {
	i := strings.LastIndexByte(name, ':')
	if i < 0 {
		return name, 0, 0
	}
	base, info := name[:i], name[i+1:]
	if !strings.HasPrefix(info, "2,") {
		return base, 0, 0
	}
	for _, c := range []byte(info[2:]) {
		if k := strings.IndexByte(flagLetters, c); k >= 0 {
			f |= 1 << k
		} else if 'a' <= c && c <= 'z' {
			keywords |= 1 << (c - 'a')
		}
	}
	return base, f, keywords
}

// rename is the file name with other flags and keywords. Other letters that a program has put there are kept, all in the order of ASCII.
func rename(name string, f Flags, keywords uint32) string {
	base, info := name, ""
	if i := strings.LastIndexByte(name, ':'); i >= 0 {
		base = name[:i]
		if rest, ok := strings.CutPrefix(name[i+1:], "2,"); ok {
			info = rest
		}
	}
	var has [256]bool
	for _, c := range []byte(info) {
		if !(strings.IndexByte(flagLetters, c) >= 0 || 'a' <= c && c <= 'z') {
			has[c] = true
		}
	}
	for k := range len(flagLetters) {
		has[flagLetters[k]] = f>>k&1 != 0
	}
	for k := range 26 {
		has['a'+k] = keywords>>k&1 != 0
	}
	b := make([]byte, 0, len(base)+16)
	b = append(append(b, base...), ":2,"...)
	for c, yes := range has {
		if yes {
			b = append(b, byte(c))
		}
	}
	return string(b)
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
