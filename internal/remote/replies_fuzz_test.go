package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
)

// FuzzReplies feeds any bytes as all that a peer ever says. Whatever they are, each recipient has an outcome that stands by the rules of check,
// and nobody is done unless a line of the input begins with 2.
func FuzzReplies(f *testing.F) {
	for _, s := range []string{
		"220 x\r\n250-x\r\n250 PIPELINING\r\n250 a\r\n250 b\r\n550 c\r\n354 go\r\n250 done\r\n",
		"220 x\r\n250 x\r\n250 a\r\n250 b\r\n452 c\r\n354 go\r\n421 done\r\n", "220-x\r\n220 x\r\n500 x\r\n250 x\r\n", "554 no\r\n", "\r\n", "220 x\n",
		"220 x\r\n250-x\r\n250-CHUNKING\r\n250-XQID\r\n250 PIPELINING\r\n250 a\r\n250 b\r\n250 c\r\n250 d\r\n450 e\r\n",
		"220 x\r\n250-x\r\n250 STARTTLS\r\n220 go\r\n\x16\x03\x01\x00\x01\x00",
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, script []byte, lmtp bool) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Skip(err)
		}
		defer l.Close()
		go func() {
			for {
				nc, err := l.Accept()
				if err != nil {
					return
				}
				nc.Write(script)
				nc.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, nc)
				nc.Close()
			}
		}()
		conn, err := Dial(context.Background(), Endpoint{Addr: l.Addr().(*net.TCPAddr).AddrPort(), LMTP: lmtp}, options(func(o *Options) { o.PreferChunking = lmtp }))
		if err != nil {
			if e, ok := errors.AsType[*Error](err); !ok || e.Reply == nil || !e.Peer && !e.Reply.Temporary() {
				t.Fatalf("%v", err)
			}
			return
		}
		defer conn.Close()
		for range 3 {
			tr := text(hello, "a@x.test", "b@x.test")
			out, err := conn.Send(context.Background(), tr)
			check(t, tr, out)
			for _, o := range out {
				if o.Kind == Done && bytes.Count(script, []byte("\n")) < 5 {
					t.Fatalf("done after %q", script)
				}
			}
			if err != nil {
				return
			}
		}
	})
}
