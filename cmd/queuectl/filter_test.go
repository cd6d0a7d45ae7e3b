package main

import (
	"regexp"
	"strings"
	"testing"

	"postamt/internal/queue"
)

// What "*" matches, a regular expression does.
func FuzzMatches(f *testing.F) {
	for _, s := range [][2]string{{"a*b", "ab"}, {"*@x.example", "a@X.example"}, {"a**", "a"}, {"*a*a", "a"}, {"aba*ba", "aba"}, {"", ""}, {"*", ""}, {"é*", "É"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, s string) {
		pattern, s = strings.ToLower(strings.ToValidUTF8(pattern, "?")), strings.ToLower(strings.ToValidUTF8(s, "?"))
		want := regexp.MustCompile("(?s)^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$").MatchString(s)
		if got := matches(pattern, s); got != want {
			t.Errorf("%q, %q: %v", pattern, s, got)
		}
	})
}

func TestReasons(t *testing.T) {
	n := queue.Note{Event: "deferred", Status: "4.4.1", Host: "mx.example.net[192.0.2.7]:25", Text: "451 4.4.1 Connection refused"}
	for reason, want := range map[string]bool{"": true, "4.4.1": true, "4.4": true, "4.4.": true, "4.": true, "4.4.10": false, "5.": false, "connection REFUSED": true,
		"deferred": true, "mx.example.net": true, "timeout": false, "4": true, "451": true, "4.4.1 mx": true, "4.4.1.2": false} {
		if got := (&filter{reason: reason}).takesReason(n); got != want {
			t.Errorf("%q: %v", reason, got)
		}
	}
	for s, want := range map[string]int64{"90s": 90, "5m": 300, "2h": 7200, "3d": 259200, "1w": 604800} {
		if got, err := parseAge(s); got != want || err != nil {
			t.Errorf("%s: %d %v", s, got, err)
		}
	}
	for _, s := range []string{"5", "d", "-1d", "1y", "99999999999999999w", "1.5h"} {
		if got, err := parseAge(s); err == nil {
			t.Errorf("%s: %d", s, got)
		}
	}
}
