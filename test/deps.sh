#!/bin/sh
# Installs what the tests and benchmarks need beyond Go: mail programs as strangers to test against, and tools.
#
# Commands come from Debian packages (as root, with apt), each only when it is missing. Postfix, Exim, Dovecot, Courier, inetds and what wants a
# mail server (cron, bsd-mailx, logwatch) are not installed over the system: their packages, and the libraries that are missing for them, are unpacked below
# $PEERS_DIR (default: .cache/peers in this tree, ignored by git), where test/peers finds them. The only trace
# of them outside is the account Debian-exim, whose name is compiled into Debian's Exim. Sample files of other packages are
# unpacked below $PEERS_DIR/samples.
#
# DEPS=testssl names the needs of "make testssl" instead, DEPS=roundcube those of "make roundcube": a webmail with PHP, and a browser, some
# 130 MB, which are unpacked below $PEERS_DIR/roundcube with all that is missing for them. DEPS=thunderbird is likewise that of "make thunderbird", 80 MB.
#
# Without root or apt: names what is missing and exits 1; with SKIP_MISSING=1 it names it and exits 0, and the
# tests that need it skip themselves. Prints nothing when nothing is missing.
set -eu

cd "$(dirname "$0")/.."
PEERS_DIR=${PEERS_DIR:-$PWD/.cache/peers}

# command, package; commands of one package stand on one line.
needs='
swaks        swaks
msmtp        msmtp
s-nail       s-nail
mutt         mutt
script       bsdutils
claws-mail   claws-mail
Xvfb         xvfb
neomutt      neomutt
mbsync       isync
offlineimap  offlineimap3
curl         curl
python3      python3
mpop         mpop
getmail      getmail6
cdb          tinycdb
mandoc       mandoc
ps           procps
socat        socat
strace       strace
nc           netcat-openbsd
ip           iproute2
iptables     iptables
ip6tables    iptables
nsenter      util-linux
gsasl        gsasl
fail2ban-regex fail2ban
fetchmail    fetchmail
/usr/lib/git-core/git-send-email git-email
php          php-cli
mkpasswd     whois
mkfs.ext4    e2fsprogs
mkfs.xfs     xfsprogs
mkfs.btrfs   btrfs-progs
losetup      mount
openssl      openssl
newuidmap    uidmap
update-ca-certificates ca-certificates
systemd-analyze systemd
s6-svscan    s6
s6-log       s6
execlineb    execline
runsv        runit
svlogd       runit
tcpserver    ucspi-tcp
tcpsvd       ipsvd
'
# For one target only.
case ${DEPS:-} in
testssl) needs='
testssl      testssl.sh
ps           procps
hexdump      bsdextrautils
' ;;
roundcube) needs='
curl         curl
' ;;
thunderbird) needs= ;;
esac

PATH=$PATH:/usr/sbin:/sbin
missing_commands= missing_packages=
while read -r command package; do
	[ -n "$command" ] || continue
	command -v "$command" >/dev/null || {
		missing_commands="$missing_commands $command" missing_packages="$missing_packages $package"
	}
done <<END
$needs
END
missing_peers= missing_account= missing_samples=
if [ "${DEPS:-}" = roundcube ]; then
	[ -x "$PEERS_DIR/roundcube/usr/lib/chromium/chromium" ] || missing_peers=' roundcube-core+roundcube-sqlite3+php-cli+php-sqlite3+chromium'
fi
if [ "${DEPS:-}" = thunderbird ]; then
	[ -x "$PEERS_DIR/thunderbird/usr/lib/thunderbird/thunderbird" ] || missing_peers=' thunderbird'
fi
if [ -z "${DEPS:-}" ]; then
	# smtplib needs more than Debian's python3-minimal.
	if command -v python3 >/dev/null && ! [ -e "$(echo /usr/lib/python3*/smtplib.py)" ]; then
		missing_commands="$missing_commands python3(smtplib)" missing_packages="$missing_packages python3"
	fi

	# swaks speaks TLS only with this module.
	if ! ls /usr/lib/*/perl5/*/Net/SSLeay.pm >/dev/null 2>&1; then
		missing_commands="$missing_commands perl(Net::SSLeay)" missing_packages="$missing_packages libnet-ssleay-perl"
	fi

	# A stranger's opinion on the addresses that we rewrite.
	if ! ls /usr/share/perl5/Mail/SRS.pm >/dev/null 2>&1; then
		missing_commands="$missing_commands perl(Mail::SRS)" missing_packages="$missing_packages libmail-srs-perl"
	fi

	# git send-email logs in with these.
	if ! ls /usr/share/perl5/Authen/SASL.pm /usr/share/perl5/Mail/Address.pm >/dev/null 2>&1; then
		missing_commands="$missing_commands perl(Authen::SASL,Mail::Address)" missing_packages="$missing_packages libauthen-sasl-perl libmailtools-perl"
	fi

	[ -x "$PEERS_DIR/usr/lib/postfix/sbin/master" ] || missing_peers="$missing_peers postfix"
	[ -x "$PEERS_DIR/usr/sbin/exim4" ] || missing_peers="$missing_peers exim4-daemon-light"
	for program in sbin/dovecot lib/dovecot/imap lib/dovecot/pop3 lib/dovecot/lmtp; do
		[ -x "$PEERS_DIR/usr/$program" ] || missing_dovecot=' dovecot-imapd+dovecot-pop3d+dovecot-lmtpd'
	done
	missing_peers=$missing_peers${missing_dovecot-}
	for program in sbin/couriertcpd bin/imapd libexec/gam_server lib/courier/courier/courierpop3d lib/courier-authlib/libauthuserdb.so; do
		# It wants any MTA at all: msmtp-mta is the smallest, and is not unpacked.
		[ -e "$PEERS_DIR/usr/$program" ] || missing_courier=' courier-imap+courier-pop+courier-authlib-userdb+msmtp-mta'
	done
	missing_peers=$missing_peers${missing_courier-}
	# Three of them exclude each other, and none is to run here by itself.
	for inetd in openbsd-inetd:inetd inetutils-inetd:inetutils-inetd xinetd:xinetd; do
		[ -x "$PEERS_DIR/usr/sbin/${inetd#*:}" ] || missing_peers="$missing_peers ${inetd%:*}"
	done
	# They call sendmail. bsd-mailx and logwatch want any MTA.
	for program in sbin/cron bin/bsd-mailx sbin/logwatch; do
		[ -x "$PEERS_DIR/callers/usr/$program" ] || missing_callers=' cron+bsd-mailx+logwatch+msmtp-mta'
	done
	missing_peers=$missing_peers${missing_callers-}
	# The Exim that can ask Dovecot for authentication has the same file names as the one above.
	[ -x "$PEERS_DIR/heavy/usr/sbin/exim4" ] || missing_peers="$missing_peers exim4-daemon-heavy"
	# Only files of these are read: samples of their tables.
	for package in sendmail-base courier-mta; do
		[ -d "$PEERS_DIR/samples/$package" ] || missing_samples="$missing_samples $package"
	done
	getent passwd Debian-exim >/dev/null || missing_account=Debian-exim
fi
[ -n "$missing_commands$missing_peers$missing_account$missing_samples" ] || exit 0

give_up() {
	echo "test/deps.sh: $1; missing:$missing_commands${missing_peers:+ $missing_peers in $PEERS_DIR}${missing_samples:+ $missing_samples in $PEERS_DIR/samples}${missing_account:+ account $missing_account}" >&2
	[ "${SKIP_MISSING:-}" != 1 ] || exit 0
	exit 1
}

[ "$(id -u)" = 0 ] || give_up "not root"
command -v apt-get >/dev/null || give_up "no apt"

export DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes
# The lists may be missing altogether (a fresh container), or older than what the mirror still has.
ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1 || apt-get -qq update || give_up "apt-get update failed"

apt() {
	apt-get -qq -y --no-install-recommends "$@" >/dev/null || {
		apt-get -qq update && apt-get -qq -y --no-install-recommends "$@" >/dev/null
	}
}

if [ -n "$missing_packages" ]; then
	echo "test/deps.sh: installing$missing_packages"
	# shellcheck disable=SC2086 # a list
	apt install $missing_packages || give_up "apt-get install failed"
fi

for peer in $missing_peers; do
	echo "test/deps.sh: unpacking $peer into $PEERS_DIR"
	# apt knows which libraries this machine lacks; Postfix and Exim exclude each other, hence one peer at a time.
	debs=$PEERS_DIR/debs
	rm -rf "$debs"
	mkdir -p "$debs/partial"
	# shellcheck disable=SC2046 # a list
	apt install --download-only -o Dir::Cache::archives="$debs" $(echo "$peer" | tr + ' ') || give_up "download of $peer failed"
	to=$PEERS_DIR
	case $peer in
	exim4-daemon-heavy) to=$PEERS_DIR/heavy ;;
	roundcube*) to=$PEERS_DIR/roundcube ;;
	cron*) to=$PEERS_DIR/callers ;;
	thunderbird) to=$PEERS_DIR/thunderbird ;;
	esac
	for deb in "$debs"/*.deb; do
		case $peer/${deb##*/} in
		*/lib*-dev_* | roundcube*/*apache2* | roundcube*/dbconfig*) ;;
		roundcube*/* | */lib* | */thunderbird_* | */postfix_* | */exim4-base_* | */exim4-daemon-* | */dovecot-* | */courier-* | */gamin_* | */*inetd_* | */cron_* | */bsd-mailx_* | */logwatch_*) dpkg -x "$deb" "$to" || give_up "cannot unpack $deb" ;;
		esac
	done
	rm -rf "$debs"
	# Exim is set-id root, which test/peers has no use for, and which would keep it from finding its libraries here.
	! [ -u "$to/usr/sbin/exim4" ] || chmod u-s "$to/usr/sbin/exim4"
done
for package in $missing_samples; do
	echo "test/deps.sh: unpacking $package into $PEERS_DIR/samples"
	debs=$PEERS_DIR/debs
	rm -rf "$debs"
	mkdir -p "$debs/partial" "$PEERS_DIR/samples"
	apt install --reinstall --download-only -o Dir::Cache::archives="$debs" "$package" || give_up "download of $package failed"
	dpkg -x "$debs/$package"_*.deb "$PEERS_DIR/samples/$package" || give_up "cannot unpack $package"
	find "$PEERS_DIR/samples/$package" -type f -perm /6111 -exec chmod a-xs {} + # nobody is to run them
	rm -rf "$debs"
done
chmod 755 "$PEERS_DIR"

if [ -n "$missing_account" ]; then
	useradd --system --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin --user-group Debian-exim ||
		give_up "useradd failed"
fi
