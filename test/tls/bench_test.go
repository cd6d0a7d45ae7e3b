package tls

import (
	"crypto/tls"
	"net"
	"sync"
	"testing"
	"time"
)

// BenchmarkHandshake is full handshakes of real smtpd, four clients at once, on the listener that begins with TLS:
// with the key in smtpd and in keyd, ECDSA P-256 and RSA 2048. What the clients themselves cost is the same in all.
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
				start := time.Now()
				for b.Loop() {
					work <- struct{}{}
				}
				close(work)
				all.Wait()
				b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "handshakes/s")
			})
		}
	}
}
