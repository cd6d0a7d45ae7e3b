package trail

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
	"time"

	"postamt/internal/queue"
)

// What the loggers of this machine put in front of a line now, is now.
func TestInstalledLoggers(t *testing.T) {
	for _, args := range [][]string{{"s6-log", "t", "1"}, {"s6-log", "T", "1"}, {"svlogd", "-t"}, {"svlogd", "-tt"}, {"svlogd", "-ttt"}} {
		t.Run(args[0]+args[1], func(t *testing.T) {
			path, err := exec.LookPath(args[0])
			if err != nil {
				t.Skip(args[0] + " is not installed")
			}
			dir := t.TempDir()
			if args[0] == "svlogd" {
				args = append(args, dir)
			}
			before := time.Now()
			id := string(queue.NewID(before))
			c := exec.Command(path, args[1:]...)
			c.Stdin = bytes.NewReader([]byte("smtpd: " + id + ": accepted from=<a@b.example>\n"))
			out, err := c.Output()
			if err != nil {
				t.Fatal(err)
			}
			if args[0] == "svlogd" {
				if out, err = os.ReadFile(dir + "/current"); err != nil {
					t.Fatal(err)
				}
			}
			p := &Parser{Now: time.Now(), Born: born}
			l, ok := p.Parse(string(bytes.TrimRight(out, "\n")))
			if !ok || l.ID != id || l.Time.Before(before.Add(-time.Second)) || l.Time.After(time.Now().Add(time.Second)) {
				t.Errorf("%q: %v %+v", out, ok, l)
			}
		})
	}
}
