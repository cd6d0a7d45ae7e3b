package webmail

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// browser is a page of Chromium's, driven by its DevTools protocol.
type browser struct {
	t  testing.TB
	ws *websocket.Conn
	n  int
}

// open starts Chromium with a page.
func open(t testing.TB, command func(args ...string) *exec.Cmd, dir string) *browser {
	c := command("/usr/lib/chromium/chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-component-update",
		"--window-size=1200,800", "--remote-debugging-port=0", "--user-data-dir="+dir, "about:blank")
	c.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_CACHE_HOME="+dir)
	said, err := c.StderrPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		c.Wait()
	})
	var addr, all string
	for lines := bufio.NewScanner(said); lines.Scan() && addr == ""; {
		all += lines.Text() + "\n"
		if _, rest, ok := strings.Cut(lines.Text(), "DevTools listening on ws://"); ok {
			addr, _, _ = strings.Cut(rest, "/")
		}
	}
	if addr == "" {
		t.Fatalf("chromium does not listen:\n%s", all)
	}
	request, _ := http.NewRequest("PUT", "http://"+addr+"/json/new?about:blank", nil)
	r, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var page struct{ WebSocketDebuggerUrl string }
	if err := json.NewDecoder(r.Body).Decode(&page); err != nil {
		t.Fatal(err)
	}
	ws, err := websocket.Dial(page.WebSocketDebuggerUrl, "", "http://"+addr)
	if err != nil {
		t.Fatal(err)
	}
	ws.MaxPayloadBytes = 64 << 20
	t.Cleanup(func() { ws.Close() })
	b := &browser{t: t, ws: ws}
	b.call("Page.enable", nil)
	return b
}

func (b *browser) call(method string, params map[string]any) json.RawMessage {
	b.t.Helper()
	b.n++
	b.ws.SetDeadline(time.Now().Add(time.Minute))
	if err := websocket.JSON.Send(b.ws, map[string]any{"id": b.n, "method": method, "params": params}); err != nil {
		b.t.Fatal(method, err)
	}
	for {
		var m struct {
			ID     int
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		switch err := websocket.JSON.Receive(b.ws, &m); {
		case err != nil:
			b.t.Fatal(method, err)
		case m.ID != b.n: // an event
		case m.Error != nil:
			b.t.Fatal(method, m.Error.Message)
		default:
			return m.Result
		}
	}
}

// eval is the value of an expression on the page, as JSON; a promise is waited for.
func (b *browser) eval(js string) string {
	b.t.Helper()
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	if err := json.Unmarshal(b.call("Runtime.evaluate", map[string]any{"expression": js, "returnByValue": true, "awaitPromise": true}), &r); err != nil {
		b.t.Fatal(err)
	}
	if r.ExceptionDetails != nil {
		return fmt.Sprintf("exception %s", r.ExceptionDetails)
	}
	return string(r.Result.Value)
}

// await waits until an expression is true.
func (b *browser) await(what, js string) {
	b.t.Helper()
	var last string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if last = b.eval(js); last == "true" {
			return
		}
	}
	b.shot(shots(b.t) + "/roundcube-failed.png")
	b.t.Fatalf("waited for %s in vain: %.2000s\n%s: %s", what, last, b.eval("location.href"), b.eval("document.body.innerText"))
}

func (b *browser) visit(url string) {
	b.t.Helper()
	b.call("Page.navigate", map[string]any{"url": url})
	b.await("the page", `document.readyState == "complete" && location.href != "about:blank"`)
}

// shot makes a picture of the page.
func (b *browser) shot(path string) {
	b.t.Helper()
	var r struct{ Data string }
	json.Unmarshal(b.call("Page.captureScreenshot", map[string]any{"format": "png"}), &r)
	png, err := base64.StdEncoding.DecodeString(r.Data)
	if err == nil {
		err = os.WriteFile(path, png, 0o644)
	}
	if err != nil {
		b.t.Error(err)
	}
}
