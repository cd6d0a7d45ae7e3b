# postamt. `make help` lists the targets.

SERVICES    = smtpd queued deliver authd keyd pop3d imapd
PROGRAMS    = $(SERVICES) queuectl mailboxctl aliasctl sendmail
USER_PROGRAMS = vacation

DESTDIR     =
PREFIX      = /usr
SBINDIR     = $(PREFIX)/sbin
BINDIR      = $(PREFIX)/bin
MANDIR      = $(PREFIX)/share/man
SYSCONFDIR  = /etc/postamt
LOCALSTATEDIR = /var
RUNDIR      = /run
UNITDIR     = $(PREFIX)/lib/systemd/system
EXAMPLEDIR  = $(PREFIX)/share/doc/postamt/examples

# Where other programs look for sendmail, under which names. SENDMAIL=no leaves these names, sendmail itself and their pages to another mail server.
SENDMAIL    = yes
SENDMAILS   = $(PREFIX)/lib/sendmail $(BINDIR)/mailq $(BINDIR)/newaliases $(SBINDIR)/runq $(SBINDIR)/rmail
WITHOUT     = $(if $(filter no,$(SENDMAIL)),sendmail)
LINKS       = $(if $(WITHOUT),,$(SENDMAILS))
PAGE_LINKS  = $(patsubst %,$(MANDIR)/man1/%.1,$(filter-out sendmail,$(notdir $(LINKS))))

GO          = go
GOFLAGS     = -trimpath
VERSION    := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS     = -s -w -X postamt/internal/daemon.release=$(VERSION) -X postamt/internal/config.DefaultPath=$(SYSCONFDIR)/postamt.conf -X main.defaultSendmail=$(SBINDIR)/sendmail
FUZZTIME    = 20s
BENCHFLAGS  =
SOAK        = 500000

export CGO_ENABLED = 0

all: ## build the programs into bin/
	@mkdir -p bin
	$(GO) build $(GOFLAGS) -ldflags '$(LDFLAGS)' -o bin/ $(addprefix ./cmd/,$(PROGRAMS) $(USER_PROGRAMS))

run: all ## build and run the whole suite in ./run, on loopback, as any user
	$(GO) build $(GOFLAGS) -o bin/demo ./etc/demo
	@bin/demo

test: deps check all ## install what tests need, check and test everything
	$(GO) test -timeout 18m ./...

deps: ## install the Debian packages that tests need (root), or name what is missing
	./test/deps.sh

check: ## formatting, vet, manual pages
	@test -z "$$(gofmt -l .)" || { echo "not gofmt-ed:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	@if command -v mandoc >/dev/null; then mandoc -Tlint -Wwarning man/*.[1-9]; else echo "mandoc is not installed: pages not checked"; fi

race: ## all tests with the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race -timeout 30m ./...

crash: ## kill and fail the programs at every one of their file-system calls (about half an hour)
	CRASH_POINTS=all $(GO) test -timeout 60m -count 1 -run 'AtEach|InACrash|SyncFailsOnce' ./test/crash

testssl: all ## let testssl.sh rate the listeners of smtpd, pop3d and imapd; no finding above LOW; 3 to 40 minutes
	DEPS=testssl ./test/deps.sh
	TESTSSL=1 $(GO) test -count=1 -timeout 60m -parallel 3 -run TestTestSSL -v ./test/tls

roundcube: all ## a webmail in a browser on imapd and smtpd; root; 420 MB below .cache
	DEPS=roundcube ./test/deps.sh
	ROUNDCUBE=1 $(GO) test -count=1 -run TestRoundcube -v ./test/webmail

thunderbird: all ## Thunderbird, without a screen, on imapd; 330 MB below .cache
	DEPS=thunderbird ./test/deps.sh
	THUNDERBIRD=1 $(GO) test -count=1 -run TestThunderbird -v ./test/imap

fuzz: ## every fuzz target for FUZZTIME
	@for p in $$(grep -rl '^func Fuzz' --include='*_test.go' internal cmd | xargs -n1 dirname | sort -u); do \
	  for f in $$(grep -rhoE '^func Fuzz[A-Za-z0-9_]+' $$p/*_test.go | sed 's/func //'); do \
	    echo "== $$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) ./$$p || exit 1; done; done

powercut: ## 200 power cuts of each file system (root, FUSE), and what is lost when a sync is left out; about an hour
	POWERCUT=200 $(GO) test ./test/crash -run 'TestPowerCut(AtAnyWrite|NoticesAMissingSync)' -v -count=1 -timeout 3h

backlog: ## start on a queue of a million messages; needs 6 GB in /dev/shm, or BACKLOG_DIR
	BACKLOG=1000000 $(GO) test ./test/backlog -v -count=1 -timeout 1h

soak: all ## half a million messages (SOAK) with everything mixed that hosts and clients of SMTP and POP3 do wrong: what is left behind; about an hour
	SOAK=$(SOAK) $(GO) test ./test/soak -run TestF23 -v -count=1 -timeout 24h

bench: all ## measure against Postfix, Exim, Dovecot and Courier in the same run, print a table with ratios
	$(GO) run ./test/bench $(BENCHFLAGS)

bench-start: ## from exec to banner against a program in C, page faults, what happens before main
	BENCH_START=1 $(GO) test ./test/start -run Figures -v -count=1

imports: ## the import graph inside the module
	@$(GO) list -f '{{$$p := .ImportPath}}{{range .Imports}}{{$$p}} {{.}}{{"\n"}}{{end}}' ./internal/... ./cmd/... | grep ' postamt/' | sed 's,postamt/,,g' | sort

# put copies text files into a directory, with the places in them that the variables say.
put = f() { m=$$1 d=$$2; shift 2; for x; do sed -e 's,/usr/sbin/,$(SBINDIR)/,g' -e 's,/usr/bin/,$(BINDIR)/,g' -e 's,/etc/postamt,$(SYSCONFDIR),g' -e 's,/usr/share/doc/postamt/examples,$(EXAMPLEDIR),g' \
	-e 's,/var/spool/postamt,$(LOCALSTATEDIR)/spool/postamt,g' -e 's,/var/lib/postamt,$(LOCALSTATEDIR)/lib/postamt,g' -e 's,/var/log/postamt,$(LOCALSTATEDIR)/log/postamt,g' -e 's,/run/postamt,$(RUNDIR)/postamt,g' \
	$(if $(filter-out /var,$(LOCALSTATEDIR)),-e 's|^\#\(queue_dir \)|\1|' -e 's|^\#\(state_dir \)|\1|') $(if $(filter-out /run,$(RUNDIR)),-e 's|^\#\(run_dir \)|\1|') \
	"$$x" >"$$d/$${x\#\#*/}" && chmod $$m "$$d/$${x\#\#*/}" || exit 1; done; }; f

# target is what the link $l to sendmail says: a path from / holds wherever the directories are, and a DESTDIR is in no link.
target = $$([ "$$(dirname $$l)" = $(SBINDIR) ] && echo sendmail || echo $(SBINDIR)/sendmail)

install: all ## install programs, pages, service files and a default configuration below DESTDIR
	install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(BINDIR) $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(MANDIR)/man5 $(DESTDIR)$(MANDIR)/man7 $(DESTDIR)$(MANDIR)/man8 $(DESTDIR)$(SYSCONFDIR)
	for p in $(filter-out $(WITHOUT),$(PROGRAMS)); do install -m 755 bin/$$p $(DESTDIR)$(SBINDIR)/$$p || exit 1; done
	for p in $(USER_PROGRAMS); do install -m 755 bin/$$p $(DESTDIR)$(BINDIR)/$$p || exit 1; done
	for l in $(LINKS); do install -d $(DESTDIR)$$(dirname $$l) && ln -sf $(target) $(DESTDIR)$$l || exit 1; done
	for l in $(PAGE_LINKS); do ln -sf sendmail.1 $(DESTDIR)$$l || exit 1; done
	$(put) 644 $(DESTDIR)$(MANDIR)/man1 $(filter-out $(WITHOUT:%=man/%.1),$(wildcard man/*.1))
	for s in 5 7 8; do $(put) 644 $(DESTDIR)$(MANDIR)/man$$s man/*.$$s; done
	[ -e $(DESTDIR)$(SYSCONFDIR)/postamt.conf ] || { $(put) 644 $(DESTDIR)$(SYSCONFDIR) etc/postamt.conf && \
	  sed -i 's/^#passwords$$/passwords passwords/' $(DESTDIR)$(SYSCONFDIR)/postamt.conf; }
	install -d -m 750 $(DESTDIR)$(LOCALSTATEDIR)/spool/postamt
	install -d $(DESTDIR)$(UNITDIR) $(DESTDIR)$(PREFIX)/lib/sysusers.d $(DESTDIR)$(PREFIX)/lib/tmpfiles.d
	$(put) 644 $(DESTDIR)$(UNITDIR) etc/systemd/*.service etc/systemd/*.socket
	$(put) 644 $(DESTDIR)$(PREFIX)/lib/sysusers.d etc/systemd/postamt.sysusers && mv $(DESTDIR)$(PREFIX)/lib/sysusers.d/postamt.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/postamt.conf
	$(put) 644 $(DESTDIR)$(PREFIX)/lib/tmpfiles.d etc/systemd/postamt.tmpfiles && mv $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/postamt.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/postamt.conf
	cd etc && for f in $$(find s6 runit -type f) *.example; do install -d $(DESTDIR)$(EXAMPLEDIR)/$$(dirname $$f); \
	  m=644; [ ! -x $$f ] || m=755; $(put) $$m $(DESTDIR)$(EXAMPLEDIR)/$$(dirname $$f) $$f; done
	install -d $(DESTDIR)$(EXAMPLEDIR)/fail2ban/filter.d; $(put) 644 $(DESTDIR)$(EXAMPLEDIR)/fail2ban/filter.d etc/fail2ban/filter.d/postamt.conf

uninstall: ## remove programs and pages; configuration and mail stay
	for p in $(filter-out $(WITHOUT),$(PROGRAMS)); do rm -f $(DESTDIR)$(SBINDIR)/$$p; done
	for p in $(USER_PROGRAMS); do rm -f $(DESTDIR)$(BINDIR)/$$p; done
	for l in $(LINKS); do [ "$$(readlink $(DESTDIR)$$l)" != "$(target)" ] || rm -f $(DESTDIR)$$l; done
	for l in $(PAGE_LINKS); do [ "$$(readlink $(DESTDIR)$$l)" != sendmail.1 ] || rm -f $(DESTDIR)$$l; done
	for m in $(filter-out $(WITHOUT:%=man/%.1),$(wildcard man/*.1)); do rm -f $(DESTDIR)$(MANDIR)/man1/$${m#man/}; done
	for s in 5 7 8; do for m in man/*.$$s; do rm -f $(DESTDIR)$(MANDIR)/man$$s/$${m#man/}; done; done
	rm -f $(DESTDIR)$(UNITDIR)/postamt-*.service $(DESTDIR)$(UNITDIR)/postamt-*.socket
	rm -f $(DESTDIR)$(PREFIX)/lib/sysusers.d/postamt.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/postamt.conf
	rm -rf $(DESTDIR)$(EXAMPLEDIR)

clean: ## remove what was built; ./run (the demo's mail) stays
	rm -rf bin

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 12

.PHONY: all run test deps check race crash testssl roundcube thunderbird fuzz powercut backlog soak bench bench-start imports install uninstall clean help
