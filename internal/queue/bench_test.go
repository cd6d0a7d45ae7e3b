package queue

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkAccept is the price of a 250: one durable message of 4 KiB, from as
// many writers at once.
func BenchmarkAccept(b *testing.B) {
	for _, writers := range []int{1, 16} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			q := newQueue(b)
			body := bytes.Repeat([]byte("0123456789abcde\n"), 256)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			var n atomic.Int64
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					for n.Add(1) <= int64(b.N) {
						e := envelope()
						w, err := q.Create(e)
						if err == nil {
							if _, err = w.Write(body); err == nil {
								err = w.Commit()
							}
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			// The check at the end is not what is measured, and long.
			q.Scan(func(e Entry) bool { q.ops.Unlink(q.dir, e.ID.path()); return true })
		})
	}
}

func BenchmarkAccept10MiB(b *testing.B) {
	q := newQueue(b)
	block := bytes.Repeat([]byte("0123456789abcde\n"), 4096)
	b.SetBytes(10 << 20)
	for b.Loop() {
		w, err := q.Create(envelope())
		if err != nil {
			b.Fatal(err)
		}
		for range 160 {
			w.Write(block)
		}
		if err := w.Commit(); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if m, err := q.Message(w.ID()); err == nil {
			m.Remove(nil)
			m.Close()
		}
		b.StartTimer()
	}
}

// BenchmarkMessage is opening, verifying and reading one.
func BenchmarkMessage(b *testing.B) {
	for _, size := range []int{4 << 10, 10 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			q := newQueue(b)
			e := envelope()
			put(b, q, e, string(make([]byte, size)))
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				m, err := q.Message(e.ID)
				if err != nil {
					b.Fatal(err)
				}
				io.Copy(io.Discard, m.Reader())
				m.Close()
			}
		})
	}
}

// BenchmarkScan is the time for each entry of a queue of 20,000.
func BenchmarkScan(b *testing.B) {
	q := newQueue(b)
	const n = 20_000
	e := envelope()
	var h header
	buf, err := h.append(nil, e)
	if err != nil {
		b.Fatal(err)
	}
	for range n {
		e := envelope()
		plant(b, q, e.ID, buf, liveMode)
	}
	b.ReportAllocs()
	for b.Loop() {
		found := 0
		if err := q.Scan(func(Entry) bool { found++; return true }); err != nil || found != n {
			b.Fatal(found, err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/entry")
	q.Scan(func(e Entry) bool { q.ops.Unlink(q.dir, e.ID.path()); return true })
}
