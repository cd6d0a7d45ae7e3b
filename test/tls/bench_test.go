package tls

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// BenchmarkHandshake is full handshakes of real smtpd, four clients at once, on the listener that begins with TLS:
// with the key in smtpd and in keyd, ECDSA P-256 and RSA 2048. What the clients cost is part of handshakes/s and the same in
// all; server-us is the processor time of smtpd and keyd for one, which other load on the machine changes little.
func BenchmarkHandshake(b *testing.B) {
	for _, keys := range []string{"self", "keyd"} {
		s := start(b, keys == "keyd", "smtpd_session_limit 5000\nlog stderr\n")
		for _, x := range []struct {
			name string
			conf *tls.Config
		}{
			{"ECDSA", &tls.Config{InsecureSkipVerify: true, SessionTicketsDisabled: true}},
			{"RSA", &tls.Config{InsecureSkipVerify: true, SessionTicketsDisabled: true, MaxVersion: tls.VersionTLS12,
				CipherSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}},
		} {
			b.Run(keys+"/"+x.name, func(b *testing.B) {
				work := make(chan struct{})
				var all sync.WaitGroup
				for range 4 {
					all.Go(func() {
						for range work {
							nc, err := net.Dial("tcp", s.submissions)
							if err != nil {
								b.Error(err)
								continue
							}
							if err := handshake(nc, x.conf); err != nil {
								b.Error(err)
							}
							nc.Close()
						}
					})
				}
				start, cpu := time.Now(), s.cpu()
				for b.Loop() {
					work <- struct{}{}
				}
				close(work)
				all.Wait()
				b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "handshakes/s")
				b.ReportMetric(float64((s.cpu()-cpu).Microseconds())/float64(b.N), "server-us")
			})
		}
	}
}

// cpu is the processor time of smtpd and keyd so far.
func (s *system) cpu() time.Duration {
	var sum time.Duration
	for _, name := range []string{"smtpd", "keyd"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.Pid(name)))
		if err != nil {
			continue // keyd does not run
		}
		// proc_pid_stat(5): fields 14 and 15 are utime and stime, in ticks of 10 ms; the name in field 2 has no space.
		f := strings.Fields(string(b))
		for _, n := range f[13:15] {
			ticks, _ := strconv.Atoi(n)
			sum += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return sum
}
