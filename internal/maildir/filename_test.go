package maildir

import (
	"strings"
	"testing"
	"time"
)

// M07. Names that others have made.
func TestM07_FileNames(t *testing.T) {
	long := strings.Repeat("x", 255)
	for name, want := range map[string]struct {
		base, letters string
		seen          string // the name with F and b set and S cleared
		size, wire    int64
	}{
		"1.a.h":                      {"1.a.h", "", "1.a.h:2,Fb", -1, -1},
		"1.a.h:2,":                   {"1.a.h", "", "1.a.h:2,Fb", -1, -1},
		"1.a.h,S=10,W=12:2,SRF":      {"1.a.h,S=10,W=12", "FRS", "1.a.h,S=10,W=12:2,FRb", 10, 12},
		"1.a:2,SaSzQ":                {"1.a", "QSaz", "1.a:2,FQabz", -1, -1},
		"1.a:2,S,x=y":                {"1.a", "S", "1.a:2,Fb,x=y", -1, -1},
		"1.a:2,S:2,F":                {"1.a", "2:S", "1.a:2,2:Fb,F", -1, -1},
		"1.a:1,exp":                  {"1.a", "", "1.a:1,exp:2,Fb", -1, -1},
		"1.a:1,exp:2,S":              {"1.a", "S", "1.a:1,exp:2,Fb", -1, -1},
		"1.a:":                       {"1.a", "", "1.a::2,Fb", -1, -1},
		"1.a:x":                      {"1.a", "", "1.a:x:2,Fb", -1, -1},
		"1.a,S=12x:2,S":              {"1.a,S=12x", "S", "1.a,S=12x:2,Fb", -1, -1},
		"1.a,S=:2,":                  {"1.a,S=", "", "1.a,S=:2,Fb", -1, -1},
		"1.a,S=-5,W=-1":              {"1.a,S=-5,W=-1", "", "1.a,S=-5,W=-1:2,Fb", -1, -1},
		"1.a,S=99999999999999999999": {"1.a,S=99999999999999999999", "", "1.a,S=99999999999999999999:2,Fb", -1, -1},
		"1.a:2,,S=5":                 {"1.a", "", "1.a:2,Fb,S=5", -1, -1},
		"a\nb:2,S":                   {"a\nb", "S", "a\nb:2,Fb", -1, -1},
		"\xe4\xff:2,S":               {"\xe4\xff", "S", "\xe4\xff:2,Fb", -1, -1},
		long:                         {long, "", long + ":2,Fb", -1, -1},
	} {
		f, ok := ParseFileName(name)
		if !ok || f.Base != want.base || f.Letters() != want.letters || f.Size() != want.size || f.WireSize() != want.wire {
			t.Errorf("%q: %+v %v %d %d", name, f, ok, f.Size(), f.WireSize())
		}
		if got := f.With("bF", "S").String(); got != want.seen {
			t.Errorf("%q becomes %q, want %q", name, got, want.seen)
		}
		if f.Has('S') != strings.Contains(want.letters, "S") {
			t.Errorf("%q: S %v", name, f.Has('S'))
		}
	}
	for _, name := range []string{"", ".", ".a", ":2,S", ":", ".:2,S"} {
		if f, ok := ParseFileName(name); ok {
			t.Errorf("%q: %+v", name, f)
		}
	}
}

// The second in front is when a message came to where it is (RFC 8514), and a message that is moved gets another one, later than it was.
func TestSavedAt(t *testing.T) {
	now := time.Unix(1764000000, 0)
	for name, want := range map[string]int64{
		"1763999999.M1P2.h,S=1:2,S": 1763999999, "1763999999": 1763999999, "631238400.x": 631238400, "1764086399.x": 1764086399,
		"1764086400.x": 0, "600000000.x": 0, "9999999999999999999999.x": 0, "1763999999_0.1.h": 0, "+1763999999.x": 0, "-1.x": 0, "x.y": 0, ".1763999999": 0, "": 0,
	} {
		if got, ok := SavedAt(name, now); ok != (want > 0) || ok && got.Unix() != want {
			t.Errorf("%q: %v %v", name, got, ok)
		}
	}
	s, err := stem(now.Add(-time.Hour), testID, "bob", ".x", "h")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		s + ",S=1,W=2:2,S":      "1764000000" + s[10:] + ",S=1,W=2:2,S",
		"1764000000" + s[10:]:   "1764000001" + s[10:],
		"1764000007" + s[10:]:   "1764000008" + s[10:],
		"1763999999.M1P2.h,S=1": "", "1763999999.Q1R2.h": "", "1763999999.Q1X2.h": "", "x" + s: "", s[:len(s)-2]: "", "1763999999.": "", "": "",
	} {
		got, ok := MovedName(name, now)
		if got != want || ok != (want != "") {
			t.Errorf("%q becomes %q, %v", name, got, ok)
		}
		if ok && !hasStem(got, s) {
			t.Errorf("%q is not known by %q", got, s)
		}
	}
	other, _ := stem(now, testID, "bob", "", "h")
	if moved, _ := MovedName(s, now); hasStem(moved, other) {
		t.Errorf("%q is known by %q", moved, other)
	}
}

func FuzzFileName(f *testing.F) {
	for _, s := range []string{"1.a.h,S=10:2,FSab", "a:2,S:2,F", "a:1,x:2,S,y", "a:", ".x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		n, ok := ParseFileName(name)
		if !ok {
			return
		}
		// What was written is read as it was meant, and stays.
		again, ok := ParseFileName(n.String())
		if !ok || again != n {
			t.Errorf("%q: %+v is %q is %+v", name, n, n.String(), again)
		}
		if !strings.HasPrefix(n.String(), n.Base) || strings.Contains(n.Base, ":") {
			t.Errorf("%q: base %q of %q", name, n.Base, n.String())
		}
	})
}
