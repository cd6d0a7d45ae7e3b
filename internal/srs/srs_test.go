package srs

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"postamt/internal/addr"
)

const testKey = "a secret of twenty-two"

// day is the moment at which Mail::SRS made the addresses below.
var day = time.Unix(1764410400, 0)

func codec(t testing.TB, keys ...string) *Codec {
	t.Helper()
	var k [][]byte
	for _, s := range keys {
		k = append(k, []byte(s))
	}
	c, err := New("ours.example", k)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func parse(t testing.TB, s string) addr.Mailbox {
	t.Helper()
	m, err := addr.Parse(s, true)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return m
}

// What Mail::SRS 0.31 and python3-srs 1.0.4 make of the same with the same key on the same day.
func TestForwardIsThatOfOthers(t *testing.T) {
	c := codec(t, testKey)
	for _, x := range [][2]string{
		{"alice@a.example", "SRS0=CBZs=6F=a.example=alice"},
		{"Alice.B+tag=x@A.Example", "SRS0=ba+u=6F=a.example=Alice.B+tag=x"},
		{"SRS0=hhhh=TT=a.example=alice@b.example", "SRS1=JzKR=b.example==hhhh=TT=a.example=alice"},
		{"srs0+hhhh=TT=a.example=alice@b.example", "SRS1=1oLp=b.example=+hhhh=TT=a.example=alice"},
		{"SRS1=xxxx=b.example==hhhh=TT=a.example=alice@c.example", "SRS1=JzKR=b.example==hhhh=TT=a.example=alice"},
		{"srs1-xxxxyy=b.example=+hhhh=TT=a.example=alice@c.example", "SRS1=1oLp=b.example=+hhhh=TT=a.example=alice"},
	} {
		got, err := c.Forward(parse(t, x[0]), day)
		if err != nil || got.Local != x[1] || got.Domain != "ours.example" {
			t.Errorf("%s: %s, %v; want %s", x[0], got, err, x[1])
		}
	}
}

func TestForwardLeavesWhatIsOurs(t *testing.T) {
	c := codec(t, testKey)
	for _, m := range []addr.Mailbox{{}, {Local: "postmaster"}, parse(t, "bob@OURS.example"), parse(t, "SRS0=CBZs=6F=a.example=alice@ours.example")} {
		if got, err := c.Forward(m, day); err != nil || got != m {
			t.Errorf("%v: %v, %v", m, got, err)
		}
	}
}

// The longest that fits has 64 octets; the next is an error, and not cut.
func TestForwardKeepsTheLimit(t *testing.T) {
	c := codec(t, testKey)
	for _, f := range []string{"%s@a.example", "SRS0=hhhh=TT=x.example=%s@b.example", "SRS1=h=b.example==hhhh=TT=a.example=%s@c.example"} {
		longest, err := addr.Mailbox{}, error(nil)
		for n := 1; err == nil; n++ {
			var got addr.Mailbox
			if got, err = c.Forward(parse(t, fmt.Sprintf(f, strings.Repeat("x", n))), day); err == nil {
				longest = got
			}
		}
		if err != ErrLong || len(longest.Local) != addr.MaxLocal {
			t.Errorf("%s: longest is %s, then %v", f, longest, err)
		}
	}
}

func TestReverse(t *testing.T) {
	const zero, one = "SRS0=CBZs=6F=a.example=alice", "SRS1=1oLp=b.example=+hhhh=TT=a.example=alice"
	c := codec(t, "the key of today, which signs", testKey)
	for _, x := range []struct {
		local string
		want  string
		err   error
		days  int
	}{
		{zero, "alice@a.example", nil, 0},
		{zero, "alice@a.example", nil, 21},
		{zero, "", ErrExpired, 22},
		{zero, "alice@a.example", nil, -1},
		{zero, "", ErrExpired, -2},
		{zero, "alice@a.example", nil, 1024},
		{strings.ToLower(zero), "alice@a.example", nil, 0},
		{strings.ToUpper(zero), "ALICE@a.example", nil, 0},
		{"SRS0+CBZs=6F=a.example=alice", "alice@a.example", nil, 0},
		{"SRS0-CBZs=6F=a.example=alice", "alice@a.example", nil, 0},
		{one, "SRS0+hhhh=TT=a.example=alice@b.example", nil, 0},
		{one, "SRS0+hhhh=TT=a.example=alice@b.example", nil, 500}, // whose age is the first forwarder's business
		{strings.ToLower(one), "SRS0+hhhh=tt=a.example=alice@b.example", nil, 0},

		{"SRS0=CBZt=6F=a.example=alice", "", ErrHash, 0},
		{"SRS0=CBZ=6F=a.example=alice", "", ErrHash, 0},
		{"SRS0==6F=a.example=alice", "", ErrHash, 0},
		{"SRS0=" + strings.Repeat("C", 40) + "=6F=a.example=alice", "", ErrHash, 0},
		{"SRS0=CBZs=6G=a.example=alice", "", ErrHash, 0},
		{"SRS0=CBZs=6F=b.example=alice", "", ErrHash, 0},
		{"SRS0=CBZs=6F=a.example=malice", "", ErrHash, 0},
		{"SRS1=1oLq=b.example=+hhhh=TT=a.example=alice", "", ErrHash, 0},
		{"SRS1=1oLp=c.example=+hhhh=TT=a.example=alice", "", ErrHash, 0},
		{"SRS1=1oLp=b.example==hhhh=TT=a.example=alice", "", ErrHash, 0},

		{"", "", ErrNotSRS, 0},
		{"bob", "", ErrNotSRS, 0},
		{"SRS0", "", ErrNotSRS, 0},
		{"SRS0=", "", ErrNotSRS, 0},
		{"SRS0.bob", "", ErrNotSRS, 0},
		{"SRS1=", "", ErrNotSRS, 0},
		{"SRS1=1oLp=b.example", "", ErrNotSRS, 0},
		{"SRS1=1oLp=b.example=", "", ErrNotSRS, 0},
		{"SRS1=1oLp=b.example=hhhh=TT=a.example=alice", "", ErrNotSRS, 0},
		{"SRS1=b.example==hhhh=TT=a.example=alice", "", ErrNotSRS, 0},
		{"SRS0=CBZs=6=a.example=alice", "", ErrNotSRS, 0},
		{"SRS0=CBZs=1F=a.example=alice", "", ErrNotSRS, 0},
		{"SRS0=CBZs=6F=a..example=alice", "", ErrNotSRS, 0},
		{"SRS0=CBZs=6F=alice", "", ErrNotSRS, 0},
	} {
		got, err := c.Reverse(x.local, day.Add(time.Duration(x.days)*24*time.Hour))
		if err != x.err || got.String() != x.want {
			t.Errorf("%s after %d days: %s, %v; want %s, %v", x.local, x.days, got, err, x.want, x.err)
		}
	}
}

// A hash may be longer than ours: other programs can be told to make such.
func TestLongerHash(t *testing.T) {
	local := "SRS0=" + hash([]byte(testKey), "6F", "a.example", "alice")[:12] + "=6F=a.example=alice"
	if got, err := codec(t, testKey).Reverse(local, day); err != nil || got.String() != "alice@a.example" {
		t.Errorf("%s: %s, %v", local, got, err)
	}
}

func TestNewKeySigns(t *testing.T) {
	before, after := codec(t, testKey), codec(t, "the key of today, which signs", testKey)
	sender := parse(t, "alice@a.example")
	old, _ := before.Forward(sender, day)
	fresh, _ := after.Forward(sender, day)
	if _, err := before.Reverse(fresh.Local, day); err != ErrHash {
		t.Errorf("the old key verifies: %v", err)
	}
	for _, m := range []addr.Mailbox{old, fresh} {
		if got, err := after.Reverse(m.Local, day); err != nil || got != sender {
			t.Errorf("%s: %s, %v", m, got, err)
		}
	}
}

func TestParseKeys(t *testing.T) {
	got, err := ParseKeys([]byte("# today's\r\n0123456789abcdef\r\n\nold one\n"))
	if err != nil || string(bytes.Join(got, []byte("|"))) != "0123456789abcdef|old one" {
		t.Errorf("%q, %v", got, err)
	}
	for text, want := range map[string]string{
		"":                               "srs: no key",
		"# x\n\n":                        "srs: no key",
		"0123456789abcde\n":              "srs: line 1: the first key is shorter than 16 octets",
		"#\n 0123456789abcdef":           "srs: line 2: space at the beginning or end of a key",
		"0123456789abcdef \nx":           "srs: line 1: space at the beginning or end of a key",
		"0123456789abcdef\x00":           "srs: line 1: control character in a key",
		"0123456789abcdef\nx\ty":         "srs: line 2: control character in a key",
		strings.Repeat(testKey+"\n", 33): "srs: line 33: more than 32 keys",
	} {
		if _, err := ParseKeys([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if _, err := New("", got); err == nil {
		t.Error("no domain")
	}
	if _, err := New("ours.example", nil); err == nil {
		t.Error("no key")
	}
}

// chain takes a sender over hosts that forward, and its bounce back.
func chain(c []*Codec, sender addr.Mailbox, at time.Time) (end, back addr.Mailbox, err error) {
	end = sender
	for _, x := range c {
		if end, err = x.Forward(end, at); err != nil {
			return end, back, err
		}
	}
	for back = end; ; {
		i := 0
		for i < len(c) && c[i].domain != back.Domain {
			i++
		}
		if i == len(c) {
			return end, back, nil
		}
		if back, err = c[i].Reverse(back.Local, at); err != nil {
			return end, back, err
		}
	}
}

func TestRoundTrip(t *testing.T) {
	hosts := make([]*Codec, 5)
	for i := range hosts {
		hosts[i], _ = New(fmt.Sprintf("h%d.example", i), [][]byte{fmt.Appendf(nil, "key %d", i)})
	}
	rapid.Check(t, func(r *rapid.T) {
		sender := addr.Mailbox{
			Local:  rapid.StringMatching(`(srs[01][=+-])?[ -~]{0,20}|SRS1=x=[a-z.]{1,4}=[=+-]?[a-z=]{0,9}|ä[a-z]*`).Draw(r, "local"),
			Domain: rapid.SampledFrom([]string{"a.example", "bücher.example", "[192.0.2.1]", "[IPv6:2001:db8::1]"}).Draw(r, "domain"),
		}
		if m, err := addr.Parse(sender.String(), true); err != nil || m != sender {
			r.Skip()
		}
		at := time.Unix(rapid.Int64Range(0, 1<<33).Draw(r, "at"), 0)
		n := rapid.IntRange(1, len(hosts)).Draw(r, "hosts")
		end, back, err := chain(hosts[:n], sender, at)
		if errors.Is(err, ErrLong) {
			return
		}
		want := sender.Key()
		if _, host, inner, ok := parse1(sender.Local); ok {
			want = addr.Mailbox{Local: "SRS0" + inner, Domain: host}.Key() // the forwarders between are left out
		}
		if err != nil || back.Key() != want {
			r.Fatalf("%s over %d to %s: back to %s, %v", sender, n, end, back, err)
		}
		if n > 2 {
			if two, _, _ := chain(hosts[:2], sender, at); len(two.Local) != len(end.Local) {
				r.Fatalf("%s has grown from %s", end, two)
			}
		}
	})
}

func FuzzReverse(f *testing.F) {
	f.Add("SRS0=CBZs=6F=a.example=alice")
	f.Add("SRS1=1oLp=b.example=+hhhh=TT=a.example=alice")
	f.Add("SRS1=b.example==hhhh=TT=a.example=alice")
	c := codec(f, testKey)
	f.Fuzz(func(t *testing.T, local string) {
		got, err := c.Reverse(local, day)
		if err != nil {
			return
		}
		// It is signed: no one but the seeds and what folds to them.
		if s := strings.ToLower(local); !strings.Contains(s, "a.example=alice") || addr.Mailbox.IsNull(got) {
			t.Errorf("%q: %s", local, got)
		}
	})
}

func FuzzForward(f *testing.F) {
	f.Add("alice@a.example")
	f.Add("SRS0=hhhh=TT=a.example=alice@b.example")
	f.Add("SRS1=xxxx=b.example==hhhh=TT=a.example=alice@c.example")
	f.Add("SRs0+@0")
	f.Add(`"a b"@[IPv6:2001:db8::1]`)
	c := codec(f, testKey)
	f.Fuzz(func(t *testing.T, s string) {
		m, err := addr.Parse(s, true)
		if err != nil {
			return
		}
		to, err := c.Forward(m, day)
		if err != nil {
			if err != ErrLong {
				t.Errorf("%s: %v", s, err)
			}
			return
		}
		if again, err := addr.Parse(to.String(), true); err != nil || again != to || to.Domain != "ours.example" {
			t.Errorf("%s: %s, %v", s, to, err)
		}
		if to == m {
			return // ours
		}
		if _, err := c.Reverse(to.Local, day); err != nil {
			t.Errorf("%s: %s: %v", s, to, err)
		}
	})
}

// mailSRS runs Mail::SRS with the key of today: lines "f sender" and "r local" come back as addresses.
func mailSRS(t *testing.T, lines ...string) []string {
	t.Helper()
	perl, err := exec.LookPath("perl")
	if err != nil || exec.Command(perl, "-MMail::SRS", "-e", "1").Run() != nil {
		t.Skip("perl(Mail::SRS) is not installed")
	}
	cmd := exec.Command(perl, "-MMail::SRS", "-ne", `BEGIN { $s = new Mail::SRS(Secret => ["`+testKey+`"]) }
		chomp; my ($verb, $a) = split / /, $_, 2; my $r = eval { $verb eq "f" ? $s->forward($a, "ours.example") : $s->reverse($a) }; print $r // "error $@"; print "\n"`)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	out, err := cmd.Output()
	got := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if err != nil || len(got) != len(lines) {
		t.Fatalf("%s: %v", out, err)
	}
	return got
}

// A host moves from Mail::SRS to here, or back, with its key: each reverses what the other has made.
func TestMailSRSAgrees(t *testing.T) {
	c := codec(t, testKey)
	senders := []string{"alice@a.example", "Alice.B=x@a.example", "SRS0=hhhh=TT=a.example=alice@b.example", "SRS0-hhhh=TT=a.example=alice@b.example",
		"SRS1=xxxx=b.example=-hhhh=TT=a.example=alice@c.example"}
	var ask []string
	now := time.Now()
	for _, s := range senders {
		m, err := c.Forward(parse(t, s), now)
		if err != nil {
			t.Fatal(err)
		}
		ask = append(ask, "f "+s, "r "+m.String())
	}
	got := mailSRS(t, ask...)
	for i, s := range senders {
		theirs := parse(t, got[2*i])
		back, err := c.Reverse(theirs.Local, now)
		want := strings.Replace(s, "SRS1=xxxx=b.example=", "SRS0", 1)
		want = strings.Replace(want, "@c.example", "@b.example", 1)
		if err != nil || back.String() != want {
			t.Errorf("%s: theirs is %s, of which ours is %s, %v", s, theirs, back, err)
		}
		if got[2*i+1] != want {
			t.Errorf("%s: ours is %s, of which theirs is %s", s, ask[2*i+1], got[2*i+1])
		}
	}
}

// A token of an older key is good until that key goes, and no other is.
func TestMade(t *testing.T) {
	old, err := New("o.example", [][]byte{[]byte("0123456789abcdef")})
	if err != nil {
		t.Fatal(err)
	}
	both, err := New("o.example", [][]byte{[]byte("fedcba9876543210"), []byte("0123456789abcdef")})
	if err != nil {
		t.Fatal(err)
	}
	word := old.Token("a", "b")
	if len(word) != 10 || !old.Made(strings.ToUpper(word), "A", "b") || !both.Made(word, "a", "b") || both.Token("a", "b") == word {
		t.Error(word)
	}
	for _, w := range []string{"", "x", word[:9], word + "0", both.Token("a", "b")} {
		if old.Made(w, "a", "b") {
			t.Errorf("%q", w)
		}
	}
	if old.Made(word, "ab", "") || old.Made(word, "a", "c") {
		t.Error("of other fields")
	}
}
