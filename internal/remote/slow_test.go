package remote

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"postamt/internal/remote/smtptest"
)

// R20: a peer that takes a byte now and then.
func TestR20_Tarpit(t *testing.T) {
	big := strings.Repeat("0123456789012345678901234567890123456789012345678901234567890123456789012345\r\n", 200_000)
	stall := func(drip int) Endpoint {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				nc, err := l.Accept()
				if err != nil {
					return
				}
				t.Cleanup(func() { nc.Close() })
				nc.(*net.TCPConn).SetReadBuffer(4096)
				go func() {
					io.WriteString(nc, "220 x\r\n250 x\r\n250 mail\r\n250 rcpt\r\n354 go\r\n")
					buf := make([]byte, max(drip, 1))
					for drip > 0 {
						if _, err := io.ReadFull(nc, buf); err != nil {
							return
						}
						time.Sleep(5 * time.Millisecond)
					}
				}()
			}
		}()
		return Endpoint{Name: "slow.test", Addr: l.Addr().(*net.TCPAddr).AddrPort()}
	}
	for _, c := range []struct {
		name string
		drip int
		o    func(*Options)
		text string
	}{
		{"block", 0, func(o *Options) { o.Timeouts.Block = 200 * time.Millisecond }, "timed out"},
		{"rate", 4096, func(o *Options) { o.MinRate, o.MinRateGrace = 100<<20, 100*time.Millisecond }, "too slowly"},
		{"total", 4096, func(o *Options) { o.Timeouts.Total = 300 * time.Millisecond }, "timed out"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := Dial(context.Background(), stall(c.drip), options(c.o))
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			tr := text(big, "a@x.test")
			tr.Body = "7BIT"
			out, err := conn.Send(context.Background(), tr)
			check(t, tr, out)
			if err == nil || show(out) != "deferred/data/451/local" || !strings.Contains(out[0].Reply.Error(), c.text) {
				t.Error(show(out), out[0].Reply, err)
			}
			if took := time.Since(start); took > 10*time.Second {
				t.Error("took", took)
			}
		})
	}
}

// R20: a reply that drips is not a series of short waits.
func TestR20_DrippingReply(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		for err == nil {
			_, err = io.WriteString(nc, "220-x\r\n")
			time.Sleep(20 * time.Millisecond)
		}
	}()
	start := time.Now()
	_, err = Dial(context.Background(), Endpoint{Addr: l.Addr().(*net.TCPAddr).AddrPort()}, options(func(o *Options) { o.Timeouts.Greeting = 200 * time.Millisecond }))
	if err == nil || !strings.Contains(err.Error(), "timed out") || time.Since(start) > 1500*time.Millisecond {
		t.Error(err, time.Since(start))
	}
}

// R21: nobody there, and a context that ends.
func TestR21_Unreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ep := Endpoint{Name: "gone.test", Addr: l.Addr().(*net.TCPAddr).AddrPort()}
	l.Close()
	_, err = Dial(context.Background(), ep, options())
	if e, ok := errors.AsType[*Error](err); !ok || e.Peer || e.Reply.Error() != "451 4.4.1 connect to "+ep.String()+": connection refused" {
		t.Error(err)
	}
	s := smtptest.New(t, smtptest.Config{Offer: []string{}, Reply: func(_ int, verb, _ string) string {
		if verb == "MAIL" {
			return smtptest.Silence
		}
		return ""
	}})
	conn, err := Dial(context.Background(), endpoint(s, smtptest.Config{}), options())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	tr := text(hello, "a@x.test")
	out, err := conn.Send(ctx, tr)
	check(t, tr, out)
	if err == nil || show(out) != "deferred/mail/451/local" {
		t.Error(show(out), err)
	}
	if _, err := Dial(ctx, ep, options()); err == nil || !strings.Contains(err.Error(), "timed out") {
		t.Error(err)
	}
}
