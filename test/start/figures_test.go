// Package start looks at what it costs to start a program: what it links, what it does before main, and how long a client waits for the banner of
// a smtpd that inetd executes for it.
package start

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"postamt/test/peers"
	"postamt/test/suite"
)

// rounds is how often each program is started; programs take turns.
const rounds = 50

const inC = `#include <unistd.h>
int main(void) { static const char s[] = "220 mx.example.test ESMTP\r\n"; return write(1, s, sizeof s - 1) < 0; }
`

const inGo = `package main

import (
	_ "crypto/tls"
	"os"
)

func main() { os.Stdout.WriteString("220 mx.example.test ESMTP\r\n") }
`

// subject is a program that greets on the connection that it is executed with.
type subject struct {
	name    string
	command []string
	banner  []time.Duration
	faults  []int64
}

// TestFigures prints the tables of docs/benchmarks.md; make bench-start runs it.
func TestFigures(t *testing.T) {
	if os.Getenv("BENCH_START") == "" {
		t.Skip("make bench-start measures")
	}
	bin, err := suite.Build()
	if err != nil {
		t.Fatal(err)
	}
	plain, err := suite.New(suite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Remove()
	secure, err := suite.New(suite.Config{TLS: true})
	if err != nil {
		t.Fatal(err)
	}
	defer secure.Remove()
	dir := t.TempDir()
	subjects := []*subject{
		{name: "C, prints and ends", command: []string{compiled(t, dir)}},
		{name: "Go with crypto/tls, prints and ends", command: []string{built(t, dir)}},
		{name: "smtpd", command: []string{filepath.Join(bin, "smtpd"), "-C", plain.Conf}},
		{name: "smtpd with tls_cert", command: []string{filepath.Join(bin, "smtpd"), "-C", secure.Conf}},
	}
	for range rounds {
		for _, s := range subjects {
			s.start(t)
		}
	}
	fmt.Printf("| executed with a connection | exec to banner, ms | quartiles | minor page faults |\n|---|---|---|---|\n")
	for _, s := range subjects {
		ms := func(q int) float64 { return float64(at(s.banner, q).Microseconds()) / 1000 }
		fmt.Printf("| %s | %.1f | %.1f to %.1f | %d |\n", s.name, ms(2), ms(1), ms(3), at(s.faults, 2))
	}
	fmt.Printf("\n| before main | clock, ms | least | octets | allocations | packages |\n|---|---|---|---|---|---|\n")
	programs := []string{empty(t)}
	for _, p := range suite.Programs {
		programs = append(programs, filepath.Join(bin, p))
	}
	programs = append(programs, filepath.Join(bin, "authd"), filepath.Join(bin, "keyd"), filepath.Join(bin, "pop3d"), filepath.Join(bin, "imapd"))
	clock := map[string][]float64{}
	for range rounds {
		for _, p := range programs {
			sum := 0.0
			for _, m := range trace(t, p) {
				ms, _ := strconv.ParseFloat(m[2], 64)
				sum += ms
			}
			clock[p] = append(clock[p], sum)
		}
	}
	for _, p := range programs {
		octets, pieces := initialised(t, p)
		fmt.Printf("| %s | %.2f | %.2f | %d | %d | %d |\n", filepath.Base(p), at(clock[p], 2), at(clock[p], 0), octets, pieces, len(trace(t, p)))
	}
}

// at is a quartile; 2 is the median.
func at[T int64 | float64 | time.Duration](v []T, quarter int) T {
	slices.Sort(v)
	return v[len(v)*quarter/4]
}

// start executes the program with a connection, as inetd does, and says QUIT when it has greeted.
func (s *subject) start(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ours, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	theirs, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	f, err := theirs.(*net.TCPConn).File()
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(s.command[0], s.command[1:]...)
	c.Stdin, c.Stdout = f, f
	begun := time.Now()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	ours.SetDeadline(time.Now().Add(time.Minute))
	if _, err := bufio.NewReader(ours).ReadString('\n'); err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	s.banner = append(s.banner, time.Since(begun))
	fmt.Fprint(ours, "QUIT\r\n")
	if err := c.Wait(); err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	u := c.ProcessState.SysUsage().(*syscall.Rusage)
	s.faults = append(s.faults, u.Minflt)
}

func compiled(t *testing.T, dir string) string {
	t.Helper()
	cc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("gcc is missing (Debian package gcc)")
	}
	if err := os.WriteFile(filepath.Join(dir, "banner.c"), []byte(inC), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(cc, "-O2", "-o", dir+"/banner", dir+"/banner.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir + "/banner"
}

func built(t *testing.T, dir string) string {
	t.Helper()
	root, err := peers.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "banner.go"), []byte(inGo), 0o644); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir+"/banner-go", dir+"/banner.go")
	c.Dir = root
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir + "/banner-go"
}
