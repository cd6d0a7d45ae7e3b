package match

import (
	"bytes"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
	"golang.org/x/text/width"
	"pgregory.net/rapid"
)

func TestIn(t *testing.T) {
	for _, c := range []struct {
		key, text string
		want      bool
	}{
		{"", "", true},
		{"", "anything", true},
		{"a", "", false},
		{"hello", "Say HELLO", true},
		{"hello", "hell o", false},
		{"Grüße", "viele GRÜSSE", false}, // no case of one character
		{"grüße", "GRÜẞE", true},
		{"straße", "Straße", true},
		{"é", "cafe\u0301", true},
		{"e\u0301", "CAFÉ", true},
		{"cafe", "café", true},
		{"cafe s", "café s", false},
		{"ＡＢＣ", "abc", true},
		{"abc", "ＡＢＣ", true},
		{"テスト", "ﾃｽﾄ", true},
		{"ガ", "ｶﾞ", true},
		{"office", "oﬃce", true},
		{"한글", "\u1112\u1161\u11ab\u1100\u1173\u11af", true},
		{"ПРИВЕТ", "привет, мир", true},
		{"Йод", "и\u0306од", true},
		{"ΣΊΣΥΦΟΣ", "Σίσυφος", true},
		{"ᾳ", "α\u0345", true},
		{"ệ", "ê\u0323", true}, // as windows-1258 has it
		{"ê", "ê\u0323", false},
		{"ê", "ệ", false},
		{"მხედრული", "ᲛᲮᲔᲓᲠᲣᲚᲘ", true},
		{"kelvin", "\u212aelvin", true},
		{"ıstanbul", "ISTANBUL", true},
		{"漢字", "この漢字は", true},
		{"a b", "a\r\nb", false},
		{"a b", "a  b", false},
		{"key", "\xff\xc3key\xe2\x82", true},
		{"é", "\xc3\xc3\xa9\xa9", true},
		{"€", "\xe2\x82\xe2\x82\xac", true},
		{"ab", "a\xffb", false},
		{"\xff", "\xff", false},
		{"a\xff", "a\xff", false},
		{"\ufffd", "\xff", false},
		{"\ufffd", "\ufffd", true},
		{"🎉", "party 🎉!", true},
	} {
		k := New(c.key)
		if got := k.In([]byte(c.text)); got != c.want {
			t.Errorf("%q in %q: %v", c.key, c.text, got)
		}
		long := strings.Repeat(". ", 5*piece) + c.text + strings.Repeat(" .", 5*piece)
		if got := k.In([]byte(long)); got != c.want {
			t.Errorf("%q in %q in a long text: %v", c.key, c.text, got)
		}
		s := k.Scanner()
		for i := range len(long) {
			s.Scan([]byte(long[i : i+1]))
		}
		if s.Found() != c.want {
			t.Errorf("%q in %q, octet by octet: %v", c.key, c.text, s.Found())
		}
	}
}

// model is the definition, by other means.
func model(key, text string) bool {
	if key == "" {
		return true
	}
	if !utf8.ValidString(key) {
		return false
	}
	key = slow(key)
	for text != "" {
		i := 0
		for i < len(text) {
			r, n := utf8.DecodeRuneInString(text[i:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			i += n
		}
		if strings.Contains(slow(text[:i]), key) {
			return true
		}
		text = text[min(i+1, len(text)):]
	}
	return false
}

// slow folds a text without more than thirty marks in a row.
func slow(s string) string {
	return strings.Map(func(r rune) rune {
		if r == 'ẞ' {
			return 'ß'
		}
		return unicode.ToUpper(r)
	}, norm.NFKD.String(s))
}

// alphabet has characters that are hard, and few, so that keys are found.
var alphabet = []string{"a", "A", "e", "E", "é", "É", "e\u0301", "ê", "ệ", "\u0323", "\u0302", "\u0301", "\u0345", "ᾳ", "ａ", "Ａ", "ﬁ", "f", "i", "ı", "İ", "ſ", "s", "ß", "ẞ", "한", "\u1112",
	"\u1161", "\u11ab", "ｶ", "ﾞ", "ガ", "\u3099", "\u0338", "≠", "=", "漢", "🎉", "\ufffd", "\u1d15e", "𝐚", " ", "\n", "ꭰ", "Ꭰ", "ᲀ", "в"}

func texts(invalid bool) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		some := append([]string{}, alphabet...)
		if invalid {
			some = append(some, "\xff", "\xc3", "\xe2\x82", "\xa9", "\xf0\x9f")
		}
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom(some), 0, 12).Draw(t, "parts"), "")
	})
}

func TestModel(t *testing.T) {
	found := 0
	rapid.Check(t, func(t *rapid.T) {
		text := texts(true).Draw(t, "text")
		key := rapid.OneOf(texts(false), rapid.Custom(func(t *rapid.T) string { // a part of the text, in some form
			r := []rune(text)
			i := rapid.IntRange(0, len(r)).Draw(t, "from")
			key := string(r[i:rapid.IntRange(i, len(r)).Draw(t, "to")])
			return rapid.SampledFrom([]func(string) string{norm.NFC.String, norm.NFD.String, norm.NFKC.String, norm.NFKD.String, strings.ToUpper, strings.ToLower, strings.ToTitle, width.Fold.String, width.Widen.String}).Draw(t, "form")(key)
		})).Draw(t, "key")
		want := model(key, text)
		if want && key != "" {
			found++
		}
		k := New(key)
		if got := k.In([]byte(text)); got != want {
			t.Fatalf("%+q in %+q: %v, want %v", key, text, got, want)
		}
		s := k.Scanner()
		before := strings.Repeat("x", rapid.SampledFrom([]int{0, 1, piece - 2, piece, 2*piece - 5}).Draw(t, "before"))
		for range 2 {
			s.Reset()
			for b := []byte(before + text); len(b) > 0; {
				n := rapid.IntRange(1, min(len(b), 2*piece)).Draw(t, "block")
				if s.Scan(b[:n:n]) && !want {
					break
				}
				b = b[n:]
			}
			if got, want := s.Found(), model(key, before+text); got != want {
				t.Fatalf("%+q in %+q in blocks: %v, want %v", key, text, got, want)
			}
		}
	})
	if found == 0 {
		t.Error("no key was found at all")
	}
}

// What RFC 5051 takes for one character is one here, and folding a folded text changes nothing.
func TestEveryCharacter(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		got := AppendFold(nil, []byte(string(r)))
		if want := slow(string(r)); string(got) != want {
			t.Errorf("%U: %+q, want %+q", r, got, want)
		}
		if again := AppendFold(nil, got); !bytes.Equal(got, again) {
			t.Errorf("%U: %+q, and folded again %+q", r, got, again)
		}
		for _, same := range []string{string(unicode.ToTitle(r)), string(unicode.ToUpper(r)), norm.NFC.String(string(r)), norm.NFD.String(string(r)), norm.NFKD.String(string(unicode.ToTitle(r))),
			width.Fold.String(string(r)), width.Narrow.String(string(r)), width.Widen.String(string(r))} {
			if f := AppendFold(nil, []byte(same)); !bytes.Equal(got, f) {
				t.Errorf("%U: %+q, but %+q becomes %+q", r, got, same, f)
			}
		}
		for o := unicode.SimpleFold(r); o != r; o = unicode.SimpleFold(o) {
			if f := AppendFold(nil, []byte(string(o))); !bytes.Equal(got, f) {
				t.Errorf("%U: %+q, but %U becomes %+q", r, got, o, f)
			}
		}
	}
}

// Whatever a text is, it is folded in linear time, and in bounded memory where it comes in blocks.
func TestHostileTexts(t *testing.T) {
	for _, part := range []string{"\u0301", "\u0323\u0301", "\u0301\u0323", "\ufdfa", "\xff", "\xe2\x82", "aaaaaaab", "e\u0301"} {
		text := []byte(strings.Repeat(part, 4<<20/len(part)))
		for _, key := range []string{"\u0301\u0301\u0301b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "x"} {
			s := New(key).Scanner()
			if s.Scan(text) || s.Found() {
				t.Errorf("%q in %q", key, part)
			}
			if cap(s.out) > 1<<20 {
				t.Errorf("%q: %d octets kept", part, cap(s.out))
			}
		}
	}
}

func FuzzScanner(f *testing.F) {
	f.Add("key", "a Key", 2)
	f.Add("ê", "e\u0302\u0323", 3)
	f.Add("\xff", "\xff\xc3\xa9", 1)
	f.Fuzz(func(t *testing.T, key, text string, block int) {
		k := New(key)
		want := k.In([]byte(text))
		s := k.Scanner()
		for b := []byte(text); len(b) > 0; {
			n := min(len(b), max(block, 1))
			if s.Scan(b[:n]) && !want {
				break
			}
			b = b[n:]
		}
		if got := s.Found(); got != want {
			t.Errorf("%+q in %+q: %v in blocks of %d, %v as one", key, text, got, block, want)
		}
		if utf8.ValidString(key) && !k.In([]byte(text+"\xff"+key+"\xff"+text)) {
			t.Errorf("%+q is not found where it is", key)
		}
	})
}

func TestNoAllocations(t *testing.T) {
	k, s := New("Grüße"), New("Grüße").Scanner()
	header, block := []byte("Viele Gruesse aus dem Süden und frohes Fest, Ihr Postamt"), bytes.Repeat([]byte("ein Text, der länger ist\r\n"), 1000)
	s.Scan(block)
	if n := testing.AllocsPerRun(100, func() { k.In(header) }); n != 0 {
		t.Errorf("In: %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { s.Scan(block) }); n != 0 {
		t.Errorf("Scan: %v allocations", n)
	}
}

func BenchmarkIn(b *testing.B) {
	k := New("quartz")
	for _, c := range []struct{ name, text string }{
		{"ASCII", "Re: [postamt-users] The quick brown fox jumps over lazy dog."},
		{"German", "Aw: Über die schönen Grüße aus Köln, die gestern ankamen, ja"},
	} {
		b.Run(c.name, func(b *testing.B) {
			text := []byte(c.text)
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				k.In(text)
			}
		})
	}
}

func BenchmarkScan(b *testing.B) {
	for _, c := range []struct{ name, key, text string }{
		{"ASCII", "quartz", "The queue directory holds one file for each message; whoever reads it, at night, is glad of short lines.\r\n"},
		{"ASCII,common", "these are", "The queue directory holds one file for each message; whoever reads it, at night, is glad of short lines.\r\n"},
		{"German", "quartz", "Über die schönen Grüße aus Köln, die gestern ankamen, haben wir uns natürlich sehr gefreut.\r\n"},
		{"Russian", "кварц", "Каждое сообщение лежит в очереди одним файлом; кто читает его ночью, рад коротким строкам.\r\n"},
		{"Chinese", "石英", "队列目录中每封邮件一个文件；夜里读它的人喜欢短的行。\r\n"},
		{"Korean", "석영", "대기열 디렉터리에는 메시지마다 파일이 하나씩 있다.\r\n"},
	} {
		b.Run(c.name, func(b *testing.B) {
			block := bytes.Repeat([]byte(c.text), 32<<10/len(c.text))
			s := New(c.key).Scanner()
			b.SetBytes(int64(len(block)))
			b.ReportAllocs()
			for b.Loop() {
				s.Scan(block)
			}
		})
	}
}
