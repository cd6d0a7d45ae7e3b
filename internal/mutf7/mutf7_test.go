package mutf7

import (
	"testing"
	"unicode/utf8"
)

func TestForms(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "INBOX": "INBOX", "a b~": "a b~", "a&b": "a&-b", "&&": "&-&-", "Entwürfe": "Entw&APw-rfe",
		"~peter/mail/台北/日本語": "~peter/mail/&U,BTFw-/&ZeVnLIqe-", // RFC 3501 section 5.1.3
		"\x00":               "&AAA-", "\x7f": "&AH8-", "ä&ö": "&AOQ-&-&APY-", "😀": "&2D3eAA-", "\uFFFD": "&,,0-",
	} {
		if got := Encode(text); got != want {
			t.Errorf("Encode(%q) = %q, want %q", text, got, want)
		}
		if got, ok := Decode(want); !ok || got != text {
			t.Errorf("Decode(%q) = %q, %v, want %q", want, got, ok, text)
		}
	}
}

// I10. An encoded ".." or "/" must not pass for a name that has none.
func TestI10_OneFormOnly(t *testing.T) {
	for _, s := range []string{
		"&AC4ALg-", "&AC8-", "&AGE-", "&ACY-", // encoded ASCII
		"&", "a&", "&AOQ", "&-&", // unterminated
		"&AOQ-&APY-",      // "&AOQA9g-" in two parts
		"&AOR-", "&AOQ=-", // bits left over, padding
		"&A-", "&AO-", "&====-", // not base64, half a unit
		"&2D0-", "&3gA-", "&3gDYPQ-", "&2D0AYQ-", // half a pair, pairs turned round
		"&AOQ/-", "&AO Q-", "&AO\nQ-", "&U/BTFw-", // "/" for ","
		"ä", "\x00", "\x7f", "a\n", "\xff",
	} {
		if got, ok := Decode(s); ok {
			t.Errorf("Decode(%q) = %q", s, got)
		}
	}
}

func FuzzRoundTrip(f *testing.F) {
	for _, s := range []string{"INBOX", "&AOQ-", "Entwürfe", "&-", "&2D3eAA-", "&AC8-", "&AOQ-&APY-", "\uFFFD"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if text, ok := Decode(s); ok {
			if !utf8.ValidString(text) || Encode(text) != s {
				t.Errorf("%q is %q is %q", s, text, Encode(text))
			}
		}
		if !utf8.ValidString(s) {
			return
		}
		e := Encode(s)
		for i := range len(e) {
			if !direct(e[i]) {
				t.Fatalf("Encode(%q) = %q", s, e)
			}
		}
		if text, ok := Decode(e); !ok || text != s {
			t.Errorf("%q is %q is %q, %v", s, e, text, ok)
		}
	})
}
