package resolver

import (
	"context"
	"encoding/binary"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// FuzzReply lets a server answer with any bytes behind a true id and question: an error or usable records, no panic, no waiting beyond the timeout.
func FuzzReply(f *testing.F) {
	for _, rrs := range [][]string{
		{"x.test. 60 IN MX 10 mx.test."}, {"x.test. 60 IN CNAME x.test."}, {"x.test. 60 IN CNAME y.test.", "y.test. 60 IN MX 0 ."}, {"x.test. 60 IN A 192.0.2.1"},
	} {
		m := new(dns.Msg)
		m.SetQuestion("x.test.", dns.TypeMX)
		m.Response = true
		for _, s := range rrs {
			rr, err := dns.NewRR(s)
			if err != nil {
				f.Fatal(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		const question = 12 + len("\x01x\x04test\x00") + 4
		f.Add(b[2:12], b[question:])
	}
	f.Add([]byte{0x82, 0, 0, 1, 0, 0, 0, 0, 0, 0}, []byte{}) // truncated
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { pc.Close() })
	var mu sync.Mutex
	var head, tail []byte
	go func() {
		buf := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			var q dns.Msg
			if q.Unpack(buf[:n]) != nil || len(q.Question) != 1 {
				continue
			}
			end := 12 + len(q.Question[0].Name) + 1 + 4
			mu.Lock()
			out := binary.BigEndian.AppendUint16(nil, q.Id)
			out = append(append(append(out, head...), buf[12:end]...), tail...)
			mu.Unlock()
			pc.WriteTo(out, from)
		}
	}()
	f.Fuzz(func(t *testing.T, h, rest []byte) {
		if len(h) != 10 || len(rest) > 1000 {
			return
		}
		mu.Lock()
		head, tail = h, rest
		mu.Unlock()
		r, err := New(Options{Servers: []string{pc.LocalAddr().String()}, Timeout: 20 * time.Millisecond, Attempts: 1})
		if err != nil {
			t.Fatal(err)
		}
		mxs, err := r.MX(context.Background(), "x.test")
		if (err == nil) != (len(mxs) > 0) {
			t.Fatal(mxs, err)
		}
		for _, mx := range mxs {
			if a, err := ToASCII(mx.Host); err != nil || a != mx.Host {
				t.Fatalf("host %q", mx.Host)
			}
		}
	})
}
