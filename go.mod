module postamt

go 1.26.0

require (
	github.com/emersion/go-imap/v2 v2.0.0-beta.8 // tests: independent IMAP client
	github.com/emersion/go-maildir v0.6.0 // tests: independent maildir reader
	github.com/emersion/go-message v0.18.2
	github.com/emersion/go-smtp v0.25.1 // its client is sendmail's; tests: independent SMTP and LMTP peer
	github.com/hanwen/go-fuse/v2 v2.12.1 // tests: a disk whose power is cut
	github.com/miekg/dns v1.1.73
	github.com/openwall/yescrypt-go v1.0.0 // $y$, the hash of Debian's shadow file
	github.com/rogpeppe/go-internal v1.16.0 // tests: testscript
	golang.org/x/crypto v0.58.0 // bcrypt and argon2
	golang.org/x/net v0.62.0
	golang.org/x/sys v0.49.0
	golang.org/x/text v0.43.0
	pgregory.net/rapid v1.3.0 // tests
)

require (
	github.com/emersion/go-sasl v0.0.0-20241020182733-b788ff22d5a6 // indirect
	golang.org/x/tools v0.51.0 // indirect
)
