package mailbox

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postamt/internal/durable"
	"postamt/internal/facts"
)

// realistic is a message as people and programs send them: threads, lists, alternatives, attachments.
func realistic(r *rand.Rand, i int) []byte {
	var b bytes.Buffer
	person := func() string {
		k := r.IntN(500)
		return fmt.Sprintf("%s <%s.%d@%s.example.%s>", []string{"Alice Meyer", "\"Smith, Bob\"", "=?utf-8?q?J=C3=BCrgen_Gro=C3=9F?=", "carol", "Dora van Dijk"}[k%5], []string{"alice", "bob", "juergen", "carol", "dora"}[k%5], k, []string{"mail", "corp", "lists"}[k%3], []string{"org", "com"}[k%2])
	}
	root := i - r.IntN(min(i+1, 8))
	date := time.Unix(1700000000+int64(i)*600, 0).UTC().Format("Mon, 2 Jan 2006 15:04:05 -0700")
	fmt.Fprintf(&b, "Return-Path: <bounce+%d@lists.example.org>\nDelivered-To: user@example.net\n", i)
	for h := range 3 {
		fmt.Fprintf(&b, "Received: from relay%d.example.org (relay%d.example.org [192.0.2.%d])\n\tby mx.example.net (postamt) with ESMTPS id 0h2mc9x4rvk3t%07d\n\tfor <user@example.net>; %s\n", h, h, h, i, date)
	}
	fmt.Fprintf(&b, "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=2024;\n\th=from:to:subject:date:message-id; bh=%s;\n\tb=%s\n", strings.Repeat("Ab3+", 11), strings.Repeat("x9/Q", 86))
	fmt.Fprintf(&b, "Date: %s\nFrom: %s\nTo: %s", date, person(), person())
	for range r.IntN(3) {
		fmt.Fprintf(&b, ",\n\t%s", person())
	}
	if r.IntN(4) == 0 {
		fmt.Fprintf(&b, "\nCc: %s", person())
	}
	re := ""
	if root != i {
		re = "Re: "
	}
	fmt.Fprintf(&b, "\nSubject: %s%s number %d\nMessage-ID: <%d.%x@mail.example.org>\n", re, []string{"Meeting on Thursday", "[announce] Release", "=?utf-8?q?Gr=C3=BC=C3=9Fe_aus?= Berlin"}[root%3], root, i, i*7919)
	if root != i {
		fmt.Fprintf(&b, "In-Reply-To: <%d.%x@mail.example.org>\nReferences: <%d.%x@mail.example.org>\n", root, root*7919, root, root*7919)
	}
	if r.IntN(3) == 0 {
		b.WriteString("List-Id: Announcements <announce.lists.example.org>\nList-Unsubscribe: <https://lists.example.org/unsubscribe/announce>\nPrecedence: list\n")
	}
	b.WriteString("MIME-Version: 1.0\n")
	text := func(n int) {
		for range n {
			b.WriteString("The quick brown fox jumps over the lazy dog, and the dog does not mind.\n")
		}
	}
	switch k := r.IntN(10); {
	case k < 4:
		b.WriteString("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n")
		text(5 + r.IntN(30))
	default:
		if k == 9 {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=\"mixed-%d\"\n\n--mixed-%d\n", i, i)
		}
		fmt.Fprintf(&b, "Content-Type: multipart/alternative; boundary=\"=_alt%d\"\n\n--=_alt%d\nContent-Type: text/plain; charset=\"UTF-8\"\nContent-Transfer-Encoding: quoted-printable\n\n", i, i)
		text(5 + r.IntN(20))
		fmt.Fprintf(&b, "--=_alt%d\nContent-Type: text/html; charset=\"UTF-8\"\nContent-Transfer-Encoding: quoted-printable\n\n", i)
		text(10 + r.IntN(30))
		fmt.Fprintf(&b, "--=_alt%d--\n", i)
		if k == 9 {
			fmt.Fprintf(&b, "--mixed-%d\nContent-Type: application/pdf; name=\"report-%d.pdf\"\nContent-Disposition: attachment; filename=\"report-%d.pdf\"\nContent-Transfer-Encoding: base64\n\n", i, i, i)
			for range 100 {
				b.WriteString(strings.Repeat("QUJD", 19) + "\n")
			}
			fmt.Fprintf(&b, "--mixed-%d--\n", i)
		}
	}
	return b.Bytes()
}

// BenchmarkFacts is the facts of 100,000 messages, or $MAILBOX_MESSAGES, in /dev/shm if it is there: cold, from the files; warm, from the cache, with an eye on each.
func BenchmarkFacts(b *testing.B) {
	n := 100_000
	if s := os.Getenv("MAILBOX_MESSAGES"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	parent := "/dev/shm"
	if s := os.Getenv("MAILBOX_DIR"); s != "" {
		parent = s
	}
	dir, err := os.MkdirTemp(parent, "facts")
	if err != nil {
		dir, err = b.TempDir(), nil
	}
	defer os.RemoveAll(dir)
	for _, d := range []string{"cur", "new", "tmp"} {
		must(b, os.Mkdir(filepath.Join(dir, d), 0o700))
	}
	r := rand.New(rand.NewPCG(1, 2))
	octets := 0
	for i := range n {
		text := realistic(r, i)
		octets += len(text)
		must(b, os.WriteFile(filepath.Join(dir, "cur", fmt.Sprintf("%d.Q0h2mc9x4rvk3t%06dX6b1f0c3a9d42.mx.example.org,S=%d:2,S", 1700000000+i*600, i, len(text))), text, 0o600))
	}
	old := time.Now().Add(-time.Hour)
	for _, d := range []string{"cur", "new"} {
		must(b, os.Chtimes(filepath.Join(dir, d), old, old))
	}
	root, err := durable.OpenDir(dir)
	must(b, err)
	defer root.Close()
	var d facts.Describer
	open := func(b *testing.B) *Mailbox {
		m, err := Open(root, "", Options{Describe: d.Describe, Form: facts.Form})
		must(b, err)
		return m
	}
	open(b).Close()
	all := func(b *testing.B, m *Mailbox) (octets int) {
		seen := 0
		must(b, m.Facts(b.Context(), 0, m.UIDs(), func(uid uint32, f []byte) error {
			seen++
			octets += len(f)
			_ = facts.Facts(f).Envelope().Subject()
			return nil
		}))
		if seen != n {
			b.Fatal(seen)
		}
		return octets
	}
	each := func(b *testing.B) func() { // processor time too: it is the same on a machine that has other things to do
		var before, after unix.Rusage
		unix.Getrusage(unix.RUSAGE_SELF, &before)
		return func() {
			unix.Getrusage(unix.RUSAGE_SELF, &after)
			cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/message")
			b.ReportMetric(float64(cpu)/float64(b.N)/float64(n), "cpu-ns/message")
		}
	}
	b.Run("cold", func(b *testing.B) {
		defer each(b)()
		for b.Loop() {
			b.StopTimer()
			os.Remove(filepath.Join(dir, cacheName))
			m := open(b)
			b.StartTimer()
			all(b, m)
			b.StopTimer()
			m.Close()
			b.StartTimer()
		}
		b.ReportMetric(float64(octets)/float64(n), "B/file")
	})
	b.Run("warm", func(b *testing.B) {
		m := open(b)
		defer m.Close()
		octets := all(b, m)
		defer each(b)()
		for b.Loop() {
			all(b, m)
		}
		b.ReportMetric(float64(octets)/float64(n), "B/facts")
	})
	b.Run("adopted", func(b *testing.B) { // the index is gone, the cache is not
		defer each(b)()
		for b.Loop() {
			b.StopTimer()
			os.Remove(filepath.Join(dir, indexName))
			m := open(b)
			b.StartTimer()
			all(b, m)
			b.StopTimer()
			m.Close()
			b.StartTimer()
		}
	})
	b.Run("one", func(b *testing.B) {
		m := open(b)
		defer m.Close()
		uid := []uint32{uint32(n / 2)}
		for b.Loop() {
			must(b, m.Facts(b.Context(), 0, uid, func(uint32, []byte) error { return nil }))
		}
	})
	b.Run("resident", func(b *testing.B) {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		m := open(b)
		defer m.Close()
		all(b, m)
		runtime.GC()
		runtime.ReadMemStats(&after)
		for b.Loop() {
		}
		b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/float64(n), "B/message")
	})
}
