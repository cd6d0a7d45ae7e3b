package lmtpd

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"postamt/internal/maildir"
)

// BenchmarkSession: 4 KiB messages through a unix socket into maildirs, the
// client in the same process, each transaction sent at once as queued does.
func BenchmarkSession(b *testing.B) {
	for _, c := range []struct{ sessions, users, rcpts int }{{1, 1, 1}, {16, 1, 1}, {16, 100, 1}, {32, 100, 1}, {10, 1000, 100}, {1, 1000, 1000}} {
		b.Run(fmt.Sprintf("%d-sessions/%d-users/%d-rcpts", c.sessions, c.users, c.rcpts), func(b *testing.B) {
			h := newHost(b, maildir.Options{MaxOpen: 1000}, trusted, func(h *host) {
				var users strings.Builder
				for i := range c.users {
					fmt.Fprintf(&users, "u%d\n", i)
				}
				h.server.Mailboxes = accountsIn(b, h.dir, users.String())
			})
			body := "Subject: benchmark\r\n\r\n" + strings.Repeat("The quick brown fox jumps over the lazy dog, and so on and so forth.\r\n", 58) + ".\r\n"
			var next atomic.Int64
			var wg sync.WaitGroup
			work := func(n int64) {
				nc, err := net.Dial("unix", h.socket)
				if err != nil {
					b.Error(err)
					return
				}
				defer nc.Close()
				r := bufio.NewReader(nc)
				read := func(last string) {
					for {
						line, err := r.ReadString('\n')
						if err != nil || line[0] != '2' && line[0] != '3' {
							b.Error(line, err)
							return
						}
						if strings.HasPrefix(line, last) {
							return
						}
					}
				}
				read("220")
				io.WriteString(nc, "LHLO c.example\r\n")
				read("250 ")
				var head strings.Builder
				for i := next.Add(1); i <= n; i = next.Add(1) {
					head.Reset()
					fmt.Fprintf(&head, "MAIL FROM:<a@b.example> XQID=b%dx%d XARRIVED=1764000000000000\r\n", b.N, i)
					for k := range c.rcpts {
						fmt.Fprintf(&head, "RCPT TO:<u%d@example.org>\r\n", (int(i)*c.rcpts+k)%c.users)
					}
					head.WriteString("DATA\r\n")
					io.WriteString(nc, head.String())
					read("354")
					io.WriteString(nc, body)
					for range c.rcpts {
						read("250 2.0.0")
					}
				}
			}
			work(int64((c.users + c.rcpts - 1) / c.rcpts)) // the maildirs are there
			next.Store(0)
			b.ReportAllocs()
			b.ResetTimer()
			for range c.sessions {
				wg.Go(func() { work(int64(b.N)) })
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}
