package drill

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// The memory of authd, keyd and a smtpd that has the keys of TLS itself is closed to processes of their own account; that of queued, which holds no secret, is not, and shows
// that it is not the kernel that closes it for everybody.
func TestUndumpable(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be two accounts")
	}
	if b, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope"); err == nil && strings.TrimSpace(string(b)) != "0" {
		t.Skip("ptrace_scope closes the memory of every process")
	}
	if _, err := exec.LookPath("dd"); err != nil {
		t.Skip("dd is missing")
	}
	t.Parallel()
	for _, p := range []struct {
		program, account string
		closed           bool
	}{{"queued", "pa-queue", false}, {"authd", "pa-auth", true}, {"keyd", "pa-keyd", true}, {"smtpd", "pa-smtpd", true}} {
		r := layOut(t, walls{account: true, landlock: true, seccomp: true})
		who := uint32(accounts[p.account])
		if p.program == "smtpd" {
			os.Chown(r.dir+"/tls/key.pem", int(who), int(who))
			for _, d := range []string{"queue", "state"} {
				os.Chown(r.dir+"/"+d, int(who), int(who))
			}
		}
		for _, dir := range []string{"run", "state"} {
			os.Chmod(r.dir+"/"+dir, 0o777|os.ModeSticky)
		}
		// As a service manager starts it: it is its account from the first, and was executed as that.
		r.as = &syscall.Credential{Uid: who, Gid: who, Groups: []uint32{uint32(accounts["pa-queue"])}}
		r.start(p.program)
		c := exec.Command("dd", "if=/proc/"+fmt.Sprint(r.pids[p.program])+"/mem", "count=0")
		c.SysProcAttr = &syscall.SysProcAttr{Credential: r.as}
		out, err := c.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if closed := err != nil && strings.Contains(string(out), "ermission denied"); closed != p.closed || !closed && err != nil {
			t.Errorf("%s: %v %s", p.program, err, out)
		}
	}
}
