package tls

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// hello is the record with the ClientHello that Go's client would send.
func hello(t testing.TB, conf *tls.Config) []byte {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go tls.Client(a, conf).Handshake()
	var head [5]byte
	if _, err := io.ReadFull(b, head[:]); err != nil {
		t.Fatal(err)
	}
	rest := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(b, rest); err != nil {
		t.Fatal(err)
	}
	return append(head[:], rest...)
}

// records cuts a handshake message into records of at most n octets.
func records(message []byte, n int) []byte {
	var out []byte
	for len(message) > 0 {
		k := min(n, len(message))
		out = append(out, 22, 3, 1, byte(k>>8), byte(k))
		out = append(out, message[:k]...)
		message = message[k:]
	}
	return out
}

// longName is a ClientHello with one name of n octets in place of conf's.
func longName(h []byte, name string, n int) []byte {
	m := bytes.Clone(h[5:])
	i := bytes.Index(m, []byte(name))
	long := bytes.Repeat([]byte("a"), n)
	m = append(m[:i:i], append(long, m[i+len(name):]...)...)
	grow := n - len(name)
	add16 := func(at int) { binary.BigEndian.PutUint16(m[at:], uint16(int(binary.BigEndian.Uint16(m[at:]))+grow)) }
	add16(i - 2)      // the name
	add16(i - 5)      // the list
	add16(i - 7)      // the extension
	sid := 4 + 2 + 32 // message header, version, random
	p := sid + 1 + int(m[sid])
	p += 2 + int(binary.BigEndian.Uint16(m[p:]))
	p += 1 + int(m[p])
	add16(p) // all extensions
	size := len(m) - 4
	m[1], m[2], m[3] = byte(size>>16), byte(size>>8), byte(size)
	return m
}

// say writes in to a connection that begins with TLS, and reads until the server closes it. A TLS alert comes back as its
// number, anything else as -1.
func say(addr string, in []byte, bytewise bool) (alert int, more []byte, err error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return -1, nil, err
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	go func() {
		if !bytewise {
			nc.Write(in)
			return
		}
		for i := range in {
			if _, err := nc.Write(in[i : i+1]); err != nil {
				return
			}
		}
	}()
	var head [7]byte
	if _, err := io.ReadFull(nc, head[:]); err != nil {
		return -1, nil, err
	}
	if head[0] == 21 {
		return int(head[6]), nil, nil
	}
	return -1, head[:], nil
}

// T04, T05: what is no ClientHello, or too much of one, ends the connection, soon, and costs no memory.
func TestT04_Hellos(t *testing.T) {
	t.Parallel()
	s := start(t, false, "").readers()
	for program, addr := range map[string]string{"smtpd": s.submissions, "pop3d": s.pop3s, "imapd": s.imaps} {
		t.Run(program, func(t *testing.T) { s.hellos(t, program, addr) })
	}
}

func (s *system) hellos(t *testing.T, program, addr string) {
	h := hello(t, &tls.Config{ServerName: "mx.example.test"})
	message := h[5:]
	if _, more, err := say(addr, h, false); err != nil || len(more) == 0 || more[0] != 22 {
		t.Fatalf("a good one: %x %v", more, err)
	}
	// Fragmented, in records of one octet and in segments of one octet: read all the same.
	if _, more, err := say(addr, records(message, 1), false); err != nil || len(more) == 0 || more[0] != 22 {
		t.Errorf("records of one octet: %x %v", more, err)
	}
	if _, more, err := say(addr, h, true); err != nil || len(more) == 0 || more[0] != 22 {
		t.Errorf("segments of one octet: %x %v", more, err)
	}
	// A name of 30,000 octets fits the message; it is nobody's, and gets the first certificate.
	if _, more, err := say(addr, records(longName(h, "mx.example.test", 30000), 16000), false); err != nil || len(more) == 0 || more[0] != 22 {
		t.Errorf("a name of 30,000 octets: %x %v", more, err)
	}
	huge := append([]byte{1, 0xff, 0xff, 0xff}, bytes.Repeat([]byte{0}, 16<<20-1)...)
	sslv2 := []byte{0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10, 1, 0, 0x80, 2, 0, 0x80, 3, 0, 0x80, 4, 0, 0x80, 5, 0, 0x80, 6, 0, 0x40, 7, 0, 0xc0}
	for what, in := range map[string][]byte{
		"a name of 64 kB":         records(longName(h, "mx.example.test", 65000), 16000),
		"16 MB":                   records(huge, 16384),
		"a record of 64 kB":       append([]byte{22, 3, 1, 0xff, 0xff}, make([]byte, 65535)...),
		"SSLv2":                   append(sslv2, make([]byte, 16)...),
		"HTTP":                    []byte("GET / HTTP/1.1\r\nHost: mx.example.test\r\n\r\n"),
		"SMTP":                    []byte("EHLO client.test\r\nQUIT\r\n"),
		"POP3":                    []byte("CAPA\r\nQUIT\r\n"),
		"IMAP":                    []byte("a CAPABILITY\r\nb LOGOUT\r\n"),
		"empty records":           bytes.Repeat([]byte{22, 3, 1, 0, 0}, 10000),
		"change_cipher_spec":      bytes.Repeat([]byte{20, 3, 3, 0, 1, 1}, 10000),
		"application data":        append([]byte{23, 3, 3, 0, 16}, make([]byte, 16)...),
		"a hello cut in itself":   records(append([]byte{1, 0, 0, 40}, message[4:44]...), 100),
		"zeros":                   make([]byte, 1<<20),
		"warnings without an end": bytes.Repeat([]byte{21, 3, 3, 0, 2, 1, 90}, 10000),
	} {
		start := time.Now()
		alert, more, err := say(addr, in, false)
		var ne net.Error
		if len(more) > 0 && more[0] == 22 || errors.As(err, &ne) && ne.Timeout() || time.Since(start) > 10*time.Second {
			t.Errorf("%s: alert %d, %x, %v after %v", what, alert, more, err, time.Since(start))
		}
	}
	if err := s.greeted(addr); err != nil {
		t.Error(err)
	}
	if kb := s.memory(program); kb > 100<<10 {
		t.Errorf("%s has %d kB", program, kb)
	}
}

// greeted is a good client of a listener that begins with TLS.
func (s *system) greeted(addr string) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	return handshake(nc, s.client("mx.example.test"))
}

// memory is the resident memory of a program, in kB.
func (s *system) memory(program string) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.Pid(program)))
	if err != nil {
		return 0
	}
	_, after, _ := strings.Cut(string(b), "VmRSS:")
	n, _ := strconv.Atoi(strings.Fields(after)[0])
	return n
}

// T04: thousands of handshakes that never end, silent or an octet a second. Others are served meanwhile; each ends in its
// 30 seconds; memory stays in bounds.
func TestT04_Unfinished(t *testing.T) {
	t.Parallel()
	s := start(t, false, "smtpd_session_limit 5000\npop3d_session_limit 5000\nimapd_session_limit 5000\n").readers()
	t.Run("both", func(t *testing.T) {
		for program, addr := range map[string]string{"smtpd": s.submissions, "pop3d": s.pop3s, "imapd": s.imaps} {
			t.Run(program, func(t *testing.T) { t.Parallel(); s.unfinished(t, program, addr) })
		}
	})
}

func (s *system) unfinished(t *testing.T, program, addr string) {
	const n = 2000
	h := hello(t, &tls.Config{ServerName: "mx.example.test"})
	begin := time.Now()
	var ended, early atomic.Int32
	var all sync.WaitGroup
	for i := range n {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		all.Go(func() {
			at := 0
			if i%2 == 0 {
				at = len(h) / 2
				nc.Write(h[:at])
			}
			buf := make([]byte, 1)
			for time.Since(begin) < 60*time.Second {
				if i%4 == 0 && at < len(h)-1 {
					nc.Write(h[at : at+1])
					at++
				}
				nc.SetReadDeadline(time.Now().Add(time.Second))
				_, err := nc.Read(buf)
				var ne net.Error
				if err != nil && !(errors.As(err, &ne) && ne.Timeout()) {
					if time.Since(begin) < 5*time.Second {
						early.Add(1)
					}
					ended.Add(1)
					return
				}
			}
		})
	}
	t.Logf("%d connections after %v, %s has %d kB", n, time.Since(begin), program, s.memory(program))
	for range 5 {
		start := time.Now()
		if err := s.greeted(addr); err != nil {
			t.Errorf("among them: %v", err)
		}
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("among them: %v", d)
		}
	}
	if kb := s.memory(program); kb > 200<<10 {
		t.Errorf("%s has %d kB", program, kb)
	}
	all.Wait()
	if e := ended.Load(); e != n || early.Load() > 0 {
		t.Errorf("%d of %d ended, %d of them in the first 5 s", e, n, early.Load())
	}
	if d := time.Since(begin); d > 50*time.Second {
		t.Errorf("it took %v", d)
	}
}

// T01, T02: commands in the segment of STARTTLS are not executed, before or after the handshake; nor is anything that
// arrives between the 220 and the ClientHello.
func TestT01_PlaintextBehindSTARTTLS(t *testing.T) {
	t.Parallel()
	s := start(t, true, "")
	for _, in := range []string{"STARTTLS\r\nMAIL FROM:<a@client.test>\r\n", "STARTTLS\r\nRSET\r\n", "STARTTLS\r\nEHLO x\r\nQUIT\r\n", "STARTTLS\r\nX"} {
		nc, r, err := dial(s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(nc, in)
		out, err := io.ReadAll(r)
		nc.Close()
		if !strings.HasPrefix(string(out), "501 5.5.4 ") || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%q: %q %v", in, out, err)
		}
	}
	nc, r, err := dial(s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	io.WriteString(nc, "STARTTLS\r\n")
	if l, err := reply(r); err != nil || !strings.HasPrefix(l, "220 ") {
		t.Fatal(l, err)
	}
	io.WriteString(nc, "RSET\r\nQUIT\r\n")
	if out, _ := io.ReadAll(r); bytes.Contains(out, []byte("250")) || bytes.Contains(out, []byte("221")) {
		t.Errorf("%q", out)
	}
}

// T01, T02: so it is with STLS; and a name said in clear is not one said under TLS.
func TestT01_PlaintextBehindSTLS(t *testing.T) {
	t.Parallel()
	s := start(t, true, "").readers()
	for _, in := range []string{"STLS\r\nCAPA\r\n", "STLS\r\nUSER alice\r\nPASS alice\r\n", "STLS\r\nX"} {
		nc, r, err := hear(s.pop3)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(nc, in)
		out, err := io.ReadAll(r)
		nc.Close()
		if !strings.HasPrefix(string(out), "-ERR nothing may follow") || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%q: %q %v", in, out, err)
		}
	}
	nc, r, err := hear(s.pop3)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	io.WriteString(nc, "STLS\r\n")
	if l, err := reply(r); err != nil || !strings.HasPrefix(l, "+OK ") {
		t.Fatal(l, err)
	}
	io.WriteString(nc, "CAPA\r\nQUIT\r\n")
	if out, _ := io.ReadAll(r); bytes.Contains(out, []byte("+OK")) || bytes.Contains(out, []byte("-ERR")) {
		t.Errorf("%q", out)
	}
	for name, want := range map[string]string{"": "-ERR say USER first", "USER alice\r\n": "+OK 0 "} {
		c, err := stls(s.pop3, s.client("mx.example.test"), "USER alice")
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, name+"PASS alice\r\nQUIT\r\n")
		if out, err := io.ReadAll(c); !strings.Contains("\n"+string(out), "\n"+want) {
			t.Errorf("%q under TLS: %q %v", name, out, err)
		}
		c.Close()
	}
}

// T01: so it is with STARTTLS of IMAP, where an answer under TLS to what was sent in clear was CVE-2021-33515.
func TestT01_PlaintextBehindIMAP(t *testing.T) {
	t.Parallel()
	s := start(t, true, "").readers()
	for _, in := range []string{"a STARTTLS\r\nb CAPABILITY\r\n", "a STARTTLS\r\nb LOGIN alice alice\r\n", "a STARTTLS\r\nb"} {
		nc, r, err := hear(s.imap)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(nc, in)
		out, err := io.ReadAll(r)
		nc.Close()
		if !strings.HasPrefix(string(out), "a BAD nothing may follow") || strings.Count(string(out), "\n") != 2 || !strings.Contains(string(out), "\n* BYE ") {
			t.Errorf("%q: %q %v", in, out, err)
		}
	}
	nc, r, err := hear(s.imap)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	io.WriteString(nc, "a STARTTLS\r\n")
	if l, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(l, "a OK ") {
		t.Fatal(l, err)
	}
	io.WriteString(nc, "b CAPABILITY\r\nc LOGOUT\r\n")
	if out, _ := io.ReadAll(r); bytes.Contains(out, []byte("OK")) || bytes.Contains(out, []byte("BYE")) {
		t.Errorf("%q", out)
	}
	c, err := imapTLS(s.imap, s.client("mx.example.test"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "b LOGIN alice alice\r\nc LOGOUT\r\n")
	if out, err := io.ReadAll(c); !strings.HasPrefix(string(out), "b OK [CAPABILITY ") || !strings.HasSuffix(string(out), "\r\nc OK LOGOUT completed\r\n") {
		t.Errorf("%q %v", out, err)
	}
}
