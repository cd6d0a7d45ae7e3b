# Every method of imaplib that the server has something for; each is checked. Arguments: imap or imaps, port, certificate.
import imaplib, re, ssl, sys, time

way, port, cert = sys.argv[1], int(sys.argv[2]), sys.argv[3]
tls = ssl.create_default_context(cafile=cert)
tls.check_hostname = False
if way == "imaps":
    m = imaplib.IMAP4_SSL("127.0.0.1", port, ssl_context=tls)
else:
    m = imaplib.IMAP4("127.0.0.1", port)
    m.starttls(tls)
assert m.socket() is not None and m.welcome.startswith(b"* OK ")


def ok(answer):
    typ, data = answer
    assert typ == "OK", answer
    return data


def no(answer, word):
    typ, data = answer
    assert typ == "NO" and word in data[0], answer


def fails(f, *args):
    try:
        f(*args)
    except imaplib.IMAP4.error as e:
        return str(e)
    raise SystemExit("%r %r did not fail" % (f, args))


fails(m.login_cram_md5, "alice", "secret")  # not offered by this server
ok(m.login("alice", "secret"))
capabilities = ok(m.capability())[0].split()
assert b"UIDPLUS" in capabilities and b"SORT" in capabilities, capabilities
m.capabilities = tuple(c.decode() for c in capabilities)  # it has read those from before the login
ok(m.noop())
assert ok(m.namespace()) == [b'(("" ".")) NIL NIL'], m.namespace()
ok(m.enable("CONDSTORE"))

# Folders.
ok(m.create("Work"))
ok(m.create('"Gr&APw-n.Deep"'))
no(m.create("Work"), b"ALREADYEXISTS")
ok(m.rename('"Gr&APw-n"', "Green"))
ok(m.subscribe("Green.Deep"))
assert [l for l in ok(m.list()) if b"Green.Deep" in l], ok(m.list())
assert sorted(l.rsplit(b" ")[-1] for l in ok(m.list('""', "%"))) == [b"Green", b"INBOX", b"Work"], m.list('""', "%")
assert [l.rsplit(b" ")[-1] for l in ok(m.lsub())] == [b"Green.Deep"], ok(m.lsub())
ok(m.unsubscribe("Green.Deep"))
assert ok(m.lsub()) == [None]
ok(m.delete("Green.Deep"))
no(m.delete("Green"), b"NONEXISTENT")
assert re.fullmatch(rb"Work \(MESSAGES 0 UIDNEXT 1 UIDVALIDITY [0-9]+ UNSEEN 0\)", ok(m.status("Work", "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN)"))[0])

# Messages.
assert ok(m.select()) == [b"3"]
assert m.response("UIDVALIDITY")[1][0].isdigit() and m.response("UIDNEXT")[1] == [b"4"], m.untagged_responses
assert ok(m.search(None, "SUBJECT", "first")) == [b"1"]
assert ok(m.search("UTF-8", "ALL")) == [b"1 2 3"]
assert ok(m.uid("SEARCH", "UID", "2:*")) == [b"2 3"]
m.literal = "grün".encode()
assert ok(m.search("UTF-8", "TEXT")) == [b"3"]
assert ok(m.sort("(REVERSE SIZE)", "UTF-8", "ALL"))[0].split()[0] == b"2"
assert ok(m.sort("(SUBJECT)", "UTF-8", "ALL")) == [b"1 2 3"]
assert ok(m.uid("SORT", "(REVERSE SUBJECT)", "UTF-8", "ALL")) == [b"3 2 1"]
assert ok(m.thread("REFERENCES", "UTF-8", "ALL")) == [b"(1)(2)(3)"], m.thread("REFERENCES", "UTF-8", "ALL")
assert ok(m.uid("THREAD", "ORDEREDSUBJECT", "UTF-8", "UNSEEN")) == [b"(1)(2)(3)"]

head, text, end = ok(m.fetch("1", "(UID BODY.PEEK[HEADER.FIELDS (SUBJECT)] BODY.PEEK[TEXT])"))
assert head == (b"1 (UID 1 BODY[HEADER.FIELDS (SUBJECT)] {18}", b"Subject: first\r\n\r\n"), head
assert text == (b" BODY[TEXT] {16}", b".\r\n..dots\r\nend\r\n"), text
whole = ok(m.fetch("1:3", "(RFC822)"))
assert [len(w[1]) for w in whole if type(w) is tuple][1] == len("From: a@b.example\r\nSubject: second\r\n\r\n") + 120000
for line in ok(m.fetch("1:3", "(FLAGS)")):
    assert set(imaplib.ParseFlags(line)) == {b"\\Seen", b"\\Recent"} and b"MODSEQ (" in line, line
fails(m.partial, "2", "RFC822", "1", "4")  # a command of RFC 1730 alone
ok(m.store("1", "+FLAGS", r"(\Answered \Flagged)"))
assert set(imaplib.ParseFlags(ok(m.store("2", "FLAGS", "($Forwarded own)"))[0])) == {b"$Forwarded", b"own", b"\\Recent"}
ok(m.store("3", "-FLAGS.SILENT", r"\Seen"))
ok(m.copy("2", "Work"))
no(m.copy("2", "Nowhere"), b"TRYCREATE")
ok(m.uid("STORE", "2", "+FLAGS.SILENT", r"(\Deleted)"))
assert ok(m.uid("FETCH", "2", "(FLAGS)"))[0].count(b"\\Deleted") == 1
assert ok(m.expunge()) == [b"2"]
assert re.search(rb"APPENDUID [0-9]+ 2\]", ok(m.append("Work", r"(\Draft)", imaplib.Time2Internaldate(time.time()), b"Subject: appended\r\n\r\ntext\r\n"))[0])
no(m.append("Nowhere", None, None, b"Subject: x\r\n\r\n"), b"TRYCREATE")
ok(m.recent())
ok(m.check())
assert ok(m.select("Work", readonly=True)) == [b"2"] and m.is_readonly
ok(m.unselect())
ok(m.select("Work"))
ok(m.close())
ok(m.select())

# Rights, quota.
assert b"INBOX" in ok(m.myrights("INBOX"))[0]
ok(m.setacl("INBOX", "bob", "lr"))
assert b"bob lr" in ok(m.getacl("INBOX"))[0]
ok(m.deleteacl("INBOX", "bob"))
ok(m.getquotaroot("INBOX"))

# What it has commands for and the server says no to in a way that it understands.
for f, args in ((m.getannotation, ("INBOX", '"/x"', '"value"')), (m.setannotation, ("INBOX", '"/x"', '("value" "y")')), (m.proxyauth, ("bob",)),
                (m.setquota, ("", "(STORAGE 10)"))):
    fails(f, *args)
typ, data = m.xatom("ID", 'NIL')
assert typ == "OK", data
ok(m.fetch("1", "(UID ENVELOPE BODYSTRUCTURE INTERNALDATE RFC822.SIZE)"))
typ, data = m.logout()
assert typ == "BYE", (typ, data)
