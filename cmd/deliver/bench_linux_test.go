package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// What the second hop costs: one process that is the user, against front and worker. On tmpfs, where a sync costs nothing, it is all
// that there is to see; TMPDIR names another file system.
func BenchmarkSplit(b *testing.B) {
	if os.Getenv("TMPDIR") == "" {
		if _, err := os.Stat("/dev/shm"); err == nil {
			b.Setenv("TMPDIR", "/dev/shm")
		}
	}
	for _, split := range []bool{false, true} {
		for _, sessions := range []int{1, 8} {
			for _, size := range []int{2 << 10, 1 << 20} {
				b.Run(fmt.Sprintf("split=%v/sessions=%d/size=%d", split, sessions, size), func(b *testing.B) {
					const users = 4
					r := newRealm(b, users)
					if !split {
						text, _ := os.ReadFile(r.conf)
						r.file("postamt.conf", strings.Replace(string(text), "login_user 60000:60000", "login_user", 1))
						var lines strings.Builder // without ids: root's, who delivers
						for i := 1; i <= users; i++ {
							fmt.Fprintf(&lines, "u%d:::::%s/home/u%d\n", i, r.dir, i)
							os.Chown(fmt.Sprintf("%s/home/u%d", r.dir, i), 0, 0)
						}
						r.file("users", lines.String())
					}
					r.run()
					body := strings.Repeat("The quick brown fox jumps over the lazy dog, and so on to 62.\r\n", size/63)
					clients := make([]*client, sessions)
					for i := range clients {
						clients[i] = r.client()
						if replies, err := clients[i].send(fmt.Sprint("w", i), "", body, fmt.Sprint("u", i%users+1)); err != nil || replies[0][0] != '2' {
							b.Fatal(replies, err)
						}
					}
					var next atomic.Int64
					var wg sync.WaitGroup
					b.ResetTimer()
					for i, c := range clients {
						wg.Go(func() {
							for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
								if replies, err := c.send(fmt.Sprint("m", n), "", body, fmt.Sprint("u", (int(n)+i)%users+1)); err != nil || replies[0][0] != '2' {
									b.Error(replies, err)
									return
								}
							}
						})
					}
					wg.Wait()
					b.StopTimer()
					b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
					r.end()
				})
			}
		}
	}
}
