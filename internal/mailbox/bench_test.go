package mailbox

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"
)

// manyMessages makes a maildir of n messages, or of $MAILBOX_MESSAGES.
func manyMessages(b *testing.B, n int) *box {
	if s := os.Getenv("MAILBOX_MESSAGES"); s != "" {
		n, _ = strconv.Atoi(s)
	}
	x := newBox(b)
	for i := range n {
		name := fmt.Sprintf("%d.Q0h2mc9x4rvk3t%06dX6b1f0c3a9d42.mx.example.org,S=3120,W=3210:2,S", 1764000000+i, i)
		if err := os.WriteFile(filepath.Join(x.dir, "cur", name), []byte("x"), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	old := time.Now().Add(-time.Hour)
	os.Chtimes(filepath.Join(x.dir, "cur"), old, old)
	os.Chtimes(filepath.Join(x.dir, "new"), old, old)
	return x
}

func BenchmarkOpen(b *testing.B) {
	x := manyMessages(b, 20_000)
	b.Run("nothing", func(b *testing.B) {
		for b.Loop() {
			os.Remove(filepath.Join(x.dir, indexName))
			os.Remove(filepath.Join(x.dir, listName))
			x.open().Close()
		}
	})
	b.Run("list", func(b *testing.B) {
		for b.Loop() {
			os.Remove(filepath.Join(x.dir, indexName))
			x.open().Close()
		}
	})
	b.Run("warm", func(b *testing.B) {
		x.open().Close()
		for b.Loop() {
			x.open().Close()
		}
	})
	b.Run("unchanged", func(b *testing.B) {
		m := x.open()
		m.Sync()
		for b.Loop() {
			m.Sync()
		}
		b.StopTimer()
		var before, after runtime.MemStats
		m.Close()
		m = nil
		runtime.GC()
		runtime.ReadMemStats(&before)
		m = x.open()
		runtime.GC()
		runtime.ReadMemStats(&after)
		_, _, _, n := m.Status()
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "B/message")
	})
}
