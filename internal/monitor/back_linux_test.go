package monitor

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postamt/test/peers"
)

// A client comes back with all that he has sent and the worker has not used, over TLS and without, whenever he has sent it; and the worker's last word
// comes before whatever is said then.
func TestGiveBack(t *testing.T) {
	dir := t.TempDir()
	cert, key, err := peers.WriteCert(dir, "mx.example.org")
	if err != nil {
		t.Fatal(err)
	}
	p, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, secure := range []bool{false, true} {
		for round := range 50 {
			client, a := tcp(t)
			if secure {
				a = tls.Server(a, &tls.Config{Certificates: []tls.Certificate{p}})
				client = tls.Client(client, &tls.Config{InsecureSkipVerify: true})
			}
			worker, b := stream(t)
			type back struct {
				unused []byte
				ok     bool
			}
			over := make(chan back)
			go func() {
				unused, ok := Pump(a, b, nil)
				over <- back{unused, ok}
			}()
			behind := pattern(round * 1000)
			io.WriteString(client, "leave")
			sent := make(chan bool)
			go func() {
				client.Write(behind)
				close(sent)
			}()
			in := make([]byte, 5+round*20)
			n, err := io.ReadAtLeast(worker, in, 5)
			if err != nil || string(in[:5]) != "leave" {
				t.Fatal(in, err)
			}
			go worker.Write(pattern(40_000))
			said := make([]byte, 40_000)
			if _, err := io.ReadFull(client, said); err != nil || !bytes.Equal(said, pattern(40_000)) {
				t.Fatal("not the worker's words, or ", err)
			}
			if err := (Session{Conn: worker, Pumped: true}).GiveBack(in[5:n]); err != nil {
				t.Fatal(err)
			}
			worker.Close()
			r := <-over
			if !r.ok {
				t.Fatalf("TLS %v, %d: he did not come back", secure, len(behind))
			}
			<-sent
			go client.Write([]byte("next"))
			rest := make([]byte, len(behind)+4-len(r.unused))
			if _, err := io.ReadFull(a, rest); err != nil {
				t.Fatal(err)
			}
			if got := append(r.unused, rest...); string(got) != string(behind)+"next" {
				t.Errorf("TLS %v: %d octets came back, %d after that, of %d", secure, len(r.unused), len(rest), len(behind))
			}
			go a.Write([]byte("hello"))
			if _, err := io.ReadFull(client, said[:5]); err != nil || string(said[:5]) != "hello" {
				t.Errorf("%q, %v", said[:5], err)
			}
			client.Close()
		}
	}
}

// What a worker that was taken over may say in the place of GiveBack ends the client's connection, or is nothing that the client could not have sent. It
// costs the front no descriptor.
func TestGiveBackByOthers(t *testing.T) {
	rights := func(c net.Conn, fds ...int) {
		c.(*net.UnixConn).WriteMsgUnix([]byte("x"), unix.UnixRights(fds...), nil)
	}
	length := func(n int) []byte { return binary.LittleEndian.AppendUint32(nil, uint32(n)) }
	before := descriptors(t)
	for name, x := range map[string]struct {
		do   func(worker net.Conn)
		back string // "-": he is closed
	}{
		"nothing comes":         {func(w net.Conn) { rights(w, 0) }, "-"},
		"too little":            {func(w net.Conn) { rights(w, 0); w.Write(append(length(9), "12345678"...)) }, "-"},
		"too much":              {func(w net.Conn) { rights(w, 0); w.Write(append(length(7), "12345678"...)) }, "-"},
		"very much":             {func(w net.Conn) { rights(w, 0); w.Write(append(length(1<<20), make([]byte, 1<<20)...)) }, "-"},
		"a length that is none": {func(w net.Conn) { rights(w, 0); w.Write(length(-1)) }, "-"},
		"many descriptors":      {func(w net.Conn) { rights(w, 0, 1, 2, 0, 1, 2); w.Write(append(length(2), "ab"...)) }, "ab"},
		"descriptors again":     {func(w net.Conn) { rights(w, 0); rights(w, 0, 1, 2) }, "-"},
		"its own end": {func(w net.Conn) {
			f, _ := w.(*net.UnixConn).File()
			rights(w, int(f.Fd()))
			f.Close()
			w.Write(length(0))
		}, ""},
	} {
		client, a := stream(t)
		worker, b := stream(t)
		over := make(chan string)
		go func() {
			unused, ok := Pump(a, b, nil)
			if !ok {
				unused = []byte("-")
			}
			over <- string(unused)
		}()
		x.do(worker)
		worker.Close()
		if got := <-over; got != x.back {
			t.Errorf("%s: %.20q came back", name, got)
		}
		client.SetReadDeadline(time.Now().Add(time.Second))
		said, err := io.ReadAll(client)
		if (err == nil) != (x.back == "-") || strings.Trim(string(said), "x") != "" {
			t.Errorf("%s: the client was told %q, %v", name, said, err)
		}
		client.Close()
		a.Close()
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

func descriptors(t *testing.T) int {
	l, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(l)
}
