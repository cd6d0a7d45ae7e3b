package maildir

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// benchText is a message of 4 KiB.
var benchText = []byte("Subject: benchmark\r\n\r\n" + strings.Repeat("The quick brown fox jumps over the lazy dog, and so on and so forth.\r\n", 58))

// BenchmarkDeliver: messages for one recipient each, to one maildir or many.
// The temporary directory's file system is what is measured.
func BenchmarkDeliver(b *testing.B) {
	for _, boxes := range []int{1, 100} {
		for _, workers := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("%d-maildirs/%d-at-once", boxes, workers), func(b *testing.B) {
				dir := b.TempDir()
				var copies []Copy
				for i := range boxes {
					home := fmt.Sprintf("%s/u%d", dir, i)
					prepareMaildirs(b, home)
					copies = append(copies, copyFor(target(home, fmt.Sprint("u", i))))
				}
				s := New(Options{Host: "h", MaxOpen: 200})
				defer s.Close()
				var next atomic.Int64
				var wg sync.WaitGroup
				b.ReportAllocs()
				b.ResetTimer()
				for range workers {
					wg.Go(func() {
						for i := int(next.Add(1)); i <= b.N; i = int(next.Add(1)) {
							d := s.Begin(Message{ID: fmt.Sprint("id", i), Arrived: arrived}, copies[i%boxes:i%boxes+1])
							d.Write(benchText)
							if r := d.Commit(); r[0].Err != nil {
								b.Error(r[0].Err)
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			})
		}
	}
}

// BenchmarkThousandRecipients: one message to 1,000 mailboxes.
func BenchmarkThousandRecipients(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir := b.TempDir()
			var copies []Copy
			for i := range n {
				home := fmt.Sprintf("%s/u%d", dir, i)
				prepareMaildirs(b, home)
				copies = append(copies, copyFor(target(home, fmt.Sprint("u", i))))
			}
			s := New(Options{Host: "h", MaxOpen: 1000})
			defer s.Close()
			b.ResetTimer()
			for i := range b.N {
				d := s.Begin(Message{ID: fmt.Sprint("id", i), Arrived: arrived}, copies)
				d.Write(benchText)
				for _, r := range d.Commit() {
					if r.Err != nil {
						b.Fatal(r.Err)
					}
				}
			}
		})
	}
}

// BenchmarkLarge: 10 MiB for one recipient.
func BenchmarkLarge(b *testing.B) {
	home := b.TempDir()
	prepareMaildirs(b, home)
	s := New(Options{Host: "h"})
	defer s.Close()
	to := []Copy{copyFor(target(home, "u"))}
	b.SetBytes(10 << 20)
	for i := range b.N {
		d := s.Begin(Message{ID: fmt.Sprint("id", i), Arrived: arrived}, to)
		for n := 0; n < 10<<20; n += len(benchText) {
			d.Write(benchText)
		}
		if r := d.Commit(); r[0].Err != nil {
			b.Fatal(r[0].Err)
		}
	}
}

func BenchmarkText(b *testing.B) {
	dst := make([]byte, blockSize)
	b.SetBytes(int64(len(benchText)))
	for range b.N {
		var t text
		t.convert(dst, benchText)
	}
}
