package imap

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"postamt/test/peers"
	"postamt/test/site"
)

// thunderbird is Debian's Thunderbird, without a screen, driven by Marionette: messages of JSON, each after its length and a colon. What it is told is JavaScript in
// the program itself, with the functions that its menus call.
type thunderbird struct {
	*visit
	nc net.Conn
	r  *bufio.Reader
	n  int
}

// preferences is an account that somebody has typed in; nothing asks the network for anything else.
const preferences = `user_pref("mail.accountmanager.accounts", "account1");
user_pref("mail.account.account1.identities", "id1");
user_pref("mail.account.account1.server", "server1");
user_pref("mail.identity.id1.useremail", "alice@example.test");
user_pref("mail.identity.id1.valid", true);
user_pref("mail.server.server1.type", "imap");
user_pref("mail.server.server1.hostname", "127.0.0.1");
user_pref("mail.server.server1.port", %s);
user_pref("mail.server.server1.userName", "alice");
user_pref("mail.server.server1.socketType", %s);
user_pref("mail.server.server1.authMethod", 3);
user_pref("mail.server.server1.login_at_startup", false);
user_pref("mail.server.server1.check_new_mail", false);
user_pref("mail.server.server1.offline_download", false);
user_pref("mail.server.server1.using_subscription", false);
user_pref("mail.provider.enabled", false);
user_pref("mailnews.start_page.enabled", false);
user_pref("mail.shell.checkDefaultClient", false);
user_pref("mail.biff.show_alert", false);
user_pref("app.update.enabled", false);
user_pref("app.normandy.enabled", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("extensions.update.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("network.proxy.type", 0);
user_pref("services.settings.server", "data:,");
user_pref("marionette.port", 0);
`

// tools are what all steps begin with.
const tools = `const {MailServices} = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const server = MailServices.accounts.accounts[0].incomingServer, root = server.rootFolder;
const until = (f, what) => new Promise((ok, bad) => { let n = 0; const t = setInterval(() => { let v; try { v = f(); } catch (e) { what += " " + e; }
	if (v) { clearInterval(t); ok(v); } else if (++n > 1200) { clearInterval(t); bad(new Error("waited for " + what)); } }, 50); });
const inbox = () => root.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox);
const find = (folder, subject) => [...folder.messages].find(m => m.mime2DecodedSubject == subject);
const copied = f => new Promise((ok, bad) => f({QueryInterface: ChromeUtils.generateQI(["nsIMsgCopyServiceListener"]), onStartCopy() {}, onProgress() {}, setMessageKey() {},
	getMessageId() { return null; }, onStopCopy: status => status ? bad(new Error("copy: " + status)) : ok()}));
`

func startThunderbird(v *visit) *thunderbird {
	dir, err := peers.Dir()
	v.Must(err)
	lib := filepath.Join(dir, "thunderbird/usr/lib")
	libs, _ := filepath.Glob(lib + "/*-linux-*")
	v.Must(os.Mkdir(v.dir+"/profile", 0o700))
	v.file("profile/user.js", fmt.Sprintf(preferences, v.port, v.either("2", "3")))
	c := exec.Command(lib+"/thunderbird/thunderbird", "--profile", v.dir+"/profile", "--headless", "--marionette", "--remote-allow-system-access", "--no-remote")
	c.Env = append(os.Environ(), "HOME="+v.dir, "TMPDIR="+v.dir, "LC_ALL=C.UTF-8", "LD_LIBRARY_PATH="+strings.Join(append(libs, lib+"/thunderbird"), ":"))
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	log, err := os.Create(v.dir + "/log")
	v.Must(err)
	c.Stdout, c.Stderr = log, log
	v.Must(c.Start())
	v.t.Cleanup(func() {
		syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		c.Wait()
		log.Close()
	})
	var port string
	v.Await("Marionette", func() bool {
		b, _ := os.ReadFile(v.dir + "/profile/MarionetteActivePort")
		port = strings.TrimSpace(string(b))
		return port != ""
	})
	nc, err := net.Dial("tcp", "127.0.0.1:"+port)
	v.Must(err)
	v.t.Cleanup(func() { nc.Close() })
	b := &thunderbird{visit: v, nc: nc, r: bufio.NewReader(nc)}
	b.read() // its greeting
	b.call("WebDriver:NewSession", `{"capabilities": {}}`)
	b.call("Marionette:SetContext", `{"value": "chrome"}`)
	b.call("WebDriver:SetTimeouts", `{"script": 90000}`)
	return b
}

func (b *thunderbird) read() []byte {
	b.t.Helper()
	b.nc.SetDeadline(time.Now().Add(site.Limit))
	length, err := b.r.ReadString(':')
	b.Must(err)
	n, err := strconv.Atoi(strings.TrimSuffix(length, ":"))
	b.Must(err)
	m := make([]byte, n)
	_, err = io.ReadFull(b.r, m)
	b.Must(err)
	return m
}

func (b *thunderbird) call(command, parameters string) json.RawMessage {
	b.t.Helper()
	b.n++
	m := fmt.Sprintf("[0, %d, %q, %s]", b.n, command, parameters)
	fmt.Fprintf(b.nc, "%d:%s", len(m), m)
	var answer []json.RawMessage // 1, number, error, result
	b.Must(json.Unmarshal(b.read(), &answer))
	if len(answer) != 4 || string(answer[2]) != "null" {
		log, _ := os.ReadFile(b.dir + "/log")
		b.t.Fatalf("%s: %s\n%s\n%.4000s", command, answer, parameters, log)
	}
	return answer[3]
}

// do runs an asynchronous function's body, and returns the string that it returns.
func (b *thunderbird) do(script string) string {
	b.t.Helper()
	text, err := json.Marshal("const done = arguments[0];\n" + tools + "(async () => {\n" + script + "\n})().then(v => done('' + v), e => done('failed: ' + e));")
	b.Must(err)
	var result struct{ Value string }
	b.Must(json.Unmarshal(b.call("WebDriver:ExecuteAsyncScript", fmt.Sprintf(`{"script": %s, "args": []}`, text)), &result))
	return result.Value
}

// Somebody reads, flags, searches, makes a folder, moves, deletes, keeps a copy of what was sent, and is told of new mail.
func TestThunderbird(t *testing.T) {
	if os.Getenv("THUNDERBIRD") == "" {
		t.Skip("make thunderbird")
	}
	for _, way := range []string{"starttls", "tls"} {
		t.Run(way, func(t *testing.T) {
			secure := way == "tls"
			v := &visit{imapSite: newSite(t, secure || os.Geteuid() != 0).All(), t: t, secure: secure, dir: t.TempDir()}
			_, v.port, _ = net.SplitHostPort(map[bool]string{false: v.Addr, true: v.TLS}[secure])
			v.Put(messages...)
			b := startThunderbird(v)
			cert, err := os.ReadFile(v.Dir + "/etc/cert.pem")
			v.Must(err)
			block, _ := pem.Decode(cert)
			if got := b.do(fmt.Sprintf(`const cert = Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB).constructX509FromBase64(%q);
Cc["@mozilla.org/security/certoverride;1"].getService(Ci.nsICertOverrideService).rememberValidityOverride("127.0.0.1", %s, {}, cert, true);
return "trusted"`, base64.StdEncoding.EncodeToString(block.Bytes), v.port)); got != "trusted" {
				t.Fatal(got)
			}
			for _, step := range []struct{ script, want string }{
				{`server.password = "secret";
server.performExpand(null);
(await until(inbox, "the INBOX")).updateFolder(null);
await until(() => inbox().getTotalMessages(false) == 3, "three messages");
return [...inbox().messages].map(m => m.mime2DecodedSubject + " " + m.isRead).join()`, "first false,second false,third false"},
				{`const uri = inbox().getUriForMsg(find(inbox(), "second"));
const text = await new Promise(ok => { let all = ""; MailServices.messageServiceFromURI(uri).streamMessage(uri, {QueryInterface: ChromeUtils.generateQI(["nsIStreamListener"]), onStartRequest() {},
	onDataAvailable(r, s, o, n) { const i = Cc["@mozilla.org/scriptableinputstream;1"].createInstance(Ci.nsIScriptableInputStream); i.init(s); all += i.read(n); }, onStopRequest() { ok(all); }}, null, null, false, "", false); });
return text.replaceAll("\r\n", "\n").split("\n\n")[1].length`, "110000"},
				{`inbox().markMessagesRead([find(inbox(), "first")], true);
inbox().markMessagesFlagged([find(inbox(), "third")], true);
return await new Promise(ok => { let hits = ""; const s = Cc["@mozilla.org/messenger/searchSession;1"].createInstance(Ci.nsIMsgSearchSession); const t = s.createTerm(), w = t.value;
	t.attrib = w.attrib = Ci.nsMsgSearchAttrib.Body; t.op = Ci.nsMsgSearchOp.Contains; w.str = "no end"; t.value = w; s.appendTerm(t); s.addScopeTerm(Ci.nsMsgSearchScope.onlineMail, inbox());
	s.registerListener({QueryInterface: ChromeUtils.generateQI(["nsIMsgSearchNotify"]), onSearchHit(m) { hits += m.mime2DecodedSubject; }, onSearchDone() { ok(hits); }, onNewSearch() {}}); s.search(null); })`, "third"},
				{`root.createSubfolder("Gr\u00fcn", null);
const folder = await until(() => root.subFolders.find(f => f.localizedName == "Gr\u00fcn"), "the folder");
await copied(l => MailServices.copy.copyMessages(inbox(), [find(inbox(), "second")], folder, true, l, null, false));
inbox().deleteMessages([find(inbox(), "first")], null, false, false, null, false);
await until(() => inbox().getTotalMessages(false) == 1, "one message left");
return folder.getTotalMessages(false) + " " + (await until(() => root.getFolderWithFlags(Ci.nsMsgFolderFlags.Trash), "the trash")).localizedName`, "1 Trash"},
				{`const file = Services.dirsvc.get("TmpD", Ci.nsIFile); file.append("sent.eml");
await IOUtils.writeUTF8(file.path, "From: alice@example.test\r\nSubject: sent\r\nMessage-ID: <sent@example.test>\r\n\r\nsent\r\n");
await copied(l => MailServices.copy.copyFileMessage(file, inbox(), null, false, 0x1, "", l, null));
await until(() => find(inbox(), "sent"), "the copy");
return find(inbox(), "sent").isRead`, "true"},
			} {
				if got := b.do(step.script); got != step.want {
					t.Fatalf("%q, want %q, of\n%s", got, step.want, step.script)
				}
			}
			v.File("new/1800000000.x", "From: a@b.example\nSubject: late\n\nlate\n", time.Now())
			if got := b.do(`return (await until(() => find(inbox(), "late"), "new mail")).mime2DecodedSubject`); got != "late" {
				t.Error(got)
			}
			v.holds("INBOX", "third:flagged", "sent:seen", "late:-")
			v.holds("Grün", "second:-")
			v.holds("Trash", "first:seen")
		})
	}
}
