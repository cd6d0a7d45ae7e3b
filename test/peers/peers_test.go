package peers

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// The peers are tested alone, by clients that are neither ours nor theirs, so that a failing end-to-end test
// says something about us.

// swaks sends one message and returns what it printed.
func swaks(t *testing.T, addr, to string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("swaks")
	if err != nil {
		if os.Getenv("SKIP_MISSING") == "1" {
			t.Skip("swaks is not installed")
		}
		t.Fatal("swaks is not installed; run test/deps.sh")
	}
	args = append([]string{"--server", addr, "--from", "sender@client.test", "--to", to, "--body", "first line\n.second line begins with a dot\n", "--helo", "client.test"}, args...)
	out, err := exec.Command(path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("swaks: %v\n%s", err, out)
	}
	return string(out)
}

// await polls until the condition holds.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s for %s", what)
		}
	}
}

func TestMaildir(t *testing.T) {
	for name, start := range map[string]func(testing.TB, Config) *Server{"Postfix": Postfix, "Exim": Exim} {
		for _, tls := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/TLS=%v", name, tls), func(t *testing.T) {
				s := start(t, Config{Domains: []string{"peer.test"}, TLS: tls})
				var args []string
				if tls {
					args = []string{"--tls", "--tls-ca-path", s.Cert, "--tls-verify"}
				}
				transcript := swaks(t, s.Addr, "alice@peer.test", args...)
				if tls && !strings.Contains(transcript, "TLS started") {
					t.Errorf("no TLS:\n%s", transcript)
				}
				if !tls && strings.Contains(transcript, "250-STARTTLS") {
					t.Errorf("STARTTLS offered without a certificate:\n%s", transcript)
				}
				await(t, "a message for alice", func() bool { return len(s.Delivered("alice")) == 1 })
				text, err := os.ReadFile(s.Delivered("alice")[0])
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Contains(text, []byte("\nfirst line\n.second line begins with a dot\n")) {
					t.Errorf("delivered:\n%s", text)
				}
				if n := len(s.Delivered("bob")); n != 0 {
					t.Errorf("bob has %d messages", n)
				}
			})
		}
	}
}

func TestUnknownUserIsRefused(t *testing.T) {
	for name, start := range map[string]func(testing.TB, Config) *Server{"Postfix": Postfix, "Exim": Exim} {
		t.Run(name, func(t *testing.T) {
			s := start(t, Config{Domains: []string{"peer.test"}})
			out, err := exec.Command("swaks", "--server", s.Addr, "--from", "a@client.test", "--to", "nobody-here@peer.test", "--helo", "client.test").CombinedOutput()
			if err == nil || !bytes.Contains(out, []byte("<** 550")) {
				t.Errorf("want a 550, got %v:\n%s", err, out)
			}
		})
	}
}

// TestRelay sends with smtp-source through each peer to smtp-sink, which ends after the last message.
func TestRelay(t *testing.T) {
	for name, start := range map[string]func(testing.TB, Config) *Server{"Postfix": Postfix, "Exim": Exim} {
		t.Run(name, func(t *testing.T) {
			const messages = 40
			sinkAddr, err := FreeAddr()
			if err != nil {
				t.Fatal(err)
			}
			s := start(t, Config{RelayTo: sinkAddr})
			sink, err := Command("smtp-sink", "-u", "nobody", "-M", fmt.Sprint(messages), sinkAddr, "20")
			if err != nil {
				t.Fatal(err)
			}
			if err := sink.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- sink.Wait() }()
			await(t, "smtp-sink", func() bool { return Banner(sinkAddr, time.Now().Add(time.Second)) == nil })
			source, err := Command("smtp-source", "-s", "4", "-m", fmt.Sprint(messages), "-l", "4096", "-f", "a@client.test", "-t", "b@elsewhere.test", s.Addr)
			if err != nil {
				t.Fatal(err)
			}
			if out, err := source.CombinedOutput(); err != nil {
				t.Fatalf("smtp-source: %v\n%s", err, out)
			}
			select {
			case err := <-ended:
				if err != nil {
					t.Fatalf("smtp-sink: %v", err)
				}
			case <-time.After(30 * time.Second):
				sink.Process.Kill()
				t.Fatalf("smtp-sink did not get %d messages", messages)
			}
		})
	}
}

// TestBetweenPeers has each relay to the other by domain, encrypted.
func TestBetweenPeers(t *testing.T) {
	exim := Exim(t, Config{Domains: []string{"exim.test"}, TLS: true})
	postfix := Postfix(t, Config{Routes: map[string]string{"exim.test": exim.Addr}, TLS: true})
	swaks(t, postfix.Addr, "bob@exim.test")
	await(t, "the message", func() bool { return len(exim.Delivered("bob")) == 1 })
	text, err := os.ReadFile(exim.Delivered("bob")[0])
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte("with esmtps")) {
		t.Errorf("not encrypted:\n%s", text)
	}
}

func TestStopLeavesNothing(t *testing.T) {
	for name, start := range map[string]func(Config) (*Server, error){"Postfix": StartPostfix, "Exim": StartExim, "Dovecot": startLMTP} {
		t.Run(name, func(t *testing.T) {
			s, err := start(Config{Domains: []string{"peer.test"}})
			s = started(t, s, err)
			dir, addr := s.Dir, s.Addr
			if err := s.Stop(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("%s is still there: %v", dir, err)
			}
			if Banner(addr, time.Now().Add(time.Second)) == nil {
				t.Errorf("%s still greets", addr)
			}
		})
	}
}
