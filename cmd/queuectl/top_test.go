package main

import (
	"strings"
	"testing"
	"time"

	"postamt/internal/queue"
)

var topNow = time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)

func traffic(in int64, domains ...queue.DomainTraffic) *queue.Traffic {
	return &queue.Traffic{Started: topNow.Add(-time.Hour), At: topNow, In: in, Active: 3, Waiting: 7, Domains: domains}
}

func TestTopShowsWhatWasBetweenTwoReadings(t *testing.T) {
	var w watch
	w.next(traffic(1000, queue.DomainTraffic{Domain: "a.example", Out: 500, Deferred: 20}))
	if got := string(w.appendLines(nil, topNow)); got != "2026-11-25T10:00:00Z in=0 out=0 deferred=0 failed=0 active=3 waiting=7\n" {
		t.Errorf("what was before is shown: %s", got)
	}
	w.next(traffic(1010, queue.DomainTraffic{Domain: "a.example", Out: 508, Deferred: 20}, queue.DomainTraffic{Domain: "b.example", Deferred: 2, Failed: 1}))
	want := "2026-11-25T10:00:00Z in=10 out=8 deferred=2 failed=1 active=3 waiting=7\n" +
		"2026-11-25T10:00:00Z domain=a.example out=8 deferred=0 failed=0\n" +
		"2026-11-25T10:00:00Z domain=b.example out=0 deferred=2 failed=1\n"
	if got := string(w.appendLines(nil, topNow)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// A domain that was forgotten and came back counts from nothing; so does everything when queued was started anew.
	w.next(traffic(1010, queue.DomainTraffic{Domain: "a.example", Out: 3}))
	if got := string(w.appendLines(nil, topNow)); !strings.Contains(got, "domain=a.example out=3 ") {
		t.Error(got)
	}
	anew := traffic(4, queue.DomainTraffic{Domain: "a.example", Out: 9})
	anew.Started = topNow
	w.next(anew)
	if got := string(w.appendLines(nil, topNow)); !strings.Contains(got, " in=4 ") || !strings.Contains(got, "domain=a.example out=9 ") {
		t.Error(got)
	}
	// What is quiet for as long as the graphs are leaves the screen.
	for range history {
		w.next(anew)
	}
	if len(w.domains) != 0 {
		t.Errorf("still %d domains", len(w.domains))
	}
}

func TestTopFitsTheScreen(t *testing.T) {
	var w watch
	var d []queue.DomainTraffic
	for i := range 50 {
		d = append(d, queue.DomainTraffic{Domain: strings.Repeat("x", i+1) + "\x1b[2J.example", Out: int64(100 - i)})
	}
	w.next(traffic(0))
	w.next(traffic(10, d...))
	for _, rows := range []int{1, 10, 24} {
		screen := string(w.appendScreen(nil, topNow, 2*time.Second, rows, 60, blocksOf(func(string) string { return "C" })))
		lines := strings.Split(strings.TrimSuffix(screen, "\x1b[J"), "\r\n")
		if len(lines) > max(rows, 8) {
			t.Errorf("%d lines for %d rows", len(lines), rows)
		}
		for _, l := range lines {
			if l = strings.TrimSuffix(strings.TrimPrefix(l, "\x1b[H"), "\x1b[K"); len(l) > 60 || strings.Contains(l, "\x1b") {
				t.Errorf("%q", l)
			}
		}
	}
	if got := graph([]int64{0, 1, 50, 100}, []rune(" .:#")); got != " .:#" {
		t.Errorf("graph: %q", got)
	}
}
