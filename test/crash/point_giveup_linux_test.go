//go:build amd64 || arm64

package crash

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"postamt/test/killpoint"
)

// giveUpTargets get nothing: their messages are given up before the first attempt.
var giveUpTargets = []target{
	{rcpts: []string{"alice@example.test"}, bounced: true},
	{rcpts: []string{"near@remote.test", "bob@example.test"}, bounced: true},
	{rcpts: []string{"team@example.test"}, bounced: true},
}

// queuectl runs it beside the programs.
func (b *bench) queuectl(in string, args ...string) *exec.Cmd {
	bin, err := programs()
	if err != nil {
		b.t.Fatal(err)
	}
	c := exec.Command(filepath.Join(bin, "queuectl"), append([]string{"-C", b.Conf}, args...)...)
	c.Stdin = strings.NewReader(in)
	return c
}

// ids are what is queued.
func (b *bench) ids() string {
	out, err := b.queuectl("", "list", "--ids").Output()
	if err != nil {
		b.t.Fatal(err)
	}
	return string(out)
}

// TestKillQueuedWhileGivingUp: what is to be given up is, wherever queued is killed, and each sender hears of it once.
func TestKillQueuedWhileGivingUp(t *testing.T) {
	points(t, func(t *testing.T, n int) (int, bool) {
		b := newBench(t, "queued", false, killpoint.KillAt(n))
		b.load.targets = giveUpTargets
		b.begin()
		b.post(0, len(giveUpTargets))
		b.allAcknowledged()
		ids := strings.Fields(b.ids())
		if out, err := b.queuectl(ids[0], "hold", "-").CombinedOutput(); err != nil {
			t.Fatalf("hold: %v %s", err, out)
		}
		if out, err := b.queuectl(strings.Join(ids, "\n"), "bounce", "-m", "enough", "-").CombinedOutput(); err != nil {
			t.Fatalf("bounce: %v %s", err, out)
		}
		b.launchVictim()
		_, hit := b.end()
		b.replace()
		b.drain()
		b.judge(time.Time{})
		return len(b.run.Calls()), hit
	})
}

// TestKillQueuectlWhileItGivesUp: of what is killed at that, each message is given up or delivered, not both, and nothing is lost.
func TestKillQueuectlWhileItGivesUp(t *testing.T) {
	points(t, func(t *testing.T, n int) (int, bool) {
		b := newBench(t, "queued", false, killpoint.KillAt(0))
		delete(b.StartBy, "queued")
		b.load.targets = []target{{rcpts: []string{"alice@example.test"}}}
		b.begin()
		const messages = 3
		b.post(0, messages)
		b.allAcknowledged()
		c := b.queuectl(b.ids(), "bounce", "-m", "enough", "-")
		c.Env = append(os.Environ(), "GOMAXPROCS=1")
		run, err := killpoint.Start(c, killpoint.Plan{Below: []string{b.Queue}, Fault: killpoint.KillAt(n)})
		if err != nil {
			t.Fatal(err)
		}
		c.Wait()
		<-run.Done()
		_, hit := run.Hit()
		if err := b.Launch("queued"); err != nil {
			t.Fatal(err)
		}
		b.drain()
		delivered, returned := len(b.Delivered("alice")), len(b.Delivered("sender"))
		if delivered+returned != messages || !hit && returned != messages {
			t.Errorf("%d delivered, %d returned", delivered, returned)
		}
		for _, path := range b.Delivered("sender") {
			if text, err := os.ReadFile(path); err != nil || !strings.Contains(string(text), "enough") {
				t.Errorf("without its reason: %v\n%s", err, text)
			}
		}
		if err := b.End(); err != nil {
			t.Error(err)
		}
		if err := b.Check(); err != nil {
			t.Error(err)
		}
		return len(run.Calls()), hit
	})
}
