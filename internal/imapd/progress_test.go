package imapd

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// RFC 9585 section 3: a client is told how far a search has come, with his tag, and before the response to it.
func TestInProgress(t *testing.T) {
	h := mailboxLoopback(t, 1000)
	k := h.talker()
	k.want("SELECT INBOX", "OK")
	if told := k.want("SEARCH BODY x", "OK"); slices.ContainsFunc(told, isProgress) {
		t.Errorf("told before its time: %q", told)
	}
	conf := *h.server.conf.Load()
	conf.progressTime = time.Nanosecond
	h.server.SetConfig(&conf)
	k = h.talker()
	k.want("SELECT INBOX", "OK")
	for _, command := range []string{"SEARCH BODY x", "UID SORT RETURN (ALL) (DATE) UTF-8 BODY x", "ESEARCH BODY x"} {
		told := k.want(command, "OK")
		i := slices.IndexFunc(told, isProgress)
		if i < 0 || !strings.Contains(told[i], " 1000)]") || !strings.Contains(told[i], `("t`) {
			t.Errorf("%s: %q", command, told)
		}
		// Each few messages that have to be read are a time to tell it, and to see that the client has gone.
		if strings.Contains(told[i], "1000 1000") {
			t.Errorf("%s: first told at its end: %q", command, told)
		}
	}
}

func isProgress(response string) bool { return strings.HasPrefix(response, "* OK [INPROGRESS (") }
