package monitor

import (
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"postamt/test/peers"
)

// stream is a pair of connected sockets, as a monitor makes them.
func stream(t *testing.T) (a, b net.Conn) {
	t.Helper()
	f, g, err := pair(unix.SOCK_STREAM)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	defer g.Close()
	if a, err = net.FileConn(f); err == nil {
		b, err = net.FileConn(g)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	for _, c := range []net.Conn{a, b} {
		c.SetDeadline(time.Now().Add(50 * time.Second))
	}
	return a, b
}

func tcp(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err == nil {
		b, err = l.Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	a.SetDeadline(time.Now().Add(50 * time.Second))
	return a, b
}

// A pump that has carried much and has nothing to carry holds no buffers.
func TestPumpIdle(t *testing.T) {
	const pumps, size = 200, 200 << 10
	in := func() int64 {
		runtime.GC()
		runtime.GC() // pools keep what they have for one
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	message, got := pattern(size), make([]byte, size)
	before := in()
	for range pumps {
		client, a := stream(t)
		worker, b := stream(t)
		go Pump(a, b, nil)
		for _, way := range [][2]net.Conn{{client, worker}, {worker, client}} {
			go way[0].Write(message)
			if _, err := io.ReadFull(way[1], got); err != nil || string(got) != string(message) {
				t.Fatal("not what was sent, or ", err)
			}
		}
	}
	each := (in() - before) / pumps
	t.Logf("%d octets of heap for an idle pump and its four sockets", each)
	if each > piece/2 {
		t.Errorf("%d octets for an idle pump", each)
	}
}

// What the worker has written arrives, and TLS ends as it should, while the client goes on sending to nobody.
func TestPumpLastWords(t *testing.T) {
	dir := t.TempDir()
	cert, key, err := peers.WriteCert(dir, "mx.example.org")
	if err != nil {
		t.Fatal(err)
	}
	p, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	c, a := tcp(t) // which, closed with input in it, takes back what it has sent
	worker, b := stream(t)
	over := make(chan struct{})
	go func() {
		Pump(tls.Server(a, &tls.Config{Certificates: []tls.Certificate{p}}), b, []byte("ahead"))
		close(over)
	}()
	client := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	flooded := make(chan error)
	go func() {
		flooded <- client.Handshake()
		for {
			if _, err := client.Write(make([]byte, 64<<10)); err != nil {
				flooded <- err
				return
			}
		}
	}()
	if err := <-flooded; err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(worker, got); err != nil || string(got) != "ahead" {
		t.Errorf("%q, %v", got, err)
	}
	words := pattern(8 << 20) // more than is under way at once
	go func() {
		worker.Write(words)
		worker.Close() // with input unread, as when it is killed
	}()
	b2, err := io.ReadAll(client)
	if string(b2) != string(words) || err != nil {
		t.Errorf("%d octets of %d, %v", len(b2), len(words), err)
	}
	client.NetConn().Close()
	<-flooded
	<-over
}
