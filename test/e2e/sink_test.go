package e2e

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
)

// A sink is a server of other people's code, go-smtp, that keeps what it gets. It ends a message at CR LF . CR LF only.
type sink struct {
	addr string

	mu  sync.Mutex
	got []received
}

type received struct {
	from string
	to   []string
	data []byte
}

// sinkAt starts a sink on a free port of a loopback address.
func sinkAt(t *testing.T, host string) *sink {
	t.Helper()
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	k := &sink{addr: l.Addr().String()}
	s := smtp.NewServer(k)
	s.Domain = "sink.test"
	s.MaxLineLength = 1 << 20 // lines of a message too; the limit of RFC 5321 is not what is tested
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(l)
	}()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return k
}

func (k *sink) port() string { return k.addr[strings.LastIndexByte(k.addr, ':')+1:] }

// messages returns what came so far.
func (k *sink) messages() []received {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]received(nil), k.got...)
}

// await returns the messages as soon as there are n, and fails if there are more.
func (k *sink) await(t *testing.T, n int) []received {
	t.Helper()
	await(t, fmt.Sprintf("%d messages at the sink", n), func() bool { return len(k.messages()) >= n })
	got := k.messages()
	if len(got) != n {
		t.Errorf("the sink has %d messages, want %d", len(got), n)
	}
	return got
}

// NewSession is go-smtp's Backend.
func (k *sink) NewSession(*smtp.Conn) (smtp.Session, error) { return &sinkSession{sink: k}, nil }

type sinkSession struct {
	sink *sink
	now  received
}

func (s *sinkSession) Reset()        { s.now = received{} }
func (s *sinkSession) Logout() error { return nil }

func (s *sinkSession) Mail(from string, _ *smtp.MailOptions) error {
	s.now = received{from: from}
	return nil
}

func (s *sinkSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.now.to = append(s.now.to, to)
	return nil
}

func (s *sinkSession) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.now.data = data
	s.sink.mu.Lock()
	s.sink.got = append(s.sink.got, s.now)
	s.sink.mu.Unlock()
	return nil
}
